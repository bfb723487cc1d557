//! What EC2 does beside losing answers: offerings run dry for a while, grant
//! less than was asked, take spot instances back, and somebody else launches
//! instances with the fleet's tag.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use windlass_policies::model::{
    Action, Epoch, FleetError, InstanceId, LaunchToken, Listing, Market, Notice, Offering, Outcome,
};
use windlass_policies::ports::FleetProvider;
use windlass_policies::spec::{FleetSpec, Mix, OnRebalance, Strays};
use windlass_policies::units::{MicroUsdPerHour, Timestamp};
use windlass_simulator::random::Stream;
use windlass_simulator::world::SimulatedPorts;

use super::{FLEET, MINUTE, offering};

/// As on EC2.
const WARNING: Duration = Duration::from_mins(2);

/// An offering runs dry, or does not, for so long.
const WAVE_MINUTES: u64 = 12;

/// One, two or three offerings, and how much of the fleet must be on demand.
pub(crate) fn draw_market(seed: u64, spec: &mut FleetSpec) {
    let mut stream = Stream::new(seed, "market");
    let mut draw = |bound: u64| u32::try_from(stream.below(bound)).expect("small");
    spec.offerings = draw_offerings(seed);
    if spec.offerings.len() > 1 && draw(2) == 0 {
        spec.mix = Mix {
            on_demand_base: draw(3),
            on_demand_percent: 25 * draw(4),
        };
    }
    if draw(2) == 0 {
        spec.spot.on_rebalance = OnRebalance::Ignore;
    }
    if draw(2) == 0 {
        spec.limits.strays = Strays::End;
        spec.limits.strays_confirmations = 2 + draw(5);
    }
}

pub(crate) fn draw_offerings(seed: u64) -> Vec<Offering> {
    let mut stream = Stream::new(seed, "offerings");
    let mut large = offering();
    let spot = |name: &str, share: u64| Offering {
        name: name.to_owned(),
        price: MicroUsdPerHour::new(large.price.get() * share / 100),
        market: Market::Spot,
        ..offering()
    };
    let (one, other) = (spot("spot-a", 30), spot("spot-b", 45));
    let prepaid = u32::try_from(stream.below(3)).expect("small");
    match stream.below(3) {
        0 => vec![large],
        1 => vec![one, large],
        _ => {
            large.prepaid = prepaid;
            vec![one, other, large]
        }
    }
}

/// The world as a market.
pub(crate) struct Bazaar<'a> {
    world: &'a SimulatedPorts,
    seed: u64,
    pub(crate) stormy: &'a AtomicBool,
    stream: RefCell<Stream>,
    partial: f64,
    reclaims: f64,
    strays_left: Cell<u64>,
    offerings: Vec<Offering>,
    /// What was really bought.
    bought: RefCell<BTreeMap<InstanceId, String>>,
    notices: RefCell<BTreeMap<InstanceId, Notice>>,
    strays: RefCell<BTreeSet<InstanceId>>,
    /// Instances with jobs in hand that were taken back.
    busy_reclaimed: Cell<u64>,
}

impl<'a> Bazaar<'a> {
    pub(crate) fn new(seed: u64, world: &'a SimulatedPorts, stormy: &'a AtomicBool) -> Self {
        let mut stream = Stream::new(seed, "bazaar");
        let partial = [0.0, 0.3][usize::try_from(stream.below(2)).expect("small")];
        let reclaims = [0.0, 0.01, 0.05][usize::try_from(stream.below(3)).expect("small")];
        let strays_left = [0, 0, 0, 2][usize::try_from(stream.below(4)).expect("small")];
        Self {
            world,
            seed,
            stormy,
            stream: RefCell::new(stream),
            partial,
            reclaims,
            strays_left: Cell::new(strays_left),
            offerings: draw_offerings(seed),
            bought: RefCell::default(),
            notices: RefCell::default(),
            strays: RefCell::default(),
            busy_reclaimed: Cell::new(0),
        }
    }

    fn strikes(&self, chance: f64) -> bool {
        self.stormy.load(Relaxed) && chance > 0.0 && self.stream.borrow_mut().uniform() < chance
    }

