//! How many jobs come a second just now.
//!
//! Arrivals are kept in buckets that grow with their age. The level is taken
//! over the longest window whose rate agrees with every shorter one (Lepski's
//! rule: Lepski, "On a Problem of Adaptive Estimation in Gaussian White
//! Noise", 1991): seconds after a step, hours in steady traffic. A bucket far
//! above what was expected is an impulse first, and a rate only once it has
//! lasted: the larger the claim, the longer the proof.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Season;
use crate::signal::Sample;
use crate::units::Timestamp;

/// Nothing older is looked at.
const WINDOW_SECS_MAX: f64 = 7_200.0;

/// The shortest window.
const WINDOW_SECS_MIN: f64 = 20.0;

/// Windows grow by at least this factor.
const WINDOW_GROWTH: f64 = 1.5;

/// Two buckets become one when they are this many times as old as long.
const BUCKET_AGES: f64 = 8.0;

/// How many standard deviations apart windows may lie and still agree.
const AGREE: f64 = 2.8;

/// Batches of more than 30 are counted as batches of 30.
const DISPERSION_MAX: f64 = 30.0;

/// The dispersion is a mean over about this many seconds.
const DISPERSION_SECS: f64 = 5_000.0;

/// What was expected is the mean over about this many seconds.
const FAST_SECS: f64 = 180.0;

/// A bucket is odd when it is this many standard deviations above expected.
const IMPULSE: f64 = 6.0;

/// What was seen before this many seconds is no ground to call a bucket odd.
const WARM_SECS: f64 = 600.0;

/// Arrivals of the last two hours, and what is normal among them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Arrivals {
    counter: Option<(f64, Timestamp)>,
    /// Oldest first.
    buckets: VecDeque<Bucket>,
    /// How long arrivals were seen, in seconds.
    seen_secs: f64,
    /// The expected rate, as a multiple of the season's.
    fast: Option<f64>,
    /// Variance of counts by their mean; 1 for a Poisson process.
    dispersion: Option<f64>,
    /// How long the last buckets were odd, in seconds and in number.
    odd: (f64, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Bucket {
    /// When it ends.
    at: Timestamp,
    secs: f64,
    count: f64,
}

/// Arrivals between two samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// When it ends.
    pub at: Timestamp,
    /// How long it is; above zero.
    pub secs: f64,
    /// Arrivals.
    pub count: f64,
    /// Those of them that are believed to be more than an impulse.
    pub steady: f64,
}

/// The present level of arrivals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// As a multiple of the season's rate, or jobs a second without a season.
    pub ratio: f64,
    /// Arrivals it rests on.
    pub count: f64,
    /// The window it was taken over, in seconds.
    pub window_secs: f64,
}

impl Arrivals {
    /// Takes in a sample of the counter of arrivals; `None` if it is the first
    /// one, or was taken in before. A counter that fell has begun anew, and all
    /// it says is new.
    pub fn learn(&mut self, sample: Sample, season: Option<&Season>) -> Option<Bin> {
        let before = self.counter;
        if before.is_some_and(|(_, at)| sample.at <= at) {
            return None;
        }
        self.counter = Some((sample.value, sample.at));
        let (value, from) = before?;
        let count = if sample.value >= value {
            sample.value - value
        } else {
            sample.value
        };
        let secs = super::secs(sample.at.since(from));
        let expected = rate(season, sample.at) * secs;
        let steady = self.steady(count, secs, expected);
        self.note_dispersion(count, secs, expected);
        self.seen_secs += secs;
        self.note_expected(steady, secs, expected);
        self.push(Bucket {
            at: sample.at,
            secs,
            count: steady,
        });
        Some(Bin {
            at: sample.at,
            secs,
            count,
            steady,
        })
    }

    /// Variance of counts by their mean, 1 to 30.
    pub fn dispersion(&self) -> f64 {
        self.dispersion.unwrap_or(1.0).clamp(1.0, DISPERSION_MAX)
    }

    /// For how long arrivals were seen, in seconds.
    pub fn seen_secs(&self) -> f64 {
        self.seen_secs
    }

    /// Begins to count the expected rate anew, as when the season is switched.
    pub fn rebase(&mut self) {
        self.fast = None;
    }

    /// The level by Lepski's rule; `None` before the first bin.
    pub fn level(&self, season: Option<&Season>) -> Option<Level> {
        let dispersion = self.dispersion();
        let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
        let (mut count, mut expected, mut secs) = (0.0, 0.0, 0.0);
        let mut next_secs = WINDOW_SECS_MIN;
        let mut best: Option<Level> = None;
        for (index, bucket) in self.buckets.iter().rev().enumerate() {
            if secs + bucket.secs > WINDOW_SECS_MAX && index > 0 {
                break;
            }
            count += bucket.count;
            secs += bucket.secs;
            let middle = bucket.at - std::time::Duration::from_secs_f64(bucket.secs / 2.0);
            expected += bucket.secs * rate(season, middle);
            let last = index + 1 == self.buckets.len();
            if secs + 1e-6 < next_secs && !last {
                continue;
            }
            next_secs = secs * WINDOW_GROWTH;
            let ratio = count / expected.max(1e-12);
            if best.is_some() && !(low <= ratio && ratio <= high) {
                break;
            }
            best = Some(Level {
                ratio,
                count,
                window_secs: secs,
            });
            let spread = AGREE * libm::sqrt(dispersion * (count + 1.0)) / expected.max(1e-12);
            low = low.max(ratio - spread);
            high = high.min(ratio + spread);
            if low > high {
                break;
            }
        }
        best
    }

