//! A cloud inside windlass, for trying it out: a simulated world whose clock
//! runs with the real one, perhaps faster, and which outlives the daemon.
//!
//! The world is a pure function of its scenario and of what was asked of it
//! when. So that is what is kept: an `SQLite` file beside the store has every
//! request with its time, written before it is answered. At the next start the
//! world is made again and the requests are repeated in it; its time goes on
//! where the daemon left it. The file is the cloud's own and knows nothing of
//! the store, so that one can be held against the other.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};

use windlass_policies::model::{Action, Epoch, FleetError, Listing, Outcome};
use windlass_policies::ports::{Clock, FleetProvider, MetricSource};
use windlass_policies::quote::Quotes;
use windlass_policies::signal::{Readings, SignalSpec};
use windlass_policies::spec::FleetSpec;
use windlass_policies::units::Timestamp;
use windlass_simulator::world::{SimulatedPorts, World};

use super::{FleetOpenError, Opening};
use crate::config::Simulated;

/// How long another process may hold the file before that is an error.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A simulated fleet: clock, metric source and provider at once.
#[derive(Debug)]
pub struct SimulatedFleet {
    ports: SimulatedPorts,
    log: CloudLog,
    /// The world's time when the daemon started.
    resumed_at: Timestamp,
    started: Instant,
    speed: u32,
}

/// Why there is no such cloud.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// The file cannot be used.
    #[error("cannot use the simulated cloud in {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The file was made for another world.
    #[error(
        "the simulated cloud in {} was made for another scenario or seed; delete the file and the \
         store beside it to begin anew, or go back to the old scenario",
        path.display()
    )]
    OtherWorld {
        /// Which file.
        path: PathBuf,
    },
    /// The file belongs to a store that was started more often.
    #[error(
        "the simulated cloud in {} has followed start {found} of a store, and this store is at its \
         start {own}, so it is another one; bring the old store back, or delete the file to begin \
         anew",
        path.display()
    )]
    OtherStore {
        /// Which file.
        path: PathBuf,
        /// The newest epoch that acted on it.
        found: Epoch,
        /// The epoch that would act on it now.
        own: Epoch,
    },
    /// The file says something that no world could have been asked.
    #[error(
        "the simulated cloud in {} is damaged: {what}; delete the file and the store beside it to \
         begin anew",
        path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Opens the cloud of the fleet of `spec`, which keeps itself beside the store.
pub(super) fn open(
    spec: &FleetSpec,
    settings: &Simulated,
    opening: Opening<'_>,
) -> Result<SimulatedFleet, FleetOpenError> {
    let Simulated { scenario, speed } = settings;
    let trace = scenario.read_trace()?;
    let workload = scenario.build_workload(&trace)?;
    let world = scenario.world(&spec.name, &workload, &spec.signals, true)?;
    let path = cloud_path(opening.store_path, &spec.name);
    let fingerprint = scenario.fingerprint();
    let Opening { latest, epoch, .. } = opening;
    let cloud = SimulatedFleet::open(&path, &fingerprint, world, *speed, latest, epoch)?;
    Ok(cloud)
}

/// Where the simulated cloud of `fleet` keeps itself.
fn cloud_path(store: &Path, fleet: &str) -> PathBuf {
    let stem = store.file_stem().unwrap_or_default().to_string_lossy();
    store.with_file_name(format!("{stem}.{fleet}.cloud.db"))
}

