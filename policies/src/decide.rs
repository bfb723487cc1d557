//! One cycle's thought: propose, combine, govern, place.
//!
//! [`decide`] is a pure, total function of the fleet's spec, its memory and
//! what is seen. It changes nothing; [`crate::reconcile`] writes its decision
//! down and carries it out.

use crate::audit::audit_looked;
use crate::drain;
use crate::governor::{self, Situation};
use crate::memory::{Answer, Memory};
use crate::model::{
    Action, Decision, Instance, InstanceId, LaunchToken, Listing, Observation, Phase, Proposal,
    Reason, Wish,
};
use crate::placement;
use crate::policy::{View, combine};
use crate::signal::Completeness;
use crate::spec::FleetSpec;
use crate::units::MicroUsdPerHour;

/// A launch without an answer is asked for again this many times in all; after
/// that only a listing can settle it.
pub(crate) const LAUNCH_ASKED_MAX: u32 = 3;

/// What to do about the fleet of `spec`, given what is remembered and seen.
///
/// The same arguments give the same decision, on every machine. A decision
/// that would break an invariant is refused: it then holds the fleet, and says
/// [`Reason::Refused`].
pub fn decide(spec: &FleetSpec, memory: &Memory, seen: &Observation) -> Decision {
    let mut looked = memory.clone();
    looked.look(&spec.limits, seen);
    decide_looked(spec, &looked, seen)
}

/// [`decide`] for a memory that has taken in what is `seen` already.
pub(crate) fn decide_looked(spec: &FleetSpec, looked: &Memory, seen: &Observation) -> Decision {
    let mut decision = think(spec, looked, seen);
    let violations = audit_looked(spec, looked, seen, &decision);
    if !violations.is_empty() {
        let violations = violations.iter().map(ToString::to_string).collect();
        decision.reasons.push(Reason::Refused { violations });
        decision.actions.clear();
        decision.target = decision.current;
    }
    decision
}

fn think(spec: &FleetSpec, memory: &Memory, seen: &Observation) -> Decision {
    let held = |current: Option<u32>, reasons: Vec<Reason>, proposals: Vec<Proposal>| Decision {
        epoch: memory.epoch,
        cycle: memory.cycle + 1,
        at: seen.now,
        current,
        wish: largest(&proposals),
        proposals,
        target: current,
        reasons,
        actions: Vec::new(),
    };
    let listing = match &seen.fleet {
        Ok(listing) if listing.complete => listing,
        Ok(_) => {
            return held(None, vec![blind("the listing is incomplete")], Vec::new());
        }
        Err(error) => return held(None, vec![blind(&error.to_string())], Vec::new()),
    };
    let fleet = Fleet::sort(memory, listing);
    let proposals = propose(spec, memory, &fleet, seen);
    let needed = spec.limits.observe_cycles;
    if memory.corroborated < needed {
        let reason = Reason::Observing {
            listings: memory.corroborated,
            needed,
        };
        return held(Some(fleet.current(memory)), vec![reason], proposals);
    }
    Plan::new(spec, memory, seen, fleet).carry(proposals)
}

/// Whether everything the policies read is there, fresh and complete: only then
/// may anything be let go.
fn informed(spec: &FleetSpec, seen: &Observation) -> bool {
    let readings = seen.readings.checked(&spec.signals, seen.now);
    let mut needed = spec
        .policies
        .iter()
        .flat_map(|named| named.policy.signals());
    needed.all(|signal| {
        let sample = readings.sample(signal);
        sample.is_ok_and(|sample| sample.completeness == Completeness::Complete)
    })
}

/// The largest wish; `None` if all abstained.
fn largest(proposals: &[Proposal]) -> Option<u32> {
    let wishes = proposals.iter().filter_map(|proposal| match proposal.wish {
        Wish::Instances(instances) => Some(instances),
        Wish::Abstain(_) => None,
    });
    wishes.max()
}

fn blind(why: &str) -> Reason {
    Reason::Blind {
        why: why.to_owned(),
    }
}

fn propose(spec: &FleetSpec, memory: &Memory, fleet: &Fleet, seen: &Observation) -> Vec<Proposal> {
    let readings = seen.readings.checked(&spec.signals, seen.now);
    let view = View {
        now: seen.now,
        readings: &readings,
        current: fleet.current(memory),
        ready: count(
            fleet
                .serving
                .iter()
                .filter(|instance| instance.phase == Phase::Ready),
        ),
        slots: placement::to_buy(spec).slots,
    };
    spec.policies
        .iter()
        .map(|policy| policy.propose(&view))
        .collect()
}

