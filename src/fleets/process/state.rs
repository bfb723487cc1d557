//! What was asked of a fleet of processes, in a file of its own: which launches
//! there were, and which worker is which process.
//!
//! It is written before anything is done. The file is the fleet's own and knows
//! nothing of the store, so that one can be held against the other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use windlass_policies::model::Epoch;
use windlass_policies::units::Timestamp;

use super::system::Process;

/// The format of the file that this program writes.
const FORMAT: i64 = 1;

/// How long another process may hold the file before that is an error. All of
/// them hold the fleet's lock first, so nobody should.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A launch is asked for again within a day at most, the largest
/// `listing_patience`; a week leaves room for a daemon that was down.
const LAUNCHES_KEPT: Duration = Duration::from_hours(7 * 24);

/// `meta`: one row, who may act. `launches`: the tokens that were used.
/// `workers`: every worker there is, and those that ended lately. A worker
/// without `pid` was about to be started when the daemon was cut short.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS meta (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        format INTEGER NOT NULL,
        store TEXT NOT NULL,
        epoch INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS launches (
        token TEXT PRIMARY KEY,
        asked_micros INTEGER NOT NULL,
        failure TEXT
    );
    CREATE TABLE IF NOT EXISTS workers (
        id TEXT PRIMARY KEY,
        token TEXT,
        asked_micros INTEGER NOT NULL,
        boot TEXT,
        pid INTEGER,
        started INTEGER,
        fenced_micros INTEGER,
        given_up INTEGER NOT NULL DEFAULT 0,
        stopped_micros INTEGER,
        ended_micros INTEGER,
        how TEXT
    );
    CREATE INDEX IF NOT EXISTS workers_of_launch ON workers (token);
";

/// Whose fleet it is, and since which start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Master {
    /// The store's identity.
    pub(super) store: String,
    /// Its newest start that acted here.
    pub(super) epoch: Epoch,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Worker {
    pub(super) id: String,
    /// The launch it came from; `None` if nobody knows any more.
    pub(super) token: Option<String>,
    /// When its launch was asked for.
    pub(super) asked_at: Timestamp,
    /// What it is on this machine, and in which boot of it.
    pub(super) process: Option<(String, Process)>,
    /// When it was told by a signal to take no new jobs.
    pub(super) fenced_at: Option<Timestamp>,
    /// Whether it was to be called back after that, which no signal does.
    pub(super) given_up: bool,
    /// When it was told to end.
    pub(super) stopped_at: Option<Timestamp>,
    /// When it was found to have ended.
    pub(super) ended_at: Option<Timestamp>,
    /// How it ended.
    pub(super) how: Option<String>,
}

/// A launch that was asked for before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Why none of its workers could be started.
    pub(super) failure: Option<String>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// `SQLite` says so.
    #[error("cannot use {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A newer windlass wrote it.
    #[error(
        "{} has the format {found}, and this windlass knows {FORMAT}; use the windlass that wrote it",
        path.display()
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: i64,
    },
    /// It says something that windlass never writes.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// The file.
#[derive(Debug)]
pub(super) struct State {
    connection: Connection,
    path: PathBuf,
}

impl State {
    /// Opens the file at `path`, or makes it for `master`.
    pub(super) fn open(path: &Path, master: &Master) -> Result<Self, StateError> {
        let failed = |source| StateError::File {
            path: path.to_owned(),
            source,
        };
        let connection = Connection::open(path).map_err(failed)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .map_err(failed)?;
        // A launch that was forgotten in a power cut could be made twice.
        connection
            .pragma_update(None, "synchronous", "FULL")
            .map_err(failed)?;
        connection.execute_batch(SCHEMA).map_err(failed)?;
        connection
            .execute(
                "INSERT OR IGNORE INTO meta VALUES (1, ?1, ?2, ?3)",
                params![FORMAT, master.store, signed(master.epoch.0)],
            )
            .map_err(failed)?;
        let found = connection
            .query_row("SELECT format FROM meta", [], |row| row.get(0))
            .map_err(failed)?;
        if found > FORMAT {
            return Err(StateError::Newer {
                path: path.to_owned(),
                found,
            });
        }
        Ok(Self {
            connection,
            path: path.to_owned(),
        })
    }

