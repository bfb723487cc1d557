//! What the bound is about: jobs, what waiting costs each, and the one kind of
//! instance that is at least as good as any that can be launched.

use windlass_policies::model::Offering;
use windlass_policies::units::{MICROS_PER_HOUR, micros_of};

use super::BoundError;
use crate::distribution::Distribution;
use crate::queue::{JobClasses, ratio};
use crate::random::Stream;
use crate::scenario::Scenario;
use crate::workload::Workload;
use crate::world::cloud::PoolSpec;

/// Prices are counted in fractions of a micro-dollar an hour, so fine that the
/// price of a slot has as many bits as this: rounding then costs the bound one
/// part in a million.
const PRICE_BITS: u32 = 20;

/// Draws of boots that are looked at to see what a launch is worth.
const DRAWS: usize = 1 << 14;

/// No price gets more bits by that, so that a price times a time fits.
const PRICE_BITS_MAX: u32 = 60;

/// How long the launched instances boot.
#[derive(Clone, Debug)]
pub(super) enum Boots {
    /// Always so many microseconds.
    Constant(u64),
    /// The k-th launched instance takes the k-th draw.
    Drawn(Distribution, Stream),
    /// Nothing is known but that it is no less than so many microseconds.
    AtLeast(u64),
}

/// The least that an instance is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charge {
    /// Time is charged in whole increments of so many microseconds; 1 where
    /// nothing can be said of them.
    pub(super) increment: u64,
    /// The least time charged.
    pub(super) minimum: u64,
}

/// What an instance costs at least, on a straight line: so much for being
/// launched and so much for each microsecond in which it is ready. Every charge
/// with a minimum lies above several such lines; each of them proves a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// For each microsecond.
    pub(super) rate: u128,
    /// For a launch; what one may earn beyond the rate at most.
    pub(super) launch: u128,
    /// So many of [`PARTS`] go by the minimum and the rest by the time.
    pub(super) fixed: u32,
}

/// The parts of [`Terms::fixed`].
pub(super) const PARTS: u32 = 8;

/// The world as the proof sees it. Times are microseconds, prices are
/// micro-dollars an hour times `2^scale`.
#[derive(Debug)]
pub(super) struct Problem<'a> {
    pub(super) arrivals: &'a [u64],
    services: &'a [u64],
    /// At how many percent of the usual speed the quickest instance works.
    percent: u64,
    pub(super) length: u64,
    /// What an instance costs.
    pub(super) price: u64,
    /// Jobs that an instance works on at a time.
    pub(super) slots: u64,
    pub(super) charge: Charge,
    pub(super) boots: Boots,
    /// Instances that are there at the beginning: of the first offering, which
    /// need not be the cheapest.
    pub(super) initial: u64,
    pub(super) initial_slots: u64,
    pub(super) initial_price: u64,
    /// What waiting costs, one for each class; one if there are no classes.
    waiting: Vec<u64>,
    classes: Option<&'a JobClasses>,
    pub(super) scale: u32,
    /// Which offering a schedule buys.
    pub(super) bought: usize,
    /// Whether all instances have the same slots, so that they can be counted.
    pub(super) whole: bool,
}

impl<'a> Problem<'a> {
    /// What `scenario` and `workload` come to.
    pub(super) fn of(scenario: &Scenario, workload: &'a Workload) -> Result<Self, BoundError> {
        covered(scenario)?;
        let offerings = scenario.all_offerings();
        let pools: Vec<PoolSpec> = (0..offerings.len())
            .map(|place| pool(scenario, place))
            .collect();
        let cheapest = cheapest(&offerings, &pools);
        let percent = pools.iter().map(|pool| pool.throughput_percent).max();
        let percent = u64::from(percent.unwrap_or(100).max(1));
        let slots = u64::from(offerings[cheapest].slots);
        let price = lowest(&offerings[cheapest], &pools[cheapest]);
        let usual = scenario.objective.usd_per_job_hour_waiting;
        let own = scenario.class_prices();
        let classes = workload.classes.as_deref();
        let mut waiting: Vec<u64> = match classes {
            None => vec![usual.get()],
            Some(classes) => {
                let names = classes.classes().iter().map(|class| &class.name);
                let price = |name| own.get(name).copied().unwrap_or(usual).get();
                names.map(price).collect()
            }
        };
        let scale = scale(price / slots, waiting.iter().copied().max().unwrap_or(0));
        for price in &mut waiting {
            *price <<= scale;
        }
        Ok(Self {
            arrivals: workload.jobs.arrivals(),
            services: workload.jobs.services(),
            percent,
            length: workload.length_micros,
            price: price << scale,
            slots,
            charge: charge(&offerings),
            boots: boots(scenario, &offerings, &pools),
            initial: u64::from(scenario.initial),
            initial_slots: u64::from(offerings[0].slots),
            initial_price: lowest(&offerings[0], &pools[0]) << scale,
            waiting,
            classes,
            scale,
            bought: best_value(&offerings, &pools),
            whole: offerings.iter().all(|one| u64::from(one.slots) == slots),
        })
    }

