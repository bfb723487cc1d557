//! What one cycle decides: a table a person can read, and properties that hold
//! whatever is seen and however actions come out.

use std::collections::BTreeSet;
use std::time::Duration;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use windlass_policies::decide::decide;
use windlass_policies::memory::Memory;
use windlass_policies::model::{
    Action, Billing, Decision, Epoch, FleetError, Instance, InstanceId, LaunchToken, Listing,
    Market, Observation, Offering, Outcome, Phase, Reason, Wish, Work,
};
use windlass_policies::policy::{Fixed, NamedPolicy, Policy, QueueBacklog};
use windlass_policies::quote::Quotes;
use windlass_policies::signal::{Absence, Reading, Readings, SignalKind, SignalSpec};
use windlass_policies::spec::{Drain, FleetSpec, Limits, Mix, Objective, Spot, Strays};
use windlass_policies::units::{MicroUsdPerHour, Timestamp};

const NOW: Timestamp = Timestamp::from_secs(100_000);

fn backlog_policy() -> NamedPolicy {
    NamedPolicy {
        name: "queue_backlog".to_owned(),
        policy: Policy::QueueBacklog(QueueBacklog::new(1.0)),
    }
}

fn spec(policies: Vec<NamedPolicy>) -> FleetSpec {
    let signal = |name: &str| SignalSpec {
        name: name.to_owned(),
        kind: SignalKind::Total,
        max_age: Duration::from_mins(5),
    };
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
        signals: vec![signal("backlog"), signal("in_flight")],
        policies,
        limits: Limits {
            min: 1,
            max: 10,
            max_usd_per_hour: MicroUsdPerHour::new(800_000),
            grow_step_max: 4,
            shrink_step_max: 3,
            grow_settle: Duration::ZERO,
            shrink_settle: Duration::from_mins(5),
            shrink_percent_per_hour_max: 100,
            boot_timeout: Duration::from_mins(15),
            breaker_failures: 3,
            observe_cycles: 0,
            listing_patience: Duration::from_mins(10),
            strays: Strays::Adopt,
            strays_confirmations: Limits::STRAYS_CONFIRMATIONS,
        },
        mix: Mix::default(),
        spot: Spot::default(),
        drain: Drain {
            deadline: Some(Duration::from_hours(1)),
            busy: true,
        },
        objective: Objective::default(),
    }
}

fn readings(backlog: Option<f64>, in_flight: Option<f64>) -> Readings {
    readings_at(NOW, backlog, in_flight)
}

fn readings_at(at: Timestamp, backlog: Option<f64>, in_flight: Option<f64>) -> Readings {
    let mut readings = Readings::new();
    for (name, value) in [("backlog", backlog), ("in_flight", in_flight)] {
        let absent = Reading::Absent(Absence::NoData);
        readings.insert(
            name,
            value.map_or(absent, |value| Reading::complete(value, at)),
        );
    }
    readings
}

fn instance(number: u32, phase: Phase, work: Work) -> Instance {
    Instance {
        id: InstanceId::new(&format!("i-{number:03}")),
        offering: "large".to_owned(),
        token: None,
        launched_at: NOW - Duration::from_mins(10),
        phase,
        fenced: false,
        work,
        notice: None,
    }
}

/// A complete listing of so many idle, busy and booting instances.
fn listing(idle: u32, busy: u32, booting: u32) -> Listing {
    let phases = std::iter::repeat_n((Phase::Ready, Work::Idle), idle as usize)
        .chain(std::iter::repeat_n(
            (Phase::Ready, Work::Busy),
            busy as usize,
        ))
        .chain(std::iter::repeat_n(
            (Phase::Booting, Work::Idle),
            booting as usize,
        ));
    let instances = (1..)
        .zip(phases)
        .map(|(number, (phase, work))| instance(number, phase, work));
    Listing {
        instances: instances.collect(),
        complete: true,
    }
}

fn see(fleet: Result<Listing, FleetError>, readings: Readings) -> Observation {
    Observation {
        now: NOW,
        fleet,
        readings,
        prices: Quotes::new(),
    }
}