impl SimulatedFleet {
    /// Goes on with the cloud in `path`, or begins it with `world`, which must
    /// stand at its beginning. `fingerprint` names the scenario. The time is
    /// at least `not_before`, so that a store never sees it run backwards.
    /// `epoch` is what it will be asked with.
    ///
    /// # Errors
    /// If the file cannot be used or belongs to another world, or to a store
    /// beside which `epoch` is a thing of the past: it would refuse everything.
    pub fn open(
        path: &Path,
        fingerprint: &str,
        mut world: World,
        speed: u32,
        not_before: Option<Timestamp>,
        epoch: Epoch,
    ) -> Result<Self, CloudError> {
        let log = CloudLog::open(path, fingerprint)?;
        log.refuse_older(epoch)?;
        let left_at = log.repeat(&mut world)?;
        let resumed_at = left_at.max(not_before.unwrap_or_default()).max(world.now());
        world.advance(resumed_at);
        Ok(Self {
            ports: SimulatedPorts::new(world),
            log,
            resumed_at,
            started: Instant::now(),
            speed,
        })
    }

    /// How many times faster than the clock on the wall it runs.
    pub fn speed(&self) -> u32 {
        self.speed
    }

    /// Lets the world catch up with the clock.
    fn catch_up(&self) -> Timestamp {
        let now = self.resumed_at + self.started.elapsed().saturating_mul(self.speed);
        self.ports.with(|world| world.advance(now));
        now
    }
}

impl Clock for SimulatedFleet {
    fn now(&self) -> Timestamp {
        self.catch_up()
    }
}

impl MetricSource for SimulatedFleet {
    async fn read(&self, signals: &[SignalSpec], now: Timestamp) -> Readings {
        self.ports.read(signals, now).await
    }
}

impl FleetProvider for SimulatedFleet {
    fn prices(&self) -> Quotes {
        self.ports.prices()
    }

    async fn list(&self, fleet: &str) -> Result<Listing, FleetError> {
        let now = self.catch_up();
        self.log
            .keep_time(now)
            .map_err(|error| FleetError::Unknown(error.to_string()))?;
        self.ports.list(fleet).await
    }

    async fn apply(&self, fleet: &str, epoch: Epoch, action: &Action) -> Outcome {
        let now = self.catch_up();
        // Written first: what is answered must still be so after a crash.
        if let Err(error) = self.log.append(now, epoch, fleet, action) {
            return Outcome::Failed(FleetError::Unknown(error.to_string()));
        }
        self.ports.apply(fleet, epoch, action).await
    }
}

/// Every request to a world, and how far its time has come.
#[derive(Debug)]
struct CloudLog {
    connection: Connection,
    path: PathBuf,
}

/// `requests`: what was asked of the cloud, in order. `clock`: one row, the
/// latest time the fleet was listed at. `world`: one row, which world it is.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS world (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        fingerprint TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS clock (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        micros INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS requests (
        serial INTEGER PRIMARY KEY,
        micros INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        fleet TEXT NOT NULL,
        action TEXT NOT NULL
    );
";

impl CloudLog {
    fn open(path: &Path, fingerprint: &str) -> Result<Self, CloudError> {
        let failed = |source| CloudError::File {
            path: path.to_owned(),
            source,
        };
        let connection = Connection::open(path).map_err(failed)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .map_err(failed)?;
        // A real cloud would not forget a request in a power cut either.
        connection
            .pragma_update(None, "synchronous", "FULL")
            .map_err(failed)?;
        connection.execute_batch(SCHEMA).map_err(failed)?;
        connection
            .execute("INSERT OR IGNORE INTO world VALUES (1, ?1)", [fingerprint])
            .map_err(failed)?;
        let known: String = connection
            .query_row("SELECT fingerprint FROM world", [], |row| row.get(0))
            .map_err(failed)?;
        if known != fingerprint {
            return Err(CloudError::OtherWorld {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            connection,
            path: path.to_owned(),
        })
    }

    fn refuse_older(&self, own: Epoch) -> Result<(), CloudError> {
        let newest: Option<i64> = self
            .connection
            .query_row("SELECT max(epoch) FROM requests", [], |row| row.get(0))
            .map_err(|source| CloudError::File {
                path: self.path.clone(),
                source,
            })?;
        let found = Epoch(self.count(newest.unwrap_or(0))?);
        if found > own {
            return Err(CloudError::OtherStore {
                path: self.path.clone(),
                found,
                own,
            });
        }
        Ok(())
    }

    /// Asks `world` again for everything it was asked for, and says how far
    /// its time had come.
    fn repeat(&self, world: &mut World) -> Result<Timestamp, CloudError> {
        let failed = |source| CloudError::File {
            path: self.path.clone(),
            source,
        };
        let mut query = self
            .connection
            .prepare("SELECT micros, epoch, fleet, action FROM requests ORDER BY serial")
            .map_err(failed)?;
        let mut rows = query.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let at = Timestamp::from_micros(self.count(row.get(0).map_err(failed)?)?);
            let epoch = Epoch(self.count(row.get(1).map_err(failed)?)?);
            let fleet: String = row.get(2).map_err(failed)?;
            let text: String = row.get(3).map_err(failed)?;
            let action: Action =
                serde_json::from_str(&text).map_err(|error| CloudError::Damaged {
                    path: self.path.clone(),
                    what: format!("{text}: {error}"),
                })?;
            world.advance(at);
            world.apply(&fleet, epoch, &action);
        }
        let time: Option<i64> = self
            .connection
            .query_row("SELECT micros FROM clock", [], |row| row.get(0))
            .optional()
            .map_err(failed)?;
        Ok(Timestamp::from_micros(self.count(time.unwrap_or(0))?))
    }

