//! The queue against theory, and its corner cases in tables.

#![expect(
    clippy::cast_precision_loss,
    reason = "numbers in these tests are small"
)]

use std::sync::Arc;

use super::*;

fn queue(jobs: &[(u64, u64)], repeat_every: Option<u64>) -> Queue {
    let (arrivals, services) = jobs.iter().copied().unzip();
    let jobs = Arc::new(JobColumns::new(arrivals, services).expect("sorted"));
    Queue::new(QueueSpec {
        jobs,
        repeat_every,
        keep: Keep::EveryWait,
        responses: true,
    })
    .expect("a valid queue")
}

#[test]
fn boot_then_tick_then_departure_then_arrival() {
    // A waits for the boot at 10; B is served 0..10 by the first worker; C
    // arrives at 10.
    let mut queue = queue(&[(0, 10), (5, 7), (10, 1)], None);
    let first = queue.add(1, 0);
    let second = queue.add(1, 10);
    queue.advance(9);
    assert_eq!(
        queue.state(second),
        Some(WorkerState {
            busy: 0,
            idle_since: None
        }),
        "booting"
    );
    queue.advance(10);
    let seen = queue.snapshot();
    assert_eq!(
        (seen.arrivals, seen.backlog),
        (2, 0),
        "the job of 10 has not arrived"
    );
    assert_eq!(
        (seen.completions, seen.busy),
        (0, 2),
        "the job that ends at 10 is in service"
    );
    assert_eq!(
        seen.ready_slots, 2,
        "the boot of 10 is over, and its slot has taken a job"
    );
    assert_eq!(
        queue.state(second),
        Some(WorkerState {
            busy: 1,
            idle_since: None
        })
    );
    queue.advance(11);
    assert_eq!(
        queue.state(first),
        Some(WorkerState {
            busy: 1,
            idle_since: None
        })
    );
    assert_eq!(
        queue.waits(),
        [0, 5, 0],
        "the slot that was free at 10 took the job of 10"
    );
    queue.advance(12);
    assert_eq!(
        queue.state(first),
        Some(WorkerState {
            busy: 0,
            idle_since: Some(11)
        })
    );
    assert_eq!(queue.state(second).map(|state| state.busy), Some(1));
    let mut finished = queue.take_finished();
    finished.sort_unstable();
    assert_eq!(finished, [1, 10]);
    queue.advance(18);
    assert_eq!(queue.take_finished(), [12]);
}

#[test]
fn the_longest_idle_slot_is_first() {
    let mut queue = queue(&[(0, 4), (0, 2), (0, 3), (9, 1)], None);
    let workers = [queue.add(1, 0), queue.add(1, 0), queue.add(1, 0)];
    queue.advance(10);
    let busy = workers.map(|worker| queue.state(worker).map(|state| state.busy));
    assert_eq!(
        busy,
        [Some(0), Some(1), Some(0)],
        "the second was free from 2 on"
    );
}

#[test]
fn lost_jobs_begin_again_in_front() {
    let mut queue = queue(&[(0, 100), (1, 100), (2, 5), (3, 5)], None);
    let doomed = queue.add(2, 0);
    queue.advance(10);
    assert_eq!(queue.remove(doomed), 2);
    let seen = queue.snapshot();
    assert_eq!((seen.backlog, seen.busy, seen.oldest_age), (4, 0, 10));
    assert_eq!(
        seen.busy_micros, 19,
        "what was done in vain was done all the same"
    );
    let worker = queue.add(2, 20);
    queue.advance(121);
    assert_eq!(queue.state(worker).map(|state| state.busy), Some(2));
    assert_eq!(queue.waits(), [20, 19, 118, 117]);
    let totals = queue.totals();
    assert_eq!((totals.jobs, totals.unfinished, totals.redone), (4, 2, 2));
    assert_eq!(totals.wait.sum_micros, 20 + 19 + 118 + 117);
    assert_eq!(totals.response.sum_micros, 120 + 119 + 119 + 118);
}

#[test]
fn unfinished_jobs_count_their_time_so_far() {
    let mut queue = queue(&[(0, 10), (2, 10), (4, 10)], None);
    queue.add(1, 0);
    queue.advance(15);
    let totals = queue.totals();
    let quantiles = |p50, max| {
        Some(Quantiles {
            p50,
            p95: max,
            p99: max,
            max,
        })
    };
    assert_eq!((totals.jobs, totals.unfinished), (3, 2));
    let wait = Spread {
        count: 3,
        sum_micros: 8 + 11,
        quantiles: quantiles(8, 11),
    };
    let response = Spread {
        count: 3,
        sum_micros: 10 + 13 + 11,
        quantiles: quantiles(11, 13),
    };
    assert_eq!((totals.wait, totals.response), (wait, response));
}

#[test]
fn nothing_happens_without_jobs_or_workers() {
    let mut empty = queue(&[], Some(7));
    empty.add(1, 0);
    empty.advance(1_000);
    assert_eq!(empty.totals().jobs, 0);
    assert_eq!(empty.totals().wait.quantiles, Some(Quantiles::default()));
    let mut unserved = queue(&[(0, 1)], Some(1));
    unserved.advance(1_000);
    assert_eq!(unserved.snapshot().backlog, 1_000);
    unserved.advance(5);
    assert_eq!(unserved.now(), 1_000, "time does not go back");
    assert_eq!(unserved.state(WorkerId(0)), None);
}

