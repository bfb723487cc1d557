//! What lies where, and what stands in manifests and source files.

use std::collections::BTreeSet;

use crate::File;

/// This file: it holds the planted mistakes, so it is not searched for them.
const THIS_FILE: &str = "tests/tidy/text.rs";

/// What may lie at the top of the repository.
pub(crate) const TOP_LEVEL: &[&str] = &[
    ".ci",
    ".gitattributes",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "clippy.toml",
    "config.example.toml",
    "deny.toml",
    "docs",
    "policies",
    "rustfmt.toml",
    "simulator",
    "src",
    "tests",
];

/// A source file longer than this holds more than one idea.
const LINES_MAX: usize = 800;

/// Clipped words, and what to write instead.
const CLIPPED: &[(&str, &str)] = &[
    ("cfg", "config"),
    ("ctx", "what it holds"),
    ("inst", "instance"),
    ("mgr", "what it does"),
    ("svc", "service"),
];

pub(crate) fn top_level_problems(tree: &[File]) -> Vec<String> {
    let tops: BTreeSet<&str> = tree
        .iter()
        .map(|file| file.path.split('/').next().unwrap_or_default())
        .collect();
    tops.into_iter()
        .filter(|top| !TOP_LEVEL.contains(top))
        .map(|top| {
            format!("{top}: does not belong at the top; TOP_LEVEL in {THIS_FILE} says what does")
        })
        .collect()
}

pub(crate) fn unfinished_problems(file: &File) -> Vec<String> {
    // A page may talk about such marks; the lock file and data are not ours.
    let script = file.text.starts_with("#!");
    let ours = file.is_rust() || script || file.ends_in("toml");
    if !ours || file.path == THIS_FILE {
        return Vec::new();
    }
    let mut problems = Vec::new();
    for (place, line) in file.lines() {
        let marked = words(line).any(|word| ["TODO", "FIXME", "XXX"].contains(&word));
        if marked && !(line.contains("https://") && line.contains("/issues/")) {
            problems.push(format!(
                "{place}: do it, or give the link to its issue in this line"
            ));
        }
        for unfinished in ["todo!", "unimplemented!", "dbg!"] {
            let before = line.split(unfinished).next().unwrap_or_default();
            let whole = !before.ends_with(|end: char| end.is_alphanumeric() || end == '_');
            if file.is_rust() && line.contains(unfinished) && whole {
                problems.push(format!("{place}: `{unfinished}` must not stay"));
            }
        }
    }
    problems
}

pub(crate) fn length_problems(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    let in_tests = file.path.split('/').any(|part| part == "tests");
    if !file.is_rust() || in_tests || lines <= LINES_MAX {
        return Vec::new();
    }
    vec![format!(
        "{}: {lines} lines, more than {LINES_MAX}: split it by duty",
        file.path
    )]
}

pub(crate) fn word_problems(file: &File) -> Vec<String> {
    if !file.is_rust() || file.path == THIS_FILE {
        return Vec::new();
    }
    let mut problems = Vec::new();
    for (place, line) in file.lines() {
        // The attribute has that name in the language.
        let line = line
            .replace("cfg_attr", "")
            .replace("cfg!(", "(")
            .replace("cfg(", "(");
        for word in words(&line) {
            for (clipped, whole) in CLIPPED {
                if parts(word).any(|part| part == *clipped) {
                    problems.push(format!(
                        "{place}: `{word}`: no clipped words, write {whole}"
                    ));
                }
            }
        }
    }
    problems
}

/// What looks like an identifier.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .filter(|word| !word.is_empty())
}

/// The parts of a name in lower case: `FleetMgr` and `fleet_mgr` alike.
fn parts(word: &str) -> impl Iterator<Item = String> {
    let mut spaced = String::new();
    let mut after_small = false;
    for letter in word.chars() {
        if letter.is_uppercase() && after_small {
            spaced.push('_');
        }
        after_small = letter.is_lowercase() || letter.is_numeric();
        spaced.extend(letter.to_lowercase());
    }
    spaced
        .split('_')
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
}

