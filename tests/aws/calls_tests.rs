//! How many calls of AWS a fleet on EC2 costs. `docs/aws.md` has the table:
//!
//! ```text
//! tests/run --test aws calls -- --nocapture
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

use crate::daemon::Place;
use crate::proxy::Proxy;
use crate::server::{Kind, Server};

/// A thousand fleets take their time to start.
const LIMIT: Duration = Duration::from_mins(2);

/// Cycles in an hour at the usual interval of a minute.
const CYCLES_AN_HOUR: usize = 60;

/// Cycles of every fleet that are counted.
const CYCLES_COUNTED: usize = 2;

/// Fleets, and their interval: the shortest that leaves this machine idle
/// between two cycles, for a build without optimization.
const SIZES: [(usize, u64); 3] = [(1, 1), (100, 2), (1_000, 10)];

/// What the calls of one cycle of all fleets are, by action.
fn calls_in_a_cycle(server: &Server, fleets: usize, interval: u64) -> BTreeMap<String, usize> {
    let proxy = Proxy::start(server, 1);
    let url = proxy.url();
    let names: Vec<String> = (0..fleets).map(|fleet| format!("f{fleet}")).collect();
    let queues = server.look("queues", &json!(names));
    let queues: Vec<String> = serde_json::from_value(queues).expect("URLs");
    let mut config = format!(
        "[store]\npath = \"windlass.db\"\n[aws]\nendpoint_url = \"{url}\"\nregion = \"us-east-1\"\n"
    );
    for (name, queue) in names.iter().zip(&queues) {
        let path = queue.splitn(4, '/').nth(3).expect("a path");
        write!(
            config,
            r#"
[fleet.{name}]
provider = "ec2"
interval = "{interval}s"

[fleet.{name}.ec2]
launch_template = "one"
workers = "tags"

[[fleet.{name}.ec2.offering]]
name = "on-demand"
types = ["m5.large"]
usd_per_hour = 0.1

[fleet.{name}.signals.backlog]
source = "sqs"
queue_url = "{url}/{path}"
count = "visible"

[fleet.{name}.signals.in_flight]
source = "sqs"
queue_url = "{url}/{path}"
count = "in_flight"

[fleet.{name}.limits]
max = 10
max_usd_per_hour = 10.0

[[fleet.{name}.policy]]
kind = "queue_backlog"
jobs_per_instance = 1
"#
        )
        .expect("text");
    }
    let place = Place::new(&config);
    let mut daemon = place.start();
    // The first cycles look closer.
    daemon.decisions(2 * fleets, LIMIT);
    let before = proxy.counts();
    daemon.decisions(CYCLES_COUNTED * fleets, LIMIT);
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    for ((fleet, name), count) in proxy.counts() {
        let earlier = before.get(&(fleet, name.clone())).copied().unwrap_or(0);
        *calls.entry(name).or_default() += count - earlier;
    }
    calls.retain(|_, count| *count > 0);
    for count in calls.values_mut() {
        *count = (*count + CYCLES_COUNTED / 2) / CYCLES_COUNTED;
    }
    calls
}

#[test]
fn calls_of_a_quiet_hour() {
    if !Kind::all().contains(&Kind::Ministack) {
        return;
    }
    let mut table = String::from("| fleets | calls an hour | of them by fleet |\n|---|---|---|\n");
    for (fleets, interval) in SIZES {
        let server = Server::start(Kind::Ministack);
        server.look("template", &json!("one"));
        let calls = calls_in_a_cycle(&server, fleets, interval);
        let listings = calls.get("DescribeInstances").copied().unwrap_or(0);
        let asked = calls.get("GetQueueAttributes").copied().unwrap_or(0);
        let of_both: usize = calls.values().sum();
        // One listing serves them all; a queue is asked once for both its
        // signals. A busy machine lets some cycles fall into the next window.
        let some = fleets / 10 + 1;
        assert!((1..=4).contains(&listings), "{fleets}: {calls:?}");
        assert!(asked.abs_diff(fleets) <= some, "{fleets}: {calls:?}");
        assert_eq!(of_both, listings + asked, "{fleets}: {calls:?}");
        let hour = |count: usize| count * CYCLES_AN_HOUR;
        writeln!(
            table,
            "| {fleets} | {} `DescribeInstances`, {} `GetQueueAttributes` | {:.2} |",
            hour(listings),
            hour(asked),
            f64::from(u32::try_from(hour(of_both)).expect("few"))
                / f64::from(u32::try_from(fleets).expect("few")),
        )
        .expect("text");
    }
    eprintln!("{table}");
}