fn told(decision: &Decision) -> String {
    let size = |count: Option<u32>| count.map_or("?".to_owned(), |count| count.to_string());
    let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
    let actions: Vec<String> = decision.actions.iter().map(ToString::to_string).collect();
    format!(
        "{} -> {} | {} | {}",
        size(decision.current),
        size(decision.target),
        reasons.join("; "),
        actions.join("; ")
    )
}

#[test]
fn one_cycle() {
    // idle, busy, booting; backlog, in flight
    let check = |fleet: (u32, u32, u32), seen: (Option<f64>, Option<f64>), expected: Expect| {
        let spec = spec(vec![backlog_policy()]);
        let memory = Memory::new("s1", Epoch(7));
        let seen = see(
            Ok(listing(fleet.0, fleet.1, fleet.2)),
            readings(seen.0, seen.1),
        );
        expected.assert_eq(&told(&decide(&spec, &memory, &seen)));
    };
    check(
        (1, 2, 0),
        (Some(0.0), Some(3.0)),
        expect!["3 -> 3 | following queue_backlog | "],
    );
    check(
        (0, 3, 0),
        (Some(2.0), Some(3.0)),
        expect!["3 -> 5 | following queue_backlog | launch 2 large (s1-workers-7-1-0)"],
    );
    check(
        (0, 3, 0),
        (Some(20.0), Some(3.0)),
        expect![
            "3 -> 7 | following queue_backlog; cut to max 10; cut to a step of 4 (grow) | launch 4 large (s1-workers-7-1-0)"
        ],
    );
    // Booting ones count; eight is what the money pays for.
    check(
        (0, 3, 4),
        (Some(20.0), Some(3.0)),
        expect![
            "7 -> 8 | following queue_backlog; cut to max 10; cut to 8, what $0.80 an hour pays for | launch 1 large (s1-workers-7-1-0)"
        ],
    );
    // Idle ones first, then booting ones; busy ones only if nothing else is left.
    check(
        (2, 1, 1),
        (Some(0.0), Some(1.0)),
        expect!["4 -> 1 | following queue_backlog | fence i-001; fence i-002; fence i-004"],
    );
    check(
        (0, 3, 0),
        (Some(0.0), Some(1.0)),
        expect!["3 -> 1 | following queue_backlog | fence i-001; fence i-002"],
    );
    check(
        (3, 0, 0),
        (Some(0.0), Some(0.0)),
        expect!["3 -> 1 | following queue_backlog; raised to min 1 | fence i-001; fence i-002"],
    );
    check(
        (3, 0, 0),
        (None, Some(0.0)),
        expect!["3 -> 3 | every policy abstained, so the fleet is held | "],
    );
    check(
        (0, 0, 0),
        (None, None),
        expect![
            "0 -> 1 | every policy abstained, so the fleet is held; raised to min 1 | launch 1 large (s1-workers-7-1-0)"
        ],
    );
}

#[test]
fn blind_means_hold() {
    let spec = spec(vec![backlog_policy()]);
    let memory = Memory::new("s1", Epoch(7));
    let plenty = || readings(Some(9.0), Some(9.0));
    let incomplete = Listing {
        complete: false,
        ..listing(3, 0, 0)
    };
    expect!["? -> ? | blind, so nothing changes: the listing is incomplete | "].assert_eq(&told(
        &decide(&spec, &memory, &see(Ok(incomplete), plenty())),
    ));
    expect!["? -> ? | blind, so nothing changes: throttled | "].assert_eq(&told(&decide(
        &spec,
        &memory,
        &see(Err(FleetError::Throttled), plenty()),
    )));
}

#[test]
fn nothing_changes_after_a_start_until_listings_agree() {
    let mut spec = spec(vec![backlog_policy()]);
    spec.limits.observe_cycles = 2;
    let mut memory = Memory::new("s1", Epoch(7));
    let mut step = |listing: Listing| {
        let seen = see(Ok(listing), readings(Some(9.0), Some(0.0)));
        let decision = decide(&spec, &memory, &seen);
        memory.look(&spec, &seen);
        memory.plan(&decision, &seen);
        decision.actions.len()
    };
    assert_eq!(step(listing(2, 0, 0)), 0);
    // One has gone: who knows what else is missing.
    assert_eq!(step(listing(1, 0, 0)), 0);
    assert_eq!(step(listing(1, 0, 0)), 1);
}

