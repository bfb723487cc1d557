//! What the provider does of its own accord: waves that take a pool's instances
//! back, instances that die, calls that it refuses.

use std::cell::RefCell;
use std::time::Duration;

use windlass_policies::model::{FleetError, Notice};
use windlass_policies::units::{Meter, MicroUsd, micros_of};

use super::World;
use super::cloud::{CloudSpec, FaultSpec};
use super::pool::{Bucket, exponential};
use crate::queue::ClassTotals;
use crate::random::Stream;

/// Something that happens at its time. Instances by their place in the order of
/// launches.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// A wave takes the pool back.
    Wave { pool: usize },
    /// An instance is told that it is taken back.
    Notice { place: usize },
    /// An instance is taken back.
    TakeBack { place: usize },
    /// An instance dies.
    Die { place: usize },
}

/// Who ended an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndedBy {
    Controller,
    TakingBack,
    Dying,
}

/// Chances and limits, with one stream for each.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) faults: FaultSpec,
    partial: Stream,
    listing_fails: RefCell<Stream>,
    straggling: Stream,
    boot_fails: Stream,
    boot_hangs: Stream,
    lifetimes: Stream,
    launch_requests: Option<Bucket>,
    launch_instances: Option<Bucket>,
    terminate_requests: Option<Bucket>,
}

impl Trouble {
    pub(super) fn new(spec: &CloudSpec) -> Self {
        let stream = |name: &str| Stream::new(spec.seed, name);
        Self {
            faults: spec.faults,
            partial: stream("launch partial"),
            listing_fails: RefCell::new(stream("listing fails")),
            straggling: stream("listing straggles"),
            boot_fails: stream("boot fails"),
            boot_hangs: stream("boot hangs"),
            lifetimes: stream("lifetime"),
            launch_requests: spec.faults.launch_requests.map(Bucket::new),
            launch_instances: spec.faults.launch_instances.map(Bucket::new),
            terminate_requests: spec.faults.terminate_requests.map(Bucket::new),
        }
    }

    /// Nothing goes wrong any more.
    fn calm(&mut self) {
        self.faults = FaultSpec::default();
        self.launch_requests = None;
        self.launch_instances = None;
        self.terminate_requests = None;
    }

    /// Whether the call to launch `count` instances may be made.
    pub(super) fn may_launch(&mut self, count: u32, now: u64) -> bool {
        let asked = take(&mut self.launch_requests, 1, now);
        asked && take(&mut self.launch_instances, count, now)
    }

    /// Whether the call to end an instance may be made.
    pub(super) fn may_terminate(&mut self, now: u64) -> bool {
        take(&mut self.terminate_requests, 1, now)
    }

    /// How many of `count` instances a launch brings.
    pub(super) fn part_of(&mut self, count: u32) -> u32 {
        if count < 2 || !strikes(&mut self.partial, self.faults.launch_partial) {
            return count;
        }
        let fewer = self.partial.below(u64::from(count - 1)) + 1;
        u32::try_from(fewer).unwrap_or(count)
    }

    /// Whether a listing fails.
    pub(super) fn listing_fails(&self) -> bool {
        let mut stream = self.listing_fails.borrow_mut();
        strikes(&mut stream, self.faults.listing_fails)
    }

    /// How much later than others a launched instance is listed.
    pub(super) fn straggle(&mut self) -> u64 {
        let most = micros_of(self.faults.listing_straggle_max);
        if most > 0 && strikes(&mut self.straggling, self.faults.listing_straggles) {
            self.straggling.below(most) + 1
        } else {
            0
        }
    }

    /// Whether the boot of a launched instance fails, and whether it hangs.
    pub(super) fn boot(&mut self) -> (bool, bool) {
        let fails = strikes(&mut self.boot_fails, self.faults.boot_fails);
        let hangs = strikes(&mut self.boot_hangs, self.faults.boot_hangs);
        (fails, hangs)
    }

    /// How long an instance lives, if it dies at all.
    pub(super) fn lifetime(&mut self) -> Option<u64> {
        let mean: Duration = self.faults.lifetime?;
        Some(exponential(&mut self.lifetimes, mean))
    }
}

fn take(bucket: &mut Option<Bucket>, tokens: u32, now: u64) -> bool {
    bucket
        .as_mut()
        .is_none_or(|bucket| bucket.take(tokens, now))
}

/// Draws only if there is a chance.
fn strikes(stream: &mut Stream, chance: f64) -> bool {
    chance > 0.0 && stream.uniform() < chance
}

/// What is told only of worlds in which it can happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Instances that were taken back.
    pub interrupted: Option<u64>,
    /// Instances that died, those whose boot failed too.
    pub died: Option<u64>,
    /// Launches that found no capacity at all.
    pub no_capacity: Option<u64>,
    /// Calls that were refused as too many.
    pub throttled: Option<u64>,
    /// What was paid for ahead, used or not.
    pub prepaid_cost: Option<MicroUsd>,
    /// What the warm pool cost, refilling it too.
    pub warm_pool_cost: Option<MicroUsd>,
    /// What became of each class of jobs.
    pub classes: Vec<ClassTotals>,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) interrupted: u64,
    pub(super) died: u64,
    pub(super) no_capacity: u64,
    pub(super) throttled: u64,
}

impl World {
    pub(super) fn schedule(&mut self, at: u64, event: Event) {
        self.events.insert((at, self.event_next), event);
        self.event_next += 1;
    }

