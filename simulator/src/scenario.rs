//! Scenario files: everything about the world and nothing about the policy.

mod market;
mod prices;
mod work;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use windlass_policies::fields::{Document, Fields};
use windlass_policies::model::{Billing, Market, Offering};
use windlass_policies::policy::NamedPolicy;
use windlass_policies::problems::Problems;
use windlass_policies::signal::{SignalSpec, standard};
use windlass_policies::spec::{
    Drain, FleetSpec, Limits, Mix, Objective, Spot, read_mix, read_objective, read_spot,
};
use windlass_policies::units::{MicroUsdPerHour, Timestamp, micros_of};

use crate::distribution::{Distribution, Refusal};
use crate::embedded;
use crate::queue::{Keep, LatencyCurve, QueueSpec, ServerSpec};
use crate::random::Stream;
use crate::trace::{self, ReadOptions, Trace, TraceError, TraceKind};
use crate::workload::flow::{Choice, Flow, FlowError};
use crate::workload::{self, ClassWork, Workload, WorkloadError, WorkloadSpec};
use crate::world::cloud::{CloudSpec, FaultSpec, WarmPoolSpec};
use crate::world::{BootTimes, World, WorldError, WorldSpec};

pub use market::ScenarioOffering;
pub use work::ClassSpec;

/// The name of the one fleet and of the one offering of a scenario.
pub const FLEET: &str = "simulated";

/// In front of the name of a scenario that is part of the program.
pub const BUILT_IN: &str = "builtin:";

/// The scenarios that are part of the program: name and text.
pub const BUILT_IN_SCENARIOS: [(&str, &str); 4] = [
    ("web-week", include_str!("../scenarios/web-week.toml")),
    ("call-centre", include_str!("../scenarios/call-centre.toml")),
    ("ci-bursts", include_str!("../scenarios/ci-bursts.toml")),
    (
        "supercomputer",
        include_str!("../scenarios/supercomputer.toml"),
    ),
];

/// The longest interval, lag and period: a day.
const DAY: Duration = Duration::from_hours(24);

/// A world, as a file describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its file name without `.toml`.
    pub name: String,
    /// Where its trace is.
    pub trace: TraceFile,
    /// What time it is at the trace's zero; 1970 if not stated.
    pub begins_at: Timestamp,
    /// How the trace becomes jobs.
    pub workload: WorkloadSpec,
    /// The cloud.
    pub cloud: Cloud,
    /// Time between two cycles.
    pub interval: Duration,
    /// Instances that are ready at the beginning.
    pub initial: u32,
    /// Fewest instances.
    pub min: u32,
    /// Most instances.
    pub max: u32,
    /// How much of the fleet must be on demand.
    pub mix: Mix,
    /// What is done about spot instances.
    pub spot: Spot,
    /// What waiting is worth.
    pub objective: Objective,
    /// What everything random is drawn from.
    pub seed: u64,
    /// What can be launched, if it is not the one thing that `cloud` tells of.
    pub offerings: Vec<ScenarioOffering>,
    /// What goes wrong in the cloud.
    pub faults: FaultSpec,
    /// Instances that are kept stopped.
    pub warm_pool: Option<WarmPoolSpec>,
    /// Kinds of jobs.
    pub classes: Vec<ClassSpec>,
    /// How many malformed lines of each trace are passed over.
    pub skip_bad: u64,
    /// How sessions that share an instance slow one another down; without it an
    /// instance works on its jobs one in each slot.
    pub sharing: Option<LatencyCurve>,
}

/// Where a trace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceFile {
    /// A file.
    Path(PathBuf),
    /// Part of the program, by file name.
    Embedded(String),
}

/// What instances cost, how they come up and how late news of them is.
#[derive(Clone, Debug, PartialEq)]
pub struct Cloud {
    /// Time from a launch to the first job taken.
    pub boot: Distribution,
    /// What an instance costs.
    pub price: MicroUsdPerHour,
    /// How it is charged.
    pub billing: Billing,
    /// How old the instances in a listing are.
    pub listing_lag: Duration,
    /// Metrics are sampled at the multiples of it; zero samples at every read.
    pub metric_period: Duration,
    /// How long a sample takes until it can be read.
    pub metric_lag: Duration,
}