    /// How many jobs there are.
    pub(super) fn jobs(&self) -> usize {
        self.arrivals.len()
    }

    /// How long job `job` takes at least.
    pub(super) fn service(&self, job: usize) -> u64 {
        match self.percent {
            100 => self.services[job],
            percent => self.services[job].saturating_mul(100) / percent,
        }
    }

    /// What waiting costs job `job`.
    pub(super) fn waiting(&self, job: usize) -> u64 {
        match self.classes {
            None => self.waiting[0],
            Some(classes) => self.waiting[usize::from(classes.numbers()[job])],
        }
    }

    /// The terms by which `fixed` of [`PARTS`] go by the minimum, where an
    /// instance that boots for as long as most do earns just what it costs.
    pub(super) fn terms(&self, fixed: u32) -> Terms {
        let rate = u128::from(self.price) * u128::from(PARTS - fixed) / u128::from(PARTS);
        let terms = |launch| Terms {
            rate,
            launch,
            fixed,
        };
        let even = |boot: u64| terms(self.fixed(fixed) + rate * u128::from(boot));
        let (distribution, mut draws) = match &self.boots {
            Boots::Constant(boot) | Boots::AtLeast(boot) => return even(*boot),
            Boots::Drawn(distribution, draws) => (distribution, draws.clone()),
        };
        if self.charge.minimum == 0 {
            // One that boots too long is given back for nothing.
            return even(0);
        }
        let draws: Vec<u64> = (0..DRAWS)
            .map(|_| distribution.sample_micros(&mut draws))
            .collect();
        let kept = |boot: u64| -> i128 {
            let terms = even(boot);
            draws.iter().map(|draw| self.kept(terms, *draw)).sum()
        };
        let (mut low, mut high) = (0, draws.iter().copied().max().unwrap_or(0));
        while high - low > 1_000 {
            let middle = low + (high - low) / 2;
            if kept(middle) > 0 {
                high = middle;
            } else {
                low = middle;
            }
        }
        even(low)
    }

    /// What of the minimum `fixed` of [`PARTS`] come to. An instance that is
    /// there at all is charged an increment.
    fn fixed(&self, fixed: u32) -> u128 {
        let least = self.charge.increment.max(self.charge.minimum);
        u128::from(self.price) * u128::from(least) * u128::from(fixed) / u128::from(PARTS)
    }

    /// What a launched instance that boots for `boot` earns at most beyond what
    /// it is charged, by `terms`: it serves, or it is given back at once.
    pub(super) fn kept(&self, terms: Terms, boot: u64) -> i128 {
        let charged = self.fixed(terms.fixed) + terms.rate * u128::from(boot);
        let given_back = i128::from(self.price) * i128::from(self.charge.minimum);
        (signed(terms.launch) - signed(charged)).max(-given_back)
    }

    /// No launched instance boots for less.
    pub(super) fn boot_min(&self) -> u64 {
        match &self.boots {
            Boots::Constant(boot) | Boots::AtLeast(boot) => *boot,
            Boots::Drawn(..) => 0,
        }
    }

    /// What waiting costs, each price once; those of jobs for which it costs
    /// nothing left out.
    pub(super) fn waiting_prices(&self) -> Vec<u64> {
        let mut prices = self.waiting.clone();
        prices.sort_unstable();
        prices.dedup();
        prices.retain(|price| *price > 0);
        prices
    }

    /// Time that job `job` is worked on before the end if it never waits.
    fn work(&self, job: usize) -> u64 {
        self.service(job).min(self.length - self.arrivals[job])
    }

    /// Slot time that all jobs take before the end if none waits.
    pub(super) fn work_micros(&self) -> u128 {
        (0..self.jobs()).map(|job| u128::from(self.work(job))).sum()
    }

    /// What that much of an instance's time would cost, in dollars.
    pub(super) fn work_usd(&self) -> f64 {
        let cost = self.work_micros() * u128::from(self.price) / u128::from(self.slots);
        ratio(cost >> self.scale, u128::from(MICROS_PER_HOUR) * 1_000_000).unwrap_or(0.0)
    }
}

