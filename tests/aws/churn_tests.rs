//! A thousand instances that come and go while everything goes wrong and the
//! daemon is killed: none is leaked, none is launched twice.

use std::time::Duration;

use windlass_simulator::random::Stream;

use crate::cloud::{Cloud, seed};
use crate::daemon::{Daemon, Place, SILENT};
use crate::proxy::Entry;
use crate::proxy::faults::{Fault, Faults};
use crate::server::Kind;

/// A minute is what it takes on two cores that have nothing else to do.
const LIMIT: Duration = Duration::from_mins(15);

/// What comes and goes.
struct Storm {
    /// The table `ec2` of the fleet.
    ec2: String,
    /// How its instances are bought.
    bought_by: &'static str,
    /// Instances at the height of it: a multiple of 20.
    most: usize,
}

/// Rounds of taking back, shrinking, killing and growing again.
const ROUNDS: usize = 2;

/// All that may go wrong does, about every tenth time.
fn break_things(faults: &mut Faults) {
    for call in [
        "RunInstances",
        "CreateFleet",
        "TerminateInstances",
        "CreateTags",
    ] {
        faults.chance(call, Fault::LoseAnswer, 50);
        faults.chance(call, Fault::Cut, 10);
        faults.chance(call, Fault::LoseRequest, 30);
        faults.chance(call, Fault::Throttle, 20);
        faults.chance(call, Fault::Unavailable, 20);
    }
    for call in ["DescribeInstances", "DescribeInstances+page"] {
        faults.chance(call, Fault::LoseAnswer, 15);
        faults.chance(call, Fault::Cut, 15);
        faults.chance(call, Fault::Unavailable, 15);
        faults.chance(call, Fault::Throttle, 15);
    }
    faults.chance("DescribeInstances", Fault::Stale, 50);
    faults.chance("GetQueueAttributes", Fault::Unavailable, 50);
}

#[test]
fn thousand_instances_come_and_go_and_none_is_leaked() {
    // moto takes seconds to list as many.
    if Kind::all().contains(&Kind::Ministack) {
        let storm = Storm {
            ec2: SILENT.to_owned(),
            bought_by: "RunInstances",
            most: 1_000,
        };
        storm.blow_over(&Cloud::alone(Kind::Ministack, "churn"));
    }
}

#[test]
fn instances_of_many_types_come_and_go_and_none_is_leaked() {
    if Kind::all().contains(&Kind::Moto) {
        let storm = Storm {
            ec2: SILENT.replace("[\"m5.large\"]", "[\"c5.large\", \"m5.large\"]"),
            bought_by: "CreateFleet",
            most: 100,
        };
        storm.blow_over(&Cloud::alone(Kind::Moto, "churn-types"));
    }
}

/// Grows to `most` instances, and again after each round of losing some, wanting
/// fewer, and the daemon being killed. Then all is calm.
pub(crate) fn ride(
    cloud: &Cloud,
    place: &Place,
    most: usize,
    alive: impl Fn() -> usize,
    lose: impl Fn(usize),
) -> Daemon {
    let mut moments = Stream::new(seed(), "kills");
    let mut kill_soon = |daemon: Daemon| {
        daemon.cycles(usize::try_from(moments.below(4)).expect("few"));
        daemon.kill();
        place.start()
    };
    let mut daemon = place.start();
    cloud.jobs_wait(most);
    daemon.until("half of them", LIMIT, || alive() >= most / 2);
    // What the daemon spares EC2 it would have to spare again: the next one
    // begins with a full budget.
    daemon = kill_soon(daemon);
    for round in 0..ROUNDS {
        daemon.until("most of them", LIMIT, || alive() >= most * 9 / 10);
        lose(round);
        cloud.jobs_wait(most * 4 / 5);
        daemon = kill_soon(daemon);
        daemon.until("fewer", LIMIT, || alive() <= most * 17 / 20);
        cloud.jobs_wait(most);
        daemon = kill_soon(daemon);
    }
    cloud.proxy.faults(Faults::calm);
    daemon
}

impl Storm {
    fn limits(&self) -> String {
        format!(
            r#"
[FLEET.limits]
max = {}
max_usd_per_hour = 1000.0
grow_step_max = {}
shrink_settle = "0s"
observe_cycles = 2
listing_patience = "6s"

[FLEET.drain]
deadline = "0s"
"#,
            self.most,
            self.most / 5
        )
    }

    fn blow_over(&self, cloud: &Cloud) {
        let most = self.most;
        // By EC2, in each round.
        let taken_back = most / 10;
        cloud.proxy.faults(break_things);
        cloud.proxy.world(|world| {
            // A part of what is asked for, in pages, late and slowly.
            world.launch_at_most = u64::try_from(most / 6).ok();
            world.page_size = Some(most * 2 / 5);
            world.hidden = Duration::from_millis(1500);
            world.boot = Duration::from_secs(3);
            world.ending = Duration::from_secs(2);
        });
        let place = Place::new(&cloud.config(&self.ec2, &self.limits()));
        let alive = || self.alive(cloud);
        let daemon = ride(cloud, &place, most, alive, |round| {
            let alive: Vec<String> = cloud.alive().into_iter().map(|one| one.id).collect();
            let first = round * taken_back;
            cloud.take_back(&alive[first..first + taken_back]);
        });
        cloud.proxy.world(|world| world.launch_at_most = None);
        daemon.until("all of them", LIMIT, || self.alive(cloud) == most);
        // What was lost is looked for until patience ends.
        daemon.cycles(10);
        assert_eq!(self.alive(cloud), most);
        cloud.agrees_with(&place);
        self.met_faults(cloud);
        let ever = cloud.proxy.world(|world| world.launched.len());
        assert!(ever >= most + ROUNDS * taken_back, "{ever}");
    }

    /// The storm was one.
    fn met_faults(&self, cloud: &Cloud) {
        let journal = cloud.proxy.journal();
        let met = |calls: &[&str]| {
            let of_these = |entry: &&Entry| calls.contains(&entry.name.as_str());
            let faulty = journal.iter().filter(of_these);
            faulty.filter(|entry| entry.fault.is_some()).count()
        };
        for calls in [
            &[self.bought_by, "TerminateInstances", "CreateTags"][..],
            &["DescribeInstances", "DescribeInstances+page"],
        ] {
            assert!(met(calls) > 0, "{calls:?} met no fault");
        }
        assert!(journal.iter().any(|entry| entry.name == self.bought_by));
    }

    /// How many there are; never more than allowed.
    #[track_caller]
    fn alive(&self, cloud: &Cloud) -> usize {
        let alive = cloud.alive().len();
        assert!(alive <= self.most, "{alive} instances");
        alive
    }
}