/// Why there is no such scenario, or no run of it.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read the scenario {file}")]
    Unread {
        /// Which file.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is no such built-in scenario.
    #[error("there is no built-in scenario `{name}`; there are {known}")]
    NoSuch {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The file is wrong.
    #[error("{}", problems.in_file(file))]
    Wrong {
        /// Which file.
        file: String,
        /// All that is wrong with it.
        problems: Problems,
    },
    /// Its trace cannot be used.
    #[error("the scenario {scenario} has no usable trace")]
    Trace {
        /// Which scenario.
        scenario: String,
        /// Why.
        #[source]
        source: TraceError,
    },
    /// Its trace does not become jobs.
    #[error("the scenario {scenario} has no usable workload")]
    Workload {
        /// Which scenario.
        scenario: String,
        /// Why.
        #[source]
        source: WorkloadError,
    },
    /// There is no such world.
    #[error("the scenario {scenario} makes no world")]
    World {
        /// Which scenario.
        scenario: String,
        /// Why.
        #[source]
        source: WorldError,
    },
}

impl Scenario {
    /// Reads `name`: a file, or `builtin:NAME`.
    ///
    /// # Errors
    /// [`ScenarioError::Unread`], [`ScenarioError::NoSuch`] or
    /// [`ScenarioError::Wrong`]. The trace is not opened yet.
    pub fn open(name: &str) -> Result<Self, ScenarioError> {
        match name.strip_prefix(BUILT_IN) {
            Some(built_in) => Self::open_built_in(built_in),
            None => Self::open_file(Path::new(name)),
        }
    }

    /// Reads the scenario in `path`.
    ///
    /// # Errors
    /// [`ScenarioError::Unread`] or [`ScenarioError::Wrong`].
    pub fn open_file(path: &Path) -> Result<Self, ScenarioError> {
        let file = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|source| ScenarioError::Unread {
            file: file.clone(),
            source,
        })?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let name = path
            .file_stem()
            .map_or(file.clone(), |stem| stem.to_string_lossy().into());
        Self::parse(&name, &text, |trace| TraceFile::Path(folder.join(trace)))
            .map_err(|problems| ScenarioError::Wrong { file, problems })
    }

    fn open_built_in(name: &str) -> Result<Self, ScenarioError> {
        let Some((_, text)) = BUILT_IN_SCENARIOS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = BUILT_IN_SCENARIOS.iter().map(|(name, _)| *name).collect();
            return Err(ScenarioError::NoSuch {
                name: name.to_owned(),
                known: known.join(", "),
            });
        };
        let embedded = |trace: &str| {
            let file = trace.rsplit('/').next().unwrap_or(trace);
            TraceFile::Embedded(file.to_owned())
        };
        Self::parse(name, text, embedded).map_err(|problems| ScenarioError::Wrong {
            file: format!("{BUILT_IN}{name}"),
            problems,
        })
    }

    /// Reads the scenario `name` from `text`; `place` says where the trace of
    /// a name is.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(
        name: &str,
        text: &str,
        place: impl Fn(&str) -> TraceFile,
    ) -> Result<Self, Problems> {
        Document::parse(text)?.read(|fields| {
            let work = fields.table_or_empty("workload", |fields| read_workload(fields, &place));
            let slots = work.as_ref().map_or(1, |work| work.spec.slots_per_instance);
            let file = |name: &str| match place(name) {
                TraceFile::Path(path) => Some(path),
                TraceFile::Embedded(_) => None,
            };
            let cloud = fields.table_or_empty("cloud", |fields| read_cloud(fields, slots, &file));
            let fleet = fields.table_or_empty("fleet", read_fleet);
            let objective = read_objective(fields);
            let seed = fields
                .table_or_empty("run", |fields| Some(fields.or("seed", 1_u64)))
                .unwrap_or(1);
            let (work, cloud, fleet) = (work?, cloud?, fleet?);
            Some(Self {
                name: name.to_owned(),
                trace: place(&work.trace),
                skip_bad: work.skip_bad,
                begins_at: work.begins_at,
                workload: work.spec,
                cloud: cloud.plain,
                offerings: cloud.offerings,
                faults: cloud.faults,
                warm_pool: cloud.warm_pool,
                classes: work.classes,
                sharing: work.sharing,
                interval: fleet.interval,
                initial: fleet.initial,
                min: fleet.min,
                max: fleet.max,
                mix: fleet.mix,
                spot: fleet.spot,
                objective,
                seed,
            })
        })
    }

    /// The file name of the trace.
    pub fn trace_name(&self) -> String {
        match &self.trace {
            TraceFile::Path(path) => path
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into()),
            TraceFile::Embedded(name) => name.clone(),
        }
    }

    /// Reads the trace.
    ///
    /// # Errors
    /// [`ScenarioError::Trace`].
    pub fn read_trace(&self) -> Result<Trace, ScenarioError> {
        self.read_one(&self.trace)
    }

    /// How its traces are to be read.
    pub fn read_options(&self) -> ReadOptions {
        ReadOptions {
            skip_bad: self.skip_bad,
            ..ReadOptions::default()
        }
    }

    fn read_one(&self, file: &TraceFile) -> Result<Trace, ScenarioError> {
        let read = match file {
            TraceFile::Path(path) => trace::read_with(path, &self.read_options()),
            TraceFile::Embedded(name) => {
                trace::read_bytes(name, embedded::open(name).unwrap_or_default())
            }
        };
        read.map_err(|source| ScenarioError::Trace {
            scenario: self.name.clone(),
            source,
        })
    }

    /// Reads the traces that classes have of their own: one place for each class.
    ///
    /// # Errors
    /// [`ScenarioError::Trace`].
    pub fn read_class_traces(&self) -> Result<Vec<Option<Trace>>, ScenarioError> {
        let own = |class: &ClassSpec| class.trace.as_ref().map(|file| self.read_one(file));
        self.classes
            .iter()
            .map(|class| own(class).transpose())
            .collect()
    }

    /// Turns the trace, and those of the classes, into jobs.
    ///
    /// # Errors
    /// [`ScenarioError::Workload`], or [`ScenarioError::Trace`] for a class.
    pub fn build_workload(&self, trace: &Trace) -> Result<Workload, ScenarioError> {
        self.build_workload_of(trace, &self.read_class_traces()?)
    }

    /// The same of traces that are read already: that of the scenario, and
    /// those of [`Scenario::read_class_traces`].
    ///
    /// # Errors
    /// [`ScenarioError::Workload`].
    pub fn build_workload_of(
        &self,
        trace: &Trace,
        class_traces: &[Option<Trace>],
    ) -> Result<Workload, ScenarioError> {
        let classes = self.classes.iter().zip(class_traces);
        let classes: Vec<ClassWork<'_>> = classes
            .map(|(class, trace)| ClassWork {
                name: &class.name,
                priority: class.priority,
                service: class.service,
                own: trace.as_ref().map(|trace| (trace, class.busy_mean)),
            })
            .collect();
        let built = if classes.is_empty() {
            workload::build(trace, &self.workload, self.seed)
        } else {
            workload::build_classed(trace, &self.workload, &classes, self.seed)
        };
        built.map_err(|source| ScenarioError::Workload {
            scenario: self.name.clone(),
            source,
        })
    }

    /// What waiting costs in each class that has a price of its own.
    pub fn class_prices(&self) -> BTreeMap<String, MicroUsdPerHour> {
        let priced = |class: &ClassSpec| Some((class.name.clone(), class.price?));
        self.classes.iter().filter_map(priced).collect()
    }

    /// What time it is when the world begins: at the start of the window.
    pub fn world_begins_at(&self) -> Timestamp {
        self.begins_at + Duration::from_micros(self.workload.start_micros)
    }

    /// A world of this scenario at its beginning, for the fleet called `fleet`.
    /// With `repeats` the jobs come again and again.
    ///
    /// # Errors
    /// [`ScenarioError::World`].
    pub fn world(
        &self,
        fleet: &str,
        workload: &Workload,
        signals: &[SignalSpec],
        repeats: bool,
    ) -> Result<World, ScenarioError> {
        self.build_world(self.world_spec(fleet, workload, signals, repeats))
    }

    /// What [`Scenario::world`] is like, to change something about it.
    pub fn world_spec(
        &self,
        fleet: &str,
        workload: &Workload,
        signals: &[SignalSpec],
        repeats: bool,
    ) -> WorldSpec {
        let queue = QueueSpec {
            jobs: Arc::clone(&workload.jobs),
            repeat_every: repeats.then_some(workload.length_micros),
            keep: if repeats { Keep::Sums } else { Keep::EveryWait },
            responses: signals
                .iter()
                .any(|signal| signal.name == standard::LATENCY_P95),
        };
        WorldSpec {
            fleet: fleet.to_owned(),
            begins_at: self.world_begins_at(),
            offerings: self.all_offerings(),
            initial: self.initial,
            listing_lag: self.cloud.listing_lag,
            metric_period: self.cloud.metric_period,
            metric_lag: self.cloud.metric_lag,
            queue,
            server: self.server(workload),
            cloud: CloudSpec {
                seed: self.seed,
                pools: self.offerings.iter().map(|one| one.pool.clone()).collect(),
                faults: self.faults,
                warm_pool: self.warm_pool,
            },
        }
    }

    /// The world of `spec` at its beginning, with the boots of this scenario.
    ///
    /// # Errors
    /// [`ScenarioError::World`].
    pub fn build_world(&self, spec: WorldSpec) -> Result<World, ScenarioError> {
        World::new(spec, self.boot_times()).map_err(|source| ScenarioError::World {
            scenario: self.name.clone(),
            source,
        })
    }

    /// How the load is best had: all at once or, if that gives the same but for
    /// quantiles within 1 in 256, piece by piece.
    ///
    /// # Errors
    /// [`ScenarioError::Trace`] and [`ScenarioError::Workload`], as far as the
    /// trace is read for it.
    pub fn choose_flow(&self) -> Result<Choice, ScenarioError> {
        let TraceFile::Path(path) = &self.trace else {
            return Ok(Choice::Short);
        };
        // Not even to look at: what a pipe gave is gone.
        if path.exists() && !path.is_file() {
            return Ok(Choice::Whole("it can be read only once"));
        }
        if !self.classes.is_empty() {
            return Ok(Choice::Whole("its jobs have classes"));
        }
        if self.sharing.is_some() {
            return Ok(Choice::Whole("its sessions share their servers"));
        }
        let (spec, seed, options) = (&self.workload, self.seed, self.read_options());
        let chosen = match Flow::of_jobs(path, &options, spec, seed) {
            // Rates are short; only the jobs that come of them may be many.
            Ok(Choice::Whole(why)) => {
                match trace::read_with(path, &options).map_err(FlowError::from) {
                    Ok(rates) if matches!(rates.kind(), TraceKind::Rate { .. }) => {
                        Flow::of_rates(&Arc::new(rates), spec, seed)
                    }
                    Ok(_) => Ok(Choice::Whole(why)),
                    Err(error) => Err(error),
                }
            }
            other => other,
        };
        chosen.map_err(|error| self.flow_error(error))
    }

    /// What went wrong with a flow of this scenario.
    pub fn flow_error(&self, error: FlowError) -> ScenarioError {
        let scenario = self.name.clone();
        match error {
            FlowError::Trace(source) => ScenarioError::Trace { scenario, source },
            FlowError::Workload(source) => ScenarioError::Workload { scenario, source },
        }
    }

    /// A world of this scenario at its beginning that is to be fed its jobs.
    ///
    /// # Errors
    /// [`ScenarioError::World`].
    pub fn flowing_world(
        &self,
        fleet: &str,
        signals: &[SignalSpec],
    ) -> Result<World, ScenarioError> {
        let none = Workload {
            jobs: Arc::default(),
            length_micros: 0,
            classes: None,
        };
        let mut spec = self.world_spec(fleet, &none, signals, false);
        spec.queue.keep = Keep::Histogram;
        self.build_world(spec)
    }

    fn server(&self, workload: &Workload) -> ServerSpec {
        let speed = |one: &ScenarioOffering| one.pool.throughput_percent != 100;
        ServerSpec {
            classes: workload.classes.clone(),
            sharing: self.sharing.clone(),
            speeds: self.offerings.iter().any(speed),
            slow: false,
            journal: false,
        }
    }

    /// A short name for exactly this world: FNV-1a of all that makes it, in
    /// hex. Where its trace lies is no part of it, but the trace's name is.
    pub fn fingerprint(&self) -> String {
        let told = format!(
            "{} {:?} {:?} {:?} {} {}",
            self.trace_name(),
            self.begins_at,
            self.workload,
            self.cloud,
            self.initial,
            self.seed
        );
        let hash = (told + &self.told_of_more())
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        format!("{hash:016x}")
    }

    /// What a world has beyond the plain one; empty for a plain one, whose name
    /// so stays what it was before there was more.
    fn told_of_more(&self) -> String {
        let plain = self.offerings.is_empty()
            && self.faults == FaultSpec::default()
            && self.warm_pool.is_none()
            && self.classes.is_empty()
            && self.sharing.is_none();
        if plain {
            return String::new();
        }
        format!(
            " {:?} {:?} {:?} {:?} {:?}",
            self.offerings, self.faults, self.warm_pool, self.classes, self.sharing
        )
    }

    /// What can be launched; at least one.
    pub fn all_offerings(&self) -> Vec<Offering> {
        if self.offerings.is_empty() {
            return vec![self.offering()];
        }
        let each = self.offerings.iter();
        each.map(|one| one.offering.clone()).collect()
    }

    /// The one thing that can be launched if the scenario names no offerings.
    fn offering(&self) -> Offering {
        Offering {
            name: FLEET.to_owned(),
            price: self.cloud.price,
            billing: self.cloud.billing,
            slots: self.workload.slots_per_instance,
            market: Market::OnDemand,
            prepaid: 0,
        }
    }

    /// The fleet of this scenario under `policies`, with limits that do not
    /// bind beyond the scenario's `min` and `max`: the world judges the policy,
    /// not somebody's settle times.
    pub fn fleet_spec(&self, policies: Vec<NamedPolicy>, signals: Vec<SignalSpec>) -> FleetSpec {
        let mut limits = Limits::unbound(self.min, self.max);
        // A world that lists late is no reason to give a launch up.
        limits.listing_patience = limits
            .listing_patience
            .max(self.cloud.listing_lag + self.interval);
        FleetSpec {
            name: FLEET.to_owned(),
            interval: self.interval,
            offerings: self.all_offerings(),
            signals,
            policies,
            limits,
            mix: self.mix,
            spot: self.spot,
            drain: Drain::default(),
            objective: self.objective,
        }
    }

    fn boot_times(&self) -> BootTimes {
        let boot = self.cloud.boot;
        let mut stream = Stream::new(self.seed, "boot");
        Box::new(move || Some(boot.sample_micros(&mut stream)))
    }
}

