//! What is true of every decision. The daemon, the simulator and the tests
//! call it on each one.
//!
//! It recounts everything from the observation on its own and shares no
//! arithmetic with [`crate::decide`]: a mistake there is not made here too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::memory::Memory;
use crate::model::{
    Action, Decision, Grounds, Instance, InstanceId, LaunchToken, Notice, Observation, Phase, Work,
};
use crate::quote::Quotes;
use crate::spec::{FleetSpec, OnRebalance, Strays};

/// EC2 accepts no longer `ClientToken`.
const TOKEN_CHARS_MAX: usize = 64;

/// One thing that should never be true of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant it breaks.
    pub invariant: Invariant,
    /// The numbers or names.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.invariant, self.detail)
    }
}

/// The invariants, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// No launch makes more instances than `max`, draining ones included.
    NeverAboveMax,
    /// No launch makes the fleet cost more an hour than it may.
    NeverAboveSpend,
    /// No more is asked of an offering that refused of late than its budget.
    ProbesAreSmall,
    /// What the provider takes back is not put back to work.
    TakenBackStaysFenced,
    /// No complete listing, no change.
    BlindMeansHold,
    /// Nothing changes right after a start.
    ObserveFirst,
    /// An absent reading lets nothing go but what never became ready or is
    /// interrupted.
    AbsentNeverShrinks,
    /// Only listed instances are acted on, each at most once.
    NamedOnly,
    /// An instance is ended only when fenced, and idle or past its deadline.
    EndOnlyDrained,
    /// Every launch has a token of its own, of this epoch and cycle, unless
    /// it asks again for one that is remembered.
    TokensAreFresh,
    /// The target is what the actions lead to.
    TargetAddsUp,
}

impl fmt::Display for Invariant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NeverAboveMax => "never above max",
            Self::NeverAboveSpend => "never above the spend cap",
            Self::ProbesAreSmall => "probes are small",
            Self::TakenBackStaysFenced => "what is taken back stays fenced",
            Self::BlindMeansHold => "blind means hold",
            Self::ObserveFirst => "observe first",
            Self::AbsentNeverShrinks => "absent never shrinks",
            Self::NamedOnly => "named instances only",
            Self::EndOnlyDrained => "end only what is drained",
            Self::TokensAreFresh => "tokens are fresh",
            Self::TargetAddsUp => "the target adds up",
        })
    }
}

/// All that is wrong with `decision`, given what was remembered before it and
/// what was seen; empty if it is sound.
pub fn audit(
    spec: &FleetSpec,
    memory: &Memory,
    seen: &Observation,
    decision: &Decision,
) -> Vec<Violation> {
    let mut looked = memory.clone();
    looked.look(spec, seen);
    audit_looked(spec, &looked, seen, decision)
}

/// [`audit`] for a memory that has taken in what is `seen` already.
pub(crate) fn audit_looked(
    spec: &FleetSpec,
    looked: &Memory,
    seen: &Observation,
    decision: &Decision,
) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut report =
        |invariant: Invariant, detail: String| found.push(Violation { invariant, detail });

    let listed: BTreeMap<&InstanceId, &Instance> = match &seen.fleet {
        Ok(listing) if listing.complete => listing
            .instances
            .iter()
            .map(|instance| (&instance.id, instance))
            .collect(),
        Ok(_) | Err(_) => {
            if !decision.actions.is_empty() {
                report(
                    Invariant::BlindMeansHold,
                    format!("{} actions", decision.actions.len()),
                );
            }
            return found;
        }
    };
    if looked.corroborated < spec.limits.observe_cycles && !decision.actions.is_empty() {
        report(
            Invariant::ObserveFirst,
            format!("{} actions", decision.actions.len()),
        );
    }
    let count = Count::of(spec, looked, seen, &listed);
    check_size(spec, looked, seen, &count, &decision.actions, &mut report);
    check_probes(spec, looked, &decision.actions, &mut report);
    check_instances(spec, looked, seen, &listed, decision, &mut report);
    check_tokens(looked, decision, &mut report);
    if let Some(target) = decision.target {
        let tally = Tally::of(looked, decision, |id| {
            let shown = listed.get(id);
            shown.is_some_and(|one| foreign_or_taken_back(spec, looked, seen, one))
        });
        let after = count.capacity + tally.launched + tally.unfenced - tally.fenced;
        if i64::from(target) != after {
            report(
                Invariant::TargetAddsUp,
                format!("target {target}, actions lead to {after}"),
            );
        }
    }
    found
}

/// [`audit`] of launches that are to be added to a cycle after `memory` has
/// taken in what was decided and how it came out so far.
pub(crate) fn audit_elsewhere(
    spec: &FleetSpec,
    memory: &Memory,
    seen: &Observation,
    added: &[Action],
) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut report =
        |invariant: Invariant, detail: String| found.push(Violation { invariant, detail });
    let Ok(listing) = &seen.fleet else {
        report(
            Invariant::BlindMeansHold,
            format!("{} actions", added.len()),
        );
        return found;
    };
    let listed = listing
        .instances
        .iter()
        .map(|instance| (&instance.id, instance))
        .collect();
    let count = Count::of(spec, memory, seen, &listed);
    check_size(spec, memory, seen, &count, added, &mut report);
    check_probes(spec, memory, added, &mut report);
    found
}

