//! Spans of time as people write them: `90s`, `1h30m`.

use std::time::Duration;

/// The units, longest first: what is written, how it is called, and how many
/// milliseconds it has.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A century of 365-day years: longer than anything meant.
const DAYS_MAX: u64 = 36_500;

/// Reads `90s`, `5m`, `1h30m`, `2d`, `250ms`: whole numbers with units, the
/// longest unit first.
///
/// # Errors
/// What is wrong and what to write.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = |why: &str| Err(format!("\"{text}\" is no duration: {why}"));
    let example = "write whole numbers with units (d, h, m, s, ms), such as \"90s\" or \"1h30m\"";
    if text.trim().starts_with('-') {
        return wrong("it is negative");
    }
    if text.contains(char::is_whitespace) {
        return wrong("write it without spaces, such as \"1h30m\"");
    }
    if text.contains(['.', ',']) {
        return wrong("write whole numbers, such as \"1h30m\" and not \"1.5h\"");
    }
    let mut rest = text;
    let mut millis: u64 = 0;
    let mut longest = UNITS.len() + 1;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..]
            .bytes()
            .take_while(u8::is_ascii_alphabetic)
            .count();
        let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
        if number.is_empty() {
            return wrong(example);
        }
        if unit.is_empty() {
            let example = format!("{number} has no unit; {example}");
            return wrong(if rest.len() == digits {
                &example
            } else {
                "write whole numbers"
            });
        }
        let Some(place) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return wrong(&format!("`{unit}` is no unit; {example}"));
        };
        if longest <= UNITS.len() && place <= longest {
            return wrong("write the longest unit first, and each once");
        }
        longest = place;
        let added = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(UNITS[place].1));
        match added.and_then(|added| millis.checked_add(added)) {
            Some(sum) if sum <= DAYS_MAX * UNITS[0].1 => millis = sum,
            _ => return wrong(&format!("it is longer than {DAYS_MAX} days")),
        }
        rest = &rest[digits + letters..];
    }
    if text.is_empty() {
        return wrong(example);
    }
    Ok(Duration::from_millis(millis))
}

/// The duration as [`parse_duration`] reads it, to the millisecond below.
pub fn duration_text(span: Duration) -> String {
    let mut millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, size) in UNITS {
        if millis >= size {
            let count = millis / size;
            text.extend([count.to_string().as_str(), name]);
            millis %= size;
        }
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}
