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
        let mut best = best;
        // One job more makes nothing cheaper.
        let so_far = self.cost(stays);
        if so_far >= best {
            return best;
        }
        let Some((arrival, service)) = self.jobs.get(job).copied() else {
            return so_far;
        };
        // Never started: it waits to the end.
        stays[0].push((u64::MAX, u64::MAX, arrival));
        best = self.try_all(job + 1, stays, best);
        stays[0].pop();
        for place in 0..stays.len() {
            let launched = place > 0 || self.initial == 0;
            // Those without a job are alike: the last one stands for all.
            let alike = |next: &Vec<(u64, u64, u64)>| next.is_empty() && stays[place].is_empty();
            if launched && stays.get(place + 1).is_some_and(alike) {
                continue;
            }
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
    // A bound that says nothing would pass as well.
    assert!(mean > 0.75, "{mean} of the least on average");
    assert!(tight * 4 > worlds, "{tight} of {worlds} exact");
}

/// A few hours of a load with a rhythm and bursts, and a cloud for it.
fn draw_world(stream: &mut Stream) -> (Scenario, Workload, String) {
    let pick = |stream: &mut Stream, from: &[&'static str]| {
        let place = stream.below(u64::try_from(from.len()).expect("small"));
        from[usize::try_from(place).expect("small")]
    };
    let boot = pick(
        stream,
        &[
            r#"{ distribution = "constant", value = "60s" }"#,
            r#"{ distribution = "constant", value = "0s" }"#,
            r#"{ distribution = "lognormal", median = "90s", p99 = "180s" }"#,
            r#"{ distribution = "exponential", mean = "45s" }"#,
        ],
    );
    let billing = pick(
        stream,
        &[
            "",
            "billing_minimum = \"0s\"",
            "billing_increment = \"60s\"",
            "billing_increment = \"1h\"\nbilling_minimum = \"1h\"",
            "billing_minimum = \"1d\"",
        ],
    );
    let offerings = pick(
        stream,
        &[
            "usd_per_hour = 0.36",
            "usd_per_hour = 0.36",
            "[[cloud.offering]]\nname = \"a\"\nusd_per_hour = 0.36\nthroughput_percent = 130\n\
             [[cloud.offering]]\nname = \"b\"\nusd_per_hour = 0.5\nslots = 4",
            "[[cloud.offering]]\nname = \"a\"\nusd_per_hour = 2.0\nslots = 4\n\
             [[cloud.offering]]\nname = \"b\"\nusd_per_hour = 0.3\nslots = 1",
            "[[cloud.offering]]\nname = \"a\"\nprices = [{ from = \"0s\", usd_per_hour = 0.4 }, \
             { from = \"1h\", usd_per_hour = 0.3 }]",
        ],
    );
    let classes = pick(
        stream,
        &[
            "",
            "[workload.class.fast]\npriority = 3\nusd_per_job_hour_waiting = 4.0\n\
             [workload.class.slow]\nusd_per_job_hour_waiting = 0.01",
        ],
    );
    let text = format!(
        r#"
        [workload]
        trace = "drawn.csv"
        length = "3h"
        slots_per_instance = {}
        {classes}
        [fleet]
        interval = "{}"
        initial = {}
        max = {}
        [objective]
        usd_per_job_hour_waiting = {}
        [run]
        seed = {}
        [cloud]
        boot = {boot}
        {billing}
        {offerings}
        "#,
        1 + stream.below(3),
        pick(stream, &["10s", "60s"]),
        stream.below(4),
        20 + stream.below(40),
        pick(stream, &["0.0", "0.02", "0.3", "1.0", "8.0"]),
        stream.below(1_000),
    );
    let mean = 1_000 + stream.below(300_000);
    let mut jobs: Vec<(u64, u64)> = Vec::new();
    for _ in 0..stream.below(4) {
        let (at, count) = (stream.below(9_000_000), stream.below(80));
        jobs.extend((0..count).map(|_| (at + stream.below(20_000), 1 + stream.below(2 * mean))));
    }
    let count = 5 + stream.below(400);
    jobs.extend((0..count).map(|_| (stream.below(10_800_000), 1 + stream.below(2 * mean))));
    jobs.sort_unstable();
    let mut rows = "arrival_s,service_s,class\n".to_owned();
    for (arrival, service) in jobs {
        let class = ["fast", "slow", "none"][usize::try_from(service % 3).expect("small")];
        let secs = |millis: u64| format!("{}.{:03}", millis / 1_000, millis % 1_000);
        writeln!(rows, "{},{},{class}", secs(arrival), secs(service)).expect("text");
    }
    let (scenario, workload) = open(&text, &rows);
    (scenario, workload, text)
}

/// What the policy in `text` comes to.
fn total(scenario: &Scenario, workload: &Workload, text: &str) -> f64 {
    let file = policy_file::read(text).expect("sound");
    let spec = scenario.fleet_spec(file.policies, file.signals);
    let world = scenario.world(&spec.name, workload, &spec.signals, false);
    let world = world.expect("a world");
    let end = world.now() + Duration::from_micros(workload.length_micros);
    let summary = engine::run(&spec, world, end, |_| ()).expect("nothing is stored");
    let label = Label {
        scenario: scenario.name.clone(),
        policy: String::new(),
        trace: String::new(),
        seed: scenario.seed,
    };
    let prices = scenario.class_prices();
    Score::of_classes(label, &summary, scenario.objective, &prices).total_usd
}

#[test]
fn no_controller_pays_less() {
    let mut stream = Stream::new(1, "controllers");
    let mut closest = f64::MAX;
    for number in 0..40 {
        let (scenario, workload, text) = draw_world(&mut stream);
        let found = bound(&scenario, &workload);
        assert!(
            found.achieved_usd >= found.bound_usd - ROUNDING,
            "world {number}: {found:?} in {text}"
        );
        let fixed = format!(
            "[[policy]]\nkind = \"fixed\"\ninstances = {}\n",
            stream.below(20)
        );
        let backlog = format!(
            "[[policy]]\nkind = \"queue_backlog\"\njobs_per_instance = {}\n",
            1 + stream.below(4)
        );
        let all = presets::all();
        let presets = all.iter().map(|(_, text)| (*text).to_owned());
        for policy in [fixed, backlog].into_iter().chain(presets) {
            let total = total(&scenario, &workload, &policy);
            assert!(
                found.bound_usd <= total + ROUNDING,
                "world {number}: {found:?}, but {total} by {policy} in {text}"
            );
            if found.bound_usd > 0.0 {
                closest = closest.min(total / found.bound_usd);
            }
        }
    }
    // Nothing is said by controllers that are nowhere near it.
    assert!(closest < 1.2, "{closest}");
}

#[test]
fn worlds_that_the_proof_does_not_cover_are_refused() {
    for (cloud, workload, why) in [
        ("", "server = \"processor_sharing\"", "share their servers"),
        ("prepaid = 1", "", "paid for ahead"),
        ("interruption = { every = \"1h\" }", "", "taken back"),
    ] {
        let text = format!(
            r#"
            [workload]
            trace = "drawn.csv"
            {workload}
            [cloud]
            boot = {{ distribution = "constant", value = "60s" }}
            [[cloud.offering]]
            name = "a"
            usd_per_hour = 0.1
            {cloud}
            [fleet]
            max = 5
            "#
        );
        let (scenario, workload) = open(&text, "arrival_s,service_s\n0,1\n5,5\n");
        let error = bound::of(&scenario, &workload).expect_err("not covered");
        assert!(matches!(error, BoundError::NotCovered { .. }));
        assert!(error.to_string().contains(why), "{error}");
    }
}
