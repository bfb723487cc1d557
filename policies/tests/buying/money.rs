//! Prices that move, and what the ledger makes of them.

use super::*;
use windlass_policies::decide::decide;
use windlass_policies::ports::{Decided, Record};

/// All decisions so far, as they were recorded.
fn decided(shop: &Shop) -> Vec<Decided> {
    shop.store.look("workers", |records| {
        let decided = records.iter().filter_map(|record| match record {
            Record::Decided(decided) => Some((**decided).clone()),
            Record::Planned { .. } | Record::Acted { .. } => None,
        });
        decided.collect()
    })
}

/// What the ledger says, in micro-dollars: spent, avoided, wasted.
fn money(shop: &Shop) -> (i64, i64, i64) {
    let memory = shop.memory.borrow();
    let ledger = &memory.ledger;
    let (spent, avoided) = (ledger.spent().get(), ledger.avoided().get());
    (spent, avoided, ledger.wasted().get())
}

fn launched(cycle: &Cycle) -> Vec<String> {
    let launches = cycle.done.iter().filter_map(|(action, _)| match action {
        Action::Launch {
            offering, count, ..
        } => Some(format!("{count} {offering}")),
        Action::Fence { .. } | Action::Unfence { .. } | Action::Terminate { .. } => None,
    });
    launches.collect()
}

#[test]
fn the_price_of_the_hour_decides_where_to_buy_and_how_much() {
    let shop = Shop::with(&[("spot-a", 99), ("spot-b", 99), ("demand", 99)]);
    let mut spec = fixed(2);
    assert_eq!(launched(&shop.cycle(&spec)), ["2 spot-a"]);
    // Dearer than the other one from now on.
    shop.reprice("spot-a", 50_000);
    spec = fixed(4);
    assert_eq!(launched(&shop.cycle(&spec)), ["2 spot-b"]);
    // Two of each at $0.05 and $0.04 leave $0.07 of $0.25: one more, and not
    // the two that the prices of the file would pay for.
    shop.reprice("spot-b", 60_000);
    spec = fixed(9);
    spec.limits.max_usd_per_hour = MicroUsdPerHour::new(280_000);
    assert_eq!(launched(&shop.cycle(&spec)), ["1 spot-a"]);
    // Dearer than on demand: nobody pays that for less.
    shop.reprice("spot-a", 110_000);
    shop.reprice("spot-b", 120_000);
    spec.limits.max_usd_per_hour = MicroUsdPerHour::new(10_000_000);
    assert_eq!(launched(&shop.cycle(&spec)), ["4 demand"]);
}

#[test]
fn what_is_bought_elsewhere_is_chosen_at_the_price_of_the_hour() {
    let shop = Shop::with(&[("spot-a", 0), ("spot-b", 9), ("demand", 9)]);
    // Dearer than on demand at the moment.
    shop.reprice("spot-b", 200_000);
    says(
        &shop.cycle(&fixed(2)),
        &expect![
            "0 -> 2 | 2 spot-a: no capacity; 2 demand: 2 launched | 2 not granted by spot-a, so 2 asked of demand"
        ],
    );
}

#[test]
fn a_decision_is_made_again_with_the_prices_it_was_made_with() {
    let shop = Shop::with(&[("spot-a", 99), ("spot-b", 99), ("demand", 99)]);
    let spec = |instances| {
        let mut spec = fixed(instances);
        spec.limits.max_usd_per_hour = MicroUsdPerHour::new(400_000);
        spec
    };
    for (instances, price) in [(2, 30_000), (4, 50_000), (8, 90_000), (12, 20_000)] {
        shop.reprice("spot-a", price);
        shop.cycle(&spec(instances));
    }
    let mut other_without = 0;
    for (mut decided, instances) in decided(&shop).into_iter().zip([2, 4, 8, 12]) {
        let spec = spec(instances);
        let again = decide(&spec, &decided.memory, &decided.seen);
        assert_eq!(again, decided.decision);
        assert_eq!(audit(&spec, &decided.memory, &decided.seen, &again), []);
        decided.seen.prices.clear();
        let without = decide(&spec, &decided.memory, &decided.seen);
        other_without += u32::from(without != decided.decision);
    }
    assert_eq!(other_without, 3, "all but the first depend on their prices");
    // So does what the memory is rebuilt from: the ledger is no other.
    let before = shop.memory.borrow().ledger.clone();
    shop.restart(&spec(12));
    assert_eq!(shop.memory.borrow().ledger, before);
}

