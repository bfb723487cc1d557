//! Who may depend on what, from where it comes, and under which licence.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::process::Command;

use serde::Deserialize;

use crate::top;

/// The packages of the workspace, and which others of it each may depend on.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("windlass-policies", &[]),
    ("windlass-simulator", &["windlass-policies"]),
    ("windlass", &["windlass-policies", "windlass-simulator"]),
];

/// What only the root package may be built with: runtimes, sockets, databases
/// and sources of randomness. A name that ends in `-` stands for all that
/// begin so.
const ROOT_ONLY: &[&str] = &[
    "async-std",
    "aws-",
    "fastrand",
    "getrandom",
    "hyper",
    "mio",
    "reqwest",
    "rusqlite",
    "smol",
    "socket2",
    "tokio",
    "tokio-",
];

/// Who may ask for one of them all the same. Maps with random seeds bring them
/// to the reader of Parquet, which asks such maps only what they hold under a
/// key; the other is a tool of build scripts, on Windows.
const EXCUSED: &[(&str, &str)] = &[
    ("ahash", "getrandom"),
    ("const-random-macro", "getrandom"),
    ("jobserver", "getrandom"),
];

/// What `cargo metadata` says, as far as the rules need it.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
    workspace_members: Vec<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    license: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

/// `None` for a normal dependency, else `build` or `dev`.
#[derive(Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

impl Metadata {
    fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.packages
            .iter()
            .find(|package| package.id == id)
            .map_or(id, |package| &package.name)
    }

    fn edges(&self, id: &str) -> &[Edge] {
        self.resolve
            .nodes
            .iter()
            .find(|node| node.id == id)
            .map_or(&[], |node| &node.deps)
    }

    /// Everything `id` is built with and that is not excused, each with the chain
    /// that leads to it.
    fn built_with<'a>(&'a self, id: &'a str) -> BTreeMap<&'a str, Vec<&'a str>> {
        let mut chains = BTreeMap::from([(id, vec![self.name(id)])]);
        let mut ahead = VecDeque::from([id]);
        while let Some(here) = ahead.pop_front() {
            for edge in self.edges(here) {
                let only_dev = edge
                    .dep_kinds
                    .iter()
                    .all(|edge| edge.kind.as_deref() == Some("dev"));
                let between = (self.name(here), self.name(&edge.pkg));
                if only_dev || EXCUSED.contains(&between) || chains.contains_key(edge.pkg.as_str())
                {
                    continue;
                }
                let mut chain = chains[here].clone();
                chain.push(self.name(&edge.pkg));
                chains.insert(&edge.pkg, chain);
                ahead.push_back(&edge.pkg);
            }
        }
        chains
    }
}

pub(crate) fn root_only_problems(metadata: &Metadata) -> Vec<String> {
    let root_only = |name: &str| {
        ROOT_ONLY
            .iter()
            .any(|banned| name == *banned || banned.ends_with('-') && name.starts_with(banned))
    };
    let mut problems = Vec::new();
    for id in &metadata.workspace_members {
        if metadata.name(id) == "windlass" {
            continue;
        }
        for chain in metadata.built_with(id).into_values() {
            if chain.last().is_some_and(|name| root_only(name)) {
                let chain = chain.join(" -> ");
                problems.push(format!(
                    "{chain}: only the root package may be built with that"
                ));
            }
        }
    }
    problems
}

/// Development dependencies count here: they would build a crate twice.
pub(crate) fn direction_problems(metadata: &Metadata) -> Vec<String> {
    let mut problems = Vec::new();
    for id in &metadata.workspace_members {
        let name = metadata.name(id);
        let Some((_, allowed)) = DIRECTIONS.iter().find(|(member, _)| *member == name) else {
            problems.push(format!(
                "{name}: say in DIRECTIONS (tests/tidy/packages.rs) what it may depend on"
            ));
            continue;
        };
        for edge in metadata.edges(id) {
            let other = metadata.name(&edge.pkg);
            let ours = metadata.workspace_members.contains(&edge.pkg);
            if ours && other != name && !allowed.contains(&other) {
                problems.push(format!("{name} must not depend on {other}"));
            }
        }
    }
    problems
}

