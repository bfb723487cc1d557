//! What owns the instances: one file per provider.

pub mod asg;
pub mod process;
pub mod simulated;

use std::path::Path;
use std::rc::Rc;

use windlass_policies::model::{Action, Epoch, FleetError, Listing, Outcome};
use windlass_policies::ports::{Clock, FleetProvider, MetricSource};
use windlass_policies::signal::{Readings, SignalSpec};
use windlass_policies::units::Timestamp;
use windlass_simulator::scenario::ScenarioError;

use crate::config::{AsgSettings, Config};
use crate::config::{Fleet, Provider};
use crate::sources::{Shared, Sources};

#[cfg(feature = "aws")]
use asg::aws::{AwsGroup, SharedGroups};
#[cfg(feature = "aws")]
use asg::{AsgFleet, Rules};
use process::{ProcessError, ProcessFleet};
use simulated::{CloudError, SimulatedFleet};

/// The fleet of whichever provider its configuration names.
#[derive(Debug)]
pub enum AnyFleet {
    /// In a cloud inside windlass; it is its own metric source too.
    Simulated(Rc<SimulatedFleet>),
    /// Of processes of this machine.
    Process(Rc<ProcessFleet>),
    /// In an Auto Scaling group.
    #[cfg(feature = "aws")]
    Asg(Box<AsgFleet<AwsGroup, SystemClock>>),
}

/// The clock of fleets that live in real time.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        crate::clock::now()
    }
}

/// What all fleets in Auto Scaling groups share; opened when the first needs it.
#[derive(Debug)]
pub struct Groups<'a> {
    config: &'a Config,
    #[cfg(feature = "aws")]
    opened: tokio::sync::OnceCell<Rc<SharedGroups>>,
}

impl<'a> Groups<'a> {
    /// Those that `config` names.
    pub fn new(config: &'a Config) -> Self {
        Self {
            config,
            #[cfg(feature = "aws")]
            opened: tokio::sync::OnceCell::new(),
        }
    }

    #[cfg(feature = "aws")]
    async fn open(&self) -> Result<Rc<SharedGroups>, FleetOpenError> {
        let open = async || {
            let clients = crate::aws::client::AwsClients::open(&self.config.aws).await?;
            let names = self.config.fleets.iter();
            let names = names.filter_map(|fleet| match &fleet.provider {
                Provider::Asg(settings) => Some(settings.group.clone()),
                Provider::Simulated(_) | Provider::Process(_) => None,
            });
            Ok(Rc::new(SharedGroups::new(clients, names.collect())))
        };
        self.opened.get_or_try_init(open).await.cloned()
    }

    #[cfg(feature = "aws")]
    async fn fleet(
        &self,
        fleet: &Fleet,
        settings: &AsgSettings,
    ) -> Result<AnyFleet, FleetOpenError> {
        let shared = self.open().await?;
        let limits = &fleet.spec.limits;
        let rules = Rules {
            offering: settings.instance_type.clone(),
            min: limits.min,
            max: limits.max,
            patience: limits.listing_patience,
            protected_is_busy: settings.workers == crate::config::asg::Workers::Protection,
        };
        let calls = AwsGroup::new(shared, &settings.group, settings.workers);
        Ok(AnyFleet::Asg(Box::new(AsgFleet::new(
            rules,
            calls,
            SystemClock,
        ))))
    }

    #[cfg(not(feature = "aws"))]
    async fn fleet(&self, _: &Fleet, _: &AsgSettings) -> Result<AnyFleet, FleetOpenError> {
        let _unused = self.config;
        Err(FleetOpenError::WithoutAws)
    }
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
    /// AWS cannot be reached.
    #[cfg(feature = "aws")]
    #[error(transparent)]
    Aws(#[from] crate::aws::client::ClientError),
    /// This program was built for other fleets.
    #[cfg(not(feature = "aws"))]
    #[error("this windlass was built without AWS; build it with the feature `aws`")]
    WithoutAws,
}

impl AnyFleet {
    /// Opens the provider of `fleet`.
    ///
    /// # Errors
    /// If it cannot be used.
    pub async fn open(
        fleet: &Fleet,
        opening: Opening<'_>,
        groups: &Groups<'_>,
    ) -> Result<Self, FleetOpenError> {
        match &fleet.provider {
            Provider::Simulated(settings) => {
                let cloud = simulated::open(&fleet.spec, settings, opening)?;
                Ok(Self::Simulated(Rc::new(cloud)))
            }
            Provider::Process(settings) => {
                let workers = ProcessFleet::open(&fleet.spec, settings, opening).await?;
                Ok(Self::Process(workers))
            }
            Provider::Asg(settings) => groups.fleet(fleet, settings).await,
        }
    }

    /// Where the readings of this fleet come from: a simulated fleet's from
    /// its own world, and every other's from the sources of its signals.
    /// `fleet` is what it was opened with, `shared` what all fleets share.
    pub fn metrics(&self, fleet: &Fleet, shared: &Shared) -> AnyMetrics {
        match self {
            Self::Simulated(cloud) => AnyMetrics::Simulated(Rc::clone(cloud)),
            Self::Process(_) => AnyMetrics::Sources(Sources::new(&fleet.sources, shared)),
            #[cfg(feature = "aws")]
            Self::Asg(_) => AnyMetrics::Sources(Sources::new(&fleet.sources, shared)),
        }
    }

    /// How many times faster than the clock on the wall the fleet lives: 1 but
    /// for simulated ones.
    pub fn speed(&self) -> u32 {
        match self {
            Self::Simulated(cloud) => cloud.speed(),
            Self::Process(_) => 1,
            #[cfg(feature = "aws")]
            Self::Asg(_) => 1,
        }
    }
}

impl Clock for AnyFleet {
    fn now(&self) -> Timestamp {
        match self {
            Self::Simulated(cloud) => cloud.now(),
            Self::Process(workers) => workers.now(),
            #[cfg(feature = "aws")]
            Self::Asg(_) => SystemClock.now(),
        }
    }
}

impl FleetProvider for AnyFleet {
    async fn list(&self, fleet: &str) -> Result<Listing, FleetError> {
        match self {
            Self::Simulated(cloud) => cloud.list(fleet).await,
            Self::Process(workers) => workers.list(fleet).await,
            #[cfg(feature = "aws")]
            Self::Asg(group) => group.list(fleet).await,
        }
    }

    async fn apply(&self, fleet: &str, epoch: Epoch, action: &Action) -> Outcome {
        match self {
            Self::Simulated(cloud) => cloud.apply(fleet, epoch, action).await,
            Self::Process(workers) => workers.apply(fleet, epoch, action).await,
            #[cfg(feature = "aws")]
            Self::Asg(group) => group.apply(fleet, epoch, action).await,
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
