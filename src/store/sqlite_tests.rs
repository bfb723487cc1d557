use std::collections::BTreeMap;

use rusqlite::Connection;
use tempfile::TempDir;
use windlass_policies::memory::Memory;
use windlass_policies::memory_store::MemoryStore;
use windlass_policies::model::{
    Decision, FleetError, InstanceId, LaunchToken, Listing, Observation, Reason,
};
use windlass_policies::signal::{Completeness, Reading, Readings, Sample};

use super::*;
use crate::store::Range;

/// A stream of numbers that is the same on every machine.
struct Numbers(u64);

impl Numbers {
    /// The next one, below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn minute(cycle: u64) -> Timestamp {
    Timestamp::from_secs(1_782_864_000 + cycle * 60)
}

fn fence(number: u64) -> Action {
    Action::Fence {
        instance: InstanceId::new(&format!("i-{number}")),
    }
}

fn launch(fleet: &str, cycle: u64) -> Action {
    Action::Launch {
        token: LaunchToken::new("0a1b2c", fleet, Epoch(1), cycle, 0),
        offering: "c7g.large".to_owned(),
        count: 3,
    }
}

fn decided_with(fleet: &str, cycle: u64, actions: Vec<Action>) -> Decided {
    let at = minute(cycle);
    let mut readings = Readings::new();
    // A third has no exact form in decimals: it must come back to the last bit.
    readings.insert(
        "backlog",
        Reading::complete(f64::from(u32::try_from(cycle).expect("small")) / 3.0, at),
    );
    let decision = Decision {
        epoch: Epoch(1),
        cycle,
        at,
        current: Some(3),
        proposals: Vec::new(),
        wish: Some(9),
        target: Some(6),
        reasons: Vec::new(),
        actions,
    };
    Decided {
        memory: Memory::default(),
        seen: Observation {
            now: at,
            fleet: Ok(Listing::default()),
            readings,
            prices: BTreeMap::new(),
        },
        decision,
        spec: format!("spec of {fleet}"),
    }
}

fn decided(fleet: &str, cycle: u64) -> Record {
    Record::Decided(Box::new(decided_with(
        fleet,
        cycle,
        vec![launch(fleet, cycle), fence(1), fence(1)],
    )))
}

fn acted(cycle: u64, action: Action) -> Record {
    let outcome = Outcome::Failed(FleetError::Unknown("time out".to_owned()));
    Record::Acted {
        cycle,
        at: minute(cycle) + Duration::from_millis(1_500),
        action,
        outcome,
    }
}

/// What a daemon might write, and worse: answers out of order, late, twice or
/// to nothing that was planned.
fn any_record(numbers: &mut Numbers, fleet: &str, cycle: &mut u64) -> Record {
    if *cycle == 0 || numbers.below(4) == 0 {
        *cycle += 1 + numbers.below(3);
        return decided(fleet, *cycle);
    }
    let of = cycle.saturating_sub(numbers.below(2));
    let action = if numbers.below(3) == 0 {
        launch(fleet, of)
    } else {
        fence(numbers.below(3))
    };
    if numbers.below(3) == 0 {
        let why = (numbers.below(2) == 0).then_some(Reason::AllAbstained);
        Record::Planned {
            cycle: of,
            action,
            why,
        }
    } else {
        acted(of, action)
    }
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, minute(0)).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn refusal(path: &Path) -> String {
    chain(&SqliteStore::open(path, minute(0)).expect_err("must be refused"))
}

/// The file and its log as a crash right now would leave them.
fn crashed_copy(from: &Path, into: &TempDir) -> PathBuf {
    let copy = into.path().join("copy.db");
    for ending in ["", "-wal", "-shm", ".lock"] {
        let _ = fs::remove_file(beside(&copy, ending));
    }
    for ending in ["", "-wal"] {
        fs::copy(beside(from, ending), beside(&copy, ending)).expect("copied");
    }
    copy
}

/// In memory where there is such a place: these tests sync thousands of times,
/// and a copy taken from a running system shows nothing of what a disk holds.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a temporary directory")
}

