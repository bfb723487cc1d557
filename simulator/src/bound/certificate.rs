//! A lower limit on the cost of every schedule, from any prices of a slot's
//! time. All of it is whole numbers: however the prices were found, and however
//! badly, what comes out is proved.
//!
//! The argument stands in `docs/bound.md`. In short: let each job pay for the
//! time it takes in a slot, and each instance earn what its slots are paid. A
//! job costs at least what its best start costs it; an instance keeps at most
//! what its best stay earns it beyond what it is charged. What all jobs pay at
//! least, minus what all instances keep at most, is paid by any schedule.

use windlass_policies::units::{MICROS_PER_HOUR, MicroUsd};

use super::levels::Levels;
use super::problem::{Boots, PARTS, Problem, Terms, signed};
use crate::queue::{narrow, wide};

/// The most draws of boots that are looked at. A second's work; beyond so many
/// launches a schedule pays for boots what the bound says anyway.
const DRAWS_MAX: usize = 1 << 24;

/// The longest window whose lowest price is kept: `2^12` steps.
const LEVELS: usize = 13;

/// What a slot's time costs, step by step; nothing after the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PricePath {
    /// Length of a step in microseconds.
    step: u64,
    /// When the last step ends, be it whole or not.
    length: u64,
    // One for each step.
    prices: Vec<u64>,
    // What came together by the beginning of each step, and by the end.
    totals: Vec<u128>,
}

impl PricePath {
    /// The prices `prices[i]` from `i * step` on; as many as fit into `length`.
    pub(super) fn new(step: u64, length: u64, mut prices: Vec<u64>) -> Self {
        prices.resize(narrow(length.div_ceil(step)), 0);
        let mut totals = Vec::with_capacity(prices.len() + 1);
        let (mut total, mut at) = (0_u128, 0_u64);
        totals.push(0);
        for price in &prices {
            let end = at.saturating_add(step).min(length);
            total += u128::from(*price) * u128::from(end - at);
            totals.push(total);
            at = end;
        }
        Self {
            step,
            length,
            prices,
            totals,
        }
    }

    /// The price at which an instance earns at most what it is charged for its
    /// time, whenever it is there.
    pub(super) fn flat(problem: &Problem<'_>) -> Self {
        let price = problem.price / problem.slots;
        Self::new(problem.length.max(1), problem.length, vec![price])
    }

    /// The price at `at`.
    fn at(&self, at: u64) -> u64 {
        self.prices
            .get(narrow(at / self.step))
            .copied()
            .unwrap_or(0)
    }

    /// What came together by `at`.
    fn total(&self, at: u64) -> u128 {
        let at = at.min(self.length);
        let place = narrow(at / self.step);
        let rest = at - wide(place) * self.step;
        self.totals[place] + u128::from(self.at(at)) * u128::from(rest)
    }

    /// When the step after the one of `at` begins, or everything ends.
    fn next(&self, at: u64) -> u64 {
        ((at / self.step + 1) * self.step).min(self.length)
    }

    /// The most that a launched instance can earn, once ready, beyond `rate` for
    /// its time, whenever that is and whenever it ends; not below 0.
    pub(super) fn rise(&self, problem: &Problem<'_>, rate: u128) -> u128 {
        let (slots, rate) = (i128::from(problem.slots), signed(rate));
        let (mut most, mut running) = (0, 0_i128);
        // None is ready before.
        let mut at = problem.boot_min().min(self.length);
        for own in self.prices.iter().skip(narrow(at / self.step)) {
            let end = self.next(at);
            let earned = (slots * i128::from(*own) - rate) * i128::from(end - at);
            running = running.max(0) + earned;
            most = most.max(running);
            at = end;
        }
        most.unsigned_abs()
    }

    /// The most that an instance earns that is ready and paid for from the
    /// beginning on; below 0 if it cannot earn what it is charged at least.
    fn kept_by_initial(&self, problem: &Problem<'_>) -> i128 {
        let slots = i128::from(problem.initial_slots);
        let price = i128::from(problem.initial_price);
        let minimum = problem.charge.minimum;
        // Between two of these what it earns and what it is charged are straight.
        let ends = (0..self.prices.len()).map(|place| wide(place) * self.step);
        let ends = ends.chain([self.length, minimum.min(self.length)]);
        let kept = ends.map(|end| {
            let charged = minimum.max(end);
            slots * signed(self.total(end)) - price * i128::from(charged)
        });
        kept.max().unwrap_or(0)
    }
}

/// Lowest prices over windows of `2^k` steps.
pub(super) struct Lows {
    levels: Vec<Vec<u64>>,
}

impl Lows {
    pub(super) fn new(path: &PricePath) -> Self {
        let mut levels = vec![path.prices.clone()];
        for level in 1..LEVELS {
            let half = 1 << (level - 1);
            let below = &levels[level - 1];
            // What reaches beyond the end has a price of 0 in it.
            let low = |place: usize| {
                let second = below.get(place + half).copied().unwrap_or(0);
                below[place].min(second)
            };
            let own = (0..below.len()).map(low).collect();
            levels.push(own);
        }
        Self { levels }
    }

    /// The lowest price in at least `steps` steps from `place` on; 0 if that is
    /// more than was looked at.
    fn low(&self, place: usize, steps: u64) -> u64 {
        let level = narrow(u64::from(steps.next_power_of_two().ilog2()));
        let low = self.levels.get(level).and_then(|level| level.get(place));
        low.copied().unwrap_or(0)
    }
}

