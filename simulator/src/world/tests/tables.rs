//! What the world promises, row by row.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use windlass_policies::model::{
    Action, Billing, Epoch, FleetError, InstanceId, Market, Offering, Outcome, Phase, Work,
};
use windlass_policies::ports::{Clock, FleetProvider, MetricSource};
use windlass_policies::signal::{Absence, Reading, SignalKind, SignalSpec, standard};
use windlass_policies::units::{MicroUsd, MicroUsdPerHour, Timestamp};

use super::{FLEET, signals, token};
use crate::queue::{JobColumns, JobsError, Keep, QueueSpec, SLOTS_MAX, ServerSpec};
use crate::world::cloud::CloudSpec;
use crate::world::{SimulatedPorts, World, WorldError, WorldSpec};

const BEGIN: Timestamp = Timestamp::from_secs(1_000_000);
const SECOND: u64 = 1_000_000;

fn at(secs: u64) -> Timestamp {
    BEGIN + Duration::from_secs(secs)
}

fn offering(name: &str, slots: u32) -> Offering {
    Offering {
        name: name.to_owned(),
        price: MicroUsdPerHour::new(3_600),
        billing: Billing {
            increment: Duration::from_secs(1),
            minimum: Duration::from_mins(1),
        },
        slots,
        market: Market::OnDemand,
        prepaid: 0,
    }
}

/// Arrival and service in seconds.
fn spec(jobs: &[(u64, u64)]) -> WorldSpec {
    let (arrivals, services) = jobs
        .iter()
        .map(|(arrival, service)| (arrival * SECOND, service * SECOND))
        .unzip();
    WorldSpec {
        fleet: FLEET.to_owned(),
        begins_at: BEGIN,
        offerings: vec![offering("small", 1)],
        initial: 0,
        listing_lag: Duration::ZERO,
        metric_period: Duration::ZERO,
        metric_lag: Duration::ZERO,
        queue: QueueSpec {
            jobs: Arc::new(JobColumns::new(arrivals, services).expect("sorted")),
            repeat_every: None,
            keep: Keep::EveryWait,
            responses: true,
        },
        server: ServerSpec::default(),
        cloud: CloudSpec::default(),
    }
}

fn world(spec: WorldSpec, boot_secs: u64) -> World {
    World::new(spec, Box::new(move || Some(boot_secs * SECOND))).expect("a valid world")
}

fn id(number: u32) -> InstanceId {
    InstanceId::new(&format!("sim-{number:06}"))
}

#[test]
fn a_world_that_is_fed_remembers_ended_instances_for_an_hour() {
    let mut world = world(spec(&[]), 10);
    world.feed(Arc::default()).expect("no job is out of order");
    let launch =
        |world: &mut World, serial| world.launch(&token(serial), "small", 2).expect("room");
    let first = launch(&mut world, 1);
    world.terminate(&first[0]).expect("it is there");
    let minutes = |world: &mut World, minutes| {
        let later = world.now() + Duration::from_mins(minutes);
        world.advance(later);
    };
    minutes(&mut world, 59);
    assert_eq!(
        world.terminate(&first[0]),
        Ok(0),
        "asking again is harmless"
    );
    assert_eq!(launch(&mut world, 1), first);
    minutes(&mut world, 2);
    assert_eq!(world.terminate(&first[0]), Err(FleetError::NotFound));
    assert_eq!(launch(&mut world, 1), first, "one of them is still there");
    world.terminate(&first[1]).expect("it is there");
    minutes(&mut world, 61);
    let second = launch(&mut world, 1);
    assert_eq!(
        second,
        [id(3), id(4)],
        "the token is forgotten, names are not used again"
    );
    assert_eq!(
        (world.summary().launches, world.summary().terminations),
        (4, 2)
    );
}

