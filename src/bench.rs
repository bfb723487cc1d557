//! Measures the simulator against the least that any simulator has to do, so
//! that its speed can be told in a figure that means the same on any machine:
//! how many times as long as the bare loop it takes.
//!
//! Times are those the processor spent on this process, so that neighbours on
//! the machine disturb little; the bare loop and the simulator take turns, and
//! the ratio is the median of those of the rounds.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use windlass_policies::policy_file;
use windlass_policies::presets;
use windlass_policies::spec::{Drain, FleetSpec, Limits, Mix, Objective, Spot};
use windlass_policies::units::{MICROS_PER_SEC, MicroUsdPerHour, Timestamp};
use windlass_simulator::bench::{self, Load, Tally};
use windlass_simulator::engine;
use windlass_simulator::queue::Keep;
use windlass_simulator::trace::ReadOptions;
use windlass_simulator::trace::cache::JobsWriter;
use windlass_simulator::workload::WorkloadSpec;
use windlass_simulator::workload::flow::{Choice, Flow, FlowError};
use windlass_simulator::world::{Summary, WorldError};

/// How long a world is for the controller's own cycle, in days of W2.
const W2_DAYS: u32 = 10;

/// Jobs of W1.
const W1_JOBS: usize = 1_000_000;

/// Days of 72 minutes of the load with thousands of instances.
const W2500_DAYS: u32 = 2;

/// What was measured of one way to run one load.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The load, and the way if it is not the usual one.
    pub name: String,
    /// Jobs in the load.
    pub jobs: u64,
    /// Ticks of whoever decides.
    pub ticks: u64,
    /// Jobs per second of processor time.
    pub jobs_per_cpu_sec: f64,
    /// The same of the bare loop, in the same rounds.
    pub bare_jobs_per_cpu_sec: f64,
    /// Processor time over that of the bare loop: the figure to compare.
    pub ratio_to_bare: f64,
    /// Largest resident memory while it ran, in millions of bytes; absent
    /// where the system does not tell.
    pub rss_mb: Option<f64>,
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The two ways came to different results: a bug.
    #[error("{name}: the simulator and the bare loop disagree: {simulator} and {bare}")]
    Disagree {
        /// The load.
        name: String,
        /// What the simulator says.
        simulator: String,
        /// What the bare loop says.
        bare: String,
    },
    /// The trace for the way from a file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A part of the simulator refused the load: a bug.
    #[error("{name}: the simulator refused its own load")]
    Refused {
        /// The load.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// One way to run a load.
struct Way<'a> {
    name: String,
    /// Largest resident memory in KiB, if it was measured beforehand.
    peak: Option<u32>,
    run: Box<dyn FnMut() -> Result<Outcome, BenchError> + 'a>,
}

/// What a run shows of itself, so that it can be checked.
struct Outcome {
    jobs: u64,
    ticks: u64,
    /// Launches and peak, where the bare loop decides alike.
    launched: Option<(u64, u64)>,
}

/// Measures everything in `rounds` rounds; `told` hears what comes next.
///
/// # Errors
/// The first thing that went wrong.
pub fn measure(rounds: usize, told: &mut dyn FnMut(&str)) -> Result<Vec<Figure>, BenchError> {
    told("w1 and w2: writing their jobs to files, and streaming them");
    // Before any load is in memory, so that it shows how little streaming needs.
    let (w1_files, w2_files) = (
        Files::of("w1", bench::w1_jobs(W1_JOBS))?,
        Files::of("w2", bench::w2_jobs(W2_DAYS))?,
    );
    let mut figures = w1(rounds, &w1_files, told)?;
    figures.extend(w2(rounds, &w2_files, told)?);
    figures.extend(w2500(rounds, told)?);
    Ok(figures)
}

fn w1(rounds: usize, files: &Files, told: &mut dyn FnMut(&str)) -> Result<Vec<Figure>, BenchError> {
    told("w1: a million jobs on 25 instances");
    let load = bench::w1(W1_JOBS);
    let mut ways = vec![in_memory("w1", &load, Keep::Histogram)];
    ways.extend(files.ways(&load));
    take_turns(&load, ways, rounds)
}

