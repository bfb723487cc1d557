//! What is well-formed and still makes no sense.

use super::{FleetSpec, Limits, Mix};
use crate::fields::duration_text;
use crate::model::Market;
use crate::policy::{Change, Demand, Fixed, Needs, Policy, Schedule, Step};
use crate::signal::{SignalKind, SignalSpec, standard};
use crate::units::{MicroUsd, MicroUsdPerHour};

/// Something wrong with one of a fleet's policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which policy, counted from 0.
    pub policy: usize,
    /// Which of its keys, such as `instances` or `window[1].instances`.
    pub key: String,
    /// What is wrong and what to change.
    pub message: String,
}

/// Why `policy` cannot work with a signal of `kind`, and the key to change.
pub(super) fn kind_fault(
    policy: &Policy,
    demand: Demand<'_>,
    kind: SignalKind,
) -> Option<(&'static str, String)> {
    if let Some(refusal) = demand.needs.refusal(kind) {
        return Some((demand.key, format!("`{}` {refusal}", demand.signal)));
    }
    match policy {
        Policy::TargetTracking(rule)
            if demand.needs == Needs::Proportional
                && kind == SignalKind::Ratio
                && rule.target > 1.0 =>
        {
            let message = format!(
                "{} is above 1, and `{}` is a ratio from 0 to 1; write 0.7 for 70 %",
                rule.target, rule.signal
            );
            Some(("target", message))
        }
        Policy::Fixed(_)
        | Policy::Schedule(_)
        | Policy::QueueBacklog(_)
        | Policy::TargetTracking(_)
        | Policy::Step(_)
        | Policy::Economic(_)
        | Policy::Peer(_) => None,
    }
}

/// Every number of instances that a policy names and `limits` never let it have.
pub fn policy_faults(policies: &[crate::policy::NamedPolicy], limits: &Limits) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (index, named) in policies.iter().enumerate() {
        for (key, count, floor) in named_sizes(&named.policy) {
            let message = if count > limits.max {
                format!("{count} is above limits.max ({})", limits.max)
            } else if count < limits.min && floor {
                format!("{count} is below limits.min ({})", limits.min)
            } else {
                continue;
            };
            faults.push(Fault {
                policy: index,
                key,
                message,
            });
        }
    }
    faults
}

/// The sizes a policy names, by key, and whether one below `min` is a mistake.
fn named_sizes(policy: &Policy) -> Vec<(String, u32, bool)> {
    match policy {
        Policy::Fixed(Fixed { instances }) => vec![("instances".to_owned(), *instances, true)],
        Policy::Schedule(Schedule {
            windows, otherwise, ..
        }) => windows
            .iter()
            .enumerate()
            .map(|(index, window)| (format!("window[{index}].instances"), window.instances, true))
            // Zero is its default, and means: what the others and `min` say.
            .chain([("otherwise".to_owned(), *otherwise, *otherwise > 0)])
            .collect(),
        Policy::Step(Step { steps, .. }) => steps
            .iter()
            .enumerate()
            .filter_map(|(index, rung)| match rung.change {
                Change::Exact(count) => Some((format!("step[{index}].exact"), count, true)),
                Change::By(_) | Change::Percent { .. } => None,
            })
            .collect(),
        Policy::QueueBacklog(_)
        | Policy::TargetTracking(_)
        | Policy::Economic(_)
        | Policy::Peer(_) => Vec::new(),
    }
}

/// What makes no sense in the fleet itself: keys of its table, and messages.
pub(super) fn fleet_faults(spec: &FleetSpec) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    faults.extend(money_fault(spec).map(|message| ("limits.max_usd_per_hour", message)));
    faults.extend(waiting_faults(spec));
    faults.extend(budget_fault(spec).map(|message| ("limits.min", message)));
    faults.extend(empty_for_good(spec).map(|message| ("limits.min", message)));
    faults.extend(mix_faults(spec));
    faults
}

/// Why the least that the fleet costs is more than an economic policy's budget.
fn budget_fault(spec: &FleetSpec) -> Option<String> {
    let offerings = spec.offerings.iter();
    let cheapest = offerings.min_by_key(|offering| offering.price)?;
    let prepaid: u64 = spec
        .offerings
        .iter()
        .map(|one| u64::from(one.prepaid))
        .sum();
    let paid = u64::from(spec.limits.min).saturating_sub(prepaid);
    spec.policies.iter().find_map(|named| {
        let Policy::Economic(rule) = &named.policy else {
            return None;
        };
        let windows = rule.windows.iter().filter_map(|window| window.budget);
        let budget = rule.budget.into_iter().chain(windows);
        let budget = budget.min_by_key(|budget| budget.amount)?;
        let hours = budget.period.hours_min();
        let least = cheapest
            .price
            .get()
            .saturating_mul(paid)
            .saturating_mul(hours);
        let least = i64::try_from(least).map_or(MicroUsd::new(i64::MAX), MicroUsd::new);
        (least > budget.amount && budget.amount > MicroUsd::ZERO).then(|| {
            format!(
                "{} instances for {hours} hours cost ${least}, more than `{}` of policy `{}` \
                 (${}); lower min or raise the budget",
                spec.limits.min,
                budget.period.key(),
                named.name,
                budget.amount,
            )
        })
    })
}

