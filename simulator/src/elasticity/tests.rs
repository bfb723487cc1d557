//! By hand, and against a reckoning that looks at every second.

#![expect(
    clippy::cast_precision_loss,
    reason = "numbers in these tests are small"
)]

use proptest::prelude::*;

use super::*;
use crate::queue::narrow;

const SECOND: u64 = MICROS_PER_SEC;

fn demand(window_secs: u64, least: &[u64]) -> Demand {
    let window = window_secs * SECOND;
    Demand {
        window,
        length: window * wide(least.len()),
        target_wait: 0,
        least: least.to_vec(),
    }
}

/// Ready from, ended at, in seconds.
fn supply(stays: &[(u64, Option<u64>)], demand: &Demand) -> Supply {
    let stay = |(ready, ended): &(u64, Option<u64>)| InstanceStay {
        ready_at: Some(ready * SECOND),
        ended_at: ended.map(|at| at * SECOND),
    };
    Supply::of(stays.iter().map(stay), demand.length)
}

fn near(found: f64, expected: f64) {
    let off = (found - expected).abs();
    assert!(
        off <= 1e-9 * expected.abs().max(1.0),
        "{found} for {expected}"
    );
}

#[test]
fn a_fleet_that_follows_exactly_is_ideal() {
    let demand = demand(100, &[1, 2, 2, 1]);
    let supply = supply(&[(0, None), (100, Some(300))], &demand);
    let found = Elasticity::followed(&demand, &supply, 0.0);
    for part in [
        found.theta_u,
        found.theta_o,
        found.tau_u,
        found.tau_o,
        found.instability,
        found.jitter,
        found.deviation,
    ] {
        near(part, 0.0);
    }
    near(found.demand_mean, 1.5);
    assert_eq!(found.demand_peak, 2);
}

#[test]
fn measures_are_those_reckoned_by_hand() {
    // Demand 2, 4, 4, 0 over 100 s each. Two instances from 0, two more from 150
    // to the end: 50 s with two of four, and the last 100 s with four too many.
    let demand = demand(100, &[2, 4, 4, 0]);
    let supply = supply(&[(0, None), (0, None), (150, None), (150, None)], &demand);
    let found = Elasticity::followed(&demand, &supply, 3.0);
    near(found.theta_u, 100.0 * (0.5 * 50.0) / 400.0);
    near(found.theta_o, 100.0 * (4.0 * 100.0) / 400.0);
    near(found.tau_u, 12.5);
    near(found.tau_o, 25.0);
    // From window to window: both rise; both stay; the demand falls alone.
    near(found.instability, 100.0 / 3.0);
    // One change of the fleet, two of the demand, in 400 s.
    near(found.jitter, -9.0);
    let parts = [6.25, 100.0, 12.5, 25.0, 100.0 / 3.0, 3.0_f64];
    let powers: f64 = parts
        .iter()
        .map(|part| part * part * part * part * part)
        .sum();
    near(found.deviation, libm::pow(powers, 0.2));
}

#[test]
fn instances_that_never_serve_are_no_supply() {
    let demand = demand(100, &[1]);
    let never = [
        InstanceStay {
            ready_at: None,
            ended_at: None,
        },
        // Ended while it booted, and ready after the end.
        InstanceStay {
            ready_at: Some(50 * SECOND),
            ended_at: Some(40 * SECOND),
        },
        InstanceStay {
            ready_at: Some(100 * SECOND),
            ended_at: None,
        },
    ];
    let supply = Supply::of(never.into_iter(), demand.length);
    assert_eq!(supply.steps, [(0, 0)]);
    let found = Elasticity::followed(&demand, &supply, 0.0);
    near(found.theta_u, 100.0);
    near(found.tau_u, 100.0);
}

/// Erlang's C by its definition: sums of powers over factorials.
fn erlang_c(servers: u64, load: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 0.0;
    for k in 0..servers {
        sum += term;
        term *= load / (k + 1) as f64;
    }
    let last = term * servers as f64 / (servers as f64 - load);
    last / (sum + last)
}

