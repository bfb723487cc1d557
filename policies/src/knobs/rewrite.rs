//! Turned knobs in the text of the file they are from: values change in their
//! places, and all else stays as a person wrote it, comments and order too.

use std::ops::Range;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::{Dial, Reach, Tunable};

/// A key that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whose it is and what it is called, such as `queue_backlog.jobs_per_instance`.
    pub knob: String,
    /// The key, such as `policy[0].step[1].above`.
    pub key: String,
    /// What stood there, as it stood; nothing if the key was left out.
    pub from: Option<String>,
    /// What stands there now.
    pub to: String,
}

/// Bytes of the text, and what is to stand there.
struct Edit {
    place: Range<usize>,
    text: String,
    change: Change,
}

/// How a key that was left out is put behind the key `kind`.
#[derive(Clone, Copy)]
enum Layout {
    /// On a line of its own.
    Lines,
    /// In the same line, after a comma: in a table within braces.
    Braces,
}

impl Tunable {
    /// `text`, of which this was read, with its knobs turned as
    /// [`Tunable::turned`] does, and the keys whose values are others now.
    /// `None` if that makes no policy, or if `text` is written in a way that a
    /// key cannot be put into.
    pub fn rewritten(
        &self,
        text: &str,
        places: &[Option<f64>],
        instances_max: u32,
    ) -> Option<(String, Vec<Change>)> {
        let mut expected = self.table.clone();
        for (dial, place) in self.dials.iter().zip(places) {
            let Some(place) = place else { continue };
            let value = dial.knob.reach.value_at(*place, instances_max);
            dial.turn(&mut expected, value);
        }
        // What comes out is read again, so that no layout is ever misunderstood.
        [Layout::Lines, Layout::Braces]
            .into_iter()
            .find_map(|layout| {
                let edits = self.edits(text, places, instances_max, layout)?;
                let rewritten = apply(text, &edits);
                let mut table: Table = rewritten.parse().ok()?;
                table.remove("case");
                let changes = edits.into_iter().map(|edit| edit.change).collect();
                (table == expected).then_some((rewritten, changes))
            })
    }

    fn edits(
        &self,
        text: &str,
        places: &[Option<f64>],
        instances_max: u32,
        layout: Layout,
    ) -> Option<Vec<Edit>> {
        let document = DeTable::parse(text).ok()?;
        let policies = document.get_ref().get("policy")?.get_ref().as_array()?;
        let mut edits = Vec::new();
        for (dial, place) in self.dials.iter().zip(places) {
            let Some(place) = place else { continue };
            let value = dial.knob.reach.value_at(*place, instances_max);
            let policy = policies.get(dial.policy)?.get_ref().as_table()?;
            let writer = Writer {
                text,
                dial,
                value,
                layout,
            };
            let path = format!("policy[{}]", dial.policy);
            let mut others = dial.knob.instead_of.iter();
            if let Some(other) = others.find(|key| policy.contains_key(**key)) {
                edits.push(writer.replace(policy, other, &path)?);
                continue;
            }
            for key in dial.knob.keys {
                writer.edit(policy, key, &path, &mut edits)?;
            }
        }
        edits.sort_by_key(|edit| edit.place.start);
        Some(edits)
    }

    /// Where the knobs stand in the file; `None` for a key that it leaves out,
    /// and for several keys that are turned together as they stand.
    fn standing(&self, instances_max: u32) -> Vec<Option<f64>> {
        let one = |dial: &Dial| {
            let mut table = self.table.clone();
            let mut found = None;
            let policy = dial.policy(&mut table)?;
            super::at(policy, dial.knob.keys.first()?, &mut |slot| {
                found = found.or(slot
                    .as_ref()
                    .and_then(|value| dial.knob.reach.place_of(value, instances_max)));
            });
            found
        };
        self.dials.iter().map(one).collect()
    }

    /// How far `places` are from the file: how many knobs are turned, and how
    /// far all of them together, a whole way of each counting 1. A key that the
    /// file leaves out counts as far off as can be.
    pub fn distance(&self, places: &[Option<f64>], instances_max: u32) -> (usize, f64) {
        let standing = self.standing(instances_max);
        let mut turned = (0, 0.0);
        for (place, stood) in places.iter().zip(standing) {
            let Some(place) = place else { continue };
            turned.0 += 1;
            turned.1 += stood.map_or(1.0, |stood| (place - stood).abs());
        }
        turned
    }
}

/// Writes one knob.
struct Writer<'a> {
    text: &'a str,
    dial: &'a Dial,
    value: f64,
    layout: Layout,
}

