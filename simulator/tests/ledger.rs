//! The ledger against the world's own bill: a controller that sees nothing but
//! listings, some of them late, knows what its fleet costs.

use std::sync::Arc;
use std::time::Duration;

use windlass_policies::memory::Memory;
use windlass_policies::memory_store::MemoryStore;
use windlass_policies::model::{Billing, Epoch, Market, Offering};
use windlass_policies::policy::{NamedPolicy, Policy, QueueBacklog};
use windlass_policies::reconcile::{Mode, Ports, reconcile};
use windlass_policies::signal::SignalSpec;
use windlass_policies::spec::{Drain, FleetSpec, Limits, Mix, Objective, Spot};
use windlass_policies::units::{MicroUsdPerHour, Timestamp};
use windlass_simulator::engine::poll_once;
use windlass_simulator::queue::{JobColumns, Keep, QueueSpec, ServerSpec};
use windlass_simulator::random::Stream;
use windlass_simulator::world::cloud::CloudSpec;
use windlass_simulator::world::{SimulatedPorts, World, WorldSpec};

const FLEET: &str = "workers";
const MINUTE: Duration = Duration::from_mins(1);
const PRICE: MicroUsdPerHour = MicroUsdPerHour::new(3_600_000);

fn offering() -> Offering {
    Offering {
        name: "large".to_owned(),
        price: PRICE,
        billing: Billing {
            increment: Duration::from_secs(1),
            minimum: MINUTE,
        },
        slots: 1,
        market: Market::OnDemand,
        prepaid: 0,
    }
}

fn spec() -> FleetSpec {
    FleetSpec {
        name: FLEET.to_owned(),
        interval: MINUTE,
        offerings: vec![offering()],
        signals: ["backlog", "in_flight"]
            .map(|name| SignalSpec::standard(name).expect("standard"))
            .to_vec(),
        policies: vec![NamedPolicy {
            name: "queue_backlog".to_owned(),
            policy: Policy::QueueBacklog(QueueBacklog::new(2.0)),
        }],
        limits: Limits::unbound(1, 30),
        mix: Mix::default(),
        spot: Spot::default(),
        drain: Drain::default(),
        objective: Objective::default(),
    }
}

/// Six hours of bursts.
fn jobs(seed: u64) -> JobColumns {
    let mut stream = Stream::new(seed, "jobs");
    let mut arrivals: Vec<u64> = (0..300).map(|_| stream.below(21_600_000_000)).collect();
    arrivals.extend((0..200).map(|_| 7_200_000_000 + stream.below(60_000_000)));
    arrivals.sort_unstable();
    let services = arrivals.iter().map(|_| stream.below(300_000_000)).collect();
    JobColumns::new(arrivals, services).expect("sorted")
}

/// What the world charged, what the ledger says, and launches.
fn run(seed: u64, lag: Duration) -> (i64, i64, u64) {
    let world = WorldSpec {
        fleet: FLEET.to_owned(),
        begins_at: Timestamp::from_secs(1_000_000),
        offerings: vec![offering()],
        initial: 0,
        listing_lag: lag,
        metric_period: Duration::ZERO,
        metric_lag: Duration::ZERO,
        queue: QueueSpec {
            jobs: Arc::new(jobs(seed)),
            repeat_every: None,
            keep: Keep::Sums,
            responses: false,
        },
        server: ServerSpec::default(),
        cloud: CloudSpec::default(),
    };
    let mut boots = Stream::new(seed, "boots");
    let boot = move || Some(30_000_000 + boots.below(90_000_000));
    let world = SimulatedPorts::new(World::new(world, Box::new(boot)).expect("sound"));
    let store = MemoryStore::keeping_nothing();
    let ports = Ports {
        clock: &world,
        metrics: &world,
        provider: &world,
        store: &store,
    };
    let spec = spec();
    let mut memory = Memory::new("s", Epoch(1));
    for _ in 0..8 * 60 {
        let cycle = poll_once(reconcile(&spec, Mode::Act, &mut memory, ports));
        cycle.expect("no port waits").expect("the store takes all");
        world.with(|world| world.advance(world.now() + MINUTE));
    }
    let cycle = poll_once(reconcile(&spec, Mode::Rehearse, &mut memory, ports));
    cycle.expect("no port waits").expect("the store takes all");
    let summary = world.with(|world| world.summary());
    let charged = summary.instance_cost.get();
    (charged, memory.ledger.spent().get(), summary.launches)
}

#[test]
fn the_ledger_agrees_with_the_bill() {
    for seed in 0..5 {
        let (charged, spent, launches) = run(seed, Duration::ZERO);
        assert!(launches > 50, "nothing was tried: {launches} launches");
        assert_eq!(spent, charged, "seed {seed}, {launches} launches");
        // Late listings show an end late, never by more than a cycle more.
        let (charged, spent, launches) = run(seed, Duration::from_secs(90));
        let slack = i64::try_from(launches * 60 * 1_000).expect("small");
        assert!(
            (charged - spent).abs() <= slack,
            "seed {seed}: {spent} of {charged}, {launches} launches"
        );
    }
}
