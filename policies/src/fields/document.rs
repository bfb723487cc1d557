//! A TOML file with the lines its keys stand on.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::Fields;
use crate::problems::{Problem, Problems};

/// A parsed TOML file.
#[derive(Debug)]
pub struct Document {
    table: toml::Table,
    lines: Lines,
}

impl Document {
    /// Parses `text`.
    ///
    /// # Errors
    /// Everything that keeps it from being TOML, with the lines.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        let counter = LineCounter::new(text);
        let (spanned, errors) = DeTable::parse_recoverable(text);
        let mut problems = Problems::none();
        let plain = text.parse::<toml::Table>();
        let others = plain
            .as_ref()
            .err()
            .into_iter()
            .filter(|_| errors.is_empty());
        for error in errors.iter().chain(others) {
            problems.push(Problem {
                path: String::new(),
                line: error.span().map(|span| counter.line_at(span.start)),
                message: not_toml(text, error),
            });
        }
        let Ok(table) = plain else {
            return Err(problems.sorted());
        };
        let mut lines = Lines::default();
        lines.add_table(&counter, "", spanned.get_ref());
        Ok(Self { table, lines })
    }

    /// The line `path` stands on, such as `workload.trace`, or else that of the
    /// nearest table around it: for what turns out to be wrong later.
    pub fn line_of(&self, path: &str) -> usize {
        self.lines.nearest(path)
    }

    /// Reads the whole file with `read`.
    ///
    /// # Errors
    /// Everything that was reported, in the order of the file.
    pub fn read<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Result<T, Problems> {
        let mut problems = Problems::none();
        let mut fields = Fields::new(&self.table, String::new(), &self.lines, &mut problems);
        let found = read(&mut fields);
        fields.report_unknown_keys();
        match found {
            Some(found) if problems.is_empty() => Ok(found),
            None if problems.is_empty() => Err(Problems::one("", "incomplete")),
            _ => Err(problems.sorted()),
        }
    }
}

/// What keeps `text` from being TOML. Only for a key that is there twice does
/// the library not say which.
fn not_toml(text: &str, error: &toml::de::Error) -> String {
    let message = error.message();
    let key = error.span().and_then(|span| text.get(span));
    match key {
        Some(key) if message == "duplicate key" => format!("not TOML: {message} `{key}`"),
        _ => format!("not TOML: {message}"),
    }
}

/// `path.key`, with quotes around a key that is not bare.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let key = if bare {
        key.to_owned()
    } else {
        format!("{key:?}")
    };
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

/// The line every key stands on, by path.
#[derive(Debug, Default)]
pub(super) struct Lines(BTreeMap<String, usize>);

impl Lines {
    /// The line of `path`, or else of the nearest table around it; the first
    /// line if that is the whole file.
    pub(super) fn nearest(&self, path: &str) -> usize {
        let mut place = path;
        while !place.is_empty() {
            if let Some(line) = self.0.get(place) {
                return *line;
            }
            let end = place.rfind(['.', '[']).unwrap_or(0);
            place = &place[..end];
        }
        1
    }

    fn add_table(&mut self, counter: &LineCounter, path: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = join(path, key.get_ref());
            self.0
                .insert(path.clone(), counter.line_at(key.span().start));
            self.add_value(counter, &path, value.get_ref());
        }
    }

    fn add_value(&mut self, counter: &LineCounter, path: &str, value: &DeValue<'_>) {
        match value {
            DeValue::Table(table) => self.add_table(counter, path, table),
            DeValue::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.0
                        .insert(path.clone(), counter.line_at(element.span().start));
                    self.add_value(counter, &path, element.get_ref());
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }
}

/// From byte positions to lines.
struct LineCounter {
    /// Where each line but the first starts. Invariant: sorted.
    starts: Vec<usize>,
}

impl LineCounter {
    fn new(text: &str) -> Self {
        let starts = text
            .match_indices('\n')
            .map(|(position, _)| position + 1)
            .collect();
        Self { starts }
    }

    fn line_at(&self, position: usize) -> usize {
        1 + self.starts.partition_point(|start| *start <= position)
    }
}
