//! The documentation is true: its files are read by the library, its commands
//! and queries are run, output that is marked as exact is compared, and what it
//! says of keys, defaults, bounds, files and tests is held against the code.
//!
//! `UPDATE_EXPECT=1` writes exact output anew. Each rule is a function from a
//! text to a list of problems, so that it runs twice: over the pages, where it
//! must find nothing, and over a planted mistake, which it must find.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use windlass_policies::policy::Peer;

#[path = "docs/blocks.rs"]
mod blocks;
#[path = "docs/commands.rs"]
mod commands;
#[path = "docs/keys.rs"]
mod keys;
#[path = "docs/probes.rs"]
mod probes;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files below `folder` that end in `ending`, relative to the root.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                let path = path.strip_prefix(root()).expect("below the root");
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

fn nothing_wrong(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// Runs every page for which `fits` says so.
fn run_pages(fits: impl Fn(&str) -> bool) {
    let pages: Vec<String> = files("docs", ".md")
        .into_iter()
        .chain(["README.md".to_owned()])
        .filter(|page| fits(page))
        .collect();
    assert!(!pages.is_empty());
    let mut problems = Vec::new();
    for page in pages {
        let text = read(&page);
        let run = blocks::run(&page, &text);
        if std::env::var_os("UPDATE_EXPECT").is_some() && run.text != text {
            fs::write(root().join(&page), &run.text).expect("written");
        } else {
            problems.extend(run.problems);
        }
    }
    nothing_wrong(&problems);
}

#[test]
fn the_tour_in_the_readme_works() {
    run_pages(|page| page == "README.md");
}

#[test]
fn the_pages_in_docs_work() {
    run_pages(|page| page != "README.md");
}

#[test]
fn mistakes_in_pages_are_found() {
    for (text, problem) in [
        ("```\nx\n```\n", "says not what it is"),
        (
            "```toml\na = 1\n```\n",
            "config, policy, scenario or signals",
        ),
        (
            "```toml policy\n[[policy]]\nkind = \"fixed\"\n```\n",
            "policy[0].instances",
        ),
        (
            "```toml policy\n[[policy]]\nkind = \"fixed\"\ninstances = 1\n[[case]]\nname = \"x\"\ninstances = 1\ntarget = 2\n```\n",
            "expected 2, got 1",
        ),
        ("```toml config\n[fleet.a]\n```\n", "fleet.a.provider"),
        (
            "```toml scenario\n[fleet]\nmax = 1\n```\n",
            "workload.trace",
        ),
        ("```console\n$ rm -rf x\n```\n", "begins with `windlass`"),
        (
            "```console\n$ windlass check none.toml\n```\n",
            "ended with 66",
        ),
        (
            "```toml policy a.toml\n[[policy]]\nkind = \"fixed\"\ninstances = 1\n```\n```console exact\n$ windlass check a.toml\na.toml: all ill\n```\n",
            "a.toml: all well",
        ),
        ("```sql\nSELECT none FROM nowhere;\n```\n", "no such table"),
    ] {
        let found = blocks::run("planted.md", text).problems;
        assert!(
            found.iter().any(|found| found.contains(problem)),
            "{text}: {found:?}"
        );
    }
}

#[test]
fn the_page_on_configuration_names_every_key() {
    // The keys of other systems' policies have a page of their own.
    let pages = read("docs/configuration.md") + &read("docs/peers.md");
    nothing_wrong(&keys::unnamed(&keys::known(), &pages));
    let planted = BTreeSet::from(["max_usd_per_year".to_owned()]);
    assert_eq!(keys::unnamed(&planted, "`max_usd_per_hour`").len(), 1);
}

#[test]
fn defaults_and_bounds_in_the_page_on_configuration_are_those_of_the_code() {
    let name = "docs/configuration.md";
    let page = read(name);
    let stated = keys::stated_in_tables(name, &page);
    assert!(stated.len() > 50, "only {} rows", stated.len());
    nothing_wrong(&probes::wrong(&stated));
    for (right, wrong) in [
        ("| `\"15m\"` |", "| `\"16m\"` |"),
        ("`1` to `1000` |", "`1` to `999` |"),
        ("`0` to `100` |", "`0` to `101` |"),
        ("`\"1h\"` to `\"3650d\"`", "`\"2h\"` to `\"3650d\"`"),
    ] {
        assert!(page.contains(right), "{right}");
        let planted = keys::stated_in_tables(name, &page.replace(right, wrong));
        assert!(!probes::wrong(&planted).is_empty(), "{wrong} is not found");
    }
}

#[test]
fn defaults_and_bounds_in_the_page_on_scenarios_are_those_of_the_code() {
    let name = "docs/scenarios.md";
    let page = read(name);
    let stated = keys::stated_in_tables(name, &page);
    assert!(stated.len() > 40, "only {} rows", stated.len());
    nothing_wrong(&probes::wrong(&stated));
    for (right, wrong) in [
        ("| `\"3m\"` |", "| `\"4m\"` |"),
        ("`1` to `10000` |", "`1` to `9999` |"),
        ("| `0.0` | `0` to `1` |", "| `0.1` | `0` to `1` |"),
    ] {
        assert!(page.contains(right), "{right}");
        let planted = keys::stated_in_tables(name, &page.replace(right, wrong));
        assert!(!probes::wrong(&planted).is_empty(), "{wrong} is not found");
    }
}

#[test]
fn defaults_and_bounds_in_the_example_are_those_of_the_code() {
    let example = read("config.example.toml");
    let stated = keys::stated_in_comments(&example);
    assert!(stated.len() > 25, "only {} keys", stated.len());
    nothing_wrong(&probes::wrong(&stated));
    for (right, wrong) in [
        ("Default \"15m\".", "Default \"20m\"."),
        ("1 to 1000, open", "1 to 2000, open"),
    ] {
        assert!(example.contains(right), "{right}");
        let planted = keys::stated_in_comments(&example.replace(right, wrong));
        assert!(!probes::wrong(&planted).is_empty(), "{wrong} is not found");
    }
}

/// The names of all fields in `json`, at any depth.
fn fields_of(json: &serde_json::Value, found: &mut BTreeSet<String>) {
    match json {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                found.insert(name.clone());
                fields_of(value, found);
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| fields_of(item, found)),
        _ => {}
    }
}

