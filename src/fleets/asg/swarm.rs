//! The whole cycle against a group in memory that loses requests and answers,
//! lists late, runs out of capacity and is raised by others, while the daemon
//! crashes in between.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::future::pending;
use std::path::Path;
use std::time::Duration;

use windlass_policies::memory::Memory;
use windlass_policies::memory_store::MemoryStore;
use windlass_policies::model::{Epoch, FleetError, InstanceId, Work};
use windlass_policies::policy::Policy;
use windlass_policies::ports::{Clock, MetricSource, Store};
use windlass_policies::reconcile::{Mode, Ports, reconcile};
use windlass_policies::signal::{Readings, SignalSpec};
use windlass_policies::spec::FleetSpec;
use windlass_policies::units::Timestamp;
use windlass_simulator::engine::poll_once;
use windlass_simulator::random::Stream;

use super::group::{Group, Member, Stage};
use super::{AsgFleet, Detail, GroupCalls, Rules};
use crate::config::Config;

const FLEET: &str = "web";
const MINUTE: Duration = Duration::from_mins(1);

/// Seeds tried by default: a second's worth.
const SEEDS_DEFAULT: u64 = 60;

/// Sizes that are wished for one after the other.
const WISHES: [u32; 5] = [3, 9, 4, 12, 2];

/// Cycles with faults per wish, and then without: enough for a launch that was
/// lost three times to be given up and made again.
const FAULTY_CYCLES: u64 = 12;
const CALM_CYCLES: u64 = 25;

/// What is drawn for a whole run.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    /// Percent of changing calls that never arrive.
    lost_requests: u64,
    /// Percent of changing calls that are done, and nobody hears of it.
    lost_answers: u64,
    /// Percent of all calls that are throttled.
    throttled: u64,
    /// Percent of all calls in which the daemon dies, before or after.
    crashes: u64,
    /// Cycles by which the group tells of its members late.
    lag: usize,
}

/// The group as it really is.
#[derive(Debug, Default)]
struct World {
    now: Timestamp,
    desired: u32,
    tags: BTreeMap<String, String>,
    members: BTreeMap<InstanceId, (Timestamp, Stage)>,
    /// What `members` was at earlier cycles, the newest last.
    past: Vec<BTreeMap<InstanceId, (Timestamp, Stage)>>,
    fenced: BTreeSet<InstanceId>,
    serial: u32,
    /// Until when the group finds no capacity.
    dry_until: Timestamp,
    /// Instances that the group ended of its own choice.
    chosen: u32,
    trouble: Vec<String>,
}

struct Model {
    world: RefCell<World>,
    stream: RefCell<Stream>,
    faults: Cell<Faults>,
    max: u32,
    /// The daemon dies right after the desired number was set.
    dies_after_raise: Cell<bool>,
    /// The tags of launches are not kept.
    forgets_tags: bool,
}

impl Model {
    fn draw(&self, percent: u64) -> bool {
        percent > 0 && self.stream.borrow_mut().below(100) < percent
    }

    /// One minute passes: what boots comes into service, and the group makes
    /// its number true.
    fn pass(&self) {
        let mut world = self.world.borrow_mut();
        world.now = world.now + MINUTE;
        let now = world.now;
        world
            .members
            .retain(|_, (_, stage)| *stage != Stage::Ending);
        for (launched_at, stage) in world.members.values_mut() {
            if *stage == Stage::Booting && now.since(*launched_at) >= 2 * MINUTE {
                *stage = Stage::Serving;
            }
        }
        let counting = |world: &World| {
            let all = world.members.values();
            u32::try_from(all.filter(|(_, stage)| stage.counts()).count()).expect("few")
        };
        let dry = now < world.dry_until;
        while counting(&world) < world.desired && !dry {
            world.serial += 1;
            // EC2's clock is not ours, and names come in no order.
            let scattered = world.serial.wrapping_mul(2_654_435_761);
            let id = InstanceId::new(&format!("i-{scattered:08x}"));
            world.members.insert(id, (now, Stage::Booting));
            if self.draw(20) {
                break;
            }
        }
        while counting(&world) > world.desired {
            let first = world.members.iter_mut().find(|(_, one)| one.1.counts());
            first.expect("there are too many").1.1 = Stage::Ending;
            world.chosen += 1;
        }
        let members = world.members.clone();
        world.past.push(members);
    }