fn w2(rounds: usize, files: &Files, told: &mut dyn FnMut(&str)) -> Result<Vec<Figure>, BenchError> {
    told("w2: ten days on 25 to 50 instances, a decision a minute");
    let load = bench::w2(W2_DAYS);
    let mut ways = vec![
        in_memory("w2", &load, Keep::Histogram),
        in_memory("w2_exact", &load, Keep::EveryWait),
        slow("w2_general", &load),
        controlled("w2_controller", &load),
    ];
    ways.extend(files.ways(&load));
    take_turns(&load, ways, rounds)
}

fn w2500(rounds: usize, told: &mut dyn FnMut(&str)) -> Result<Vec<Figure>, BenchError> {
    told("w2500: 144 minutes on about 2,500 instances");
    let load = bench::w2500(W2500_DAYS);
    let ways = vec![in_memory("w2500", &load, Keep::Histogram)];
    take_turns(&load, ways, rounds)
}

/// The jobs of a load as files, and the memory it took to stream them.
struct Files {
    csv: Scratch,
    cache: Scratch,
    csv_peak: Option<u32>,
    cache_peak: Option<u32>,
}

impl Files {
    fn of(name: &str, jobs: bench::Jobs) -> Result<Self, BenchError> {
        let csv = Scratch::new(name, "jobs.csv");
        let cache = Scratch::new(name, "wtrace");
        let last = write_jobs(jobs, &csv.0, &cache.0).map_err(|source| BenchError::Write {
            path: csv.0.clone(),
            source,
        })?;
        // The rule does not matter to the memory; the length does.
        let load = Load {
            length: last + 1,
            ..bench::w2_without_jobs(1)
        };
        let peak = |file: &Scratch| {
            forget_peak();
            let (summary, rows) = stream(&file.0, &load).map_err(|error| error.named(name))?;
            black_box((summary, rows.len()));
            Ok(peak_kib())
        };
        Ok(Self {
            csv_peak: peak(&csv)?,
            cache_peak: peak(&cache)?,
            csv,
            cache,
        })
    }

    fn ways<'a>(&'a self, load: &'a Load) -> [Way<'a>; 2] {
        let way = |ending: &str, file: &'a Scratch, peak| {
            let name = format!("{}_{ending}", load.name);
            let fed = Load {
                jobs: Arc::default(),
                ..load.clone()
            };
            Way {
                name: name.clone(),
                peak,
                run: Box::new(move || {
                    let run = stream(&file.0, &fed);
                    let (summary, rows) = run.map_err(|error| error.named(&name))?;
                    Ok(outcome(&summary, black_box(rows).len()))
                }),
            }
        };
        [
            way("csv", &self.csv, self.csv_peak),
            way("cache", &self.cache, self.cache_peak),
        ]
    }
}

/// Why a file was not streamed: a bug, in either case.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Flow(#[from] FlowError),
    #[error(transparent)]
    World(#[from] WorldError),
}

impl StreamError {
    fn named(self, name: &str) -> BenchError {
        refused(name, self)
    }
}

/// From the file at `path` to the result, as `windlass simulate` has it.
fn stream(path: &Path, load: &Load) -> Result<(Summary, Vec<bench::Row>), StreamError> {
    let (options, spec) = (ReadOptions::default(), WorkloadSpec::default());
    let mut jobs = match Flow::of_jobs(path, &options, &spec, 1)? {
        Choice::Flow(flow) | Choice::Cut(flow) => Some(flow.open()?),
        Choice::Short | Choice::Whole(_) => None,
    };
    bench::full_fed(load, || match &mut jobs {
        Some(jobs) => Ok(jobs.next_piece()?),
        None => Ok(None),
    })
}

