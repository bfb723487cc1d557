//! `windlass run` with a fleet on EC2: it grows, shrinks, buys elsewhere, replaces
//! and survives, and what its store says is what exists.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use windlass_policies::model::{Action, FleetError, Outcome, Phase};
use windlass_policies::signal::Reading;

use crate::cloud::{Cloud, Real};
use crate::daemon::{Daemon, Place, QUICK, SILENT};
use crate::proxy::faults::{Fault, Faults};
use crate::proxy::world::Pool;
use crate::server::Kind;

/// Far more than it takes: the machine may be busy.
pub(crate) const LIMIT: Duration = Duration::from_mins(10);

/// Runs `test` on both servers at once, with a fleet of that name.
pub(crate) fn on_both(name: &str, test: impl Fn(&Cloud) + Sync) {
    thread::scope(|scope| {
        for &kind in Kind::all() {
            let test = &test;
            scope.spawn(move || test(&Cloud::new(kind, name)));
        }
    });
}

pub(crate) fn ids(instances: &[Real]) -> BTreeSet<String> {
    instances.iter().map(|one| one.id.clone()).collect()
}

#[track_caller]
fn until_alive(daemon: &Daemon, cloud: &Cloud, count: usize) {
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
        let daemon = place.start();
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
        let config = cloud.config(&spot, QUICK);
        let place = Place::new(&config);
        let daemon = place.start();
        cloud.jobs_wait(3);
        until_alive(&daemon, cloud, 3);
        daemon.cycles(2);
        let before = ids(&cloud.alive());
        let taken = before.first().expect("one of three");
        cloud.announce(&event("EC2 Spot Instance Interruption Warning", taken));
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
        drop(daemon);
        let launches = cloud.proxy.calls("RunInstances");
        hears_at_once(cloud, &place, &config, after.first().expect("one of three"));
        assert_eq!(cloud.proxy.calls("RunInstances"), launches + 1);
    });
}

/// Starts windlass again with `config`, but ten minutes between its cycles, and has
/// EC2 announce that it takes an instance back. What that comes to is done at once.
#[track_caller]
pub(crate) fn hears_at_once(cloud: &Cloud, place: &Place, config: &str, taken: &str) {
    let slow = config
        .replace("interval = \"1s\"", "interval = \"10m\"")
        .replace("listing_patience = \"5s\"", "listing_patience = \"10m\"");
    fs::write(place.path("windlass.toml"), slow).expect("written");
    let daemon = place.start();
    daemon.decisions(1, LIMIT);
    cloud.announce(&event("EC2 Spot Instance Interruption Warning", taken));
    // Long before the next cycle is due; the server may have given the message to the
    // windlass before, which has gone, and gives it again after half a minute.
    daemon.decisions(1, Duration::from_mins(3));
}

#[test]
fn what_one_pool_lacks_another_gives_in_the_same_cycle() {
    // One type is bought by `RunInstances`, of several by `CreateFleet`.
    for types in [&["c5.large"][..], &["c5.large", "c5.xlarge"]] {
        for left in [0, 2] {
            let name = format!("short-{}-{left}", types.len());
            on_both(&name, |cloud| what_a_pool_lacks(cloud, types, left));
        }
    }
}

fn of_type(name: &str) -> Pool {
    Pool {
        instance_type: Some(name.to_owned()),
        ..Pool::default()
    }
}

fn what_a_pool_lacks(cloud: &Cloud, types: &[&str], left: usize) {
    let two = format!(
        "{SILENT}
[[FLEET.ec2.offering]]
name = \"cheap\"
types = {types:?}
usd_per_hour = 0.05
"
    );
    cloud.proxy.world(|world| {
        let count = u64::try_from(left).expect("few");
        world.capacity.push((of_type("c5.large"), count));
        world.capacity.push((of_type("c5.xlarge"), 0));
    });
    let place = Place::new(&cloud.config(&two, QUICK));
    let daemon = place.start();
    cloud.jobs_wait(6);
    until_alive(&daemon, cloud, 6);
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
        // The answer names what was launched, and what was not and why.
        cloud.proxy.world(|world| {
            world.capacity.push((of_type("c5.large"), 0));
            world.hidden = Duration::from_secs(2);
        });
        cloud.proxy.faults(|faults| {
            faults.order("CreateFleet", Fault::LoseAnswer, 1);
            faults.order("CreateFleet", Fault::Cut, 1);
        });
        let place = Place::new(&cloud.config(&types, QUICK));
        let daemon = place.start();
        cloud.jobs_wait(4);
        until_alive(&daemon, cloud, 4);
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
        let daemon = place.start();
        cloud.jobs_wait(5);
        until_alive(&daemon, cloud, 5);
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
        let daemon = place.start();
        cloud.jobs_wait(5);
        until_alive(&daemon, cloud, 5);
        daemon.cycles(3);
        assert_eq!(cloud.all().len(), 5);
        cloud.agrees_with(&place);
    });
}

