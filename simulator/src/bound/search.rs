//! The best proof and the best schedule, among those that are tried.

use windlass_policies::units::{MICROS_PER_SEC, MicroUsd};

use super::BoundError;
use super::certificate::{Evaluator, PricePath};
use super::levels::Levels;
use super::plan::{Change, Plan};
use super::prices;
use super::problem::{PARTS, Problem, Terms};
use super::replay::{self, Outcome};
use crate::queue::wide;
use crate::scenario::Scenario;
use crate::score::Score;
use crate::workload::Workload;

/// Jobs that may go through replays, over all schedules that are tried: some
/// seconds' work.
const JOBS_REPLAYED_MAX: u64 = 60_000_000;

/// The fewest and the most schedules that are tried.
const REPLAYS: (u64, u64) = (3, 160);

/// Into how many parts schedules are cut at most, each of which is chosen by
/// itself.
const PARTS_MAX: u64 = 1_024;

/// For how many boots a part lasts at least, in turn: long ones have little to
/// do with their neighbours, short ones can be chosen more finely.
const BOOTS_PER_PART: [u64; 3] = [30, 10, 3];

/// A schedule that costs no more than this above the limit is good enough, as a
/// part of the limit.
const CLOSE: f64 = 1e-4;

/// By how much a part must be cheaper to be taken from another schedule.
const GAINS: [f64; 2] = [0.0, 0.1];

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
    let achieved = Improvement::new(scenario, workload, problem, &proofs).run()?;
    Ok(Found {
        proved: proofs.best,
        achieved,
    })
}

/// A schedule that was carried out.
struct Tried {
    plan: Plan,
    outcome: Outcome,
}

/// The search for a cheap schedule: many are carried out, the best part of each
/// is taken, and then it is changed here and there.
struct Improvement<'a> {
    scenario: &'a Scenario,
    workload: &'a Workload,
    problem: &'a Problem<'a>,
    proofs: &'a Proofs,
    left: u64,
}

impl<'a> Improvement<'a> {
    fn new(
        scenario: &'a Scenario,
        workload: &'a Workload,
        problem: &'a Problem<'a>,
        proofs: &'a Proofs,
    ) -> Self {
        let jobs = wide(problem.jobs()).max(1);
        Self {
            scenario,
            workload,
            problem,
            proofs,
            left: (JOBS_REPLAYED_MAX / jobs).clamp(REPLAYS.0, REPLAYS.1),
        }
    }

    fn run(mut self) -> Result<Score, BoundError> {
        let boot = boot(self.problem);
        let rounds = rounds(boot);
        let mut plans = first_plans(self.problem, self.proofs);
        let mut found = None;
        for boots in BOOTS_PER_PART {
            let marks = self.marks(&plans[0], boots * boot);
            let mut best = self.best_of(None, plans, &marks)?;
            let mut in_vain = 0;
            for changes in rounds.iter().cycle() {
                if in_vain == rounds.len() || self.is_over(&best) {
                    break;
                }
                let before = best.usd();
                let changed = changes.iter().map(|one| best.plan.changed(*one)).collect();
                best = self.best_of(Some(best), changed, &marks)?;
                in_vain = if best.usd() < before { 0 } else { in_vain + 1 };
            }
            let over = self.is_over(&best) || marks.len() == 1;
            plans = vec![best.plan];
            found = Some(best.outcome.score);
            if over {
                break;
            }
        }
        Ok(found.expect("there are widths"))
    }

    /// Whether more would find nothing, or take too long.
    fn is_over(&self, best: &Tried) -> bool {
        let proved = super::usd(self.proofs.best);
        self.left == 0 || best.usd() <= proved * (1.0 + CLOSE)
    }

    /// The cheapest of `known`, of `plans` as far as there is time for them, of
    /// which the first is always carried out, and of what their best parts make.
    fn best_of(
        &mut self,
        known: Option<Tried>,
        plans: Vec<Plan>,
        marks: &[u64],
    ) -> Result<Tried, BoundError> {
        let mut tried: Vec<Tried> = known.into_iter().collect();
        for plan in plans {
            self.carry_out(plan, marks, &mut tried)?;
        }
        for gain in GAINS {
            self.carry_out(spliced(marks, &tried, gain), marks, &mut tried)?;
        }
        Ok(tried.swap_remove(cheapest(&tried)))
    }

