//! What the cloud does of its own accord: pools, prices, waves and refusals.

use std::sync::Arc;
use std::time::Duration;

use windlass_policies::model::{
    Billing, FleetError, Instance, InstanceId, Market, Notice, Offering, Phase,
};
use windlass_policies::quote::Quote;
use windlass_policies::signal::{Reading, SignalSpec, standard};
use windlass_policies::units::{MicroUsd, MicroUsdPerHour, Timestamp};

use super::{FLEET, signals, token};
use crate::distribution::Distribution;
use crate::queue::{JobColumns, Keep, QueueSpec, ServerSpec};
use crate::world::cloud::{
    BucketSpec, CapacitySpec, CloudSpec, FaultSpec, InterruptionSpec, PoolSpec, WarmPoolSpec,
};
use crate::world::price::PriceCourse;
use crate::world::{World, WorldSpec};

const SECOND: u64 = 1_000_000;
const HOUR: u64 = 3_600 * SECOND;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

/// One micro-dollar a second.
fn offering(name: &str, prepaid: u32) -> Offering {
    Offering {
        name: name.to_owned(),
        price: MicroUsdPerHour::new(3_600),
        billing: Billing {
            increment: secs(1),
            minimum: secs(60),
        },
        slots: 1,
        market: Market::Spot,
        prepaid,
    }
}

fn spec(cloud: CloudSpec) -> WorldSpec {
    WorldSpec {
        fleet: FLEET.to_owned(),
        begins_at: Timestamp::EPOCH,
        offerings: vec![offering("spot", 0), offering("other", 0)],
        initial: 0,
        listing_lag: Duration::ZERO,
        metric_period: secs(60),
        metric_lag: Duration::ZERO,
        queue: QueueSpec {
            jobs: Arc::new(JobColumns::new(Vec::new(), Vec::new()).expect("sorted")),
            repeat_every: None,
            keep: Keep::EveryWait,
            responses: false,
        },
        server: ServerSpec::default(),
        cloud,
    }
}

fn pool(pool: PoolSpec) -> CloudSpec {
    CloudSpec {
        seed: 5,
        pools: vec![pool],
        ..CloudSpec::default()
    }
}

fn faults(faults: FaultSpec) -> CloudSpec {
    CloudSpec {
        seed: 5,
        faults,
        ..CloudSpec::default()
    }
}

/// Boots take ten seconds.
fn world(spec: WorldSpec) -> World {
    World::new(spec, Box::new(|| Some(10 * SECOND))).expect("a world")
}

fn launch(world: &mut World, serial: u32, count: u32) -> Result<usize, FleetError> {
    let launched = world.launch(&token(serial), "spot", count);
    launched.map(|instances| instances.len())
}

fn listed(world: &World) -> Vec<Instance> {
    world.list(FLEET).expect("its own fleet").instances
}

fn micros(of: Timestamp) -> u64 {
    of.micros()
}

#[test]
fn waves_take_the_share_of_a_pool_they_say_as_often_as_they_say() {
    let interruption = InterruptionSpec {
        every: secs(6 * 3_600),
        share: 0.5,
        within: secs(180),
        notice: secs(120),
        rebalance_ahead: Duration::ZERO,
        dry: Duration::ZERO,
    };
    let cloud = pool(PoolSpec {
        interruption: Some(interruption),
        ..PoolSpec::default()
    });
    let mut world = world(spec(cloud));
    // A hundred instances are kept up for 400 days: 1,600 waves, each half of
    // them.
    let other = world.launch(&token(0), "other", 10);
    let mut ends = Vec::new();
    for hour in 0..9_600_u32 {
        let missing = 110 - world.alive_count();
        launch(&mut world, hour + 1, missing).expect("there is capacity");
        let before = world.alive_count();
        world.advance(at(u64::from(hour + 1) * 3_600));
        ends.push(before - world.alive_count());
    }
    let interrupted = world.summary().extras.interrupted.expect("it is told");
    assert_eq!(u64::from(ends.iter().sum::<u32>()), interrupted);
    // 1,600 * 50, and four standard deviations of the number of waves, each of
    // which takes a little less than half where two follow closely.
    let expected = 1_600.0 * 50.0;
    let off = (interrupted as f64 - expected) / expected;
    assert!(
        off.abs() < 4.0 / 40.0 + 0.03,
        "{interrupted} for {expected}"
    );
    let quiet = ends.iter().filter(|count| **count == 0).count();
    assert!(
        quiet > 9_600 / 2,
        "they come together: {quiet} hours without"
    );
    let alive: Vec<InstanceId> = world.alive().cloned().collect();
    assert!(other.expect("launched").iter().all(|id| alive.contains(id)));
}

