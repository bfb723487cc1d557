//! The daemon: the loop around [`reconcile`], once per fleet, until it is told
//! to stop.
//!
//! One task per fleet on one thread. A cycle takes no hint of what changed: a
//! nudge only makes it come sooner, so a lost nudge costs at most one interval.
//! A stop waits for the cycle in hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use windlass_policies::memory::Memory;
use windlass_policies::model::{Action, Epoch, FleetError, Outcome, Reason};
use windlass_policies::policy::{Policy, Until};
use windlass_policies::ports::{Clock, FleetProvider, MetricSource, Record, Store, StoreError};
use windlass_policies::reconcile::{Cycle, Mode, Ports, reconcile};
use windlass_policies::spec::FleetSpec;
use windlass_policies::units::Timestamp;
use windlass_simulator::scenario::{Scenario, ScenarioError};

use crate::chain;
use crate::clock;
use crate::config::{Config, Fleet, Provider};
use crate::fleets::simulated::{CloudError, SimulatedFleet};
use crate::schedule::{Scheduler, Wake};
use crate::store::{OpenError, SqliteStore};

/// Why the daemon could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be read.
    #[error("cannot go on from what was written")]
    Tail(#[from] StoreError),
    /// The simulated world cannot be made.
    #[error("cannot simulate the fleet `{fleet}`")]
    Scenario {
        /// Which fleet.
        fleet: String,
        /// Why.
        #[source]
        source: ScenarioError,
    },
    /// The simulated cloud cannot be opened.
    #[error("cannot simulate the fleet `{fleet}`")]
    Cloud {
        /// Which fleet.
        fleet: String,
        /// Why.
        #[source]
        source: CloudError,
    },
    /// The system would not start a runtime, or tell us of signals.
    #[error("cannot start the daemon")]
    System(#[source] std::io::Error),
    /// The scheduler would not start.
    #[error("cannot schedule upkeep and nudges")]
    Scheduler(#[from] tokio_cron_scheduler::JobSchedulerError),
}

/// Controls the fleets of `config` until SIGINT, SIGTERM, or, with `once`,
/// after one cycle each. Says whether it was asked to stop or taken over.
///
/// # Errors
/// If it cannot start. What goes wrong later is logged, and it goes on.
pub fn run(config: &Config, mode: Mode, once: bool) -> Result<End, DaemonError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DaemonError::System)?;
    // Before anything is opened, which may take a while: whoever asks it to
    // stop then is heard too.
    let signals = {
        let _entered = runtime.enter();
        Signals::new()?
    };
    let store = Rc::new(SqliteStore::open(&config.store.path, clock::now())?);
    info!(store = %config.store.path.display(), epoch = store.epoch().0, fleets = config.fleets.len(), "started");
    let mut controlled = Vec::new();
    for fleet in &config.fleets {
        controlled.push(Controlled::open(fleet, &config.store.path, &store)?);
    }
    let control = control(config, store, controlled, signals, mode, once);
    let end = LocalSet::new().block_on(&runtime, control)?;
    info!("stopped");
    Ok(end)
}

/// A fleet with all it needs.
struct Controlled {
    spec: FleetSpec,
    memory: Memory,
    cloud: SimulatedFleet,
    speed: u32,
    nudge: Arc<Notify>,
}

impl Controlled {
    fn open(fleet: &Fleet, store_path: &Path, store: &SqliteStore) -> Result<Self, DaemonError> {
        let name = &fleet.spec.name;
        let tail = store.tail(name)?;
        let memory = Memory::rebuild(&fleet.spec, store.store_id(), store.epoch(), &tail);
        let latest = latest(&tail);
        if let Some(at) = latest {
            info!(fleet = %name, cycle = memory.cycle, %at, "going on from what was written");
        }
        let Provider::Simulated { scenario, speed } = &fleet.provider;
        let cloud = open_cloud(fleet, scenario, *speed, store_path, latest, store.epoch())?;
        let spec = fleet.spec.clone();
        Ok(Self {
            spec,
            memory,
            cloud,
            speed: *speed,
            nudge: Arc::new(Notify::new()),
        })
    }

    /// Runs its loop to the end.
    async fn run(
        mut self,
        store: Rc<SqliteStore>,
        mode: Mode,
        once: bool,
        stop: watch::Receiver<bool>,
    ) -> End {
        let ports = Ports {
            clock: &self.cloud,
            metrics: &self.cloud,
            provider: &self.cloud,
            store: &*store,
        };
        let fleet = Loop {
            spec: &self.spec,
            mode,
            speed: self.speed,
            once,
            nudge: &self.nudge,
            stop,
        };
        fleet.run(&mut self.memory, ports).await
    }

