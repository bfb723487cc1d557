use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::queue::quantile;

/// The reference: every event on a heap, every wait in a list, nothing clever.
/// At equal times: boot, tick, departure, arrival.
fn reference(load: &Load) -> (Tally, Vec<u64>) {
    let (arrivals, services) = (load.jobs.arrivals(), load.jobs.services());
    let mut events: BinaryHeap<Reverse<(u64, u8, usize)>> = BinaryHeap::new();
    events.extend((0..arrivals.len()).map(|job| Reverse((arrivals[job], 3, job))));
    let interval = load.rule.map_or(load.length, |rule| rule.interval);
    let ticks = (1..).map(|tick| tick * interval);
    events.extend(
        ticks
            .take_while(|at| *at < load.length)
            .map(|at| Reverse((at, 1, 0))),
    );
    let (mut idle, mut all, mut seen) = (u64::from(load.initial), u64::from(load.initial), 0);
    let (mut queue, mut waits, mut last) = (std::collections::VecDeque::new(), Vec::new(), 0);
    let mut tally = Tally {
        peak: all,
        ..Tally::default()
    };
    while let Some(Reverse((at, kind, job))) = events.pop().filter(|event| event.0.0 < load.length)
    {
        tally.instance_micros += u128::from(all) * u128::from(at - last);
        last = at;
        match kind {
            0 | 2 => idle += 1,
            3 => queue.push_back(job),
            _ => {
                let rule = load.rule.expect("only rules tick");
                let arrived = wide(arrivals.partition_point(|arrival| *arrival < at));
                let want = rule.want(arrived - seen, wide(queue.len()));
                seen = arrived;
                let (more, fewer) = (want.saturating_sub(all), all.saturating_sub(want).min(idle));
                events.extend((0..more).map(|_| Reverse((at + rule.boot, 0, 0))));
                (all, idle) = (all + more - fewer, idle - fewer);
                tally.launches += more;
                tally.peak = tally.peak.max(all);
            }
        }
        while idle > 0
            && let Some(job) = queue.pop_front()
        {
            idle -= 1;
            waits.push(at - arrivals[job]);
            events.push(Reverse((at + services[job], 2, 0)));
        }
    }
    tally.instance_micros += u128::from(all) * u128::from(load.length - last);
    tally.started = wide(waits.len());
    tally.wait_sum = waits.iter().copied().map(u128::from).sum();
    (tally, waits)
}

fn loads() -> Vec<Load> {
    let mut short = w2500(1);
    // The beginning of its day.
    let length = short.length / 12;
    let jobs = short.jobs.arrivals().partition_point(|at| *at < length);
    let column = |values: &[u64]| values[..jobs].to_vec();
    let columns = JobColumns::new(column(short.jobs.arrivals()), column(short.jobs.services()));
    (short.jobs, short.length) = (Arc::new(columns.expect("a prefix")), length);
    vec![w1(50_000), w2(1), short]
}

#[test]
fn the_world_and_the_yardstick_agree_with_the_reference() {
    for load in loads() {
        let (expected, mut waits) = reference(&load);
        assert_eq!(bare(&load), expected, "{}", load.name);
        let (summary, rows) = full(&load, Keep::EveryWait).expect("a world");
        let waiting = u64::from(load.length > 0) * (summary.jobs - expected.started);
        assert_eq!(summary.launches, expected.launches, "{}", load.name);
        assert_eq!(u64::from(summary.instances_peak), expected.peak);
        assert_eq!(summary.instance_micros, expected.instance_micros);
        assert!(rows.len() > 1 || load.rule.is_none());
        if waiting == 0 {
            assert_eq!(summary.wait.sum_micros, expected.wait_sum, "{}", load.name);
            let exact = summary.wait.quantiles.expect("every wait was kept");
            assert_eq!(Some(exact.p95), quantile(&mut waits, 95), "{}", load.name);
        }
    }
}

#[test]
fn every_way_through_a_load_comes_to_the_same() {
    for load in loads() {
        let (whole, rows) = full(&load, Keep::Histogram).expect("a world");
        let (slow, slow_rows) = full_slow(&load, Keep::Histogram).expect("a world");
        assert_eq!((&slow, &slow_rows), (&whole, &rows), "{}", load.name);
        let bare = Load {
            jobs: Arc::default(),
            ..load.clone()
        };
        let jobs: Vec<(u64, u64)> = load
            .jobs
            .arrivals()
            .iter()
            .copied()
            .zip(load.jobs.services().iter().copied())
            .collect();
        let mut pieces = jobs.chunks(1_000);
        let next = || {
            let piece = pieces.next().map(<[_]>::to_vec);
            let piece = piece.map(|piece| columns(Box::new(piece.into_iter())));
            Ok::<_, WorldError>(piece.map(Arc::new))
        };
        let (fed, fed_rows) = full_fed(&bare, next).expect("in order");
        assert_eq!((&fed, &fed_rows), (&whole, &rows), "{}", load.name);
    }
}

/// What others found with draws of their own. W1 is a textbook queue, whose
/// waits Erlang's formula gives; W2 was run by nine other simulators and loops,
/// among them `SimPy`, simcore and Cimba, which agreed in every digit. A million
/// jobs of W1 wait 1.5 % more or less from draw to draw, one standard error.
#[test]
#[expect(clippy::cast_precision_loss, reason = "held to parts of a hundred")]
fn whole_loads_come_to_what_others_found() {
    let near = |what: &str, got: f64, expected: f64, part: f64| {
        let off = (got / expected - 1.0).abs();
        assert!(off < part, "{what}: {got}, not {expected}");
    };
    let waits = |load: &Load| {
        let (summary, _) = full(load, Keep::EveryWait).expect("a world");
        assert_eq!(bare(load).wait_sum, summary.wait.sum_micros);
        assert_eq!(summary.unfinished_jobs, 0);
        let exact = summary.wait.quantiles.expect("every wait was kept");
        let mean = summary.wait.sum_micros as f64 / summary.jobs as f64;
        (summary, mean / 1e6, exact.p95 as f64 / 1e6)
    };
    let (summary, mean, p95) = waits(&w1(1_000_000));
    assert_eq!(summary.jobs, 1_000_000);
    near("mean wait", mean, 0.083_641, 0.05);
    near("95th percentile", p95, 0.572_321, 0.05);

    let mut load = w2(10);
    // So that all that arrive are finished, as there.
    load.length += 60 * MICROS_PER_SEC;
    let (summary, mean, p95) = waits(&load);
    near("jobs", summary.jobs as f64, 8_641_040.0, 0.002);
    near("mean wait", mean, 0.246_758, 0.04);
    near("95th percentile", p95, 1.243_788, 0.04);
    let hours = summary.instance_micros as f64 / 3.6e9;
    near("instance hours", hours, 5_930.8, 0.005);
    near("launches", summary.launches as f64, 7_258.0, 0.03);
    near("peak", f64::from(summary.instances_peak), 48.0, 0.05);
}
