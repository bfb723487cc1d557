//! The world agrees with the plain event loop in every number.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use windlass_policies::model::{Billing, InstanceId, LaunchToken, Market, Offering, Phase, Work};
use windlass_policies::signal::{Absence, Reading, standard};
use windlass_policies::units::{MICROS_PER_HOUR, MicroUsdPerHour, Timestamp};

use super::reference::{Instance, Reference};
use super::{FLEET, signals, token};
use crate::queue::{JobColumns, Keep, Quantiles, QueueSpec, ServerSpec, Snapshot, Spread};
use crate::world::cloud::CloudSpec;
use crate::world::{World, WorldSpec};

#[derive(Clone, Debug)]
enum Step {
    Launch(u32),
    Fence(usize),
    Unfence(usize),
    End(usize),
}

/// A small world and what is done to it; times are microseconds, so small that
/// many things happen at the same instant.
#[derive(Clone, Debug)]
struct Script {
    slots: u32,
    initial: u32,
    /// Gap to the job before, service.
    jobs: Vec<(u64, u64)>,
    /// How much longer than the last arrival the jobs' repetition is.
    repeat_after: Option<u64>,
    boots: Vec<Option<u64>>,
    /// Gap to the tick before, what is done at this one.
    ticks: Vec<(u64, Vec<Step>)>,
    listing_lag: u64,
    metric_period: u64,
    metric_lag: u64,
    increment: u64,
    minimum: u64,
}

fn scripts() -> impl Strategy<Value = Script> {
    let step = prop_oneof![
        3 => (0..3_u32).prop_map(Step::Launch),
        2 => any::<usize>().prop_map(Step::Fence),
        2 => any::<usize>().prop_map(Step::Unfence),
        2 => any::<usize>().prop_map(Step::End),
    ];
    let ticks = prop::collection::vec((0..6_u64, prop::collection::vec(step, 0..4)), 1..25);
    let cloud = (
        1..4_u32,
        0..3_u32,
        0..6_u64,
        0..5_u64,
        0..5_u64,
        1..7_u64,
        0..9_u64,
    );
    let jobs = prop::collection::vec((0..3_u64, 0..8_u64), 0..60);
    let repeat = prop::option::weighted(0.3, 1..5_u64);
    let boots = prop::collection::vec(prop::option::weighted(0.85, 0..7_u64), 1..9);
    (cloud, jobs, repeat, boots, ticks).prop_map(|(cloud, jobs, repeat_after, boots, ticks)| {
        let (slots, initial, listing_lag, metric_period, metric_lag, increment, minimum) = cloud;
        Script {
            slots,
            initial,
            jobs,
            repeat_after,
            boots,
            ticks,
            listing_lag,
            metric_period,
            metric_lag,
            increment,
            minimum,
        }
    })
}

impl Script {
    fn arrivals(&self) -> Vec<u64> {
        let later = |at: &mut u64, (gap, _): &(u64, u64)| {
            *at += gap;
            Some(*at)
        };
        self.jobs.iter().scan(0, later).collect()
    }

    fn period(&self) -> Option<u64> {
        let last = self.arrivals().last().copied().unwrap_or(0);
        self.repeat_after.map(|more| last + more)
    }

    fn columns(&self) -> JobColumns {
        let services = self.jobs.iter().map(|(_, service)| *service).collect();
        JobColumns::new(self.arrivals(), services).expect("sorted by construction")
    }

    /// With the slower queue if `slow`.
    fn world(&self, keep: Keep, slow: bool) -> World {
        self.world_of(self.columns(), keep, slow)
    }

    fn world_of(&self, jobs: JobColumns, keep: Keep, slow: bool) -> World {
        let spec = WorldSpec {
            fleet: FLEET.to_owned(),
            begins_at: Timestamp::EPOCH,
            offerings: vec![Offering {
                name: "small".to_owned(),
                price: MicroUsdPerHour::new(170_001),
                billing: Billing {
                    increment: Duration::from_micros(self.increment),
                    minimum: Duration::from_micros(self.minimum),
                },
                slots: self.slots,
                market: Market::OnDemand,
                prepaid: 0,
            }],
            initial: self.initial,
            listing_lag: Duration::from_micros(self.listing_lag),
            metric_period: Duration::from_micros(self.metric_period),
            metric_lag: Duration::from_micros(self.metric_lag),
            queue: QueueSpec {
                jobs: Arc::new(jobs),
                repeat_every: self.period(),
                keep,
                responses: true,
            },
            server: ServerSpec {
                slow,
                ..ServerSpec::default()
            },
            cloud: CloudSpec::default(),
        };
        let mut boots = self.boots.clone().into_iter().cycle();
        World::new(spec, Box::new(move || boots.next().flatten())).expect("a valid world")
    }