#[test]
fn instances_are_told_before_they_are_taken_back() {
    let interruption = InterruptionSpec {
        every: secs(3_600),
        share: 1.0,
        within: secs(180),
        notice: secs(120),
        rebalance_ahead: secs(600),
        dry: secs(900),
    };
    let cloud = pool(PoolSpec {
        interruption: Some(interruption),
        ..PoolSpec::default()
    });
    let mut world = world(spec(cloud));
    launch(&mut world, 1, 20).expect("there is capacity");
    let (mut second, mut hinted) = (0, None);
    let mut seen = Vec::new();
    while world.alive_count() > 0 {
        second += 1;
        world.advance(at(second));
        for instance in listed(&world) {
            assert_eq!(instance.phase == Phase::Ready, second >= 10);
            match instance.notice {
                None => assert_eq!(hinted, None),
                Some(Notice::Rebalance { at }) => {
                    hinted = Some(at);
                    assert!(micros(at) <= second * SECOND);
                }
                Some(Notice::Interruption { ends_at }) => {
                    let told_at = micros(ends_at) - 120 * SECOND;
                    let wave = micros(hinted.expect("told before"));
                    let after = told_at - wave - 600 * SECOND;
                    assert!(after < 180 * SECOND, "{after}");
                    assert!(micros(ends_at) > second * SECOND);
                    seen.push(instance.id.clone());
                }
            }
        }
        if let Some(wave) = hinted.map(micros) {
            let dry = second * SECOND < wave + 900 * SECOND;
            let answer = launch(&mut world, 1_000 + u32::try_from(second).unwrap_or(0), 1);
            assert_eq!(answer.is_err(), dry, "{second}");
            if !dry {
                break;
            }
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 20, "each got its two minutes");
    assert!(world.summary().extras.no_capacity > Some(500));
}

#[test]
fn lost_jobs_of_taken_instances_begin_again_and_are_counted() {
    let interruption = InterruptionSpec {
        every: secs(3_600),
        share: 1.0,
        within: Duration::ZERO,
        notice: secs(120),
        rebalance_ahead: Duration::ZERO,
        dry: Duration::ZERO,
    };
    let week = 7 * 86_400 * SECOND;
    let mut spec = spec(pool(PoolSpec {
        interruption: Some(interruption),
        ..PoolSpec::default()
    }));
    // Longer than days, and never finished on spot.
    spec.queue.jobs = Arc::new(JobColumns::new(vec![0], vec![week]).expect("short"));
    let mut world = world(spec);
    world.launch(&token(0), "spot", 1).expect("launched");
    world.advance(at(86_400));
    let summary = world.summary();
    assert_eq!((summary.jobs_redone, summary.busy_killed), (1, 0));
    assert_eq!(summary.extras.interrupted, Some(1));
    assert_eq!((summary.unfinished_jobs, summary.terminations), (1, 0));
    let wait_before = 10 * SECOND;
    world.launch(&token(1), "other", 1).expect("launched");
    world.advance(at(9 * 86_400));
    let summary = world.summary();
    assert_eq!((summary.unfinished_jobs, summary.jobs_redone), (0, 1));
    let restarted = 86_400 * SECOND + wait_before;
    assert_eq!(summary.wait.sum_micros, u128::from(restarted));
    assert_eq!(summary.response.sum_micros, u128::from(restarted + week));
}

#[test]
fn what_the_provider_takes_back_within_an_hour_is_free() {
    let interruption = InterruptionSpec {
        every: secs(7_200),
        share: 1.0,
        within: Duration::ZERO,
        notice: secs(120),
        rebalance_ahead: Duration::ZERO,
        dry: Duration::ZERO,
    };
    for seed in 0..20 {
        let mut spec = spec(pool(PoolSpec {
            interruption: Some(interruption),
            ..PoolSpec::default()
        }));
        spec.cloud.seed = seed;
        let mut world = world(spec);
        launch(&mut world, 1, 1).expect("launched");
        let mut second = 0;
        while world.alive_count() > 0 {
            second += 1;
            world.advance(at(second));
        }
        let summary = world.summary();
        let ran = u64::try_from(summary.instance_micros).expect("hours");
        let charged = if ran < HOUR { 0 } else { ran.div_ceil(SECOND) };
        let expected = i64::try_from(charged).expect("seconds");
        assert_eq!(
            summary.instance_cost,
            MicroUsd::new(expected),
            "{seed}: {ran}"
        );
    }
}

#[test]
fn capacity_comes_and_goes_in_spells_of_the_mean_lengths() {
    let capacity = CapacitySpec {
        up: secs(3_000),
        down: secs(1_000),
    };
    let cloud = pool(PoolSpec {
        capacity: Some(capacity),
        ..PoolSpec::default()
    });
    let mut world = world(spec(cloud));
    let (mut without, mut changes, mut had) = (0, 0, true);
    let minutes = 200_000_u32;
    for minute in 0..minutes {
        world.advance(at(u64::from(minute) * 60));
        let has = match launch(&mut world, minute, 1) {
            Ok(1) => true,
            Err(FleetError::NoCapacity) => false,
            other => panic!("{other:?}"),
        };
        let all: Vec<InstanceId> = world.alive().cloned().collect();
        for id in all {
            world.terminate(&id).expect("there");
        }
        without += u32::from(!has);
        changes += u32::from(has != had);
        had = has;
    }
    let share = f64::from(without) / f64::from(minutes);
    assert!((share - 0.25).abs() < 0.02, "{share}");
    // One pair of spells every 4,000 s, less those shorter than a minute.
    let pairs = f64::from(changes) / 2.0 / (f64::from(minutes) * 60.0 / 4_000.0);
    assert!((0.85..1.0).contains(&pairs), "{pairs}");
    assert_eq!(world.summary().extras.no_capacity, Some(u64::from(without)));
}

#[test]
fn a_pool_gives_no_more_than_it_has() {
    let cloud = pool(PoolSpec {
        instances_max: Some(5),
        ..PoolSpec::default()
    });
    let mut world = world(spec(cloud));
    assert_eq!(launch(&mut world, 1, 3), Ok(3));
    assert_eq!(launch(&mut world, 2, 3), Ok(2), "as many as there are");
    assert_eq!(launch(&mut world, 2, 3), Ok(2), "the same again");
    assert_eq!(launch(&mut world, 3, 1), Err(FleetError::NoCapacity));
    assert_eq!(
        world.launch(&token(4), "other", 9).map(|all| all.len()),
        Ok(9)
    );
    world
        .terminate(&InstanceId::new("sim-000001"))
        .expect("there");
    assert_eq!(launch(&mut world, 3, 2), Ok(1), "the token was not spent");
}

#[test]
fn token_buckets_refuse_what_is_too_much() {
    let cloud = faults(FaultSpec {
        launch_requests: Some(BucketSpec {
            size: 3,
            per_sec: 1,
        }),
        launch_instances: Some(BucketSpec {
            size: 10,
            per_sec: 2,
        }),
        terminate_requests: Some(BucketSpec {
            size: 1,
            per_sec: 0,
        }),
        ..FaultSpec::default()
    });
    let mut world = world(spec(cloud));
    #[rustfmt::skip]
    let rows = [
        // ms     count  launched   tokens left: requests, instances
        (     0,  6,     true),  // 2, 4
        (     0,  5,     false), // 1, 4: too many instances
        (     0,  4,     true),  // 0, 0
        (   500,  1,     false), // half a request
        ( 1_000,  2,     true),  // 0, 0
        ( 1_999,  1,     false),
        ( 2_000,  2,     true),
        (60_000, 11,     false), // never more than it holds
        (60_000, 10,     true),
    ];
    for (serial, (millis, count, launched)) in (0..).zip(rows) {
        world.advance(Timestamp::from_micros(millis * 1_000));
        let answer = launch(&mut world, serial, count);
        let expected = if launched {
            Ok(count as usize)
        } else {
            Err(FleetError::Throttled)
        };
        assert_eq!(answer, expected, "{count} at {millis} ms");
    }
    assert_eq!(world.summary().extras.throttled, Some(4));
}

#[test]
fn launches_bring_part_and_boots_fail_or_hang_as_often_as_they_say() {
    let cloud = faults(FaultSpec {
        launch_partial: 0.5,
        boot_fails: 0.2,
        boot_hangs: 0.1,
        ..FaultSpec::default()
    });
    let mut world = world(spec(cloud));
    let (mut partial, mut launched) = (0, 0);
    for serial in 0..2_000 {
        let count = launch(&mut world, serial, 3).expect("something comes");
        assert!((1..=3).contains(&count));
        partial += u32::from(count < 3);
        launched += count;
    }
    assert!((900..1_100).contains(&partial), "{partial}");
    world.advance(at(3_600));
    let died = world.summary().extras.died.expect("it is told");
    let booting = listed(&world)
        .iter()
        .filter(|one| one.phase == Phase::Booting)
        .count();
    let (died, booting) = (died as f64, booting as f64);
    let all = launched as f64;
    assert!((died / all - 0.2).abs() < 0.03, "{died} of {all}");
    assert!(
        (booting / all - 0.1 * 0.8).abs() < 0.02,
        "{booting} of {all}"
    );
}

#[test]
fn instances_die_after_their_mean_lifetime() {
    let cloud = faults(FaultSpec {
        lifetime: Some(secs(10_000)),
        ..FaultSpec::default()
    });
    let mut world = world(spec(cloud));
    launch(&mut world, 1, 5_000).expect("launched");
    world.advance(at(10_000));
    let left = f64::from(world.alive_count()) / 5_000.0;
    assert!((left - libm::exp(-1.0)).abs() < 0.03, "{left}");
}

#[test]
fn listings_fail_and_show_some_instances_late() {
    let cloud = faults(FaultSpec {
        listing_fails: 0.3,
        listing_straggles: 0.5,
        listing_straggle_max: secs(100),
        ..FaultSpec::default()
    });
    let mut world = world(spec(cloud));
    launch(&mut world, 1, 400).expect("launched");
    let count = |world: &World| loop {
        if let Ok(listing) = world.list(FLEET) {
            break listing.instances.len();
        }
    };
    let at_once = count(&world);
    assert!((150..250).contains(&at_once), "{at_once}");
    world.advance(at(50));
    let later = count(&world);
    assert!((at_once + 60..400).contains(&later), "{later}");
    world.advance(at(100));
    assert_eq!(count(&world), 400);
    let failed = (0..1_000).filter(|_| world.list(FLEET).is_err()).count();
    assert!((250..350).contains(&failed), "{failed}");
}

#[test]
fn samples_go_missing_and_come_later() {
    let cloud = faults(FaultSpec {
        metric_gaps: 0.25,
        metric_delay: Some(Distribution::constant(secs(30)).expect("short")),
        ..FaultSpec::default()
    });
    let mut world = world(spec(cloud));
    let only: Vec<SignalSpec> = signals()
        .into_iter()
        .filter(|signal| signal.name == standard::BACKLOG)
        .collect();
    let mut missing = 0;
    for minute in 1..=1_000 {
        world.advance(at(minute * 60 + 30));
        let now = world.now();
        let readings = world.read(&only, now);
        match readings.get(standard::BACKLOG) {
            Reading::Present(sample) if sample.at == at(minute * 60) => {}
            Reading::Present(sample) => {
                assert!(sample.at < at(minute * 60));
                missing += 1;
            }
            Reading::Absent(_) => missing += 1,
        }
    }
    assert!((200..300).contains(&missing), "{missing}");
}

#[test]
fn prepaid_instances_cost_the_same_whether_they_run_or_not() {
    let mut spec = spec(pool(PoolSpec {
        prepaid_price: MicroUsdPerHour::new(1_800),
        ..PoolSpec::default()
    }));
    spec.offerings[0].prepaid = 2;
    let mut world = world(spec);
    #[rustfmt::skip]
    let rows = [
        // secs  what is done        charged so far (s)
        (     0, "launch 3",                        60), // the third is not covered: a minute at least
        (   100, "",                               100),
        (   200, "end 1",                          200), // what covered it passes to the third
        (   900, "",                               200),
        (   900, "launch 2",                  200 + 120),
        ( 1_000, "end 3",                     200 + 200), // and then to the fourth
        ( 2_000, "",                        200 + 1_100 + 100),
    ];
    for (serial, (secs, what, charged)) in (0..).zip(rows) {
        world.advance(at(secs));
        match what.split_once(' ') {
            Some(("launch", count)) => {
                let count = count.parse().expect("a number");
                launch(&mut world, serial, count).expect("launched");
            }
            Some((_, number)) => {
                let id = InstanceId::new(&format!("sim-00000{number}"));
                world.terminate(&id).expect("there");
            }
            None => {}
        }
        let summary = world.summary();
        let expected = MicroUsd::new(charged);
        assert_eq!(summary.instance_cost, expected, "{what} at {secs}");
        // Two at half a micro-dollar a second.
        let prepaid = MicroUsd::new(i64::try_from(secs).expect("small"));
        assert_eq!(
            summary.extras.prepaid_cost,
            Some(prepaid),
            "{what} at {secs}"
        );
    }
}

#[test]
fn changing_prices_and_long_minimums_are_charged_as_they_are() {
    let day = Billing {
        increment: secs(1),
        minimum: secs(86_400),
    };
    let hour = Billing {
        increment: secs(3_600),
        minimum: secs(3_600),
    };
    let second = Billing {
        increment: secs(1),
        minimum: secs(60),
    };
    // A micro-dollar a second, three from the second hour on.
    let course = || {
        let price = MicroUsdPerHour::new;
        PriceCourse::new(vec![(0, price(3_600)), (HOUR, price(10_800))]).map(Arc::new)
    };
    #[rustfmt::skip]
    let rows = [
        // billing  launched  ended    at one price     at changing prices
        (second,        0,       30,        60,               60),
        (second,        0,    3_700,     3_700,      3_600 + 300),
        (second,    3_590,    3_620,        60,         10 + 150),
        (hour,          0,        1,     3_600,            3_600),
        (hour,          0,    3_601,     7_200,   3_600 + 10_800),
        (hour,      1_800,    1_900,     3_600,    1_800 + 5_400),
        // A host that is leased for a day at least.
        (day,           0,       30,    86_400, 3_600 + 3 * 82_800),
        (day,           0,   90_000,    90_000, 3_600 + 3 * 86_400),
    ];
    for (billing, launched, ended, one, changing) in rows {
        for (prices, cost) in [(None, one), (course(), changing)] {
            let mut spec = spec(pool(PoolSpec {
                prices,
                ..PoolSpec::default()
            }));
            spec.offerings[0].billing = billing;
            let mut world = world(spec);
            world.advance(at(launched));
            launch(&mut world, 1, 1).expect("launched");
            world.advance(at(ended));
            assert_eq!(
                world.summary().instance_cost,
                MicroUsd::new(cost),
                "still there"
            );
            world
                .terminate(&InstanceId::new("sim-000001"))
                .expect("there");
            assert_eq!(
                world.summary().instance_cost,
                MicroUsd::new(cost),
                "{billing:?} from {launched} to {ended}"
            );
        }
    }
}

#[test]
fn prices_that_change_are_seen_as_they_are() {
    let price = MicroUsdPerHour::new;
    let steps = vec![(0, price(50)), (HOUR, price(20)), (2 * HOUR, price(90))];
    let mut world = world(spec(pool(PoolSpec {
        prices: PriceCourse::new(steps).map(Arc::new),
        ..PoolSpec::default()
    })));
    for (secs, expected) in [(0, 50), (3_599, 50), (3_600, 20), (7_200, 90), (90_000, 90)] {
        world.advance(at(secs));
        let quotes: Vec<_> = world.quotes().into_iter().collect();
        let quote = Quote {
            price: price(expected),
            read_at: at(secs),
        };
        // The other's price stands still, so there is nothing to say of it.
        assert_eq!(quotes, [("spot".to_owned(), quote)], "at {secs}");
    }
}

#[test]
fn what_fills_up_a_warm_pool_boots_at_the_price_of_the_moment() {
    let price = MicroUsdPerHour::new;
    let boot = secs(60);
    let warm = WarmPoolSpec {
        offering: 0,
        size: 1,
        start: Distribution::constant(secs(2)).expect("short"),
        boot: Distribution::constant(boot).expect("short"),
        price: price(0),
    };
    let steps = vec![(0, price(3_600)), (130_000_000, price(36_000))];
    let mut cloud = pool(PoolSpec {
        prices: PriceCourse::new(steps).map(Arc::new),
        ..PoolSpec::default()
    });
    cloud.warm_pool = Some(warm);
    let mut world = world(spec(cloud));
    world.advance(at(100));
    launch(&mut world, 1, 1).expect("launched");
    world.advance(at(200));
    // 30 s at a micro-dollar a second, 30 s at ten.
    let cost = world.summary().extras.warm_pool_cost;
    assert_eq!(cost, Some(MicroUsd::new(30 + 300)));
}

#[test]
fn warm_instances_start_sooner_until_there_are_none() {
    let warm = WarmPoolSpec {
        offering: 0,
        size: 2,
        start: Distribution::constant(secs(2)).expect("short"),
        boot: Distribution::constant(secs(30)).expect("short"),
        price: MicroUsdPerHour::new(360),
    };
    let mut spec = spec(CloudSpec {
        warm_pool: Some(warm),
        ..CloudSpec::default()
    });
    spec.offerings[0].price = MicroUsdPerHour::new(3_600);
    let mut world = world(spec);
    let ready = |world: &World| {
        let instances = listed(world);
        let ready = instances.iter().filter(|one| one.phase == Phase::Ready);
        ready.count()
    };
    world.advance(at(100));
    launch(&mut world, 1, 3).expect("launched");
    world.launch(&token(2), "other", 1).expect("launched");
    for (secs, count) in [(101, 0), (102, 2), (109, 2), (110, 4)] {
        world.advance(at(secs));
        assert_eq!(ready(&world), count, "at {secs}");
    }
    // Refilled at 130.
    world.advance(at(130));
    launch(&mut world, 3, 1).expect("launched");
    world.advance(at(132));
    assert_eq!(ready(&world), 5);
    // A tenth of a micro-dollar a second for each that is stopped: two for 100
    // s, one from 130 to 160, two until 200; and three that booted 30 s each.
    world.advance(at(200));
    let tenths = 2 * 100 + 30 + 2 * 40;
    let expected = MicroUsd::new(tenths / 10 + 3 * 30);
    assert_eq!(world.summary().extras.warm_pool_cost, Some(expected));
}

#[test]
fn faster_instances_do_more_in_the_same_time() {
    let mut spec = spec(pool(PoolSpec {
        throughput_percent: 250,
        ..PoolSpec::default()
    }));
    let jobs = JobColumns::new(vec![0, 0], vec![100 * SECOND, 101 * SECOND]);
    spec.queue.jobs = Arc::new(jobs.expect("short"));
    spec.server.speeds = true;
    let mut world = world(spec);
    launch(&mut world, 1, 1).expect("launched");
    world.launch(&token(2), "other", 1).expect("launched");
    world.advance(at(10 + 40 + 1));
    assert_eq!(world.snapshot().completions, 1);
    world.advance(at(10 + 101 + 1));
    assert_eq!(world.snapshot().completions, 2);
    let response = world.summary().response.sum_micros;
    assert_eq!(
        response,
        u128::from(10 * SECOND * 2 + 40 * SECOND + 101 * SECOND)
    );
}

#[test]
fn a_new_trouble_shifts_the_luck_of_no_other() {
    let lifetimes = |other: FaultSpec| {
        let cloud = faults(FaultSpec {
            lifetime: Some(secs(1_000)),
            ..other
        });
        let mut world = world(spec(cloud));
        launch(&mut world, 1, 50).expect("launched");
        let mut alive = Vec::new();
        for second in 1..3_000 {
            world.advance(at(second));
            alive.push(world.alive_count());
        }
        alive
    };
    let alone = lifetimes(FaultSpec::default());
    assert!(alone.first() > alone.last());
    let with_others = lifetimes(FaultSpec {
        boot_hangs: 0.5,
        listing_straggles: 0.5,
        listing_straggle_max: secs(60),
        metric_gaps: 0.5,
        ..FaultSpec::default()
    });
    assert_eq!(alone, with_others);
}
