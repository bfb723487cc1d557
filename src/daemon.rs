//! The daemon: the loop around [`reconcile`], once per fleet, until it is told
//! to stop.
//!
//! One task per fleet on one thread. A cycle takes no hint of what changed: a
//! nudge only makes it come sooner, so a lost nudge costs at most one interval.
//! A stop waits for the cycle in hand.

use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant, replace};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use windlass_policies::memory::Memory;
use windlass_policies::model::{FleetError, Outcome, Reason};
use windlass_policies::policy::Until;
use windlass_policies::ports::{Clock, FleetProvider, MetricSource, Record, Store, StoreError};
use windlass_policies::quote::Quotes;
use windlass_policies::reconcile::{Cycle, Mode, Ports, reconcile};
use windlass_policies::spec::FleetSpec;
use windlass_policies::units::Timestamp;

use crate::chain;
use crate::clock::{self, Due};
use crate::config::{Config, Fleet};
use crate::fleets::{AnyFleet, AnyMetrics, FleetOpenError, Opening, Shared};
use crate::schedule::{Scheduler, Wake};
use crate::self_tuning::{InForce, SelfTuner};
use crate::sources::{SharedError, SharedSources};
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
    /// What owns a fleet's instances cannot be used.
    #[error("cannot use the provider of the fleet `{fleet}`")]
    Fleet {
        /// Which fleet.
        fleet: String,
        /// Why.
        #[source]
        source: FleetOpenError,
    },
    /// The system would not start a runtime, or tell us of signals.
    #[error("cannot start the daemon")]
    System(#[source] std::io::Error),
    /// What all sources share cannot be used.
    #[error("cannot read signals")]
    Sources(#[from] SharedError),
    /// The scheduler would not start.
    #[error("cannot schedule upkeep and nudges")]
    Scheduler(#[from] tokio_cron_scheduler::JobSchedulerError),
}

/// Controls the fleets of `config` until SIGINT or SIGTERM; with `once`, until
/// each fleet has decided in earnest once, or has tried to. Says why it ended.
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
    let end = LocalSet::new().block_on(&runtime, async {
        let shared = Shared::new(config);
        let sources = SharedSources::open(config, &shared).await?;
        let mut controlled = Vec::new();
        let mut tuner = SelfTuner::new(config, &store);
        for fleet in &config.fleets {
            let place = Place {
                store_path: &config.store.path,
                store: &store,
                shared: &shared,
                sources: &sources,
                mode,
            };
            let in_force = tuner.add(fleet, mode)?;
            controlled.push(Controlled::open(fleet, in_force, place).await?);
        }
        let started = Started {
            store,
            controlled,
            tuner,
        };
        control(config, started, signals, mode, once).await
    })?;
    match end {
        End::CutShort => {
            // What runs beside the loop is not waited for either.
            runtime.shutdown_background();
            warn!("stopped at once, with a cycle in hand; the next start settles what came of it");
        }
        End::Asked | End::TakenOver => info!("stopped"),
    }
    Ok(end)
}

/// All that is controlled.
struct Started {
    store: Rc<SqliteStore>,
    controlled: Vec<Controlled>,
    tuner: SelfTuner,
}

/// A fleet with all it needs.
struct Controlled {
    /// As its file says.
    spec: FleetSpec,
    in_force: InForce,
    memory: Memory,
    fleet: AnyFleet,
    metrics: AnyMetrics,
    nudge: Arc<Notify>,
    due: Rc<Due>,
}

/// What a fleet is opened in.
#[derive(Clone, Copy)]
struct Place<'a> {
    store_path: &'a Path,
    store: &'a SqliteStore,
    shared: &'a Shared,
    sources: &'a SharedSources,
    mode: Mode,
}

impl Controlled {
    async fn open(fleet: &Fleet, in_force: InForce, place: Place<'_>) -> Result<Self, DaemonError> {
        let Place {
            store_path,
            store,
            shared,
            sources,
            mode,
        } = place;
        let spec = fleet.spec.clone();
        for (signal, why) in fleet.missing_secrets() {
            warn!(fleet = %spec.name, %signal, %why, "a signal stays absent without its secret");
        }
        let tail = store.tail(&spec.name)?;
        let run_as = Arc::clone(&in_force.borrow());
        let memory = Memory::rebuild(&run_as, store.store_id(), store.epoch(), &tail);
        let latest = latest(&tail);
        if let Some(at) = latest {
            info!(fleet = %spec.name, cycle = memory.cycle, %at, "going on from what was written");
        }
        let prices = prices(&tail);
        let nudge = Arc::new(Notify::new());
        let due = Rc::new(Due::new(spec.interval));
        let opening = Opening {
            store_path,
            store_id: store.store_id(),
            epoch: store.epoch(),
            latest,
            prices: &prices,
            shared,
            nudge: &nudge,
            due: &due,
            mode,
        };
        let failed = |source| DaemonError::Fleet {
            fleet: spec.name.clone(),
            source,
        };
        let opened = AnyFleet::open(fleet, opening).await.map_err(failed)?;
        Ok(Self {
            metrics: opened.metrics(fleet, sources),
            spec,
            in_force,
            memory,
            fleet: opened,
            nudge,
            due,
        })
    }

