//! What owns the instances: one file per provider.

pub mod asg;
#[cfg(feature = "aws")]
pub mod ec2;
pub mod process;
pub mod simulated;
pub mod workers;

#[cfg(feature = "aws")]
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
#[cfg(feature = "aws")]
use tokio::sync::OnceCell;

use windlass_policies::model::{Action, Epoch, FleetError, Listing, Outcome};
use windlass_policies::ports::{Clock, FleetProvider, MetricSource};
use windlass_policies::quote::Quotes;
use windlass_policies::reconcile::Mode;
use windlass_policies::signal::{Readings, SignalSpec};
use windlass_policies::units::Timestamp;
use windlass_simulator::scenario::ScenarioError;

#[cfg(feature = "aws")]
use crate::aws::{
    client::ClientError, settings::AwsSettings, shared::Aws, spot_prices::FleetPrices,
};
use crate::clock::Due;
#[cfg(feature = "aws")]
use crate::clock::SystemClock;
use crate::config::{Config, Fleet, Provider};
use crate::sources::{SharedSources, Sources};

#[cfg(feature = "aws")]
use asg::{AsgFleet, aws::AwsGroup, aws::SharedGroups};
#[cfg(feature = "aws")]
use ec2::Ec2Fleet;
use process::{ProcessError, ProcessFleet};
use simulated::{CloudError, SimulatedFleet};
#[cfg(feature = "aws")]
use workers::Workers;

/// The fleet of whichever provider its configuration names.
#[derive(Debug)]
pub enum AnyFleet {
    /// In a cloud inside windlass; it is its own metric source too.
    Simulated(Rc<SimulatedFleet>),
    /// Of processes of this machine.
    Process(Rc<ProcessFleet>),
    /// Of instances on EC2.
    #[cfg(feature = "aws")]
    Ec2(Box<Ec2Fleet>),
    /// In an Auto Scaling group, and what its instances cost if that moves.
    #[cfg(feature = "aws")]
    Asg(Box<AsgFleet<AwsGroup, SystemClock>>, Option<FleetPrices>),
}

/// What the fleets of a daemon share, opened when the first of them needs it.
#[derive(Debug)]
pub struct Shared {
    #[cfg(feature = "aws")]
    settings: AwsSettings,
    #[cfg(feature = "aws")]
    aws: OnceCell<Rc<Aws>>,
    #[cfg(feature = "aws")]
    group_names: BTreeSet<String>,
    #[cfg(feature = "aws")]
    groups: OnceCell<Rc<SharedGroups>>,
}

