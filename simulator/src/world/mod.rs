//! A deterministic cloud with one fleet: instances, their boots and bills,
//! listings and metrics that are late, and the queue they serve.
//!
//! World time is whole microseconds from the [`Timestamp`] the world begins
//! at. Nothing happens by itself between two calls of [`World::advance`];
//! actions take effect at the tick the world stands at (see [`crate::queue`]
//! for the order of what happens at one instant).

mod billing;
pub mod cloud;
mod happening;
mod instances;
mod metrics;
mod pool;
mod ports;
pub mod price;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use windlass_policies::model::{
    Action, Epoch, FleetError, Instance, InstanceId, LaunchToken, Listing, Market, Offering,
    Outcome, Work,
};
use windlass_policies::quote::{Quote, Quotes};
use windlass_policies::signal::{Readings, SignalSpec};
use windlass_policies::units::{MicroUsd, Timestamp, micros_of};

use crate::queue::{
    JobColumns, JobsError, QueueSpec, SLOTS_MAX, Server, ServerSpec, Snapshot, Spread, WorkerId,
    WorkerState, ratio, wide,
};

pub use billing::charged_micros;
pub use happening::Extras;
pub use ports::SimulatedPorts;
pub use view::{JobStory, Stay as InstanceStay, WorldView};

use billing::{Bill, Stay};
use cloud::CloudSpec;
use happening::{Counts, EndedBy, Event, Trouble};
use instances::{Record, Roster};
use metrics::{Metrics, Schedule};
use pool::{Pool, WarmPool};

/// Gives the boot time of each launched instance in microseconds, once per
/// instance in the order of launches; `None` for one that never becomes ready.
/// Two policies with the same seed so see the same k-th boot.
pub type BootTimes = Box<dyn FnMut() -> Option<u64> + Send>;

/// What the world is like.
#[derive(Clone, Debug)]
pub struct WorldSpec {
    /// The name of its one fleet.
    pub fleet: String,
    /// The time it begins at: world time 0.
    pub begins_at: Timestamp,
    /// What can be launched; at least one.
    pub offerings: Vec<Offering>,
    /// Instances of the first offering that are ready and billed from the
    /// beginning.
    pub initial: u32,
    /// How old the instances in a listing are.
    pub listing_lag: Duration,
    /// Metrics are sampled at the multiples of it; zero samples at every read.
    pub metric_period: Duration,
    /// How long a sample takes until it can be read.
    pub metric_lag: Duration,
    /// The jobs. `latency_p95` has a source only if its `responses` is set.
    pub queue: QueueSpec,
    /// How they are served, if not first come, first served.
    pub server: ServerSpec,
    /// What else the cloud does.
    pub cloud: CloudSpec,
}

/// Why there is no such world.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// There is nothing to launch.
    #[error("no offering: name at least one")]
    NoOffering,
    /// Two offerings have one name.
    #[error("two offerings are called `{0}`: give each its own name")]
    SameName(String),
    /// An offering has no slots.
    #[error("offering `{0}` has no slots: an instance works on at least 1 job at a time")]
    NoSlots(String),
    /// An offering is charged in increments of nothing.
    #[error("offering `{0}` has a billing increment of zero: use \"1s\" or \"1h\"")]
    NoIncrement(String),
    /// There are too many initial instances.
    #[error("{initial} initial instances: the simulated cloud has room for {SLOTS_MAX} job slots")]
    TooManyInitial {
        /// How many.
        initial: u32,
    },
    /// The jobs do not fit.
    #[error(transparent)]
    Jobs(#[from] JobsError),
}