    fn reference(&self) -> Reference {
        let end: u64 = self.ticks.iter().map(|(gap, _)| gap).sum();
        let once: Vec<(u64, u64)> = self
            .arrivals()
            .into_iter()
            .zip(self.jobs.iter().map(|(_, service)| *service))
            .collect();
        let jobs = match self.period().filter(|_| !once.is_empty()) {
            None => once,
            Some(period) => (0..=end / period)
                .flat_map(|r| {
                    once.iter()
                        .map(move |(at, service)| (at + r * period, *service))
                })
                .collect(),
        };
        Reference::new(jobs, self.slots as usize)
    }
}

/// What the reference knows of a sample: when, the moment, the moment before,
/// and the responses in between.
struct Sampled {
    at: u64,
    seen: Snapshot,
    before: Snapshot,
    finished: Vec<u64>,
}

/// The reference with instances by name, samples and bills.
struct Expected {
    script: Script,
    plain: Reference,
    samples: Vec<Sampled>,
    launches: usize,
    terminations: u64,
}

impl Expected {
    fn new(script: &Script) -> Self {
        let mut plain = script.reference();
        for _ in 0..script.initial {
            plain.launch(Some(0));
        }
        let script = script.clone();
        Self {
            script,
            plain,
            samples: Vec::new(),
            launches: 0,
            terminations: 0,
        }
    }

    fn advance(&mut self, to: u64) {
        let period = self.script.metric_period;
        for at in self.plain.now..=to {
            if period > 0 && at % period == 0 {
                self.plain.advance(at);
                self.sample();
            }
        }
        self.plain.advance(to);
    }

    fn sample(&mut self) {
        let at = self.plain.now;
        let (since, before) = match self.samples.last() {
            Some(last) if last.at == at => return,
            Some(last) => (last.at, last.seen),
            None => (0, Snapshot::default()),
        };
        let finished = self.plain.finished.iter();
        let finished = finished.filter(|(end, _)| (since..at).contains(end));
        let finished = finished.map(|(_, response)| *response).collect();
        let seen = self.plain.snapshot();
        self.samples.push(Sampled {
            at,
            seen,
            before,
            finished,
        });
    }

    fn reading(&self, name: &str) -> Reading {
        let readable = |sample: &&Sampled| sample.at + self.script.metric_lag <= self.plain.now;
        let Some(sample) = self.samples.iter().rev().find(readable) else {
            return Reading::Absent(Absence::NoData);
        };
        let (seen, before) = (&sample.seen, &sample.before);
        let value = match name {
            standard::BACKLOG => Some(seen.backlog as f64),
            standard::IN_FLIGHT | standard::BUSY => Some(seen.busy as f64),
            standard::ARRIVALS => Some(seen.arrivals as f64),
            standard::COMPLETIONS => Some(seen.completions as f64),
            standard::OLDEST_AGE => Some(seen.oldest_age as f64 / 1e6),
            standard::UTILIZATION => {
                let ready = seen.ready_micros - before.ready_micros;
                let busy = seen.busy_micros - before.busy_micros;
                (ready > 0).then(|| busy as f64 / ready as f64)
            }
            standard::LATENCY_P95 => {
                nearest_rank(&sample.finished, 95).map(|micros| micros as f64 / 1e6)
            }
            other => panic!("{other} is no standard signal"),
        };
        match value {
            Some(value) => Reading::complete(value, Timestamp::from_micros(sample.at)),
            None => Reading::Absent(Absence::NoData),
        }
    }