#[test]
fn tail_is_the_same_as_in_memory_after_every_record_and_every_start() {
    for seed in 1..=3 {
        let mut numbers = Numbers(seed);
        let directory = directory();
        let path = directory.path().join("windlass.db");
        let model = MemoryStore::keeping_tail();
        let mut cycles = BTreeMap::from([("web", 0), ("batch", 0)]);
        let mut store = open(&path);
        for step in 0..80 {
            let fleet = if numbers.below(2) == 0 {
                "web"
            } else {
                "batch"
            };
            let cycle = cycles.get_mut(fleet).expect("one of the two");
            let record = any_record(&mut numbers, fleet, cycle);
            store.append(fleet, &record).expect("written");
            model.append(fleet, &record).expect("written");
            if numbers.below(10) == 0 {
                drop(store);
                store = open(&path);
            }
            for fleet in ["web", "batch", "nobody"] {
                let expected = model.tail(fleet).expect("never fails");
                assert_eq!(
                    store.tail(fleet).expect("read"),
                    expected,
                    "seed {seed}, step {step}"
                );
            }
        }
    }
}

#[test]
fn everything_appended_before_a_crash_is_there_after_it() {
    let (directory, crashes) = (directory(), directory());
    let path = directory.path().join("windlass.db");
    let store = open(&path);
    let model = MemoryStore::keeping_all();
    let (mut numbers, mut cycle) = (Numbers(7), 0);
    for _ in 0..50 {
        let record = any_record(&mut numbers, "web", &mut cycle);
        store.append("web", &record).expect("written");
        model.append("web", &record).expect("written");
        let copy = open(&crashed_copy(&path, &crashes));
        assert_eq!(
            copy.tail("web").expect("read"),
            model.tail("web").expect("never fails")
        );
        let found: Vec<Decided> = copy
            .history()
            .decisions("web", Range::All)
            .expect("read")
            .map(|entry| entry.expect("read").decided)
            .collect();
        let expected: Vec<Decided> = model.look("web", |records| {
            let decided = |record: &Record| match record {
                Record::Decided(decided) => Some((**decided).clone()),
                Record::Planned { .. } | Record::Acted { .. } => None,
            };
            records.iter().filter_map(decided).collect()
        });
        assert_eq!(found, expected);
        assert_eq!(copy.store_id(), store.store_id());
        assert_eq!(copy.epoch(), Epoch(2));
    }
}

/// The cycles a possibly damaged copy still gives, or why it gives none.
fn cycles_read(path: &Path) -> Result<Vec<u64>, String> {
    let store = SqliteStore::open(path, minute(0)).map_err(|error| chain(&error))?;
    store.tail("web").map_err(|error| chain(&error))?;
    store
        .history()
        .decisions("web", Range::All)
        .map_err(|error| chain(&error))?
        .map(|entry| {
            entry
                .map(|entry| entry.decided.decision.cycle)
                .map_err(|error| chain(&error))
        })
        .collect()
}

