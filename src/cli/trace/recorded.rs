//! What production recorded, as a trace: readings of a counter of arrivals.

use std::path::Path;

use windlass_policies::signal::{Completeness, Reading};
use windlass_policies::units::{MICROS_PER_SEC, Timestamp};
use windlass_simulator::trace::Trace;

use crate::cli::{Failure, fleets_asked, unreadable_store};
use crate::exit::Exit;
use crate::store::{History, Range};

/// More steps than this come from a wrong clock.
const STEPS_MAX: u64 = 100_000_000;

/// The trace in the store at `path`: of the named fleet, or of the only one.
pub(super) fn read(path: &Path, fleet: Option<&str>, signal: &str) -> Result<Trace, Failure> {
    let history = History::open(path)?;
    let fleets = fleets_asked(&history, fleet)?;
    let [fleet] = fleets.as_slice() else {
        let known: Vec<&str> = fleets.iter().map(|fleet| fleet.name.as_str()).collect();
        let what = format!(
            "choose one of the fleets with --fleet: {}",
            known.join(", ")
        );
        return Err(Failure::new(Exit::Usage, what));
    };
    let mut counter = Counter::default();
    let decisions = history
        .decisions(&fleet.name, Range::All)
        .map_err(|error| unreadable_store(&history, error))?;
    for entry in decisions {
        let entry = entry.map_err(|error| unreadable_store(&history, error))?;
        if let Reading::Present(sample) = entry.decided.seen.readings.get(signal)
            && sample.completeness == Completeness::Complete
        {
            counter.add(sample.at, sample.value);
        }
    }
    counter.trace(&fleet.name).map_err(|reason| {
        let store = path.display();
        let what = format!("{store}: the signal `{signal}` of {} {reason}", fleet.name);
        Failure::new(Exit::NoInput, what)
    })
}

/// Readings of a counter, so far.
#[derive(Default)]
struct Counter {
    // When, and how many had arrived since the first reading. Ascending.
    points: Vec<(u64, f64)>,
    // The counter at the last reading.
    last: f64,
}

impl Counter {
    /// A reading that is no newer than the last one says nothing new. One that
    /// is lower tells that counting began anew: then it is all that is known to
    /// have arrived since.
    fn add(&mut self, at: Timestamp, value: f64) {
        let at = at.micros();
        match self.points.last() {
            None => self.points.push((at, 0.0)),
            Some((before, _)) if *before >= at => return,
            Some((_, sum)) => {
                let arrived = if value >= self.last {
                    value - self.last
                } else {
                    value
                };
                self.points.push((at, sum + arrived));
            }
        }
        self.last = value;
    }

    /// Arrivals per step, where a step is the usual time between two readings.
    /// Between two readings arrivals are taken to have come evenly.
    fn trace(&self, name: &str) -> Result<Trace, String> {
        let (Some((first, _)), Some((last, _))) = (self.points.first(), self.points.last()) else {
            return Err("was never read, so there is nothing to convert".into());
        };
        let mut gaps: Vec<u64> = self
            .points
            .windows(2)
            .map(|pair| pair[1].0 - pair[0].0)
            .collect();
        gaps.sort_unstable();
        let usual = *gaps
            .get(gaps.len() / 2)
            .ok_or("was read only once, which does not tell how many arrived")?;
        // Cycles come a little early or late, and some are left out: the mean of
        // what is about the usual, to the nearest whole second.
        gaps.retain(|gap| (usual / 2..=usual.saturating_mul(3) / 2).contains(gap));
        let mean = gaps.iter().sum::<u64>() / (gaps.len() as u64).max(1);
        let step = ((mean + MICROS_PER_SEC / 2) / MICROS_PER_SEC).max(1) * MICROS_PER_SEC;
        let steps = (last - first) / step;
        if steps == 0 || steps > STEPS_MAX {
            return Err(format!(
                "was read over {steps} steps; 1 to {STEPS_MAX} are needed"
            ));
        }
        let mut counts = Vec::new();
        let mut place = 0;
        let mut before = 0;
        for number in 1..=steps {
            let at = first + number * step;
            while self
                .points
                .get(place + 1)
                .is_some_and(|(time, _)| *time < at)
            {
                place += 1;
            }
            let sum = whole(self.between(place, at))?;
            counts.push(sum.saturating_sub(before));
            before = sum;
        }
        let trace = Trace::of_counts(name, step, counts)?;
        Ok(trace.beginning_at(Some(Timestamp::from_micros(*first))))
    }

    /// How many had arrived at `at`, which lies after the point at `place` and
    /// not after the next.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share of the time between two readings"
    )]
    fn between(&self, place: usize, at: u64) -> f64 {
        let (from, sum) = self.points[place];
        let (to, next) = self.points.get(place + 1).copied().unwrap_or((at, sum));
        let share = (at - from) as f64 / (to - from).max(1) as f64;
        sum + (next - sum) * share
    }
}

/// The nearest whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked: not negative and below 2^53"
)]
fn whole(sum: f64) -> Result<u64, String> {
    const MOST: f64 = 9_007_199_254_740_992.0;
    if !(0.0..=MOST).contains(&sum) {
        return Err(format!(
            "counts up to {sum}, which is no number of arrivals"
        ));
    }
    Ok((sum + 0.5).floor() as u64)
}

#[cfg(test)]
mod tests {
    use windlass_simulator::trace::TraceKind;

    use super::*;

    fn counted(readings: &[(u64, f64)]) -> Result<(u64, Vec<u64>), String> {
        let mut counter = Counter::default();
        for (secs, value) in readings {
            counter.add(Timestamp::from_secs(*secs), *value);
        }
        let trace = counter.trace("web")?;
        assert_eq!(
            trace.begins_at(),
            readings.first().map(|(at, _)| Timestamp::from_secs(*at))
        );
        match trace.kind() {
            TraceKind::Rate {
                step_micros,
                counts,
            } => Ok((step_micros / MICROS_PER_SEC, counts.clone())),
            TraceKind::Jobs { .. } => Err("jobs".into()),
        }
    }

    #[test]
    fn a_counter_becomes_arrivals_per_step() {
        let even = [(100, 40.0), (160, 46.0), (220, 46.0), (280, 50.0)];
        assert_eq!(counted(&even), Ok((60, vec![6, 0, 4])));
        // Read again at the same time, a gap of two steps, and a new beginning.
        let odd = [
            (0, 5.0),
            (60, 8.0),
            (60, 8.0),
            (180, 18.0),
            (240, 2.0),
            (300, 3.0),
        ];
        assert_eq!(counted(&odd), Ok((60, vec![3, 5, 5, 2, 1])));
        for few in [&[][..], &[(3, 1.0)], &[(3, 1.0), (3, 2.0)]] {
            assert!(counted(few).is_err(), "{few:?}");
        }
    }

    #[test]
    fn nothing_is_lost_where_readings_jitter() {
        let readings: Vec<(u64, f64)> = (0..50_u32)
            .map(|cycle| (u64::from(cycle * 60 + cycle % 3), f64::from(cycle * 7)))
            .collect();
        let (step, counts) = counted(&readings).expect("a trace");
        let sum: u64 = counts.iter().sum();
        assert_eq!((step, counts.len()), (60, 49));
        assert!((342..=343).contains(&sum), "{sum}");
    }
}