    /// Carries `plan` out, unless that was done.
    fn carry_out(
        &mut self,
        plan: Plan,
        marks: &[u64],
        tried: &mut Vec<Tried>,
    ) -> Result<(), BoundError> {
        let known = tried.iter().any(|one| one.plan == plan);
        if known || self.left == 0 && !tried.is_empty() {
            return Ok(());
        }
        self.left = self.left.saturating_sub(1);
        let outcome = replay::replay(self.scenario, self.workload, self.problem, &plan, marks)?;
        tried.push(Tried { plan, outcome });
        Ok(())
    }

    /// Cuts `plan` into parts of about `width` microseconds, if that are not too
    /// many.
    fn marks(&self, plan: &Plan, width: u64) -> Vec<u64> {
        let length = self.problem.length;
        let parts = (length / width.max(1)).clamp(1, PARTS_MAX);
        plan.quiet_times(length, parts)
    }
}

impl Tried {
    fn usd(&self) -> f64 {
        self.outcome.score.total_usd
    }

    /// What was spent in part `part`, in dollars.
    fn part_usd(&self, part: usize) -> f64 {
        let before = part
            .checked_sub(1)
            .map(|before| self.outcome.so_far[before]);
        self.outcome.so_far[part] - before.unwrap_or(0.0)
    }
}

/// Which one costs least: the first, of equals.
fn cheapest(tried: &[Tried]) -> usize {
    let usd = tried.iter().map(Tried::usd).enumerate();
    let least = usd.min_by(|left, right| left.1.total_cmp(&right.1));
    least.map_or(0, |(place, _)| place)
}

/// The cheapest of `tried` with those parts of others that cost at least `gain`
/// less, as a part of what it costs there.
fn spliced(marks: &[u64], tried: &[Tried], gain: f64) -> Plan {
    let best = &tried[cheapest(tried)];
    let chosen: Vec<&Plan> = (0..marks.len())
        .map(|part| {
            let least = tried
                .iter()
                .min_by(|left, right| left.part_usd(part).total_cmp(&right.part_usd(part)))
                .unwrap_or(best);
            let enough = least.part_usd(part) < best.part_usd(part) * (1.0 - gain);
            if enough { &least.plan } else { &best.plan }
        })
        .collect();
    Plan::spliced(marks, &chosen)
}

/// What is tried without knowing more.
fn first_plans(problem: &Problem<'_>, proofs: &Proofs) -> Vec<Plan> {
    let fluid = |up| Plan::of(&proofs.slots, proofs.step, problem.slots, up);
    let whole = whole_plans(problem, proofs);
    let mut plans = Vec::new();
    for place in 0..UPS.len().max(whole.len()) {
        plans.extend(whole.get(place).cloned());
        plans.extend(UPS.get(place).map(|up| fluid(*up)));
    }
    // Both at once: one has the peaks, the other what they leave to be done.
    plans.extend(whole.iter().map(|plan| plan.with(&fluid(0.0))));
    plans
}

/// What is changed in turn, by how long a boot takes.
fn rounds(boot: u64) -> [Vec<Change>; 3] {
    let held = |boots: u64| Change::Held(boots * boot);
    let part = |change: fn(u64) -> Change| change(boot / 4);
    [
        vec![
            Change::Keep(true),
            Change::Keep(false),
            Change::Percent(50),
            Change::Percent(70),
            Change::Percent(140),
            Change::Percent(200),
        ],
        vec![
            Change::Ahead(boot),
            Change::Earlier(boot),
            Change::Later(boot),
            held(1),
            held(4),
            held(16),
        ],
        vec![
            Change::Percent(85),
            Change::Percent(115),
            Change::More(1),
            Change::Fewer(1),
            part(Change::Ahead),
            part(Change::Held),
            part(Change::Earlier),
            part(Change::Later),
        ],
    ]
}

/// How long most boots take, in microseconds; a second at least.
fn boot(problem: &Problem<'_>) -> u64 {
    let boot = problem.terms(0).launch / u128::from(problem.price.max(1));
    u64::try_from(boot).unwrap_or(u64::MAX).max(MICROS_PER_SEC)
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
