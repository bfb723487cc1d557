//! Decimal numbers as whole millionths, exactly.

use thiserror::Error;

/// A larger exponent than this cannot come back into range, whatever its
/// digits: a line holds at most 65,536 of them.
const EXPONENT_MAX: i64 = 1_000_000;

/// Why a text is no number of millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecimalError {
    /// Empty, `NaN`, `inf` or anything else that is no decimal number.
    #[error("is not a decimal number")]
    NotANumber,
    /// It has a minus sign.
    #[error("is negative")]
    Negative,
    /// More than 2^64 - 1 millionths.
    #[error("is too large (at most 18446744073709.551615)")]
    TooLarge,
}

/// Reads `12`, `0.25`, `.5`, `5.`, `+1` or `1.5e-3` as millionths. From the
/// seventh decimal on it is rounded, halves up. No other rounding happens:
/// the text never becomes a float. Spaces around it are passed over.
pub fn parse_millionths(text: &[u8]) -> Result<u64, DecimalError> {
    if let Some(millionths) = parse_common(text) {
        return Ok(millionths);
    }
    let text = text.trim_ascii();
    let unsigned = match text {
        [b'-', rest @ ..] if is_decimal(rest) => return Err(DecimalError::Negative),
        [b'+', rest @ ..] => rest,
        _ => text,
    };
    let (whole, fraction, exponent) = split(unsigned).ok_or(DecimalError::NotANumber)?;
    let digits = || {
        whole
            .iter()
            .chain(fraction)
            .map(|byte| u64::from(byte - b'0'))
    };
    // How many of the digits, with zeros after them if need be, stand for
    // whole millionths.
    let count = i64::try_from(whole.len())
        .unwrap_or(i64::MAX)
        .saturating_add(exponent + 6);
    let Ok(count) = usize::try_from(count) else {
        return Ok(0);
    };
    let mut value: u64 = 0;
    for digit in digits().take(count) {
        value = push(value, digit)?;
    }
    if value > 0 {
        for _ in whole.len() + fraction.len()..count {
            value = push(value, 0)?;
        }
    }
    let half_or_more = digits().nth(count).is_some_and(|digit| digit >= 5);
    value
        .checked_add(u64::from(half_or_more))
        .ok_or(DecimalError::TooLarge)
}

/// The way of nearly all numbers, for speed: digits, perhaps a point, and at
/// most six digits more. Thirteen bytes and six zeros cannot overflow.
fn parse_common(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 13 {
        return None;
    }
    let mut value = 0;
    let mut places = None;
    for byte in text {
        match (byte, places) {
            (b'0'..=b'9', _) => {
                value = value * 10 + u64::from(byte - b'0');
                places = places.map(|places| places + 1);
            }
            (b'.', None) => places = Some(0),
            _ => return None,
        }
    }
    // Fewer than six places are filled up; a point without digits is no number.
    let missing = 6_u32.checked_sub(places.unwrap_or(0))?;
    (text != b".").then(|| value * 10_u64.pow(missing))
}

/// Reads a whole number, also written as `5.0` or `1e3`.
pub fn parse_whole(text: &[u8]) -> Result<u64, &'static str> {
    let text = text.trim_ascii();
    if !text.is_empty() && text.iter().all(u8::is_ascii_digit) {
        return text
            .iter()
            .try_fold(0, |value, byte| push(value, u64::from(byte - b'0')))
            .map_err(|_| "is too large (at most 18446744073709551615)");
    }
    match parse_millionths(text) {
        Ok(millionths) if millionths.is_multiple_of(1_000_000) => Ok(millionths / 1_000_000),
        Ok(_) | Err(DecimalError::NotANumber) => Err("is not a whole number"),
        Err(DecimalError::Negative) => Err("is negative"),
        Err(DecimalError::TooLarge) => Err("is too large"),
    }
}

fn push(value: u64, digit: u64) -> Result<u64, DecimalError> {
    value
        .checked_mul(10)
        .and_then(|value| value.checked_add(digit))
        .ok_or(DecimalError::TooLarge)
}

fn is_decimal(text: &[u8]) -> bool {
    split(text).is_some()
}

/// Digits before and after the point, and the exponent; `None` if it is no
/// unsigned decimal number.
fn split(text: &[u8]) -> Option<(&[u8], &[u8], i64)> {
    let end = text.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (mantissa, exponent) = match end {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let point = mantissa.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &[][..]),
    };
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    let some = !(whole.is_empty() && fraction.is_empty());
    (some && digits(whole) && digits(fraction)).then_some((whole, fraction, exponent))
}

