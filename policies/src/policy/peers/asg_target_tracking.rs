//! `kind = "asg_target_tracking"`: Amazon EC2 Auto Scaling's target tracking.
//!
//! Amazon makes two `CloudWatch` alarms of a target and sizes the group in
//! proportion when one goes off. With one point of the metric each `period`:
//!
//! ```text
//! alarm high: the last points_out points are all above target
//!     desired = max(desired, ceil(in_service * point / target))
//! alarm low: the last points_in points are all below (1 - low_margin) * target
//!     want    = ceil(in_service * point / target)
//!     desired = max(want, desired - max(1, floor(desired / 10)))     gradual
//! ```
//!
//! The point is the mean of what was read during the period. `in_service` are
//! the instances whose warm-up is over: they make the metric. Instances that
//! warm up count in `desired`, so what is on its way is not bought again; and
//! while any does, nothing is let go. The sum is rounded up both ways (1.5 out
//! is 2, 1.5 in is 1). A period without a reading is no point, and no alarm; two
//! that lack are made up for by older ones. In a loop that is slower than the
//! period a point is a cycle.
//!
//! Sources:
//! <https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-target-tracking.html>
//! for proportion, rounding, warm-up and missing data;
//! <https://docs.aws.amazon.com/autoscaling/application/userguide/application-auto-scaling-target-tracking.html>
//! on scaling in more gradually than out. The alarms are as Amazon makes them
//! and shows them in `CloudWatch`: 3 points of a minute above the target, 15
//! below 90 % of it. Amazon has not published how gradual it scales in: a
//! tenth of the group at a time, one at least, is this project's reading. A
//! finished scale-in needs new points, too. The faster policies of November
//! 2024 tune themselves in ways that are not public; `high_resolution = true`
//! is two points of ten seconds, as their metrics allow.
//!
//! Flaws kept: three minutes late by design. A ratio ends at 1, so from a
//! target of 0.9 a fleet grows by a ninth a time. An empty group has no
//! instances to measure and is never started.
//!
//! | key | meaning |
//! |---|---|
//! | `target` | where the signal should be; mandatory |
//! | `signal` | a ratio or per_worker signal; default `"utilization"` |
//! | `period` | how long a point is; default `"60s"`, `"10s"` to `"1h"` |
//! | `points_out` | points above the target before it grows; default 3, 1 to 100 |
//! | `points_in` | points below before it shrinks; default 15, 1 to 100 |
//! | `low_margin` | how far below counts, as a share; default 0.1, 0 to 0.9 |
//! | `warmup` | for how long a ready instance does not count; default `"300s"` |
//! | `high_resolution` | two points of 10 s instead of three of 60 s to grow; default `false` |
//! | `scale_in` | whether it lets anything go; default `true` |

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kit::{Cadence, Mean};
use super::{Demand, Needs, Opinion, View};
use crate::fields::Fields;
use crate::policy::rounding::{self, text};
use crate::signal::{Absence, standard};
use crate::units::Timestamp;

/// Amazon's target tracking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AsgTargetTracking {
    /// The signal; a ratio or per worker.
    pub signal: String,
    /// Where it should be, in its own unit.
    pub target: f64,
    /// When which alarm goes off.
    pub alarms: Alarms,
    /// For how long a ready instance does not count.
    pub warmup: Duration,
    /// Whether it lets anything go.
    pub scale_in: bool,
}

/// The two alarms of a target.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarms {
    /// How long a point is that lets the fleet shrink, and one that lets it
    /// grow unless `period_out` is shorter.
    pub period: Duration,
    /// How long a point is that lets it grow.
    pub period_out: Duration,
    /// Points above the target before it grows.
    pub points_out: u32,
    /// Points below before it shrinks.
    pub points_in: u32,
    /// How far below the target counts, as a share of it.
    pub low_margin: f64,
}

/// The most points an alarm looks at.
const POINTS_MAX: u32 = 100;

/// `CloudWatch` looks this many points further back than it needs when some are
/// missing.
const RANGE_EXTRA: u32 = 2;

/// After a gap this long nothing before it counts.
const GAP_MAX: Duration = Duration::from_mins(5);