/// A small documented generator (`SplitMix64`), so that the traces below are the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Exponential with mean 1.
    fn exponential(&mut self) -> f64 {
        -libm::log(((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64)
    }
}

/// Mean service time of the M/M/k runs: so long that rounding to whole
/// microseconds is far below what is tested.
const SERVICE: f64 = 1e6;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive and far below 2^53"
)]
fn poisson_jobs(count: usize, rate: f64, random: &mut Random) -> JobColumns {
    let mut at = 0.0;
    let job = |_| {
        at += random.exponential() / rate;
        (
            at.round() as u64,
            (random.exponential() * SERVICE).round() as u64,
        )
    };
    let (arrivals, services) = (0..count).map(job).unzip();
    JobColumns::new(arrivals, services).expect("sorted")
}

/// Probability of waiting in M/M/k with `offered` Erlangs, by Erlang B.
fn erlang_c(servers: u32, offered: f64) -> f64 {
    let blocked = (1..=servers).fold(1.0, |b, k| offered * b / (f64::from(k) + offered * b));
    let load = offered / f64::from(servers);
    blocked / (1.0 - load * (1.0 - blocked))
}

/// Mean over `values` in batches, and its standard error: waits of neighbours
/// are alike, means of long batches hardly are.
fn mean_and_error(values: &[f64]) -> (f64, f64) {
    const BATCHES: usize = 32;
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let means: Vec<f64> = values
        .chunks_exact(values.len() / BATCHES)
        .map(mean)
        .collect();
    let overall = mean(&means);
    let squares = means
        .iter()
        .map(|mean| (mean - overall) * (mean - overall))
        .sum::<f64>();
    let batches = means.len() as f64;
    (overall, libm::sqrt(squares / (batches - 1.0) / batches))
}

#[test]
fn fixed_fleets_agree_with_erlang_c() {
    // 4 standard errors: with 31 degrees of freedom a right program fails one
    // such comparison in 2,700, and the seed is fixed.
    const ERRORS: f64 = 4.0;
    #[rustfmt::skip]
    let rows = [
        // servers  load     jobs   standard error of the mean, at most
        (    1_u32,  0.5, 200_000,  0.03),
        (        1,  0.8, 300_000,  0.06),
        (        4,  0.7, 200_000,  0.05),
        (       10,  0.9, 300_000,  0.08),
        (       25,  0.8, 200_000,  0.08),
        (       40,  0.85, 400_000, 0.10),
    ];
    for (servers, load, jobs, error_max) in rows {
        let row = format!("{servers} servers, load {load}");
        let offered = load * f64::from(servers);
        let columns = poisson_jobs(jobs, offered / SERVICE, &mut Random(u64::from(servers)));
        let spec = QueueSpec {
            jobs: Arc::new(columns),
            repeat_every: None,
            keep: Keep::EveryWait,
            responses: false,
        };
        let mut queue = Queue::new(spec).expect("valid");
        // Slots of one worker and of several are alike.
        queue.add(servers.div_ceil(2), 0);
        for _ in 0..servers / 2 {
            queue.add(1, 0);
        }
        queue.advance(JOB_TIME_MAX);
        let totals = queue.totals();
        assert_eq!(totals.unfinished, 0, "{row}");

        let waits: Vec<f64> = queue
            .waits()
            .iter()
            .map(|wait| *wait as f64 / SERVICE)
            .collect();
        let waiting = erlang_c(servers, offered);
        let drain = f64::from(servers) - offered;
        let mean = waiting / drain;
        let (_, error) = mean_and_error(&waits);
        assert!(
            error < error_max * mean,
            "{row}: too few jobs to tell, {error} of {mean}"
        );
        let measured = totals.wait.mean_secs().expect("jobs");
        assert!(
            (measured - mean).abs() < ERRORS * error,
            "{row}: mean {measured}, not {mean}"
        );

        let quantiles = totals.wait.quantiles.expect("kept");
        for (value, share) in [
            (0, waiting),
            (quantiles.p50, 0.5),
            (quantiles.p95, 0.05),
            (quantiles.p99, 0.01),
        ] {
            // P(wait > t) by theory where the run has its quantile t; where t
            // is 0 it may be less than the quantile's share.
            let value = value as f64 / SERVICE;
            let theory = waiting * libm::exp(-drain * value);
            let above: Vec<f64> = waits
                .iter()
                .map(|wait| if *wait > value { 1.0 } else { 0.0 })
                .collect();
            let (measured, error) = mean_and_error(&above);
            assert!(
                (theory - measured).abs() < ERRORS * error,
                "{row}: P(wait > {value}) is {measured}, not {theory}"
            );
            assert!(
                measured <= share + ERRORS * error,
                "{row}: {value} is no quantile"
            );
            assert!(
                value == 0.0 || (theory - share).abs() < ERRORS * error,
                "{row}: {value}"
            );
        }
    }
}