    /// What of `count` is believed at once.
    fn steady(&mut self, count: f64, secs: f64, expected: f64) -> f64 {
        let Some(fast) = self.fast.filter(|_| self.seen_secs >= WARM_SECS) else {
            return count;
        };
        let mean = fast * expected;
        let deviation = libm::sqrt(self.dispersion().min(10.0) * mean.max(0.3));
        let threshold = mean + IMPULSE * deviation + 3.0;
        if count <= threshold {
            self.odd = (0.0, 0);
            return count;
        }
        self.odd = (self.odd.0 + secs, self.odd.1.saturating_add(1));
        let proof_secs = 10.0 * (1.0 + libm::log2((count / mean.max(0.5)).max(1.0)));
        if self.odd.1 < 2 || self.odd.0 <= proof_secs {
            threshold
        } else {
            count
        }
    }

    fn note_expected(&mut self, steady: f64, secs: f64, expected: f64) {
        let seen = steady / expected.max(1e-12);
        let span = FAST_SECS.min(self.seen_secs).max(secs);
        let gain = 1.0 - libm::exp(-secs / span);
        let before = self.fast.unwrap_or(seen);
        self.fast = Some(before + gain * (seen - before));
    }

    fn note_dispersion(&mut self, count: f64, secs: f64, expected: f64) {
        let Some(fast) = self.fast.filter(|_| self.seen_secs >= 2.0 * FAST_SECS) else {
            return;
        };
        let mean = fast * expected;
        let before = self.dispersion.unwrap_or(1.0);
        let error = count - mean;
        let seen = (error * error / (mean + 0.05)).min(20.0 * before.max(1.0));
        let gain = 1.0 - libm::exp(-secs / DISPERSION_SECS);
        self.dispersion = Some(before + gain * (seen - before));
    }

    fn push(&mut self, bucket: Bucket) {
        self.buckets.push_back(bucket);
        let newest = bucket.at;
        while let Some(oldest) = self.buckets.front() {
            let age = super::secs(newest.since(oldest.at));
            if age <= WINDOW_SECS_MAX && self.buckets.len() <= 256 {
                break;
            }
            self.buckets.pop_front();
        }
        // One merge a bin keeps up with one bin more.
        let mut index = self.buckets.len();
        while index >= 2 {
            index -= 1;
            let (one, next) = (self.buckets[index - 1], self.buckets[index]);
            let age = super::secs(newest.since(next.at));
            if age > BUCKET_AGES * (one.secs + next.secs) {
                self.buckets[index - 1] = Bucket {
                    at: next.at,
                    secs: one.secs + next.secs,
                    count: one.count + next.count,
                };
                self.buckets.remove(index);
                break;
            }
        }
    }
}

/// The season's rate, or 1 without one.
fn rate(season: Option<&Season>, at: Timestamp) -> f64 {
    season.and_then(|season| season.rate(at)).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Completeness;

    /// Feeds one count per ten seconds.
    fn feed(arrivals: &mut Arrivals, counts: impl IntoIterator<Item = f64>) {
        for count in counts {
            let (value, at) = arrivals.counter.unwrap_or_default();
            let sample = Sample {
                value: value + count,
                at: at + std::time::Duration::from_secs(10),
                completeness: Completeness::Complete,
            };
            arrivals.learn(sample, None);
        }
    }

    fn ratio(arrivals: &Arrivals) -> f64 {
        arrivals.level(None).expect("bins").ratio
    }

    #[test]
    fn steady_traffic_is_averaged_over_hours() {
        let mut arrivals = Arrivals::default();
        feed(&mut arrivals, (0..720).map(|bin| f64::from(40 + bin % 5)));
        let level = arrivals.level(None).expect("bins");
        assert!((level.ratio - 4.2).abs() < 0.1, "{level:?}");
        assert!(level.window_secs > 5_000.0, "{level:?}");
        assert!(arrivals.buckets.len() < 80, "{}", arrivals.buckets.len());
    }

    #[test]
    fn a_threefold_step_is_believed_after_three_bins() {
        let mut arrivals = Arrivals::default();
        feed(&mut arrivals, std::iter::repeat_n(40.0, 400));
        feed(&mut arrivals, [120.0]);
        assert!(ratio(&arrivals) < 8.0);
        feed(&mut arrivals, [120.0; 4]);
        assert!(ratio(&arrivals) > 10.0, "{}", ratio(&arrivals));
    }

    #[test]
    fn a_dump_is_never_taken_for_a_rate() {
        let mut arrivals = Arrivals::default();
        feed(&mut arrivals, std::iter::repeat_n(4.0, 400));
        feed(&mut arrivals, [5_000.0, 5_000.0]);
        for _ in 0..100 {
            feed(&mut arrivals, [4.0]);
            assert!(ratio(&arrivals) < 3.0, "{}", ratio(&arrivals));
        }
    }

    #[test]
    fn a_counter_that_begins_anew_brings_no_arrivals_but_its_own() {
        let mut arrivals = Arrivals::default();
        feed(&mut arrivals, std::iter::repeat_n(40.0, 100));
        let at = arrivals.counter.expect("samples").1;
        let sample = Sample {
            value: 40.0,
            at: at + std::time::Duration::from_secs(10),
            completeness: Completeness::Complete,
        };
        let bin = arrivals.learn(sample, None).expect("new");
        assert!((bin.count - 40.0).abs() < 1e-9);
    }
}
