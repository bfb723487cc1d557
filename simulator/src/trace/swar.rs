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

/// The row at the beginning of the window, if it is plainly written. It is read
/// faster if its arrival has `likely` digits before the point.
///
/// Where a number begins is known when it is known where the one before ends.
/// The processor need not wait for that where the guess is right: neither
/// `likely` digits nor six decimals are counted, only checked.
#[inline]
pub(super) fn row(window: &[u8; WINDOW], likely: u32) -> Option<Row> {
    let word = Word::at(window, 0)?;
    let (arrival, comma) = if word.has_just(likely) {
        rest(window, word.value(likely), likely as usize)?
    } else {
        number(window, 0)?
    };
    if window[comma] != b',' {
        return None;
    }
    let (service, end) = short(window, comma + 1)?;
    Some(Row {
        arrival,
        service,
        end,
    })
}

/// How many digits a plain arrival in millionths has before the point.
pub(super) fn digits_of(arrival: u64) -> u32 {
    (arrival / 1_000_000).checked_ilog10().unwrap_or(0) + 1
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

/// The same as [`number`], faster where one digit stands before the point: in
/// most traces most jobs take less than ten seconds.
#[inline]
fn short(window: &[u8; WINDOW], at: usize) -> Option<(u64, usize)> {
    let word = Word::at(window, at)?;
    if word.has_just(1) {
        return rest(window, word.low & 0xf, at + 1);
    }
    number(window, at)
}

/// The number at `at` in millionths, and where it ends. Not inlined: what is
/// the same in nearly all rows is not read by it.
#[inline(never)]
fn number(window: &[u8; WINDOW], at: usize) -> Option<(u64, usize)> {
    let word = Word::at(window, at)?;
    let digits = word.digits();
    if digits == 0 {
        return None;
    }
    rest(window, word.value(digits), at + digits as usize)
}

/// The number with the digits `whole` up to `end`, and perhaps decimals behind.
#[inline]
fn rest(window: &[u8; WINDOW], whole: u64, end: usize) -> Option<(u64, usize)> {
    let next = *window.get(end)?;
    if next != b'.' {
        let ends = !next.is_ascii_digit();
        return ends.then_some((whole * 1_000_000, end));
    }
    let word = Word::at(window, end + 1)?;
    if word.has_just(6) {
        return Some((whole * 1_000_000 + word.decimals(), end + 7));
    }
    let places = word.digits();
    if !(1..=6).contains(&places) {
        return None;
    }
    Some((
        whole * 1_000_000 + word.decimals(),
        end + 1 + places as usize,
    ))
}

/// Eight bytes, the first one lowest.
#[derive(Clone, Copy)]
struct Word {
    /// Digits as 0 to 9, everything else as something else.
    low: u64,
    /// The highest bit of each byte that is no digit.
    others: u64,
}

impl Word {
    #[inline]
    fn at(window: &[u8; WINDOW], at: usize) -> Option<Self> {
        let bytes = window.get(at..)?.first_chunk()?;
        Some(Self::of(u64::from_le_bytes(*bytes)))
    }

    #[inline]
    const fn of(word: u64) -> Self {
        const HIGH: u64 = 0x8080_8080_8080_8080;
        // A digit becomes 0 to 9; adding 0x76 carries anything above into the
        // highest bit of its own byte, and no further.
        let low = word ^ 0x3030_3030_3030_3030;
        let others = (((low & !HIGH) + 0x7676_7676_7676_7676) | low) & HIGH;
        Self { low, others }
    }

    /// How many of the bytes, from the first on, are digits.
    #[inline]
    const fn digits(self) -> u32 {
        self.others.trailing_zeros() / 8
    }

    /// Whether so many are, between 1 and 7: the same as counting them.
    #[inline]
    const fn has_just(self, digits: u32) -> bool {
        let end = 0x80 << (8 * (digits & 7));
        digits > 0 && digits < 8 && self.others & (end | (end - 1)) == end
    }

    /// The value of the first bytes, one to eight, which are all digits.
    #[inline]
    const fn value(self, digits: u32) -> u64 {
        // The digits to the end of the word, zeros before them.
        join(self.low << (64 - 8 * digits))
    }

    /// The digits that the word begins with, at most six, as millionths: those
    /// that are missing are zeros behind them.
    #[inline]
    const fn decimals(self) -> u64 {
        let end = self.others & self.others.wrapping_neg();
        let digits = (end >> 7).wrapping_sub(1);
        join((self.low & digits) << 16)
    }
}

/// The value of eight digits: pairs, fours and all eight are joined by one
/// multiplication each.
#[inline]
const fn join(ones: u64) -> u64 {
    let pairs = (ones.wrapping_mul(2_561) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(6_553_601) >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(42_949_672_960_001) >> 32
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
        fn digits_end_where_they_end(bytes: [u8; 8], digits in 0..8_usize) {
            let mut bytes = bytes;
            for byte in &mut bytes[..digits] {
                *byte = b'0' + *byte % 10;
            }
            let expected = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let word = Word::of(u64::from_le_bytes(bytes));
            prop_assert_eq!(word.digits() as usize, expected);
            for likely in 0..9 {
                let just = word.has_just(likely);
                prop_assert_eq!(just, likely as usize == expected && (1..8).contains(&likely));
            }
        }

        #[test]
        fn a_guess_changes_nothing(text in "[0-9]{1,9}(\\.[0-9]{0,8})?,[0-9.]{1,9}", likely in 0..12_u32) {
            let all = |likely| {
                let row = row(&window(&text), likely)?;
                Some((row.arrival, row.service, row.end))
            };
            prop_assert_eq!(all(likely), all(0));
        }
    }

    #[test]
    fn a_guess_is_the_number_of_digits() {
        for (arrival, digits) in [(0, 1), (9_999_999, 1), (10_000_000, 2), (123_000_000, 3)] {
            assert_eq!(digits_of(arrival), digits);
        }
    }
}