    /// Name, phase, fence and work of what a listing shows.
    fn listing(&self) -> Vec<(String, Phase, bool, Work)> {
        let (now, lag) = (self.plain.now, self.script.listing_lag);
        let initial = self.script.initial as usize;
        let shown = |(place, instance): &(usize, &Instance)| {
            (*place < initial || instance.launched + lag <= now)
                && instance.ended.is_none_or(|at| at + lag > now)
        };
        let all = self.plain.instances.iter().enumerate();
        let row = |(place, instance): (usize, &Instance)| {
            let ready = instance.ready_at.is_some_and(|at| at + lag <= now);
            let phase = if ready || place < initial {
                Phase::Ready
            } else {
                Phase::Booting
            };
            let work = match instance.ended {
                Some(_) => Work::Unknown,
                None if instance.busy() > 0 => Work::Busy,
                None => Work::Idle,
            };
            (name(place), phase, instance.fenced, work)
        };
        all.filter(shown).map(row).collect()
    }

    /// Billed time and cost, with started increments whole.
    fn bill(&self) -> (u128, u128, i64) {
        let (mut billed, mut ran) = (0, 0);
        for instance in &self.plain.instances {
            let micros = instance.ended.unwrap_or(self.plain.now) - instance.launched;
            let mut charged = 0;
            while charged < micros {
                charged += self.script.increment;
            }
            billed += u128::from(charged.max(self.script.minimum));
            ran += u128::from(micros);
        }
        let cost = (billed * 170_001).div_ceil(u128::from(MICROS_PER_HOUR));
        (billed, ran, i64::try_from(cost).expect("small"))
    }
}

fn name(place: usize) -> String {
    format!("sim-{:06}", place + 1)
}

/// By definition, on a sorted copy.
fn nearest_rank(values: &[u64], percent: usize) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let reaches = |at: &usize| (at + 1) * 100 >= percent * sorted.len();
    (0..sorted.len()).find(reaches).map(|at| sorted[at])
}

fn spread(sorted: &[u64]) -> Spread {
    let at = |percent| nearest_rank(sorted, percent).unwrap_or(0);
    Spread {
        count: sorted.len() as u64,
        sum_micros: sorted.iter().map(|value| u128::from(*value)).sum(),
        quantiles: Some(Quantiles {
            p50: at(50),
            p95: at(95),
            p99: at(99),
            max: at(100),
        }),
    }
}

fn listing(world: &World) -> Vec<(String, Phase, bool, Work)> {
    let listing = world.list(FLEET).expect("its own fleet");
    assert!(listing.complete);
    let row = |instance: windlass_policies::model::Instance| {
        (
            instance.id.to_string(),
            instance.phase,
            instance.fenced,
            instance.work,
        )
    };
    listing.instances.into_iter().map(row).collect()
}

/// Does `step` to both, and compares the answers.
fn take(step: &Step, world: &mut World, expected: &mut Expected, serial: u32) {
    let pick = |place: &usize| {
        let count = expected.plain.instances.len();
        (count > 0).then(|| (place % count, InstanceId::new(&name(place % count))))
    };
    let gone = |place: usize| expected.plain.instances[place].ended.is_some();
    match step {
        Step::Launch(count) => {
            let first = expected.plain.instances.len();
            for _ in 0..*count {
                let boots = &expected.script.boots;
                expected
                    .plain
                    .launch(boots[expected.launches % boots.len()]);
                expected.launches += 1;
            }
            let names: Vec<String> = (first..expected.plain.instances.len()).map(name).collect();
            let token: LaunchToken = token(serial);
            for _ in 0..2 {
                let launched = world.launch(&token, "small", *count).expect("an offering");
                assert_eq!(
                    launched.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    names
                );
            }
        }
        Step::Fence(place) => {
            let Some((place, id)) = pick(place) else {
                return;
            };
            let work = world.fence(&id);
            if gone(place) {
                assert!(work.is_err());
                return;
            }
            expected.plain.fence(place);
            let busy = expected.plain.instances[place].busy() > 0;
            assert_eq!(work, Ok(if busy { Work::Busy } else { Work::Idle }));
        }
        Step::Unfence(place) => {
            let Some((place, id)) = pick(place) else {
                return;
            };
            assert_eq!(world.unfence(&id).is_err(), gone(place));
            if !gone(place) {
                expected.plain.unfence(place);
            }
        }
        Step::End(place) => {
            let Some((place, id)) = pick(place) else {
                return;
            };
            let lost = world.terminate(&id).expect("it was there once");
            let in_hand = expected.plain.instances[place].busy() as u64;
            assert_eq!(lost, in_hand);
            if !gone(place) {
                expected.plain.end(place);
                expected.terminations += 1;
            }
        }
    }
}

