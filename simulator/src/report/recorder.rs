//! The course of a run in as many points as a picture can show.

use std::fmt::Write;
use std::sync::Arc;

use windlass_policies::reconcile::Cycle;
use windlass_policies::units::{MICROS_PER_HOUR, MICROS_PER_SEC, MicroUsdPerHour};

use crate::accrual::Accrual;
use crate::queue::{JobClasses, narrow, quantile, ratio, wide};
use crate::score::Score;
use crate::workload::Workload;
use crate::world::{World, WorldView};

/// The most points in time: a day of minutes each, more than a screen has
/// places. A week then has seven minutes to a point, a year six hours.
pub const BINS_MAX: u64 = 1_440;

/// The most decisions that are kept with their reasons, about 200 bytes each:
/// those that changed most.
pub const MARKS_MAX: usize = 1_000;

/// Letters that are kept of a decision's reasons.
const WHY_MAX: usize = 600;

/// Collects the course of one run while it goes on. Memory does not grow with
/// the run.
#[derive(Clone, Debug)]
pub struct Recorder {
    step: u64,
    length: u64,
    ready: Band,
    booting: Band,
    draining: Band,
    wish: Band,
    backlog: Band,
    busy: Band,
    /// What the instances had cost at the beginning of each bin, in micro-dollars.
    instance_cost: Vec<Option<i64>>,
    marks: Vec<Mark>,
    changes: u64,
    blind: bool,
}

/// How a run went, in at most [`BINS_MAX`] points.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// Length of a bin in microseconds.
    pub(super) step: u64,
    /// Length of the run in microseconds.
    pub(super) length: u64,
    pub(super) columns: Vec<(&'static str, Column)>,
    /// Sorted by time.
    pub(super) marks: Vec<Mark>,
    /// How many decisions changed something.
    pub(super) changes: u64,
}

/// One series; absent where there was nothing to see.
pub(super) type Column = Vec<Option<f64>>;

/// A decision that changed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) at: u64,
    pub(super) from: Option<u32>,
    pub(super) to: Option<u32>,
    pub(super) why: String,
}

impl Mark {
    /// How much it changed; one that had no picture of the fleet, above all.
    fn weight(&self) -> u32 {
        match (self.from, self.to) {
            (Some(from), Some(to)) => from.abs_diff(to),
            (None, _) | (_, None) => u32::MAX,
        }
    }
}

/// What waiting costs.
#[derive(Clone, Debug)]
pub struct WaitPrices {
    /// Without classes, and in those that have no price of their own.
    pub usual: MicroUsdPerHour,
    /// In each class, by number.
    pub classes: Vec<MicroUsdPerHour>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    min: u64,
    max: u64,
    sum: u64,
    count: u64,
}

#[derive(Clone, Debug)]
struct Band(Vec<Bin>);

impl Band {
    fn note(&mut self, bin: usize, value: u64) {
        if let Some(bin) = self.0.get_mut(bin) {
            bin.min = if bin.count == 0 {
                value
            } else {
                bin.min.min(value)
            };
            bin.max = bin.max.max(value);
            bin.sum = bin.sum.saturating_add(value);
            bin.count += 1;
        }
    }

    fn column(&self, value: impl Fn(&Bin) -> Option<f64>) -> Column {
        let some = |bin: &Bin| (bin.count > 0).then(|| value(bin)).flatten();
        self.0.iter().map(some).collect()
    }
}

impl Recorder {
    /// For a run of `length` that decides every `interval`, both in microseconds.
    pub fn new(length: u64, interval: u64) -> Self {
        let interval = interval.max(1);
        let ticks = length.div_ceil(interval).max(1);
        let step = interval.saturating_mul(ticks.div_ceil(BINS_MAX));
        let bins = narrow(length.div_ceil(step).max(1));
        let band = || Band(vec![Bin::default(); bins]);
        Self {
            step,
            length,
            ready: band(),
            booting: band(),
            draining: band(),
            wish: band(),
            backlog: band(),
            busy: band(),
            instance_cost: vec![None; bins],
            marks: Vec::new(),
            changes: 0,
            blind: false,
        }
    }

    /// How many points in time there are.
    #[cfg(test)]
    pub(super) fn points(&self) -> usize {
        self.ready.0.len()
    }

    /// Takes in the world at its beginning, or after a cycle.
    pub fn note_view(&mut self, view: &WorldView) {
        let bin = narrow(view.at / self.step);
        self.ready.note(bin, view.ready.into());
        self.booting.note(bin, view.booting.into());
        self.draining.note(bin, view.draining.into());
        self.backlog.note(bin, view.queue.backlog);
        self.busy.note(bin, view.queue.busy);
        if let Some(cost) = self.instance_cost.get_mut(bin) {
            cost.get_or_insert(view.instance_cost.get());
        }
    }

    /// Takes in a cycle, and the world right after it.
    pub fn note(&mut self, cycle: &Cycle, view: &WorldView) {
        self.note_view(view);
        let decision = &cycle.decision;
        if let Some(wish) = decision.wish {
            self.wish.note(narrow(view.at / self.step), wish.into());
        }
        // Blindness is told when it begins and when it ends.
        let blind = decision.target.is_none();
        if decision.current != decision.target || blind != self.blind {
            self.changes += 1;
            self.marks.push(Mark {
                at: view.at,
                from: decision.current,
                to: decision.target,
                why: why(cycle),
            });
            if self.marks.len() >= 2 * MARKS_MAX {
                self.prune();
            }
        }
        self.blind = blind;
    }

