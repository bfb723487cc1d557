//! Every key of every kind of file is broken in turn, by a program: `windlass
//! check` must name it, with its path and its line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use expect_test::expect;
use toml::{Table, Value};
use windlass::config::EXAMPLE;
use windlass_policies::fields::parse_duration;
use windlass_policies::policy::Policy;
use windlass_policies::presets;
use windlass_simulator::scenario::BUILT_IN_SCENARIOS;

#[path = "config_keys/checked.rs"]
mod checked;
#[path = "config_keys/tree.rs"]
mod tree;

use checked::{Broken, check, misjudged};
use tree::{Part, Place, keys, lines, renamed, value_at, with, without};

fn parsed(text: &str) -> Table {
    text.parse().expect("TOML")
}

#[track_caller]
fn nothing_wrong(wrong: &[String]) {
    assert!(
        wrong.is_empty(),
        "{} misjudged:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Whether people choose the name of what stands at `place`.
fn is_name(place: &Place, value: Option<&Value>) -> bool {
    match place.parent().key() {
        // In a scenario there is one fleet, and these are its own keys.
        "fleet" => value.is_some_and(Value::is_table),
        "signals" | "readings" => true,
        _ => false,
    }
}

/// `place` misspelt, and what a slip of the pen makes of its key.
fn misspelt(file: &Table, place: &Place) -> Broken {
    let name = format!("{}x", place.key());
    let named = place.parent().child(Part::Key(name.clone()));
    Broken::new(
        format!("{place} misspelt"),
        &renamed(file, place, &name),
        Some(named),
    )
}

/// Values of other types than `value`.
fn wrong_types(value: &Value) -> Vec<Value> {
    let text = Value::from("no such thing");
    let elements = Value::from(vec![7]);
    match value {
        Value::String(_) | Value::Datetime(_) => vec![Value::from(true), elements],
        Value::Integer(_) | Value::Float(_) => vec![Value::from(true), text],
        Value::Boolean(_) => vec![Value::from(1), text],
        Value::Array(_) | Value::Table(_) => vec![Value::from(7), text],
    }
}

/// Values of the same type that make no sense.
fn absurd_values(value: &Value) -> Vec<Value> {
    let texts = |texts: &[&str]| texts.iter().map(|text| Value::from(*text)).collect();
    match value {
        Value::String(text) if parse_duration(text).is_ok() => {
            let mut values: Vec<Value> = texts(&["-5m", "5 parsecs", "99999999d", "1.5h"]);
            values.push(Value::from(5));
            values
        }
        Value::String(_) => texts(&["no such thing", ""]),
        Value::Integer(_) => vec![Value::from(-2_000), Value::from(i64::MAX), Value::from(1.5)],
        Value::Float(_) => vec![
            Value::from(-2_000.0),
            Value::from(1e300),
            Value::from(f64::NAN),
            Value::from(f64::INFINITY),
        ],
        Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => Vec::new(),
    }
}

/// What to expect of an odd value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// Its key is named.
    Refused,
    /// It is odd, and all right.
    Accepted,
    /// It is right by itself and contradicts another key, which may be named.
    Elsewhere,
}

type Judge = fn(&Place, &Value) -> Expected;

/// Every key misspelt and given values that it cannot have.
fn broken_in_turn(file: &Table, judge: Judge) -> Vec<Broken> {
    let mut broken = Vec::new();
    for (place, value) in keys(file) {
        if !is_name(&place, Some(&value)) {
            broken.push(misspelt(file, &place));
        }
        for other in wrong_types(&value).into_iter().chain(absurd_values(&value)) {
            let what = format!("{place} = {other}");
            let expected = judge(&place, &other);
            if expected != Expected::Elsewhere {
                let named = (expected == Expected::Refused).then(|| place.clone());
                broken.push(Broken::new(what, &with(file, &place, other), named));
            }
        }
    }
    broken
}

#[test]
fn every_key_of_the_example_is_named_when_it_is_wrong() {
    let judge: Judge = |place, value| match place.key() {
        "path" if value.as_str() == Some("no such thing") => Expected::Accepted,
        // Fewer by 2,000 is a change; two steps may not go two ways.
        "change" if value.as_integer() == Some(-2_000) => Expected::Elsewhere,
        _ => Expected::Refused,
    };
    let broken: Vec<Broken> = fleets_apart()
        .iter()
        .flat_map(|file| broken_in_turn(file, judge))
        .collect();
    nothing_wrong(&misjudged(&broken));
}

#[test]
fn every_key_of_the_scenarios_is_named_when_it_is_wrong() {
    let judge: Judge = |place, value| match place.key() {
        "seed" if value.as_integer() == Some(i64::MAX) => Expected::Accepted,
        _ => Expected::Refused,
    };
    let broken: Vec<Broken> = BUILT_IN_SCENARIOS
        .iter()
        .flat_map(|(name, text)| labelled(name, broken_in_turn(&scenario(text), judge)))
        .collect();
    nothing_wrong(&misjudged(&broken));
}

#[test]
fn every_key_of_the_presets_is_named_when_it_is_wrong() {
    let judge: Judge = |place, value| match place.key() {
        // What a case is called is up to its author.
        "name" if value.as_str() == Some("no such thing") => Expected::Accepted,
        "change" if value.as_integer() == Some(-2_000) => Expected::Elsewhere,
        // Any number from 0 up can be read; other cases fail then.
        _ if place.parent().key() == "readings" && !is_negative(value) => Expected::Elsewhere,
        // Decimals may stand there, though whole numbers do.
        "jobs_per_instance" | "above" | "below" | "percent" | "queue_length" | "activation"
        | "penalty" | "slack_jobs" | "lower_bound" | "upper_bound" | "percentage"
            if is_decimal(value) =>
        {
            Expected::Elsewhere
        }
        // Bounds of what is read may be below zero, and so may what is added.
        "lower_bound" | "upper_bound" | "delta" if value.as_integer() == Some(-2_000) => {
            Expected::Elsewhere
        }
        _ => Expected::Refused,
    };
    let mut broken: Vec<Broken> = presets::all()
        .iter()
        .flat_map(|(name, text)| labelled(name, broken_in_turn(&parsed(text), judge)))
        .collect();
    for (name, text) in presets::peers() {
        let mut file = parsed(text);
        // There are hundreds of cases, and their keys are those of the others.
        file.remove("case");
        broken.extend(labelled(name, broken_in_turn(&file, judge)));
    }
    nothing_wrong(&misjudged(&broken));
}

fn is_negative(value: &Value) -> bool {
    match value {
        Value::Integer(number) => *number < 0,
        // NaN and infinity are no readings either.
        Value::Float(number) => !(*number >= 0.0 && number.is_finite()),
        _ => true,
    }
}

fn is_decimal(value: &Value) -> bool {
    matches!(value, Value::Float(number) if number.fract() != 0.0)
}

/// The example with one fleet at a time, which is read faster.
fn fleets_apart() -> Vec<Table> {
    let example = parsed(EXAMPLE);
    let fleets = Place::of("fleet");
    let Some(Value::Table(all)) = value_at(&example, &fleets) else {
        panic!("the example has fleets")
    };
    let alone = |(name, fleet): (&String, &Value)| {
        let one = Table::from_iter([(name.clone(), fleet.clone())]);
        with(&example, &fleets, Value::from(one))
    };
    all.iter().map(alone).collect()
}

fn labelled(name: &str, mut broken: Vec<Broken>) -> Vec<Broken> {
    for file in &mut broken {
        file.what = format!("{name}: {}", file.what);
    }
    broken
}

#[test]
fn everything_that_is_wrong_is_told_in_one_go() {
    // What says of which kind a table is stays as it is: nobody could know
    // what else belongs there.
    let telling = ["kind", "provider"];
    let mut file = parsed(EXAMPLE);
    let mut broken = Vec::new();
    for (place, value) in keys(&parsed(EXAMPLE)) {
        let leaf = !matches!(value, Value::Table(_)) && !holds_tables(&value);
        if leaf && !telling.contains(&place.key()) {
            file = with(&file, &place, Value::from(vec![7]));
            broken.push(place);
        }
    }
    assert!(broken.len() > 50, "{}", broken.len());
    let text = toml::to_string(&file).expect("TOML");
    let together = broken.into_iter().map(|place| Broken {
        what: "all at once".to_owned(),
        text: text.clone(),
        named: Some(place),
    });
    nothing_wrong(&misjudged(&together.collect::<Vec<_>>()));
}

fn holds_tables(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|elements| elements.iter().any(Value::is_table))
}