    /// Runs its loop to the end.
    async fn run(
        mut self,
        store: Rc<SqliteStore>,
        mode: Mode,
        once: bool,
        start: Instant,
        stop: watch::Receiver<bool>,
    ) -> End {
        let ports = Ports {
            clock: &self.fleet,
            metrics: &self.metrics,
            provider: &self.fleet,
            store: &*store,
        };
        let fleet = Loop {
            in_force: self.in_force,
            mode,
            speed: self.fleet.speed(),
            once,
            start,
            nudge: &self.nudge,
            due: &self.due,
            stop,
        };
        fleet.run(&mut self.memory, ports).await
    }

    /// When its schedules open or close a window. A fleet that lives faster
    /// than the clock on the wall is not woken by that.
    fn wakes(&self) -> Vec<Wake> {
        if self.fleet.speed() != 1 {
            return Vec::new();
        }
        let lines = self.spec.policies.iter().flat_map(|named| {
            let (zone, hours) = named.policy.hours();
            hours.into_iter().flat_map(move |hours| {
                let end = match &hours.until {
                    Until::At(line) => Some(line),
                    Until::For(_) => None,
                };
                let lines = std::iter::once(&hours.start).chain(end);
                lines.map(move |line| (line.as_str(), zone.tz()))
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

/// What offerings cost at a fleet's newest decision.
fn prices(tail: &[Record]) -> Quotes {
    let newest = tail.iter().rev().find_map(|record| match record {
        Record::Decided(decided) => Some(decided.seen.prices.clone()),
        Record::Planned { .. } | Record::Acted { .. } => None,
    });
    newest.unwrap_or_default()
}

async fn control(
    config: &Config,
    started: Started,
    mut signals: Signals,
    mode: Mode,
    once: bool,
) -> Result<End, DaemonError> {
    let Started {
        store,
        controlled,
        tuner,
    } = started;
    let (stopper, stop) = watch::channel(false);
    let upkeep = Arc::new(Notify::new());
    let mut wakes: Vec<Wake> = controlled.iter().flat_map(Controlled::wakes).collect();
    let (due, hourly) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    // Who decides once looks at nothing else.
    let tunes = !once && !tuner.is_idle();
    if tunes {
        wakes.extend(tuning_wakes(config, &due, &hourly));
    }
    let scheduler = Scheduler::start(Arc::clone(&upkeep), wakes).await?;
    let keep = config.store.keep;
    let pruning = tokio::task::spawn_local(prune(Rc::clone(&store), keep, upkeep));
    let tuning = tunes.then(|| tokio::task::spawn_local(tuner.run(due, hourly, stop.clone())));
    // One for all: cycles of the same interval come due together.
    let start = Instant::now();
    let loops: BTreeMap<String, _> = controlled
        .into_iter()
        .map(|fleet| {
            let name = fleet.spec.name.clone();
            let task = fleet.run(Rc::clone(&store), mode, once, start, stop.clone());
            (name, tokio::task::spawn_local(task))
        })
        .collect();
    let asked_twice = async move {
        signals.wait().await;
        info!("stopping after the cycle in hand");
        // Nobody listens any more if all loops have ended.
        let _ = stopper.send(true);
        // Whoever asks a second time does not want to wait: the store and the
        // provider bear a crash at any point.
        signals.wait().await;
    };
    let all_ended = async {
        let mut end = End::Asked;
        for (name, task) in loops {
            match task.await {
                Ok(End::TakenOver) => end = End::TakenOver,
                Ok(End::Asked | End::CutShort) => debug!(fleet = %name, "its loop has ended"),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        end
    };
    let end = tokio::select! {
        biased;
        end = all_ended => end,
        () = asked_twice => return Ok(End::CutShort),
    };
    pruning.abort();
    if let Some(tuning) = tuning {
        tuning.abort();
    }
    scheduler.stop().await;
    Ok(end)
}

/// When records are replayed, and what is followed is looked back at.
fn tuning_wakes(config: &Config, due: &Arc<Notify>, hourly: &Arc<Notify>) -> [Wake; 2] {
    let tuning = &config.tuning;
    [
        Wake {
            cron: format!("0 {}", tuning.schedule.as_str()),
            timezone: tuning.zone.tz(),
            nudge: Arc::clone(due),
        },
        Wake {
            cron: LOOK_BACK.to_owned(),
            timezone: chrono_tz::UTC,
            nudge: Arc::clone(hourly),
        },
    ]
}

/// What is followed is looked back at when nothing else is done.
const LOOK_BACK: &str = "0 47 * * * *";

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
    /// What to control, as it is run now.
    pub in_force: InForce,
    /// Whether to act.
    pub mode: Mode,
    /// How much faster than real time the fleet's own clock runs; 1 but for
    /// simulated fleets.
    pub speed: u32,
    /// Whether to stop after the first cycle that may change something.
    pub once: bool,
    /// When the first cycle comes due; the others do at whole intervals from it.
    pub start: Instant,
    /// Makes the next cycle come at once.
    pub nudge: &'a Notify,
    /// Told when each cycle came due.
    pub due: &'a Due,
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
    /// It was asked to stop a second time, and a cycle was cut short.
    CutShort,
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
        let mut spec = Arc::clone(&self.in_force.borrow());
        let interval = spec.interval / self.speed.max(1);
        let mut due = self.start;
        let mut left = spec.limits.observe_cycles.max(1);
        let mut sight = Sight::default();
        loop {
            self.due.set(clock::now() - due.elapsed());
            match reconcile(&spec, self.mode, memory, ports).await {
                Ok(cycle) => {
                    report(&spec.name, &cycle);
                    sight.tell(&spec.name, cycle.seen.fleet.as_ref().err());
                    if taken_over(&cycle) {
                        error!(fleet = %spec.name, "another windlass controls this fleet, so this one lets go of it");
                        return End::TakenOver;
                    }
                }
                Err(error) => error!(
                    fleet = %spec.name,
                    error = %chain(&error),
                    "nothing is changed until the store takes records again"
                ),
            }
            // After a start, cycles only observe until there were enough: a
            // single one would never change anything.
            left = left.saturating_sub(1);
            if (self.once && left == 0) || *self.stop.borrow() {
                return End::Asked;
            }
            let next = next_due(self.start, interval, Instant::now());
            tokio::select! {
                biased;
                _ = self.stop.changed() => return End::Asked,
                () = self.nudge.notified() => {}
                () = sleep_until(next) => {}
            }
            spec = Arc::clone(&self.in_force.borrow());
            // What is nudged is due now.
            due = next.min(Instant::now());
        }
    }
}

/// The next of the whole `interval`s from `start` that is still ahead: cycles
/// that were missed are not made up for, and one that came late, or was nudged,
/// moves none of those after it.
fn next_due(start: Instant, interval: Duration, now: Instant) -> Instant {
    let begun = now.saturating_duration_since(start).as_nanos();
    let begun = begun.checked_rem(interval.as_nanos()).unwrap_or_default();
    let begun = u64::try_from(begun).map_or(Duration::ZERO, Duration::from_nanos);
    now + interval.saturating_sub(begun)
}

fn taken_over(cycle: &Cycle) -> bool {
    let stale = Outcome::Failed(FleetError::StaleEpoch);
    // Some providers refuse even to show a fleet to an older writer.
    cycle.seen.fleet == Err(FleetError::StaleEpoch)
        || cycle.done.iter().any(|(_, outcome)| *outcome == stale)
}

/// Whether a fleet can be listed, told when that changes: what lasts is in each
/// cycle's own line.
#[derive(Debug, Default)]
struct Sight {
    /// What kind of error hides it; its words may differ each time.
    hidden_by: Option<Discriminant<FleetError>>,
}

impl Sight {
    fn tell(&mut self, fleet: &str, error: Option<&FleetError>) {
        let hidden_by = error.map(discriminant);
        if replace(&mut self.hidden_by, hidden_by) == hidden_by {
            return;
        }
        let Some(error) = error else {
            info!(fleet, "the fleet can be listed again");
            return;
        };
        match error {
            FleetError::NotPermitted(_)
            | FleetError::NotFound
            | FleetError::Rejected(_)
            | FleetError::LimitReached(_) => {
                error!(
 fleet, %error, "the fleet cannot be listed: nothing changes until somebody sees to it");
            }
            FleetError::Throttled
            | FleetError::NoCapacity
            | FleetError::Unreachable(_)
            | FleetError::Unknown(_)
            | FleetError::Held(_) => {
                warn!(fleet, %error, "the fleet cannot be listed: nothing changes until it can be");
            }
            // Told by the loop, which ends with it.
            FleetError::StaleEpoch => {}
        }
    }
}

/// One line for the decision, and one for each action that failed.
fn report(fleet: &str, cycle: &Cycle) {
    let decision = &cycle.decision;
    let granted = cycle
        .done
        .iter()
        .filter_map(|(_, outcome)| outcome.granted());
    let launched = granted.fold(0, u32::saturating_add);
    let ended = cycle
        .done
        .iter()
        .filter(|(_, outcome)| *outcome == Outcome::Terminated)
        .count();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_come_due_at_whole_intervals_from_the_start() {
        let start = Instant::now();
        let due = |interval, now| {
            let now = start + Duration::from_millis(now);
            let next = next_due(start, Duration::from_millis(interval), now);
            next.duration_since(start).as_millis()
        };
        for (interval, now, next) in [
            (60_000, 0, 60_000),
            // After a nudge, and after a cycle that took its time.
            (60_000, 30_000, 60_000),
            (60_000, 59_999, 60_000),
            (60_000, 60_000, 120_000),
            // Two were missed.
            (60_000, 185_000, 240_000),
            (0, 5, 5),
        ] {
            assert_eq!(due(interval, now), next, "{interval} at {now}");
        }
    }
}
