//! `kind = "clusterman"`: Yelp's Clusterman.
//!
//! A signal turns metrics into a request for resources; here the request is the
//! jobs at hand, and an instance provides its slots.
//!
//! ```text
//! no request                     ->  0
//! target 0                       ->  1, to get some data
//! nothing has joined yet         ->  target
//! new = joined * (request / (joined * slots)) / setpoint
//! |new - target| / target >= setpoint_margin  ->  new, else target
//! ```
//!
//! and no more than `max_weight_to_add` above or `max_weight_to_remove` below
//! the target at a time. `target` is what the fleet was last brought to. With
//! `instance_loss_threshold` nothing is let go while more than that many of it
//! are missing.
//!
//! Source: `clusterman/autoscaler/autoscaler.py` and `config.py` of
//! <https://github.com/Yelp/clusterman>. Capacities are decimal there; here the
//! wish is rounded up.
//!
//! Flaws kept: what waits is requested at the setpoint too, so a queue buys 1 /
//! setpoint of what it needs. Within the margin the fleet stays too large for
//! ever.
//!
//! | key | meaning |
//! |---|---|
//! | `setpoint` | default 0.7, 0.01 to 1 |
//! | `setpoint_margin` | default 0.1, 0 to 1 |
//! | `period` | how often its signal is evaluated; default `"60s"`, to `"24h"` |
//! | `max_weight_to_add`, `max_weight_to_remove` | default 100 |
//! | `instance_loss_threshold` | none by default |
//! | `signal`, `in_flight_signal` | default `"backlog"` and `"in_flight"` |

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kit::Cadence;
use super::taskscaler::{jobs, jobs_demands};
use super::{Demand, Opinion, View};
use crate::fields::Fields;
use crate::policy::INSTANCES_MAX;
use crate::policy::rounding::{self, text};
use crate::signal::standard;

/// Yelp's Clusterman.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clusterman {
    /// What counts waiting jobs. A total.
    pub signal: String,
    /// What counts jobs that run. A total.
    pub in_flight_signal: String,
    /// The share of slots that should be in use.
    pub setpoint: f64,
    /// How far the target moves at least, as a share of it.
    pub setpoint_margin: f64,
    /// How often it looks.
    pub period: Duration,
    /// The most that is added at a time.
    pub max_weight_to_add: u32,
    /// The most that is removed at a time.
    pub max_weight_to_remove: u32,
    /// How many may be missing before nothing is let go.
    pub instance_loss_threshold: Option<u32>,
}

/// What it remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    runs: Cadence,
}

impl Clusterman {
    #[expect(clippy::unnecessary_wraps, reason = "as every other peer")]
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let period = Duration::from_secs(1)..=Duration::from_hours(24);
        let weight = || 1..=INSTANCES_MAX;
        Some(Self {
            signal: fields.or("signal", standard::BACKLOG.to_owned()),
            in_flight_signal: fields.or("in_flight_signal", standard::IN_FLIGHT.to_owned()),
            setpoint: fields.or_within("setpoint", 0.7, 0.01..=1.0),
            setpoint_margin: fields.or_within("setpoint_margin", 0.1, 0.0..=1.0),
            period: fields.or_within("period", Duration::from_mins(1), period),
            max_weight_to_add: fields.or_within("max_weight_to_add", 100, weight()),
            max_weight_to_remove: fields.or_within("max_weight_to_remove", 100, weight()),
            instance_loss_threshold: fields
                .optional_within("instance_loss_threshold", 0..=INSTANCES_MAX),
        })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        jobs_demands(&self.signal, &self.in_flight_signal)
    }

    pub(super) fn step(&self, notes: &mut Notes, view: &View<'_>) -> Option<Opinion> {
        let (waiting, running) = match jobs(view, &self.signal, &self.in_flight_signal) {
            Ok(jobs) => jobs,
            Err(abstention) => return Some(abstention),
        };
        if !notes.runs.due(view.now, self.period) {
            return None;
        }
        let target = view.desired;
        let request = waiting + running;
        let shown = format!("{} slots requested", text(request));
        let say = |size: u32, note: &str| Some(Opinion::instances(size, format!("{shown}{note}")));
        let bounded = |size: u32| {
            let least = target.saturating_sub(self.max_weight_to_remove);
            size.clamp(least, target.saturating_add(self.max_weight_to_add))
        };
        if request <= 0.0 {
            return say(bounded(0), "");
        }
        if target == 0 {
            return say(1, ": one to get some data");
        }
        if view.ready == 0 {
            return say(target, ", and nothing has joined yet");
        }
        let joined = f64::from(view.ready);
        let usage = request / (joined * f64::from(view.slots.max(1)));
        let new = joined * (usage / self.setpoint);
        let distance = (new - f64::from(target)).abs() / f64::from(target);
        if distance < self.setpoint_margin {
            return say(target, ": within the margin");
        }
        let size = bounded(rounding::up(new));
        let lost = target.saturating_sub(view.current);
        if size < target && self.instance_loss_threshold.is_some_and(|most| lost > most) {
            return say(target, &format!(", but {lost} instances were lost"));
        }
        say(size, "")
    }
}