impl Writer<'_> {
    fn edit(
        &self,
        table: &DeTable<'_>,
        key: &str,
        path: &str,
        edits: &mut Vec<Edit>,
    ) -> Option<()> {
        if let Some((list, rest)) = key.split_once(".*.") {
            let Some(tables) = table.get(list) else {
                return Some(());
            };
            for (place, one) in tables.get_ref().as_array()?.iter().enumerate() {
                let path = format!("{path}.{list}[{place}]");
                self.edit(one.get_ref().as_table()?, rest, &path, edits)?;
            }
            return Some(());
        }
        let old = table.get(key);
        let told = old.and_then(|old| self.text.get(old.span()));
        let old_value = match told {
            Some(told) => Some(value_of(told)?),
            None => None,
        };
        let Some(new) = self.dial.knob.reach.put(old_value.as_ref(), self.value) else {
            return Some(());
        };
        if old_value.as_ref() == Some(&new) {
            return Some(());
        }
        let change = Change {
            knob: self.dial.name.clone(),
            key: format!("{path}.{key}"),
            from: told.map(str::to_owned),
            to: new.to_string(),
        };
        let (place, text) = match old {
            Some(old) => (old.span(), new.to_string()),
            None => self.beside_kind(table.get("kind")?, key, &new),
        };
        edits.push(Edit {
            place,
            text,
            change,
        });
        Some(())
    }

    /// The knob's key in the place of `other`, which says the same in another way.
    fn replace(&self, table: &DeTable<'_>, other: &str, path: &str) -> Option<Edit> {
        let (name, old) = table.get_key_value(other)?;
        let key = self.dial.knob.keys.first()?;
        let new = self.dial.knob.reach.put(None, self.value)?;
        let place = name.span().start..old.span().end;
        Some(Edit {
            text: format!("{key} = {new}"),
            change: Change {
                knob: self.dial.name.clone(),
                key: format!("{path}.{key}"),
                from: Some(self.text.get(place.clone())?.to_owned()),
                to: new.to_string(),
            },
            place,
        })
    }

    fn beside_kind(
        &self,
        kind: &Spanned<DeValue<'_>>,
        key: &str,
        value: &Value,
    ) -> (Range<usize>, String) {
        let end = kind.span().end;
        match self.layout {
            Layout::Braces => (end..end, format!(", {key} = {value}")),
            Layout::Lines => {
                let rest = self.text.get(end..).unwrap_or_default();
                match rest.find('\n') {
                    Some(line) => (end + line + 1..end + line + 1, format!("{key} = {value}\n")),
                    None => (
                        self.text.len()..self.text.len(),
                        format!("\n{key} = {value}\n"),
                    ),
                }
            }
        }
    }
}

impl Reach {
    /// Where `value` stands on the scale, from 0 to 1.
    fn place_of(self, value: &Value, instances_max: u32) -> Option<f64> {
        let ratios =
            |from: f64, to: f64, value: f64| libm::log(value / from) / libm::log(to / from);
        let number = match value {
            Value::Integer(whole) => f64::from(u32::try_from(*whole).ok()?),
            Value::Float(number) => *number,
            Value::String(span) => crate::fields::parse_duration(span).ok()?.as_secs_f64(),
            _ => return None,
        };
        let place = match self {
            Self::Number { from, to } => ratios(from, to, number),
            Self::Share { from, to } => (number - from) / (to - from),
            Self::Instances => ratios(1.0, 1.0 + f64::from(instances_max), 1.0 + number),
            Self::Seconds { from, to } => ratios(f64::from(from.max(1)), f64::from(to), number),
            Self::Factor { from, to } => ratios(from, to, 1.0),
        };
        // Beyond an end is at the end; what is no number has no place.
        place.is_finite().then(|| place.clamp(0.0, 1.0))
    }
}

/// The value that `told` writes.
fn value_of(told: &str) -> Option<Value> {
    let mut table: Table = format!("v = {told}").parse().ok()?;
    table.remove("v")
}