    /// What befalls a question.
    async fn ask(&self) -> Result<(), FleetError> {
        let faults = self.faults.get();
        if self.draw(faults.crashes) {
            return pending().await;
        }
        if self.draw(faults.throttled) {
            return Err(FleetError::Throttled);
        }
        if self.draw(faults.lost_requests) {
            return Err(FleetError::Unknown("no answer".to_owned()));
        }
        Ok(())
    }

    /// What befalls a change.
    async fn change(&self, change: impl FnOnce(&mut World)) -> Result<(), FleetError> {
        let faults = self.faults.get();
        if self.draw(faults.crashes) {
            return pending().await;
        }
        if self.draw(faults.throttled) {
            return Err(FleetError::Throttled);
        }
        let lost = |what: &str| FleetError::Unknown(what.to_owned());
        if self.draw(faults.lost_requests) {
            return Err(lost("request lost"));
        }
        change(&mut self.world.borrow_mut());
        if self.draw(faults.crashes) {
            return pending().await;
        }
        if self.draw(faults.lost_answers) {
            return Err(lost("answer lost"));
        }
        Ok(())
    }

    fn read(&self) -> Group {
        let world = self.world.borrow();
        let lag = self.faults.get().lag;
        let at = world.past.len().saturating_sub(1 + lag);
        let late = world.past.get(at).cloned().unwrap_or_default();
        let members = late.into_iter().map(|(id, (_, stage))| Member {
            id,
            stage,
            instance_type: "m7g.large".to_owned(),
            protected: false,
        });
        Group {
            read_at: world.now,
            name: FLEET.to_owned(),
            desired: world.desired,
            min: 0,
            max: self.max,
            suspended: BTreeSet::new(),
            tags: world.tags.clone(),
            warm_pool: false,
            members: members.collect(),
        }
    }
}

impl Clock for &Model {
    fn now(&self) -> Timestamp {
        self.world.borrow().now
    }
}

impl MetricSource for Model {
    async fn read(&self, _signals: &[SignalSpec], _now: Timestamp) -> Readings {
        Readings::default()
    }
}

impl GroupCalls for &Model {
    async fn listing(&self, _not_before: Timestamp) -> Result<Group, FleetError> {
        self.ask().await?;
        Ok(Model::read(self))
    }

    async fn reading(&self) -> Result<Group, FleetError> {
        self.ask().await?;
        Ok(Model::read(self))
    }

    async fn refreshing(&self) -> Result<bool, FleetError> {
        self.ask().await.map(|()| false)
    }

    async fn movers(&self) -> Result<Vec<String>, FleetError> {
        Ok(Vec::new())
    }

    async fn failure(&self) -> Result<Option<String>, FleetError> {
        Ok(None)
    }

    async fn tag(&self, tags: &BTreeMap<String, String>) -> Result<(), FleetError> {
        let mut tags = tags.clone();
        if self.forgets_tags {
            tags.clear();
        }
        self.change(|world| world.tags.extend(tags)).await
    }

    async fn untag(&self, keys: &[String]) -> Result<(), FleetError> {
        self.change(|world| world.tags.retain(|key, _| !keys.contains(key)))
            .await
    }

    async fn set_desired(&self, desired: u32) -> Result<(), FleetError> {
        let max = self.max;
        self.change(|world| {
            if desired < world.desired || desired > max {
                let was = world.desired;
                world.trouble.push(format!("desired {was} -> {desired}"));
            }
            world.desired = desired;
        })
        .await?;
        if self.dies_after_raise.replace(false) {
            return pending().await;
        }
        Ok(())
    }

