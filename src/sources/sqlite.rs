//! The result of a query in an `SQLite` file: one row with a number, and perhaps
//! the time at which it was true.
//!
//! The file is opened anew each time, to read only: it may be replaced, and no
//! lock of ours is left on it. The query runs beside the loop, and is
//! interrupted when its time is over.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, InterruptHandle, OpenFlags, Row};
use tokio::sync::oneshot;
use windlass_policies::fields::Fields;
use windlass_policies::signal::{Absence, Reading};
use windlass_policies::units::Timestamp;

use super::{number, sampled, unreachable_because, unusable};
use crate::chain;

/// What is asked of an `SQLite` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteSpec {
    /// The file.
    pub file: PathBuf,
    /// The query.
    pub query: String,
}

/// Reads the keys of a signal with `source = "sqlite"`.
pub(super) fn read_spec(fields: &mut Fields<'_>, folder: &Path) -> Option<SqliteSpec> {
    let mut required = |key: &str, what: &str| {
        let found = fields.required::<String>(key, what)?;
        if found.trim().is_empty() || found.contains('\0') {
            fields.problem(key, format!("is empty; write {what}"));
            return None;
        }
        Some(found)
    };
    let file = required("file", "the name of the SQLite file");
    let query = required(
        "query",
        "a query with one row: a number, and perhaps its time",
    );
    Some(SqliteSpec {
        file: folder.join(file?),
        query: query?,
    })
}

/// Asks one file for one number.
pub(super) struct Reader {
    spec: SqliteSpec,
    timeout: Duration,
}

/// Ends a query when nobody waits for it any more.
struct Unwanted(InterruptHandle);

impl Drop for Unwanted {
    fn drop(&mut self) {
        self.0.interrupt();
    }
}

impl Reader {
    pub(super) fn new(spec: &SqliteSpec, timeout: Duration) -> Self {
        Self {
            spec: spec.clone(),
            timeout,
        }
    }

    pub(super) async fn read(&self, now: Timestamp) -> Reading {
        let (spec, timeout) = (self.spec.clone(), self.timeout);
        let (sender, handle) = oneshot::channel();
        let asking = tokio::task::spawn_blocking(move || ask(&spec, timeout, now, sender));
        // Held across the wait: it is dropped with this future.
        let _unwanted = handle.await.ok().map(Unwanted);
        asking
            .await
            .unwrap_or_else(|error| unreachable_because(chain(&error).to_string()))
    }
}

fn ask(
    spec: &SqliteSpec,
    timeout: Duration,
    now: Timestamp,
    handle: oneshot::Sender<InterruptHandle>,
) -> Reading {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match Connection::open_with_flags(&spec.file, flags) {
        Ok(connection) => connection,
        Err(error) => return unreachable_because(chain(&error).to_string()),
    };
    // If nobody takes it, nobody waits for the answer either.
    if handle.send(connection.get_interrupt_handle()).is_err() {
        return Reading::Absent(Absence::NoData);
    }
    let answer = connection
        .busy_timeout(timeout)
        .and_then(|()| query(&connection, &spec.query, now));
    answer.unwrap_or_else(|error| {
        let why = chain(&error).to_string();
        match error.sqlite_error_code() {
            // The query itself is wrong, and stays so.
            Some(rusqlite::ErrorCode::Unknown) | None => unusable(why),
            Some(_) => unreachable_because(why),
        }
    })
}

fn query(connection: &Connection, sql: &str, now: Timestamp) -> rusqlite::Result<Reading> {
    let mut statement = connection.prepare(sql)?;
    if !statement.readonly() {
        return Ok(unusable("the query would change the file"));
    }
    let columns = statement.column_count();
    if !(1..=2).contains(&columns) {
        return Ok(unusable(format!(
            "the query gives {columns} columns; write one with a number, and perhaps its time"
        )));
    }
    let mut rows = statement.query(())?;
    let Some(row) = rows.next()? else {
        return Ok(Reading::Absent(Absence::NoData));
    };
    let reading = read_row(row, columns, now)?;
    if rows.next()?.is_some() {
        return Ok(unusable("the query gives more than one row"));
    }
    Ok(reading)
}