/// `place` as documentation knows it: fleets and signals without their names,
/// policies by their kind.
fn general(file: &Table, place: &Place) -> String {
    let mut told = String::new();
    let mut here = Place::default();
    for part in &place.0 {
        here = here.child(part.clone());
        match part {
            Part::Key(_) if is_name(&here, value_at(file, &here)) => told.push_str(".*"),
            Part::Key(key) => told.extend([".", key]),
            Part::Index(_) => {
                let kind = value_at(file, &here).and_then(|table| table.get("kind"));
                // What all policies have is documented with the first.
                let common = ["kind", "name"].contains(&place.key());
                let kind = kind
                    .and_then(Value::as_str)
                    .filter(|_| !common)
                    .unwrap_or("");
                told.extend(["[", kind, "]"]);
            }
        }
    }
    told.trim_start_matches('.').to_owned()
}

/// The comments above each key of the example, by its general place.
fn documented() -> BTreeMap<String, String> {
    let file = parsed(EXAMPLE);
    let by_line: BTreeMap<usize, Place> = lines(EXAMPLE)
        .into_iter()
        .map(|(place, line)| (line, place))
        .collect();
    let mut documented = BTreeMap::new();
    let mut comments = String::new();
    for (number, line) in (1..).zip(EXAMPLE.lines()) {
        if let Some(comment) = line.strip_prefix('#') {
            comments.push_str(comment);
        } else {
            let place = by_line.get(&number).filter(|_| !comments.is_empty());
            if let Some(place) = place {
                documented
                    .entry(general(&file, place))
                    .or_insert(comments.clone());
            }
            comments.clear();
        }
    }
    documented
}