#[test]
fn the_audit_counts_at_the_prices_that_were_seen() {
    let shop = Shop::with(&[("spot-a", 99), ("spot-b", 99), ("demand", 99)]);
    let mut spec = fixed(4);
    spec.limits.max_usd_per_hour = MicroUsdPerHour::new(120_000);
    shop.reprice("spot-a", 30_001);
    shop.cycle(&spec);
    let decided = decided(&shop).remove(0);
    assert_eq!(decided.decision.target, Some(3), "three at $0.030001");
    let mut faulty = decided.decision.clone();
    for action in &mut faulty.actions {
        if let Action::Launch { count, .. } = action {
            *count = 4;
        }
    }
    faulty.target = Some(4);
    let found = audit(&spec, &decided.memory, &decided.seen, &faulty);
    let broken: Vec<Invariant> = found.iter().map(|one| one.invariant).collect();
    assert_eq!(broken, [Invariant::NeverAboveSpend]);
}

#[test]
fn the_ledger_charges_each_span_at_its_own_price() {
    let shop = Shop::with(&[("spot-a", 9), ("spot-b", 9), ("demand", 9)]);
    let spec = fixed(2);
    shop.cycle(&spec);
    for _ in 0..60 {
        shop.cycle(&spec);
    }
    // Two at $0.03 for an hour.
    assert_eq!(money(&shop).0, 60_000);
    shop.reprice("spot-a", 90_000);
    for _ in 0..60 {
        shop.cycle(&spec);
    }
    // And two at $0.09 for another.
    assert_eq!(money(&shop).0, 240_000);
}

#[test]
fn the_ledger_of_spot_on_demand_and_prepaid_adds_up() {
    let mut spec = fixed(6);
    spec.limits.max = 10;
    // Two reserved ones, of a dearer kind than what is bought on demand.
    spec.offerings
        .push(offering("reserved", 120_000, Market::OnDemand, 2));
    spec.mix.on_demand_base = 3;
    let shop = Shop::with(&[("spot-a", 9), ("spot-b", 9), ("demand", 9), ("reserved", 9)]);
    assert_eq!(
        launched(&shop.cycle(&spec)),
        ["3 spot-a", "1 demand", "2 reserved"]
    );
    // A reserved one without a job wastes no money, a spot one does.
    for index in [0, 5] {
        shop.with_instance(|instance| instance.work = Work::Idle, index);
    }
    for _ in 0..60 {
        shop.cycle(&spec);
    }
    let (spent, avoided, wasted) = money(&shop);
    assert_eq!(spent, 3 * 30_000 + 100_000);
    // Ten instances, of which two are paid for: eight at $0.10.
    assert_eq!(avoided, 800_000 - spent);
    assert_eq!(wasted, 29_500, "the first half minute was never seen");
}

#[test]
fn a_fleet_of_spot_only_is_measured_by_what_its_file_says() {
    let mut spec = fixed(2);
    spec.limits.max = 2;
    // Without a price in the file, that is the one on demand.
    spec.offerings = vec![offering("spot-a", 100_000, Market::Spot, 0)];
    let shop = Shop::with(&[("spot-a", 9)]);
    shop.reprice("spot-a", 30_000);
    for _ in 0..61 {
        shop.cycle(&spec);
    }
    assert_eq!(money(&shop), (60_000, 140_000, 0));
}

#[test]
fn what_is_taken_back_is_bought_elsewhere_for_a_while() {
    // At almost the same price, so that standing alone decides.
    let shop = Shop::with(&[("spot-a", 99), ("spot-b", 99), ("demand", 99)]);
    shop.reprice("spot-b", 31_000);
    let spec = fixed(4);
    assert_eq!(launched(&shop.cycle(&spec)), ["4 spot-a"]);
    shop.with_instance(interruption, 0);
    let cycle = shop.cycle(&spec);
    assert_eq!(launched(&cycle), ["1 spot-b"]);
    let avoided = "only 0 asked of spot-a, which grants and keeps 80 % of late";
    assert!(told(&cycle).contains(avoided), "{}", told(&cycle));
    // It is listed with its notice for some cycles more, and counts once.
    let standing = shop.memory.borrow().standings["spot-a"];
    shop.cycle(&spec);
    shop.restart(&spec);
    shop.cycle(&spec);
    assert_eq!(shop.memory.borrow().standings["spot-a"], standing);
    // Half an hour later nothing speaks against it any more.
    for _ in 0..45 {
        shop.cycle(&spec);
    }
    assert_eq!(launched(&shop.cycle(&fixed(5))), ["1 spot-a"]);
}

#[test]
fn what_is_taken_back_unseen_is_held_against_its_offering_too() {
    let shop = Shop::with(&[("spot-a", 99), ("spot-b", 99), ("demand", 99)]);
    shop.reprice("spot-b", 31_000);
    let spec = fixed(2);
    shop.cycle(&spec);
    // Nobody gave notice: a listing shows that it is gone, and why.
    shop.with_instance(interruption, 0);
    shop.with_instance(|instance| instance.phase = Phase::Ending, 0);
    assert_eq!(launched(&shop.cycle(&spec)), ["1 spot-b"]);
    assert_eq!(shop.memory.borrow().standings["spot-a"].odds(START), 666);
}
