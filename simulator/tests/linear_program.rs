//! The clairvoyant bound against a linear program that knows nothing of it:
//! small worlds as `HiGHS` solves them, in fractions and in whole numbers.
//!
//! `linear_program/solve.py` states the worlds from the rules of the simulator
//! alone. The solver is scipy's; where it is not installed the test fails,
//! unless `WINDLASS_TESTS_WITHOUT` lists `python3-scipy`, as `tests/run` does
//! for what it cannot install.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

use serde::{Deserialize, Serialize};

use windlass_simulator::bound::{self, Bound};
use windlass_simulator::random::Stream;
use windlass_simulator::scenario::{Scenario, TraceFile};
use windlass_simulator::trace;

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/linear_program/solve.py");

/// The name it is left out by.
const SOLVER: &str = "python3-scipy";

/// Worlds that the solver is given at a time.
const PART: usize = 20;

/// A world with everything in whole seconds. Prices are dollars a second.
#[derive(Clone, Debug, Serialize)]
struct World {
    /// Arrival, service and what waiting costs.
    jobs: Vec<(u64, u64, u64)>,
    length: u64,
    boot: u64,
    increment: u64,
    minimum: u64,
    offerings: Vec<Offering>,
    initial: u64,
    /// Whether it is to be solved in whole numbers too.
    whole: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Offering {
    price: u64,
    slots: u64,
    percent: u64,
}

/// What the solver says, in dollars.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Solved {
    relaxed: f64,
    low: Option<f64>,
    high: Option<f64>,
}

fn pick<T: Clone>(stream: &mut Stream, from: &[T]) -> T {
    let place = stream.below(u64::try_from(from.len()).expect("small"));
    from[usize::try_from(place).expect("small")].clone()
}

impl World {
    /// One of few jobs, which is solved in whole numbers too.
    fn draw(stream: &mut Stream) -> Self {
        let mut world = Self {
            jobs: Vec::new(),
            length: 14 + stream.below(24),
            boot: stream.below(8),
            increment: pick(stream, &[1, 1, 1, 5, 12]),
            minimum: pick(stream, &[0, 1, 8, 15]),
            offerings: vec![Offering {
                price: pick(stream, &[3, 10]),
                slots: pick(stream, &[1, 1, 2, 3]),
                percent: 100,
            }],
            initial: pick(stream, &[0, 0, 1, 2]),
            whole: true,
        };
        if stream.below(3) == 0 {
            world.offerings.push(Offering {
                price: pick(stream, &[3, 6, 20]),
                slots: pick(stream, &[1, 2, 4]),
                percent: pick(stream, &[50, 100, 200]),
            });
        }
        let count = 2 + stream.below(12);
        world.add_jobs(stream, count, 6);
        world
    }

    /// One of a fleet of some ten instances.
    fn draw_fleet(stream: &mut Stream) -> Self {
        let slots = pick(stream, &[1, 1, 2]);
        let mut world = Self {
            jobs: Vec::new(),
            length: 50 + stream.below(20),
            boot: 1 + stream.below(8),
            increment: 1,
            minimum: pick(stream, &[0, 1, 10]),
            offerings: vec![Offering {
                price: 10,
                slots,
                percent: 100,
            }],
            initial: pick(stream, &[0, 3]),
            whole: false,
        };
        let count = slots * (40 + stream.below(40));
        world.add_jobs(stream, count, 10);
        world
    }

    /// Jobs that come one by one or at once, of one class or of two. Services
    /// are even, so that they are whole at twice the speed.
    fn add_jobs(&mut self, stream: &mut Stream, count: u64, halves: u64) {
        let prices = [0, 1, 3, 10, 30, 300];
        let waiting = [pick(stream, &prices), pick(stream, &prices)];
        let classes = pick(stream, &[1, 1, 2]);
        let burst = stream.below(self.length);
        for _ in 0..count {
            let arrival = pick(stream, &[burst, stream.clone().below(self.length)]);
            stream.below(2);
            let service = 2 * (1 + stream.below(halves));
            let class = usize::try_from(stream.below(classes)).expect("one or two");
            self.jobs.push((arrival, service, waiting[class]));
        }
        self.jobs.sort_unstable();
    }

    fn bound(&self) -> Bound {
        let hourly = |price: u64| price * 3_600;
        let mut text = format!(
            "[workload]\ntrace = \"drawn.csv\"\nlength = \"{}s\"\n\
             [fleet]\ninterval = \"1s\"\ninitial = {}\nmax = 1000\n\
             [cloud]\nboot = {{ distribution = \"constant\", value = \"{}s\" }}\n\
             billing_increment = \"{}s\"\nbilling_minimum = \"{}s\"\n",
            self.length, self.initial, self.boot, self.increment, self.minimum,
        );
        for (place, one) in self.offerings.iter().enumerate() {
            write!(
                text,
                "[[cloud.offering]]\nname = \"{place}\"\nusd_per_hour = {}\nslots = {}\n\
                 throughput_percent = {}\n",
                hourly(one.price),
                one.slots,
                one.percent
            )
            .expect("text");
        }
        let mut rows = "arrival_s,service_s,class\n".to_owned();
        for (arrival, service, waiting) in &self.jobs {
            writeln!(rows, "{arrival},{service},{waiting}").expect("text");
        }
        let mut prices: Vec<u64> = self.jobs.iter().map(|(_, _, waiting)| *waiting).collect();
        prices.sort_unstable();
        prices.dedup();
        for price in prices {
            write!(
                text,
                "[workload.class.{price}]\nusd_per_job_hour_waiting = {}\n",
                hourly(price)
            )
            .expect("text");
        }
        let place = |name: &str| TraceFile::Embedded(name.to_owned());
        let scenario = Scenario::parse("drawn", &text, place).expect("sound");
        let trace = trace::read_bytes("drawn.csv", rows.as_bytes()).expect("sound");
        let workload = scenario.build_workload(&trace).expect("it has jobs");
        bound::of(&scenario, &workload).expect("covered")
    }