/// The listed instances by what they count as.
struct Fleet<'a> {
    /// Booting or ready, and not on the way out.
    serving: Vec<&'a Instance>,
    /// Not ready long after they should have been: no capacity, but paid for.
    failed: Vec<&'a Instance>,
    /// Being let go, and still paid for.
    draining: Vec<&'a Instance>,
}

impl<'a> Fleet<'a> {
    fn sort(memory: &Memory, listing: &'a Listing) -> Self {
        let alive = listing.instances.iter().filter(|instance| {
            instance.phase != Phase::Ending && !memory.ended.contains_key(&instance.id)
        });
        let (draining, staying): (Vec<_>, Vec<_>) =
            alive.partition(|instance| memory.drains.contains_key(&instance.id));
        let (failed, serving) = staying
            .into_iter()
            .partition(|instance| memory.unready.get(&instance.id).copied().unwrap_or(false));
        Self {
            serving,
            failed,
            draining,
        }
    }

    /// Instances that count as capacity.
    fn current(&self, memory: &Memory) -> u32 {
        count(&self.serving).saturating_add(memory.unlisted())
    }
}

/// A decision in the making.
struct Plan<'a> {
    spec: &'a FleetSpec,
    memory: &'a Memory,
    seen: &'a Observation,
    fleet: Fleet<'a>,
    situation: Situation,
    reasons: Vec<Reason>,
    actions: Vec<Action>,
}

impl<'a> Plan<'a> {
    fn new(
        spec: &'a FleetSpec,
        memory: &'a Memory,
        seen: &'a Observation,
        fleet: Fleet<'a>,
    ) -> Self {
        let situation = situation(spec, memory, seen, &fleet);
        Self {
            spec,
            memory,
            seen,
            fleet,
            situation,
            reasons: Vec::new(),
            actions: Vec::new(),
        }
    }

    fn carry(mut self, proposals: Vec<Proposal>) -> Decision {
        let current = self.situation.current;
        self.situation.informed = informed(self.spec, self.seen);
        let combined = combine(&proposals, current);
        self.reasons = combined.reasons;
        let wish = combined.wish.unwrap_or(current);
        let (aim, reasons) = governor::bound(&self.spec.limits, &self.situation, wish);
        self.reasons.extend(reasons);
        let aim = if self.situation.informed {
            aim
        } else {
            aim.max(current)
        };
        if aim >= current {
            self.ask_again();
        }
        let target = if aim > current {
            self.grow(aim - current)
        } else {
            self.shrink(aim)
        };
        self.end_drained();
        Decision {
            epoch: self.memory.epoch,
            cycle: self.memory.cycle + 1,
            at: self.seen.now,
            current: Some(current),
            wish: largest(&proposals),
            proposals,
            target: Some(target),
            reasons: self.reasons,
            actions: self.actions,
        }
    }

    /// Asks for lost launches again: the token settles whether they happened.
    fn ask_again(&mut self) {
        let (now, limits) = (&self.situation, &self.spec.limits);
        // The limits may have been lowered since it was asked for.
        if now.fruitless >= limits.breaker_failures
            || now.billed > limits.max
            || now.spend > limits.max_usd_per_hour
        {
            return;
        }
        for (token, launch) in &self.memory.launches {
            let Answer::Awaited { asked } = launch.answer else {
                continue;
            };
            if asked >= LAUNCH_ASKED_MAX || !launch.seen.is_empty() {
                continue;
            }
            self.reasons.push(Reason::AskedAgain {
                token: token.clone(),
            });
            self.actions.push(Action::Launch {
                token: token.clone(),
                offering: launch.offering.clone(),
                count: launch.count,
            });
        }
    }

    /// Adds up to `need` instances, draining ones first, and says what the
    /// fleet has then.
    fn grow(&mut self, need: u32) -> u32 {
        let saved: Vec<InstanceId> = drain::rescuable(self.memory, &self.fleet.draining)
            .into_iter()
            .take(usize::try_from(need).unwrap_or(usize::MAX))
            .collect();
        let rescues = count(&saved);
        if rescues > 0 {
            self.reasons.push(Reason::Rescued { count: rescues });
        }
        self.actions.extend(
            saved
                .into_iter()
                .map(|instance| Action::Unfence { instance }),
        );
        let (granted, reasons) =
            governor::launches(&self.spec.limits, &self.situation, need - rescues);
        self.reasons.extend(reasons);
        if granted > 0 {
            self.actions.push(Action::Launch {
                token: LaunchToken::new(
                    &self.memory.store,
                    &self.spec.name,
                    self.memory.epoch,
                    self.memory.cycle + 1,
                    0,
                ),
                offering: placement::to_buy(self.spec).name.clone(),
                count: granted,
            });
        }
        self.situation.current + rescues + granted
    }

