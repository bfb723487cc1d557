//! `kind = "hpa"`: the Kubernetes horizontal pod autoscaler.
//!
//! Every `period` (15 s), with `replicas` what the fleet was last brought to:
//!
//! ```text
//! metric = "resource" or "pods": a mean over the instances that report
//!     ratio = reading / target
//!     all report, and none is unready or ratio <= 1:
//!         |ratio - 1| <= tolerance -> replicas, else ceil(ratio * ready)
//!     otherwise filled up: missing ones at max(1, target) for a ratio, at the
//!         target for a mean, if ratio < 1; at 0 if ratio > 1; unready ones at
//!         0 if ratio > 1
//!         filled ratio within tolerance, or on the other side of 1 -> replicas
//!         else ceil(filled ratio * instances counted), if that is the same way
//! metric = "external": a total for the whole fleet
//!     |total / target - 1| <= tolerance -> replicas, else
//!     ceil(total / target * ready); with 0 replicas ceil(total / target)
//! metric = "external_average": a total, so much per instance
//!     |total / (target * current) - 1| <= tolerance -> current,
//!     else ceil(total / target)
//! ```
//!
//! Then a recommendation is stabilised: shrinking to no less than the largest of
//! the last `scale_down_window`, growing to no more than the smallest of the
//! last `scale_up_window`. Then the rates: per policy the size at the beginning
//! of its period (what was added since taken off, what was removed put back)
//! plus or minus `pods` or `percent`; growing rounded up, shrinking towards
//! zero; of several the one that `select` says.
//!
//! Source: `pkg/controller/podautoscaler/replica_calculator.go` and
//! `horizontal.go` of <https://github.com/kubernetes/kubernetes>, defaults from
//! `pkg/apis/autoscaling/v2/defaults.go` and `cmd/kube-controller-manager`;
//! <https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/>.
//! Where a page differs from the source the source is followed: missing pods
//! count as the larger of 100 % and the target when shrinking. Without a
//! `behavior` the source itself still grows to max(2 * replicas, 4); this is
//! the documented default behaviour, 4 pods or 100 % every 15 s.
//!
//! An instance stands for a pod, and its slots for the CPU it requests, so that
//! utilization 1 is its request. Booting instances are unready pods. The mean is
//! over ready instances; `reporting_signal` says how many are in it where that
//! is known. An autoscaler that begins takes the size it finds for its first
//! recommendation, as the source does, so nothing is let go in its first
//! `scale_down_window`.
//!
//! Flaws kept: its windows are from decision to decision and know nothing of
//! boots; a ratio that ends at 1 grows the fleet by 1 / target at most a time;
//! below a tenth off the target it does nothing, so one instance of nine may
//! wait for ever; at zero replicas it is switched off, except that
//! `min_replicas = 0` lets a total start it.
//!
//! | key | meaning |
//! |---|---|
//! | `metric` | `"resource"`, `"pods"`, `"external"` or `"external_average"`; default `"resource"` |
//! | `target` | where the reading should be, per instance or in all; mandatory |
//! | `signal` | default `"utilization"`; `"backlog"` for the external ones |
//! | `in_flight_signal` | added to the signal of an external metric; none by default |
//! | `reporting_signal` | how many instances are in the mean, a total; none by default: all ready ones |
//! | `tolerance` | default 0.1, 0 to 0.9 |
//! | `period` | default `"15s"`, `"1s"` to `"1h"` |
//! | `min_replicas`, `max_replicas` | default 1 and 100000 |
//! | `scale_up_window`, `scale_down_window` | default `"0s"` and `"300s"`, to `"1h"` |
//! | `[policy.scale_up]`, `[policy.scale_down]` | `pods`, `percent`: the most in `period`; `select` |

use std::cmp::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kit::{Cadence, Recent};
use super::{Demand, Needs, Opinion, View};
use crate::fields::Fields;
use crate::policy::INSTANCES_MAX;
use crate::policy::rounding::{self, DUST, text};
use crate::signal::{Absence, standard};
use crate::units::Timestamp;

/// The Kubernetes horizontal pod autoscaler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hpa {
    /// What the reading is.
    pub metric: Metric,
    /// The signal.
    pub signal: String,
    /// Added to it, for external metrics.
    pub in_flight_signal: Option<String>,
    /// How many instances are in a mean.
    pub reporting_signal: Option<String>,
    /// Where the reading should be.
    pub target: f64,
    /// How far off it may be, as a share.
    pub tolerance: f64,
    /// How often it decides.
    pub period: Duration,
    /// The fewest.
    pub min_replicas: u32,
    /// The most.
    pub max_replicas: u32,
    /// How fast it grows.
    pub up: Behavior,
    /// How fast it shrinks.
    pub down: Behavior,
}

