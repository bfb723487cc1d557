//! How good forecasts were, and whether the season helps them.
//!
//! Every forecast for the time when a launch would be ready is kept until that
//! time has come. Two things follow: how far forecasts are off beyond chance,
//! and whether those with the season were better than those without. A season
//! that makes them worse is switched off, and on again once it would help.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Bin;
use crate::units::Timestamp;

/// Forecasts are for the arrivals of a minute.
const SPAN: Duration = Duration::from_mins(1);

/// Forecasts that are kept at a time.
const KEPT_MAX: usize = 24;

/// Errors are a mean over about this many seconds.
const ERROR_SECS: f64 = 3_300.0;

/// Errors of more than this many variances count as that many: a rare jump is
/// no everyday error.
const ERROR_CLIP: f64 = 3.0;

/// Losses fade by half in this many seconds.
const LOSS_HALF_LIFE_SECS: f64 = 6.0 * 3_600.0;

/// The season must lose by this much (a log-likelihood) to be switched off.
const SWITCH: f64 = 3.0;

/// The forecasts of late and their errors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Skill {
    pending: VecDeque<Forecast>,
    /// Variance of the logarithm of the rate beyond chance.
    error: Option<f64>,
    /// By how much the season's loss exceeds that without, faded.
    excess: f64,
    settled_at: Option<Timestamp>,
    /// Whether the season is switched off.
    off: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Forecast {
    from: Timestamp,
    used: f64,
    season: Option<f64>,
    flat: f64,
    seen: f64,
}

/// A forecast of a rate, in jobs a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// With the season; `None` while there is none.
    pub season: Option<f64>,
    /// Without it.
    pub flat: f64,
}

impl Skill {
    /// Whether the season is used.
    pub fn trusts_season(&self) -> bool {
        !self.off
    }

    /// Variance of the logarithm of a forecast beyond the chance of counts.
    pub fn error(&self) -> f64 {
        self.error.unwrap_or(4e-4).max(0.0)
    }

    /// By how much (a log-likelihood) forecasts with the season were worse.
    pub fn excess(&self) -> f64 {
        self.excess
    }

    /// Keeps a forecast made at `at` for `lead` later; one at most in a
    /// twelfth of the lead.
    pub fn forecast(&mut self, at: Timestamp, lead: Duration, rates: Rates) {
        let from = at + lead;
        let last = self.pending.back().map(|last| last.from);
        if last.is_some_and(|last| from.since(last) < lead / 12 || from <= last) {
            return;
        }
        if self.pending.len() >= KEPT_MAX {
            return;
        }
        let minute = SPAN.as_secs_f64();
        let season = rates.season.map(|rate| rate * minute);
        let flat = rates.flat * minute;
        let used = season.filter(|_| self.trusts_season()).unwrap_or(flat);
        self.pending.push_back(Forecast {
            from,
            used,
            season,
            flat,
            seen: 0.0,
        });
    }

    /// Takes in what came. Gives whether the season was switched on or off.
    pub fn learn(&mut self, bin: Bin, dispersion: f64) -> bool {
        let begins = bin.at - Duration::from_secs_f64(bin.secs);
        let mut switched = false;
        for forecast in &mut self.pending {
            let from = forecast.from.max(begins);
            let to = (forecast.from + SPAN).min(bin.at);
            forecast.seen += bin.steady * to.since(from).as_secs_f64() / bin.secs;
        }
        while let Some(first) = self.pending.front() {
            if first.from + SPAN > bin.at {
                break;
            }
            let first = *first;
            self.pending.pop_front();
            switched |= self.settle(first, dispersion);
        }
        switched
    }

    fn settle(&mut self, forecast: Forecast, dispersion: f64) -> bool {
        let at = forecast.from;
        let passed = self
            .settled_at
            .map_or(60.0, |last| super::secs(at.since(last)));
        self.settled_at = Some(at);
        let gain = 1.0 - libm::exp(-passed / ERROR_SECS);
        let chance = dispersion / (forecast.seen + 1.0);
        let error = libm::log((forecast.seen + 0.5) / (forecast.used + 0.5));
        let before = self.error();
        let clipped = (error * error).min(ERROR_CLIP * (before + chance));
        self.error = Some(before + gain * (clipped - chance - before));
        let Some(season) = forecast.season else {
            return false;
        };
        self.excess *= libm::exp2(-passed / LOSS_HALF_LIFE_SECS);
        // Forecasts of one minute made a moment apart are not independent.
        let weight = (passed / 60.0).min(1.0) / dispersion;
        let difference = loss(season, forecast.seen) - loss(forecast.flat, forecast.seen);
        self.excess += weight * difference.clamp(-20.0, 20.0);
        let off = if self.off {
            self.excess > 0.0
        } else {
            self.excess > SWITCH
        };
        let switched = off != self.off;
        self.off = off;
        switched
    }
}

/// The loss of a forecast of `mean` when `count` came: minus the
/// log-likelihood of a Poisson count, up to what does not depend on the mean.
fn loss(mean: f64, count: f64) -> f64 {
    let mean = mean.max(0.05);
    mean - count * libm::log(mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(skill: &mut Skill, minutes: std::ops::Range<u64>, season: f64, flat: f64, seen: f64) {
        for minute in minutes {
            let at = Timestamp::from_secs(60 * minute);
            let bin = Bin {
                at,
                secs: 60.0,
                count: 60.0 * seen,
                steady: 60.0 * seen,
            };
            skill.learn(bin, 1.0);
            let rates = Rates {
                season: Some(season),
                flat,
            };
            skill.forecast(at, Duration::from_mins(2), rates);
        }
    }

    #[test]
    fn a_season_that_makes_it_worse_is_switched_off_and_on_again() {
        let mut skill = Skill::default();
        run(&mut skill, 1..200, 4.0, 3.0, 4.0);
        assert!(skill.trusts_season());
        run(&mut skill, 200..500, 8.0, 4.0, 4.0);
        assert!(!skill.trusts_season(), "{}", skill.excess());
        run(&mut skill, 500..3_000, 4.0, 3.0, 4.0);
        assert!(skill.trusts_season(), "{}", skill.excess());
    }

    #[test]
    fn errors_beyond_chance_are_measured() {
        let mut skill = Skill::default();
        run(&mut skill, 1..900, 4.0, 4.0, 4.0);
        assert!(skill.error() < 1e-3, "{}", skill.error());
        run(&mut skill, 900..2_000, 4.0, 4.0, 6.0);
        assert!(skill.error() > 0.05, "{}", skill.error());
    }
}
