//! The tables, how they came to be, and how to tell a store from other files.

use rusqlite::{Connection, Transaction, TransactionBehavior};
use windlass_policies::units::Timestamp;

use super::error::SqliteError;

/// `WNDL`: what `file` and `SQLite` call the application id of a windlass store.
const APPLICATION_ID: i64 = 0x574e_444c;

/// What brings a file from format n to format n + 1. A step that has shipped
/// never changes; a new format is a new step.
pub(super) const STEPS: &[&str] = &[FORMAT_1, FORMAT_2, FORMAT_3];

const FORMAT_1: &str = "
CREATE TABLE meta (
    key TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE decisions (
    seq INTEGER PRIMARY KEY,
    fleet TEXT NOT NULL,
    cycle INTEGER NOT NULL,
    at TEXT AS (strftime('%Y-%m-%dT%H:%M:%fZ', at_micros / 1000000.0, 'unixepoch')),
    epoch INTEGER NOT NULL,
    current INTEGER,
    wish INTEGER,
    target INTEGER,
    summary TEXT NOT NULL,
    spec TEXT NOT NULL,
    at_micros INTEGER NOT NULL,
    detail_format INTEGER NOT NULL,
    detail BLOB NOT NULL,
    UNIQUE (fleet, cycle)
) STRICT;
CREATE INDEX decisions_by_time ON decisions (fleet, at_micros, cycle);

CREATE TABLE actions (
    fleet TEXT NOT NULL,
    cycle INTEGER NOT NULL,
    serial INTEGER NOT NULL,
    action TEXT NOT NULL,
    planned_at TEXT AS (strftime('%Y-%m-%dT%H:%M:%fZ', planned_micros / 1000000.0, 'unixepoch')),
    outcome TEXT,
    acted_at TEXT AS (strftime('%Y-%m-%dT%H:%M:%fZ', acted_micros / 1000000.0, 'unixepoch')),
    planned_micros INTEGER,
    planned_seq INTEGER,
    acted_micros INTEGER,
    acted_seq INTEGER,
    PRIMARY KEY (fleet, cycle, serial)
) STRICT, WITHOUT ROWID;
CREATE INDEX actions_by_planned ON actions (fleet, planned_seq);
CREATE INDEX actions_by_acted ON actions (fleet, acted_seq);

INSERT INTO meta (key, value) VALUES ('store', lower(hex(randomblob(3)))), ('epoch', '0');
";

/// Why an action was added to a cycle that had been decided.
const FORMAT_2: &str = "ALTER TABLE actions ADD COLUMN why TEXT";

/// What self-tuning keeps.
const FORMAT_3: &str = "
CREATE TABLE looks (
    fleet TEXT NOT NULL,
    cycle INTEGER NOT NULL,
    at_micros INTEGER NOT NULL,
    spec TEXT NOT NULL,
    alive INTEGER,
    ready INTEGER,
    busy INTEGER,
    boots INTEGER,
    boots_micros INTEGER,
    counted_micros INTEGER,
    arrivals REAL,
    completions REAL,
    backlog REAL,
    in_flight REAL,
    spent_micro_usd INTEGER NOT NULL,
    PRIMARY KEY (fleet, cycle)
) STRICT, WITHOUT ROWID;

CREATE TABLE tunings (
    id INTEGER PRIMARY KEY,
    fleet TEXT NOT NULL,
    base TEXT NOT NULL,
    begun_micros INTEGER NOT NULL,
    report TEXT
) STRICT;
CREATE INDEX tunings_by_fleet ON tunings (fleet, id);

CREATE TABLE followed (
    id INTEGER PRIMARY KEY,
    fleet TEXT NOT NULL,
    at_micros INTEGER NOT NULL,
    base TEXT NOT NULL,
    spec TEXT NOT NULL,
    found TEXT,
    why TEXT NOT NULL
) STRICT;
CREATE INDEX followed_by_fleet ON followed (fleet, id);
";

/// The newest format this program knows.
pub(super) fn known_format() -> i64 {
    i64::try_from(STEPS.len()).expect("there are few formats")
}

/// What kind of file this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing is in it yet.
    Empty,
    /// A store of this format.
    Store(i64),
}

/// Tells a store from other files, without changing it. The format may be one
/// to come.
pub(super) fn look_at(connection: &Connection) -> Result<Found, SqliteError> {
    let number = |sql: &str| connection.query_row(sql, (), |row| row.get::<_, i64>(0));
    let application = number("PRAGMA application_id")?;
    let format = number("PRAGMA user_version")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    match (application, format, tables) {
        (APPLICATION_ID, 1.., _) => Ok(Found::Store(format)),
        (0, 0, 0) => Ok(Found::Empty),
        _ => Err(SqliteError::NotAStore),
    }
}

