//! What a load costs, by what comes and by what waiting is worth.
//!
//! Two parts: the work, which must be done whatever waiting is worth, and what
//! is spent beside it on boots and on reserves. The latter falls with the worth
//! of waiting, about as its third root: each tenfold worth doubles it, on smooth
//! loads and in bursts. Both are kept per second of a mean season, so that they
//! tell what the hours to come will cost.

use serde::{Deserialize, Serialize};

/// What was seen counts for about two days: as fast as a load changes by more
/// than its season, and slow enough to have seen nights and days.
const MEMORY_SECS: f64 = 2.0 * 86_400.0;

/// What is spent beside the work goes with this power of the worth of waiting.
const POWER: f64 = 0.3;

/// Without a season, what was seen tells of four times as long ahead.
const REACH: f64 = 4.0;

/// What the load of late has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spending {
    seen_secs: f64,
    /// Seconds of the mean season, faded, as all sums below.
    season_secs: f64,
    /// Instance-seconds that the arrivals' work takes.
    work: f64,
    /// Instance-seconds that were billed and not worked.
    spare: f64,
    /// Seconds of the mean season by the power of what waiting was worth.
    scaled: f64,
}

/// A span of time that was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Its length, in seconds.
    pub secs: f64,
    /// The season's rate in it, as a multiple of its mean; 1 without a season.
    pub season: f64,
    /// Instance-seconds of work that arrived.
    pub work: f64,
    /// Instance-seconds that were billed without work.
    pub spare: f64,
    /// What waiting was worth, in instances.
    pub kappa: f64,
}

/// What a span to come needs, in instance-seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Needs {
    /// For the work.
    pub work: f64,
    /// Beside it, if waiting is worth an instance.
    pub spare: f64,
}

impl Spending {
    /// Takes in a span.
    pub fn learn(&mut self, seen: Seen) {
        let keep = libm::exp(-seen.secs / MEMORY_SECS);
        let season_secs = seen.secs * seen.season;
        self.seen_secs += seen.secs;
        self.season_secs = self.season_secs * keep + season_secs;
        self.work = self.work * keep + seen.work.max(0.0);
        self.spare = self.spare * keep + seen.spare.max(0.0);
        self.scaled = self.scaled * keep + season_secs * libm::pow(seen.kappa, POWER);
    }

    /// For how many seconds ahead it can tell without a season.
    pub fn reach_secs(&self) -> f64 {
        REACH * self.seen_secs
    }

    /// What `season_secs` seconds of the mean season need.
    pub fn needs(&self, season_secs: f64) -> Needs {
        Needs {
            work: season_secs * self.work / self.season_secs.max(1.0),
            spare: season_secs * self.spare / self.scaled.max(1e-9),
        }
    }
}

impl Needs {
    /// All of it if waiting is worth `kappa` instances.
    pub fn at(self, kappa: f64) -> f64 {
        self.work + self.spare * libm::pow(kappa, POWER)
    }

    /// What waiting may be worth so that `most` instance-seconds are enough:
    /// `least` to `kappa`.
    pub fn kappa_for(self, most: f64, least: f64, kappa: f64) -> f64 {
        if self.at(kappa) <= most {
            return kappa;
        }
        let share = (most - self.work).max(0.0) / self.spare.max(1e-9);
        libm::pow(share, 1.0 / POWER).clamp(least.min(kappa), kappa)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spending() -> Spending {
        let mut spending = Spending::default();
        for _ in 0..1_440 {
            spending.learn(Seen {
                secs: 60.0,
                season: 1.0,
                work: 600.0,
                spare: 120.0,
                kappa: 1.0,
            });
        }
        spending
    }

    #[test]
    fn hours_to_come_cost_what_hours_of_late_did() {
        let needs = spending().needs(3_600.0);
        assert!((needs.at(1.0) - 60.0 * 720.0).abs() < 1.0, "{needs:?}");
        // A thousandth of the worth, an eighth beside the work.
        assert!((needs.at(0.001) / needs.work - 1.025).abs() < 0.001);
    }

    #[test]
    fn the_worth_is_the_largest_that_the_money_allows() {
        let needs = spending().needs(3_600.0);
        assert!((needs.kappa_for(1e9, 1e-3, 7.0) - 7.0).abs() < 1e-12);
        assert!((needs.kappa_for(0.0, 1e-3, 7.0) - 1e-3).abs() < 1e-12);
        for most in [1.05, 1.1, 1.3] {
            let kappa = needs.kappa_for(most * needs.work, 1e-3, 100.0);
            assert!(
                (needs.at(kappa) / needs.work - most).abs() < 1e-6,
                "{kappa}"
            );
        }
    }

    #[test]
    fn nothing_seen_needs_nothing() {
        let needs = Spending::default().needs(1e6);
        assert!(needs.at(1e6).abs() < 1e-9);
        assert!((needs.kappa_for(0.0, 1e-3, 1.0) - 1.0).abs() < 1e-12);
    }
}
