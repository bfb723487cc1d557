//! `kind = "nomad_threshold"`: the Nomad Autoscaler's `threshold` strategy.
//!
//! Every `evaluation_interval` (10 s), unless in cooldown, each check counts the
//! samples of the last `query_window` (one minute) in its range, and acts if
//! they are enough:
//!
//! ```text
//! at least within_bounds_trigger samples with lower_bound <= sample < upper_bound
//!     delta       ->  count + delta
//!     percentage  ->  ceil(count * (1 + percentage / 100))
//!     value       ->  value
//! ```
//!
//! Of several checks that act the one that grows wins, and of those of one
//! direction the larger count; checks that do not act have no say, as in one
//! `group` of checks. A change is followed by a `cooldown` of five minutes.
//!
//! Source: `plugins/builtin/strategy/threshold/plugin/plugin.go`,
//! `policy/handler.go` and `sdk/strategy.go` of
//! <https://github.com/hashicorp/nomad-autoscaler>;
//! <https://developer.hashicorp.com/nomad/tools/autoscaling/plugins/strategy/threshold>.
//!
//! The samples are the readings windlass has made, at most one a cycle: with an
//! interval of a minute five of them need a `query_window` of five minutes.
//!
//! Flaws kept: rounding up both ways, so that -10 % of one to nine is no change
//! at all; five samples out of a minute may be old news.
//!
//! | key | meaning |
//! |---|---|
//! | `signal` | mandatory, any but a counter |
//! | `query_window` | default `"1m"`, to `"1h"` |
//! | `evaluation_interval`, `cooldown`, `cooldown_on_scale_up` | as in `kind = "nomad_target_value"` |
//! | `[[policy.check]]` | at least one, each with: |
//! | `lower_bound`, `upper_bound` | at least one of them; the lower is in the range, the upper is not |
//! | `within_bounds_trigger` | default 5, 1 to 100 |
//! | `delta`, `percentage`, `value` | one of them |

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::nomad_target_value::{Pace, PaceNotes};
use super::{Demand, Needs, Opinion, View};
use crate::fields::Fields;
use crate::policy::INSTANCES_MAX;
use crate::policy::rounding::{self, text};
use crate::units::Timestamp;

/// The `threshold` strategy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NomadThreshold {
    /// The signal.
    pub signal: String,
    /// How far back samples count.
    pub query_window: Duration,
    /// When it evaluates.
    pub pace: Pace,
    /// The checks, all of one group.
    pub checks: Vec<Check>,
}

/// One range, and what is done there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// In the range.
    pub lower_bound: Option<f64>,
    /// Not in the range.
    pub upper_bound: Option<f64>,
    /// Samples in the range before it acts.
    pub within_bounds_trigger: u32,
    /// What it does.
    pub action: CheckAction,
}

/// What a check does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckAction {
    /// So many more, or fewer.
    Delta(i32),
    /// This share more, or less, in percent.
    Percentage(f64),
    /// This many.
    Value(u32),
}

/// The most samples that are kept.
const SAMPLES_MAX: usize = 400;

/// What Nomad remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    pace: PaceNotes,
    samples: VecDeque<(Timestamp, f64)>,
}

impl Check {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let bounds = || -1e15..=1e15;
        let lower_bound = fields.optional_within("lower_bound", bounds());
        let upper_bound = fields.optional_within("upper_bound", bounds());
        if !fields.has("lower_bound") && !fields.has("upper_bound") {
            fields.problem_here("has no range; write `lower_bound`, `upper_bound` or both");
        }
        if let (Some(lower), Some(upper)) = (lower_bound, upper_bound)
            && lower >= upper
        {
            let message = format!("{} is not below upper_bound ({})", text(lower), text(upper));
            fields.problem("lower_bound", message);
        }
        let within_bounds_trigger = fields.or_within("within_bounds_trigger", 5, 1..=100);
        let keys = ["delta", "percentage", "value"].map(|key| fields.has(key));
        let delta = fields.optional("delta").map(CheckAction::Delta);
        let percentage = fields.optional_within("percentage", -100.0..=1e6);
        let value = fields.optional_within("value", 0..=INSTANCES_MAX);
        if keys.iter().filter(|has| **has).count() != 1 {
            fields.problem_here("has one of `delta`, `percentage` and `value`; write just one");
        }
        let action = delta
            .or(percentage.map(CheckAction::Percentage))
            .or(value.map(CheckAction::Value))?;
        Some(Self {
            lower_bound,
            upper_bound,
            within_bounds_trigger,
            action,
        })
    }

    fn holds(&self, sample: f64) -> bool {
        self.lower_bound.is_none_or(|lower| sample >= lower)
            && self.upper_bound.is_none_or(|upper| sample < upper)
    }

    pub(super) fn apply(&self, count: u32) -> u32 {
        match self.action {
            CheckAction::Delta(delta) => count.saturating_add_signed(delta),
            CheckAction::Percentage(share) => {
                rounding::ceil(f64::from(count) * (1.0 + share / 100.0))
            }
            CheckAction::Value(value) => value,
        }
    }
}

impl NomadThreshold {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let signal = fields.required("signal", "the signal to watch, such as \"oldest_age\"");
        if !fields.has("check") {
            fields.problem("check", "missing; write at least one [[policy.check]]");
        }
        let checks = fields.tables("check", Check::read);
        let bounds = Duration::from_secs(1)..=Duration::from_hours(1);
        let query_window = fields.or_within("query_window", Duration::from_mins(1), bounds);
        let pace = Pace::read(fields);
        Some(Self {
            signal: signal?,
            query_window,
            pace,
            checks,
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
        let sample = match view.sample(&self.signal) {
            Ok(sample) => sample,
            Err(absence) => return Some(Opinion::abstain(&self.signal, absence)),
        };
        if notes.samples.back().is_none_or(|(at, _)| sample.at > *at) {
            notes.samples.push_back((sample.at, sample.value));
        }
        let newest = sample.at;
        let window = self.query_window;
        notes.samples.retain(|(at, _)| newest.since(*at) < window);
        while notes.samples.len() > SAMPLES_MAX {
            notes.samples.pop_front();
        }
        if !self.pace.due(&mut notes.pace, view.now) {
            return None;
        }
        let count = view.desired;
        let mut wish: Option<u32> = None;
        for check in &self.checks {
            let inside = notes.samples.iter().filter(|(_, value)| check.holds(*value));
            let inside = u32::try_from(inside.count()).unwrap_or(u32::MAX);
            if inside < check.within_bounds_trigger {
                continue;
            }
            let size = check.apply(count);
            if size != count {
                // What grows is the larger, and beats what shrinks.
                wish = Some(wish.map_or(size, |other| other.max(size)));
            }
        }
        let wish = wish.unwrap_or(count);
        self.pace.changed(&mut notes.pace, view.now, count, wish);
        let why = format!(
            "{} {}: {} samples of the last {} s on {count}",
            self.signal,
            text(sample.value),
            notes.samples.len(),
            window.as_secs()
        );
        Some(Opinion::instances(wish, why))
    }
}