/// What a run came to. Times are microseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// From the beginning of the world to the end of the run.
    pub simulated_micros: u64,
    /// Jobs that arrived before the end.
    pub jobs: u64,
    /// Those of them that were not finished. They count what they waited so far.
    pub unfinished_jobs: u64,
    /// From arrival to the start of service.
    pub wait: Spread,
    /// From arrival to the end of service.
    pub response: Spread,
    /// Instance time as charged: rounded up for each instance.
    pub instance_micros_billed: u128,
    /// Instance time from launch to end, not rounded.
    pub instance_micros: u128,
    /// What the instances cost.
    pub instance_cost: MicroUsd,
    /// Launched instances, without the initial ones.
    pub launches: u64,
    /// Ended instances.
    pub terminations: u64,
    /// The most instances at once, from launch to end.
    pub instances_peak: u32,
    /// Instances on average over the run; those at the end if it had no length.
    pub instances_mean: f64,
    /// Jobs that had to begin again because their instance was ended.
    pub jobs_redone: u64,
    /// Instances that the controller ended with jobs in hand.
    pub busy_killed: u64,
    /// What is told only of worlds in which it can happen.
    pub extras: Extras,
}

/// The cloud, its clock and its queue.
pub struct World {
    spec: WorldSpec,
    listing_lag: u64,
    boots: BootTimes,
    queue: Server,
    roster: Roster,
    metrics: Metrics,
    /// Job slots of the instances that have not ended.
    slots_alive: u64,
    /// Instances that have ended.
    bill: Bill,
    epoch_newest: Epoch,
    launches: u64,
    terminations: u64,
    busy_killed: u64,
    /// One for each offering.
    pools: Vec<Pool>,
    warm_pool: Option<WarmPool>,
    trouble: Trouble,
    /// What is to happen, by time and then in the order it was set.
    events: BTreeMap<(u64, u64), Event>,
    event_next: u64,
    counts: Counts,
    /// The place of the instance of each worker, in the order of the workers;
    /// empty unless somebody wants to read who did what.
    places: Vec<usize>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("World")
            .field("fleet", &self.spec.fleet)
            .field("now", &self.now())
            .field("alive", &self.roster.alive_count())
            .finish_non_exhaustive()
    }
}

impl World {
    /// A world at its beginning, with `boots` for the instances to come.
    ///
    /// # Errors
    /// The first thing in `spec` that makes no world.
    pub fn new(spec: WorldSpec, boots: BootTimes) -> Result<Self, WorldError> {
        check_offerings(&spec.offerings)?;
        let queue = Server::new(spec.queue.clone(), spec.server.clone())?;
        let cloud = &spec.cloud;
        let pools =
            spec.offerings.iter().enumerate().map(|(place, one)| {
                Pool::new(&one.name, one.prepaid, cloud.pool(place), cloud.seed)
            });
        let schedule = Schedule {
            period: micros_of(spec.metric_period),
            lag: micros_of(spec.metric_lag),
        };
        let mut world = Self {
            listing_lag: micros_of(spec.listing_lag),
            boots,
            queue,
            roster: Roster::default(),
            metrics: Metrics::new(schedule, spec.queue.responses, &cloud.faults, cloud.seed),
            pools: pools.collect(),
            warm_pool: cloud.warm_pool.map(|warm| WarmPool::new(warm, cloud.seed)),
            trouble: Trouble::new(cloud),
            events: BTreeMap::new(),
            event_next: 0,
            counts: Counts::default(),
            places: Vec::new(),
            slots_alive: 0,
            bill: Bill::default(),
            epoch_newest: Epoch::default(),
            launches: 0,
            terminations: 0,
            busy_killed: 0,
            spec,
        };
        let initial = world.spec.initial;
        if !world.room_for(0, initial) {
            return Err(WorldError::TooManyInitial { initial });
        }
        for _ in 0..initial {
            world.add_instance(0, None, Some(0));
        }
        for pool in 0..world.pools.len() {
            world.schedule_wave(pool);
        }
        world.advance_micros(0);
        Ok(world)
    }

    /// The time the world stands at.
    pub fn now(&self) -> Timestamp {
        self.timestamp(self.queue.now())
    }

    /// Lets everything happen that comes before the tick at `to`, taking the
    /// samples that are due on the way. An earlier time changes nothing.
    pub fn advance(&mut self, to: Timestamp) {
        self.advance_micros(self.micros(to));
    }

