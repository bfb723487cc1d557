//! The whole configuration file, to fleets that are checked and complete.
//! `check` and `run` read it with the same code.
//!
//! Each provider's table is read in a file of its own.

pub mod asg;
pub mod ec2;
#[cfg(test)]
mod ec2_tests;
pub mod price;
pub mod process;
mod simulated;
mod tuning;
pub mod workers;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use windlass_policies::fields::{Document, Fields};
use windlass_policies::model::Offering;
use windlass_policies::policy::NamedPolicy;
use windlass_policies::policy_file;
use windlass_policies::presets;
use windlass_policies::problems::Problems;
use windlass_policies::signal::SignalSpec;
use windlass_policies::spec::{
    Drain, FleetParts, FleetSpec, PoliciesAt, assemble, override_signals, parse_fleet_name,
    read_drain, read_interval, read_limits, read_mix, read_objective, read_policies, read_spot,
};
use windlass_simulator::scenario::BUILT_IN;
use windlass_simulator::self_tuning::Own;

use crate::aws::settings::AwsSettings;
use crate::sources::{self, SignalSource};
pub use asg::AsgSettings;
pub use ec2::Ec2Settings;
pub use process::ProcessSettings;
pub use simulated::Simulated;
pub use tuning::{SelfTuning, TuningConfig};
pub use workers::WorkersSettings;

/// The configuration that is used when none is named: it runs as it stands.
pub const EXAMPLE: &str = include_str!("../config.example.toml");

/// Where the store is if the configuration does not say: beside it.
pub const STORE_PATH_DEFAULT: &str = "windlass.db";

const DAY: Duration = Duration::from_hours(24);

/// A month: long enough to look into what happened before the holidays.
const KEEP_DEFAULT: Duration = Duration::from_hours(30 * 24);

/// Everything a file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where history is written.
    pub store: StoreConfig,
    /// How AWS is reached, if anything is there.
    pub aws: AwsSettings,
    /// When and how records are replayed.
    pub tuning: TuningConfig,
    /// The file it was read from; `None` if it is built in.
    pub path: Option<PathBuf>,
    /// What is controlled, sorted by name; at least one.
    pub fleets: Vec<Fleet>,
}

/// Where history is written, and for how long it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The file.
    pub path: PathBuf,
    /// How long.
    pub keep: Duration,
}

/// One fleet and what owns its instances.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// What is read, who decides, what nothing passes.
    pub spec: FleetSpec,
    /// What owns the instances.
    pub provider: Provider,
    /// Where its signals are read, by name: all of them, or none if its
    /// provider has them.
    pub sources: BTreeMap<String, SignalSource>,
    /// What is done about a better policy.
    pub self_tuning: SelfTuning,
    /// Its policies as a policy file.
    pub own: Own,
    /// The policy file it names, if it names one that is not built in.
    pub policy_path: Option<PathBuf>,
}

impl Fleet {
    /// The key of each signal one of whose secrets cannot be looked up here and
    /// now, and why. No mistake in the file: it may be checked elsewhere than
    /// it is used, and a secret may come later. Until then the signal is absent.
    pub fn missing_secrets(&self) -> Vec<(String, String)> {
        let name = &self.spec.name;
        let of_each = self.sources.iter().flat_map(|(signal, source)| {
            let key = format!("fleet.{name}.signals.{signal}");
            let missing = source.missing_secrets().into_iter();
            missing.map(move |why| (key.clone(), why))
        });
        of_each.collect()
    }
}

/// What owns a fleet's instances.
#[derive(Clone, Debug, PartialEq)]
pub enum Provider {
    /// A cloud inside windlass.
    Simulated(Simulated),
    /// This machine, whose processes they are.
    Process(ProcessSettings),
    /// An existing Auto Scaling group.
    Asg(AsgSettings),
    /// EC2, where windlass launches and ends instances itself.
    Ec2(Ec2Settings),
}

impl Provider {
    /// What can be bought there; at least one.
    pub fn offerings(&self) -> Vec<Offering> {
        match self {
            Self::Simulated(simulated) => simulated.scenario.all_offerings(),
            Self::Process(settings) => vec![settings.offering()],
            Self::Asg(settings) => vec![settings.offering()],
            Self::Ec2(settings) => settings.offerings(),
        }
    }
}

/// The word for each provider, which its table is called after too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Simulated,
    Process,
    Asg,
    Ec2,
}

/// In the order in which they are listed to people.
const KINDS: [(&str, Kind); 4] = [
    ("simulated", Kind::Simulated),
    ("process", Kind::Process),
    ("asg", Kind::Asg),
    ("ec2", Kind::Ec2),
];

