//! Distributions of spans of time: how long a job or a boot takes.

use std::fmt;
use std::time::Duration;

use crate::random::Stream;

/// The standard normal number below which 99 % of all lie.
const Z99: f64 = 2.326_347_874_040_840_8;

/// The longest span that is drawn, 2^53 microseconds or 285 years: up to here
/// every whole microsecond is also a float.
pub const SPAN_MICROS_MAX: u64 = 1 << 53;

/// [`SPAN_MICROS_MAX`] as a float.
const SPAN_MAX: f64 = 9_007_199_254_740_992.0;

/// The largest coefficient of variation. At 1,000 one draw in a million
/// already carries most of the mean, and no simulation sees it.
pub const CV_MAX: f64 = 1_000.0;

/// How spans of time are distributed. Its numbers are checked when it is made.
///
/// ```
/// use std::time::Duration;
/// use windlass_simulator::{distribution::Distribution, random::Stream};
///
/// let boot = Distribution::lognormal_of_quantiles(Duration::from_secs(90), Duration::from_secs(180))?;
/// assert!(boot.sample_micros(&mut Stream::new(1, "boots")) > 0);
/// # Ok::<(), windlass_simulator::distribution::Refusal>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distribution {
    shape: Shape,
}

// All in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Constant { value: u64 },
    Exponential { mean: f64 },
    Lognormal { mu: f64, sigma: f64, mean: f64 },
}

/// Why numbers make no distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The number that is wrong: `value`, `mean`, `cv`, `median` or `p99`.
    pub key: &'static str,
    /// What it is, and what it must be.
    pub why: String,
}

impl Refusal {
    fn of(key: &'static str, why: String) -> Self {
        Self { key, why }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} = {}", self.key, self.why)
    }
}

impl Distribution {
    /// Always `value`, which may be zero. Draws nothing from its stream.
    ///
    /// # Errors
    /// If `value` is longer than [`SPAN_MICROS_MAX`].
    pub fn constant(value: Duration) -> Result<Self, Refusal> {
        let value = checked("value", value)?;
        Ok(Self {
            shape: Shape::Constant { value },
        })
    }

    /// Exponential: no memory, coefficient of variation 1. A sample is `mean`
    /// times [`Stream::exponential`].
    ///
    /// # Errors
    /// If `mean` is shorter than a microsecond or longer than
    /// [`SPAN_MICROS_MAX`].
    pub fn exponential(mean: Duration) -> Result<Self, Refusal> {
        let mean = positive("mean", mean)?;
        Ok(Self {
            shape: Shape::Exponential { mean },
        })
    }

    /// Lognormal with the given mean and coefficient of variation `cv`
    /// (standard deviation over mean): `sigma^2 = ln(1 + cv^2)` and
    /// `mu = ln(mean) - sigma^2 / 2`. A sample is `exp(mu + sigma * z)`, with z
    /// from [`Stream::normal`].
    ///
    /// # Errors
    /// If `mean` is shorter than a microsecond or longer than
    /// [`SPAN_MICROS_MAX`], or `cv` is not above 0 and at most [`CV_MAX`].
    pub fn lognormal(mean: Duration, cv: f64) -> Result<Self, Refusal> {
        let mean = positive("mean", mean)?;
        if cv.is_nan() || cv <= 0.0 {
            return Err(Refusal::of(
                "cv",
                format!(
                    "{cv:?} must be above 0; for spans that do not vary use distribution = \"constant\""
                ),
            ));
        }
        if cv > CV_MAX {
            return Err(Refusal::of(
                "cv",
                format!("{cv:?} is above {CV_MAX}: hardly any draw would come near the mean"),
            ));
        }
        let variance = libm::log1p(cv * cv);
        let mu = libm::log(mean) - variance / 2.0;
        Ok(Self {
            shape: Shape::Lognormal {
                mu,
                sigma: libm::sqrt(variance),
                mean,
            },
        })
    }