/// The fleet, counted independently.
struct Count<'a> {
    capacity: i64,
    paid: i64,
    /// Paid for, by offering.
    offerings: BTreeMap<&'a str, u128>,
}

/// What so many of each offering cost an hour, in micro-dollars; prepaid ones
/// cost nothing.
fn cost(spec: &FleetSpec, prices: &Quotes, offerings: &BTreeMap<&str, u128>) -> u128 {
    let costs = offerings.iter().map(|(name, count)| {
        let named = spec.offerings.iter().find(|one| one.name == **name);
        let prepaid = named.map_or(0, |one| u128::from(one.prepaid));
        price(spec, prices, name) * count.saturating_sub(prepaid)
    });
    costs.sum()
}

/// Whether `instance` counts for nothing because it is on its way out already
/// or not this store's.
fn foreign_or_taken_back(
    spec: &FleetSpec,
    memory: &Memory,
    seen: &Observation,
    instance: &Instance,
) -> bool {
    let stray = memory.strays.get(&instance.id).is_some_and(|stray| {
        let apart = spec.interval * (spec.limits.strays_confirmations - 1);
        let own = format!("{}-{}-", memory.store, spec.name);
        let foreign = |token: &LaunchToken| !token.as_str().starts_with(&own);
        spec.limits.strays == Strays::End
            && instance.token.as_ref().is_some_and(foreign)
            && stray.listings >= spec.limits.strays_confirmations
            && seen.now >= stray.since + apart
    });
    stray || taken_back(spec, instance)
}

fn taken_back(spec: &FleetSpec, instance: &Instance) -> bool {
    match instance.notice {
        None => false,
        Some(Notice::Interruption { .. }) => true,
        Some(Notice::Rebalance { .. }) => spec.spot.on_rebalance != OnRebalance::Ignore,
    }
}

impl<'a> Count<'a> {
    fn of(
        spec: &FleetSpec,
        memory: &'a Memory,
        seen: &Observation,
        listed: &BTreeMap<&'a InstanceId, &'a Instance>,
    ) -> Self {
        let mut count = Self {
            capacity: 0,
            paid: 0,
            offerings: BTreeMap::new(),
        };
        for (id, instance) in listed {
            if instance.phase == Phase::Ending || memory.ended.contains_key(id) {
                continue;
            }
            count.paid += 1;
            *count.offerings.entry(&instance.offering).or_insert(0) += 1;
            let failed = memory.unready.get(id).is_some_and(|failed| *failed);
            let out = failed || foreign_or_taken_back(spec, memory, seen, instance);
            if !out && !memory.drains.contains_key(id) {
                count.capacity += 1;
            }
        }
        for launch in memory.launches.values() {
            let unlisted = i64::from(launch.count) - i64::try_from(launch.seen.len()).unwrap_or(0);
            let unlisted = unlisted.max(0);
            count.capacity += unlisted;
            count.paid += unlisted;
            *count.offerings.entry(&launch.offering).or_insert(0) +=
                u128::from(unlisted.unsigned_abs());
        }
        count
    }
}

/// What the actions add up to; launches that are asked for again count as
/// capacity already.
struct Tally {
    launched: i64,
    fenced: i64,
    unfenced: i64,
}

impl Tally {
    fn of(memory: &Memory, decision: &Decision, no_capacity: impl Fn(&InstanceId) -> bool) -> Self {
        let mut tally = Self {
            launched: 0,
            fenced: 0,
            unfenced: 0,
        };
        for action in &decision.actions {
            match action {
                Action::Launch { token, count, .. } if !memory.launches.contains_key(token) => {
                    tally.launched += i64::from(*count);
                }
                Action::Fence { instance } => {
                    let failed = memory.unready.get(instance).is_some_and(|failed| *failed);
                    let counted = !failed && !no_capacity(instance);
                    if counted && !memory.drains.contains_key(instance) {
                        tally.fenced += 1;
                    }
                }
                Action::Unfence { .. } => tally.unfenced += 1,
                Action::Launch { .. } | Action::Terminate { .. } => {}
            }
        }
        tally
    }
}

