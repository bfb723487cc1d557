//! Rows of a job trace eight digits at a time.
//!
//! The general reader takes 60 nanoseconds for a row; this takes 10. It reads
//! what nearly all rows are: up to eight digits, perhaps a point and up to six
//! digits more, twice. Everything else it declines, and the general reader
//! reads it or says what is wrong: the two never differ.

/// How far ahead a row is looked at: two numbers of at most 15 bytes, three
/// separators, and a class of up to 30 bytes.
pub(super) const WINDOW: usize = 64;

/// The first two columns of a row.
pub(super) struct Row {
    pub(super) arrival: u64,
    pub(super) service: u64,
    /// Where the separator after them is.
    pub(super) end: usize,
}

/// What each number of missing decimals multiplies by.
const POWERS: [u64; 7] = [1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];

/// The row at the beginning of the window, if it is plainly written.
#[inline]
pub(super) fn row(window: &[u8; WINDOW]) -> Option<Row> {
    let (arrival, comma) = number(window, 0)?;
    if window[comma] != b',' {
        return None;
    }
    let (service, end) = number(window, comma + 1)?;
    Some(Row {
        arrival,
        service,
        end,
    })
}

/// How long the line is that should end at `at`, its end included.
#[inline]
pub(super) fn line_end(window: &[u8; WINDOW], at: usize) -> Option<usize> {
    match window.get(at)? {
        b'\n' => Some(at + 1),
        b'\r' if window.get(at + 1) == Some(&b'\n') => Some(at + 2),
        _ => None,
    }
}

/// Where the class ends that should begin behind the comma at `comma`, if it
/// is plain: no spaces, commas or control characters.
#[inline]
pub(super) fn class_end(window: &[u8; WINDOW], comma: usize) -> Option<usize> {
    if window[comma] != b',' {
        return None;
    }
    let from = comma + 1;
    let length = window[from..]
        .iter()
        .position(|byte| *byte <= b' ' || *byte == b',')?;
    // The line must end within the window too, so that nothing is taken twice.
    line_end(window, from + length).map(|_| from + length)
}

/// The number at `at` in millionths, and where it ends.
#[inline]
fn number(window: &[u8; WINDOW], at: usize) -> Option<(u64, usize)> {
    let (digits, whole) = leading_digits(load(window, at)?);
    let end = at + digits;
    let next = *window.get(end)?;
    if digits == 0 || next.is_ascii_digit() {
        return None;
    }
    if next != b'.' {
        return Some((whole * 1_000_000, end));
    }
    let (places, fraction) = leading_digits(load(window, end + 1)?);
    let power = POWERS.get(places)?;
    (places > 0).then_some((whole * 1_000_000 + fraction * power, end + 1 + places))
}

#[inline]
fn load(window: &[u8; WINDOW], at: usize) -> Option<u64> {
    let bytes = window.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

/// How many of the eight bytes, from the first on, are digits, and their value.
#[inline]
fn leading_digits(word: u64) -> (usize, u64) {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // A digit becomes 0 to 9; adding 0x76 carries anything above into the
    // highest bit of its own byte, and no further.
    let low = word ^ 0x3030_3030_3030_3030;
    let others = (((low & !HIGH) + 0x7676_7676_7676_7676) | low) & HIGH;
    let digits = others.trailing_zeros() / 8;
    if digits == 0 {
        return (0, 0);
    }
    // The digits to the end of the word, zeros before them; then pairs, fours
    // and all eight are joined by one multiplication each.
    let ones = low << (64 - 8 * digits);
    let pairs = (ones.wrapping_mul(2_561) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(6_553_601) >> 16) & 0x0000_ffff_0000_ffff;
    let value = fours.wrapping_mul(42_949_672_960_001) >> 32;
    (digits as usize, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::decimal::parse_millionths;
    use proptest::prelude::*;

    fn window(text: &str) -> [u8; WINDOW] {
        let mut window = [b'x'; WINDOW];
        window[..text.len()].copy_from_slice(text.as_bytes());
        window
    }

    #[test]
    fn plain_numbers_are_read_and_others_declined() {
        for (text, expected) in [
            ("0,", Some((0, 1))),
            ("12345678,", Some((12_345_678_000_000, 8))),
            ("12345678.123456\n", Some((12_345_678_123_456, 15))),
            ("7.5\r", Some((7_500_000, 3))),
            ("007.000001x", Some((7_000_001, 10))),
            ("123456789,", None),
            ("1.1234567,", None),
            ("1.,", None),
            (".5,", None),
            ("-1,", None),
            (",", None),
        ] {
            assert_eq!(number(&window(text), 0), expected, "{text}");
        }
    }

    proptest! {
        #![proptest_config(crate::testing::properties(256))]

        #[test]
        fn any_number_is_read_as_the_general_reader_does(text in "[0-9.:/]{0,18}") {
            if let Some((value, end)) = number(&window(&text), 0) {
                prop_assert_eq!(parse_millionths(&text.as_bytes()[..end]), Ok(value));
            }
        }

        #[test]
        fn digits_end_where_they_end(bytes: [u8; 8]) {
            let expected = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
            prop_assert_eq!(leading_digits(u64::from_le_bytes(bytes)).0, expected);
        }
    }
}