fn compare_summary(world: &World, expected: &Expected, keep: Keep) {
    let summary = world.summary();
    let plain = &expected.plain;
    let (waits, responses) = plain.times();
    let (mut wait, mut response) = (spread(&waits), spread(&responses));
    if keep == Keep::Sums {
        wait.quantiles = None;
        response.quantiles = None;
    }
    let (billed, ran, cost) = expected.bill();
    let seen = plain.snapshot();
    assert_eq!(summary.jobs, seen.arrivals);
    assert_eq!(summary.unfinished_jobs, seen.backlog + seen.busy);
    assert_eq!((summary.wait, summary.response), (wait, response));
    assert_eq!(
        (summary.instance_micros_billed, summary.instance_micros),
        (billed, ran)
    );
    assert_eq!(summary.instance_cost.get(), cost);
    assert_eq!(summary.launches, expected.launches as u64);
    assert_eq!(summary.terminations, expected.terminations);
    assert_eq!(summary.instances_peak as usize, plain.peak);
    assert_eq!(
        (summary.jobs_redone, summary.busy_killed),
        (plain.redone, plain.busy_killed)
    );
    let mean = match plain.now {
        0 => plain.alive().count() as f64,
        now => ran as f64 / now as f64,
    };
    assert_eq!(summary.instances_mean.to_bits(), mean.to_bits());
}

fn compare(script: &Script, keep: Keep, slow: bool) {
    let mut world = script.world(keep, slow);
    let mut expected = Expected::new(script);
    expected.advance(0);
    let (mut now, mut serial) = (0, 0);
    for (gap, steps) in &script.ticks {
        now += gap;
        world.advance(Timestamp::from_micros(now));
        expected.advance(now);
        assert_eq!(world.snapshot(), expected.plain.snapshot(), "at {now}");
        if script.metric_period == 0 {
            expected.sample();
        }
        let readings = world.read(&signals(), Timestamp::from_micros(now));
        for (name, reading) in readings.iter() {
            assert_eq!(*reading, expected.reading(name), "{name} at {now}");
        }
        assert_eq!(listing(&world), expected.listing(), "at {now}");
        for step in steps {
            take(step, &mut world, &mut expected, serial);
            serial += 1;
        }
        assert_eq!(
            world.snapshot(),
            expected.plain.snapshot(),
            "after the tick at {now}"
        );
        assert_eq!(
            listing(&world),
            expected.listing(),
            "after the tick at {now}"
        );
        compare_summary(&world, &expected, keep);
    }
}

/// Jobs that are fed piece by piece, as late as they may be.
struct Pieces(VecDeque<Arc<JobColumns>>, u64);

impl Pieces {
    /// None at all, or pieces of `sizes` jobs, again and again.
    fn of(script: &Script, sizes: &[usize]) -> Self {
        let all = script.columns();
        let (mut arrivals, mut services) = (all.arrivals(), all.services());
        let mut pieces = VecDeque::new();
        for size in sizes.iter().cycle() {
            let size = (*size).min(arrivals.len());
            let (first, second) = (arrivals.split_at(size), services.split_at(size));
            let piece = JobColumns::new(first.0.to_vec(), second.0.to_vec());
            pieces.push_back(Arc::new(piece.expect("a part of what is sorted")));
            (arrivals, services) = (first.1, second.1);
            if arrivals.is_empty() {
                break;
            }
        }
        Self(pieces, 0)
    }

    fn feed(&mut self, world: &mut World, horizon: u64) {
        while self.1 < horizon
            && let Some(piece) = self.0.pop_front()
        {
            self.1 = piece.arrivals().last().copied().unwrap_or(self.1);
            world.feed(piece).expect("in order");
        }
    }
}

/// The same with many more horizons in between, which must change nothing.
fn run(script: &Script, cuts: &[u64], slow: bool) -> (World, Vec<Snapshot>) {
    let world = script.world(Keep::EveryWait, slow);
    run_in(world, script, cuts, &mut Pieces(VecDeque::new(), 0))
}

