//! What policies remember, from cycle to cycle and over a restart.

use std::time::Duration;

use windlass_policies::decide::decide;
use windlass_policies::memory::Memory;
use windlass_policies::model::{
    Action, Billing, Decision, Epoch, Instance, InstanceId, Listing, Market, Observation, Offering,
    Outcome, Phase, Work,
};
use windlass_policies::policy_file;
use windlass_policies::ports::{Decided, Record};
use windlass_policies::quote::Quotes;
use windlass_policies::signal::{Reading, Readings};
use windlass_policies::spec::{Drain, FleetSpec, Limits, Mix, Objective, Spot};
use windlass_policies::units::{MicroUsdPerHour, Timestamp};

const START: Timestamp = Timestamp::from_secs(100_000);

const NOMAD: &str = "kind = \"nomad_target_value\"\nsignal = \"backlog\"\ntarget = 10\n\
                     cooldown = \"1m\"";

fn minute(number: u64) -> Timestamp {
    START + Duration::from_mins(number)
}

/// A fleet with one policy, with no pace to keep.
fn fleet(policy: &str) -> FleetSpec {
    let file = policy_file::read(&format!("[[policy]]\n{policy}\n"));
    let file = file.unwrap_or_else(|problems| panic!("{}", problems.in_file("policy")));
    FleetSpec {
        name: "workers".to_owned(),
        interval: Duration::from_mins(1),
        offerings: vec![Offering {
            name: "large".to_owned(),
            price: MicroUsdPerHour::new(100_000),
            billing: Billing {
                increment: Duration::from_secs(1),
                minimum: Duration::from_mins(1),
            },
            slots: 1,
            market: Market::OnDemand,
            prepaid: 0,
        }],
        signals: file.signals,
        policies: file.policies,
        limits: Limits {
            observe_cycles: 0,
            ..Limits::unbound(0, 100)
        },
        mix: Mix::default(),
        spot: Spot::default(),
        drain: Drain::default(),
        objective: Objective::default(),
    }
}

/// `count` ready instances, of which the first `idle` have no job.
fn see(now: Timestamp, count: u32, idle: u32, readings: &[(&str, f64)]) -> Observation {
    let instances = (1..=count).map(|number| Instance {
        id: InstanceId::new(&format!("i-{number:03}")),
        offering: "large".to_owned(),
        token: None,
        launched_at: START,
        phase: Phase::Ready,
        fenced: false,
        work: if number <= idle {
            Work::Idle
        } else {
            Work::Busy
        },
        notice: None,
    });
    let mut read = Readings::new();
    for (name, value) in readings {
        read.insert(name, Reading::complete(*value, now));
    }
    Observation {
        now,
        fleet: Ok(Listing {
            instances: instances.collect(),
            complete: true,
        }),
        readings: read,
        prices: Quotes::new(),
    }
}

/// Decides, and remembers that.
fn cycle(spec: &FleetSpec, memory: &mut Memory, seen: &Observation) -> Decision {
    let decision = decide(spec, memory, seen);
    memory.look(spec, seen);
    memory.plan(&decision, seen);
    decision
}

fn fences(decision: &Decision) -> usize {
    let fences = decision.actions.iter();
    fences
        .filter(|action| matches!(action, Action::Fence { .. }))
        .count()
}

#[test]
fn what_is_desired_is_what_the_last_decision_was_to_make() {
    let spec = fleet(NOMAD);
    let mut memory = Memory::new("s", Epoch(1));
    let queue = [("backlog", 20.0)];
    let first = cycle(&spec, &mut memory, &see(minute(0), 4, 0, &queue));
    assert_eq!((first.current, first.target), (Some(4), Some(8)));
    // The four that were launched are not listed yet, and count.
    let second = cycle(&spec, &mut memory, &see(minute(1), 4, 0, &queue));
    assert_eq!((second.current, second.target), (Some(8), Some(16)));
    assert_eq!(memory.target, Some(16));
}

#[test]
fn a_rehearsal_brings_the_fleet_nowhere() {
    let spec = fleet(NOMAD);
    let mut memory = Memory::new("s", Epoch(1));
    for number in 0..3 {
        let seen = see(minute(number), 4, 0, &[("backlog", 20.0)]);
        let decision = cycle(&spec, &mut memory, &seen);
        assert_eq!(decision.target, Some(8), "minute {number}");
        for action in &decision.actions {
            memory.settle(seen.now, action, &Outcome::Rehearsed);
        }
    }
}

#[test]
fn between_its_periods_a_decision_stands() {
    let spec = fleet(&NOMAD.replace("1m", "5m"));
    let mut memory = Memory::new("s", Epoch(1));
    cycle(
        &spec,
        &mut memory,
        &see(minute(0), 4, 0, &[("backlog", 20.0)]),
    );
    let quiet = cycle(
        &spec,
        &mut memory,
        &see(minute(1), 8, 8, &[("backlog", 0.0)]),
    );
    assert_eq!(quiet.wish, Some(8));
    // Whatever becomes of the fleet meanwhile.
    let lost = cycle(
        &spec,
        &mut memory,
        &see(minute(2), 7, 7, &[("backlog", 0.0)]),
    );
    assert_eq!(lost.wish, Some(8));
    let over = cycle(
        &spec,
        &mut memory,
        &see(minute(5), 8, 8, &[("backlog", 0.0)]),
    );
    assert_eq!(over.wish, Some(0));
}

