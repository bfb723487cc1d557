//! Random numbers that are the same on every machine and in every version.
//!
//! Each purpose has a [`Stream`] of its own, named after it. A purpose that
//! draws more or less than before therefore shifts nothing anywhere else, and
//! two scenarios that differ in one thing share the luck in all others.
//!
//! Everything here is defined down to the last bit, so that it can be built
//! again elsewhere:
//!
//! 1. The seed (8 bytes, little endian) followed by the name (UTF-8) is hashed
//!    with FNV-1a, 64 bits.
//! 2. `SplitMix64` started at that hash gives four words `a`, `b`, `c`, `d`.
//! 3. The generator is PCG XSL RR 128/64 ("PCG64") with initial state
//!    `a * 2^64 + b` and stream selector `c * 2^64 + d`, as in the reference
//!    `pcg64_srandom_r(state, selector)`.
//!
//! Logarithms and square roots are those of `libm`, never of the platform.

use rand_core::Rng;
use rand_pcg::Pcg64;

/// Two to the power of minus 53: the distance between neighbours of
/// [`Stream::uniform`].
const TWO_TO_MINUS_53: f64 = 1.0 / 9_007_199_254_740_992.0;

/// Two to the power of minus 52.
const TWO_TO_MINUS_52: f64 = 1.0 / 4_503_599_627_370_496.0;

/// An endless row of random numbers for one purpose.
///
/// ```
/// use windlass_simulator::random::Stream;
///
/// let mut boots = Stream::new(1, "boots");
/// let mut again = Stream::new(1, "boots");
/// assert_eq!(boots.below(1_000), again.below(1_000));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    generator: Pcg64,
}

impl Stream {
    /// The stream for the purpose `name` under `seed`. The same pair gives the
    /// same numbers for ever; other pairs give numbers that have nothing to do
    /// with them.
    pub fn new(seed: u64, name: &str) -> Self {
        let mut words = SplitMix64(fnv1a(seed, name));
        let state = words.next_wide();
        let selector = words.next_wide();
        Self {
            generator: Pcg64::new(state, selector),
        }
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.generator.next_u64()
    }

    /// A number in [0, 1): the upper 53 of the next 64 bits, times 2^-53.
    pub fn uniform(&mut self) -> f64 {
        float_of_bits(self.bits() >> 11) * TWO_TO_MINUS_53
    }

    /// A number in (0, 1), never 0 and never 1, symmetric about one half: the
    /// upper 52 of the next 64 bits, plus one half, times 2^-52.
    pub fn open_uniform(&mut self) -> f64 {
        (float_of_bits(self.bits() >> 12) + 0.5) * TWO_TO_MINUS_52
    }

    /// A whole number in [0, `bound`), each equally likely.
    ///
    /// The upper half of the 128-bit product of 64 random bits with `bound`;
    /// drawn again while the lower half is below `2^64 mod bound` (Lemire 2019).
    ///
    /// # Panics
    /// If `bound` is 0, as there is no such number.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no whole number below 0");
        let (mut high, mut low) = wide_product(self.bits(), bound);
        if low < bound {
            let rejected = bound.wrapping_neg() % bound;
            while low < rejected {
                (high, low) = wide_product(self.bits(), bound);
            }
        }
        high
    }

    /// A standard normal number: [`normal_quantile`] of [`Stream::open_uniform`].
    pub fn normal(&mut self) -> f64 {
        normal_quantile(self.open_uniform())
    }

    /// An exponential number with mean 1: minus the natural logarithm of
    /// [`Stream::open_uniform`]. At most 36.8.
    pub fn exponential(&mut self) -> f64 {
        -libm::log(self.open_uniform())
    }
}

/// The generator that turns one hash into several seeds (Steele, Lea, Flood 2014).
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn next_wide(&mut self) -> u128 {
        let upper = u128::from(self.next());
        upper << 64 | u128::from(self.next())
    }
}

/// FNV-1a with 64 bits of the seed's bytes, lowest first, and then the name's.
fn fnv1a(seed: u64, name: &str) -> u64 {
    let bytes = seed.to_le_bytes();
    bytes
        .iter()
        .chain(name.as_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}

/// A float of at most 53 bits; exact.
#[expect(
    clippy::cast_precision_loss,
    reason = "callers pass at most 53 bits, which fit"
)]
fn float_of_bits(bits: u64) -> f64 {
    bits as f64
}

/// Upper and lower half of a 128-bit product.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the two halves are what is asked for"
)]
fn wide_product(left: u64, right: u64) -> (u64, u64) {
    let product = u128::from(left) * u128::from(right);
    ((product >> 64) as u64, product as u64)
}

