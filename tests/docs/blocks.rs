//! The fenced blocks of a page, run in order in one empty folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;
use windlass::config::{Config, ConfigError};
use windlass_policies::cases;
use windlass_policies::fields::Document;
use windlass_policies::policy_file;
use windlass_simulator::scenario::Scenario;

use crate::{commands, root};

/// What came of a page.
pub(crate) struct Run {
    pub(crate) problems: Vec<String>,
    /// The page with exact output as it is now.
    pub(crate) text: String,
}

struct Block {
    /// Its opening line, counted from 1.
    line: usize,
    info: String,
    body: String,
}

/// Runs the blocks of the page `name`. Files that a block names stay for the
/// blocks after it; the example, the tour's files and the traces are there from the beginning.
pub(crate) fn run(name: &str, text: &str) -> Run {
    let folder = TempDir::new().expect("a folder");
    let there = folder.path();
    fs::copy(
        root().join("config.example.toml"),
        there.join("config.example.toml"),
    )
    .expect("copied");
    // Copied: what grows beside it is not for the repository.
    fs::create_dir_all(there.join("docs/tour")).expect("made");
    for file in ["docs/tour/fleet.toml", "docs/tour/jobs.py"] {
        fs::copy(root().join(file), there.join(file)).expect("copied");
    }
    symlink(root().join("simulator"), there.join("simulator")).expect("linked");
    let mut run = Run {
        problems: Vec::new(),
        text: text.to_owned(),
    };
    for block in blocks(text) {
        let mut words = block.info.split_whitespace();
        let outcome = match words.next() {
            None => Err("the block says not what it is; write text, sh, toml, console ...".into()),
            Some("toml") => toml(there, &block, words.next(), words.next()),
            Some("console") => console(there, &block, words.next() == Some("exact"), &mut run.text),
            Some("sql") => commands::query(&there.join("windlass.db"), &block.body),
            Some(_) => Ok(()),
        };
        let place = format!("{name}:{}", block.line);
        run.problems
            .extend(outcome.err().map(|problem| format!("{place}: {problem}")));
    }
    commands::end_workers(&there.canonicalize().expect("there"));
    run
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block {
                    line: index + 1,
                    info: info.to_owned(),
                    body: String::new(),
                });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => {
                block.body.push_str(line);
                block.body.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

/// Reads a file with the library, as what it says it is.
fn toml(there: &Path, block: &Block, kind: Option<&str>, file: Option<&str>) -> Result<(), String> {
    let path = there.join(file.unwrap_or("unnamed.toml"));
    fs::write(&path, &block.body).map_err(|error| error.to_string())?;
    match kind {
        Some("config") => match Config::open(Some(&path)) {
            Ok(_) => Ok(()),
            Err(ConfigError::Wrong { problems, .. }) => Err(problems.in_file("config")),
            Err(error @ ConfigError::Unread { .. }) => Err(error.to_string()),
        },
        Some("policy") => {
            let read = policy_file::read(&block.body);
            let file = read.map_err(|problems| problems.in_file("policy"))?;
            let failures = cases::run(&file.policies, &file.cases);
            let told: Vec<String> = failures.iter().map(ToString::to_string).collect();
            if told.is_empty() {
                Ok(())
            } else {
                Err(told.join("\n"))
            }
        }
        Some("scenario") => {
            let read = || {
                let scenario = Scenario::open_file(&path)?;
                let trace = scenario.read_trace()?;
                scenario.build_workload(&trace)
            };
            read()
                .map(|_| ())
                .map_err(|error| windlass::chain(&error).to_string())
        }
        // The `[signals.NAME]` tables of a fleet that is not simulated.
        Some("signals") => {
            let read = Document::parse(&block.body).and_then(|document| {
                document.read(|fields| {
                    let (_, declared) = windlass::sources::read_signals(fields, there);
                    declared.all()
                })
            });
            read.map(|_| ())
                .map_err(|problems| problems.in_file("signals"))
        }
        _ => Err("say after `toml` whether it is config, policy, scenario or signals".into()),
    }
}

/// Runs the commands of a block; with `exact` compares what they print, and
/// puts what they print now into `page`.
fn console(there: &Path, block: &Block, exact: bool, page: &mut String) -> Result<(), String> {
    let mut now = String::new();
    for line in block.body.lines() {
        let Some(command) = line.strip_prefix("$ ") else {
            continue;
        };
        now.push_str(line);
        now.push('\n');
        now.push_str(&commands::run(there, command)?);
    }
    if !exact || now == block.body {
        return Ok(());
    }
    let (info, old) = (&block.info, &block.body);
    *page = page.replacen(
        &format!("```{info}\n{old}```"),
        &format!("```{info}\n{now}```"),
        1,
    );
    Err(format!(
        "it prints something else now (UPDATE_EXPECT=1 takes it over):\n{now}and not:\n{old}"
    ))
}
