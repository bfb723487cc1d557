//! Whole runs of scenarios with pools that run dry, classes of jobs and shared
//! servers, under the very policies that decide in production.

use std::time::Duration;

use windlass_policies::model::{Action, FleetError, Notice, Outcome, Reason};
use windlass_policies::policy_file;
use windlass_policies::presets;
use windlass_policies::reconcile::Cycle;
use windlass_simulator::engine;
use windlass_simulator::scenario::{Scenario, TraceFile};
use windlass_simulator::score::{Label, Score};

const SPOT: &str = r#"
[workload]
trace = "nasa_http_jul95_week.rate.csv.gz"
length = "1d"
service = { distribution = "lognormal", mean = "30s", cv = 1.0 }
busy_mean = 20.0

[cloud]
boot = { distribution = "lognormal", median = "90s", p99 = "180s" }

[[cloud.offering]]
name = "spot-a"
market = "spot"
usd_per_hour = 0.05
capacity = { up = "3h", down = "20m" }
interruption = { every = "4h", share = 0.9, rebalance_ahead = "5m", dry = "30m" }

[[cloud.offering]]
name = "spot-b"
market = "spot"
usd_per_hour = 0.06
interruption = { every = "12h", share = 0.9 }

[[cloud.offering]]
name = "on-demand"
usd_per_hour = 0.17
prepaid = 2
prepaid_usd_per_hour = 0.1

[cloud.faults]
launch_requests = { size = 5, per_sec = 2 }
boot_fails = 0.01
lifetime = "2d"

[fleet]
initial = 10
max = 100

[objective]
usd_per_job_hour_waiting = 1.0
"#;

fn scenario(text: &str) -> Scenario {
    Scenario::parse("test", text, |trace| TraceFile::Embedded(trace.to_owned()))
        .unwrap_or_else(|problems| panic!("{}", problems.in_file("test")))
}

/// The score of a policy, and every cycle.
fn run(scenario: &Scenario, policy: &str) -> (Score, Vec<Cycle>) {
    let trace = scenario.read_trace().expect("built in");
    let workload = scenario.build_workload(&trace).expect("it has jobs");
    let policies = policy_file::read(policy).expect("a sound policy");
    let spec = scenario.fleet_spec(policies.policies, policies.signals);
    let world = scenario
        .world(&spec.name, &workload, &spec.signals, false)
        .expect("a world");
    let end = world.now() + Duration::from_micros(workload.length_micros);
    let mut cycles = Vec::new();
    let summary =
        engine::run(&spec, world, end, |cycle| cycles.push(cycle.clone())).expect("in memory");
    let label = Label {
        scenario: scenario.name.clone(),
        policy: "policy".to_owned(),
        trace: scenario.trace_name(),
        seed: scenario.seed,
    };
    let prices = scenario.class_prices();
    let score = Score::of_classes(label, &summary, scenario.objective, &prices);
    (score, cycles)
}

fn preset(name: &str) -> &'static str {
    let found = presets::all().into_iter().find(|(known, _)| *known == name);
    found.expect("built in").1
}

/// Whether a launch found no capacity and another offering was asked at once.
fn failed_over(cycle: &Cycle) -> bool {
    let launches = cycle
        .done
        .iter()
        .filter_map(|(action, outcome)| match action {
            Action::Launch { offering, .. } => Some((offering, outcome)),
            _ => None,
        });
    let launches: Vec<_> = launches.collect();
    launches.windows(2).any(|pair| {
        let refused = pair[0].1 == &Outcome::Failed(FleetError::NoCapacity);
        let bought = matches!(pair[1].1, Outcome::Launched { instances } if !instances.is_empty());
        refused && bought && pair[0].0 != pair[1].0
    })
}