fn check_size(
    spec: &FleetSpec,
    memory: &Memory,
    seen: &Observation,
    count: &Count<'_>,
    actions: &[Action],
    report: &mut impl FnMut(Invariant, String),
) {
    let mut offerings = count.offerings.clone();
    let mut launched = 0;
    for action in actions {
        if let Action::Launch {
            token,
            offering,
            count,
        } = action
            && !memory.launches.contains_key(token)
        {
            launched += i64::from(*count);
            *offerings.entry(offering).or_insert(0) += u128::from(*count);
        }
    }
    if launched == 0 {
        return;
    }
    let instances = count.paid + launched;
    if instances > i64::from(spec.limits.max) {
        report(
            Invariant::NeverAboveMax,
            format!("{instances} of {}", spec.limits.max),
        );
    }
    let spend = cost(spec, &seen.prices, &offerings);
    // What is prepaid may be bought whatever the rest costs.
    let dearer = spend > cost(spec, &seen.prices, &count.offerings);
    if dearer && spend > u128::from(spec.limits.max_usd_per_hour.get()) {
        report(
            Invariant::NeverAboveSpend,
            format!(
                "{spend} of {} micro-dollars an hour",
                spec.limits.max_usd_per_hour.get()
            ),
        );
    }
}

/// What an offering may be asked for, if there is another to turn to.
fn check_probes(
    spec: &FleetSpec,
    memory: &Memory,
    actions: &[Action],
    report: &mut impl FnMut(Invariant, String),
) {
    for (name, standing) in &memory.standings {
        let asked = actions.iter().map(|action| match action {
            Action::Launch {
                token,
                offering,
                count,
            } if offering == name && !memory.launches.contains_key(token) => u64::from(*count),
            _ => 0,
        });
        let asked: u64 = asked.sum();
        if spec.offerings.len() > 1 && asked > u64::from(standing.budget) {
            report(
                Invariant::ProbesAreSmall,
                format!("{asked} of {name} instead of {}", standing.budget),
            );
        }
    }
}

fn check_instances(
    spec: &FleetSpec,
    memory: &Memory,
    seen: &Observation,
    listed: &BTreeMap<&InstanceId, &Instance>,
    decision: &Decision,
    report: &mut impl FnMut(Invariant, String),
) {
    let readings = seen.readings.checked(&spec.signals, seen.now);
    let signals: BTreeSet<&str> = spec
        .policies
        .iter()
        .flat_map(|named| named.policy.signals())
        .collect();
    let absent = signals
        .into_iter()
        .find(|signal| readings.sample(signal).is_err());
    let mut named = BTreeSet::new();
    for action in &decision.actions {
        let (instance, ends) = match action {
            Action::Launch { .. } => continue,
            Action::Unfence { instance } => (instance, false),
            Action::Fence { instance } | Action::Terminate { instance, .. } => (instance, true),
        };
        if !named.insert(instance) {
            report(Invariant::NamedOnly, format!("{instance} twice"));
        }
        let never_ready = memory.unready.get(instance).is_some_and(|failed| *failed);
        let shown = listed.get(instance);
        let interrupted =
            shown.is_some_and(|one| matches!(one.notice, Some(Notice::Interruption { .. })));
        if !ends && shown.is_some_and(|one| taken_back(spec, one)) {
            report(Invariant::TakenBackStaysFenced, action.to_string());
        }
        if let Some(signal) = absent.filter(|_| ends && !never_ready && !interrupted) {
            report(
                Invariant::AbsentNeverShrinks,
                format!("{action} without {signal}"),
            );
        }
        let Some(shown) = shown else {
            report(Invariant::NamedOnly, format!("{instance} is not listed"));
            continue;
        };
        if let Action::Terminate { receipt, .. } = action {
            let drain = memory.drains.get(instance);
            let confirmed = drain.is_some_and(|drain| drain.fenced_at.is_some());
            let grounded = match receipt.grounds() {
                Grounds::ConfirmedIdle => shown.fenced && shown.work == Work::Idle,
                Grounds::NeverReady => shown.phase == Phase::Booting,
                Grounds::PastDeadline => spec.drain.deadline.is_some_and(|deadline| {
                    drain.is_some_and(|drain| seen.now.since(drain.since) >= deadline)
                }),
            };
            if !confirmed || !grounded {
                report(Invariant::EndOnlyDrained, action.to_string());
            }
        }
    }
}

fn check_tokens(memory: &Memory, decision: &Decision, report: &mut impl FnMut(Invariant, String)) {
    let ours = format!("-{}-{}-", decision.epoch, decision.cycle);
    let mut used: BTreeSet<&LaunchToken> = BTreeSet::new();
    for action in &decision.actions {
        let Action::Launch { token, .. } = action else {
            continue;
        };
        let known = memory.launches.contains_key(token);
        let fresh = token.as_str().contains(&ours) && token.as_str().len() <= TOKEN_CHARS_MAX;
        if !used.insert(token) || !(known || fresh) {
            report(Invariant::TokensAreFresh, token.to_string());
        }
    }
}

/// What an offering costs now; the dearest price stands for a name that is not
/// known.
fn price(spec: &FleetSpec, prices: &Quotes, offering: &str) -> u128 {
    let of = |name: &str, listed: u64| prices.get(name).map_or(listed, |quote| quote.price.get());
    let mut dearest = 0;
    for one in &spec.offerings {
        let price = of(&one.name, one.price.get());
        if one.name == offering {
            return u128::from(price);
        }
        dearest = dearest.max(price);
    }
    u128::from(dearest)
}
