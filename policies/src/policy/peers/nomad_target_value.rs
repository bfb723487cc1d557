//! `kind = "nomad_target_value"`: the Nomad Autoscaler's `target-value` strategy.
//!
//! Every `evaluation_interval` (10 s), unless in cooldown, with `count` what the
//! fleet was last brought to:
//!
//! ```text
//! factor = reading / target          (= reading if target is 0)
//! count > 0, 1 - threshold <= factor <= 1 + threshold  ->  count
//! otherwise  ceil(count * factor)    (ceil(factor) if count is 0)
//! ```
//!
//! then no more than `max_scale_up` above and `max_scale_down` below `count`.
//! A change is followed by a `cooldown` of five minutes, in which nothing is
//! evaluated.
//!
//! Source: `plugins/builtin/strategy/target-value/plugin/plugin.go` and
//! `policy/handler.go` of <https://github.com/hashicorp/nomad-autoscaler>;
//! <https://developer.hashicorp.com/nomad/tools/autoscaling/plugins/strategy/target-value>.
//!
//! Flaws kept: any signal is taken, so with a total (a queue) a constant backlog
//! at twice the target doubles the fleet after every cooldown. `count` is what
//! was asked for and not what is there, so boots do not make it wait.
//!
//! | key | meaning |
//! |---|---|
//! | `target` | mandatory, 0 or more |
//! | `signal` | mandatory, any but a counter |
//! | `threshold` | default 0.01, 0 to 0.9 |
//! | `max_scale_up`, `max_scale_down` | default no limit |
//! | `evaluation_interval`, `cooldown` | default `"10s"` and `"5m"` |
//! | `cooldown_on_scale_up` | default `cooldown` |

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kit::Cadence;
use super::{Demand, Needs, Opinion, View};
use crate::fields::Fields;
use crate::policy::INSTANCES_MAX;
use crate::policy::rounding::{self, text};
use crate::units::Timestamp;

/// The `target-value` strategy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NomadTargetValue {
    /// The signal.
    pub signal: String,
    /// Where it should be.
    pub target: f64,
    /// How far off the factor may be from 1.
    pub threshold: f64,
    /// The most that is added at once.
    pub max_scale_up: Option<u32>,
    /// The most that is removed at once.
    pub max_scale_down: Option<u32>,
    /// When it evaluates.
    pub pace: Pace,
}

/// When a policy of Nomad is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// How often.
    pub evaluation_interval: Duration,
    /// For how long not after a change.
    pub cooldown: Duration,
    /// For how long not after growing.
    pub cooldown_on_scale_up: Duration,
}

/// When it was evaluated, and until when it is not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PaceNotes {
    cadence: Cadence,
    cool_at: Option<Timestamp>,
}

impl Pace {
    pub(super) fn read(fields: &mut Fields<'_>) -> Self {
        let bounds = || Duration::ZERO..=Duration::from_hours(24);
        let second = Duration::from_secs(1);
        let hour = Duration::from_hours(1);
        let cooldown = fields.or_within("cooldown", Duration::from_mins(5), bounds());
        Self {
            evaluation_interval: fields.or_within(
                "evaluation_interval",
                second * 10,
                second..=hour,
            ),
            cooldown,
            cooldown_on_scale_up: fields.or_within("cooldown_on_scale_up", cooldown, bounds()),
        }
    }

    /// Whether it is evaluated now.
    pub(super) fn due(&self, notes: &mut PaceNotes, now: Timestamp) -> bool {
        let cool = notes.cool_at.is_none_or(|at| now >= at);
        cool && notes.cadence.due(now, self.evaluation_interval)
    }

    /// Begins a cooldown if `wish` is a change of `count`.
    pub(super) fn changed(&self, notes: &mut PaceNotes, now: Timestamp, count: u32, wish: u32) {
        if wish > count {
            notes.cool_at = Some(now + self.cooldown_on_scale_up);
        } else if wish < count {
            notes.cool_at = Some(now + self.cooldown);
        }
    }
}

/// What Nomad remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    pace: PaceNotes,
}

impl NomadTargetValue {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let what = "where the signal should be, such as 0.7";
        let target = fields.required_within("target", what, 0.0..=1e9);
        let signal = fields.required("signal", "the signal to watch, such as \"utilization\"");
        let threshold = fields.or_within("threshold", 0.01, 0.0..=0.9);
        let max_scale_up = fields.optional_within("max_scale_up", 0..=INSTANCES_MAX);
        let max_scale_down = fields.optional_within("max_scale_down", 0..=INSTANCES_MAX);
        let pace = Pace::read(fields);
        Some(Self {
            signal: signal?,
            target: target?,
            threshold,
            max_scale_up,
            max_scale_down,
            pace,
        })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        vec![Demand {
            signal: &self.signal,
            key: "signal",
            needs: Needs::Level,
        }]
    }

    pub(super) fn step(&self, notes: &mut Notes, view: &View<'_>) -> Option<Opinion> {
        let reading = match view.sample(&self.signal) {
            Ok(sample) => sample.value,
            Err(absence) => return Some(Opinion::abstain(&self.signal, absence)),
        };
        if !self.pace.due(&mut notes.pace, view.now) {
            return None;
        }
        let count = view.desired;
        let factor = if self.target > 0.0 {
            reading / self.target
        } else {
            reading
        };
        let near = factor >= 1.0 - self.threshold && factor <= 1.0 + self.threshold;
        let wanted = match count {
            0 => rounding::ceil(factor),
            _ if near => count,
            _ => rounding::ceil(f64::from(count) * factor),
        };
        let most = self.max_scale_up.map_or(u32::MAX, |up| count.saturating_add(up));
        let least = self.max_scale_down.map_or(0, |down| count.saturating_sub(down));
        let wish = wanted.clamp(least, most);
        self.pace.changed(&mut notes.pace, view.now, count, wish);
        let why = format!(
            "{} {}: factor {} on {count}",
            self.signal,
            text(reading),
            text(factor)
        );
        Some(Opinion::instances(wish, why))
    }
}
