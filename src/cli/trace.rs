//! `windlass trace`: looks at recorded loads and makes others of them.

mod picture;
mod recorded;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use windlass_policies::fields::parse_duration;
use windlass_policies::units::micros_of;
use windlass_simulator::trace::describe::{Description, describe};
use windlass_simulator::trace::write::{OutFormat, WriteError, write_file};
use windlass_simulator::trace::{
    self, ReadOptions, Skipped, Trace, TraceError, TraceFormat, TraceKind, Values, reshape,
    synthetic,
};
use windlass_simulator::workload;

use super::Failure;
use super::text::{counted, number, span};
use crate::exit::Exit;

/// Look at recorded loads, convert, cut, scale and make them
#[derive(Debug, Args)]
#[command(
    long_about = "Looks at recorded loads, converts, cuts and scales them, and makes others.\n\n\
        FILE may be, each plain or gzipped:\n  \
          *.rate.csv, *.jobs.csv  header t_s,count or arrival_s,service_s[,class]\n  \
          *.wtrace                the cache that `windlass trace convert` writes\n  \
          *.swf                   the Standard Workload Format\n  \
          *.jsonl, *.ndjson       objects with arrival_s (or arrival, an RFC 3339 time), service_s\n                          \
                                  and class, or with t_s and count\n  \
          *.parquet               columns of the same names\n  \
          *.json                  the output of `aws cloudwatch get-metric-data`, or of the\n                          \
                                  query_range of Prometheus\n  \
          *.log, *access_log*     access logs in the Common Log Format\n  \
          *.db                    a store of windlass: what production recorded (see --fleet)\n\n\
        Where the name tells nothing the beginning does; - is standard input.\n\
        OUT ends in .rate.csv, .jobs.csv or .wtrace, perhaps followed by .gz.",
    after_long_help = "Examples:\n  \
        windlass trace inspect july.rate.csv.gz\n  \
        windlass trace convert access.log.gz july.rate.csv.gz --step 1m\n  \
        windlass trace convert windlass.db web.rate.csv --fleet web\n  \
        windlass trace cut july.rate.csv.gz week.rate.csv.gz --start 3d --length 7d\n  \
        windlass trace scale week.rate.csv.gz big.rate.csv.gz --factor 12.5 --seed 1\n  \
        windlass trace synth load.toml load.jobs.csv.gz"
)]
pub(super) struct TraceVerb {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Inspect(Inspect),
    Convert(Convert),
    Cut(Cut),
    Scale(Scale),
    Synth(Synth),
}

/// Which trace is read, and how.
#[derive(Debug, Args)]
struct Input {
    /// The trace, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// What FILE holds, whatever its name says
    #[arg(long, value_enum, value_name = "FORMAT")]
    from: Option<Format>,

    /// Pass over so many malformed lines, and say so, before one is an error
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip_bad: u64,

    /// The metric of a `CloudWatch` document, by id or label, if it has several
    #[arg(long, value_name = "NAME")]
    series: Option<String>,

    /// The values of a document are arrivals per second, not per step
    #[arg(long)]
    per_second: bool,

    /// The fleet of a store, if it has several
    #[arg(long, value_name = "NAME")]
    fleet: Option<String>,

    /// The signal of a store that counts arrivals
    #[arg(long, value_name = "NAME", default_value = "arrivals")]
    signal: String,
}

/// How a trace is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Comma-separated values.
    Csv,
    /// The Standard Workload Format.
    Swf,
    /// The cache of windlass.
    Wtrace,
    /// One JSON object a line.
    Jsonl,
    /// A document of `CloudWatch` or Prometheus.
    Json,
    /// An access log.
    Log,
    /// The columns of an Apache Parquet file.
    Parquet,
    /// A store of windlass.
    Store,
}

