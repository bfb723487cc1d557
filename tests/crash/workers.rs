//! A fleet of real processes under a daemon that is killed again and again.
//! Each worker writes its name into a file of its own accord when it starts: a
//! record that neither the daemon nor its provider has a hand in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use windlass_policies::model::{Action, Outcome};
use windlass_simulator::random::Stream;

use crate::daemon::{Daemon, Place};
use crate::{println_for_people, setting};

/// A second or less each; a few of them in every part of a start and a cycle.
const KILLS: u64 = 20;

/// The most workers there may be.
const MAX: usize = 6;

/// Longer than anything here takes, on a machine that is busy.
const PATIENCE: Duration = Duration::from_mins(1);

const CONFIG: &str = r#"
[fleet.workers]
provider = "process"
interval = "1s"

[fleet.workers.process]
command = ["sh", "worker.sh"]
ready = "report"

[fleet.workers.signals.backlog]
source = "sqlite"
file = "queue.db"
query = "SELECT wanted FROM queue"

[fleet.workers.limits]
max = 6
max_usd_per_hour = 1.0
shrink_settle = "0s"
# It acts in its first cycle, so that many lives are short.
observe_cycles = 0
listing_patience = "2s"

[[fleet.workers.policy]]
kind = "queue_backlog"
jobs_per_instance = 1
count_in_flight = false
"#;

const WORKER: &str = r#"
echo "$WINDLASS_INSTANCE" >> started
echo idle > "$WINDLASS_WORK"
exec sleep 1000
"#;

/// The place, its queue, and an end for whatever still runs there.
struct Yard {
    place: Place,
    queue: Connection,
}

impl Yard {
    fn new() -> Self {
        let place = Place::with(&[("windlass.toml", CONFIG), ("worker.sh", WORKER)]);
        let queue = Connection::open(place.path("queue.db")).expect("opened");
        queue
            .execute_batch("CREATE TABLE queue (wanted); INSERT INTO queue VALUES (0)")
            .expect("written");
        Self { place, queue }
    }

    fn want(&self, workers: u64) {
        let wanted = i64::try_from(workers).expect("a few");
        self.queue
            .execute("UPDATE queue SET wanted = ?1", [wanted])
            .expect("written");
    }

    /// Every process that carries the tag of a worker of this place, by its
    /// number; found without windlass.
    fn running(&self) -> BTreeMap<u32, String> {
        let mark = format!(
            "WINDLASS_FOLDER={}/",
            self.place.path("").canonicalize().expect("there").display()
        );
        let mut found = BTreeMap::new();
        for entry in fs::read_dir("/proc").expect("readable").flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            // It may have ended since, or be somebody else's.
            let told = fs::read(entry.path().join("environ")).unwrap_or_default();
            let told = String::from_utf8_lossy(&told).into_owned();
            let value = |name: &str| told.split('\0').find_map(|pair| pair.strip_prefix(name));
            if told.split('\0').any(|pair| pair.starts_with(&mark)) {
                let id = value("WINDLASS_INSTANCE=").expect("a worker has a name");
                found.insert(pid, id.to_owned());
            }
        }
        found
    }

    /// The names that workers wrote when they started.
    fn started(&self) -> Vec<String> {
        let text = fs::read_to_string(self.place.path("started")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What of all this should not be so.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        // What was told to end may take a moment.
        let give_up = Instant::now() + Duration::from_secs(2);
        let mut running = self.running();
        while running.len() > MAX && Instant::now() < give_up {
            running = self.running();
        }
        if running.len() > MAX {
            problems.push(format!("{} run, of {MAX}: {running:?}", running.len()));
        }
        let names: BTreeSet<&String> = running.values().collect();
        if names.len() < running.len() {
            problems.push(format!("one worker runs twice: {running:?}"));
        }
        let started = self.started();
        let different: BTreeSet<&String> = started.iter().collect();
        if different.len() < started.len() {
            problems.push(format!("one worker was started twice: {started:?}"));
        }
        problems.extend(self.broken_promises(&started));
        problems
    }

    /// Workers that nobody wrote down before they were started, and more of a
    /// launch than was asked for.
    fn broken_promises(&self, started: &[String]) -> Vec<String> {
        let mut problems = Vec::new();
        let mut asked: BTreeMap<String, usize> = BTreeMap::new();
        for (action, _) in self.launches() {
            if let Action::Launch { token, count, .. } = action {
                asked.insert(token.to_string(), count as usize);
            }
        }
        let mut made: BTreeMap<&str, usize> = BTreeMap::new();
        for id in started {
            let token = id.rsplit_once('.').map_or("", |(token, _)| token);
            *made.entry(token).or_default() += 1;
        }
        for (token, count) in made {
            match asked.get(token) {
                None => problems.push(format!("{token} was started and never written down")),
                Some(most) if count > *most => {
                    problems.push(format!("{count} of {token}, which was for {most}"));
                }
                Some(_) => {}
            }
        }
        problems
    }

    /// Every launch in the store, and what came of it.
    fn launches(&self) -> Vec<(Action, Option<Outcome>)> {
        let store = self.place.store();
        if !store.exists() {
            return Vec::new();
        }
        let store = Connection::open(store).expect("opened");
        let Ok(mut query) = store.prepare("SELECT action, outcome FROM actions") else {
            // It was killed before it made the tables.
            return Vec::new();
        };
        let rows = query
            .query_map((), |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
            })
            .expect("readable");
        rows.map(|row| {
            let (action, outcome) = row.expect("readable");
            let outcome = outcome.map(|text| serde_json::from_str(&text).expect("an outcome"));
            (serde_json::from_str(&action).expect("an action"), outcome)
        })
        .filter(|(action, _)| matches!(action, Action::Launch { .. }))
        .collect()
    }

    /// Lets `life` go on until exactly `workers` run.
    fn wait_for(&self, life: &Daemon, workers: usize, when: &str) {
        let give_up = Instant::now() + PATIENCE;
        while self.running().len() != workers {
            life.next_cycle().expect("it runs");
            assert!(Instant::now() < give_up, "{when}: {:?}", self.running());
        }
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        for (pid, _) in self.running() {
            let order = format!("kill -9 {pid}");
            let _ended_already = std::process::Command::new("sh")
                .args(["-c", &order])
                .status();
        }
    }
}