    /// Lets instances go until `aim` are left, as far as there are any that
    /// may go, and says what the fleet has then. Launches without an answer
    /// count when the fleet grows, and not here: nothing is let go in favour of
    /// an instance that may not exist.
    fn shrink(&mut self, aim: u32) -> u32 {
        let excess = self.situation.current.saturating_sub(aim);
        let unanswered = self.memory.unanswered();
        if excess > 0 && unanswered > 0 {
            self.reasons.push(Reason::Unanswered { count: unanswered });
        }
        let (granted, reasons) = governor::ends(
            &self.spec.limits,
            &self.situation,
            excess.saturating_sub(unanswered),
        );
        self.reasons.extend(reasons);
        if granted == 0 {
            // Most cycles end here: ranking everybody is for those that do not.
            return self.situation.current;
        }
        let victims = placement::victims(
            self.spec,
            self.seen.now,
            &self.fleet.serving,
            self.spec.drain.busy,
        );
        let granted = usize::try_from(granted).unwrap_or(usize::MAX);
        let fences = victims
            .into_iter()
            .take(granted)
            .map(|instance| Action::Fence {
                instance: instance.id.clone(),
            });
        let before = self.actions.len();
        self.actions.extend(fences);
        self.situation.current - count(&self.actions[before..])
    }

    /// Moves on what is being let go already, and starts to let go what never
    /// became ready. While a reading is missing only the latter ends: it is no
    /// capacity, so nothing shrinks, and a fleet of failed boots at its maximum
    /// would otherwise wait for ever for a reading that only a ready instance
    /// can give.
    fn end_drained(&mut self) {
        for instance in &self.fleet.draining {
            let Some(draining) = self.memory.drains.get(&instance.id) else {
                continue;
            };
            let rescued = self.actions.iter().any(
                |action| matches!(action, Action::Unfence { instance: id } if *id == instance.id),
            );
            let held = !self.situation.informed && !draining.boot_failed;
            if rescued || held {
                continue;
            }
            let step = drain::next_step(self.spec.drain, self.seen.now, instance, draining);
            self.actions.extend(step);
        }
        let failed = &self.fleet.failed;
        if !failed.is_empty() {
            self.reasons.push(Reason::BootFailed {
                count: count(failed),
            });
            let fences = failed.iter().map(|instance| Action::Fence {
                instance: instance.id.clone(),
            });
            self.actions.extend(fences);
        }
    }
}

fn situation(
    spec: &FleetSpec,
    memory: &Memory,
    seen: &Observation,
    fleet: &Fleet<'_>,
) -> Situation {
    let current = fleet.current(memory);
    let leaving = count(&fleet.draining).saturating_add(count(&fleet.failed));
    let listed = fleet
        .serving
        .iter()
        .chain(&fleet.draining)
        .chain(&fleet.failed);
    let prices = listed.map(|instance| placement::price_of(spec, &instance.offering).get());
    let unlisted = memory.launches.values().map(|launch| {
        placement::price_of(spec, &launch.offering)
            .times(launch.unlisted())
            .get()
    });
    let spend = prices.chain(unlisted).fold(0, u64::saturating_add);
    let booting = memory.unready.values().filter(|counted| !**counted);
    Situation {
        now: seen.now,
        current,
        billed: current.saturating_add(leaving),
        spend: MicroUsdPerHour::new(spend),
        price: placement::to_buy(spec).price,
        boots_pending: count(booting).saturating_add(memory.unlisted()),
        fruitless: memory.fruitless,
        ended: memory.ended_within_hour(seen.now),
        draining: leaving,
        grown_at: memory.grown_at,
        shrunk_at: memory.shrunk_at,
        informed: true,
    }
}

/// How many there are; a fleet of more than 2^32 instances would be a bug.
fn count<I: IntoIterator>(items: I) -> u32 {
    u32::try_from(items.into_iter().count()).unwrap_or(u32::MAX)
}