struct Work {
    trace: String,
    skip_bad: u64,
    begins_at: Timestamp,
    spec: WorkloadSpec,
    classes: Vec<ClassSpec>,
    sharing: Option<LatencyCurve>,
}

fn read_workload(fields: &mut Fields<'_>, place: &impl Fn(&str) -> TraceFile) -> Option<Work> {
    let trace = fields.required::<String>("trace", "the path of a trace, relative to this file");
    if trace.as_ref().is_some_and(String::is_empty) {
        fields.problem("trace", "is empty; write the path of a trace");
    }
    let skip_bad = fields.or("skip_bad", 0_u64);
    let begins_at = fields.or("begins_at", Timestamp::EPOCH);
    let start = fields.or("start", Duration::ZERO);
    let length = fields.optional::<Duration>("length");
    if length == Some(Duration::ZERO) {
        fields.problem(
            "length",
            "nothing happens in no time; write a duration such as \"2d\"",
        );
    }
    let service = fields.table("service", read_distribution);
    let busy_mean = fields.optional::<f64>("busy_mean");
    if busy_mean.is_some_and(|busy| !(busy > 0.0 && busy.is_finite())) {
        fields.problem(
            "busy_mean",
            "write a number of busy slots above 0, such as 20.0",
        );
    }
    let slots_per_instance = fields.or_within("slots_per_instance", 1, 1..=1_000);
    let classes = work::read_classes(fields, place);
    let sharing = work::read_server(fields);
    Some(Work {
        classes,
        sharing,
        trace: trace?,
        skip_bad,
        begins_at,
        spec: WorkloadSpec {
            start_micros: micros_of(start),
            length_micros: length.map(micros_of),
            service,
            busy_mean,
            slots_per_instance,
        },
    })
}