/// A key whose comment says "Required." is missed, one whose comment says
/// "Default" is not, and of those that say neither one is needed.
#[test]
fn a_key_is_missed_if_and_only_if_its_comment_says_so() {
    let file = parsed(EXAMPLE);
    let documented = documented();
    let mut undocumented = Vec::new();
    let mut broken = Vec::new();
    for (place, value) in keys(&file) {
        if matches!(value, Value::Table(_)) || holds_tables(&value) {
            continue;
        }
        let what = format!("without {place}");
        let Some(comment) = documented.get(&general(&file, &place)) else {
            undocumented.push(place.to_string());
            continue;
        };
        let removed = without(&file, &place);
        if comment.contains("Required.") {
            broken.push(Broken::new(what, &removed, Some(place)));
        } else if comment.contains("Default") {
            broken.push(Broken::new(what, &removed, None));
        } else {
            let around = place.parent();
            let named = if place.key() == "policy_file" {
                "policy"
            } else {
                ""
            };
            let named = match named {
                "" => around,
                key => around.child(Part::Key(key.to_owned())),
            };
            broken.push(Broken::new(what, &removed, Some(named)));
        }
    }
    assert!(
        undocumented.is_empty(),
        "without a comment: {undocumented:?}"
    );
    nothing_wrong(&misjudged(&broken));
}

#[test]
fn whole_tables_are_missed_too() {
    let file = parsed(EXAMPLE);
    let missed = |place: &str, named: &str| {
        let removed = without(&file, &Place::of(place));
        Broken::new(format!("without {place}"), &removed, Some(Place::of(named)))
    };
    let spared = |place: &str| {
        let removed = without(&file, &Place::of(place));
        Broken::new(format!("without {place}"), &removed, None)
    };
    nothing_wrong(&misjudged(&[
        missed("fleet", "fleet"),
        Broken::new(
            "without any fleet".to_owned(),
            &with(&file, &Place::of("fleet"), Value::from(Table::new())),
            Some(Place::of("fleet")),
        ),
        missed("fleet.photos.policy", "fleet.photos.policy"),
        missed("fleet.photos.simulated", "fleet.photos.simulated.scenario"),
        missed("fleet.photos.limits", "fleet.photos.limits.max"),
        missed(
            "fleet.photos.limits",
            "fleet.photos.limits.max_usd_per_hour",
        ),
        missed(
            "fleet.photos.policy[1].window",
            "fleet.photos.policy[1].window",
        ),
        missed("fleet.web.policy[2].step", "fleet.web.policy[2].step"),
        spared("store"),
        spared("fleet.batch"),
        spared("fleet.photos.drain"),
        spared("fleet.photos.objective"),
        spared("fleet.photos.signals"),
    ]));
}