#[test]
fn drained_instances_are_rescued_before_new_ones_are_bought() {
    let spec = spec(vec![backlog_policy()]);
    let mut memory = Memory::new("s1", Epoch(7));
    let seen = see(Ok(listing(0, 3, 0)), readings(Some(0.0), Some(1.0)));
    let decision = decide(&spec, &memory, &seen);
    memory.look(&spec, &seen);
    memory.plan(&decision, &seen);
    for action in &decision.actions {
        memory.settle(NOW, action, &Outcome::Fenced { work: Work::Busy });
    }
    let mut fenced = listing(0, 3, 0);
    fenced.instances[0].fenced = true;
    fenced.instances[1].fenced = true;
    // Busy still: it waits.
    let calm = see(Ok(fenced.clone()), readings(Some(0.0), Some(1.0)));
    expect!["1 -> 1 | following queue_backlog | "].assert_eq(&told(&decide(&spec, &memory, &calm)));
    // Idle now: it ends.
    let mut done = fenced.clone();
    done.instances[0].work = Work::Idle;
    let done = see(Ok(done), readings(Some(0.0), Some(1.0)));
    expect!["1 -> 1 | following queue_backlog | end i-001, fenced and idle"]
        .assert_eq(&told(&decide(&spec, &memory, &done)));
    // Needed again: both go back to work, and one is bought.
    let rush = see(Ok(fenced), readings(Some(3.0), Some(1.0)));
    expect!["1 -> 4 | following queue_backlog; 2 rescued from draining | unfence i-001; unfence i-002; launch 1 large (s1-workers-7-2-0)"]
        .assert_eq(&told(&decide(&spec, &memory, &rush)));
}

#[test]
fn what_the_provider_does_not_find_is_no_capacity() {
    let spec = spec(vec![backlog_policy()]);
    let mut memory = Memory::new("s1", Epoch(7));
    let calm = see(Ok(listing(0, 2, 0)), readings(Some(0.0), Some(1.0)));
    let decision = decide(&spec, &memory, &calm);
    memory.look(&spec, &calm);
    memory.plan(&decision, &calm);
    for action in &decision.actions {
        memory.settle(NOW, action, &Outcome::Failed(FleetError::NotFound));
    }
    // The listing is late and still shows it.
    let rush = see(Ok(listing(0, 2, 0)), readings(Some(2.0), Some(1.0)));
    expect!["1 -> 3 | following queue_backlog | launch 2 large (s1-workers-7-2-0)"]
        .assert_eq(&told(&decide(&spec, &memory, &rush)));
}

#[test]
fn a_lost_answer_is_asked_for_again_and_counts_meanwhile() {
    let spec = spec(vec![backlog_policy()]);
    let mut memory = Memory::new("s1", Epoch(7));
    let seen = see(Ok(listing(0, 1, 0)), readings(Some(2.0), Some(1.0)));
    let mut step = |outcome: Outcome| {
        let decision = decide(&spec, &memory, &seen);
        memory.look(&spec, &seen);
        memory.plan(&decision, &seen);
        for action in &decision.actions {
            memory.settle(NOW, action, &outcome);
        }
        told(&decision)
    };
    let lost = || Outcome::Failed(FleetError::Unknown("timeout".to_owned()));
    expect!["1 -> 3 | following queue_backlog | launch 2 large (s1-workers-7-1-0)"]
        .assert_eq(&step(lost()));
    expect!["3 -> 3 | following queue_backlog; asking again for s1-workers-7-1-0 | launch 2 large (s1-workers-7-1-0)"]
        .assert_eq(&step(Outcome::Failed(FleetError::Throttled)));
    expect!["3 -> 3 | following queue_backlog; asking again for s1-workers-7-1-0 | launch 2 large (s1-workers-7-1-0)"]
        .assert_eq(&step(lost()));
    // Asked often enough: now only a listing can tell.
    expect!["3 -> 3 | following queue_backlog | "].assert_eq(&step(lost()));
}

