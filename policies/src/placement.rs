//! Which offering to buy from, and which instance to let go.

use std::cmp::Reverse;

use crate::model::{Billing, Instance, Offering, Phase, Work};
use crate::spec::FleetSpec;
use crate::units::{MicroUsdPerHour, Timestamp, micros_of};

/// Paid time left is compared in whole minutes: with per-second billing the
/// last started second would otherwise choose the victim.
const PAID_BUCKET_MICROS: u64 = 60_000_000;

/// The offering to launch from: the cheapest, which a spec lists first.
pub(crate) fn to_buy(spec: &FleetSpec) -> &Offering {
    spec.offerings
        .first()
        .expect("a checked spec has an offering")
}

/// What an instance of this name costs an hour: that of the dearest offering
/// if the name is unknown, so that money is never undercounted.
pub(crate) fn price_of(spec: &FleetSpec, name: &str) -> MicroUsdPerHour {
    let known = spec.offerings.iter().find(|offering| offering.name == name);
    let dearest = || {
        spec.offerings
            .iter()
            .map(|offering| offering.price)
            .max()
            .unwrap_or_default()
    };
    known.map_or_else(dearest, |offering| offering.price)
}

/// Orders instances by how readily they are let go, the first one first:
/// idle ones, then booting ones, then, if `busy_too`, those whose work is
/// unknown, then busy ones. Among equals the one with the least paid time
/// left, then the youngest, which has the least warm caches; then by id.
pub(crate) fn victims<'a>(
    spec: &FleetSpec,
    now: Timestamp,
    serving: &[&'a Instance],
    busy_too: bool,
) -> Vec<&'a Instance> {
    let mut ranked: Vec<_> = serving
        .iter()
        .map(|instance| (rank(instance), *instance))
        .filter(|(rank, _)| busy_too || *rank < RANK_UNKNOWN)
        .map(|(rank, instance)| {
            let paid = paid_left_micros(billing_of(spec, instance), instance.launched_at, now);
            let key = (
                rank,
                paid / PAID_BUCKET_MICROS,
                Reverse(instance.launched_at),
                &instance.id,
            );
            (key, instance)
        })
        .collect();
    ranked.sort_by(|one, other| one.0.cmp(&other.0));
    ranked.into_iter().map(|(_, instance)| instance).collect()
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
    let known = spec
        .offerings
        .iter()
        .find(|offering| offering.name == instance.offering);
    known.unwrap_or_else(|| to_buy(spec)).billing
}

/// How much time of an instance launched at `launched_at` is paid for beyond
/// `now` already, in microseconds.
fn paid_left_micros(billing: Billing, launched_at: Timestamp, now: Timestamp) -> u64 {
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
