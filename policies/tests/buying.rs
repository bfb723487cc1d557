//! Buying from several offerings, and living with what EC2 does: shortages,
//! partial grants, notices, strays.

#[path = "buying/money.rs"]
mod money;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use expect_test::{Expect, expect};

use windlass_policies::audit::{Invariant, audit};
use windlass_policies::memory::Memory;
use windlass_policies::memory_store::MemoryStore;
use windlass_policies::model::{
    Action, Billing, Epoch, FleetError, Instance, InstanceId, LaunchToken, Listing, Market, Notice,
    Observation, Offering, Outcome, Phase, Reason, Work,
};
use windlass_policies::policy::{Fixed, NamedPolicy, Policy, QueueBacklog};
use windlass_policies::ports::{Clock, FleetProvider, MetricSource, Record, Store};
use windlass_policies::quote::{Quote, Quotes};
use windlass_policies::reconcile::{Cycle, Mode, Ports, reconcile};
use windlass_policies::signal::{Readings, SignalSpec};
use windlass_policies::spec::{
    Drain, FleetSpec, Limits, Mix, Objective, OnRebalance, Spot, Strays,
};
use windlass_policies::units::{MicroUsd, MicroUsdPerHour, Timestamp};

const START: Timestamp = Timestamp::from_secs(1_000_000);
const MINUTE: Duration = Duration::from_mins(1);

fn offering(name: &str, price: u64, market: Market, prepaid: u32) -> Offering {
    Offering {
        name: name.to_owned(),
        price: MicroUsdPerHour::new(price),
        billing: Billing {
            increment: Duration::from_secs(1),
            minimum: MINUTE,
        },
        slots: 1,
        market,
        prepaid,
    }
}

/// Spot at $0.03 and $0.04, on demand at $0.10 an hour.
fn offerings() -> Vec<Offering> {
    vec![
        offering("spot-a", 30_000, Market::Spot, 0),
        offering("spot-b", 40_000, Market::Spot, 0),
        offering("demand", 100_000, Market::OnDemand, 0),
    ]
}

fn fixed(instances: u32) -> FleetSpec {
    FleetSpec {
        name: "workers".to_owned(),
        interval: MINUTE,
        offerings: offerings(),
        signals: Vec::new(),
        policies: vec![NamedPolicy {
            name: "fixed".to_owned(),
            policy: Policy::Fixed(Fixed { instances }),
        }],
        limits: Limits {
            boot_timeout: Duration::from_mins(15),
            ..Limits::unbound(0, 20)
        },
        mix: Mix::default(),
        spot: Spot::default(),
        drain: Drain::default(),
        objective: Objective::default(),
    }
}

/// A shop with so many of each offering on its shelves.
struct Shop {
    now: Cell<Timestamp>,
    stock: RefCell<BTreeMap<String, u32>>,
    instances: RefCell<Vec<Instance>>,
    /// Launches of these offerings get no answer, though they happen.
    mute: RefCell<Vec<String>>,
    /// What offerings cost now, if not what the spec says.
    prices: RefCell<Quotes>,
    store: MemoryStore,
    memory: RefCell<Memory>,
}

