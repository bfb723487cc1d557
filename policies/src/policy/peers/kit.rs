//! What many peers are made of: periods, counters, windows.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::signal::Sample;
use crate::units::Timestamp;

/// A cycle that comes this much early still counts as in time: clocks and
/// timers are not exact, and a rule of 60 s in a loop of 60 s would otherwise
/// now and then decide every 120 s.
const EARLY_MAX: Duration = Duration::from_millis(500);

/// When a rule decides: once a period, at the first cycle of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Cadence {
    last: Option<Timestamp>,
}

impl Cadence {
    /// Whether `period` is over since this was last true.
    pub(super) fn is_due(self, now: Timestamp, period: Duration) -> bool {
        self.last
            .is_none_or(|last| now.since(last) + EARLY_MAX.min(period / 10) >= period)
    }

    /// [`Cadence::is_due`], which begins a new period if so.
    pub(super) fn due(&mut self, now: Timestamp, period: Duration) -> bool {
        let due = self.is_due(now, period);
        if due {
            self.last = Some(now);
        }
        due
    }
}

/// A counter's last sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Counter {
    last: Option<(f64, Timestamp)>,
}

/// What was counted, and over which span.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Counted {
    /// How many.
    pub(super) count: f64,
    /// From the sample before to this one; above zero.
    pub(super) secs: f64,
}

impl Counter {
    /// What was counted since the last sample that was shown; `None` for the
    /// first one, and for one that was shown already. A counter that fell was
    /// started anew: all of it is new.
    pub(super) fn advance(&mut self, sample: Sample) -> Option<Counted> {
        let before = self.last;
        if before.is_some_and(|(_, at)| sample.at <= at) {
            return None;
        }
        self.last = Some((sample.value, sample.at));
        let (value, at) = before?;
        let count = if sample.value >= value {
            sample.value - value
        } else {
            sample.value
        };
        Some(Counted {
            count,
            secs: sample.at.since(at).as_secs_f64(),
        })
    }
}

/// The mean of what was sampled since it was last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Mean {
    sum: f64,
    count: u32,
    newest: Option<Timestamp>,
}

impl Mean {
    /// Takes in a sample, once.
    pub(super) fn add(&mut self, value: f64, at: Timestamp) {
        if self.newest.is_none_or(|newest| at > newest) {
            self.sum += value;
            self.count += 1;
            self.newest = Some(at);
        }
    }

    /// The mean, and begins anew; `None` if there was no sample.
    pub(super) fn take(&mut self) -> Option<f64> {
        let mean = (self.count > 0).then(|| self.sum / f64::from(self.count));
        (self.sum, self.count) = (0.0, 0);
        mean
    }
}

/// Numbers of instances, and when they were named; at most [`Recent::MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Recent(VecDeque<(Timestamp, u32)>);

impl Recent {
    /// An hour of decisions every 15 s, and more than any window asks for at
    /// usual intervals. Beyond it the oldest is forgotten.
    pub(super) const MAX: usize = 240;

    /// Notes `count`, and forgets what is older than `window`.
    pub(super) fn push(&mut self, now: Timestamp, count: u32, window: Duration) {
        self.0.retain(|(at, _)| now.since(*at) <= window);
        self.0.push_back((now, count));
        while self.0.len() > Self::MAX {
            self.0.pop_front();
        }
    }

    /// Those named less than `window` ago.
    pub(super) fn within(&self, now: Timestamp, window: Duration) -> impl Iterator<Item = u32> {
        let recent = self.0.iter().filter(move |(at, _)| now.since(*at) < window);
        recent.map(|(_, count)| *count)
    }

    /// Whether nothing was noted yet.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A duration's seconds.
pub(super) fn secs(span: Duration) -> f64 {
    span.as_secs_f64()
}
