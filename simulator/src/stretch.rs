//! What a part of a run came to: the part after a policy was tuned, with the
//! fleet and the queue as they had become by then.

use std::ops::ControlFlow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use windlass_policies::ports::StoreError;
use windlass_policies::spec::FleetSpec;
use windlass_policies::units::{Meter, MicroUsd, MicroUsdPerHour, Timestamp};

use crate::engine::Run;
use crate::queue::{quantile, ratio};
use crate::scenario::{Scenario, ScenarioError};
use crate::workload::Workload;
use crate::world::World;

/// Which part of a run counts, in microseconds of the world: `from` included,
/// `to` excluded. The run itself begins at 0 and ends at `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub from: u64,
    /// Where it ends, and the run.
    pub to: u64,
}

/// What a part of a run came to. Whole numbers, but for the mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stretch {
    /// Its length, in microseconds.
    pub length_micros: u64,
    /// Jobs that arrived in it.
    pub jobs: u64,
    /// Jobs that were not finished at its end, whenever they arrived.
    pub unfinished_jobs: u64,
    /// What the jobs that arrived in it waited; so far, if they still do.
    pub wait: Waits,
    /// What was charged for instances in it: what all of them come to if they
    /// end with it, without what they would have come to had they ended where
    /// it begins. With what was paid ahead and the warm pool.
    pub instance_cost: MicroUsd,
    /// What the waiting of its jobs is worth, rounded up.
    pub delay_cost: MicroUsd,
    /// Instances launched in it.
    pub launches: u64,
    /// Instances ended in it.
    pub terminations: u64,
}

impl Stretch {
    /// What instances and waiting came to together.
    pub fn total_cost(&self) -> MicroUsd {
        self.instance_cost + self.delay_cost
    }
}

/// How long jobs waited: exact quantiles by nearest rank, 0 if there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Waits {
    /// Arithmetic mean, in seconds.
    pub mean_secs: f64,
    /// Median, in microseconds.
    pub p50_micros: u64,
    /// 95th percentile, likewise.
    pub p95_micros: u64,
    /// 99th percentile, likewise.
    pub p99_micros: u64,
    /// The largest, likewise.
    pub max_micros: u64,
}