    fn advance_micros(&mut self, to: u64) {
        loop {
            let sample = self.metrics.due().filter(|due| *due <= to);
            // What happens of itself comes before the sample and the tick of
            // its instant.
            let event = self.event_due().filter(|due| *due <= to);
            if let Some(due) = event.filter(|due| sample.is_none_or(|sample| *due <= sample)) {
                self.queue.advance(due);
                self.happen();
            } else if let Some(due) = sample {
                self.queue.advance(due);
                self.metrics.sample(&mut self.queue);
            } else {
                break;
            }
        }
        self.queue.advance(to);
        self.roster.forget_ended(self.queue.now(), self.listing_lag);
    }

    /// Puts more jobs behind those the world knows of. All that arrive before a
    /// time must be there before [`World::advance`] is told of it.
    ///
    /// A world that is fed may run for longer than memory lasts: it forgets
    /// jobs that are over and, an hour after they went from the listings,
    /// instances that ended.
    ///
    /// # Errors
    /// If they arrive before the last known job, or the jobs repeat or have
    /// classes.
    pub fn feed(&mut self, jobs: Arc<JobColumns>) -> Result<(), JobsError> {
        self.roster.be_forgetful();
        self.queue.feed(jobs)
    }

    /// The queue as it truly is now, however late the metrics are.
    pub fn snapshot(&self) -> Snapshot {
        self.queue.snapshot()
    }

    /// The queue itself, to look at.
    pub fn queue(&self) -> &Server {
        &self.queue
    }

    /// Names of the instances that have not ended, sorted, however late the
    /// listings are.
    pub fn alive(&self) -> impl Iterator<Item = &InstanceId> {
        self.roster.alive().map(|record| &record.id)
    }

    /// What the worker of the instance `id` is doing; `None` if there is none
    /// (any more). Times are microseconds of the world.
    pub fn worker(&self, id: &InstanceId) -> Option<WorkerState> {
        self.queue.state(self.roster.get(id)?.worker?)
    }

    /// When the instance `id` has no job in hand any more if it is given none
    /// from now on, in microseconds of the world. `None` if there is no such
    /// instance, or nobody knows.
    pub fn free_at(&self, id: &InstanceId) -> Option<u64> {
        self.queue.free_at(self.roster.get(id)?.worker?)
    }

    /// How many instances have not ended, booting ones included.
    pub fn alive_count(&self) -> u32 {
        self.roster.alive_count()
    }

    /// The newest sample of each signal that can be read at `now`.
    pub fn read(&mut self, signals: &[SignalSpec], now: Timestamp) -> Readings {
        if self.metrics.sampled_at_reads() {
            self.metrics.sample(&mut self.queue);
        }
        let (now, begins_at) = (self.micros(now), self.spec.begins_at);
        let mut readings = Readings::new();
        for signal in signals {
            readings.insert(
                &signal.name,
                self.metrics.reading(&signal.name, now, begins_at),
            );
        }
        readings
    }

    /// The instances as they were [`WorldSpec::listing_lag`] ago: launched ones
    /// appear late, ended ones disappear late, and phases are as of then. What
    /// a worker says of itself (its work, whether it is fenced) is current; the
    /// worker of an ended instance says nothing, and one that is not ready yet
    /// has no job.
    ///
    /// # Errors
    /// If `fleet` is not this world's fleet, or listings are to fail.
    pub fn list(&self, fleet: &str) -> Result<Listing, FleetError> {
        if fleet != self.spec.fleet {
            return Err(FleetError::NotFound);
        }
        if self.trouble.listing_fails() {
            return Err(FleetError::Throttled);
        }
        let (now, lag) = (self.queue.now(), self.listing_lag);
        let shown = self.roster.shown().filter(|record| record.listed(now, lag));
        let instances = shown.map(|record| Instance {
            id: record.id.clone(),
            offering: self.spec.offerings[record.offering].name.clone(),
            token: record.token.clone(),
            launched_at: self.timestamp(record.launched_at),
            phase: record.phase(now, lag),
            fenced: record.fenced,
            work: self.work(record),
            notice: record.notice.filter(|_| record.ended_at.is_none()),
        });
        Ok(Listing {
            instances: instances.collect(),
            complete: true,
        })
    }

