//! One faulty run: a world, its faults, a controller that crashes and comes
//! back, and a witness between them who writes down what is really done.

mod market;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use windlass_policies::audit::audit;
use windlass_policies::memory::Memory;
use windlass_policies::memory_store::MemoryStore;
use windlass_policies::model::{
    Action, Billing, Epoch, FleetError, LaunchToken, Listing, Market, Offering, Outcome, Phase,
    Reason, Work,
};
use windlass_policies::policy::{Fixed, NamedPolicy, Policy, QueueBacklog, TargetTracking};
use windlass_policies::ports::{
    Clock, Decided, FleetProvider, MetricSource, Record, Store, StoreError,
};
use windlass_policies::reconcile::{Mode, Ports, reconcile};
use windlass_policies::signal::{Reading, Readings, SignalSpec};
use windlass_policies::spec::{
    Drain, FleetSpec, Limits, Mix, Objective, OnRebalance, Spot, Strays,
};
use windlass_policies::units::{MicroUsdPerHour, Timestamp};
use windlass_simulator::engine::poll_once;
use windlass_simulator::faults::{FaultMix, Faults, Faulty};
use windlass_simulator::queue::{JobColumns, Keep, QueueSpec, ServerSpec};
use windlass_simulator::random::Stream;
use windlass_simulator::world::cloud::{
    BucketSpec, CapacitySpec, CloudSpec, FaultSpec, InterruptionSpec, PoolSpec,
};
use windlass_simulator::world::{SimulatedPorts, World, WorldSpec};

use market::Bazaar;

const FLEET: &str = "workers";
const PRICE: MicroUsdPerHour = MicroUsdPerHour::new(100_000);
const MINUTE: Duration = Duration::from_mins(1);

/// Jobs arrive and things go wrong for so long; then all is calm.
const STORM: Duration = Duration::from_hours(3);

/// By then everything must have settled, also if only a fifth of the fleet may
/// be ended in an hour.
const CALM: Duration = Duration::from_hours(12);

/// In the calm a cycle in five minutes will do.
const CALM_STEP: Duration = Duration::from_mins(5);

/// A mistake that the swarm must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    UnlistedNotCounted,
    LostAnswerIsFailure,
    RecordAfterActing,
    AbsentIsZero,
    OneListedClearsLaunch,
    MemoryNotRebuilt,
    FenceAlwaysIdle,
    IncompleteIsComplete,
    PriceHalved,
    TokensRepeat,
    StraysNotConfirmed,
    RebalanceIgnored,
}

/// What came of a run.
pub(crate) struct Report {
    /// Every invariant that broke, in words.
    pub(crate) violations: Vec<String>,
    /// The whole history, to compare byte by byte.
    pub(crate) record: String,
}

/// Where a run takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cloud {
    /// The world does nothing of its own accord.
    Plain,
    /// Its pools run dry and are taken back in waves, calls are refused, boots
    /// fail, instances die.
    Market,
}

/// The run of `seed`, perhaps with a mistake in it.
pub(crate) fn run(seed: u64, bug: Option<Bug>) -> Report {
    run_in(Cloud::Plain, seed, bug)
}

