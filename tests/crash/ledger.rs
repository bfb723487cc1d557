//! What the store says was written, held against what the cloud says it was
//! asked, both read from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use windlass::config::{Config, Provider, Simulated};
use windlass_policies::model::{Action, Epoch, InstanceId, LaunchToken, Outcome};
use windlass_policies::units::Timestamp;
use windlass_simulator::world::World;

use crate::daemon::{FLEET, Place};

/// A row of the store's `decisions`.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) cycle: i64,
    pub(crate) epoch: i64,
    pub(crate) at: i64,
}

/// A row of the store's `actions`.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) cycle: i64,
    pub(crate) action: String,
    pub(crate) foreseen: bool,
    pub(crate) outcome: Option<String>,
    pub(crate) acted_at: Option<i64>,
}

/// A row of the cloud's `requests`.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) serial: i64,
    pub(crate) at: i64,
    pub(crate) epoch: i64,
    pub(crate) action: String,
}

/// Where reading begins: after this cycle and this request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct After {
    pub(crate) cycle: i64,
    pub(crate) request: i64,
}

/// Both sides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) after: After,
    pub(crate) epoch: i64,
    pub(crate) decisions: Vec<Decided>,
    pub(crate) actions: Vec<Planned>,
    pub(crate) requests: Vec<Request>,
}

impl Ledger {
    /// Reads what came `after`. Files that are not there yet, or have no
    /// tables, hold nothing.
    pub(crate) fn read(place: &Place, after: After) -> Self {
        let mut ledger = Self {
            after,
            ..Self::default()
        };
        if let Some(store) = open(&place.store(), "decisions") {
            ledger.read_store(&store);
        }
        if let Some(cloud) = open(&place.cloud(), "requests") {
            ledger.requests = rows(
                &cloud,
                "SELECT serial, micros, epoch, action FROM requests WHERE serial > ?1
                 ORDER BY serial",
                after.request,
                |row| {
                    Ok(Request {
                        serial: row.get(0)?,
                        at: row.get(1)?,
                        epoch: row.get(2)?,
                        action: row.get(3)?,
                    })
                },
            );
        }
        ledger
    }

    fn read_store(&mut self, store: &Connection) {
        let epoch: String = store
            .query_row("SELECT value FROM meta WHERE key = 'epoch'", (), |row| {
                row.get(0)
            })
            .expect("an epoch");
        self.epoch = epoch.parse().expect("a number");
        self.decisions = rows(
            store,
            "SELECT cycle, epoch, at_micros FROM decisions WHERE cycle > ?1 ORDER BY cycle",
            self.after.cycle,
            |row| {
                Ok(Decided {
                    cycle: row.get(0)?,
                    epoch: row.get(1)?,
                    at: row.get(2)?,
                })
            },
        );
        self.actions = rows(
            store,
            "SELECT cycle, action, planned_seq IS NOT NULL, outcome, acted_micros
             FROM actions WHERE cycle > ?1 ORDER BY cycle, serial",
            self.after.cycle,
            |row| {
                Ok(Planned {
                    cycle: row.get(0)?,
                    action: row.get(1)?,
                    foreseen: row.get(2)?,
                    outcome: row.get(3)?,
                    acted_at: row.get(4)?,
                })
            },
        );
    }

    /// Where the next look begins.
    pub(crate) fn end(&self) -> After {
        After {
            cycle: self
                .decisions
                .last()
                .map_or(self.after.cycle, |last| last.cycle),
            request: self
                .requests
                .last()
                .map_or(self.after.request, |last| last.serial),
        }
    }

