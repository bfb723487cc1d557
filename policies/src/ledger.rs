//! What a fleet has cost, by what windlass saw: spent, avoided, wasted.
//!
//! It is integrated from complete listings. Between two of them every instance
//! of the earlier one is charged at the price of the moment; a launch is charged
//! from when it was asked for, and an ended instance up to its end and then what
//! its billing rule rounds up to. A gap without listings is charged by the last
//! known fleet. What is prepaid costs nothing more, whichever instance it is.
//! An instance that vanishes is charged up to the first listing without it: the
//! ledger is as exact as the cycle is short, and is no invoice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Instance, Market, Offering, Phase, Work, is_default};
use crate::placement::{first_of, offering_of, paid_left_micros, price_of};
use crate::quote::{Quotes, priced};
use crate::spec::FleetSpec;
use crate::units::{Meter, MicroUsd, Timestamp, micros_of};

/// The money of one fleet since `since`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// The first complete listing; `None` before it.
    pub since: Option<Timestamp>,
    /// The newest complete listing: up to here everything is charged.
    pub until: Timestamp,
    spent: Meter,
    at_max: Meter,
    wasted: Meter,
    /// What that listing showed, by offering.
    running: BTreeMap<String, Running>,
    /// Launched ones that have been listed for the first time.
    #[serde(default, skip_serializing_if = "is_default")]
    fresh: Vec<Span>,
    /// Booting ones that have been given up.
    #[serde(default, skip_serializing_if = "is_default")]
    failed: Vec<Span>,
    /// Ended ones, since the newest complete listing.
    #[serde(default, skip_serializing_if = "is_default")]
    ended: Vec<Span>,
}

/// Instances of one offering in a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Running {
    /// All that are paid for.
    billed: u64,
    /// Those of them that were ready without a job, or had failed to boot.
    useless: u64,
}

/// From when to when an instance was there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    pub(crate) offering: String,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

impl Ledger {
    /// What the instances cost, rounded up.
    pub fn spent(&self) -> MicroUsd {
        self.spent.total()
    }

    /// What running `limits.max` instances on demand all the time, prepaid ones
    /// first, would have cost more than what was spent, at the price of the
    /// cheapest on-demand offering; 0 at least. If none is on demand, at what the
    /// spec says of the first offering, whatever it costs now.
    pub fn avoided(&self) -> MicroUsd {
        MicroUsd::new((self.at_max.total().get() - self.spent().get()).max(0))
    }

    /// What of `spent` bought nothing: instances that were ready without a job,
    /// boots that failed, and paid time that an ended instance left unused.
    pub fn wasted(&self) -> MicroUsd {
        self.wasted.total()
    }

    pub(crate) fn note_fresh(&mut self, instance: &Instance, now: Timestamp) {
        self.fresh.push(span(
            instance,
            instance.launched_at.max(self.start(now)),
            now,
        ));
    }

    pub(crate) fn note_failed(&mut self, instance: &Instance, now: Timestamp) {
        self.failed.push(span(
            instance,
            instance.launched_at.max(self.start(now)),
            now,
        ));
    }

    pub(crate) fn note_ended(&mut self, span: Span) {
        self.ended.push(span);
    }

    fn start(&self, now: Timestamp) -> Timestamp {
        self.since.unwrap_or(now)
    }

    /// Charges everything up to `now`, when `alive` instances are there, at the
    /// `prices` of now.
    pub(crate) fn charge<'a>(
        &mut self,
        configured: &FleetSpec,
        prices: &Quotes,
        now: Timestamp,
        alive: impl Iterator<Item = (&'a Instance, bool)>,
    ) {
        let spec = &*priced(configured, prices);
        let since = *self.since.get_or_insert(now);
        let gap = u128::from(micros_of(now.since(self.until.max(since))));
        // Instance time by offering: there, and there for nothing.
        let mut times: BTreeMap<&str, (u128, u128)> = BTreeMap::new();
        for (offering, running) in &self.running {
            let time = times.entry(offering).or_default();
            time.0 += u128::from(running.billed) * gap;
            time.1 += u128::from(running.useless) * gap;
        }
        for span in &self.fresh {
            times.entry(&span.offering).or_default().0 += span.micros();
        }
        for span in &self.failed {
            times.entry(&span.offering).or_default().1 += span.micros();
        }
        for span in &self.ended {
            let over = u128::from(micros_of(now.since(span.to))).min(gap);
            let rest = offering_of(spec, &span.offering).map_or(0, |offering| {
                u128::from(paid_left_micros(offering.billing, span.from, span.to))
            });
            let time = times.entry(&span.offering).or_default();
            time.0 = time.0.saturating_sub(over) + rest;
            time.1 = time.1.saturating_sub(over) + rest;
        }
        for (name, (there, useless)) in times {
            let prepaid = offering_of(spec, name).map_or(0, |offering| offering.prepaid);
            let paid = there.saturating_sub(u128::from(prepaid) * gap);
            let price = price_of(spec, name);
            self.spent.add_wide(price, paid);
            self.wasted.add_wide(price, useless.min(paid));
        }
        let yardstick = yardstick(configured);
        // Whichever offering they are of: a fleet at its maximum uses them all.
        let prepaid = spec
            .offerings
            .iter()
            .fold(0, |sum: u32, one| sum.saturating_add(one.prepaid));
        let most = u128::from(spec.limits.max.saturating_sub(prepaid));
        self.at_max.add_wide(yardstick.price, most * gap);
        self.fresh.clear();
        self.failed.clear();
        self.ended.clear();
        self.until = now;
        self.running.clear();
        for (instance, failed) in alive {
            let idle = instance.phase == Phase::Ready && instance.work == Work::Idle;
            let count = match self.running.get_mut(&instance.offering) {
                Some(count) => count,
                None => self.running.entry(instance.offering.clone()).or_default(),
            };
            count.billed += 1;
            count.useless += u64::from(idle || failed);
        }
    }
}

impl Span {
    fn micros(&self) -> u128 {
        u128::from(micros_of(self.to.since(self.from)))
    }
}

fn span(instance: &Instance, from: Timestamp, to: Timestamp) -> Span {
    Span {
        offering: instance.offering.clone(),
        from,
        to,
    }
}

/// What `avoided` is measured by.
fn yardstick(spec: &FleetSpec) -> &Offering {
    let on_demand = spec
        .offerings
        .iter()
        .filter(|offering| offering.market == Market::OnDemand);
    on_demand
        .min_by_key(|offering| offering.price)
        .unwrap_or_else(|| first_of(spec))
}
