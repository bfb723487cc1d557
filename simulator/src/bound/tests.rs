//! Each part of the bound against a plainer way to the same.

use std::fmt::Write as _;

use super::certificate::{Evaluator, Lows, PricePath, least_of_job};
use super::problem::Problem;
use super::usd;
use crate::queue::narrow;
use crate::random::Stream;
use crate::scenario::{Scenario, TraceFile};
use crate::trace;
use crate::workload::Workload;

fn drawn(stream: &mut Stream, count: u64, below: u64) -> Vec<u64> {
    (0..count).map(|_| stream.below(below)).collect()
}

#[test]
fn the_best_start_is_the_best_of_all_starts() {
    let mut stream = Stream::new(1, "starts");
    for number in 0..3_000 {
        let (step, length) = (1 + stream.below(5), 5 + stream.below(60));
        let prices = drawn(&mut stream, 70, 9);
        let path = PricePath::new(step, length, prices.clone());
        let price = |at: u64| {
            if at < length {
                prices[narrow(at / step)]
            } else {
                0
            }
        };
        let (arrival, service) = (stream.below(length), stream.below(30));
        let waiting = stream.below(6);
        let cost = |start: u64| {
            let paid: u64 = (start..start + service).map(price).sum();
            let paid = if start == length { 0 } else { paid };
            i128::from(waiting * (start - arrival) + paid)
        };
        let least = (arrival..=length).map(cost).min();
        let found = least_of_job(&path, &Lows::new(&path), arrival, service, waiting);
        assert_eq!(Some(found), least, "case {number}");
    }
}

fn world(stream: &mut Stream) -> (Scenario, Workload) {
    let boots = [
        r#"{ distribution = "constant", value = "60s" }"#,
        r#"{ distribution = "lognormal", median = "90s", p99 = "180s" }"#,
    ];
    let text = format!(
        r#"
        [workload]
        trace = "drawn.csv"
        length = "2h"
        [cloud]
        boot = {}
        usd_per_hour = 0.36
        [fleet]
        initial = {}
        max = 100
        [objective]
        usd_per_job_hour_waiting = 0.3
        "#,
        boots[narrow(stream.below(2))],
        stream.below(3),
    );
    let mut arrivals = drawn(stream, 150, 7_000);
    arrivals.sort_unstable();
    let mut rows = "arrival_s,service_s\n".to_owned();
    for arrival in arrivals {
        let service = 1 + stream.below(300);
        writeln!(rows, "{arrival},{service}").expect("text");
    }
    let place = |name: &str| TraceFile::Embedded(name.to_owned());
    let scenario = Scenario::parse("drawn", &text, place).expect("sound");
    let trace = trace::read_bytes("drawn.csv", rows.as_bytes()).expect("sound");
    let workload = scenario.build_workload(&trace).expect("it has jobs");
    (scenario, workload)
}

#[test]
fn any_prices_prove_something_true() {
    let mut stream = Stream::new(1, "prices");
    for number in 0..20 {
        let (scenario, workload) = world(&mut stream);
        let found = super::of(&scenario, &workload).expect("covered");
        let problem = Problem::of(&scenario, &workload).expect("covered");
        let evaluator = Evaluator::new(&problem);
        let terms = problem.terms(0);
        for _ in 0..20 {
            let most = 1 + stream.below(3 * problem.price);
            let prices = drawn(&mut stream, 120, most);
            let path = PricePath::new(60_000_000, problem.length, prices);
            let proved = usd(evaluator.by_prices(&path, terms));
            assert!(
                proved <= found.achieved_usd,
                "world {number}: {proved} of {}",
                found.achieved_usd
            );
        }
    }
}

#[test]
fn one_job_alone_costs_its_boot_and_its_work() {
    let place = |name: &str| TraceFile::Embedded(name.to_owned());
    let text = r#"
        [workload]
        trace = "one.csv"
        length = "1h"
        [cloud]
        boot = { distribution = "constant", value = "2m" }
        usd_per_hour = 3.6
        [fleet]
        initial = 0
        max = 5
        [objective]
        usd_per_job_hour_waiting = 36.0
    "#;
    let scenario = Scenario::parse("one", text, place).expect("sound");
    let rows = "arrival_s,service_s\n600,300\n".as_bytes();
    let trace = trace::read_bytes("one.csv", rows).expect("sound");
    let workload = scenario.build_workload(&trace).expect("it has a job");
    let found = super::of(&scenario, &workload).expect("covered");
    // A tenth of a cent each second: two minutes and five.
    assert!((found.bound_usd - 0.42).abs() < 1e-6, "{found:?}");
    // It ends a microsecond late, which is charged as a second.
    assert!((found.achieved_usd - 0.421).abs() < 1e-6, "{found:?}");
}