// Coefficients of Wichura's algorithm AS 241 (PPND16), lowest power first,
// written as the nearest double: numerator and denominator for the centre, the
// shoulders and the tails.
const CENTRE: [[f64; 8]; 2] = [
    [
        3.387_132_872_796_366_5,
        133.141_667_891_784_38,
        1_971.590_950_306_551_3,
        13_731.693_765_509_46,
        45_921.953_931_549_87,
        67_265.770_927_008_7,
        33_430.575_583_588_13,
        2_509.080_928_730_122_7,
    ],
    [
        1.0,
        42.313_330_701_600_91,
        687.187_007_492_057_9,
        5_394.196_021_424_751,
        21_213.794_301_586_597,
        39_307.895_800_092_71,
        28_729.085_735_721_943,
        5_226.495_278_852_854,
    ],
];
const SHOULDER: [[f64; 8]; 2] = [
    [
        1.423_437_110_749_683_5,
        4.630_337_846_156_546,
        5.769_497_221_460_691,
        3.647_848_324_763_204_5,
        1.270_458_252_452_368_4,
        0.241_780_725_177_450_6,
        0.022_723_844_989_269_184,
        0.000_774_545_014_278_341_4,
    ],
    [
        1.0,
        2.053_191_626_637_759,
        1.676_384_830_183_803_8,
        0.689_767_334_985_1,
        0.148_103_976_427_480_08,
        0.015_198_666_563_616_457,
        0.000_547_593_808_499_534_5,
        1.050_750_071_644_416_9e-9,
    ],
];
const TAIL: [[f64; 8]; 2] = [
    [
        6.657_904_643_501_103,
        5.463_784_911_164_114,
        1.784_826_539_917_291_3,
        0.296_560_571_828_504_87,
        0.026_532_189_526_576_124,
        0.001_242_660_947_388_078_4,
        2.711_555_568_743_487_6e-5,
        2.010_334_399_292_288_1e-7,
    ],
    [
        1.0,
        0.599_832_206_555_888,
        0.136_929_880_922_735_8,
        0.014_875_361_290_850_615,
        0.000_786_869_131_145_613_3,
        1.846_318_317_510_054_8e-5,
        1.421_511_758_316_446e-7,
        2.044_263_103_389_939_7e-15,
    ],
];

/// The standard normal number below which a share `p` of all lies (Wichura's
/// algorithm AS 241, about 16 digits). Minus and plus infinity for 0 and 1,
/// NaN for anything outside [0, 1].
pub fn normal_quantile(p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    let from_centre = p - 0.5;
    if libm::fabs(from_centre) <= 0.425 {
        let [numerator, denominator] = values(&CENTRE, 0.180_625 - from_centre * from_centre);
        return from_centre * numerator / denominator;
    }
    let tail = if from_centre < 0.0 { p } else { 1.0 - p };
    let size = if tail > 0.0 {
        let depth = libm::sqrt(-libm::log(tail));
        let [numerator, denominator] = if depth <= 5.0 {
            values(&SHOULDER, depth - 1.6)
        } else {
            values(&TAIL, depth - 5.0)
        };
        numerator / denominator
    } else {
        f64::INFINITY
    };
    if from_centre < 0.0 { -size } else { size }
}

