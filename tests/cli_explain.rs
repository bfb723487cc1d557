//! `windlass explain` on a store written by the library, as a user sees it.

#![expect(
    clippy::needless_raw_string_hashes,
    reason = "expect-test writes them when it regenerates"
)]

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use expect_test::{Expect, expect};
use tempfile::TempDir;
use windlass::store::SqliteStore;
use windlass_policies::memory::Memory;
use windlass_policies::model::{
    Action, Decision, Direction, Epoch, FenceReceipt, FleetError, Instance, InstanceId,
    LaunchToken, Listing, Observation, Outcome, Phase, Proposal, Reason, Wish, Work,
};
use windlass_policies::ports::{Decided, Record, Store as _};
use windlass_policies::quote::{Quote, Quotes};
use windlass_policies::signal::{Absence, Completeness, Reading, Readings, Sample};
use windlass_policies::units::{MicroUsdPerHour, Timestamp};

/// 2026-07-01T00:00:00Z and so many seconds.
fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_782_864_000 + secs)
}

fn token() -> LaunchToken {
    LaunchToken::new("0a1b2c", "web", Epoch(1), 2, 0)
}

fn instance(id: &str, phase: Phase, work: Work) -> Instance {
    Instance {
        id: InstanceId::new(id),
        offering: "c7g.large".to_owned(),
        token: (id != "i-0").then(token),
        launched_at: at(60),
        phase,
        fenced: false,
        work,
        notice: None,
    }
}

fn listing(instances: &[(&str, Phase, Work)]) -> Listing {
    let instances = instances
        .iter()
        .map(|(id, phase, work)| instance(id, *phase, *work));
    Listing {
        instances: instances.collect(),
        complete: true,
    }
}

/// A cycle every minute, from which a test makes what it needs.
fn cycle(cycle: u64, fleet: Result<Listing, FleetError>) -> Decided {
    let now = at((cycle - 1) * 60);
    let known = fleet
        .as_ref()
        .ok()
        .map(|listing| u32::try_from(listing.instances.len()).expect("few"));
    Decided {
        memory: Memory::new("0a1b2c", Epoch(1)),
        seen: Observation {
            now,
            fleet,
            readings: Readings::new(),
            prices: Quotes::new(),
        },
        decision: Decision {
            epoch: Epoch(1),
            cycle,
            at: now,
            current: known,
            proposals: Vec::new(),
            wish: None,
            target: known,
            reasons: vec![Reason::AllAbstained],
            actions: Vec::new(),
        },
        spec: "0000000000000000".to_owned(),
    }
}

/// Cycle 2 wishes for nine, is cut to a step, and launches three.
fn launching() -> (Decided, Vec<Record>) {
    let mut decided = cycle(2, Ok(listing(&[("i-0", Phase::Ready, Work::Busy)])));
    let readings = &mut decided.seen.readings;
    readings.insert("backlog", Reading::complete(17.0, at(30)));
    let partial = Sample {
        value: 1.0 / 3.0,
        at: at(0),
        completeness: Completeness::Partial,
    };
    readings.insert("utilization", Reading::Present(partial));
    readings.insert("oldest_age", Reading::Absent(Absence::Stale { at: at(1) }));
    let launch = Action::Launch {
        token: token(),
        offering: "c7g.large".to_owned(),
        count: 3,
    };
    let proposal = |policy: &str, wish, why: &str| Proposal {
        policy: policy.to_owned(),
        wish,
        why: why.to_owned(),
    };
    let decision = &mut decided.decision;
    decision.proposals = vec![
        proposal(
            "jobs-at-hand",
            Wish::Instances(9),
            "17 jobs at 2 an instance",
        ),
        proposal("age", Wish::Abstain(Absence::NoData), "oldest_age is stale"),
    ];
    decision.wish = Some(9);
    decision.target = Some(4);
    decision.reasons = vec![
        Reason::Followed {
            policy: "jobs-at-hand".to_owned(),
        },
        Reason::CutToStep {
            direction: Direction::Grow,
            step: 3,
        },
    ];
    decision.actions = vec![launch.clone()];
    let instances = ["i-1", "i-2", "i-3"].map(InstanceId::new).to_vec();
    let answered = decided.decision.at + Duration::from_millis(840);
    let acted = Record::Acted {
        cycle: 2,
        at: answered,
        action: launch,
        outcome: Outcome::Launched { instances },
    };
    (decided, vec![acted])
}

