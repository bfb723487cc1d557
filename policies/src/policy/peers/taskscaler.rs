//! `kind = "taskscaler"`: the instance autoscaler of GitLab Runner.
//!
//! ```text
//! in use = in flight + backlog        a job that waits has reserved capacity
//! idle   = idle_count + min(ceil(scale_factor * in use), scale_factor_limit)
//! wish   = ceil((in use + idle) / capacity_per_instance)
//! ```
//!
//! Growing is at once. An instance is only let go once it was idle for
//! `idle_time`: the fleet shrinks by no more than there are such instances.
//!
//! Source: <https://docs.gitlab.com/runner/configuration/advanced-configuration/#the-runnersautoscaler-section>,
//! <https://docs.gitlab.com/runner/fleet_scaling/fleeting/>, and the state that
//! the runner logs as "required scaling change". Capacities count jobs, and not
//! instances; `scale_factor` is on top of `idle_count`, as the page says.
//!
//! Flaws kept: nothing bounds it but the fleet's own limits (`max_instances` is
//! unlimited by default). `idle_time` is the same for instances that were bought
//! for one burst and those in steady use. One flaw cannot be had here: an idle
//! instance that is wanted is ended there after `idle_time` and then bought
//! anew (<https://gitlab.com/gitlab-org/gitlab-runner/-/issues/37673>).
//!
//! | key | meaning |
//! |---|---|
//! | `capacity_per_instance` | default 1, to 100000 |
//! | `idle_count` | default 0 |
//! | `idle_time` | default `"5m"`, to `"24h"` |
//! | `scale_factor` | default 0, to 1000 |
//! | `scale_factor_limit` | default 0: none |
//! | `signal`, `in_flight_signal` | default `"backlog"` and `"in_flight"` |

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::autoscale_delayed_off::long_idle;
use super::{Demand, Needs, Opinion, View};
use crate::fields::Fields;
use crate::policy::INSTANCES_MAX;
use crate::policy::rounding::{self, text};
use crate::signal::standard;

/// The instance autoscaler of GitLab Runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Taskscaler {
    /// What counts waiting jobs. A total.
    pub signal: String,
    /// What counts jobs that run. A total.
    pub in_flight_signal: String,
    /// Jobs an instance takes.
    pub capacity_per_instance: u32,
    /// Jobs there is room for at any time.
    pub idle_count: u32,
    /// For how long an instance is idle before it may go.
    pub idle_time: Duration,
    /// Room as a share of what is in use.
    pub scale_factor: f64,
    /// The most of that; 0 for no limit.
    pub scale_factor_limit: u32,
}

/// It remembers nothing itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {}

impl Taskscaler {
    #[expect(clippy::unnecessary_wraps, reason = "as every other peer")]
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let idle = Duration::ZERO..=Duration::from_hours(24);
        Some(Self {
            signal: fields.or("signal", standard::BACKLOG.to_owned()),
            in_flight_signal: fields.or("in_flight_signal", standard::IN_FLIGHT.to_owned()),
            capacity_per_instance: fields.or_within("capacity_per_instance", 1, 1..=INSTANCES_MAX),
            idle_count: fields.or_within("idle_count", 0, 0..=INSTANCES_MAX),
            idle_time: fields.or_within("idle_time", Duration::from_mins(5), idle),
            scale_factor: fields.or_within("scale_factor", 0.0, 0.0..=1_000.0),
            scale_factor_limit: fields.or_within("scale_factor_limit", 0, 0..=INSTANCES_MAX),
        })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        jobs_demands(&self.signal, &self.in_flight_signal)
    }

    #[expect(clippy::unnecessary_wraps, reason = "as every other peer")]
    pub(super) fn step(&self, _: &mut Notes, view: &View<'_>) -> Option<Opinion> {
        let (waiting, running) = match jobs(view, &self.signal, &self.in_flight_signal) {
            Ok(jobs) => jobs,
            Err(abstention) => return Some(abstention),
        };
        let in_use = waiting + running;
        let mut scaled = rounding::up(self.scale_factor * in_use);
        if self.scale_factor_limit > 0 {
            scaled = scaled.min(self.scale_factor_limit);
        }
        let idle = self.idle_count.saturating_add(scaled);
        let capacity = f64::from(self.capacity_per_instance);
        let needed = rounding::up((in_use + f64::from(idle)) / capacity);
        let kept = view.current.saturating_sub(long_idle(view, self.idle_time));
        let wish = needed.max(kept);
        let why = format!(
            "({} in use + {idle} idle) / {capacity} per instance: {needed} needed{}",
            text(in_use),
            if wish > needed { ", others not idle for long" } else { "" }
        );
        Some(Opinion::instances(wish, why))
    }
}

/// The demands of a rule that counts jobs.
pub(super) fn jobs_demands<'a>(signal: &'a str, in_flight_signal: &'a str) -> Vec<Demand<'a>> {
    [(signal, "signal"), (in_flight_signal, "in_flight_signal")]
        .into_iter()
        .map(|(signal, key)| Demand {
            signal,
            key,
            needs: Needs::Total,
        })
        .collect()
}

/// Jobs that wait, and jobs that run; or why nothing can be said.
pub(super) fn jobs(
    view: &View<'_>,
    signal: &str,
    in_flight_signal: &str,
) -> Result<(f64, f64), Opinion> {
    let value = |signal: &str| {
        let sample = view.sample(signal);
        sample
            .map(|sample| sample.value)
            .map_err(|absence| Opinion::abstain(signal, absence))
    };
    Ok((value(signal)?, value(in_flight_signal)?))
}
