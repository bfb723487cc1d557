use tempfile::TempDir;
use windlass_policies::memory::Memory;
use windlass_policies::model::{Decision, FleetError, InstanceId, Observation};
use windlass_policies::ports::Store as _;
use windlass_policies::quote::Quotes;
use windlass_policies::signal::Readings;

use super::*;
use crate::store::SqliteStore;

fn fence(number: u64) -> Action {
    Action::Fence {
        instance: InstanceId::new(&format!("i-{number}")),
    }
}

fn decided(cycle: u64, at: Timestamp) -> Record {
    let fleet = Err(FleetError::Throttled);
    Record::Decided(Box::new(Decided {
        memory: Memory::default(),
        seen: Observation {
            now: at,
            fleet,
            readings: Readings::new(),
            prices: Quotes::new(),
        },
        decision: Decision {
            epoch: Epoch(1),
            cycle,
            at,
            current: None,
            proposals: Vec::new(),
            wish: None,
            target: None,
            reasons: Vec::new(),
            actions: vec![fence(1), fence(2)],
        },
        spec: "spec".to_owned(),
    }))
}

/// A store with a decision of `web` at each of these times, in seconds.
fn store_with(times: &[u64]) -> (TempDir, SqliteStore) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = SqliteStore::open(&directory.path().join("odd name?#%.db"), Timestamp::EPOCH)
        .expect("opened");
    for (cycle, secs) in (1..).zip(times) {
        store
            .append("web", &decided(cycle, Timestamp::from_secs(*secs)))
            .expect("written");
    }
    (directory, store)
}

fn cycles(history: &History, fleet: &str, range: Range) -> Vec<u64> {
    history
        .decisions(fleet, range)
        .expect("read")
        .map(|entry| entry.expect("read").decided.decision.cycle)
        .collect()
}

#[test]
fn ranges_mean_what_they_say() {
    // The clock was set back between the third and the fourth.
    let (_directory, store) = store_with(&[100, 160, 220, 190, 250]);
    let at = |secs| Range::At(Timestamp::from_secs(secs));
    for (range, expected) in [
        (Range::All, vec![1, 2, 3, 4, 5]),
        (Range::Last(0), vec![]),
        (Range::Last(1), vec![5]),
        (Range::Last(3), vec![3, 4, 5]),
        (Range::Last(u32::MAX), vec![1, 2, 3, 4, 5]),
        (Range::From(4), vec![4, 5]),
        (Range::From(6), vec![]),
        (Range::From(u64::MAX), vec![]),
        (at(99), vec![]),
        (at(100), vec![1]),
        (at(159), vec![1]),
        (at(195), vec![4]),
        (at(230), vec![3]),
        (at(9_999), vec![5]),
    ] {
        assert_eq!(cycles(store.history(), "web", range), expected, "{range:?}");
        assert_eq!(
            cycles(store.history(), "nobody", range),
            [0; 0],
            "{range:?}"
        );
    }
}

#[test]
fn an_entry_tells_what_was_done_and_what_is_not_known() {
    let (_directory, store) = store_with(&[100]);
    let at = Timestamp::from_secs(101);
    let outcome = Outcome::Unfenced;
    let acted = Record::Acted {
        cycle: 1,
        at,
        action: fence(2),
        outcome: outcome.clone(),
    };
    let planned = Record::Planned {
        cycle: 1,
        action: fence(3),
        why: Some(Reason::CutToMax { max: 3 }),
    };
    for record in [&acted, &planned] {
        store.append("web", record).expect("written");
    }
    let mut entries = store.history().decisions("web", Range::All).expect("read");
    let entry = entries.next().expect("one").expect("read");
    assert!(entries.next().is_none());
    let done = |number, followed, answer| Done {
        action: fence(number),
        followed,
        why: followed.then_some(Reason::CutToMax { max: 3 }),
        answer,
    };
    assert_eq!(
        entry.done,
        [
            done(1, false, None),
            done(2, false, Some(Answer { at, outcome })),
            done(3, true, None),
        ]
    );
    assert_eq!(entry.after, [acted, planned]);
}

#[test]
fn readers_follow_a_running_daemon_and_change_nothing() {
    let (_directory, store) = store_with(&[100]);
    let reader = History::open(store.history().path()).expect("opened beside the writer");
    assert_eq!(cycles(&reader, "web", Range::All), [1]);
    let mut listed = reader.decisions("web", Range::All).expect("read");
    store
        .append("web", &decided(2, Timestamp::from_secs(160)))
        .expect("written");
    assert!(listed.next().is_some_and(|entry| entry.is_ok()));
    assert!(
        listed.next().is_none(),
        "a decision made after the question is no answer to it"
    );
    assert_eq!(cycles(&reader, "web", Range::All), [1, 2]);
    assert_eq!(
        reader.tail("web").expect("read"),
        store.tail("web").expect("read")
    );
    assert_eq!(reader.store_id().expect("read"), store.store_id());
    assert_eq!(reader.epoch().expect("read"), store.epoch());
    assert!(reader.size().expect("measured") > 0);
    reader
        .connection
        .execute("DELETE FROM decisions", ())
        .expect_err("a reader must not be able to write");
    let fleets = reader.fleets().expect("read");
    let expected = FleetHistory {
        name: "web".to_owned(),
        decisions: 2,
        first_at: Timestamp::from_secs(100),
        last_at: Timestamp::from_secs(160),
    };
    assert_eq!(fleets, [expected]);
}

#[test]
fn a_closed_store_in_a_directory_of_others_can_be_read() {
    let (_directory, store) = store_with(&[100, 160]);
    let path = store.history().path().to_owned();
    drop(store);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(unchanging(&path), flags).expect("opened");
    let history = History {
        connection,
        path: path.clone(),
    };
    assert_eq!(cycles(&history, "web", Range::All), [1, 2]);
    assert!(
        !beside(&path, "-shm").exists(),
        "reading it so leaves no file behind"
    );
}

#[test]
fn what_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = |name: &str| directory.path().join(name);
    std::fs::write(place("empty.db"), "").expect("written");
    std::fs::write(place("notes.txt"), "to do\n".repeat(900)).expect("written");
    for (name, message) in [
        ("missing.db", "there is no such file"),
        ("empty.db", "it is not a windlass store"),
        ("notes.txt", "it is not a windlass store"),
        ("", "it is a directory"),
    ] {
        let error = History::open(&place(name)).expect_err(name);
        let cause = error.cause.to_string();
        assert!(cause.contains(message), "{name}: {cause}");
    }
}
