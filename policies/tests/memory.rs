//! What a fleet's memory makes of odd histories, and that a restart at any
//! moment remembers the same.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;

use windlass_policies::decide::decide;
use windlass_policies::memory::{Answer, Memory};
use windlass_policies::model::{
    Action, Billing, Decision, Epoch, FleetError, Instance, InstanceId, LaunchToken, Listing,
    Market, Observation, Offering, Outcome, Phase, Work,
};
use windlass_policies::policy::{Fixed, NamedPolicy, Policy};
use windlass_policies::ports::{Clock, FleetProvider, MetricSource, Record, Store, StoreError};
use windlass_policies::quote::Quotes;
use windlass_policies::reconcile::{Mode, Ports, reconcile};
use windlass_policies::signal::{Readings, SignalSpec};
use windlass_policies::spec::{Drain, FleetSpec, Limits, Mix, Objective, Spot};
use windlass_policies::units::{MicroUsdPerHour, Timestamp};

const START: Timestamp = Timestamp::from_secs(100_000);

fn minute(number: u64) -> Timestamp {
    START + Duration::from_mins(number)
}

/// A fleet of `instances` at a tenth of a dollar, with no pace to keep.
fn fixed_at(instances: u32) -> FleetSpec {
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
        signals: Vec::new(),
        policies: vec![NamedPolicy {
            name: "fixed".to_owned(),
            policy: Policy::Fixed(Fixed { instances }),
        }],
        limits: Limits {
            observe_cycles: 0,
            boot_timeout: Duration::from_mins(15),
            ..Limits::unbound(0, 20)
        },
        mix: Mix::default(),
        spot: Spot::default(),
        drain: Drain::default(),
        objective: Objective::default(),
    }
}

fn instance(number: u32, phase: Phase, work: Work) -> Instance {
    Instance {
        id: InstanceId::new(&format!("i-{number:03}")),
        offering: "large".to_owned(),
        token: None,
        launched_at: START,
        phase,
        fenced: false,
        work,
        notice: None,
    }
}

/// Instances 1 to `count`, ready and busy.
fn busy(count: u32) -> Vec<Instance> {
    (1..=count)
        .map(|number| instance(number, Phase::Ready, Work::Busy))
        .collect()
}

fn see(now: Timestamp, instances: Vec<Instance>) -> Observation {
    Observation {
        now,
        fleet: Ok(Listing {
            instances,
            complete: true,
        }),
        readings: Readings::new(),
        prices: Quotes::new(),
    }
}

/// Decides, and lets `answer` say how each action comes out.
fn cycle(
    spec: &FleetSpec,
    memory: &mut Memory,
    seen: &Observation,
    answer: impl Fn(&Action) -> Option<Outcome>,
) -> Decision {
    let decision = decide(spec, memory, seen);
    memory.look(spec, seen);
    memory.plan(&decision, seen);
    for action in &decision.actions {
        if let Some(outcome) = answer(action) {
            memory.settle(seen.now, action, &outcome);
        }
    }
    decision
}

fn granted(names: &[u32]) -> Outcome {
    Outcome::Launched {
        instances: names
            .iter()
            .map(|number| InstanceId::new(&format!("i-{number:03}")))
            .collect(),
    }
}

fn launched(decision: &Decision) -> u32 {
    let counts = decision.actions.iter().map(|action| match action {
        Action::Launch { count, .. } => *count,
        _ => 0,
    });
    counts.sum()
}

fn fenced(decision: &Decision) -> usize {
    let fences = decision
        .actions
        .iter()
        .filter(|action| matches!(action, Action::Fence { .. }));
    fences.count()
}

fn token_of(decision: &Decision) -> LaunchToken {
    let mut tokens = decision.actions.iter().filter_map(|action| match action {
        Action::Launch { token, .. } => Some(token.clone()),
        _ => None,
    });
    tokens.next().expect("a launch")
}

#[test]
fn launches_that_end_before_they_were_seen_to_boot_open_the_breaker() {
    // A broken image or a key that must not be used: the cloud grants the
    // launch and ends it at once, so that it is listed as ending from the start.
    let spec = fixed_at(2);
    let mut memory = Memory::new("s1", Epoch(1));
    let mut listed = Vec::new();
    let mut bought = 0;
    for number in 0..10 {
        let next = [bought + 1, bought + 2];
        let decision = cycle(
            &spec,
            &mut memory,
            &see(minute(number), listed.clone()),
            |action| {
                let Action::Launch { count, .. } = action else {
                    return None;
                };
                Some(granted(&next[..*count as usize]))
            },
        );
        let count = launched(&decision);
        listed = (bought + 1..=bought + count)
            .map(|number| Instance {
                token: Some(token_of(&decision)),
                ..instance(number, Phase::Ending, Work::Idle)
            })
            .collect();
        bought += count;
    }
    // Two, two more, and then one probe after the other.
    assert_eq!((bought, memory.fruitless), (4 + 8, 4 + 7));
}