    async fn end(&self, instance: &InstanceId) -> Result<(), FleetError> {
        let there = self.world.borrow().members.get(instance).copied();
        match there {
            Some((_, stage)) if stage.counts() => {}
            _ => return Err(FleetError::NotFound),
        }
        self.change(|world| {
            if !world.fenced.contains(instance) {
                world.trouble.push(format!("{instance} ended unfenced"));
            }
            world.desired -= 1;
            if let Some(one) = world.members.get_mut(instance) {
                one.1 = Stage::Ending;
            }
        })
        .await
    }

    async fn details(
        &self,
        _read_at: Timestamp,
        members: &[Member],
    ) -> Result<BTreeMap<InstanceId, Detail>, FleetError> {
        self.ask().await?;
        let world = self.world.borrow();
        let detail = |member: &Member| {
            let (launched_at, _) = world.members.get(&member.id)?;
            let fenced = world.fenced.contains(&member.id);
            let detail = Detail {
                launched_at: *launched_at,
                fenced,
                work: Work::Idle,
                notice: None,
            };
            Some((member.id.clone(), detail))
        };
        Ok(members.iter().filter_map(detail).collect())
    }

    async fn fence(&self, _epoch: Epoch, instance: &InstanceId) -> Result<Work, FleetError> {
        let instance = instance.clone();
        self.change(|world| {
            world.fenced.insert(instance);
        })
        .await?;
        Ok(Work::Idle)
    }

    async fn unfence(&self, instance: &InstanceId) -> Result<(), FleetError> {
        self.change(|world| {
            world.fenced.remove(instance);
        })
        .await
    }
}

fn spec() -> FleetSpec {
    let text = "
        [fleet.web]
        provider = \"simulated\"
        [fleet.web.simulated]
        scenario = \"builtin:web-week\"
        [fleet.web.limits]
        min = 0
        max = 20
        max_usd_per_hour = 1000
        shrink_settle = \"0s\"
        [[fleet.web.policy]]
        kind = \"fixed\"
        instances = 3
    ";
    let config = Config::parse(text, Path::new("")).expect("a fleet");
    config.fleets[0].spec.clone()
}

fn wishing(spec: &FleetSpec, instances: u32) -> FleetSpec {
    let mut spec = spec.clone();
    for named in &mut spec.policies {
        if let Policy::Fixed(fixed) = &mut named.policy {
            fixed.instances = instances;
        }
    }
    spec
}

impl Model {
    fn new(seed: u64) -> Self {
        Self {
            world: RefCell::new(World {
                now: Timestamp::from_secs(1_000_000),
                ..World::default()
            }),
            stream: RefCell::new(Stream::new(seed, "asg")),
            faults: Cell::default(),
            max: 20,
            dies_after_raise: Cell::new(false),
            forgets_tags: false,
        }
    }

    fn desired(&self) -> u32 {
        self.world.borrow().desired
    }

    /// Instances that run or boot.
    fn there(&self) -> usize {
        let world = self.world.borrow();
        world.members.values().filter(|one| one.1.counts()).count()
    }
}