/// What a reading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The share of what instances request that is used.
    Resource,
    /// A mean per instance.
    Pods,
    /// A total, whose target is for all instances together.
    External,
    /// A total, whose target is for one instance.
    ExternalAverage,
}

impl Metric {
    pub(super) fn is_external(self) -> bool {
        match self {
            Self::External | Self::ExternalAverage => true,
            Self::Resource | Self::Pods => false,
        }
    }
}

/// How fast one direction goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behavior {
    /// Over which recommendations are compared.
    pub window: Duration,
    /// The most instances in a period.
    pub pods: Option<u32>,
    /// The most percent of the fleet in a period.
    pub percent: Option<u32>,
    /// The period.
    pub period: Duration,
    /// Which of the two counts.
    pub select: Select,
}

/// Which of several rates counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// The one that changes more.
    Max,
    /// The one that changes less.
    Min,
    /// Nothing changes this way.
    Disabled,
}

impl Behavior {
    fn read(fields: &mut Fields<'_>, key: &str, window: Duration, default: Self) -> Self {
        let read = fields.table(key, |table| {
            let pods = table.optional_within("pods", 0..=INSTANCES_MAX);
            let percent = table.optional_within("percent", 0..=1_000_000);
            let named = pods.is_some() || percent.is_some();
            let bounds = Duration::from_secs(1)..=Duration::from_mins(30);
            let words = [
                ("max", Select::Max),
                ("min", Select::Min),
                ("disabled", Select::Disabled),
            ];
            Some(Self {
                window,
                pods: if named { pods } else { default.pods },
                percent: if named { percent } else { default.percent },
                period: table.or_within("period", default.period, bounds),
                select: table.word("select", &words).unwrap_or(default.select),
            })
        });
        read.unwrap_or(Self { window, ..default })
    }

    /// The most a fleet of `replicas` may grow to.
    fn limit_up(&self, replicas: u32, events: &Events, now: Timestamp) -> u32 {
        let start = events.start(replicas, now, self.period);
        let by_pods = self.pods.map(|pods| start + f64::from(pods));
        let share = |percent: u32| (start * (100.0 + f64::from(percent)) / 100.0).ceil();
        let proposals = [by_pods, self.percent.map(share)];
        let proposals = proposals.into_iter().flatten();
        let chosen = match self.select {
            Select::Disabled => return replicas,
            Select::Max => proposals.fold(f64::NEG_INFINITY, f64::max),
            Select::Min => proposals.fold(f64::INFINITY, f64::min),
        };
        rounding::down(chosen).max(replicas)
    }

    /// The fewest it may shrink to.
    fn limit_down(&self, replicas: u32, events: &Events, now: Timestamp) -> u32 {
        let start = events.start(replicas, now, self.period);
        let by_pods = self.pods.map(|pods| start - f64::from(pods));
        let share = |percent: u32| (start * (100.0 - f64::from(percent)) / 100.0).trunc();
        let proposals = [by_pods, self.percent.map(share)];
        let proposals = proposals.into_iter().flatten();
        let chosen = match self.select {
            Select::Disabled => return replicas,
            Select::Max => proposals.fold(f64::INFINITY, f64::min),
            Select::Min => proposals.fold(f64::NEG_INFINITY, f64::max),
        };
        rounding::down(chosen).min(replicas)
    }
}

/// What was added and removed, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Events {
    added: Recent,
    removed: Recent,
}

/// No period of a rate is longer.
const EVENTS_KEPT: Duration = Duration::from_mins(30);

impl Events {
    /// The size at the beginning of a period that ends now.
    fn start(&self, replicas: u32, now: Timestamp, period: Duration) -> f64 {
        let sum = |events: &Recent| events.within(now, period).map(f64::from).sum::<f64>();
        f64::from(replicas) - sum(&self.added) + sum(&self.removed)
    }

    fn note(&mut self, at: Timestamp, from: u32, to: u32) {
        if to > from {
            self.added.push(at, to - from, EVENTS_KEPT);
        } else if to < from {
            self.removed.push(at, from - to, EVENTS_KEPT);
        }
    }
}

/// What the autoscaler remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    pub(super) cadence: Cadence,
    recommendations: Recent,
    events: Events,
    /// When it last decided, and of how many.
    last: Option<(Timestamp, u32)>,
}