/// The exponent, brought within [`EXPONENT_MAX`].
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = digits.iter().fold(0, |size: i64, byte| {
        (size * 10 + i64::from(byte - b'0')).min(EXPONENT_MAX)
    });
    Some(sign * size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimals_are_read_exactly() {
        for (text, millionths) in [
            ("0", 0),
            ("7", 7_000_000),
            ("+1", 1_000_000),
            ("0.25", 250_000),
            (".5", 500_000),
            ("5.", 5_000_000),
            (" 3 ", 3_000_000),
            ("00012.50", 12_500_000),
            ("0.1", 100_000),
            ("1e3", 1_000_000_000),
            ("1E+3", 1_000_000_000),
            ("1.5e-3", 1_500),
            ("12345e-7", 1_235),
            ("0.0000004999", 0),
            ("0.0000005", 1),
            ("1.9999995", 2_000_000),
            ("5e-7", 1),
            ("4.9e-7", 0),
            ("9e-8", 0),
            ("1e-999999999999999999999", 0),
            ("0e999999999999999999999", 0),
            ("18446744073709.551615", u64::MAX),
            ("18446744073709.5516154", u64::MAX),
            ("18446744073709551615e-6", u64::MAX),
        ] {
            assert_eq!(parse_millionths(text.as_bytes()), Ok(millionths), "{text}");
        }
        let deep = format!("0.{}1e5000", "0".repeat(4_999));
        assert_eq!(
            parse_millionths(deep.as_bytes()),
            Ok(1_000_000),
            "a one moved far back"
        );
    }

    #[test]
    fn what_is_no_number_of_millionths_is_refused() {
        use DecimalError::{Negative, NotANumber, TooLarge};
        for (text, error) in [
            ("", NotANumber),
            (" ", NotANumber),
            (".", NotANumber),
            ("+", NotANumber),
            ("-", NotANumber),
            ("NaN", NotANumber),
            ("inf", NotANumber),
            ("-inf", NotANumber),
            ("1e", NotANumber),
            ("1e+", NotANumber),
            ("e3", NotANumber),
            ("1.2.3", NotANumber),
            ("1,5", NotANumber),
            ("1_000", NotANumber),
            ("0x10", NotANumber),
            ("1 2", NotANumber),
            ("+-1", NotANumber),
            ("\u{0661}", NotANumber),
            ("-1", Negative),
            ("-0", Negative),
            ("-1e-30", Negative),
            ("18446744073709.551616", TooLarge),
            ("18446744073709.5516155", TooLarge),
            ("1e14", TooLarge),
            ("1e999999999999999999999", TooLarge),
        ] {
            assert_eq!(parse_millionths(text.as_bytes()), Err(error), "{text}");
        }
    }

    #[test]
    fn whole_numbers_may_be_written_as_decimals() {
        for (text, value) in [
            ("0", Ok(0)),
            (" 12 ", Ok(12)),
            ("5.0", Ok(5)),
            ("1e3", Ok(1_000)),
            ("18446744073709551615", Ok(u64::MAX)),
        ] {
            assert_eq!(parse_whole(text.as_bytes()), value, "{text}");
        }
        for (text, reason) in [
            ("", "whole"),
            ("1.5", "whole"),
            ("x", "whole"),
            ("-1", "negative"),
            ("18446744073709551616", "large"),
            ("1e20", "large"),
        ] {
            let refused = parse_whole(text.as_bytes()).expect_err(text);
            assert!(refused.contains(reason), "{text}: {refused}");
        }
    }

    proptest! {
        #![proptest_config(crate::testing::properties(64))]

        #[test]
        fn written_and_read_again_is_the_same(millionths: u64, moved in 0_u32..12) {
            let text = format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000);
            prop_assert_eq!(parse_millionths(text.as_bytes()), Ok(millionths));
            let text = format!("{millionths}{}e-{}", "0".repeat(moved as usize), 6 + moved);
            prop_assert_eq!(parse_millionths(text.as_bytes()), Ok(millionths));
        }

        #[test]
        fn more_decimals_round_half_up(millionths in 0_u64..1 << 60, more in 0_u64..1_000) {
            let text = format!("{}.{:06}{more:03}", millionths / 1_000_000, millionths % 1_000_000);
            let rounded = millionths + u64::from(more >= 500);
            prop_assert_eq!(parse_millionths(text.as_bytes()), Ok(rounded));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            let _ = parse_millionths(&bytes);
            let _ = parse_whole(&bytes);
        }
    }
}