#[test]
fn the_breaker_opens_after_fruitless_boots_and_probes_with_one() {
    let spec = spec(vec![NamedPolicy {
        name: "fixed".to_owned(),
        policy: Policy::Fixed(Fixed { instances: 5 }),
    }]);
    let mut memory = Memory::new("s1", Epoch(7));
    let mut stuck = listing(0, 0, 4);
    for instance in &mut stuck.instances {
        instance.launched_at = NOW - Duration::from_mins(16);
    }
    let seen = see(Ok(stuck), Readings::new());
    let decision = decide(&spec, &memory, &seen);
    expect!["0 -> 1 | following fixed; cut to a step of 4 (grow); breaker open: 4 launched instances never became ready; probing with one; 4 never became ready in time | launch 1 large (s1-workers-7-1-0); fence i-001; fence i-002; fence i-003; fence i-004"]
        .assert_eq(&told(&decision));
    memory.look(&spec, &seen);
    memory.plan(&decision, &seen);
    // The probe is under way: nothing more.
    let next = decide(&spec, &memory, &see(Ok(listing(0, 0, 0)), Readings::new()));
    expect!["1 -> 1 | following fixed; breaker open: 4 launched instances never became ready; launching nothing | "]
        .assert_eq(&told(&next));
    // It becomes ready: all is forgiven.
    let Action::Launch { token, .. } = &decision.actions[0] else {
        panic!("a launch")
    };
    let mut ready = listing(1, 0, 0);
    ready.instances[0].id = InstanceId::new("i-009");
    ready.instances[0].token = Some(token.clone());
    let healed = decide(&spec, &memory, &see(Ok(ready), Readings::new()));
    expect!["1 -> 5 | following fixed | launch 4 large (s1-workers-7-2-0)"]
        .assert_eq(&told(&healed));
}

/// Everything a world could answer, sensible or not.
#[derive(Clone, Debug)]
struct Weather {
    backlog: Option<f64>,
    in_flight: Option<f64>,
    complete: bool,
    fails: bool,
    instances: Vec<(u32, Phase, Work, bool, bool)>,
    outcomes: Vec<u8>,
}

fn weather() -> impl Strategy<Value = Weather> {
    let number = || {
        prop_oneof![
            1 => Just(None),
            4 => (0..40_u32).prop_map(|count| Some(f64::from(count))),
        ]
    };
    let phase = prop_oneof![
        Just(Phase::Booting),
        Just(Phase::Ready),
        Just(Phase::Ending)
    ];
    let work = prop_oneof![Just(Work::Idle), Just(Work::Busy), Just(Work::Unknown)];
    let one = (0..14_u32, phase, work, any::<bool>(), any::<bool>());
    (
        number(),
        number(),
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.1),
        prop::collection::vec(one, 0..14),
        prop::collection::vec(0..6_u8, 1..20),
    )
        .prop_map(
            |(backlog, in_flight, complete, fails, instances, outcomes)| Weather {
                backlog,
                in_flight,
                complete,
                fails,
                instances,
                outcomes,
            },
        )
}

fn listed(
    weather: &Weather,
    tokens: &[LaunchToken],
    now: Timestamp,
) -> Result<Listing, FleetError> {
    if weather.fails {
        return Err(FleetError::Throttled);
    }
    let mut instances: Vec<Instance> = weather
        .instances
        .iter()
        .map(|(number, phase, work, fenced, tokened)| Instance {
            token: tokens.get(*number as usize).filter(|_| *tokened).cloned(),
            launched_at: now - Duration::from_mins(u64::from(*number) * 2),
            fenced: *fenced,
            ..instance(*number, *phase, *work)
        })
        .collect();
    instances.sort_by(|one, other| one.id.cmp(&other.id));
    instances.dedup_by(|one, other| one.id == other.id);
    Ok(Listing {
        instances,
        complete: weather.complete,
    })
}