/// Keys that cannot stand in the example, all of whose fleets are simulated,
/// and the page that shows them.
const ELSEWHERE: [(&str, &str); 5] = [
    ("aws", "docs/configuration.md"),
    ("fleet.*.asg", "docs/configuration.md"),
    ("fleet.*.ec2", "docs/configuration.md"),
    ("fleet.*.process", "docs/configuration.md"),
    ("fleet.*.signals.*.source", "docs/sources.md"),
];

/// A key that no reader knows brings up the keys it knows: what it tells must
/// be in the example, or where else it says.
#[test]
fn every_key_that_is_read_is_in_the_example() {
    const STRANGER: &str = "zzzzzzzzzzzz";
    let example = parsed(EXAMPLE);
    let mut known: BTreeSet<String> = keys(&example)
        .iter()
        .map(|(place, _)| general(&example, place))
        .collect();
    for (key, page) in ELSEWHERE {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page));
        let name = key.rsplit('.').next().unwrap_or_default();
        let text = text.expect("there");
        let named = text.contains(&format!("| `{name}` |"))
            || text.contains(&format!(".{name}]"))
            || text.contains(&format!("`[{name}]`"));
        assert!(named, "{page} does not name `{name}`");
        assert!(known.insert(key.to_owned()), "{key} is in the example");
    }
    let stranger = |file: &Table, place: &Place| {
        let place = place.child(Part::Key(STRANGER.to_owned()));
        with(file, &place, Value::from(1))
    };
    let mut file = stranger(&example, &Place::default());
    for (place, value) in keys(&example) {
        match value {
            Value::Table(_) if !["fleet", "signals"].contains(&place.key()) => {
                file = stranger(&file, &place);
            }
            Value::Array(elements) if elements.iter().all(Value::is_table) => {
                for index in 0..elements.len() {
                    file = stranger(&file, &place.child(Part::Index(index)));
                }
            }
            _ => {}
        }
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(
        folder.path().join("c.toml"),
        toml::to_string(&file).expect("TOML"),
    )
    .expect("written");
    let (told, code) = check(folder.path(), &["c.toml".to_owned()]);
    assert_eq!(code, Some(64), "{told}");
    let asked = |line: &str| {
        let (place, known) = line.split_once(&format!("{STRANGER}: unknown key; known here: "))?;
        let place = place.rsplit(": ").next()?.trim_end_matches('.').to_owned();
        Some((
            place,
            known.split(", ").map(str::to_owned).collect::<Vec<_>>(),
        ))
    };
    let mut tables = 0;
    let mut missing = BTreeSet::new();
    for (place, keys) in told.lines().filter_map(asked) {
        tables += 1;
        for key in keys {
            let place = if place.is_empty() {
                Place::of(&key)
            } else {
                Place::of(&place).child(Part::Key(key))
            };
            let general = general(&example, &place);
            if !known.contains(&general) {
                missing.insert(general);
            }
        }
    }
    assert!(
        tables > 20,
        "only {tables} tables told what they know:\n{told}"
    );
    assert!(missing.is_empty(), "not in the example: {missing:#?}");
    // And each kind of policy is there once.
    for kind in Policy::KINDS {
        let of_kind = format!("fleet.*.policy[{kind}].");
        assert!(
            known.iter().any(|key| key.starts_with(&of_kind)),
            "no policy of kind {kind} in the example"
        );
    }
}

/// A built-in scenario as a file anywhere.
fn scenario(text: &str) -> Table {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("simulator/scenarios");
    let file = parsed(text);
    let place = Place::of("workload.trace");
    let trace = value_at(&file, &place)
        .and_then(Value::as_str)
        .expect("a trace");
    let trace = traces.join(trace).display().to_string();
    with(&file, &place, Value::from(trace))
}

/// A small fleet that is all right.
const SMALL: &str = r#"
[fleet.web]
provider = "simulated"
interval = "60s"
simulated = { scenario = "builtin:web-week" }
limits = { min = 2, max = 8, max_usd_per_hour = 2.0 }

[[fleet.web.policy]]
kind = "queue_backlog"
jobs_per_instance = 4
"#;

