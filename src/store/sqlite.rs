//! The write side: the daemon's own store.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{
    Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params,
};
use windlass_policies::model::{Action, Epoch, Outcome, Reason};
use windlass_policies::ports::{Decided, Record, Store, StoreError};
use windlass_policies::units::Timestamp;
use windlass_simulator::self_tuning::Look;

use super::error::{OpenError, SqliteError, write_error};
use super::history::{BUSY_TIMEOUT, History, beside};
use super::row::{DETAIL_FORMAT, encode, stored, summary, unstored};
use super::schema::{STEPS, epoch, known_format, may_write, meta, migrate};
use super::tuning::{insert_look, prune_looks};

/// Stores up to this size are checked page by page when a daemon starts on
/// them, about a second. Larger ones are checked as they are read.
const CHECK_BYTES_MAX: u64 = 1 << 30;

/// After a checkpoint the write-ahead log is cut back to this size.
const LOG_BYTES_MAX: i64 = 16 << 20;

/// The most decisions deleted at once, so that no cycle waits long for it.
const PRUNE_BATCH: i64 = 500;

/// The most pages given back to the file system at once: 8 MB.
const VACUUM_PAGES: i64 = 2_000;

/// A store file and the right to write to it. One at a time may exist for a
/// file, in all programs on this machine.
#[derive(Debug)]
pub struct SqliteStore {
    history: History,
    // Which file stood at the path when it was opened.
    identity: Identity,
    store: String,
    epoch: Epoch,
    /// The position of the next record in the file's history.
    next_seq: Cell<i64>,
    // Held as long as the store is; the system lets it go when the process ends,
    // however it ends.
    _lock: File,
}

/// What [`SqliteStore::prune`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// Decisions deleted.
    pub decisions: u64,
    /// Actions deleted.
    pub actions: u64,
    /// Whether there may be more to delete: call again when there is time.
    pub more: bool,
}

impl SqliteStore {
    /// Opens the store at `path`, or makes it, and takes it over: waits for no
    /// other daemon, brings the file to this program's format, looks whether it
    /// is sound, and raises the epoch durably. `now` becomes the time of
    /// creation of a new file.
    ///
    /// # Errors
    /// If another daemon has it, or it cannot be used: [`SqliteError`] says why
    /// and what to do.
    pub fn open(path: &Path, now: Timestamp) -> Result<Self, OpenError> {
        Self::take_over(path, now).map_err(|cause| OpenError::new(path, cause))
    }

    fn take_over(path: &Path, now: Timestamp) -> Result<Self, SqliteError> {
        let path = resolve(path)?;
        let lock = lock(&beside(&path, ".lock"))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // Before anything is changed: it may be somebody else's file.
        may_write(&connection, known_format())?;
        make_durable(&connection)?;
        check(&connection, &path)?;
        migrate(&connection, STEPS, now)?;
        let epoch = raise_epoch(&connection)?;
        let store = meta(&connection, "store")?;
        let next_seq = Cell::new(newest_seq(&connection)?.saturating_add(1));
        let identity = identity(&path);
        let history = History { connection, path };
        Ok(Self {
            history,
            identity,
            store,
            epoch,
            next_seq,
            _lock: lock,
        })
    }

    /// What tells this store from every other: six hexadecimal digits, for
    /// launch tokens.
    pub fn store_id(&self) -> &str {
        &self.store
    }