    /// When its schedules open or close a window. A fleet that lives faster
    /// than the clock on the wall is not woken by that.
    fn wakes(&self) -> Vec<Wake> {
        if self.speed != 1 {
            return Vec::new();
        }
        let schedules = self
            .spec
            .policies
            .iter()
            .filter_map(|named| match &named.policy {
                Policy::Schedule(schedule) => Some(schedule),
                Policy::Fixed(_)
                | Policy::QueueBacklog(_)
                | Policy::TargetTracking(_)
                | Policy::Step(_) => None,
            });
        let lines = schedules.flat_map(|schedule| {
            schedule.windows.iter().flat_map(move |window| {
                let end = match &window.until {
                    Until::At(line) => Some(line),
                    Until::For(_) => None,
                };
                let lines = std::iter::once(&window.start).chain(end);
                lines.map(move |line| (line.as_str(), schedule.zone.tz()))
            })
        });
        let wake = |(line, timezone)| Wake {
            cron: format!("0 {line}"),
            timezone,
            nudge: Arc::clone(&self.nudge),
        };
        lines.map(wake).collect()
    }
}

/// The latest time in a fleet's history.
fn latest(tail: &[Record]) -> Option<Timestamp> {
    let times = tail.iter().filter_map(|record| match record {
        Record::Decided(decided) => Some(decided.decision.at),
        Record::Acted { at, .. } => Some(*at),
        Record::Planned { .. } => None,
    });
    times.max()
}

fn open_cloud(
    fleet: &Fleet,
    scenario: &Scenario,
    speed: u32,
    store_path: &Path,
    latest: Option<Timestamp>,
    epoch: Epoch,
) -> Result<SimulatedFleet, DaemonError> {
    let name = &fleet.spec.name;
    let failed = |source| DaemonError::Scenario {
        fleet: name.clone(),
        source,
    };
    let trace = scenario.read_trace().map_err(failed)?;
    let workload = scenario.build_workload(&trace).map_err(failed)?;
    let world = scenario
        .world(name, &workload, &fleet.spec.signals, true)
        .map_err(failed)?;
    let path = cloud_path(store_path, name);
    let world_name = scenario.fingerprint();
    SimulatedFleet::open(&path, &world_name, world, speed, latest, epoch).map_err(|source| {
        DaemonError::Cloud {
            fleet: name.clone(),
            source,
        }
    })
}

/// Where the simulated cloud of `fleet` keeps itself: beside the store.
fn cloud_path(store: &Path, fleet: &str) -> PathBuf {
    let stem = store.file_stem().unwrap_or_default().to_string_lossy();
    store.with_file_name(format!("{stem}.{fleet}.cloud.db"))
}

async fn control(
    config: &Config,
    store: Rc<SqliteStore>,
    controlled: Vec<Controlled>,
    mut signals: Signals,
    mode: Mode,
    once: bool,
) -> Result<End, DaemonError> {
    let (stopper, stop) = watch::channel(false);
    let upkeep = Arc::new(Notify::new());
    let wakes = controlled.iter().flat_map(Controlled::wakes).collect();
    let scheduler = Scheduler::start(Arc::clone(&upkeep), wakes).await?;
    let keep = config.store.keep;
    let pruning = tokio::task::spawn_local(prune(Rc::clone(&store), keep, upkeep));
    let loops: BTreeMap<String, _> = controlled
        .into_iter()
        .map(|fleet| {
            let name = fleet.spec.name.clone();
            let task = fleet.run(Rc::clone(&store), mode, once, stop.clone());
            (name, tokio::task::spawn_local(task))
        })
        .collect();
    tokio::task::spawn_local(async move {
        signals.wait().await;
        info!("stopping after the cycle in hand");
        // Nobody listens any more if all loops have ended.
        let _ = stopper.send(true);
        // Whoever asks a second time does not want to wait: the store and the
        // provider bear a crash at any point.
        signals.wait().await;
        std::process::abort();
    });
    let mut end = End::Asked;
    for (name, task) in loops {
        match task.await {
            Ok(End::Asked) => debug!(fleet = %name, "its loop has ended"),
            Ok(End::TakenOver) => end = End::TakenOver,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    pruning.abort();
    scheduler.stop().await;
    Ok(end)
}

/// Drops history that has been kept long enough, whenever it is woken.
async fn prune(store: Rc<SqliteStore>, keep: Duration, wake: Arc<Notify>) {
    loop {
        wake.notified().await;
        loop {
            match store.prune(keep) {
                Ok(pruned) if pruned.more => tokio::task::yield_now().await,
                Ok(pruned) => {
                    debug!(
                        decisions = pruned.decisions,
                        actions = pruned.actions,
                        "old history dropped"
                    );
                    break;
                }
                Err(error) => {
                    warn!(error = %chain(&error), "old history could not be dropped");
                    break;
                }
            }
        }
    }
}

/// SIGINT (Ctrl-C) and SIGTERM.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, DaemonError> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(DaemonError::System);
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// How a fleet's loop is to run.
#[derive(Debug)]
pub struct Loop<'a> {
    /// What to control.
    pub spec: &'a FleetSpec,
    /// Whether to act.
    pub mode: Mode,
    /// How much faster than real time the fleet's own clock runs; 1 but for
    /// simulated fleets.
    pub speed: u32,
    /// Whether to stop after one cycle.
    pub once: bool,
    /// Makes the next cycle come at once.
    pub nudge: &'a Notify,
    /// Turns true when the daemon is to stop.
    pub stop: watch::Receiver<bool>,
}

/// Why a fleet's loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to stop, or to run once.
    Asked,
    /// Another daemon has taken the fleet over.
    TakenOver,
}

