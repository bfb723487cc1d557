//! `kind = "asg_backlog_per_instance"`: Amazon's recipe for a queue.
//!
//! Target tracking ([`super::asg_target_tracking`]) on a metric that the user
//! computes and publishes:
//!
//! ```text
//! metric = backlog / instances in service
//! target = acceptable_latency / processing_time
//! ```
//!
//! With Amazon's example of 10 s and 0.1 s a target of 100; at 1,500 messages
//! and 10 instances the metric is 150, so the group grows to 15.
//!
//! Source: <https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-using-sqs-queue.html>.
//! The divisor counts instances that warm up, as the group's own metric does.
//!
//! Flaws kept: the backlog leaves out what is in flight, so a busy fleet without
//! a queue looks idle and shrinks. With no instance the metric divides by zero
//! and is not published: an empty group is never started, so keep one.
//!
//! | key | meaning |
//! |---|---|
//! | `acceptable_latency` | how long a message may wait; mandatory, `"1ms"` to `"7d"` |
//! | `processing_time` | how long one takes; mandatory, no longer than that |
//! | `signal` | a total; default `"backlog"` |
//! | `period`, `points_out`, `points_in`, `low_margin`, `warmup`, `high_resolution`, `scale_in` | as in `kind = "asg_target_tracking"` |

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::asg_target_tracking::{AlarmNotes, Alarms, Told, answer, held, in_service, read_warmup};
use super::kit::secs;
use super::{Demand, Needs, Opinion, View};
use crate::fields::Fields;
use crate::policy::rounding::{self, text};
use crate::signal::standard;

/// Amazon's recipe for a queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AsgBacklogPerInstance {
    /// What counts waiting messages. A total.
    pub signal: String,
    /// How long a message may wait.
    pub acceptable_latency: Duration,
    /// How long one takes.
    pub processing_time: Duration,
    /// When which alarm goes off.
    pub alarms: Alarms,
    /// For how long a ready instance holds up shrinking.
    pub warmup: Duration,
    /// Whether it lets anything go.
    pub scale_in: bool,
}

/// What Amazon remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    alarms: AlarmNotes,
}

impl AsgBacklogPerInstance {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let bounds = || Duration::from_millis(1)..=Duration::from_hours(24 * 7);
        let what = "how long a message may wait, such as \"10s\"";
        let acceptable_latency = fields.required_within("acceptable_latency", what, bounds());
        let what = "how long a message takes, such as \"100ms\"";
        let processing_time = fields.required_within("processing_time", what, bounds());
        if let (Some(latency), Some(time)) = (acceptable_latency, processing_time)
            && time > latency
        {
            let message = "is longer than acceptable_latency, so that even one message per \
                           instance is too many; raise that or lower this";
            fields.problem("processing_time", message);
        }
        let signal = fields.or("signal", standard::BACKLOG.to_owned());
        let alarms = Alarms::read(fields);
        let warmup = read_warmup(fields);
        let scale_in = fields.or("scale_in", true);
        Some(Self {
            signal,
            acceptable_latency: acceptable_latency?,
            processing_time: processing_time?,
            alarms,
            warmup,
            scale_in,
        })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        vec![Demand {
            signal: &self.signal,
            key: "signal",
            needs: Needs::Total,
        }]
    }

    pub(super) fn step(&self, notes: &mut Notes, view: &View<'_>) -> Option<Opinion> {
        let target = secs(self.acceptable_latency) / secs(self.processing_time);
        let sample = view.sample(&self.signal);
        let there = f64::from(view.ready);
        let measured = sample.as_ref().ok().filter(|_| view.ready > 0);
        let reading = measured.map_or((view.now, None), |one| (one.at, Some(one.value / there)));
        let call = self
            .alarms
            .look(&mut notes.alarms, view.now, reading, target);
        let want = |point: f64| rounding::up(there * point / target);
        let shown = |point: f64| {
            let (point, target) = (text(point), text(target));
            format!("{point} waiting per instance of target {target} on {there} in service")
        };
        let told = Told {
            want: &want,
            shown: &shown,
            held: held(view, self.scale_in, in_service(view, self.warmup)),
            absent: sample.err().map(|absence| (self.signal.as_str(), absence)),
        };
        answer(view, &mut notes.alarms, call, told)
    }
}