#[test]
fn errors_within_an_answer_are_told_and_launch_nothing() {
    on_both("refused", |cloud| {
        let types = SILENT.replace("[\"m5.large\"]", "[\"c5.large\", \"m5.large\"]");
        cloud.proxy.world(|world| {
            world.capacity.push((Pool::default(), 0));
            let code = "UnauthorizedOperation";
            world.fleet_errors.push((of_type("m5.large"), code));
        });
        let place = Place::new(&cloud.config(&types, QUICK));
        let daemon = place.start();
        cloud.jobs_wait(3);
        daemon.cycles(5);
        assert_eq!(cloud.all().len(), 0);
        let outcomes: Vec<Outcome> = outcomes(&place, cloud, 0);
        let refused =
            |outcome: &Outcome| matches!(outcome, Outcome::Failed(FleetError::NotPermitted(_)));
        assert!(outcomes.iter().any(refused), "{outcomes:?}");
        // Somebody has granted it.
        cloud.proxy.world(|world| world.capacity.clear());
        until_alive(&daemon, cloud, 3);
        daemon.cycles(3);
        assert_eq!(cloud.all().len(), 3);
        cloud.agrees_with(&place);
    });
}

/// What came of all actions from the decision `from` on.
fn outcomes(place: &Place, cloud: &Cloud, from: usize) -> Vec<Outcome> {
    let entries = place.entries(&cloud.fleet);
    let done = entries.iter().skip(from).flat_map(|entry| &entry.done);
    done.filter_map(|done| Some(done.answer.as_ref()?.outcome.clone()))
        .collect()
}

#[test]
fn half_answers_are_none() {
    on_both("half", |cloud| {
        let place = Place::new(&cloud.config(SILENT, QUICK));
        let daemon = place.start();
        cloud
            .proxy
            .faults(|faults| faults.order("RunInstances", Fault::Cut, 2));
        cloud.proxy.world(|world| world.page_size = Some(2));
        cloud.jobs_wait(5);
        until_alive(&daemon, cloud, 5);
        daemon.cycles(2);
        // Of pages that break off nothing is believed, and nothing is bought for
        // what they do not show.
        let from = place.entries(&cloud.fleet).len();
        cloud.proxy.faults(|faults| {
            faults.chance("DescribeInstances", Fault::Cut, 400);
            faults.chance("DescribeInstances+page", Fault::Cut, 400);
        });
        daemon.cycles(12);
        assert_eq!(outcomes(&place, cloud, from), []);
        cloud.proxy.faults(Faults::calm);
        daemon.cycles(3);
        assert_eq!(cloud.all().len(), 5);
        cloud.agrees_with(&place);
    });
}

#[test]
fn instance_is_ready_once_its_status_checks_pass() {
    on_both("checks", |cloud| {
        let (boot, checks) = (Duration::from_secs(1), Duration::from_secs(4));
        cloud
            .proxy
            .world(|world| (world.boot, world.checks) = (boot, checks));
        let checked = SILENT.replace("running", "status_ok");
        let limits = QUICK.replace("max = 12", "max = 12\nboot_timeout = \"20s\"");
        let place = Place::new(&cloud.config(&checked, &limits));
        let daemon = place.start();
        cloud.jobs_wait(2);
        until_alive(&daemon, cloud, 2);
        let first = ids(&cloud.alive());
        let broken = first.first().expect("one of two").clone();
        cloud
            .proxy
            .world(|world| world.impaired.insert(broken.clone()));
        // It fails the checks of its system for good, and is replaced.
        let ready = || {
            let entries = place.entries(&cloud.fleet);
            let listing = entries
                .last()
                .and_then(|last| last.decided.seen.fleet.clone().ok());
            let instances = listing.map_or_else(Vec::new, |listing| listing.instances);
            let ready = instances
                .into_iter()
                .filter(|one| one.phase == Phase::Ready);
            ready
                .map(|one| one.id.as_str().to_owned())
                .collect::<BTreeSet<_>>()
        };
        daemon.until("two that are sound", LIMIT, || ready().len() == 2);
        daemon.until("the end of the broken one", LIMIT, || {
            !ids(&cloud.alive()).contains(&broken)
        });
        let entries = place.entries(&cloud.fleet);
        let launched_at = entries.iter().find(|entry| !entry.done.is_empty());
        let launched_at = launched_at.expect("a launch").decided.seen.now;
        let mut sound = None;
        for entry in &entries {
            let seen = &entry.decided.seen;
            for one in &seen.fleet.as_ref().expect("a listing").instances {
                let is_ready = one.phase == Phase::Ready;
                assert!(!is_ready || one.id.as_str() != broken, "{broken} is broken");
                if is_ready && first.contains(one.id.as_str()) {
                    sound = sound.or(Some(seen.now));
                }
            }
        }
        let took = sound.expect("the other one").since(launched_at);
        assert!(took >= boot + checks, "ready after {took:?}");
        daemon.cycles(2);
        cloud.agrees_with(&place);
    });
}