#[test]
fn idle_time_counts_from_when_it_was_first_seen() {
    let spec = fleet("kind = \"taskscaler\"\nidle_time = \"5m\"");
    let mut memory = Memory::new("s", Epoch(1));
    let jobs = [("backlog", 0.0), ("in_flight", 2.0)];
    for (number, idle, gone) in [
        (0, 2, 0),
        (4, 2, 0),
        // The second had a job in between, so it starts anew.
        (5, 1, 1),
    ] {
        let decision = cycle(&spec, &mut memory, &see(minute(number), 4, idle, &jobs));
        assert_eq!(fences(&decision), gone, "minute {number}");
    }
    assert_eq!(memory.lives.len(), 4);
}

#[test]
fn a_restart_repeats_the_notes() {
    let spec = fleet("kind = \"hpa\"\ntarget = 0.5");
    let mut memory = Memory::new("s", Epoch(1));
    for number in 0..6 {
        let load = [(
            "utilization",
            0.2 + 0.1 * f64::from(u32::try_from(number).expect("small")),
        )];
        let seen = see(minute(number), 4, 0, &load);
        let before = memory.clone();
        let decision = cycle(&spec, &mut memory, &seen);
        let record = Record::Decided(Box::new(Decided {
            memory: before,
            seen,
            decision,
            spec: spec.fingerprint(),
        }));
        let json = serde_json::to_string(&record).expect("plain data");
        let record = serde_json::from_str(&json).expect("as written");
        let again = Memory::rebuild(&spec, "s", Epoch(2), &[record]);
        assert_eq!(again.recalls, memory.recalls);
        assert_eq!(again.target, memory.target);
    }
}

#[test]
fn notes_that_cannot_be_read_are_forgotten() {
    let spec = fleet(NOMAD);
    let mut memory = Memory::new("s", Epoch(1));
    cycle(
        &spec,
        &mut memory,
        &see(minute(0), 4, 0, &[("backlog", 20.0)]),
    );
    let json = serde_json::to_string(&memory).expect("plain data");
    let newer = json.replace("\"nomad_target_value\":{", "\"tea_leaves\":{");
    assert_ne!(json, newer);
    let mut read: Memory = serde_json::from_str(&newer).expect("the rest is read");
    assert!(read.recalls.is_empty());
    assert_eq!(read.launches, memory.launches);
    // It begins anew, and so is not in a cooldown.
    let next = cycle(
        &spec,
        &mut read,
        &see(minute(0), 8, 0, &[("backlog", 20.0)]),
    );
    assert_eq!(next.wish, Some(16));
}

#[test]
fn notes_of_another_kind_are_dropped() {
    let (nomad, gitlab) = (fleet(NOMAD), fleet("kind = \"taskscaler\""));
    let mut memory = Memory::new("s", Epoch(1));
    cycle(
        &nomad,
        &mut memory,
        &see(minute(0), 4, 0, &[("backlog", 20.0)]),
    );
    let name = "taskscaler";
    let jobs = [("backlog", 1.0), ("in_flight", 4.0)];
    let decision = cycle(&gitlab, &mut memory, &see(minute(1), 8, 0, &jobs));
    // Eight are listed, and four of the launch are not.
    assert_eq!(decision.wish, Some(12));
    assert_eq!(memory.recalls.keys().collect::<Vec<_>>(), [name]);
    // A fleet whose policies remember nothing has no notes.
    let plain = fleet("kind = \"fixed\"\ninstances = 8");
    cycle(&plain, &mut memory, &see(minute(2), 8, 0, &[]));
    assert!(memory.recalls.is_empty() && memory.lives.is_empty());
}

#[test]
fn what_was_learnt_in_another_layout_is_forgotten() {
    let spec = fleet("kind = \"economic\"\npreset = \"balanced\"");
    let signals = [("backlog", 3.0), ("in_flight", 4.0), ("arrivals", 9.0)];
    let mut memory = Memory::new("s", Epoch(1));
    cycle(&spec, &mut memory, &see(minute(0), 4, 0, &signals));
    let json = serde_json::to_string(&memory).expect("plain data");
    for (same, layout) in [(true, "1"), (false, "0")] {
        let other = json.replace("\"version\":1", &format!("\"version\":{layout}"));
        let mut read: Memory = serde_json::from_str(&other).expect("the rest is read");
        cycle(&spec, &mut read, &see(minute(1), 4, 0, &signals));
        let mut went_on = memory.clone();
        cycle(&spec, &mut went_on, &see(minute(1), 4, 0, &signals));
        assert_eq!(read.recalls == went_on.recalls, same, "version {layout}");
    }
}
