//! Spikes that come back at the same time of the day.
//!
//! A season of quarter hours smooths a nightly dump away, as it should chance
//! bursts. What recurs is told by counting: a burst opens a place in a short
//! list, under its minute of the day, and each later day either confirms it or
//! counts against it. A place that was confirmed often enough is forecast, at
//! its minute, with the jobs it has brought.

use serde::{Deserialize, Serialize};

use crate::units::Timestamp;

const MINUTE_SECS: u64 = 60;
const DAY_MINUTES: u64 = 1_440;

/// Places in the list; the weakest makes room.
const PLACES_MAX: usize = 24;

/// A burst this many minutes from a place belongs to it.
const NEAR_MINUTES: u64 = 3;

/// A place that was missed this many days more than it was hit is given up.
const MISSES_MAX: f64 = 2.0;

/// Days are forgotten by this factor each.
const FADE: f64 = 0.85;

/// Hits that it takes to be forecast.
const HITS_MIN: f64 = 2.0;

/// The share of days that it must have come on.
const SHARE_MIN: f64 = 0.6;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    /// The minute of the day its bursts began in.
    minute: u64,
    /// Jobs a burst brings, on average.
    jobs: f64,
    /// Jobs seen in the window that is open.
    seen: f64,
    /// Days it came, faded.
    hits: f64,
    /// Days it did not, faded.
    misses: f64,
    /// The minute since 1970 in which it is judged next.
    judged: u64,
}

/// Bursts by the minute of the day.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Spikes {
    places: Vec<Place>,
}

/// A burst that is expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spike {
    /// Seconds until it begins; negative while it may have begun already.
    pub after: f64,
    /// Jobs it brings.
    pub jobs: f64,
    /// The chance that it comes.
    pub chance: f64,
}

impl Spikes {
    /// Takes in `excess` jobs beyond what was expected in the span up to `at`
    /// that began `secs` seconds before.
    pub fn learn(&mut self, at: Timestamp, secs: f64, excess: f64) {
        let minute = at.micros() / 1_000_000 / MINUTE_SECS;
        for place in &mut self.places {
            if minute >= place.judged {
                place.judge();
            }
        }
        self.places
            .retain(|place| place.misses - place.hits < MISSES_MAX);
        if !(excess > 0.0) {
            return;
        }
        let middle = at - std::time::Duration::from_secs_f64(secs.max(0.0) / 2.0);
        let minute = middle.micros() / 1_000_000 / MINUTE_SECS;
        let of_day = minute % DAY_MINUTES;
        let near = self
            .places
            .iter_mut()
            .find(|place| apart(place.minute, of_day) <= NEAR_MINUTES);
        if let Some(place) = near {
            place.seen += excess;
            return;
        }
        if self.places.len() >= PLACES_MAX {
            // The one that has come least, and the oldest among equals.
            let weakest = self
                .places
                .iter()
                .enumerate()
                .min_by(|one, other| one.1.hits.total_cmp(&other.1.hits));
            let Some(index) = weakest.map(|(index, _)| index) else {
                return;
            };
            self.places.remove(index);
        }
        self.places.push(Place {
            minute: of_day,
            jobs: 0.0,
            seen: excess,
            hits: 0.0,
            misses: 0.0,
            judged: minute + NEAR_MINUTES + 1,
        });
    }

    /// The next burst that is expected and has not begun, within `horizon`
    /// seconds of `now`.
    pub fn next(&self, now: Timestamp, horizon: f64) -> Option<Spike> {
        let second = now.micros() / 1_000_000;
        let of_day = second % (DAY_MINUTES * MINUTE_SECS);
        let expected = self.places.iter().filter(|place| place.is_expected());
        let spikes = expected.filter_map(|place| {
            let begins = place.minute * MINUTE_SECS;
            let day = DAY_MINUTES * MINUTE_SECS;
            let ahead = (begins + day - of_day) % day;
            let passed = (of_day + day - begins) % day;
            let late = passed <= NEAR_MINUTES * MINUTE_SECS;
            let after = if late {
                -f64::from(u32::try_from(passed).unwrap_or(0))
            } else {
                f64::from(u32::try_from(ahead).unwrap_or(u32::MAX))
            };
            let begun = place.seen > 0.3 * place.jobs;
            (after <= horizon && !begun).then_some(Spike {
                after,
                jobs: place.jobs,
                chance: place.share(),
            })
        });
        spikes.min_by(|one, other| one.after.total_cmp(&other.after))
    }
}

impl Place {
    /// Ends its window of the day.
    fn judge(&mut self) {
        let came = self.seen > 0.2 * self.jobs && self.seen > 0.0;
        self.hits *= FADE;
        self.misses *= FADE;
        if came {
            // The mean of its days, the newest weighing at least a third.
            let gain = (1.0 / (self.hits + 1.0)).max(1.0 / 3.0);
            self.jobs += gain * (self.seen - self.jobs);
            self.hits += 1.0;
        } else {
            self.misses += 1.0;
        }
        self.seen = 0.0;
        self.judged += DAY_MINUTES;
    }

    fn share(&self) -> f64 {
        self.hits / (self.hits + self.misses).max(1e-9)
    }

    fn is_expected(&self) -> bool {
        self.hits >= HITS_MIN && self.share() >= SHARE_MIN
    }
}

/// Minutes between two minutes of the day, the shorter way round.
fn apart(one: u64, other: u64) -> u64 {
    let way = (one + DAY_MINUTES - other) % DAY_MINUTES;
    way.min(DAY_MINUTES - way)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Minutes of `days` with a burst at 02:00 on the days that `comes` says.
    fn seen(days: u64, comes: impl Fn(u64) -> bool) -> Spikes {
        let mut spikes = Spikes::default();
        for minute in 0..days * DAY_MINUTES {
            let bursts = minute % DAY_MINUTES == 120 && comes(minute / DAY_MINUTES);
            let at = Timestamp::from_secs((minute + 1) * 60);
            spikes.learn(at, 60.0, if bursts { 4_000.0 } else { 0.0 });
        }
        spikes
    }

    fn next(spikes: &Spikes, secs: u64) -> Option<Spike> {
        spikes.next(Timestamp::from_secs(20 * 86_400 + secs), 600.0)
    }

    #[test]
    fn a_nightly_dump_is_expected() {
        let spikes = seen(6, |_| true);
        let spike = next(&spikes, 7_200 - 300).expect("expected");
        assert!((spike.after - 300.0).abs() < 1.0, "{spike:?}");
        assert!((spike.jobs - 4_000.0).abs() < 1.0, "{spike:?}");
        assert_eq!(next(&spikes, 43_200), None);
    }

    #[test]
    fn what_came_once_or_has_ended_is_not() {
        assert_eq!(next(&seen(6, |day| day == 2), 7_000), None);
        assert_eq!(next(&seen(16, |day| day < 6), 7_000), None);
    }

    #[test]
    fn the_list_is_bounded() {
        let mut spikes = Spikes::default();
        for burst in 0..200 {
            spikes.learn(Timestamp::from_secs(burst * 600), 60.0, 100.0);
        }
        assert!(spikes.places.len() <= PLACES_MAX);
    }
}