#[test]
fn throttled_for_an_hour_it_holds_and_recovers() {
    on_both("throttled", |cloud| {
        let place = Place::new(&cloud.config(SILENT, QUICK));
        let daemon = place.start();
        let alive = || ids(&cloud.alive());
        throttled_hour(cloud, &place, &daemon, &["DescribeInstances"], alive);
        assert_eq!(cloud.all().len(), 9, "nothing was launched twice");
        cloud.agrees_with(&place);
    });
}

/// An hour of cycles, sixty, with a fleet of 4 of which 9 come in the end: what
/// cannot be asked is unknown, not empty.
pub(crate) fn throttled_hour(
    cloud: &Cloud,
    place: &Place,
    daemon: &Daemon,
    listings: &[&'static str],
    alive: impl Fn() -> BTreeSet<String>,
) {
    cloud.jobs_wait(4);
    daemon.until("four instances", LIMIT, || alive().len() == 4);
    daemon.cycles(2);
    let before = alive();
    let four = 4.0_f64.to_bits();
    let holds = |what: &str, blind: bool| {
        // What was asked before may still be on its way.
        daemon.cycles(1);
        let (from, began) = (place.entries(&cloud.fleet).len(), windlass::clock::now());
        daemon.cycles(20);
        assert_eq!(alive(), before, "{what}");
        for entry in place.entries(&cloud.fleet).iter().skip(from) {
            let seen = &entry.decided.seen;
            let reading = seen.readings.get("backlog");
            let is_blind = seen.fleet.is_err();
            let is_deaf = match reading {
                Reading::Absent(_) => true,
                // What it was before, said to be as old as it is.
                Reading::Present(sample) => sample.at < began && sample.value.to_bits() == four,
            };
            assert!(if blind { is_blind } else { is_deaf }, "{what}: {seen:?}");
            assert!(entry.done.is_empty(), "{what}: {:?}", entry.done);
        }
    };
    // The queue becomes empty, and nobody can know.
    cloud
        .proxy
        .faults(|faults| faults.chance("GetQueueAttributes", Fault::Throttle, 1000));
    cloud.jobs_wait(0);
    holds("without its queue", false);
    // It is known to be empty, but not what there is to end.
    cloud.proxy.faults(|faults| {
        faults.calm();
        for listing in listings {
            faults.chance(listing, Fault::Throttle, 1000);
        }
    });
    holds("without a listing", true);
    // One call in five seconds gets through, of several a second.
    cloud.jobs_wait(9);
    cloud.proxy.faults(|faults| {
        faults.calm();
        faults.throttle(1.0, 0.2);
    });
    daemon.cycles(20);
    let during = alive();
    assert!(before.is_subset(&during), "nothing is ended blindly");
    assert!(during.len() <= 9);
    cloud.proxy.faults(Faults::calm);
    daemon.until("nine instances", LIMIT, || alive().len() == 9);
    daemon.cycles(6);
    assert!(before.is_subset(&alive()), "and nothing is ended at all");
}

/// What `EventBridge` puts into the queue when EC2 says `kind` of an instance.
pub(crate) fn event(kind: &str, instance: &str) -> Value {
    json!({
        "version": "0",
        "id": "1e5527d7-bb36-4607-3370-4164db56a40e",
        "detail-type": kind,
        "source": "aws.ec2",
        "account": "123456789012",
        "time": windlass::clock::now().to_string(),
        "region": "us-east-1",
        "resources": [format!("arn:aws:ec2:us-east-1a:instance/{instance}")],
        "detail": { "instance-id": instance, "instance-action": "terminate" },
    })
}