struct WholeCloud {
    plain: Cloud,
    offerings: Vec<ScenarioOffering>,
    faults: FaultSpec,
    warm_pool: Option<WarmPoolSpec>,
}

fn read_cloud(fields: &mut Fields<'_>, slots: u32, place: market::Place<'_>) -> Option<WholeCloud> {
    let seconds = |secs| Duration::from_secs(secs);
    let boot = if fields.has("boot") {
        fields.table("boot", read_distribution)
    } else {
        fields.required::<String>("boot", "a distribution such as { distribution = \"lognormal\", median = \"90s\", p99 = \"180s\" }");
        None
    };
    let price = if fields.has("offering") {
        if fields.has("usd_per_hour") {
            fields.problem(
                "usd_per_hour",
                "remove it: each [[cloud.offering]] has its own",
            );
        }
        fields.raw("usd_per_hour");
        Some(MicroUsdPerHour::default())
    } else {
        fields.required::<MicroUsdPerHour>("usd_per_hour", "the price of an instance, such as 0.17")
    };
    let increment = fields.or_within("billing_increment", seconds(1), seconds(1)..=DAY);
    let minimum = fields.or_within("billing_minimum", seconds(60), Duration::ZERO..=DAY);
    let listing_lag = fields.or_within("listing_lag", seconds(5), Duration::ZERO..=DAY);
    let metric_period = fields.or_within("metric_period", seconds(60), Duration::ZERO..=DAY);
    let metric_lag = fields.or_within("metric_lag", seconds(60), Duration::ZERO..=DAY);
    let billing = Billing { increment, minimum };
    let offerings = market::read_offerings(fields, market::Common { billing, slots }, place);
    let faults = fields.table_or_empty("faults", |fields| Some(market::read_faults(fields)));
    let warm_pool = fields.table("warm_pool", |fields| {
        market::read_warm_pool(fields, &offerings, boot)
    });
    Some(WholeCloud {
        plain: Cloud {
            boot: boot?,
            price: price?,
            billing,
            listing_lag,
            metric_period,
            metric_lag,
        },
        offerings,
        faults: faults?,
        warm_pool,
    })
}

