//! The read side: past decisions, what was done about them, and the tail a
//! memory is rebuilt from.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params};
use windlass_policies::model::{Action, Epoch, Outcome, Reason};
use windlass_policies::ports::{Decided, Record, StoreError};
use windlass_policies::units::Timestamp;

use super::error::{OpenError, SqliteError, read_error};
use super::row::{decode, stored, unstored};
use super::schema::{Found, epoch, known_format, look_at, meta};

/// How long to wait for another program's lock. Writers hold it for one small
/// transaction; only a checkpoint of a large log takes longer than this.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A store file, to look things up in. Any number may be open while the daemon
/// writes; each look-up sees the file as it was when it began.
#[derive(Debug)]
pub struct History {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
}

/// Which decisions of a fleet are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// All that are kept.
    All,
    /// The newest so many.
    Last(u32),
    /// The one in force at this time: the newest made then or before.
    At(Timestamp),
    /// Those from this cycle on.
    From(u64),
}

/// One fleet's history in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetHistory {
    /// The fleet's name.
    pub name: String,
    /// How many decisions are kept.
    pub decisions: u64,
    /// When the oldest of them was made.
    pub first_at: Timestamp,
    /// When the newest was made.
    pub last_at: Timestamp,
}

/// A decision and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What was seen and decided.
    pub decided: Decided,
    /// Its actions, in the order they were planned.
    pub done: Vec<Done>,
    /// What was recorded of this cycle after the decision, as it was appended.
    pub after: Vec<Record>,
}

/// An action and how it came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// What was to be done.
    pub action: Action,
    /// Whether it followed from another action's outcome within the cycle,
    /// instead of being part of the decision.
    pub followed: bool,
    /// Why it followed, if that was written down.
    pub why: Option<Reason>,
    /// What came of it; `None` if no answer was recorded, as after a crash.
    pub answer: Option<Answer>,
}

/// The answer to an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it came.
    pub at: Timestamp,
    /// What it was.
    pub outcome: Outcome,
}