    /// What the offerings cost now whose price changes over time.
    pub fn quotes(&self) -> Quotes {
        let now = self.queue.now();
        let read_at = self.now();
        let moving = self.spec.offerings.iter().zip(&self.pools);
        let quotes = moving.filter_map(|(offering, pool)| {
            let price = pool.spec.prices.as_ref()?.at(now);
            Some((offering.name.clone(), Quote { price, read_at }))
        });
        quotes.collect()
    }

    /// Does `action`, unless a newer epoch has acted on this fleet.
    pub fn apply(&mut self, fleet: &str, epoch: Epoch, action: &Action) -> Outcome {
        if fleet != self.spec.fleet {
            return Outcome::Failed(FleetError::NotFound);
        }
        if epoch < self.epoch_newest {
            return Outcome::Failed(FleetError::StaleEpoch);
        }
        self.epoch_newest = epoch;
        let outcome = match action {
            Action::Launch {
                token,
                offering,
                count,
            } => self
                .launch(token, offering, *count)
                .map(|instances| Outcome::Launched { instances }),
            Action::Fence { instance } => self.fence(instance).map(|work| Outcome::Fenced { work }),
            Action::Unfence { instance } => self.unfence(instance).map(|()| Outcome::Unfenced),
            Action::Terminate { instance, .. } => {
                if self.trouble.may_terminate(self.queue.now()) {
                    self.terminate(instance).map(|_| Outcome::Terminated)
                } else {
                    Err(self.refuse())
                }
            }
        };
        outcome.unwrap_or_else(Outcome::Failed)
    }

    /// Launches `count` instances. A token that was used before launches
    /// nothing and gives the instances it launched then, ended ones too.
    ///
    /// Fewer than `count` if there is not capacity for more.
    ///
    /// # Errors
    /// [`FleetError::Rejected`] if there is no such offering,
    /// [`FleetError::LimitReached`] beyond [`SLOTS_MAX`] slots,
    /// [`FleetError::Throttled`] and [`FleetError::NoCapacity`] where the cloud
    /// has limits; nothing is launched then.
    pub fn launch(
        &mut self,
        token: &LaunchToken,
        offering: &str,
        count: u32,
    ) -> Result<Vec<InstanceId>, FleetError> {
        let now = self.queue.now();
        if !self.trouble.may_launch(count, now) {
            return Err(self.refuse());
        }
        if let Some(instances) = self.roster.launched_by(token) {
            return Ok(instances.to_vec());
        }
        let named = |known: &Offering| known.name == offering;
        let Some(offering) = self.spec.offerings.iter().position(named) else {
            return Err(FleetError::Rejected(format!(
                "there is no offering `{offering}`"
            )));
        };
        if !self.room_for(offering, count) {
            return Err(FleetError::LimitReached(format!(
                "the simulated cloud has room for {SLOTS_MAX} job slots"
            )));
        }
        let room = self.pools[offering].room(count, now);
        if room == 0 && count > 0 {
            self.counts.no_capacity += 1;
            return Err(FleetError::NoCapacity);
        }
        let mut instances = Vec::new();
        for _ in 0..self.trouble.part_of(room) {
            instances.push(self.launch_one(offering, token));
        }
        self.launches += wide(instances.len());
        self.roster.remember(token.clone(), instances.clone());
        Ok(instances)
    }

    fn launch_one(&mut self, offering: usize, token: &LaunchToken) -> InstanceId {
        let now = self.queue.now();
        let boot = self.boot_time(offering);
        let (fails, hangs) = self.trouble.boot();
        let ready_at = boot.map(|boot| now.saturating_add(boot));
        if let Some(at) = ready_at.filter(|_| fails) {
            let place = self.roster.next_place();
            self.schedule(at, Event::Die { place });
        }
        let ready_at = ready_at.filter(|_| !fails && !hangs);
        self.add_instance(offering, Some(token.clone()), ready_at)
    }

