//! Jobs of several classes: told apart by the trace, or each from a trace of
//! its own.
//!
//! The main trace gives its jobs by the rules of [`super`], as if there were no
//! classes: whether jobs have classes changes nothing about when they come. A
//! class with a trace of its own is a workload of its own, by the same rules,
//! from the start of its trace; its streams grow from the first 64 bits of the
//! stream `class NAME` of the seed. All are merged by arrival; at one instant
//! the main trace goes first, and then the classes in their order.

use std::sync::Arc;

use super::{Columns, Copies, Source, Window, Workload, WorkloadError, WorkloadSpec};
use super::{build, factor, merge};
use crate::distribution::Distribution;
use crate::queue::{JobClass, JobClasses, JobColumns, narrow};
use crate::random::Stream;
use crate::trace::{Trace, TraceKind};

/// What jobs of the main trace are of whose class has no table.
pub const OTHER: &str = "other";

/// One class of jobs.
#[derive(Clone, Debug)]
pub struct ClassWork<'a> {
    /// What it is called, and what the trace calls it.
    pub name: &'a str,
    /// Higher goes first.
    pub priority: u32,
    /// Service times in place of those of the trace, from the stream `service NAME`.
    pub service: Option<Distribution>,
    /// Its own trace, and how many slots that shall keep busy on average.
    pub own: Option<(&'a Trace, Option<f64>)>,
}

