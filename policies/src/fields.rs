//! Reading TOML tables key by key, so that every problem is found at once.
//!
//! ```
//! use windlass_policies::fields::Document;
//!
//! let document = Document::parse("min = 1\nmaxx = 8").expect("TOML");
//! let read = document.read(|fields| {
//!     let min = fields.or("min", 0_u32);
//!     let max = fields.required::<u32>("max", "the most instances");
//!     Some((min, max?))
//! });
//! let problems = read.expect_err("two problems").in_file("fleet.toml");
//! assert_eq!(problems, "fleet.toml:1: max: missing; write the most instances\n\
//!                       fleet.toml:2: maxx: unknown key; did you mean `max`?");
//! ```
//!
//! A getter reports what is wrong and gives `None` or the default, and reading
//! goes on. A key that no getter asked for is unknown, and is reported with
//! the nearest one that was, or with all of them if none is near.

mod document;
mod duration;
mod nearest;
mod value;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::problems::{Problem, Problems};

pub use document::Document;
pub use duration::{duration_text, parse_duration};
pub use nearest::{did_you_mean, nearest};
pub use value::FromToml;

use document::Lines;
use value::type_name;

/// One table being read.
pub struct Fields<'a> {
    table: &'a toml::Table,
    path: String,
    lines: &'a Lines,
    problems: &'a mut Problems,
    /// Every key a getter asked for.
    asked: BTreeSet<String>,
    /// Keys that are read elsewhere, or whose meaning is not known.
    all_known: bool,
}

impl<'a> Fields<'a> {
    fn new(
        table: &'a toml::Table,
        path: String,
        lines: &'a Lines,
        problems: &'a mut Problems,
    ) -> Self {
        Self {
            table,
            path,
            lines,
            problems,
            asked: BTreeSet::new(),
            all_known: false,
        }
    }

    /// Where this table stands, such as `fleet.photos.limits`; empty at the top.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where `key` of this table stands.
    pub fn path_of(&self, key: &str) -> String {
        document::join(&self.path, key)
    }

