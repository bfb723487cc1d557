//! `kind = "square_root_staffing"`: offered load plus a reserve of its root.
//!
//! ```text
//! offered = arrivals a second * service_mean        in slots
//! wish    = ceil((offered + beta * sqrt(offered)) / slots)
//! ```
//!
//! The rate is that of the last `window`. In a queue with many servers `beta`
//! sets the share of jobs that have to wait, whatever the size: about 50 % at
//! 0.5, 22 % at 1, 8 % at 1.5, 2 % at 2 (Halfin and Whitt).
//!
//! Sources: S. Halfin, W. Whitt, "Heavy-traffic limits for queues with many
//! exponential servers", Operations Research 1981; S. Borst, A. Mandelbaum,
//! M. Reiman, "Dimensioning large call centers", Operations Research 2004.
//!
//! Flaws kept: it knows no queue, so what once waits is worked off by the
//! reserve alone. It knows no boots. The window is late by half its length.
//!
//! | key | meaning |
//! |---|---|
//! | `service_mean` | how long a job takes; mandatory, `"10ms"` to `"7d"` |
//! | `beta` | default 1, 0 to 10 |
//! | `window` | over which arrivals are counted; default `"5m"`, `"10s"` to `"2h"` |
//! | `signal` | a counter of arrivals; default `"arrivals"` |

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kit::secs;
use super::{Demand, Needs, Opinion, View};
use crate::fields::Fields;
use crate::policy::rounding::{self, text};
use crate::signal::standard;
use crate::units::Timestamp;

/// Offered load plus a reserve of its root.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SquareRootStaffing {
    /// What counts arrivals. A counter.
    pub signal: String,
    /// How long a job takes in one slot.
    pub service_mean: Duration,
    /// How many roots the reserve is.
    pub beta: f64,
    /// Over which arrivals are counted.
    pub window: Duration,
}

/// The most samples that are kept: two hours of one every 10 s.
const SAMPLES_MAX: usize = 720;

/// Samples of the counter, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    samples: VecDeque<(Timestamp, f64)>,
}

impl SquareRootStaffing {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let what = "how long a job takes, such as \"30s\"";
        let bounds = Duration::from_millis(10)..=Duration::from_hours(24 * 7);
        let service_mean = fields.required_within("service_mean", what, bounds);
        let bounds = Duration::from_secs(10)..=Duration::from_hours(2);
        let window = fields.or_within("window", Duration::from_mins(5), bounds);
        let beta = fields.or_within("beta", 1.0, 0.0..=10.0);
        let signal = fields.or("signal", standard::ARRIVALS.to_owned());
        Some(Self {
            signal,
            service_mean: service_mean?,
            beta,
            window,
        })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        vec![Demand {
            signal: &self.signal,
            key: "signal",
            needs: Needs::Counter,
        }]
    }

    #[expect(clippy::unnecessary_wraps, reason = "as every other peer")]
    pub(super) fn step(&self, notes: &mut Notes, view: &View<'_>) -> Option<Opinion> {
        let sample = match view.sample(&self.signal) {
            Ok(sample) => sample,
            Err(absence) => return Some(Opinion::abstain(&self.signal, absence)),
        };
        let samples = &mut notes.samples;
        if samples.back().is_some_and(|(_, value)| sample.value < *value) {
            // The counter was started anew.
            samples.clear();
        }
        if samples.back().is_none_or(|(at, _)| sample.at > *at) {
            samples.push_back((sample.at, sample.value));
        }
        // One sample from before the window stays, for what came since.
        while samples
            .get(1)
            .is_some_and(|(at, _)| sample.at.since(*at) >= self.window)
            || samples.len() > SAMPLES_MAX
        {
            samples.pop_front();
        }
        let (from, count) = samples.front().copied().unwrap_or((sample.at, 0.0));
        let span = secs(sample.at.since(from));
        if span <= 0.0 {
            let why = "one sample says nothing of a rate".to_owned();
            return Some(Opinion::instances(view.desired, why));
        }
        let rate = (sample.value - count) / span;
        let offered = rate * secs(self.service_mean);
        let needed = offered + self.beta * offered.sqrt();
        let wish = rounding::up(needed / f64::from(view.slots.max(1)));
        let why = format!("{} a second offer {}", text(rate), text(offered));
        Some(Opinion::instances(wish, why))
    }
}