/// Refuses what the proof does not hold for.
fn covered(scenario: &Scenario) -> Result<(), BoundError> {
    let interrupted = scenario
        .offerings
        .iter()
        .any(|one| one.pool.interruption.is_some());
    let prepaid = scenario
        .offerings
        .iter()
        .any(|one| one.offering.prepaid > 0);
    let why = if scenario.sharing.is_some() {
        "its sessions share their servers, so that a job has no slot of its own; the bound is \
         for workload.server = \"queue\""
    } else if scenario.warm_pool.is_some() {
        "instances come out of a warm pool, which has boots and prices of its own; take \
         cloud.warm_pool out of a copy of it"
    } else if prepaid {
        "some of its capacity is paid for ahead, used or not; take prepaid out of a copy of it"
    } else if interrupted {
        "what is taken back within its first hour costs nothing, which no price can bound; take \
         interruption out of a copy of it"
    } else {
        return Ok(());
    };
    Err(BoundError::NotCovered {
        scenario: scenario.name.clone(),
        why: why.to_owned(),
    })
}

fn pool(scenario: &Scenario, place: usize) -> PoolSpec {
    let own = scenario.offerings.get(place);
    own.map(|one| one.pool.clone()).unwrap_or_default()
}

/// The lowest price it ever has.
fn lowest(offering: &Offering, pool: &PoolSpec) -> u64 {
    let course = pool.prices.as_ref().map(|prices| prices.lowest());
    course.unwrap_or(offering.price).get()
}

/// The place of the offering whose slots are cheapest.
fn cheapest(offerings: &[Offering], pools: &[PoolSpec]) -> usize {
    let per_slot = |place: usize| {
        let price = u128::from(lowest(&offerings[place], &pools[place]));
        (price, u128::from(offerings[place].slots))
    };
    least_ratio(offerings.len(), per_slot)
}

/// The place of the offering that is cheapest for what it gets done.
fn best_value(offerings: &[Offering], pools: &[PoolSpec]) -> usize {
    let per_work = |place: usize| {
        let percent = u128::from(pools[place].throughput_percent);
        let slots = u128::from(offerings[place].slots);
        (u128::from(offerings[place].price.get()), slots * percent)
    };
    least_ratio(offerings.len(), per_work)
}

/// The place with the least ratio; the first of several.
fn least_ratio(places: usize, ratio: impl Fn(usize) -> (u128, u128)) -> usize {
    let compare = |left: &usize, right: &usize| {
        let ((over, under), (other_over, other_under)) = (ratio(*left), ratio(*right));
        (over * other_under).cmp(&(other_over * under))
    };
    (0..places).min_by(compare).unwrap_or(0)
}

/// By how many bits prices are made finer, given the price of a slot and the
/// highest price of waiting.
fn scale(slot: u64, waiting: u64) -> u32 {
    let wanted = PRICE_BITS.saturating_sub(slot.max(1).ilog2());
    wanted.min(PRICE_BITS_MAX.saturating_sub(waiting.max(1).ilog2()))
}

/// What is charged whichever is bought.
fn charge(offerings: &[Offering]) -> Charge {
    let increment = |one: &Offering| micros_of(one.billing.increment).max(1);
    let first = offerings.first().map_or(1, increment);
    let alike = offerings.iter().all(|one| increment(one) == first);
    let minimum = offerings.iter().map(|one| micros_of(one.billing.minimum));
    Charge {
        increment: if alike { first } else { 1 },
        minimum: minimum.min().unwrap_or(0),
    }
}

fn boots(scenario: &Scenario, offerings: &[Offering], pools: &[PoolSpec]) -> Boots {
    let own = |pool: &PoolSpec| pool.boot.unwrap_or(scenario.cloud.boot);
    let constant = |pool: &PoolSpec| own(pool).constant_micros();
    let constants: Option<Vec<u64>> = pools.iter().map(constant).collect();
    if let Some(least) = constants.and_then(|each| each.into_iter().min()) {
        return match pools.len() {
            1 => Boots::Constant(least),
            _ => Boots::AtLeast(least),
        };
    }
    match (offerings, pools) {
        ([_], [pool]) => Boots::Drawn(own(pool), stream(scenario, offerings, pools, 0)),
        _ => Boots::AtLeast(0),
    }
}

/// The stream that the boots of the offering at `place` are drawn from.
pub(super) fn stream(
    scenario: &Scenario,
    offerings: &[Offering],
    pools: &[PoolSpec],
    place: usize,
) -> Stream {
    match pools[place].boot {
        Some(_) => Stream::new(scenario.seed, &format!("boot {}", offerings[place].name)),
        None => Stream::new(scenario.seed, "boot"),
    }
}

/// The boots of the offering that is bought, in the order of its launches.
pub(super) fn bought_boots(scenario: &Scenario, problem: &Problem<'_>) -> (Distribution, Stream) {
    let offerings = scenario.all_offerings();
    let pools: Vec<PoolSpec> = (0..offerings.len())
        .map(|place| pool(scenario, place))
        .collect();
    let place = problem.bought;
    let own = pools[place].boot.unwrap_or(scenario.cloud.boot);
    (own, stream(scenario, &offerings, &pools, place))
}

/// Amounts stay far below 2^127.
pub(super) fn signed(number: u128) -> i128 {
    i128::try_from(number).unwrap_or(i128::MAX)
}
