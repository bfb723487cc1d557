//! How much of things that go on for a while has come together by when: what
//! jobs in progress or waiting jobs came to at the points of a grid.

use crate::queue::narrow;

/// Adds up spans of time, each with a weight, and tells what came together up
/// to each point of a grid: for a point t the sum of weight times the length of
/// the part of each span that lies before t. Exact.
///
/// A span from a to b came to `w (t - a)+ - w (t - b)+` by t, with x+ = max(x, 0).
/// So it is enough to note at the first point at or after each end how the slope
/// changes there (w) and where that line meets zero (w a).
#[derive(Clone, Debug)]
pub(crate) struct Accrual {
    step: u64,
    length: u64,
    slopes: Vec<i128>,
    moments: Vec<i128>,
}

impl Accrual {
    /// For the points 0, `step`, 2 `step` and so on below `length`, and `length`.
    pub(crate) fn new(step: u64, length: u64) -> Self {
        let step = step.max(1);
        let points = narrow(length.div_ceil(step)).saturating_add(1);
        Self {
            step,
            length,
            slopes: vec![0; points],
            moments: vec![0; points],
        }
    }

    /// Adds the span from `from` to `to`, not earlier, with `weight`. What lies
    /// after the grid's end does not count.
    pub(crate) fn add(&mut self, from: u64, to: u64, weight: u64) {
        if from < self.length {
            self.bend(from, i128::from(weight));
            if to < self.length {
                self.bend(to, -i128::from(weight));
            }
        }
    }

    fn bend(&mut self, at: u64, weight: i128) {
        let point = narrow(at.div_ceil(self.step));
        self.slopes[point] += weight;
        self.moments[point] += weight * i128::from(at);
    }

    /// What came together up to each point.
    pub(crate) fn totals(&self) -> Vec<u128> {
        let (mut slope, mut moment) = (0, 0);
        let mut totals = Vec::with_capacity(self.slopes.len());
        let mut at = 0_u64;
        for (bend, shift) in self.slopes.iter().zip(&self.moments) {
            slope += bend;
            moment += shift;
            let total = slope * i128::from(at) - moment;
            totals.push(u128::try_from(total).unwrap_or(0));
            at = at.saturating_add(self.step).min(self.length);
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Microsecond by microsecond.
    fn counted(spans: &[(u64, u64, u64)], until: u64) -> u128 {
        let within = |at: &u64| {
            let running = spans.iter().filter(|(from, to, _)| from <= at && at < to);
            running
                .map(|(_, _, weight)| u128::from(*weight))
                .sum::<u128>()
        };
        (0..until).map(|at| within(&at)).sum()
    }

    proptest! {
        #[test]
        fn spans_come_to_what_counting_says(
            spans in prop::collection::vec((0..60_u64, 0..30_u64, 0..5_u64), 0..20),
            step in 1..20_u64,
            length in 0..50_u64,
        ) {
            let spans: Vec<(u64, u64, u64)> = spans
                .into_iter()
                .map(|(from, long, weight)| (from, from + long, weight))
                .collect();
            let mut accrual = Accrual::new(step, length);
            for (from, to, weight) in &spans {
                accrual.add(*from, *to, *weight);
            }
            let points: Vec<u64> = (0..60).map(|k| k * step).take_while(|at| *at < length).collect();
            let expected: Vec<u128> = points
                .into_iter()
                .chain([length])
                .map(|at| counted(&spans, at))
                .collect();
            prop_assert_eq!(accrual.totals(), expected);
        }
    }
}