impl Shop {
    fn with(stock: &[(&str, u32)]) -> Self {
        let stock = stock
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count));
        Self {
            now: Cell::new(START),
            stock: RefCell::new(stock.collect()),
            instances: RefCell::default(),
            mute: RefCell::default(),
            prices: RefCell::default(),
            store: MemoryStore::keeping_all(),
            memory: RefCell::new(Memory::new("s1", Epoch(1))),
        }
    }

    fn restock(&self, offering: &str, count: u32) {
        self.stock.borrow_mut().insert(offering.to_owned(), count);
    }

    /// A cycle of `spec` at the next minute.
    fn cycle(&self, spec: &FleetSpec) -> Cycle {
        let ports = Ports {
            clock: self,
            metrics: self,
            provider: self,
            store: &self.store,
        };
        let mut memory = self.memory.borrow_mut();
        let mut run = pin!(reconcile(spec, Mode::Act, &mut memory, ports));
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(cycle) = run.as_mut().poll(&mut context) else {
            panic!("no port waits")
        };
        let cycle = cycle.expect("the store takes all");
        self.now.set(self.now.get() + MINUTE);
        cycle
    }

    /// From now on the offering costs so many micro-dollars an hour.
    fn reprice(&self, offering: &str, price: u64) {
        let quote = Quote {
            price: MicroUsdPerHour::new(price),
            read_at: self.now.get(),
        };
        self.prices.borrow_mut().insert(offering.to_owned(), quote);
    }

    /// A restart: all that is remembered comes from the store.
    fn restart(&self, spec: &FleetSpec) {
        let tail = self.store.tail("workers").expect("in memory");
        let rebuilt = Memory::rebuild(spec, "s1", Epoch(2), &tail);
        self.memory.replace(rebuilt);
    }

    fn with_instance(&self, change: impl Fn(&mut Instance), number: usize) {
        change(&mut self.instances.borrow_mut()[number]);
    }

    fn alive(&self) -> BTreeMap<String, u32> {
        let mut alive = BTreeMap::new();
        for instance in self.instances.borrow().iter() {
            *alive.entry(instance.offering.clone()).or_insert(0) += 1;
        }
        alive
    }

    fn launch(&self, token: &LaunchToken, offering: &str, count: u32) -> Outcome {
        let mut stock = self.stock.borrow_mut();
        let left = stock.get_mut(offering).expect("it is sold");
        if *left == 0 && count > 0 {
            return Outcome::Failed(FleetError::NoCapacity);
        }
        let granted = count.min(*left);
        *left -= granted;
        let mut instances = self.instances.borrow_mut();
        let new = (0..granted).map(|_| {
            let number = instances.len();
            let id = InstanceId::new(&format!("i-{number:03}"));
            instances.push(Instance {
                id: id.clone(),
                offering: offering.to_owned(),
                token: Some(token.clone()),
                launched_at: self.now.get(),
                phase: Phase::Ready,
                fenced: false,
                work: Work::Busy,
                notice: None,
            });
            id
        });
        let instances = new.collect();
        if self.mute.borrow().iter().any(|mute| mute == offering) {
            return Outcome::Failed(FleetError::Unknown("lost".to_owned()));
        }
        Outcome::Launched { instances }
    }
}

impl Clock for Shop {
    fn now(&self) -> Timestamp {
        self.now.get()
    }
}

impl MetricSource for Shop {
    async fn read(&self, _: &[SignalSpec], _: Timestamp) -> Readings {
        Readings::new()
    }
}

impl FleetProvider for Shop {
    fn prices(&self) -> Quotes {
        self.prices.borrow().clone()
    }

    async fn list(&self, _: &str) -> Result<Listing, FleetError> {
        Ok(Listing {
            instances: self.instances.borrow().clone(),
            complete: true,
        })
    }

    async fn apply(&self, _: &str, _: Epoch, action: &Action) -> Outcome {
        let find = |id: &InstanceId| {
            let instances = self.instances.borrow();
            instances.iter().position(|one| one.id == *id)
        };
        match action {
            Action::Launch {
                token,
                offering,
                count,
            } => self.launch(token, offering, *count),
            Action::Fence { instance } => {
                let place = find(instance).expect("it is there");
                let one = &mut self.instances.borrow_mut()[place];
                one.fenced = true;
                Outcome::Fenced { work: one.work }
            }
            Action::Unfence { instance } => {
                let place = find(instance).expect("it is there");
                self.instances.borrow_mut()[place].fenced = false;
                Outcome::Unfenced
            }
            Action::Terminate { instance, .. } => {
                let place = find(instance).expect("it is there");
                self.instances.borrow_mut().remove(place);
                Outcome::Terminated
            }
        }
    }
}