/// Two polynomials at `x`, by Horner's rule.
fn values(of: &[[f64; 8]; 2], x: f64) -> [f64; 2] {
    of.map(|factors| {
        factors
            .iter()
            .rev()
            .fold(0.0, |sum, factor| sum * x + factor)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use statrs::distribution::{ContinuousCDF, Normal};

    #[test]
    fn hashing_and_mixing_follow_their_published_values() {
        // FNV-1a of eight zero bytes, and of "a" after them, by an independent program.
        assert_eq!(fnv1a(0, ""), 0xa8c7_f832_281a_39c5);
        assert_eq!(fnv1a(0, "a"), 0xe604_613a_248f_f1ac);
        // The first two words of SplitMix64 from 1234567, as Vigna's test has them.
        let mut words = SplitMix64(1_234_567);
        assert_eq!(words.next(), 6_457_827_717_110_365_317);
        assert_eq!(words.next(), 3_203_168_211_198_807_973);
    }

    // The values come from a program written apart from this one, in Python.
    #[test]
    fn first_values_never_change() {
        let mut stream = Stream::new(1, "arrivals");
        assert_eq!(
            [stream.bits(), stream.bits(), stream.bits()],
            [
                0xb108_2718_b8d3_255d,
                0x7312_a1fa_ac85_e994,
                0x122d_7ff8_ca97_f65c
            ]
        );
        let stream = || Stream::new(u64::MAX, "service");
        assert_eq!(stream().bits(), 0x9435_3312_9445_b1fb);
        assert_eq!(stream().uniform().to_bits(), 0x3fe2_86a6_6252_88b6);
        assert_eq!(stream().open_uniform().to_bits(), 0x3fe2_86a6_6252_88b7);
        assert_eq!(stream().below(1_000_003), 578_938);
        assert_eq!(stream().normal().to_bits(), 0x3fc9_7e8a_4ae1_1012);
        assert_eq!(stream().exponential().to_bits(), 0x3fe1_7d6f_a79e_733a);
    }

    #[test]
    fn streams_of_other_names_and_seeds_differ() {
        let mut first: Vec<u64> = ["arrivals", "service", "thinning", "arrivals "]
            .iter()
            .flat_map(|name| [0, 1, 2, u64::MAX].map(|seed| Stream::new(seed, name).bits()))
            .collect();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), 16);
    }

    #[test]
    fn quantiles_agree_with_another_library() {
        let normal = Normal::standard();
        for step in 1..2_000_u32 {
            let p = f64::from(step) / 2_000.0;
            let (ours, theirs) = (normal_quantile(p), normal.inverse_cdf(p));
            assert!((ours - theirs).abs() < 1e-12, "{p}: {ours} and {theirs}");
        }
        // Far out the other library's cumulative probability is the judge.
        for p in [1e-4, 1e-8, 1e-12, 1e-16, 1e-100, 1e-300] {
            let back = normal.cdf(normal_quantile(p));
            assert!((back / p - 1.0).abs() < 1e-9, "{p}: back {back}");
        }
    }

    #[test]
    fn quantiles_at_and_beyond_the_edges() {
        assert_eq!(normal_quantile(0.5).to_bits(), 0.0_f64.to_bits());
        assert!((normal_quantile(0.99) - 2.326_347_874_040_840_8).abs() < 2e-15);
        assert!(normal_quantile(0.0).is_infinite() && normal_quantile(0.0) < 0.0);
        assert!(normal_quantile(1.0).is_infinite() && normal_quantile(1.0) > 0.0);
        for outside in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(normal_quantile(outside).is_nan(), "{outside}");
        }
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        const COUNT: u32 = 40_000;
        let mut stream = Stream::new(7, "moments");
        let mut sums = [0.0; 6];
        for _ in 0..COUNT {
            let (uniform, normal, exponential) =
                (stream.uniform(), stream.normal(), stream.exponential());
            let terms = [
                uniform,
                uniform * uniform,
                normal,
                normal * normal,
                exponential,
                exponential * exponential,
            ];
            for (sum, term) in sums.iter_mut().zip(terms) {
                *sum += term;
            }
        }
        let means = sums.map(|sum| sum / f64::from(COUNT));
        for (mean, expected) in means.iter().zip([0.5, 1.0 / 3.0, 0.0, 1.0, 1.0, 2.0]) {
            assert!(
                (mean - expected).abs() < 0.05,
                "{mean} instead of {expected}"
            );
        }
    }

    #[test]
    fn whole_numbers_are_equally_likely() {
        let mut stream = Stream::new(3, "dice");
        let mut seen = [0_u32; 6];
        for _ in 0..60_000 {
            seen[usize::try_from(stream.below(6)).expect("a face")] += 1;
        }
        // Five standard deviations of a binomial with 60,000 throws and p = 1/6.
        assert!(
            seen.iter().all(|count| count.abs_diff(10_000) < 457),
            "{seen:?}"
        );
    }

    #[test]
    fn whole_numbers_reject_what_would_bias_them() {
        // Two thirds of 2^64: without rejection the lower half would come twice as often.
        let bound = 12_297_829_382_473_034_411;
        let mut stream = Stream::new(3, "bias");
        let lower = (0..4_000)
            .filter(|_| stream.below(bound) < bound / 2)
            .count();
        assert!(lower.abs_diff(2_000) < 160, "{lower}");
    }

    proptest! {
        #![proptest_config(crate::testing::properties(64))]

        #[test]
        fn draws_stay_in_their_ranges(seed: u64, name in ".{0,12}", bound in 1_u64..) {
            let mut stream = Stream::new(seed, &name);
            for _ in 0..8 {
                let (closed, open) = (stream.uniform(), stream.open_uniform());
                prop_assert!((0.0..1.0).contains(&closed));
                prop_assert!(open > 0.0 && open < 1.0);
                prop_assert!(stream.below(bound) < bound);
                prop_assert!(stream.exponential() > 0.0);
                prop_assert!(stream.normal().is_finite());
            }
        }

        #[test]
        fn quantiles_are_symmetric(p in 1e-3..0.5_f64) {
            let sum = normal_quantile(p) + normal_quantile(1.0 - p);
            prop_assert!(sum.abs() < 1e-10, "{sum}");
        }
    }
}
