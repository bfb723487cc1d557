//! `kind = "asg_predictive"`: Amazon EC2 Auto Scaling's predictive scaling.
//!
//! From the hourly means of the load of up to 14 days it forecasts the next 48
//! hours, anew every 6 hours, once there are 24 hours. At the beginning of each
//! hour, and `buffer` earlier, the fleet is to have
//!
//! ```text
//! ceil(forecast / target)
//! ```
//!
//! It never lets anything go: that is for a dynamic policy beside it, and the
//! larger of the two counts. So its wish is a floor. `alone = true` makes that
//! floor hold what there is, as in a group without a dynamic policy.
//!
//! Source: <https://docs.aws.amazon.com/autoscaling/ec2/userguide/predictive-scaling-policy-overview.html>.
//! The model is not public. In its place: the mean of the same hour of the day
//! (of the week, from two weeks on), the days before weighted by 0.8 for each
//! day (week) of age.
//!
//! `signal` is a total that grows with the load and not with the fleet, such as
//! jobs in hand or, for a counter, arrivals a second.
//!
//! Flaws kept: an hour is one number, so a peak within it is not seen. Its
//! forecast is never checked against what came. It assumes that all instances
//! are alike.
//!
//! | key | meaning |
//! |---|---|
//! | `target` | load per instance; mandatory |
//! | `signal` | a total, or a counter; default `"busy"` |
//! | `buffer` | default `"300s"`, to `"1h"` |
//! | `alone` | default `false` |

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kit::Counter;
use super::{Demand, Needs, Opinion, View};
use crate::fields::Fields;
use crate::policy::rounding::{self, text};
use crate::signal::standard;
use crate::units::Timestamp;

/// Amazon's predictive scaling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AsgPredictive {
    /// The load of the whole fleet.
    pub signal: String,
    /// Whether the signal is a counter.
    pub counter: bool,
    /// How much of it an instance takes.
    pub target: f64,
    /// How long before an hour its instances are launched.
    pub buffer: Duration,
    /// Whether no dynamic policy is beside it.
    pub alone: bool,
}

/// Fourteen days.
const HOURS_KEPT: usize = 14 * 24;

/// Hours that are forecast at a time.
const HOURS_AHEAD: u64 = 48;

/// Hours between forecasts.
const REFRESH_HOURS: u64 = 6;

/// Hours before the first forecast.
const HOURS_MIN: usize = 24;

/// What a day or week older counts less.
const AGEING: f64 = 0.8;

/// Hourly means and the forecast made of them. Hours are counted from 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    counter: Counter,
    /// The hour that is being measured, the sum and the number of samples.
    hour: u64,
    sum: f64,
    samples: u32,
    /// Hours and their means, oldest first.
    means: VecDeque<(u64, f64)>,
    /// When the forecast was made, in hours.
    made: Option<u64>,
    forecast: BTreeMap<u64, f64>,
}

impl AsgPredictive {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let what = "how much of the load an instance takes, such as 0.5";
        let target = fields.required_within("target", what, 1e-6..=1e9);
        let signal = fields.or("signal", standard::BUSY.to_owned());
        let bounds = Duration::ZERO..=Duration::from_hours(1);
        let buffer = fields.or_within("buffer", Duration::from_mins(5), bounds);
        let alone = fields.or("alone", false);
        let counter = fields.or("counter", signal == standard::ARRIVALS);
        Some(Self {
            signal,
            counter,
            target: target?,
            buffer,
            alone,
        })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        let needs = if self.counter {
            Needs::Counter
        } else {
            Needs::Total
        };
        vec![Demand {
            signal: &self.signal,
            key: "signal",
            needs,
        }]
    }

    #[expect(clippy::unnecessary_wraps, reason = "as every other peer")]
    pub(super) fn step(&self, notes: &mut Notes, view: &View<'_>) -> Option<Opinion> {
        let sample = match view.sample(&self.signal) {
            Ok(sample) => sample,
            Err(absence) => return Some(Opinion::abstain(&self.signal, absence)),
        };
        let load = if self.counter {
            notes
                .counter
                .advance(sample)
                .map(|counted| counted.count / counted.secs)
        } else {
            Some(sample.value)
        };
        let hour = hour_of(view.now);
        notes.advance(hour, load);
        let least = if self.alone { view.desired } else { 0 };
        if notes.means.len() < HOURS_MIN {
            let size = if self.alone { view.desired } else { 0 };
            let why = format!("{} hours of load, of 24 for a forecast", notes.means.len());
            return Some(Opinion::instances(size, why));
        }
        if notes.made.is_none_or(|made| hour >= made + REFRESH_HOURS) {
            notes.made = Some(hour);
            let ahead = (hour..hour + HOURS_AHEAD).map(|hour| (hour, forecast(&notes.means, hour)));
            notes.forecast = ahead.collect();
        }
        let at = |hour: u64| notes.forecast.get(&hour).copied().unwrap_or(0.0);
        let coming = hour_of(view.now + self.buffer);
        let load = at(hour).max(at(coming));
        let needed = rounding::up(load / self.target);
        let why = format!("a load of {} is forecast, of {} each", text(load), text(self.target));
        Some(Opinion::instances(needed.max(least), why))
    }
}

impl Notes {
    /// Takes in the load of a moment of `hour`.
    fn advance(&mut self, hour: u64, load: Option<f64>) {
        if hour != self.hour {
            if self.samples > 0 {
                let mean = self.sum / f64::from(self.samples);
                self.means.push_back((self.hour, mean));
            }
            while self.means.len() > HOURS_KEPT {
                self.means.pop_front();
            }
            (self.hour, self.sum, self.samples) = (hour, 0.0, 0);
        }
        if let Some(load) = load {
            self.sum += load;
            self.samples += 1;
        }
    }
}

fn hour_of(at: Timestamp) -> u64 {
    at.micros() / 3_600_000_000
}

/// The load of `hour`, from what is known of hours like it.
fn forecast(means: &VecDeque<(u64, f64)>, hour: u64) -> f64 {
    const WEEK: u64 = 7 * 24;
    let (first, last) = match (means.front(), means.back()) {
        (Some((first, _)), Some((last, _))) => (*first, *last),
        _ => return 0.0,
    };
    let season = if last - first + 1 >= 2 * WEEK { WEEK } else { 24 };
    let (mut sum, mut weights) = (0.0, 0.0);
    let mut weight = 1.0;
    let alike = means
        .iter()
        .rev()
        .filter(|(known, _)| known % season == hour % season);
    for (_, mean) in alike {
        sum += weight * mean;
        weights += weight;
        weight *= AGEING;
    }
    if weights > 0.0 { sum / weights } else { 0.0 }
}
