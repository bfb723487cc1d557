//! Who is tried: the policy in force, that of the fleet's file, and the presets
//! and peers that need no reading the fleet has not.

use windlass_policies::knobs::Tunable;
use windlass_policies::policy::{Economic, NamedPolicy, Policy as Rule, economic::Worth};
use windlass_policies::policy_file;
use windlass_policies::presets;
use windlass_policies::signal::{SignalSpec, standard};
use windlass_policies::spec::{FleetSpec, policy_faults};
use windlass_policies::units::MicroUsdPerHour;

use super::{Following, Found};
use crate::tune::Places;

/// The policy of a fleet's own file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// What it is called.
    pub name: String,
    /// The file, or what stands in its place in the fleet's table.
    pub text: String,
}

/// One that is tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// What it is called.
    pub name: String,
    /// Whether it is that of the fleet's own file.
    pub own: bool,
    text: String,
    tunable: Tunable,
}

impl Policy {
    fn read(name: &str, text: &str, own: bool) -> Option<Self> {
        Some(Self {
            name: name.to_owned(),
            own,
            text: text.to_owned(),
            tunable: Tunable::read(text).ok()?,
        })
    }

    /// How many knobs it has.
    pub(super) fn dials(&self) -> usize {
        self.tunable.dials()
    }

    /// The fleet of `spec` under it with its knobs at `places`; `None` if that
    /// makes no policy for this fleet.
    pub(super) fn spec(&self, spec: &FleetSpec, places: &Places) -> Option<FleetSpec> {
        let (file, _) = self.tunable.turned(places, spec.limits.max)?;
        let sound = policy_faults(&file.policies, &spec.limits).is_empty();
        sound.then(|| FleetSpec {
            policies: file.policies,
            ..spec.clone()
        })
    }

    /// How far `places` are from its file.
    pub(super) fn distance(&self, spec: &FleetSpec, places: &Places) -> (usize, f64) {
        self.tunable.distance(places, spec.limits.max)
    }

    /// The same as it is told, and as it can be used.
    pub(super) fn found(&self, spec: &FleetSpec, places: &Places) -> Option<Found> {
        let (text, changes) = self
            .tunable
            .rewritten(&self.text, places, spec.limits.max)?;
        let turned = changes
            .iter()
            .map(|change| format!("{} = {}", change.knob, change.to));
        Some(Found {
            name: self.name.clone(),
            turned: turned.collect(),
            policies: policy_file::read(&text).ok()?.policies,
            own: self.own && places.iter().all(Option::is_none),
            text,
        })
    }
}

/// All that are tried, the one in force first.
///
/// # Errors
/// Why the fleet of `spec` cannot be replayed under its own policy, or there is
/// nothing to weigh.
pub(super) fn field(
    spec: &FleetSpec,
    own: &Own,
    following: Option<&Following>,
) -> Result<Vec<Policy>, String> {
    weighable(spec)?;
    if let Some(why) = spec.policies.iter().find_map(|one| unreplayable(one, spec)) {
        return Err(why);
    }
    let read = Policy::read(&own.name, &own.text, true);
    let mut field = vec![read.ok_or("its policy file can no longer be read")?];
    if let Some(following) = following {
        // What has a name is not of the fleet's own file, or it is turned there.
        let found = &following.found;
        let read = Policy::read(&found.name, &found.text, false);
        field.insert(0, read.ok_or("what is followed can no longer be read")?);
    }
    for (name, text) in presets::all().iter().chain(presets::peers()) {
        // Its examples are of the preset as it stands; they come last.
        let text = text.split("\n[[case]]").next().unwrap_or(text);
        let Some(policy) = Policy::read(name, text, false) else {
            continue;
        };
        let Some(own) = policy.spec(spec, &vec![None; policy.dials()]) else {
            continue;
        };
        let fits = own
            .policies
            .iter()
            .all(|one| unreplayable(one, spec).is_none());
        // A clock without this fleet's hours is nobody's peer.
        let by_clock = |one: &NamedPolicy| matches!(one.policy, Rule::Schedule(_));
        let known = field.iter().any(|known| known.text == policy.text);
        if fits && !known && !own.policies.iter().any(by_clock) {
            field.push(policy);
        }
    }
    Ok(field)
}

/// Whether there is something to weigh against something.
fn weighable(spec: &FleetSpec) -> Result<(), String> {
    let name = &spec.name;
    if spec.objective.usd_per_job_hour_waiting == MicroUsdPerHour::ZERO {
        return Err(format!(
            "waiting costs nothing here, so no policy is better than another: set \
             fleet.{name}.objective.usd_per_job_hour_waiting"
        ));
    }
    let free = |price: MicroUsdPerHour| price == MicroUsdPerHour::ZERO;
    if spec.offerings.iter().all(|offering| free(offering.price)) {
        return Err(
            "instances cost nothing here, so the best policy is to have all of them all the time"
                .to_owned(),
        );
    }
    Ok(())
}

/// Why `policy` cannot be replayed for the fleet of `spec`, if it cannot.
fn unreplayable(policy: &NamedPolicy, spec: &FleetSpec) -> Option<String> {
    if let Rule::Economic(Economic {
        worth: Worth::P95(_),
        ..
    }) = policy.policy
    {
        return Some(format!(
            "the policy {} keeps a promise (p95_wait), which is not weighed in dollars",
            policy.name
        ));
    }
    policy.policy.demands().iter().find_map(|demand| {
        let name = demand.signal;
        let Some(read) = spec.signals.iter().find(|signal| signal.name == name) else {
            return Some(format!("it needs the signal `{name}`, which is not read"));
        };
        let standard = SignalSpec::standard(name).filter(|standard| standard.kind == read.kind);
        if standard.is_none() || !standard::ALL.contains(&name) {
            return Some(format!(
                "the policy {} needs the signal `{name}`, which a replay cannot make: it knows the \
                 standard signals alone",
                policy.name
            ));
        }
        None
    })
}
