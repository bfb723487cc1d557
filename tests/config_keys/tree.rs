//! TOML files as trees of keys: walking them, changing one place, and finding
//! the lines of the result.

use std::collections::BTreeMap;
use std::fmt;

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// One step into a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Under a key of a table.
    Key(String),
    /// Into an array.
    Index(usize),
}

/// A place in a file; shown as windlass names it, `fleet.web.policy[1].step`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(pub(crate) Vec<Part>);

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, part) in self.0.iter().enumerate() {
            match part {
                Part::Key(key) if depth == 0 => out.write_str(key)?,
                Part::Key(key) => write!(out, ".{key}")?,
                Part::Index(index) => write!(out, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl Place {
    pub(crate) fn of(text: &str) -> Self {
        let mut parts = Vec::new();
        for key in text.split('.') {
            let mut pieces = key.split('[');
            parts.push(Part::Key(pieces.next().expect("a key").to_owned()));
            for index in pieces {
                let index = index.trim_end_matches(']').parse().expect("an index");
                parts.push(Part::Index(index));
            }
        }
        Self(parts)
    }

    pub(crate) fn child(&self, part: Part) -> Self {
        let mut parts = self.0.clone();
        parts.push(part);
        Self(parts)
    }

    pub(crate) fn parent(&self) -> Self {
        Self(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }

    /// The last key; empty for the whole file.
    pub(crate) fn key(&self) -> &str {
        match self.0.last() {
            Some(Part::Key(key)) => key,
            Some(Part::Index(_)) | None => "",
        }
    }
}

/// Every key of the file, at whatever depth, with its value.
pub(crate) fn keys(table: &Table) -> Vec<(Place, Value)> {
    let mut found = Vec::new();
    add_table(&Place::default(), table, &mut found);
    found
}

fn add_table(place: &Place, table: &Table, found: &mut Vec<(Place, Value)>) {
    for (key, value) in table {
        let place = place.child(Part::Key(key.clone()));
        found.push((place.clone(), value.clone()));
        match value {
            Value::Table(inner) => add_table(&place, inner, found),
            Value::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    if let Value::Table(inner) = element {
                        add_table(&place.child(Part::Index(index)), inner, found);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The table around `place`.
fn around<'a>(table: &'a mut Table, place: &Place) -> &'a mut Table {
    let mut here = table;
    let mut parts = place.parent().0.into_iter().peekable();
    while let Some(part) = parts.next() {
        let Part::Key(key) = part else {
            panic!("{place}: an index has a key before it")
        };
        let mut value = here
            .get_mut(&key)
            .unwrap_or_else(|| panic!("{place}: no {key}"));
        while let Some(Part::Index(index)) = parts.peek() {
            value = &mut value.as_array_mut().expect("an array")[*index];
            parts.next();
        }
        here = value
            .as_table_mut()
            .unwrap_or_else(|| panic!("{place}: {key} is no table"));
    }
    here
}

/// The file with another value at `place`.
pub(crate) fn with(table: &Table, place: &Place, value: Value) -> Table {
    let mut changed = table.clone();
    around(&mut changed, place).insert(place.key().to_owned(), value);
    changed
}

/// The file without `place`.
pub(crate) fn without(table: &Table, place: &Place) -> Table {
    let mut changed = table.clone();
    around(&mut changed, place).remove(place.key());
    changed
}

/// The file with the key at `place` called `name`.
pub(crate) fn renamed(table: &Table, place: &Place, name: &str) -> Table {
    let mut changed = table.clone();
    let around = around(&mut changed, place);
    let value = around.remove(place.key()).expect("it is there");
    around.insert(name.to_owned(), value);
    changed
}

/// The value at `place`.
pub(crate) fn value_at<'a>(table: &'a Table, place: &Place) -> Option<&'a Value> {
    let mut parts = place.0.iter();
    let Some(Part::Key(first)) = parts.next() else {
        return None;
    };
    parts.try_fold(table.get(first)?, |value, part| match part {
        Part::Key(key) => value.get(key),
        Part::Index(index) => value.get(*index),
    })
}

/// The line on which each key of `text` stands, counted from 1.
pub(crate) fn lines(text: &str) -> BTreeMap<Place, usize> {
    let mut found = BTreeMap::new();
    let table = DeTable::parse(text).expect("TOML");
    let line = |at: usize| text[..at].matches('\n').count() + 1;
    let mut open: Vec<(Place, &DeTable<'_>)> = vec![(Place::default(), table.get_ref())];
    while let Some((place, table)) = open.pop() {
        for (key, value) in table {
            let place = place.child(Part::Key(key.get_ref().clone().into_owned()));
            found.insert(place.clone(), line(key.span().start));
            match value.get_ref() {
                DeValue::Table(inner) => open.push((place, inner)),
                DeValue::Array(elements) => {
                    for (index, element) in elements.iter().enumerate() {
                        let place = place.child(Part::Index(index));
                        found.insert(place.clone(), line(element.span().start));
                        if let DeValue::Table(inner) = element.get_ref() {
                            open.push((place, inner));
                        }
                    }
                }
                _ => {}
            }
        }
    }
    found
}

/// The line of `place`, or of what is nearest around it; the first if that is
/// the whole file.
pub(crate) fn line_of(lines: &BTreeMap<Place, usize>, place: &Place) -> usize {
    let mut here = place.clone();
    while !here.0.is_empty() {
        if let Some(line) = lines.get(&here) {
            return *line;
        }
        here = here.parent();
    }
    1
}