#[test]
fn a_dry_pool_is_left_for_the_next_in_the_same_cycle() {
    let scenario = scenario(SPOT);
    let (score, cycles) = run(&scenario, preset("queue-backlog"));
    let over = cycles.iter().filter(|cycle| failed_over(cycle)).count();
    assert!(over > 5, "only {over} cycles failed over");
    assert!(score.launches_without_capacity >= Some(5));
    // Most are let go before, at the recommendation.
    assert!(
        score.interrupted > Some(0) && score.died > Some(10),
        "{score:?}"
    );
    assert!(score.jobs_redone > 0);
    assert_eq!(score.prepaid_usd, Some(4.8));
    let heeded = cycles.iter().filter(|cycle| {
        let told = cycle.decision.reasons.iter();
        let told: Vec<&Reason> = told.collect();
        format!("{told:?}").to_lowercase().contains("notice")
            || cycle.decision.summary().contains("taken back")
    });
    assert!(heeded.count() > 0, "no notice was heeded");
    // It keeps up: what waits at the end is what always waits.
    assert!(score.unfinished_jobs < 300, "{score:?}");
    assert!(score.wait_secs.p99 < 600.0, "{score:?}");
    let (again, _) = run(&scenario, preset("queue-backlog"));
    assert_eq!(score, again);
}

/// How many instances the cycle asked of `offering`.
fn asked(cycle: &Cycle, offering: &str) -> u32 {
    let counts = cycle.done.iter().map(|(action, _)| match action {
        Action::Launch {
            offering: from,
            count,
            ..
        } if from == offering => *count,
        _ => 0,
    });
    counts.sum()
}

/// A quiet day on two pools of spot: the keys of the first one are to be given.
fn two_pools(first: &str, interval: &str) -> Scenario {
    scenario(&format!(
        r#"
[workload]
trace = "nasa_http_jul95_week.rate.csv.gz"
length = "1d"
service = {{ distribution = "lognormal", mean = "30s", cv = 1.0 }}
busy_mean = 20.0
[cloud]
boot = {{ distribution = "constant", value = "90s" }}
[[cloud.offering]]
name = "spot-a"
market = "spot"
{first}
[[cloud.offering]]
name = "spot-b"
market = "spot"
usd_per_hour = 0.06
[fleet]
interval = "{interval}"
initial = 10
max = 100
[objective]
usd_per_job_hour_waiting = 1.0
"#
    ))
}

#[test]
fn what_is_cheapest_by_the_price_of_the_hour_is_bought() {
    let prices = r#"prices = [
    { from = "0s", usd_per_hour = 0.05 },
    { from = "6h", usd_per_hour = 0.07 },
    { from = "18h", usd_per_hour = 0.05 },
]"#;
    let scenario = two_pools(prices, "30s");
    let (_, cycles) = run(&scenario, preset("queue-backlog"));
    let begin = cycles[0].seen.now;
    let (mut cheap, mut dear) = (0, 0);
    for cycle in &cycles {
        // The first tick comes after one interval.
        let age = cycle.seen.now.since(begin) + Duration::from_secs(30);
        let hour = age.as_secs() / 3_600;
        let is_dear = (6..18).contains(&hour);
        let price = cycle.seen.prices["spot-a"].price.get();
        assert_eq!(price, if is_dear { 70_000 } else { 50_000 }, "{hour} h");
        assert!(!cycle.seen.prices.contains_key("spot-b"));
        let (other, own) = if is_dear {
            dear += asked(cycle, "spot-b");
            ("spot-a", "spot-b")
        } else {
            cheap += asked(cycle, "spot-a");
            ("spot-b", "spot-a")
        };
        assert_eq!(asked(cycle, other), 0, "{own} is cheaper at {hour} h");
    }
    assert!(cheap > 10 && dear > 10, "{cheap} and {dear} were bought");
}

