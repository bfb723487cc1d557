//! Which keys there are, and what pages and comments say of them.

use std::collections::BTreeSet;

use crate::{files, read};

/// A default or bounds somebody states, and where.
pub(crate) struct Stated {
    /// For messages.
    pub(crate) place: String,
    /// Which kind of table it is about, such as `[fleet.NAME.limits]`.
    pub(crate) table: String,
    pub(crate) key: String,
    /// As TOML.
    pub(crate) default: Option<String>,
    /// Lowest and highest, as TOML.
    pub(crate) bounds: Option<(String, String)>,
}

/// Every key of the example, the shipped scenarios and the presets.
pub(crate) fn known() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let shipped = [
        files("simulator/scenarios", ".toml"),
        files("policies/presets", ".toml"),
    ];
    for file in shipped
        .concat()
        .iter()
        .map(String::as_str)
        .chain(["config.example.toml"])
    {
        let table: toml::Table = read(file).parse().expect("TOML");
        collect(&table, &mut keys);
    }
    assert!(keys.len() > 50, "only {} keys", keys.len());
    keys
}

fn collect(table: &toml::Table, keys: &mut BTreeSet<String>) {
    for (key, value) in table {
        // Below these stand names that the user gives.
        let named = ["fleet", "signals", "readings"].contains(&key.as_str());
        match value {
            toml::Value::Table(inner) if named => {
                for value in inner.values() {
                    match value {
                        toml::Value::Table(inner) => collect(inner, keys),
                        // A scenario's [fleet] has keys and no names.
                        _ if key == "fleet" => collect(inner, keys),
                        _ => {}
                    }
                }
            }
            toml::Value::Table(inner) => collect(inner, keys),
            toml::Value::Array(elements) => {
                let tables = elements.iter().filter_map(toml::Value::as_table);
                tables.for_each(|inner| collect(inner, keys));
            }
            _ => {}
        }
        keys.insert(key.clone());
    }
}

/// Keys that `page` does not name in backticks, alone or after a table's name.
pub(crate) fn unnamed(keys: &BTreeSet<String>, page: &str) -> Vec<String> {
    let named = |key: &String| {
        ["`", ".", "[", "[["].iter().any(|before| {
            ["`", "]", "."]
                .iter()
                .any(|after| page.contains(&format!("{before}{key}{after}")))
        })
    };
    let missing = keys.iter().filter(|key| !named(key));
    missing
        .map(|key| format!("docs/configuration.md does not name `{key}`"))
        .collect()
}

/// What in the page `name` the tables with the columns key, meaning, default and bounds state.
pub(crate) fn stated_in_tables(name: &str, page: &str) -> Vec<Stated> {
    let mut found = Vec::new();
    let (mut paragraph, mut table) = (String::new(), None);
    for (index, line) in page.lines().enumerate() {
        if line.starts_with("| key | meaning | default | bounds |") {
            table = Some(paragraph.clone());
        } else if !line.starts_with('|') {
            table = None;
            if page
                .lines()
                .nth(index.wrapping_sub(1))
                .is_none_or(str::is_empty)
            {
                paragraph.clear();
            }
            if !line.is_empty() {
                paragraph.push_str(line);
                paragraph.push(' ');
            }
        } else if let Some(table) = &table {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            if let [key, _, default, bounds] = cells[..]
                && key.starts_with('`')
            {
                let parts: Vec<&str> = bounds.split('`').collect();
                found.push(Stated {
                    place: format!("{name}:{}", index + 1),
                    table: table.clone(),
                    key: key.trim_matches('`').to_owned(),
                    default: quoted(default),
                    bounds: match parts[..] {
                        ["", least, " to ", most, ..] => Some((least.to_owned(), most.to_owned())),
                        _ => None,
                    },
                });
            }
        }
    }
    found
}

/// The whole of a cell, if it stands in backticks.
fn quoted(cell: &str) -> Option<String> {
    let inner = cell.strip_prefix('`')?.strip_suffix('`')?;
    (!inner.contains('`')).then(|| inner.to_owned())
}

/// What the comments before the keys of the example state.
pub(crate) fn stated_in_comments(example: &str) -> Vec<Stated> {
    let mut found = Vec::new();
    let (mut table, mut prefix, mut comment) = (String::new(), "", String::new());
    for (index, line) in example.lines().enumerate() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push_str(text);
            continue;
        }
        if line.starts_with('[') {
            let name = line.trim_matches(['[', ']']);
            let parts: Vec<&str> = name.split('.').collect();
            prefix = match parts[..] {
                [_, _, "policy", "window"] => "window.",
                [_, _, "policy", "step"] => "step.",
                _ => "",
            };
            if prefix.is_empty() {
                table = match parts[..] {
                    ["fleet", _] => "`[fleet.NAME]`".to_owned(),
                    ["fleet", _, "signals", _] => "`[fleet.NAME.signals.SIGNAL]`".to_owned(),
                    ["fleet", _, "policy"] => "`[[fleet.NAME.policy]]`".to_owned(),
                    ["fleet", _, inner] => format!("`[fleet.NAME.{inner}]`"),
                    _ => format!("`[{name}]`"),
                };
            }
        } else if let Some((key, value)) = line.split_once(" = ") {
            if key == "kind" && table == "`[[fleet.NAME.policy]]`" {
                table = format!("`kind = {value}`");
            }
            let stated = Stated {
                place: format!("config.example.toml:{}", index + 1),
                table: table.clone(),
                key: format!("{prefix}{key}"),
                default: after(&comment, "Default "),
                bounds: bounds(&comment),
            };
            if stated.default.is_some() || stated.bounds.is_some() {
                found.push(stated);
            }
        }
        comment.clear();
    }
    found
}

/// The literal that follows `word`.
fn after(comment: &str, word: &str) -> Option<String> {
    literal(comment.split_once(word)?.1.split(' ').next()?)
}

/// The literals on both sides of the first `to` that has two.
fn bounds(comment: &str) -> Option<(String, String)> {
    let words: Vec<&str> = comment.split(' ').filter(|word| !word.is_empty()).collect();
    words.windows(3).find_map(|three| match three {
        [least, "to", most] => Some((literal(least)?, literal(most)?)),
        _ => None,
    })
}

fn literal(word: &str) -> Option<String> {
    let word = word.trim_end_matches([',', '.', ';', ':']);
    let text = word.len() > 1 && word.starts_with('"') && word.ends_with('"');
    let known = text || word.parse::<f64>().is_ok() || ["true", "false"].contains(&word);
    known.then(|| word.to_owned())
}
