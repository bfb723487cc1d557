//! `kind = "autoscale_delayed_off"`: `DelayedOff` and `AutoScale` of Gandhi,
//! Harchol-Balter et al.
//!
//! A job that finds no idle server has one set up; a server that was idle for
//! `idle_wait` is turned off; a setup is cancelled when its job was taken by a
//! server that fell free. In a loop, with `Q` jobs waiting:
//!
//! ```text
//! setups = ceil(factor * Q / slots)
//! off    = ready servers idle for idle_wait or longer, if Q = 0
//! wish   = ready - off + (setups if cancel_setups, else max(setups, booting))
//! ```
//!
//! Sources: A. Gandhi, V. Gupta, M. Harchol-Balter, M. Kozuch, "Optimality
//! analysis of energy-performance trade-off for server farm management",
//! Performance Evaluation 2010 (`DelayedOff`); A. Gandhi, M. Harchol-Balter,
//! R. Raghunathan, M. Kozuch, "`AutoScale`: dynamic, robust capacity management
//! for multi-tier data centers", ACM TOCS 2012 (`idle_wait` 120 s). Capacity is
//! inferred from the number of jobs and not from their rate, so nobody need
//! know how long they take. `factor = 1` is as published; a smaller one sets up
//! a part of what waits, which suits jobs shorter than a setup.
//!
//! Jobs should be routed to the most recently busy server, and packed; whoever
//! hands them out decides that. Which idle server goes is the house's choice
//! too. On EC2 a cancelled setup has cost its first minute.
//!
//! Flaws kept: with jobs much shorter than a setup, each of a burst sets up a
//! server that finds nothing to do.
//!
//! | key | meaning |
//! |---|---|
//! | `idle_wait` | default `"120s"`, to `"24h"` |
//! | `factor` | the part of the waiting jobs that has servers set up; default 1, 0.01 to 1 |
//! | `cancel_setups` | default `true` |
//! | `signal` | what counts waiting jobs, a total; default `"backlog"` |

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Demand, Needs, Opinion, View};
use crate::fields::Fields;
use crate::policy::rounding::{self, text};
use crate::signal::standard;

/// One server set up per job that waits, and turned off when long idle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AutoscaleDelayedOff {
    /// What counts waiting jobs. A total.
    pub signal: String,
    /// For how long a server is idle before it goes.
    pub idle_wait: Duration,
    /// The part of the waiting jobs that has servers set up.
    pub factor: f64,
    /// Whether setups that nobody waits for any more are given up.
    pub cancel_setups: bool,
}

/// It remembers nothing itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {}

impl AutoscaleDelayedOff {
    #[expect(clippy::unnecessary_wraps, reason = "as every other peer")]
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let bounds = Duration::ZERO..=Duration::from_hours(24);
        Some(Self {
            idle_wait: fields.or_within("idle_wait", Duration::from_mins(2), bounds),
            factor: fields.or_within("factor", 1.0, 0.01..=1.0),
            cancel_setups: fields.or("cancel_setups", true),
            signal: fields.or("signal", standard::BACKLOG.to_owned()),
        })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        vec![Demand {
            signal: &self.signal,
            key: "signal",
            needs: Needs::Total,
        }]
    }

    #[expect(clippy::unnecessary_wraps, reason = "as every other peer")]
    pub(super) fn step(&self, _: &mut Notes, view: &View<'_>) -> Option<Opinion> {
        let waiting = match view.sample(&self.signal) {
            Ok(sample) => sample.value,
            Err(absence) => return Some(Opinion::abstain(&self.signal, absence)),
        };
        let slots = f64::from(view.slots.max(1));
        let setups = rounding::up(self.factor * waiting / slots);
        let booting = view.current.saturating_sub(view.ready);
        let off = if waiting > 0.0 {
            0
        } else {
            long_idle(view, self.idle_wait)
        };
        let coming = if self.cancel_setups {
            setups
        } else {
            setups.max(booting)
        };
        let wish = view.ready.saturating_sub(off).saturating_add(coming);
        let why = format!(
            "{} waiting: {setups} to set up, {off} of {} idle for long",
            text(waiting),
            view.ready
        );
        Some(Opinion::instances(wish, why))
    }
}

/// How many instances have been idle for `wait` or longer.
pub(super) fn long_idle(view: &View<'_>, wait: Duration) -> u32 {
    let idle = view.lives.iter().filter_map(|life| life.idle_for);
    u32::try_from(idle.filter(|span| *span >= wait).count()).unwrap_or(u32::MAX)
}