fn outcome(action: &Action, dice: u8) -> Outcome {
    match dice {
        0 => Outcome::Failed(FleetError::Unknown("lost".to_owned())),
        1 => Outcome::Failed(FleetError::Throttled),
        _ => match action {
            Action::Launch { count, token, .. } => Outcome::Launched {
                instances: (0..*count)
                    .skip(usize::from(dice == 2))
                    .map(|number| InstanceId::new(&format!("i-{token}-{number}")))
                    .collect(),
            },
            Action::Fence { .. } => Outcome::Fenced {
                work: if dice == 3 { Work::Busy } else { Work::Idle },
            },
            Action::Unfence { .. } => Outcome::Unfenced,
            Action::Terminate { .. } => Outcome::Terminated,
        },
    }
}

/// What must be true of a decision, counted from what was seen and remembered.
fn check(spec: &FleetSpec, before: &Memory, seen: &Observation, decision: &Decision) {
    let refused = decision
        .reasons
        .iter()
        .any(|reason| matches!(reason, Reason::Refused { .. }));
    assert!(!refused, "{decision:#?}");
    let Ok(listing) = &seen.fleet else {
        assert!(decision.actions.is_empty());
        return;
    };
    if !listing.complete {
        assert!(decision.actions.is_empty());
        return;
    }
    let mut memory = before.clone();
    memory.look(spec, seen);
    let alive = listing
        .instances
        .iter()
        .filter(|one| one.phase != Phase::Ending && !memory.ended.contains_key(&one.id))
        .count();
    let fresh: u32 = decision
        .actions
        .iter()
        .map(|action| match action {
            Action::Launch { token, count, .. } if !memory.launches.contains_key(token) => *count,
            _ => 0,
        })
        .sum();
    let total = u32::try_from(alive).expect("few") + memory.unlisted() + fresh;
    if fresh > 0 {
        assert!(total <= spec.limits.max, "{total} instances");
        assert!(
            u64::from(total) * 100_000 <= spec.limits.max_usd_per_hour.get(),
            "{total} paid"
        );
        assert!(fresh <= spec.limits.grow_step_max);
    }
    let abstained = decision
        .proposals
        .iter()
        .any(|one| matches!(one.wish, Wish::Abstain(_)));
    let ends = decision
        .actions
        .iter()
        .filter(|action| match action {
            // What never became ready is no capacity.
            Action::Terminate { instance, .. } | Action::Fence { instance } => {
                !memory.unready.get(instance).is_some_and(|failed| *failed)
            }
            Action::Launch { .. } | Action::Unfence { .. } => false,
        })
        .count();
    assert!(!(abstained && ends > 0), "let go on an absent reading");
    let mut names = BTreeSet::new();
    for action in &decision.actions {
        let (Action::Fence { instance }
        | Action::Unfence { instance }
        | Action::Terminate { instance, .. }) = action
        else {
            continue;
        };
        assert!(names.insert(instance), "{instance} twice");
        assert!(
            listing.instances.iter().any(|one| one.id == *instance),
            "{instance} not listed"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn limits_hold_whatever_happens(days in prop::collection::vec(weather(), 1..25)) {
        let mut spec = spec(vec![backlog_policy()]);
        spec.limits.observe_cycles = 1;
        spec.limits.shrink_settle = Duration::ZERO;
        let mut memory = Memory::new("s1", Epoch(1));
        let mut tokens = Vec::new();
        for (cycle, weather) in (1_u64..).zip(&days) {
            let now = NOW + Duration::from_mins(cycle * 3);
            let fleet = listed(weather, &tokens, now);
            let readings = readings_at(now, weather.backlog, weather.in_flight);
            let seen = Observation { now, ..see(fleet, readings) };
            let decision = decide(&spec, &memory, &seen);
            prop_assert_eq!(&decision, &decide(&spec, &memory, &seen));
            check(&spec, &memory, &seen, &decision);
            memory.look(&spec, &seen);
            memory.plan(&decision, &seen);
            for (action, dice) in decision.actions.iter().zip(weather.outcomes.iter().cycle()) {
                if let Action::Launch { token, .. } = action {
                    tokens.push(token.clone());
                }
                memory.settle(now, action, &outcome(action, *dice));
            }
            prop_assert!(memory.launches.len() <= days.len());
        }
    }
}