    /// Everything that should not be so.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = self.broken_course();
        let (answers, strangers) = self.answers();
        problems.extend(strangers);
        problems.extend(self.broken_answers(&answers));
        problems.extend(self.reused_tokens());
        problems
    }

    /// Cycles come one after the other, and time and epochs with them.
    fn broken_course(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut before = Decided {
            cycle: self.after.cycle,
            epoch: 0,
            at: 0,
        };
        for decided in &self.decisions {
            if decided.cycle != before.cycle + 1 {
                problems.push(format!("{decided:?} follows cycle {}", before.cycle));
            }
            if decided.at < before.at || decided.epoch < before.epoch {
                problems.push(format!("{decided:?} goes back behind {before:?}"));
            }
            before = decided.clone();
        }
        if before.epoch > self.epoch {
            problems.push(format!(
                "{before:?} is of an epoch after {}, the latest",
                self.epoch
            ));
        }
        problems
    }

    /// Which action each request was, by its place in `actions`; and what is
    /// wrong with requests that were none. An action is of the request's cycle
    /// if its decision was the latest of that epoch by then.
    fn answers(&self) -> (BTreeMap<usize, &Request>, Vec<String>) {
        let mut answers = BTreeMap::new();
        let mut strangers = Vec::new();
        for request in &self.requests {
            let cycle = self
                .decisions
                .iter()
                .rfind(|decided| decided.epoch == request.epoch && decided.at <= request.at)
                .map(|decided| decided.cycle);
            let first = self.actions.partition_point(|row| Some(row.cycle) < cycle);
            let of_cycle = self.actions.iter().enumerate().skip(first);
            let written = of_cycle
                .take_while(|(_, row)| Some(row.cycle) == cycle)
                .find(|(place, row)| {
                    row.foreseen && row.action == request.action && !answers.contains_key(place)
                });
            match written {
                Some((place, _)) => {
                    answers.insert(place, request);
                }
                None => strangers.push(format!("asked for and not written down: {request:?}")),
            }
        }
        (answers, strangers)
    }

    fn broken_answers(&self, answers: &BTreeMap<usize, &Request>) -> Vec<String> {
        let epoch_of: BTreeMap<i64, i64> = self
            .decisions
            .iter()
            .map(|decided| (decided.cycle, decided.epoch))
            .collect();
        let mut last_cycle_of = BTreeMap::new();
        for (cycle, epoch) in &epoch_of {
            last_cycle_of.insert(*epoch, *cycle);
        }
        let mut in_hand = BTreeSet::new();
        let mut problems = Vec::new();
        for (place, row) in self.actions.iter().enumerate() {
            let epoch = epoch_of.get(&row.cycle).copied();
            let last = epoch.and_then(|epoch| last_cycle_of.get(&epoch)).copied();
            let request = answers.get(&place);
            if !row.foreseen {
                problems.push(format!("answered and never planned: {row:?}"));
            }
            match (&row.outcome, request) {
                (Some(outcome), None) if outcome != "\"rehearsed\"" => {
                    problems.push(format!("answered, but the cloud knows nothing: {row:?}"));
                }
                (Some(outcome), Some(_)) if outcome == "\"rehearsed\"" => {
                    problems.push(format!("rehearsed, but the cloud was asked: {row:?}"));
                }
                (Some(_), Some(request)) if row.acted_at.is_none_or(|at| at < request.at) => {
                    problems.push(format!("answered before {request:?}: {row:?}"));
                }
                // Only the one that a crash cut short.
                (None, Some(_)) if !in_hand.insert(epoch) => {
                    problems.push(format!("a second action without an answer: {row:?}"));
                }
                (None, _) if Some(row.cycle) != last => {
                    problems.push(format!("the daemon went on without an answer: {row:?}"));
                }
                _ => {}
            }
        }
        problems
    }

    /// A token stands for one and the same launch.
    fn reused_tokens(&self) -> Vec<String> {
        let mut launches: BTreeMap<LaunchToken, &Request> = BTreeMap::new();
        let mut problems = Vec::new();
        for request in &self.requests {
            let Action::Launch { token, .. } = action(&request.action) else {
                continue;
            };
            let first = launches.entry(token).or_insert(request);
            if first.action != request.action {
                problems.push(format!(
                    "one token for two launches: {first:?}, {request:?}"
                ));
            }
        }
        problems
    }

    /// Makes the cloud anew, asks it everything again, and compares the
    /// answers with those in the store: nothing is launched twice, and nothing
    /// that was promised is missing. Only for a ledger from the beginning.
    pub(crate) fn broken_promises(&self, place: &Place) -> Vec<String> {
        let mut world = world(place);
        let mut launched: BTreeMap<LaunchToken, Vec<InstanceId>> = BTreeMap::new();
        let mut problems = Vec::new();
        let (answers, _) = self.answers();
        let rows: BTreeMap<i64, &Planned> = answers
            .iter()
            .map(|(place, request)| (request.serial, &self.actions[*place]))
            .collect();
        for request in &self.requests {
            let asked = action(&request.action);
            world.advance(Timestamp::from_micros(request.at.unsigned_abs()));
            let outcome = world.apply(FLEET, Epoch(request.epoch.unsigned_abs()), &asked);
            if let (Action::Launch { token, .. }, Outcome::Launched { instances }) =
                (&asked, &outcome)
            {
                let first = launched
                    .entry(token.clone())
                    .or_insert_with(|| instances.clone());
                if first != instances {
                    problems.push(format!("launched twice: {request:?}"));
                }
            }
            let recorded = rows
                .get(&request.serial)
                .and_then(|row| row.outcome.as_ref());
            if let Some(text) = recorded {
                let recorded: Outcome = serde_json::from_str(text).expect("an outcome");
                if recorded != outcome {
                    problems.push(format!("{request:?}: {outcome:?}, recorded {recorded:?}"));
                }
            }
        }
        let made: Vec<&InstanceId> = launched.values().flatten().collect();
        let different: BTreeSet<&InstanceId> = made.iter().copied().collect();
        let counted = world.summary().launches;
        if made.len() != different.len() || counted != made.len() as u64 {
            problems.push(format!(
                "{} tokens stand for {} instances, {} different ones; the cloud launched {counted}",
                launched.len(),
                made.len(),
                different.len()
            ));
        }
        problems
    }

    /// Launches that were never answered.
    pub(crate) fn unanswered_launches(&self) -> BTreeSet<LaunchToken> {
        let launches = |answered: bool| {
            self.actions
                .iter()
                .filter(move |row| row.outcome.is_some() == answered)
                .filter_map(|row| match action(&row.action) {
                    Action::Launch { token, .. } => Some(token),
                    Action::Fence { .. } | Action::Unfence { .. } | Action::Terminate { .. } => {
                        None
                    }
                })
                .collect::<BTreeSet<_>>()
        };
        launches(false)
            .difference(&launches(true))
            .cloned()
            .collect()
    }
}

fn action(text: &str) -> Action {
    serde_json::from_str(text).expect("an action")
}

/// The cloud of the configuration at its beginning.
fn world(place: &Place) -> World {
    let config = Config::open(Some(&place.config())).expect("the configuration");
    let fleet = &config.fleets[0];
    let Provider::Simulated(Simulated { scenario, .. }) = &fleet.provider else {
        panic!("not simulated");
    };
    let trace = scenario.read_trace().expect("the trace");
    let workload = scenario.build_workload(&trace).expect("jobs");
    scenario
        .world(FLEET, &workload, &fleet.spec.signals, true)
        .expect("a world")
}

/// Opens a file that a daemon left, as it left it: whatever a crash tore is
/// for the next daemon to mend.
fn open(path: &Path, table: &str) -> Option<Connection> {
    if !path.exists() {
        return None;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).expect("opened");
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .expect("configured");
    let tables: i64 = connection
        .query_row(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1",
            [table],
            |row| row.get(0),
        )
        .expect("a sound file");
    (tables == 1).then_some(connection)
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    after: i64,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Vec<T> {
    connection
        .prepare(sql)
        .and_then(|mut query| query.query_map([after], read)?.collect())
        .expect("a sound file")
}
