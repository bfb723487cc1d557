//! Deciding recorded decisions again: real decisions, written and read back.

use std::time::Duration;

use tempfile::TempDir;
use windlass::replay::replay;
use windlass::store::SqliteStore;
use windlass_policies::decide::decide;
use windlass_policies::memory::Memory;
use windlass_policies::model::{
    Billing, Instance, InstanceId, Listing, Market, Observation, Offering, Phase, Work,
};
use windlass_policies::policy::{NamedPolicy, Policy, QueueBacklog};
use windlass_policies::ports::{Decided, Record, Store as _};
use windlass_policies::quote::Quotes;
use windlass_policies::signal::{Reading, Readings, SignalKind, SignalSpec, standard};
use windlass_policies::spec::{Drain, FleetSpec, Limits, Mix, Objective, Spot, Strays};
use windlass_policies::units::{MicroUsdPerHour, Timestamp};

const MINUTE: Duration = Duration::from_mins(1);

fn spec(max: u32) -> FleetSpec {
    let signal = |name: &str| SignalSpec {
        name: name.to_owned(),
        kind: SignalKind::Total,
        max_age: Duration::from_mins(5),
    };
    FleetSpec {
        name: "web".to_owned(),
        interval: MINUTE,
        offerings: vec![Offering {
            name: "c7g.large".to_owned(),
            price: MicroUsdPerHour::new(170_000),
            billing: Billing {
                increment: Duration::from_secs(1),
                minimum: MINUTE,
            },
            slots: 1,
            market: Market::OnDemand,
            prepaid: 0,
        }],
        signals: vec![signal(standard::BACKLOG), signal(standard::IN_FLIGHT)],
        policies: vec![NamedPolicy {
            name: "jobs".to_owned(),
            policy: Policy::QueueBacklog(QueueBacklog::new(3.0)),
        }],
        limits: Limits {
            min: 0,
            max,
            max_usd_per_hour: MicroUsdPerHour::new(100_000_000),
            grow_step_max: 100,
            shrink_step_max: 100,
            grow_settle: Duration::ZERO,
            shrink_settle: Duration::ZERO,
            shrink_percent_per_hour_max: 100,
            boot_timeout: Duration::from_mins(15),
            breaker_failures: 3,
            observe_cycles: 2,
            listing_patience: Duration::from_mins(10),
            strays: Strays::Adopt,
            strays_confirmations: Limits::STRAYS_CONFIRMATIONS,
        },
        mix: Mix::default(),
        spot: Spot::default(),
        drain: Drain {
            deadline: None,
            busy: true,
        },
        objective: Objective::default(),
    }
}

/// Twelve cycles of a rising backlog over two ready instances. Nothing that is
/// decided is carried out, so every cycle wants to launch anew.
fn recorded(spec: &FleetSpec) -> (TempDir, SqliteStore) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let start = Timestamp::from_secs(1_782_864_000);
    let store = SqliteStore::open(&directory.path().join("windlass.db"), start).expect("opened");
    let instances = ["i-1", "i-2"].map(|id| Instance {
        id: InstanceId::new(id),
        offering: "c7g.large".to_owned(),
        token: None,
        launched_at: start,
        phase: Phase::Ready,
        fenced: false,
        work: Work::Busy,
        notice: None,
    });
    let mut memory = Memory::new(store.store_id(), store.epoch());
    for cycle in 0..12_u32 {
        let now = start + MINUTE * cycle;
        let mut readings = Readings::new();
        readings.insert(
            standard::BACKLOG,
            Reading::complete(f64::from(cycle) * 2.1, now),
        );
        readings.insert(standard::IN_FLIGHT, Reading::complete(2.0, now));
        let fleet = Ok(Listing {
            instances: instances.to_vec(),
            complete: true,
        });
        let seen = Observation {
            now,
            fleet,
            readings,
            prices: Quotes::new(),
        };
        let decision = decide(spec, &memory, &seen);
        let decided = Decided {
            memory: memory.clone(),
            seen: seen.clone(),
            decision: decision.clone(),
            spec: spec.fingerprint(),
        };
        store
            .append(&spec.name, &Record::Decided(Box::new(decided)))
            .expect("written");
        memory.look(spec, &seen);
        memory.plan(&decision, &seen);
    }
    (directory, store)
}

#[test]
fn every_recorded_decision_comes_out_the_same() {
    let spec = spec(50);
    let (_directory, store) = recorded(&spec);
    let again = |decided: &Decided| decide(&spec, &decided.memory, &decided.seen);
    let replayed = replay(store.history(), "web", &spec.fingerprint(), again).expect("read");
    assert_eq!(
        (replayed.same, replayed.different, replayed.elsewhere),
        (12, 0, 0)
    );
    assert_eq!(replayed.first, None);
}

#[test]
fn rules_that_changed_are_noticed_at_the_first_cycle_they_change() {
    let (generous, strict) = (spec(50), spec(6));
    let (_directory, store) = recorded(&generous);
    // The fingerprint says the configuration is the same, but the rules are not.
    let again = |decided: &Decided| decide(&strict, &decided.memory, &decided.seen);
    let replayed = replay(store.history(), "web", &generous.fingerprint(), again).expect("read");
    assert!(replayed.same > 0 && replayed.different > 0, "{replayed:?}");
    let first = replayed.first.expect("one differs");
    // Nine cycles in, 8 * 2.1 waiting and 2 in hand make seven instances.
    assert_eq!(first.cycle, 9);
    let target = first
        .fields
        .iter()
        .find(|field| field.starts_with("target"));
    assert_eq!(
        target.map(String::as_str),
        Some("target: recorded 7, now 6")
    );
}

#[test]
fn another_configuration_is_counted_and_not_compared() {
    let (before, after) = (spec(50), spec(6));
    let (_directory, store) = recorded(&before);
    let again = |decided: &Decided| decide(&after, &decided.memory, &decided.seen);
    let replayed = replay(store.history(), "web", &after.fingerprint(), again).expect("read");
    assert_eq!(
        (replayed.same, replayed.different, replayed.elsewhere),
        (0, 0, 12)
    );
}