pub(crate) fn manifest_problems(file: &File) -> Vec<String> {
    let path = &file.path;
    if !path.ends_with("Cargo.toml") {
        return Vec::new();
    }
    let manifest: toml::Table = file.text.parse().expect("cargo has read it already");
    // A workspace of its own takes nothing from that of the program.
    if path != "Cargo.toml" && manifest.contains_key("workspace") {
        return Vec::new();
    }
    let from_workspace = |value: Option<&toml::Value>| {
        value
            .and_then(|value| value.get("workspace"))
            .and_then(toml::Value::as_bool)
            == Some(true)
    };
    let mut problems = Vec::new();
    if !from_workspace(manifest.get("lints")) {
        problems.push(format!("{path}: add `[lints]` with `workspace = true`"));
    }
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(dependencies) = manifest.get(section).and_then(toml::Value::as_table) else {
            continue;
        };
        for (name, dependency) in dependencies {
            let own_features = dependency.get("features").is_some();
            if !from_workspace(Some(dependency)) || own_features {
                problems.push(format!(
                    "{path}: {section}.{name}: version and features belong in \
                     [workspace.dependencies], here stands `{name}.workspace = true`"
                ));
            }
        }
    }
    problems
}

pub(crate) fn ban_problems(root: &str, path: &str, text: &str) -> Vec<String> {
    let bans = |text: &str| -> BTreeSet<String> {
        let table: toml::Table = text.parse().expect("a clippy.toml is TOML");
        ["disallowed-methods", "disallowed-types"]
            .iter()
            .filter_map(|list| table.get(*list)?.as_array())
            .flatten()
            .map(|ban| ban["path"].as_str().expect("a path is a string").to_owned())
            .collect()
    };
    let here = bans(text);
    bans(root)
        .into_iter()
        .filter(|ban| !here.contains(ban))
        .map(|ban| format!("{path}: repeat the root's entry for {ban}: clippy reads one file only"))
        .collect()
}

mod planted {
    use super::*;
    use crate::{file, found};

    #[test]
    fn manifest_of_its_own_mind_is_found() {
        let text = "[dependencies]\nserde = \"1\"\ntoml.workspace = true\n\
                    [dev-dependencies]\nclap = { workspace = true, features = [\"env\"] }\n";
        found(
            &manifest_problems(&file("policies/Cargo.toml", text)),
            &[
                "add `[lints]`",
                "dependencies.serde",
                "dev-dependencies.clap",
            ],
        );
        let apart = manifest_problems(&file("simulator/fuzz/Cargo.toml", "[workspace]"));
        found(&apart, &[]);
    }

    #[test]
    fn forgotten_ban_is_found() {
        let root = "disallowed-methods = [{ path = \"a::b\" }, { path = \"a::c\" }]";
        let here = "disallowed-methods = [{ path = \"a::c\" }]";
        found(
            &ban_problems(root, "policies/clippy.toml", here),
            &["entry for a::b"],
        );
    }

    #[test]
    fn stranger_at_the_top_is_found() {
        let tree = [
            file("src/main.rs", ""),
            file("notes.txt", ""),
            file("old/src/lib.rs", ""),
        ];
        found(&top_level_problems(&tree), &["notes.txt", "old"]);
    }

    #[test]
    fn unfinished_work_is_found() {
        let text = "// TODO: later\n// TODO: https://example.com/issues/7\nlet methodology = 1;\n\
                    todo!();\nlet _ = dbg!(1);\nmy_todo!();\n";
        found(
            &unfinished_problems(&file("src/lib.rs", text)),
            &[
                "src/lib.rs:1",
                "src/lib.rs:4: `todo!`",
                "src/lib.rs:5: `dbg!`",
            ],
        );
        found(
            &unfinished_problems(&file("tests/run", "#!/bin/sh\n# FIXME\n")),
            &["tests/run:2"],
        );
    }

    #[test]
    fn long_file_is_found() {
        let long = "\n".repeat(LINES_MAX + 1);
        found(&length_problems(&file("src/lib.rs", &long)), &["801 lines"]);
        found(&length_problems(&file("src/lib.rs", &long[1..])), &[]);
        found(
            &length_problems(&file("simulator/tests/swarm.rs", &long)),
            &[],
        );
    }

    #[test]
    fn clipped_word_is_found() {
        let text = "#[cfg(test)]\n#[cfg_attr(a, b)]\nlet instance = cfg!(test);\n\
                    struct FleetMgr;\nlet ctx = 1;\nlet new_cfg = 1;\nfn install() {}\n";
        found(
            &word_problems(&file("src/lib.rs", text)),
            &[
                "src/lib.rs:4: `FleetMgr`",
                "src/lib.rs:5: `ctx`",
                "src/lib.rs:6: `new_cfg`",
            ],
        );
    }
}