#[test]
fn an_instance_let_go_while_booting_is_ended_though_it_never_comes_up() {
    let mut spec = fixed_at(1);
    let boots = |fenced| {
        let mut stuck = instance(2, Phase::Booting, Work::Unknown);
        stuck.fenced = fenced;
        vec![instance(1, Phase::Ready, Work::Busy), stuck]
    };
    let answer = |action: &Action| match action {
        // It cannot confirm more than that it takes no job.
        Action::Fence { .. } => Some(Outcome::Fenced {
            work: Work::Unknown,
        }),
        Action::Terminate { .. } => Some(Outcome::Terminated),
        _ => None,
    };
    let mut memory = Memory::new("s1", Epoch(1));
    let first = cycle(&spec, &mut memory, &see(minute(1), boots(false)), answer);
    assert_eq!(fenced(&first), 1);
    let waits = cycle(&spec, &mut memory, &see(minute(15), boots(true)), answer);
    assert!(waits.actions.is_empty(), "it may come up yet: {waits:?}");
    let ended = cycle(&spec, &mut memory, &see(minute(16), boots(true)), answer);
    assert!(
        matches!(ended.actions[..], [Action::Terminate { .. }]),
        "{ended:?}"
    );
    // And it is not worth rescuing.
    spec = fixed_at(2);
    let mut memory = Memory::new("s1", Epoch(1));
    cycle(
        &fixed_at(1),
        &mut memory,
        &see(minute(1), boots(false)),
        answer,
    );
    let rush = cycle(&spec, &mut memory, &see(minute(16), boots(true)), |_| None);
    assert_eq!(launched(&rush), 1, "{rush:?}");
    assert!(
        !rush
            .actions
            .iter()
            .any(|action| matches!(action, Action::Unfence { .. })),
        "{rush:?}"
    );
}

#[test]
fn nothing_is_let_go_for_launches_that_may_never_have_happened() {
    let mut memory = Memory::new("s1", Epoch(1));
    let lost = |action: &Action| match action {
        Action::Launch { .. } => Some(Outcome::Failed(FleetError::Unknown("lost".to_owned()))),
        _ => Some(Outcome::Fenced { work: Work::Busy }),
    };
    let grown = cycle(&fixed_at(8), &mut memory, &see(minute(0), busy(3)), lost);
    assert_eq!(launched(&grown), 5);
    // Eight may be there, three surely are, and four are wanted.
    let calm = cycle(&fixed_at(4), &mut memory, &see(minute(1), busy(3)), lost);
    assert_eq!((calm.current, fenced(&calm)), (Some(8), 0));
    // Two are wanted: one of the three that are there may go.
    let less = cycle(&fixed_at(2), &mut memory, &see(minute(2), busy(3)), lost);
    assert_eq!(fenced(&less), 1);
}

#[test]
fn a_lost_launch_is_not_asked_for_again_beyond_lowered_limits() {
    let lost = |_: &Action| Some(Outcome::Failed(FleetError::Unknown("lost".to_owned())));
    let mut poorer = fixed_at(8);
    poorer.limits.max_usd_per_hour = MicroUsdPerHour::new(400_000);
    let mut smaller = fixed_at(8);
    smaller.limits.max = 4;
    for spec in [poorer, smaller] {
        let mut memory = Memory::new("s1", Epoch(1));
        cycle(&fixed_at(8), &mut memory, &see(minute(0), busy(3)), lost);
        let next = cycle(&spec, &mut memory, &see(minute(1), busy(3)), lost);
        assert_eq!(launched(&next), 0, "{next:?}");
    }
}