impl Input {
    fn read(&self) -> Result<Trace, Failure> {
        let stored = if let Some(format) = self.from {
            format == Format::Store
        } else {
            let named = self.file.extension().is_some_and(|ending| ending == "db");
            named || holds_store(&self.file)
        };
        if stored {
            return recorded::read(&self.file, self.fleet.as_deref(), &self.signal);
        }
        let options = ReadOptions {
            format: self.from.and_then(|format| match format {
                Format::Csv => Some(TraceFormat::Csv),
                Format::Swf => Some(TraceFormat::Swf),
                Format::Wtrace => Some(TraceFormat::Cache),
                Format::Jsonl => Some(TraceFormat::JsonLines),
                Format::Json => Some(TraceFormat::Json),
                Format::Log => Some(TraceFormat::AccessLog),
                Format::Parquet => Some(TraceFormat::Parquet),
                Format::Store => None,
            }),
            skip_bad: self.skip_bad,
            series: self.series.clone(),
            values: if self.per_second {
                Values::PerSecond
            } else {
                Values::PerStep
            },
        };
        let trace = read_trace(&self.file, &options)?;
        tell_skipped(trace.skipped())?;
        Ok(trace)
    }
}

/// What stands for standard input.
pub(super) const STANDARD_INPUT: &str = "-";

/// Reads the trace in a file, or that of standard input for `-`.
pub(super) fn read_trace(path: &Path, options: &ReadOptions) -> Result<Trace, TraceError> {
    if path == Path::new(STANDARD_INPUT) {
        return trace::read_bytes_with("standard input", io::stdin().lock(), options);
    }
    trace::read_with(path, options)
}

/// Whether the file begins as a store of windlass does.
fn holds_store(path: &Path) -> bool {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    let mut begins = Vec::new();
    let regular = fs::metadata(path).is_ok_and(|about| about.is_file());
    let read = regular.then(|| File::open(path).ok()).flatten();
    read.is_some_and(|file| {
        let read = file.take(MAGIC.len() as u64).read_to_end(&mut begins);
        read.is_ok() && begins == MAGIC
    })
}

/// Tells on standard error what was passed over.
pub(super) fn tell_skipped(skipped: &Skipped) -> io::Result<()> {
    if skipped.count == 0 {
        return Ok(());
    }
    let mut err = io::stderr().lock();
    for reason in &skipped.first {
        writeln!(err, "windlass: passed over: {reason}")?;
    }
    let lines = counted(usize::try_from(skipped.count).unwrap_or(usize::MAX), "line");
    writeln!(err, "windlass: {lines} passed over in all")
}

/// Say what a trace is like, in numbers and as a picture
#[derive(Debug, Args)]
#[command(
    long_about = "Says what a trace is like, in numbers and as a picture.\n\n\
        Peaks are the highest mean of five minutes or an hour over the overall mean. Correlation is \
        that of hourly counts with those a day or a week before. Dispersion is the variance of \
        counts over their mean: 1 if arrivals are independent of each other, more if they come in \
        bursts; within hours it leaves out the course of the day. Busy is how many jobs are worked \
        on, on average, if none waits.",
    after_long_help = "Examples:\n  \
        windlass trace inspect july.rate.csv.gz\n  \
        windlass trace inspect jobs.swf.gz --format json"
)]
struct Inspect {
    #[command(flatten)]
    input: Input,

    /// How it is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Shape::Table)]
    format: Shape,
}

/// How a description is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// For people, with a picture.
    Table,
    /// One object.
    Json,
}

/// Write a trace in another format
#[derive(Debug, Args)]
#[command(
    long_about = "Writes a trace in another format: that which OUT ends in.\n\n\
        A .wtrace is read many times faster than text. Jobs become a .rate.csv by counting them.",
    after_long_help = "Examples:\n  \
        windlass trace convert july.jobs.csv.gz july.wtrace\n  \
        windlass trace convert access.log.gz july.rate.csv.gz --step 10s --skip-bad 100\n  \
        windlass trace convert metrics.json july.rate.csv --series m1"
)]
struct Convert {
    #[command(flatten)]
    input: Input,

    /// What is written
    #[arg(value_name = "OUT")]
    out: PathBuf,

