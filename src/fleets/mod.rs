//! What owns the instances: one file per provider.

pub mod process;
pub mod simulated;

use std::path::Path;
use std::rc::Rc;

use windlass_policies::model::{Action, Epoch, FleetError, Listing, Outcome};
use windlass_policies::ports::{Clock, FleetProvider, MetricSource};
use windlass_policies::signal::{Readings, SignalSpec};
use windlass_policies::units::Timestamp;
use windlass_simulator::scenario::ScenarioError;

use crate::config::{Fleet, Provider};
use crate::sources::{Shared, Sources};

use process::{ProcessError, ProcessFleet};
use simulated::{CloudError, SimulatedFleet};

/// The fleet of whichever provider its configuration names.
#[derive(Debug)]
pub enum AnyFleet {
    /// In a cloud inside windlass; it is its own metric source too.
    Simulated(Rc<SimulatedFleet>),
    /// Of processes of this machine.
    Process(Rc<ProcessFleet>),
}

/// Where a fleet's readings come from.
#[derive(Debug)]
pub enum AnyMetrics {
    /// From the simulated cloud its instances are in.
    Simulated(Rc<SimulatedFleet>),
    /// From the sources of its signals.
    Sources(Sources),
}

/// What the daemon knows when it opens a fleet.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// The store's file: what a fleet keeps stands beside it.
    pub store_path: &'a Path,
    /// The store's identity, which every launch token begins with.
    pub store_id: &'a str,
    /// Which start of the daemon this is.
    pub epoch: Epoch,
    /// The latest time in the fleet's history.
    pub latest: Option<Timestamp>,
}

/// Why a fleet's provider cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FleetOpenError {
    /// The simulated world cannot be made.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The simulated cloud cannot be used.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// Processes cannot be controlled.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl AnyFleet {
    /// Opens the provider of `fleet`.
    ///
    /// # Errors
    /// If it cannot be used.
    pub async fn open(fleet: &Fleet, opening: Opening<'_>) -> Result<Self, FleetOpenError> {
        match &fleet.provider {
            Provider::Simulated(settings) => {
                let cloud = simulated::open(&fleet.spec, settings, opening)?;
                Ok(Self::Simulated(Rc::new(cloud)))
            }
            Provider::Process(settings) => {
                let workers = ProcessFleet::open(&fleet.spec, settings, opening).await?;
                Ok(Self::Process(workers))
            }
        }
    }

    /// Where the readings of this fleet come from: a simulated fleet's from
    /// its own world, and every other's from the sources of its signals.
    /// `fleet` is what it was opened with, `shared` what all fleets share.
    pub fn metrics(&self, fleet: &Fleet, shared: &Shared) -> AnyMetrics {
        match self {
            Self::Simulated(cloud) => AnyMetrics::Simulated(Rc::clone(cloud)),
            Self::Process(_) => AnyMetrics::Sources(Sources::new(&fleet.sources, shared)),
        }
    }

    /// How many times faster than the clock on the wall the fleet lives: 1 but
    /// for simulated ones.
    pub fn speed(&self) -> u32 {
        match self {
            Self::Simulated(cloud) => cloud.speed(),
            Self::Process(_) => 1,
        }
    }
}

impl Clock for AnyFleet {
    fn now(&self) -> Timestamp {
        match self {
            Self::Simulated(cloud) => cloud.now(),
            Self::Process(workers) => workers.now(),
        }
    }
}

impl FleetProvider for AnyFleet {
    async fn list(&self, fleet: &str) -> Result<Listing, FleetError> {
        match self {
            Self::Simulated(cloud) => cloud.list(fleet).await,
            Self::Process(workers) => workers.list(fleet).await,
        }
    }

    async fn apply(&self, fleet: &str, epoch: Epoch, action: &Action) -> Outcome {
        match self {
            Self::Simulated(cloud) => cloud.apply(fleet, epoch, action).await,
            Self::Process(workers) => workers.apply(fleet, epoch, action).await,
        }
    }
}

impl MetricSource for AnyMetrics {
    async fn read(&self, signals: &[SignalSpec], now: Timestamp) -> Readings {
        match self {
            Self::Simulated(cloud) => cloud.read(signals, now).await,
            Self::Sources(sources) => sources.read(signals, now).await,
        }
    }
}
