//! Files put before `windlass check`, all in one go.

use std::fs;
use std::path::Path;
use std::process::Command;

use toml::Table;

use crate::tree::{Place, line_of, lines};

/// A file that somebody got wrong.
pub(crate) struct Broken {
    /// What was done to it, for the message of a test that fails.
    pub(crate) what: String,
    /// The file as it is now.
    pub(crate) text: String,
    /// What must be named, or `None` if the file must pass.
    pub(crate) named: Option<Place>,
}

impl Broken {
    pub(crate) fn new(what: String, table: &Table, named: Option<Place>) -> Self {
        let text = toml::to_string(table).expect("a table can be written");
        Self { what, text, named }
    }
}

/// Standard output and exit code of `windlass check` on `files` in `folder`.
pub(crate) fn check(folder: &Path, files: &[String]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_windlass"))
        .arg("check")
        .args(files)
        .current_dir(folder)
        .env_remove("WINDLASS_LOG")
        .output()
        .expect("started");
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    (
        String::from_utf8(output.stdout).expect("text"),
        output.status.code(),
    )
}

/// Checks all of `files`, and gives a line for each whose verdict is not what
/// it should be.
pub(crate) fn misjudged(files: &[Broken]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let names: Vec<String> = (0..files.len())
        .map(|number| format!("{number}.toml"))
        .collect();
    for (name, file) in names.iter().zip(files) {
        fs::write(folder.path().join(name), &file.text).expect("written");
    }
    let (told, code) = check(folder.path(), &names);
    let mut wrong = Vec::new();
    // With several files the highest counts, and some name a missing one.
    if !matches!(code, Some(64 | 66)) {
        wrong.push(format!("exit code {code:?}"));
    }
    for (name, file) in names.iter().zip(files) {
        let verdict: Vec<&str> = told
            .lines()
            .filter_map(|line| line.strip_prefix(name.as_str())?.strip_prefix(':'))
            .collect();
        let complaint = |about: &str| format!("{}: {about}: {verdict:#?}", file.what);
        let passed = verdict.iter().any(|line| line.contains("all well"));
        match &file.named {
            None if !passed => wrong.push(complaint("should pass")),
            Some(_) if passed => wrong.push(complaint("should not pass")),
            Some(place) if !named(&verdict, &file.text, place) => {
                wrong.push(complaint(&format!("does not name {place} with its line")));
            }
            _ => {}
        }
    }
    wrong
}

/// Whether a line of `verdict` begins with the line and the path of `place`.
fn named(verdict: &[&str], text: &str, place: &Place) -> bool {
    let start = format!("{}: {place}", line_of(&lines(text), place));
    verdict.iter().any(|line| {
        let rest = line.strip_prefix(&start);
        rest.is_some_and(|rest| rest.starts_with(": ") && rest.len() > 12)
    })
}
