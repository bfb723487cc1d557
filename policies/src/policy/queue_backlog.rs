//! `kind = "queue_backlog"`: as many instances as the jobs at hand need.
//!
//! ```text
//! jobs = backlog + in_flight          (in_flight only if count_in_flight)
//! wish = ceil(jobs / jobs_per_instance)
//! ```
//!
//! Rounded up, so that no job is left without a share of an instance. Jobs in
//! flight count, because a fleet with an empty queue and busy workers still
//! needs them; KEDA's SQS scaler counts them by default for the same reason,
//! and Amazon's published recipe of messages per instance does not, which is
//! why it takes a busy fleet with an empty queue for an idle one. The number
//! of instances does not enter: from none at all the rule works like from any
//! other number, and a constant backlog never compounds.
//!
//! Absent readings: without a backlog the rule abstains. Without `in_flight`
//! the backlog alone is the least that is needed: if that is more than the
//! fleet has, it is asked for, and otherwise the rule abstains.
//!
//! | key | meaning |
//! |---|---|
//! | `jobs_per_instance` | jobs one instance should have at hand; mandatory, 0.001 to 1000000 |
//! | `signal` | what counts waiting jobs, a total; default `"backlog"` |
//! | `count_in_flight` | whether jobs being worked on count; default `true` |
//! | `in_flight_signal` | what counts them, a total; default `"in_flight"` |

use serde::{Deserialize, Serialize};

use super::{Demand, Needs, Opinion, View, rounding};
use crate::fields::Fields;
use crate::signal::{Absence, standard};

/// As many instances as the jobs at hand need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueBacklog {
    /// The signal that counts waiting jobs. A total.
    pub signal: String,
    /// The signal that counts jobs being worked on. A total.
    pub in_flight_signal: String,
    /// Whether jobs in flight count.
    pub count_in_flight: bool,
    /// Jobs one instance should have at hand; above zero, or it abstains.
    pub jobs_per_instance: f64,
}

impl QueueBacklog {
    /// The rule with the standard signals, jobs in flight counted.
    pub fn new(jobs_per_instance: f64) -> Self {
        Self {
            signal: standard::BACKLOG.to_owned(),
            in_flight_signal: standard::IN_FLIGHT.to_owned(),
            count_in_flight: true,
            jobs_per_instance,
        }
    }

    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let what = "the jobs one instance should have at hand, such as 4";
        let jobs_per_instance = fields.required_within("jobs_per_instance", what, 0.001..=1e6);
        let signal = fields.or("signal", standard::BACKLOG.to_owned());
        let count_in_flight = fields.or("count_in_flight", true);
        let in_flight_signal = fields.or("in_flight_signal", standard::IN_FLIGHT.to_owned());
        if !count_in_flight && fields.has("in_flight_signal") {
            fields.problem(
                "in_flight_signal",
                "has no effect while `count_in_flight` is false; remove one of the two",
            );
        }
        let jobs_per_instance = jobs_per_instance?;
        Some(Self {
            signal,
            in_flight_signal,
            count_in_flight,
            jobs_per_instance,
        })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        let mut demands = vec![Demand {
            signal: &self.signal,
            key: "signal",
            needs: Needs::Total,
        }];
        if self.count_in_flight {
            demands.push(Demand {
                signal: &self.in_flight_signal,
                key: "in_flight_signal",
                needs: Needs::Total,
            });
        }
        demands
    }

    pub(super) fn opinion(&self, view: &View<'_>) -> Opinion {
        if !(self.jobs_per_instance > 0.0) {
            return Opinion::abstain("jobs_per_instance", Absence::NotANumber);
        }
        let per_instance = self.jobs_per_instance;
        let waiting = match view.sample(&self.signal) {
            Ok(sample) => sample.value,
            Err(absence) => return Opinion::abstain(&self.signal, absence),
        };
        if !self.count_in_flight {
            let wish = rounding::up(waiting / per_instance);
            return Opinion::instances(
                wish,
                format!("{waiting} waiting / {per_instance} per instance"),
            );
        }
        match view.sample(&self.in_flight_signal) {
            Ok(in_flight) => {
                let in_flight = in_flight.value;
                let wish = rounding::up((waiting + in_flight) / per_instance);
                Opinion::instances(
                    wish,
                    format!(
                        "({waiting} waiting + {in_flight} in flight) / {per_instance} per instance"
                    ),
                )
            }
            Err(absence) => self.from_backlog_alone(waiting, absence, view.current),
        }
    }

    /// The least that is needed, if it is more than there is.
    fn from_backlog_alone(&self, waiting: f64, absence: Absence, current: u32) -> Opinion {
        let least = rounding::up(waiting / self.jobs_per_instance);
        if least <= current {
            return Opinion::abstain(&self.in_flight_signal, absence);
        }
        Opinion::instances(
            least,
            format!(
                "at least {waiting} waiting / {} per instance; `{}` is absent: {absence}",
                self.jobs_per_instance, self.in_flight_signal
            ),
        )
    }
}
