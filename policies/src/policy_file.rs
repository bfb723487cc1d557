//! A policy in a file of its own: `[[policy]]`, `[signals.NAME]`, `[[case]]`.

use crate::cases::{Case, read_cases};
use crate::fields::{Document, Fields};
use crate::policy::NamedPolicy;
use crate::problems::Problems;
use crate::signal::SignalSpec;
use crate::spec::{read_policies, read_signals, resolve_signals};

/// What a policy file says.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyFile {
    /// Who proposes, in the order of the file; at least one.
    pub policies: Vec<NamedPolicy>,
    /// The signals they read and those that were declared, sorted by name.
    pub signals: Vec<SignalSpec>,
    /// Examples of what they should come to. [`crate::cases::run`] runs them.
    pub cases: Vec<Case>,
}

/// Reads a policy file.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file. That a case
/// fails is not: run them.
pub fn read(text: &str) -> Result<PolicyFile, Problems> {
    Document::parse(text)?.read(read_file)
}

fn read_file(fields: &mut Fields<'_>) -> Option<PolicyFile> {
    let declared = read_signals(fields);
    let policies = read_policies(fields);
    let signals = policies.as_deref().and_then(|policies| {
        let resolved = resolve_signals(&declared, policies);
        resolved
            .map_err(|faults| {
                for fault in faults {
                    fields.problem_at(
                        format!("policy[{}].{}", fault.policy, fault.key),
                        fault.message,
                    );
                }
            })
            .ok()
    });
    let cases = read_cases(fields, signals.as_deref());
    Some(PolicyFile {
        policies: policies?,
        signals: signals?,
        cases,
    })
}
