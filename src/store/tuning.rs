//! What self-tuning keeps: each cycle in short, what replays came to, and what
//! was followed when.

use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use windlass_policies::ports::StoreError;
use windlass_policies::units::{MicroUsd, Timestamp};
use windlass_simulator::self_tuning::{Found, Instances, Look, Report};

use super::error::{SqliteError, read_error, write_error};
use super::history::History;
use super::row::{stored, unstored};
use super::sqlite::SqliteStore;

/// Cycles in short are kept for four weeks, the longest history that is
/// replayed,
const LOOKS_KEEP_MICROS: i64 = 28 * 24 * 3_600 * 1_000_000;

/// and so many of a fleet at most, about 20 MB.
const LOOKS_KEPT_MAX: i64 = 200_000;

/// So many tunings of a fleet are kept, and changes of what it follows.
const TUNINGS_KEPT: i64 = 500;

/// One replay of a fleet's record.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuning {
    /// When it was begun, by the clock of the machine.
    pub begun_at: Timestamp,
    /// The fingerprint of the fleet as its file says.
    pub base: String,
    /// What it came to; `None` if it was cut off.
    pub report: Option<Report>,
}

/// A change of what a fleet follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Followed {
    /// When, by the fleet's clock.
    pub at: Timestamp,
    /// The fingerprint of the fleet as its file says.
    pub base: String,
    /// The fingerprint of the fleet as it is run from then on.
    pub spec: String,
    /// What is followed; `None` for the policy of the file.
    pub found: Option<Found>,
    /// Why.
    pub why: String,
}

impl SqliteStore {
    /// Notes that a record is about to be replayed. The number is for
    /// [`SqliteStore::finish_tuning`].
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn begin_tuning(&self, fleet: &str, base: &str, now: Timestamp) -> Result<i64, StoreError> {
        self.change(|transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO tunings (fleet, base, begun_micros) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![fleet, base, stored(now.micros())])?;
            let number = transaction.last_insert_rowid();
            keep_newest(transaction, "tunings", fleet)?;
            Ok(number)
        })
    }

    /// Notes what it came to.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn finish_tuning(&self, number: i64, report: &Report) -> Result<(), StoreError> {
        self.change(|transaction| {
            transaction
                .prepare_cached("UPDATE tunings SET report = ?2 WHERE id = ?1")?
                .execute(params![number, json(report)?])?;
            Ok(())
        })
    }

    /// Notes what a fleet follows from now on. Before the first decision that is
    /// made by it, so that every decision can be made again.
    ///
    /// # Errors
    /// If the store cannot be written. Then nothing may be changed.
    pub fn follow(&self, fleet: &str, followed: &Followed) -> Result<(), StoreError> {
        self.change(|transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO followed (fleet, at_micros, base, spec, found, why)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![
                    fleet,
                    stored(followed.at.micros()),
                    followed.base,
                    followed.spec,
                    followed.found.as_ref().map(json).transpose()?,
                    followed.why,
                ])?;
            keep_newest(transaction, "followed", fleet)
        })
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, SqliteError>,
    ) -> Result<T, StoreError> {
        let changed = || {
            let transaction = self.begin()?;
            let changed = change(&transaction)?;
            transaction.commit()?;
            Ok(changed)
        };
        changed().map_err(write_error)
    }
}

fn keep_newest(transaction: &Transaction<'_>, table: &str, fleet: &str) -> Result<(), SqliteError> {
    let sql = format!(
        "DELETE FROM {table} WHERE fleet = ?1 AND id <=
         (SELECT id FROM {table} WHERE fleet = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)"
    );
    transaction
        .prepare_cached(&sql)?
        .execute(params![fleet, TUNINGS_KEPT])?;
    Ok(())
}

/// Writes a cycle in short, with its decision.
pub(super) fn insert_look(
    transaction: &Transaction<'_>,
    fleet: &str,
    look: &Look,
) -> Result<(), SqliteError> {
    let instances = look.instances;
    transaction
        .prepare_cached(
            "INSERT INTO looks (fleet, cycle, at_micros, spec, alive, ready, busy, boots,
                                boots_micros, counted_micros, arrivals, completions, backlog,
                                in_flight, spent_micro_usd)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?
        .execute(params![
            fleet,
            stored(look.cycle),
            stored(look.at.micros()),
            look.spec,
            instances.map(|one| one.alive),
            instances.map(|one| one.ready),
            instances.and_then(|one| one.busy),
            instances.map(|one| one.boots),
            instances.map(|one| stored(one.boots_micros)),
            look.counted_at.map(|at| stored(at.micros())),
            look.arrivals,
            look.completions,
            look.backlog,
            look.in_flight,
            look.spent.get(),
        ])?;
    Ok(())
}