/// A cycle in one line: sizes, what was done, why.
fn told(cycle: &Cycle) -> String {
    let decision = &cycle.decision;
    let size = |count: Option<u32>| count.map_or("?".to_owned(), |count| count.to_string());
    let done = cycle.done.iter().map(|(action, outcome)| match action {
        Action::Launch {
            offering, count, ..
        } => format!("{count} {offering}: {outcome}"),
        other => format!("{other}: {outcome}"),
    });
    let done: Vec<String> = done.collect();
    let why = decision.reasons.iter().skip(1).chain(&cycle.elsewhere);
    let why: Vec<String> = why.map(ToString::to_string).collect();
    format!(
        "{} -> {} | {} | {}",
        size(decision.current),
        size(decision.target),
        done.join("; "),
        why.join("; ")
    )
}

#[track_caller]
fn says(cycle: &Cycle, expected: &Expect) {
    expected.assert_eq(&told(cycle));
}

#[test]
fn what_is_prepaid_goes_first_and_then_the_cheapest() {
    let mut spec = fixed(7);
    spec.offerings[2].prepaid = 3;
    let shop = Shop::with(&[("spot-a", 9), ("spot-b", 9), ("demand", 9)]);
    says(
        &shop.cycle(&spec),
        &expect!["0 -> 7 | 4 spot-a: 4 launched; 3 demand: 3 launched | "],
    );
    // What is prepaid costs nothing, and so does not count against the money.
    spec.limits.max_usd_per_hour = MicroUsdPerHour::new(60_000);
    let shop = Shop::with(&[("spot-a", 9), ("spot-b", 9), ("demand", 9)]);
    says(
        &shop.cycle(&spec),
        &expect![
            "0 -> 5 | 2 spot-a: 2 launched; 3 demand: 3 launched | cut to 5, what $0.06 an hour pays for"
        ],
    );
}

#[test]
fn a_large_offering_may_be_cheaper_per_slot() {
    let mut spec = fixed(2);
    spec.offerings[2].slots = 4;
    let shop = Shop::with(&[("spot-a", 9), ("spot-b", 9), ("demand", 9)]);
    says(
        &shop.cycle(&spec),
        &expect!["0 -> 2 | 2 demand: 2 launched | "],
    );
}

#[test]
fn shortages_are_bought_elsewhere_in_the_same_cycle() {
    let shop = Shop::with(&[("spot-a", 2), ("spot-b", 0), ("demand", 9)]);
    says(
        &shop.cycle(&fixed(6)),
        &expect![
            "0 -> 6 | 6 spot-a: 2 launched; 4 spot-b: no capacity; 4 demand: 4 launched | 4 not granted by spot-a, so 4 asked of spot-b; 4 not granted by spot-b, so 4 asked of demand"
        ],
    );
    says(
        &shop.cycle(&fixed(8)),
        &expect![
            "6 -> 8 | 2 spot-a: no capacity; 1 spot-b: no capacity; 2 demand: 2 launched | 2 not granted by spot-a, so 1 asked of spot-b; 2 not granted by spot-b, so 2 asked of demand"
        ],
    );
}

#[test]
fn nothing_is_bought_elsewhere_beyond_the_money() {
    let mut spec = fixed(6);
    spec.limits.max_usd_per_hour = MicroUsdPerHour::new(250_000);
    let shop = Shop::with(&[("spot-a", 0), ("spot-b", 0), ("demand", 9)]);
    says(
        &shop.cycle(&spec),
        &expect![
            "0 -> 6 | 6 spot-a: no capacity; 6 spot-b: no capacity; 2 demand: 2 launched | 6 not granted by spot-a, so 6 asked of spot-b; 6 not granted by spot-b, so 2 asked of demand"
        ],
    );
}

#[test]
fn a_lost_answer_is_not_bought_elsewhere() {
    let shop = Shop::with(&[("spot-a", 9), ("spot-b", 9), ("demand", 9)]);
    shop.mute.borrow_mut().push("spot-a".to_owned());
    says(
        &shop.cycle(&fixed(4)),
        &expect!["0 -> 4 | 4 spot-a: answer lost: lost | "],
    );
    assert_eq!(shop.alive().values().sum::<u32>(), 4);
}

