use std::time::Duration;

use proptest::prelude::*;

use super::*;

const SEC: u64 = 1_000_000;

fn exponential(secs: u64) -> Distribution {
    Distribution::exponential(Duration::from_secs(secs)).expect("valid")
}

/// Ten steps of a minute, with a burst and a silence.
fn rates() -> Trace {
    let counts = vec![3, 0, 7, 120, 1, 0, 0, 14, 9, 2];
    Trace::of_counts("rates", 60 * SEC, counts).expect("valid")
}

/// Jobs at 0 s, 10 s, ... 590 s that take 1 s, 2 s, ... 60 s.
fn jobs() -> Trace {
    let arrivals = (0..60).map(|job| job * 10 * SEC).collect();
    let services = (1..=60).map(|job| job * SEC).collect();
    Trace::of_jobs("jobs", arrivals, services).expect("valid")
}

/// FNV-1a over both columns: one number that no other workload has.
fn hash(workload: &Workload) -> u64 {
    let jobs = &workload.jobs;
    let words = jobs.arrivals().iter().chain(jobs.services());
    words
        .flat_map(|micros| micros.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}

/// Sum of services over the length: what `busy_mean` promises.
fn load(workload: &Workload) -> f64 {
    let sum: u128 = workload
        .jobs
        .services()
        .iter()
        .copied()
        .map(u128::from)
        .sum();
    float(sum) / float(workload.length_micros.into())
}

fn check_sound(workload: &Workload) {
    let jobs = &workload.jobs;
    assert!(!jobs.is_empty());
    assert_eq!(jobs.len(), jobs.services().len());
    assert!(jobs.arrivals().is_sorted());
    assert!(
        jobs.arrivals()
            .iter()
            .all(|arrival| *arrival < workload.length_micros)
    );
}

#[test]
fn a_job_trace_comes_through_as_it_is() {
    let workload = build(&jobs(), &WorkloadSpec::default(), 1).expect("valid");
    assert_eq!(workload.length_micros, 590 * SEC + 1);
    let TraceKind::Jobs {
        arrival_micros,
        service_micros,
        ..
    } = jobs().kind().clone()
    else {
        panic!("jobs");
    };
    assert_eq!(
        *workload.jobs,
        JobColumns::new(arrival_micros, service_micros).expect("valid")
    );
}

#[test]
fn windows_are_half_open_and_shifted_to_zero() {
    let cases: &[(u64, Option<u64>, &[u64], u64)] = &[
        // start, length -> arrivals, length
        (570 * SEC, None, &[0, 10 * SEC, 20 * SEC], 20 * SEC + 1),
        (570 * SEC, Some(20 * SEC), &[0, 10 * SEC], 20 * SEC),
        (
            570 * SEC,
            Some(20 * SEC + 1),
            &[0, 10 * SEC, 20 * SEC],
            20 * SEC + 1,
        ),
        (570 * SEC + 1, Some(15 * SEC), &[10 * SEC - 1], 15 * SEC),
        (590 * SEC, Some(900 * SEC), &[0], 900 * SEC),
    ];
    for (start_micros, length_micros, arrivals, length) in cases {
        let (start_micros, length_micros) = (*start_micros, *length_micros);
        let spec = WorkloadSpec {
            start_micros,
            length_micros,
            ..WorkloadSpec::default()
        };
        let workload = build(&jobs(), &spec, 1).expect("valid");
        assert_eq!(
            workload.jobs.arrivals(),
            *arrivals,
            "{start_micros}, {length_micros:?}"
        );
        assert_eq!(workload.length_micros, *length);
    }
}

#[test]
fn every_step_has_as_many_arrivals_as_it_says() {
    let spec = WorkloadSpec {
        service: Some(exponential(30)),
        ..WorkloadSpec::default()
    };
    for seed in 0..5 {
        let workload = build(&rates(), &spec, seed).expect("valid");
        check_sound(&workload);
        let mut counts = [0; 10];
        for arrival in workload.jobs.arrivals() {
            counts[index(arrival / (60 * SEC))] += 1;
        }
        assert_eq!(counts, [3, 0, 7, 120, 1, 0, 0, 14, 9, 2]);
        assert_eq!(workload.length_micros, 600 * SEC);
    }
}

#[test]
fn a_cut_step_gives_what_of_it_falls_inside() {
    let whole = WorkloadSpec {
        service: Some(exponential(30)),
        start_micros: 180 * SEC,
        ..JOB
    };
    let cut = WorkloadSpec {
        start_micros: 200 * SEC,
        length_micros: Some(20 * SEC),
        ..whole
    };
    let whole = build(&rates(), &whole, 4).expect("valid");
    let cut = build(&rates(), &cut, 4).expect("valid");
    // Both draw the busy step first, so the cut one has the middle third of it.
    let middle: Vec<u64> = whole
        .jobs
        .arrivals()
        .iter()
        .filter_map(|arrival| arrival.checked_sub(20 * SEC))
        .filter(|arrival| *arrival < 20 * SEC)
        .collect();
    assert_eq!(cut.jobs.arrivals(), middle);
    assert!((25..=55).contains(&middle.len()), "{} of 120", middle.len());
}

#[test]
fn arrivals_inside_a_step_are_spread_evenly() {
    let trace = Trace::of_counts("even", 60 * SEC, vec![40_000, 0]).expect("valid");
    let spec = WorkloadSpec {
        service: Some(exponential(1)),
        ..JOB
    };
    let workload = build(&trace, &spec, 1).expect("valid");
    let mut counts = [0_u32; 10];
    for arrival in workload.jobs.arrivals() {
        counts[index(arrival / (6 * SEC))] += 1;
    }
    // Five standard deviations of a binomial with 40,000 draws and p = 1/10.
    assert!(
        counts.iter().all(|count| count.abs_diff(4_000) < 300),
        "{counts:?}"
    );
}

#[test]
fn job_traces_are_thinned_job_by_job() {
    // Offered are 1830 s in 590.000001 s: about 3.1 slots.
    let spec = WorkloadSpec {
        busy_mean: Some(1.0),
        ..WorkloadSpec::default()
    };
    let whole = build(&jobs(), &WorkloadSpec::default(), 1).expect("valid");
    let thinned = build(&jobs(), &spec, 1).expect("valid");
    check_sound(&thinned);
    assert!(
        (8..=35).contains(&thinned.jobs.len()),
        "{}",
        thinned.jobs.len()
    );
    let pairs = |workload: &Workload| -> Vec<(u64, u64)> {
        let jobs = &workload.jobs;
        jobs.arrivals()
            .iter()
            .copied()
            .zip(jobs.services().iter().copied())
            .collect()
    };
    let all = pairs(&whole);
    assert!(
        pairs(&thinned).iter().all(|job| all.contains(job)),
        "jobs keep their numbers"
    );
}

#[test]
fn superposed_jobs_are_the_same_jobs_at_shifted_times() {
    // An hour and a half, so that shifts are drawn from an hour.
    let length = 5_400 * SEC;
    let base = WorkloadSpec {
        length_micros: Some(length),
        ..WorkloadSpec::default()
    };
    let one = load(&build(&jobs(), &base, 3).expect("valid"));
    let spec = WorkloadSpec {
        busy_mean: Some(3.0 * one),
        ..base
    };
    let workload = build(&jobs(), &spec, 3).expect("valid");
    check_sound(&workload);
    assert_eq!(workload.jobs.len(), 180);
    // In a whole copy each service time comes once, so each comes thrice.
    let mut services = workload.jobs.services().to_vec();
    services.sort_unstable();
    let expected: Vec<u64> = (1..=60).flat_map(|job| [job * SEC; 3]).collect();
    assert_eq!(services, expected);
    // The job of 1 s arrives at 0 in the trace: its arrivals are the shifts.
    let mut superposing = Stream::new(3, "superposing");
    let mut shifts = vec![
        0,
        superposing.below(3_600 * SEC),
        superposing.below(3_600 * SEC),
    ];
    shifts.sort_unstable();
    let firsts: Vec<u64> = workload
        .jobs
        .arrivals()
        .iter()
        .zip(workload.jobs.services())
        .filter(|(_, service)| **service == SEC)
        .map(|(arrival, _)| *arrival)
        .collect();
    assert_eq!(firsts, shifts);
}

#[test]
fn jobs_shifted_past_the_end_come_in_again() {
    let length = 590 * SEC + 1;
    for seed in 0..20 {
        let spec = WorkloadSpec {
            busy_mean: Some(2.0 * 1_830.0 / 590.000_001),
            ..JOB
        };
        let workload = build(&jobs(), &spec, seed).expect("valid");
        check_sound(&workload);
        let shift = Stream::new(seed, "superposing").below(length);
        let mut expected: Vec<(u64, u64, u64)> = (0..60)
            .flat_map(|job| {
                let (arrival, service) = (job * 10 * SEC, (job + 1) * SEC);
                [
                    (arrival, 0, service),
                    ((arrival + shift) % length, 1, service),
                ]
            })
            .collect();
        expected.sort_unstable();
        let services: Vec<u64> = expected.iter().map(|job| job.2).collect();
        let arrivals: Vec<u64> = expected.iter().map(|job| job.0).collect();
        assert_eq!(
            *workload.jobs,
            JobColumns::new(arrivals, services).expect("valid"),
            "seed {seed}"
        );
    }
}

#[test]
fn superposing_does_not_make_rates_burstier() {
    // Ten copies of one arrival a minute: multiplied, every minute would hold
    // exactly ten; superposed, each copy has its own instants.
    let trace = Trace::of_counts("even", 60 * SEC, vec![1; 600]).expect("valid");
    let spec = WorkloadSpec {
        service: Some(exponential(60)),
        busy_mean: Some(10.0),
        ..JOB
    };
    let workload = build(&trace, &spec, 2).expect("valid");
    check_sound(&workload);
    assert_eq!(workload.jobs.len(), 6_000);
    let mut arrivals = workload.jobs.arrivals().to_vec();
    arrivals.dedup();
    assert!(
        arrivals.len() > 5_950,
        "{} different instants",
        arrivals.len()
    );
}

#[test]
fn drawing_more_of_one_thing_shifts_nothing_in_another() {
    let spec = WorkloadSpec {
        service: Some(exponential(30)),
        ..JOB
    };
    let constant = Distribution::constant(Duration::from_secs(30)).ok();
    let other = WorkloadSpec {
        service: constant,
        ..spec
    };
    let one = build(&rates(), &spec, 9).expect("valid");
    let two = build(&rates(), &other, 9).expect("valid");
    assert_eq!(one.jobs.arrivals(), two.jobs.arrivals());
    assert_ne!(one.jobs.services(), two.jobs.services());
}

// The numbers come from a program written apart from this one, in Python, by
// the rules at the head of `workload.rs`.
#[test]
fn built_workloads_never_change() {
    let lognormal = Distribution::lognormal(Duration::from_secs(30), 1.5).ok();
    let cut = |busy_mean, service| WorkloadSpec {
        start_micros: 130 * SEC,
        length_micros: Some(400 * SEC),
        service,
        busy_mean,
        slots_per_instance: 2,
    };
    let exponential = Some(exponential(20));
    let cases = [
        (
            "rates",
            rates(),
            cut(None, lognormal),
            149,
            0x55ce_3d02_2dbc_6483,
        ),
        (
            "rates, thinned",
            rates(),
            cut(Some(4.0), lognormal),
            61,
            0xf18e_d3cf_9ac0_756e,
        ),
        (
            "rates, superposed",
            rates(),
            cut(Some(30.0), exponential),
            602,
            0x8c55_07fe_4e30_d4cc,
        ),
        ("jobs", jobs(), cut(None, None), 40, 0x55fa_8a16_d894_a61c),
        (
            "jobs, thinned",
            jobs(),
            cut(Some(1.0), None),
            15,
            0xaaf1_103d_8834_1023,
        ),
        (
            "jobs, superposed",
            jobs(),
            cut(Some(20.0), None),
            238,
            0x31e5_6c95_c476_4218,
        ),
    ];
    for (name, trace, spec, count, number) in cases {
        let workload = build(&trace, &spec, 7).expect(name);
        assert_eq!(
            (workload.jobs.len(), hash(&workload)),
            (count, number),
            "{name}"
        );
        assert_eq!(
            build(&trace, &spec, 7).expect(name),
            workload,
            "{name}, again"
        );
        assert_ne!(
            build(&rates(), &cut(None, lognormal), 8).expect(name),
            workload,
            "{name}"
        );
    }
}

/// Each must be refused by an error that begins with a key and has the words.
fn check_refused<const N: usize>(cases: [(Trace, WorkloadSpec, &str); N]) {
    for (trace, spec, words) in cases {
        let error = build(&trace, &spec, 1).expect_err(words).to_string();
        assert!(
            error.starts_with("workload.") && error.contains(words),
            "{error}"
        );
    }
}

const JOB: WorkloadSpec = WorkloadSpec {
    start_micros: 0,
    length_micros: None,
    service: None,
    busy_mean: None,
    slots_per_instance: 1,
};

fn rate() -> WorkloadSpec {
    WorkloadSpec {
        service: Some(exponential(30)),
        ..JOB
    }
}

fn window(start_micros: u64, length_micros: u64, spec: WorkloadSpec) -> WorkloadSpec {
    WorkloadSpec {
        start_micros,
        length_micros: Some(length_micros),
        ..spec
    }
}

fn busy(busy_mean: f64, spec: WorkloadSpec) -> WorkloadSpec {
    WorkloadSpec {
        busy_mean: Some(busy_mean),
        ..spec
    }
}

#[test]
fn windows_that_hold_nothing_say_what_to_change() {
    let late = WorkloadSpec {
        start_micros: 600 * SEC,
        ..rate()
    };
    let later = WorkloadSpec {
        start_micros: 590 * SEC + 1,
        ..JOB
    };
    check_refused([
        (
            rates(),
            late,
            "workload.start: 600 s is not before the end of trace rates at 600 s",
        ),
        (jobs(), later, "at 590.000001 s; start earlier"),
        (
            jobs(),
            window(u64::MAX, u64::MAX, JOB),
            "workload.start: 18446744073709.551615 s",
        ),
        (
            jobs(),
            window(0, 0, JOB),
            "workload.length: 0 s must be above 0",
        ),
        (
            jobs(),
            window(0, u64::MAX, JOB),
            "at most 1152921504606.846976 s",
        ),
        (
            rates(),
            window(300 * SEC, 120 * SEC, rate()),
            "no job of trace rates arrives from 300 s to 420 s; choose another start",
        ),
        (
            jobs(),
            window(1, SEC, JOB),
            "arrives from 0.000001 s to 1.000001 s",
        ),
    ]);
}

#[test]
fn services_and_loads_that_make_no_sense_say_what_to_change() {
    let nothing = Distribution::constant(Duration::ZERO).ok();
    let idle = Trace::of_jobs("idle", vec![0, SEC], vec![0, 0]).expect("valid");
    check_refused([
        (
            rates(),
            JOB,
            "workload.service: trace rates says when jobs arrive but not how long",
        ),
        (
            jobs(),
            rate(),
            "workload.service: trace jobs says how long each job takes; remove",
        ),
        (
            rates(),
            WorkloadSpec {
                service: nothing,
                ..JOB
            },
            "workload.service: its mean is 0",
        ),
        (
            jobs(),
            WorkloadSpec {
                slots_per_instance: 0,
                ..JOB
            },
            "workload.slots_per_instance: 0",
        ),
        (
            jobs(),
            busy(0.0, JOB),
            "workload.busy_mean: 0 must be a number above 0",
        ),
        (jobs(), busy(-1.0, JOB), "workload.busy_mean: -1 must be"),
        (
            jobs(),
            busy(f64::NAN, JOB),
            "workload.busy_mean: NaN must be",
        ),
        (
            jobs(),
            busy(f64::INFINITY, JOB),
            "workload.busy_mean: inf must be",
        ),
        (
            idle,
            busy(1.0, JOB),
            "workload.busy_mean: no job in the window of trace idle takes any",
        ),
    ]);
}

#[test]
fn workloads_too_small_or_too_large_say_what_to_change() {
    let rare = Trace::of_jobs("rare", vec![0, 3_600 * SEC], vec![1, 1]).expect("valid");
    let counts =
        |count, steps| Trace::of_counts("counts", 60 * SEC, vec![count; steps]).expect("valid");
    check_refused([
        (
            rare.clone(),
            busy(1e-14, JOB),
            "chance left none; raise it, or workload.busy_mean",
        ),
        (counts(1, 1), window(0, 1, rate()), "chance left none"),
        (
            rare,
            busy(1.0, JOB),
            "workload.busy_mean: 1 needs 1800000000 copies of the window",
        ),
        (
            jobs(),
            busy(f64::MAX, JOB),
            "at most 1000000 are superposed",
        ),
        (
            counts(u64::MAX, 3),
            rate(),
            "workload.length: 55340232221128654848 arrivals and steps",
        ),
        (
            counts(1_000_000, 1),
            window(0, 10, busy(5e9, rate())),
            "10000010000 arrivals and steps",
        ),
        (
            counts(50_000_000, 5),
            rate(),
            "about 250000000 jobs are too many (at most 200000000)",
        ),
    ]);
}

proptest! {
    #![proptest_config(crate::testing::properties(64))]

    #[test]
    fn scaled_rates_hit_the_load(
        counts in prop::collection::vec(0_u64..60, 20..60),
        busy_mean in 1.0..60.0_f64,
        start in 0_u64..600,
        seed: u64,
    ) {
        prop_assume!(counts.iter().skip(10).sum::<u64>() > 100);
        let trace = Trace::of_counts("random", 60 * SEC, counts).expect("valid");
        let service = Distribution::constant(Duration::from_secs(20)).ok();
        let spec = WorkloadSpec {
            start_micros: start * SEC,
            service,
            busy_mean: Some(busy_mean),
            ..JOB
        };
        let workload = build(&trace, &spec, seed).expect("valid");
        check_sound(&workload);
        // Six standard deviations, as if every arrival were drawn anew.
        let expected = busy_mean * float(workload.length_micros.into()) / float((20 * SEC).into());
        let jobs = float(workload.jobs.len() as u128);
        prop_assert!((jobs - expected).abs() < 6.0 * expected.sqrt() + 1.0, "{jobs}, {expected}");
    }

    #[test]
    fn scaled_jobs_hit_the_load(
        mut arrivals in prop::collection::vec(0_u64..7_200 * SEC, 200..300),
        factor in 0.2..6.0_f64,
        start in 0_u64..3_600,
        seed: u64,
    ) {
        arrivals.sort_unstable();
        let services = vec![30 * SEC; arrivals.len()];
        let trace = Trace::of_jobs("random", arrivals, services).expect("valid");
        let length_micros = Some(3_000 * SEC);
        let base = WorkloadSpec { start_micros: start * SEC, length_micros, ..JOB };
        let one = build(&trace, &base, seed).expect("valid");
        let spec = WorkloadSpec { busy_mean: Some(factor * load(&one)), ..base };
        let workload = build(&trace, &spec, seed).expect("valid");
        check_sound(&workload);
        let (jobs, each) = (float(workload.jobs.len() as u128), float(one.jobs.len() as u128));
        // Only the last copy is thinned: at most a binomial's deviation.
        prop_assert!((jobs - factor * each).abs() < 3.0 * each.sqrt() + 1.0, "{jobs}, {factor}, {each}");
    }
}
