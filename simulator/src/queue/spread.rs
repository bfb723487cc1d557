//! How a number of durations is spread: sum, mean, exact quantiles.

use windlass_policies::units::MICROS_PER_SEC;

/// Durations in a few numbers, all in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// How many there are.
    pub count: u64,
    /// Their sum.
    pub sum_micros: u128,
    /// Their quantiles, if every one of them was kept.
    pub quantiles: Option<Quantiles>,
}

/// Exact quantiles by nearest rank: the smallest of the values that has at
/// least that share of all values at or below it. In microseconds; zero if
/// there are no values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    /// The median.
    pub p50: u64,
    /// 95 in 100 are at or below it.
    pub p95: u64,
    /// 99 in 100 are at or below it.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

impl Spread {
    /// The mean in seconds; `None` if there is nothing. Both sides are whole
    /// numbers until the one division.
    pub fn mean_secs(&self) -> Option<f64> {
        let divisor = u128::from(self.count) * u128::from(MICROS_PER_SEC);
        ratio(self.sum_micros, divisor)
    }
}

impl Quantiles {
    /// The quantiles of `values`, which are put in another order.
    pub(super) fn of(values: &mut [u64]) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        let (p99, p95, p50) = (rank(values, 99), rank(values, 95), rank(values, 50));
        // Each selection leaves what is below it to its left, so the next one
        // has less to look at.
        let (below, p99_value, above) = values.select_nth_unstable(p99);
        let p99_value = *p99_value;
        let max = above.iter().copied().max().unwrap_or(p99_value);
        let pick = |part: &mut [u64], at: usize, next: u64| {
            // The ranks of few values may coincide.
            if at < part.len() {
                *part.select_nth_unstable(at).1
            } else {
                next
            }
        };
        let p95_value = pick(below, p95, p99_value);
        let length = below.len().min(p95);
        let p50_value = pick(&mut below[..length], p50, p95_value);
        Self {
            p50: p50_value,
            p95: p95_value,
            p99: p99_value,
            max,
        }
    }
}

/// The `percent` quantile of `values` by nearest rank; `None` if there are
/// none. The values are put in another order.
pub(crate) fn quantile(values: &mut [u64], percent: usize) -> Option<u64> {
    if values.is_empty() {
        return None;
    }
    let at = rank(values, percent);
    Some(*values.select_nth_unstable(at).1)
}

/// Where the `percent` quantile of some values stands once they are sorted.
fn rank(values: &[u64], percent: usize) -> usize {
    (values.len() * percent).div_ceil(100).max(1) - 1
}

/// `numerator / denominator`, rounded in that one division (both are first
/// rounded to 53 bits); `None` for a division by zero.
#[expect(
    clippy::cast_precision_loss,
    reason = "this is where whole numbers become a ratio"
)]
pub(crate) fn ratio(numerator: u128, denominator: u128) -> Option<f64> {
    (denominator > 0).then(|| numerator as f64 / denominator as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let by_definition = |sorted: &[u64], percent: usize| {
            let reaches = |value: &&u64| {
                let at_or_below = sorted.iter().filter(|other| other <= value).count();
                at_or_below * 100 >= percent * sorted.len()
            };
            sorted.iter().find(reaches).copied().unwrap_or(0)
        };
        for length in 0..250_u64 {
            // A fixed shuffle with many equal values among them.
            let mut values: Vec<u64> = (0..length).map(|k| k * 7_919 % 101 / 3).collect();
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let expected = Quantiles {
                p50: by_definition(&sorted, 50),
                p95: by_definition(&sorted, 95),
                p99: by_definition(&sorted, 99),
                max: sorted.last().copied().unwrap_or(0),
            };
            assert_eq!(quantile(&mut values.clone(), 95).unwrap_or(0), expected.p95);
            assert_eq!(Quantiles::of(&mut values), expected, "{length} values");
        }
    }

    #[test]
    fn means_of_nothing_are_absent() {
        assert_eq!(Spread::default().mean_secs(), None);
        let spread = Spread {
            count: 4,
            sum_micros: 6_000_000,
            quantiles: None,
        };
        assert_eq!(spread.mean_secs(), Some(1.5));
    }
}