impl History {
    /// Opens the store at `path` to read it, whether or not a daemon has it
    /// open. Changes nothing in it.
    ///
    /// # Errors
    /// If it is missing, is not a windlass store, has another format, or
    /// cannot be read.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_checked(path).map_err(|cause| OpenError::new(path, cause))
    }

    fn open_checked(path: &Path) -> Result<Self, SqliteError> {
        if !path.try_exists().unwrap_or(true) {
            return Err(SqliteError::Missing);
        }
        if path.is_dir() {
            return Err(SqliteError::ADirectory);
        }
        let connection = connect_to_read(path)?;
        let known = known_format();
        match look_at(&connection)? {
            Found::Store(found) if found > known => Err(SqliteError::TooNew { found, known }),
            Found::Store(found) if found < known => Err(SqliteError::TooOld { found, known }),
            Found::Store(_) => Ok(Self {
                connection,
                path: path.to_owned(),
            }),
            Found::Empty => Err(SqliteError::NotAStore),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells this store from every other: six hexadecimal digits.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn store_id(&self) -> Result<String, StoreError> {
        meta(&self.connection, "store").map_err(read_error)
    }

    /// The epoch of the newest daemon that was started on this store.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn epoch(&self) -> Result<Epoch, StoreError> {
        epoch(&self.connection).map(Epoch).map_err(read_error)
    }

    /// All fleets with a decision, by name.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn fleets(&self) -> Result<Vec<FleetHistory>, StoreError> {
        self.fleets_listed().map_err(read_error)
    }

    fn fleets_listed(&self) -> Result<Vec<FleetHistory>, SqliteError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT fleet, count(*), min(at_micros), max(at_micros) FROM decisions
             GROUP BY fleet ORDER BY fleet",
        )?;
        let rows = statement.query_map((), |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
            ))
        })?;
        rows.map(|row| {
            let (name, decisions, first, last) = row?;
            Ok(FleetHistory {
                name,
                decisions: unstored(decisions)?,
                first_at: Timestamp::from_micros(unstored(first)?),
                last_at: Timestamp::from_micros(unstored(last)?),
            })
        })
        .collect()
    }

    /// The decisions of `fleet` that `range` means, oldest first, one at a
    /// time: however long the history, only one is in memory. Decisions made
    /// after this call are not among them.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn decisions(&self, fleet: &str, range: Range) -> Result<Decisions<'_>, StoreError> {
        let bounds = self.bounds(fleet, range).map_err(read_error)?;
        Ok(Decisions {
            history: self,
            fleet: fleet.to_owned(),
            bounds,
        })
    }

    /// The first and the last cycle that `range` means; `None` if there is none.
    fn bounds(&self, fleet: &str, range: Range) -> Result<Option<(i64, i64)>, SqliteError> {
        let newest = "(SELECT max(cycle) FROM decisions WHERE fleet = ?1)";
        let (first, limit) = match range {
            Range::All => (format!("{newest}, ?2"), 0),
            Range::Last(count) => (
                format!(
                    "{newest}, (SELECT min(cycle) FROM (SELECT cycle FROM decisions
                     WHERE fleet = ?1 ORDER BY cycle DESC LIMIT ?2))"
                ),
                i64::from(count),
            ),
            Range::At(at) => (
                "cycle, cycle FROM decisions WHERE fleet = ?1 AND at_micros <= ?2
                 ORDER BY at_micros DESC, cycle DESC LIMIT 1"
                    .to_owned(),
                stored(at.micros()),
            ),
            Range::From(cycle) => (format!("{newest}, ?2"), stored(cycle)),
        };
        let found = self
            .connection
            .prepare_cached(&format!("SELECT {first}"))?
            .query_row(params![fleet, limit], |row| {
                Ok((row.get::<_, Option<i64>>(1)?, row.get::<_, Option<i64>>(0)?))
            })
            .optional()?;
        Ok(found.and_then(|(first, last)| first.zip(last)))
    }

    /// The oldest decision of `fleet` within the bounds, and its cycle.
    fn entry(
        &self,
        fleet: &str,
        first: i64,
        last: i64,
    ) -> Result<Option<(i64, Entry)>, SqliteError> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT cycle, seq, detail_format, detail FROM decisions
                 WHERE fleet = ?1 AND cycle BETWEEN ?2 AND ?3 ORDER BY cycle LIMIT 1",
            )?
            .query_row(params![fleet, first, last], detail_row)
            .optional()?;
        let Some(row) = found else { return Ok(None) };
        let decided = row.decode(fleet)?;
        let mut statement = self.connection.prepare_cached(
            "SELECT cycle, action, outcome, planned_seq, acted_micros, acted_seq, why FROM actions
             WHERE fleet = ?1 AND cycle = ?2 ORDER BY serial",
        )?;
        let actions = read_actions(&mut statement, params![fleet, row.cycle])?;
        let after = in_order(row.seq, &actions);
        let done = actions
            .into_iter()
            .map(|action| action.done(row.seq))
            .collect();
        Ok(Some((
            row.cycle,
            Entry {
                decided,
                done,
                after,
            },
        )))
    }

    /// The newest decision of `fleet` and everything that was written after
    /// it, oldest first; empty if there is none.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn tail(&self, fleet: &str) -> Result<Vec<Record>, StoreError> {
        self.tail_read(fleet).map_err(read_error)
    }

    fn tail_read(&self, fleet: &str) -> Result<Vec<Record>, SqliteError> {
        // One transaction, so that both questions are asked of the same moment.
        let snapshot = self.connection.unchecked_transaction()?;
        let newest = snapshot
            .prepare_cached(
                "SELECT cycle, seq, detail_format, detail FROM decisions
                 WHERE fleet = ?1 ORDER BY cycle DESC LIMIT 1",
            )?
            .query_row([fleet], detail_row)
            .optional()?;
        let Some(row) = newest else {
            return Ok(Vec::new());
        };
        let mut statement = snapshot.prepare_cached(
            "SELECT cycle, action, outcome, planned_seq, acted_micros, acted_seq, why FROM actions
             WHERE fleet = ?1 AND planned_seq > ?2
             UNION SELECT cycle, action, outcome, planned_seq, acted_micros, acted_seq, why FROM actions
             WHERE fleet = ?1 AND acted_seq > ?2",
        )?;
        let actions = read_actions(&mut statement, params![fleet, row.seq])?;
        let mut records = vec![Record::Decided(Box::new(row.decode(fleet)?))];
        records.extend(in_order(row.seq, &actions));
        Ok(records)
    }

    /// Bytes on disk: the file and its write-ahead log.
    ///
    /// # Errors
    /// If the file cannot be looked at.
    pub fn size(&self) -> Result<u64, StoreError> {
        let size_of = |path: &Path| match fs::metadata(path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(StoreError::Read(Box::new(error))),
        };
        Ok(size_of(&self.path)?.saturating_add(size_of(&beside(&self.path, "-wal"))?))
    }
}

/// Past decisions of one fleet, oldest first, read one at a time.
#[derive(Debug)]
pub struct Decisions<'a> {
    history: &'a History,
    fleet: String,
    /// The first and the last cycle still to come.
    bounds: Option<(i64, i64)>,
}

impl Iterator for Decisions<'_> {
    type Item = Result<Entry, StoreError>;

    /// The next decision. After an error there is no next.
    fn next(&mut self) -> Option<Self::Item> {
        let (first, last) = self.bounds?;
        match self.history.entry(&self.fleet, first, last) {
            Ok(Some((cycle, entry))) => {
                self.bounds = Some((cycle.saturating_add(1), last)).filter(|_| cycle < last);
                Some(Ok(entry))
            }
            Ok(None) => {
                self.bounds = None;
                None
            }
            Err(error) => {
                self.bounds = None;
                Some(Err(read_error(error)))
            }
        }
    }
}