    pub(super) fn master(&self) -> Result<Master, StateError> {
        let (store, epoch) = self
            .connection
            .query_row("SELECT store, epoch FROM meta", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .map_err(|source| self.failed(source))?;
        let epoch = Epoch(self.count(epoch)?);
        Ok(Master { store, epoch })
    }

    pub(super) fn set_master(&self, master: &Master) -> Result<(), StateError> {
        self.execute(
            "UPDATE meta SET store = ?1, epoch = ?2",
            params![master.store, signed(master.epoch.0)],
        )
    }

    /// The launch of `token`, if it was asked for before.
    pub(super) fn asked(&self, token: &str) -> Result<Option<Asked>, StateError> {
        self.connection
            .prepare_cached("SELECT failure FROM launches WHERE token = ?1")
            .and_then(|mut query| {
                query
                    .query_row([token], |row| {
                        Ok(Asked {
                            failure: row.get(0)?,
                        })
                    })
                    .optional()
            })
            .map_err(|source| self.failed(source))
    }

    /// Writes down that the workers `ids` of `token` are about to be started.
    pub(super) fn begin_launch(
        &self,
        token: &str,
        ids: &[String],
        now: Timestamp,
    ) -> Result<(), StateError> {
        let at = signed(now.micros());
        self.all_or_nothing(|| {
            self.connection.execute(
                "INSERT INTO launches (token, asked_micros) VALUES (?1, ?2)",
                params![token, at],
            )?;
            let mut insert = self.connection.prepare_cached(
                "INSERT INTO workers (id, token, asked_micros) VALUES (?1, ?2, ?3)",
            )?;
            for id in ids {
                insert.execute(params![id, token, at])?;
            }
            Ok(())
        })
    }

    /// Writes down what became of the workers of a launch: a process each, or
    /// why there is none.
    pub(super) fn end_launch(
        &self,
        token: &str,
        boot: &str,
        started: &[(String, Result<Process, String>)],
        now: Timestamp,
    ) -> Result<(), StateError> {
        self.all_or_nothing(|| {
            for (id, outcome) in started {
                match outcome {
                    Ok(process) => self.write_process(id, boot, *process)?,
                    Err(why) => self.write_end(id, now, why)?,
                }
            }
            let failure = started
                .iter()
                .find_map(|(_, outcome)| outcome.as_ref().err());
            if started.iter().all(|(_, outcome)| outcome.is_err()) {
                self.connection.execute(
                    "UPDATE launches SET failure = ?2 WHERE token = ?1",
                    params![token, failure],
                )?;
            }
            Ok(())
        })
    }

    /// All workers that have not been forgotten, sorted by id.
    pub(super) fn workers(&self) -> Result<Vec<Worker>, StateError> {
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT id, token, asked_micros, boot, pid, started, fenced_micros, given_up,
                        stopped_micros, ended_micros, how
                 FROM workers ORDER BY id",
            )
            .map_err(|source| self.failed(source))?;
        let rows = query
            .query_map([], Raw::read)
            .map_err(|source| self.failed(source))?;
        rows.map(|row| self.understand(row.map_err(|source| self.failed(source))?))
            .collect()
    }

    /// Writes down a worker that runs and that nothing was known of.
    pub(super) fn adopt(
        &self,
        id: &str,
        token: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StateError> {
        self.execute(
            "INSERT OR IGNORE INTO workers (id, token, asked_micros) VALUES (?1, ?2, ?3)",
            params![id, token, signed(now.micros())],
        )
    }

    /// Takes it back that a worker has ended.
    pub(super) fn revive(&self, id: &str) -> Result<(), StateError> {
        self.execute(
            "UPDATE workers SET ended_micros = NULL, how = NULL WHERE id = ?1",
            params![id],
        )
    }

    pub(super) fn set_process(
        &self,
        id: &str,
        boot: &str,
        process: Process,
    ) -> Result<(), StateError> {
        self.write_process(id, boot, process)
            .map_err(|source| self.failed(source))
    }

    fn write_process(&self, id: &str, boot: &str, process: Process) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("UPDATE workers SET boot = ?2, pid = ?3, started = ?4 WHERE id = ?1")?
            .execute(params![id, boot, process.pid, signed(process.started)])?;
        Ok(())
    }

    pub(super) fn set_fenced(&self, id: &str, now: Timestamp) -> Result<(), StateError> {
        self.execute(
            "UPDATE workers SET fenced_micros = coalesce(fenced_micros, ?2) WHERE id = ?1",
            params![id, signed(now.micros())],
        )
    }

