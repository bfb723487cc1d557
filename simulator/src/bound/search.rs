//! The best proof and the best schedule, among those that are tried.

use windlass_policies::units::MicroUsd;

use super::BoundError;
use super::certificate::{Evaluator, PricePath};
use super::levels::Levels;
use super::prices;
use super::problem::{PARTS, Problem, Terms};
use super::replay::{self, Plan};
use crate::queue::wide;
use crate::scenario::Scenario;
use crate::score::Score;
use crate::workload::Workload;

/// Jobs that may go through replays, over all schedules that are tried: some
/// seconds' work.
const JOBS_REPLAYED_MAX: u64 = 60_000_000;

/// The fewest and the most schedules that are tried.
const REPLAYS: (u64, u64) = (3, 24);

/// The most jobs for which schedules in whole instances are looked for: their
/// walks take 48 bytes a job.
const JOBS_WALKED_MAX: usize = 4_000_000;

/// What parts of an instance, added to those of the fluid relaxation, make a
/// whole one.
const UPS: [f64; 6] = [1.0, 1.5, 0.75, 2.0, 0.5, 3.0];

/// What waiting is taken to cost in schedules of whole instances, in eighths of
/// what it does: work that has to wait also delays what comes after it.
const WAITINGS: [u64; 8] = [8, 16, 12, 32, 24, 64, 256, 2_048];

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) proved: MicroUsd,
    pub(super) achieved: Score,
}

/// What the proofs found beside a limit.
struct Proofs {
    best: MicroUsd,
    /// Slots by the fluid relaxation, in steps of so many microseconds.
    slots: Vec<f64>,
    step: u64,
    /// The terms that proved most in whole instances.
    whole: Terms,
}

/// Tries what there is for `problem`.
pub(super) fn search(
    scenario: &Scenario,
    workload: &Workload,
    problem: &Problem<'_>,
) -> Result<Found, BoundError> {
    let proofs = prove(problem);
    let mut best: Option<Score> = None;
    let jobs = wide(problem.jobs()).max(1);
    let mut left = (JOBS_REPLAYED_MAX / jobs).clamp(REPLAYS.0, REPLAYS.1);
    let mut try_plan = |plan: &Plan| -> Result<(), BoundError> {
        if left > 0 {
            left -= 1;
            let score = replay::replay(scenario, workload, problem, plan)?;
            let dearer = |best: &Score| best.total_usd <= score.total_usd;
            if !best.as_ref().is_some_and(dearer) {
                best = Some(score);
            }
        }
        Ok(())
    };
    let fluid = |up| Plan::of(&proofs.slots, proofs.step, problem.slots, up);
    let whole = whole_plans(problem, &proofs);
    let count = UPS.len().max(whole.len());
    for place in 0..count {
        if let Some(plan) = whole.get(place) {
            try_plan(plan)?;
        }
        if let Some(up) = UPS.get(place) {
            try_plan(&fluid(*up))?;
        }
    }
    // Both at once: one has the peaks, the other what they leave to be done.
    for plan in &whole {
        try_plan(&plan.with(&fluid(0.0)))?;
    }
    let achieved = match best {
        Some(best) => best,
        None => replay::replay(scenario, workload, problem, &Plan::default())?,
    };
    Ok(Found {
        proved: proofs.best,
        achieved,
    })
}

fn prove(problem: &Problem<'_>) -> Proofs {
    let evaluator = Evaluator::new(problem);
    let flat = PricePath::flat(problem);
    let step = prices::step(problem);
    let plain = problem.terms(0);
    let mut proofs = Proofs {
        best: evaluator.by_prices(&flat, plain),
        slots: Vec::new(),
        step,
        whole: plain,
    };
    let mut by_levels = MicroUsd::ZERO;
    let mut by_prices = MicroUsd::ZERO;
    for fixed in lines(problem) {
        let terms = problem.terms(fixed);
        if let Some(found) = prices::find(problem, step, terms) {
            let own = evaluator.by_prices(&found.path, terms);
            if own > by_prices || proofs.slots.is_empty() {
                (by_prices, proofs.slots) = (own, found.slots);
            }
        }
        if problem.whole {
            for waiting in problem.waiting_prices() {
                let levels = Levels::walk(problem, terms, (waiting, waiting), false);
                let own = evaluator.by_levels(&levels, terms);
                if own > by_levels {
                    (by_levels, proofs.whole) = (own, terms);
                }
            }
        }
    }
    proofs.best = proofs.best.max(by_levels).max(by_prices);
    proofs
}

/// Which straight lines below the charges are tried: one where the minimum
/// hardly ever matters.
fn lines(problem: &Problem<'_>) -> Vec<u32> {
    let least = problem.charge.increment.max(problem.charge.minimum);
    let plain = problem.terms(0);
    let boots = u128::from(least) * plain.rate <= plain.launch;
    if boots {
        vec![0]
    } else {
        vec![0, PARTS / 2, PARTS - PARTS / 4, PARTS - 1]
    }
}

/// Schedules in whole instances.
fn whole_plans(problem: &Problem<'_>, proofs: &Proofs) -> Vec<Plan> {
    if problem.jobs() > JOBS_WALKED_MAX {
        return Vec::new();
    }
    let dearest = problem.waiting_prices().into_iter().max().unwrap_or(0);
    let plans = WAITINGS.iter().map(|eighths| {
        let waiting = (u128::from(dearest) * u128::from(*eighths) / 8).min(1 << 60);
        let waiting = u64::try_from(waiting).unwrap_or(u64::MAX);
        Levels::walk(problem, proofs.whole, (0, waiting), true).plan()
    });
    plans.collect()
}
