//! How numbers and spans are written for people.

use std::time::Duration;

/// A span to the precision that matters: `0.8 s`, `92 s`, `5 min 10 s`,
/// `3 h 2 min`, `4 d 1 h`. Rounded down.
pub(super) fn span(span: Duration) -> String {
    let secs = span.as_secs();
    let (minute, hour, day) = (60, 3_600, 86_400);
    let two = |whole: u64, unit: &str, rest: u64, rest_unit: &str| match rest {
        0 => format!("{whole} {unit}"),
        rest => format!("{whole} {unit} {rest} {rest_unit}"),
    };
    match secs {
        0..10 if span.subsec_millis() >= 100 => format!("{secs}.{} s", span.subsec_millis() / 100),
        0..120 => format!("{secs} s"),
        120..7_200 => two(secs / minute, "min", secs % minute, "s"),
        7_200..172_800 => two(secs / hour, "h", secs % hour / minute, "min"),
        172_800.. => two(secs / day, "d", secs % day / hour, "h"),
    }
}

/// A measured value with four decimals at most, and none that are zero.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `1 instance`, `2 instances`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_numbers_are_short() {
        for (millis, text) in [
            (0, "0 s"),
            (99, "0 s"),
            (840, "0.8 s"),
            (9_999, "9.9 s"),
            (92_700, "92 s"),
            (120_000, "2 min"),
            (310_000, "5 min 10 s"),
            (10_920_000, "3 h 2 min"),
            (349_200_000, "4 d 1 h"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
        for (value, text) in [
            (0.0, "0"),
            (17.0, "17"),
            (100.0, "100"),
            (0.333_33, "0.3333"),
            (0.000_01, "0"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
