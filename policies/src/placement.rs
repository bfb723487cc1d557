//! Which offerings to buy from, and which instances to let go.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::memory::Memory;
use crate::model::{Billing, Instance, Market, Offering, Phase, Reason, Work};
use crate::spec::FleetSpec;
use crate::units::{MicroUsdPerHour, Timestamp, micros_of};

/// Paid time left is compared in whole minutes: with per-second billing the
/// last started second would otherwise choose the victim.
const PAID_BUCKET_MICROS: u64 = 60_000_000;

/// The offering that stands for the fleet where only one can: the first of the
/// spec, its cheapest.
pub(crate) fn first_of(spec: &FleetSpec) -> &Offering {
    spec.offerings
        .first()
        .expect("a checked spec has an offering")
}

/// What an instance of this name costs an hour: that of the dearest offering
/// if the name is unknown, so that money is never undercounted.
pub(crate) fn price_of(spec: &FleetSpec, name: &str) -> MicroUsdPerHour {
    let dearest = || {
        spec.offerings
            .iter()
            .map(|offering| offering.price)
            .max()
            .unwrap_or_default()
    };
    offering_of(spec, name).map_or_else(dearest, |offering| offering.price)
}

/// The offering of this name, if it is still offered.
pub(crate) fn offering_of<'a>(spec: &'a FleetSpec, name: &str) -> Option<&'a Offering> {
    spec.offerings.iter().find(|offering| offering.name == name)
}

/// What there is of each offering.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    /// Instances that are paid for, by offering.
    pub(crate) billed: BTreeMap<String, u32>,
    /// Instances on demand that count as capacity.
    pub(crate) on_demand: u32,
}

impl Held {
    /// Counts `listed` instances and launches that `memory` has not seen listed;
    /// of the listed ones, those that serve are in `serving`.
    pub(crate) fn count<'a>(
        spec: &FleetSpec,
        memory: &Memory,
        listed: impl Iterator<Item = &'a Instance>,
        serving: &[&Instance],
    ) -> Self {
        let mut held = Self::default();
        for instance in listed {
            held.add(&instance.offering, 1);
        }
        let on_demand = |name: &str| {
            offering_of(spec, name).is_some_and(|offering| offering.market == Market::OnDemand)
        };
        for launch in memory.launches.values() {
            held.add(&launch.offering, launch.unlisted());
            if on_demand(&launch.offering) {
                held.on_demand = held.on_demand.saturating_add(launch.unlisted());
            }
        }
        let serving = serving
            .iter()
            .filter(|instance| on_demand(&instance.offering));
        let serving = u32::try_from(serving.count()).unwrap_or(u32::MAX);
        held.on_demand = held.on_demand.saturating_add(serving);
        held
    }

    fn add(&mut self, offering: &str, count: u32) {
        match self.billed.get_mut(offering) {
            Some(billed) => *billed = billed.saturating_add(count),
            None => {
                self.billed.insert(offering.to_owned(), count);
            }
        }
    }

    /// What all of them cost an hour. What is prepaid costs nothing more.
    pub(crate) fn spend(&self, spec: &FleetSpec) -> MicroUsdPerHour {
        let costs = self.billed.iter().map(|(name, count)| {
            let prepaid = offering_of(spec, name).map_or(0, |offering| offering.prepaid);
            price_of(spec, name)
                .times(count.saturating_sub(prepaid))
                .get()
        });
        MicroUsdPerHour::new(costs.fold(0, u64::saturating_add))
    }

    /// How many more of `offering` are paid for already.
    fn prepaid_left(&self, offering: &Offering) -> u32 {
        let billed = self.billed.get(&offering.name).copied().unwrap_or(0);
        offering.prepaid.saturating_sub(billed)
    }
}

/// So many instances to buy of one offering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lot {
    /// Which offering, by name.
    pub(crate) offering: String,
    /// How many.
    pub(crate) count: u32,
    /// How many of them are paid for already.
    pub(crate) prepaid: u32,
    /// What each of the others costs an hour.
    pub(crate) price: MicroUsdPerHour,
}

/// What is to be bought, and what shaped that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    pub(crate) lots: Vec<Lot>,
    pub(crate) reasons: Vec<Reason>,
}

/// How many are wanted, and how large the fleet is with them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Instances to buy.
    pub(crate) count: u32,
    /// Instances that count as capacity once they are bought.
    pub(crate) size: u32,
}