#[test]
fn a_fleet_that_loses_instances_all_the_time_is_still_believed() {
    let mut spec = fixed_at(4);
    spec.limits.observe_cycles = 2;
    let mut memory = Memory::new("s1", Epoch(1));
    let mut acted = 0;
    for number in 1..10 {
        // In every listing one is ending, and in the next it has gone.
        let seen = vec![
            instance(
                u32::try_from(number).expect("small"),
                Phase::Ending,
                Work::Idle,
            ),
            instance(90, Phase::Ready, Work::Busy),
        ];
        let decision = cycle(&spec, &mut memory, &see(minute(number), seen), |_| None);
        acted += decision.actions.len();
    }
    assert!(acted > 0, "{memory:?}");
}

#[test]
fn a_lowered_maximum_shrinks_the_fleet() {
    let mut spec = fixed_at(8);
    spec.limits.max = 5;
    let mut memory = Memory::new("s1", Epoch(1));
    let decision = cycle(&spec, &mut memory, &see(minute(0), busy(8)), |_| None);
    assert_eq!((decision.target, fenced(&decision)), (Some(5), 3));
}

#[test]
fn an_offering_that_is_sold_no_more_still_counts_and_may_be_let_go() {
    let mut spec = fixed_at(3);
    spec.limits.max_usd_per_hour = MicroUsdPerHour::new(300_000);
    let mut fleet = busy(3);
    for instance in &mut fleet {
        instance.offering = "gone".to_owned();
    }
    let mut memory = Memory::new("s1", Epoch(1));
    let calm = cycle(&spec, &mut memory, &see(minute(0), fleet.clone()), |_| None);
    assert_eq!((calm.target, calm.actions.len()), (Some(3), 0));
    spec.policies = fixed_at(1).policies;
    let less = cycle(&spec, &mut memory, &see(minute(1), fleet), |_| None);
    assert_eq!(fenced(&less), 2);
}

/// A world that answers as it is told, and dies at one call.
#[derive(Debug)]
struct Told {
    now: Cell<Timestamp>,
    listing: RefCell<Listing>,
    dice: RefCell<Vec<u8>>,
    /// Calls until the process dies; for ever if `None`.
    left: Cell<Option<u32>>,
    records: RefCell<Vec<Record>>,
}

impl Clock for Told {
    fn now(&self) -> Timestamp {
        // Outcomes come later than decisions, as they do.
        self.now.set(self.now.get() + Duration::from_millis(1));
        self.now.get()
    }
}

impl MetricSource for Told {
    async fn read(&self, _: &[SignalSpec], _: Timestamp) -> Readings {
        Readings::new()
    }
}

impl FleetProvider for Told {
    async fn list(&self, _: &str) -> Result<Listing, FleetError> {
        Ok(self.listing.borrow().clone())
    }

    async fn apply(&self, _: &str, _: Epoch, action: &Action) -> Outcome {
        match self.left.get() {
            Some(0) => std::future::pending::<()>().await,
            left => self.left.set(left.map(|left| left - 1)),
        }
        let dice = {
            let mut dice = self.dice.borrow_mut();
            dice.rotate_left(1);
            dice[0]
        };
        match (dice, action) {
            (0, _) => Outcome::Failed(FleetError::Unknown("lost".to_owned())),
            (1, _) => Outcome::Failed(FleetError::NotFound),
            (2, _) => Outcome::Failed(FleetError::Throttled),
            (4, Action::Launch { .. }) => Outcome::Failed(FleetError::NoCapacity),
            (5, Action::Launch { token, .. }) => Outcome::Launched {
                instances: vec![InstanceId::new(&format!("i-{token}-0"))],
            },
            (_, Action::Launch { token, count, .. }) => Outcome::Launched {
                instances: (0..*count)
                    .map(|number| InstanceId::new(&format!("i-{token}-{number}")))
                    .collect(),
            },
            (3, Action::Fence { .. }) => Outcome::Fenced { work: Work::Busy },
            (_, Action::Fence { .. }) => Outcome::Fenced { work: Work::Idle },
            (_, Action::Unfence { .. }) => Outcome::Unfenced,
            (_, Action::Terminate { .. }) => Outcome::Terminated,
        }
    }
}

impl Store for Told {
    fn append(&self, _: &str, record: &Record) -> Result<(), StoreError> {
        self.records.borrow_mut().push(record.clone());
        Ok(())
    }

    fn tail(&self, _: &str) -> Result<Vec<Record>, StoreError> {
        let records = self.records.borrow();
        let newest = records
            .iter()
            .rposition(|record| matches!(record, Record::Decided(_)));
        Ok(newest.map_or_else(Vec::new, |place| records[place..].to_vec()))
    }
}

