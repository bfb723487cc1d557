//! `windlass run` with a fleet on EC2: it grows, shrinks, buys elsewhere, replaces
//! and survives, and what its store says is what exists.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde_json::json;
use windlass_policies::model::{Action, FleetError, Outcome};

use crate::cloud::{Cloud, Real};
use crate::daemon::{Daemon, Place};
use crate::proxy::faults::{Fault, Faults};
use crate::proxy::world::Pool;
use crate::server::Kind;

/// Ten times what it takes: the machine may be busy.
const LIMIT: Duration = Duration::from_secs(90);

/// One offering on demand, and workers nobody hears of.
const SILENT: &str = r#"
workers = "none"
ready = "running"

[[FLEET.ec2.offering]]
name = "on-demand"
types = ["m5.large"]
usd_per_hour = 0.1
"#;

/// Quick in everything, so that a test is short.
const QUICK: &str = r#"
[FLEET.limits]
max = 12
max_usd_per_hour = 100.0
shrink_settle = "0s"
observe_cycles = 1
listing_patience = "5s"

[FLEET.drain]
deadline = "0s"
"#;

/// Runs `test` on both servers at once, with a fleet of that name.
fn on_both(name: &str, test: impl Fn(&Cloud) + Sync) {
    thread::scope(|scope| {
        for &kind in Kind::all() {
            let test = &test;
            scope.spawn(move || test(&Cloud::new(kind, name)));
        }
    });
}

fn ids(instances: &[Real]) -> BTreeSet<String> {
    instances.iter().map(|one| one.id.clone()).collect()
}

#[track_caller]
fn until_alive(daemon: &mut Daemon, cloud: &Cloud, count: usize) {
    let what = format!("{count} instances");
    daemon.until(&what, LIMIT, || cloud.alive().len() == count);
}

#[test]
fn grows_from_zero_and_shrinks_to_zero() {
    on_both("burst", |cloud| {
        let workers = SILENT
            .replace("\"none\"", "\"tags\"")
            .replace("running", "worker");
        let limits = QUICK.replace("\"0s\"\n", "\"1h\"\n");
        let limits = limits.replace("shrink_settle = \"1h\"", "shrink_settle = \"0s\"");
        let place = Place::new(&cloud.config(&workers, &limits));
        let mut daemon = place.start();
        daemon.cycles(3);
        assert_eq!(cloud.all().len(), 0, "nothing is wanted yet");

        cloud.jobs_wait(8);
        let none = BTreeSet::new();
        daemon.until("eight workers", LIMIT, || {
            cloud.workers_report(&none);
            let alive = cloud.alive();
            alive.len() == 8 && alive.iter().all(|one| one.tag("work").is_some())
        });
        daemon.cycles(2);
        cloud.agrees_with(&place);

        // Three are at work. They are fenced, and go on until they are idle.
        let busy: BTreeSet<String> = ids(&cloud.alive()).into_iter().take(3).collect();
        cloud.workers_report(&busy);
        daemon.cycles(2);
        cloud.jobs_wait(0);
        daemon.until("only the busy are left", LIMIT, || {
            cloud.workers_report(&busy);
            cloud.alive().len() == 3
        });
        assert_eq!(ids(&cloud.alive()), busy);
        daemon.cycles(3);
        cloud.workers_report(&busy);
        assert_eq!(ids(&cloud.alive()), busy, "nobody at work is ended");
        daemon.until("the rest", LIMIT, || {
            cloud.workers_report(&none);
            cloud.alive().is_empty()
        });
        daemon.cycles(2);
        cloud.agrees_with(&place);
        // What docs/aws.md says of them.
        let calls = |name: &str| cloud.proxy.calls(name);
        assert_eq!(calls("RunInstances"), 1);
        assert_eq!((calls("CreateTags"), calls("TerminateInstances")), (8, 8));
    });
}

#[test]
fn spot_instance_is_replaced_before_it_ends() {
    on_both("spot", |cloud| {
        let spot = SILENT.replace("name = \"on-demand\"", "name = \"spot\"\nmarket = \"spot\"");
        let spot = format!("notices_queue_url = \"{}\"\n{spot}", cloud.notices);
        let place = Place::new(&cloud.config(&spot, QUICK));
        let mut daemon = place.start();
        cloud.jobs_wait(3);
        until_alive(&mut daemon, cloud, 3);
        daemon.cycles(2);
        let before = ids(&cloud.alive());
        let taken = before.first().expect("one of three");
        cloud.announce(&json!({
            "version": "0",
            "id": "1e5527d7-bb36-4607-3370-4164db56a40e",
            "detail-type": "EC2 Spot Instance Interruption Warning",
            "source": "aws.ec2",
            "account": "123456789012",
            "time": now_as_text(),
            "region": "us-east-1",
            "resources": [format!("arn:aws:ec2:us-east-1a:instance/{taken}")],
            "detail": { "instance-id": taken, "instance-action": "terminate" },
        }));
        daemon.until("a replacement", LIMIT, || {
            let alive = ids(&cloud.alive());
            alive.iter().filter(|id| *id != taken).count() == 3
        });
        cloud.take_back(std::slice::from_ref(taken));
        daemon.cycles(3);
        let after = ids(&cloud.alive());
        assert_eq!(after.len(), 3);
        assert!(!after.contains(taken));
        assert_eq!(before.difference(&after).count(), 1, "the others stay");
        cloud.agrees_with(&place);
    });
}

#[test]
fn what_one_pool_lacks_another_gives_in_the_same_cycle() {
    for left in [0, 2] {
        on_both(&format!("short-{left}"), |cloud| {
            what_a_pool_lacks(cloud, left);
        });
    }
}

