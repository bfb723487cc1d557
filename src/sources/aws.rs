//! What the readers of AWS share: one asker per service.

use std::rc::Rc;

use windlass_policies::signal::{Reading, SignalSpec};
use windlass_policies::units::Timestamp;

use super::cloudwatch::{CloudWatch, CloudWatchSpec};
use super::sqs::{Queues, SqsSpec};
use crate::aws::client::AwsClients;

/// `CloudWatch` and SQS for all fleets of a daemon. Cheap to clone. Must be used
/// on a `LocalSet`.
#[derive(Clone, Debug)]
pub(super) struct AwsSources {
    cloudwatch: Rc<CloudWatch>,
    queues: Rc<Queues>,
}

impl AwsSources {
    /// Asks with `clients`.
    pub(super) fn new(clients: &AwsClients) -> Self {
        Self {
            cloudwatch: CloudWatch::new(clients.cloudwatch.clone()),
            queues: Queues::new(clients.sqs.clone()),
        }
    }
}

/// Reads one signal.
pub(super) enum Reader {
    CloudWatch(AwsSources, CloudWatchSpec),
    Queue(AwsSources, SqsSpec),
}

impl Reader {
    /// What SQS does not say of a queue is read in `CloudWatch`.
    pub(super) fn of_queue(shared: &AwsSources, spec: &SqsSpec) -> Self {
        match spec.in_cloudwatch() {
            Some(metric) => Self::CloudWatch(shared.clone(), metric),
            None => Self::Queue(shared.clone(), spec.clone()),
        }
    }

    pub(super) async fn read(&self, signal: &SignalSpec, now: Timestamp) -> Reading {
        match self {
            Self::CloudWatch(shared, spec) => {
                shared.cloudwatch.read(spec, signal.max_age, now).await
            }
            Self::Queue(shared, spec) => shared.queues.read(spec, now).await,
        }
    }
}
