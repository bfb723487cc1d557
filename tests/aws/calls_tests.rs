//! How many calls of AWS a fleet costs. `docs/aws.md` has the table:
//!
//! ```text
//! tests/run --test aws calls -- --nocapture
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::daemon::Place;
use crate::proxy::Proxy;
use crate::server::{Kind, Server};

/// Ten times what a thousand fleets take: the machine may be busy.
const LIMIT: Duration = Duration::from_mins(10);

/// Cycles in an hour at the usual interval of a minute.
const CYCLES_AN_HOUR: usize = 60;

/// Cycles of every fleet that are waited for.
const CYCLES_COUNTED: usize = 4;

/// Fleets, and their interval in seconds: the shortest that leaves this machine
/// idle between two cycles, for a build without optimization.
const SIZES: [(usize, u64); 3] = [(1, 1), (100, 2), (1_000, 10)];

/// What a fleet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// Instances of EC2, none of them.
    Ec2,
    /// An Auto Scaling group with one instance.
    Asg,
}

impl Kept {
    /// Its table.
    fn table(self, name: &str) -> String {
        match self {
            Self::Ec2 => format!(
                r#"
provider = "ec2"

[fleet.{name}.ec2]
launch_template = "one"
workers = "tags"

[[fleet.{name}.ec2.offering]]
name = "on-demand"
types = ["m5.large"]
usd_per_hour = 0.1
"#
            ),
            Self::Asg => format!(
                r#"
provider = "asg"

[fleet.{name}.asg]
group = "{name}"
type = "m5.large"
usd_per_hour = 0.1
workers = "tags"
"#
            ),
        }
    }

    /// Instances it has.
    fn instances(self) -> usize {
        match self {
            Self::Ec2 => 0,
            Self::Asg => 1,
        }
    }

    /// The calls of a listing, and how many there are in one round of `fleets`.
    fn listing(self, fleets: usize) -> Vec<(&'static str, usize)> {
        match self {
            Self::Ec2 => vec![("DescribeInstances", 1)],
            Self::Asg => vec![
                ("DescribeAutoScalingGroups", fleets.div_ceil(100)),
                ("DescribeInstances", fleets.div_ceil(100)),
            ],
        }
    }
}

/// What was asked in the life of a daemon.
struct Asked {
    /// Calls by action.
    calls: BTreeMap<String, usize>,
    /// Decisions of all fleets.
    decisions: usize,
    /// How often cycles can have come due, whatever the machine made of it.
    ticks: usize,
}

fn ask(server: &Server, kept: Kept, fleets: usize, interval: u64) -> Asked {
    let proxy = Proxy::start(server, 1);
    let url = proxy.url();
    let names: Vec<String> = (0..fleets).map(|fleet| format!("f{fleet}")).collect();
    let queues = server.look("queues", &json!(names));
    let queues: Vec<String> = serde_json::from_value(queues).expect("URLs");
    let mut config = format!(
        "[store]\npath = \"windlass.db\"\n[aws]\nendpoint_url = \"{url}\"\nregion = \"us-east-1\"\n"
    );
    if kept == Kept::Asg {
        for name in &names {
            let group = json!({ "name": name, "max": 10, "desired": kept.instances() });
            server.look("make_group", &group);
        }
    }
    for (name, queue) in names.iter().zip(&queues) {
        // It has as many jobs as instances: nothing changes.
        server.look(
            "wait_in",
            &json!({ "queue": queue, "count": kept.instances() }),
        );
        let table = kept.table(name);
        let path = queue.splitn(4, '/').nth(3).expect("a path");
        write!(
            config,
            r#"
[fleet.{name}]
interval = "{interval}s"{table}
[fleet.{name}.signals.backlog]
source = "sqs"
queue_url = "{url}/{path}"
count = "visible"
timeout = "1m"

[fleet.{name}.signals.in_flight]
source = "sqs"
queue_url = "{url}/{path}"
count = "in_flight"
timeout = "1m"

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
    let begun = Instant::now();
    let daemon = place.start();
    let waited = CYCLES_COUNTED * fleets;
    daemon.decisions(waited, LIMIT);
    // The cycles in hand end, so that each has asked what it asks.
    let decisions = waited + daemon.stop(LIMIT);
    let ticks = begun.elapsed().as_secs() / interval + 1;
    let ticks = usize::try_from(ticks).expect("few");
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    for ((_, name), count) in proxy.counts() {
        *calls.entry(name).or_default() += count;
    }
    Asked {
        calls,
        decisions,
        ticks,
    }
}

#[test]
fn calls_of_a_quiet_hour() {
    count_calls(Kept::Ec2);
}

#[test]
fn calls_of_a_quiet_hour_of_groups() {
    count_calls(Kept::Asg);
}

fn count_calls(kept: Kept) {
    // Groups of ministack have instances that its EC2 does not know, which
    // changes nothing about who is asked how often.
    if !Kind::all().contains(&Kind::Ministack) {
        return;
    }
    let mut table = String::from("| fleets | calls an hour | of them by fleet |\n|---|---|---|\n");
    for (fleets, interval) in SIZES {
        let server = Server::start(Kind::Ministack);
        server.look("template", &json!("one"));
        let Asked {
            calls,
            decisions,
            ticks,
        } = ask(&server, kept, fleets, interval);
        let of = |name: &str| calls.get(name).copied().unwrap_or(0);
        let queues = of("GetQueueAttributes");
        let told = format!("{fleets}: {decisions} decisions, {ticks} ticks, {calls:?}");
        // None of this depends on the machine's pace: a queue is asked once for
        // both its signals in each cycle,
        assert_eq!(queues, decisions, "{told}");
        // and all fleets are listed once in each tick, however late some of them
        // come to ask.
        let rounds = decisions.div_ceil(fleets);
        let hour = |count: usize| (count * CYCLES_AN_HOUR).div_ceil(rounds);
        let (mut listings, mut shown) = (0, String::new());
        for (name, once) in kept.listing(fleets) {
            let asked = of(name);
            assert_eq!(asked % once, 0, "{told}");
            assert!((1..=ticks).contains(&(asked / once)), "{told}");
            listings += asked;
            write!(shown, "{} `{name}`, ", hour(asked)).expect("text");
        }
        let of_all: usize = calls.values().sum();
        assert_eq!(of_all, listings + queues, "{told}");
        let queues = fleets * CYCLES_AN_HOUR;
        let of_all = hour(listings) + queues;
        writeln!(
            table,
            "| {fleets} | {shown}{queues} `GetQueueAttributes` | {:.2} |",
            f64::from(u32::try_from(of_all).expect("few"))
                / f64::from(u32::try_from(fleets).expect("few")),
        )
        .expect("text");
    }
    eprintln!("{table}");
}
