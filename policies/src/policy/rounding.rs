//! From computed numbers to whole instances, and to text.

/// How far above a whole number still counts as that number, as a share of
/// it. `7 * 0.8 / 0.7` is 8, but 8.000000000000002 in binary fractions; that
/// dust buys no instance. A billionth is far above such dust and far below
/// anything measured.
pub(super) const DUST: f64 = 1e-9;

/// The dust never adds up to more than this, however large the number.
const DUST_MAX: f64 = 1e-6;

/// Rounded up: a started instance is needed whole. Zero for NaN and anything
/// not above zero; the largest `u32` for anything beyond it.
pub(crate) fn up(number: f64) -> u32 {
    if number.is_nan() || number <= 0.0 {
        return 0;
    }
    whole((number - (number * DUST).min(DUST_MAX)).ceil())
}

/// Rounded down, and otherwise as [`up`].
pub(super) fn down(number: f64) -> u32 {
    if number.is_nan() || number <= 0.0 {
        return 0;
    }
    whole((number + (number * DUST).min(DUST_MAX)).floor())
}

/// Rounded up with its dust, as the systems do that [`super::peers`] stand for.
/// Zero for NaN and anything not above zero.
pub(super) fn ceil(number: f64) -> u32 {
    if number.is_nan() || number <= 0.0 {
        return 0;
    }
    whole(number.ceil())
}

/// Rounded down with its dust, and otherwise as [`ceil`].
pub(super) fn floor(number: f64) -> u32 {
    if number.is_nan() || number <= 0.0 {
        return 0;
    }
    whole(number.floor())
}

/// A reading as a sentence shows it: to four decimals, and in powers of ten
/// where those say nothing.
pub(super) fn text(number: f64) -> String {
    let plain = number == 0.0 || (0.0001..1e12).contains(&number.abs());
    if !plain {
        return format!("{number:e}");
    }
    let decimals = format!("{number:.4}");
    decimals
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the number is whole and not negative, and `as` stops at the largest u32"
)]
fn whole(number: f64) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_short() {
        for (number, shown) in [
            (0.0, "0"),
            (20.0, "20"),
            (0.7, "0.7"),
            (2.0 / 3.0, "0.6667"),
            (0.000_012, "1.2e-5"),
            (1_500_000.0, "1500000"),
            (1e300, "1e300"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(text(number), shown);
        }
    }

    #[test]
    fn rounds_as_stated() {
        for (number, rounded_up, rounded_down) in [
            (0.0, 0, 0),
            (-3.0, 0, 0),
            (f64::NAN, 0, 0),
            (f64::INFINITY, u32::MAX, u32::MAX),
            (1e300, u32::MAX, u32::MAX),
            (1e-300, 1, 0),
            (0.000_001, 1, 0),
            (1.0, 1, 1),
            (1.001, 2, 1),
            (7.0 * 0.8 / 0.7, 8, 8),
            (2.999_999_999_999_999_6, 3, 3),
            (100_000.5, 100_001, 100_000),
            (4_294_967_295.0, u32::MAX, u32::MAX),
        ] {
            assert_eq!(up(number), rounded_up, "{number} up");
            assert_eq!(down(number), rounded_down, "{number} down");
        }
        assert_eq!(
            (ceil(7.0 * 0.8 / 0.7), floor(2.999_999_999_999_999_6)),
            (9, 2)
        );
        for number in [0.0, -3.0, f64::NAN] {
            assert_eq!((ceil(number), floor(number)), (0, 0));
        }
    }
}