fn what_a_pool_lacks(cloud: &Cloud, left: usize) {
    let two = format!(
        "{SILENT}
[[FLEET.ec2.offering]]
name = \"cheap\"
types = [\"c5.large\"]
usd_per_hour = 0.05
"
    );
    let short = Pool {
        instance_type: Some("c5.large".to_owned()),
        ..Pool::default()
    };
    let count = u64::try_from(left).expect("few");
    cloud
        .proxy
        .world(|world| world.capacity.push((short, count)));
    let place = Place::new(&cloud.config(&two, QUICK));
    let mut daemon = place.start();
    cloud.jobs_wait(6);
    until_alive(&mut daemon, cloud, 6);
    daemon.cycles(2);
    let alive = cloud.alive();
    let of_type = |name: &str| alive.iter().filter(|one| one.instance_type == name).count();
    assert_eq!((of_type("c5.large"), of_type("m5.large")), (left, 6 - left));
    cloud.agrees_with(&place);
    // Both launches are of one cycle: nobody waited an interval for the rest.
    let entries = place.entries(&cloud.fleet);
    let launches = entries.iter().map(|entry| {
        let launches = entry.done.iter().filter_map(|done| {
            let Action::Launch { offering, .. } = &done.action else {
                return None;
            };
            match &done.answer.as_ref()?.outcome {
                Outcome::Launched { instances } => Some((offering.clone(), Ok(instances.len()))),
                Outcome::Failed(error) => Some((offering.clone(), Err(error.clone()))),
                _ => None,
            }
        });
        launches.collect::<Vec<_>>()
    });
    let cycles: Vec<_> = launches.filter(|launches| !launches.is_empty()).collect();
    let first = match left {
        0 => Err(FleetError::NoCapacity),
        _ => Ok(left),
    };
    let rest = ("on-demand".to_owned(), Ok(6 - left));
    assert_eq!(cycles, [vec![("cheap".to_owned(), first), rest]]);
}

#[test]
fn of_several_types_the_one_that_is_there_is_bought_once() {
    on_both("types", |cloud| {
        let types = SILENT.replace("[\"m5.large\"]", "[\"c5.large\", \"m5.large\"]");
        let empty = Pool {
            instance_type: Some("c5.large".to_owned()),
            ..Pool::default()
        };
        cloud.proxy.world(|world| {
            world.capacity.push((empty, 0));
            world.hidden = Duration::from_secs(2);
        });
        cloud
            .proxy
            .faults(|faults| faults.order("CreateFleet", Fault::LoseAnswer, 1));
        let place = Place::new(&cloud.config(&types, QUICK));
        let mut daemon = place.start();
        cloud.jobs_wait(4);
        until_alive(&mut daemon, cloud, 4);
        daemon.cycles(6);
        let all = cloud.all();
        assert_eq!(all.len(), 4);
        assert!(all.iter().all(|one| one.instance_type == "m5.large"));
        assert_eq!(cloud.proxy.calls("RunInstances"), 0);
        cloud.agrees_with(&place);
    });
}

#[test]
fn lost_answers_launch_nothing_twice_and_leak_nothing() {
    on_both("lost", |cloud| {
        cloud.proxy.faults(|faults| {
            faults.order("RunInstances", Fault::LoseAnswer, 2);
        });
        // So late that the launch is asked for again before it is listed.
        cloud
            .proxy
            .world(|world| world.hidden = Duration::from_secs(3));
        let place = Place::new(&cloud.config(SILENT, QUICK));
        let mut daemon = place.start();
        cloud.jobs_wait(5);
        until_alive(&mut daemon, cloud, 5);
        daemon.cycles(8);
        assert_eq!(cloud.all().len(), 5);
        assert!(cloud.proxy.calls("RunInstances") >= 3, "it was asked again");
        cloud.agrees_with(&place);
    });
}

#[test]
fn lost_request_is_asked_again() {
    on_both("unsent", |cloud| {
        cloud.proxy.faults(|faults| {
            faults.order("RunInstances", Fault::LoseRequest, 2);
        });
        let place = Place::new(&cloud.config(SILENT, QUICK));
        let mut daemon = place.start();
        cloud.jobs_wait(5);
        until_alive(&mut daemon, cloud, 5);
        daemon.cycles(3);
        assert_eq!(cloud.all().len(), 5);
        cloud.agrees_with(&place);
    });
}

#[test]
fn throttled_for_long_it_holds_and_recovers() {
    on_both("throttled", |cloud| {
        let place = Place::new(&cloud.config(SILENT, QUICK));
        let mut daemon = place.start();
        cloud.jobs_wait(4);
        until_alive(&mut daemon, cloud, 4);
        daemon.cycles(2);
        let before = ids(&cloud.alive());
        // One call in five seconds gets through, of several a second: an hour
        // with a cycle a minute, in twenty seconds.
        cloud.proxy.faults(|faults| faults.throttle(1.0, 0.2));
        cloud.jobs_wait(9);
        daemon.cycles(20);
        let during = cloud.alive();
        assert!(before.is_subset(&ids(&during)), "nothing is ended blindly");
        assert!(during.len() <= 9);
        cloud.proxy.faults(Faults::calm);
        until_alive(&mut daemon, cloud, 9);
        daemon.cycles(6);
        assert_eq!(cloud.all().len(), 9, "nothing was launched twice");
        cloud.agrees_with(&place);
    });
}

fn now_as_text() -> String {
    windlass::clock::now().to_string()
}