#[test]
fn listings_show_the_fleet_as_it_was() {
    let lag = Duration::from_secs(5);
    let mut world = world(
        WorldSpec {
            initial: 1,
            listing_lag: lag,
            ..spec(&[(0, 33)])
        },
        10,
    );
    let shown = |world: &World| {
        let listing = world.list(FLEET).expect("its own fleet");
        let row = |instance: windlass_policies::model::Instance| {
            let phase = match instance.phase {
                Phase::Booting => "booting",
                Phase::Ready => "ready",
                Phase::Ending => "ending",
            };
            let work = match instance.work {
                Work::Idle => "idle",
                Work::Busy => "busy",
                Work::Unknown => "unknown",
            };
            let fence = if instance.fenced { " fenced" } else { "" };
            format!("{} {phase}{fence} {work}", &instance.id.as_str()[9..])
        };
        listing
            .instances
            .into_iter()
            .map(row)
            .collect::<Vec<_>>()
            .join(", ")
    };
    #[rustfmt::skip]
    let rows = [
        // secs  what is done before looking      listing
        (     0, "",                              "1 ready idle"),
        (    20, "launch",                        "1 ready busy"),
        (    24, "",                              "1 ready busy"),
        (    25, "",                              "1 ready busy, 2 booting idle"),
        (    30, "",                              "1 ready busy, 2 booting idle"),
        (    31, "fence 2",                       "1 ready busy, 2 booting fenced idle"),
        (    33, "",                              "1 ready busy, 2 booting fenced idle"),
        (    34, "unfence 2",                     "1 ready idle, 2 booting idle"),
        (    35, "",                              "1 ready idle, 2 ready idle"),
        (    40, "end 1",                         "1 ready unknown, 2 ready idle"),
        (    44, "",                              "1 ready unknown, 2 ready idle"),
        (    45, "",                              "2 ready idle"),
        (    50, "launch",                        "2 ready idle"),
        (    51, "end 3",                         "2 ready idle"),
        (    55, "",                              "2 ready idle, 3 booting unknown"),
        (    56, "",                              "2 ready idle"),
    ];
    for (secs, step, listing) in rows {
        world.advance(at(secs));
        let done = match step.split_once(' ') {
            None if step.is_empty() => Ok(()),
            None => world
                .launch(&token(u32::try_from(secs).expect("small")), "small", 1)
                .map(drop),
            Some(("fence", number)) => world.fence(&id(number.parse().expect("number"))).map(drop),
            Some(("unfence", number)) => world.unfence(&id(number.parse().expect("number"))),
            Some((_, number)) => world
                .terminate(&id(number.parse().expect("number")))
                .map(drop),
        };
        assert_eq!(done, Ok(()), "at {secs}");
        assert_eq!(shown(&world), listing, "at {secs} after `{step}`");
    }
}

#[test]
fn metrics_are_sampled_on_a_grid_and_seen_late() {
    // One job a second from 0.5 s on would be too easy to mistake: they come
    // at 1, 2, 61, 121 and 122 s, to one slot, and take 30 s each.
    let jobs = [(1, 30), (2, 30), (61, 30), (121, 30), (122, 30)];
    let spec = WorldSpec {
        initial: 1,
        metric_period: Duration::from_mins(1),
        metric_lag: Duration::from_secs(90),
        ..spec(&jobs)
    };
    let mut world = world(spec, 10);
    #[rustfmt::skip]
    let rows = [
        // secs  sample of  arrivals  completions  busy  backlog  oldest  utilization  latency
        (    89, None,      0,        0,           0,    0,       0.0,    None,        None),
        (    90, Some(0),   0,        0,           0,    0,       0.0,    None,        None),
        (   149, Some(0),   0,        0,           0,    0,       0.0,    None,        None),
        (   150, Some(60),  2,        1,           1,    0,       0.0,    Some(59.0 / 60.0), Some(30.0)),
        (   210, Some(120), 3,        3,           0,    0,       0.0,    Some(31.0 / 60.0), Some(59.0)),
        (   269, Some(120), 3,        3,           0,    0,       0.0,    Some(31.0 / 60.0), Some(59.0)),
        (   270, Some(180), 5,        4,           1,    0,       0.0,    Some(59.0 / 60.0), Some(30.0)),
    ];
    for (secs, sampled, arrivals, completions, busy, backlog, oldest, utilization, latency) in rows
    {
        world.advance(at(secs));
        let readings = world.read(&signals(), at(secs));
        let expected = |value: Option<f64>| match (sampled, value) {
            (Some(sampled), Some(value)) => Reading::complete(value, at(sampled)),
            _ => Reading::Absent(Absence::NoData),
        };
        for (name, value) in [
            (standard::ARRIVALS, Some(f64::from(arrivals))),
            (standard::COMPLETIONS, Some(f64::from(completions))),
            (standard::BUSY, Some(f64::from(busy))),
            (standard::IN_FLIGHT, Some(f64::from(busy))),
            (standard::BACKLOG, Some(f64::from(backlog))),
            (standard::OLDEST_AGE, Some(oldest)),
            (standard::UTILIZATION, utilization),
            (standard::LATENCY_P95, latency),
        ] {
            assert_eq!(readings.get(name), expected(value), "{name} at {secs}");
        }
    }
}

