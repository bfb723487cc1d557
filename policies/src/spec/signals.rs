//! The signals of a fleet, from TOML and from what its policies read.

use std::collections::BTreeMap;
use std::time::Duration;

use super::lint::{Fault, kind_fault};
use crate::fields::{Fields, did_you_mean};
use crate::policy::NamedPolicy;
use crate::signal::{SignalKind, SignalSpec, standard};

impl SignalSpec {
    /// Five minutes: one period of `CloudWatch`'s basic metrics. What is older
    /// says little about now.
    pub const MAX_AGE: Duration = Duration::from_mins(5);

    /// The standard signal `name`; `None` if it is not one of [`standard::ALL`].
    pub fn standard(name: &str) -> Option<Self> {
        let kind = SignalKind::of_standard(name)?;
        Some(Self {
            name: name.to_owned(),
            kind,
            max_age: Self::MAX_AGE,
        })
    }
}

/// Reads every `[signals.NAME]` table, sorted by name.
pub fn read_signals(fields: &mut Fields<'_>) -> Vec<SignalSpec> {
    fields.named_tables("signals", read_signal)
}

/// Reads `kind` and `max_age` of the signal `name`. A standard signal has its
/// kind already.
pub fn read_signal(name: &str, fields: &mut Fields<'_>) -> Option<SignalSpec> {
    read_signal_of(name, fields, None)
}

/// Like [`read_signal`], for a signal whose source gives numbers of the kind
/// `given`, if it knows: the signal then needs no `kind`, and no other is right.
pub fn read_signal_of(
    name: &str,
    fields: &mut Fields<'_>,
    given: Option<SignalKind>,
) -> Option<SignalSpec> {
    let words = SignalKind::ALL.map(|kind| (kind.word(), kind));
    let standard = SignalKind::of_standard(name);
    let kind = match standard.or(given) {
        Some(kind) => fields.word("kind", &words).or(Some(kind)),
        None => fields.required_word("kind", &words),
    };
    let bounds = Duration::from_secs(1)..=Duration::from_hours(24);
    let max_age = fields.or_within("max_age", SignalSpec::MAX_AGE, bounds);
    if let (Some(standard), Some(kind)) = (standard, kind)
        && standard != kind
    {
        fields.problem(
            "kind",
            format!("`{name}` is a {standard} and no {kind}; remove `kind` or rename the signal"),
        );
        return None;
    }
    if let (Some(given), Some(kind)) = (given, kind)
        && given != kind
    {
        let change = match standard {
            Some(_) => "rename the signal, or read something else",
            None => "remove `kind`",
        };
        let key = if fields.has("kind") { "kind" } else { "source" };
        fields.problem(
            key,
            format!("what is read there is a {given}, and `{name}` is a {kind}; {change}"),
        );
        return None;
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !((1..=64).contains(&name.len()) && name.bytes().all(plain)) {
        fields.problem_here(format!(
            "{name:?} is no name for a signal; write 1 to 64 letters, digits, `_` and `-`"
        ));
        return None;
    }
    Some(SignalSpec {
        name: name.to_owned(),
        kind: kind?,
        max_age,
    })
}

/// `base` with the signals of `over` put in place of those of the same name.
///
/// # Errors
/// The name of a signal that would change its kind, and what to change.
pub fn override_signals(
    base: &[SignalSpec],
    over: &[SignalSpec],
) -> Result<Vec<SignalSpec>, (String, String)> {
    let mut merged: BTreeMap<&str, &SignalSpec> = base
        .iter()
        .map(|signal| (signal.name.as_str(), signal))
        .collect();
    for signal in over {
        if let Some(before) = merged.insert(&signal.name, signal)
            && before.kind != signal.kind
        {
            let message = format!(
                "is a {} here and a {} in the policy file; make them the same",
                signal.kind, before.kind
            );
            return Err((signal.name.clone(), message));
        }
    }
    Ok(merged.into_values().cloned().collect())
}

/// The signals a fleet reads, sorted by name: those that are `declared`, and
/// the standard ones its policies use besides.
///
/// # Errors
/// Every signal that is not known or of a kind its policy cannot work with.
pub fn resolve_signals(
    declared: &[SignalSpec],
    policies: &[NamedPolicy],
) -> Result<Vec<SignalSpec>, Vec<Fault>> {
    let mut known: BTreeMap<&str, SignalSpec> = declared
        .iter()
        .map(|signal| (signal.name.as_str(), signal.clone()))
        .collect();
    let mut faults = Vec::new();
    for (index, named) in policies.iter().enumerate() {
        for demand in named.policy.demands() {
            let name = demand.signal;
            if let Some(standard) = SignalSpec::standard(name) {
                known.entry(name).or_insert(standard);
            }
            let message = match known.get(name) {
                Some(signal) => kind_fault(&named.policy, demand, signal.kind),
                None => Some((demand.key, unknown_signal(name, declared))),
            };
            faults.extend(message.map(|(key, message)| Fault {
                policy: index,
                key: key.to_owned(),
                message,
            }));
        }
    }
    if faults.is_empty() {
        Ok(known.into_values().collect())
    } else {
        Err(faults)
    }
}

fn unknown_signal(name: &str, declared: &[SignalSpec]) -> String {
    let names = standard::ALL
        .into_iter()
        .chain(declared.iter().map(|signal| signal.name.as_str()));
    let hint = did_you_mean(name, names);
    format!("no signal is called `{name}`; add [signals.{name}] with its `kind`{hint}")
}
