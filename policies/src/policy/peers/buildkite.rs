//! `kind = "buildkite"`: the Buildkite Agent Scaler.
//!
//! Every ten seconds, from jobs that are scheduled (wait for an agent), running,
//! and waiting (for a step before them):
//!
//! ```text
//! agents  = scheduled + running            (+ waiting instead of running, if
//!                                           include_waiting and more of them)
//! desired = ceil(agents / agents_per_instance)
//!         + min(ceil((scheduled + running [+ waiting]) / agents_per_instance),
//!               instance_buffer)           if there is any job
//! change  = desired - what was asked for last, times scale_out_factor rounded
//!           up, or times scale_in_factor rounded down
//! ```
//!
//! Growing is not after less than `scale_out_cooldown`, shrinking not after less
//! than `scale_in_cooldown` of the last. With `disable_scale_in`, as in Buildkite's
//! own stack, the scaler never shrinks: an agent that was idle for `idle_period`
//! ends its instance.
//!
//! Source: `scaler/scaling_calculator.go`, `scaler/scaler.go` and `main.go` of
//! <https://github.com/buildkite/buildkite-agent-scaler>; the stack's defaults
//! from <https://github.com/buildkite/elastic-ci-stack-for-aws>. Its elastic mode
//! (availability of agents, dangling instances) is left out: the house looks
//! after instances that do not come up.
//!
//! Flaws kept: the number of agents on an instance is assumed and never
//! observed. No more than 1,000 instances are ever asked for.
//!
//! | key | meaning |
//! |---|---|
//! | `agents_per_instance` | default 1, to 1000 |
//! | `instance_buffer` | default 0, to 1000 |
//! | `signal`, `in_flight_signal` | scheduled and running jobs; default `"backlog"` and `"in_flight"` |
//! | `waiting_signal` | waiting jobs, a total; makes it include them; none by default |
//! | `scale_out_factor`, `scale_in_factor` | default 1, 0.01 to 100 |
//! | `scale_out_cooldown`, `scale_in_cooldown` | default `"0s"` and `"1h"` |
//! | `disable_scale_in` | default `true` |
//! | `idle_period` | default `"10m"`, to `"24h"` |

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::autoscale_delayed_off::long_idle;
use super::kit::Cadence;
use super::taskscaler::{jobs, jobs_demands};
use super::{Demand, Needs, Opinion, View};
use crate::fields::Fields;
use crate::policy::rounding::{self, text};
use crate::signal::standard;
use crate::units::Timestamp;

/// The Buildkite Agent Scaler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Buildkite {
    /// What counts scheduled jobs. A total.
    pub signal: String,
    /// What counts running jobs. A total.
    pub in_flight_signal: String,
    /// What counts waiting jobs, if they are included. A total.
    pub waiting_signal: Option<String>,
    /// Agents on an instance.
    pub agents_per_instance: u32,
    /// Instances on top.
    pub instance_buffer: u32,
    /// What growing is multiplied by, and for how long not again.
    pub scale_out: Scale,
    /// What shrinking is multiplied by, and for how long not again.
    pub scale_in: Scale,
    /// Whether only idle agents end instances.
    pub disable_scale_in: bool,
    /// After how long they do.
    pub idle_period: Duration,
}

/// How one direction is taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// What a change is multiplied by.
    pub factor: f64,
    /// For how long there is no other.
    pub cooldown: Duration,
}

/// How often it looks.
const POLL: Duration = Duration::from_secs(10);

/// The most it ever asks for.
const ASKED_MAX: u32 = 1_000;

/// What the scaler remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    polls: Cadence,
    grown_at: Option<Timestamp>,
    shrunk_at: Option<Timestamp>,
}

impl Buildkite {
    #[expect(clippy::unnecessary_wraps, reason = "as every other peer")]
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let day = || Duration::ZERO..=Duration::from_hours(24);
        let factor = || 0.01..=100.0;
        Some(Self {
            signal: fields.or("signal", standard::BACKLOG.to_owned()),
            in_flight_signal: fields.or("in_flight_signal", standard::IN_FLIGHT.to_owned()),
            waiting_signal: fields.optional("waiting_signal"),
            agents_per_instance: fields.or_within("agents_per_instance", 1, 1..=ASKED_MAX),
            instance_buffer: fields.or_within("instance_buffer", 0, 0..=ASKED_MAX),
            scale_out: Scale {
                factor: fields.or_within("scale_out_factor", 1.0, factor()),
                cooldown: fields.or_within("scale_out_cooldown", Duration::ZERO, day()),
            },
            scale_in: Scale {
                factor: fields.or_within("scale_in_factor", 1.0, factor()),
                cooldown: fields.or_within("scale_in_cooldown", Duration::from_hours(1), day()),
            },
            disable_scale_in: fields.or("disable_scale_in", true),
            idle_period: fields.or_within("idle_period", Duration::from_mins(10), day()),
        })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        let mut demands = jobs_demands(&self.signal, &self.in_flight_signal);
        demands.extend(self.waiting_signal.as_deref().map(|signal| Demand {
            signal,
            key: "waiting_signal",
            needs: Needs::Total,
        }));
        demands
    }

    pub(super) fn step(&self, notes: &mut Notes, view: &View<'_>) -> Option<Opinion> {
        let (scheduled, running) = match jobs(view, &self.signal, &self.in_flight_signal) {
            Ok(jobs) => jobs,
            Err(abstention) => return Some(abstention),
        };
        let waiting = match &self.waiting_signal {
            Some(signal) => match view.sample(signal) {
                Ok(sample) => sample.value,
                Err(absence) => return Some(Opinion::abstain(signal, absence)),
            },
            None => 0.0,
        };
        if !notes.polls.due(view.now, POLL) {
            return None;
        }
        let agents = scheduled + running.max(waiting);
        let instances = |jobs: f64| {
            rounding::up(jobs / f64::from(self.agents_per_instance)).min(ASKED_MAX)
        };
        let buffer = instances(scheduled + running + waiting).min(self.instance_buffer);
        let needed = instances(agents) + buffer;
        let (there, asked) = (view.current, view.desired);
        let shown = format!("{} agents needed: {needed} instances", text(agents));
        let change = f64::from(needed) - f64::from(asked);
        let apply = |change: f64| rounding::floor((f64::from(asked) + change).max(0.0));
        let cool = |at: Option<Timestamp>, scale: Scale| {
            at.is_none_or(|at| view.now.since(at) >= scale.cooldown)
        };
        if needed > there {
            if !cool(notes.grown_at, self.scale_out) {
                let why = format!("{shown}; cooling down");
                return Some(Opinion::instances(asked, why));
            }
            notes.grown_at = Some(view.now);
            let size = apply((change * self.scale_out.factor).ceil());
            return Some(Opinion::instances(size, shown));
        }
        if self.disable_scale_in {
            let ended = long_idle(view, self.idle_period);
            let size = needed.max(there.saturating_sub(ended));
            let why = format!("{shown}; {ended} ended themselves");
            return Some(Opinion::instances(size, why));
        }
        if needed < there && cool(notes.shrunk_at, self.scale_in) {
            notes.shrunk_at = Some(view.now);
            let size = apply((change * self.scale_in.factor).floor());
            return Some(Opinion::instances(size, shown));
        }
        Some(Opinion::instances(asked, shown))
    }
}