#[test]
fn period_zero_samples_at_every_read() {
    let mut world = world(
        WorldSpec {
            initial: 1,
            ..spec(&[(0, 10), (1, 10), (2, 10)])
        },
        10,
    );
    for (secs, backlog, oldest, utilization) in [
        (4, 2.0, 3.0, 1.0),
        (11, 1.0, 9.0, 1.0),
        (40, 0.0, 0.0, 19.0 / 29.0),
    ] {
        world.advance(at(secs));
        for _ in 0..2 {
            let readings = world.read(&signals(), at(secs));
            let present = |value| Reading::complete(value, at(secs));
            assert_eq!(readings.get(standard::BACKLOG), present(backlog));
            assert_eq!(readings.get(standard::OLDEST_AGE), present(oldest));
            assert_eq!(readings.get(standard::UTILIZATION), present(utilization));
        }
    }
}

#[test]
fn what_nobody_measures_has_no_source() {
    let quiet = spec(&[(0, 1)]);
    let queue = QueueSpec {
        responses: false,
        ..quiet.queue.clone()
    };
    let mut world = world(
        WorldSpec {
            queue,
            initial: 1,
            ..quiet
        },
        0,
    );
    world.advance(at(10));
    let own = SignalSpec {
        name: "own".to_owned(),
        kind: SignalKind::Total,
        max_age: Duration::from_secs(1),
    };
    let readings = world.read(&[own], at(10));
    assert_eq!(readings.get("own"), Reading::Absent(Absence::NoSource));
    let readings = world.read(&signals(), at(10));
    assert_eq!(
        readings.get(standard::LATENCY_P95),
        Reading::Absent(Absence::NoSource)
    );
    assert_eq!(
        readings.get(standard::COMPLETIONS),
        Reading::complete(1.0, at(10))
    );
}

#[test]
fn a_token_launches_once() {
    let lag = Duration::from_secs(50);
    let mut world = world(
        WorldSpec {
            listing_lag: lag,
            ..spec(&[])
        },
        10,
    );
    let again = |world: &mut World, serial| world.launch(&token(serial), "small", 2);
    let first = again(&mut world, 1).expect("launched");
    assert_eq!(first, [id(1), id(2)]);
    assert_eq!(
        again(&mut world, 1).as_ref(),
        Ok(&first),
        "while not listed"
    );
    world.advance(at(60));
    assert_eq!(again(&mut world, 1).as_ref(), Ok(&first), "while listed");
    assert_eq!(
        again(&mut world, 2),
        Ok(vec![id(3), id(4)]),
        "another token"
    );
    for id in &first {
        assert_eq!(world.terminate(id), Ok(0));
        assert_eq!(world.terminate(id), Ok(0), "ending twice is harmless");
    }
    world.advance(at(1_000));
    assert_eq!(again(&mut world, 1), Ok(first), "after they ended");
    assert_eq!(world.launch(&token(3), "small", 0), Ok(vec![]));
    let summary = world.summary();
    assert_eq!((summary.launches, summary.terminations), (4, 2));
    assert_eq!(world.alive().cloned().collect::<Vec<_>>(), [id(3), id(4)]);
}

