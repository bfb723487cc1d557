//! Letting instances go in two phases, each of which can be taken back.
//!
//! ```text
//!             fence               confirmed, idle or past the deadline
//!   serving ---------> fencing -----------------------------> ended
//!      ^                  |  |
//!      |     unfence      |  | confirmed, busy
//!      +------------------+  v
//!      +----------------- draining
//! ```
//!
//! An instance is first told to take no new jobs (the fence), and ended only
//! once it has confirmed that and is known to be idle since: a job cannot slip
//! in between the look and the end. A drain whose instance is needed again is
//! taken back before anything new is bought.

use std::time::Duration;

use crate::memory::{Cause, Draining, Memory, surely_idle};
use crate::model::{Action, FenceReceipt, Grounds, Instance, InstanceId, Outcome, Phase, Work};
use crate::spec::Drain;
use crate::units::Timestamp;

/// The next step for an instance that is being let go: fence it again if it
/// has not confirmed, end it if that loses no job or its deadline has passed,
/// otherwise wait (`None`).
pub(crate) fn next_step(
    rule: Drain,
    now: Timestamp,
    instance: &Instance,
    drain: &Draining,
) -> Option<Action> {
    let Some(fenced_at) = drain.fenced_at else {
        return Some(Action::Fence {
            instance: instance.id.clone(),
        });
    };
    // What the listing says counts only if the listing knows of the fence.
    let grounds = if instance.fenced && surely_idle(instance.work) {
        Grounds::ConfirmedIdle
    } else if drain.boot_failed && instance.phase == Phase::Booting {
        Grounds::NeverReady
    } else if past(rule.deadline, drain.since, now) {
        Grounds::PastDeadline
    } else {
        return None;
    };
    Some(Action::Terminate {
        instance: instance.id.clone(),
        receipt: FenceReceipt { fenced_at, grounds },
    })
}

/// What follows within the same cycle from the outcome of a fence: an instance
/// that confirmed and has no job is ended at once.
pub(crate) fn follow_up(
    memory: &Memory,
    at: Timestamp,
    action: &Action,
    outcome: &Outcome,
) -> Option<Action> {
    let (Action::Fence { instance }, Outcome::Fenced { work }) = (action, outcome) else {
        return None;
    };
    let drain = memory.drains.get(instance)?;
    let grounds = match work {
        Work::Idle => Grounds::ConfirmedIdle,
        // A worker that never came up cannot say that it is idle.
        Work::Unknown if drain.boot_failed => Grounds::NeverReady,
        Work::Unknown | Work::Busy => return None,
    };
    Some(Action::Terminate {
        instance: instance.clone(),
        receipt: FenceReceipt {
            fenced_at: drain.fenced_at.unwrap_or(at),
            grounds,
        },
    })
}

/// Draining instances that can be put back to work, those drained last first:
/// none that never became ready, is taken back or belongs to somebody else.
pub(crate) fn rescuable(memory: &Memory, instances: &[&Instance]) -> Vec<InstanceId> {
    let mut drains: Vec<_> = instances
        .iter()
        .filter(|instance| instance.phase != Phase::Ending)
        .filter_map(|instance| {
            memory
                .drains
                .get(&instance.id)
                .map(|drain| (drain, &instance.id))
        })
        .filter(|(drain, _)| !drain.boot_failed && drain.cause == Cause::Shrink)
        .collect();
    drains.sort_by(|one, other| other.0.since.cmp(&one.0.since).then(one.1.cmp(other.1)));
    drains.into_iter().map(|(_, id)| id.clone()).collect()
}

fn past(deadline: Option<Duration>, since: Timestamp, now: Timestamp) -> bool {
    deadline.is_some_and(|deadline| now.since(since) >= deadline)
}