    /// Lognormal with the given median and 99th percentile: `mu = ln(median)`
    /// and `sigma = ln(p99 / median) / 2.3263478740408408`. Samples as
    /// [`Distribution::lognormal`].
    ///
    /// # Errors
    /// If `median` is shorter than a microsecond, `p99` is not
    /// above it, or the mean that follows is longer than [`SPAN_MICROS_MAX`].
    pub fn lognormal_of_quantiles(median: Duration, p99: Duration) -> Result<Self, Refusal> {
        let center = positive("median", median)?;
        let high = positive("p99", p99)?;
        if high <= center {
            return Err(Refusal::of(
                "p99",
                format!(
                    "{p99:?} must be above median = {median:?}; for spans that do not vary use \
                     distribution = \"constant\""
                ),
            ));
        }
        let sigma = libm::log(high / center) / Z99;
        let mu = libm::log(center);
        let mean = libm::exp(mu + sigma * sigma / 2.0);
        if mean.is_nan() || mean > SPAN_MAX {
            return Err(Refusal::of(
                "p99",
                format!(
                    "{p99:?} is so far above median = {median:?} that the mean would be longer \
                     than 285 years"
                ),
            ));
        }
        Ok(Self {
            shape: Shape::Lognormal { mu, sigma, mean },
        })
    }

    /// Draws one span: to the nearest microsecond, halves up, and never longer
    /// than [`SPAN_MICROS_MAX`]. May be 0 where the mean is a few microseconds.
    pub fn sample_micros(&self, stream: &mut Stream) -> u64 {
        match self.shape {
            Shape::Constant { value } => value,
            Shape::Exponential { mean } => nearest(mean * stream.exponential()),
            Shape::Lognormal { mu, sigma, .. } => nearest(libm::exp(mu + sigma * stream.normal())),
        }
    }

    /// The one value it takes, in microseconds; `None` if it takes several.
    pub fn constant_micros(&self) -> Option<u64> {
        match self.shape {
            Shape::Constant { value } => Some(value),
            Shape::Exponential { .. } | Shape::Lognormal { .. } => None,
        }
    }

    /// The mean in microseconds, before rounding.
    pub fn mean_micros(&self) -> f64 {
        match self.shape {
            Shape::Constant { value } => exact_float(value),
            Shape::Exponential { mean } | Shape::Lognormal { mean, .. } => mean,
        }
    }
}

/// Whole microseconds of a span, if it is not too long.
fn checked(key: &'static str, span: Duration) -> Result<u64, Refusal> {
    u64::try_from(span.as_micros())
        .ok()
        .filter(|micros| *micros <= SPAN_MICROS_MAX)
        .ok_or_else(|| Refusal::of(key, format!("{span:?} is longer than 285 years")))
}

fn positive(key: &'static str, span: Duration) -> Result<f64, Refusal> {
    match checked(key, span)? {
        0 => Err(Refusal::of(
            key,
            format!("{span:?} must be at least a microsecond"),
        )),
        micros => Ok(exact_float(micros)),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "at most SPAN_MICROS_MAX, which is exact"
)]
fn exact_float(micros: u64) -> f64 {
    micros as f64
}