/// The run of `seed` in `cloud`, perhaps with a mistake in it.
pub(crate) fn run_in(cloud: Cloud, seed: u64, bug: Option<Bug>) -> Report {
    let spec = draw_spec(seed);
    let faults = Faults::new(FaultMix::drawn(seed), seed);
    let stormy = Arc::new(AtomicBool::new(true));
    let world = SimulatedPorts::new(draw_world(cloud, seed, &stormy));
    let store = MemoryStore::keeping_all();
    let witness = Witness {
        world: &world,
        market: Bazaar::new(seed, &world, &stormy),
        store: &store,
        absent: Cell::new(false),
        spec: &spec,
        bug,
        found: RefCell::new(Vec::new()),
    };
    let mut controller = Controller::new(&spec, bug);
    let begins_at = world.now();
    let mut tick = begins_at;
    while tick < begins_at + STORM + CALM {
        tick = tick
            + if stormy.load(Relaxed) {
                MINUTE
            } else {
                CALM_STEP
            };
        world.with(|world| world.advance(tick));
        if stormy.load(Relaxed) && tick >= begins_at + STORM {
            stormy.store(false, Relaxed);
            faults.calm();
            world.with(World::calm);
        }
        witness.market.tick();
        controller.cycle(&witness, &faults, &store);
        witness.look_at_world();
    }
    witness.look_at_end();
    let record = store.look(FLEET, |records| {
        audit_all(&spec, records, &mut witness.found.borrow_mut());
        serde_json::to_string(records).expect("records are plain data")
    });
    Report {
        violations: witness.found.into_inner(),
        record,
    }
}

/// How many actions of a writer of epoch `old` are carried out after one of
/// epoch `new` has acted.
pub(crate) fn zombie(old_offset: u64, new: u64) -> usize {
    let mut spec = draw_spec(1);
    spec.limits.observe_cycles = 0;
    spec.policies = vec![named("fixed", Policy::Fixed(Fixed { instances: 4 }))];
    let world = SimulatedPorts::new(draw_world(
        Cloud::Plain,
        1,
        &Arc::new(AtomicBool::new(true)),
    ));
    let store = MemoryStore::keeping_tail();
    let ports = Ports {
        clock: &world,
        metrics: &world,
        provider: &world,
        store: &store,
    };
    let step = |epoch: u64, wanted: u32| {
        let mut spec = spec.clone();
        spec.policies = vec![named("fixed", Policy::Fixed(Fixed { instances: wanted }))];
        let mut memory = Memory::new("s", Epoch(epoch));
        let cycle = poll_once(reconcile(&spec, Mode::Act, &mut memory, ports));
        let cycle = cycle.expect("no port waits").expect("the store takes all");
        cycle
            .done
            .iter()
            .filter(|(_, out)| !matches!(out, Outcome::Failed(_)))
            .count()
    };
    assert_ne!(step(new, 4), 0);
    world.with(|world| world.advance(world.now() + MINUTE * 30));
    step(old_offset, 0)
}

/// The controller's process: it dies when a port never answers.
struct Controller<'a> {
    spec: &'a FleetSpec,
    bug: Option<Bug>,
    memory: Memory,
}

impl<'a> Controller<'a> {
    fn new(spec: &'a FleetSpec, bug: Option<Bug>) -> Self {
        Self {
            spec,
            bug,
            memory: Memory::new("s", Epoch(1)),
        }
    }

    fn cycle(&mut self, witness: &Witness<'_>, faults: &Faults, store: &MemoryStore) {
        match self.bug {
            Some(Bug::UnlistedNotCounted) => self.memory.launches.clear(),
            Some(Bug::OneListedClearsLaunch) => {
                self.memory
                    .launches
                    .retain(|_, launch| launch.seen.is_empty());
            }
            _ => {}
        }
        let believed = believed_spec(self.spec, self.bug);
        let port = Faulty {
            inner: witness,
            faults,
        };
        let misled = Misled {
            inner: &port,
            bug: self.bug,
        };
        let late = LateStore {
            inner: store,
            late: self.bug == Some(Bug::RecordAfterActing),
            held: RefCell::default(),
        };
        let stores = Faulty {
            inner: &late,
            faults,
        };
        let ports = Ports {
            clock: &port,
            metrics: &misled,
            provider: &misled,
            store: &stores,
        };
        let survived =
            poll_once(reconcile(&believed, Mode::Act, &mut self.memory, ports)).is_some();
        if survived {
            late.flush(store);
            return;
        }
        let epoch = Epoch(self.memory.epoch.0 + 1);
        self.memory = if self.bug == Some(Bug::MemoryNotRebuilt) {
            Memory {
                cycle: self.memory.cycle + 1,
                ..Memory::new("s", epoch)
            }
        } else {
            let tail = store.tail(FLEET).expect("a store in memory can be read");
            Memory::rebuild(self.spec, "s", epoch, &tail)
        };
    }
}