impl Loop<'_> {
    /// Runs cycles until it is to stop.
    pub async fn run<C, M, P, S>(mut self, memory: &mut Memory, ports: Ports<'_, C, M, P, S>) -> End
    where
        C: Clock,
        M: MetricSource,
        P: FleetProvider,
        S: Store,
    {
        let interval = self.real_interval();
        let mut due = Instant::now();
        loop {
            match reconcile(self.spec, self.mode, memory, ports).await {
                Ok(cycle) => {
                    report(&self.spec.name, &cycle);
                    if taken_over(&cycle) {
                        error!(fleet = %self.spec.name, "another windlass controls this fleet, so this one lets go of it");
                        return End::TakenOver;
                    }
                }
                Err(error) => error!(
                    fleet = %self.spec.name,
                    error = %chain(&error),
                    "nothing is changed until the store takes records again"
                ),
            }
            if self.once || *self.stop.borrow() {
                return End::Asked;
            }
            due = next_due(due, interval, Instant::now());
            tokio::select! {
                biased;
                _ = self.stop.changed() => return End::Asked,
                () = self.nudge.notified() => {}
                () = sleep_until(due) => {}
            }
        }
    }

    fn real_interval(&self) -> Duration {
        self.spec.interval / self.speed.max(1)
    }
}

/// The next point of the grid of `interval`s after `due` that is still ahead:
/// cycles that were missed are not made up for.
fn next_due(due: Instant, interval: Duration, now: Instant) -> Instant {
    let next = due + interval;
    if next > now { next } else { now + interval }
}

fn taken_over(cycle: &Cycle) -> bool {
    let stale = Outcome::Failed(FleetError::StaleEpoch);
    cycle.done.iter().any(|(_, outcome)| *outcome == stale)
}

/// One line for the decision, and one for each action that failed.
fn report(fleet: &str, cycle: &Cycle) {
    let decision = &cycle.decision;
    let (launched, ended) =
        cycle
            .done
            .iter()
            .fold((0, 0), |sum, (action, outcome)| match (action, outcome) {
                (Action::Launch { .. }, Outcome::Launched { instances }) => {
                    (sum.0 + instances.len(), sum.1)
                }
                (Action::Terminate { .. }, Outcome::Terminated) => (sum.0, sum.1 + 1),
                _ => sum,
            });
    info!(
        fleet,
        cycle = decision.cycle,
        at = %decision.at,
        current = decision.current,
        wish = decision.wish,
        target = decision.target,
        launched,
        ended,
        why = %decision.summary(),
        "decided"
    );
    for reason in &cycle.elsewhere {
        info!(fleet, cycle = decision.cycle, why = %reason, "bought elsewhere");
    }
    for reason in &decision.reasons {
        if let Reason::Refused { violations } = reason {
            error!(
                fleet,
                cycle = decision.cycle,
                ?violations,
                "a decision was refused"
            );
        }
    }
    for (action, outcome) in &cycle.done {
        if let Outcome::Failed(error) = outcome {
            warn!(fleet, cycle = decision.cycle, %action, %error, "an action failed");
        }
    }
}
