//! `windlass run` with an Auto Scaling group as its fleet.
//!
//! On `moto` only: the groups of `ministack` have instances that its EC2 does
//! not know, and none of them can be ended by name.

use std::collections::BTreeSet;
use std::time::Duration;

use windlass_policies::model::{FleetError, Outcome};

use crate::churn_tests::ride;
use crate::cloud::{Cloud, RealGroup};
use crate::daemon::{Daemon, Place, QUICK};
use crate::fleet_tests::{LIMIT, event, hears_at_once, throttled_hour};
use crate::proxy::faults::{Fault, Faults};
use crate::server::Kind;

/// Workers nobody hears of.
const SILENT: &str = "workers = \"none\"";

/// Runs `test` with the empty group `name`, which may grow to `max`.
fn with_group(name: &str, max: usize, test: impl Fn(&Cloud)) {
    if Kind::all().contains(&Kind::Moto) {
        let cloud = Cloud::new(Kind::Moto, name);
        cloud.make_group(max);
        test(&cloud);
    }
}

#[track_caller]
fn until_there(daemon: &Daemon, cloud: &Cloud, count: usize) {
    let what = format!("{count} instances");
    daemon.until(&what, LIMIT, || cloud.group().members.len() == count);
}

/// The sizes that the group was told to have.
fn told(cloud: &Cloud) -> Vec<u64> {
    let journal = cloud.proxy.journal();
    journal.iter().filter_map(|entry| entry.desired).collect()
}

#[test]
fn group_grows_from_zero_and_shrinks_by_its_idle_instances() {
    with_group("group-burst", 12, |cloud| {
        let limits = QUICK.replace("deadline = \"0s\"", "deadline = \"1h\"");
        let place = Place::new(&cloud.config_of_group("workers = \"tags\"", &limits));
        let daemon = place.start();
        daemon.cycles(3);
        assert_eq!(cloud.group().desired, 0, "nothing is wanted yet");
        cloud.jobs_wait(8);
        until_there(&daemon, cloud, 8);
        let busy: BTreeSet<String> = cloud.group().members.into_iter().take(3).collect();
        cloud.workers_of_group_report(&busy);
        daemon.cycles(2);
        cloud.jobs_wait(0);
        daemon.until("only the busy are left", LIMIT, || {
            cloud.workers_of_group_report(&busy);
            cloud.group().members.len() == 3
        });
        assert_eq!(cloud.group().members, busy);
        daemon.cycles(3);
        assert_eq!(cloud.group().members, busy, "nobody at work is ended");
        daemon.until("the rest", LIMIT, || {
            cloud.workers_of_group_report(&BTreeSet::new());
            cloud.group().members.is_empty()
        });
        daemon.cycles(2);
        cloud.group_agrees_with(&place);
        // It is told to grow once, and shrinks by named instances only.
        assert_eq!(told(cloud), [8]);
        let ended = cloud.proxy.calls("TerminateInstanceInAutoScalingGroup");
        assert_eq!(ended, 8);
        assert_eq!(cloud.proxy.calls("TerminateInstances"), 0);
    });
}

#[test]
fn group_that_hears_of_an_interruption_has_its_instance_replaced() {
    for (name, kind) in [
        ("group-spot", "EC2 Spot Instance Interruption Warning"),
        ("group-rebalance", "EC2 Instance Rebalance Recommendation"),
    ] {
        with_group(name, 12, |cloud| {
            let asg = format!("notices_queue_url = \"{}\"\n{SILENT}", cloud.notices);
            let config = cloud.config_of_group(&asg, QUICK);
            let place = Place::new(&config);
            let daemon = place.start();
            cloud.jobs_wait(3);
            until_there(&daemon, cloud, 3);
            daemon.cycles(2);
            let before = cloud.group();
            let taken = before.members.first().expect("one of three");
            cloud.announce(&event(kind, taken));
            daemon.until("a replacement, and the end of the first", LIMIT, || {
                let group = cloud.group();
                group.members.len() == 3 && !group.members.contains(taken)
            });
            daemon.cycles(3);
            let after = cloud.group();
            assert_eq!(before.members.difference(&after.members).count(), 1);
            assert_eq!(after.desired, 3);
            // Another was there before this one went.
            assert_eq!(told(cloud), [3, 4]);
            cloud.group_agrees_with(&place);
            drop(daemon);
            let taken = after.members.first().expect("one of three");
            hears_at_once(cloud, &place, &config, taken);
            assert_eq!(told(cloud), [3, 4, 4]);
        });
    }
}

