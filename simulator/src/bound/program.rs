//! Prices for a proof: those of the fluid relaxation, in which work is a
//! liquid and instances come in fractions.
//!
//! It is a linear program over the steps of a grid, solved by a primal-dual
//! interior-point method (Mehrotra 1992). Each step only touches the next one,
//! so that an iteration takes time in proportion to the number of steps. Only
//! `+ - * /` and the square root are used: the same bits on every machine.
//!
//! Money is in what a slot costs for a step, work in slots times steps. The
//! program is the one of the prices, which has the schedule as its multipliers:
//!
//! ```text
//! maximise    sum over b, g of demand[g][b] * worth[g][b]  -  initial * future[0]
//! such that   future[b] >= price[b] - rate + future[b + 1]  x  instances
//!             0 <= future[b] <= launch                      x  ends, launches
//!             0 <= worth[g][b] <= price[b]                  x  work done
//!             worth[g][b] <= worth[g][b + 1] + patience[g]  x  work waiting
//! ```
//!
//! `price` is what a slot earns in a step, `future` what an instance that is
//! ready will still earn beyond its cost, `worth` what it costs to have a unit
//! of work done that comes in a step: done at once, or kept one step longer.

mod blocks;

use blocks::{Blocks, Vector};

/// Groups of work by what its waiting costs.
pub(super) const GROUPS: usize = 3;

/// Variables of a step: future, price, and the worth of each group.
const SIZE: usize = GROUPS + 2;

/// Constraints of a step: three of an instance, three for each group.
const ROWS: usize = 3 + 3 * GROUPS;

const FUTURE: usize = 0;
const PRICE: usize = 1;
const WORTH: usize = 2;

/// An interior-point method for programs like these takes 20 to 50 iterations.
const ITERATIONS_MAX: usize = 100;

/// The gap between prices and schedule at which it stops, as a part of their
/// value: far less than what certificates lose to rounding time to steps.
const GAP: f64 = 2e-5;

/// A liquid load and who serves it.
#[derive(Clone, Debug)]
pub(super) struct Fluid {
    /// Slots that each group keeps busy in each step if nothing waits.
    pub(super) demand: [Vec<f64>; GROUPS],
    /// What a unit of each group's work pays for waiting a step.
    pub(super) patience: [f64; GROUPS],
    /// What an instance costs for a step, by the slot: 1 or less.
    pub(super) rate: f64,
    /// What a launch costs, by the slot.
    pub(super) launch: f64,
    /// The first step at which a launched instance can be ready.
    pub(super) ready_first: usize,
    /// Slots that are there at the beginning.
    pub(super) initial: f64,
}

/// What the fluid relaxation comes to.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    /// What a slot costs in each step.
    pub(super) prices: Vec<f64>,
    /// How many slots there are in each step.
    pub(super) slots: Vec<f64>,
}

/// The slacks or the multipliers of a step.
type Rows = [f64; ROWS];

/// Prices and schedule of `fluid`; `None` if it has no steps.
pub(super) fn solve(fluid: &Fluid) -> Option<Flow> {
    let mut solver = Solver::begin(fluid)?;
    for _ in 0..ITERATIONS_MAX {
        if solver.done() {
            break;
        }
        if !solver.iterate() {
            break;
        }
    }
    Some(solver.flow())
}

struct Solver<'a> {
    fluid: &'a Fluid,
    point: Vec<Vector<SIZE>>,
    slacks: Vec<Rows>,
    multipliers: Vec<Rows>,
    blocks: Blocks<SIZE>,
}

impl<'a> Solver<'a> {
    /// Strictly inside: all slacks and multipliers above 0.
    fn begin(fluid: &'a Fluid) -> Option<Self> {
        let steps = fluid.demand[0].len();
        let last = steps.checked_sub(1)?;
        let future = fluid.launch / 2.0;
        let mut point = vec![[0.0; SIZE]; steps];
        for (place, own) in point.iter_mut().enumerate() {
            own[FUTURE] = future;
            own[PRICE] = fluid.rate / 2.0;
            for group in 0..GROUPS {
                let left = count(last - place) + 1.0;
                let patience = fluid.patience[group] * left;
                own[WORTH + group] = fluid.rate.min(patience) / 4.0;
            }
        }
        let mut solver = Self {
            fluid,
            slacks: vec![[0.0; ROWS]; steps],
            multipliers: vec![[0.0; ROWS]; steps],
            blocks: Blocks::new(steps),
            point,
        };
        solver.slacks = solver.slacks_of(&solver.point);
        let work: f64 = fluid.demand.iter().flatten().sum();
        let scale = (work / count(steps)).max(1e-6);
        for (own, slacks) in solver.multipliers.iter_mut().zip(&solver.slacks) {
            for (multiplier, slack) in own.iter_mut().zip(slacks) {
                *multiplier = scale / slack.max(1e-3);
            }
        }
        Some(solver)
    }