/// Refuses, before anything is changed, a file that this program may not write.
pub(super) fn may_write(connection: &Connection, known: i64) -> Result<Found, SqliteError> {
    match look_at(connection)? {
        Found::Store(found) if found > known => Err(SqliteError::TooNew { found, known }),
        other => Ok(other),
    }
}

/// Brings the file to the newest format of `steps`, each step whole or not at
/// all, and gives a new file its identity.
pub(super) fn migrate(
    connection: &Connection,
    steps: &[&str],
    now: Timestamp,
) -> Result<(), SqliteError> {
    let known = i64::try_from(steps.len()).expect("there are few formats");
    let format = match may_write(connection, known)? {
        Found::Empty => 0,
        Found::Store(found) => found,
    };
    for (from, step) in (0_i64..).zip(steps).skip_while(|(from, _)| *from < format) {
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        if from == 0 {
            transaction.execute(
                "INSERT INTO meta (key, value) VALUES ('created_at', ?1)",
                [now.to_string()],
            )?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        }
        transaction.pragma_update(None, "user_version", from + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

/// One fact of the `meta` table.
pub(super) fn meta(connection: &Connection, key: &str) -> Result<String, SqliteError> {
    let value = connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get(0));
    match value {
        Err(rusqlite::Error::QueryReturnedNoRows) => Err(SqliteError::Damaged(format!(
            "its `meta` table has no `{key}`"
        ))),
        other => Ok(other?),
    }
}

/// How often a daemon was started on this file.
pub(super) fn epoch(connection: &Connection) -> Result<u64, SqliteError> {
    let text = meta(connection, "epoch")?;
    text.parse()
        .map_err(|_| SqliteError::Damaged(format!("its epoch is `{text}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format_of(connection: &Connection) -> Found {
        look_at(connection).expect("readable")
    }

    #[test]
    fn an_older_file_is_brought_up_to_date_and_keeps_what_it_holds() {
        let connection = Connection::open_in_memory().expect("memory");
        let now = Timestamp::from_secs(1);
        migrate(&connection, &STEPS[..1], now).expect("new");
        let store = meta(&connection, "store").expect("identity");
        let later = [STEPS[0], "ALTER TABLE decisions ADD COLUMN extra TEXT"];
        migrate(&connection, &later, Timestamp::from_secs(2)).expect("old to new");
        assert_eq!(format_of(&connection), Found::Store(2));
        assert_eq!(meta(&connection, "store").expect("identity"), store);
        assert_eq!(
            meta(&connection, "created_at").expect("kept"),
            now.to_string()
        );
        let columns: i64 = connection
            .query_row("SELECT count(extra) FROM decisions", (), |row| row.get(0))
            .expect("the column is there");
        assert_eq!(columns, 0);
    }

    #[test]
    fn actions_of_format_1_have_no_reason_in_format_2() {
        let connection = Connection::open_in_memory().expect("memory");
        migrate(&connection, &STEPS[..1], Timestamp::EPOCH).expect("new");
        connection
            .execute_batch(
                "INSERT INTO actions (fleet, cycle, serial, action, planned_micros, planned_seq)
                 VALUES ('web', 1, 0, '{}', 1, 2)",
            )
            .expect("written");
        migrate(&connection, STEPS, Timestamp::EPOCH).expect("old to new");
        assert_eq!(format_of(&connection), Found::Store(3));
        let why: (String, Option<String>) = connection
            .query_row("SELECT action, why FROM actions", (), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .expect("kept");
        assert_eq!(why, ("{}".to_owned(), None));
    }

    #[test]
    fn a_step_that_fails_changes_nothing() {
        let connection = Connection::open_in_memory().expect("memory");
        let broken = [
            STEPS[0],
            "CREATE TABLE half (a TEXT); CREATE TABLE meta (a TEXT)",
        ];
        migrate(&connection, &broken, Timestamp::EPOCH).expect_err("meta is there already");
        assert_eq!(format_of(&connection), Found::Store(1));
        let half: i64 = connection
            .query_row(
                "SELECT count(*) FROM sqlite_schema WHERE name = 'half'",
                (),
                |row| row.get(0),
            )
            .expect("readable");
        assert_eq!(half, 0);
    }

    #[test]
    fn other_files_and_newer_files_are_refused() {
        let other = Connection::open_in_memory().expect("memory");
        other
            .execute_batch("CREATE TABLE customers (name TEXT)")
            .expect("made");
        let refused = migrate(&other, STEPS, Timestamp::EPOCH).expect_err("not ours");
        assert!(matches!(refused, SqliteError::NotAStore), "{refused}");

        let newer = Connection::open_in_memory().expect("memory");
        migrate(&newer, STEPS, Timestamp::EPOCH).expect("new");
        newer.pragma_update(None, "user_version", 99).expect("set");
        let refused = migrate(&newer, STEPS, Timestamp::EPOCH).expect_err("newer");
        assert!(
            matches!(
                refused,
                SqliteError::TooNew {
                    found: 99,
                    known: 3
                }
            ),
            "{refused}"
        );
    }
}
