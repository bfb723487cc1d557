//! The daily profile of arrivals, one for working days and one for weekends.
//!
//! A slot is a quarter of an hour. Each keeps the logarithm of its rate,
//! pulled towards each new day by a step that is at most [`STEP_MAX`], so that
//! one odd day leaves no lasting mark, and is smoothed with its neighbours: a
//! profile any sharper remembers chance bursts and calls them a season.
//! Only the shape is used; how high the day is, is told by the last minutes.

use serde::{Deserialize, Serialize};

use crate::units::Timestamp;

/// Slots of a day.
const SLOTS: usize = 96;

const SLOT_SECS: u64 = 900;

const DAY_SECS: u64 = 86_400;

const SLOT_SECS_FLOAT: f64 = 900.0;

const DAY_SECS_FLOAT: f64 = 86_400.0;

/// A slot of which less than this was seen is not learnt from.
const COVERED_SECS_MIN: f64 = 600.0;

/// Days weigh equally up to this many, then the newest counts a fifth.
const DAYS_MAX: f64 = 5.0;

/// The largest step of a slot in one day, as a logarithm: a fifth up or down.
const STEP_MAX: f64 = 0.18;

/// What is added to each count, so that an empty slot has a logarithm.
const EMPTY: f64 = 0.5;

/// Thousandths: a slot's logarithm is kept as a whole number of them.
const MILLI: f64 = 1_000.0;

/// Jobs a second by the time of day, for working days and for weekends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Season {
    workdays: Profile,
    weekends: Profile,
    /// Which slot since 1970 is being counted.
    slot: u64,
    count: f64,
    covered_secs: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Profile {
    /// Thousandths of the logarithm of the rate, by slot; empty at first.
    logs: Vec<i32>,
    /// Days seen, by slot.
    days: Vec<u8>,
}

impl Default for Season {
    fn default() -> Self {
        Self {
            workdays: Profile::default(),
            weekends: Profile::default(),
            slot: 0,
            count: 0.0,
            covered_secs: 0.0,
        }
    }
}

impl Season {
    /// Takes in `count` arrivals in the `secs` seconds up to `at`.
    pub fn learn(&mut self, at: Timestamp, secs: f64, count: f64) {
        let slot = at.micros() / 1_000_000 / SLOT_SECS;
        if slot != self.slot {
            self.close();
            self.slot = slot;
        }
        self.count += count;
        self.covered_secs += secs;
    }

    fn close(&mut self) {
        let (count, secs) = (self.count, self.covered_secs);
        (self.count, self.covered_secs) = (0.0, 0.0);
        if !(secs >= COVERED_SECS_MIN) {
            return;
        }
        let index = index_of(self.slot);
        let profile = if is_weekend(self.slot) {
            &mut self.weekends
        } else {
            &mut self.workdays
        };
        profile.learn(index, libm::log((count + EMPTY) / secs));
    }

    /// Whether a whole day of either kind is known.
    pub fn is_known(&self) -> bool {
        self.workdays.is_whole() || self.weekends.is_whole()
    }

    /// Jobs a second at `at` by the profile; `None` before a whole day was seen.
    pub fn rate(&self, at: Timestamp) -> Option<f64> {
        let half = 1_000_000 * SLOT_SECS / 2;
        let shifted = at.micros().saturating_sub(half) / 1_000;
        let slot = shifted / 1_000 / SLOT_SECS;
        let within = u32::try_from(shifted % (1_000 * SLOT_SECS)).unwrap_or(0);
        let share = f64::from(within) / (1_000.0 * SLOT_SECS_FLOAT);
        let one = self.smoothed(slot)?;
        let next = self.smoothed(slot + 1)?;
        Some(libm::exp(one + share * (next - one)))
    }

    /// Jobs a second on average over a week; `None` before a whole day was seen.
    pub fn mean_rate(&self) -> Option<f64> {
        let (workday, weekend) = (self.day(false)?, self.day(true)?);
        Some((5.0 * workday + 2.0 * weekend) / (7.0 * DAY_SECS_FLOAT))
    }

    /// Jobs from `from` to `to` by the profile; `None` before a whole day was
    /// seen. Whole days are added up at once, so it may be a month.
    pub fn jobs_between(&self, from: Timestamp, to: Timestamp) -> Option<f64> {
        let (workday, weekend) = (self.day(false)?, self.day(true)?);
        let (mut at, end) = (from.micros() / 1_000_000, to.micros() / 1_000_000);
        let mut jobs = 0.0;
        while at < end {
            if at.is_multiple_of(DAY_SECS) && end - at >= DAY_SECS {
                let slot = at / SLOT_SECS;
                jobs += if is_weekend(slot) { weekend } else { workday };
                at += DAY_SECS;
                continue;
            }
            let slot = at / SLOT_SECS;
            let until = end.min((slot + 1) * SLOT_SECS);
            let secs = u32::try_from(until - at).unwrap_or(0);
            jobs += libm::exp(self.log(slot)?) * f64::from(secs);
            at = until;
        }
        Some(jobs)
    }

    /// Jobs of a whole day.
    fn day(&self, weekend: bool) -> Option<f64> {
        let profile = self.of(weekend);
        profile.is_whole().then(|| {
            let rates = profile.logs.iter();
            let sum: f64 = rates.map(|log| libm::exp(f64::from(*log) / MILLI)).sum();
            sum * SLOT_SECS_FLOAT
        })
    }