fn read_row(row: &Row<'_>, columns: usize, now: Timestamp) -> rusqlite::Result<Reading> {
    let value = match row.get_ref(0)? {
        ValueRef::Null => return Ok(Reading::Absent(Absence::NoData)),
        other => match number_of(other) {
            Some(value) => value,
            None => return Ok(unusable("the first column is no number")),
        },
    };
    if columns == 1 {
        return Ok(sampled(value, now, now));
    }
    let at = match row.get_ref(1)? {
        ValueRef::Null => return Ok(unusable("the second column, its time, is empty")),
        ValueRef::Text(text) => number::parse_time(&String::from_utf8_lossy(text)),
        other => number_of(other)
            .ok_or_else(|| "is no time".to_owned())
            .and_then(number::epoch_secs),
    };
    Ok(match at {
        Ok(at) => sampled(value, at, now),
        Err(what) => unusable(format!("the second column, its time: {what}")),
    })
}

fn number_of(value: ValueRef<'_>) -> Option<f64> {
    match value {
        ValueRef::Integer(whole) => {
            let size = number::of_count(whole.unsigned_abs());
            Some(if whole < 0 { -size } else { size })
        }
        ValueRef::Real(real) => Some(real),
        ValueRef::Null | ValueRef::Text(_) | ValueRef::Blob(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_policies::signal::Sample;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(future)
    }

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    #[test]
    fn one_row_with_a_number_is_a_reading_and_all_else_is_absent() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("queue.db");
        let connection = Connection::open(&file).expect("opened");
        connection
            .execute_batch("CREATE TABLE jobs (state TEXT); INSERT INTO jobs VALUES ('new'), ('new'), ('done')")
            .expect("written");
        let read = |query: &str| {
            let spec = SqliteSpec {
                file: file.clone(),
                query: query.to_owned(),
            };
            block_on(Reader::new(&spec, Duration::from_secs(5)).read(NOW))
        };
        for (query, expected) in [
            (
                "SELECT count(*) FROM jobs WHERE state = 'new'",
                Some((2.0, NOW)),
            ),
            ("SELECT 0.5", Some((0.5, NOW))),
            (
                "SELECT 3, 1699999990",
                Some((3.0, Timestamp::from_secs(1_699_999_990))),
            ),
            (
                "SELECT 3, '2023-11-14T22:13:10Z'",
                Some((3.0, Timestamp::from_secs(1_699_999_990))),
            ),
            ("SELECT 3, 1800000000", None),
            ("SELECT 3, NULL", None),
            ("SELECT 3, 'soon'", None),
            ("SELECT max(rowid) FROM jobs WHERE state = 'none'", None),
            ("SELECT 1 FROM jobs WHERE state = 'none'", None),
            ("SELECT 1 FROM jobs", None),
            ("SELECT -1", None),
            ("SELECT 'three'", None),
            ("SELECT 1, 2, 3", None),
            ("SELECT x FROM nowhere", None),
            ("not a query", None),
            ("DELETE FROM jobs", None),
        ] {
            let found = match read(query) {
                Reading::Present(Sample { value, at, .. }) => Some((value, at)),
                Reading::Absent(_) => None,
            };
            assert_eq!(found, expected, "{query}");
        }
        let left: i64 = connection
            .query_row("SELECT count(*) FROM jobs", (), |row| row.get(0))
            .expect("counted");
        assert_eq!(left, 3);
    }

    #[test]
    fn a_file_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("none.db");
        let spec = SqliteSpec {
            file: file.clone(),
            query: "SELECT 1".to_owned(),
        };
        let reading = block_on(Reader::new(&spec, Duration::from_secs(5)).read(NOW));
        let unreachable = matches!(reading, Reading::Absent(Absence::Unreachable { .. }));
        assert!(unreachable && !file.exists(), "{reading:?}");
    }

    #[test]
    fn a_query_without_end_is_interrupted() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("queue.db");
        Connection::open(&file)
            .and_then(|connection| connection.execute_batch("CREATE TABLE jobs (state TEXT)"))
            .expect("written");
        let query = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) \
                     SELECT count(*) FROM n";
        let spec = SqliteSpec {
            file,
            query: query.to_owned(),
        };
        let reader = Reader::new(&spec, Duration::from_millis(50));
        // The runtime waits for its blocking threads when it is dropped: this
        // ends only if the query does.
        let elapsed = block_on(async {
            tokio::time::timeout(Duration::from_millis(50), reader.read(NOW)).await
        });
        assert!(elapsed.is_err());
    }
}