    /// The epoch of this start: one more than that of the start before.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The same file, to look things up in.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Deletes decisions that are older than a fleet's newest by more than
    /// `keep`, with their actions, at most 500 of each fleet per call. Never the
    /// newest decision of a fleet, nor anything that was written after it. The
    /// fleet's own time counts, because simulated fleets live in another one.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn prune(&self, keep: Duration) -> Result<Pruned, StoreError> {
        self.prune_batch(keep).map_err(write_error)
    }

    fn prune_batch(&self, keep: Duration) -> Result<Pruned, SqliteError> {
        let mut pruned = Pruned {
            decisions: 0,
            actions: 0,
            more: false,
        };
        let transaction = self.begin()?;
        let mut fleets = transaction.prepare_cached(
            "SELECT fleet, max(cycle), max(seq), max(at_micros) FROM decisions
             GROUP BY fleet ORDER BY fleet",
        )?;
        let newest = fleets
            .query_map((), |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?
            .collect::<Result<Vec<(String, i64, i64, i64)>, _>>()?;
        drop(fleets);
        for (fleet, cycle, seq, at) in newest {
            let before = Timestamp::from_micros(unstored(at)?) - keep;
            let batch = prune_fleet(&transaction, &fleet, cycle, seq, before)?;
            pruned.decisions += batch.decisions;
            pruned.actions += batch.actions;
            pruned.more |= batch.more;
            pruned.more |= prune_looks(&transaction, &fleet, cycle, at, PRUNE_BATCH)?;
        }
        transaction.commit()?;
        self.give_back_pages()?;
        Ok(pruned)
    }

    /// Makes the file smaller if more than a quarter of it is free; the rest is
    /// left for the decisions to come.
    fn give_back_pages(&self) -> Result<(), SqliteError> {
        let connection = &self.history.connection;
        let number = |sql: &str| connection.query_row(sql, (), |row| row.get::<_, i64>(0));
        let free = number("PRAGMA freelist_count")?;
        if free > number("PRAGMA page_count")?.div_euclid(4) {
            connection.execute_batch(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        }
        Ok(())
    }

    /// A transaction of the one writer. Refused if there is a newer one, and if
    /// the file is not at its path any more: what is written to it then is
    /// gone when the process ends.
    pub(super) fn begin(&self) -> Result<Transaction<'_>, SqliteError> {
        if identity(&self.history.path) != self.identity {
            return Err(SqliteError::Removed);
        }
        let connection = &self.history.connection;
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        let found = epoch(&transaction)?;
        if found != self.epoch.0 {
            return Err(SqliteError::TakenOver {
                found,
                own: self.epoch,
            });
        }
        Ok(transaction)
    }

    fn write(&self, fleet: &str, record: &Record) -> Result<(), SqliteError> {
        let seq = self.next_seq.get();
        // Packed before the transaction begins, so that readers wait less.
        let detail = match record {
            Record::Decided(decided) => encode(fleet, decided)?,
            Record::Planned { .. } | Record::Acted { .. } => Vec::new(),
        };
        let transaction = self.begin()?;
        match record {
            Record::Decided(decided) => {
                insert_decided(&transaction, fleet, seq, decided, &detail)?;
                insert_look(&transaction, fleet, &Look::of(decided))?;
            }
            Record::Planned { cycle, action, why } => {
                let why = why.as_ref();
                insert_planned(&transaction, fleet, seq, stored(*cycle), action, why)?;
            }
            Record::Acted {
                cycle,
                at,
                action,
                outcome,
            } => {
                let answer = Acted {
                    seq,
                    at: *at,
                    outcome,
                };
                write_acted(&transaction, fleet, stored(*cycle), action, &answer)?;
            }
        }
        transaction.commit()?;
        self.next_seq.set(seq.saturating_add(1));
        Ok(())
    }
}

impl Store for SqliteStore {
    /// Also refuses a decision of a cycle that is not after the newest recorded
    /// one, and everything once another daemon has taken the store over.
    fn append(&self, fleet: &str, record: &Record) -> Result<(), StoreError> {
        self.write(fleet, record).map_err(write_error)
    }

    fn tail(&self, fleet: &str) -> Result<Vec<Record>, StoreError> {
        self.history.tail(fleet)
    }
}

/// Tells one file from another, whatever it is called.
type Identity = Option<(u64, u64)>;

#[cfg(unix)]
fn identity(path: &Path) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
fn identity(_: &Path) -> Identity {
    None
}