    /// Count arrivals into steps of this length [default: for jobs 1m, for rates their own]
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    step: Option<Duration>,
}

/// Write a part of a trace
#[derive(Debug, Args)]
#[command(
    long_about = "Writes a part of a trace, shifted to zero.\n\n\
        Of jobs it takes those that arrive in the part, however long they run.",
    after_long_help = "Examples:\n  \
        windlass trace cut july.rate.csv.gz week.rate.csv.gz --start 3d --length 7d"
)]
struct Cut {
    #[command(flatten)]
    input: Input,

    /// What is written
    #[arg(value_name = "OUT")]
    out: PathBuf,

    /// Where the part begins, such as 3d
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "0s")]
    start: Duration,

    /// How long it is, such as 7d [default: to the end]
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    length: Option<Duration>,
}

/// Write a trace with more or less load
#[derive(Debug, Args)]
#[command(
    long_about = "Writes a trace with more or less load.\n\n\
        Counts are never multiplied: that would make arrivals burstier than they were. The trace is \
        laid over itself, each further copy shifted by up to an hour, and for what is left of the \
        factor arrivals of one more copy are kept by chance.",
    after_long_help = "Examples:\n  \
        windlass trace scale week.rate.csv.gz big.rate.csv.gz --factor 12.5 --seed 1\n  \
        windlass trace scale week.jobs.csv.gz small.jobs.csv.gz --factor 0.1"
)]
struct Scale {
    #[command(flatten)]
    input: Input,

    /// What is written
    #[arg(value_name = "OUT")]
    out: PathBuf,

    /// How many times the arrivals
    #[arg(long, value_name = "K")]
    factor: f64,

    /// What the random numbers grow from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Write a made-up trace
#[derive(Debug, Args)]
#[command(
    long_about = "Writes a made-up trace: Poisson arrivals with days, weeks, noise, bursts and bulk \
        dumps, as SPEC says.",
    after_long_help = concat!(
        "Examples:\n  \
        windlass trace synth load.toml load.jobs.csv.gz\n  \
        windlass trace synth load.toml load.wtrace --seed 7\n\n\
        SPEC is such a file; only length and arrivals_per_hour are needed:\n\n",
        include_str!("../../simulator/traces/example.synth.toml")
    )
)]
struct Synth {
    /// The load, as a TOML file
    #[arg(value_name = "SPEC")]
    spec: PathBuf,

    /// What is written
    #[arg(value_name = "OUT")]
    out: PathBuf,