/// Runs one seed through all wishes, and says what was wrong.
fn run(seed: u64) -> Vec<String> {
    let mut stream = Stream::new(seed, "asg faults");
    let mut percent = |bound: u64| stream.below(bound);
    let faults = Faults {
        lost_requests: percent(25),
        lost_answers: percent(40),
        throttled: percent(20),
        crashes: percent(6),
        lag: usize::try_from(percent(3)).expect("small"),
    };
    let model = Model::new(seed);
    let spec = spec();
    let store = MemoryStore::keeping_tail();
    let mut daemon = Daemon::start(&model, &spec, &store, 1);
    let mut found = Vec::new();
    for wish in WISHES {
        let spec = wishing(&spec, wish);
        let highest = wish.max(model.desired());
        for cycle in 0..FAULTY_CYCLES + CALM_CYCLES {
            let calm = cycle >= FAULTY_CYCLES;
            model
                .faults
                .set(if calm { Faults::default() } else { faults });
            if !calm && model.draw(10) {
                let mut world = model.world.borrow_mut();
                world.dry_until = world.now + 3 * MINUTE;
            }
            daemon = daemon.cycle(&spec, &store);
            let desired = model.desired();
            if desired > highest {
                found.push(format!(
                    "{desired} desired, {wish} wished, {highest} before"
                ));
            }
        }
        let (there, desired) = (model.there(), model.desired());
        if desired != wish || u32::try_from(there) != Ok(wish) {
            found.push(format!("{wish} wished, {there} there, {desired} desired"));
        }
    }
    let world = model.world.borrow();
    found.extend(world.trouble.iter().cloned());
    if world.chosen > 0 {
        found.push(format!("the group chose {} to end", world.chosen));
    }
    found
}

/// One life of a daemon.
struct Daemon<'a> {
    model: &'a Model,
    epoch: u64,
    memory: Memory,
    fleet: AsgFleet<&'a Model, &'a Model>,
}

impl<'a> Daemon<'a> {
    fn start(model: &'a Model, spec: &FleetSpec, store: &MemoryStore, epoch: u64) -> Self {
        let tail = store.tail(FLEET).expect("a store in memory");
        let rules = Rules {
            offering: spec.offerings[0].name.clone(),
            min: spec.limits.min,
            max: spec.limits.max,
            patience: spec.limits.listing_patience,
        };
        Self {
            model,
            epoch,
            memory: Memory::rebuild(spec, "0a1b2c", Epoch(epoch), &tail),
            fleet: AsgFleet::new(rules, model, model),
        }
    }

    /// A minute passes, then one cycle; if it dies in it, the next life.
    fn cycle(mut self, spec: &FleetSpec, store: &MemoryStore) -> Self {
        self.model.pass();
        let ports = Ports {
            clock: &self.model,
            metrics: self.model,
            provider: &self.fleet,
            store,
        };
        match poll_once(reconcile(spec, Mode::Act, &mut self.memory, ports)) {
            Some(_) => self,
            None => Self::start(self.model, spec, store, self.epoch + 1),
        }
    }

    fn cycles(self, count: usize, spec: &FleetSpec, store: &MemoryStore) -> Self {
        (0..count).fold(self, |daemon, _| daemon.cycle(spec, store))
    }
}

fn seeds() -> std::ops::Range<u64> {
    let set = |name: &str| env::var(name).ok().and_then(|text| text.parse().ok());
    let first = set("WINDLASS_SWARM_FIRST").unwrap_or(0);
    first..first + set("WINDLASS_SWARM_SEEDS").unwrap_or(SEEDS_DEFAULT)
}

#[test]
fn swarm_of_lost_answers_neither_doubles_nor_leaks_a_launch() {
    for seed in seeds() {
        let found = run(seed);
        assert!(found.is_empty(), "seed {seed}: {found:#?}");
    }
}

/// The daemon dies right after a raise from 3 to 9, and 12 are wanted then:
/// how many are there when the new daemon has observed and launched?
fn after_a_death(forgets_tags: bool) -> (u32, usize) {
    let model = Model {
        forgets_tags,
        ..Model::new(1)
    };
    let (spec, store) = (spec(), MemoryStore::keeping_tail());
    let daemon = Daemon::start(&model, &spec, &store, 1).cycles(8, &spec, &store);
    assert_eq!((model.desired(), model.there()), (3, 3));
    model.dies_after_raise.set(true);
    let daemon = daemon.cycle(&wishing(&spec, 9), &store);
    assert_eq!((model.desired(), daemon.epoch), (9, 2));
    daemon.cycles(6, &wishing(&spec, 12), &store);
    (model.desired(), model.there())
}

#[test]
fn a_launch_is_known_again_after_a_crash() {
    assert_eq!(after_a_death(false), (12, 12));
    // Without the tag its instances count twice until patience ends.
    assert_eq!(after_a_death(true).0, 9);
}