fn run_in(
    mut world: World,
    script: &Script,
    cuts: &[u64],
    pieces: &mut Pieces,
) -> (World, Vec<Snapshot>) {
    let (mut now, mut serial) = (0, 0);
    let mut seen = Vec::new();
    let mut cuts = cuts.iter().cycle();
    for (gap, steps) in &script.ticks {
        for past in 0..=*gap {
            for _ in 0..cuts.next().copied().unwrap_or(0) {
                pieces.feed(&mut world, now + past);
                world.advance(Timestamp::from_micros(now + past));
            }
        }
        now += gap;
        pieces.feed(&mut world, now);
        world.advance(Timestamp::from_micros(now));
        seen.push(world.snapshot());
        for step in steps {
            let id = |place: &usize| {
                let count = (script.initial as usize) + 10;
                InstanceId::new(&name(place % count))
            };
            // Names that are not there yet are refused alike in both runs.
            match step {
                Step::Launch(count) => world.launch(&token(serial), "small", *count).map(drop),
                Step::Fence(place) => world.fence(&id(place)).map(drop),
                Step::Unfence(place) => world.unfence(&id(place)),
                Step::End(place) => world.terminate(&id(place)).map(drop),
            }
            .ok();
            serial += 1;
        }
    }
    (world, seen)
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 1_000,
        // The same worlds each time; another number finds others.
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_number_is_that_of_the_event_loop(script in scripts(), keep in 0..3_usize) {
        // Times are so short here that the histogram is exact.
        compare(&script, [Keep::EveryWait, Keep::Sums, Keep::Histogram][keep], false);
    }

    #[test]
    fn the_slower_queue_agrees_with_the_event_loop_too(script in scripts(), keep in 0..3_usize) {
        compare(&script, [Keep::EveryWait, Keep::Sums, Keep::Histogram][keep], true);
    }

    #[test]
    fn the_slower_queue_gives_what_the_fast_one_gives(
        script in scripts(),
        cuts in prop::collection::vec(0..3_u64, 1..20),
    ) {
        let (fast, seen_fast) = run(&script, &[], false);
        let (slow, seen_slow) = run(&script, &cuts, true);
        prop_assert!(fast.queue().fast().is_some() && slow.queue().fast().is_none());
        prop_assert_eq!(seen_fast, seen_slow);
        prop_assert_eq!(fast.summary(), slow.summary());
        prop_assert_eq!(listing(&fast), listing(&slow));
        let each = |world: &World| {
            let alive: Vec<_> = world.alive().cloned().collect();
            alive.iter().map(|id| world.worker(id)).collect::<Vec<_>>()
        };
        prop_assert_eq!(each(&fast), each(&slow));
    }

    #[test]
    fn jobs_fed_in_pieces_give_what_all_at_once_give(
        mut script in scripts(),
        cuts in prop::collection::vec(0..3_u64, 1..20),
        sizes in prop::collection::vec(1..5_usize, 1..9),
        slow: bool,
    ) {
        script.repeat_after = None;
        for keep in [Keep::EveryWait, Keep::Histogram, Keep::Sums] {
            let mut none = Pieces(VecDeque::new(), 0);
            let (whole, seen_whole) = run_in(script.world(keep, slow), &script, &[], &mut none);
            let empty = script.world_of(JobColumns::default(), keep, slow);
            let mut pieces = Pieces::of(&script, &sizes);
            let (fed, seen_fed) = run_in(empty, &script, &cuts, &mut pieces);
            prop_assert_eq!(seen_whole, seen_fed);
            prop_assert_eq!(whole.summary(), fed.summary());
            prop_assert_eq!(listing(&whole), listing(&fed));
        }
    }

    #[test]
    fn cutting_time_into_more_horizons_changes_nothing(
        script in scripts(),
        cuts in prop::collection::vec(0..3_u64, 1..20),
    ) {
        let (whole, seen_whole) = run(&script, &[], false);
        let (cut, seen_cut) = run(&script, &cuts, false);
        prop_assert_eq!(seen_whole, seen_cut);
        prop_assert_eq!(whole.summary(), cut.summary());
        let waits = |world: &World| world.queue().fast().map(|queue| queue.waits().to_vec());
        prop_assert_eq!(waits(&whole), waits(&cut));
        prop_assert_eq!(listing(&whole), listing(&cut));
    }
}
