//! Metric sources against real servers: Redis, `PostgreSQL` and Prometheus as
//! Debian ships them, started here on loopback and broken on purpose, and a
//! web server that answers whatever a test wants.
//!
//! A test whose server is not installed fails and says how to get it, unless
//! `WINDLASS_TESTS_WITHOUT` lists the program (`tests/run` does that for what
//! it could not install, and says so at its end).

#[path = "sources/configured.rs"]
mod configured;
#[path = "sources/http.rs"]
mod http;
#[path = "sources/postgres.rs"]
mod postgres;
#[path = "sources/prometheus.rs"]
mod prometheus;
#[path = "sources/redis.rs"]
mod redis;
#[path = "sources/servers.rs"]
mod servers;
#[path = "sources/web.rs"]
mod web;

use std::path::Path;
use std::time::{Duration, Instant};

use windlass::clock;
use windlass::sources::{SharedSources, Sources, read_signals};
use windlass_policies::fields::Document;
use windlass_policies::ports::MetricSource;
use windlass_policies::problems::Problems;
use windlass_policies::signal::{Absence, Completeness, Reading, SignalSpec};
use windlass_policies::units::Timestamp;

/// The signals of one fleet and what reads them.
struct Signals {
    specs: Vec<SignalSpec>,
    sources: Sources,
}

impl Signals {
    /// From the `[signals.NAME]` tables in `text`.
    #[track_caller]
    fn of(text: &str) -> Self {
        match Self::parse(text) {
            Ok(signals) => signals,
            Err(problems) => panic!("{text}\n{problems}"),
        }
    }

    fn parse(text: &str) -> Result<Self, Problems> {
        Document::parse(text)?.read(|fields| {
            let (specs, declared) = read_signals(fields, Path::new(""));
            let sources = Sources::new(&declared.all()?, &SharedSources::default());
            Some(Self { specs, sources })
        })
    }

    /// One signal, `x`, with `keys`.
    #[track_caller]
    fn one(keys: &str) -> Self {
        Self::of(&format!("[signals.x]\nkind = \"total\"\n{keys}"))
    }

    async fn read_at(&self, now: Timestamp) -> Reading {
        self.sources.read(&self.specs, now).await.get("x")
    }

    async fn read(&self) -> Reading {
        self.read_at(clock::now()).await
    }

    /// What `x` is now.
    #[track_caller]
    fn expect(&self, runtime: &tokio::runtime::Runtime, value: f64) {
        let reading = runtime.block_on(self.read());
        same(&reading, value);
    }

    /// That `x` is absent, and that its reason has `why` in it.
    #[track_caller]
    fn expect_absent(&self, runtime: &tokio::runtime::Runtime, why: &str) {
        let reading = runtime.block_on(self.read());
        absent(&reading, why);
    }
}

#[track_caller]
fn same(reading: &Reading, value: f64) {
    match reading {
        Reading::Present(sample) => {
            assert!(
                (sample.value - value).abs() < 1e-9,
                "{reading:?}, not {value}"
            );
            assert_eq!(sample.completeness, Completeness::Complete);
        }
        Reading::Absent(why) => panic!("{why}, not {value}"),
    }
}

#[track_caller]
fn absent(reading: &Reading, why: &str) {
    match reading {
        Reading::Absent(absence) => {
            let told = absence.to_string();
            assert!(told.contains(why), "{told:?} does not say {why:?}");
            assert!(
                !told.contains('\n') && told.chars().count() < 400,
                "{told:?}"
            );
        }
        Reading::Present(sample) => panic!("{sample:?}, and not absent: {why}"),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Asks again and again until `done`, for half a minute at most.
#[track_caller]
fn wait_until(
    runtime: &tokio::runtime::Runtime,
    what: &str,
    mut done: impl FnMut(&tokio::runtime::Runtime) -> bool,
) {
    let began = Instant::now();
    while !done(runtime) {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "waited for {what}"
        );
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
    }
}

#[test]
fn a_slow_source_delays_nobody_beyond_its_timeout() {
    let runtime = runtime();
    let silent = web::Server::start(|_| web::Reply::Silence);
    let quick = web::Server::start(|_| web::Reply::json("7"));
    let mut text = format!(
        "[signals.quick]\nkind = \"total\"\nsource = \"http_json\"\nurl = \"{}\"\npointer = \"\"\n",
        quick.url("/")
    );
    for number in 0..10 {
        let slow = format!(
            "[signals.slow{number}]\nkind = \"total\"\nsource = \"http_json\"\nurl = \"{}\"\n\
             pointer = \"\"\ntimeout = \"300ms\"\n",
            silent.url("/")
        );
        text.push_str(&slow);
    }
    let signals = Signals::of(&text);
    let began = Instant::now();
    let readings = runtime.block_on(signals.sources.read(&signals.specs, clock::now()));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}");
    // One after the other they would take three seconds.
    assert!(took < Duration::from_secs(2), "{took:?}");
    same(&readings.get("quick"), 7.0);
    for number in 0..10 {
        absent(
            &readings.get(&format!("slow{number}")),
            "no answer within 300ms",
        );
    }
    assert_eq!(
        readings.sample("unheard-of"),
        Err(Absence::NoSource),
        "nobody reads it"
    );
}
