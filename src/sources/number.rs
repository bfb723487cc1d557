//! Numbers and times as sources write them.

use windlass_policies::units::{MICROS_PER_SEC, Timestamp};

/// A count as a reading; beyond 2^53 rounded to the nearest number there is.
#[expect(
    clippy::cast_precision_loss,
    reason = "nobody has 2^53 jobs, and a rounded number of them does no harm"
)]
pub(super) fn of_count(count: u64) -> f64 {
    count as f64
}

/// A decimal number, such as `12`, `0.5` or `1e3`; it may be NaN or infinite,
/// which [`super::sampled`] refuses.
pub(super) fn parse(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

/// A time: RFC 3339 or seconds since 1970, with or without a fraction.
///
/// # Errors
/// What is wrong with it, for a person.
pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    match parse(text) {
        Some(secs) => epoch_secs(secs),
        None => Timestamp::parse(text.trim()),
    }
}

/// The time `secs` seconds after 1970.
///
/// # Errors
/// That it is none.
pub(super) fn epoch_secs(secs: f64) -> Result<Timestamp, String> {
    // The last second of the year 9999: what lies beyond is in another unit.
    const LAST: f64 = 253_402_300_799.0;
    if !(0.0..=LAST).contains(&secs) {
        return Err(format!("{secs} is no time in seconds since 1970"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "within the bounds above; rounded down to the microsecond"
    )]
    Ok(Timestamp::from_micros(
        (secs * MICROS_PER_SEC as f64) as u64,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_or_epoch_seconds() {
        let cases = [
            ("1700000000", Some(1_700_000_000_000_000)),
            ("1700000000.5", Some(1_700_000_000_500_000)),
            ("2023-11-14T22:13:20Z", Some(1_700_000_000_000_000)),
            ("2023-11-14T23:13:20+01:00", Some(1_700_000_000_000_000)),
            ("-1", None),
            ("NaN", None),
            ("inf", None),
            ("1e300", None),
            ("2023-11-14 22:13:20", None),
            ("yesterday", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let found = parse_time(text).ok().map(Timestamp::micros);
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