impl Kind {
    /// Reads the provider's own table.
    fn read(self, table: &mut Fields<'_>, folder: &Path, aws: &AwsSettings) -> Option<Provider> {
        match self {
            Self::Simulated => simulated::read(table, folder).map(Provider::Simulated),
            Self::Process => process::read(table, folder).map(Provider::Process),
            Self::Asg => asg::read(table, folder, aws).map(Provider::Asg),
            Self::Ec2 => ec2::read(table, folder, aws).map(Provider::Ec2),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Unread {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is wrong.
    #[error("{} is not right:\n{}", file, problems.in_file(file))]
    Wrong {
        /// Which file.
        file: String,
        /// All that is wrong with it.
        problems: Problems,
    },
}

impl Config {
    /// Reads the file at `path`, or the built-in example.
    ///
    /// # Errors
    /// Everything that is wrong with it, and with the files it names.
    pub fn open(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return Self::parse(EXAMPLE, Path::new("")).map_err(|problems| ConfigError::Wrong {
                file: "the built-in example".to_owned(),
                problems,
            });
        };
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Unread {
            path: path.to_owned(),
            source,
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let parsed = Self::parse(&text, folder).map_err(|problems| ConfigError::Wrong {
            file: path.display().to_string(),
            problems,
        })?;
        Ok(Self {
            path: Some(path.to_owned()),
            ..parsed
        })
    }

    /// Reads `text`, whose paths are relative to `folder`.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Problems> {
        Document::parse(text)?.read(|fields| {
            let store = fields.table_or_empty("store", |store| Some(read_store(store, folder)));
            let aws = AwsSettings::read(fields, folder);
            let tuning = fields.table_or_empty("self_tuning", tuning::read);
            let fleets =
                fields.named_tables("fleet", |name, fleet| read_fleet(fleet, name, folder, &aws));
            // A fleet that is there and wrong has been reported already.
            let none = match fields.raw("fleet") {
                None => Some("missing"),
                Some(toml::Value::Table(table)) if table.is_empty() => Some("empty"),
                Some(_) => None,
            };
            if let Some(what) = none {
                fields.problem(
                    "fleet",
                    format!("{what}; write at least one [fleet.NAME] table"),
                );
            }
            one_fleet_per_group(fields, &fleets);
            Some(Self {
                store: store?,
                aws,
                tuning: tuning?,
                path: None,
                fleets,
            })
        })
    }
}

impl Config {
    /// The Auto Scaling groups that fleets are in.
    pub fn group_names(&self) -> impl Iterator<Item = &str> {
        self.fleets
            .iter()
            .filter_map(|fleet| match &fleet.provider {
                Provider::Asg(settings) => Some(settings.group.as_str()),
                Provider::Simulated(_) | Provider::Process(_) | Provider::Ec2(_) => None,
            })
    }
}

/// Two fleets in one group would each take the other's instances for its own.
fn one_fleet_per_group(fields: &mut Fields<'_>, fleets: &[Fleet]) {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for fleet in fleets {
        let Provider::Asg(settings) = &fleet.provider else {
            continue;
        };
        if let Some(owner) = owners.insert(&settings.group, &fleet.spec.name) {
            fields.problem_at(
                format!("fleet.{}.asg.group", fleet.spec.name),
                format!(
                    "is the group of [fleet.{owner}] too; a group can be one fleet's only, so name \
                     another"
                ),
            );
        }
    }
}

fn read_store(store: &mut Fields<'_>, folder: &Path) -> StoreConfig {
    let path = store.or("path", STORE_PATH_DEFAULT.to_owned());
    if path.is_empty() {
        store.problem(
            "path",
            "is empty; write the name of a file, such as \"windlass.db\"",
        );
    }
    let bounds = Duration::from_hours(1)..=DAY * 3_650;
    let keep = store.or_within("keep", KEEP_DEFAULT, bounds);
    StoreConfig {
        path: folder.join(path),
        keep,
    }
}

fn read_fleet(
    fleet: &mut Fields<'_>,
    name: &str,
    folder: &Path,
    aws: &AwsSettings,
) -> Option<Fleet> {
    let named = parse_fleet_name(name);
    if let Err(message) = &named {
        fleet.problem_here(message);
    }
    let provider = read_provider(fleet, folder, aws);
    let interval = read_interval(fleet);
    let (declared, sources) = sources::read_signals(fleet, folder);
    let source = read_policy_source(fleet, &declared, folder);
    let limits = read_limits(fleet);
    let mix = read_mix(fleet);
    let spot = read_spot(fleet);
    let drain = read_drain(fleet);
    let objective = read_objective(fleet);
    let self_tuning = tuning::read_mode(fleet);
    let (provider, source) = (provider?, source?);
    refuse_endless_drains(fleet, &provider, drain);
    let parts = FleetParts {
        name: named.ok()?,
        interval,
        offerings: provider.offerings(),
        signals: source.signals,
        policies: source.policies,
        policies_at: source.at,
        limits: limits?,
        mix,
        spot,
        drain,
        objective,
    };
    let spec = assemble(fleet, parts);
    tuning::refuse_nothing_to_weigh(fleet, self_tuning, spec.as_ref());
    let sources = match (&provider, &spec) {
        (Provider::Simulated(_), _) => sources.for_simulated(fleet),
        (Provider::Process(_) | Provider::Asg(_) | Provider::Ec2(_), Some(spec)) => {
            sources.for_real(fleet, spec)
        }
        // Which signals it would have is not known.
        (Provider::Process(_) | Provider::Asg(_) | Provider::Ec2(_), None) => None,
    };
    Some(Fleet {
        spec: spec?,
        provider,
        sources: sources?,
        self_tuning,
        own: source.own,
        policy_path: source.path,
    })
}

/// A fleet whose workers are never heard of can only end an instance when its
/// drain deadline has passed.
fn refuse_endless_drains(fleet: &mut Fields<'_>, provider: &Provider, drain: Drain) {
    let silent = match provider {
        Provider::Ec2(settings) => settings.workers == WorkersSettings::None,
        Provider::Asg(settings) => settings.workers == WorkersSettings::None,
        Provider::Simulated(_) | Provider::Process(_) => false,
    };
    if silent && drain.deadline.is_none() {
        let path = format!("{}.deadline", fleet.path_of("drain"));
        fleet.problem_at(
            path,
            "missing; with workers = \"none\" nobody says that a worker is idle, so an instance is \
             only ever ended past its deadline",
        );
    }
}

/// What owns the instances. The table of another provider is a mistake; if the
/// provider is not known, every table that is there is looked at.
fn read_provider(fleet: &mut Fields<'_>, folder: &Path, aws: &AwsSettings) -> Option<Provider> {
    let kind = fleet.required_word("provider", &KINDS);
    let mut provider = None;
    for (word, of) in KINDS {
        if kind == Some(of) {
            provider = fleet.table_or_empty(word, |table| of.read(table, folder, aws));
        } else if kind.is_none() {
            let _looked_at = fleet.table(word, |table| of.read(table, folder, aws));
        } else if fleet.raw(word).is_some() {
            let message = format!("belongs to provider = \"{word}\"; remove it, or write that");
            fleet.problem(word, message);
        }
    }
    provider
}

/// A fleet's policies and signals, wherever they stand.
struct PolicySource {
    policies: Vec<NamedPolicy>,
    signals: Vec<SignalSpec>,
    at: PoliciesAt,
    own: Own,
    path: Option<PathBuf>,
}

fn read_policy_source(
    fleet: &mut Fields<'_>,
    declared: &[SignalSpec],
    folder: &Path,
) -> Option<PolicySource> {
    let Some(name) = fleet.optional::<String>("policy_file") else {
        if fleet.has("policy_file") {
            let _also_looked_at = fleet.raw("policy");
            return None;
        }
        let policies = read_policies(fleet)?;
        let signals = declared.to_vec();
        return Some(PolicySource {
            policies,
            signals,
            at: PoliciesAt::Inline,
            own: tuning::inline(fleet),
            path: None,
        });
    };
    if fleet.raw("policy").is_some() {
        fleet.problem(
            "policy_file",
            "the fleet has [[policy]] tables of its own too; keep one of the two",
        );
    }
    if name.is_empty() {
        fleet.problem(
            "policy_file",
            "is empty; write a policy file, or one that is built in, such as \"builtin:fixed\"",
        );
        return None;
    }
    let read = policy_text(&name, folder).and_then(|text| {
        let file = policy_file::read(&text).map_err(|problems| problems.in_file(&name));
        Ok((file?, text))
    });
    let (file, text) = match read {
        Ok(read) => read,
        Err(message) => {
            fleet.problem("policy_file", message);
            return None;
        }
    };
    match override_signals(&file.signals, declared) {
        Ok(signals) => Some(PolicySource {
            policies: file.policies,
            signals,
            own: Own {
                name: name.clone(),
                text,
            },
            path: (!name.starts_with(BUILT_IN)).then(|| folder.join(&name)),
            at: PoliciesAt::File {
                key: "policy_file".to_owned(),
                file: name,
            },
        }),
        Err((signal, message)) => {
            fleet.problem_at(format!("{}.{signal}", fleet.path_of("signals")), message);
            None
        }
    }
}

/// The text of the policy file `name`, relative to `folder`, or of
/// `builtin:PRESET`.
///
/// # Errors
/// Why it cannot be read.
pub fn policy_text(name: &str, folder: &Path) -> Result<String, String> {
    if let Some(preset) = name.strip_prefix(BUILT_IN) {
        return presets::text(preset).map(str::to_owned).ok_or_else(|| {
            let all = presets::all();
            let known = if preset.starts_with("peers/") {
                presets::peers()
            } else {
                all.as_slice()
            };
            let known: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            format!(
                "there is no built-in policy `{preset}`; there are {}",
                known.join(", ")
            )
        });
    }
    let path = folder.join(name);
    fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}
