//! Faults in front of any port.
//!
//! A [`Faulty`] port passes calls on to the real one and now and then does
//! worse than the real cloud: answers get lost after the deed or before it,
//! listings fail or miss instances, readings are absent, capacity is short,
//! and the whole process dies between any two calls. Each seed draws its own
//! [`FaultMix`], so some swarms are mostly about crashes, others about
//! listings.
//!
//! A crash is a port that never answers: the driver sees a future that waits,
//! which simulated ports never do, drops the cycle there, and goes on with a
//! memory rebuilt from the store.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;

use windlass_policies::model::{Action, Epoch, FleetError, Instance, InstanceId, Listing, Outcome};
use windlass_policies::ports::{Clock, FleetProvider, MetricSource, Record, Store, StoreError};
use windlass_policies::quote::Quotes;
use windlass_policies::signal::{Absence, Completeness, Reading, Readings, SignalSpec};
use windlass_policies::units::{Timestamp, micros_of};

use crate::random::Stream;

/// How likely each fault is at each call, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FaultMix {
    /// The process dies before or after a call.
    pub crash: f64,
    /// A listing fails.
    pub list_fails: f64,
    /// A listing misses instances, and says so.
    pub list_incomplete: f64,
    /// A launched instance shows up in listings minutes after its siblings.
    pub list_straggles: f64,
    /// An action is done, but its answer is lost.
    pub answer_lost: f64,
    /// An action is not done, and nobody knows.
    pub request_lost: f64,
    /// An action is refused as throttled.
    pub throttled: f64,
    /// A launch finds no capacity.
    pub no_capacity: f64,
    /// A reading is absent.
    pub reading_absent: f64,
    /// A reading is incomplete.
    pub reading_partial: f64,
    /// The store does not take a record.
    pub store_fails: f64,
}

impl FaultMix {
    /// The mix of a seed: every fault is absent, rare or frequent on its own.
    pub fn drawn(seed: u64) -> Self {
        let mut stream = Stream::new(seed, "fault mix");
        let mut chance = || match stream.below(3) {
            0 => 0.0,
            1 => 0.02,
            _ => 0.2,
        };
        Self {
            // A process that dies at every fifth call would never act.
            crash: chance() / 5.0,
            list_fails: chance(),
            list_incomplete: chance(),
            list_straggles: chance(),
            answer_lost: chance(),
            request_lost: chance(),
            throttled: chance(),
            no_capacity: chance(),
            reading_absent: chance(),
            reading_partial: chance(),
            store_fails: chance() / 5.0,
        }
    }
}

/// How long a straggling instance stays out of the listings at most.
pub const STRAGGLE_MAX: Duration = Duration::from_mins(4);

/// The faults of one run, shared by its ports.
#[derive(Debug)]
pub struct Faults {
    mix: Cell<FaultMix>,
    stream: RefCell<Stream>,
    /// How long each instance stays out of the listings after its launch.
    straggling: RefCell<BTreeMap<InstanceId, Duration>>,
}

impl Faults {
    /// The faults of `mix`, drawn from `seed`.
    pub fn new(mix: FaultMix, seed: u64) -> Self {
        Self {
            mix: Cell::new(mix),
            stream: RefCell::new(Stream::new(seed, "faults")),
            straggling: RefCell::default(),
        }
    }

    /// From now on nothing goes wrong.
    pub fn calm(&self) {
        self.mix.set(FaultMix::default());
    }

    fn strikes(&self, chance: f64) -> bool {
        chance > 0.0 && self.stream.borrow_mut().uniform() < chance
    }

    /// Whether a listing of `now` does not show `instance` yet.
    fn straggles(&self, instance: &Instance, now: Timestamp) -> bool {
        let late = *self
            .straggling
            .borrow_mut()
            .entry(instance.id.clone())
            .or_insert_with(|| {
                if self.strikes(self.mix.get().list_straggles) {
                    let micros = self.stream.borrow_mut().below(micros_of(STRAGGLE_MAX));
                    Duration::from_micros(micros)
                } else {
                    Duration::ZERO
                }
            });
        now.since(instance.launched_at) < late
    }

