//! Buying elsewhere within the cycle in which an offering does not grant what
//! was asked of it.
//!
//! Only what surely did not happen is asked for again: a launch whose answer is
//! lost may have happened, and is settled by its token in a later cycle.

use std::collections::{BTreeSet, VecDeque};

use crate::audit::audit_elsewhere;
use crate::decide::elsewhere;
use crate::memory::Memory;
use crate::model::{Action, Decision, FleetError, LaunchToken, Observation, Outcome, Reason};
use crate::spec::FleetSpec;

/// Launches that a cycle may add to those it decided: enough for the few
/// offerings that are worth having, and an end to a storm of refusals.
pub(crate) const ELSEWHERE_MAX: usize = 4;

/// A launch to be added, and why.
#[derive(Debug)]
struct Elsewhere {
    action: Action,
    count: u32,
    reason: Reason,
}

/// What one cycle has bought elsewhere so far.
#[derive(Debug)]
pub(crate) struct Failover {
    /// The launches of this cycle that are asked for the first time.
    fresh: BTreeSet<LaunchToken>,
    /// Offerings that did not grant what was asked in this cycle.
    short: BTreeSet<String>,
    /// The next launch's number within the cycle.
    serial: u32,
    /// Launches that may still be added.
    left: usize,
    /// To be asked for next.
    waiting: VecDeque<Elsewhere>,
    /// What came of it, in words.
    pub(crate) reasons: Vec<Reason>,
}

impl Failover {
    /// For the cycle of `decision`, which `memory` has not taken in yet.
    pub(crate) fn new(memory: &Memory, decision: &Decision) -> Self {
        let launches = decision.actions.iter().filter_map(|action| match action {
            Action::Launch { token, .. } => Some(token),
            Action::Fence { .. } | Action::Unfence { .. } | Action::Terminate { .. } => None,
        });
        let fresh: BTreeSet<LaunchToken> = launches
            .filter(|token| !memory.launches.contains_key(*token))
            .cloned()
            .collect();
        Self {
            serial: u32::try_from(fresh.len()).unwrap_or(u32::MAX),
            fresh,
            short: BTreeSet::new(),
            left: ELSEWHERE_MAX,
            waiting: VecDeque::new(),
            reasons: Vec::new(),
        }
    }

    /// Takes in how `action` came out, which `memory` has taken in already.
    pub(crate) fn note(
        &mut self,
        spec: &FleetSpec,
        memory: &Memory,
        seen: &Observation,
        action: &Action,
        outcome: &Outcome,
    ) {
        let Action::Launch {
            token,
            offering,
            count,
        } = action
        else {
            return;
        };
        let missing = match outcome {
            Outcome::Launched { .. } | Outcome::Granted { .. } => {
                count.saturating_sub(outcome.granted().unwrap_or(0))
            }
            Outcome::Failed(FleetError::NoCapacity | FleetError::LimitReached(_))
                if !memory.launches.contains_key(token) =>
            {
                *count
            }
            Outcome::Failed(_)
            | Outcome::Fenced { .. }
            | Outcome::Unfenced
            | Outcome::Terminated
            | Outcome::Rehearsed => 0,
        };
        if missing == 0 || !self.fresh.contains(token) {
            return;
        }
        self.short.insert(offering.clone());
        // What waits was chosen before this was known, and counts for nothing
        // until it is written down.
        let waiting = self.waiting.drain(..).map(|waiting| waiting.count);
        let missing = waiting.fold(missing, u32::saturating_add);
        let mut chosen = elsewhere(spec, memory, seen, missing, &self.short, self.serial);
        chosen.truncate(self.left);
        if !audit_elsewhere(spec, memory, seen, &chosen).is_empty() {
            // A bug: what was decided stands, and nothing is added to it.
            return;
        }
        for action in chosen {
            if let Action::Launch {
                offering: instead,
                count,
                ..
            } = &action
            {
                let (count, instead) = (*count, instead.clone());
                let reason = Reason::BoughtElsewhere {
                    missing,
                    of: offering.clone(),
                    count,
                    instead,
                };
                self.waiting.push_back(Elsewhere {
                    action,
                    count,
                    reason,
                });
            }
        }
    }

    /// The next launch to write down and ask for, and why, if there is one.
    pub(crate) fn next(&mut self) -> Option<(Action, Option<Reason>)> {
        let Elsewhere { action, reason, .. } = self.waiting.pop_front()?;
        self.reasons.push(reason.clone());
        self.left = self.left.saturating_sub(1);
        self.serial = self.serial.saturating_add(1);
        if let Action::Launch { token, .. } = &action {
            self.fresh.insert(token.clone());
        }
        Some((action, Some(reason)))
    }
}