    fn steps(&self) -> usize {
        self.point.len()
    }

    /// The most that the future of an instance may be worth: no more than a
    /// boot costs, once one can have booted.
    fn future_max(&self, place: usize) -> f64 {
        if place < self.fluid.ready_first {
            return self.fluid.launch + 2.0 * count(self.steps());
        }
        self.fluid.launch
    }

    /// All slacks at `point`.
    fn slacks_of(&self, point: &[Vector<SIZE>]) -> Vec<Rows> {
        let mut slacks = Self::slopes_of(point);
        let last = self.steps() - 1;
        for (place, own) in slacks.iter_mut().enumerate() {
            own[0] += self.fluid.rate;
            own[2] += self.future_max(place);
            for group in 0..GROUPS {
                let patience = self.fluid.patience[group];
                own[4 + 3 * group] += if place == last {
                    patience / 2.0
                } else {
                    patience
                };
            }
        }
        slacks
    }

    /// How all slacks change along `direction`.
    fn slopes_of(direction: &[Vector<SIZE>]) -> Vec<Rows> {
        let nothing = [0.0; SIZE];
        let nexts = direction.iter().skip(1).chain([&nothing]);
        let slopes = direction.iter().zip(nexts).map(|(own, next)| {
            let mut rows = [0.0; ROWS];
            rows[0] = own[FUTURE] - next[FUTURE] - own[PRICE];
            rows[1] = own[FUTURE];
            rows[2] = -own[FUTURE];
            for group in 0..GROUPS {
                let worth = own[WORTH + group];
                rows[3 + 3 * group] = own[PRICE] - worth;
                rows[4 + 3 * group] = next[WORTH + group] - worth;
                rows[5 + 3 * group] = worth;
            }
            rows
        });
        slopes.collect()
    }

    /// What each variable gains: its part of the value and of every constraint,
    /// weighted by `weights`.
    fn gains(&self, weights: impl Fn(usize) -> Rows) -> Vec<Vector<SIZE>> {
        let mut gains = vec![[0.0; SIZE]; self.steps()];
        gains[0][FUTURE] -= self.fluid.initial;
        for place in 0..self.steps() {
            let rows = weights(place);
            let own = &mut gains[place];
            own[FUTURE] += rows[0] + rows[1] - rows[2];
            own[PRICE] -= rows[0];
            for group in 0..GROUPS {
                let (done, kept, low) = (
                    rows[3 + 3 * group],
                    rows[4 + 3 * group],
                    rows[5 + 3 * group],
                );
                own[PRICE] += done;
                own[WORTH + group] += self.fluid.demand[group][place] - done - kept + low;
            }
            if let Some(next) = gains.get_mut(place + 1) {
                next[FUTURE] -= rows[0];
                for group in 0..GROUPS {
                    next[WORTH + group] += rows[4 + 3 * group];
                }
            }
        }
        gains
    }

    fn value(&self) -> f64 {
        let mut value = -self.fluid.initial * self.point[0][FUTURE];
        for (place, own) in self.point.iter().enumerate() {
            for group in 0..GROUPS {
                value += self.fluid.demand[group][place] * own[WORTH + group];
            }
        }
        value
    }

    /// Slack times multiplier, on average.
    fn middle(&self) -> f64 {
        dot(&self.slacks, &self.multipliers) / count(self.steps() * ROWS)
    }

    fn done(&self) -> bool {
        let gap = dot(&self.slacks, &self.multipliers);
        let off = self.gains(|place| self.multipliers[place]);
        let off: f64 = off.iter().flatten().map(|gain| gain.abs()).sum();
        let work: f64 = self.fluid.demand.iter().flatten().sum();
        gap <= GAP * self.value().abs().max(1e-9) && off <= 1e-4 * work.max(1e-9)
    }