/// The file called like `path` with `ending` after it.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Opens `path` read-only. A store that was closed in order, in a directory
/// this user may not write to, has no shared memory file to read by; it is
/// then read as a file that does not change.
fn connect_to_read(path: &Path) -> Result<Connection, SqliteError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    configure_to_read(&connection)?;
    match look_at(&connection) {
        Err(SqliteError::CannotOpen(_) | SqliteError::ReadOnly(_))
            if !beside(path, "-wal").try_exists().unwrap_or(true) =>
        {
            let still =
                Connection::open_with_flags(unchanging(path), flags | OpenFlags::SQLITE_OPEN_URI)?;
            configure_to_read(&still)?;
            Ok(still)
        }
        _ => Ok(connection),
    }
}

fn configure_to_read(connection: &Connection) -> Result<(), SqliteError> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Do not trust what a damaged or foreign file says of itself.
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(())
}

/// The address by which `SQLite` reads `path` as a file that nobody changes.
fn unchanging(path: &Path) -> String {
    let mut address = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                address.push(char::from(*byte));
            }
            other => {
                // Writing to a string cannot fail.
                let _ = write!(address, "%{other:02x}");
            }
        }
    }
    address.push_str("?immutable=1");
    address
}

/// A decision's row, not yet unpacked.
struct DetailRow {
    cycle: i64,
    seq: i64,
    format: i64,
    detail: Vec<u8>,
}

impl DetailRow {
    fn decode(&self, fleet: &str) -> Result<Decided, SqliteError> {
        let what = format!("the decision of cycle {} of fleet {fleet}", self.cycle);
        decode(&what, self.format, &self.detail)
    }
}

fn detail_row(row: &Row<'_>) -> rusqlite::Result<DetailRow> {
    Ok(DetailRow {
        cycle: row.get(0)?,
        seq: row.get(1)?,
        format: row.get(2)?,
        detail: row.get(3)?,
    })
}

/// An action's row, understood.
struct ActionRow {
    cycle: u64,
    action: Action,
    planned_seq: Option<i64>,
    why: Option<Reason>,
    answer: Option<(Answer, i64)>,
}

impl ActionRow {
    /// As [`Entry`] tells it; `seq` is that of the decision.
    fn done(self, seq: i64) -> Done {
        Done {
            action: self.action,
            followed: self.planned_seq != Some(seq),
            why: self.why,
            answer: self.answer.map(|(answer, _)| answer),
        }
    }
}

fn read_actions(
    statement: &mut rusqlite::Statement<'_>,
    parameters: &[&dyn rusqlite::ToSql],
) -> Result<Vec<ActionRow>, SqliteError> {
    let mut rows = statement.query(parameters)?;
    let mut actions = Vec::new();
    while let Some(row) = rows.next()? {
        actions.push(action_row(row)?);
    }
    Ok(actions)
}

fn action_row(row: &Row<'_>) -> Result<ActionRow, SqliteError> {
    let not_understood = |error: serde_json::Error| {
        SqliteError::Damaged(format!(
            "an action, its reason or its outcome cannot be understood: {error}"
        ))
    };
    let action = serde_json::from_str(&row.get::<_, String>(1)?).map_err(not_understood)?;
    let answer = match (row.get::<_, Option<String>>(2)?, row.get(4)?, row.get(5)?) {
        (Some(outcome), Some(micros), Some(seq)) => Some((
            Answer {
                at: Timestamp::from_micros(unstored(micros)?),
                outcome: serde_json::from_str(&outcome).map_err(not_understood)?,
            },
            seq,
        )),
        _ => None,
    };
    let why = row.get::<_, Option<String>>(6)?;
    let why = why.map(|why| serde_json::from_str(&why));
    Ok(ActionRow {
        cycle: unstored(row.get(0)?)?,
        action,
        planned_seq: row.get(3)?,
        why: why.transpose().map_err(not_understood)?,
        answer,
    })
}

/// What `actions` say was written after position `seq`, in the order it was.
fn in_order(seq: i64, actions: &[ActionRow]) -> Vec<Record> {
    let mut records = Vec::new();
    for row in actions {
        let ActionRow { cycle, action, .. } = row;
        if let Some(planned_seq) = row.planned_seq.filter(|planned| *planned > seq) {
            let planned = Record::Planned {
                cycle: *cycle,
                action: action.clone(),
                why: row.why.clone(),
            };
            records.push((planned_seq, planned));
        }
        if let Some((Answer { at, outcome }, acted_seq)) =
            row.answer.as_ref().filter(|(_, acted)| *acted > seq)
        {
            let acted = Record::Acted {
                cycle: *cycle,
                at: *at,
                action: action.clone(),
                outcome: outcome.clone(),
            };
            records.push((*acted_seq, acted));
        }
    }
    records.sort_by_key(|(position, _)| *position);
    records.into_iter().map(|(_, record)| record).collect()
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