    /// Whether the table has `key`.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The keys of the table, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.table.keys().map(String::as_str)
    }

    /// Reports a problem with `key`.
    pub fn problem(&mut self, key: &str, message: impl Into<String>) {
        self.problem_at(self.path_of(key), message);
    }

    /// Reports a problem with the table as a whole.
    pub fn problem_here(&mut self, message: impl Into<String>) {
        self.problem_at(self.path.clone(), message);
    }

    /// Reports a problem at a full path, which may be outside this table.
    pub fn problem_at(&mut self, path: String, message: impl Into<String>) {
        let line = Some(self.lines.nearest(&path));
        self.problems.push(Problem {
            path,
            line,
            message: message.into(),
        });
    }

    /// Says that keys nobody asks for are none of this reader's business.
    pub fn accept_unknown_keys(&mut self) {
        self.all_known = true;
    }

    /// The value of `key` as it stands; counts as asked for.
    pub fn raw(&mut self, key: &str) -> Option<&'a toml::Value> {
        self.asked.insert(key.to_owned());
        self.table.get(key)
    }

    /// The value of `key`; `None` if it is not there, or is wrong and reported.
    pub fn optional<T: FromToml>(&mut self, key: &str) -> Option<T> {
        match T::from_toml(self.raw(key)?) {
            Ok(value) => Some(value),
            Err(message) => {
                self.problem(key, message);
                None
            }
        }
    }

    /// The value of `key`; `None` if it is wrong or missing, which is reported
    /// as `missing; write WHAT`.
    pub fn required<T: FromToml>(&mut self, key: &str, what: &str) -> Option<T> {
        if !self.has(key) {
            self.asked.insert(key.to_owned());
            self.problem(key, format!("missing; write {what}"));
            return None;
        }
        self.optional(key)
    }

    /// The value of `key`, or `default` if it is not there (or wrong, which is
    /// reported).
    pub fn or<T: FromToml>(&mut self, key: &str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// Like [`Fields::optional`], and reports a value out of `bounds`.
    pub fn optional_within<T: FromToml + PartialOrd>(
        &mut self,
        key: &str,
        bounds: RangeInclusive<T>,
    ) -> Option<T> {
        let value = self.optional(key)?;
        self.within(key, value, &bounds)
    }

    /// Like [`Fields::required`], and reports a value out of `bounds`.
    pub fn required_within<T: FromToml + PartialOrd>(
        &mut self,
        key: &str,
        what: &str,
        bounds: RangeInclusive<T>,
    ) -> Option<T> {
        let value = self.required(key, what)?;
        self.within(key, value, &bounds)
    }

    /// Like [`Fields::or`], and reports a value out of `bounds`.
    pub fn or_within<T: FromToml + PartialOrd>(
        &mut self,
        key: &str,
        default: T,
        bounds: RangeInclusive<T>,
    ) -> T {
        self.optional_within(key, bounds).unwrap_or(default)
    }

    fn within<T: FromToml + PartialOrd>(
        &mut self,
        key: &str,
        value: T,
        bounds: &RangeInclusive<T>,
    ) -> Option<T> {
        if bounds.contains(&value) {
            return Some(value);
        }
        let written = self
            .table
            .get(key)
            .map_or_else(|| value.to_text(), ToString::to_string);
        let (least, most) = (bounds.start().to_text(), bounds.end().to_text());
        self.problem(
            key,
            format!("{written} is out of bounds; write {least} to {most}"),
        );
        None
    }

    /// One of `words`; `None` if the key is not there, or is wrong and reported
    /// with the words that are allowed.
    pub fn word<T: Clone>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.optional::<String>(key)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(meaning.clone());
        }
        let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let hint = did_you_mean(&text, allowed.iter().copied());
        let list = quoted_list(&allowed);
        self.problem(key, format!("\"{text}\" is not one of {list}{hint}"));
        None
    }

    /// Like [`Fields::word`], and reports a missing key.
    pub fn required_word<T: Clone>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        if !self.has(key) {
            self.asked.insert(key.to_owned());
            let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.problem(
                key,
                format!("missing; write one of {}", quoted_list(&allowed)),
            );
            return None;
        }
        self.word(key, words)
    }

    /// Reads the table under `key`; `None` if it is not there, is no table
    /// (reported), or `read` gives `None`.
    pub fn table<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
    ) -> Option<T> {
        match self.raw(key)? {
            toml::Value::Table(table) => self.sub_table(table, self.path_of(key), read),
            other => {
                let path = self.path_of(key);
                self.problem(
                    key,
                    format!("{} where a table [{path}] is needed", type_name(other)),
                );
                None
            }
        }
    }

    /// Reads the table under `key`, or an empty one if it is not there: for
    /// tables in which everything has a default, and for those whose missing
    /// keys are better reported one by one.
    pub fn table_or_empty<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
    ) -> Option<T> {
        if self.has(key) {
            return self.table(key, read);
        }
        self.asked.insert(key.to_owned());
        self.sub_table(&toml::Table::new(), self.path_of(key), read)
    }

    /// Reads every table of the array `[[key]]`, in the order of the file. An
    /// element for which `read` gives `None` is left out (it is reported).
    pub fn tables<T>(
        &mut self,
        key: &str,
        mut read: impl FnMut(&mut Fields<'_>) -> Option<T>,
    ) -> Vec<T> {
        let elements = match self.raw(key) {
            None => return Vec::new(),
            Some(toml::Value::Array(elements)) => elements.as_slice(),
            Some(other) => {
                self.problem(
                    key,
                    format!("{} where tables [[{key}]] are needed", type_name(other)),
                );
                return Vec::new();
            }
        };
        let mut found = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(key));
            match element {
                toml::Value::Table(table) => found.extend(self.sub_table(table, path, &mut read)),
                other => {
                    let message = format!("{} where a table [[{key}]] is needed", type_name(other));
                    self.problem_at(path, message);
                }
            }
        }
        found
    }

    /// Reads every table under `[key.NAME]`, sorted by name.
    pub fn named_tables<T>(
        &mut self,
        key: &str,
        mut read: impl FnMut(&str, &mut Fields<'_>) -> Option<T>,
    ) -> Vec<T> {
        self.table(key, |fields| {
            let names: Vec<&str> = fields.keys().collect();
            let read_one = |name: &str| fields.table(name, |inner| read(name, inner));
            Some(names.into_iter().filter_map(read_one).collect())
        })
        .unwrap_or_default()
    }

    fn sub_table<T>(
        &mut self,
        table: &toml::Table,
        path: String,
        read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
    ) -> Option<T> {
        let mut fields = Fields::new(table, path, self.lines, self.problems);
        let found = read(&mut fields);
        fields.report_unknown_keys();
        found
    }

    fn report_unknown_keys(&mut self) {
        if self.all_known {
            return;
        }
        let unknown: Vec<&str> = self
            .keys()
            .filter(|key| !self.asked.contains(*key))
            .collect();
        for key in unknown {
            let asked = || self.asked.iter().map(String::as_str);
            let mut hint = did_you_mean(key, asked());
            let known: Vec<&str> = asked().collect();
            if hint.is_empty() && !known.is_empty() {
                hint = format!("; known here: {}", known.join(", "));
            }
            self.problem(key, format!("unknown key{hint}"));
        }
    }
}

/// `"a", "b" or "c"`.
fn quoted_list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests;