/// Runs `future` up to where it waits for ever.
fn finishes(future: impl Future) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    matches!(pin!(future).poll(&mut context), Poll::Ready(_))
}

/// What one cycle meets: the size wished for, the listing, how actions end.
#[derive(Clone, Debug)]
struct Turn {
    wish: u32,
    listed: BTreeSet<(u32, u8, bool)>,
    dice: Vec<u8>,
}

fn turn() -> impl Strategy<Value = Turn> {
    let one = (0..12_u32, 0..5_u8, any::<bool>());
    (
        0..12_u32,
        prop::collection::btree_set(one, 0..12),
        prop::collection::vec(0..7_u8, 1..12),
    )
        .prop_map(|(wish, listed, dice)| Turn { wish, listed, dice })
}

fn listing_of(turn: &Turn, tokens: &[LaunchToken], now: Timestamp) -> Listing {
    let mut instances: Vec<Instance> = turn
        .listed
        .iter()
        .map(|(number, state, fenced)| {
            let (phase, work) = match state {
                0 => (Phase::Booting, Work::Unknown),
                1 => (Phase::Booting, Work::Idle),
                2 => (Phase::Ready, Work::Idle),
                3 => (Phase::Ready, Work::Busy),
                _ => (Phase::Ending, Work::Unknown),
            };
            Instance {
                token: tokens.get(*number as usize).cloned(),
                launched_at: now - Duration::from_mins(u64::from(*number) * 2),
                fenced: *fenced,
                ..instance(*number, phase, work)
            }
        })
        .collect();
    instances.dedup_by(|one, other| one.id == other.id);
    Listing {
        instances,
        complete: true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whichever call the process dies at, a restart remembers exactly what it
    /// remembered then; and the record of it can be written and read.
    #[test]
    fn a_restart_remembers_what_was_remembered(
        turns in prop::collection::vec(turn(), 1..12),
        dies_after in 0..30_u32,
    ) {
        let world = Told {
            now: Cell::new(START),
            listing: RefCell::default(),
            dice: RefCell::new(vec![6]),
            left: Cell::new(Some(dies_after)),
            records: RefCell::default(),
        };
        let mut memory = Memory::new("s1", Epoch(1));
        let mut spec = fixed_at(0);
        // Somewhere else to buy.
        spec.offerings.push(Offering { name: "other".to_owned(), ..spec.offerings[0].clone() });
        for (number, turn) in (1_u64..).zip(&turns) {
            world.now.set(minute(number * 3));
            spec.policies = fixed_at(turn.wish).policies;
            let tokens: Vec<LaunchToken> = memory.launches.keys().cloned().collect();
            world.listing.replace(listing_of(turn, &tokens, world.now.get()));
            world.dice.replace(turn.dice.clone());
            let ports = Ports { clock: &world, metrics: &world, provider: &world, store: &world };
            let lived = finishes(reconcile(&spec, Mode::Act, &mut memory, ports));
            let tail = world.tail("workers").expect("it is in memory");
            let rebuilt = Memory::rebuild(&spec, "s1", Epoch(1), &tail);
            prop_assert_eq!(&rebuilt, &memory);
            if !lived {
                break;
            }
        }
    }

    /// A launch stays remembered, and counts, until it is answered and listed
    /// or given up: whatever else is asked, listed and answered.
    #[test]
    fn unanswered_launches_are_part_of_the_unlisted(
        turns in prop::collection::vec(turn(), 1..12),
    ) {
        let world = Told {
            now: Cell::new(START),
            listing: RefCell::default(),
            dice: RefCell::new(vec![6]),
            left: Cell::new(None),
            records: RefCell::default(),
        };
        let mut memory = Memory::new("s1", Epoch(1));
        for (number, turn) in (1_u64..).zip(&turns) {
            world.now.set(minute(number));
            let spec = fixed_at(turn.wish);
            world.listing.replace(listing_of(turn, &[], world.now.get()));
            world.dice.replace(turn.dice.clone());
            let ports = Ports { clock: &world, metrics: &world, provider: &world, store: &world };
            prop_assert!(finishes(reconcile(&spec, Mode::Act, &mut memory, ports)));
            prop_assert!(memory.unanswered() <= memory.unlisted());
            let lost: u32 = memory
                .launches
                .values()
                .filter(|launch| matches!(launch.answer, Answer::Awaited { asked } if asked > 0))
                .map(|launch| launch.count)
                .sum();
            prop_assert_eq!(memory.unanswered(), lost, "none of them is ever listed");
        }
    }
}
