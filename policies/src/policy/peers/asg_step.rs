//! `kind = "asg_step"`: Amazon EC2 Auto Scaling's step and simple scaling.
//!
//! One point of the metric each `period`, the mean of what was read in it. When
//! the last `points` are all at or above the lowest `above`, or all at or below
//! the highest `below`, the step of the newest point applies
//! ([`crate::policy::Step`]: the same bounds and the same rounding as Amazon's).
//!
//! ```text
//! step scaling:   out  desired = max(desired, step(desired - warming up))
//!                 in   desired = step(desired), unless any instance warms up
//! simple scaling (cooldown):
//!                 desired = step(desired), then nothing for the cooldown
//! ```
//!
//! So while instances warm up only the difference to a higher step is added.
//!
//! Source: <https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-simple-step.html>,
//! whose examples the preset has (steps at 60, 75 and 85 %; two points of two
//! minutes); <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-scaling-cooldowns.html>
//! (default cooldown 300 s, from the end of the activity; here from the
//! decision). A missing point ends a row, so there is no alarm.
//!
//! Flaws kept: steps know no target, so a size that fits is found by luck. A
//! warm-up shorter than a boot buys the same step again.
//!
//! | key | meaning |
//! |---|---|
//! | `signal`, `[[policy.step]]` | as in `kind = "step"` |
//! | `period` | default `"60s"`, `"10s"` to `"1h"` |
//! | `points` | default 2, 1 to 100 |
//! | `warmup` | default `"300s"`, to `"1h"` |
//! | `cooldown` | makes it simple scaling; none by default |

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::asg_target_tracking::{hold, in_service, read_warmup};
use super::kit::{Cadence, Mean};
use super::{Demand, Needs, Opinion, View};
use crate::fields::Fields;
use crate::policy::rounding::text;
use crate::policy::{Step, Threshold};
use crate::units::Timestamp;

/// Amazon's step scaling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AsgStep {
    /// The signal and the steps.
    pub rule: Step,
    /// How long a point is.
    pub period: Duration,
    /// How many points in a row.
    pub points: u32,
    /// For how long a ready instance warms up.
    pub warmup: Duration,
    /// For how long nothing is done after a change; simple scaling if set.
    pub cooldown: Option<Duration>,
}

/// What Amazon remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    cadence: Cadence,
    mean: Mean,
    /// The newest last.
    points: VecDeque<f64>,
    changed_at: Option<Timestamp>,
}

impl AsgStep {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let rule = Step::read(fields);
        let bounds = Duration::from_secs(10)..=Duration::from_hours(1);
        let period = fields.or_within("period", Duration::from_mins(1), bounds);
        let points = fields.or_within("points", 2, 1..=100);
        let bounds = Duration::ZERO..=Duration::from_hours(24);
        let cooldown = fields.optional_within("cooldown", bounds);
        if cooldown.is_some() && fields.has("warmup") {
            let message = "is for step scaling, and `cooldown` makes it simple scaling; remove one";
            fields.problem("warmup", message);
        }
        let warmup = read_warmup(fields);
        Some(Self {
            rule: rule?,
            period,
            points,
            warmup,
            cooldown,
        })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        vec![Demand {
            signal: &self.rule.signal,
            key: "signal",
            needs: Needs::Level,
        }]
    }

    pub(super) fn step(&self, notes: &mut Notes, view: &View<'_>) -> Option<Opinion> {
        let sample = view.sample(&self.rule.signal);
        if let Ok(sample) = &sample {
            notes.mean.add(sample.value, sample.at);
        }
        if !notes.cadence.due(view.now, self.period) {
            return None;
        }
        let Some(point) = notes.mean.take() else {
            notes.points.clear();
            let absence = sample.err()?;
            return Some(Opinion::abstain(&self.rule.signal, absence));
        };
        notes.points.push_back(point);
        while notes.points.len() > usize::try_from(self.points).unwrap_or(usize::MAX) {
            notes.points.pop_front();
        }
        let shown = format!("{} {}", self.rule.signal, text(point));
        let Some(way) = self.alarm(&notes.points) else {
            return Some(hold(view, &format!("{shown}: no alarm")));
        };
        let Some(rung) = self.rule.rung_at(point) else {
            return Some(hold(view, &format!("{shown}: no step")));
        };
        let desired = view.desired;
        let warming = view.current.saturating_sub(in_service(view, self.warmup));
        let wish = match (self.cooldown, way) {
            (Some(cooldown), _) => {
                let cool = notes
                    .changed_at
                    .is_none_or(|at| view.now.since(at) >= cooldown);
                if !cool {
                    return Some(hold(view, &format!("{shown}: cooling down")));
                }
                rung.change.apply(desired)
            }
            (None, Way::Out) => {
                let stepped = rung.change.apply(desired.saturating_sub(warming));
                desired.max(stepped)
            }
            (None, Way::In) if warming > 0 => {
                return Some(hold(view, &format!("{shown}: instances warm up")));
            }
            (None, Way::In) => rung.change.apply(desired).min(desired),
        };
        if wish != desired {
            notes.changed_at = Some(view.now);
        }
        let why = format!("{shown}: step of {desired}, {warming} of them warming up");
        Some(Opinion::instances(wish, why))
    }

    /// Which alarm goes off, if one does.
    fn alarm(&self, points: &VecDeque<f64>) -> Option<Way> {
        if u32::try_from(points.len()).unwrap_or(u32::MAX) < self.points {
            return None;
        }
        let bounds = |pick: fn(Threshold) -> Option<f64>| {
            let rungs = self.rule.steps.iter();
            rungs.filter_map(move |rung| pick(rung.when))
        };
        let above = bounds(|when| match when {
            Threshold::Above(bound) => Some(bound),
            Threshold::Below(_) => None,
        });
        let below = bounds(|when| match when {
            Threshold::Below(bound) => Some(bound),
            Threshold::Above(_) => None,
        });
        let lowest = above.reduce(f64::min);
        let highest = below.reduce(f64::max);
        if lowest.is_some_and(|bound| points.iter().all(|point| *point >= bound)) {
            Some(Way::Out)
        } else if highest.is_some_and(|bound| points.iter().all(|point| *point <= bound)) {
            Some(Way::In)
        } else {
            None
        }
    }
}

/// Which way an alarm points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Out,
    In,
}
