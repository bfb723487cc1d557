//! The loop around [`reconcile`]: sleep, nudge, stop.
//!
//! One task per fleet on one thread. A cycle takes no hint of what changed: a
//! nudge only makes it come sooner, so a lost nudge costs at most one interval.
//! A stop waits for the cycle in hand.

use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use windlass_policies::memory::Memory;
use windlass_policies::model::{Action, FleetError, Outcome, Reason};
use windlass_policies::ports::{Clock, FleetProvider, MetricSource, Store};
use windlass_policies::reconcile::{Cycle, Mode, Ports, reconcile};
use windlass_policies::spec::FleetSpec;

use crate::chain;

/// How a fleet's loop is to run.
#[derive(Debug)]
pub struct Loop<'a> {
    /// What to control.
    pub spec: &'a FleetSpec,
    /// Whether to act.
    pub mode: Mode,
    /// How much faster than real time the fleet's own clock runs; 1 but for
    /// simulated fleets.
    pub speed: u32,
    /// Whether to stop after one cycle.
    pub once: bool,
    /// Makes the next cycle come at once.
    pub nudge: &'a Notify,
    /// Turns true when the daemon is to stop.
    pub stop: watch::Receiver<bool>,
}

/// Why a fleet's loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to stop, or to run once.
    Asked,
    /// Another daemon has taken the fleet over.
    TakenOver,
}

impl Loop<'_> {
    /// Runs cycles until it is to stop.
    pub async fn run<C, M, P, S>(mut self, memory: &mut Memory, ports: Ports<'_, C, M, P, S>) -> End
    where
        C: Clock,
        M: MetricSource,
        P: FleetProvider,
        S: Store,
    {
        let interval = self.real_interval();
        let mut due = Instant::now();
        loop {
            match reconcile(self.spec, self.mode, memory, ports).await {
                Ok(cycle) => {
                    report(&self.spec.name, &cycle);
                    if taken_over(&cycle) {
                        error!(fleet = %self.spec.name, "another windlass controls this fleet, so this one lets go of it");
                        return End::TakenOver;
                    }
                }
                Err(error) => error!(
                    fleet = %self.spec.name,
                    error = %chain(&error),
                    "nothing is changed until the store takes records again"
                ),
            }
            if self.once || *self.stop.borrow() {
                return End::Asked;
            }
            due = next_due(due, interval, Instant::now());
            tokio::select! {
                biased;
                _ = self.stop.changed() => return End::Asked,
                () = self.nudge.notified() => {}
                () = sleep_until(due) => {}
            }
        }
    }

    fn real_interval(&self) -> Duration {
        self.spec.interval / self.speed.max(1)
    }
}

/// The next point of the grid of `interval`s after `due` that is still ahead:
/// cycles that were missed are not made up for.
fn next_due(due: Instant, interval: Duration, now: Instant) -> Instant {
    let next = due + interval;
    if next > now { next } else { now + interval }
}

fn taken_over(cycle: &Cycle) -> bool {
    let stale = Outcome::Failed(FleetError::StaleEpoch);
    cycle.done.iter().any(|(_, outcome)| *outcome == stale)
}

/// One line for the decision, and one for each action that failed.
fn report(fleet: &str, cycle: &Cycle) {
    let decision = &cycle.decision;
    let (launched, ended) =
        cycle
            .done
            .iter()
            .fold((0, 0), |sum, (action, outcome)| match (action, outcome) {
                (Action::Launch { .. }, Outcome::Launched { instances }) => {
                    (sum.0 + instances.len(), sum.1)
                }
                (Action::Terminate { .. }, Outcome::Terminated) => (sum.0, sum.1 + 1),
                _ => sum,
            });
    info!(
        fleet,
        cycle = decision.cycle,
        at = %decision.at,
        current = decision.current,
        wish = decision.wish,
        target = decision.target,
        launched,
        ended,
        why = %decision.summary(),
        "decided"
    );
    for reason in &decision.reasons {
        if let Reason::Refused { violations } = reason {
            error!(
                fleet,
                cycle = decision.cycle,
                ?violations,
                "a decision was refused"
            );
        }
    }
    for (action, outcome) in &cycle.done {
        if let Outcome::Failed(error) = outcome {
            warn!(fleet, cycle = decision.cycle, %action, %error, "an action failed");
        }
    }
}