pub(crate) fn source_problems(metadata: &Metadata) -> Vec<String> {
    let crates_io = "registry+https://github.com/rust-lang/crates.io-index";
    let mut problems = Vec::new();
    for package in &metadata.packages {
        let ours = metadata.workspace_members.contains(&package.id);
        match package.source.as_deref() {
            None if ours => {}
            Some(source) if source == crates_io => {}
            other => problems.push(format!(
                "{}: comes from {}, not from crates.io",
                package.name,
                other.unwrap_or("a folder outside the workspace")
            )),
        }
    }
    problems
}

pub(crate) fn allowed_licences(deny: &str) -> BTreeSet<String> {
    let table: toml::Table = deny.parse().expect("deny.toml is TOML");
    let list = table
        .get("licenses")
        .and_then(|licenses| licenses.get("allow"))
        .and_then(toml::Value::as_array)
        .expect("deny.toml has licenses.allow");
    list.iter()
        .map(|name| {
            name.as_str()
                .expect("licenses.allow holds strings")
                .to_owned()
        })
        .collect()
}

pub(crate) fn licence_problems(metadata: &Metadata, allowed: &BTreeSet<String>) -> Vec<String> {
    let fits = |package: &Package, allowed: &BTreeSet<String>| {
        package
            .license
            .as_deref()
            .is_some_and(|expression| licence_fits(expression, allowed))
    };
    let mut problems = Vec::new();
    for package in &metadata.packages {
        if !fits(package, allowed) {
            let licence = package.license.as_deref().unwrap_or("no stated licence");
            problems.push(format!(
                "{}: {licence} is not within licenses.allow of deny.toml",
                package.name
            ));
        }
    }
    for name in allowed {
        let mut fewer = allowed.clone();
        fewer.remove(name);
        let needs_it = |package: &Package| fits(package, allowed) && !fits(package, &fewer);
        if !metadata.packages.iter().any(needs_it) {
            problems.push(format!(
                "deny.toml: licenses.allow: nothing needs {name} any more"
            ));
        }
    }
    problems
}

/// Whether an SPDX expression can be met with `allowed` licences alone. A
/// licence with an exception counts as one name; `/` is an old way to write OR.
fn licence_fits(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut tokens: VecDeque<&str> = spaced.split_whitespace().collect();
    let fits = any_fits(&mut tokens, allowed);
    fits && tokens.is_empty()
}

fn any_fits(tokens: &mut VecDeque<&str>, allowed: &BTreeSet<String>) -> bool {
    let mut fits = all_fit(tokens, allowed);
    while tokens.front() == Some(&"OR") {
        tokens.pop_front();
        // Not `||`: the right side has to be read in any case.
        fits |= all_fit(tokens, allowed);
    }
    fits
}

fn all_fit(tokens: &mut VecDeque<&str>, allowed: &BTreeSet<String>) -> bool {
    let mut fits = one_fits(tokens, allowed);
    while tokens.front() == Some(&"AND") {
        tokens.pop_front();
        fits &= one_fits(tokens, allowed);
    }
    fits
}

fn one_fits(tokens: &mut VecDeque<&str>, allowed: &BTreeSet<String>) -> bool {
    let Some(first) = tokens.pop_front() else {
        return false;
    };
    if first == "(" {
        let fits = any_fits(tokens, allowed);
        return tokens.pop_front() == Some(")") && fits;
    }
    if tokens.front() != Some(&"WITH") {
        return allowed.contains(first);
    }
    tokens.pop_front();
    let exception = tokens.pop_front().unwrap_or_default();
    allowed.contains(&format!("{first} WITH {exception}"))
}