/// `path` without links and relative parts, so that one file has one lock.
fn resolve(path: &Path) -> Result<PathBuf, SqliteError> {
    if let Ok(resolved) = fs::canonicalize(path) {
        return if resolved.is_dir() {
            Err(SqliteError::ADirectory)
        } else {
            Ok(resolved)
        };
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = fs::canonicalize(parent)
        .ok()
        .filter(|directory| directory.is_dir());
    match (directory, path.file_name()) {
        (Some(directory), Some(name)) => Ok(directory.join(name)),
        _ => Err(SqliteError::NoDirectory(parent.to_owned())),
    }
}

/// Takes the lock, and leaves this process's number in it for people.
fn lock(path: &Path) -> Result<File, SqliteError> {
    let failed = |cause| SqliteError::Lock {
        lock: path.to_owned(),
        cause,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // Only for the message: what cannot be read is left out.
            let _ = file.take(20).read_to_string(&mut text);
            let holder = match text.trim().parse::<u32>() {
                Ok(process) => format!(" (process {process})"),
                Err(_) => String::new(),
            };
            return Err(SqliteError::Held {
                lock: path.to_owned(),
                holder,
            });
        }
        Err(TryLockError::Error(cause)) => return Err(failed(cause)),
    }
    // The lock counts, not the text: a full disk is reported by the store itself.
    let _ = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// Every commit is on the disk when it returns.
fn make_durable(connection: &Connection) -> Result<(), SqliteError> {
    // Only takes effect on a new file; must come before the log is turned on.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(SqliteError::NoWriteAhead(mode));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    // On macOS a plain sync leaves data in the drive's cache.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    // Answers with the limit it set, so it needs an ear.
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES_MAX, |_| Ok(()))?;
    Ok(())
}

/// Looks at every page of a store that is not too large.
fn check(connection: &Connection, path: &Path) -> Result<(), SqliteError> {
    let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
    if size > CHECK_BYTES_MAX {
        return Ok(());
    }
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(SqliteError::Damaged(verdict))
    }
}

fn raise_epoch(connection: &Connection) -> Result<Epoch, SqliteError> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let raised = epoch(&transaction)?.saturating_add(1);
    transaction.execute(
        "UPDATE meta SET value = ?1 WHERE key = 'epoch'",
        [raised.to_string()],
    )?;
    transaction.commit()?;
    Ok(Epoch(raised))
}

fn newest_seq(connection: &Connection) -> Result<i64, SqliteError> {
    Ok(connection.query_row(
        "SELECT max(ifnull((SELECT max(seq) FROM decisions), 0),
                    ifnull((SELECT max(planned_seq) FROM actions), 0),
                    ifnull((SELECT max(acted_seq) FROM actions), 0))",
        (),
        |row| row.get(0),
    )?)
}

fn insert_decided(
    transaction: &Transaction<'_>,
    fleet: &str,
    seq: i64,
    decided: &Decided,
    detail: &[u8],
) -> Result<(), SqliteError> {
    let decision = &decided.decision;
    let cycle = stored(decision.cycle);
    let newest = transaction
        .prepare_cached("SELECT max(cycle) FROM decisions WHERE fleet = ?1")?
        .query_row([fleet], |row| row.get::<_, Option<i64>>(0))?;
    if let Some(newest) = newest.filter(|newest| *newest >= cycle) {
        return Err(SqliteError::Repeated {
            fleet: fleet.to_owned(),
            cycle: decision.cycle,
            newest: newest.unsigned_abs(),
        });
    }
    transaction
        .prepare_cached(
            "INSERT INTO decisions (seq, fleet, cycle, epoch, current, wish, target, summary, spec,
                                    at_micros, detail_format, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            seq,
            fleet,
            cycle,
            stored(decision.epoch.0),
            decision.current,
            decision.wish,
            decision.target,
            summary(decision),
            decided.spec,
            stored(decision.at.micros()),
            DETAIL_FORMAT,
            detail,
        ])?;
    for action in &decision.actions {
        insert_planned(transaction, fleet, seq, cycle, action, None)?;
    }
    Ok(())
}

fn insert_planned(
    transaction: &Transaction<'_>,
    fleet: &str,
    seq: i64,
    cycle: i64,
    action: &Action,
    why: Option<&Reason>,
) -> Result<(), SqliteError> {
    let why = why.map(json).transpose()?;
    transaction
        .prepare_cached(
            "INSERT INTO actions (fleet, cycle, serial, action, planned_seq, planned_micros, why)
             VALUES (?1, ?2,
                     (SELECT ifnull(max(serial) + 1, 0) FROM actions WHERE fleet = ?1 AND cycle = ?2),
                     ?3, ?4,
                     (SELECT at_micros FROM decisions WHERE fleet = ?1 AND cycle = ?2), ?5)",
        )?
        .execute(params![fleet, cycle, json(action)?, seq, why])?;
    Ok(())
}

