//! A thousand instances that come and go while everything goes wrong and the
//! daemon is killed: none is leaked, none is launched twice.

use std::time::Duration;

use windlass_simulator::random::Stream;

use crate::cloud::Cloud;
use crate::daemon::{Daemon, Place};
use crate::proxy::Entry;
use crate::proxy::faults::{Fault, Faults};
use crate::server::Kind;

/// A minute is what it takes on two cores that have nothing else to do.
const LIMIT: Duration = Duration::from_mins(4);

/// Instances at the height of it.
const MOST: usize = 1_000;

/// How many EC2 takes back in each round.
const TAKEN_BACK: usize = 100;

/// Rounds of taking back, shrinking, killing and growing again.
const ROUNDS: usize = 2;

const FLEET: &str = r#"
workers = "none"
ready = "running"

[[FLEET.ec2.offering]]
name = "on-demand"
types = ["m5.large"]
usd_per_hour = 0.1
"#;

const LIMITS: &str = r#"
[FLEET.limits]
max = 1000
max_usd_per_hour = 1000.0
grow_step_max = 200
shrink_settle = "0s"
observe_cycles = 2
listing_patience = "6s"

[FLEET.drain]
deadline = "0s"
"#;

/// All that may go wrong does, about every tenth time.
fn break_things(faults: &mut Faults) {
    for call in ["RunInstances", "TerminateInstances", "CreateTags"] {
        faults.chance(call, Fault::LoseAnswer, 60);
        faults.chance(call, Fault::LoseRequest, 30);
        faults.chance(call, Fault::Throttle, 20);
        faults.chance(call, Fault::Unavailable, 20);
    }
    for call in ["DescribeInstances", "DescribeInstances+page"] {
        faults.chance(call, Fault::LoseAnswer, 20);
        faults.chance(call, Fault::Unavailable, 20);
        faults.chance(call, Fault::Throttle, 20);
    }
    faults.chance("DescribeInstances", Fault::Stale, 50);
    faults.chance("GetQueueAttributes", Fault::Unavailable, 50);
}

#[test]
fn thousand_instances_come_and_go_and_none_is_leaked() {
    // moto takes seconds to list as many.
    if Kind::all().contains(&Kind::Ministack) {
        churn(&Cloud::alone(Kind::Ministack, "churn"));
    }
}

fn churn(cloud: &Cloud) {
    cloud.proxy.faults(break_things);
    cloud.proxy.world(|world| {
        // A part of what is asked for, in pages, late and slowly.
        world.launch_at_most = Some(170);
        world.page_size = Some(400);
        world.hidden = Duration::from_millis(1500);
        world.boot = Duration::from_secs(3);
        world.ending = Duration::from_secs(2);
    });
    let place = Place::new(&cloud.config(FLEET, LIMITS));
    let mut moments = Stream::new(1, "kills");
    let mut kill_soon = |mut daemon: Daemon| {
        daemon.cycles(usize::try_from(moments.below(4)).expect("few"));
        daemon.kill();
        place.start()
    };
    let mut daemon = place.start();
    cloud.jobs_wait(MOST);
    daemon.until("half of them", LIMIT, || alive(cloud) >= MOST / 2);
    // What the daemon spares EC2 it would have to spare again: the next one
    // begins with a full budget.
    daemon = kill_soon(daemon);
    for round in 0..ROUNDS {
        daemon.until("all of them", LIMIT, || alive(cloud) >= MOST * 19 / 20);
        let taken: Vec<String> = cloud.alive().into_iter().map(|one| one.id).collect();
        let first = round * TAKEN_BACK;
        cloud.take_back(&taken[first..first + TAKEN_BACK]);
        cloud.jobs_wait(MOST - 2 * TAKEN_BACK);
        daemon = kill_soon(daemon);
        daemon.until("fewer", LIMIT, || alive(cloud) <= MOST - 3 * TAKEN_BACK / 2);
        cloud.jobs_wait(MOST);
        daemon = kill_soon(daemon);
    }
    cloud.proxy.faults(Faults::calm);
    cloud.proxy.world(|world| world.launch_at_most = None);
    daemon.until("all of them", LIMIT, || alive(cloud) == MOST);
    // What was lost is looked for until patience ends.
    daemon.cycles(10);
    assert_eq!(alive(cloud), MOST);
    cloud.agrees_with(&place);
    let journal = cloud.proxy.journal();
    for (call, fault) in [
        ("RunInstances", Fault::LoseAnswer),
        ("TerminateInstances", Fault::LoseAnswer),
        ("CreateTags", Fault::LoseRequest),
        ("DescribeInstances", Fault::Stale),
    ] {
        let met = |entry: &Entry| entry.name == call && entry.fault == Some(fault);
        assert!(journal.iter().any(met), "{call} met no {fault:?}");
    }
    let ever = cloud.proxy.world(|world| world.launched.len());
    assert!(ever >= MOST + ROUNDS * TAKEN_BACK, "{ever}");
}

/// How many there are; never more than allowed.
#[track_caller]
fn alive(cloud: &Cloud) -> usize {
    let alive = cloud.alive().len();
    assert!(alive <= MOST, "{alive} instances");
    alive
}
