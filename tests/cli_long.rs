//! Loads longer than what is held: the program streams them, and comes to the
//! same as with all of it in memory.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Map, Value};

/// More jobs than are held.
const JOBS: u64 = 260_000;

/// Jobs with bursts, in order; those after the first `sound` are not.
fn trace(sound: u64) -> String {
    let mut text = "arrival_s,service_s\n".to_owned();
    for job in 0..JOBS {
        let at = if job < sound { job / 40 * 9 } else { 0 };
        let service = job * 7_919 % 37;
        writeln!(text, "{at}.{:06},{service}.5", job % 40 * 1_000).expect("written");
    }
    text
}

const SCENARIO: &str = r#"
[workload]
trace = "long.jobs.csv"

[cloud]
boot = { distribution = "constant", value = "30s" }
usd_per_hour = 0.17
metric_period = "60s"

[fleet]
interval = "60s"
initial = 60
max = 200

[objective]
usd_per_job_hour_waiting = 1.0
"#;

fn simulate(there: &Path, arguments: &str) -> Output {
    let policies = "--policy builtin:target-tracking --policy builtin:step --format json";
    Command::new(env!("CARGO_BIN_EXE_windlass"))
        .arg("simulate")
        .args(arguments.split_whitespace())
        .args(policies.split_whitespace())
        .current_dir(there)
        .env_remove("WINDLASS_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("started")
}

fn scores(there: &Path, arguments: &str) -> Vec<Map<String, Value>> {
    let output = simulate(there, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {errors}");
    serde_json::from_slice(&output.stdout).expect("an array of scores")
}

/// Takes the quantiles out of a score: `wait_secs` and `response_secs` without
/// their mean and largest.
fn take_quantiles(score: &mut Map<String, Value>) -> Vec<f64> {
    let mut taken = Vec::new();
    for times in ["wait_secs", "response_secs"] {
        let times = score[times].as_object_mut().expect("a table");
        for quantile in ["p50", "p95", "p99"] {
            let quantile = times.remove(quantile).expect("a quantile");
            taken.push(quantile.as_f64().expect("a number"));
        }
    }
    taken
}

#[test]
fn a_long_trace_comes_to_the_same_piece_by_piece() {
    let folder = tempfile::tempdir().expect("a folder");
    let there = folder.path();
    fs::write(there.join("long.toml"), SCENARIO).expect("written");
    fs::write(there.join("long.jobs.csv"), trace(JOBS)).expect("written");
    let streamed = scores(there, "--scenario long.toml");
    let exact = scores(there, "--scenario long.toml --exact");
    assert_eq!((streamed.len(), exact.len()), (2, 2));
    for (mut streamed, mut exact) in streamed.into_iter().zip(exact) {
        let within = streamed.remove("quantiles_within").expect("it is told");
        let within = within.as_f64().expect("a number");
        assert!(exact.remove("elasticity").is_some(), "only if all is held");
        let quantiles = take_quantiles(&mut exact);
        for (seen, exact) in take_quantiles(&mut streamed).iter().zip(quantiles) {
            assert!(
                (seen - exact).abs() <= within * exact,
                "{seen}, not {exact}"
            );
        }
        assert_eq!(streamed["jobs"], Value::from(JOBS));
        assert_eq!(streamed, exact);
    }
}

#[test]
fn a_mistake_late_in_a_long_trace_is_told_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let there = folder.path();
    fs::write(there.join("long.toml"), SCENARIO).expect("written");
    fs::write(there.join("long.jobs.csv"), trace(JOBS - 5)).expect("written");
    let output = simulate(there, "--scenario long.toml");
    assert_eq!(output.status.code(), Some(66));
    assert!(output.stdout.is_empty());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("long.jobs.csv:259997: arrival_s is 0.035 s"),
        "{told}"
    );
}