#[test]
fn storms_of_refusals_end() {
    let mut spec = fixed(4);
    spec.offerings = (0..9)
        .map(|number| offering(&format!("o{number}"), 10_000 + number, Market::Spot, 0))
        .collect();
    let empty: Vec<(String, u32)> = (0..9).map(|number| (format!("o{number}"), 0)).collect();
    let empty: Vec<(&str, u32)> = empty.iter().map(|(name, _)| (name.as_str(), 0)).collect();
    let shop = Shop::with(&empty);
    assert_eq!(shop.cycle(&spec).done.len(), 5);
}

#[test]
fn spot_is_probed_and_comes_back_with_doubled_budgets() {
    let mut spec = fixed(4);
    spec.offerings.remove(1);
    let shop = Shop::with(&[("spot-a", 0), ("demand", 99)]);
    shop.cycle(&spec);
    shop.restock("spot-a", 99);
    let mut asked = Vec::new();
    for size in [8, 12, 16, 20] {
        spec.policies = fixed(size).policies;
        let cycle = shop.cycle(&spec);
        let lots = cycle.done.iter().map(|(action, _)| match action {
            Action::Launch {
                offering, count, ..
            } => format!("{count} {offering}"),
            other => other.to_string(),
        });
        asked.push(lots.collect::<Vec<_>>().join(" + "));
    }
    expect!["1 spot-a + 3 demand, 2 spot-a + 2 demand, 4 spot-a, 4 spot-a"]
        .assert_eq(&asked.join(", "));
    // Nothing on demand was ended for that.
    assert_eq!(shop.alive()["demand"], 9);
}

#[test]
fn what_was_refused_survives_a_restart_and_is_forgotten_with_its_offering() {
    let spec = fixed(4);
    let shop = Shop::with(&[("spot-a", 0), ("spot-b", 9), ("demand", 9)]);
    shop.cycle(&spec);
    shop.restart(&spec);
    assert_eq!(shop.memory.borrow().standings["spot-a"].budget, 1);
    let mut other = fixed(4);
    other.offerings.remove(0);
    shop.cycle(&other);
    assert!(shop.memory.borrow().standings.is_empty());
}

#[test]
fn a_launch_that_was_planned_elsewhere_counts_after_a_crash() {
    let spec = fixed(4);
    let shop = Shop::with(&[("spot-a", 0), ("spot-b", 9), ("demand", 9)]);
    shop.cycle(&spec);
    // The process dies right before the answer of the second launch came.
    let mut tail = shop.store.tail("workers").expect("in memory");
    tail.pop();
    let rebuilt = Memory::rebuild(&spec, "s1", Epoch(2), &tail);
    assert_eq!((rebuilt.unlisted(), rebuilt.unanswered()), (4, 4));
}

/// `windlass explain` reads it there. Planted: a record of the launch without it,
/// which no other test noticed.
#[test]
fn why_something_was_bought_elsewhere_is_in_its_record() {
    let shop = Shop::with(&[("spot-a", 0), ("spot-b", 9), ("demand", 9)]);
    let cycle = shop.cycle(&fixed(4));
    let records = shop.store.tail("workers").expect("in memory");
    let planned: Vec<Reason> = records
        .into_iter()
        .filter_map(|record| match record {
            Record::Planned { why, .. } => why,
            Record::Decided(_) | Record::Acted { .. } => None,
        })
        .collect();
    assert_eq!(planned, cycle.elsewhere);
    assert_eq!(planned.len(), 1);
}