fn believed_spec(spec: &FleetSpec, bug: Option<Bug>) -> FleetSpec {
    let mut spec = spec.clone();
    if bug == Some(Bug::PriceHalved) {
        for offering in &mut spec.offerings {
            offering.price = MicroUsdPerHour::new(offering.price.get() / 2);
        }
    }
    if bug == Some(Bug::StraysNotConfirmed) {
        spec.limits.strays_confirmations = 1;
    }
    if bug == Some(Bug::RebalanceIgnored) {
        spec.spot.on_rebalance = OnRebalance::Ignore;
    }
    spec
}

/// Stands before the world and checks everything that is really done to it.
struct Witness<'a> {
    world: &'a SimulatedPorts,
    market: Bazaar<'a>,
    store: &'a MemoryStore,
    spec: &'a FleetSpec,
    bug: Option<Bug>,
    /// Whether a reading that some policy needs was absent in this cycle.
    absent: Cell<bool>,
    found: RefCell<Vec<String>>,
}

impl Witness<'_> {
    fn report(&self, what: String) {
        self.found.borrow_mut().push(what);
    }

    fn look_at_world(&self) {
        let alive = self.world.with(|world| world.alive_count());
        // Whoever launched those did not ask.
        let uninvited = self.market.strays();
        if alive > self.spec.limits.max.saturating_add(uninvited) {
            self.report(format!(
                "{alive} instances: more instances than max {}",
                self.spec.limits.max
            ));
        }
        let spend = self.market.spend();
        let most = self.spec.limits.max_usd_per_hour.get() + PRICE.times(uninvited).get();
        if spend.get() > most {
            self.report(format!(
                "the fleet costs ${spend} an hour, more an hour than it may"
            ));
        }
        let killed = self.world.with(|world| world.summary().busy_killed);
        if killed > self.market.busy_reclaimed() {
            self.report(format!("{killed} instances were ended with jobs in hand"));
        }
    }

    /// Without jobs and without faults the fleet has what its policies wish.
    fn look_at_end(&self) {
        let last = self.store.look(FLEET, |records| {
            records.iter().rev().find_map(|record| match record {
                Record::Decided(decided) => Some(decided.decision.summary()),
                Record::Planned { .. } | Record::Acted { .. } => None,
            })
        });
        let last = last.unwrap_or_default();
        let wished = self.spec.policies.iter().map(|named| match &named.policy {
            Policy::Fixed(fixed) => fixed.instances,
            // It keeps one, or it could not start again.
            Policy::TargetTracking(rule) => u32::from(!rule.to_zero),
            _ => 0,
        });
        let limits = &self.spec.limits;
        let wished = wished.max().unwrap_or(0).clamp(limits.min, limits.max);
        let alive = self.world.with(|world| world.alive_count());
        // The next may have to be one of the dearest, as far as the mix goes.
        let poor = self.market.spend().get() + PRICE.get() > limits.max_usd_per_hour.get();
        if alive > wished || alive < wished && !poor {
            self.report(format!(
                "{alive} instances at the end instead of {wished}: it does not settle: {last}"
            ));
        }
        let busy = self.world.with(|world| world.snapshot().busy);
        if busy > 0 {
            self.report(format!(
                "{busy} jobs in flight at the end: it does not settle"
            ));
        }
    }

    /// Whether `action` lets go an instance that is or may still become ready.
    fn lets_go_capacity(&self, action: &Action) -> bool {
        let (Action::Fence { instance } | Action::Terminate { instance, .. }) = action else {
            return false;
        };
        if self.market.is_interrupted(instance) {
            return false;
        }
        let listing = loop {
            // Listings may fail, one after the other hardly.
            if let Ok(listing) = self.world.with(|world| world.list(FLEET)) {
                break listing;
            }
        };
        let shown = listing.instances.iter().find(|shown| shown.id == *instance);
        !shown.is_some_and(|shown| {
            let age = self.world.now().since(shown.launched_at);
            // One that is taken back anyway is no capacity.
            let failed = shown.phase == Phase::Booting && age > self.spec.limits.boot_timeout;
            failed || shown.notice.is_some()
        })
    }

    fn is_written(&self, action: &Action) -> bool {
        self.store.look(FLEET, |records| {
            records.iter().rev().any(|record| match record {
                Record::Decided(decided) => decided.decision.actions.contains(action),
                Record::Planned {
                    action: planned, ..
                } => planned == action,
                Record::Acted { .. } => false,
            })
        })
    }
}