    /// Whether the bound counts instances of it: where they differ in slots, it
    /// is one that holds for fractions too.
    fn counted(&self) -> bool {
        let slots = self.offerings[0].slots;
        self.offerings.iter().all(|one| one.slots == slots)
    }
}

/// A Python that has scipy; `None` if the tests were told to do without it.
/// Debian's packages are only seen by Debian's Python, which need not be the
/// first one.
#[expect(
    clippy::disallowed_methods,
    reason = "tests/run says through the environment what is missing"
)]
fn python() -> Option<&'static str> {
    let has_scipy = |python: &&str| {
        let mut python = Command::new(python);
        python.args(["-c", "from scipy.optimize import milp"]);
        let found = python.stderr(Stdio::null()).status();
        found.is_ok_and(|status| status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(has_scipy);
    if found.is_none() {
        let without = env::var("WINDLASS_TESTS_WITHOUT").unwrap_or_default();
        assert!(
            without.split_whitespace().any(|one| one == SOLVER),
            "scipy is not installed, and this test is nothing without it; install it (on Debian: \
             apt-get install {SOLVER}), or leave it out with WINDLASS_TESTS_WITHOUT={SOLVER}"
        );
        eprintln!("NOT TESTED: {SOLVER} is not installed");
        note_left_out();
    }
    found
}

/// Counted by `tests/run`: a test that was left out did not pass.
#[expect(
    clippy::disallowed_methods,
    reason = "tests/run says through the environment what is missing"
)]
fn note_left_out() {
    let Some(list) = env::var_os("WINDLASS_TESTS_LEFT_OUT") else {
        return;
    };
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let mut list = fs::File::options().append(true).open(list).expect("a list");
    list.write_all(format!("{name}\n").as_bytes())
        .expect("written");
}

/// What `HiGHS` says of `worlds`.
fn solve(python: &str, worlds: &[World]) -> Vec<Solved> {
    let mut python = Command::new(python)
        .arg(PROGRAM)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it ran just now");
    let mut input = python.stdin.take().expect("piped");
    let told: Vec<String> = worlds
        .iter()
        .map(|world| serde_json::to_string(world).expect("text"))
        .collect();
    let writer = thread::spawn(move || {
        // It fails if the solver ended early, which its answers show as well.
        let _ = writeln!(input, "{}", told.join("\n"));
    });
    let output = python.wait_with_output().expect("it ends");
    writer.join().expect("it wrote");
    assert!(output.status.success(), "the solver failed");
    let answers = String::from_utf8(output.stdout).expect("text");
    let answers: Vec<Solved> = answers
        .lines()
        .map(|line| serde_json::from_str(line).expect("an answer"))
        .collect();
    assert_eq!(answers.len(), worlds.len());
    answers
}

/// Dollars are rounded to whole millionths, each part of a sum on its own, and
/// the solver keeps to its rows to one part in ten million.
fn rounding(amount: f64) -> f64 {
    1e-5 + 1e-6 * amount
}

/// Fails unless the bound, what `HiGHS` found and what was achieved stand in this
/// order. Returns how the bound compares with the optimum.
fn check(number: usize, world: &World, bound: &Bound, solved: Solved) -> f64 {
    let told = || format!("world {number}: {bound:?}, {solved:?}, {world:?}");
    let high = solved.high.unwrap_or(f64::MAX);
    let low = solved.low.unwrap_or(0.0).max(solved.relaxed);
    assert!(bound.bound_usd <= high + rounding(high), "{}", told());
    assert!(bound.achieved_usd >= low - rounding(low), "{}", told());
    if !world.counted() {
        let most = solved.relaxed;
        assert!(bound.bound_usd <= most + rounding(most), "{}", told());
    }
    bound.bound_usd / solved.high.unwrap_or(solved.relaxed).max(1e-9)
}

/// How the bounds of `worlds` compare with their optima.
fn ratios(python: &str, worlds: &[World]) -> Vec<f64> {
    let mut ratios = Vec::new();
    // In parts, so that what fails fails soon.
    for (part, worlds) in worlds.chunks(PART).enumerate() {
        let solved = solve(python, worlds);
        for (place, (world, solved)) in worlds.iter().zip(solved).enumerate() {
            let ratio = check(part * PART + place, world, &world.bound(), solved);
            // Where nothing has to be paid there is nothing to compare.
            if ratio > 0.0 {
                ratios.push(ratio);
            }
        }
    }
    ratios
}

fn mean(numbers: &[f64]) -> f64 {
    let count = u32::try_from(numbers.len()).expect("few");
    numbers.iter().sum::<f64>() / f64::from(count)
}

#[test]
fn a_solver_of_integer_programs_finds_nothing_below_the_bound() {
    let Some(python) = python() else { return };
    let mut stream = Stream::new(1, "integer programs");
    let worlds: Vec<World> = (0..200).map(|_| World::draw(&mut stream)).collect();
    let ratios = ratios(python, &worlds);
    // A bound that says nothing would pass as well.
    assert!(mean(&ratios) > 0.75, "{} of the optimum", mean(&ratios));
}

#[test]
fn a_solver_of_linear_programs_says_what_the_bound_says_of_fleets() {
    let Some(python) = python() else { return };
    let mut stream = Stream::new(1, "linear programs");
    let worlds: Vec<World> = (0..60).map(|_| World::draw_fleet(&mut stream)).collect();
    let ratios = ratios(python, &worlds);
    assert!(mean(&ratios) > 0.9, "{} of the optimum", mean(&ratios));
}