/// `text` with `edits`, which are in order and do not overlap.
fn apply(text: &str, edits: &[Edit]) -> String {
    let mut out = String::new();
    let mut at = 0;
    for edit in edits {
        out.push_str(text.get(at..edit.place.start).unwrap_or_default());
        out.push_str(&edit.text);
        at = edit.place.end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{policy_file, presets};

    const MAX: u32 = 200;

    #[test]
    fn every_preset_is_rewritten_to_the_policy_that_was_tried() {
        let presets = presets::all();
        for (name, text) in presets.iter().chain(presets::peers()) {
            let tunable = Tunable::read(text).expect(name);
            let mut tried = 0;
            for place in [0.0, 0.21, 0.5, 0.83, 1.0] {
                let places = vec![Some(place); tunable.dials()];
                let Some((turned, _)) = tunable.turned(&places, MAX) else {
                    continue;
                };
                tried += 1;
                let (rewritten, changes) = tunable.rewritten(text, &places, MAX).expect(name);
                let read = policy_file::read(&rewritten).expect(name);
                assert_eq!(read.policies, turned.policies, "{name}");
                assert_eq!(read.signals, turned.signals, "{name}");
                let differ = text.lines().filter(|line| !rewritten.contains(*line));
                assert!(differ.count() <= changes.len(), "{name}: {rewritten}");
            }
            assert!(tried > 0, "{name}");
        }
    }

    #[test]
    fn a_knob_takes_the_place_of_what_says_the_same() {
        for (before, after) in [
            (
                "[[policy]]\npreset = \"batch\" # ours\nkind = \"economic\"\n",
                "[[policy]]\nusd_per_job_hour_waiting = 1.0 # ours\nkind = \"economic\"\n",
            ),
            (
                "policy = [{ kind = \"economic\", p95_wait = '2m' }]\n",
                "policy = [{ kind = \"economic\", usd_per_job_hour_waiting = 1.0 }]\n",
            ),
        ] {
            let tunable = Tunable::read(before).expect("a policy");
            let (rewritten, changes) = tunable
                .rewritten(before, &[Some(0.5)], MAX)
                .expect("rewritten");
            assert_eq!(rewritten, after);
            assert_eq!(changes.len(), 1, "{changes:?}");
        }
    }

    #[test]
    fn comments_and_order_stay() {
        let text = "# Ours.\n[[policy]]\nname = \"main\" # who\nkind = 'target_tracking'  # how\n\
            target=  0.5 # busy\r\n\n[[policy]]\nkind = \"fixed\"\n\
            instances = 0x3";
        let tunable = Tunable::read(text).expect("a policy");
        let places = [Some(0.4), Some(0.5), Some(1.0)];
        let (rewritten, changes) = tunable.rewritten(text, &places, MAX).expect("rewritten");
        let expected = "# Ours.\n[[policy]]\nname = \"main\" # who\nkind = 'target_tracking'  # how\n\
            dead_band = 0.25\ntarget=  0.25 # busy\r\n\n[[policy]]\nkind = \"fixed\"\n\
            instances = 200";
        assert_eq!(rewritten, expected);
        let told: Vec<_> = changes
            .iter()
            .map(|one| (one.key.as_str(), one.from.as_deref(), one.to.as_str()))
            .collect();
        let expected = [
            ("policy[0].dead_band", None, "0.25"),
            ("policy[0].target", Some("0.5"), "0.25"),
            ("policy[1].instances", Some("0x3"), "200"),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn tables_within_braces_are_rewritten_too() {
        let text = "policy = [{ kind = \"target_tracking\", target = 0.5 }]\n";
        let tunable = Tunable::read(text).expect("a policy");
        let (rewritten, _) = tunable
            .rewritten(text, &[None, Some(0.5)], MAX)
            .expect("rewritten");
        let expected = "policy = [{ kind = \"target_tracking\", dead_band = 0.25, target = \
            0.5 }]\n";
        assert_eq!(rewritten, expected);
    }

    #[test]
    fn what_is_not_turned_is_not_touched() {
        for (name, text) in presets::all() {
            let tunable = Tunable::read(text).expect(name);
            let (rewritten, changes) = tunable.rewritten(text, &[], MAX).expect(name);
            assert_eq!((rewritten.as_str(), changes.len()), (text, 0), "{name}");
        }
    }

    #[test]
    fn fewer_knobs_are_nearer_and_then_shorter_ways() {
        let text = "[[policy]]\nkind = \"target_tracking\"\ntarget = 0.5\ndead_band = 0.1\n";
        let tunable = Tunable::read(text).expect("a policy");
        let far = |places: &[Option<f64>]| tunable.distance(places, MAX);
        assert_eq!(far(&[None, None]), (0, 0.0));
        // A factor of 1 stands at three fifths of the way from 1/8 to 4.
        let (turned, way) = far(&[Some(0.7), None]);
        assert_eq!(turned, 1);
        assert!((way - 0.1).abs() < 1e-9, "{way}");
        let (turned, way) = far(&[Some(0.7), Some(0.4)]);
        assert_eq!(turned, 2);
        assert!((way - 0.3).abs() < 1e-9, "{way}");
    }
}
