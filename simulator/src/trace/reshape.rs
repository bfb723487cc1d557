//! Parts of traces, and jobs as rates.

use super::{Classes, Trace, TraceKind, seconds};

/// More steps than this are not made of jobs: they come from a wrong time.
const STEPS_MAX: u64 = 100_000_000;

/// The half-open part `[start, start + length)` of a trace, shifted to 0; to
/// its end without a length. Classes that no longer occur keep their names.
///
/// # Errors
/// A sentence, if nothing is left, or the bounds of a rate trace do not lie
/// between two of its steps.
pub fn cut(trace: &Trace, start: u64, length: Option<u64>) -> Result<Trace, String> {
    let span = trace.span_micros();
    let end = length.map_or(span, |length| start.saturating_add(length).min(span));
    if start >= end {
        return Err(format!(
            "nothing is left from {} to {} of a trace that ends at {}",
            seconds(start),
            seconds(end),
            seconds(span)
        ));
    }
    let made = match trace.kind() {
        TraceKind::Rate {
            step_micros,
            counts,
        } => {
            for (key, at) in [("start", start), ("length", end - start)] {
                if !at.is_multiple_of(*step_micros) {
                    let step = seconds(*step_micros);
                    return Err(format!(
                        "{key} {} is no multiple of the step of {step}",
                        seconds(at)
                    ));
                }
            }
            let steps = index(start / step_micros)..index(end / step_micros);
            Trace::of_counts(trace.name(), *step_micros, counts[steps].to_vec())
        }
        TraceKind::Jobs {
            arrival_micros,
            service_micros,
            classes,
        } => {
            let from = arrival_micros.partition_point(|arrival| *arrival < start);
            let to = arrival_micros.partition_point(|arrival| *arrival < end);
            if from == to {
                let (start, end) = (seconds(start), seconds(end));
                return Err(format!("no job arrives from {start} to {end}"));
            }
            let arrivals = arrival_micros[from..to]
                .iter()
                .map(|arrival| arrival - start);
            let numbers = classes.numbers().get(from..to).unwrap_or_default();
            let classes = Classes::new(classes.names().to_vec(), numbers.to_vec())?;
            let services = service_micros[from..to].to_vec();
            Trace::of_classed_jobs(trace.name(), arrivals.collect(), services, classes)
        }
    }?;
    let begins_at = trace
        .begins_at()
        .map(|at| at + std::time::Duration::from_micros(start));
    Ok(made.beginning_at(begins_at))
}

/// A trace as arrivals per step of `step` microseconds: jobs are counted, and
/// steps are joined. The last step may hold less time than the others.
///
/// # Errors
/// A sentence, if `step` is 0, is no multiple of the steps there are, or gives
/// too many steps.
pub fn to_rates(trace: &Trace, step: u64) -> Result<Trace, String> {
    if step == 0 {
        return Err("a step must be longer than 0".into());
    }
    let steps = trace.span_micros().div_ceil(step);
    if steps > STEPS_MAX {
        return Err(format!(
            "{steps} steps of {} are too many (at most {STEPS_MAX}); use longer ones",
            seconds(step)
        ));
    }
    let mut joined = vec![0_u64; index(steps)];
    match trace.kind() {
        TraceKind::Rate {
            step_micros,
            counts,
        } => {
            if !step.is_multiple_of(*step_micros) {
                let (wanted, known) = (seconds(step), seconds(*step_micros));
                return Err(format!(
                    "a step of {wanted} is no multiple of the trace's {known}"
                ));
            }
            let joins = index(step / step_micros);
            for (sum, counts) in joined.iter_mut().zip(counts.chunks(joins)) {
                let all = counts
                    .iter()
                    .try_fold(0_u64, |sum, count| sum.checked_add(*count));
                *sum = all.ok_or("the counts of a step are too many")?;
            }
        }
        TraceKind::Jobs { arrival_micros, .. } => {
            for arrival in arrival_micros {
                joined[index(arrival / step)] += 1;
            }
        }
    }
    Ok(Trace::of_counts(trace.name(), step, joined)?.beginning_at(trace.begins_at()))
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs() -> Trace {
        let classes = Classes::new(vec!["a".into(), "b".into()], vec![0, 1, 0]).expect("valid");
        Trace::of_classed_jobs("j", vec![5, 10, 29], vec![1, 2, 3], classes).expect("valid")
    }

    #[test]
    fn a_part_of_jobs_begins_at_its_start() {
        let part = cut(&jobs(), 8, Some(22)).expect("two jobs");
        let classes = Classes::new(vec!["a".into(), "b".into()], vec![1, 0]).expect("valid");
        let expected = Trace::of_classed_jobs("j", vec![2, 21], vec![2, 3], classes);
        assert_eq!(Ok(part), expected);
        assert_eq!(cut(&jobs(), 0, None), Ok(jobs()));
        for (start, length, reason) in [
            (11, Some(18), "no job arrives"),
            (30, None, "nothing is left"),
            (5, Some(0), "nothing is left"),
        ] {
            assert!(
                cut(&jobs(), start, length)
                    .expect_err(reason)
                    .contains(reason)
            );
        }
    }

    #[test]
    fn a_part_of_rates_is_whole_steps() {
        let trace = Trace::of_counts("r", 10, vec![1, 2, 3, 4]).expect("valid");
        assert_eq!(
            cut(&trace, 10, Some(20)),
            Trace::of_counts("r", 10, vec![2, 3])
        );
        assert_eq!(
            cut(&trace, 20, Some(99)),
            Trace::of_counts("r", 10, vec![3, 4])
        );
        assert!(
            cut(&trace, 5, None)
                .expect_err("inside a step")
                .contains("no multiple")
        );
    }

    #[test]
    fn jobs_and_steps_are_counted_into_longer_steps() {
        assert_eq!(
            to_rates(&jobs(), 10),
            Trace::of_counts("j", 10, vec![1, 1, 1])
        );
        let trace = Trace::of_counts("r", 10, vec![1, 2, 3]).expect("valid");
        assert_eq!(to_rates(&trace, 20), Trace::of_counts("r", 20, vec![3, 3]));
        for (step, reason) in [(0, "longer than 0"), (15, "no multiple")] {
            assert!(to_rates(&trace, step).expect_err(reason).contains(reason));
        }
    }
}
