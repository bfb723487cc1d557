//! What the built-in scenarios come to under the built-in policies that only
//! look at the moment, to the last digit; what the economic one comes to changes
//! with what it learns (`economic.rs`). A rule that is new must be off there: these files change only when a
//! rule of the world is meant to. `UPDATE_EXPECT=1 cargo test --test golden`
//! writes them anew; read the difference.

use std::time::Duration;

use expect_test::{ExpectFile, expect_file};
use windlass_policies::policy_file;
use windlass_policies::presets;
use windlass_simulator::engine;
use windlass_simulator::scenario::Scenario;
use windlass_simulator::score::{Label, Score};

fn check(name: &str, golden: &ExpectFile) {
    let scenario = Scenario::open(&format!("builtin:{name}")).expect("built in");
    let trace = scenario.read_trace().expect("built in");
    let workload = scenario.build_workload(&trace).expect("it has jobs");
    let scores: Vec<Score> = presets::all()
        .iter()
        .filter(|(policy, _)| *policy != "economic")
        .map(|(policy, text)| {
            let policies = policy_file::read(text).expect("built in");
            let spec = scenario.fleet_spec(policies.policies, policies.signals);
            let world = scenario
                .world(&spec.name, &workload, &spec.signals, false)
                .expect("a world");
            let end = world.now() + Duration::from_micros(workload.length_micros);
            let summary = engine::run(&spec, world, end, |_| ()).expect("nothing is stored");
            let label = Label {
                scenario: scenario.name.clone(),
                policy: (*policy).to_owned(),
                trace: scenario.trace_name(),
                seed: scenario.seed,
            };
            Score::of(label, &summary, scenario.objective)
        })
        .collect();
    let mut json = serde_json::to_string_pretty(&scores).expect("plain data");
    json.push('\n');
    golden.assert_eq(&json);
}

#[test]
fn web_week_comes_to_the_same() {
    check("web-week", &expect_file!["golden/web-week.json"]);
}

#[test]
fn call_centre_comes_to_the_same() {
    check("call-centre", &expect_file!["golden/call-centre.json"]);
}

#[test]
fn ci_bursts_come_to_the_same() {
    check("ci-bursts", &expect_file!["golden/ci-bursts.json"]);
}

#[test]
fn supercomputer_comes_to_the_same() {
    check("supercomputer", &expect_file!["golden/supercomputer.json"]);
}