struct FleetKeys {
    interval: Duration,
    initial: u32,
    min: u32,
    max: u32,
    mix: Mix,
    spot: Spot,
}

fn read_fleet(fields: &mut Fields<'_>) -> Option<FleetKeys> {
    let minute = Duration::from_mins(1);
    let interval = fields.or_within("interval", minute, Duration::from_secs(1)..=DAY);
    let initial = fields.or("initial", 1_u32);
    let min = fields.or("min", 0_u32);
    let (mix, spot) = (read_mix(fields), read_spot(fields));
    let max = fields.required_within("max", "the most instances", 1..=100_000_u32)?;
    if min > max {
        fields.problem("min", format!("{min} is above max ({max})"));
    }
    if initial > max {
        fields.problem("initial", format!("{initial} is above max ({max})"));
    }
    Some(FleetKeys {
        interval,
        initial,
        min,
        max,
        mix,
        spot,
    })
}

/// `{ distribution = "lognormal", mean = "30s", cv = 1.0 }` and its kin.
pub(crate) fn read_distribution(fields: &mut Fields<'_>) -> Option<Distribution> {
    #[derive(Clone, Copy)]
    enum Shape {
        Constant,
        Exponential,
        Lognormal,
    }
    let shape = fields.required_word(
        "distribution",
        &[
            ("constant", Shape::Constant),
            ("exponential", Shape::Exponential),
            ("lognormal", Shape::Lognormal),
        ],
    )?;
    // The mean and the median of a constant are that constant.
    let constant = ["mean", "median"]
        .into_iter()
        .find(|key| fields.has(key))
        .unwrap_or("value");
    let made = match shape {
        Shape::Constant => {
            Distribution::constant(fields.required(constant, "how long, such as \"30s\"")?)
        }
        Shape::Exponential => {
            Distribution::exponential(fields.required("mean", "the mean, such as \"30s\"")?)
        }
        Shape::Lognormal if fields.has("median") || fields.has("p99") => {
            let median = fields.required("median", "the median, such as \"90s\"");
            let p99 = fields.required("p99", "the 99th percentile, such as \"180s\"");
            Distribution::lognormal_of_quantiles(median?, p99?)
        }
        Shape::Lognormal => {
            let mean = fields.required("mean", "the mean, such as \"30s\" (or median and p99)");
            let cv = fields.required("cv", "standard deviation over mean, such as 1.0");
            Distribution::lognormal(mean?, cv?)
        }
    };
    let refused = |refusal: Refusal| {
        // The value of a constant goes by several names.
        let key = if fields.has(refusal.key) {
            refusal.key
        } else {
            constant
        };
        fields.problem(key, refusal.why);
    };
    made.map_err(refused).ok()
}