#[test]
fn demand_is_the_least_that_erlang_allows() {
    for slots in [1_u32, 2, 7] {
        for load in [0.001, 0.05, 0.4, 1.0, 3.7, 12.0, 61.5, 140.0] {
            let late = |instances: u64| {
                let servers = instances * u64::from(slots);
                if servers as f64 <= load {
                    return 1.0;
                }
                let wait = libm::exp(-(servers as f64 - load) / 10.0);
                erlang_c(servers, load) * wait
            };
            let expected = (1..100_000).find(|instances| late(*instances) <= 0.05);
            assert_eq!(Some(instances_for(load, slots)), expected, "{load} {slots}");
        }
    }
    assert_eq!(instances_for(0.0, 1), 0);
    // Far beyond what powers and factorials can say.
    let many = instances_for(200_000.0, 1);
    assert!((200_010..200_100).contains(&many), "{many}");
}

#[test]
fn load_is_that_of_jobs_that_never_waited() {
    // One job a second for ten minutes, each of 10 s: ten in service, but for
    // the beginning. Then nothing, but for what is still in service.
    let arrivals: Vec<u64> = (0..600).map(|at| at * SECOND).collect();
    let services = vec![10 * SECOND; 600];
    let jobs = JobColumns::new(arrivals, services).expect("sorted");
    let demand = Demand::of(&jobs, 780 * SECOND, 10 * SECOND, 1);
    assert_eq!((demand.window, demand.target_wait), (60 * SECOND, SECOND));
    let full = instances_for(10.0, 1);
    let first = instances_for((50.0 * 10.0 + 55.0) / 60.0, 1);
    let last = instances_for(45.0 / 60.0, 1);
    let mut expected = vec![full; 13];
    expected[0] = first;
    expected[10] = last;
    expected[11..].fill(0);
    assert_eq!(demand.least, expected);
}

proptest! {
    #[test]
    fn measures_are_those_of_looking_at_every_second(
        least in prop::collection::vec(0..5_u64, 1..12),
        stays in prop::collection::vec((0..120_u64, 0..120_u64, any::<bool>()), 0..12),
    ) {
        let demand = demand(10, &least);
        let total = 10 * wide(least.len());
        let stays: Vec<(u64, Option<u64>)> = stays
            .into_iter()
            .map(|(from, long, ends)| (from, ends.then_some(from + long)))
            .collect();
        let at = |second: u64| {
            let there = |(from, to): &&(u64, Option<u64>)| {
                *from <= second && to.is_none_or(|to| second < to)
            };
            wide(stays.iter().filter(there).count())
        };
        let need = |second: u64| least[narrow(second / 10)];
        let part = |of: &dyn Fn(f64, f64) -> f64| {
            let sum: f64 = (0..total).map(|second| of(at(second) as f64, need(second) as f64)).sum();
            100.0 * sum / total as f64
        };
        let found = Elasticity::followed(&demand, &supply(&stays, &demand), 0.0);
        near(found.theta_u, part(&|supply, need| (need - supply).max(0.0) / need.max(1.0)));
        near(found.theta_o, part(&|supply, need| (supply - need).max(0.0) / need.max(1.0)));
        near(found.tau_u, part(&|supply, need| f64::from(u8::from(supply < need))));
        near(found.tau_o, part(&|supply, need| f64::from(u8::from(supply > need))));
        let changes = |of: &dyn Fn(u64) -> u64| {
            (1..total).filter(|second| of(*second) != of(second - 1)).count() as f64
        };
        let more = changes(&at) - changes(&need);
        near(found.jitter, more * 3_600.0 / total as f64);
        let steps = (1..wide(least.len())).map(|window| {
            let sign = |of: &dyn Fn(u64) -> u64| {
                let (before, after) = (of(window * 10 - 1), of(window * 10 + 9));
                f64::from(u8::from(after > before)) - f64::from(u8::from(after < before))
            };
            (sign(&at) - sign(&need)).clamp(0.0, 1.0)
        });
        let expected = 100.0 * steps.sum::<f64>() / (least.len().max(2) - 1) as f64;
        near(found.instability, expected);
    }
}
