//! One asker for all fleets of a region: what is asked within one tick goes
//! into the fewest calls.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::ScanBy;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use windlass_policies::model::FleetError;
use windlass_policies::signal::{Absence, Reading, Sample};
use windlass_policies::units::Timestamp;

use super::CloudWatchSpec;
use super::query::{Answer, Call, calls};
use crate::aws::errors::{self, fleet_error};
use crate::sources::{unreachable_because, unusable};

/// How long others may join a call. The fleets of a daemon start their cycles
/// together; a fiftieth of a second is enough for thousands of them.
const GATHER: Duration = Duration::from_millis(20);

/// The most pages of one answer. A call is planned to fit into one.
const PAGES_MAX: usize = 20;

/// Asks `CloudWatch` for all fleets. Must be used on a `LocalSet`.
#[derive(Debug)]
pub struct CloudWatch {
    client: Client,
    waiting: RefCell<Vec<Waiting>>,
    gathering: Cell<bool>,
    /// The last number of each, for when `CloudWatch` will not be asked.
    last: RefCell<BTreeMap<CloudWatchSpec, Sample>>,
}

#[derive(Debug)]
struct Waiting {
    spec: CloudWatchSpec,
    max_age: Duration,
    now: Timestamp,
    answer: oneshot::Sender<Reading>,
}

impl CloudWatch {
    /// Asks with `client`.
    pub fn new(client: Client) -> Rc<Self> {
        Rc::new(Self {
            client,
            waiting: RefCell::default(),
            gathering: Cell::new(false),
            last: RefCell::default(),
        })
    }

    /// The newest number of `spec`. One older than `max_age` is not looked for.
    pub async fn read(
        self: &Rc<Self>,
        spec: &CloudWatchSpec,
        max_age: Duration,
        now: Timestamp,
    ) -> Reading {
        let (answer, reading) = oneshot::channel();
        self.waiting.borrow_mut().push(Waiting {
            spec: spec.clone(),
            max_age,
            now,
            answer,
        });
        if !self.gathering.replace(true) {
            // A task of its own: whoever asked first may stop waiting first.
            tokio::task::spawn_local(Rc::clone(self).ask());
        }
        reading
            .await
            .unwrap_or_else(|_gone| unreachable_because("the call to CloudWatch was given up"))
    }

    async fn ask(self: Rc<Self>) {
        tokio::time::sleep(GATHER).await;
        self.gathering.set(false);
        let mut waiting = self.waiting.take();
        // Who has stopped waiting wants nothing.
        waiting.retain(|one| !one.answer.is_closed());
        let mut wanted = BTreeMap::new();
        for one in &waiting {
            let max_age: &mut Duration = wanted.entry(one.spec.clone()).or_default();
            *max_age = one.max_age.max(*max_age);
        }
        let Some(now) = waiting.iter().map(|one| one.now).max() else {
            return;
        };
        let calls = calls(&wanted, now);
        let mut by_spec: BTreeMap<CloudWatchSpec, Vec<Waiting>> = BTreeMap::new();
        for one in waiting {
            by_spec.entry(one.spec.clone()).or_default().push(one);
        }
        let by_spec = RefCell::new(by_spec);
        let answered = calls.iter().map(|call| async {
            let answer = self.call(call).await;
            for (id, spec) in &call.specs {
                let waiting = by_spec.borrow_mut().remove(spec);
                for one in waiting.into_iter().flatten() {
                    let reading = self.reading(&answer, id, spec, one.now);
                    // Nobody may be waiting any more.
                    let _ = one.answer.send(reading);
                }
            }
        });
        join_all(answered).await;
    }

    fn reading(
        &self,
        answer: &Result<Answer, CallFailed>,
        id: &str,
        spec: &CloudWatchSpec,
        now: Timestamp,
    ) -> Reading {
        match answer {
            Ok(answer) => {
                let reading = answer.reading(id, spec, now);
                if let Reading::Present(sample) = &reading {
                    self.last.borrow_mut().insert(spec.clone(), *sample);
                }
                reading
            }
            // A number of before is as true as it was then; it ages.
            Err(CallFailed::Throttled) => match self.last.borrow().get(spec) {
                Some(sample) => Reading::Present(*sample),
                None => unreachable_because("CloudWatch throttles"),
            },
            Err(CallFailed::Absent(absence)) => Reading::Absent(absence.clone()),
        }
    }

    async fn call(&self, call: &Call) -> Result<Answer, CallFailed> {
        let time = |secs: u64| DateTime::from_secs(i64::try_from(secs).unwrap_or(i64::MAX));
        let request = self
            .client
            .get_metric_data()
            .start_time(time(call.start_secs))
            .end_time(time(call.end_secs))
            .scan_by(ScanBy::TimestampDescending)
            .set_metric_data_queries(Some(call.queries.clone()));
        let mut answer = Answer::default();
        let mut next = None;
        for _ in 0..PAGES_MAX {
            let page = request
                .clone()
                .set_next_token(next.take())
                .send()
                .await
                .map_err(|error| failed(fleet_error(errors::Call::Reads, &error)))?;
            answer.add(page.metric_data_results(), !page.messages().is_empty());
            next = page.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(answer);
            }
        }
        let reading = unusable(format!("CloudWatch answers in more than {PAGES_MAX} pages"));
        match reading {
            Reading::Absent(absence) => Err(CallFailed::Absent(absence)),
            Reading::Present(_) => Ok(answer),
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug)]
enum CallFailed {
    Throttled,
    Absent(Absence),
}

fn failed(error: FleetError) -> CallFailed {
    match error {
        FleetError::Throttled => CallFailed::Throttled,
        other => CallFailed::Absent(Absence::Unreachable {
            why: format!("CloudWatch: {other}"),
        }),
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
