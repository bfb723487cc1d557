//! How long demand stays away from each level, and how long to hold an
//! instance for its return.
//!
//! For each level of demand (so many instances' worth of jobs in the system)
//! it counts the gaps between two visits, and how long visits last. An
//! instance too few at a visit costs a boot, or the waiting of a visit shorter
//! than a boot; one too many costs its time. The best time to hold is the one
//! that would have cost least over the gaps seen: ski rental with the true
//! distribution in place of the worst case.

use serde::{Deserialize, Serialize};

use super::float;
use crate::units::Timestamp;

/// Gaps are counted in classes that double, from this many seconds on.
const GAP_SECS_MIN: f64 = 10.0;

/// Half an hour of doubling twice per class would not do: 28 classes of half
/// doublings reach 45 hours.
const CLASSES: usize = 28;

/// Levels up to this one stand alone; above, each is a twelfth larger.
const SINGLE_LEVELS: u32 = 12;

/// 12 single levels and 84 larger ones reach 10,000 instances.
const LEVELS: usize = 96;

/// Counts are kept in hundredths, so that they are short when written down.
const UNIT: f64 = 100.0;

/// A level's counts fade by half in 60 visits.
const FADE: f64 = 0.988_514;

/// Fewer gaps than this tell nothing.
const GAPS_MIN: f64 = 3.0;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct LevelNotes {
    /// When demand was last at this level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<Timestamp>,
    /// Since when it is; `None` if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// Gaps by class, in hundredths; short when there are none beyond.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<u32>,
    /// Visits, in hundredths.
    #[serde(default)]
    visits: u32,
    /// Those longer than a boot, in hundredths.
    #[serde(default)]
    long: u32,
    /// Seconds of visits, each at most a boot, in hundredths.
    #[serde(default)]
    visited: u32,
}

/// Visits of demand at each level.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Holds {
    levels: Vec<LevelNotes>,
}

/// What an instance too few costs at a visit of its level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shortage {
    /// What a job's waiting for one second costs, in instance-seconds.
    pub kappa: f64,
    /// Jobs one instance works on at a time.
    pub slots: f64,
    /// What a launch costs before its first job, in instance-seconds.
    pub launch: f64,
}

impl Holds {
    /// Takes in that there was demand for `instances` at `at`; visits longer
    /// than `boot_secs` are long.
    pub fn learn(&mut self, at: Timestamp, instances: f64, boot_secs: f64) {
        let reached = reached(instances);
        if self.levels.len() < reached {
            self.levels.resize(reached, LevelNotes::default());
        }
        for (index, level) in self.levels.iter_mut().enumerate() {
            if index < reached {
                level.enter(at);
            } else {
                level.leave(at, boot_secs);
            }
        }
    }

    /// For how many seconds without demand for it the `instance`th instance is
    /// worth holding; `None` while too few gaps were seen.
    pub fn hold_secs(&self, instance: u32, shortage: Shortage) -> Option<f64> {
        let index = index_of(instance);
        let around = usize::from(instance > SINGLE_LEVELS);
        let pooled = self
            .levels
            .get(index.saturating_sub(around)..(index + around + 1).min(self.levels.len()))?;
        let mut gaps = [0.0; CLASSES];
        let (mut visits, mut long, mut visited) = (0.0, 0.0, 0.0);
        for level in pooled {
            for (sum, count) in gaps.iter_mut().zip(&level.gaps) {
                *sum += f64::from(*count) / UNIT;
            }
            visits += f64::from(level.visits) / UNIT;
            long += f64::from(level.long) / UNIT;
            visited += f64::from(level.visited) / UNIT;
        }
        let total: f64 = gaps.iter().sum();
        if total < GAPS_MIN || visits < GAPS_MIN {
            return None;
        }
        let waiting = shortage.kappa * shortage.slots * visited / visits;
        let missing = waiting + shortage.launch * long / visits;
        Some(cheapest_hold(&gaps, total, missing))
    }

    /// Which level `instance` instances are at: all of one level are alike.
    pub fn level_of(&self, instance: u32) -> usize {
        index_of(instance)
    }

    /// How long ago demand was last as large as `instance` instances; `None`
    /// if it never was.
    pub fn away_secs(&self, instance: u32, now: Timestamp) -> Option<f64> {
        let level = self.levels.get(index_of(instance))?;
        Some(super::secs(now.since(level.seen?)))
    }
}

