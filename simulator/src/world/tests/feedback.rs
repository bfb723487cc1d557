//! A policy that feeds on the queue, run on the world and on the plain event
//! loop: every tick depends on everything before it.

use std::sync::Arc;
use std::time::Duration;

use windlass_policies::model::{Billing, Market, Offering, Phase, Work};
use windlass_policies::units::{MicroUsdPerHour, Timestamp};

use super::reference::Reference;
use super::{FLEET, token};
use crate::queue::{JobColumns, Keep, QueueSpec, ServerSpec};
use crate::world::cloud::CloudSpec;
use crate::world::{World, WorldSpec};

const SECOND: u64 = 1_000_000;
const BOOT: u64 = 120 * SECOND;
const TICKS: u32 = 120;

/// Two hours with two waves of load, in whole hundredths of a second so that
/// ties happen; services of 0.2 to 8.19 s.
fn jobs() -> Vec<(u64, u64)> {
    let mut state = 1_u64;
    let mut draw = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut jobs = Vec::new();
    for second in 0..u64::from(TICKS) * 60 {
        let phase = second % 3_600;
        let most = 1 + 10 * phase.min(3_600 - phase) / 1_800;
        for _ in 0..draw(most + 1) {
            let service = 20 + draw(400) + if draw(10) == 0 { draw(400) } else { 0 };
            jobs.push((second * SECOND + draw(100) * 10_000, service * 10_000));
        }
    }
    jobs.sort_by_key(|(arrival, _)| *arrival);
    jobs
}

/// `ceil(1.2 * arrivals per second * 2 s + backlog / 30)` in whole numbers.
fn wanted(arrivals: u64, backlog: u64) -> usize {
    usize::try_from((12 * arrivals * 2 + 20 * backlog).div_ceil(600)).expect("small")
}

fn on_world(jobs: &[(u64, u64)]) -> (World, Vec<usize>) {
    let (arrivals, services) = jobs.iter().copied().unzip();
    let spec = WorldSpec {
        fleet: FLEET.to_owned(),
        begins_at: Timestamp::EPOCH,
        offerings: vec![Offering {
            name: "small".to_owned(),
            price: MicroUsdPerHour::new(170_000),
            billing: Billing {
                increment: Duration::from_secs(1),
                minimum: Duration::ZERO,
            },
            slots: 1,
            market: Market::OnDemand,
            prepaid: 0,
        }],
        initial: 5,
        listing_lag: Duration::ZERO,
        metric_period: Duration::from_mins(1),
        metric_lag: Duration::ZERO,
        queue: QueueSpec {
            jobs: Arc::new(JobColumns::new(arrivals, services).expect("sorted")),
            repeat_every: None,
            keep: Keep::EveryWait,
            responses: false,
        },
        server: ServerSpec::default(),
        cloud: CloudSpec::default(),
    };
    let mut world = World::new(spec, Box::new(|| Some(BOOT))).expect("valid");
    let (mut before, mut sizes) = (0, Vec::new());
    for tick in 1..=TICKS {
        world.advance(Timestamp::from_secs(u64::from(tick) * 60));
        let seen = world.snapshot();
        let want = wanted(seen.arrivals - before, seen.backlog);
        before = seen.arrivals;
        let instances = world.list(FLEET).expect("its own fleet").instances;
        let have = instances.len();
        let more = u32::try_from(want.saturating_sub(have)).expect("small");
        world.launch(&token(tick), "small", more).expect("launched");
        let idle = instances
            .iter()
            .filter(|instance| instance.phase == Phase::Ready && instance.work == Work::Idle);
        for instance in idle.take(have.saturating_sub(want)) {
            assert_eq!(world.terminate(&instance.id), Ok(0));
        }
        sizes.push(world.alive().count());
    }
    (world, sizes)
}

fn on_reference(jobs: &[(u64, u64)]) -> (Reference, Vec<usize>) {
    let mut plain = Reference::new(jobs.to_vec(), 1);
    for _ in 0..5 {
        plain.launch(Some(0));
    }
    let (mut before, mut sizes) = (0, Vec::new());
    for tick in 1..=u64::from(TICKS) {
        plain.advance(tick * 60 * SECOND);
        let seen = plain.snapshot();
        let want = wanted(seen.arrivals - before, seen.backlog);
        before = seen.arrivals;
        let have = plain.alive().count();
        for _ in have..want {
            plain.launch(Some(BOOT));
        }
        let idle = plain
            .alive()
            .filter(|(_, instance)| instance.ready && instance.busy() == 0);
        let idle: Vec<usize> = idle
            .map(|(place, _)| place)
            .take(have.saturating_sub(want))
            .collect();
        for place in idle {
            plain.end(place);
        }
        sizes.push(plain.alive().count());
    }
    (plain, sizes)
}

#[test]
fn a_policy_fed_by_the_queue_gets_the_same_on_both() {
    let jobs = jobs();
    let (world, sizes) = on_world(&jobs);
    let (plain, sizes_plain) = on_reference(&jobs);
    assert_eq!(sizes, sizes_plain);
    assert!(
        sizes.iter().max() > Some(&15),
        "it must have something to do: {sizes:?}"
    );
    let summary = world.summary();
    let (waits, responses) = plain.times();
    let sum = |values: &[u64]| values.iter().map(|value| u128::from(*value)).sum::<u128>();
    assert_eq!(summary.jobs, waits.len() as u64);
    assert_eq!(summary.wait.sum_micros, sum(&waits));
    assert_eq!(summary.response.sum_micros, sum(&responses));
    assert_eq!(
        summary.wait.quantiles.map(|found| found.max),
        waits.last().copied()
    );
    assert_eq!(summary.instances_peak as usize, plain.peak);
    assert_eq!((summary.jobs_redone, summary.busy_killed), (0, 0));
    let ran = plain
        .instances
        .iter()
        .map(|instance| u128::from(instance.ended.unwrap_or(plain.now) - instance.launched));
    assert_eq!(summary.instance_micros, ran.sum());
}
