//! Metric maths, as far as windlass must understand it: which metrics a formula
//! names, and how to give them other names.
//!
//! The formulas of many fleets go into one call, in which every name must be
//! there once. So each formula's names are replaced by its own.

use std::fmt::Write as _;

/// `CloudWatch` takes no longer expression.
const CHARS_MAX: usize = 1_024;

/// A formula whose names are all known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expression {
    text: String,
    names: Vec<String>,
}

/// A part of a formula.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'a> {
    /// A word: a name, a function or a keyword.
    Word(&'a str),
    /// Everything else; a quoted text is one part.
    Other(&'a str),
}

impl Expression {
    /// Checks `text`, which may name the metrics `names`.
    ///
    /// # Errors
    /// A sentence for whoever wrote it.
    pub fn parse(text: &str, names: &[&str]) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("is empty; write a formula such as \"m1 / m2\"".to_owned());
        }
        if text.chars().count() > CHARS_MAX {
            return Err(format!(
                "is longer than {CHARS_MAX} characters, the most of CloudWatch"
            ));
        }
        let parts = parts(text)?;
        let words = || {
            parts.iter().filter_map(|part| match part {
                Part::Word(word) => Some(*word),
                Part::Other(_) => None,
            })
        };
        if words().any(|word| word == "METRICS") {
            return Err(
                "METRICS() means all metrics of a call, which fleets share; name them one by one, \
                 such as SUM([m1, m2])"
                    .to_owned(),
            );
        }
        if words()
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case("SELECT"))
        {
            return Err(
                "a query of Metrics Insights cannot share a call with other fleets; use SEARCH, \
                 such as SUM(SEARCH(...))"
                    .to_owned(),
            );
        }
        let unknown = words().find(|word| is_name(word) && !names.contains(word));
        if let Some(unknown) = unknown {
            return Err(format!(
                "`{unknown}` is no metric of this signal; write a table under `metrics` for it"
            ));
        }
        if let Some(unused) = names
            .iter()
            .find(|name| !words().any(|word| word == **name))
        {
            return Err(format!(
                "does not use the metric `{unused}`; remove its table, or use it"
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        })
    }

    /// The formula as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The formula with `prefix` in front of every name.
    pub fn prefixed(&self, prefix: &str) -> String {
        let parts = parts(&self.text).expect("a checked formula has parts");
        let mut renamed = String::new();
        for part in parts {
            match part {
                Part::Word(word) if self.names.iter().any(|name| name == word) => {
                    let _ = write!(renamed, "{prefix}{word}");
                }
                Part::Word(text) | Part::Other(text) => renamed.push_str(text),
            }
        }
        renamed
    }
}

/// Whether `CloudWatch` takes `name` for a metric of a formula.
///
/// # Errors
/// A sentence that says what it takes.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if is_name(name) && name.len() <= 64 && name.bytes().all(plain) {
        return Ok(());
    }
    Err(
        "a metric is named by a lower case letter and then letters, digits and \"_\", such as m1"
            .to_owned(),
    )
}

/// Names begin with a lower case letter; functions and keywords are in capitals.
fn is_name(word: &str) -> bool {
    word.bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase())
}

/// The parts of `text`, which together are `text`.
fn parts(text: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if first == '\'' || first == '"' {
            let inside = &rest[1..];
            let end = inside
                .find(first)
                .ok_or_else(|| format!("the quote {first} is not closed"))?;
            end + 2
        } else if first.is_ascii_digit() || first == '.' {
            // A number: `1e3` has no name in it.
            end_of(rest, |it| {
                it.is_ascii_alphanumeric() || it == '.' || it == '_'
            })
        } else if first.is_ascii_alphabetic() || first == '_' {
            end_of(rest, |it| it.is_ascii_alphanumeric() || it == '_')
        } else {
            first.len_utf8()
        };
        let (part, after) = rest.split_at(length);
        let word = first.is_ascii_alphabetic() || first == '_';
        parts.push(if word {
            Part::Word(part)
        } else {
            Part::Other(part)
        });
        rest = after;
    }
    Ok(parts)
}

fn end_of(text: &str, inside: impl Fn(char) -> bool) -> usize {
    text.find(|character| !inside(character))
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_prefixed_and_nothing_else_is() {
        for (text, names, expected) in [
            ("m1 / m2", &["m1", "m2"][..], "q7_m1 / q7_m2"),
            ("100*(m1/m10)", &["m1", "m10"], "100*(q7_m1/q7_m10)"),
            ("IF(m1 > 1e3, m1, 0)", &["m1"], "IF(q7_m1 > 1e3, q7_m1, 0)"),
            ("FILL(m1, REPEAT)", &["m1"], "FILL(q7_m1, REPEAT)"),
            (
                "SUM(SEARCH('{AWS/EC2,InstanceId} m1', 'Average')) + m1",
                &["m1"],
                "SUM(SEARCH('{AWS/EC2,InstanceId} m1', 'Average')) + q7_m1",
            ),
            ("m1/PERIOD(m1)", &["m1"], "q7_m1/PERIOD(q7_m1)"),
            ("RATE(m_1) + .5", &["m_1"], "RATE(q7_m_1) + .5"),
        ] {
            let expression = Expression::parse(text, names).expect(text);
            assert_eq!(expression.prefixed("q7_"), expected);
            assert_eq!(expression.text(), text);
        }
    }

    #[test]
    fn what_cannot_share_a_call_or_names_nothing_is_told() {
        for (text, names, told) in [
            ("", &[][..], "is empty"),
            ("m1 / m2", &["m1"], "`m2` is no metric of this signal"),
            ("m1 * 2", &["m1", "m2"], "does not use the metric `m2`"),
            ("SUM(METRICS())", &[], "name them one by one"),
            (
                "SELECT AVG(CPUUtilization) FROM SCHEMA(\"AWS/EC2\")",
                &[],
                "Metrics Insights",
            ),
            ("SEARCH('x", &[], "is not closed"),
        ] {
            let message = Expression::parse(text, names).expect_err(text);
            assert!(message.contains(told), "{text}: {message}");
        }
        let long = format!("{}1", "1+".repeat(600));
        assert!(
            Expression::parse(&long, &[])
                .expect_err("long")
                .contains("1024")
        );
    }

    #[test]
    fn names_are_those_of_cloudwatch() {
        for good in ["m1", "busy_slots", "aB"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["M1", "1m", "", "m-1", "_m", "mö"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