#[test]
fn workers_are_neither_lost_nor_doubled_however_the_daemon_dies() {
    let kills = setting("WINDLASS_CRASH_KILLS", KILLS);
    let moments = setting("WINDLASS_CRASH_SEED", 1);
    let mut stream = Stream::new(moments, "kills of a fleet of processes");
    let yard = Yard::new();
    for kill in 0..kills {
        let when = format!("seed {moments}, kill {kill}");
        yard.want(stream.below(MAX as u64 + 1));
        let life = yard.place.start(&[]);
        // One in four sees its second cycle, a second later; the others die
        // while they start, look, launch or end.
        if stream.below(4) == 0 {
            life.next_cycle().expect("it runs");
            life.next_cycle().expect("it runs");
        } else {
            life.next_line("\"message\":\"started\"")
                .expect("it starts");
            life.let_run(Duration::from_micros(stream.below(150_000)));
        }
        life.kill();
        let problems = yard.problems();
        assert!(problems.is_empty(), "{when}:\n{}", problems.join("\n"));
    }
    let life = yard.place.start(&[]);
    for workers in [3, MAX, 0] {
        yard.want(workers as u64);
        yard.wait_for(
            &life,
            workers,
            &format!("seed {moments}, {workers} at the end"),
        );
    }
    let (code, _) = life.stop("TERM");
    assert_eq!(code, Some(0), "seed {moments}");
    let problems = yard.problems();
    assert!(
        problems.is_empty(),
        "seed {moments}:\n{}",
        problems.join("\n")
    );
    // Every worker that was promised did start, however short it lived.
    let started = yard.started();
    let launches = yard.launches();
    let (mut promised, mut cut_short) = (0, 0);
    for (_, outcome) in &launches {
        cut_short += usize::from(outcome.is_none());
        if let Some(Outcome::Launched { instances }) = outcome {
            promised += instances.len();
            for id in instances {
                assert!(
                    started.iter().any(|name| name == id.as_str()),
                    "seed {moments}: {id}"
                );
            }
        }
    }
    assert!(promised >= 6, "too little happened: {promised}");
    println_for_people(&format!(
        "{kills} kills, seed {moments}: {cut_short} with a launch in hand; {} launches, {} workers",
        launches.len(),
        started.len()
    ));
}
