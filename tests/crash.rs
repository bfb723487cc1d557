//! The daemon as a process: killed at any instruction it loses nothing and does
//! nothing twice; asked to stop it stops.
//!
//! `WINDLASS_CRASH_KILLS=1000 cargo test --test crash` kills more often than a
//! test run does, and `WINDLASS_CRASH_SEED=7` at other moments.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::str::FromStr;
use std::time::Duration;

use rusqlite::Connection;
use windlass::config::Config;
use windlass::store::History;
use windlass_policies::memory::{Answer, Memory};
use windlass_policies::model::Epoch;
use windlass_simulator::random::Stream;

#[path = "crash/daemon.rs"]
mod daemon;
#[path = "crash/ledger.rs"]
mod ledger;
#[path = "crash/workers.rs"]
mod workers;

use daemon::{FLEET, Place};
use ledger::{After, Ledger};

/// A few seconds' worth; every moment of a cycle is hit in a few hundred.
const KILLS: u64 = 25;

/// A stop waits for the cycle in hand, which takes milliseconds.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);

fn setting<T: FromStr<Err: Debug>>(name: &str, default: T) -> T {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

#[track_caller]
fn nothing_wrong(problems: &[String], when: &str) {
    assert!(problems.is_empty(), "{when}:\n{}", problems.join("\n"));
}

#[test]
fn killed_at_any_moment_it_loses_nothing_and_does_nothing_twice() {
    let kills = setting("WINDLASS_CRASH_KILLS", KILLS);
    let moments = setting("WINDLASS_CRASH_SEED", 1);
    let mut stream = Stream::new(moments, "kills");
    let place = Place::new();
    let mut after = After::default();
    let (mut epoch, mut cut_short, mut before_deciding) = (0, 0, 0);
    for kill in 0..kills {
        let when = format!("seed {moments}, kill {kill}");
        let life = place.start(&[]);
        // Some die while they start, most in one of their first cycles.
        let cycles = stream.below(8);
        let decided = (0..cycles).all(|_| life.next_cycle().is_some());
        assert!(decided, "{when}: it ended by itself");
        let most = if cycles == 0 { 60_000 } else { 25_000 };
        life.let_run(Duration::from_micros(stream.below(most)));
        life.kill();

        let seen = Ledger::read(&place, after);
        nothing_wrong(&seen.problems(), &when);
        let raised = seen.epoch - epoch;
        assert!(
            (i64::from(cycles > 0)..=1).contains(&raised),
            "{when}: epoch {raised} up"
        );
        epoch = seen.epoch;
        cut_short += usize::from(seen.actions.iter().any(|row| row.outcome.is_none()));
        before_deciding += usize::from(seen.decisions.is_empty());
        after = seen.end();
    }
    let life = place.start(&[]);
    // Long enough for what the crashes left open to be asked again or given up.
    for _ in 0..40 {
        assert!(
            life.next_cycle().is_some(),
            "seed {moments}: it ended by itself"
        );
    }
    let (code, _) = life.stop("TERM");
    assert_eq!(code, Some(0), "seed {moments}");

    let all = Ledger::read(&place, After::default());
    nothing_wrong(&all.problems(), "at the end");
    nothing_wrong(&all.broken_promises(&place), "asked again");
    assert_eq!(all.epoch, epoch + 1);
    assert!(
        all.requests.len() > 40,
        "too little happened: {}",
        all.requests.len()
    );
    let open = all.unanswered_launches();
    nothing_is_left_open(&place);
    for (verb, expected) in [("replay", "all the same again"), ("explain", "cycle ")] {
        let output = place.output(verb, &[]);
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{verb}: {told}");
        assert!(
            told.contains(expected) && !told.contains("more, made"),
            "{verb}: {told}"
        );
    }
    println_for_people(&format!(
        "{kills} kills, seed {moments}: {before_deciding} before a decision, {cut_short} with an \
         action in hand; {} cycles, {} requests, {} launches never answered",
        all.decisions.len(),
        all.requests.len(),
        open.len()
    ));
}

/// Shown by `cargo test -- --nocapture`.
#[expect(clippy::print_stdout, reason = "a long run has something to tell")]
fn println_for_people(line: &str) {
    println!("{line}");
}

/// No launch is waited for any more.
fn nothing_is_left_open(place: &Place) {
    let config = Config::open(Some(&place.config())).expect("the configuration");
    let history = History::open(&place.store()).expect("the store");
    let tail = history.tail(FLEET).expect("readable");
    let memory = Memory::rebuild(&config.fleets[0].spec, "", Epoch(0), &tail);
    let awaited: BTreeSet<_> = memory
        .launches
        .iter()
        .filter(|(_, launch)| launch.answer != Answer::Given && launch.seen.is_empty())
        .collect::<Vec<_>>()
        .iter()
        .map(|(token, _)| token.to_string())
        .collect();
    assert!(awaited.is_empty(), "still waited for: {awaited:?}");
}

type Damage<'a> = &'a dyn Fn(&mut Ledger);

/// A check that cannot fail proves nothing: each of these is found.
#[test]
fn damage_to_the_record_is_found() {
    let place = Place::new();
    let life = place.start(&[]);
    for _ in 0..30 {
        life.next_cycle().expect("it runs");
    }
    assert_eq!(life.stop("TERM").0, Some(0));
    let sound = Ledger::read(&place, After::default());
    nothing_wrong(&sound.problems(), "before");
    nothing_wrong(&sound.broken_promises(&place), "before");

    let launch = |ledger: &Ledger| {
        let found = |row: &ledger::Planned| row.action.contains("launch");
        ledger.actions.iter().position(found).expect("a launch")
    };
    let damages: [(&str, Damage<'_>); 9] = [
        ("not written down", &|ledger| {
            ledger.actions.remove(launch(ledger));
        }),
        ("answered, but the cloud knows nothing", &|ledger| {
            ledger.requests.pop();
        }),
        ("not written down", &|ledger| {
            let twice = ledger.requests[0].clone();
            ledger.requests.insert(1, twice);
        }),
        ("follows cycle", &|ledger| {
            ledger.decisions.remove(3);
        }),
        ("goes back behind", &|ledger| ledger.decisions[3].at = 1),
        ("went on without an answer", &|ledger| {
            let row = launch(ledger);
            ledger.actions[row].outcome = None;
        }),
        ("never planned", &|ledger| {
            let row = launch(ledger);
            ledger.actions[row].foreseen = false;
        }),
        ("answered before", &|ledger| {
            let row = launch(ledger);
            ledger.actions[row].acted_at = Some(1);
        }),
        ("not written down", &|ledger| {
            // Asked for a cycle before it was written.
            let row = launch(ledger);
            let cycle = ledger.actions[row].cycle;
            ledger.actions[row].cycle = cycle + 1;
        }),
    ];
    for (expected, damage) in damages {
        let mut copy = sound.clone();
        damage(&mut copy);
        let problems = copy.problems();
        let found = problems.iter().any(|problem| problem.contains(expected));
        assert!(found, "{expected}: {problems:?}");
    }

    let mut forged = sound.clone();
    let row = launch(&sound);
    let other = sound.actions[row]
        .outcome
        .clone()
        .map(|text| text.replace("sim-", "sin-"));
    assert_ne!(other, sound.actions[row].outcome);
    forged.actions[row].outcome = other;
    assert_ne!(forged.broken_promises(&place), [""; 0]);
}

#[test]
fn a_stop_finishes_the_cycle_in_hand_and_a_start_goes_on_with_the_next() {
    let place = Place::new();
    let mut last = None;
    for (epoch, signal) in [(1, "TERM"), (2, "INT")] {
        let life = place.start(&[]);
        let first = life.next_cycle().expect("it runs");
        assert_eq!(
            Some(first),
            last.map_or(Some(1), |last: u64| last.checked_add(1))
        );
        for _ in 0..12 {
            life.next_cycle().expect("it runs");
        }
        let (code, time) = life.stop(signal);
        assert_eq!(code, Some(0), "{signal}");
        assert!(time < STOP_TIME_MAX, "{signal} took {time:?}");

        let seen = Ledger::read(&place, After::default());
        nothing_wrong(&seen.problems(), signal);
        assert_eq!(seen.epoch, epoch);
        let open = seen.actions.iter().find(|row| row.outcome.is_none());
        assert!(open.is_none(), "{signal} cut {open:?} short");
        last = seen
            .decisions
            .last()
            .map(|decided| decided.cycle.unsigned_abs());
    }
}

#[test]
fn a_stop_while_it_starts_is_a_stop_too() {
    let place = Place::new();
    let life = place.start(&[]);
    life.next_line("\"message\":\"started\"")
        .expect("it starts");
    let (code, time) = life.stop("TERM");
    assert_eq!(code, Some(0));
    assert!(time < STOP_TIME_MAX, "took {time:?}");
}

#[test]
fn a_second_daemon_on_the_same_store_is_refused() {
    let place = Place::new();
    let life = place.start(&[]);
    life.next_cycle().expect("it runs");
    let second = place.output("run", &["--log", "json"]);
    let told = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(69), "{told}");
    let lock = place.path("windlass.db.lock");
    assert!(told.contains(&lock.display().to_string()), "{told}");
    // And the first one never noticed.
    life.next_cycle().expect("it runs");
    assert_eq!(life.stop("TERM").0, Some(0));
    let seen = Ledger::read(&place, After::default());
    assert_eq!(seen.epoch, 1);
    nothing_wrong(&seen.problems(), "at the end");
}

#[test]
fn once_is_one_cycle() {
    let place = Place::new();
    for cycle in 1..=3 {
        let output = place.output("run", &["--once", "--log", "json"]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{told}");
        let seen = Ledger::read(&place, After::default());
        assert_eq!(seen.decisions.len(), cycle, "{told}");
        nothing_wrong(&seen.problems(), "once");
    }
}

/// A single cycle would observe, at every start anew, and never change anything.
#[test]
fn once_goes_on_until_something_may_be_changed() {
    let place = Place::new();
    let config = fs::read_to_string(place.config()).expect("the configuration");
    let patient = config.replace("observe_cycles = 1", "observe_cycles = 3");
    assert_ne!(patient, config);
    fs::write(place.config(), patient).expect("written");
    let output = place.output("run", &["--once", "--log", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let seen = Ledger::read(&place, After::default());
    assert_eq!(seen.decisions.len(), 3);
    let acted: Vec<i64> = seen.actions.iter().map(|row| row.cycle).collect();
    assert!(
        !acted.is_empty() && acted.iter().all(|cycle| *cycle == 3),
        "{acted:?}"
    );
}

#[test]
fn asked_a_second_time_it_stops_at_once() {
    // Its cycle waits for a reading that never comes.
    let place = Place::with(&[(
        "windlass.toml",
        r#"
[fleet.stuck]
provider = "process"

[fleet.stuck.process]
command = ["true"]

[fleet.stuck.signals.backlog]
source = "sqlite"
file = "queue.db"
query = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
timeout = "1m"

[fleet.stuck.limits]
max = 1
max_usd_per_hour = 1.0

[[fleet.stuck.policy]]
kind = "queue_backlog"
jobs_per_instance = 1
count_in_flight = false
"#,
    )]);
    let queue = Connection::open(place.path("queue.db")).expect("opened");
    queue
        .execute_batch("CREATE TABLE queue (id)")
        .expect("written");
    let mut life = place.start(&[]);
    life.next_line("\"message\":\"started\"")
        .expect("it starts");
    life.send("INT");
    life.next_line("stopping after the cycle in hand")
        .expect("it heard");
    life.send("INT");
    life.next_line("stopped at once").expect("it says so");
    assert_eq!(life.wait(), Some(130));
}

#[test]
fn a_rehearsal_asks_nothing_of_the_cloud_and_confuses_nobody() {
    let place = Place::new();
    let rehearsal = place.start(&["--dry-run"]);
    for _ in 0..15 {
        rehearsal.next_cycle().expect("it runs");
    }
    assert_eq!(rehearsal.stop("TERM").0, Some(0));
    let rehearsed = Ledger::read(&place, After::default());
    nothing_wrong(&rehearsed.problems(), "rehearsed");
    assert!(rehearsed.requests.is_empty(), "{:?}", rehearsed.requests);
    let launches = |ledger: &Ledger| {
        let launch = |row: &&ledger::Planned| row.action.contains("launch");
        ledger.actions.iter().filter(launch).count()
    };
    assert!(launches(&rehearsed) > 0, "it wished for nothing");

    let life = place.start(&[]);
    for _ in 0..30 {
        life.next_cycle().expect("it runs");
    }
    assert_eq!(life.stop("TERM").0, Some(0));
    let all = Ledger::read(&place, After::default());
    nothing_wrong(&all.problems(), "after it");
    nothing_wrong(&all.broken_promises(&place), "after it");
    // What was only rehearsed is asked for in earnest, at once and under a
    // token of its own.
    let begins = rehearsed.decisions.len();
    let in_earnest = all.requests.first().expect("it acts");
    assert_eq!(in_earnest.epoch, 2);
    assert!(in_earnest.action.contains("launch"), "{in_earnest:?}");
    let later = &all.decisions[begins + 2];
    assert!(
        in_earnest.at <= later.at,
        "{in_earnest:?} later than {later:?}"
    );
    assert!(all.unanswered_launches().is_empty());
}

/// The file of the cloud is one of its own: it cannot follow the store by
/// sharing it.
#[test]
fn the_cloud_keeps_a_file_of_its_own() {
    let place = Place::new();
    assert_eq!(place.output("run", &["--once"]).status.code(), Some(0));
    let tables = |path| -> Vec<String> {
        let connection = Connection::open(path).expect("opened");
        let mut query = connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
            .expect("a query");
        let names = query.query_map((), |row| row.get(0)).expect("names");
        names.collect::<Result<_, _>>().expect("names")
    };
    assert_eq!(tables(place.cloud()), ["clock", "requests", "world"]);
    assert_eq!(
        tables(place.store()),
        [
            "actions",
            "decisions",
            "followed",
            "looks",
            "meta",
            "tunings"
        ]
    );
}
