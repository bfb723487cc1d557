//! How much one policy costs less than another, and how sure that is.
//!
//! Both meet the same jobs and boots, so their costs are compared block by block
//! of time: of the differences, what is common to both has gone. But blocks
//! differ: at night there is little to gain. So the gain is taken as a share of
//! what the blocks cost, the same in all of them, and what counts as chance is
//! how far each block is off that share (the ratio estimator; Cochran, Sampling
//! Techniques, chapter 6): for `n` blocks that cost `c` and gain `d`,
//! `n / (n - 1) * sum((d - c * sum(d) / sum(c))^2)` is the variance of the sum
//! of `d`.
//!
//! Loads are strata: each has its share, and their variances add up. The
//! interval is Student's, with the degrees of freedom of Welch and
//! Satterthwaite, `(sum v)^2 / sum(v^2 / (n - 1))`. It takes blocks as
//! independent: what lasts longer than a block makes it too narrow.

use serde::Serialize;

/// What a policy costs less than another, with how sure that is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Gain {
    /// The gain: less than zero if it costs more.
    pub usd: f64,
    /// Its standard error.
    pub standard_error_usd: f64,
    /// From where it lies with 95 % confidence.
    pub low_usd: f64,
    /// To where.
    pub high_usd: f64,
}

/// What one policy costs in a block, in dollars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// What the policy costs that is compared with.
    pub cost: f64,
    /// How much less the other one does.
    pub gain: f64,
}

/// Adds up the gains of all `loads`, each of which has its blocks.
pub fn of(loads: &[Vec<Pair>]) -> Gain {
    let (mut usd, mut variance, mut over) = (0.0, 0.0, 0.0);
    for blocks in loads {
        let count = f64::from(u32::try_from(blocks.len()).unwrap_or(u32::MAX));
        let sum: f64 = blocks.iter().map(|pair| pair.gain).sum();
        usd += sum;
        if blocks.len() < 2 {
            // A single block says nothing of what another would have been.
            variance = f64::INFINITY;
            continue;
        }
        let cost: f64 = blocks.iter().map(|pair| pair.cost).sum();
        let share = if cost > 0.0 { sum / cost } else { 0.0 };
        let off = blocks.iter().map(|pair| pair.gain - share * pair.cost);
        let squares: f64 = off.map(|off| off * off).sum();
        let own = count * squares / (count - 1.0);
        variance += own;
        over += own * own / (count - 1.0);
    }
    let standard_error_usd = libm::sqrt(variance);
    let freedom = if over > 0.0 {
        (variance * variance / over).max(1.0)
    } else {
        1.0
    };
    let way = if variance > 0.0 {
        student_975(freedom) * standard_error_usd
    } else {
        0.0
    };
    Gain {
        usd,
        standard_error_usd,
        low_usd: usd - way,
        high_usd: usd + way,
    }
}

/// What Student's distribution with `freedom` degrees does not exceed in 975 of
/// 1,000 cases.
///
/// The series of Fisher and Cornish around the normal distribution (Abramowitz
/// and Stegun, 26.7.5), off by less than a thousandth from 10 degrees on; below
/// that a table, at the whole number below.
fn student_975(freedom: f64) -> f64 {
    const TABLE: [f64; 9] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262,
    ];
    const NORMAL: f64 = 1.959_963_985;
    if freedom < 10.0 {
        let below = (2_u8..10).filter(|one| freedom >= f64::from(*one));
        return TABLE[below.count()];
    }
    let power = |exponent: f64| libm::pow(NORMAL, exponent);
    let first = (power(3.0) + NORMAL) / 4.0;
    let second = (5.0 * power(5.0) + 16.0 * power(3.0) + 3.0 * NORMAL) / 96.0;
    let third = (3.0 * power(7.0) + 19.0 * power(5.0) + 17.0 * power(3.0) - 15.0 * NORMAL) / 384.0;
    NORMAL + first / freedom + second / (freedom * freedom) + third / (freedom * freedom * freedom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 2e-3, "{found}, not {expected}");
    }

    #[test]
    fn quantiles_are_those_of_tables() {
        for (freedom, expected) in [
            (1.0, 12.706),
            (4.5, 2.776),
            (5.0, 2.571),
            (7.0, 2.365),
            (14.0, 2.145),
            (100.0, 1.984),
        ] {
            near(student_975(freedom), expected);
        }
    }

    fn blocks(rows: &[(f64, f64)]) -> Vec<Pair> {
        let pair = |(cost, gain): &(f64, f64)| Pair {
            cost: *cost,
            gain: *gain,
        };
        rows.iter().map(pair).collect()
    }

    #[test]
    fn a_gain_is_the_sum_with_students_interval() {
        // Of equal blocks: mean 2, variance 1, of 5 of them: 10 in all, off by
        // sqrt(5).
        let gains = [1.0, 3.0, 2.0, 3.0, 1.0].map(|gain| (10.0, gain));
        let gain = of(&[blocks(&gains)]);
        near(gain.usd, 10.0);
        near(gain.standard_error_usd, libm::sqrt(5.0));
        near(gain.low_usd, 10.0 - 2.776 * libm::sqrt(5.0));
        near(gain.high_usd, 10.0 + 2.776 * libm::sqrt(5.0));
    }

    #[test]
    fn that_blocks_differ_is_no_uncertainty_if_the_share_is_the_same() {
        let gain = of(&[blocks(&[(1.0, 0.1), (200.0, 20.0), (30.0, 3.0)])]);
        near(gain.usd, 23.1);
        near(gain.standard_error_usd, 0.0);
        // Half of it in one block, and nothing in the other.
        let gain = of(&[blocks(&[(10.0, 5.0), (10.0, 0.0)])]);
        near(gain.standard_error_usd, libm::sqrt(2.0 * 12.5));
        assert!(gain.low_usd < 0.0);
    }

    #[test]
    fn loads_are_strata_and_how_they_differ_is_no_uncertainty() {
        let load = |gains: [f64; 3]| blocks(&gains.map(|gain| (500.0, gain)));
        let gain = of(&[load([1.0, 1.1, 0.9]), load([100.0, 100.1, 99.9])]);
        near(gain.usd, 303.0);
        near(gain.standard_error_usd, libm::sqrt(2.0 * 3.0 * 0.01));
        // Four degrees of freedom, two of each.
        near(gain.high_usd - gain.usd, 2.776 * gain.standard_error_usd);
    }

    #[test]
    fn no_difference_is_no_gain_and_one_block_is_no_proof() {
        let gain = of(&[blocks(&[(0.0, 0.0); 8])]);
        assert!(gain.low_usd == 0.0 && gain.high_usd == 0.0);
        let gain = of(&[blocks(&[(10.0, 5.0)])]);
        assert!(gain.low_usd == f64::NEG_INFINITY);
        assert!(of(&[]).usd == 0.0);
    }
}
