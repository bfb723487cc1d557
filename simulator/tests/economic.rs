//! The economic policy in a world: dearer waiting costs more and waits less.

use std::time::Duration;

use windlass_policies::policy_file;
use windlass_policies::units::MicroUsdPerHour;
use windlass_simulator::engine;
use windlass_simulator::scenario::Scenario;
use windlass_simulator::score::{Label, Score};
use windlass_simulator::workload::Workload;

const ECONOMIC: &str = "[[policy]]\nkind = \"economic\"\n";

/// The first days of a world.
fn place(name: &str, days: u64) -> (Scenario, Workload) {
    let mut scenario = Scenario::open(name).expect("it is built in");
    scenario.workload.length_micros = Some(days * 86_400 * 1_000_000);
    let trace = scenario.read_trace().expect("it is built in");
    let workload = scenario.build_workload(&trace).expect("it is built in");
    (scenario, workload)
}

/// Three days of the web, a cycle a minute.
fn web() -> (Scenario, Workload) {
    place("builtin:web-week", 3)
}

/// What comes of `policy` where a job-hour is worth `micro_usd` millionths of a dollar.
fn run(web: &(Scenario, Workload), policy: &str, micro_usd: u64) -> Score {
    let (scenario, workload) = web;
    let mut scenario = scenario.clone();
    scenario.objective.usd_per_job_hour_waiting = MicroUsdPerHour::new(micro_usd);
    let file = policy_file::read(policy).expect("a policy");
    let spec = scenario.fleet_spec(file.policies, file.signals);
    let world = scenario
        .world(&spec.name, workload, &spec.signals, false)
        .expect("a world");
    let end = world.now() + Duration::from_micros(workload.length_micros);
    let world = engine::observe(&spec, world, end, |_, _| {}).expect("the store takes all");
    let label = Label {
        scenario: scenario.name.clone(),
        policy: "economic".to_owned(),
        trace: scenario.trace_name(),
        seed: scenario.seed,
    };
    Score::of(label, &world.summary(), scenario.objective)
}

/// From a hundredth of an instance-hour to ten of them.
fn check_knob(name: &str, days: u64) {
    let place = place(name, days);
    let price = place.0.all_offerings()[0].price.get();
    let scores = [10, 100, 1_000, 10_000].map(|milli| run(&place, ECONOMIC, price * milli / 1_000));
    for pair in scores.windows(2) {
        let (cheap, dear) = (&pair[0], &pair[1]);
        assert!(
            dear.instance_usd >= 0.99 * cheap.instance_usd,
            "{name}: {} then {}",
            cheap.instance_usd,
            dear.instance_usd
        );
        assert!(
            dear.wait_secs.mean <= 1.01 * cheap.wait_secs.mean,
            "{name}: {} then {}",
            cheap.wait_secs.mean,
            dear.wait_secs.mean
        );
    }
    assert!(scores[3].wait_secs.mean < 0.5 * scores[0].wait_secs.mean);
}

#[test]
fn the_dearer_waiting_is_the_more_is_spent_and_the_less_is_waited_on_the_web() {
    check_knob("builtin:web-week", 3);
}

#[test]
fn the_dearer_waiting_is_the_more_is_spent_and_the_less_is_waited_for_calls() {
    check_knob("builtin:call-centre", 2);
}

#[test]
fn the_dearer_waiting_is_the_more_is_spent_and_the_less_is_waited_for_tests() {
    check_knob("builtin:ci-bursts", 14);
}

#[test]
fn the_dearer_waiting_is_the_more_is_spent_and_the_less_is_waited_for_batches() {
    check_knob("builtin:supercomputer", 7);
}

/// With readings older than a cycle it launched on one of them and let go by the
/// next, which was from before the launch, too.
#[test]
fn late_readings_do_not_make_it_launch_and_let_go_in_turns() {
    let (mut scenario, workload) = web();
    scenario.cloud.metric_lag = Duration::from_secs(80);
    let file = policy_file::read(ECONOMIC).expect("a policy");
    let spec = scenario.fleet_spec(file.policies, file.signals);
    let world = scenario
        .world(&spec.name, &workload, &spec.signals, false)
        .expect("a world");
    let end = world.now() + Duration::from_micros(workload.length_micros);
    let (mut launches, mut turns, mut grown) = (0, 0, false);
    engine::observe(&spec, world, end, |cycle, _| {
        let decision = &cycle.decision;
        turns += u32::from(grown && decision.target < decision.current);
        grown = decision.target > decision.current;
        launches += u32::from(grown);
    })
    .expect("the store takes all");
    assert!(50 * turns < launches, "{turns} of {launches}");
}

#[test]
fn it_costs_less_than_rules_of_thumb_do() {
    let web = web();
    for worth in [17_000, 170_000, 1_700_000] {
        let own = run(&web, ECONOMIC, worth);
        for rule in [
            "[[policy]]\nkind = \"queue_backlog\"\njobs_per_instance = 1.0\n",
            "[[policy]]\nkind = \"queue_backlog\"\njobs_per_instance = 3.0\n",
            "[[policy]]\nkind = \"target_tracking\"\ntarget = 0.6\n",
            "[[policy]]\nkind = \"target_tracking\"\ntarget = 0.8\n",
        ] {
            let theirs = run(&web, rule, worth);
            assert!(
                own.total_usd < theirs.total_usd,
                "{worth}: {} and {} by {rule}",
                own.total_usd,
                theirs.total_usd
            );
        }
    }
}

#[test]
fn the_same_world_gives_the_same_decisions() {
    let web = web();
    assert_eq!(run(&web, ECONOMIC, 170_000), run(&web, ECONOMIC, 170_000));
}