impl Alarms {
    pub(super) fn read(fields: &mut Fields<'_>) -> Self {
        let high = fields.or("high_resolution", false);
        let bounds = Duration::from_secs(10)..=Duration::from_hours(1);
        let period = fields.or_within("period", Duration::from_mins(1), bounds);
        let points_out = fields.or_within("points_out", if high { 2 } else { 3 }, 1..=POINTS_MAX);
        Self {
            period,
            period_out: if high { Duration::from_secs(10) } else { period },
            points_out,
            points_in: fields.or_within("points_in", 15, 1..=POINTS_MAX),
            low_margin: fields.or_within("low_margin", 0.1, 0.0..=0.9),
        }
    }
}

/// What the alarms remember.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct AlarmNotes {
    out: Series,
    inward: Series,
}

/// Points of one period, oldest first; `None` where there was no reading.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Series {
    cadence: Cadence,
    mean: Mean,
    points: VecDeque<Option<f64>>,
    ended: Option<Timestamp>,
}

impl Series {
    /// Takes in `value`; true if that ended a period.
    fn take(&mut self, now: Timestamp, at: Timestamp, value: Option<f64>, of: Alarm) -> bool {
        if let Some(value) = value {
            self.mean.add(value, at);
        }
        if !self.cadence.due(now, of.period) {
            return false;
        }
        let range = of.points + RANGE_EXTRA;
        let gap = self.ended.replace(now).map(|ended| now.since(ended));
        if gap.is_some_and(|gap| gap > GAP_MAX.max(of.period * range)) {
            self.points.clear();
        }
        self.points.push_back(self.mean.take());
        while self.points.len() > usize::try_from(range).unwrap_or(usize::MAX) {
            self.points.pop_front();
        }
        true
    }

    /// Whether the newest points `breach`, as many as it takes; one that is
    /// missing just now is no alarm.
    fn alarm(&self, of: Alarm, breaches: impl Fn(f64) -> bool) -> bool {
        let known = || self.points.iter().rev().flatten();
        let needed = usize::try_from(of.points).unwrap_or(usize::MAX);
        self.points.back().is_some_and(Option::is_some)
            && known().count() >= needed
            && known().take(needed).all(|point| breaches(*point))
    }

    fn newest(&self) -> f64 {
        self.points.back().copied().flatten().unwrap_or(0.0)
    }
}

/// How many points of which length.
#[derive(Clone, Copy, Debug)]
struct Alarm {
    period: Duration,
    points: u32,
}

/// What the alarms say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Call {
    /// No period has ended.
    Nothing,
    /// Neither goes off.
    Quiet,
    /// The last point is this, and the fleet is too small.
    Out(f64),
    /// The last point is this, and the fleet is too large.
    In(f64),
}

impl Alarms {
    /// Takes in the metric's `value` and says which alarm goes off.
    pub(super) fn look(
        &self,
        notes: &mut AlarmNotes,
        now: Timestamp,
        (at, value): (Timestamp, Option<f64>),
        target: f64,
    ) -> Call {
        let out = Alarm {
            period: self.period_out,
            points: self.points_out,
        };
        let inward = Alarm {
            period: self.period,
            points: self.points_in,
        };
        let out_ended = notes.out.take(now, at, value, out);
        let in_ended = notes.inward.take(now, at, value, inward);
        let low = target * (1.0 - self.low_margin);
        if out_ended && notes.out.alarm(out, |point| point > target) {
            return Call::Out(notes.out.newest());
        }
        if in_ended && notes.inward.alarm(inward, |point| point < low) {
            return Call::In(notes.inward.newest());
        }
        if out_ended || in_ended {
            Call::Quiet
        } else {
            Call::Nothing
        }
    }
}

impl AlarmNotes {
    /// Points that led to a scale-in have had their effect.
    pub(super) fn forget_low(&mut self) {
        self.inward.points.clear();
    }
}

/// One gradual scale-in: a tenth, and one at least.
fn gradually(desired: u32, want: u32) -> u32 {
    want.max(desired.saturating_sub((desired / 10).max(1)))
}