#[test]
fn a_pool_that_takes_back_what_it_gave_is_bought_from_less() {
    let interruption = "usd_per_hour = 0.05\ninterruption = { every = \"4h\", within = \"0s\" }";
    let scenario = two_pools(interruption, "30s");
    let (score, cycles) = run(&scenario, preset("queue-backlog"));
    let taken = |cycle: &Cycle| {
        let listing = cycle.seen.fleet.as_ref().ok();
        let instances = listing.iter().flat_map(|listing| &listing.instances);
        let told = instances.filter(|one| matches!(one.notice, Some(Notice::Interruption { .. })));
        told.count()
    };
    let mut waves = 0;
    let mut last = None;
    let (mut soon_a, mut soon_b, mut late_a, mut late_b) = (0, 0, 0, 0);
    for (place, cycle) in cycles.iter().enumerate() {
        if taken(cycle) > 0 && (place == 0 || taken(&cycles[place - 1]) == 0) {
            waves += 1;
            // There is capacity, and what was taken is replaced elsewhere.
            assert_eq!(asked(cycle, "spot-a"), 0, "{}", cycle.decision.summary());
            assert!(asked(cycle, "spot-b") > 0, "{}", cycle.decision.summary());
            last = Some(cycle.seen.now);
        }
        let Some(last) = last else { continue };
        if cycle.seen.now.since(last) < Duration::from_mins(15) {
            soon_a += asked(cycle, "spot-a");
            soon_b += asked(cycle, "spot-b");
        } else if cycle.seen.now.since(last) > Duration::from_mins(75) {
            late_a += asked(cycle, "spot-a");
            late_b += asked(cycle, "spot-b");
        }
    }
    assert!(waves >= 3, "only {waves} waves");
    assert_eq!(score.launches_without_capacity, None, "{score:?}");
    // It is dearer than the other as long as more than a sixth was lost of late,
    // and the cheapest again once that is forgotten.
    assert!(soon_b > 5 * soon_a, "{soon_a} and {soon_b} soon after");
    assert!(late_a > 0 && late_b == 0, "{late_a} and {late_b} later on");
}

#[test]
fn jobs_of_a_higher_priority_wait_less_and_cost_what_they_say() {
    let text = r#"
[workload]
trace = "ci_abb_iofrol_2016.jobs.csv.gz"
slots_per_instance = 2
[workload.class.other]
usd_per_job_hour_waiting = 1.0
[workload.class.urgent]
trace = "call_centre_feb99_fortnight.jobs.csv.gz"
priority = 5
usd_per_job_hour_waiting = 10.0
[cloud]
boot = { distribution = "constant", value = "90s" }
usd_per_hour = 0.34
[fleet]
max = 4
"#;
    let (score, _) = run(&scenario(text), preset("queue-backlog"));
    let [other, urgent] = &score.classes[..] else {
        panic!("{:?}", score.classes);
    };
    assert_eq!((other.class.as_str(), other.jobs), ("other", 7_995));
    assert_eq!((urgent.class.as_str(), urgent.jobs), ("urgent", 14_348));
    assert_eq!(score.jobs, other.jobs + urgent.jobs);
    assert!(
        urgent.wait_secs.p95 * 5.0 < other.wait_secs.p95,
        "{score:?}"
    );
    let sum = other.delay_usd + urgent.delay_usd;
    assert!((score.delay_usd - sum).abs() < 0.000_003);
    let hours = urgent.wait_secs.mean * 14_348.0 / 3_600.0;
    assert!((urgent.delay_usd - 10.0 * hours).abs() < 0.001);
    assert_eq!((score.interrupted, score.prepaid_usd), (None, None));
}

#[test]
fn a_fleet_of_shared_servers_can_be_steered_by_latency() {
    let text = r#"
[workload]
trace = "nasa_http_jul95_week.rate.csv.gz"
length = "1d"
service = { distribution = "exponential", mean = "10s" }
busy_mean = 40.0
slots_per_instance = 4
server = "processor_sharing"
latency_curve = [{ load = 0.5, slowdown = 1.0 }, { load = 1.0, slowdown = 3.0 }]
[cloud]
boot = { distribution = "constant", value = "60s" }
usd_per_hour = 0.17
[fleet]
max = 60
initial = 20
"#;
    let policy = |above: u32, below: u32| {
        format!(
            "[[policy]]\nkind = \"step\"\nsignal = \"latency_p95\"\n[[policy.step]]\nabove = \
             {above}\npercent = 20\n[[policy.step]]\nbelow = {below}\nchange = -1\n"
        )
    };
    let scenario = scenario(text);
    let (strict, cycles) = run(&scenario, &policy(45, 35));
    let (lax, _) = run(&scenario, &policy(120, 90));
    assert!(strict.response_secs.p95 < lax.response_secs.p95);
    assert!(strict.instances_mean > lax.instances_mean);
    assert!(strict.response_secs.p95 < 100.0, "{strict:?}");
    let read = cycles.iter().filter(|cycle| {
        let reading = cycle.seen.readings.get("latency_p95");
        format!("{reading:?}").contains("Present")
    });
    assert!(read.count() > cycles.len() / 2, "latency is measured");
}
