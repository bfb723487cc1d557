//! `windlass replay`: decides recorded decisions again.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use windlass_policies::decide::decide;
use windlass_policies::model::Decision;
use windlass_policies::ports::{Decided, StoreError};
use windlass_policies::spec::FleetSpec;
use windlass_simulator::self_tuning::Following;

use super::text::counted;
use super::{Failure, config_of, fleets_asked, history_of, unreadable_store};
use crate::exit::Exit;
use crate::replay::{Replayed, replay_those};
use crate::store::History;

/// Decide all recorded decisions again: each must come out the same
#[derive(Debug, Args)]
#[command(
    long_about = "Decides all recorded decisions again: each must come out the same.\n\n\
        Every decision is recorded with all that it was made of. This feeds it to the rules once \
        more and shows the first that comes out otherwise, field by field. Decisions made under \
        another configuration of the fleet are counted, and not decided again. It reads the store \
        also while `windlass run` writes to it.",
    after_long_help = "Examples:\n  \
        windlass replay --config fleets.toml\n  \
        windlass replay --config fleets.toml --fleet web\n\n\
        Exit code 1 says that a decision came out otherwise: after an upgrade, that the rules \
        changed;\nwith the same version, that there is a bug."
)]
pub(super) struct Replay {
    /// The configuration whose store is read and whose fleets decide [default: the built-in example]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Only this fleet [default: all that have decisions]
    #[arg(long, value_name = "NAME")]
    fleet: Option<String>,
}

impl Replay {
    pub(super) fn obey(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let specs = specs_of(self.config.as_deref())?;
        let history = history_of(self.config.as_deref())?;
        let mut exit = Exit::Done;
        for fleet in fleets_asked(&history, self.fleet.as_deref())? {
            let name = &fleet.name;
            let Some(spec) = specs.get(name) else {
                let decisions = fleet.decisions;
                writeln!(
                    out,
                    "{name}: not in the configuration, so its {decisions} decisions are left alone"
                )?;
                continue;
            };
            let unreadable = |error| unreadable_store(&history, error);
            let specs = specs_in_force(&history, spec).map_err(unreadable)?;
            let again = |decided: &Decided| Some(redecide(specs.get(&decided.spec)?, decided));
            let replayed = replay_those(&history, name, again).map_err(unreadable)?;
            tell(out, name, &replayed)?;
            if replayed.different > 0 {
                exit = Exit::Failed;
            }
        }
        Ok(exit)
    }
}

/// The fleet as its file says, and as self-tuning ran it under that file, by
/// fingerprint.
fn specs_in_force(
    history: &History,
    spec: &FleetSpec,
) -> Result<BTreeMap<String, FleetSpec>, StoreError> {
    let base = spec.fingerprint();
    let followed = history.followed(&spec.name)?.into_iter();
    let under = followed.filter(|followed| followed.base == base);
    let under = under.filter_map(|followed| {
        let found = followed.found?;
        let since = followed.at;
        Some(Following { found, since }.spec(spec))
    });
    let all = std::iter::once(spec.clone()).chain(under);
    Ok(all.map(|spec| (spec.fingerprint(), spec)).collect())
}

/// What `spec` decides today, given all that the recorded decision was made of.
fn redecide(spec: &FleetSpec, decided: &Decided) -> Decision {
    decide(spec, &decided.memory, &decided.seen)
}

/// The fleets of the configuration at `config`, by name.
fn specs_of(config: Option<&Path>) -> Result<BTreeMap<String, FleetSpec>, Failure> {
    let fleets = config_of(config)?.fleets.into_iter();
    Ok(fleets
        .map(|fleet| (fleet.spec.name.clone(), fleet.spec))
        .collect())
}

fn tell(out: &mut dyn Write, fleet: &str, replayed: &Replayed) -> std::io::Result<()> {
    let Replayed {
        same,
        different,
        elsewhere,
        first,
    } = replayed;
    let decided = usize::try_from(same.saturating_add(*different)).unwrap_or(usize::MAX);
    let decisions = counted(decided, "decision");
    match different {
        0 => writeln!(out, "{fleet}: {decisions}, all the same again")?,
        _ => writeln!(
            out,
            "{fleet}: {decisions}, {same} the same again, {different} not"
        )?,
    }
    if *elsewhere > 0 {
        writeln!(
            out,
            "  {elsewhere} more, made under another configuration, were left alone"
        )?;
    }
    if let Some(first) = first {
        writeln!(
            out,
            "  the first that differs is cycle {}, {}:",
            first.cycle, first.at
        )?;
        for field in &first.fields {
            writeln!(out, "    {field}")?;
        }
    }
    Ok(())
}