#[test]
fn the_page_on_the_simulator_names_every_field_and_column() {
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = r#"
        [workload]
        trace = "jobs.csv"
        [workload.class.web]
        [cloud]
        usd_per_hour = 0.1
        [cloud.boot]
        distribution = "constant"
        value = "60s"
        [fleet]
        initial = 2
        max = 4
        [objective]
        usd_per_job_hour_waiting = 1.0
    "#;
    fs::write(folder.path().join("small.toml"), scenario).expect("written");
    let jobs = "arrival_s,service_s,class\n1,200,web\n5,100,web\n5,100,web\n";
    fs::write(folder.path().join("jobs.csv"), jobs).expect("written");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_windlass"))
        .args("simulate --scenario small.toml --policy builtin:fixed --format json".split(' '))
        .args("--out out --jobs csv".split(' '))
        .current_dir(folder.path())
        .output()
        .expect("started");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut names = BTreeSet::new();
    fields_of(&results, &mut names);
    assert!(
        names.contains("theta_u") && names.contains("class"),
        "{names:?}"
    );
    for file in ["fixed.ticks.csv", "fixed.jobs.csv"] {
        let text = fs::read_to_string(folder.path().join("out").join(file)).expect("written");
        let heads = text.lines().next().expect("a first line");
        names.extend(heads.split(',').map(str::to_owned));
    }
    // Those that are told only where it can happen.
    for name in [
        "interrupted",
        "died",
        "launches_without_capacity",
        "calls_throttled",
        "prepaid_usd",
        "warm_pool_usd",
    ] {
        names.insert(name.to_owned());
    }
    nothing_wrong(&keys::unnamed(&names, &read("docs/simulator.md")));
}