    /// Goes one step towards the best; false if it cannot.
    fn iterate(&mut self) -> bool {
        self.fill_blocks();
        if !self.blocks.factor() {
            return false;
        }
        // First as if there were no inside to keep to, to see how far that goes.
        let zeros = vec![[0.0; ROWS]; self.steps()];
        let (_, slacks, multipliers) = self.direction(0.0, &zeros);
        let (far, far_dual) = (
            longest(&self.slacks, &slacks),
            longest(&self.multipliers, &multipliers),
        );
        let middle = self.middle();
        let mut after = 0.0;
        for place in 0..self.steps() {
            for row in 0..ROWS {
                after += (self.slacks[place][row] + far * slacks[place][row])
                    * (self.multipliers[place][row] + far_dual * multipliers[place][row]);
            }
        }
        let after = after / count(self.steps() * ROWS);
        let part = after / middle;
        let target = part * part * part * middle;
        let mut bends = slacks;
        for (bends, multipliers) in bends.iter_mut().zip(&multipliers) {
            for (bend, multiplier) in bends.iter_mut().zip(multipliers) {
                *bend *= multiplier;
            }
        }
        let (point, slacks, multipliers) = self.direction(target, &bends);
        let far = 0.995 * longest(&self.slacks, &slacks);
        let far_dual = 0.995 * longest(&self.multipliers, &multipliers);
        if !(far > 1e-9 && far_dual > 1e-9) {
            return false;
        }
        for (own, change) in self.point.iter_mut().zip(&point) {
            for (own, change) in own.iter_mut().zip(change) {
                *own += far * change;
            }
        }
        for (own, change) in self.multipliers.iter_mut().zip(&multipliers) {
            for (own, change) in own.iter_mut().zip(change) {
                *own += far_dual * change;
            }
        }
        let slacks = self.slacks_of(&self.point);
        let inside = slacks.iter().flatten().all(|slack| *slack > 0.0);
        if !inside {
            // Rounding put it on the edge: what was reached before is good.
            return false;
        }
        self.slacks = slacks;
        true
    }

    /// The Newton direction to where every slack times its multiplier is
    /// `target` less its `bend`.
    fn direction(&self, target: f64, bends: &[Rows]) -> (Vec<Vector<SIZE>>, Vec<Rows>, Vec<Rows>) {
        let mut point = self.gains(|place| {
            let mut rows = [0.0; ROWS];
            for (row, weight) in rows.iter_mut().enumerate() {
                *weight = (target - bends[place][row]) / self.slacks[place][row];
            }
            rows
        });
        self.blocks.solve(&mut point);
        let slacks = Self::slopes_of(&point);
        let mut multipliers = vec![[0.0; ROWS]; self.steps()];
        for place in 0..self.steps() {
            for row in 0..ROWS {
                let (slack, multiplier) = (self.slacks[place][row], self.multipliers[place][row]);
                let wanted = target - bends[place][row] - slack * multiplier;
                multipliers[place][row] = (wanted - multiplier * slacks[place][row]) / slack;
            }
        }
        (point, slacks, multipliers)
    }

    fn fill_blocks(&mut self) {
        self.blocks.clear();
        for place in 0..self.steps() {
            let mut weights = [0.0; ROWS];
            for (row, weight) in weights.iter_mut().enumerate() {
                *weight = self.multipliers[place][row] / self.slacks[place][row];
            }
            let instance = weights[0];
            let own = self.blocks.own(place);
            own[FUTURE][FUTURE] += weights[0] + weights[1] + weights[2];
            own[FUTURE][PRICE] -= instance;
            own[PRICE][FUTURE] -= instance;
            own[PRICE][PRICE] += instance;
            for group in 0..GROUPS {
                let worth = WORTH + group;
                let (done, kept) = (weights[3 + 3 * group], weights[4 + 3 * group]);
                own[PRICE][PRICE] += done;
                own[PRICE][worth] -= done;
                own[worth][PRICE] -= done;
                own[worth][worth] += done + kept + weights[5 + 3 * group];
            }
            if place + 1 == self.steps() {
                break;
            }
            let next = self.blocks.own(place + 1);
            next[FUTURE][FUTURE] += instance;
            for group in 0..GROUPS {
                next[WORTH + group][WORTH + group] += weights[4 + 3 * group];
            }
            let across = self.blocks.across(place);
            across[FUTURE][FUTURE] -= instance;
            across[PRICE][FUTURE] += instance;
            for group in 0..GROUPS {
                across[WORTH + group][WORTH + group] -= weights[4 + 3 * group];
            }
        }
    }

    fn flow(&self) -> Flow {
        Flow {
            prices: self.point.iter().map(|own| own[PRICE]).collect(),
            slots: self.multipliers.iter().map(|own| own[0]).collect(),
        }
    }
}

/// How far `change` can be followed from `from` until something is 0; at most 1.
fn longest(from: &[Rows], change: &[Rows]) -> f64 {
    let mut longest = 1.0_f64;
    for (from, change) in from.iter().flatten().zip(change.iter().flatten()) {
        if *change < 0.0 {
            longest = longest.min(-from / change);
        }
    }
    longest
}

fn dot(left: &[Rows], right: &[Rows]) -> f64 {
    let pairs = left.iter().flatten().zip(right.iter().flatten());
    pairs.map(|(left, right)| left * right).sum()
}

/// A number of steps as a float; there are far fewer than 2^53.
fn count(steps: usize) -> f64 {
    crate::queue::ratio(u128::try_from(steps).unwrap_or(0), 1).unwrap_or(0.0)
}