/// Why there is no result.
#[derive(Debug, Error)]
pub enum StretchError {
    /// The scenario makes no world.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The store in memory refused a record.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why there is no result of a run in pieces.
#[derive(Debug, Error)]
pub enum Interrupted {
    /// It was not to go on.
    #[error("stopped")]
    Stopped,
    /// It failed.
    #[error(transparent)]
    Failed(#[from] StretchError),
}

/// What the fleet of `spec` comes to in `span` of a run of `scenario` with the
/// jobs of `workload`. After each tick `watch` is told how many microseconds
/// have passed since the one before.
///
/// # Errors
/// If the scenario makes no world.
pub fn run(
    scenario: &Scenario,
    workload: &Workload,
    spec: &FleetSpec,
    span: Span,
    watch: impl Fn(u64),
) -> Result<Stretch, StretchError> {
    let world = scenario.world(&spec.name, workload, &spec.signals, false)?;
    let begins_at = world.now();
    let at = |micros: u64| begins_at + Duration::from_micros(micros);
    let step = windlass_policies::units::micros_of(spec.interval);
    let mut run = Run::new(spec, world);
    let mut before = Before::default();
    if span.from > 0 {
        run = run.go_on(at(span.from), |_, _| watch(step))?;
        run.world().advance(at(span.from));
        before = Before::of(run.world());
    }
    let run = run.go_on(at(span.to), |_, _| watch(step))?;
    let world = run.finish(at(span.to));
    Ok(measure(scenario, workload, &world, span, before))
}

/// What a block of a run came to: the part between two cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// What was charged for instances in it, as in [`Stretch::instance_cost`].
    pub instance_cost: MicroUsd,
    /// What the waiting of the jobs that arrived in it is worth, rounded up; so
    /// far, if they still wait where the run ends.
    pub delay_cost: MicroUsd,
}

impl Block {
    /// Both.
    pub fn total_cost(&self) -> MicroUsd {
        self.instance_cost + self.delay_cost
    }
}

/// What the fleet of `spec` comes to in each of the blocks that end at `cuts`,
/// in microseconds of the world and in order; the first begins at 0, and the run
/// ends at the last. `watch` is told as in [`run`].
///
/// # Errors
/// If the scenario makes no world.
pub fn blocks(
    scenario: &Scenario,
    workload: &Workload,
    spec: &FleetSpec,
    cuts: &[u64],
    watch: impl Fn(u64),
) -> Result<Vec<Block>, StretchError> {
    blocks_between(scenario, workload, spec, cuts, |run, at| {
        let step = windlass_policies::units::micros_of(run.interval());
        run.go_on(at, |_, _| watch(step))
            .map_err(StretchError::from)
    })
}

/// The same in small pieces of work of [`PIECE_TICKS`]: after each, `rest` may
/// let others work, or stop it.
///
/// # Errors
/// If the scenario makes no world, or `rest` says [`ControlFlow::Break`].
pub fn blocks_in_pieces(
    scenario: &Scenario,
    workload: &Workload,
    spec: &FleetSpec,
    cuts: &[u64],
    mut rest: impl FnMut() -> ControlFlow<()>,
) -> Result<Vec<Block>, Interrupted> {
    let piece = spec.interval * PIECE_TICKS;
    blocks_between(scenario, workload, spec, cuts, |mut run, at| {
        while run.next_tick() < at {
            let to = (run.next_tick() + piece).min(at);
            run = run.go_on(to, |_, _| ()).map_err(StretchError::from)?;
            if rest().is_break() {
                return Err(Interrupted::Stopped);
            }
        }
        Ok(run)
    })
}

/// How many ticks a piece of work is: some milliseconds.
pub const PIECE_TICKS: u32 = 32;

fn blocks_between<'a, E: From<StretchError>>(
    scenario: &Scenario,
    workload: &Workload,
    spec: &'a FleetSpec,
    cuts: &[u64],
    mut go_on: impl FnMut(Run<'a>, Timestamp) -> Result<Run<'a>, E>,
) -> Result<Vec<Block>, E> {
    let world = scenario.world(&spec.name, workload, &spec.signals, false);
    let world = world.map_err(StretchError::from)?;
    let begins_at = world.now();
    let mut run = Run::new(spec, world);
    let mut charged = Vec::new();
    for cut in cuts {
        let at = begins_at + Duration::from_micros(*cut);
        run = go_on(run, at)?;
        run.world().advance(at);
        charged.push(run.world().view().instance_cost);
    }
    let end = cuts.last().copied().unwrap_or(0);
    let world = run.finish(begins_at + Duration::from_micros(end));
    let arrivals = workload.jobs.arrivals();
    let mut sums: Vec<Sums> = cuts.iter().map(|_| Sums::new(scenario, workload)).collect();
    world.each_wait(|job, wait| {
        let job = usize::try_from(job).unwrap_or(usize::MAX);
        let block = arrivals
            .get(job)
            .map(|arrival| cuts.partition_point(|cut| cut <= arrival));
        if let Some(sums) = block.and_then(|block| sums.get_mut(block)) {
            sums.add(job, wait);
        }
    });
    let before = std::iter::once(MicroUsd::ZERO).chain(charged.iter().copied());
    let each = before.zip(&charged).zip(&sums);
    let block = |((before, after), sums): ((MicroUsd, &MicroUsd), &Sums)| Block {
        instance_cost: MicroUsd::new(after.get().saturating_sub(before.get())),
        delay_cost: sums.cost(),
    };
    Ok(each.map(block).collect())
}

/// What had come together where the part begins.
#[derive(Clone, Copy, Default)]
struct Before {
    cost: MicroUsd,
    launches: u64,
    terminations: u64,
}

impl Before {
    fn of(world: &World) -> Self {
        let summary = world.summary();
        Self {
            cost: world.view().instance_cost,
            launches: summary.launches,
            terminations: summary.terminations,
        }
    }
}

fn measure(
    scenario: &Scenario,
    workload: &Workload,
    world: &World,
    span: Span,
    before: Before,
) -> Stretch {
    let arrivals = workload.jobs.arrivals();
    let first = arrivals.partition_point(|arrival| *arrival < span.from);
    let mut waits = Vec::new();
    let mut sums = Sums::new(scenario, workload);
    world.each_wait(|job, wait| {
        let place = usize::try_from(job).unwrap_or(usize::MAX);
        if place >= first {
            waits.push(wait);
            sums.add(place, wait);
        }
    });
    let (after, summary) = (Before::of(world), world.summary());
    Stretch {
        length_micros: span.to - span.from,
        jobs: u64::try_from(waits.len()).unwrap_or(u64::MAX),
        unfinished_jobs: summary.unfinished_jobs,
        wait: Waits::of(&mut waits, sums.all()),
        instance_cost: MicroUsd::new(after.cost.get().saturating_sub(before.cost.get())),
        delay_cost: sums.cost(),
        launches: after.launches - before.launches,
        terminations: after.terminations - before.terminations,
    }
}

/// What the jobs of each class waited together.
struct Sums<'a> {
    numbers: &'a [u16],
    /// One for each class, and one for jobs without any.
    sums: Vec<(MicroUsdPerHour, u128)>,
}

