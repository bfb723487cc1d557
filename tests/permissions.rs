//! What windlass asks of AWS, what it asks to be allowed, and what its check
//! tries are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use windlass::aws::permissions::{Extent, Launches, Place, Statement, Uses, statements};

/// What the names of calls of AWS begin with.
const VERBS: [&str; 22] = [
    "assume",
    "attach",
    "cancel",
    "complete",
    "create",
    "delete",
    "describe",
    "detach",
    "execute",
    "get",
    "list",
    "modify",
    "put",
    "receive",
    "record",
    "resume",
    "run",
    "send",
    "set",
    "start",
    "terminate",
    "update",
];

/// Calls that need no permission, or that of another action.
const UNDER_ANOTHER_NAME: [(&str, Option<&str>); 2] = [
    ("GetCallerIdentity", None),
    // IAM has one action for both.
    ("DeleteMessageBatch", Some("DeleteMessage")),
];

/// Methods of Rust that read like calls of AWS.
const OF_RUST: [&str; 2] = ["get_mut", "get_ref"];

/// Reads that only `windlass check --aws` makes: without them it tells less.
const OF_THE_CHECK: [&str; 5] = [
    "DescribeImages",
    "DescribeInstanceTypeOfferings",
    "DescribeKeyPairs",
    "DescribeLaunchTemplateVersions",
    "DescribeSecurityGroups",
];

fn sources(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            all.push(path);
        }
    }
}

/// What of a source is no test.
fn without_tests(path: &Path) -> String {
    let name = path.file_name().expect("a name").to_string_lossy();
    if name.contains("tests") || name == "testing.rs" || name == "swarm.rs" {
        return String::new();
    }
    let text = fs::read_to_string(path).expect("a source");
    let end = text.find("#[cfg(test)]\nmod tests {");
    text[..end.unwrap_or(text.len())].to_owned()
}

/// All `.verb_noun()` of a text: what has no arguments and begins with a verb of
/// AWS, as the calls of its client do.
fn calls(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for piece in text.split("()") {
        let start = piece
            .rfind(|letter: char| !(letter.is_ascii_lowercase() || letter == '_'))
            .map_or(0, |at| at + 1);
        let name = &piece[start..];
        let verb = name.split('_').next().unwrap_or_default();
        let is_call = name.contains('_') && VERBS.contains(&verb) && !OF_RUST.contains(&name);
        if piece[..start].ends_with('.') && is_call {
            found.insert(name.split('_').map(capitalised).collect());
        }
    }
    found
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// The calls in `src/`, those of the check by themselves.
fn called() -> (BTreeSet<String>, BTreeSet<String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let (mut running, mut checking) = (BTreeSet::new(), BTreeSet::new());
    for file in files {
        let text = without_tests(&file);
        // Whoever has a client of AWS names one of these.
        if !text.contains("aws_sdk_") && !text.contains("aws::") {
            continue;
        }
        let own = |call: &String| text_has_method(&text, call);
        let of_check = file.parent().is_some_and(|it| it.ends_with("preflight"));
        let into = if of_check {
            &mut checking
        } else {
            &mut running
        };
        into.extend(calls(&text).into_iter().filter(|call| !own(call)));
    }
    (running, checking)
}

/// Whether a source has a method of its own of that name and without arguments.
fn text_has_method(text: &str, call: &str) -> bool {
    let mut name = String::new();
    for letter in call.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    text.contains(&format!("fn {name}(&self)"))
}

/// The sources of the check in one piece.
fn check_source() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/aws/preflight");
    let mut files = Vec::new();
    sources(&root, &mut files);
    files.iter().map(|file| without_tests(file)).collect()
}

/// All there is to allow.
fn everything(extent: Extent) -> Vec<Statement> {
    let queue = |name: &str| format!("https://sqs.eu-west-1.amazonaws.com/123456789012/{name}");
    let launches = Launches {
        template: Some("lt-0abc".to_owned()),
        by_fleet: true,
        spot: true,
        spot_prices: true,
        zones: true,
        status_checks: true,
        ..Launches::default()
    };
    let uses = Uses {
        fleets: [("photos".to_owned(), launches)].into(),
        groups: [("web".to_owned(), "web-workers".to_owned())].into(),
        group_spot_prices: true,
        queues: [queue("jobs")].into(),
        notices: [queue("notices")].into(),
        cloudwatch: true,
    };
    let place = Place {
        region: "eu-west-1".to_owned(),
        account: "123456789012".to_owned(),
    };
    statements(&uses, &place, &["workers".to_owned()], extent)
}

/// Action by name without its service.
fn allowed() -> BTreeMap<&'static str, &'static str> {
    let all = everything(Extent::Act);
    let actions = all.iter().flat_map(|statement| statement.actions.clone());
    actions
        .map(|action| (action.split_once(':').expect("a service").1, action))
        .collect()
}

/// The actions that calls need; `None` of those that need none.
fn needed(call: &str) -> Option<&str> {
    let other = UNDER_ANOTHER_NAME.iter().find(|(name, _)| *name == call);
    other.map_or(Some(call), |(_, action)| *action)
}

#[test]
fn every_call_is_allowed_and_tried() {
    let (running, _) = called();
    let allowed = allowed();
    // Or the search has gone blind.
    for known in ["RunInstances", "SetDesiredCapacity", "DeleteMessageBatch"] {
        assert!(running.contains(known), "{known} is not among {running:?}");
    }
    let check = check_source();
    for call in running.iter().filter_map(|call| needed(call)) {
        let action = allowed.get(call);
        let action = action.unwrap_or_else(|| panic!("`windlass iam` does not allow {call}"));
        assert!(
            check.contains(&format!("\"{action}\"")),
            "`windlass check --aws` neither tries {action} nor says that it cannot"
        );
    }
}

#[test]
fn nothing_is_allowed_that_is_not_called() {
    let (running, checking) = called();
    let calls: BTreeSet<&str> = running
        .iter()
        .chain(&checking)
        .filter_map(|call| needed(call))
        .collect();
    for (name, action) in allowed() {
        // It is used by EC2 in a launch.
        if action != "iam:PassRole" {
            assert!(calls.contains(name), "nothing calls {action}");
        }
    }
    let extra: BTreeSet<&str> = checking
        .iter()
        .filter_map(|call| needed(call))
        .filter(|call| !allowed().contains_key(call))
        .collect();
    assert_eq!(extra, BTreeSet::from(OF_THE_CHECK));
}

#[test]
fn what_only_looks_may_change_nothing() {
    for statement in everything(Extent::Observe) {
        for action in statement.actions {
            let (_, verb) = action.split_once(':').expect("a service");
            let reads = verb.starts_with("Describe") || verb.starts_with("Get");
            assert!(reads, "{action}");
        }
    }
}
