//! A fleet from its parts.

use std::time::Duration;

use super::lint::{Fault, fleet_faults, policy_faults};
use super::{
    Drain, FleetSpec, Limits, Mix, Objective, Spot, read_drain, read_interval, read_limits,
    read_mix, read_objective, read_policies, read_signals, read_spot, resolve_signals,
};
use crate::fields::Fields;
use crate::model::Offering;
use crate::policy::NamedPolicy;
use crate::signal::SignalSpec;

/// What a fleet is made of, each part read and checked on its own.
#[derive(Clone, Debug)]
pub struct FleetParts {
    /// See [`FleetSpec::name`].
    pub name: String,
    /// See [`FleetSpec::interval`].
    pub interval: Duration,
    /// See [`FleetSpec::offerings`].
    pub offerings: Vec<Offering>,
    /// The signals with a table of their own; standard ones need none.
    pub signals: Vec<SignalSpec>,
    /// See [`FleetSpec::policies`].
    pub policies: Vec<NamedPolicy>,
    /// Where the policies were read from.
    pub policies_at: PoliciesAt,
    /// See [`FleetSpec::limits`].
    pub limits: Limits,
    /// See [`FleetSpec::mix`].
    pub mix: Mix,
    /// See [`FleetSpec::spot`].
    pub spot: Spot,
    /// See [`FleetSpec::drain`].
    pub drain: Drain,
    /// See [`FleetSpec::objective`].
    pub objective: Objective,
}

/// Where a fleet's policies stand, so that a problem points there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoliciesAt {
    /// In the fleet's own table, as `[[fleet.NAME.policy]]`.
    Inline,
    /// In a file of their own.
    File {
        /// The fleet's key that names the file.
        key: String,
        /// The file.
        file: String,
    },
}

/// Puts a fleet together: adds the standard signals its policies use, and
/// reports what does not make sense as a whole to `fields`, the fleet's table.
pub fn assemble(fields: &mut Fields<'_>, parts: FleetParts) -> Option<FleetSpec> {
    let mut sound = true;
    let signals = match resolve_signals(&parts.signals, &parts.policies) {
        Ok(signals) => signals,
        Err(faults) => {
            sound = false;
            report(fields, &parts, faults);
            parts.signals.clone()
        }
    };
    let faults = policy_faults(&parts.policies, &parts.limits);
    sound &= faults.is_empty();
    report(fields, &parts, faults);
    let spec = FleetSpec {
        name: parts.name,
        interval: parts.interval,
        offerings: parts.offerings,
        signals,
        policies: parts.policies,
        limits: parts.limits,
        mix: parts.mix,
        spot: parts.spot,
        drain: parts.drain,
        objective: parts.objective,
    };
    // A signal that is not known has no kind, so only a sound fleet is judged.
    for (key, message) in if sound {
        fleet_faults(&spec)
    } else {
        Vec::new()
    } {
        sound = false;
        let place = key.split('.').fold(fields.path().to_owned(), |path, key| {
            if path.is_empty() {
                key.to_owned()
            } else {
                format!("{path}.{key}")
            }
        });
        fields.problem_at(place, message);
    }
    sound.then_some(spec)
}

/// Reads a whole fleet whose policies stand in its own table: `interval`,
/// `[signals.NAME]`, `[[policy]]`, `[limits]`, `[mix]`, `[spot]`, `[drain]` and
/// `[objective]`.
pub fn read_fleet(
    fields: &mut Fields<'_>,
    name: &str,
    offerings: Vec<Offering>,
) -> Option<FleetSpec> {
    let interval = read_interval(fields);
    let signals = read_signals(fields);
    let policies = read_policies(fields);
    let limits = read_limits(fields);
    let mix = read_mix(fields);
    let spot = read_spot(fields);
    let drain = read_drain(fields);
    let objective = read_objective(fields);
    let parts = FleetParts {
        name: name.to_owned(),
        interval,
        offerings,
        signals,
        policies: policies?,
        policies_at: PoliciesAt::Inline,
        limits: limits?,
        mix,
        spot,
        drain,
        objective,
    };
    assemble(fields, parts)
}

fn report(fields: &mut Fields<'_>, parts: &FleetParts, faults: Vec<Fault>) {
    for Fault {
        policy,
        key,
        message,
    } in faults
    {
        match &parts.policies_at {
            PoliciesAt::Inline => {
                let path = format!("{}[{policy}].{key}", fields.path_of("policy"));
                fields.problem_at(path, message);
            }
            PoliciesAt::File {
                key: file_key,
                file,
            } => {
                let path = format!("policy[{policy}].{key}");
                fields.problem(file_key, format!("{file}: {path}: {message}"));
            }
        }
    }
}