#[test]
fn refusals_name_what_to_do() {
    let mut world = world(
        WorldSpec {
            initial: 1,
            ..spec(&[])
        },
        10,
    );
    let launch = |world: &mut World, serial, offering, count| {
        world
            .launch(&token(serial), offering, count)
            .expect_err("refused")
    };
    assert!(matches!(
        launch(&mut world, 1, "large", 1),
        FleetError::Rejected(_)
    ));
    assert!(matches!(
        launch(&mut world, 1, "small", SLOTS_MAX),
        FleetError::LimitReached(_)
    ));
    assert_eq!(
        world.launch(&token(1), "small", 1),
        Ok(vec![id(2)]),
        "the token is not spent"
    );
    assert_eq!(world.fence(&id(9)), Err(FleetError::NotFound));
    assert_eq!(world.unfence(&id(9)), Err(FleetError::NotFound));
    assert_eq!(world.terminate(&id(9)), Err(FleetError::NotFound));
    world.terminate(&id(2)).expect("there");
    assert_eq!(
        world.fence(&id(2)),
        Err(FleetError::NotFound),
        "its worker is gone"
    );
    assert_eq!(world.list("other"), Err(FleetError::NotFound));
}

#[test]
fn slots_of_ended_instances_leave_room_for_others() {
    let roomy = WorldSpec {
        offerings: vec![offering("large", SLOTS_MAX / 2 + 1)],
        ..spec(&[])
    };
    let mut world = world(roomy, 10);
    for (serial, number) in (0..5).zip(1..) {
        assert_eq!(
            world.launch(&token(serial), "large", 1),
            Ok(vec![id(number)]),
            "only one has room at a time"
        );
        assert!(world.launch(&token(99), "large", 1).is_err());
        world.terminate(&id(number)).expect("there");
        world
            .terminate(&id(number))
            .expect("ended twice, freed once");
    }
}

#[test]
fn instances_that_never_boot_take_no_jobs_and_cost_money() {
    let mut boots = [None, Some(10 * SECOND)].into_iter();
    let spec = spec(&[(0, 5)]);
    let mut world = World::new(spec, Box::new(move || boots.next().flatten())).expect("valid");
    world.launch(&token(1), "small", 2).expect("launched");
    world.advance(at(100));
    let listing = world.list(FLEET).expect("its own fleet");
    assert_eq!(listing.instances[0].phase, Phase::Booting);
    assert_eq!(listing.instances[1].phase, Phase::Ready);
    assert_eq!(world.fence(&id(1)), Ok(Work::Idle));
    assert_eq!(world.unfence(&id(1)), Ok(()));
    world.terminate(&id(1)).expect("there");
    assert_eq!(world.worker(&id(1)), None);
    let idle = world.worker(&id(2)).expect("ready");
    assert_eq!((idle.busy, idle.idle_since), (0, Some(15 * SECOND)));
    world.advance(at(150));
    let summary = world.summary();
    assert_eq!(summary.wait.sum_micros, u128::from(10 * SECOND));
    assert_eq!(
        summary.instance_micros_billed,
        u128::from((100 + 150) * SECOND)
    );
    assert_eq!(summary.instance_cost, MicroUsd::new(250));
    assert_eq!(
        summary.instances_mean.to_bits(),
        (250.0_f64 / 150.0).to_bits()
    );
}

#[test]
fn offerings_differ_in_slots_and_price() {
    let dear = Offering {
        price: MicroUsdPerHour::new(36_000),
        ..offering("large", 4)
    };
    let offerings = vec![offering("small", 1), dear];
    let mut world = world(
        WorldSpec {
            offerings,
            initial: 1,
            ..spec(&[])
        },
        0,
    );
    world.launch(&token(1), "large", 2).expect("launched");
    assert_eq!(world.snapshot().ready_slots, 9);
    world.advance(at(60));
    assert_eq!(world.summary().instance_cost, MicroUsd::new(60 + 2 * 600));
    assert_eq!(
        world.list(FLEET).expect("its own").instances[2].offering,
        "large"
    );
}