/// The nearest whole microsecond, halves up, cut off at [`SPAN_MICROS_MAX`].
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "samples are positive, and cut off before"
)]
fn nearest(micros: f64) -> u64 {
    libm::floor(libm::fmin(micros, SPAN_MAX) + 0.5) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// Mean, coefficient of variation, median and 99th percentile of 40,000 draws.
    fn measure(distribution: &Distribution) -> [f64; 4] {
        const COUNT: u32 = 40_000;
        let mut stream = Stream::new(11, "measure");
        let mut draws: Vec<f64> = (0..COUNT)
            .map(|_| exact_float(distribution.sample_micros(&mut stream)))
            .collect();
        draws.sort_by(f64::total_cmp);
        let count = f64::from(COUNT);
        let mean = draws.iter().sum::<f64>() / count;
        let variance = draws
            .iter()
            .map(|draw| (draw - mean) * (draw - mean))
            .sum::<f64>()
            / count;
        [
            mean / 1e6,
            libm::sqrt(variance) / mean,
            draws[20_000] / 1e6,
            draws[39_600] / 1e6,
        ]
    }

    #[test]
    fn samples_follow_the_numbers_given() {
        let cases = [
            (
                "exponential",
                Distribution::exponential(secs(30)),
                [30.0, 1.0, 20.79, 138.2],
            ),
            (
                "lognormal",
                Distribution::lognormal(secs(30), 0.5),
                [30.0, 0.5, 26.83, 80.52],
            ),
            (
                "quantiles",
                Distribution::lognormal_of_quantiles(secs(90), secs(180)),
                [94.08, 0.3046, 90.0, 180.0],
            ),
            (
                "constant",
                Distribution::constant(secs(7)),
                [7.0, 0.0, 7.0, 7.0],
            ),
        ];
        for (name, distribution, expected) in cases {
            let distribution = distribution.expect(name);
            let mean_stated = distribution.mean_micros() / 1e6;
            assert!(
                (mean_stated / expected[0] - 1.0).abs() < 1e-3,
                "{name}: {mean_stated}"
            );
            for (seen, wanted) in measure(&distribution).iter().zip(expected) {
                let close = (seen - wanted).abs() <= 0.03 * wanted;
                assert!(close, "{name}: {seen} instead of {wanted}");
            }
        }
    }

    #[test]
    fn first_samples_never_change() {
        let first = |distribution: Result<Distribution, Refusal>| {
            let mut stream = Stream::new(1, "golden");
            let distribution = distribution.expect("valid");
            [(); 3].map(|()| distribution.sample_micros(&mut stream))
        };
        assert_eq!(
            first(Distribution::exponential(secs(30))),
            [2_363_480, 6_114_305, 8_181_657]
        );
        assert_eq!(
            first(Distribution::lognormal(secs(30), 1.0)),
            [70_011_820, 44_831_626, 38_327_128]
        );
        assert_eq!(
            first(Distribution::lognormal_of_quantiles(secs(90), secs(180))),
            [137_983_407, 117_637_529, 111_219_779]
        );
        assert_eq!(
            first(Distribution::constant(Duration::from_nanos(1_999))),
            [1, 1, 1]
        );
    }

    #[test]
    fn rounding_is_to_the_nearest_and_bounded() {
        for (micros, rounded) in [
            (0.0, 0),
            (0.499_999, 0),
            (0.5, 1),
            (1.499_999, 1),
            (2.5, 3),
            (f64::INFINITY, SPAN_MICROS_MAX),
            (SPAN_MAX * 2.0, SPAN_MICROS_MAX),
        ] {
            assert_eq!(nearest(micros), rounded, "{micros}");
        }
        // A tail that leaves the range is cut off, not wrapped.
        let wide =
            Distribution::lognormal(Duration::from_micros(SPAN_MICROS_MAX), 3.0).expect("valid");
        let mut stream = Stream::new(1, "wide");
        assert_eq!(
            (0..200).map(|_| wide.sample_micros(&mut stream)).max(),
            Some(SPAN_MICROS_MAX)
        );
    }

    #[test]
    fn numbers_that_make_no_distribution_are_refused() {
        let long = Duration::from_micros(SPAN_MICROS_MAX + 1);
        let nothing = Duration::from_nanos(999);
        for (refused, reason) in [
            (Distribution::constant(long), "value"),
            (Distribution::constant(Duration::MAX), "285 years"),
            (Distribution::exponential(nothing), "at least a microsecond"),
            (Distribution::exponential(long), "mean"),
            (
                Distribution::lognormal(Duration::ZERO, 1.0),
                "at least a microsecond",
            ),
            (Distribution::lognormal(long, 1.0), "285 years"),
            (Distribution::lognormal(secs(1), 0.0), "\"constant\""),
            (Distribution::lognormal(secs(1), -1.0), "above 0"),
            (Distribution::lognormal(secs(1), f64::NAN), "above 0"),
            (
                Distribution::lognormal(secs(1), f64::INFINITY),
                "above 1000",
            ),
            (
                Distribution::lognormal_of_quantiles(secs(2), secs(2)),
                "must be above median",
            ),
            (
                Distribution::lognormal_of_quantiles(secs(2), secs(1)),
                "must be above median",
            ),
            (
                Distribution::lognormal_of_quantiles(nothing, secs(1)),
                "median",
            ),
            (Distribution::lognormal_of_quantiles(secs(1), long), "p99"),
            (
                Distribution::lognormal_of_quantiles(
                    Duration::from_micros(1),
                    Duration::from_micros(SPAN_MICROS_MAX),
                ),
                "the mean would be longer",
            ),
        ] {
            let sentence = refused.expect_err(reason).to_string();
            assert!(sentence.contains(reason), "{sentence}");
        }
    }
}
