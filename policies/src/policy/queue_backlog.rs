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

use super::rounding::text;
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
        if self.jobs_per_instance.is_nan() || self.jobs_per_instance <= 0.0 {
            return Opinion::abstain("jobs_per_instance", Absence::NotANumber);
        }
        let waiting = match view.sample(&self.signal) {
            Ok(sample) => sample.value,
            Err(absence) => return Opinion::abstain(&self.signal, absence),
        };
        if !self.count_in_flight {
            return self.wish_for(waiting, &format!("{} waiting", text(waiting)));
        }
        match view.sample(&self.in_flight_signal) {
            Ok(in_flight) => {
                let in_flight = in_flight.value;
                let jobs = format!(
                    "({} waiting + {} in flight)",
                    text(waiting),
                    text(in_flight)
                );
                self.wish_for(waiting + in_flight, &jobs)
            }
            Err(absence) => self.wish_at_least(waiting, absence, view.current),
        }
    }

    fn wish_for(&self, jobs: f64, shown: &str) -> Opinion {
        let wish = rounding::up(jobs / self.jobs_per_instance);
        let why = format!("{shown} / {} per instance", text(self.jobs_per_instance));
        Opinion::instances(wish, why)
    }

    /// What the backlog alone needs, if that is more than there is.
    fn wish_at_least(&self, waiting: f64, absence: Absence, current: u32) -> Opinion {
        if rounding::up(waiting / self.jobs_per_instance) <= current {
            return Opinion::abstain(&self.in_flight_signal, absence);
        }
        let shown = format!(
            "`{}` is absent ({absence}), but at least {} waiting",
            self.in_flight_signal,
            text(waiting)
        );
        self.wish_for(waiting, &shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::policy::testing::{absent, partial, present, table};
    use expect_test::expect;

    fn rule(jobs_per_instance: f64) -> Policy {
        Policy::QueueBacklog(QueueBacklog::new(jobs_per_instance))
    }

    #[test]
    fn counts_waiting_and_running_jobs() {
        let jobs = |waiting, running| [present("backlog", waiting), present("in_flight", running)];
        table(
            &rule(4.0),
            &[
                (0, 0, &jobs(0.0, 0.0)),
                (0, 0, &jobs(1.0, 0.0)),
                (5, 5, &jobs(0.0, 20.0)),
                (5, 5, &jobs(1.0, 20.0)),
                (5, 9, &jobs(100.0, 20.0)),
                (500, 500, &jobs(0.0, 1.0)),
                (5, 5, &jobs(0.1, 0.0)),
                (5, 5, &jobs(1e300, 1e300)),
            ],
            &expect![[r#"
                0/0 -> 0  (0 waiting + 0 in flight) / 4 per instance
                0/0 -> 1  (1 waiting + 0 in flight) / 4 per instance
                5/5 -> 5  (0 waiting + 20 in flight) / 4 per instance
                5/5 -> 6  (1 waiting + 20 in flight) / 4 per instance
                5/9 -> 30  (100 waiting + 20 in flight) / 4 per instance
                500/500 -> 1  (0 waiting + 1 in flight) / 4 per instance
                5/5 -> 1  (0.1 waiting + 0 in flight) / 4 per instance
                5/5 -> 4294967295  (1e300 waiting + 1e300 in flight) / 4 per instance
            "#]],
        );
    }

    #[test]
    fn parts_of_jobs_leave_no_dust() {
        let jobs = [present("backlog", 9.0), present("in_flight", 0.0)];
        table(
            &rule(0.3),
            &[(1, 1, &jobs)],
            &expect![[r#"
            1/1 -> 30  (9 waiting + 0 in flight) / 0.3 per instance
        "#]],
        );
        table(
            &rule(2.5),
            &[(1, 1, &jobs)],
            &expect![[r#"
            1/1 -> 4  (9 waiting + 0 in flight) / 2.5 per instance
        "#]],
        );
        table(
            &rule(f64::NAN),
            &[(1, 1, &jobs)],
            &expect![[r#"
            1/1 -> abstains  no reading of `jobs_per_instance`: not a usable number
        "#]],
        );
        table(
            &rule(0.0),
            &[(1, 1, &jobs)],
            &expect![[r#"
            1/1 -> abstains  no reading of `jobs_per_instance`: not a usable number
        "#]],
        );
    }

    #[test]
    fn absent_readings_never_shrink() {
        table(
            &rule(4.0),
            &[
                (5, 5, &[]),
                (5, 5, &[absent("backlog"), present("in_flight", 3.0)]),
                (5, 5, &[present("backlog", 20.0), absent("in_flight")]),
                (5, 5, &[present("backlog", 21.0), absent("in_flight")]),
                (
                    5,
                    5,
                    &[present("backlog", f64::NAN), present("in_flight", 3.0)],
                ),
            ],
            &expect![[r#"
                5/5 -> abstains  no reading of `backlog`: no source
                5/5 -> abstains  no reading of `backlog`: no data
                5/5 -> abstains  no reading of `in_flight`: no data
                5/5 -> 6  `in_flight` is absent (no data), but at least 21 waiting / 4 per instance
                5/5 -> abstains  no reading of `backlog`: not a usable number
            "#]],
        );
    }

    #[test]
    fn partial_readings_grow_but_never_shrink() {
        table(
            &rule(4.0),
            &[
                (5, 5, &[partial("backlog", 4.0), present("in_flight", 0.0)]),
                (5, 5, &[present("backlog", 4.0), partial("in_flight", 0.0)]),
                (5, 5, &[partial("backlog", 40.0), present("in_flight", 0.0)]),
            ],
            &expect![[r#"
                5/5 -> 5  (4 waiting + 0 in flight) / 4 per instance; but `backlog` is partial, so not below 5
                5/5 -> 5  (4 waiting + 0 in flight) / 4 per instance; but `in_flight` is partial, so not below 5
                5/5 -> 10  (40 waiting + 0 in flight) / 4 per instance
            "#]],
        );
    }

    #[test]
    fn jobs_in_flight_can_be_left_out() {
        let rule = QueueBacklog {
            count_in_flight: false,
            ..QueueBacklog::new(4.0)
        };
        table(
            &Policy::QueueBacklog(rule),
            &[
                (
                    5,
                    5,
                    &[present("backlog", 9.0), present("in_flight", 100.0)],
                ),
                (5, 5, &[present("backlog", 9.0)]),
            ],
            &expect![[r#"
                5/5 -> 3  9 waiting / 4 per instance
                5/5 -> 3  9 waiting / 4 per instance
            "#]],
        );
    }
}
