//! `kind = "gce_autoscaler"`: the autoscaler of Google's managed instance groups.
//!
//! ```text
//! needed      = ceil(initialised instances * reading / target)
//! recommended = the largest `needed` of the stabilization period
//! ```
//!
//! Instances count once their initialization period is over: readings of the
//! others would not be typical. The stabilization period is ten minutes, or the
//! initialization period if that is longer. With scale-in controls the fleet
//! shrinks to no less than `scale_in_max` instances, or `scale_in_percent` of
//! it, below its largest size within `scale_in_window`.
//!
//! Sources: <https://cloud.google.com/compute/docs/autoscaler/understanding-autoscaler-decisions>,
//! <https://cloud.google.com/compute/docs/autoscaler/scaling-cpu> (target 0.6 by
//! default), <https://cloud.google.com/compute/docs/autoscaler> (initialization
//! period 60 s).
//!
//! Flaws kept: a peak of a second holds the fleet up for ten minutes; a ratio
//! that ends at 1 grows it by 1 / target at most. An empty group is never
//! started.
//!
//! | key | meaning |
//! |---|---|
//! | `target` | default 0.6 |
//! | `signal` | a ratio or per_worker signal; default `"utilization"` |
//! | `initialization_period` | default `"60s"`, to `"1h"` |
//! | `stabilization_period` | default `"10m"`, to `"1h"` |
//! | `scale_in_max`, `scale_in_percent` | one of them, or none by default |
//! | `scale_in_window` | default `"10m"`, `"1m"` to `"1h"` |

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::asg_target_tracking::in_service;
use super::kit::Recent;
use super::{Demand, Needs, Opinion, View};
use crate::fields::Fields;
use crate::policy::INSTANCES_MAX;
use crate::policy::rounding::{self, text};
use crate::signal::standard;

/// The autoscaler of a managed instance group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GceAutoscaler {
    /// The signal; a ratio or per worker.
    pub signal: String,
    /// Where it should be.
    pub target: f64,
    /// For how long a ready instance does not count.
    pub initialization_period: Duration,
    /// Whose peak counts.
    pub stabilization_period: Duration,
    /// How far below the peak of a window the fleet may shrink.
    pub scale_in: Option<ScaleIn>,
    /// That window.
    pub scale_in_window: Duration,
}

/// How far a fleet may shrink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleIn {
    /// By so many.
    Max(u32),
    /// By so many percent.
    Percent(u32),
}

/// What the autoscaler remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    needed: Recent,
    sizes: Recent,
}

impl GceAutoscaler {
    #[expect(clippy::unnecessary_wraps, reason = "as every other peer")]
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let hour = Duration::from_hours(1);
        let target = fields.or_within("target", 0.6, 1e-6..=1e9);
        let max = fields.optional_within("scale_in_max", 1..=INSTANCES_MAX);
        let percent = fields.optional_within("scale_in_percent", 1..=100);
        if max.is_some() && percent.is_some() {
            let message = "stands beside scale_in_max; write one of the two";
            fields.problem("scale_in_percent", message);
        }
        let scale_in = max.map(ScaleIn::Max).or(percent.map(ScaleIn::Percent));
        let minute = Duration::from_mins(1);
        Some(Self {
            signal: fields.or("signal", standard::UTILIZATION.to_owned()),
            target,
            initialization_period: fields.or_within(
                "initialization_period",
                minute,
                Duration::ZERO..=hour,
            ),
            stabilization_period: fields.or_within(
                "stabilization_period",
                minute * 10,
                Duration::ZERO..=hour,
            ),
            scale_in,
            scale_in_window: fields.or_within("scale_in_window", minute * 10, minute..=hour),
        })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        vec![Demand {
            signal: &self.signal,
            key: "signal",
            needs: Needs::Proportional,
        }]
    }

    #[expect(clippy::unnecessary_wraps, reason = "as every other peer")]
    pub(super) fn step(&self, notes: &mut Notes, view: &View<'_>) -> Option<Opinion> {
        let initialised = in_service(view, self.initialization_period);
        let window = self.stabilization_period.max(self.initialization_period);
        notes
            .sizes
            .push(view.now, view.desired, self.scale_in_window);
        if initialised == 0 {
            let why = "no instance is initialised".to_owned();
            return Some(Opinion::instances(view.desired, why));
        }
        let reading = match view.sample(&self.signal) {
            Ok(sample) => sample.value,
            Err(absence) => return Some(Opinion::abstain(&self.signal, absence)),
        };
        if notes.needed.is_empty() {
            // Before it looked, the fleet was as large as it had to be.
            notes.needed.push(view.now, view.desired, window);
        }
        let needed = rounding::up(f64::from(initialised) * reading / self.target);
        notes.needed.push(view.now, needed, window);
        let peak = notes.needed.within(view.now, window).max();
        let recommended = peak.unwrap_or(needed).max(needed);
        let largest = notes.sizes.within(view.now, self.scale_in_window).max();
        let largest = largest.unwrap_or(view.desired);
        let least = match self.scale_in {
            None => 0,
            Some(ScaleIn::Max(count)) => largest.saturating_sub(count),
            Some(ScaleIn::Percent(percent)) => {
                let share = f64::from(largest) * f64::from(percent) / 100.0;
                largest.saturating_sub(rounding::down(share))
            }
        };
        let wish = recommended.max(least.min(view.desired));
        let why = format!(
            "{} {} of target {} on {initialised} initialised: {needed} needed, {recommended} at \
             the peak",
            self.signal,
            text(reading),
            text(self.target)
        );
        Some(Opinion::instances(wish, why))
    }
}