    /// Keeps the [`MARKS_MAX`] largest changes, of equal ones the earlier.
    fn prune(&mut self) {
        self.marks
            .sort_by_key(|mark| (std::cmp::Reverse(mark.weight()), mark.at));
        self.marks.truncate(MARKS_MAX);
    }

    /// The course, once `world` is at its end; it must have kept every wait for
    /// its waits to be part of it.
    pub fn finish(
        mut self,
        world: &World,
        workload: &Workload,
        prices: &WaitPrices,
        score: &Score,
    ) -> Course {
        self.prune();
        self.marks.sort_by_key(|mark| mark.at);
        let mut columns = Vec::new();
        for (names, band) in [
            (["ready_min", "ready", "ready_max"], &self.ready),
            (["booting_min", "booting", "booting_max"], &self.booting),
            (["draining_min", "draining", "draining_max"], &self.draining),
            (["wish_min", "wish", "wish_max"], &self.wish),
            (["backlog_min", "backlog", "backlog_max"], &self.backlog),
            (["busy_min", "busy", "busy_max"], &self.busy),
        ] {
            let [min, mean, max] = names;
            columns.push((min, band.column(|bin| exact(bin.min))));
            columns.push((
                mean,
                band.column(|bin| ratio(bin.sum.into(), bin.count.into())),
            ));
            columns.push((max, band.column(|bin| exact(bin.max))));
        }
        let mut waits = vec![0; workload.jobs.len()];
        world.each_wait(|job, wait| {
            if let Some(kept) = waits.get_mut(narrow(job)) {
                *kept = wait;
            }
        });
        columns.extend(self.waits(workload, &mut waits));
        columns.extend(self.costs(score, delay_costs(workload, &waits, prices, self.grid())));
        Course {
            step: self.step,
            length: self.length,
            columns,
            marks: self.marks,
            changes: self.changes,
        }
    }

    fn grid(&self) -> Accrual {
        Accrual::new(self.step, self.length)
    }

    /// What those waited that arrived in each bin. Puts the waits of each bin in
    /// another order and back.
    fn waits(&self, workload: &Workload, waits: &mut [u64]) -> Vec<(&'static str, Column)> {
        let arrivals = workload.jobs.arrivals();
        let [mut mean, mut p95, mut max] = [const { Vec::new() }; 3];
        let mut from = 0;
        let mut own = Vec::new();
        for bin in 1..=wide(self.ready.0.len()) {
            let end = bin.saturating_mul(self.step);
            let to = from + arrivals[from..].partition_point(|at| *at < end);
            own.clear();
            own.extend_from_slice(&waits[from..to]);
            let sum: u128 = own.iter().map(|wait| u128::from(*wait)).sum();
            let divisor = u128::from(wide(own.len())) * u128::from(MICROS_PER_SEC);
            mean.push(ratio(sum, divisor));
            p95.push(quantile(&mut own, 95).map(secs));
            max.push(own.iter().max().map(|wait| secs(*wait)));
            from = to;
        }
        vec![("wait", mean), ("wait_p95", p95), ("wait_max", max)]
    }

    /// What was spent up to the beginning of each bin, and up to the end.
    fn costs(&self, score: &Score, delay: Column) -> Vec<(&'static str, Column)> {
        let usd =
            |micros: &Option<i64>| micros.and_then(|micros| dollars(micros.unsigned_abs().into()));
        let mut instances: Column = self.instance_cost.iter().map(usd).collect();
        instances.push(Some(score.total_usd - score.delay_usd));
        vec![("instance_usd", instances), ("delay_usd", delay)]
    }
}

/// What waiting had cost at each point of `grid`, in dollars.
fn delay_costs(
    workload: &Workload,
    waits: &[u64],
    prices: &WaitPrices,
    mut grid: Accrual,
) -> Column {
    let numbers = workload
        .classes
        .as_ref()
        .map(Arc::as_ref)
        .map(JobClasses::numbers);
    for (job, (arrival, wait)) in workload.jobs.arrivals().iter().zip(waits).enumerate() {
        let class = numbers.and_then(|numbers| prices.classes.get(usize::from(numbers[job])));
        let price = class.copied().unwrap_or(prices.usual);
        grid.add(*arrival, arrival + wait, price.get());
    }
    let totals = grid.totals().into_iter();
    totals
        .map(|total| dollars(total / u128::from(MICROS_PER_HOUR)))
        .collect()
}

/// The decision in a line, and what was done beyond it.
fn why(cycle: &Cycle) -> String {
    let mut why = cycle.decision.summary();
    for reason in &cycle.elsewhere {
        let _ = write!(why, "; {reason}");
    }
    match why.char_indices().nth(WHY_MAX) {
        Some((end, _)) => format!("{}…", &why[..end]),
        None => why,
    }
}

fn exact(value: u64) -> Option<f64> {
    ratio(value.into(), 1)
}

fn dollars(micros: u128) -> Option<f64> {
    ratio(micros, 1_000_000)
}

pub(super) fn secs(micros: u64) -> f64 {
    ratio(micros.into(), MICROS_PER_SEC.into()).unwrap_or(0.0)
}
