//! `kind = "cluster_demand"`: what Cluster Autoscaler and Karpenter do for
//! pending work.
//!
//! Both see which work has no place, and buy exactly the room for it:
//!
//! ```text
//! needed = ceil((backlog + in flight) / slots)
//! needed > current  ->  needed, at once
//! ```
//!
//! They differ in when an empty instance goes. `gate = "cluster_autoscaler"`:
//! one that was empty for `unneeded_time` (10 min), not within
//! `delay_after_add` (10 min) of growing, at most `removed_max` (10) at a time;
//! every `scan_interval` (10 s). `gate = "karpenter"`: one that was empty for
//! `unneeded_time` (`consolidateAfter`, 0 s), at most `removed_percent` of the
//! fleet at a time, rounded up (10 %, the default budget).
//!
//! Sources: `cluster-autoscaler/FAQ.md` and `main.go` flags of
//! <https://github.com/kubernetes/autoscaler> (`scan-interval`,
//! `scale-down-unneeded-time`, `scale-down-delay-after-add`,
//! `max-empty-bulk-delete`); <https://karpenter.sh/docs/concepts/disruption/>.
//! Jobs are of one size here, so packing is a division, and a busy instance is
//! never emptied by moving its work.
//!
//! Flaws kept: what is bought for a burst is bought whole, whether or not it is
//! over before the instance is up. No room is kept for what comes next.
//!
//! | key | meaning |
//! |---|---|
//! | `gate` | `"cluster_autoscaler"` or `"karpenter"`; default the former |
//! | `scan_interval` | default `"10s"` |
//! | `unneeded_time` | default `"10m"`, or `"0s"` with karpenter |
//! | `delay_after_add` | default `"10m"`, or `"0s"` with karpenter |
//! | `removed_max` | default 10, or 100000 with karpenter |
//! | `removed_percent` | default 100, or 10 with karpenter |
//! | `signal`, `in_flight_signal` | default `"backlog"` and `"in_flight"` |

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::autoscale_delayed_off::long_idle;
use super::kit::Cadence;
use super::taskscaler::{jobs, jobs_demands};
use super::{Demand, Opinion, View};
use crate::fields::Fields;
use crate::policy::INSTANCES_MAX;
use crate::policy::rounding::{self, text};
use crate::signal::standard;
use crate::units::Timestamp;

/// Exact demand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterDemand {
    /// What counts jobs without a place. A total.
    pub signal: String,
    /// What counts jobs that have one. A total.
    pub in_flight_signal: String,
    /// How often it looks.
    pub scan_interval: Duration,
    /// For how long an instance is empty before it may go.
    pub unneeded_time: Duration,
    /// For how long nothing goes after growing.
    pub delay_after_add: Duration,
    /// The most that go at a time.
    pub removed_max: u32,
    /// The most percent of the fleet that go at a time.
    pub removed_percent: u32,
}

/// What it remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    scans: Cadence,
    added_at: Option<Timestamp>,
}

impl ClusterDemand {
    #[expect(clippy::unnecessary_wraps, reason = "as every other peer")]
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let karpenter = fields
            .word("gate", &[("cluster_autoscaler", false), ("karpenter", true)])
            .unwrap_or(false);
        let minutes = if karpenter { 0 } else { 10 };
        let usual = Duration::from_mins(minutes);
        let removed = if karpenter { INSTANCES_MAX } else { 10 };
        let percent = if karpenter { 10 } else { 100 };
        let day = || Duration::ZERO..=Duration::from_hours(24);
        let scan = Duration::from_secs(1)..=Duration::from_hours(1);
        Some(Self {
            signal: fields.or("signal", standard::BACKLOG.to_owned()),
            in_flight_signal: fields.or("in_flight_signal", standard::IN_FLIGHT.to_owned()),
            scan_interval: fields.or_within("scan_interval", Duration::from_secs(10), scan),
            unneeded_time: fields.or_within("unneeded_time", usual, day()),
            delay_after_add: fields.or_within("delay_after_add", usual, day()),
            removed_max: fields.or_within("removed_max", removed, 1..=INSTANCES_MAX),
            removed_percent: fields.or_within("removed_percent", percent, 1..=100),
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
        if !notes.scans.due(view.now, self.scan_interval) {
            return None;
        }
        let work = waiting + running;
        let needed = rounding::up(work / f64::from(view.slots.max(1)));
        let current = view.current;
        let shown = format!("{} jobs need {needed}", text(work));
        if needed > current {
            notes.added_at = Some(view.now);
            return Some(Opinion::instances(needed, shown));
        }
        let settled = notes
            .added_at
            .is_none_or(|at| view.now.since(at) >= self.delay_after_add);
        let empty = long_idle(view, self.unneeded_time).min(current - needed);
        let share = f64::from(current) * f64::from(self.removed_percent) / 100.0;
        let most = self.removed_max.min(rounding::up(share));
        let removed = if settled { empty.min(most) } else { 0 };
        let note = if settled { "" } else { ", but it grew just now" };
        let why = format!("{shown}; {empty} empty for long enough{note}");
        Some(Opinion::instances(current - removed, why))
    }
}