/// Each round runs the bare loop once, and then each way once.
fn take_turns(
    load: &Load,
    mut ways: Vec<Way<'_>>,
    rounds: usize,
) -> Result<Vec<Figure>, BenchError> {
    let mut bare = Vec::new();
    let mut times = vec![Vec::new(); ways.len()];
    let mut peaks = vec![None; ways.len()];
    let mut outcomes = Vec::new();
    for _ in 0..rounds.max(1) {
        let (tally, took) = timed(|| bench::bare(black_box(load)));
        bare.push(took);
        outcomes.clear();
        for (place, way) in ways.iter_mut().enumerate() {
            forget_peak();
            let (outcome, took) = timed(|| (way.run)());
            let outcome = outcome?;
            peaks[place] = peak_kib().max(peaks[place]);
            times[place].push(took);
            agree(&way.name, &outcome, tally)?;
            outcomes.push(outcome);
        }
    }
    let rows = ways.iter().zip(outcomes).zip(times).zip(peaks);
    let figure = |(((way, outcome), times), peak): (((&Way<'_>, Outcome), _), Option<u32>)| {
        let times: Vec<f64> = times;
        let peak = way.peak.or(peak);
        let ratios = times.iter().zip(&bare).map(|(time, bare)| time / bare);
        let speed = |times: Vec<f64>| float(outcome.jobs) / median(times);
        Figure {
            name: way.name.clone(),
            jobs: outcome.jobs,
            ticks: outcome.ticks,
            ratio_to_bare: median(ratios.collect()),
            jobs_per_cpu_sec: speed(times),
            bare_jobs_per_cpu_sec: speed(bare.clone()),
            rss_mb: peak.map(|kib| f64::from(kib) * 1_024.0 / 1e6),
        }
    };
    Ok(rows.map(figure).collect())
}

fn agree(name: &str, outcome: &Outcome, bare: Tally) -> Result<(), BenchError> {
    let expected = (bare.launches, bare.peak);
    match outcome.launched {
        Some(seen) if seen != expected => Err(BenchError::Disagree {
            name: name.to_owned(),
            simulator: format!("{seen:?}"),
            bare: format!("{expected:?}"),
        }),
        _ => Ok(()),
    }
}

fn in_memory<'a>(name: &str, load: &'a Load, keep: Keep) -> Way<'a> {
    let name = name.to_owned();
    Way {
        name: name.clone(),
        peak: None,
        run: Box::new(move || {
            let run = bench::full(black_box(load), keep);
            let (summary, rows) = run.map_err(|source| refused(&name, source))?;
            Ok(outcome(&summary, black_box(rows).len()))
        }),
    }
}

/// With the queue for what the fast one cannot do.
fn slow<'a>(name: &str, load: &'a Load) -> Way<'a> {
    let name = name.to_owned();
    Way {
        name: name.clone(),
        peak: None,
        run: Box::new(move || {
            let run = bench::full_slow(black_box(load), Keep::Histogram);
            let (summary, rows) = run.map_err(|source| refused(&name, source))?;
            Ok(outcome(&summary, black_box(rows).len()))
        }),
    }
}

fn outcome(summary: &Summary, ticks: usize) -> Outcome {
    Outcome {
        jobs: summary.jobs,
        ticks: u64::try_from(ticks).unwrap_or(u64::MAX),
        launched: Some((summary.launches, summary.instances_peak.into())),
    }
}

/// The cycle of the daemon decides, with a preset: readings, proposals, the
/// governor, the audit, the record of it all.
fn controlled<'a>(name: &str, load: &'a Load) -> Way<'a> {
    let name = name.to_owned();
    let spec = fleet(load);
    Way {
        name: name.clone(),
        peak: None,
        run: Box::new(move || {
            let world = bench::world(load, Keep::Histogram, false);
            let world = world.map_err(|source| refused(&name, source))?;
            let end = Timestamp::from_micros(load.length);
            let mut ticks = 0;
            let run = engine::run(&spec, world, end, |cycle| {
                black_box(cycle);
                ticks += 1;
            });
            let summary = run.map_err(|source| refused(&name, source))?;
            Ok(Outcome {
                launched: None,
                ..outcome(&summary, ticks)
            })
        }),
    }
}

