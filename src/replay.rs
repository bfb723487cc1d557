//! Deciding again: every recorded decision must come out as it was recorded.

use serde_json::Value;
use windlass_policies::model::Decision;
use windlass_policies::ports::{Decided, StoreError};
use windlass_policies::units::Timestamp;

use crate::store::{History, Range};

/// What deciding again has shown for one fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Decisions that came out the same.
    pub same: u64,
    /// Decisions that came out otherwise.
    pub different: u64,
    /// Decisions made under another configuration: not decided again.
    pub elsewhere: u64,
    /// The first that came out otherwise.
    pub first: Option<Difference>,
}

/// A decision that did not come out as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its cycle.
    pub cycle: u64,
    /// When it was made.
    pub at: Timestamp,
    /// What differs: one line per field, never none.
    pub fields: Vec<String>,
}

/// Decides all recorded decisions of `fleet` again with `redecide`, in order.
/// Those not made under the configuration `fingerprint` are only counted.
///
/// # Errors
/// If the store cannot be read.
pub fn replay(
    history: &History,
    fleet: &str,
    fingerprint: &str,
    mut redecide: impl FnMut(&Decided) -> Decision,
) -> Result<Replayed, StoreError> {
    replay_those(history, fleet, |decided| {
        (decided.spec == fingerprint).then(|| redecide(decided))
    })
}

/// The same of those that `redecide` decides again; the others are only counted.
///
/// # Errors
/// If the store cannot be read.
pub fn replay_those(
    history: &History,
    fleet: &str,
    mut redecide: impl FnMut(&Decided) -> Option<Decision>,
) -> Result<Replayed, StoreError> {
    let mut replayed = Replayed::default();
    for entry in history.decisions(fleet, Range::All)? {
        let decided = entry?.decided;
        let Some(again) = redecide(&decided) else {
            replayed.elsewhere += 1;
            continue;
        };
        let recorded = &decided.decision;
        if again == *recorded {
            replayed.same += 1;
            continue;
        }
        replayed.different += 1;
        if replayed.first.is_none() {
            let (cycle, at) = (recorded.cycle, recorded.at);
            let fields = differences(recorded, &again);
            replayed.first = Some(Difference { cycle, at, fields });
        }
    }
    Ok(replayed)
}

/// What differs between a recorded decision and the same made again, field by
/// field: `reasons[1].cut_to_max.max: recorded 5, now 6`.
pub fn differences(recorded: &Decision, again: &Decision) -> Vec<String> {
    let json = |decision| serde_json::to_value(decision).expect("a decision is plain data");
    let mut found = Vec::new();
    compare("", &json(recorded), &json(again), &mut found);
    found
}

fn compare(path: &str, recorded: &Value, again: &Value, found: &mut Vec<String>) {
    match (recorded, again) {
        (Value::Object(old), Value::Object(new)) if same_keys(old, new) => {
            for (key, old) in old {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                compare(&path, old, &new[key], found);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            for index in 0..old.len().max(new.len()) {
                let path = format!("{path}[{index}]");
                match (old.get(index), new.get(index)) {
                    (Some(old), Some(new)) => compare(&path, old, new, found),
                    (old, new) => found.push(differs(&path, old, new)),
                }
            }
        }
        (old, new) if old == new => {}
        (old, new) => found.push(differs(path, Some(old), Some(new))),
    }
}

/// Whether two objects can be compared key by key. If not they are of two
/// kinds, and are better shown whole.
fn same_keys(old: &serde_json::Map<String, Value>, new: &serde_json::Map<String, Value>) -> bool {
    old.len() == new.len() && old.keys().all(|key| new.contains_key(key))
}

fn differs(path: &str, old: Option<&Value>, new: Option<&Value>) -> String {
    let shown = |value: Option<&Value>| match value {
        None | Some(Value::Null) => "nothing".to_owned(),
        Some(value) => value.to_string(),
    };
    format!("{path}: recorded {}, now {}", shown(old), shown(new))
}

#[cfg(test)]
mod tests {
    use windlass_policies::model::{Direction, Epoch, Reason};

    use super::*;

    #[test]
    fn differences_are_told_field_by_field() {
        let recorded = Decision {
            epoch: Epoch(1),
            cycle: 7,
            at: Timestamp::from_secs(60),
            current: Some(3),
            proposals: Vec::new(),
            wish: None,
            target: Some(5),
            reasons: vec![Reason::CutToMax { max: 5 }, Reason::AllAbstained],
            actions: Vec::new(),
        };
        assert_eq!(differences(&recorded, &recorded), [""; 0]);
        let step = Reason::CutToStep {
            direction: Direction::Grow,
            step: 2,
        };
        let again = Decision {
            wish: Some(9),
            target: Some(6),
            reasons: vec![Reason::CutToMax { max: 6 }, step, Reason::AllAbstained],
            ..recorded.clone()
        };
        assert_eq!(
            differences(&recorded, &again),
            [
                r"reasons[0].cut_to_max.max: recorded 5, now 6",
                r#"reasons[1]: recorded "all_abstained", now {"cut_to_step":{"direction":"grow","step":2}}"#,
                r#"reasons[2]: recorded nothing, now "all_abstained""#,
                r"target: recorded 5, now 6",
                r"wish: recorded nothing, now 9",
            ]
        );
    }
}