#[test]
fn instances_that_came_and_went_are_not_waited_for_after_a_restart() {
    let model = Model::new(6);
    let (spec, store) = (wishing(&spec(), 4), MemoryStore::keeping_tail());
    let daemon = Daemon::start(&model, &spec, &store, 1).cycles(6, &spec, &store);
    daemon.cycles(3, &wishing(&spec, 1), &store);
    assert_eq!((model.desired(), model.there()), (1, 1));
    // The tag of the first launch still stands on the group.
    let daemon = Daemon::start(&model, &spec, &store, 2);
    let spec = wishing(&spec, 5);
    let daemon = daemon.cycles(4, &spec, &store);
    assert_eq!((model.desired(), model.there()), (5, 5));
    daemon.cycles(4, &spec, &store);
    assert_eq!((model.desired(), model.there()), (5, 5));
}

#[test]
fn a_group_that_cannot_deliver_is_not_asked_for_more_and_more() {
    let model = Model::new(2);
    let (spec, store) = (spec(), MemoryStore::keeping_tail());
    let daemon = Daemon::start(&model, &spec, &store, 1).cycles(8, &spec, &store);
    let until = Clock::now(&&model) + 60 * MINUTE;
    model.world.borrow_mut().dry_until = until;
    let spec = wishing(&spec, 9);
    let daemon = daemon.cycles(59, &spec, &store);
    assert_eq!((model.desired(), model.there()), (9, 3));
    daemon.cycles(10, &spec, &store);
    assert_eq!((model.desired(), model.there()), (9, 9));
}

#[test]
fn what_others_raise_is_taken_as_it_is() {
    let model = Model::new(3);
    let (spec, store) = (spec(), MemoryStore::keeping_tail());
    let daemon = Daemon::start(&model, &spec, &store, 1).cycles(8, &spec, &store);
    // A person raises it while the fleet is about to grow to 6.
    model.world.borrow_mut().desired = 7;
    let daemon = daemon.cycles(4, &wishing(&spec, 6), &store);
    assert!(model.desired() <= 7, "{} desired", model.desired());
    daemon.cycles(10, &wishing(&spec, 6), &store);
    assert_eq!((model.desired(), model.there()), (6, 6));
    assert_eq!(model.world.borrow().chosen, 0);
}

#[test]
fn what_others_lower_is_not_fought_within_the_cycle() {
    let model = Model::new(4);
    let (spec, store) = (wishing(&spec(), 8), MemoryStore::keeping_tail());
    let daemon = Daemon::start(&model, &spec, &store, 1).cycles(8, &spec, &store);
    assert_eq!(model.there(), 8);
    model.faults.set(Faults {
        lag: 1,
        ..Faults::default()
    });
    // The listing still shows eight when nine are wanted: one more than the
    // person's three, not nine.
    model.world.borrow_mut().desired = 3;
    let daemon = daemon.cycle(&wishing(&spec, 9), &store);
    assert_eq!(model.desired(), 4);
    model.faults.set(Faults::default());
    daemon.cycles(8, &wishing(&spec, 9), &store);
    assert_eq!((model.desired(), model.there()), (9, 9));
}

#[test]
fn an_older_epoch_changes_nothing_any_more() {
    let model = Model::new(5);
    let (spec, store) = (spec(), MemoryStore::keeping_tail());
    let old = Daemon::start(&model, &spec, &store, 1);
    let new = Daemon::start(&model, &spec, &store, 2).cycles(8, &spec, &store);
    let (desired, tags) = (model.desired(), model.world.borrow().tags.clone());
    old.cycles(8, &wishing(&spec, 9), &store);
    assert_eq!(model.desired(), desired);
    assert_eq!(model.world.borrow().tags, tags);
    new.cycles(8, &wishing(&spec, 5), &store);
    assert_eq!(model.desired(), 5);
}
