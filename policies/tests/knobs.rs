//! The table of `docs/compare.md` that says what tuning turns, and how far.

use std::fmt::Write as _;

use windlass_policies::knobs::{self, Knob, Reach};
use windlass_policies::policy::{Peer, Policy};

/// The rows between these lines are written from the knobs. To write them
/// anew: `UPDATE_EXPECT=1 cargo test -p windlass-policies --test knobs`.
const BEGIN: &str = "| `kind` | knobs, the main one first | range |\n|---|---|---|\n";
const END: &str = "\n\nThey are declared in `policies/src/knobs.rs`";

fn name(knob: &Knob) -> String {
    let keys: Vec<String> = knob.keys.iter().map(|key| last(key)).collect();
    match keys.as_slice() {
        [key] => key.clone(),
        keys => format!("{}: all {}", knob.name, keys.join(" and ")),
    }
}

/// The key without the tables it stands in.
fn last(key: &str) -> String {
    format!("`{}`", key.rsplit('.').next().unwrap_or(key))
}

fn seconds(count: u32) -> String {
    match count {
        count if count % 3_600 == 0 => format!("{} h", count / 3_600),
        count if count % 60 == 0 => format!("{} min", count / 60),
        count => format!("{count} s"),
    }
}

fn range(reach: Reach) -> String {
    match reach {
        Reach::Number { from, to } | Reach::Share { from, to } => format!("{from} to {to}"),
        Reach::Instances => "0 to the scenario's `max`".to_owned(),
        Reach::Seconds { from, to } => format!("{} to {}", seconds(from), seconds(to)),
        Reach::Factor { from, to } => format!("what the file says, times {from} to {to}"),
    }
}

#[test]
fn the_page_says_what_is_tuned() {
    let page = include_str!("../../docs/compare.md");
    let (before, rest) = page.split_once(BEGIN).expect("the table's head");
    let (_, after) = rest.split_once(END).expect("the table's end");
    let mut rows = String::new();
    for kind in Policy::KINDS.iter().chain(Peer::KINDS) {
        let mut first = format!("`{kind}`");
        for knob in knobs::of(kind) {
            let cell = std::mem::take(&mut first);
            let space = if cell.is_empty() { "" } else { " " };
            write!(
                rows,
                "\n|{space}{cell} | {} | {} |",
                name(knob),
                range(knob.reach)
            )
            .expect("text");
        }
        if !first.is_empty() {
            write!(rows, "\n| {first} | none | |").expect("text");
        }
    }
    let expected = format!("{before}{BEGIN}{}{END}{after}", rows.trim_start());
    expect_test::expect_file!["../../docs/compare.md"].assert_eq(&expected);
}
