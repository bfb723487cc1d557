//! A budget of the economic policy where the load is known: it is kept, what it
//! costs in waiting is spread, and one that does not bind changes nothing.

use std::time::Duration;

use windlass_policies::policy_file;
use windlass_policies::units::Timestamp;
use windlass_simulator::engine;
use windlass_simulator::scenario::Scenario;
use windlass_simulator::trace::Trace;
use windlass_simulator::world::Summary;

const DAY: u64 = 86_400;

/// What came of a policy.
struct Outcome {
    /// Dollars of each whole day, as of the last cycle before midnight.
    days: Vec<f64>,
    /// Jobs waiting on average, day by day.
    waiting: Vec<f64>,
    summary: Summary,
    /// What each cycle came to, and why.
    decisions: Vec<(Option<u32>, String)>,
}

impl Outcome {
    fn wait_secs(&self) -> f64 {
        self.summary.wait.mean_secs().expect("jobs came")
    }

    fn total(&self) -> f64 {
        self.days.iter().sum()
    }
}

fn usd(summary: &Summary) -> f64 {
    let micro_usd = u32::try_from(summary.instance_cost.get()).expect("less than $4,000");
    f64::from(micro_usd) / 1e6
}

fn mean(numbers: &[f64]) -> f64 {
    let count = u32::try_from(numbers.len()).expect("few");
    numbers.iter().sum::<f64>() / f64::from(count)
}

fn built_in(name: &str) -> (Scenario, Trace) {
    let scenario = Scenario::open(name).expect("it is built in");
    let trace = scenario.read_trace().expect("it is built in");
    (scenario, trace)
}

/// Runs the economic policy with the keys of `policy` in that world for `days`.
fn run((scenario, trace): &(Scenario, Trace), days: u64, policy: &str) -> Outcome {
    let mut scenario = scenario.clone();
    scenario.workload.length_micros = Some(days * DAY * 1_000_000);
    let workload = scenario.build_workload(trace).expect("a load");
    let policy = format!("[[policy]]\nkind = \"economic\"\n{policy}\n");
    let file = policy_file::read(&policy).expect("a policy");
    let spec = scenario.fleet_spec(file.policies, file.signals);
    let world = scenario
        .world(&spec.name, &workload, &spec.signals, false)
        .expect("a world");
    let from = world.now();
    let end = from + Duration::from_micros(workload.length_micros);
    let mut outcome = Outcome {
        days: Vec::new(),
        waiting: Vec::new(),
        summary: world.summary(),
        decisions: Vec::new(),
    };
    let (mut before, mut next) = (0.0, midnight_after(from));
    let mut queued = Vec::new();
    let world = engine::observe(&spec, world, end, |cycle, world| {
        let decision = &cycle.decision;
        let why = decision
            .proposals
            .first()
            .map(|proposal| proposal.why.clone());
        outcome
            .decisions
            .push((decision.target, why.expect("one policy")));
        let waiting = u32::try_from(world.snapshot().backlog).expect("fewer");
        queued.push(f64::from(waiting));
        if world.now() + spec.interval >= next {
            let so_far = usd(&world.summary());
            outcome.days.push(so_far - before);
            outcome.waiting.push(mean(&queued));
            queued.clear();
            before = so_far;
            next = next + Duration::from_secs(DAY);
        }
    });
    outcome.summary = world.expect("the store takes all").summary();
    outcome
}

/// The next midnight in UTC.
fn midnight_after(now: Timestamp) -> Timestamp {
    let days = now.micros() / 1_000_000 / DAY;
    Timestamp::from_secs((days + 1) * DAY)
}

#[test]
fn a_day_never_costs_more_than_its_budget_and_waiting_pays_for_it() {
    let web = built_in("builtin:web-week");
    let plain = run(&web, 5, "");
    let mut waits = vec![plain.wait_secs()];
    // The last one is less than the work of the day costs.
    for budget in [125.0, 105.0, 75.0] {
        let kept = run(&web, 5, &format!("budget_usd_per_day = {budget}"));
        for day in &kept.days {
            assert!(*day <= 1.002 * budget, "{budget}: {:?}", kept.days);
        }
        for (day, free) in kept.days.iter().zip(&plain.days) {
            assert!(
                *day >= 0.95 * free.min(budget),
                "{budget}: {:?} of {:?}",
                kept.days,
                plain.days
            );
        }
        waits.push(kept.wait_secs());
    }
    assert!(waits.is_sorted(), "{waits:?}");
}

#[test]
fn a_budget_that_does_not_bind_changes_no_decision() {
    let web = built_in("builtin:web-week");
    let plain = run(&web, 3, "");
    for budget in ["budget_usd_per_day = 200", "budget_usd_per_month = 6000"] {
        let free = run(&web, 3, budget);
        assert!(free.decisions == plain.decisions, "{budget}");
    }
}

#[test]
fn calls_are_kept_within_what_a_day_may_cost() {
    let calls = built_in("builtin:call-centre");
    let budget = 11.0;
    let kept = run(&calls, 3, &format!("budget_usd_per_day = {budget}"));
    for day in &kept.days {
        assert!(*day <= 1.002 * budget, "{:?}", kept.days);
    }
    assert!(kept.days[1] > 0.95 * budget, "{:?}", kept.days);
}

/// February 2026 and the day before it: jobs of 30 s for 2 to 10 instances by a
/// daily rhythm, a cycle every five minutes.
fn february() -> (Scenario, Trace) {
    let (mut scenario, _) = built_in("builtin:web-week");
    scenario.begins_at = Timestamp::parse("2026-01-31T00:00:00Z").expect("a time");
    scenario.interval = Duration::from_mins(5);
    scenario.workload.busy_mean = Some(6.0);
    let counts = (0..29 * 96_u32).map(|quarter| {
        let turn = f64::from(quarter % 96) / 96.0 * std::f64::consts::TAU;
        let count = 18.0 - 12.0 * libm::cos(turn);
        (0..40_u32)
            .take_while(|one| f64::from(*one) < count)
            .count()
    });
    let counts = counts
        .map(|count| u64::try_from(count).expect("few"))
        .collect();
    let trace = Trace::of_counts("february", 900_000_000, counts).expect("a trace");
    (scenario, trace)
}

#[test]
fn a_month_that_is_too_dear_waits_a_little_every_day() {
    let february = february();
    let plain = run(&february, 29, "");
    let month = |outcome: &Outcome| outcome.days[1..].iter().sum::<f64>();
    let budget = (92.0 * month(&plain)).round() / 100.0;
    let kept = run(&february, 29, &format!("budget_usd_per_month = {budget}"));
    let spent = month(&kept);
    assert!(spent <= 1.002 * budget, "{spent} of {budget}");
    assert!(spent >= 0.97 * budget, "{spent} of {budget}");
    let (all, last) = (mean(&kept.waiting[1..]), mean(&kept.waiting[26..]));
    assert!(last <= 2.0 * all, "{all} then {last}: {:?}", kept.waiting);
    assert!(kept.total() < plain.total());
}