    /// The profile of weekends or of working days; the other one while it is
    /// not known.
    fn of(&self, weekend: bool) -> &Profile {
        let (first, second) = if weekend {
            (&self.weekends, &self.workdays)
        } else {
            (&self.workdays, &self.weekends)
        };
        if first.is_whole() { first } else { second }
    }

    /// The logarithm of the rate in `slot`, as it was learnt.
    fn log(&self, slot: u64) -> Option<f64> {
        self.of(is_weekend(slot)).log(index_of(slot))
    }

    /// The logarithm of the rate in `slot`, smoothed.
    fn smoothed(&self, slot: u64) -> Option<f64> {
        let before = self.log(slot.saturating_sub(1))?;
        Some(0.25 * before + 0.5 * self.log(slot)? + 0.25 * self.log(slot + 1)?)
    }
}

impl Profile {
    fn learn(&mut self, index: usize, log: f64) {
        if self.logs.len() != SLOTS || self.days.len() != SLOTS {
            self.logs = vec![0; SLOTS];
            self.days = vec![0; SLOTS];
        }
        let days = f64::from(self.days[index]) + 1.0;
        let before = f64::from(self.logs[index]) / MILLI;
        let step = (log - before) / days.min(DAYS_MAX);
        let after = match self.days[index] {
            0 => log,
            1 => before + step,
            _ => before + step.clamp(-STEP_MAX, STEP_MAX),
        };
        self.logs[index] = milli(after);
        self.days[index] = self.days[index].saturating_add(1);
    }

    fn is_whole(&self) -> bool {
        self.days.len() == SLOTS && self.days.iter().all(|days| *days > 0)
    }

    fn log(&self, index: usize) -> Option<f64> {
        if self.days.get(index).is_none_or(|days| *days == 0) {
            return None;
        }
        self.logs.get(index).map(|log| f64::from(*log) / MILLI)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "`as` stops at the largest number, and logarithms of rates are small"
)]
fn milli(log: f64) -> i32 {
    (log * MILLI).round() as i32
}

fn index_of(slot: u64) -> usize {
    usize::try_from(slot % (DAY_SECS / SLOT_SECS)).unwrap_or(0)
}

/// Saturday or Sunday, in UTC. The first day of 1970 was a Thursday.
fn is_weekend(slot: u64) -> bool {
    let day = slot * SLOT_SECS / DAY_SECS;
    matches!(day % 7, 2 | 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Minutes of `days` days with `rate` jobs a second at each second.
    fn seen(days: u64, rate: impl Fn(u64) -> f64) -> Season {
        let mut season = Season::default();
        for minute in 0..days * 1_440 {
            let at = minute * 60;
            season.learn(Timestamp::from_secs(at + 30), 60.0, 60.0 * rate(at));
        }
        season
    }

    #[test]
    fn a_day_is_learnt() {
        let daily = |at: u64| if at % DAY_SECS < 43_200 { 1.0 } else { 4.0 };
        let season = seen(2, daily);
        let rate = |secs| season.rate(Timestamp::from_secs(5 * DAY_SECS + secs));
        assert!(rate(21_600).is_some_and(|rate| (rate - 1.0).abs() < 0.05));
        assert!(rate(64_800).is_some_and(|rate| (rate - 4.0).abs() < 0.05));
        let unfinished = Season::default();
        assert_eq!(unfinished.rate(Timestamp::from_secs(DAY_SECS)), None);
    }

    #[test]
    fn one_odd_day_leaves_little_of_it() {
        let odd = |at: u64| if at / DAY_SECS == 5 { 40.0 } else { 1.0 };
        let season = seen(8, odd);
        let rate = season.rate(Timestamp::from_secs(11 * DAY_SECS + 3_600));
        assert!(rate.is_some_and(|rate| rate < 1.5), "{rate:?}");
    }

    #[test]
    fn a_month_is_added_up_by_its_days() {
        let weekly = |at: u64| {
            let hour = if at % DAY_SECS < 43_200 { 1.0 } else { 4.0 };
            if is_weekend(at / SLOT_SECS) {
                0.5 * hour
            } else {
                hour
            }
        };
        let season = seen(14, weekly);
        let mean = season.mean_rate().expect("whole days");
        assert!((mean - 2.5 * 6.0 / 7.0).abs() < 0.01, "{mean}");
        // From a Thursday noon over three weeks, to the second.
        let (from, days) = (14 * DAY_SECS + 43_207, 21);
        let to = from + days * DAY_SECS;
        let jobs = season
            .jobs_between(Timestamp::from_secs(from), Timestamp::from_secs(to))
            .expect("whole days");
        let truth: f64 = (from..to).map(weekly).sum();
        assert!((jobs / truth - 1.0).abs() < 0.005, "{jobs} and {truth}");
        let now = Timestamp::from_secs(from);
        assert_eq!(season.jobs_between(now, now), Some(0.0));
        assert_eq!(Season::default().jobs_between(now, now), None);
    }

    #[test]
    fn weekends_are_a_season_of_their_own() {
        let weekly = |at: u64| if is_weekend(at / SLOT_SECS) { 0.5 } else { 5.0 };
        let season = seen(14, weekly);
        let rate = |day: u64| season.rate(Timestamp::from_secs(day * DAY_SECS + 43_200));
        assert!(rate(14).is_some_and(|rate| rate > 4.0));
        assert!(rate(16).is_some_and(|rate| rate < 0.6));
    }
}