/// Drops cycles in short that are too old or too many; `cycle` and `at` are
/// those of the fleet's newest decision.
pub(super) fn prune_looks(
    transaction: &Transaction<'_>,
    fleet: &str,
    cycle: i64,
    at: i64,
    batch: i64,
) -> Result<bool, SqliteError> {
    let pruned = transaction
        .prepare_cached(
            "DELETE FROM looks WHERE fleet = ?1 AND cycle IN
             (SELECT cycle FROM looks WHERE fleet = ?1 AND (cycle <= ?2 OR at_micros < ?3)
              ORDER BY cycle LIMIT ?4)",
        )?
        .execute(params![
            fleet,
            cycle.saturating_sub(LOOKS_KEPT_MAX),
            at.saturating_sub(LOOKS_KEEP_MICROS),
            batch,
        ])?;
    Ok(i64::try_from(pruned).is_ok_and(|count| count >= batch))
}

impl History {
    /// The newest `most` cycles of `fleet` in short, oldest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn looks(&self, fleet: &str, most: usize) -> Result<Vec<Look>, StoreError> {
        self.looks_read(fleet, most).map_err(read_error)
    }

    fn looks_read(&self, fleet: &str, most: usize) -> Result<Vec<Look>, SqliteError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT cycle, at_micros, spec, alive, ready, busy, boots, boots_micros,
                    counted_micros, arrivals, completions, backlog, in_flight, spent_micro_usd
             FROM looks WHERE fleet = ?1 ORDER BY cycle DESC LIMIT ?2",
        )?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![fleet, most])?;
        let mut looks = Vec::new();
        while let Some(row) = rows.next()? {
            looks.push(look(row)?);
        }
        looks.reverse();
        Ok(looks)
    }

    /// The newest `most` tunings of `fleet`, newest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn tunings(&self, fleet: &str, most: u32) -> Result<Vec<Tuning>, StoreError> {
        let read = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT begun_micros, base, report FROM tunings WHERE fleet = ?1
                 ORDER BY id DESC LIMIT ?2",
            )?;
            let mut rows = statement.query(params![fleet, most])?;
            let mut tunings = Vec::new();
            while let Some(row) = rows.next()? {
                let report = row.get::<_, Option<String>>(2)?;
                tunings.push(Tuning {
                    begun_at: Timestamp::from_micros(unstored(row.get(0)?)?),
                    base: row.get(1)?,
                    report: report.map(|text| read_json(&text)).transpose()?,
                });
            }
            Ok(tunings)
        };
        read().map_err(read_error)
    }

    /// All changes of what `fleet` follows that are kept, oldest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn followed(&self, fleet: &str) -> Result<Vec<Followed>, StoreError> {
        let read = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT at_micros, base, spec, found, why FROM followed WHERE fleet = ?1
                 ORDER BY id",
            )?;
            let mut rows = statement.query([fleet])?;
            let mut followed = Vec::new();
            while let Some(row) = rows.next()? {
                let found = row.get::<_, Option<String>>(3)?;
                followed.push(Followed {
                    at: Timestamp::from_micros(unstored(row.get(0)?)?),
                    base: row.get(1)?,
                    spec: row.get(2)?,
                    found: found.map(|text| read_json(&text)).transpose()?,
                    why: row.get(4)?,
                });
            }
            Ok(followed)
        };
        read().map_err(read_error)
    }

    /// When the newest decision of `fleet` was made; `None` if there is none.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn latest(&self, fleet: &str) -> Result<Option<Timestamp>, StoreError> {
        let read = || {
            let at = self
                .connection
                .prepare_cached(
                    "SELECT at_micros FROM decisions WHERE fleet = ?1 ORDER BY cycle DESC LIMIT 1",
                )?
                .query_row([fleet], |row| row.get(0))
                .optional()?;
            at.map(|micros| Ok(Timestamp::from_micros(unstored(micros)?)))
                .transpose()
        };
        read().map_err(read_error)
    }
}

fn look(row: &Row<'_>) -> Result<Look, SqliteError> {
    let time = |micros: i64| Ok::<_, SqliteError>(Timestamp::from_micros(unstored(micros)?));
    let instances = match (row.get(3)?, row.get(4)?, row.get(6)?, row.get(7)?) {
        (Some(alive), Some(ready), Some(boots), Some(micros)) => Some(Instances {
            alive,
            ready,
            busy: row.get(5)?,
            boots,
            boots_micros: unstored(micros)?,
        }),
        _ => None,
    };
    Ok(Look {
        cycle: unstored(row.get(0)?)?,
        at: time(row.get(1)?)?,
        spec: row.get(2)?,
        instances,
        counted_at: row.get::<_, Option<i64>>(8)?.map(time).transpose()?,
        arrivals: row.get(9)?,
        completions: row.get(10)?,
        backlog: row.get(11)?,
        in_flight: row.get(12)?,
        spent: MicroUsd::new(row.get(13)?),
    })
}

