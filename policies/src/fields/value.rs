//! From TOML values to the types of this house.

use std::time::Duration;

use toml::Value;

use super::{duration_text, parse_duration};
use crate::units::{MicroUsd, MicroUsdPerHour, Timestamp};

/// A type that can stand in a TOML file.
pub trait FromToml: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong and what to write, for a person.
    fn from_toml(value: &Value) -> Result<Self, String>;

    /// The value as it would be written.
    fn to_text(&self) -> String;
}

/// What a TOML value is, with its article.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a decimal number",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "an array",
        Value::Table(_) => "a table",
    }
}

fn wrong_type(value: &Value, needed: &str) -> String {
    format!("{} where {needed} is needed", type_name(value))
}

impl FromToml for bool {
    fn from_toml(value: &Value) -> Result<Self, String> {
        value
            .as_bool()
            .ok_or_else(|| wrong_type(value, "true or false"))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl FromToml for String {
    fn from_toml(value: &Value) -> Result<Self, String> {
        value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| wrong_type(value, "a string"))
    }

    fn to_text(&self) -> String {
        format!("{self:?}")
    }
}

fn integer(value: &Value) -> Result<i64, String> {
    match value {
        Value::Integer(number) => Ok(*number),
        Value::Float(number) => Err(format!("{number:?} is no whole number")),
        other => Err(wrong_type(other, "a whole number")),
    }
}

fn unsigned<T: TryFrom<i64>>(value: &Value) -> Result<T, String> {
    let number = integer(value)?;
    T::try_from(number).map_err(|_| {
        if number < 0 {
            format!("{number} is negative; write 0 or more")
        } else {
            format!("{number} is too large")
        }
    })
}

impl FromToml for u32 {
    fn from_toml(value: &Value) -> Result<Self, String> {
        unsigned(value)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl FromToml for u64 {
    fn from_toml(value: &Value) -> Result<Self, String> {
        unsigned(value)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl FromToml for i32 {
    fn from_toml(value: &Value) -> Result<Self, String> {
        let number = integer(value)?;
        Self::try_from(number).map_err(|_| format!("{number} is too far from 0"))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl FromToml for f64 {
    /// A whole or decimal number; NaN and infinity are refused.
    fn from_toml(value: &Value) -> Result<Self, String> {
        let number = match value {
            Value::Float(number) => *number,
            // Whole numbers of up to 15 digits are exact; longer ones are
            // as near as a decimal number of that size can be.
            #[expect(clippy::cast_precision_loss, reason = "as near as any f64 is")]
            Value::Integer(number) => *number as Self,
            other => return Err(wrong_type(other, "a number")),
        };
        if number.is_finite() {
            Ok(number)
        } else {
            Err(format!("{number} is no finite number"))
        }
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl FromToml for Duration {
    /// A string such as `"90s"`; a bare number is refused, because its unit
    /// would be a guess.
    fn from_toml(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => parse_duration(text),
            Value::Integer(number) => Err(format!(
                "{number} has no unit; write \"{number}s\" if seconds are meant"
            )),
            Value::Float(number) => Err(format!(
                "{number} has no unit; write a duration such as \"90s\", \"1h30m\" or \"250ms\""
            )),
            other => Err(wrong_type(other, "a duration such as \"90s\"")),
        }
    }

    fn to_text(&self) -> String {
        format!("\"{}\"", duration_text(*self))
    }
}

impl FromToml for MicroUsdPerHour {
    /// A number or a string, at most six decimals: `0.17`, `"0.17"`.
    ///
    /// A decimal number is taken by its shortest text that reads back as the
    /// same number, which is what was written for up to 15 digits.
    fn from_toml(value: &Value) -> Result<Self, String> {
        let text = match value {
            Value::Integer(number) => number.to_string(),
            Value::Float(number) if !number.is_finite() => {
                return Err(format!("{number} is no amount in dollars such as 0.17"));
            }
            Value::Float(number) => number.to_string(),
            Value::String(text) => text.clone(),
            other => return Err(wrong_type(other, "an amount in dollars such as 0.17")),
        };
        if text.starts_with('-') {
            return Err(format!("{text} is negative; write 0 or more"));
        }
        Self::parse(&text)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl FromToml for MicroUsd {
    /// As a price: a number or a string of at most six decimals, 0 or more.
    fn from_toml(value: &Value) -> Result<Self, String> {
        let price = MicroUsdPerHour::from_toml(value)?;
        i64::try_from(price.get())
            .map(Self::new)
            .map_err(|_| format!("{price} is too large an amount"))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl FromToml for Timestamp {
    /// A time with its offset, as a string or as TOML's own type.
    fn from_toml(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Self::parse(text),
            Value::Datetime(at) => Self::parse(&at.to_string()),
            other => Err(wrong_type(other, "a time such as \"2026-03-29T01:30:00Z\"")),
        }
    }

    fn to_text(&self) -> String {
        format!("\"{self}\"")
    }
}
