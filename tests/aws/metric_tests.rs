//! Signals read from `CloudWatch` as `ministack` has it, held against what AWS's own
//! Python client reads there. `moto` does not speak the protocol of AWS's Rust client,
//! and `ministack` calculates no expressions.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;
use windlass_policies::signal::Reading;

use crate::cloud::Cloud;
use crate::daemon::{Place, QUICK, SILENT};
use crate::server::Kind;

/// Ten times what it takes: the machine may be busy.
const LIMIT: Duration = Duration::from_mins(2);

/// Signals by name, with what each is.
const SIGNALS: [(&str, &str, &str); 4] = [
    ("mean", "ratio", "statistic = \"Average\""),
    ("most", "ratio", "statistic = \"Maximum\""),
    ("slow", "duration", "statistic = \"p90\""),
    ("jobs", "total", "statistic = \"SampleCount\""),
];

/// A second fleet beside the first, which reads the same.
const SECOND: &str = r#"
[fleet.second]
provider = "ec2"
interval = "1s"

[fleet.second.ec2]
launch_template = "one"
SILENT

[fleet.second.limits]
max = 1
max_usd_per_hour = 1
listing_patience = "5s"

[fleet.second.drain]
deadline = "0s"

[[fleet.second.policy]]
kind = "fixed"
instances = 0
"#;

#[test]
fn metrics_are_read_as_others_read_them_and_once_for_all_fleets() {
    if !Kind::all().contains(&Kind::Ministack) {
        return;
    }
    let cloud = &Cloud::alone(Kind::Ministack, "measured");
    let metric = json!({
        "namespace": "Photos", "metric": "Seconds", "dimensions": { "Queue": "photos" },
        "values": [0.5, 4.25, 1.0, 9.0, 2.0, 3.0, 2.5, 7.0, 8.0, 6.5],
    });
    cloud.look("measure", &metric);
    let silent = SILENT.replace("FLEET", "fleet.second");
    let mut config = cloud.config(SILENT, QUICK) + &SECOND.replace("SILENT", &silent);
    for fleet in [cloud.fleet.as_str(), "second"] {
        for (name, kind, statistic) in SIGNALS {
            write!(
                config,
                "[fleet.{fleet}.signals.{name}]\nkind = \"{kind}\"\nsource = \"cloudwatch\"\n\
                 namespace = \"Photos\"\nmetric = \"Seconds\"\n\
                 dimensions = {{ Queue = \"photos\" }}\n{statistic}\nmax_age = \"10m\"\n\
                 timeout = \"30s\"\n"
            )
            .expect("text");
        }
        write!(
            config,
            "[fleet.{fleet}.signals.sum]\nkind = \"total\"\nsource = \"cloudwatch\"\n\
             expression = \"a + a\"\n[fleet.{fleet}.signals.sum.metrics.a]\n\
             namespace = \"Photos\"\nmetric = \"Seconds\"\nstatistic = \"Sum\"\n"
        )
        .expect("text");
    }
    let place = Place::new(&config);
    let begun = Instant::now();
    let daemon = place.start();
    daemon.decisions(10, LIMIT);
    let decisions = 10 + daemon.stop(LIMIT);
    let ticks = begun.elapsed().as_secs() + 1;
    // All signals of both fleets are in one call, in each tick.
    let calls = cloud.proxy.calls("GetMetricData");
    assert!(u64::try_from(calls).expect("few") <= ticks, "{calls} calls");
    assert!(calls <= decisions * 2 / 3, "{calls} calls, {decisions}");

    for fleet in [cloud.fleet.as_str(), "second"] {
        let entries = place.entries(fleet);
        let readings = &entries.last().expect("a decision").decided.seen.readings;
        for (name, _, statistic) in SIGNALS {
            let statistic = statistic.split('"').nth(1).expect("its name");
            let mut question = metric.clone();
            question["statistic"] = statistic.into();
            let others = cloud.look("measured", &question);
            match readings.get(name) {
                Reading::Present(sample) => assert_eq!(json!(sample.value), others, "{statistic}"),
                Reading::Absent(why) => panic!("{fleet} {statistic}: {why}, not {others}"),
            }
        }
        // What is not calculated is absent, and not 0.
        assert!(
            matches!(readings.get("sum"), Reading::Absent(_)),
            "{readings:?}"
        );
    }
}