    /// Where the process may die.
    async fn crash_point(&self) {
        if self.strikes(self.mix.get().crash) {
            pending::<()>().await;
        }
    }
}

/// A port with faults in front of it.
#[derive(Debug)]
pub struct Faulty<'a, P> {
    /// The port behind.
    pub inner: &'a P,
    /// What goes wrong.
    pub faults: &'a Faults,
}

impl<P: Clock> Clock for Faulty<'_, P> {
    fn now(&self) -> Timestamp {
        self.inner.now()
    }
}

impl<P: MetricSource> MetricSource for Faulty<'_, P> {
    async fn read(&self, signals: &[SignalSpec], now: Timestamp) -> Readings {
        self.faults.crash_point().await;
        let mix = self.faults.mix.get();
        let mut readings = self.inner.read(signals, now).await;
        for signal in signals {
            let reading = readings.get(&signal.name);
            if self.faults.strikes(mix.reading_absent) {
                let why = "fault".to_owned();
                readings.insert(&signal.name, Reading::Absent(Absence::Unreachable { why }));
            } else if let Reading::Present(mut sample) = reading
                && self.faults.strikes(mix.reading_partial)
            {
                // What is missing makes the number smaller than the truth.
                sample.value = (sample.value / 2.0).floor();
                sample.completeness = Completeness::Partial;
                readings.insert(&signal.name, Reading::Present(sample));
            }
        }
        self.faults.crash_point().await;
        readings
    }
}

impl<P: FleetProvider + Clock> FleetProvider for Faulty<'_, P> {
    fn prices(&self) -> Quotes {
        self.inner.prices()
    }

    async fn list(&self, fleet: &str) -> Result<Listing, FleetError> {
        self.faults.crash_point().await;
        let mix = self.faults.mix.get();
        if self.faults.strikes(mix.list_fails) {
            return Err(FleetError::Throttled);
        }
        let mut listing = self.inner.list(fleet).await?;
        let now = self.inner.now();
        listing
            .instances
            .retain(|instance| !self.faults.straggles(instance, now));
        if self.faults.strikes(mix.list_incomplete) {
            listing.complete = false;
            let faults = self.faults;
            listing.instances.retain(|_| !faults.strikes(0.5));
        }
        Ok(listing)
    }

    async fn apply(&self, fleet: &str, epoch: Epoch, action: &Action) -> Outcome {
        self.faults.crash_point().await;
        let mix = self.faults.mix.get();
        let outcome = if self.faults.strikes(mix.throttled) {
            Outcome::Failed(FleetError::Throttled)
        } else if matches!(action, Action::Launch { .. }) && self.faults.strikes(mix.no_capacity) {
            Outcome::Failed(FleetError::NoCapacity)
        } else if self.faults.strikes(mix.request_lost) {
            Outcome::Failed(FleetError::Unknown("request lost".to_owned()))
        } else {
            let outcome = self.inner.apply(fleet, epoch, action).await;
            if self.faults.strikes(mix.answer_lost) {
                Outcome::Failed(FleetError::Unknown("answer lost".to_owned()))
            } else {
                outcome
            }
        };
        self.faults.crash_point().await;
        outcome
    }
}

impl<P: Store> Store for Faulty<'_, P> {
    fn append(&self, fleet: &str, record: &Record) -> Result<(), StoreError> {
        if self.faults.strikes(self.faults.mix.get().store_fails) {
            return Err(StoreError::Write("fault".into()));
        }
        self.inner.append(fleet, record)
    }

    fn tail(&self, fleet: &str) -> Result<Vec<Record>, StoreError> {
        self.inner.tail(fleet)
    }
}