impl Shared {
    /// Nothing yet; AWS will be reached as `config` says.
    #[cfg_attr(
        not(feature = "aws"),
        expect(unused_variables, reason = "this build reaches no AWS")
    )]
    pub fn new(config: &Config) -> Self {
        Self {
            #[cfg(feature = "aws")]
            settings: config.aws.clone(),
            #[cfg(feature = "aws")]
            aws: OnceCell::new(),
            #[cfg(feature = "aws")]
            group_names: config.group_names().map(str::to_owned).collect(),
            #[cfg(feature = "aws")]
            groups: OnceCell::new(),
        }
    }

    /// AWS.
    ///
    /// # Errors
    /// If no region is found.
    #[cfg(feature = "aws")]
    pub async fn aws(&self) -> Result<Rc<Aws>, ClientError> {
        let open = || async { Aws::open(&self.settings).await.map(Rc::new) };
        self.aws.get_or_try_init(open).await.map(Rc::clone)
    }

    /// All Auto Scaling groups of the configuration.
    ///
    /// # Errors
    /// If no region is found.
    #[cfg(feature = "aws")]
    pub async fn groups(&self) -> Result<Rc<SharedGroups>, ClientError> {
        let open = || async {
            let aws = self.aws().await?;
            let names = self.group_names.clone();
            let autoscaling = aws.clients.autoscaling.clone();
            let region = Rc::clone(&aws.region);
            Ok(Rc::new(SharedGroups::new(autoscaling, region, names)))
        };
        self.groups.get_or_try_init(open).await.map(Rc::clone)
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
    /// What offerings cost at its newest decision.
    pub prices: &'a Quotes,
    /// What its fleets share.
    pub shared: &'a Shared,
    /// Makes the fleet's next cycle come at once.
    pub nudge: &'a Arc<Notify>,
    /// Tells when the fleet's cycle in hand came due.
    pub due: &'a Rc<Due>,
    /// Whether it will act at all. A rehearsal changes nothing outside of its
    /// own files, also while it opens and lists.
    pub mode: Mode,
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
    /// AWS cannot be reached at all.
    #[cfg(feature = "aws")]
    #[error(transparent)]
    Aws(#[from] ClientError),
    /// This build has no AWS.
    #[error("this windlass was built without AWS; use one with the feature `aws`")]
    NoAws,
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
            #[cfg(feature = "aws")]
            Provider::Ec2(settings) => {
                let aws = opening.shared.aws().await?;
                let fleet = Ec2Fleet::open(&fleet.spec, settings, &aws, opening);
                Ok(Self::Ec2(Box::new(fleet)))
            }
            #[cfg(not(feature = "aws"))]
            Provider::Ec2(_) | Provider::Asg(_) => Err(FleetOpenError::NoAws),
            #[cfg(feature = "aws")]
            Provider::Asg(settings) => {
                let aws = opening.shared.aws().await?;
                let groups = opening.shared.groups().await?;
                let notices = aws.notices(settings.notices_queue_url.as_deref(), opening.mode);
                let workers = Workers::new(&fleet.spec.name, &settings.workers, opening.mode);
                let due = Rc::clone(opening.due);
                let calls = AwsGroup::new(groups, &settings.group, due, workers, notices);
                calls.watch(opening.nudge);
                let rules = asg::rules(&fleet.spec, settings);
                let clock = SystemClock::new(opening.latest);
                let (name, last) = (&fleet.spec.name, opening.prices);
                let prices = FleetPrices::of_group(name, settings, &aws.spot_prices, last);
                let fleet = AsgFleet::new(rules, calls, clock);
                Ok(Self::Asg(Box::new(fleet), prices))
            }
        }
    }

    /// Where the readings of this fleet come from: a simulated fleet's from
    /// its own world, and every other's from the sources of its signals.
    /// `fleet` is what it was opened with, `shared` what all sources share.
    pub fn metrics(&self, fleet: &Fleet, shared: &SharedSources) -> AnyMetrics {
        match self {
            Self::Simulated(cloud) => AnyMetrics::Simulated(Rc::clone(cloud)),
            Self::Process(_) => AnyMetrics::Sources(Sources::new(&fleet.sources, shared)),
            #[cfg(feature = "aws")]
            Self::Ec2(_) => AnyMetrics::Sources(Sources::new(&fleet.sources, shared)),
            #[cfg(feature = "aws")]
            Self::Asg(..) => AnyMetrics::Sources(Sources::new(&fleet.sources, shared)),
        }
    }

    /// How many times faster than the clock on the wall the fleet lives: 1 but
    /// for simulated ones.
    pub fn speed(&self) -> u32 {
        match self {
            Self::Simulated(cloud) => cloud.speed(),
            Self::Process(_) => 1,
            #[cfg(feature = "aws")]
            Self::Ec2(_) => 1,
            #[cfg(feature = "aws")]
            Self::Asg(..) => 1,
        }
    }
}

impl Clock for AnyFleet {
    fn now(&self) -> Timestamp {
        match self {
            Self::Simulated(cloud) => cloud.now(),
            Self::Process(workers) => workers.now(),
            #[cfg(feature = "aws")]
            Self::Ec2(instances) => instances.now(),
            #[cfg(feature = "aws")]
            Self::Asg(instances, _) => instances.clock().now(),
        }
    }
}

impl FleetProvider for AnyFleet {
    fn prices(&self) -> Quotes {
        match self {
            Self::Simulated(cloud) => cloud.prices(),
            Self::Process(workers) => workers.prices(),
            #[cfg(feature = "aws")]
            Self::Ec2(instances) => instances.prices(),
            #[cfg(feature = "aws")]
            Self::Asg(_, prices) => prices.as_ref().map(FleetPrices::now).unwrap_or_default(),
        }
    }

    async fn list(&self, fleet: &str) -> Result<Listing, FleetError> {
        match self {
            Self::Simulated(cloud) => cloud.list(fleet).await,
            Self::Process(workers) => workers.list(fleet).await,
            #[cfg(feature = "aws")]
            Self::Ec2(instances) => instances.list(fleet).await,
            #[cfg(feature = "aws")]
            Self::Asg(instances, _) => instances.list(fleet).await,
        }
    }

    async fn apply(&self, fleet: &str, epoch: Epoch, action: &Action) -> Outcome {
        match self {
            Self::Simulated(cloud) => cloud.apply(fleet, epoch, action).await,
            Self::Process(workers) => workers.apply(fleet, epoch, action).await,
            #[cfg(feature = "aws")]
            Self::Ec2(instances) => instances.apply(fleet, epoch, action).await,
            #[cfg(feature = "aws")]
            Self::Asg(instances, _) => instances.apply(fleet, epoch, action).await,
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
