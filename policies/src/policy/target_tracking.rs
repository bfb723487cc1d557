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

use super::rounding::{DUST, text};
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
        if self.target.is_nan() || self.target <= 0.0 {
            return Opinion::abstain("target", Absence::NotANumber);
        }
        match view.sample(&self.signal) {
            Ok(sample) => self.wish_at(sample.value, view, least),
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

    fn wish_at(&self, reading: f64, view: &View<'_>, least: u32) -> Opinion {
        let (ready, current) = (view.ready, view.current);
        let ratio = reading / self.target;
        let share = format!(
            "{} {} of target {}",
            self.signal,
            text(reading),
            text(self.target)
        );
        if (ratio - 1.0).abs() <= self.dead_band + DUST {
            let why = format!("{share}: near enough");
            return Opinion::instances(current, why);
        }
        let needed = rounding::up(f64::from(ready) * ratio);
        let (wish, note) = if ratio > 1.0 {
            let note = if needed < current {
                ", and enough on their way"
            } else {
                ""
            };
            (needed.max(current), note)
        } else {
            let note = if needed < least {
                ", and one to measure"
            } else {
                ""
            };
            (needed.min(current).max(least), note)
        };
        Opinion::instances(
            wish,
            format!("{share} on {ready} ready: {needed} needed{note}"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::policy::testing::{Row, absent, partial, present, table};
    use expect_test::expect;

    fn rule(target: f64) -> Policy {
        Policy::TargetTracking(TargetTracking::new(target))
    }

    #[test]
    fn brings_the_signal_to_its_target() {
        let busy = |share| [present("utilization", share)];
        table(
            &rule(0.7),
            &[
                (10, 10, &busy(0.7)),
                (10, 10, &busy(0.77)),
                (10, 10, &busy(0.78)),
                (10, 10, &busy(0.63)),
                (10, 10, &busy(0.62)),
                (7, 7, &busy(0.8)),
                (14, 14, &busy(1.0)),
                (10, 10, &busy(0.35)),
                (10, 10, &busy(0.0001)),
                (10, 10, &busy(0.0)),
                (1, 1, &busy(0.1)),
                (10, 10, &busy(1e300)),
            ],
            &expect![[r#"
                10/10 -> 10  utilization 0.7 of target 0.7: near enough
                10/10 -> 10  utilization 0.77 of target 0.7: near enough
                10/10 -> 12  utilization 0.78 of target 0.7 on 10 ready: 12 needed
                10/10 -> 10  utilization 0.63 of target 0.7: near enough
                10/10 -> 9  utilization 0.62 of target 0.7 on 10 ready: 9 needed
                7/7 -> 8  utilization 0.8 of target 0.7 on 7 ready: 8 needed
                14/14 -> 20  utilization 1 of target 0.7 on 14 ready: 20 needed
                10/10 -> 5  utilization 0.35 of target 0.7 on 10 ready: 5 needed
                10/10 -> 1  utilization 0.0001 of target 0.7 on 10 ready: 1 needed
                10/10 -> 1  utilization 0 of target 0.7 on 10 ready: 0 needed, and one to measure
                1/1 -> 1  utilization 0.1 of target 0.7 on 1 ready: 1 needed
                10/10 -> 4294967295  utilization 1e300 of target 0.7 on 10 ready: 4294967295 needed
            "#]],
        );
    }

    #[test]
    fn booting_instances_are_bought_already() {
        let busy = |share| [present("utilization", share)];
        table(
            &rule(0.5),
            &[
                (10, 12, &busy(1.0)),
                (10, 20, &busy(1.0)),
                (10, 30, &busy(1.0)),
                (10, 30, &busy(0.5)),
                (10, 30, &busy(0.2)),
            ],
            &expect![[r#"
                10/12 -> 20  utilization 1 of target 0.5 on 10 ready: 20 needed
                10/20 -> 20  utilization 1 of target 0.5 on 10 ready: 20 needed
                10/30 -> 30  utilization 1 of target 0.5 on 10 ready: 20 needed, and enough on their way
                10/30 -> 30  utilization 0.5 of target 0.5: near enough
                10/30 -> 4  utilization 0.2 of target 0.5 on 10 ready: 4 needed
            "#]],
        );
    }

    #[test]
    fn without_a_ready_instance_nothing_is_measured() {
        let empty_allowed = TargetTracking {
            to_zero: true,
            ..TargetTracking::new(0.5)
        };
        let rows: &[Row<'_>] = &[
            (0, 0, &[]),
            (0, 4, &[absent("utilization")]),
            (0, 4, &[present("utilization", 1.0)]),
            (4, 4, &[present("utilization", 0.0)]),
        ];
        table(
            &rule(0.5),
            rows,
            &expect![[r#"
                0/0 -> 1  no instance to measure, so one is needed
                0/4 -> 4  none of 4 instances is ready yet, so there is nothing to measure
                0/4 -> 4  none of 4 instances is ready yet, so there is nothing to measure
                4/4 -> 1  utilization 0 of target 0.5 on 4 ready: 0 needed, and one to measure
            "#]],
        );
        table(
            &Policy::TargetTracking(empty_allowed),
            rows,
            &expect![[r#"
            0/0 -> 0  no instance to measure; leaves the start to another policy
            0/4 -> 4  none of 4 instances is ready yet, so there is nothing to measure
            0/4 -> 4  none of 4 instances is ready yet, so there is nothing to measure
            4/4 -> 0  utilization 0 of target 0.5 on 4 ready: 0 needed
        "#]],
        );
    }

    #[test]
    fn absent_and_partial_readings_never_shrink() {
        table(
            &rule(0.5),
            &[
                (4, 4, &[]),
                (4, 4, &[absent("utilization")]),
                (4, 4, &[present("utilization", f64::INFINITY)]),
                (4, 4, &[partial("utilization", 0.1)]),
                (4, 4, &[partial("utilization", 0.9)]),
            ],
            &expect![[r#"
                4/4 -> abstains  no reading of `utilization`: no source
                4/4 -> abstains  no reading of `utilization`: no data
                4/4 -> abstains  no reading of `utilization`: not a usable number
                4/4 -> 4  utilization 0.1 of target 0.5 on 4 ready: 1 needed; but `utilization` is partial, so not below 4
                4/4 -> 8  utilization 0.9 of target 0.5 on 4 ready: 8 needed
            "#]],
        );
        table(
            &rule(f64::NAN),
            &[(4, 4, &[present("utilization", 0.1)])],
            &expect![[r#"
                4/4 -> abstains  no reading of `target`: not a usable number
            "#]],
        );
        table(
            &rule(0.0),
            &[(4, 4, &[present("utilization", 0.1)])],
            &expect![[r#"
                4/4 -> abstains  no reading of `target`: not a usable number
            "#]],
        );
    }

    #[test]
    fn a_dead_band_of_nothing_follows_exactly() {
        let rule = TargetTracking {
            dead_band: 0.0,
            ..TargetTracking::new(0.5)
        };
        table(
            &Policy::TargetTracking(rule),
            &[
                (10, 10, &[present("utilization", 0.5)]),
                (10, 10, &[present("utilization", 0.51)]),
                (10, 10, &[present("utilization", 0.44)]),
            ],
            &expect![[r#"
                10/10 -> 10  utilization 0.5 of target 0.5: near enough
                10/10 -> 11  utilization 0.51 of target 0.5 on 10 ready: 11 needed
                10/10 -> 9  utilization 0.44 of target 0.5 on 10 ready: 9 needed
            "#]],
        );
    }
}