/// An answer on its way into the file.
struct Acted<'a> {
    seq: i64,
    at: Timestamp,
    outcome: &'a Outcome,
}

/// Writes the answer to the first such action that has none. An answer nobody
/// planned for is kept too, as an action of its own.
fn write_acted(
    transaction: &Transaction<'_>,
    fleet: &str,
    cycle: i64,
    action: &Action,
    acted: &Acted<'_>,
) -> Result<(), SqliteError> {
    let action = json(action)?;
    let outcome = json(acted.outcome)?;
    let at = stored(acted.at.micros());
    let open = transaction
        .prepare_cached(
            "SELECT serial FROM actions
             WHERE fleet = ?1 AND cycle = ?2 AND action = ?3 AND acted_seq IS NULL
             ORDER BY serial LIMIT 1",
        )?
        .query_row(params![fleet, cycle, action], |row| row.get::<_, i64>(0))
        .optional()?;
    if let Some(serial) = open {
        transaction
            .prepare_cached(
                "UPDATE actions SET outcome = ?4, acted_micros = ?5, acted_seq = ?6
                 WHERE fleet = ?1 AND cycle = ?2 AND serial = ?3",
            )?
            .execute(params![fleet, cycle, serial, outcome, at, acted.seq])?;
    } else {
        transaction
            .prepare_cached(
                "INSERT INTO actions (fleet, cycle, serial, action, outcome, acted_micros, acted_seq)
                 VALUES (?1, ?2,
                     (SELECT ifnull(max(serial) + 1, 0) FROM actions WHERE fleet = ?1 AND cycle = ?2),
                     ?3, ?4, ?5, ?6)",
            )?
            .execute(params![fleet, cycle, action, outcome, at, acted.seq])?;
    }
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Result<String, SqliteError> {
    serde_json::to_string(value)
        .map_err(|error| SqliteError::Other(rusqlite::Error::ToSqlConversionFailure(error.into())))
}

/// One batch of one fleet; `newest_cycle` and `newest_seq` are those of the
/// decision that stays.
fn prune_fleet(
    transaction: &Transaction<'_>,
    fleet: &str,
    newest_cycle: i64,
    newest_seq: i64,
    before: Timestamp,
) -> Result<Pruned, SqliteError> {
    let cycles = transaction
        .prepare_cached(
            "SELECT cycle FROM decisions WHERE fleet = ?1 AND at_micros < ?2 AND cycle < ?3
             ORDER BY at_micros LIMIT ?4",
        )?
        .query_map(
            params![fleet, stored(before.micros()), newest_cycle, PRUNE_BATCH],
            |row| row.get(0),
        )?
        .collect::<Result<Vec<i64>, _>>()?;
    let mut decision =
        transaction.prepare_cached("DELETE FROM decisions WHERE fleet = ?1 AND cycle = ?2")?;
    // An old action that was answered after the newest decision is part of the
    // tail, and stays until a newer decision makes it history.
    let mut action = transaction.prepare_cached(
        "DELETE FROM actions WHERE fleet = ?1 AND cycle = ?2
         AND max(ifnull(planned_seq, 0), ifnull(acted_seq, 0)) < ?3",
    )?;
    let mut actions = 0;
    for cycle in &cycles {
        decision.execute(params![fleet, cycle])?;
        actions += action.execute(params![fleet, cycle, newest_seq])?;
    }
    actions += transaction
        .prepare_cached(
            "DELETE FROM actions WHERE fleet = ?1
             AND cycle < (SELECT min(cycle) FROM decisions WHERE fleet = ?1)
             AND max(ifnull(planned_seq, 0), ifnull(acted_seq, 0)) < ?2",
        )?
        .execute(params![fleet, newest_seq])?;
    Ok(Pruned {
        decisions: u64::try_from(cycles.len()).unwrap_or(u64::MAX),
        actions: u64::try_from(actions).unwrap_or(u64::MAX),
        more: i64::try_from(cycles.len()).is_ok_and(|count| count >= PRUNE_BATCH),
    })
}

#[cfg(test)]
#[path = "sqlite_tests.rs"]
mod tests;