/// A fleet for the instances of `load`, decided by a preset.
fn fleet(load: &Load) -> FleetSpec {
    let text = presets::text("target-tracking").expect("it is one of the presets");
    let file = policy_file::read(text).expect("presets are checked by a test");
    let interval = load.rule.map_or(MICROS_PER_SEC, |rule| rule.interval);
    FleetSpec {
        name: "bench".to_owned(),
        interval: Duration::from_micros(interval),
        offerings: vec![bench::offering()],
        signals: file.signals,
        policies: file.policies,
        limits: Limits::unbound(0, 10_000),
        mix: Mix::default(),
        spot: Spot::default(),
        drain: Drain::default(),
        objective: Objective {
            usd_per_job_hour_waiting: MicroUsdPerHour::ZERO,
        },
    }
}

fn refused(name: &str, source: impl std::error::Error + Send + Sync + 'static) -> BenchError {
    BenchError::Refused {
        name: name.to_owned(),
        source: Box::new(source),
    }
}

/// A file that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, ending: &str) -> Self {
        let file = format!("windlass-bench-{}-{name}.{ending}", process::id());
        Self(std::env::temp_dir().join(file))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // In a folder for temporary files, what cannot be removed may stay.
        let _ = fs::remove_file(&self.0);
    }
}

/// Writes jobs as comma-separated values and as a cache; gives the last arrival.
fn write_jobs(jobs: bench::Jobs, csv: &Path, cache: &Path) -> io::Result<u64> {
    let mut csv = BufWriter::new(File::create(csv)?);
    let mut cache = JobsWriter::new(BufWriter::new(File::create(cache)?))?;
    writeln!(csv, "arrival_s,service_s")?;
    let mut last = 0;
    for (arrival, service) in jobs {
        let parts = |micros: u64| (micros / MICROS_PER_SEC, micros % MICROS_PER_SEC);
        let ((secs, micros), (long, rest)) = (parts(arrival), parts(service));
        writeln!(csv, "{secs}.{micros:06},{long}.{rest:06}")?;
        cache.push(arrival, service)?;
        last = arrival;
    }
    csv.flush()?;
    cache.finish()?.flush()?;
    Ok(last)
}

/// What `work` gives, and how many seconds the processor spent on it.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let before = cpu_secs();
    let result = work();
    (result, cpu_secs() - before)
}

/// Processor time of this process so far, by its clock: `/proc` counts it in
/// hundredths of a second, too coarse for runs this short.
fn cpu_secs() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let whole = Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    );
    whole.as_secs_f64()
}

/// Lets the largest resident memory begin anew, where that can be done.
fn forget_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

fn peak_kib() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::cast_precision_loss, reason = "far fewer jobs than 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_fields_that_others_read() {
        let figure = Figure {
            name: "w1".to_owned(),
            jobs: 1,
            ticks: 2,
            jobs_per_cpu_sec: 3.0,
            bare_jobs_per_cpu_sec: 4.0,
            ratio_to_bare: 1.5,
            rss_mb: Some(6.0),
        };
        let json = serde_json::to_string(&[figure]).expect("plain data");
        let expected = r#"[{"name":"w1","jobs":1,"ticks":2,"jobs_per_cpu_sec":3.0,"bare_jobs_per_cpu_sec":4.0,"ratio_to_bare":1.5,"rss_mb":6.0}]"#;
        assert_eq!(json, expected);
    }

    #[test]
    fn files_stream_to_what_their_jobs_come_to_in_memory() {
        let load = bench::w2(1);
        let files = Files::of("test", bench::w2_jobs(1)).expect("a temporary file");
        let tally = bench::bare(&load);
        for mut way in files.ways(&load) {
            let outcome = (way.run)().expect("its own load");
            agree(&way.name, &outcome, tally).expect("the same");
            assert_eq!(outcome.jobs, load.jobs.arrivals().len() as u64);
        }
    }
}