/// Chooses where to buy `wanted`, at most one lot of each offering, none of
/// those in `short`.
///
/// What the mix wants on demand is bought there. All else goes first to what is
/// paid for already, then to what is cheapest per slot, by the price of what is
/// granted: the list price by the share of launches that is granted
/// ([`crate::standing`]). Nothing is asked for more than its probe budget,
/// unless there is only one offering and so no choice.
pub(crate) fn choose(
    spec: &FleetSpec,
    memory: &Memory,
    now: Timestamp,
    held: &Held,
    wanted: Wanted,
    short: &BTreeSet<String>,
) -> Choice {
    let on_demand = spec
        .mix
        .on_demand_of(wanted.size)
        .saturating_sub(held.on_demand)
        .min(wanted.count);
    let mut shelf = Shelf::stock(spec, memory, now, held, short);
    shelf.take(on_demand, |offering| offering.market == Market::OnDemand);
    shelf.take(wanted.count - on_demand, |_| true);
    shelf.close(spec, memory, now, wanted.count)
}

/// One offering while it is being bought from.
struct Place<'a> {
    offering: &'a Offering,
    /// How many more may be asked of it.
    left: u32,
    /// How many more of them are paid for already.
    prepaid_left: u32,
    /// Micro-dollars an hour of a million granted slots.
    cost: u128,
    lot: Lot,
}

struct Shelf<'a> {
    places: Vec<Place<'a>>,
}

impl<'a> Shelf<'a> {
    fn stock(
        spec: &'a FleetSpec,
        memory: &Memory,
        now: Timestamp,
        held: &Held,
        short: &BTreeSet<String>,
    ) -> Self {
        let choice = spec.offerings.len() > 1;
        let sold = spec
            .offerings
            .iter()
            .filter(|offering| !short.contains(&offering.name));
        let places = sold.map(|offering| {
            let standing = memory.standings.get(&offering.name).filter(|_| choice);
            let odds = standing.map_or(1_000, |standing| standing.odds(now));
            Place {
                offering,
                left: standing.map_or(u32::MAX, |standing| standing.budget),
                prepaid_left: held.prepaid_left(offering),
                cost: plain_cost(offering) * 1_000 / u128::from(odds.max(1)),
                lot: Lot {
                    offering: offering.name.clone(),
                    count: 0,
                    prepaid: 0,
                    price: offering.price,
                },
            }
        });
        Self {
            places: places.collect(),
        }
    }

    /// Takes up to `count` of what `suits`: prepaid ones, then by cost; of
    /// equals what the spec lists first.
    fn take(&mut self, mut count: u32, suits: impl Fn(&Offering) -> bool) {
        for place in &mut self.places {
            if suits(place.offering) {
                let taken = count.min(place.left).min(place.prepaid_left);
                place.lot.count += taken;
                place.lot.prepaid += taken;
                place.left -= taken;
                place.prepaid_left -= taken;
                count -= taken;
            }
        }
        let mut order: Vec<usize> = (0..self.places.len()).collect();
        order.sort_by_key(|place| (self.places[*place].cost, *place));
        for index in order {
            let place = &mut self.places[index];
            if suits(place.offering) {
                let taken = count.min(place.left);
                place.lot.count += taken;
                place.left -= taken;
                count -= taken;
            }
        }
    }

    fn close(self, spec: &FleetSpec, memory: &Memory, now: Timestamp, wanted: u32) -> Choice {
        let mut choice = Choice::default();
        let bought = self
            .places
            .iter()
            .filter(|place| place.lot.count > place.lot.prepaid);
        let dearest = bought.map(|place| plain_cost(place.offering)).max();
        let total: u32 = self
            .places
            .iter()
            .fold(0, |sum, place| sum.saturating_add(place.lot.count));
        for place in &self.places {
            let Some(standing) = memory.standings.get(&place.offering.name) else {
                continue;
            };
            // Less was asked of it than its price alone would have had it.
            let passed = dearest.is_some_and(|dearest| plain_cost(place.offering) < dearest);
            if spec.offerings.len() > 1 && (passed || total < wanted) {
                choice.reasons.push(Reason::OfferingAvoided {
                    offering: place.offering.name.clone(),
                    asked: place.lot.count,
                    granted_percent: standing.odds(now) / 10,
                });
            }
        }
        let lots = self.places.into_iter().map(|place| place.lot);
        choice.lots = lots.filter(|lot| lot.count > 0).collect();
        choice
    }
}

/// The list price of a million slots, in micro-dollars an hour.
fn plain_cost(offering: &Offering) -> u128 {
    u128::from(offering.price.get()) * 1_000_000 / u128::from(offering.slots.max(1))
}

