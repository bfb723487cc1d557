//! Rules of the house that no compiler checks: who may depend on what, under
//! which licence, what lies where, and that every page and link is alive.
//!
//! Each rule is a function from what it looks at to a list of problems, so
//! that it runs twice: over the repository, where it must find nothing, and
//! over a planted mistake, which it must find.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

#[path = "tidy/packages.rs"]
mod packages;
#[path = "tidy/pages.rs"]
mod pages;
#[path = "tidy/text.rs"]
mod text;

#[test]
fn only_the_root_package_reaches_runtimes_and_aws() {
    nothing_wrong(&packages::root_only_problems(&packages::metadata()));
}

#[test]
fn dependencies_point_one_way() {
    nothing_wrong(&packages::direction_problems(&packages::metadata()));
}

#[test]
fn every_package_has_an_allowed_licence_and_comes_from_crates_io() {
    let allowed = packages::allowed_licences(&read("deny.toml"));
    nothing_wrong(&packages::licence_problems(&packages::metadata(), &allowed));
    nothing_wrong(&packages::source_problems(&packages::metadata()));
}

#[test]
fn manifests_take_lints_and_dependencies_from_the_workspace() {
    nothing_wrong(&each(&tree(), text::manifest_problems));
}

#[test]
fn pure_crates_ban_what_the_root_bans() {
    for file in ["policies/clippy.toml", "simulator/clippy.toml"] {
        nothing_wrong(&text::ban_problems(&read("clippy.toml"), file, &read(file)));
    }
}

#[test]
fn top_level_holds_what_is_listed() {
    nothing_wrong(&text::top_level_problems(&tree()));
}

#[test]
fn nothing_is_left_unfinished() {
    nothing_wrong(&each(&tree(), text::unfinished_problems));
}

#[test]
fn files_are_short_and_words_whole() {
    nothing_wrong(&each(&tree(), text::length_problems));
    nothing_wrong(&each(&tree(), text::word_problems));
}

#[test]
fn links_lead_somewhere_and_every_page_is_linked() {
    nothing_wrong(&pages::link_problems(&tree()));
    nothing_wrong(&pages::orphan_problems(&tree()));
}

/// A file of the repository; the text is empty if it is not UTF-8.
struct File {
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.ends_in("rs")
    }

    fn is_page(&self) -> bool {
        self.ends_in("md")
    }

    fn ends_in(&self, extension: &str) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|found| found == extension)
    }

    fn lines(&self) -> impl Iterator<Item = (String, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(at, line)| (format!("{}:{}", self.path, at + 1), line))
    }
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fails with one line per problem.
fn nothing_wrong(problems: &[String]) {
    assert!(
        problems.is_empty(),
        "{} to put right:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

fn each(tree: &[File], rule: fn(&File) -> Vec<String>) -> Vec<String> {
    tree.iter().flat_map(rule).collect()
}

/// All files of the repository; whatever else lies about is not ours to judge.
fn tree() -> Vec<File> {
    let listing = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(top())
        .output();
    let mut paths = match listing {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout)
            .expect("paths are UTF-8")
            .split_terminator('\0')
            .map(str::to_owned)
            .collect(),
        // An unpacked archive, or no git.
        _ => walk_all(),
    };
    paths.sort();
    assert!(
        paths.len() > 10,
        "only {} files found in {}",
        paths.len(),
        top().display()
    );
    paths
        .into_iter()
        // Deleted but not yet committed.
        .filter(|path| top().join(path).is_file())
        .map(|path| File {
            text: fs::read_to_string(top().join(&path)).unwrap_or_default(),
            path,
        })
        .collect()
}

/// The same from the folders alone.
fn walk_all() -> Vec<String> {
    let mut paths = Vec::new();
    for name in text::TOP_LEVEL {
        walk(name, &mut paths);
    }
    paths
}

fn walk(path: &str, paths: &mut Vec<String>) {
    let place = top().join(path);
    if place.is_file() {
        paths.push(path.to_owned());
    } else if place.is_dir() {
        for entry in fs::read_dir(place).expect("a folder can be read") {
            let name = entry.expect("a folder can be read").file_name();
            let name = name.into_string().expect("paths are UTF-8");
            walk(&format!("{path}/{name}"), paths);
        }
    }
}

/// Fails unless `problems` are exactly those that contain `expected`, in order.
fn found(problems: &[String], expected: &[&str]) {
    let same = problems.len() == expected.len()
        && problems
            .iter()
            .zip(expected)
            .all(|(problem, part)| problem.contains(part));
    assert!(same, "expected {expected:#?}\nbut found {problems:#?}");
}

fn file(path: &str, text: &str) -> File {
    File {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

#[test]
fn archive_without_git_is_walked() {
    let listed: BTreeSet<String> = tree().into_iter().map(|file| file.path).collect();
    let walked: BTreeSet<String> = walk_all().into_iter().collect();
    assert!(walked.is_superset(&listed));
}
