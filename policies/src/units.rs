//! Time and money as integers with names.
//!
//! Time is counted in whole microseconds, money in whole micro-dollars
//! (0.000001 USD). Nothing in this house adds up money in floating point:
//! amounts are kept exactly while they accumulate ([`Meter`]) and are rounded
//! once, at the end.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Microseconds in one second.
pub const MICROS_PER_SEC: u64 = 1_000_000;

/// Microseconds in one hour.
pub const MICROS_PER_HOUR: u64 = 3_600 * MICROS_PER_SEC;

/// A point in time: microseconds since 1970-01-01T00:00:00Z, leap seconds not
/// counted (as Unix time). Simulated worlds use the same scale.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// The point `micros` microseconds after [`Timestamp::EPOCH`].
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The point `secs` seconds after [`Timestamp::EPOCH`].
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(MICROS_PER_SEC))
    }

    /// Microseconds since [`Timestamp::EPOCH`].
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it was not earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Reads `2026-03-29T01:30:00Z`, with fractions of a second and any offset.
    ///
    /// # Errors
    /// A sentence for the person who wrote it, if it is not RFC 3339 or lies
    /// before 1970.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parsed = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| {
            format!("`{text}` is not a time such as \"2026-03-29T01:30:00Z\" (RFC 3339)")
        })?;
        u64::try_from(parsed.timestamp_micros())
            .map(Self)
            .map_err(|_| format!("`{text}` lies before 1970"))
    }

    /// The same point for `chrono`; the end of its calendar if it lies beyond.
    pub fn to_chrono(self) -> chrono::DateTime<chrono::Utc> {
        i64::try_from(self.0)
            .ok()
            .and_then(chrono::DateTime::from_timestamp_micros)
            .unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    /// Later by `span`; stops at the end of time instead of wrapping.
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(micros_of(span)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    /// Earlier by `span`; stops at [`Timestamp::EPOCH`] instead of wrapping.
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(micros_of(span)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, with as many decimals as the point needs (0, 3 or 6).
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self
            .to_chrono()
            .to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
        out.write_str(&text)
    }
}

/// Whole microseconds of a duration; the largest `u64` if it is longer than
/// 584,000 years.
pub fn micros_of(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// An amount of money in micro-dollars. May be negative (a saving).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MicroUsd(i64);

impl MicroUsd {
    /// No money.
    pub const ZERO: Self = Self(0);

    /// The amount of `micro_usd` micro-dollars.
    pub const fn new(micro_usd: i64) -> Self {
        Self(micro_usd)
    }

    /// How many micro-dollars.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl Add for MicroUsd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for MicroUsd {
    /// Exact dollars without the sign of the currency: `0.17`, `12.345678`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write_decimal(out, sign, self.0.unsigned_abs())
    }
}

/// A price per hour in micro-dollars: what an instance-hour costs, or what an
/// hour of one job's waiting is worth. Never negative.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MicroUsdPerHour(u64);

impl MicroUsdPerHour {
    /// Free of charge.
    pub const ZERO: Self = Self(0);

    /// The price of `micro_usd` micro-dollars an hour.
    pub const fn new(micro_usd: u64) -> Self {
        Self(micro_usd)
    }

    /// How many micro-dollars an hour.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// What `count` of them cost an hour; stops at the largest price.
    #[must_use]
    pub const fn times(self, count: u32) -> Self {
        Self(self.0.saturating_mul(count as u64))
    }

    /// Reads an exact decimal such as `0.17`, at most six places.
    ///
    /// # Errors
    /// A sentence that says what to change.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse_decimal_micro(text).map(Self)
    }
}

impl fmt::Display for MicroUsdPerHour {
    /// Exact dollars an hour: `0.17`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(out, "", self.0)
    }
}

/// Adds up price times time exactly and rounds once.
///
/// Inside it counts micro-dollars times microseconds; 2^127 of them are more
/// than all money there is, for longer than the sun will shine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter(u128);