/// Orders instances by how readily they are let go, the first one first:
/// idle ones, then booting ones, then, if `busy_too`, those whose work is
/// unknown, then busy ones. Among equals first what neither the mix of a fleet
/// of `aim` nor prepaid capacity speaks for, then what only the mix does, and
/// prepaid ones last; then the dearest, then the one with the least paid time
/// left, then the youngest, which has the least warm caches; then by id.
pub(crate) fn victims<'a>(
    spec: &FleetSpec,
    now: Timestamp,
    serving: &[&'a Instance],
    busy_too: bool,
    held: &Held,
    aim: u32,
) -> Vec<&'a Instance> {
    let mut ranked: Vec<_> = serving
        .iter()
        .map(|instance| (rank(instance), *instance))
        .filter(|(rank, _)| busy_too || *rank < RANK_UNKNOWN)
        .map(|(rank, instance)| {
            let paid = paid_left_micros(billing_of(spec, instance), instance.launched_at, now);
            let key = (
                rank,
                Reverse(price_of(spec, &instance.offering)),
                paid / PAID_BUCKET_MICROS,
                Reverse(instance.launched_at),
                &instance.id,
            );
            (key, instance)
        })
        .collect();
    ranked.sort_by(|one, other| one.0.cmp(&other.0));
    let ranked: Vec<(u8, &Instance)> = ranked
        .into_iter()
        .map(|(key, instance)| (key.0, instance))
        .collect();
    let special = spec.mix != crate::spec::Mix::default()
        || spec.offerings.iter().any(|offering| offering.prepaid > 0);
    if special {
        spared_last(spec, &ranked, held, aim)
    } else {
        ranked.into_iter().map(|(_, instance)| instance).collect()
    }
}

/// Puts those that the mix or prepaid capacity speaks for behind the others of
/// their rank.
fn spared_last<'a>(
    spec: &FleetSpec,
    ranked: &[(u8, &'a Instance)],
    held: &Held,
    aim: u32,
) -> Vec<&'a Instance> {
    let mut billed = held.billed.clone();
    let mut on_demand = held.on_demand;
    let needed = spec.mix.on_demand_of(aim);
    let mut order = Vec::with_capacity(ranked.len());
    for same in ranked.chunk_by(|one, other| one.0 == other.0) {
        let mut spared: [Vec<&Instance>; 2] = Default::default();
        for (_, instance) in same {
            let offering = offering_of(spec, &instance.offering);
            let count = billed.get_mut(&instance.offering);
            let prepaid = offering.is_some_and(|offering| {
                count
                    .as_ref()
                    .is_none_or(|count| **count <= offering.prepaid)
            });
            let of_mix = offering.is_some_and(|offering| offering.market == Market::OnDemand);
            if prepaid && offering.is_some_and(|offering| offering.prepaid > 0) {
                spared[1].push(instance);
            } else if of_mix && on_demand <= needed && needed > 0 {
                spared[0].push(instance);
            } else {
                order.push(*instance);
                if let Some(count) = count {
                    *count = count.saturating_sub(1);
                }
                on_demand = on_demand.saturating_sub(u32::from(of_mix));
            }
        }
        order.extend(spared.into_iter().flatten());
    }
    order
}

const RANK_UNKNOWN: u8 = 2;

fn rank(instance: &Instance) -> u8 {
    match (instance.phase, instance.work) {
        (Phase::Ready, Work::Idle) => 0,
        (Phase::Booting | Phase::Ending, _) => 1,
        (Phase::Ready, Work::Unknown) => RANK_UNKNOWN,
        (Phase::Ready, Work::Busy) => 3,
    }
}

fn billing_of(spec: &FleetSpec, instance: &Instance) -> Billing {
    offering_of(spec, &instance.offering)
        .unwrap_or_else(|| first_of(spec))
        .billing
}

/// How much time of an instance launched at `launched_at` is paid for beyond
/// `now` already, in microseconds.
pub(crate) fn paid_left_micros(billing: Billing, launched_at: Timestamp, now: Timestamp) -> u64 {
    let age = micros_of(now.since(launched_at));
    let increment = micros_of(billing.increment).max(1);
    let charged = age.div_ceil(increment).saturating_mul(increment);
    charged.max(micros_of(billing.minimum)).saturating_sub(age)
}
#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn paid_time_left_follows_the_billing_rule() {
        let per_second = Billing {
            increment: Duration::from_secs(1),
            minimum: Duration::from_mins(1),
        };
        let per_hour = Billing {
            increment: Duration::from_hours(1),
            minimum: Duration::ZERO,
        };
        for (billing, age_secs, left_secs) in [
            (per_second, 10, 50),
            (per_second, 61, 0),
            (per_hour, 10, 3_590),
            (per_hour, 3_600, 0),
            (per_hour, 3_601, 3_599),
        ] {
            let left = paid_left_micros(billing, Timestamp::EPOCH, Timestamp::from_secs(age_secs));
            assert_eq!(left, left_secs * 1_000_000, "{billing:?} at {age_secs} s");
        }
    }
}