impl<'a> Sums<'a> {
    fn new(scenario: &Scenario, workload: &'a Workload) -> Self {
        let usual = scenario.objective.usd_per_job_hour_waiting;
        let Some(classes) = workload.classes.as_deref() else {
            return Self {
                numbers: &[],
                sums: vec![(usual, 0)],
            };
        };
        let own = scenario.class_prices();
        let price = |name: &String| own.get(name).copied().unwrap_or(usual);
        let sums = classes.classes().iter();
        Self {
            numbers: classes.numbers(),
            sums: sums.map(|class| (price(&class.name), 0)).collect(),
        }
    }

    fn add(&mut self, job: usize, wait: u64) {
        let class = self.numbers.get(job).copied().map_or(0, usize::from);
        if let Some((_, sum)) = self.sums.get_mut(class) {
            *sum += u128::from(wait);
        }
    }

    fn all(&self) -> u128 {
        self.sums.iter().map(|(_, sum)| sum).sum()
    }

    fn cost(&self) -> MicroUsd {
        let mut meter = Meter::default();
        for (price, sum) in &self.sums {
            meter.add_wide(*price, *sum);
        }
        meter.total()
    }
}

impl Waits {
    fn of(waits: &mut [u64], sum: u128) -> Self {
        let count = u128::try_from(waits.len()).unwrap_or(u128::MAX);
        Self {
            mean_secs: ratio(sum, count.saturating_mul(1_000_000)).unwrap_or(0.0),
            p50_micros: quantile(waits, 50).unwrap_or(0),
            p95_micros: quantile(waits, 95).unwrap_or(0),
            p99_micros: quantile(waits, 99).unwrap_or(0),
            max_micros: waits.iter().copied().max().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use windlass_policies::{policy_file, presets};

    use super::*;
    use crate::engine;
    use crate::scenario::TraceFile;
    use crate::score::{Label, Score};

    const DAY: u64 = 86_400_000_000;

    fn stage(name: &str) -> (Scenario, Workload) {
        let mut scenario = Scenario::open(&format!("builtin:{name}")).expect("built in");
        scenario.workload.length_micros = Some(DAY);
        let trace = scenario.read_trace().expect("a trace");
        assert!(matches!(scenario.trace, TraceFile::Embedded(_)));
        let workload = scenario.build_workload(&trace).expect("a workload");
        (scenario, workload)
    }

    fn spec(scenario: &Scenario) -> FleetSpec {
        let text = presets::text("queue-backlog").expect("a preset");
        let file = policy_file::read(text).expect("a policy");
        scenario.fleet_spec(file.policies, file.signals)
    }

    fn part(stage: &(Scenario, Workload), from: u64, to: u64) -> Stretch {
        let span = Span { from, to };
        run(&stage.0, &stage.1, &spec(&stage.0), span, |_| ()).expect("runs")
    }

    #[test]
    fn the_whole_run_is_what_its_score_says() {
        for name in ["web-week", "ci-bursts"] {
            let stage = stage(name);
            let (scenario, workload) = &stage;
            let spec = spec(scenario);
            let world = scenario.world(&spec.name, workload, &spec.signals, false);
            let world = world.expect("a world");
            let end = world.now() + Duration::from_micros(DAY);
            let summary = engine::run(&spec, world, end, |_| ()).expect("runs");
            let label = Label {
                scenario: name.into(),
                policy: "p".into(),
                trace: "t".into(),
                seed: 1,
            };
            let score = Score::of(label, &summary, scenario.objective);
            let whole = part(&stage, 0, DAY);
            let usd = |cost: MicroUsd| ratio(cost.get().unsigned_abs().into(), 1_000_000);
            assert_eq!(usd(whole.instance_cost), Some(score.instance_usd));
            assert_eq!(usd(whole.delay_cost), Some(score.delay_usd));
            assert_eq!(usd(whole.total_cost()), Some(score.total_usd));
            assert_eq!(
                whole.wait.mean_secs.to_bits(),
                score.wait_secs.mean.to_bits()
            );
            let p95 = ratio(whole.wait.p95_micros.into(), 1_000_000);
            assert_eq!(p95, Some(score.wait_secs.p95));
            assert_eq!((whole.jobs, whole.launches), (score.jobs, score.launches));
        }
    }

    #[test]
    fn blocks_are_what_parts_come_to() {
        let stage = stage("web-week");
        let cuts = [DAY / 3, DAY / 2 + 30_000_000, DAY];
        let blocks = blocks(&stage.0, &stage.1, &spec(&stage.0), &cuts, |_| ()).expect("runs");
        let last = part(&stage, cuts[1], DAY);
        assert_eq!(blocks[2].instance_cost, last.instance_cost);
        assert_eq!(blocks[2].delay_cost, last.delay_cost);
        let whole = part(&stage, 0, DAY);
        let cost = blocks[0].instance_cost + blocks[1].instance_cost + blocks[2].instance_cost;
        assert_eq!(cost, whole.instance_cost);
        let delay: i64 = blocks.iter().map(|block| block.delay_cost.get()).sum();
        // Each block is rounded up by itself.
        assert!((0..=2).contains(&(delay - whole.delay_cost.get())));
    }

    #[test]
    fn two_parts_are_the_whole() {
        for (name, from) in [("web-week", DAY / 3), ("ci-bursts", DAY / 2 + 30_000_000)] {
            let stage = stage(name);
            let (first, rest) = (part(&stage, 0, from), part(&stage, from, DAY));
            let whole = part(&stage, 0, DAY);
            assert_eq!(first.jobs + rest.jobs, whole.jobs, "{name}");
            assert_eq!(first.launches + rest.launches, whole.launches, "{name}");
            let cost = first.instance_cost + rest.instance_cost;
            assert_eq!(cost, whole.instance_cost, "{name}");
            // Waiting that goes on past the cut belongs to whoever arrived
            // before it, and is seen only by a run that goes on.
            let delay = first.delay_cost + rest.delay_cost;
            assert!(delay <= whole.delay_cost + MicroUsd::new(1), "{name}");
        }
    }
}
