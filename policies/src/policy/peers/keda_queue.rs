//! `kind = "keda_queue"`: KEDA on a queue, with its defaults for Amazon SQS.
//!
//! Two loops. KEDA's own, every `polling_interval` (30 s):
//!
//! ```text
//! messages = backlog + in flight
//! active   = messages > activation
//! active,  replicas = 0                        -> max(1, min_replicas)
//! inactive, min_replicas = 0, and inactive for
//!           longer than cooldown (300 s)       -> 0
//! ```
//!
//! And, from one replica up, the horizontal pod autoscaler ([`super::Hpa`]) on
//! the external metric `messages` with an average value of `queue_length` each:
//! every 15 s `ceil(messages / queue_length)`, unless that is within 10 % of
//! what is there; growing by 4 or 100 % every 15 s, shrinking to the largest of
//! the last 300 s; never below one.
//!
//! Source: `pkg/scalers/aws_sqs_queue_scaler.go`,
//! `pkg/scaling/executor/scale_scaledobjects.go` and
//! `apis/keda/v1alpha1/scaledobject_types.go` of <https://github.com/kedacore/keda>;
//! <https://keda.sh/docs/latest/scalers/aws-sqs/>.
//!
//! Flaws kept: `activation` beats scaling, so 40 messages below an activation of
//! 50 scale to zero while they wait. A scaled object that was never active since
//! KEDA looks skips the cooldown. Which replica goes is anybody's guess there;
//! here the house chooses.
//!
//! | key | meaning |
//! |---|---|
//! | `queue_length` | messages per instance; default 5 |
//! | `activation` | messages above which it is active; default 0 |
//! | `scale_on_in_flight` | whether messages in flight count; default `true` |
//! | `signal`, `in_flight_signal` | default `"backlog"` and `"in_flight"` |
//! | `polling_interval`, `cooldown` | default `"30s"` and `"300s"` |
//! | `min_replicas`, `max_replicas` | default 0 and 100 |
//! | `tolerance`, `period`, `scale_up_window`, `scale_down_window`, `[policy.scale_up]`, `[policy.scale_down]` | as in `kind = "hpa"` |

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hpa::{self, Hpa, Metric};
use super::kit::Cadence;
use super::{Demand, Needs, Opinion, View};
use crate::fields::Fields;
use crate::policy::INSTANCES_MAX;
use crate::policy::rounding::text;
use crate::signal::{Absence, standard};
use crate::units::Timestamp;

/// KEDA on a queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KedaQueue {
    /// From one replica up.
    pub hpa: Hpa,
    /// Messages above which it is active.
    pub activation: f64,
    /// How often KEDA looks.
    pub polling_interval: Duration,
    /// For how long it must be inactive before it goes to zero.
    pub cooldown: Duration,
    /// The fewest.
    pub min_replicas: u32,
}

/// What KEDA and its autoscaler remember.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    polls: Cadence,
    active_at: Option<Timestamp>,
    hpa: hpa::Notes,
}

impl KedaQueue {
    #[expect(clippy::unnecessary_wraps, reason = "as every other peer")]
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let hour = Duration::from_hours(1);
        let second = Duration::from_secs(1);
        let target = fields.or_within("queue_length", 5.0, 0.001..=1e6);
        let activation = fields.or_within("activation", 0.0, 0.0..=1e9);
        let in_flight = fields.or("scale_on_in_flight", true);
        let signal = fields.or("signal", standard::BACKLOG.to_owned());
        let in_flight_signal = fields.or("in_flight_signal", standard::IN_FLIGHT.to_owned());
        let min_replicas = fields.or_within("min_replicas", 0, 0..=INSTANCES_MAX);
        let max_replicas = fields.or_within("max_replicas", 100, 1..=INSTANCES_MAX);
        if min_replicas > max_replicas {
            let message = format!("{min_replicas} is above max_replicas ({max_replicas})");
            fields.problem("min_replicas", message);
        }
        let (up, down) = Hpa::read_behaviors(fields);
        let hpa = Hpa {
            metric: Metric::ExternalAverage,
            signal,
            in_flight_signal: in_flight.then_some(in_flight_signal),
            reporting_signal: None,
            target,
            tolerance: fields.or_within("tolerance", 0.1, 0.0..=0.9),
            period: fields.or_within("period", second * 15, second..=hour),
            min_replicas: min_replicas.max(1),
            max_replicas,
            up,
            down,
        };
        Some(Self {
            hpa,
            activation,
            polling_interval: fields.or_within("polling_interval", second * 30, second..=hour),
            cooldown: fields.or_within("cooldown", second * 300, Duration::ZERO..=hour * 24),
            min_replicas,
        })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        let demands = self.hpa.demands().into_iter();
        demands
            .map(|demand| Demand {
                needs: Needs::Total,
                ..demand
            })
            .collect()
    }

    pub(super) fn step(&self, notes: &mut Notes, view: &View<'_>) -> Option<Opinion> {
        let messages = match self.messages(view) {
            Ok(messages) => messages,
            Err((signal, absence)) => return Some(Opinion::abstain(signal, absence)),
        };
        let replicas = view.desired;
        let shown = format!("{} messages", text(messages));
        if notes.polls.due(view.now, self.polling_interval) {
            if messages > self.activation {
                notes.active_at = Some(view.now);
                if replicas == 0 {
                    // The autoscaler sees it at its next look.
                    let why = format!("{shown}: from zero");
                    return Some(Opinion::instances(self.min_replicas.max(1), why));
                }
            } else if self.min_replicas == 0 && replicas > 0 {
                let cool = notes
                    .active_at
                    .is_none_or(|at| view.now.since(at) > self.cooldown);
                if cool {
                    let why = format!("{shown}, and not active for the cooldown: to zero");
                    return Some(Opinion::instances(0, why));
                }
            }
        }
        if replicas == 0 {
            return Some(Opinion::instances(0, format!("{shown}: not active")));
        }
        if !notes.hpa.cadence.due(view.now, self.hpa.period) {
            return None;
        }
        Some(match self.hpa.decide(&mut notes.hpa, view, replicas) {
            Ok(opinion) => opinion,
            Err((signal, absence)) => Opinion::abstain(signal, absence),
        })
    }

    fn messages(&self, view: &View<'_>) -> Result<f64, (&str, Absence)> {
        let signals = [Some(&self.hpa.signal), self.hpa.in_flight_signal.as_ref()];
        let mut sum = 0.0;
        for signal in signals.into_iter().flatten() {
            let sample = view.sample(signal);
            sum += sample
                .map_err(|absence| (signal.as_str(), absence))?
                .value;
        }
        Ok(sum)
    }
}
