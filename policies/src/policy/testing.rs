//! Golden tables of proposals.

use std::fmt::Write as _;

use expect_test::Expect;

use super::{NamedPolicy, Policy, Recall, View};
use crate::model::{Proposal, Wish};
use crate::signal::{Absence, Completeness, Reading, Readings, Sample};
use crate::units::Timestamp;

/// When everything in these tables happens.
pub(super) const NOW: Timestamp = Timestamp::from_secs(1_750_000_000);

pub(super) fn present(name: &str, value: f64) -> (&str, Reading) {
    let sample = Sample {
        value,
        at: NOW,
        completeness: Completeness::Complete,
    };
    (name, Reading::Present(sample))
}

pub(super) fn partial(name: &str, value: f64) -> (&str, Reading) {
    let sample = Sample {
        value,
        at: NOW,
        completeness: Completeness::Partial,
    };
    (name, Reading::Present(sample))
}

pub(super) fn absent(name: &str) -> (&str, Reading) {
    (name, Reading::Absent(Absence::NoData))
}

/// What the rule says when `ready` of `current` instances take jobs.
pub(super) fn propose(
    policy: &Policy,
    (ready, current): (u32, u32),
    now: Timestamp,
    readings: &[(&str, Reading)],
) -> Proposal {
    let mut all = Readings::new();
    for (name, reading) in readings {
        all.insert(name, reading.clone());
    }
    let named = NamedPolicy {
        name: policy.kind().to_owned(),
        policy: policy.clone(),
    };
    let view = View {
        now,
        readings: &all,
        current,
        ready,
        slots: 1,
        desired: current,
        lives: &[],
    };
    let mut recall = Recall::default();
    named.consider(&view, None, &mut recall);
    named.propose(&view, Some(&recall))
}

/// Ready instances, current instances and readings.
pub(super) type Row<'a> = (u32, u32, &'a [(&'a str, Reading)]);

/// One line per row of ready instances, current instances and readings:
/// `ready/current -> wish  why`.
pub(super) fn table(policy: &Policy, rows: &[Row<'_>], expected: &Expect) {
    let mut lines = String::new();
    for (ready, current, readings) in rows {
        let Proposal { wish, why, .. } = propose(policy, (*ready, *current), NOW, readings);
        let wish = match wish {
            Wish::Instances(count) => count.to_string(),
            Wish::Abstain(_) => "abstains".to_owned(),
        };
        writeln!(lines, "{ready}/{current} -> {wish}  {why}").expect("writing to a string");
    }
    expected.assert_eq(&lines);
}