    /// What the random numbers grow from [default: that of SPEC]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

fn parse_span(text: &str) -> Result<Duration, String> {
    parse_duration(text)
}

impl TraceVerb {
    pub(super) fn obey(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        match &self.verb {
            Verb::Inspect(verb) => verb.obey(out),
            Verb::Convert(verb) => verb.obey(out),
            Verb::Cut(verb) => verb.obey(out),
            Verb::Scale(verb) => verb.obey(out),
            Verb::Synth(verb) => verb.obey(out),
        }
    }
}

impl Inspect {
    fn obey(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let trace = self.input.read()?;
        let description = describe(&trace);
        match self.format {
            Shape::Json => {
                let json = serde_json::to_string_pretty(&description)
                    .expect("a description is plain data");
                writeln!(out, "{json}")?;
            }
            Shape::Table => {
                write_table(out, &description)?;
                picture::write(out, &trace)?;
            }
        }
        Ok(Exit::Done)
    }
}

impl Convert {
    fn obey(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let mut trace = self.input.read()?;
        let to_rates = matches!(OutFormat::of_name(&self.out), Some((OutFormat::Rates, _)));
        let jobs = matches!(trace.kind(), TraceKind::Jobs { .. });
        let step = self
            .step
            .or_else(|| (jobs && to_rates).then_some(Duration::from_mins(1)));
        if let Some(step) = step {
            trace = reshape::to_rates(&trace, micros_of(step)).map_err(usage)?;
        }
        finish(out, &trace, &self.out)
    }
}

impl Cut {
    fn obey(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let trace = self.input.read()?;
        let part = reshape::cut(&trace, micros_of(self.start), self.length.map(micros_of));
        finish(out, &part.map_err(usage)?, &self.out)
    }
}

impl Scale {
    fn obey(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let trace = self.input.read()?;
        let scaled = workload::scale(&trace, self.factor, self.seed).map_err(usage)?;
        finish(out, &scaled, &self.out)
    }
}

impl Synth {
    fn obey(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let text = fs::read_to_string(&self.spec)
            .map_err(|error| Failure::unreadable(&self.spec, error))?;
        let file = self.spec.display().to_string();
        let mut spec = synthetic::parse(&text)
            .map_err(|problems| Failure::new(Exit::Usage, problems.in_file(&file)))?;
        if let Some(seed) = self.seed {
            spec = spec.with_seed(seed);
        }
        let trace = synthetic::make(&spec, &file)
            .map_err(|reason| Failure::new(Exit::Usage, format!("{file}: {reason}")))?;
        finish(out, &trace, &self.out)
    }
}

fn usage(reason: String) -> Failure {
    Failure::new(Exit::Usage, reason)
}

/// Writes the trace and says what was written.
fn finish(out: &mut dyn Write, trace: &Trace, path: &Path) -> Result<Exit, Failure> {
    write_file(trace, path).map_err(|error| {
        let exit = match error {
            WriteError::Unfit { .. } => Exit::Usage,
            WriteError::Unwritten { .. } => Exit::Unavailable,
        };
        Failure::because(exit, "no trace is written", error)
    })?;
    writeln!(
        out,
        "{}: {} arrivals in {}",
        path.display(),
        trace.arrivals(),
        span(Duration::from_micros(trace.span_micros()))
    )?;
    Ok(Exit::Done)
}

impl From<TraceError> for Failure {
    fn from(error: TraceError) -> Self {
        Self::because(Exit::NoInput, "cannot use the trace", error)
    }
}

fn write_table(out: &mut dyn Write, described: &Description) -> io::Result<()> {
    let secs = |secs: f64| format!("{} s", number(secs));
    let ratio = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    let mut rows = vec![
        ("trace", described.name.clone()),
        ("kind", described.kind.to_owned()),
    ];
    if let Some(at) = &described.begins_at {
        rows.push(("begins at", at.clone()));
    }
    rows.push(("span", format!("{:.2} d", described.span_secs / 86_400.0)));
    if let Some(step) = described.step_secs {
        rows.push(("step", secs(step)));
    }
    rows.push(("arrivals", described.arrivals.to_string()));
    if described.left_out > 0 {
        rows.push(("left out", described.left_out.to_string()));
    }
    rows.push((
        "rate",
        format!("{:.4} per second", described.arrivals_per_sec),
    ));
    rows.push(("peak of 5 min", ratio(described.peak_5min)));
    rows.push(("peak of 1 h", ratio(described.peak_1h)));
    rows.push(("correlation, day", ratio(described.correlation_day)));
    rows.push(("correlation, week", ratio(described.correlation_week)));
    if let Some(dispersion) = described.dispersion {
        rows.push((
            "dispersion",
            format!(
                "{:.1} of {} counts",
                dispersion.overall,
                secs(dispersion.bin_secs)
            ),
        ));
        rows.push(("  within hours", ratio(dispersion.within_hours)));
    }
    if let Some(service) = described.service {
        rows.push((
            "service",
            format!(
                "mean {}, p50 {}, p99 {}, cv {:.2}",
                secs(service.mean_secs),
                secs(service.p50_secs),
                secs(service.p99_secs),
                service.cv
            ),
        ));
    }
    if let Some(busy) = described.busy_mean {
        rows.push(("busy", number(busy)));
    }
    if described.classes > 0 {
        rows.push(("classes", described.classes.to_string()));
    }
    for (name, value) in rows {
        writeln!(out, "{name:<18} {value}")?;
    }
    Ok(())
}
