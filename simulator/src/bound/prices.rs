//! From a load to prices of a slot's time that prove much, and to how many
//! slots there are at them.

use std::collections::BTreeMap;

use windlass_policies::units::MICROS_PER_SEC;

use super::certificate::PricePath;
use super::problem::{Problem, Terms};
use super::program::{self, Fluid, GROUPS};
use crate::accrual::Accrual;
use crate::queue::{narrow, ratio};

/// The most steps of the grid: more take longer than they are worth.
const STEPS_MAX: u64 = 1 << 17;

/// Steps to a boot: with fewer, what comes and goes within a step is smoothed
/// away, and proves less.
const STEPS_PER_BOOT: u64 = 40;

/// What comes out.
#[derive(Clone, Debug)]
pub(super) struct Priced {
    pub(super) path: PricePath,
    /// Slots in each step of the path.
    pub(super) slots: Vec<f64>,
}

/// Length of a step for `problem`, in microseconds.
pub(super) fn step(problem: &Problem<'_>) -> u64 {
    let least = problem.length.div_ceil(STEPS_MAX).max(1);
    let boot = problem.terms(0).launch / u128::from(problem.price.max(1));
    let wanted = u64::try_from(boot).unwrap_or(u64::MAX) / STEPS_PER_BOOT;
    let wanted = wanted.clamp(MICROS_PER_SEC, 60 * MICROS_PER_SEC);
    wanted.max(least).min(problem.length.max(1))
}

/// Prices for `problem` if instances cost what `terms` say.
pub(super) fn find(problem: &Problem<'_>, step: u64, terms: Terms) -> Option<Priced> {
    let slot_price = float(problem.price) / float(problem.slots);
    let fluid = fluid(problem, step, terms, slot_price)?;
    let flow = program::solve(&fluid)?;
    let price = |units: &f64| floor((units * slot_price).max(0.0));
    let prices = flow.prices.iter().map(price).collect();
    Some(Priced {
        path: PricePath::new(step, problem.length, prices),
        slots: flow.slots,
    })
}

fn fluid(problem: &Problem<'_>, step: u64, terms: Terms, slot_price: f64) -> Option<Fluid> {
    let bounds = group_bounds(problem);
    let mut spans: [Accrual; GROUPS] = std::array::from_fn(|_| Accrual::new(step, problem.length));
    let mut waiting = [0_u128; GROUPS];
    let mut work = [0_u128; GROUPS];
    for job in 0..problem.jobs() {
        let Some(key) = key(problem, job) else {
            continue;
        };
        let group = bounds.iter().filter(|bound| key >= **bound).count();
        let (from, service) = (problem.arrivals[job], problem.service(job));
        spans[group].add(from, from.saturating_add(service), 1);
        waiting[group] += u128::from(problem.waiting(job));
        work[group] += u128::from(service);
    }
    let busy = |spans: &Accrual| {
        let totals = spans.totals();
        let steps = totals.windows(2);
        steps
            .map(|pair| ratio(pair[1] - pair[0], u128::from(step)).unwrap_or(0.0))
            .collect()
    };
    let patience = |group: usize| {
        let pays = ratio(waiting[group], work[group]).unwrap_or(1.0);
        pays * float(step) / slot_price
    };
    let price = u128::from(problem.price);
    let launch = ratio(terms.launch, price * u128::from(step));
    // No instance is ready before.
    let first = problem.boot_min() / step;
    (slot_price > 0.0).then(|| Fluid {
        demand: std::array::from_fn(|group| busy(&spans[group])),
        patience: std::array::from_fn(patience),
        rate: ratio(terms.rate, price).unwrap_or(1.0),
        // The method needs room inside: a launch for nothing costs a little.
        launch: launch.unwrap_or(0.0).max(0.02),
        ready_first: narrow(first),
        initial: float(problem.initial) * float(problem.initial_slots),
    })
}

/// What a job's slot time has to do with what its waiting costs, in eighths of
/// powers of two; `None` if it costs nothing to let it wait, or it needs no time.
fn key(problem: &Problem<'_>, job: usize) -> Option<i64> {
    let (service, waiting) = (problem.service(job), problem.waiting(job));
    if service == 0 || waiting == 0 {
        return None;
    }
    let eighths = libm::log2(float(service) / float(waiting)) * 8.0;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the logarithm of a u64 is small"
    )]
    Some(libm::floor(eighths) as i64)
}

/// The keys at which the groups after the first begin: each has its share of
/// the work.
fn group_bounds(problem: &Problem<'_>) -> Vec<i64> {
    let mut work: BTreeMap<i64, u128> = BTreeMap::new();
    for job in 0..problem.jobs() {
        if let Some(key) = key(problem, job) {
            *work.entry(key).or_default() += u128::from(problem.service(job));
        }
    }
    let all: u128 = work.values().sum();
    let groups = u128::try_from(GROUPS).unwrap_or(1);
    let mut bounds = Vec::new();
    let (mut so_far, mut next) = (0, 1);
    for (key, own) in work {
        if next < groups && so_far * groups >= all * next {
            bounds.push(key);
            next += 1;
        }
        so_far += own;
    }
    bounds
}

fn float(number: u64) -> f64 {
    ratio(u128::from(number), 1).unwrap_or(0.0)
}

/// A price or a time, rounded down.
fn floor(number: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is bounded: below 2^63, and not negative"
    )]
    let whole = number.clamp(0.0, 9e18) as u64;
    whole
}
