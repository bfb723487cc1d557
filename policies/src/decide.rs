//! One cycle's thought: propose, combine, govern, place.
//!
//! [`decide`] is a pure, total function of the fleet's spec, its memory and
//! what is seen. It changes nothing; [`crate::reconcile`] writes its decision
//! down and carries it out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::audit::audit_looked;
use crate::drain;
use crate::governor::{self, Purchase, Situation};
use crate::memory::{Answer, Cause, Memory};
use crate::model::{
    Action, Decision, Instance, InstanceId, LaunchToken, Listing, Notice, Observation, Phase,
    Proposal, Reason, Wish, Work,
};
use crate::placement::{self, Choice, Held, Lot, Wanted};
use crate::policy::economic;
use crate::policy::{Life, NamedPolicy, Since, View, combine};
use crate::quote::priced;
use crate::signal::{Completeness, Readings};
use crate::spec::FleetSpec;
use crate::units::Timestamp;

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
    looked.look(spec, seen);
    decide_looked(spec, &looked, seen)
}

/// [`decide`] for a memory that has taken in what is `seen` already.
pub(crate) fn decide_looked(spec: &FleetSpec, looked: &Memory, seen: &Observation) -> Decision {
    let mut decision = think(&priced(spec, &seen.prices), looked, seen);
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
    let fleet = Fleet::sort(spec, memory, seen.now, listing);
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
    // Those that follow instances have done so already.
    let view = view(spec, memory, fleet, (&readings, &[]), seen.now);
    spec.policies
        .iter()
        .map(|policy| policy.propose(&view, memory.recalls.get(&policy.name)))
        .collect()
}

/// What an economic policy must know of the fleet beyond its view.
fn facts(
    spec: &FleetSpec,
    memory: &Memory,
    fleet: &Fleet<'_>,
    now: Timestamp,
    came_up: Vec<Timestamp>,
) -> economic::Fleet {
    let offering = placement::first_of(spec);
    let booting = fleet
        .serving
        .iter()
        .filter(|one| one.phase != Phase::Ready)
        .map(|one| now.since(one.launched_at));
    let unlisted = memory.launches.values().flat_map(|launch| {
        let count = usize::try_from(launch.unlisted()).unwrap_or(0);
        std::iter::repeat_n(now.since(launch.at), count)
    });
    let ready = || fleet.serving.iter().filter(|one| one.phase == Phase::Ready);
    let silent = ready().any(|one| one.work == Work::Unknown);
    let idle = count(ready().filter(|one| one.work == Work::Idle));
    let billing = offering.billing;
    let coarse = billing.increment > Duration::from_mins(1);
    let mut paid_left: Vec<(bool, Duration)> = fleet
        .serving
        .iter()
        .filter(|one| coarse && one.work != Work::Busy)
        .map(|one| {
            let left = placement::paid_left_micros(billing, one.launched_at, now);
            (one.phase != Phase::Ready, Duration::from_micros(left))
        })
        .collect();
    paid_left.sort();
    economic::Fleet {
        interval: spec.interval,
        price: offering.price,
        billing,
        waiting: spec.objective.usd_per_job_hour_waiting,
        min: spec.limits.min,
        max: spec.limits.max,
        billed: count(fleet.billed()).saturating_add(memory.unlisted()),
        spent: memory.ledger.spent(),
        since: memory.ledger.since,
        wind_down: wind_down(spec, fleet.current(memory)),
        booting: booting.chain(unlisted).collect(),
        idle: (!silent).then_some(idle),
        paid_left: paid_left.into_iter().map(|(_, left)| left).collect(),
        came_up,
    }
}

/// How long the governor may take until it has let `current` instances go.
fn wind_down(spec: &FleetSpec, current: u32) -> Duration {
    let limits = &spec.limits;
    let settle = limits.shrink_settle;
    let steps = current.div_ceil(limits.shrink_step_max.max(1));
    let by_steps = settle + settle.max(spec.interval) * steps.saturating_sub(1);
    let percent = limits.shrink_percent_per_hour_max.clamp(1, 100);
    let by_share = Duration::from_hours(1) * (100_u32.div_ceil(percent) - 1);
    by_steps.max(by_share)
}