#[test]
fn impossible_worlds_are_refused() {
    let refused = |change: fn(&mut WorldSpec)| {
        let mut spec = spec(&[(0, 1), (5, 1)]);
        change(&mut spec);
        World::new(spec, Box::new(|| None))
            .map(drop)
            .expect_err("refused")
    };
    let small = || "small".to_owned();
    assert_eq!(
        refused(|spec| spec.offerings.clear()),
        WorldError::NoOffering
    );
    assert_eq!(
        refused(|spec| spec.offerings.push(offering("small", 2))),
        WorldError::SameName(small())
    );
    assert_eq!(
        refused(|spec| spec.offerings[0].slots = 0),
        WorldError::NoSlots(small())
    );
    assert_eq!(
        refused(|spec| spec.offerings[0].billing.increment = Duration::ZERO),
        WorldError::NoIncrement(small())
    );
    assert_eq!(
        refused(|spec| spec.initial = SLOTS_MAX + 1),
        WorldError::TooManyInitial {
            initial: SLOTS_MAX + 1
        }
    );
    assert_eq!(
        refused(|spec| spec.queue.repeat_every = Some(5 * SECOND)),
        WorldError::Jobs(JobsError::RepeatsTooEarly {
            period: 5 * SECOND,
            last: 5 * SECOND
        })
    );
}

#[test]
fn an_older_epoch_is_refused() {
    let mut world = world(
        WorldSpec {
            initial: 1,
            ..spec(&[])
        },
        10,
    );
    let fence = Action::Fence { instance: id(1) };
    let unfence = Action::Unfence { instance: id(1) };
    let fenced = Outcome::Fenced { work: Work::Idle };
    assert_eq!(world.apply(FLEET, Epoch(3), &fence), fenced);
    assert_eq!(
        world.apply(FLEET, Epoch(3), &fence),
        fenced,
        "repeating is harmless"
    );
    let stale = Outcome::Failed(FleetError::StaleEpoch);
    assert_eq!(world.apply(FLEET, Epoch(2), &unfence), stale);
    assert!(world.list(FLEET).expect("its own").instances[0].fenced);
    let elsewhere = world.apply("other", Epoch(9), &unfence);
    assert_eq!(elsewhere, Outcome::Failed(FleetError::NotFound));
    assert_eq!(world.apply(FLEET, Epoch(4), &unfence), Outcome::Unfenced);
    assert_eq!(world.apply(FLEET, Epoch(3), &fence), stale);
}

/// What a future gives that does not wait.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a simulated port waited"),
    }
}

#[test]
fn ports_answer_at_once_and_share_one_world() {
    let ports = SimulatedPorts::new(world(
        WorldSpec {
            initial: 1,
            ..spec(&[(0, 500)])
        },
        10,
    ));
    let other = ports.clone();
    ports.with(|world| world.advance(at(60)));
    assert_eq!(other.now(), at(60));
    let launch = Action::Launch {
        token: token(1),
        offering: "small".to_owned(),
        count: 1,
    };
    let outcome = at_once(other.apply(FLEET, Epoch(1), &launch));
    assert_eq!(
        outcome,
        Outcome::Launched {
            instances: vec![id(2)]
        }
    );
    let end: Action = serde_json::from_str(
        r#"{"terminate": {"instance": "sim-000001",
            "receipt": {"fenced_at": 0, "grounds": "confirmed_idle"}}}"#,
    )
    .expect("an action");
    let listing = at_once(ports.list(FLEET)).expect("its own fleet");
    assert_eq!(listing.instances.len(), 2);
    assert_eq!(listing.instances[0].launched_at, BEGIN);
    assert_eq!(listing.instances[1].launched_at, at(60));
    assert_eq!(listing.instances[1].token, Some(token(1)));
    let readings = at_once(ports.read(&signals(), at(60)));
    assert_eq!(readings.get(standard::BUSY), Reading::complete(1.0, at(60)));
    // The receipt was not true: the provider cannot know, and the job is lost.
    assert_eq!(
        at_once(ports.apply(FLEET, Epoch(1), &end)),
        Outcome::Terminated
    );
    let summary = ports.with(|world| world.summary());
    assert_eq!(
        (
            summary.busy_killed,
            summary.jobs_redone,
            summary.unfinished_jobs
        ),
        (1, 1, 1)
    );
}