/// What makes proofs out of price paths.
pub(super) struct Evaluator<'a> {
    problem: &'a Problem<'a>,
    /// What all jobs pay at least if a slot's time costs what an instance's does.
    flat: i128,
    kept_flat: i128,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(problem: &'a Problem<'a>) -> Self {
        let path = PricePath::flat(problem);
        Self {
            problem,
            flat: paid(problem, &path),
            kept_flat: path.kept_by_initial(problem),
        }
    }

    /// What every schedule costs at least, by `path` and a straight line below
    /// the charges; rounded down.
    pub(super) fn by_prices(&self, path: &PricePath, terms: Terms) -> MicroUsd {
        let initial = i128::from(self.problem.initial);
        let least = paid(self.problem, path) - initial * path.kept_by_initial(self.problem);
        let launch = path.rise(self.problem, terms.rate);
        self.least(least, Terms { launch, ..terms })
    }

    /// What every schedule costs at least, by the walks of `levels`, which went
    /// by `terms`; rounded down.
    pub(super) fn by_levels(&self, levels: &Levels, terms: Terms) -> MicroUsd {
        let problem = self.problem;
        let minimum = u128::from(problem.price) * u128::from(problem.charge.minimum);
        let initial = minimum * u128::from(terms.fixed) / u128::from(PARTS);
        let least = levels.least() + u128::from(problem.initial) * initial;
        self.least(signed(least), terms)
    }

    /// The least over how many instances are launched. With `m` of them it is
    /// `least` less what each keeps, and also what the flat price proves and
    /// what each wastes.
    fn least(&self, least: i128, terms: Terms) -> MicroUsd {
        let problem = self.problem;
        let flat = self.flat - i128::from(problem.initial) * self.kept_flat;
        let all = self.over_launches(least, flat, terms).max(0);
        let unit = (1_i128 << problem.scale) * i128::from(MICROS_PER_HOUR);
        MicroUsd::new(i64::try_from(all / unit).unwrap_or(i64::MAX))
    }

    fn over_launches(&self, mut least: i128, mut flat: i128, terms: Terms) -> i128 {
        let problem = self.problem;
        let (distribution, mut draws) = match &problem.boots {
            Boots::Constant(boot) | Boots::AtLeast(boot) => {
                // All keep the same, so that the fewest or the most are best.
                let none = problem.kept(terms, *boot) <= 0;
                return if none { least.max(flat) } else { flat };
            }
            Boots::Drawn(distribution, draws) => (distribution, draws.clone()),
        };
        let minimum = i128::from(problem.charge.minimum);
        if minimum == 0 || problem.price == 0 {
            // One that boots too long is given back for nothing.
            let none = problem.kept(terms, 0) <= 0;
            return if none { least.max(flat) } else { flat };
        }
        let mut lowest = least.max(flat);
        for _ in 0..DRAWS_MAX {
            if flat >= lowest {
                return lowest;
            }
            let boot = distribution.sample_micros(&mut draws);
            least -= problem.kept(terms, boot);
            flat += i128::from(problem.price) * i128::from(boot).min(minimum);
            lowest = lowest.min(least.max(flat));
        }
        lowest.min(flat)
    }
}

/// What all jobs pay at least: each for its waiting and its time in a slot, at
/// the start that is best for it.
pub(super) fn paid(problem: &Problem<'_>, path: &PricePath) -> i128 {
    let lows = Lows::new(path);
    let each = 0..problem.jobs();
    each.map(|job| {
        let waiting = problem.waiting(job);
        least_of_job(
            path,
            &lows,
            problem.arrivals[job],
            problem.service(job),
            waiting,
        )
    })
    .sum()
}

/// The least over all starts from `arrival` to the end of what waiting and the
/// slot cost. A job that never starts waits to the end.
pub(super) fn least_of_job(
    path: &PricePath,
    lows: &Lows,
    arrival: u64,
    service: u64,
    waiting: u64,
) -> i128 {
    let (mut start, mut stop) = (arrival, arrival.saturating_add(service).min(path.length));
    let mut cost = signed(path.total(stop) - path.total(start));
    let mut best = cost;
    if waiting == 0 && service > 0 {
        return 0;
    }
    let (waiting, path_end) = (u128::from(waiting), path.length);
    let mut floor = 0;
    if best > 0 {
        // After so long waiting alone costs as much as the best start so far.
        let reach = best.unsigned_abs() / waiting.max(1);
        let reach = u64::try_from(reach)
            .unwrap_or(u64::MAX)
            .saturating_add(service);
        let low = lows.low(narrow(arrival / path.step), reach / path.step + 2);
        floor = u128::from(low) * u128::from(service);
    }
    // The cost is straight between the points where an end passes into a step.
    while start < path_end {
        if signed(waiting * u128::from(start - arrival) + floor) >= best {
            break;
        }
        let to_next = path.next(start) - start;
        let span = if stop < path_end {
            to_next.min(path.next(stop) - stop)
        } else {
            to_next
        };
        let at_stop = if stop < path_end { path.at(stop) } else { 0 };
        let slope = signed(waiting) + i128::from(at_stop) - i128::from(path.at(start));
        cost += slope * i128::from(span);
        best = best.min(cost);
        start += span;
        stop = stop.saturating_add(span).min(path_end);
    }
    best
}