    /// `SQLite`'s numbers have a sign; ours never use it.
    fn count(&self, number: i64) -> Result<u64, CloudError> {
        u64::try_from(number).map_err(|_| CloudError::Damaged {
            path: self.path.clone(),
            what: format!("{number} is no count or time"),
        })
    }

    fn keep_time(&self, now: Timestamp) -> Result<(), rusqlite::Error> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO clock VALUES (1, ?1)")?
            .execute([signed(now.micros())])?;
        Ok(())
    }

    fn append(
        &self,
        now: Timestamp,
        epoch: Epoch,
        fleet: &str,
        action: &Action,
    ) -> Result<(), rusqlite::Error> {
        let text = serde_json::to_string(action).expect("an action is plain data");
        self.connection
            .prepare_cached(
                "INSERT INTO requests (micros, epoch, fleet, action) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![signed(now.micros()), signed(epoch.0), fleet, text])?;
        Ok(())
    }
}

/// As `SQLite` holds it; the largest stands for what no clock will show.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use windlass_policies::model::LaunchToken;
    use windlass_simulator::engine::poll_once;
    use windlass_simulator::scenario::Scenario;

    use super::*;

    fn open(path: &Path, epoch: u64) -> Result<SimulatedFleet, CloudError> {
        let scenario = Scenario::open("builtin:call-centre").expect("it is built in");
        let trace = scenario.read_trace().expect("its trace too");
        let workload = scenario.build_workload(&trace).expect("jobs");
        let world = scenario
            .world("calls", &workload, &[], true)
            .expect("a world");
        let fingerprint = scenario.fingerprint();
        SimulatedFleet::open(path, &fingerprint, world, 1, None, Epoch(epoch))
    }

    #[test]
    fn a_cloud_is_not_opened_for_a_store_it_would_refuse() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("w.calls.cloud.db");
        let fleet = open(&path, 3).expect("a new cloud");
        let launch = Action::Launch {
            token: LaunchToken::new("0a1b2c", "calls", Epoch(3), 1, 0),
            offering: "simulated".to_owned(),
            count: 1,
        };
        let outcome = poll_once(fleet.apply("calls", Epoch(3), &launch));
        assert!(matches!(outcome, Some(Outcome::Launched { .. })));
        drop(fleet);
        let error = open(&path, 2).expect_err("the store was begun anew");
        assert!(matches!(
            error,
            CloudError::OtherStore {
                found: Epoch(3),
                own: Epoch(2),
                ..
            }
        ));
        assert!(open(&path, 3).is_ok() && open(&path, 4).is_ok());
    }
}