impl Hpa {
    /// The documented default behaviour of growing.
    pub const UP: Behavior = Behavior {
        window: Duration::ZERO,
        pods: Some(4),
        percent: Some(100),
        period: Duration::from_secs(15),
        select: Select::Max,
    };
    /// The documented default behaviour of shrinking.
    pub const DOWN: Behavior = Behavior {
        window: Duration::from_mins(5),
        pods: None,
        percent: Some(100),
        period: Duration::from_secs(15),
        select: Select::Max,
    };

    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let words = [
            ("resource", Metric::Resource),
            ("pods", Metric::Pods),
            ("external", Metric::External),
            ("external_average", Metric::ExternalAverage),
        ];
        let metric = fields.word("metric", &words).unwrap_or(Metric::Resource);
        let what = "where the reading should be, such as 0.5";
        let target = fields.required_within("target", what, 1e-6..=1e9);
        let usual = if metric.is_external() {
            standard::BACKLOG
        } else {
            standard::UTILIZATION
        };
        let signal = fields.or("signal", usual.to_owned());
        let in_flight_signal = fields.optional("in_flight_signal");
        let reporting_signal = fields.optional("reporting_signal");
        let useless = match metric {
            Metric::External | Metric::ExternalAverage => ("reporting_signal", "a mean"),
            Metric::Resource | Metric::Pods => ("in_flight_signal", "an external metric"),
        };
        if fields.has(useless.0) {
            let message = format!("is for {} only; remove it or change `metric`", useless.1);
            fields.problem(useless.0, message);
        }
        let min_replicas = fields.or_within("min_replicas", 1, 0..=INSTANCES_MAX);
        let max_replicas = fields.or_within("max_replicas", INSTANCES_MAX, 1..=INSTANCES_MAX);
        if min_replicas > max_replicas {
            let message = format!("{min_replicas} is above max_replicas ({max_replicas})");
            fields.problem("min_replicas", message);
        }
        let (up, down) = Self::read_behaviors(fields);
        let second = Duration::from_secs(1);
        Some(Self {
            metric,
            signal,
            in_flight_signal,
            reporting_signal,
            tolerance: fields.or_within("tolerance", 0.1, 0.0..=0.9),
            period: fields.or_within(
                "period",
                Duration::from_secs(15),
                second..=second * 3_600,
            ),
            min_replicas,
            max_replicas,
            up,
            down,
            target: target?,
        })
    }

    pub(super) fn read_behaviors(fields: &mut Fields<'_>) -> (Behavior, Behavior) {
        let bounds = || Duration::ZERO..=Duration::from_hours(1);
        let up = fields.or_within("scale_up_window", Self::UP.window, bounds());
        let down = fields.or_within("scale_down_window", Self::DOWN.window, bounds());
        (
            Behavior::read(fields, "scale_up", up, Self::UP),
            Behavior::read(fields, "scale_down", down, Self::DOWN),
        )
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        let demand = |signal, key, needs| Demand { signal, key, needs };
        let needs = if self.metric.is_external() {
            Needs::Level
        } else {
            Needs::Proportional
        };
        let mut demands = vec![demand(self.signal.as_str(), "signal", needs)];
        for (signal, key) in [
            (&self.in_flight_signal, "in_flight_signal"),
            (&self.reporting_signal, "reporting_signal"),
        ] {
            let signal = signal.as_deref();
            demands.extend(signal.map(|signal| demand(signal, key, Needs::Total)));
        }
        demands
    }

    pub(super) fn step(&self, notes: &mut Notes, view: &View<'_>) -> Option<Opinion> {
        if !notes.cadence.is_due(view.now, self.period) {
            return None;
        }
        Some(match self.decide(notes, view, view.desired) {
            Ok(opinion) => {
                notes.cadence.due(view.now, self.period);
                opinion
            }
            Err((signal, absence)) => Opinion::abstain(signal, absence),
        })
    }

    /// What it makes of a fleet of `replicas`.
    pub(super) fn decide(
        &self,
        notes: &mut Notes,
        view: &View<'_>,
        replicas: u32,
    ) -> Result<Opinion, (&str, Absence)> {
        if let Some((at, before)) = notes.last.replace((view.now, replicas)) {
            notes.events.note(at, before, replicas);
        }
        if replicas == 0 && self.min_replicas > 0 {
            let why = "switched off, as for a workload of 0 replicas".to_owned();
            return Ok(Opinion::instances(0, why));
        }
        if replicas > self.max_replicas || replicas < self.min_replicas {
            let bounded = replicas.clamp(self.min_replicas, self.max_replicas);
            let why = format!("{replicas} is out of its bounds");
            return Ok(Opinion::instances(bounded, why));
        }
        let (wanted, why) = self.wanted(view, replicas)?;
        let stable = self.stabilised(notes, view.now, replicas, wanted);
        let size = match stable.cmp(&replicas) {
            Ordering::Greater => {
                let limit = self.up.limit_up(replicas, &notes.events, view.now);
                stable.min(limit).min(self.max_replicas)
            }
            Ordering::Less => {
                let limit = self.down.limit_down(replicas, &notes.events, view.now);
                stable.max(limit).max(self.min_replicas)
            }
            Ordering::Equal => stable,
        };
        let note = match (size == wanted, stable == wanted) {
            (true, _) => String::new(),
            (false, false) => format!("; {wanted} stabilised to {size}"),
            (false, true) => format!("; {wanted} limited to {size}"),
        };
        Ok(Opinion::instances(size, format!("{why}{note}")))
    }

    /// Within what was recommended of late.
    fn stabilised(&self, notes: &mut Notes, now: Timestamp, replicas: u32, wanted: u32) -> u32 {
        let kept = self.up.window.max(self.down.window);
        if notes.recommendations.is_empty() {
            notes.recommendations.push(now, replicas, kept);
        }
        let least = notes.recommendations.within(now, self.up.window).min();
        let most = notes.recommendations.within(now, self.down.window).max();
        let least = least.unwrap_or(wanted).min(wanted);
        let most = most.unwrap_or(wanted).max(wanted);
        notes.recommendations.push(now, wanted, kept);
        replicas.max(least).min(most)
    }

    fn wanted(&self, view: &View<'_>, replicas: u32) -> Result<(u32, String), (&str, Absence)> {
        let value = |signal: &'_ str| view.sample(signal).map(|sample| sample.value);
        let reading = value(&self.signal).map_err(|absence| (self.signal.as_str(), absence))?;
        let in_flight = match &self.in_flight_signal {
            Some(signal) => value(signal).map_err(|absence| (signal.as_str(), absence))?,
            None => 0.0,
        };
        let total = reading + in_flight;
        let target = self.target;
        let (size, of) = match self.metric {
            Metric::External => {
                let ratio = total / target;
                let size = if replicas == 0 {
                    rounding::up(ratio)
                } else if self.tolerates(ratio) {
                    replicas
                } else {
                    rounding::up(ratio * f64::from(view.ready))
                };
                (size, "in all")
            }
            Metric::ExternalAverage => {
                let there = view.current;
                let none = there == 0 && total <= 0.0;
                let ratio = total / (target * f64::from(there));
                let size = if none || self.tolerates(ratio) {
                    there
                } else {
                    rounding::up(total / target)
                };
                (size, "for each")
            }
            Metric::Resource | Metric::Pods => {
                let reporting = match &self.reporting_signal {
                    Some(signal) => value(signal).map_err(|absence| (signal.as_str(), absence))?,
                    None => f64::from(view.ready),
                };
                let reporting = reporting.min(f64::from(view.ready)).floor();
                if reporting <= 0.0 {
                    let why = "no ready instance reports".to_owned();
                    return Ok((replicas, why));
                }
                let pods = Pods {
                    reporting,
                    missing: f64::from(view.ready) - reporting,
                    unready: f64::from(view.current.saturating_sub(view.ready)),
                };
                (self.filled(reading, pods, replicas), "for each")
            }
        };
        let why = format!(
            "{} {} of target {} {of} on {} of {replicas} ready",
            self.signal,
            text(total),
            text(target),
            view.ready
        );
        Ok((size, why))
    }

    fn tolerates(&self, ratio: f64) -> bool {
        (ratio - 1.0).abs() <= self.tolerance + DUST
    }

    /// The size for a mean of `reading` over the reporting `pods`.
    fn filled(&self, reading: f64, pods: Pods, replicas: u32) -> u32 {
        let ratio = reading / self.target;
        let rebalance = pods.unready > 0.0 && ratio > 1.0;
        if !rebalance && pods.missing <= 0.0 {
            return if self.tolerates(ratio) {
                replicas
            } else {
                rounding::up(ratio * pods.reporting)
            };
        }
        let missing_at = match self.metric {
            Metric::Resource if ratio < 1.0 => self.target.max(1.0),
            Metric::Pods if ratio < 1.0 => self.target,
            _ => 0.0,
        };
        // At exactly the target missing pods of a resource are left out.
        let counts = match self.metric {
            Metric::Resource => (ratio - 1.0).abs() > 0.0,
            Metric::Pods | Metric::External | Metric::ExternalAverage => true,
        };
        let missing = if counts { pods.missing } else { 0.0 };
        let unready = if rebalance { pods.unready } else { 0.0 };
        let counted = pods.reporting + missing + unready;
        let sum = reading * pods.reporting + missing_at * missing;
        let filled = sum / counted / self.target;
        let turned = (ratio < 1.0 && filled > 1.0) || (ratio > 1.0 && filled < 1.0);
        if self.tolerates(filled) || turned {
            return replicas;
        }
        let size = rounding::up(filled * counted);
        let turned = (filled < 1.0 && size > replicas) || (filled > 1.0 && size < replicas);
        if turned { replicas } else { size }
    }
}

/// How many instances say what.
#[derive(Clone, Copy, Debug)]
struct Pods {
    reporting: f64,
    missing: f64,
    unready: f64,
}