    pub(super) fn give_up(&self, id: &str) -> Result<(), StateError> {
        self.execute("UPDATE workers SET given_up = 1 WHERE id = ?1", params![id])
    }

    pub(super) fn set_stopped(&self, id: &str, now: Timestamp) -> Result<(), StateError> {
        self.execute(
            "UPDATE workers SET stopped_micros = coalesce(stopped_micros, ?2) WHERE id = ?1",
            params![id, signed(now.micros())],
        )
    }

    pub(super) fn set_ended(&self, id: &str, now: Timestamp, how: &str) -> Result<(), StateError> {
        self.write_end(id, now, how)
            .map_err(|source| self.failed(source))
    }

    fn write_end(&self, id: &str, now: Timestamp, how: &str) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("UPDATE workers SET ended_micros = ?2, how = ?3 WHERE id = ?1")?
            .execute(params![id, signed(now.micros()), how])?;
        Ok(())
    }

    pub(super) fn forget(&self, id: &str) -> Result<(), StateError> {
        self.execute("DELETE FROM workers WHERE id = ?1", params![id])
    }

    /// Forgets launches that nobody asks for again and that have no workers.
    pub(super) fn forget_launches(&self, now: Timestamp) -> Result<(), StateError> {
        let before = now
            .micros()
            .saturating_sub(windlass_policies::units::micros_of(LAUNCHES_KEPT));
        self.execute(
            "DELETE FROM launches WHERE asked_micros < ?1
             AND NOT EXISTS (SELECT 1 FROM workers WHERE workers.token = launches.token)",
            params![signed(before)],
        )
    }

    fn execute(&self, sql: &str, with: impl rusqlite::Params) -> Result<(), StateError> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(with))
            .map(|_| ())
            .map_err(|source| self.failed(source))
    }

    fn all_or_nothing(
        &self,
        write: impl FnOnce() -> rusqlite::Result<()>,
    ) -> Result<(), StateError> {
        let transaction = self
            .connection
            .unchecked_transaction()
            .map_err(|source| self.failed(source))?;
        write()
            .and_then(|()| transaction.commit())
            .map_err(|source| self.failed(source))
    }

    fn failed(&self, source: rusqlite::Error) -> StateError {
        StateError::File {
            path: self.path.clone(),
            source,
        }
    }

    /// `SQLite`'s numbers have a sign; ours never use it.
    fn count(&self, number: i64) -> Result<u64, StateError> {
        u64::try_from(number).map_err(|_| StateError::Damaged {
            path: self.path.clone(),
            what: format!("{number} is no count or time"),
        })
    }

    fn time(&self, micros: Option<i64>) -> Result<Option<Timestamp>, StateError> {
        micros
            .map(|micros| self.count(micros).map(Timestamp::from_micros))
            .transpose()
    }

    fn understand(&self, raw: Raw) -> Result<Worker, StateError> {
        let process = match (raw.boot, raw.pid, raw.started) {
            (Some(boot), Some(pid), Some(started)) => {
                let started = self.count(started)?;
                Some((boot, Process { pid, started }))
            }
            _ => None,
        };
        Ok(Worker {
            process,
            asked_at: Timestamp::from_micros(self.count(raw.asked_at)?),
            fenced_at: self.time(raw.fenced_at)?,
            stopped_at: self.time(raw.stopped_at)?,
            ended_at: self.time(raw.ended_at)?,
            id: raw.id,
            token: raw.token,
            given_up: raw.given_up,
            how: raw.how,
        })
    }
}

/// A row of `workers`.
struct Raw {
    id: String,
    token: Option<String>,
    asked_at: i64,
    boot: Option<String>,
    pid: Option<i32>,
    started: Option<i64>,
    fenced_at: Option<i64>,
    given_up: bool,
    stopped_at: Option<i64>,
    ended_at: Option<i64>,
    how: Option<String>,
}

impl Raw {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            token: row.get(1)?,
            asked_at: row.get(2)?,
            boot: row.get(3)?,
            pid: row.get(4)?,
            started: row.get(5)?,
            fenced_at: row.get(6)?,
            given_up: row.get(7)?,
            stopped_at: row.get(8)?,
            ended_at: row.get(9)?,
            how: row.get(10)?,
        })
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