/// What a page names in backticks: files that are not there, and tests and
/// fields that nobody wrote. A lower-case word with three underscores or more
/// is the name of one.
fn stale_names(page: &str, sources: &str) -> Vec<String> {
    let mut keys = keys::known();
    // What a page has in its tables it tells of itself.
    let stated = keys::stated_in_tables("", page).into_iter();
    keys.extend(stated.map(|stated| stated.key));
    keys.extend(Peer::KINDS.iter().map(|kind| (*kind).to_owned()));
    let functions = sources
        .split("fn ")
        .filter_map(|rest| rest.split('(').next());
    let fields = sources
        .split("pub ")
        .filter_map(|rest| rest.split(':').next());
    let called: BTreeSet<&str> = functions.chain(fields).collect();
    let mut problems = Vec::new();
    for name in page.split('`').skip(1).step_by(2) {
        let first = name.split('/').next().unwrap_or_default();
        let is_path = ["policies", "simulator", "src", "tests", "docs"].contains(&first)
            && name.contains('/')
            && !name.contains(' ');
        if is_path && !Path::new(&root()).join(name).exists() {
            problems.push(format!("there is no {name}"));
        }
        let word = |letter: char| letter.is_ascii_lowercase() || letter == '_';
        let is_test = name.chars().all(word) && name.matches('_').count() >= 3;
        if is_test && !called.contains(name) && !keys.contains(name) {
            problems.push(format!("nothing is called {name}"));
        }
    }
    problems
}

#[test]
fn files_and_tests_that_pages_name_are_there() {
    let sources: String = ["policies", "simulator", "src", "tests"]
        .iter()
        .flat_map(|folder| files(folder, ".rs"))
        .map(|file| read(&file))
        .collect();
    for page in files("docs", ".md") {
        nothing_wrong(&stale_names(&read(&page), &sources));
    }
    let planted = "`src/nowhere.rs` and `swarm_kills_nothing_at_all_ever`";
    assert_eq!(stale_names(planted, "").len(), 2);
}

/// Rooms of the house that the page on architecture does not tell of.
fn untold(page: &str, rooms: &[String]) -> Vec<String> {
    let told = |file: &String| {
        let folders = file.match_indices('/').map(|(at, _)| &file[..=at]);
        folders.chain([file.as_str()]).any(|place| {
            page.contains(&format!("| `{place}`")) || page.contains(&format!(", `{place}`"))
        })
    };
    let unknown = rooms.iter().filter(|file| !told(file));
    unknown
        .map(|file| format!("docs/architecture.md says nothing of {file}"))
        .collect()
}

#[test]
fn the_page_on_architecture_tells_of_every_room() {
    let page = read("docs/architecture.md");
    let is_room = |file: &String| {
        let name = file.rsplit('/').next().unwrap_or_default();
        !matches!(name, "lib.rs" | "mod.rs" | "testing.rs") && !name.ends_with("tests.rs")
    };
    let rooms: Vec<String> = ["policies/src", "simulator/src", "src"]
        .iter()
        .flat_map(|folder| files(folder, ".rs"))
        .filter(is_room)
        .collect();
    nothing_wrong(&untold(&page, &rooms));
    assert_eq!(untold(&page, &["src/attic.rs".to_owned()]).len(), 1);
}

/// Actions of AWS that `text` names, such as `ec2:CreateTags`.
fn actions(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == ':'));
    let of_aws = |word: &&str| {
        ["autoscaling:", "cloudwatch:", "ec2:", "sqs:"]
            .iter()
            .any(|service| word.starts_with(service))
            && word
                .split(':')
                .nth(1)
                .is_some_and(|verb| verb.starts_with(|letter: char| letter.is_ascii_uppercase()))
            && !word.contains("::")
    };
    words.filter(of_aws).map(str::to_owned).collect()
}

/// Terraform takes what `windlass iam` prints; the page says the same of the file
/// it shows.
#[test]
fn the_page_on_aws_names_the_permissions_of_its_own_file() {
    let page = read("docs/aws.md");
    let (_, file) = page
        .split_once("```toml config windlass.toml\n")
        .expect("a configuration");
    let (file, _) = file.split_once("```").expect("its end");
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("windlass.toml"), file).expect("written");
    let policy = commands::run(folder.path(), "windlass iam --config windlass.toml");
    let policy = policy.expect("a policy");
    let (_, section) = page
        .split_once("## Permissions\n")
        .expect("a part on permissions");
    let (section, _) = section.split_once("\n## ").expect("its end");
    assert_eq!(actions(section), actions(&policy));
    assert!(actions(&policy).len() > 5, "{policy}");
    let terraform = read("docs/terraform/controller.tf");
    assert!(terraform.contains("policy = file(var.policy_file)"));
}