#[test]
fn a_file_cut_short_anywhere_gives_an_error_or_a_prefix() {
    let (directory, cuts) = (directory(), directory());
    let path = directory.path().join("windlass.db");
    let store = open(&path);
    for cycle in 1..=12 {
        store
            .append("web", &decided("web", cycle))
            .expect("written");
        if cycle == 6 {
            // Half of it in the file, half of it only in the log.
            store
                .history
                .connection
                .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
                .expect("done");
        }
    }
    let (mut refused, mut shortened) = (0, 0);
    for ending in ["", "-wal"] {
        let length = fs::metadata(beside(&path, ending)).expect("there").len();
        let borders = (0..=length)
            .step_by(4096)
            .flat_map(|at| [at.saturating_sub(1), at, at + 1]);
        for cut in borders
            .chain((0..length).step_by(5_003))
            .filter(|cut| *cut < length)
        {
            let copy = crashed_copy(&path, &cuts);
            let file = OpenOptions::new()
                .write(true)
                .open(beside(&copy, ending))
                .expect("opened");
            file.set_len(cut).expect("cut");
            match cycles_read(&copy) {
                Ok(cycles) => {
                    let whole: Vec<u64> = (1..=12).collect();
                    assert!(
                        whole.starts_with(&cycles),
                        "{ending} cut to {cut}: {cycles:?}"
                    );
                    shortened += usize::from(cycles.len() < 12);
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(
        refused > 0 && shortened > 0,
        "{refused} refused, {shortened} shortened"
    );
}

#[test]
fn a_flipped_byte_never_makes_the_daemon_fall_over() {
    let (directory, flips) = (directory(), directory());
    let path = directory.path().join("windlass.db");
    let store = open(&path);
    for cycle in 1..=4 {
        store
            .append("web", &decided("web", cycle))
            .expect("written");
    }
    store
        .history
        .connection
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .expect("done");
    let mut refused = 0;
    for at in (0..fs::metadata(&path).expect("there").len()).step_by(997) {
        let copy = crashed_copy(&path, &flips);
        let mut bytes = fs::read(&copy).expect("read");
        bytes[usize::try_from(at).expect("small")] ^= 0x55;
        fs::write(&copy, bytes).expect("written");
        refused += usize::from(cycles_read(&copy).is_err());
    }
    assert!(refused > 0);
}

#[test]
fn a_second_daemon_is_told_who_holds_the_store() {
    let directory = directory();
    let path = directory.path().join("windlass.db");
    let first = open(&path);
    let message = refusal(&path);
    assert!(message.contains("windlass.db.lock"), "{message}");
    assert!(
        message.contains(&format!("process {}", std::process::id())),
        "{message}"
    );
    #[cfg(unix)]
    {
        let link = directory.path().join("link.db");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        let message = refusal(&link);
        assert!(message.contains("windlass.db.lock"), "{message}");
    }
    drop(first);
    assert_eq!(open(&path).epoch(), Epoch(2));
}

#[test]
fn a_daemon_that_was_taken_over_writes_nothing_more() {
    let directory = directory();
    let path = directory.path().join("windlass.db");
    let first = open(&path);
    first.append("web", &decided("web", 1)).expect("written");
    fs::remove_file(beside(&path, ".lock")).expect("somebody tidied up");
    let second = open(&path);
    let error = first.append("web", &decided("web", 2)).expect_err("stale");
    assert!(
        chain(&error).contains("epoch 2; this one has 1"),
        "{}",
        chain(&error)
    );
    second.append("web", &decided("web", 2)).expect("written");
}

#[test]
fn a_store_that_was_removed_takes_no_more_until_it_is_back() {
    let directory = directory();
    let path = directory.path().join("windlass.db");
    let store = open(&path);
    store.append("web", &decided("web", 1)).expect("written");
    let aside = directory.path().join("aside.db");
    fs::rename(&path, &aside).expect("moved");
    let refused = |store: &SqliteStore| {
        let error = store
            .append("web", &decided("web", 2))
            .expect_err("nothing is there");
        chain(&error)
    };
    let removed = "cannot write to the store: its file was removed or replaced while windlass was \
                   running; put it back, or start windlass again to begin anew";
    assert_eq!(refused(&store), removed);
    fs::write(&path, "somebody else's").expect("written");
    assert_eq!(refused(&store), removed);
    fs::rename(&aside, &path).expect("moved back");
    store.append("web", &decided("web", 2)).expect("written");
    drop(store);
    assert_eq!(cycles_read(&path), Ok(vec![1, 2]));
}

#[test]
fn every_store_has_its_own_identity_and_counts_its_starts() {
    let directory = directory();
    let (one, other) = (
        directory.path().join("one.db"),
        directory.path().join("other.db"),
    );
    let id = open(&one).store_id().to_owned();
    assert!(
        id.len() == 6 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
    assert_ne!(open(&other).store_id(), id);
    let again = open(&one);
    assert_eq!((again.store_id(), again.epoch()), (id.as_str(), Epoch(2)));
    assert_eq!(again.history().epoch().expect("read"), Epoch(2));
}

#[test]
fn every_commit_is_synced() {
    let directory = directory();
    let store = open(&directory.path().join("windlass.db"));
    let connection = &store.history.connection;
    let set = |name: &str| {
        connection
            .query_row(
                &format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}"),
                (),
                |row| row.get::<_, String>(0),
            )
            .expect("read")
    };
    assert_eq!(
        (set("journal_mode").as_str(), set("synchronous").as_str()),
        ("wal", "2")
    );
}

#[test]
fn a_full_disk_is_named_and_loses_nothing_written_before() {
    let directory = directory();
    let path = directory.path().join("windlass.db");
    let store = open(&path);
    let connection = &store.history.connection;
    let pages: i64 = connection
        .query_row("PRAGMA page_count", (), |row| row.get(0))
        .expect("counted");
    connection
        .pragma_update_and_check(None, "max_page_count", pages + 4, |_| Ok(()))
        .expect("limited");
    let written = (1..100)
        .take_while(|cycle| match store.append("web", &decided("web", *cycle)) {
            Ok(()) => true,
            Err(error) => {
                assert!(matches!(error, StoreError::Write(_)));
                assert!(
                    chain(&error).contains("the disk is full"),
                    "{}",
                    chain(&error)
                );
                false
            }
        })
        .count();
    assert!((1..99).contains(&written));
    drop(store);
    let kept = open(&path)
        .history()
        .decisions("web", Range::All)
        .expect("read")
        .count();
    assert_eq!(kept, written);
}

#[test]
fn files_that_are_no_stores_are_left_alone_and_named() {
    let directory = directory();
    let place = |name: &str| directory.path().join(name);
    fs::write(place("notes.txt"), "x".repeat(5_000)).expect("written");
    let customers = Connection::open(place("customers.db")).expect("opened");
    customers
        .execute_batch("CREATE TABLE customers (name TEXT)")
        .expect("made");
    drop(customers);
    open(&place("newer.db"))
        .history
        .connection
        .pragma_update(None, "user_version", 9)
        .expect("set");
    for (name, message) in [
        ("notes.txt", "notes.txt: it is not a windlass store"),
        ("customers.db", "customers.db: it is not a windlass store"),
        ("newer.db", "it has format 9"),
        ("nowhere/windlass.db", "nowhere is no directory"),
        ("", "it is a directory"),
        ("notes.txt/windlass.db", "notes.txt is no directory"),
    ] {
        let before = fs::read(place(name)).ok();
        let refused = refusal(&place(name));
        assert!(refused.contains(message), "{refused}");
        assert!(fs::read(place(name)).ok() == before, "{name} was changed");
    }
}

#[test]
fn what_would_not_read_back_is_not_written() {
    let directory = directory();
    let store = open(&directory.path().join("windlass.db"));
    let mut unreadable = decided_with("web", 1, Vec::new());
    let sample = Sample {
        value: f64::NAN,
        at: minute(1),
        completeness: Completeness::Complete,
    };
    unreadable
        .seen
        .readings
        .insert("latency", Reading::Present(sample));
    let error = store
        .append("web", &Record::Decided(Box::new(unreadable)))
        .expect_err("NaN");
    assert!(
        chain(&error).contains("would not read back"),
        "{}",
        chain(&error)
    );
    assert_eq!(store.tail("web").expect("read"), []);
}

#[test]
fn a_cycle_is_recorded_once_and_never_before_an_older_one() {
    let directory = directory();
    let store = open(&directory.path().join("windlass.db"));
    store.append("web", &decided("web", 5)).expect("written");
    for cycle in [4, 5] {
        let error = store
            .append("web", &decided("web", cycle))
            .expect_err("again");
        assert!(
            chain(&error).contains("is not after 5"),
            "{}",
            chain(&error)
        );
    }
    store
        .append("batch", &decided("batch", 5))
        .expect("another fleet counts for itself");
}

#[test]
fn pruning_goes_in_batches_and_spares_the_tail() {
    let directory = directory();
    let store = open(&directory.path().join("windlass.db"));
    // One transaction for all: this is about what goes, not about durability.
    let fill = |fleet: &str, cycles: std::ops::RangeInclusive<u64>| {
        let connection = &store.history.connection;
        connection
            .pragma_update(None, "synchronous", "OFF")
            .expect("set");
        for cycle in cycles {
            store
                .append(fleet, &decided(fleet, cycle))
                .expect("written");
            store
                .append(fleet, &acted(cycle, launch(fleet, cycle)))
                .expect("written");
        }
    };
    fill("web", 1..=700);
    fill("idle", 1..=3);
    // A late answer to an old action: part of the tail of `idle`.
    store.append("idle", &acted(1, fence(1))).expect("written");
    let tails = ["web", "idle"].map(|fleet| store.tail(fleet).expect("read"));

    let keep = Duration::from_mins(100);
    let first = store.prune(keep).expect("pruned");
    assert_eq!((first.decisions, first.more), (500, true));
    let second = store.prune(keep).expect("pruned");
    assert_eq!((second.decisions, second.more), (99, false));
    let nothing = store.prune(keep).expect("pruned");
    assert_eq!(
        nothing,
        Pruned {
            decisions: 0,
            actions: 0,
            more: false
        }
    );
    let kept: Vec<(String, u64)> = store
        .history()
        .fleets()
        .expect("read")
        .into_iter()
        .map(|fleet| (fleet.name, fleet.decisions))
        .collect();
    // A fleet is old by its own clock only: `idle` has not aged.
    assert_eq!(kept, [("idle".to_owned(), 3), ("web".to_owned(), 101)]);
    assert_eq!(
        ["web", "idle"].map(|fleet| store.tail(fleet).expect("read")),
        tails
    );

    // The next decision makes the late answer history, and it goes as well.
    store.append("idle", &decided("idle", 4)).expect("written");
    store.prune(Duration::ZERO).expect("pruned");
    store.prune(Duration::ZERO).expect("pruned");
    let left: i64 = store
        .history
        .connection
        .query_row("SELECT count(*) FROM actions", (), |row| row.get(0))
        .expect("counted");
    assert_eq!(left, 6, "three of each fleet's newest decision");
}

#[test]
fn plain_columns_can_be_read_in_the_shell() {
    let directory = directory();
    let store = open(&directory.path().join("windlass.db"));
    store.append("web", &decided("web", 1)).expect("written");
    store.append("web", &acted(1, fence(1))).expect("written");
    let connection = &store.history.connection;
    let row: String = connection
        .query_row(
            "SELECT concat_ws('|', fleet, cycle, at, epoch, current, wish, target, summary)
             FROM decisions",
            (),
            |row| row.get(0),
        )
        .expect("read");
    assert_eq!(row, "web|1|2026-07-01T00:01:00.000Z|1|3|9|6|3 -> 6");
    let mut statement = connection
        .prepare(
            "SELECT concat_ws('|', serial, action, planned_at, ifnull(outcome, 'NULL'), acted_at)
             FROM actions ORDER BY serial",
        )
        .expect("prepared");
    let rows: Vec<String> = statement
        .query_map((), |row| row.get(0))
        .expect("queried")
        .collect::<Result<_, _>>()
        .expect("read");
    assert_eq!(
        rows,
        [
            r#"0|{"launch":{"token":"0a1b2c-web-1-1-0","offering":"c7g.large","count":3}}|2026-07-01T00:01:00.000Z|NULL"#,
            r#"1|{"fence":{"instance":"i-1"}}|2026-07-01T00:01:00.000Z|{"failed":{"unknown":"time out"}}|2026-07-01T00:01:01.500Z"#,
            r#"2|{"fence":{"instance":"i-1"}}|2026-07-01T00:01:00.000Z|NULL"#,
        ]
    );
}