impl Meter {
    /// Adds `micros` microseconds at `price`.
    pub const fn add(&mut self, price: MicroUsdPerHour, micros: u64) {
        self.0 = self.0.saturating_add(price.0 as u128 * micros as u128);
    }

    /// Adds `micros` microseconds, a sum over many items, at `price`.
    pub const fn add_wide(&mut self, price: MicroUsdPerHour, micros: u128) {
        self.0 = self
            .0
            .saturating_add(micros.saturating_mul(price.0 as u128));
    }

    /// The total in micro-dollars, rounded up: a started micro-dollar counts.
    pub fn total(self) -> MicroUsd {
        let micro_usd = self.0.div_ceil(u128::from(MICROS_PER_HOUR));
        MicroUsd(i64::try_from(micro_usd).unwrap_or(i64::MAX))
    }
}

fn write_decimal(out: &mut fmt::Formatter<'_>, sign: &str, micro: u64) -> fmt::Result {
    let whole = micro / 1_000_000;
    let fraction = format!("{:06}", micro % 1_000_000);
    // Two places at least, as people write money.
    let trimmed = fraction.trim_end_matches('0');
    let places = trimmed.len().max(2);
    write!(out, "{sign}{whole}.{}", &fraction[..places])
}

/// Millionths of a plain decimal number: `1.5` is 1,500,000.
fn parse_decimal_micro(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not an amount in dollars such as 0.17");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    let significant = fraction.trim_end_matches('0');
    if significant.len() > 6 {
        return Err(format!(
            "`{text}` has more than six decimals; amounts are exact to a millionth of a dollar"
        ));
    }
    let whole = if whole.is_empty() {
        0
    } else {
        whole.parse::<u64>().map_err(|_| wrong())?
    };
    let fraction = format!("{significant:0<6}")
        .parse::<u64>()
        .map_err(|_| wrong())?;
    whole
        .checked_mul(1_000_000)
        .and_then(|micro| micro.checked_add(fraction))
        .filter(|micro| i64::try_from(*micro).is_ok())
        .ok_or_else(|| format!("`{text}` is too large an amount"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_written_exactly() {
        for (text, micro, shown) in [
            ("0.17", 170_000, "0.17"),
            ("1", 1_000_000, "1.00"),
            (".5", 500_000, "0.50"),
            ("0.0000010", 1, "0.000001"),
            ("12.345678", 12_345_678, "12.345678"),
        ] {
            let price = MicroUsdPerHour::parse(text).expect(text);
            assert_eq!(price.get(), micro, "{text}");
            assert_eq!(price.to_string(), shown, "{text}");
        }
        for wrong in [
            "",
            ".",
            "-1",
            "1e3",
            "0.0000001",
            "one",
            "99999999999999",
            "1.2.3",
        ] {
            assert!(MicroUsdPerHour::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn meter_rounds_up_once() {
        let mut meter = Meter::default();
        // A third of a micro-dollar, three times, is one micro-dollar and not three.
        for _ in 0..3 {
            meter.add(MicroUsdPerHour::new(1), MICROS_PER_HOUR / 3);
        }
        assert_eq!(meter.total(), MicroUsd::new(1));
        meter.add(MicroUsdPerHour::new(1), 1);
        assert_eq!(meter.total(), MicroUsd::new(2));
    }

    #[test]
    fn times_are_read_and_written_as_rfc_3339() {
        let at = Timestamp::parse("2026-03-29T02:30:00.5+01:00").expect("valid");
        assert_eq!(at.to_string(), "2026-03-29T01:30:00.500Z");
        assert!(Timestamp::parse("1969-12-31T23:59:59Z").is_err());
        assert!(Timestamp::parse("yesterday").is_err());
        assert_eq!(Timestamp::EPOCH - Duration::from_secs(1), Timestamp::EPOCH);
        assert_eq!(Timestamp::EPOCH.since(at), Duration::ZERO);
    }
}