#[test]
fn group_grows_once_for_a_launch_whose_answers_are_lost() {
    with_group("group-lost", 12, |cloud| {
        cloud.proxy.faults(|faults| {
            faults.order("CreateOrUpdateTags", Fault::LoseAnswer, 1);
            faults.order("SetDesiredCapacity", Fault::LoseAnswer, 2);
            faults.order("SetDesiredCapacity", Fault::LoseRequest, 1);
        });
        // So late that the launch is asked for again before it is listed.
        cloud.proxy.groups(|groups| {
            groups.hidden = Duration::from_secs(3);
            groups.boot = Duration::from_secs(2);
        });
        let place = Place::new(&cloud.config_of_group(SILENT, QUICK));
        let daemon = place.start();
        cloud.jobs_wait(5);
        until_there(&daemon, cloud, 5);
        daemon.cycles(10);
        let group = cloud.group();
        assert_eq!((group.desired, group.instances.len()), (5, 5));
        assert!(
            told(cloud).iter().all(|size| *size == 5),
            "{:?}",
            told(cloud)
        );
        cloud.group_agrees_with(&place);
    });
}

#[test]
fn group_is_left_alone_while_it_is_refreshed() {
    with_group("group-refresh", 12, |cloud| {
        let place = Place::new(&cloud.config_of_group(SILENT, QUICK));
        let daemon = place.start();
        cloud.jobs_wait(3);
        until_there(&daemon, cloud, 3);
        daemon.cycles(1);
        cloud.proxy.groups(|groups| groups.refreshing = true);
        for jobs in [6, 0] {
            cloud.jobs_wait(jobs);
            daemon.cycles(4);
            assert_eq!(cloud.group().members.len(), 3);
        }
        let entries = place.entries(&cloud.fleet);
        let held = entries.iter().flat_map(|entry| &entry.done).any(|done| {
            let answer = done.answer.as_ref();
            let outcome = answer.map(|answer| &answer.outcome);
            matches!(outcome, Some(Outcome::Failed(FleetError::Held(_))))
        });
        assert!(held, "the store tells why");
        cloud.proxy.groups(|groups| groups.refreshing = false);
        until_there(&daemon, cloud, 0);
        daemon.cycles(2);
        cloud.group_agrees_with(&place);
    });
}

#[test]
fn group_that_cannot_be_asked_for_an_hour_is_held_and_recovers() {
    with_group("group-throttled", 12, |cloud| {
        let place = Place::new(&cloud.config_of_group(SILENT, QUICK));
        let daemon = place.start();
        let alive = || cloud.group().alive();
        let listings = ["DescribeAutoScalingGroups", "DescribeInstances"];
        throttled_hour(cloud, &place, &daemon, &listings, alive);
        assert_eq!(
            cloud.group().instances.len(),
            9,
            "nothing was launched twice"
        );
        cloud.group_agrees_with(&place);
    });
}

/// Instances of the group at the height of its storm.
const MOST: usize = 60;

#[test]
fn group_comes_through_a_storm_and_leaks_none() {
    with_group("group-churn", MOST, |cloud| {
        cloud.proxy.faults(break_things);
        cloud.proxy.groups(|groups| {
            groups.hidden = Duration::from_millis(1500);
            groups.boot = Duration::from_secs(2);
        });
        let limits = QUICK
            .replace("max = 12", "max = 60\ngrow_step_max = 25")
            .replace("observe_cycles = 1", "observe_cycles = 2")
            .replace("5s", "8s");
        let place = Place::new(&cloud.config_of_group(SILENT, &limits));
        let daemon = ride(
            cloud,
            &place,
            MOST,
            || bounded(cloud),
            |_| {
                let some = cloud.group().members.into_iter().take(6);
                cloud.group_replaces(&some.collect::<Vec<_>>());
            },
        );
        daemon.until("all of them", LIMIT, || bounded(cloud) == MOST);
        daemon.cycles(12);
        assert_eq!(bounded(cloud), MOST);
        cloud.group_agrees_with(&place);
    });
}

/// All that may go wrong does, about every tenth time.
fn break_things(faults: &mut Faults) {
    for call in [
        "SetDesiredCapacity",
        "TerminateInstanceInAutoScalingGroup",
        "CreateOrUpdateTags",
        "DeleteTags",
        "CreateTags",
    ] {
        faults.chance(call, Fault::LoseAnswer, 50);
        faults.chance(call, Fault::LoseRequest, 30);
        faults.chance(call, Fault::Throttle, 20);
    }
    for call in [
        "DescribeAutoScalingGroups",
        "DescribeInstanceRefreshes",
        "DescribeInstances",
    ] {
        faults.chance(call, Fault::Cut, 20);
        faults.chance(call, Fault::Unavailable, 20);
        faults.chance(call, Fault::Throttle, 20);
    }
    faults.chance("DescribeAutoScalingGroups", Fault::Stale, 40);
    faults.chance("DescribeInstances", Fault::Stale, 40);
}

/// How many there are; never more than allowed, and none that the group does not
/// have.
#[track_caller]
fn bounded(cloud: &Cloud) -> usize {
    let RealGroup {
        desired, members, ..
    } = cloud.group();
    assert!(desired <= MOST && members.len() <= MOST, "{desired}");
    members.len()
}