/// Lets the policies that remember take their notes of a complete listing.
pub(crate) fn consider(
    spec: &FleetSpec,
    memory: &mut Memory,
    seen: &Observation,
    listing: &Listing,
    came_up: Vec<Timestamp>,
) {
    let mut remembering = spec.policies.iter().filter(|policy| policy.remembers());
    if remembering.next().is_none() {
        memory.recalls.clear();
        memory.lives.clear();
        return;
    }
    let readings = seen.readings.checked(&spec.signals, seen.now);
    let mut before = std::mem::take(&mut memory.recalls);
    let mut lives = std::mem::take(&mut memory.lives);
    let fleet = Fleet::sort(spec, memory, seen.now, listing);
    if spec.policies.iter().any(NamedPolicy::follows_instances) {
        lives = follow(&lives, &fleet, seen.now);
    } else {
        lives.clear();
    }
    let shown: Vec<Life> = lives.values().map(|since| since.until(seen.now)).collect();
    let view = view(spec, memory, &fleet, (&readings, &shown), seen.now);
    let facts = facts(spec, memory, &fleet, seen.now, came_up);
    let mut recalls = BTreeMap::new();
    for policy in spec.policies.iter().filter(|policy| policy.remembers()) {
        let mut recall = before.remove(&policy.name).unwrap_or_default();
        policy.consider(&view, Some(&facts), &mut recall);
        recalls.insert(policy.name.clone(), recall);
    }
    memory.recalls = recalls;
    memory.lives = lives;
}

/// Since when each ready instance is ready, and idle, given what was known.
fn follow(
    known: &BTreeMap<InstanceId, Since>,
    fleet: &Fleet,
    now: Timestamp,
) -> BTreeMap<InstanceId, Since> {
    let ready = fleet.serving.iter().filter(|one| one.phase == Phase::Ready);
    let lives = ready.map(|instance| {
        let before = known.get(&instance.id);
        let idle = match instance.work {
            Work::Idle => before.and_then(|since| since.idle).or(Some(now)),
            Work::Busy | Work::Unknown => None,
        };
        let since = Since {
            ready: before.map_or(now, |since| since.ready),
            idle,
        };
        (instance.id.clone(), since)
    });
    lives.collect()
}

fn view<'a>(
    spec: &FleetSpec,
    memory: &Memory,
    fleet: &Fleet,
    (readings, lives): (&'a Readings, &'a [Life]),
    now: Timestamp,
) -> View<'a> {
    // What is taken back from now on still counts here, once: a policy that
    // wishes to stay as it is wishes for its replacement.
    let current = fleet.current(memory).saturating_add(fleet.taken_back);
    View {
        now,
        readings,
        current,
        ready: ready(&fleet.serving).saturating_add(fleet.taken_back_ready),
        slots: placement::first_of(spec).slots,
        desired: memory.target.unwrap_or(current),
        lives,
    }
}

/// The listed instances by what they count as.
struct Fleet<'a> {
    /// Booting or ready, and not on the way out.
    serving: Vec<&'a Instance>,
    /// Not ready long after they should have been: no capacity, but paid for.
    failed: Vec<&'a Instance>,
    /// Being let go, and still paid for.
    draining: Vec<&'a Instance>,
    /// With a notice that is acted on, and not being let go yet: no capacity,
    /// so that their replacements are bought.
    noticed: Vec<&'a Instance>,
    /// Another store's, confirmed, and not being let go yet: no capacity.
    strays: Vec<&'a Instance>,
    /// Those with a notice that were capacity up to this cycle.
    taken_back: u32,
    /// Those of them that are ready.
    taken_back_ready: u32,
}

impl<'a> Fleet<'a> {
    fn sort(spec: &FleetSpec, memory: &Memory, now: Timestamp, listing: &'a Listing) -> Self {
        let alive = listing.instances.iter().filter(|instance| {
            instance.phase != Phase::Ending && !memory.ended.contains_key(&instance.id)
        });
        let (draining, staying): (Vec<_>, Vec<_>) =
            alive.partition(|instance| memory.drains.contains_key(&instance.id));
        let (noticed, staying): (Vec<_>, Vec<_>) = staying
            .into_iter()
            .partition(|instance| memory.acts_on_notice(&instance.id));
        let (failed, staying): (Vec<_>, Vec<_>) = staying
            .into_iter()
            .partition(|instance| memory.unready.get(&instance.id).copied().unwrap_or(false));
        let confirmed = |instance: &&Instance| {
            let stray = memory.strays.get(&instance.id);
            stray.is_some_and(|stray| stray.confirmed(spec, now))
        };
        let (strays, serving) = staying.into_iter().partition(confirmed);
        let taken_back: Vec<&Instance> = noticed
            .iter()
            .copied()
            .filter(|instance| memory.noticed.get(&instance.id) == Some(&Some(now)))
            .collect();
        Self {
            serving,
            failed,
            draining,
            taken_back: count(&taken_back),
            taken_back_ready: ready(&taken_back),
            noticed,
            strays,
        }
    }