/// Cycle 6 of another fleet: what spot does not grant is bought on demand.
fn buying_elsewhere() -> (Decided, Vec<Record>) {
    let mut decided = cycle(6, Ok(listing(&[])));
    let quote = Quote {
        price: MicroUsdPerHour::new(31_200),
        read_at: at(0),
    };
    decided.seen.prices = [("spot".to_owned(), quote)].into();
    let launch = |serial, offering: &str, count| Action::Launch {
        token: LaunchToken::new("s", "mixed", Epoch(1), 6, serial),
        offering: offering.to_owned(),
        count,
    };
    let asked = launch(0, "spot", 3);
    decided.decision.actions = vec![asked.clone()];
    decided.decision.target = Some(3);
    let why = Reason::BoughtElsewhere {
        missing: 2,
        of: "spot".to_owned(),
        count: 2,
        instead: "on-demand".to_owned(),
    };
    let instead = launch(1, "on-demand", 2);
    let acted = |action, count| Record::Acted {
        cycle: 6,
        at: at(301),
        action,
        outcome: Outcome::Granted { count },
    };
    let planned = Record::Planned {
        cycle: 6,
        action: instead.clone(),
        why: Some(why),
    };
    (decided, vec![acted(asked, 1), planned, acted(instead, 2)])
}

/// Cycle 5 lets one go: fenced, then ended within the cycle; the crash came
/// before the answer.
fn shrinking() -> (Decided, Vec<Record>) {
    let mut decided = cycle(
        5,
        Ok(listing(&[
            ("i-0", Phase::Ready, Work::Idle),
            ("i-1", Phase::Ready, Work::Busy),
            ("i-2", Phase::Ready, Work::Unknown),
        ])),
    );
    let instance = InstanceId::new("i-0");
    let fence = Action::Fence {
        instance: instance.clone(),
    };
    decided.decision.actions = vec![fence.clone()];
    decided.decision.target = Some(2);
    decided.decision.reasons = vec![Reason::Followed {
        policy: "jobs-at-hand".to_owned(),
    }];
    let receipt: FenceReceipt = serde_json::from_value(
        serde_json::json!({ "fenced_at": at(241), "grounds": "confirmed_idle" }),
    )
    .expect("a receipt");
    let outcome = Outcome::Fenced { work: Work::Idle };
    let records = vec![
        Record::Acted {
            cycle: 5,
            at: at(241),
            action: fence,
            outcome,
        },
        Record::Planned {
            cycle: 5,
            action: Action::Terminate { instance, receipt },
            why: None,
        },
    ];
    (decided, records)
}

/// A store with the history of `web` and the beginning of `batch`, and the
/// configuration that names it.
fn written() -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path();
    fs::write(path.join("fleets.toml"), "[store]\npath = \"history.db\"\n").expect("written");
    let store = SqliteStore::open(&path.join("history.db"), at(0)).expect("opened");
    let append = |fleet: &str, decided: Decided, more: &[Record]| {
        store
            .append(fleet, &Record::Decided(Box::new(decided)))
            .expect("written");
        for record in more {
            store.append(fleet, record).expect("written");
        }
    };
    let (launching, launched) = launching();
    let (shrinking, shrunk) = shrinking();
    let booting = [
        ("i-0", Phase::Ready, Work::Busy),
        ("i-1", Phase::Booting, Work::Unknown),
        ("i-2", Phase::Booting, Work::Unknown),
    ];
    let ready = [
        ("i-0", Phase::Ready, Work::Busy),
        ("i-1", Phase::Ready, Work::Busy),
        ("i-2", Phase::Booting, Work::Unknown),
    ];
    append("web", cycle(1, Err(FleetError::Throttled)), &[]);
    append("web", launching, &launched);
    append("web", cycle(3, Ok(listing(&booting))), &[]);
    append("web", cycle(4, Ok(listing(&ready))), &[]);
    append("web", shrinking, &shrunk);
    append(
        "batch",
        cycle(
            4,
            Ok(Listing {
                instances: Vec::new(),
                complete: false,
            }),
        ),
        &[],
    );
    directory
}

fn windlass(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_windlass"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("WINDLASS_LOG")
        .output()
        .expect("started")
}

/// Runs `windlass explain --config fleets.toml` with more arguments and shows
/// everything that comes out.
fn check(folder: &Path, arguments: &[&str], expected: &Expect) {
    let all = [&["explain", "--config", "fleets.toml"], arguments].concat();
    expected.assert_eq(&shown(&windlass(folder, &all), folder));
}

fn shown(output: &Output, folder: &Path) -> String {
    let text = |bytes: &[u8]| {
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        text.replace(&folder.display().to_string(), "FOLDER")
    };
    format!(
        "{}{}exit {}\n",
        text(&output.stdout),
        text(&output.stderr),
        output.status.code().expect("no signal")
    )
}