impl LevelNotes {
    fn enter(&mut self, at: Timestamp) {
        if self.since.is_none() {
            self.since = Some(at);
            if let Some(seen) = self.seen {
                let gap = super::secs(at.since(seen)).max(GAP_SECS_MIN);
                for count in &mut self.gaps {
                    *count = faded(*count);
                }
                let class = class_of(gap);
                if self.gaps.len() <= class {
                    self.gaps.resize(class + 1, 0);
                }
                self.gaps[class] = added(self.gaps[class], 1.0);
            }
        }
        self.seen = Some(at);
    }

    fn leave(&mut self, at: Timestamp, boot_secs: f64) {
        let Some(since) = self.since.take() else {
            return;
        };
        let span = super::secs(at.since(since));
        self.visits = added(faded(self.visits), 1.0);
        self.visited = added(faded(self.visited), span.min(boot_secs));
        let is_long = if span > boot_secs { 1.0 } else { 0.0 };
        self.long = added(faded(self.long), is_long);
    }
}

/// The hold that costs least on average: gaps that end within it cost their
/// length, longer ones the hold and what is `missing` then.
fn cheapest_hold(gaps: &[f64; CLASSES], total: f64, missing: f64) -> f64 {
    let (mut best, mut hold) = (missing, 0.0);
    let (mut ended_secs, mut ended) = (0.0, 0.0);
    for (class, count) in gaps.iter().enumerate() {
        if *count <= 0.0 {
            continue;
        }
        let edge = GAP_SECS_MIN * libm::exp2(f64::midpoint(float(class), 1.0));
        ended_secs += count * edge * 0.84;
        ended += count;
        let cost = (ended_secs + (total - ended) * (edge + missing)) / total;
        if cost < best {
            (best, hold) = (cost, edge);
        }
    }
    hold
}

fn class_of(gap_secs: f64) -> usize {
    let class = 2.0 * libm::log2(gap_secs / GAP_SECS_MIN);
    below(class, CLASSES - 1)
}

/// The place of the level that `instance` instances are at, counted from 0.
fn index_of(instance: u32) -> usize {
    if instance <= SINGLE_LEVELS {
        return usize::try_from(instance.saturating_sub(1)).unwrap_or(0);
    }
    let above = libm::log(f64::from(instance) / f64::from(SINGLE_LEVELS)) / LARGER_LOG;
    below(
        float(usize::try_from(SINGLE_LEVELS).unwrap_or(0)) + above,
        LEVELS - 1,
    )
}

/// The logarithm of 13/12.
const LARGER_LOG: f64 = 0.080_042_707_673_536_5;

/// How many levels demand for `instances` has reached.
fn reached(instances: f64) -> usize {
    let whole = crate::policy::round_up(instances);
    if whole == 0 { 0 } else { index_of(whole) + 1 }
}

/// Rounded down, and at most `most`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` stops at zero and at the largest number"
)]
fn below(number: f64, most: usize) -> usize {
    (number as usize).min(most)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` stops at zero and at the largest number"
)]
fn faded(count: u32) -> u32 {
    (f64::from(count) * FADE) as u32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` stops at zero and at the largest number"
)]
fn added(count: u32, more: f64) -> u32 {
    count.saturating_add((more * UNIT) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORTAGE: Shortage = Shortage {
        kappa: 1.0,
        slots: 1.0,
        launch: 120.0,
    };

    /// A level that is visited for `visit` seconds every `period` seconds.
    fn visited(period: u64, visit: u64, instances: f64) -> Holds {
        let mut holds = Holds::default();
        for second in (0..400 * period).step_by(10) {
            let there = second % period < visit;
            let demand = if there { instances } else { 0.0 };
            holds.learn(Timestamp::from_secs(second), demand, 120.0);
        }
        holds
    }

    #[test]
    fn short_gaps_are_held_through_and_long_ones_are_not() {
        for instance in [1, 12, 40, 900] {
            let short = visited(200, 150, f64::from(instance));
            let held = short.hold_secs(instance, SHORTAGE);
            assert!(
                held.is_some_and(|held| (50.0..120.0).contains(&held)),
                "{held:?}"
            );
            let long = visited(3_600, 150, f64::from(instance));
            assert_eq!(long.hold_secs(instance, SHORTAGE), Some(0.0));
        }
    }

    #[test]
    fn little_seen_tells_nothing() {
        assert_eq!(Holds::default().hold_secs(3, SHORTAGE), None);
        assert_eq!(visited(200, 150, 2.0).hold_secs(3, SHORTAGE), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut holds = Holds::default();
        holds.learn(Timestamp::from_secs(0), 1e9, 120.0);
        assert_eq!(holds.levels.len(), LEVELS);
    }
}