    /// What happens by itself until the tick the world stands at.
    pub(crate) fn tick(&self) {
        let now = self.world.with(|world| world.now());
        let alive: Vec<InstanceId> = self.world.with(|world| world.alive().cloned().collect());
        for id in &alive {
            let notice = self.notices.borrow().get(id).copied();
            match notice {
                Some(Notice::Interruption { ends_at }) if ends_at <= now => {
                    let lost = self.world.with(|world| world.terminate(id));
                    let busy = u64::from(lost.is_ok_and(|jobs| jobs > 0));
                    self.busy_reclaimed.set(self.busy_reclaimed.get() + busy);
                }
                Some(Notice::Interruption { .. }) => {}
                Some(Notice::Rebalance { .. }) | None => {
                    if self.is_spot(id) && self.strikes(self.reclaims) {
                        let warned = notice.is_some() || self.stream.borrow_mut().below(2) == 0;
                        let notice = if warned {
                            Notice::Interruption {
                                ends_at: now + WARNING,
                            }
                        } else {
                            Notice::Rebalance { at: now }
                        };
                        self.notices.borrow_mut().insert(id.clone(), notice);
                    }
                }
            }
        }
        if self.strays_left.get() > 0 && self.strikes(0.02) {
            let number = self.strays_left.get();
            self.strays_left.set(number - 1);
            let token = LaunchToken::new("z", FLEET, Epoch(1), number, 0);
            let name = self.offerings[0].name.clone();
            let launched = self.world.with(|world| world.launch(&token, &name, 1));
            // In a cloud with limits of its own there may be no room.
            for id in launched.unwrap_or_default() {
                self.strays.borrow_mut().insert(id.clone());
                self.bought.borrow_mut().insert(id, name.clone());
            }
        }
    }

    fn is_spot(&self, id: &InstanceId) -> bool {
        let bought = self.bought.borrow();
        let offering = bought
            .get(id)
            .and_then(|name| self.offerings.iter().find(|one| one.name == *name));
        offering.is_some_and(|offering| offering.market == Market::Spot)
    }

    /// Instances that nobody but the storm launched, and that still run.
    pub(crate) fn strays(&self) -> u32 {
        let strays = self.strays.borrow();
        let alive = self.world.with(|world| {
            let alive = world.alive().filter(|id| strays.contains(*id));
            alive.count()
        });
        u32::try_from(alive).expect("few")
    }

    /// What the fleet really costs an hour.
    pub(crate) fn spend(&self) -> MicroUsdPerHour {
        let bought = self.bought.borrow();
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        self.world.with(|world| {
            for id in world.alive() {
                *counts.entry(bought[id].as_str()).or_insert(0) += 1;
            }
        });
        let costs = self.offerings.iter().map(|offering| {
            let count = counts.get(offering.name.as_str()).copied().unwrap_or(0);
            offering
                .price
                .times(count.saturating_sub(offering.prepaid))
                .get()
        });
        MicroUsdPerHour::new(costs.sum())
    }

    pub(crate) fn busy_reclaimed(&self) -> u64 {
        self.busy_reclaimed.get()
    }

    pub(crate) fn is_interrupted(&self, id: &InstanceId) -> bool {
        let notices = self.notices.borrow();
        matches!(notices.get(id), Some(Notice::Interruption { .. }))
    }

    /// Whether `offering` has run dry at `now`: in waves, each its own.
    fn is_dry(&self, offering: &str, now: Timestamp) -> bool {
        let wave = now.micros() / 60_000_000 / WAVE_MINUTES;
        let name = format!("{offering} {wave}");
        self.stormy.load(Relaxed)
            && self.offerings.len() > 1
            && Stream::new(self.seed, &name).below(3) == 0
    }

    pub(crate) async fn list(&self, fleet: &str) -> Result<Listing, FleetError> {
        let mut listing = self.world.list(fleet).await?;
        let notices = self.notices.borrow();
        for instance in &mut listing.instances {
            let own = notices.get(&instance.id).copied();
            instance.notice = own.or(instance.notice);
        }
        Ok(listing)
    }

    pub(crate) async fn apply(&self, fleet: &str, epoch: Epoch, action: &Action) -> Outcome {
        let Action::Launch {
            token,
            offering,
            count,
        } = action
        else {
            return self.world.apply(fleet, epoch, action).await;
        };
        let now = self.world.with(|world| world.now());
        if self.is_dry(offering, now) {
            return Outcome::Failed(FleetError::NoCapacity);
        }
        let less = *count > 1 && self.strikes(self.partial);
        let granted = Action::Launch {
            token: token.clone(),
            offering: offering.clone(),
            count: if less { count / 2 } else { *count },
        };
        let outcome = self.world.apply(fleet, epoch, &granted).await;
        if let Outcome::Launched { instances } = &outcome {
            let mut bought = self.bought.borrow_mut();
            bought.extend(instances.iter().map(|id| (id.clone(), offering.clone())));
        }
        outcome
    }
}

/// How long a minute is to this market.
const _: () = assert!(MINUTE.as_secs() == 60, "waves are counted in minutes");
