//! The clairvoyant bound against everything that can be tried: all schedules of
//! tiny worlds, and controllers in larger ones. Nothing may cost less than it,
//! and what it says can be achieved costs what it says.

use std::fmt::Write as _;
use std::time::Duration;

use windlass_policies::policy_file;
use windlass_policies::presets;
use windlass_simulator::bound::{self, Bound, BoundError};
use windlass_simulator::engine;
use windlass_simulator::random::Stream;
use windlass_simulator::scenario::{Scenario, TraceFile};
use windlass_simulator::score::{Label, Score};
use windlass_simulator::trace;
use windlass_simulator::workload::Workload;

/// A world with everything in whole seconds.
#[derive(Clone, Debug)]
struct Tiny {
    /// Arrival and service.
    jobs: Vec<(u64, u64)>,
    length: u64,
    boot: u64,
    increment: u64,
    minimum: u64,
    slots: u64,
    initial: u64,
    /// Dollars an hour are thousands of micro-dollars a second or so; only
    /// their ratio matters.
    price: u64,
    waiting: u64,
}

impl Tiny {
    fn draw(stream: &mut Stream) -> Self {
        let pick = |stream: &mut Stream, from: &[u64]| {
            let place = stream.below(u64::try_from(from.len()).expect("small"));
            from[usize::try_from(place).expect("small")]
        };
        let count = 1 + stream.below(3);
        let mut jobs: Vec<(u64, u64)> = (0..count)
            .map(|_| (stream.below(10), 1 + stream.below(5)))
            .collect();
        jobs.sort_unstable();
        Self {
            length: 11 + stream.below(12),
            boot: stream.below(5),
            increment: pick(stream, &[1, 1, 1, 4, 10]),
            minimum: pick(stream, &[0, 1, 6, 10]),
            slots: pick(stream, &[1, 1, 2]),
            initial: pick(stream, &[0, 0, 1]),
            price: 3_600,
            waiting: pick(stream, &[0, 36, 360, 1_200, 3_600, 10_000, 100_000]),
            jobs,
        }
    }

    fn scenario(&self) -> (Scenario, Workload) {
        let text = format!(
            r#"
            [workload]
            trace = "tiny.csv"
            length = "{}s"
            slots_per_instance = {}
            [cloud]
            boot = {{ distribution = "constant", value = "{}s" }}
            usd_per_hour = {}
            billing_increment = "{}s"
            billing_minimum = "{}s"
            [fleet]
            interval = "1s"
            initial = {}
            max = 50
            [objective]
            usd_per_job_hour_waiting = {}
            "#,
            self.length,
            self.slots,
            self.boot,
            self.price,
            self.increment,
            self.minimum,
            self.initial,
            self.waiting
        );
        let mut rows = "arrival_s,service_s\n".to_owned();
        for (arrival, service) in &self.jobs {
            writeln!(rows, "{arrival},{service}").expect("text");
        }
        open(&text, &rows)
    }

    fn charged(&self, ran: u64) -> u64 {
        let whole = ran.div_ceil(self.increment) * self.increment;
        whole.max(self.minimum)
    }

    /// The least that any schedule costs in dollars: all starts of all jobs on
    /// all instances.
    fn least(&self) -> f64 {
        let mut stays = vec![Vec::new(); self.jobs.len() + usize::from(self.initial > 0)];
        let micros = self.try_all(0, &mut stays, u64::MAX);
        // Dollars an hour times seconds.
        f64::from(u32::try_from(micros).expect("small")) / 3_600.0
    }

    /// The least with the jobs before `job` as they are in `stays`. The first of
    /// them is the initial one, if there is any.
    fn try_all(&self, job: usize, stays: &mut [Vec<(u64, u64, u64)>], best: u64) -> u64 {
        let Some((arrival, service)) = self.jobs.get(job).copied() else {
            return best.min(self.cost(stays));
        };
        let mut best = best;
        // Never started: it waits to the end.
        stays[0].push((u64::MAX, u64::MAX, arrival));
        best = self.try_all(job + 1, stays, best);
        stays[0].pop();
        for place in 0..stays.len() {
            let launched = place > 0 || self.initial == 0;
            for start in arrival..self.length {
                if launched && start < self.boot {
                    continue;
                }
                let end = (start + service).min(self.length);
                let meets = |at: u64| {
                    let there = stays[place]
                        .iter()
                        .filter(|(from, to, _)| *from <= at && at < *to);
                    u64::try_from(there.count()).expect("small")
                };
                if (start..end).any(|at| meets(at) >= self.slots) {
                    continue;
                }
                stays[place].push((start, end, arrival));
                best = self.try_all(job + 1, stays, best);
                stays[place].pop();
            }
        }
        best
    }

    fn cost(&self, stays: &[Vec<(u64, u64, u64)>]) -> u64 {
        let mut cost = 0;
        for (place, jobs) in stays.iter().enumerate() {
            for (start, _, arrival) in jobs {
                cost += self.waiting * ((*start).min(self.length) - arrival);
            }
            let worked = jobs.iter().filter(|(start, _, _)| *start < u64::MAX);
            let first = worked.clone().map(|(start, _, _)| *start).min();
            let last = worked.map(|(_, end, _)| *end).max();
            cost += self.price
                * match (first, last) {
                    _ if place == 0 && self.initial > 0 => self.charged(last.unwrap_or(0)),
                    (Some(first), Some(last)) => self.charged(self.boot + last - first),
                    _ => 0,
                };
        }
        cost
    }
}

fn open(scenario: &str, rows: &str) -> (Scenario, Workload) {
    let place = |name: &str| TraceFile::Embedded(name.to_owned());
    let scenario = Scenario::parse("drawn", scenario, place).expect("sound");
    let trace = trace::read_bytes("drawn.csv", rows.as_bytes()).expect("sound");
    let workload = scenario.build_workload(&trace).expect("it has jobs");
    (scenario, workload)
}

fn bound(scenario: &Scenario, workload: &Workload) -> Bound {
    bound::of(scenario, workload).expect("covered")
}

/// Dollars are rounded to whole millionths, each part of a sum on its own.
const ROUNDING: f64 = 5e-6;

#[test]
fn no_schedule_of_a_tiny_world_costs_less() {
    let mut stream = Stream::new(1, "tiny worlds");
    let (mut worlds, mut tight, mut ratios) = (0, 0, 0.0);
    for number in 0..3_000 {
        let tiny = Tiny::draw(&mut stream);
        let (scenario, workload) = tiny.scenario();
        let found = bound(&scenario, &workload);
        let least = tiny.least();
        assert!(
            found.bound_usd <= least + ROUNDING,
            "world {number}: bound {} of {least}: {tiny:?}",
            found.bound_usd
        );
        assert!(
            found.achieved_usd >= least - ROUNDING,
            "world {number}: achieved {} of {least}: {tiny:?}",
            found.achieved_usd
        );
        if least > 0.0 {
            worlds += 1;
            ratios += found.bound_usd / least;
            tight += u32::from(found.bound_usd >= least * 0.999);
        }
    }
    let mean = ratios / f64::from(worlds);
    println!("{worlds} worlds: {mean} of the least on average, {tight} exact");
    // A bound that says nothing would pass as well.
    assert!(mean > 0.75, "{mean} of the least on average");
    assert!(tight * 4 > worlds, "{tight} of {worlds} exact");
}