impl Clock for Witness<'_> {
    fn now(&self) -> Timestamp {
        self.world.now()
    }
}

impl MetricSource for Witness<'_> {
    async fn read(&self, signals: &[SignalSpec], now: Timestamp) -> Readings {
        self.world.read(signals, now).await
    }
}

impl FleetProvider for Witness<'_> {
    async fn list(&self, fleet: &str) -> Result<Listing, FleetError> {
        self.market.list(fleet).await
    }

    async fn apply(&self, fleet: &str, epoch: Epoch, action: &Action) -> Outcome {
        if !self.is_written(action) {
            self.report(format!("{action} was not written down before it was done"));
        }
        if self.lets_go_capacity(action) && self.absent.get() {
            self.report(format!("{action} on an absent reading"));
        }
        let action = match (self.bug, action) {
            (
                Some(Bug::TokensRepeat),
                Action::Launch {
                    offering, count, ..
                },
            ) => Action::Launch {
                token: LaunchToken::new("s", FLEET, Epoch(0), 0, 0),
                offering: offering.clone(),
                count: *count,
            },
            _ => action.clone(),
        };
        self.market.apply(fleet, epoch, &action).await
    }
}

/// What a buggy controller makes of the answers it gets.
struct Misled<'a> {
    inner: &'a Faulty<'a, Witness<'a>>,
    bug: Option<Bug>,
}

impl MetricSource for Misled<'_> {
    async fn read(&self, signals: &[SignalSpec], now: Timestamp) -> Readings {
        let mut readings = self.inner.read(signals, now).await;
        let needed = signals
            .iter()
            .any(|signal| readings.sample(&signal.name).is_err());
        self.inner.inner.absent.set(needed);
        if self.bug == Some(Bug::AbsentIsZero) {
            for signal in signals {
                if readings.sample(&signal.name).is_err() {
                    readings.insert(&signal.name, Reading::complete(0.0, now));
                }
            }
        }
        readings
    }
}

impl FleetProvider for Misled<'_> {
    async fn list(&self, fleet: &str) -> Result<Listing, FleetError> {
        let mut listing = self.inner.list(fleet).await?;
        listing.complete |= self.bug == Some(Bug::IncompleteIsComplete);
        Ok(listing)
    }

    async fn apply(&self, fleet: &str, epoch: Epoch, action: &Action) -> Outcome {
        let outcome = self.inner.apply(fleet, epoch, action).await;
        match (self.bug, outcome) {
            (Some(Bug::LostAnswerIsFailure), Outcome::Failed(FleetError::Unknown(_))) => {
                Outcome::Failed(FleetError::Throttled)
            }
            (Some(Bug::FenceAlwaysIdle), _) if matches!(action, Action::Fence { .. }) => {
                Outcome::Fenced { work: Work::Idle }
            }
            (_, outcome) => outcome,
        }
    }
}

/// A store that, if it is `late`, writes decisions down after they are done.
struct LateStore<'a> {
    inner: &'a MemoryStore,
    late: bool,
    held: RefCell<Vec<Record>>,
}

impl LateStore<'_> {
    fn flush(&self, store: &MemoryStore) {
        for record in self.held.borrow_mut().drain(..) {
            store
                .append(FLEET, &record)
                .expect("a store in memory takes all");
        }
    }
}