#[test]
fn a_mix_is_bought_and_spares_its_instances() {
    let mut spec = fixed(8);
    spec.mix = Mix {
        on_demand_base: 2,
        on_demand_percent: 25,
    };
    let shop = Shop::with(&[("spot-a", 99), ("spot-b", 9), ("demand", 99)]);
    says(
        &shop.cycle(&spec),
        &expect!["0 -> 8 | 4 spot-a: 4 launched; 4 demand: 4 launched | "],
    );
    for instance in shop.instances.borrow_mut().iter_mut() {
        instance.work = Work::Idle;
    }
    // 2 + 25 % of 2 must stay on demand; the dearest above that goes first.
    spec.policies = fixed(4).policies;
    says(
        &shop.cycle(&spec),
        &expect![
            "8 -> 4 | fence i-004: fenced, idle; end i-004, fenced and idle: ending; fence i-000: fenced, idle; end i-000, fenced and idle: ending; fence i-001: fenced, idle; end i-001, fenced and idle: ending; fence i-002: fenced, idle; end i-002, fenced and idle: ending | "
        ],
    );
    expect![[r#"{"demand": 3, "spot-a": 1}"#]].assert_eq(&format!("{:?}", shop.alive()));
    // Spot does not stand in for what must be on demand.
    spec.policies = fixed(10).policies;
    shop.restock("demand", 0);
    says(
        &shop.cycle(&spec),
        &expect!["4 -> 10 | 5 spot-a: 5 launched; 1 demand: no capacity | "],
    );
}

#[test]
fn prepaid_instances_go_last() {
    let mut spec = fixed(6);
    spec.offerings[2].prepaid = 2;
    let shop = Shop::with(&[("spot-a", 2), ("spot-b", 0), ("demand", 99)]);
    shop.cycle(&spec);
    for instance in shop.instances.borrow_mut().iter_mut() {
        instance.work = Work::Idle;
    }
    let mut left = Vec::new();
    for size in (0..6).rev() {
        spec.policies = fixed(size).policies;
        shop.cycle(&spec);
        left.push(format!("{:?}", shop.alive()));
    }
    expect![[r#"{"demand": 3, "spot-a": 2} {"demand": 2, "spot-a": 2} {"demand": 2, "spot-a": 1} {"demand": 2} {"demand": 1} {}"#]].assert_eq(&left.join(" "));
}

fn interruption(instance: &mut Instance) {
    instance.notice = Some(Notice::Interruption {
        ends_at: START + MINUTE * 3,
    });
}

fn rebalance(instance: &mut Instance) {
    instance.notice = Some(Notice::Rebalance { at: START });
}

#[test]
fn an_interrupted_instance_is_replaced_and_fenced_at_once() {
    let spec = fixed(3);
    let shop = Shop::with(&[("spot-a", 9), ("spot-b", 9), ("demand", 9)]);
    shop.cycle(&spec);
    shop.with_instance(interruption, 1);
    says(
        &shop.cycle(&spec),
        &expect![
            "2 -> 3 | 1 spot-b: 1 launched; fence i-001: fenced, busy | only 0 asked of spot-a, which grants and keeps 74 % of late; 1 taken back by the provider, and let go"
        ],
    );
    // It is not put back to work, whatever is needed.
    says(
        &shop.cycle(&fixed(5)),
        &expect!["3 -> 5 | 2 spot-a: 2 launched | "],
    );
    // It counts neither as shrinking nor against the share that may go.
    let memory = shop.memory.borrow();
    assert_eq!((memory.shrunk_at, memory.ends.len()), (None, 0));
}

#[test]
fn an_interruption_needs_no_reading_and_a_rebalance_does() {
    let mut spec = fixed(2);
    let shop = Shop::with(&[("spot-a", 9), ("spot-b", 9), ("demand", 9)]);
    shop.cycle(&spec);
    shop.with_instance(interruption, 0);
    shop.with_instance(rebalance, 1);
    spec.policies = vec![NamedPolicy {
        name: "queue_backlog".to_owned(),
        policy: Policy::QueueBacklog(QueueBacklog::new(1.0)),
    }];
    spec.signals = ["backlog", "in_flight"]
        .map(|name| SignalSpec::standard(name).expect("standard"))
        .to_vec();
    says(
        &shop.cycle(&spec),
        &expect![
            "0 -> 2 | 2 spot-b: 2 launched; fence i-000: fenced, busy | only 0 asked of spot-a, which grants and keeps 66 % of late; 1 taken back by the provider, and let go; 1 likely to be taken back, and let go once replaced"
        ],
    );
    says(
        &shop.cycle(&spec),
        &expect!["2 -> 2 |  | 1 likely to be taken back, and let go once replaced"],
    );
}

#[test]
fn a_rebalance_replaces_first() {
    let spec = fixed(2);
    let shop = Shop::with(&[("spot-a", 9), ("spot-b", 9), ("demand", 9)]);
    shop.cycle(&spec);
    shop.with_instance(rebalance, 0);
    says(
        &shop.cycle(&spec),
        &expect![
            "1 -> 2 | 1 spot-a: 1 launched | 1 likely to be taken back, and let go once replaced"
        ],
    );
    shop.with_instance(|instance| instance.phase = Phase::Booting, 2);
    says(
        &shop.cycle(&spec),
        &expect!["2 -> 2 |  | 1 likely to be taken back, and let go once replaced"],
    );
    shop.with_instance(|instance| instance.phase = Phase::Ready, 2);
    says(
        &shop.cycle(&spec),
        &expect![
            "2 -> 2 | fence i-000: fenced, busy | 1 likely to be taken back, and let go once replaced"
        ],
    );

    let mut ignoring = fixed(2);
    ignoring.spot.on_rebalance = OnRebalance::Ignore;
    let shop = Shop::with(&[("spot-a", 9), ("spot-b", 9), ("demand", 9)]);
    shop.cycle(&ignoring);
    shop.with_instance(rebalance, 0);
    says(&shop.cycle(&ignoring), &expect!["2 -> 2 |  | "]);
}

#[test]
fn a_replacement_stays_below_the_maximum() {
    let mut spec = fixed(2);
    spec.limits.max = 2;
    let shop = Shop::with(&[("spot-a", 9), ("spot-b", 9), ("demand", 9)]);
    shop.cycle(&spec);
    shop.with_instance(rebalance, 0);
    says(
        &shop.cycle(&spec),
        &expect!["1 -> 1 |  | cut to max 2; 1 likely to be taken back, and let go once replaced"],
    );
}

#[test]
fn what_vanishes_after_a_notice_is_no_failed_boot() {
    let spec = fixed(1);
    for (told, fruitless) in [(true, 0), (false, 1)] {
        let shop = Shop::with(&[("spot-a", 9), ("spot-b", 9), ("demand", 9)]);
        shop.cycle(&spec);
        shop.with_instance(|instance| instance.phase = Phase::Booting, 0);
        shop.cycle(&spec);
        if told {
            // The fence finds nobody: only the notice tells.
            let mut ignoring = fixed(1);
            ignoring.spot.on_rebalance = OnRebalance::Ignore;
            shop.with_instance(rebalance, 0);
            shop.cycle(&ignoring);
        }
        shop.instances.borrow_mut().remove(0);
        shop.cycle(&spec);
        assert_eq!(shop.memory.borrow().fruitless, fruitless, "told: {told}");
    }
}

/// An instance of another store, launched a second after this one first looked.
fn stray(number: u32, token: &str, launched_at: Timestamp) -> Instance {
    Instance {
        id: InstanceId::new(&format!("x-{number:03}")),
        offering: "spot-a".to_owned(),
        token: Some(serde_json::from_value(token.into()).expect("text")),
        launched_at,
        phase: Phase::Ready,
        fenced: false,
        work: Work::Idle,
        notice: None,
    }
}

#[test]
fn strays_are_let_go_once_confirmed_and_others_never() {
    let mut spec = fixed(2);
    spec.limits.strays = Strays::End;
    spec.limits.strays_confirmations = 3;
    spec.limits.observe_cycles = 2;
    let shop = Shop::with(&[("spot-a", 9), ("spot-b", 9), ("demand", 9)]);
    let before = stray(0, "s0-workers-1-1-0", START - MINUTE);
    shop.instances.borrow_mut().push(before);
    let later = START + Duration::from_secs(1);
    for (number, token) in [
        (1, "s0-workers-1-9-0"),
        (2, "s1-workers-1-77-0"),
        (3, "s1-workers-9-1-0"),
        (4, "somebody-elses"),
        (5, "s0-others-1-9-0"),
    ] {
        let one = stray(number, token, later);
        shop.instances.borrow_mut().push(one);
    }
    spec.policies = fixed(6).policies;
    let mut ended = Vec::new();
    for number in 1..=8 {
        let cycle = shop.cycle(&spec);
        for (action, _) in &cycle.done {
            ended.push(format!("{number}: {action}"));
        }
    }
    expect!["4: launch 1 spot-a (s1-workers-1-4-0); 4: fence x-001; 4: end x-001, fenced and idle"]
        .assert_eq(&ended.join("; "));
}

#[test]
fn a_lost_store_adopts_the_fleet() {
    let mut spec = fixed(2);
    spec.limits.strays = Strays::End;
    spec.limits.strays_confirmations = 2;
    let shop = Shop::with(&[("spot-a", 9), ("spot-b", 9), ("demand", 9)]);
    shop.cycle(&spec);
    // The store is gone, and with it its name.
    shop.memory.replace(Memory::new("s2", Epoch(1)));
    for _ in 0..9 {
        assert_eq!(shop.cycle(&spec).done, []);
    }
}

#[test]
fn the_ledger_adds_up() {
    let mut spec = fixed(4);
    spec.limits.max = 10;
    let shop = Shop::with(&[("spot-a", 3), ("spot-b", 0), ("demand", 9)]);
    // 3 at $0.03 and 1 at $0.10 for an hour: $0.19; one of the former idle.
    shop.cycle(&spec);
    shop.with_instance(|instance| instance.work = Work::Idle, 0);
    for _ in 0..60 {
        shop.cycle(&spec);
    }
    let memory = shop.memory.borrow();
    let ledger = &memory.ledger;
    assert_eq!(ledger.until.since(START), Duration::from_hours(1));
    assert_eq!(ledger.spent(), MicroUsd::new(190_000));
    assert_eq!(ledger.avoided(), MicroUsd::new(1_000_000 - 190_000));
    // Whether it was idle before the first listing of it nobody knows.
    assert_eq!(ledger.wasted(), MicroUsd::new(29_500));
}

#[test]
fn the_audit_finds_what_a_faulty_core_would_do() {
    let spec = fixed(4);
    let shop = Shop::with(&[("spot-a", 0), ("spot-b", 9), ("demand", 9)]);
    shop.cycle(&spec);
    shop.with_instance(interruption, 0);
    let memory = shop.memory.borrow().clone();
    let instances = shop.instances.borrow().clone();
    let seen = Observation {
        now: shop.now.get(),
        fleet: Ok(Listing {
            instances,
            complete: true,
        }),
        readings: Readings::new(),
        prices: Quotes::new(),
    };
    let sound = windlass_policies::decide::decide(&spec, &memory, &seen);
    assert_eq!(audit(&spec, &memory, &seen, &sound), []);
    let token = |serial| LaunchToken::new("s1", "workers", Epoch(1), 2, serial);
    let launch = |offering: &str, count, serial| Action::Launch {
        token: token(serial),
        offering: offering.to_owned(),
        count,
    };
    let first = InstanceId::new("i-000");
    let mut poor = spec.clone();
    poor.limits.max_usd_per_hour = MicroUsdPerHour::new(300_000);
    for (spec, actions, broken) in [
        // Each alone is within the limits, both together are not.
        (
            &spec,
            vec![launch("spot-b", 9, 0), launch("demand", 9, 1)],
            Invariant::NeverAboveMax,
        ),
        (
            &poor,
            vec![launch("spot-b", 2, 0), launch("demand", 1, 1)],
            Invariant::NeverAboveSpend,
        ),
        (
            &spec,
            vec![launch("spot-a", 2, 0)],
            Invariant::ProbesAreSmall,
        ),
        (
            &spec,
            vec![Action::Unfence { instance: first }],
            Invariant::TakenBackStaysFenced,
        ),
        (&spec, vec![], Invariant::TargetAddsUp),
    ] {
        let mut faulty = sound.clone();
        faulty.actions = actions;
        let found = audit(spec, &memory, &seen, &faulty);
        assert!(
            found.iter().any(|violation| violation.invariant == broken),
            "{broken}: {found:?}"
        );
    }
}
