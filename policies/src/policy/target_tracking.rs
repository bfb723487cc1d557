//! `kind = "target_tracking"`: as many instances as bring a signal to its target.
//!
//! For a signal that falls in proportion as instances are added (a ratio such
//! as utilization, or a mean per instance):
//!
//! ```text
//! ratio = reading / target
//! |ratio - 1| <= dead_band   ->  wish = current
//! ratio > 1                  ->  wish = max(current, ceil(ready * ratio))
//! ratio < 1                  ->  wish = min(current, ceil(ready * ratio))
//! ```
//!
//! It is the sum of the Kubernetes horizontal pod autoscaler and of Amazon's
//! target tracking. What matters is which count is multiplied:
//!
//! - `ready`, the instances that take jobs, because the reading is a mean over
//!   them. Multiplying booting ones too would order the same capacity again
//!   every cycle until they come up.
//! - The wish is compared with `current`, booting instances included: they are
//!   bought already. An overloaded fleet that has enough on the way waits for
//!   it, and is never shrunk while its reading is above the target.
//!
//! Rounded up both ways: growing buys the started instance, shrinking keeps
//! it (Amazon: 1.5 out is 2, 1.5 in is 1). The dead band is 10 % by default,
//! as with Kubernetes' tolerance; Amazon too shrinks only well below a target.
//!
//! No ready instance: there is nothing to multiply, so the reading is not
//! looked at. What is booting is kept (`wish = current`); an empty fleet asks
//! for one, because an empty fleet has no utilization and could never start
//! again. In the same way a reading of zero keeps one. With `to_zero = true`
//! both become zero: then another policy must be there that starts the fleet.
//!
//! An absent reading: the rule abstains.
//!
//! | key | meaning |
//! |---|---|
//! | `target` | where the signal should be, in its unit; mandatory, 0.000001 to 1000000000, for a ratio at most 1 |
//! | `signal` | a ratio or per_worker signal; default `"utilization"` |
//! | `dead_band` | how far off, as a share of the target, is near enough; default 0.1, 0 to 0.9 |
//! | `to_zero` | whether this rule lets the fleet become empty; default `false` |

use serde::{Deserialize, Serialize};

use super::{Demand, Needs, Opinion, View, rounding};
use crate::fields::Fields;
use crate::signal::{Absence, standard};

/// As many instances as bring a signal to its target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetTracking {
    /// The signal; a ratio or per worker.
    pub signal: String,
    /// Where it should be, in its own unit; above zero, or the rule abstains.
    pub target: f64,
    /// How far off the target it may be, as a share of it, before anything
    /// changes; 0 to less than 1.
    pub dead_band: f64,
    /// Whether this rule lets the fleet become empty.
    pub to_zero: bool,
}

impl TargetTracking {
    /// Kubernetes' tolerance: a tenth is less than most metrics wobble by.
    pub const DEAD_BAND: f64 = 0.1;

    /// The rule on the standard `utilization` with the usual dead band.
    pub fn new(target: f64) -> Self {
        Self {
            signal: standard::UTILIZATION.to_owned(),
            target,
            dead_band: Self::DEAD_BAND,
            to_zero: false,
        }
    }

    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let what = "where the signal should be, such as 0.7";
        let target = fields.required_within("target", what, 1e-6..=1e9);
        let signal = fields.or("signal", standard::UTILIZATION.to_owned());
        let dead_band = fields.or_within("dead_band", Self::DEAD_BAND, 0.0..=0.9);
        let to_zero = fields.or("to_zero", false);
        Some(Self {
            signal,
            target: target?,
            dead_band,
            to_zero,
        })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        vec![Demand {
            signal: &self.signal,
            key: "signal",
            needs: Needs::Proportional,
        }]
    }

    pub(super) fn opinion(&self, view: &View<'_>) -> Opinion {
        let least = u32::from(!self.to_zero);
        if view.ready == 0 {
            return Self::without_ready(view.current, least);
        }
        if !(self.target > 0.0) {
            return Opinion::abstain("target", Absence::NotANumber);
        }
        match view.sample(&self.signal) {
            Ok(sample) => self.from_reading(sample.value, view, least),
            Err(absence) => Opinion::abstain(&self.signal, absence),
        }
    }

    fn without_ready(current: u32, least: u32) -> Opinion {
        let why = match (current, least) {
            (0, 0) => "no instance to measure; leaves the start to another policy".to_owned(),
            (0, _) => "no instance to measure, so one is needed".to_owned(),
            _ => {
                format!("none of {current} instances is ready yet, so there is nothing to measure")
            }
        };
        Opinion::instances(current.max(least), why)
    }

    fn from_reading(&self, reading: f64, view: &View<'_>, least: u32) -> Opinion {
        let (ready, current) = (view.ready, view.current);
        let ratio = reading / self.target;
        let share = format!("{} {reading} of target {}", self.signal, self.target);
        if (ratio - 1.0).abs() <= self.dead_band {
            let why = format!("{share}: within {} of it", self.dead_band);
            return Opinion::instances(current, why);
        }
        let needed = rounding::up(f64::from(ready) * ratio);
        let wish = if ratio > 1.0 {
            needed.max(current)
        } else {
            needed.min(current).max(least)
        };
        Opinion::instances(wish, format!("{share} on {ready} ready: {needed} needed"))
    }
}