impl Store for LateStore<'_> {
    fn append(&self, fleet: &str, record: &Record) -> Result<(), StoreError> {
        if self.late {
            self.held.borrow_mut().push(record.clone());
            return Ok(());
        }
        self.inner.append(fleet, record)
    }

    fn tail(&self, fleet: &str) -> Result<Vec<Record>, StoreError> {
        self.inner.tail(fleet)
    }
}

/// Every decision on record is sound, by the audit's own count.
fn audit_all(spec: &FleetSpec, records: &[Record], found: &mut Vec<String>) {
    for record in records {
        let Record::Decided(decided) = record else {
            continue;
        };
        let Decided {
            memory,
            seen,
            decision,
            ..
        } = decided.as_ref();
        let refused = decision
            .reasons
            .iter()
            .any(|reason| matches!(reason, Reason::Refused { .. }));
        if refused {
            found.push(format!(
                "cycle {} was refused: {}",
                decision.cycle,
                decision.summary()
            ));
        }
        let violations = audit(spec, memory, seen, decision);
        found.extend(
            violations
                .iter()
                .map(|one| format!("cycle {}: {one}", decision.cycle)),
        );
    }
}

fn named(name: &str, policy: Policy) -> NamedPolicy {
    NamedPolicy {
        name: name.to_owned(),
        policy,
    }
}

/// Limits and policies of a seed.
fn draw_spec(seed: u64) -> FleetSpec {
    let mut stream = Stream::new(seed, "spec");
    let mut draw = |bound: u64| u32::try_from(stream.below(bound)).expect("small");
    let max = 3 + draw(12);
    let fixed = named(
        "fixed",
        Policy::Fixed(Fixed {
            instances: 1 + draw(8),
        }),
    );
    let mut backlog = QueueBacklog::new(f64::from(1 + draw(3)));
    backlog.count_in_flight = draw(4) > 0;
    let backlog = named("queue_backlog", Policy::QueueBacklog(backlog));
    let tracking = named(
        "target_tracking",
        Policy::TargetTracking(TargetTracking::new(0.6)),
    );
    let policies = match draw(4) {
        0 => vec![fixed],
        1 => vec![backlog],
        2 => vec![backlog, fixed],
        _ => vec![backlog, tracking],
    };
    let mut signals: Vec<SignalSpec> = policies
        .iter()
        .flat_map(|named| named.policy.signals())
        .map(|name| SignalSpec::standard(name).expect("a standard signal"))
        .collect();
    signals.sort_by(|one, other| one.name.cmp(&other.name));
    signals.dedup();
    let mut spec = FleetSpec {
        name: FLEET.to_owned(),
        interval: MINUTE,
        offerings: Vec::new(),
        signals,
        policies,
        limits: Limits {
            min: draw(3),
            max,
            max_usd_per_hour: PRICE.times(2 + draw(15)),
            grow_step_max: 1 + draw(10),
            shrink_step_max: 1 + draw(10),
            grow_settle: MINUTE * draw(3),
            shrink_settle: MINUTE * draw(6),
            shrink_percent_per_hour_max: [20, 50, 100][draw(3) as usize],
            boot_timeout: MINUTE * 10,
            breaker_failures: 1 + draw(4),
            observe_cycles: draw(4),
            listing_patience: MINUTE * 10,
            strays: Strays::Adopt,
            strays_confirmations: Limits::STRAYS_CONFIRMATIONS,
        },
        mix: Mix::default(),
        spot: Spot::default(),
        drain: Drain {
            deadline: None,
            busy: draw(2) == 0,
        },
        objective: Objective::default(),
    };
    market::draw_market(seed, &mut spec);
    spec
}

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