fn json(value: &impl serde::Serialize) -> Result<String, SqliteError> {
    serde_json::to_string(value)
        .map_err(|error| SqliteError::Other(rusqlite::Error::ToSqlConversionFailure(error.into())))
}

fn read_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, SqliteError> {
    serde_json::from_str(text).map_err(|error| {
        SqliteError::Damaged(format!(
            "what self-tuning wrote cannot be understood: {error}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use windlass_simulator::self_tuning::Verdict;

    use super::*;

    fn store() -> (TempDir, SqliteStore) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = SqliteStore::open(&folder.path().join("w.db"), Timestamp::EPOCH);
        (folder, store.expect("opened"))
    }

    fn write(store: &SqliteStore, look: &Look) {
        store
            .change(|transaction| insert_look(transaction, "web", look))
            .expect("written");
    }

    fn look_at(cycle: u64, secs: u64) -> Look {
        Look {
            cycle,
            at: Timestamp::from_secs(secs),
            spec: "0123456789abcdef".to_owned(),
            instances: Some(Instances {
                alive: 3,
                ready: 2,
                busy: None,
                boots: 1,
                boots_micros: 90_000_000,
            }),
            counted_at: Some(Timestamp::from_secs(secs - 1)),
            arrivals: Some(7.0),
            completions: None,
            backlog: Some(0.5),
            in_flight: Some(2.0),
            spent: MicroUsd::new(123),
        }
    }

    #[test]
    fn cycles_in_short_come_back_as_they_were() {
        let (_folder, store) = store();
        let blind = Look {
            instances: None,
            counted_at: None,
            arrivals: None,
            backlog: None,
            in_flight: None,
            ..look_at(2, 120)
        };
        write(&store, &look_at(1, 60));
        write(&store, &blind);
        let looks = store.history().looks("web", 10).expect("read");
        assert_eq!(looks, [look_at(1, 60), blind.clone()]);
        assert_eq!(store.history().looks("web", 1).expect("read"), [blind]);
        assert_eq!(store.history().looks("other", 9).expect("read"), []);
    }

    #[test]
    fn what_is_too_old_is_dropped_in_batches() {
        let (_folder, store) = store();
        for cycle in 1..=5 {
            write(&store, &look_at(cycle, cycle * 60));
        }
        let prune = |at: i64| {
            store
                .change(|transaction| prune_looks(transaction, "web", 5, at, 2))
                .expect("pruned")
        };
        assert!(!prune(300_000_000), "nothing is old");
        let later = LOOKS_KEEP_MICROS + 240_000_000;
        assert!(prune(later), "two of three");
        assert!(!prune(later), "the third");
        let left = store.history().looks("web", 10).expect("read");
        assert_eq!(left, [look_at(4, 240), look_at(5, 300)]);
    }

    #[test]
    fn a_tuning_that_was_cut_off_has_no_report() {
        let (_folder, store) = store();
        let report = Report {
            at: Timestamp::from_secs(9),
            in_force: "own".to_owned(),
            load: None,
            tried: 3,
            verdict: Verdict::Best,
        };
        let now = Timestamp::from_secs(5);
        let first = store.begin_tuning("web", "base", now).expect("written");
        store.finish_tuning(first, &report).expect("written");
        store.begin_tuning("web", "base", now).expect("written");
        let tunings = store.history().tunings("web", 9).expect("read");
        let reports: Vec<_> = tunings.into_iter().map(|one| one.report).collect();
        assert_eq!(reports, [None, Some(report)]);
    }

    #[test]
    fn what_was_followed_is_kept_in_order_and_bounded() {
        let (_folder, store) = store();
        let followed = |secs| Followed {
            at: Timestamp::from_secs(secs),
            base: "base".to_owned(),
            spec: format!("spec{secs}"),
            found: None,
            why: "it was worse".to_owned(),
        };
        let more = u64::try_from(TUNINGS_KEPT).expect("few") + 2;
        for secs in 1..=more {
            store.follow("web", &followed(secs)).expect("written");
        }
        let kept = store.history().followed("web").expect("read");
        assert_eq!(kept.len(), 500);
        assert_eq!((&kept[0], &kept[499]), (&followed(3), &followed(more)));
    }
}
