//! A trace with more or less load, by superposing and thinning.

use super::{COPIES_MAX, Copies, DRAWS_MAX, JOBS_MAX, Scaling, Window, float, index, merge};
use crate::random::Stream;
use crate::trace::{Classes, Trace, TraceKind};

/// A trace with `factor` times the arrivals: whole copies, the second and later
/// shifted by up to an hour and round the end, and one thinned copy for the
/// rest, as the rules at the head of this module's file say. Counts of a rate
/// trace in copies that are not shifted stay as they are or are thinned one by
/// one; in shifted copies each arrival gets an instant within its step, drawn
/// from `arrivals`, and is counted where the shift takes it.
///
/// # Errors
/// A sentence, if the factor is not above 0, or gives too many arrivals or none.
pub fn scale(trace: &Trace, factor: f64, seed: u64) -> Result<Trace, String> {
    if !(factor > 0.0 && factor <= float(COPIES_MAX.into())) {
        return Err(format!(
            "factor {factor} must be above 0 and at most {COPIES_MAX}"
        ));
    }
    let window = Window {
        start: 0,
        length: trace.span_micros(),
    };
    let copies = Copies::of(factor);
    let scaling = Scaling::new(window, copies, seed);
    let made = match trace.kind() {
        TraceKind::Rate {
            step_micros,
            counts,
        } => {
            let draws = trace.arrivals().saturating_mul(copies.count().into());
            if draws > DRAWS_MAX.into() {
                return Err(format!(
                    "{draws} arrivals are too many to draw (at most {DRAWS_MAX})"
                ));
            }
            let counts = scale_counts(counts, *step_micros, window, scaling, seed);
            Trace::of_counts(trace.name(), *step_micros, counts)
        }
        TraceKind::Jobs {
            arrival_micros,
            service_micros,
            classes,
        } => {
            let expected = float(trace.arrivals()) * factor;
            if expected > float(JOBS_MAX.into()) {
                return Err(format!(
                    "about {expected:.0} jobs are too many (at most {JOBS_MAX})"
                ));
            }
            let (mut arrivals, mut places) = (Vec::new(), Vec::new());
            merge(arrival_micros, window, scaling, |instant, place| {
                arrivals.push(instant);
                places.push(place);
            });
            let services = places.iter().map(|place| service_micros[*place]).collect();
            let numbers = places.iter().filter_map(|place| classes.number_of(*place));
            let classes = Classes::new(classes.names().to_vec(), numbers.collect())?;
            if arrivals.is_empty() {
                return Err("chance left no job; use a greater factor or another seed".into());
            }
            Trace::of_classed_jobs(trace.name(), arrivals, services, classes)
        }
    }?;
    Ok(made.beginning_at(trace.begins_at()))
}

fn scale_counts(
    counts: &[u64],
    step: u64,
    window: Window,
    mut scaling: Scaling,
    seed: u64,
) -> Vec<u64> {
    let mut stream = Stream::new(seed, "arrivals");
    let mut scaled = vec![0; counts.len()];
    for copy in 0..scaling.copies.count() {
        let shift = scaling.shift(copy);
        let whole = copy < scaling.copies.whole;
        for (place, count) in counts.iter().enumerate() {
            if shift == 0 && whole {
                scaled[place] += count;
                continue;
            }
            for _ in 0..*count {
                if !scaling.keeps(copy) {
                    continue;
                }
                let into = if shift == 0 {
                    place
                } else {
                    let instant = place as u64 * step + stream.below(step);
                    index((instant + shift) % window.length / step)
                };
                scaled[into] += 1;
            }
        }
    }
    scaled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::describe::describe;
    use crate::workload::{WorkloadSpec, build};

    /// Two days of Poisson arrivals by the minute.
    fn poisson(rate: f64) -> Trace {
        let mut stream = Stream::new(3, "test");
        let counts = (0..2_880)
            .map(|_| {
                let mut left = rate;
                std::iter::from_fn(|| {
                    left -= stream.exponential();
                    (left > 0.0).then_some(())
                })
                .count() as u64
            })
            .collect();
        Trace::of_counts("p", 60_000_000, counts).expect("valid")
    }

    #[test]
    fn scaled_counts_stay_as_even_as_they_were() {
        let trace = poisson(20.0);
        for factor in [0.3, 2.5, 7.0] {
            let scaled = scale(&trace, factor, 9).expect("scaled");
            let ratio = float(scaled.arrivals()) / float(trace.arrivals());
            assert!((ratio - factor).abs() < 0.02 * factor, "{factor}: {ratio}");
            // Multiplied counts would have a dispersion of `factor`; two copies
            // that happen to be shifted nearly alike add a little.
            let uneven = describe(&scaled).dispersion.expect("arrivals").overall;
            assert!((0.85..1.4).contains(&uneven), "{factor}: {uneven}");
            assert_eq!(
                scale(&trace, factor, 9),
                Ok(scaled),
                "same seed, same bytes"
            );
        }
        assert_eq!(scale(&trace, 1.0, 4), Ok(trace));
    }

    #[test]
    fn scaled_jobs_are_those_of_a_workload_and_keep_their_classes() {
        let names = vec!["odd".to_owned(), "even".to_owned()];
        let numbers = (0..500_u32).map(|job| job % 2).collect();
        let arrivals: Vec<u64> = (0..500).map(|job| job * 7_919_000).collect();
        let services: Vec<u64> = (0..500).map(|job| 1_000_000 + job % 2).collect();
        let classes = Classes::new(names, numbers).expect("valid");
        let trace = Trace::of_classed_jobs("j", arrivals, services, classes).expect("valid");
        let scaled = scale(&trace, 2.25, 5).expect("scaled");
        let TraceKind::Jobs {
            arrival_micros,
            service_micros,
            classes,
        } = scaled.kind()
        else {
            panic!("not jobs");
        };
        for (job, service) in service_micros.iter().enumerate() {
            assert_eq!(
                u64::from(classes.number_of(job).expect("a class")),
                service % 2
            );
        }
        let load = describe(&trace).busy_mean.expect("jobs");
        let spec = WorkloadSpec {
            busy_mean: Some(load * 2.25),
            ..WorkloadSpec::default()
        };
        let workload = build(&trace, &spec, 5).expect("built");
        assert_eq!(workload.jobs.arrivals(), arrival_micros);
        assert_eq!(workload.jobs.services(), service_micros);
    }

    #[test]
    fn useless_factors_are_refused() {
        for factor in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(scale(&poisson(1.0), factor, 1).is_err(), "{factor}");
        }
    }
}