/// A cloud in which everything happens often, as a seed draws it.
fn draw_cloud(seed: u64) -> CloudSpec {
    let mut stream = Stream::new(seed, "cloud");
    let mut minutes = |choices: [u32; 3]| {
        let place = usize::try_from(stream.below(3)).expect("small");
        MINUTE * choices[place]
    };
    let interruption = InterruptionSpec {
        every: minutes([30, 60, 600]),
        share: 0.8,
        within: minutes([0, 1, 3]),
        notice: MINUTE * 2,
        rebalance_ahead: minutes([0, 0, 5]),
        dry: minutes([0, 10, 60]),
    };
    let capacity = CapacitySpec {
        up: minutes([20, 60, 600]),
        down: minutes([1, 10, 30]),
    };
    let lifetime = minutes([60, 600, 60_000]);
    let pool = |offering: &Offering| match offering.market {
        Market::Spot => PoolSpec {
            capacity: Some(capacity),
            interruption: Some(interruption),
            instances_max: (offering.name == "spot-a").then_some(4),
            ..PoolSpec::default()
        },
        Market::OnDemand => PoolSpec::default(),
    };
    let bucket = |size, per_sec| Some(BucketSpec { size, per_sec });
    CloudSpec {
        seed,
        pools: market::draw_offerings(seed).iter().map(pool).collect(),
        faults: FaultSpec {
            launch_requests: bucket(2, 1),
            launch_instances: bucket(8, 1),
            terminate_requests: bucket(3, 1),
            launch_partial: 0.3,
            listing_fails: 0.05,
            listing_straggles: 0.2,
            listing_straggle_max: MINUTE * 4,
            boot_fails: 0.1,
            boot_hangs: 0.05,
            lifetime: Some(lifetime),
            metric_gaps: 0.1,
            metric_delay: None,
        },
        warm_pool: None,
    }
}

/// A world whose listings may be older than a cycle, and whose boots may hang
/// while it is stormy.
fn draw_world(cloud: Cloud, seed: u64, stormy: &Arc<AtomicBool>) -> World {
    let mut stream = Stream::new(seed, "world");
    let lag = [0, 5, 90, 150][usize::try_from(stream.below(4)).expect("small")];
    let metric_lag = [0, 60][usize::try_from(stream.below(2)).expect("small")];
    let boots_fail = [0.0, 0.1, 0.5][usize::try_from(stream.below(3)).expect("small")];
    let mut boots = Stream::new(seed, "boots");
    let stormy = Arc::clone(stormy);
    let boot = move || {
        let hangs = boots.uniform() < boots_fail && stormy.load(Relaxed);
        let micros = 30_000_000 + boots.below(120_000_000);
        (!hangs).then_some(micros)
    };
    let spec = WorldSpec {
        fleet: FLEET.to_owned(),
        begins_at: Timestamp::from_secs(1_000_000),
        offerings: market::draw_offerings(seed),
        initial: 0,
        listing_lag: Duration::from_secs(lag),
        metric_period: Duration::from_secs(metric_lag),
        metric_lag: Duration::from_secs(metric_lag),
        queue: QueueSpec {
            jobs: Arc::new(draw_jobs(&mut stream)),
            repeat_every: None,
            keep: Keep::Sums,
            responses: false,
        },
        server: ServerSpec::default(),
        cloud: match cloud {
            Cloud::Plain => CloudSpec::default(),
            Cloud::Market => draw_cloud(seed),
        },
    };
    World::new(spec, Box::new(boot)).expect("a sound world")
}

/// Bursts of jobs of up to five minutes each.
fn draw_jobs(stream: &mut Stream) -> JobColumns {
    let mut arrivals = Vec::new();
    let storm = u64::try_from(STORM.as_micros()).expect("hours");
    for _ in 0..stream.below(12) {
        let at = stream.below(storm);
        arrivals.extend((0..stream.below(30)).map(|_| (at + stream.below(60_000_000)).min(storm)));
    }
    arrivals.sort_unstable();
    let services = arrivals.iter().map(|_| stream.below(300_000_000)).collect();
    JobColumns::new(arrivals, services).expect("sorted")
}