    /// How long the next instance of `offering` boots: out of the warm pool if
    /// there is one in it.
    fn boot_time(&mut self, offering: usize) -> Option<u64> {
        let now = self.queue.now();
        let pool = &mut self.pools[offering];
        let own = pool.spec.boot;
        let course = pool.spec.prices.as_deref();
        if let Some(warm) = self
            .warm_pool
            .as_mut()
            .filter(|warm| warm.spec.offering == offering)
            && let Some(start) = warm.take(now, self.spec.offerings[offering].price, course)
        {
            return Some(start);
        }
        match own {
            Some(boot) => Some(boot.sample_micros(&mut pool.boots)),
            None => (self.boots)(),
        }
    }

    fn room_for(&self, offering: usize, count: u32) -> bool {
        let slots = u64::from(self.spec.offerings[offering].slots) * u64::from(count);
        self.slots_alive + slots <= u64::from(SLOTS_MAX)
    }

    fn add_instance(
        &mut self,
        offering: usize,
        token: Option<LaunchToken>,
        ready_at: Option<u64>,
    ) -> InstanceId {
        let (id, place) = (self.roster.next_id(), self.roster.next_place());
        let now = self.queue.now();
        let slots = self.spec.offerings[offering].slots;
        self.slots_alive += u64::from(slots);
        let covered = self.pools[offering].enter(place);
        let percent = self.pools[offering].spec.throughput_percent;
        let straggle = token.as_ref().map_or(0, |_| self.trouble.straggle());
        let worker = ready_at.map(|at| self.queue.add(slots, at, percent));
        if self.spec.server.journal {
            self.places.extend(worker.map(|_| place));
        }
        self.roster.add(Record {
            id: id.clone(),
            offering,
            token,
            launched_at: now,
            ready_at,
            ended_at: None,
            fenced: false,
            worker,
            covered_at: covered.then_some(now),
            notice: None,
            straggle,
        });
        if let Some(lifetime) = self.trouble.lifetime() {
            self.schedule(now.saturating_add(lifetime), Event::Die { place });
        }
        id
    }

    /// Lets the instance `id` take no new jobs, and says what it is doing.
    ///
    /// # Errors
    /// [`FleetError::NotFound`] if there is no such instance, or it has ended.
    pub fn fence(&mut self, id: &InstanceId) -> Result<Work, FleetError> {
        let record = running(&mut self.roster, id)?;
        record.fenced = true;
        let worker = record.worker;
        if let Some(worker) = worker {
            self.queue.fence(worker);
        }
        Ok(self.work_of(worker))
    }

    /// Lets the instance `id` take jobs again.
    ///
    /// # Errors
    /// [`FleetError::NotFound`] if there is no such instance, or it has ended.
    pub fn unfence(&mut self, id: &InstanceId) -> Result<(), FleetError> {
        let record = running(&mut self.roster, id)?;
        record.fenced = false;
        if let Some(worker) = record.worker {
            self.queue.unfence(worker);
        }
        Ok(())
    }

    /// Ends the instance `id`, whatever it is doing: jobs it has in hand go
    /// back to the front of the queue. Gives how many those were; 0 if it had
    /// ended before.
    ///
    /// # Errors
    /// [`FleetError::NotFound`] if there never was such an instance.
    pub fn terminate(&mut self, id: &InstanceId) -> Result<u64, FleetError> {
        let place = self.roster.place(id).ok_or(FleetError::NotFound)?;
        if self.roster.at(place).ended_at.is_some() {
            return Ok(0);
        }
        Ok(self.end(place, EndedBy::Controller))
    }

