//! `kind = "step"`: more or fewer instances when a signal crosses thresholds.
//!
//! Each step has one threshold and one change. As with Amazon's step scaling:
//!
//! - `above = X` applies from `X` (included) to the next higher `above`
//!   (excluded); `below = Y` from `Y` (included) down to the next lower
//!   `below` (excluded). Between the highest `below` and the lowest `above`
//!   nothing changes. So steps cannot overlap, and nothing is left out.
//! - `change` adds or removes that many; `exact` sets the number; `percent`
//!   changes by a share of the fleet, and by at least `change_min` instances.
//! - A share is rounded towards zero, but never to zero: 7.9 is 7, 0.4 is 1,
//!   -0.4 is -1, -7.9 is -7.
//!
//! Changes are relative to `current`, booting instances included, and are
//! asked for again every cycle while the reading stays there. `grow_settle`
//! in the fleet's limits paces that: set it to about the boot time.
//!
//! An absent reading: the rule abstains.

use serde::{Deserialize, Serialize};

use super::{Demand, Needs, Opinion, View, rounding};

/// More or fewer instances when a signal crosses thresholds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The signal; any kind but counter.
    pub signal: String,
    /// The steps, in any order.
    pub steps: Vec<Rung>,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// Where it begins.
    pub when: Threshold,
    /// What it does.
    pub change: Change,
}

/// Where a step begins.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    /// At this reading and above.
    Above(f64),
    /// At this reading and below.
    Below(f64),
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// This many more; fewer if negative.
    By(i32),
    /// This share of `current` more, in percent; fewer if negative.
    Percent {
        /// The share.
        percent: f64,
        /// The least change it makes, in instances.
        change_min: u32,
    },
    /// This many.
    Exact(u32),
}

impl Change {
    /// A share of no instances is none; without a least change a fleet that
    /// grows by shares could never leave zero.
    pub const CHANGE_MIN: u32 = 1;

    /// The number of instances it makes of `current`.
    pub fn apply(self, current: u32) -> u32 {
        match self {
            Self::By(count) => current.saturating_add_signed(count),
            Self::Exact(count) => count,
            Self::Percent {
                percent,
                change_min,
            } => {
                let share = f64::from(current) * percent / 100.0;
                let nonzero = u32::from(share != 0.0);
                let size = rounding::down(share.abs()).max(nonzero).max(change_min);
                if percent > 0.0 {
                    current.saturating_add(size)
                } else if percent < 0.0 {
                    current.saturating_sub(size)
                } else {
                    current
                }
            }
        }
    }
}

impl Step {
    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        vec![Demand {
            signal: &self.signal,
            key: "signal",
            needs: Needs::Level,
        }]
    }

    pub(super) fn opinion(&self, view: &View<'_>) -> Opinion {
        let reading = match view.sample(&self.signal) {
            Ok(sample) => sample.value,
            Err(absence) => return Opinion::abstain(&self.signal, absence),
        };
        let Some(rung) = self.rung_at(reading) else {
            let why = format!("{} {reading}: between the steps", self.signal);
            return Opinion::instances(view.current, why);
        };
        let (word, bound) = match rung.when {
            Threshold::Above(bound) => ("above", bound),
            Threshold::Below(bound) => ("below", bound),
        };
        Opinion::instances(
            rung.change.apply(view.current),
            format!("{} {reading}: step {word} {bound}", self.signal),
        )
    }

    /// The step that applies at `reading`: the highest `above` it reaches,
    /// else the lowest `below` it reaches.
    fn rung_at(&self, reading: f64) -> Option<&Rung> {
        let mut above: Option<(f64, &Rung)> = None;
        let mut below: Option<(f64, &Rung)> = None;
        for rung in &self.steps {
            match rung.when {
                Threshold::Above(bound) => {
                    if reading >= bound && above.is_none_or(|(best, _)| bound > best) {
                        above = Some((bound, rung));
                    }
                }
                Threshold::Below(bound) => {
                    if reading <= bound && below.is_none_or(|(best, _)| bound < best) {
                        below = Some((bound, rung));
                    }
                }
            }
        }
        above.or(below).map(|(_, rung)| rung)
    }
}