#[test]
fn prices_are_told_and_why_something_was_bought_elsewhere() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path();
    fs::write(path.join("fleets.toml"), "[store]\npath = \"history.db\"\n").expect("written");
    let store = SqliteStore::open(&path.join("history.db"), at(0)).expect("opened");
    let (decided, more) = buying_elsewhere();
    let decided = Record::Decided(Box::new(decided));
    for record in [&decided].into_iter().chain(&more) {
        store.append("mixed", record).expect("written");
    }
    drop(store);
    check(
        path,
        &[],
        &expect![[r#"
            2026-07-01T00:05:00Z  mixed, cycle 6, epoch 1
              seen    0 instances
                      spot costs $0.0312 an hour, read 5 min before
              cut     every policy abstained, so the fleet is held
              target  3, from 0
              done    launch 3 spot (s-mixed-1-6-0): 1 to come, after 1 s
                      then launch 2 on-demand (s-mixed-1-6-1): 2 to come, after 1 s; 2 not granted by spot, so 2 asked of on-demand
              later   of 1 launched: 1 not seen yet
                      of 2 launched: 2 not seen yet
            exit 0
        "#]],
    );
    let raw = windlass(
        path,
        &["explain", "--config", "fleets.toml", "--format", "json"],
    );
    let raw = String::from_utf8(raw.stdout).expect("text");
    for told in [
        r#""why":{"bought_elsewhere":{"missing":2,"of":"spot","count":2,"instead":"on-demand"}}"#,
        r#""prices":{"spot":{"price":31200,"#,
    ] {
        assert!(raw.contains(told), "{told} in {raw}");
    }
}

#[test]
fn a_decision_is_explained_from_sight_to_outcome() {
    let folder = written();
    check(
        folder.path(),
        &["--fleet", "web", "--last", "4"],
        &expect![[r#"
            2026-07-01T00:01:00Z  web, cycle 2, epoch 1
              seen    1 instance: 1 ready (1 busy)
                      backlog      17, 30 s old
                      oldest_age   absent: stale since 2026-07-01T00:00:01Z
                      utilization  0.3333, 60 s old, incomplete: may be more
              wished  jobs-at-hand  9: 17 jobs at 2 an instance
                      age           abstains: oldest_age is stale
              cut     following jobs-at-hand
                      cut to a step of 3 (grow)
              target  4, from 1
              done    launch 3 c7g.large (0a1b2c-web-1-2-0): 3 launched, after 0.8 s
              later   of 3 launched: 2 became ready after 2 min to 3 min, 1 not seen yet

            2026-07-01T00:02:00Z  web, cycle 3, epoch 1
              seen    3 instances: 1 ready (1 busy), 2 booting
              cut     every policy abstained, so the fleet is held
              target  3, as it is

            2026-07-01T00:03:00Z  web, cycle 4, epoch 1
              seen    3 instances: 2 ready (2 busy), 1 booting
              cut     every policy abstained, so the fleet is held
              target  3, as it is

            2026-07-01T00:04:00Z  web, cycle 5, epoch 1
              seen    3 instances: 3 ready (1 idle, 1 busy, 1 unknown)
              cut     following jobs-at-hand
              target  2, from 3
              done    fence i-0: fenced, idle, after 1 s
                      then end i-0, fenced and idle: no answer recorded
            exit 0
        "#]],
    );
}

#[test]
fn newest_decision_of_every_fleet_is_explained_by_default() {
    let folder = written();
    check(
        folder.path(),
        &[],
        &expect![[r#"
        2026-07-01T00:03:00Z  batch, cycle 4, epoch 1
          seen    0 instances; the listing is incomplete
          cut     every policy abstained, so the fleet is held
          target  0, as it is

        2026-07-01T00:04:00Z  web, cycle 5, epoch 1
          seen    3 instances: 3 ready (1 idle, 1 busy, 1 unknown)
          cut     following jobs-at-hand
          target  2, from 3
          done    fence i-0: fenced, idle, after 1 s
                  then end i-0, fenced and idle: no answer recorded
        exit 0
    "#]],
    );
}

#[test]
fn decision_in_force_at_a_time_is_found() {
    let folder = written();
    check(
        folder.path(),
        &["--at", "2026-07-01T02:00:30+02:00"],
        &expect![[r#"
            2026-07-01T00:00:00Z  web, cycle 1, epoch 1
              seen    no listing: throttled
              cut     every policy abstained, so the fleet is held
              target  none: nothing changes
            exit 0
        "#]],
    );
    check(
        folder.path(),
        &["--at", "2026-06-30T23:59:59Z"],
        &expect![[r#"
            windlass: nothing was decided at 2026-06-30T23:59:59Z or before; the history begins with batch at 2026-07-01T00:03:00Z, web at 2026-07-01T00:00:00Z
            exit 64
        "#]],
    );
    check(
        folder.path(),
        &["--fleet", "web", "--at", "2026-06-30T23:59:59Z"],
        &expect![[r#"
            windlass: nothing was decided at 2026-06-30T23:59:59Z or before; the history begins with web at 2026-07-01T00:00:00Z
            exit 64
        "#]],
    );
}

#[test]
fn raw_records_come_as_json() {
    let folder = written();
    let arguments = [
        "explain",
        "--config",
        "fleets.toml",
        "--last",
        "9",
        "--format",
        "json",
    ];
    let output = windlass(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(0));
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let fleets: Vec<&str> = rows
        .iter()
        .filter_map(|row| row["fleet"].as_str())
        .collect();
    assert_eq!(fleets, ["batch", "web", "web", "web", "web", "web"]);
    let records = |row: usize| {
        serde_json::from_value::<Vec<Record>>(rows[row]["records"].clone()).expect("records")
    };
    let expected = |(decided, mut more): (Decided, Vec<Record>)| {
        more.insert(0, Record::Decided(Box::new(decided)));
        more
    };
    assert_eq!(records(2), expected(launching()));
    assert_eq!(records(5), expected(shrinking()));
}

#[test]
fn what_cannot_be_explained_is_said() {
    let folder = written();
    check(
        folder.path(),
        &["--fleet", "wbe"],
        &expect![[r#"
        windlass: there is no decision of a fleet `wbe` in history.db; it has those of batch, web
        exit 64
    "#]],
    );
    check(
        folder.path(),
        &["--last", "0"],
        &expect![[r#"
        error: invalid value '0' for '--last <N>': 0 is not in 1..=4294967295

        For more information, try '--help'.
        exit 64
    "#]],
    );
    check(
        folder.path(),
        &["--at", "yesterday"],
        &expect![[r#"
        error: invalid value 'yesterday' for '--at <TIME>': `yesterday` is not a time such as "2026-03-29T01:30:00Z" (RFC 3339)

        For more information, try '--help'.
        exit 64
    "#]],
    );
    check(
        folder.path(),
        &["--at", "2026-07-01T00:00:00Z", "--last", "2"],
        &expect![[r#"
            error: the argument '--at <TIME>' cannot be used with '--last <N>'

            Usage: windlass explain --config <FILE> --at <TIME>

            For more information, try '--help'.
            exit 64
        "#]],
    );

    let place = folder.path();
    fs::write(place.join("fleets.toml"), "[store]\npath = \"other.db\"\n").expect("written");
    check(
        place,
        &[],
        &expect![[r#"
        windlass: cannot open the store other.db: there is no such file; `windlass run` makes it when it starts
        exit 69
    "#]],
    );
    drop(SqliteStore::open(&place.join("other.db"), at(0)).expect("opened"));
    check(
        place,
        &[],
        &expect![[r#"
        windlass: there is no decision in other.db yet; `windlass run` writes them
        exit 69
    "#]],
    );
    fs::write(
        place.join("other.db"),
        "no store at all, but long enough to look at",
    )
    .expect("cut");
    check(
        place,
        &[],
        &expect![[r#"
        windlass: cannot open the store other.db: it is not a windlass store; name another file
        exit 69
    "#]],
    );
    fs::write(place.join("fleets.toml"), "[store]\npath = 7\n").expect("written");
    check(
        place,
        &[],
        &expect![[r#"
        windlass: fleets.toml: store.path: give the path of a file, in quotes
        exit 64
    "#]],
    );
    fs::remove_file(place.join("fleets.toml")).expect("removed");
    check(
        place,
        &[],
        &expect![[r#"
        windlass: cannot read fleets.toml: No such file or directory (os error 2)
        exit 66
    "#]],
    );
}

#[test]
fn readers_that_stop_early_hear_no_complaint() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    fs::write(folder.path().join("fleets.toml"), "").expect("written");
    let store = SqliteStore::open(&folder.path().join("windlass.db"), at(0)).expect("opened");
    // More than a pipe holds, so that the writer does meet the closed end.
    let instances: Vec<Instance> = (100..900)
        .map(|number| instance(&format!("i-{number}"), Phase::Ready, Work::Idle))
        .collect();
    let decided = cycle(
        1,
        Ok(Listing {
            instances,
            complete: true,
        }),
    );
    store
        .append("web", &Record::Decided(Box::new(decided)))
        .expect("written");
    // The daemon still has the store open.
    let mut child = Command::new(env!("CARGO_BIN_EXE_windlass"))
        .args(["explain", "--config", "fleets.toml", "--format", "json"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut first = [0; 10];
    let mut pipe = child.stdout.take().expect("piped");
    pipe.read_exact(&mut first).expect("read");
    drop(pipe);
    let output = child.wait_with_output().expect("ended");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}