/// The jobs of `trace` and of the classes' own traces, all with their class.
///
/// # Errors
/// As [`build`], for whichever trace it is.
pub fn build_classed(
    trace: &Trace,
    spec: &WorkloadSpec,
    classes: &[ClassWork<'_>],
    seed: u64,
) -> Result<Workload, WorkloadError> {
    let main = build(trace, spec, seed)?;
    check_names(trace, classes)?;
    let mut named: Vec<JobClass> = classes
        .iter()
        .map(|class| JobClass {
            name: class.name.to_owned(),
            priority: class.priority,
        })
        .collect();
    let numbers = main_numbers(trace, spec, classes, seed)?;
    let mut numbers = numbers.unwrap_or_else(|| vec![other(classes); main.jobs.len()]);
    let last = numbers.iter().map(|number| usize::from(*number)).max();
    if last == Some(named.len()) {
        named.push(JobClass {
            name: OTHER.to_owned(),
            priority: 0,
        });
    }
    let mut jobs = Columns {
        arrival: main.jobs.arrivals().to_vec(),
        service: main.jobs.services().to_vec(),
    };
    for (class, number) in classes.iter().zip(0_u16..) {
        let draws = format!("service {}", class.name);
        if let (Some(service), None) = (class.service, class.own) {
            let mut stream = Stream::new(seed, &draws);
            let own = numbers.iter().zip(&mut jobs.service);
            for (_, time) in own.filter(|(one, _)| **one == number) {
                *time = service.sample_micros(&mut stream);
            }
        }
    }
    for (class, number) in classes.iter().zip(0_u16..) {
        let Some((own, busy_mean)) = class.own else {
            continue;
        };
        let own_spec = WorkloadSpec {
            start_micros: 0,
            length_micros: Some(main.length_micros),
            service: class.service,
            busy_mean,
            ..*spec
        };
        let own_seed = Stream::new(seed, &format!("class {}", class.name)).bits();
        let own = build(own, &own_spec, own_seed).map_err(|error| error.of_class(class.name))?;
        (jobs, numbers) = join((jobs, numbers), &own.jobs, number);
    }
    let jobs = JobColumns::new(jobs.arrival, jobs.service)?;
    let classes = JobClasses::new(named, numbers);
    Ok(Workload {
        jobs: Arc::new(jobs),
        length_micros: main.length_micros,
        classes: classes.map(Arc::new),
    })
}

/// The number of jobs whose class has no table: that of [`OTHER`], or the one
/// after the last.
fn other(classes: &[ClassWork<'_>]) -> u16 {
    let place = classes.iter().position(|class| class.name == OTHER);
    u16::try_from(place.unwrap_or(classes.len())).unwrap_or(u16::MAX)
}

/// As many names of classes are told.
const TOLD_MAX: usize = 12;

/// Every class is one of the trace's, or has its own trace.
fn check_names(trace: &Trace, classes: &[ClassWork<'_>]) -> Result<(), WorkloadError> {
    let known = match trace.kind() {
        TraceKind::Jobs { classes, .. } => classes.names(),
        TraceKind::Rate { .. } => &[],
    };
    let unknown = classes.iter().find(|class| {
        class.own.is_none() && class.name != OTHER && !known.iter().any(|name| name == class.name)
    });
    let Some(class) = unknown else {
        return Ok(());
    };
    let mut told: Vec<&str> = known.iter().map(String::as_str).take(TOLD_MAX).collect();
    if known.len() > TOLD_MAX {
        told.push("...");
    }
    Err(WorkloadError::NoSuchClass {
        class: class.name.to_owned(),
        known: if told.is_empty() {
            format!("trace {} has no classes", trace.name()).into()
        } else {
            let told = told.join(", ");
            format!("trace {} has no such class, it has {told}", trace.name()).into()
        },
    })
}

/// The class of every job that [`build`] makes of a trace of jobs with classes.
fn main_numbers(
    trace: &Trace,
    spec: &WorkloadSpec,
    classes: &[ClassWork<'_>],
    seed: u64,
) -> Result<Option<Vec<u16>>, WorkloadError> {
    let window = Window::new(trace, spec)?;
    let source = Source::new(trace, spec.service, window)?;
    let (
        TraceKind::Jobs {
            arrival_micros,
            classes: known,
            ..
        },
        Source::Jobs { arrival, .. },
    ) = (trace.kind(), &source)
    else {
        return Ok(None);
    };
    if known.numbers().is_empty() {
        return Ok(None);
    }
    let number_of = |name: &String| {
        let same = |class: &ClassWork<'_>| class.own.is_none() && class.name == name;
        let place = classes.iter().position(same);
        place.map_or(other(classes), |place| {
            u16::try_from(place).unwrap_or(u16::MAX)
        })
    };
    let by_name: Vec<u16> = known.names().iter().map(number_of).collect();
    let from = arrival_micros.partition_point(|at| *at < window.start);
    let numbers = &known.numbers()[from..from + arrival.len()];
    // The very merge that made the jobs, with classes in the place of services.
    let copies = Copies::of(factor(
        trace.name(),
        spec.busy_mean,
        source.offer(window).load,
    )?);
    let scaling = super::Scaling::new(window, copies, seed);
    let mut merged = Vec::new();
    merge(arrival, window, scaling, |_, place| {
        merged.push(by_name[narrow(u64::from(numbers[place]))]);
    });
    Ok(Some(merged))
}

/// Both in the order of arrival, the first of them first at one instant.
fn join(
    (first, numbers): (Columns, Vec<u16>),
    second: &JobColumns,
    number: u16,
) -> (Columns, Vec<u16>) {
    let mut jobs = Columns::default();
    let mut all = Vec::with_capacity(numbers.len() + second.len());
    let (mut one, mut other) = (0, 0);
    let (arrivals, services) = (second.arrivals(), second.services());
    while one < numbers.len() || other < arrivals.len() {
        let first_goes = match (first.arrival.get(one), arrivals.get(other)) {
            (Some(one), Some(other)) => one <= other,
            (one, _) => one.is_some(),
        };
        if first_goes {
            jobs.arrival.push(first.arrival[one]);
            jobs.service.push(first.service[one]);
            all.push(numbers[one]);
            one += 1;
        } else {
            jobs.arrival.push(arrivals[other]);
            jobs.service.push(services[other]);
            all.push(number);
            other += 1;
        }
    }
    (jobs, all)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::trace::Classes;

    fn trace() -> Trace {
        let names = ["web", "batch", "mail"].map(str::to_owned).into();
        let numbers = (0..300_u32).map(|job| job % 3).collect();
        let classes = Classes::new(names, numbers).expect("all known");
        let arrivals = (0..300)
            .map(|job| job * 1_000_000 + job * job % 7)
            .collect();
        let services = (0..300).map(|job| (job % 3 + 1) * 1_000).collect();
        Trace::of_classed_jobs("classed", arrivals, services, classes).expect("sorted")
    }

    fn class(name: &str, priority: u32) -> ClassWork<'_> {
        ClassWork {
            name,
            priority,
            service: None,
            own: None,
        }
    }

    #[test]
    fn classes_change_nothing_about_when_jobs_come() {
        let trace = trace();
        for busy_mean in [None, Some(0.000_9), Some(0.007)] {
            let spec = WorkloadSpec {
                busy_mean,
                start_micros: 10_000_000,
                ..WorkloadSpec::default()
            };
            let plain = build(&trace, &spec, 3).expect("jobs");
            let two = [class("batch", 0), class("web", 2)];
            let classed = build_classed(&trace, &spec, &two, 3).expect("jobs");
            assert_eq!(plain.jobs, classed.jobs);
            let told = classed.classes.expect("it has some");
            let names: Vec<&str> = told.classes().iter().map(|one| one.name.as_str()).collect();
            assert_eq!(names, ["batch", "web", OTHER]);
            let explicit = [class(OTHER, 5), class("batch", 0), class("web", 2)];
            let explicit = build_classed(&trace, &spec, &explicit, 3).expect("jobs");
            let explicit = explicit.classes.expect("it has some");
            let shifted = told.numbers().iter().map(|number| (number + 1) % 3);
            assert_eq!(explicit.numbers(), shifted.collect::<Vec<_>>());
            // Service times tell the classes of this trace apart.
            for (service, number) in classed.jobs.services().iter().zip(told.numbers()) {
                let expected = [1, 0, 2][narrow(service / 1_000 - 1)];
                assert_eq!(*number, expected, "{service}");
            }
        }
    }

    #[test]
    fn classes_have_services_and_traces_of_their_own() {
        let minute = Duration::from_mins(1);
        let constant = |span| Distribution::constant(span).expect("short");
        let rate = Trace::of_counts("rate", 1_000_000, vec![2; 50]).expect("a trace");
        let classes = [
            ClassWork {
                service: Some(constant(minute)),
                ..class("mail", 0)
            },
            ClassWork {
                service: Some(constant(2 * minute)),
                own: Some((&rate, None)),
                ..class("web", 1)
            },
        ];
        let spec = WorkloadSpec::default();
        let built = build_classed(&trace(), &spec, &classes, 1).expect("jobs");
        let told = built.classes.expect("it has some");
        let count = |wanted: u16, service: u64| {
            let both = told.numbers().iter().zip(built.jobs.services());
            both.filter(|(number, time)| **number == wanted && **time == service)
                .count()
        };
        assert_eq!(count(0, 60_000_000), 100, "mail, all a minute long");
        assert_eq!(count(1, 120_000_000), 100, "its own trace only");
        assert_eq!((count(2, 1_000), count(2, 2_000)), (100, 100), "the rest");
        assert_eq!(told.numbers().len(), 400);
        assert!(built.jobs.arrivals().is_sorted());
        let main: Vec<u64> = (0..400)
            .filter(|job| told.numbers()[*job] != 1)
            .map(|job| built.jobs.arrivals()[job])
            .collect();
        assert_eq!(
            main,
            build(&trace(), &spec, 1).expect("jobs").jobs.arrivals()
        );
    }

    #[test]
    fn what_is_wrong_with_the_trace_of_a_class_is_told_of_the_class() {
        let jobs = Trace::of_jobs("own", vec![0], vec![1]).expect("sorted");
        let rate = Trace::of_counts("rate", 1_000_000, vec![2; 50]).expect("a trace");
        let second = Distribution::constant(Duration::from_secs(1)).ok();
        for (own, service, busy_mean, expected) in [
            (&jobs, second, None, "service: trace own says how long each"),
            (&rate, None, None, "service: trace rate says when jobs"),
            (&rate, second, Some(-1.0), "busy_mean: -1 must be"),
        ] {
            let class = ClassWork {
                service,
                own: Some((own, busy_mean)),
                ..class("night", 0)
            };
            let built = build_classed(&trace(), &WorkloadSpec::default(), &[class], 1);
            let told = built.expect_err("a slip").to_string();
            let expected = format!("workload.class.night.{expected}");
            assert!(told.starts_with(&expected), "{told}");
        }
    }

    #[test]
    fn classes_that_the_trace_does_not_know_are_refused() {
        let refused = |trace: &Trace, service| {
            let spec = WorkloadSpec {
                service,
                ..WorkloadSpec::default()
            };
            let built = build_classed(trace, &spec, &[class("wbe", 1)], 1);
            built.expect_err("a slip").to_string()
        };
        let told = refused(&trace(), None);
        assert!(told.starts_with("workload.class.wbe: "), "{told}");
        assert!(told.contains("it has web, batch, mail;"), "{told}");
        let rate = Trace::of_counts("rate", 1_000_000, vec![2; 50]).expect("a trace");
        let service = Distribution::constant(Duration::from_secs(1)).expect("short");
        assert!(refused(&rate, Some(service)).contains("has no classes;"));
    }
}