    /// Everything that is paid for.
    fn billed(&self) -> impl Iterator<Item = &'a Instance> {
        let groups = [
            &self.serving,
            &self.draining,
            &self.failed,
            &self.noticed,
            &self.strays,
        ];
        groups.into_iter().flatten().copied()
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
    held: Held,
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
        let held = Held::count(spec, memory, fleet.billed(), &fleet.serving);
        let situation = situation(spec, memory, seen, &fleet, &held);
        Self {
            spec,
            memory,
            seen,
            fleet,
            held,
            situation,
            reasons: Vec::new(),
            actions: Vec::new(),
        }
    }

    fn carry(mut self, proposals: Vec<Proposal>) -> Decision {
        let current = self.situation.current;
        self.situation.informed = informed(self.spec, self.seen);
        let viewed = current.saturating_add(self.fleet.taken_back);
        let combined = combine(&proposals, viewed);
        self.reasons = combined.reasons;
        let wish = combined.wish.unwrap_or(viewed);
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
        self.let_go_noticed(wish.clamp(self.spec.limits.min, self.spec.limits.max));
        self.let_go_strays();
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
        let now = Now {
            spec: self.spec,
            memory: self.memory,
            held: &self.held,
            situation: &self.situation,
        };
        let size = self.situation.current + rescues;
        let choice = buy(&now, size, need - rescues, &BTreeSet::new());
        self.reasons.extend(choice.reasons);
        let mut bought = 0;
        for (serial, lot) in (0..).zip(choice.lots) {
            bought += lot.count;
            let cycle = self.memory.cycle + 1;
            self.actions
                .push(launch(self.spec, self.memory, cycle, serial, lot));
        }
        size + bought
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
            &self.held,
            aim,
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

    /// Lets go what the provider takes back: at once if it says when, otherwise
    /// once as many as are `wished` for are ready without it, or if it has no job. That it is interrupted needs no reading.
    fn let_go_noticed(&mut self, wished: u32) {
        let replaced = ready(&self.fleet.serving) >= wished;
        let (mut interrupted, mut rebalancing) = (0, 0);
        for instance in &self.fleet.noticed {
            let leaves = match instance.notice {
                Some(Notice::Interruption { .. }) => {
                    interrupted += 1;
                    true
                }
                Some(Notice::Rebalance { .. }) | None => {
                    rebalancing += 1;
                    let idle = instance.phase != Phase::Ready || instance.work == Work::Idle;
                    self.situation.informed && (replaced || idle)
                }
            };
            if leaves {
                self.actions.push(Action::Fence {
                    instance: instance.id.clone(),
                });
            }
        }
        if interrupted > 0 {
            self.reasons
                .push(Reason::Interrupted { count: interrupted });
        }
        if rebalancing > 0 {
            self.reasons
                .push(Reason::Rebalancing { count: rebalancing });
        }
    }

    /// Lets strays go, as far as the step and the share of this cycle allow.
    fn let_go_strays(&mut self) {
        if self.fleet.strays.is_empty() {
            return;
        }
        let serving = |id: &InstanceId| self.fleet.serving.iter().any(|one| one.id == *id);
        let shrunk =
            count(self.actions.iter().filter(
                |action| matches!(action, Action::Fence { instance } if serving(instance)),
            ));
        let limits = &self.spec.limits;
        let mut situation = self.situation;
        situation.draining = situation.draining.saturating_add(shrunk);
        let step = limits.shrink_step_max.saturating_sub(shrunk);
        let wanted = count(&self.fleet.strays).min(step);
        let (granted, reasons) = governor::ends(limits, &situation, wanted);
        self.reasons.extend(reasons);
        if granted == 0 {
            return;
        }
        self.reasons.push(Reason::StraysLetGo { count: granted });
        let strays = self.fleet.strays.iter();
        let granted = usize::try_from(granted).unwrap_or(usize::MAX);
        let fences = strays.take(granted).map(|instance| Action::Fence {
            instance: instance.id.clone(),
        });
        self.actions.extend(fences);
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
            let interrupted = matches!(instance.notice, Some(Notice::Interruption { .. }));
            let held = !self.situation.informed && !draining.boot_failed && !interrupted;
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

/// What a purchase is judged by.
struct Now<'a> {
    spec: &'a FleetSpec,
    memory: &'a Memory,
    held: &'a Held,
    situation: &'a Situation,
}

/// What of `wanted` more instances is bought where, for a fleet that has `size`
/// without them; nothing of the offerings in `short`.
fn buy(now: &Now<'_>, size: u32, wanted: u32, short: &BTreeSet<String>) -> Choice {
    let limits = &now.spec.limits;
    let (granted, mut reasons) = governor::launches(limits, now.situation, wanted);
    if granted == 0 {
        return Choice {
            reasons,
            lots: Vec::new(),
        };
    }
    let wanted = Wanted {
        count: granted,
        size: size.saturating_add(granted),
    };
    let at = now.situation.now;
    let mut choice = placement::choose(now.spec, now.memory, at, now.held, wanted, short);
    let purchases: Vec<Purchase> = choice
        .lots
        .iter()
        .map(|lot| Purchase {
            count: lot.count,
            prepaid: lot.prepaid,
            price: lot.price,
        })
        .collect();
    let (counts, cuts) = governor::payable(limits, now.situation, &purchases);
    for (lot, count) in choice.lots.iter_mut().zip(counts) {
        lot.count = count;
    }
    choice.lots.retain(|lot| lot.count > 0);
    reasons.append(&mut choice.reasons);
    reasons.extend(cuts);
    choice.reasons = reasons;
    choice
}

fn launch(spec: &FleetSpec, memory: &Memory, cycle: u64, serial: u32, lot: Lot) -> Action {
    Action::Launch {
        token: LaunchToken::new(&memory.store, &spec.name, memory.epoch, cycle, serial),
        offering: lot.offering,
        count: lot.count,
    }
}

/// Launches of up to `missing` instances in place of what the offerings in
/// `short` did not grant in the cycle that `memory` is in, numbered from
/// `serial`. Everything that may be launched by now counts.
pub(crate) fn elsewhere(
    spec: &FleetSpec,
    memory: &Memory,
    seen: &Observation,
    missing: u32,
    short: &BTreeSet<String>,
    serial: u32,
) -> Vec<Action> {
    let Ok(listing) = &seen.fleet else {
        return Vec::new();
    };
    let spec = &*priced(spec, &seen.prices);
    let fleet = Fleet::sort(spec, memory, seen.now, listing);
    let held = Held::count(spec, memory, fleet.billed(), &fleet.serving);
    let now = Now {
        spec,
        memory,
        held: &held,
        situation: &situation(spec, memory, seen, &fleet, &held),
    };
    let lots = buy(&now, fleet.current(memory), missing, short).lots;
    let numbered = (serial..).zip(lots);
    numbered
        .map(|(serial, lot)| launch(spec, memory, memory.cycle, serial, lot))
        .collect()
}

fn situation(
    spec: &FleetSpec,
    memory: &Memory,
    seen: &Observation,
    fleet: &Fleet<'_>,
    held: &Held,
) -> Situation {
    let current = fleet.current(memory);
    // What the provider takes back is not let go by us.
    let told = fleet.draining.iter().filter(|instance| {
        let drain = memory.drains.get(&instance.id);
        drain.is_some_and(|drain| drain.cause != Cause::Notice)
    });
    let leaving = count(told).saturating_add(count(&fleet.failed));
    let listed = count(fleet.billed());
    let booting = memory.unready.values().filter(|counted| !**counted);
    Situation {
        now: seen.now,
        current,
        billed: listed.saturating_add(memory.unlisted()),
        spend: held.spend(spec),
        boots_pending: count(booting).saturating_add(memory.unlisted()),
        fruitless: memory.fruitless,
        ended: memory.ended_within_hour(seen.now),
        draining: leaving,
        grown_at: memory.grown_at,
        shrunk_at: memory.shrunk_at,
        informed: true,
    }
}

/// How many of `instances` are ready.
fn ready(instances: &[&Instance]) -> u32 {
    count(
        instances
            .iter()
            .filter(|instance| instance.phase == Phase::Ready),
    )
}

/// How many there are; a fleet of more than 2^32 instances would be a bug.
fn count<I: IntoIterator>(items: I) -> u32 {
    u32::try_from(items.into_iter().count()).unwrap_or(u32::MAX)
}
