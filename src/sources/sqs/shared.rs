//! One asker for all queues: whoever wants to know about a queue that is being
//! asked about shares that answer.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;
use tokio::sync::oneshot;
use windlass_policies::model::FleetError;
use windlass_policies::signal::{Absence, Reading, Sample};
use windlass_policies::units::Timestamp;

use super::{SqsCount, SqsSpec};
use crate::aws::errors::{Call, fleet_error};
use crate::sources::{sampled, unreachable_because, unusable};

/// Asks SQS for all fleets. Must be used on a `LocalSet`.
#[derive(Debug)]
pub struct Queues {
    client: Client,
    /// Who waits for which queue.
    asked: RefCell<BTreeMap<String, Vec<oneshot::Sender<Answer>>>>,
    /// The last number of each, for when SQS will not be asked.
    last: RefCell<BTreeMap<SqsSpec, Sample>>,
}

/// When a queue was asked about, and what it said.
type Answer = (Timestamp, Result<Rc<Counts>, FleetError>);

/// The attributes of a queue, as texts.
type Counts = BTreeMap<QueueAttributeName, String>;

const ATTRIBUTES: [QueueAttributeName; 3] = [
    QueueAttributeName::ApproximateNumberOfMessages,
    QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
    QueueAttributeName::ApproximateNumberOfMessagesDelayed,
];

impl Queues {
    /// Asks with `client`.
    pub fn new(client: Client) -> Rc<Self> {
        Rc::new(Self {
            client,
            asked: RefCell::default(),
            last: RefCell::default(),
        })
    }

    /// The number that `spec` names.
    pub async fn read(self: &Rc<Self>, spec: &SqsSpec, now: Timestamp) -> Reading {
        let (sender, answer) = oneshot::channel();
        let first = {
            let mut asked = self.asked.borrow_mut();
            let waiting = asked.entry(spec.queue_url.clone()).or_default();
            waiting.push(sender);
            waiting.len() == 1
        };
        if first {
            // A task of its own: whoever asked first may stop waiting first.
            let url = spec.queue_url.clone();
            tokio::task::spawn_local(Rc::clone(self).ask(url, now));
        }
        let Ok((at, answer)) = answer.await else {
            return unreachable_because("the call to SQS was given up");
        };
        match answer {
            Ok(counts) => {
                let reading = reading(spec.count, &counts, at, now);
                if let Reading::Present(sample) = &reading {
                    self.last.borrow_mut().insert(spec.clone(), *sample);
                }
                reading
            }
            // A number of before is as true as it was then; it ages.
            Err(FleetError::Throttled) => match self.last.borrow().get(spec) {
                Some(sample) => Reading::Present(*sample),
                None => unreachable_because("SQS throttles"),
            },
            Err(FleetError::NotFound) => unusable(format!(
                "SQS has no queue {} there; look at `queue_url` and the region",
                spec.queue_url
            )),
            Err(other) => unreachable_because(format!("SQS: {other}")),
        }
    }

    async fn ask(self: Rc<Self>, url: String, at: Timestamp) {
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(&url)
            .set_attribute_names(Some(ATTRIBUTES.to_vec()))
            .send()
            .await;
        let counts = match answer {
            Ok(answer) => Ok(Rc::new(
                answer
                    .attributes
                    .unwrap_or_default()
                    .into_iter()
                    .collect::<Counts>(),
            )),
            Err(error) => Err(fleet_error(Call::Reads, &error)),
        };
        let waiting = self.asked.borrow_mut().remove(&url);
        for sender in waiting.into_iter().flatten() {
            // Nobody may be waiting any more.
            let _ = sender.send((at, counts.clone()));
        }
    }
}

fn reading(count: SqsCount, counts: &Counts, at: Timestamp, now: Timestamp) -> Reading {
    let name = match count {
        SqsCount::Visible => QueueAttributeName::ApproximateNumberOfMessages,
        SqsCount::InFlight => QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        SqsCount::Delayed => QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        SqsCount::OldestAge => return Reading::Absent(Absence::NoSource),
    };
    let Some(text) = counts.get(&name) else {
        return Reading::Absent(Absence::NoData);
    };
    let whole = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<f64>() {
        Ok(messages) if whole => sampled(messages, at, now),
        _ => Reading::Absent(Absence::NotANumber),
    }
}