/// Ready instances whose warm-up is over.
pub(super) fn in_service(view: &View<'_>, warmup: Duration) -> u32 {
    let warm = view.lives.iter().filter(|life| life.ready_for >= warmup);
    u32::try_from(warm.count()).unwrap_or(u32::MAX)
}

/// What Amazon remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    alarms: AlarmNotes,
}

impl AsgTargetTracking {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let what = "where the signal should be, such as 0.5";
        let target = fields.required_within("target", what, 1e-6..=1e9);
        let signal = fields.or("signal", standard::UTILIZATION.to_owned());
        let alarms = Alarms::read(fields);
        let warmup = read_warmup(fields);
        let scale_in = fields.or("scale_in", true);
        Some(Self {
            signal,
            target: target?,
            alarms,
            warmup,
            scale_in,
        })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        vec![Demand {
            signal: &self.signal,
            key: "signal",
            needs: Needs::Proportional,
        }]
    }

    pub(super) fn step(&self, notes: &mut Notes, view: &View<'_>) -> Option<Opinion> {
        let sample = view.sample(&self.signal);
        let warm = in_service(view, self.warmup);
        // Nobody is in service: nothing is measured, whatever the source says.
        let measured = sample.as_ref().ok().filter(|_| warm > 0);
        let reading = measured.map_or((view.now, None), |one| (one.at, Some(one.value)));
        let call = self
            .alarms
            .look(&mut notes.alarms, view.now, reading, self.target);
        let want = |point: f64| rounding::up(f64::from(warm) * point / self.target);
        let shown = |point: f64| {
            let (point, target) = (text(point), text(self.target));
            format!("{} {point} of target {target} on {warm} in service", self.signal)
        };
        let told = Told {
            want: &want,
            shown: &shown,
            held: held(view, self.scale_in, warm),
            absent: sample.err().map(|absence| (self.signal.as_str(), absence)),
        };
        answer(view, &mut notes.alarms, call, told)
    }
}

/// What it takes to act on alarms.
pub(super) struct Told<'a> {
    /// How many instances the metric asks for.
    pub(super) want: &'a dyn Fn(f64) -> u32,
    /// The metric, in words.
    pub(super) shown: &'a dyn Fn(f64) -> String,
    /// Why nothing is let go now.
    pub(super) held: Option<&'static str>,
    /// The signal that is not there, and why.
    pub(super) absent: Option<(&'a str, Absence)>,
}

/// Why nothing is let go while `warm` instances are in service.
pub(super) fn held(view: &View<'_>, scale_in: bool, warm: u32) -> Option<&'static str> {
    if !scale_in {
        Some("alarm low, but scale_in is false")
    } else if view.current > warm {
        Some("alarm low, but instances are warming up")
    } else {
        None
    }
}

/// What Amazon does when its alarms say `call`.
pub(super) fn answer(
    view: &View<'_>,
    notes: &mut AlarmNotes,
    call: Call,
    told: Told<'_>,
) -> Option<Opinion> {
    match (call, told.held) {
        (Call::Nothing, _) => None,
        (Call::Out(point), _) => Some(Opinion::instances(
            view.desired.max((told.want)(point)),
            format!("alarm high: {}", (told.shown)(point)),
        )),
        (Call::In(_), Some(why)) => Some(hold(view, why)),
        (Call::In(point), None) => {
            let size = gradually(view.desired, (told.want)(point)).min(view.desired);
            if size < view.desired {
                notes.forget_low();
            }
            let why = format!("alarm low: {}", (told.shown)(point));
            Some(Opinion::instances(size, why))
        }
        (Call::Quiet, _) => Some(match told.absent {
            Some((signal, absence)) => Opinion::abstain(signal, absence),
            None => hold(view, "no alarm"),
        }),
    }
}

/// Reads for how long a ready instance does not count.
pub(super) fn read_warmup(fields: &mut Fields<'_>) -> Duration {
    let bounds = Duration::ZERO..=Duration::from_hours(1);
    fields.or_within("warmup", Duration::from_mins(5), bounds)
}

/// Stays as it is.
pub(super) fn hold(view: &View<'_>, why: &str) -> Opinion {
    Opinion::instances(view.desired, why.to_owned())
}