/// The whole graph, all features and platforms. Cargo only fetches what a
/// build needs, so the first time the rest may have to be fetched.
pub(crate) fn metadata() -> Metadata {
    let cargo = |args: &[&str]| {
        Command::new(env!("CARGO"))
            .args(args)
            .current_dir(top())
            .output()
            .expect("cargo runs")
    };
    let ask = [
        "metadata",
        "--offline",
        "--locked",
        "--format-version=1",
        "--all-features",
    ];
    let mut output = cargo(&ask);
    if !output.status.success() {
        cargo(&["fetch", "--locked"]);
        output = cargo(&ask);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "cargo metadata failed:\n{complaint}"
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints what it documents")
}

mod planted {
    use super::*;
    use crate::found;

    /// A workspace of the three packages, with `edges` from one to another of
    /// a kind, and the licence of whatever is not ours.
    fn world(edges: &[(&str, &str, Option<&str>)], licence: &str) -> Metadata {
        let ours: Vec<&str> = DIRECTIONS.iter().map(|(name, _)| *name).collect();
        let mut names: BTreeSet<&str> = ours.iter().copied().collect();
        names.extend(edges.iter().flat_map(|(from, to, _)| [*from, *to]));
        let package = |name: &&str| Package {
            id: (*name).to_owned(),
            name: (*name).to_owned(),
            license: Some(if ours.contains(name) { "MIT" } else { licence }.to_owned()),
            source: (!ours.contains(name))
                .then(|| "registry+https://github.com/rust-lang/crates.io-index".to_owned()),
        };
        let node = |name: &&str| Node {
            id: (*name).to_owned(),
            deps: edges
                .iter()
                .filter(|(from, _, _)| from == name)
                .map(|(_, to, kind)| Edge {
                    pkg: (*to).to_owned(),
                    dep_kinds: vec![EdgeKind {
                        kind: kind.map(str::to_owned),
                    }],
                })
                .collect(),
        };
        Metadata {
            packages: names.iter().map(package).collect(),
            resolve: Resolve {
                nodes: names.iter().map(node).collect(),
            },
            workspace_members: ours.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn runtime_behind_another_library_is_found() {
        let edges = [
            ("windlass", "tokio", None),
            ("windlass-policies", "cron", None),
            ("cron", "tokio", None),
            ("windlass-simulator", "aws-sdk-ec2", Some("build")),
            ("windlass-simulator", "proptest", Some("dev")),
            ("proptest", "getrandom", None),
            ("windlass-simulator", "parquet", None),
            ("parquet", "ahash", None),
            ("ahash", "getrandom", None),
            ("parquet", "twox-hash", None),
            ("twox-hash", "fastrand", None),
        ];
        found(
            &root_only_problems(&world(&edges, "MIT")),
            &[
                "windlass-policies -> cron -> tokio",
                "windlass-simulator -> aws-sdk-ec2",
                "windlass-simulator -> parquet -> twox-hash -> fastrand",
            ],
        );
    }

    #[test]
    fn dependency_against_the_direction_is_found() {
        let edges = [
            ("windlass", "windlass-simulator", None),
            ("windlass-simulator", "windlass-policies", None),
            ("windlass-policies", "windlass-simulator", Some("dev")),
            ("windlass-simulator", "windlass", None),
        ];
        found(
            &direction_problems(&world(&edges, "MIT")),
            &[
                "windlass-policies must not depend on windlass-simulator",
                "windlass-simulator must not depend on windlass",
            ],
        );
        let mut more = world(&[], "MIT");
        more.workspace_members.push("windlass-extra".to_owned());
        found(
            &direction_problems(&more),
            &["windlass-extra: say in DIRECTIONS"],
        );
    }

    #[test]
    fn foreign_source_is_found() {
        let mut world = world(
            &[("windlass", "fork", None), ("windlass", "folder", None)],
            "MIT",
        );
        for package in &mut world.packages {
            match package.name.as_str() {
                "fork" => package.source = Some("git+https://example.com/fork".to_owned()),
                "folder" => package.source = None,
                _ => {}
            }
        }
        found(
            &source_problems(&world),
            &["folder: comes from a folder", "fork: comes from git+"],
        );
    }

    #[test]
    fn licence_expressions_are_weighed() {
        let allowed = BTreeSet::from(["MIT", "Apache-2.0", "ISC WITH extra"].map(str::to_owned));
        for (expression, fits) in [
            ("MIT", true),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0/MIT", true),
            ("GPL-3.0", false),
            ("MIT AND GPL-3.0", false),
            ("MIT AND GPL-3.0 OR Apache-2.0", true),
            ("(MIT OR GPL-3.0) AND Apache-2.0", true),
            ("MIT AND (GPL-3.0 OR BSL-1.0)", false),
            ("Apache-2.0 WITH LLVM-exception", false),
            ("ISC WITH extra", true),
            ("ISC", false),
            ("(MIT", false),
            ("MIT MIT", false),
            ("", false),
        ] {
            assert_eq!(licence_fits(expression, &allowed), fits, "{expression}");
        }
    }

    #[test]
    fn unknown_and_unneeded_licences_are_found() {
        let allowed = allowed_licences("[licenses]\nallow = [\"MIT\", \"Zlib\"]\n");
        let edges = [("windlass", "stranger", None)];
        found(
            &licence_problems(&world(&edges, "GPL-3.0"), &allowed),
            &["stranger: GPL-3.0 is not", "nothing needs Zlib"],
        );
    }
}