fn money_fault(spec: &FleetSpec) -> Option<String> {
    let cap = spec.limits.max_usd_per_hour;
    let cheapest = spec
        .offerings
        .iter()
        .min_by_key(|offering| offering.price)?;
    let needed = spec.limits.min.max(1);
    let cost = cheapest.price.times(needed);
    (cost > cap).then(|| {
        let whose = if spec.limits.min == 0 {
            format!("one {}", cheapest.name)
        } else {
            format!("min ({needed}) of {}", cheapest.name)
        };
        let advice = if spec.limits.min > 0 && cap > MicroUsdPerHour::ZERO {
            "raise it or lower min"
        } else {
            "raise it"
        };
        format!("${cap} an hour does not pay for {whose}, which costs ${cost}; {advice}")
    })
}

/// What a mix asks for that can never be bought.
fn mix_faults(spec: &FleetSpec) -> Vec<(&'static str, String)> {
    let (mix, limits) = (spec.mix, &spec.limits);
    let mut faults = Vec::new();
    if mix.on_demand_base > limits.max {
        let message = format!(
            "{} is above limits.max ({})",
            mix.on_demand_base, limits.max
        );
        faults.push(("mix.on_demand_base", message));
    }
    let key = if mix.on_demand_base > 0 {
        "mix.on_demand_base"
    } else {
        "mix.on_demand_percent"
    };
    let needed = mix.on_demand_of(limits.min.max(1));
    let on_demand = spec
        .offerings
        .iter()
        .filter(|offering| offering.market == Market::OnDemand);
    match on_demand.min_by_key(|offering| offering.price) {
        None if mix != Mix::default() => {
            let message = "nothing on demand is offered, so such instances could never be \
                           bought; add an on-demand offering or remove the mix";
            faults.push((key, message.to_owned()));
        }
        Some(cheapest) if cheapest.price.times(needed) > limits.max_usd_per_hour => {
            let message = format!(
                "needs {needed} of {} for limits.min ({}), which costs ${} an hour, and \
                 limits.max_usd_per_hour is ${}; raise that or lower this",
                cheapest.name,
                limits.min,
                cheapest.price.times(needed),
                limits.max_usd_per_hour
            );
            // What not even the cheapest offering pays for is told elsewhere.
            if money_fault(spec).is_none() {
                faults.push((key, message));
            }
        }
        None | Some(_) => {}
    }
    faults
}

fn waiting_faults(spec: &FleetSpec) -> Vec<(&'static str, String)> {
    let limits = &spec.limits;
    let interval = duration_text(spec.interval);
    let mut faults = Vec::new();
    for (key, settle) in [
        ("limits.shrink_settle", limits.shrink_settle),
        ("limits.grow_settle", limits.grow_settle),
    ] {
        if !settle.is_zero() && settle < spec.interval {
            let message = format!(
                "{} is shorter than interval ({interval}), so it never delays anything; write \
                 \"0s\" or at least \"{interval}\"",
                duration_text(settle)
            );
            faults.push((key, message));
        }
    }
    for (key, patience, what) in [
        (
            "limits.boot_timeout",
            limits.boot_timeout,
            "an instance would count as failed",
        ),
        (
            "limits.listing_patience",
            limits.listing_patience,
            "a launch would count as lost",
        ),
    ] {
        if patience < spec.interval {
            let message = format!(
                "{} is shorter than interval ({interval}): {what} before it was looked for once; \
                 write at least \"{interval}\"",
                duration_text(patience)
            );
            faults.push((key, message));
        }
    }
    faults
}

/// Why a fleet that is empty once would stay empty.
fn empty_for_good(spec: &FleetSpec) -> Option<String> {
    let measured = |policy: &Policy| match policy {
        Policy::TargetTracking(_) | Policy::Step(_) => true,
        Policy::Peer(_) => !starts_from_zero(policy, &spec.signals),
        Policy::Fixed(_) | Policy::Schedule(_) | Policy::QueueBacklog(_) | Policy::Economic(_) => {
            false
        }
    };
    let stuck = spec.limits.min == 0
        && spec.policies.iter().any(|named| measured(&named.policy))
        && !spec
            .policies
            .iter()
            .any(|named| starts_from_zero(&named.policy, &spec.signals));
    stuck.then(|| {
        "0 lets the fleet become empty, and no policy of it can start an empty fleet again, \
         because what they read is measured on instances; write at least 1, or add a policy \
         that can (queue_backlog, schedule or fixed)"
            .to_owned()
    })
}

fn starts_from_zero(policy: &Policy, signals: &[SignalSpec]) -> bool {
    let seen = |name: &str| {
        let kind = signals
            .iter()
            .find(|signal| signal.name == name)
            .map(|signal| signal.kind);
        // A latency is measured on jobs that were finished: none are.
        name != standard::LATENCY_P95
            && kind.is_some_and(|kind| !kind.falls_as_instances_are_added())
    };
    match policy {
        Policy::Fixed(Fixed { instances }) => *instances > 0,
        Policy::Schedule(Schedule {
            windows, otherwise, ..
        }) => *otherwise > 0 || windows.iter().any(|window| window.instances > 0),
        Policy::QueueBacklog(_) | Policy::Economic(_) => true,
        Policy::Peer(peer) => peer.starts_from_zero(seen),
        Policy::TargetTracking(rule) => !rule.to_zero,
        Policy::Step(rule) => {
            seen(&rule.signal) && rule.steps.iter().any(|rung| rung.change.apply(0) > 0)
        }
    }
}