/// What `check` says of `SMALL` with each line `from` replaced.
fn contradictions(cases: &[(&str, &str, &str)]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut told = String::new();
    for (what, from, to) in cases {
        assert!(SMALL.contains(from), "{from}");
        fs::write(folder.path().join("fleets.toml"), SMALL.replace(from, to)).expect("written");
        let (text, code) = check(folder.path(), &["fleets.toml".to_owned()]);
        assert_eq!(code, Some(64), "{what}: {text}");
        told.extend(["# ", what, "\n", &text]);
    }
    told
}

#[test]
fn contradictions_are_told_with_what_to_change() {
    const KIND: &str = "kind = \"queue_backlog\"\njobs_per_instance = 4";
    const LIMITS: &str = "min = 2, max = 8, max_usd_per_hour = 2.0";
    let window = "kind = \"schedule\"\nwindow = [{ start = \"0 8 * * *\", instances = 3,";
    let both_ends = format!("{window} duration = \"1h\", end = \"0 9 * * *\" }}]");
    let no_end = format!("{window} }}]");
    let closes_as_it_opens = format!("{window} end = \"0 8 * * *\" }}]");
    expect![[r##"
        # min above max
        fleets.toml:6: fleet.web.limits.min: 9 is above max (8)
        # no money for min
        fleets.toml:6: fleet.web.limits.max_usd_per_hour: $0.20 an hour does not pay for min (2) of simulated, which costs $0.34; raise it or lower min
        # no money at all
        fleets.toml:6: fleet.web.limits.max_usd_per_hour: $0.00 an hour does not pay for one simulated, which costs $0.17; raise it
        # negative money
        fleets.toml:6: fleet.web.limits.max_usd_per_hour: -2 is negative; write 0 or more
        # too fine money
        fleets.toml:6: fleet.web.limits.max_usd_per_hour: `2.1234567` has more than six decimals; amounts are exact to a millionth of a dollar
        # no limits
        fleets.toml:6: fleet.web.limits.max: missing; write the most instances the fleet may have, such as 20
        fleets.toml:6: fleet.web.limits.max_usd_per_hour: missing; write the most the fleet may cost an hour in dollars, such as 3.40
        # settles before it looks
        fleets.toml:6: fleet.web.limits.grow_settle: 1s is shorter than interval (1m), so it never delays anything; write "0s" or at least "1m"
        # gives up before it looks
        fleets.toml:6: fleet.web.limits.boot_timeout: 1s is shorter than interval (1m): an instance would count as failed before it was looked for once; write at least "1m"
        # both ends of a window
        fleets.toml:10: fleet.web.policy[0].window[0].end: a window has either `duration` or `end`; remove one
        # no end of a window
        fleets.toml:10: fleet.web.policy[0].window[0]: says not how long it is open; write `duration = "10h"` or `end = "0 18 * * MON-FRI"`
        # a window that closes as it opens
        fleets.toml:10: fleet.web.policy[0].window[0].end: is the same as `start`, so the window would never be closed
        # fixed above max
        fleets.toml:10: fleet.web.policy[0].instances: 9 is above limits.max (8)
        # fixed below min
        fleets.toml:10: fleet.web.policy[0].instances: 1 is below limits.min (2)
        # a total for a proportion
        fleets.toml:10: fleet.web.policy[0].signal: `backlog` is a total, which does not fall as instances are added: a constant reading at twice the target would double the fleet every cycle; use a per_worker or ratio signal, or `kind = "queue_backlog"` for a queue
        # a ratio in percent
        fleets.toml:10: fleet.web.policy[0].target: 70 is above 1, and `utilization` is a ratio from 0 to 1; write 0.7 for 70 %
        # a signal nobody knows
        fleets.toml:10: fleet.web.policy[0].signal: no signal is called `oldest_agee`; add [signals.oldest_agee] with its `kind`; did you mean `oldest_age`?
        # two changes in a step
        fleets.toml:11: fleet.web.policy[0].step[0].exact: a step has one of `change`, `percent` and `exact`; remove the others
        # no such kind
        fleets.toml:9: fleet.web.policy[0].kind: "queue-backlog" is not one of "fixed", "schedule", "queue_backlog", "target_tracking", "step" or "economic"; did you mean `queue_backlog`?
        # policies in two places
        fleets.toml:3: fleet.web.policy_file: the fleet has [[policy]] tables of its own too; keep one of the two
        # no such preset
        fleets.toml:3: fleet.web.policy_file: the fleet has [[policy]] tables of its own too; keep one of the two
        fleets.toml:3: fleet.web.policy_file: there is no built-in policy `fixd`; there are fixed, schedule, queue-backlog, target-tracking, step, economic
        # no such policy file
        fleets.toml:3: fleet.web.policy_file: the fleet has [[policy]] tables of its own too; keep one of the two
        fleets.toml:3: fleet.web.policy_file: cannot read none.toml: No such file or directory (os error 2)
        # no such scenario
        fleets.toml:5: fleet.web.simulated.scenario: there is no built-in scenario `web-weak`; there are web-week, call-centre, ci-bursts, supercomputer
        # no such scenario file
        fleets.toml:5: fleet.web.simulated.scenario: cannot read the scenario none.toml: No such file or directory (os error 2)
        # an empty scenario
        fleets.toml:5: fleet.web.simulated.scenario: is empty; write a scenario file, or one that is built in, such as "builtin:web-week"
        # a fleet without a plain name
        fleets.toml:2: fleet."Web 1": "Web 1" is no name for a fleet; write 1 to 24 characters of a-z, 0-9 and -
        fleets.toml:2: fleet."Web 1".policy: missing; write at least one [[policy]] table with its `kind`
        fleets.toml:8: fleet.web.limits.max: missing; write the most instances the fleet may have, such as 20
        fleets.toml:8: fleet.web.limits.max_usd_per_hour: missing; write the most the fleet may cost an hour in dollars, such as 3.40
        fleets.toml:8: fleet.web.provider: missing; write one of "simulated", "process", "asg" or "ec2"
        # no TOML
        fleets.toml:2: not TOML: unclosed table, expected `]`
        # a key twice
        fleets.toml:5: not TOML: duplicate key `interval`
    "##]]
    .assert_eq(&contradictions(&[
        ("min above max", LIMITS, "min = 9, max = 8, max_usd_per_hour = 9.0"),
        ("no money for min", LIMITS, "min = 2, max = 8, max_usd_per_hour = 0.2"),
        ("no money at all", LIMITS, "min = 0, max = 8, max_usd_per_hour = 0"),
        ("negative money", LIMITS, "min = 2, max = 8, max_usd_per_hour = -2.0"),
        ("too fine money", LIMITS, "min = 2, max = 8, max_usd_per_hour = 2.1234567"),
        ("no limits", &format!("limits = {{ {LIMITS} }}"), "limits = {}"),
        ("settles before it looks", LIMITS, &format!("{LIMITS}, grow_settle = \"1s\"")),
        ("gives up before it looks", LIMITS, &format!("{LIMITS}, boot_timeout = \"1s\"")),
        ("both ends of a window", KIND, &both_ends),
        ("no end of a window", KIND, &no_end),
        ("a window that closes as it opens", KIND, &closes_as_it_opens),
        ("fixed above max", KIND, "kind = \"fixed\"\ninstances = 9"),
        ("fixed below min", KIND, "kind = \"fixed\"\ninstances = 1"),
        ("a total for a proportion", KIND, "kind = \"target_tracking\"\nsignal = \"backlog\"\ntarget = 4"),
        ("a ratio in percent", KIND, "kind = \"target_tracking\"\ntarget = 70"),
        ("a signal nobody knows", KIND, "kind = \"step\"\nsignal = \"oldest_agee\"\nstep = [{ above = 1, change = 1 }]"),
        ("two changes in a step", KIND, "kind = \"step\"\nsignal = \"oldest_age\"\nstep = [{ above = 1, change = 1, exact = 3 }]"),
        ("no such kind", KIND, "kind = \"queue-backlog\"\njobs_per_instance = 4"),
        ("policies in two places", "provider =", "policy_file = \"builtin:fixed\"\nprovider ="),
        ("no such preset", "provider =", "policy_file = \"builtin:fixd\"\nprovider ="),
        ("no such policy file", "provider =", "policy_file = \"none.toml\"\nprovider ="),
        ("no such scenario", "builtin:web-week", "builtin:web-weak"),
        ("no such scenario file", "builtin:web-week", "none.toml"),
        ("an empty scenario", "builtin:web-week", ""),
        ("a fleet without a plain name", "[fleet.web]", "[fleet.\"Web 1\"]"),
        ("no TOML", "[fleet.web]", "[fleet.web"),
        ("a key twice", "interval = \"60s\"", "interval = \"60s\"\ninterval = \"90s\""),
    ]));
}

#[test]
fn files_that_a_configuration_names_are_told_with_their_own_lines() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).expect("written");
    };
    write(
        "small.toml",
        &SMALL.replace("builtin:web-week", "world.toml"),
    );
    write(
        "world.toml",
        "[workload]\ntrace = \"none.csv\"\nlenght = \"2d\"\n[cloud]\nboot = 3\n",
    );
    write(
        "file.toml",
        &SMALL
            .split("[[")
            .next()
            .expect("a part")
            .replace("provider =", "policy_file = \"rules.toml\"\nprovider ="),
    );
    write(
        "rules.toml",
        "[[policy]]\nkind = \"fixed\"\ninstances = -1\n",
    );
    let told = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let (text, code) = check(folder.path(), &names);
        format!("{text}exit {code:?}\n")
    };
    expect![[r#"
        small.toml:5: fleet.web.simulated.scenario: world.toml:1: fleet.max: missing; write the most instances
        world.toml:3: workload.lenght: unknown key; did you mean `length`?
        world.toml:4: cloud.usd_per_hour: missing; write the price of an instance, such as 0.17
        world.toml:5: cloud.boot: a whole number where a table [cloud.boot] is needed
        file.toml:3: fleet.web.policy_file: rules.toml:3: policy[0].instances: -1 is negative; write 0 or more
        exit Some(64)
    "#]].assert_eq(&told(&["small.toml", "file.toml"]));
    // A scenario that is right, and whose trace is missing.
    let world = "[workload]\ntrace = \"none.csv\"\n\n[cloud]\nusd_per_hour = 0.17\n\
                 boot = { distribution = \"constant\", value = \"9s\" }\n[fleet]\nmax = 3\n";
    write("world.toml", world);
    expect![[r#"
        small.toml:5: fleet.web.simulated.scenario: the scenario world has no usable trace: cannot open the trace none.csv: No such file or directory (os error 2)
        world.toml:2: workload.trace: cannot open the trace none.csv: No such file or directory (os error 2)
        exit Some(66)
    "#]].assert_eq(&told(&["small.toml", "world.toml"]));
    // And one whose trace is no load.
    write("none.csv", "t_s,count\n0,1\n60,x\n");
    expect![[r#"
        small.toml:5: fleet.web.simulated.scenario: the scenario world has no usable trace: none.csv:3: count `x` is not a whole number
        world.toml:2: workload.trace: none.csv:3: count `x` is not a whole number
        exit Some(66)
    "#]].assert_eq(&told(&["small.toml", "world.toml"]));
    write("none.csv", "t_s,count\n0,1\n60,2\n");
    expect![[r#"
        small.toml:5: fleet.web.simulated.scenario: the scenario world has no usable workload: workload.service: trace none.csv says when jobs arrive but not how long they take; add a distribution such as { distribution = "lognormal", mean = "30s", cv = 1.0 }
        world.toml:1: workload.service: trace none.csv says when jobs arrive but not how long they take; add a distribution such as { distribution = "lognormal", mean = "30s", cv = 1.0 }
        exit Some(64)
    "#]].assert_eq(&told(&["small.toml", "world.toml"]));
}

#[test]
fn what_is_no_text_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("bytes.toml"), b"[fleet]\n# \xff\n").expect("written");
    fs::write(folder.path().join("empty.toml"), "").expect("written");
    fs::create_dir(folder.path().join("folder.toml")).expect("made");
    let mut told = String::new();
    for name in ["bytes.toml", "empty.toml", "folder.toml", "none.toml"] {
        let (text, code) = check(folder.path(), &[name.to_owned()]);
        writeln!(told, "{text}exit {code:?}").expect("written");
    }
    expect![[r#"
        bytes.toml: cannot be read: stream did not contain valid UTF-8
        exit Some(66)
        empty.toml:1: fleet: missing; write at least one [fleet.NAME] table
        exit Some(64)
        folder.toml: cannot be read: Is a directory (os error 21)
        exit Some(66)
        none.toml: cannot be read: No such file or directory (os error 2)
        exit Some(66)
    "#]]
    .assert_eq(&told);
}