    /// When the next event is.
    pub(super) fn event_due(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn schedule_wave(&mut self, pool: usize) {
        let now = self.queue.now();
        if let Some(gap) = self.pools[pool].wave_gap() {
            self.schedule(now.saturating_add(gap), Event::Wave { pool });
        }
    }

    /// Lets the next event happen; the queue stands at its time.
    pub(super) fn happen(&mut self) {
        let Some((_, event)) = self.events.pop_first() else {
            return;
        };
        match event {
            Event::Wave { pool } => self.wave(pool),
            Event::Notice { place } => self.give_notice(place),
            Event::TakeBack { place } => self.lose_instance(place, EndedBy::TakingBack),
            Event::Die { place } => self.lose_instance(place, EndedBy::Dying),
        }
    }

    /// From now on the cloud does nothing of its own accord: no waves, no
    /// shortage, no refusals, no deaths. Only what has had its notice is still
    /// taken back. For tests of what comes after a storm.
    pub fn calm(&mut self) {
        self.events
            .retain(|_, event| matches!(event, Event::TakeBack { .. }));
        self.trouble.calm();
        for pool in &mut self.pools {
            pool.calm();
        }
    }

    fn wave(&mut self, pool: usize) {
        self.schedule_wave(pool);
        let Some(spec) = self.pools[pool].spec.interruption else {
            return;
        };
        let now = self.queue.now();
        let dry_until = now.saturating_add(micros_of(spec.dry));
        let within = micros_of(spec.within);
        let ahead = micros_of(spec.rebalance_ahead);
        let one = &mut self.pools[pool];
        one.dry_until = one.dry_until.max(dry_until);
        for place in self.roster.alive_places() {
            if self.roster.at(place).offering != pool {
                continue;
            }
            let waves = &mut self.pools[pool].waves;
            let hit = waves.uniform() < spec.share;
            let after = if within > 0 { waves.below(within) } else { 0 };
            if !hit {
                continue;
            }
            if ahead > 0 {
                let at = self.timestamp(now);
                let notice = &mut self.roster.at_mut(place).notice;
                notice.get_or_insert(Notice::Rebalance { at });
            }
            let at = now.saturating_add(ahead).saturating_add(after);
            self.schedule(at, Event::Notice { place });
        }
    }

    fn give_notice(&mut self, place: usize) {
        let Some(record) = self.roster.find(place) else {
            return;
        };
        let told = matches!(record.notice, Some(Notice::Interruption { .. }));
        if told || record.ended_at.is_some() {
            return;
        }
        let spec = self.pools[record.offering].spec.interruption;
        let notice = spec.map_or(0, |spec| micros_of(spec.notice));
        let at = self.queue.now().saturating_add(notice);
        let ends_at = self.timestamp(at);
        self.roster.at_mut(place).notice = Some(Notice::Interruption { ends_at });
        self.schedule(at, Event::TakeBack { place });
    }

    fn lose_instance(&mut self, place: usize, by: EndedBy) {
        let record = self.roster.find(place);
        if record.is_some_and(|record| record.ended_at.is_none()) {
            self.end(place, by);
        }
    }

    /// Counts a call that was refused as one too many.
    pub(super) fn refuse(&mut self) -> FleetError {
        self.counts.throttled += 1;
        FleetError::Throttled
    }

    /// What is told only where it can happen.
    pub(super) fn extras(&self) -> Extras {
        let (faults, pools) = (&self.trouble.faults, &self.pools);
        let any = |has: fn(&super::cloud::PoolSpec) -> bool| pools.iter().any(|one| has(&one.spec));
        let waves = any(|spec| spec.interruption.is_some());
        let scarce = any(|spec| spec.capacity.is_some() || spec.instances_max.is_some());
        let dry = any(|spec| spec.interruption.is_some_and(|one| !one.dry.is_zero()));
        let mortal = faults.lifetime.is_some() || faults.boot_fails > 0.0;
        let limited = faults.launch_requests.is_some()
            || faults.launch_instances.is_some()
            || faults.terminate_requests.is_some();
        let told = |applies: bool, count: u64| applies.then_some(count);
        Extras {
            interrupted: told(waves, self.counts.interrupted),
            died: told(mortal, self.counts.died),
            no_capacity: told(scarce || dry, self.counts.no_capacity),
            throttled: told(limited, self.counts.throttled),
            prepaid_cost: self.prepaid_cost(),
            warm_pool_cost: self.warm_pool_cost(),
            classes: self.queue.class_totals(),
        }
    }

    /// What was paid for ahead up to now, used or not; `None` if nothing ever is.
    pub(super) fn prepaid_cost(&self) -> Option<MicroUsd> {
        let now = u128::from(self.queue.now());
        let mut prepaid = Meter::default();
        for (offering, pool) in self.spec.offerings.iter().zip(&self.pools) {
            let micros = now * u128::from(offering.prepaid);
            prepaid.add_wide(pool.spec.prepaid_price, micros);
        }
        let any = self.spec.offerings.iter().any(|one| one.prepaid > 0);
        any.then(|| prepaid.total())
    }

    /// What the warm pool cost up to now; `None` without one.
    pub(super) fn warm_pool_cost(&self) -> Option<MicroUsd> {
        let warm = self.warm_pool.as_ref()?;
        Some(warm.bill(self.queue.now()).total())
    }
}
