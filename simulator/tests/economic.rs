//! The economic policy in a world: dearer waiting costs more and waits less.

use std::time::Duration;

use windlass_policies::policy_file;
use windlass_policies::units::MicroUsdPerHour;
use windlass_simulator::engine;
use windlass_simulator::scenario::Scenario;
use windlass_simulator::score::{Label, Score};
use windlass_simulator::workload::Workload;

const ECONOMIC: &str = "[[policy]]\nkind = \"economic\"\n";

/// Three days of the web, a cycle a minute.
fn web() -> (Scenario, Workload) {
    let mut scenario = Scenario::open("builtin:web-week").expect("it is built in");
    scenario.workload.length_micros = Some(3 * 86_400 * 1_000_000);
    let trace = scenario.read_trace().expect("it is built in");
    let workload = scenario.build_workload(&trace).expect("it is built in");
    (scenario, workload)
}

/// What comes of `policy` where a job-hour is worth `milli_usd` thousandths of a dollar.
fn run(web: &(Scenario, Workload), policy: &str, milli_usd: u64) -> Score {
    let (scenario, workload) = web;
    let mut scenario = scenario.clone();
    scenario.objective.usd_per_job_hour_waiting = MicroUsdPerHour::new(1_000 * milli_usd);
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

#[test]
fn the_dearer_waiting_is_the_more_is_spent_and_the_less_is_waited() {
    let web = web();
    // From a hundredth of an instance-hour ($0.17) to ten of them.
    let scores = [2, 17, 170, 1_700].map(|worth| run(&web, ECONOMIC, worth));
    for pair in scores.windows(2) {
        let (cheap, dear) = (&pair[0], &pair[1]);
        assert!(
            dear.instance_usd >= 0.99 * cheap.instance_usd,
            "{} then {}",
            cheap.instance_usd,
            dear.instance_usd
        );
        assert!(
            dear.wait_secs.mean <= 1.01 * cheap.wait_secs.mean,
            "{} then {}",
            cheap.wait_secs.mean,
            dear.wait_secs.mean
        );
    }
    assert!(scores[3].wait_secs.mean < 0.2 * scores[0].wait_secs.mean);
}

#[test]
fn it_costs_less_than_rules_of_thumb_do() {
    let web = web();
    for worth in [17, 170, 1_700] {
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
    assert_eq!(run(&web, ECONOMIC, 170), run(&web, ECONOMIC, 170));
}
