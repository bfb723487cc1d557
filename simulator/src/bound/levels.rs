//! A second limit, in whole instances: the k-th instance on its own.
//!
//! A job is in the system at least from its arrival for as long as its service
//! takes, whatever is scheduled. So of `n(t)` jobs that would be there if none
//! ever waited, at least those beyond the slots wait, and
//!
//! ```text
//! cost >= sum over k of what the k-th instance costs while it is on,
//!         its launches, and the waiting of its slots' jobs while it is off
//! ```
//!
//! Each term is a walk between on and off, whose least cost is found event by
//! event. This is sharp where waiting is dear, and for small fleets; where
//! waiting is cheap the prices of [`super::certificate`] prove more. The course
//! of all walks is a schedule in whole instances as well.

use super::plan::Plan;
use super::problem::{Problem, Terms};
use crate::queue::{narrow, wide};

/// The k-th instance up to its last event.
#[derive(Clone, Debug)]
struct Level {
    at: u64,
    /// The least cost so far if it is on, and if it is off; nothing if it
    /// cannot be.
    on: Option<u128>,
    off: u128,
    /// Jobs that are in its slots unless it is off.
    jobs: u64,
    turns: Vec<Turn>,
}

/// What was best at an event: to have turned on, or off, just then.
#[derive(Clone, Copy, Debug)]
struct Turn {
    at: u64,
    on: bool,
    off: bool,
}

/// Costs and walks of all levels.
pub(super) struct Levels {
    rate: u128,
    launch: u128,
    waiting: u128,
    ready_first: u64,
    slots: u64,
    initial: u64,
    keep_turns: bool,
    all: Vec<Level>,
}

impl Levels {
    /// Walks through all jobs whose waiting costs at least `from`, as if it cost
    /// `waiting`: a limit is proved if that is not more. With `keep_turns` the
    /// walks can be told afterwards.
    pub(super) fn walk(
        problem: &Problem<'_>,
        terms: Terms,
        (from, waiting): (u64, u64),
        keep_turns: bool,
    ) -> Self {
        let mut levels = Self {
            rate: terms.rate,
            launch: terms.launch,
            waiting: u128::from(waiting),
            ready_first: problem.boot_min(),
            slots: problem.slots,
            initial: problem.initial,
            keep_turns,
            all: Vec::new(),
        };
        for _ in 0..problem.initial {
            levels.add();
        }
        let counts = |job: &usize| problem.service(*job) > 0 && problem.waiting(*job) >= from;
        let mut leaves: Vec<u64> = (0..problem.jobs())
            .filter(counts)
            .map(|job| problem.arrivals[job].saturating_add(problem.service(job)))
            .collect();
        leaves.sort_unstable();
        let mut leaves = leaves.into_iter().peekable();
        let mut present = 0;
        for job in (0..problem.jobs()).filter(counts) {
            let arrival = problem.arrivals[job];
            while let Some(leave) = leaves.next_if(|leave| *leave <= arrival) {
                present -= 1;
                levels.change(present, leave, false);
            }
            levels.change(present, arrival, true);
            present += 1;
        }
        for leave in leaves.take_while(|leave| *leave < problem.length) {
            present -= 1;
            levels.change(present, leave, false);
        }
        for place in 0..levels.all.len() {
            levels.advance(place, problem.length);
        }
        levels
    }

    /// The least that all cost together.
    pub(super) fn least(&self) -> u128 {
        let each = self.all.iter();
        each.map(|level| level.on.map_or(level.off, |on| on.min(level.off)))
            .sum()
    }

    /// How many are on by time, at the least cost.
    pub(super) fn plan(&self) -> Plan {
        let mut changes: Vec<(u64, i64)> = Vec::new();
        for (place, level) in self.all.iter().enumerate() {
            let mut on = level.on.is_some_and(|on| on < level.off);
            for turn in level.turns.iter().rev() {
                if on && turn.on {
                    changes.push((turn.at, 1));
                    on = false;
                } else if !on && turn.off {
                    changes.push((turn.at, -1));
                    on = true;
                }
            }
            if !on && wide(place) < self.initial {
                changes.push((0, -1));
            }
        }
        changes.sort_unstable();
        let mut current = i64::try_from(self.initial).unwrap_or(i64::MAX);
        let count = |current: i64| u32::try_from(current.max(0)).unwrap_or(u32::MAX);
        let first = (0, count(current));
        let steps = changes.into_iter().map(|(at, change)| {
            current += change;
            (at, count(current))
        });
        Plan::new(std::iter::once(first).chain(steps))
    }

    fn add(&mut self) {
        let there = wide(self.all.len()) < self.initial;
        self.all.push(Level {
            at: 0,
            on: there.then_some(0),
            off: 0,
            jobs: 0,
            turns: Vec::new(),
        });
    }

    /// One job more, or fewer, beside `others`.
    fn change(&mut self, others: u64, at: u64, more: bool) {
        let place = narrow(others / self.slots);
        if place == self.all.len() {
            self.add();
        }
        self.advance(place, at);
        let level = &mut self.all[place];
        level.jobs = if more { level.jobs + 1 } else { level.jobs - 1 };
    }

    /// Lets the level at `place` go on to `to`.
    fn advance(&mut self, place: usize, to: u64) {
        let ready_first = self.ready_first;
        if self.all[place].at < ready_first && ready_first < to {
            self.pass(place, ready_first);
        }
        self.pass(place, to);
    }

    fn pass(&mut self, place: usize, to: u64) {
        let level = &mut self.all[place];
        let span = u128::from(to - level.at);
        level.off += self.waiting * u128::from(level.jobs) * span;
        level.on = level.on.map(|on| on + self.rate * span);
        level.at = to;
        let launched = level.off + self.launch;
        let turns_on = to >= self.ready_first && level.on.is_none_or(|on| launched < on);
        let turns_off = level.on.is_some_and(|on| on < level.off);
        if turns_on {
            level.on = Some(launched);
        } else if let Some(on) = level.on.filter(|_| turns_off) {
            level.off = on;
        }
        if self.keep_turns && (turns_on || turns_off) {
            level.turns.push(Turn {
                at: to,
                on: turns_on,
                off: turns_off && !turns_on,
            });
        }
    }
}