    /// Ends the instance at `place`, which has not ended; gives how many jobs
    /// it had in hand.
    fn end(&mut self, place: usize, by: EndedBy) -> u64 {
        let now = self.queue.now();
        let record = self.roster.at(place);
        let (offering, covered) = (record.offering, record.covered_at.is_some());
        let lost = record.worker.map_or(0, |worker| self.queue.remove(worker));
        let prices = self.pools[offering].spec.prices.clone();
        let spot = self.spec.offerings[offering].market == Market::Spot;
        let stay = Stay {
            from: record.launched_at,
            until: now,
            covered_at: record.covered_at,
            taken_back: spot && by == EndedBy::TakingBack,
            prices: prices.as_deref(),
        };
        self.bill.charge_stay(&self.spec.offerings[offering], &stay);
        let slots = self.spec.offerings[offering].slots;
        self.slots_alive -= u64::from(slots);
        self.roster.end(place, now);
        if let Some(heir) = self.pools[offering].leave(place, covered) {
            self.roster.at_mut(heir).covered_at = Some(now);
        }
        self.roster.forget_ended(now, self.listing_lag);
        match by {
            EndedBy::Controller => {
                self.terminations += 1;
                self.busy_killed += u64::from(lost > 0);
            }
            EndedBy::TakingBack => self.counts.interrupted += 1,
            EndedBy::Dying => self.counts.died += 1,
        }
        lost
    }

    /// What everything came to up to now. Instances that are still there are
    /// charged as if they ended now.
    pub fn summary(&self) -> Summary {
        let now = self.queue.now();
        let bill = self.bill_so_far();
        let jobs = self.queue.totals();
        let mean = ratio(bill.ran_micros, u128::from(now));
        Summary {
            simulated_micros: now,
            jobs: jobs.jobs,
            unfinished_jobs: jobs.unfinished,
            wait: jobs.wait,
            response: jobs.response,
            instance_micros_billed: bill.charged_micros,
            instance_micros: bill.ran_micros,
            instance_cost: bill.cost(),
            launches: self.launches,
            terminations: self.terminations,
            instances_peak: self.roster.alive_peak(),
            instances_mean: mean.unwrap_or_else(|| f64::from(self.roster.alive_count())),
            jobs_redone: jobs.redone,
            busy_killed: self.busy_killed,
            extras: self.extras(),
        }
    }

    /// The bill as if the instances that are still there ended now.
    fn bill_so_far(&self) -> Bill {
        let mut bill = self.bill;
        for record in self.roster.alive() {
            let stay = Stay {
                from: record.launched_at,
                until: self.queue.now(),
                covered_at: record.covered_at,
                taken_back: false,
                prices: self.pools[record.offering].spec.prices.as_deref(),
            };
            bill.charge_stay(&self.spec.offerings[record.offering], &stay);
        }
        bill
    }

    fn work(&self, record: &Record) -> Work {
        match record.ended_at {
            Some(_) => Work::Unknown,
            None => self.work_of(record.worker),
        }
    }

    fn work_of(&self, worker: Option<WorkerId>) -> Work {
        match worker.and_then(|worker| self.queue.state(worker)) {
            Some(state) if state.busy > 0 => Work::Busy,
            _ => Work::Idle,
        }
    }

    fn micros(&self, at: Timestamp) -> u64 {
        at.micros().saturating_sub(self.spec.begins_at.micros())
    }

    fn timestamp(&self, micros: u64) -> Timestamp {
        Timestamp::from_micros(self.spec.begins_at.micros().saturating_add(micros))
    }
}

/// The record of an instance that has not ended.
fn running<'a>(roster: &'a mut Roster, id: &InstanceId) -> Result<&'a mut Record, FleetError> {
    roster
        .get_mut(id)
        .filter(|record| record.ended_at.is_none())
        .ok_or(FleetError::NotFound)
}

fn check_offerings(offerings: &[Offering]) -> Result<(), WorldError> {
    if offerings.is_empty() {
        return Err(WorldError::NoOffering);
    }
    for (place, offering) in offerings.iter().enumerate() {
        let name = || offering.name.clone();
        if offerings[..place]
            .iter()
            .any(|other| other.name == offering.name)
        {
            return Err(WorldError::SameName(name()));
        }
        if offering.slots == 0 {
            return Err(WorldError::NoSlots(name()));
        }
        if offering.billing.increment.is_zero() {
            return Err(WorldError::NoIncrement(name()));
        }
    }
    Ok(())
}
