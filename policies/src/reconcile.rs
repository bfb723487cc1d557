//! One cycle: look, decide, write it down, act. The only caller of the ports.

use crate::decide::decide_looked;
use crate::drain;
use crate::failover::Failover;
use crate::memory::Memory;
use crate::model::{Action, Decision, Observation, Outcome, Reason};
use crate::ports::{Clock, Decided, FleetProvider, MetricSource, Record, Store, StoreError};
use crate::spec::FleetSpec;

/// Whether actions are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Carry them out.
    Act,
    /// Decide and record everything, send nothing.
    Rehearse,
}

/// The world of one fleet.
#[derive(Debug)]
pub struct Ports<'a, C, M, P, S> {
    /// What time it is.
    pub clock: &'a C,
    /// Where readings come from.
    pub metrics: &'a M,
    /// What owns the instances.
    pub provider: &'a P,
    /// Where everything is written down.
    pub store: &'a S,
}

impl<C, M, P, S> Clone for Ports<'_, C, M, P, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C, M, P, S> Copy for Ports<'_, C, M, P, S> {}

/// What a cycle did.
#[derive(Clone, Debug)]
pub struct Cycle {
    /// What was seen.
    pub seen: Observation,
    /// What was decided.
    pub decision: Decision,
    /// What was done, and how each action came out.
    pub done: Vec<(Action, Outcome)>,
    /// What was done beyond the decision, and why.
    pub elsewhere: Vec<Reason>,
}

/// Runs one cycle of the fleet of `spec`.
///
/// Every action is in the store before it is sent, and its outcome after. If
/// the cycle is cut off at any point, [`Memory::rebuild`] makes of the store's
/// tail a memory that has lost nothing: an action without an outcome may have
/// happened.
///
/// # Errors
/// If the store does not take a record. Nothing more is changed then; the
/// memory holds what was done.
pub async fn reconcile<C, M, P, S>(
    spec: &FleetSpec,
    mode: Mode,
    memory: &mut Memory,
    ports: Ports<'_, C, M, P, S>,
) -> Result<Cycle, StoreError>
where
    C: Clock,
    M: MetricSource,
    P: FleetProvider,
    S: Store,
{
    let now = ports.clock.now();
    let readings = ports.metrics.read(&spec.signals, now).await;
    let fleet = ports.provider.list(&spec.name).await;
    let seen = Observation {
        now,
        fleet,
        readings,
        prices: ports.provider.prices(),
    };
    let before = ports.store.is_read().then(|| memory.clone());
    memory.look(spec, &seen);
    let decision = decide_looked(spec, memory, &seen);
    if let Some(before) = before {
        let record = Record::Decided(Box::new(Decided {
            memory: before,
            seen: seen.clone(),
            decision: decision.clone(),
            spec: spec.fingerprint(),
        }));
        if let Err(error) = ports.store.append(&spec.name, &record) {
            // What was seen was not written down: it is as if nobody looked.
            if let Record::Decided(decided) = record {
                *memory = decided.memory;
            }
            return Err(error);
        }
    }
    let mut failover = Failover::new(memory, &decision);
    memory.plan(&decision, &seen);

    let mut done = Vec::new();
    for action in &decision.actions {
        let outcome = carry_out(spec, mode, memory, ports, action).await?;
        failover.note(spec, memory, &seen, action, &outcome);
        let ending = drain::follow_up(memory, ports.clock.now(), action, &outcome);
        done.push((action.clone(), outcome));
        let mut next = ending.map(|end| (end, None)).or_else(|| failover.next());
        while let Some((action, why)) = next {
            write_down(spec, memory, ports, &action, why)?;
            if let Action::Launch {
                token,
                offering,
                count,
            } = &action
            {
                memory.plan_launch(decision.at, token, offering, *count);
            }
            let outcome = carry_out(spec, mode, memory, ports, &action).await?;
            failover.note(spec, memory, &seen, &action, &outcome);
            done.push((action, outcome));
            next = failover.next();
        }
    }
    Ok(Cycle {
        seen,
        decision,
        done,
        elsewhere: failover.reasons,
    })
}

/// Writes down an action that follows from another's outcome, before it is done.
fn write_down<C, M, P, S>(
    spec: &FleetSpec,
    memory: &Memory,
    ports: Ports<'_, C, M, P, S>,
    action: &Action,
    why: Option<Reason>,
) -> Result<(), StoreError>
where
    S: Store,
{
    if !ports.store.is_read() {
        return Ok(());
    }
    let planned = Record::Planned {
        cycle: memory.cycle,
        action: action.clone(),
        why,
    };
    ports.store.append(&spec.name, &planned)
}

/// Does one action that is written down already, and writes down its outcome.
async fn carry_out<C, M, P, S>(
    spec: &FleetSpec,
    mode: Mode,
    memory: &mut Memory,
    ports: Ports<'_, C, M, P, S>,
    action: &Action,
) -> Result<Outcome, StoreError>
where
    C: Clock,
    M: MetricSource,
    P: FleetProvider,
    S: Store,
{
    let outcome = match mode {
        Mode::Act => ports.provider.apply(&spec.name, memory.epoch, action).await,
        Mode::Rehearse => Outcome::Rehearsed,
    };
    let at = ports.clock.now();
    memory.settle(at, action, &outcome);
    if !ports.store.is_read() {
        return Ok(outcome);
    }
    let record = Record::Acted {
        cycle: memory.cycle,
        at,
        action: action.clone(),
        outcome,
    };
    ports.store.append(&spec.name, &record)?;
    let Record::Acted { outcome, .. } = record else {
        unreachable!("made two lines above")
    };
    Ok(outcome)
}
