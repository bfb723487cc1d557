use expect_test::expect;

use super::*;
use crate::model::Wish;
use crate::policy::testing::{absent, present};
use crate::policy::{Opinion, View};
use crate::signal::{Reading, Readings};
use crate::units::Timestamp;

/// A fleet that is shown one cycle after another, ten seconds apart.
pub(super) struct Stage {
    pub(super) rule: Economic,
    pub(super) state: State,
    pub(super) now: Timestamp,
    arrived: f64,
    pub(super) ready: u32,
    pub(super) current: u32,
    max: u32,
    interval: Duration,
    /// How old the readings are.
    age: Duration,
    /// How long ago those were launched that are not ready.
    launched_ago: Duration,
}

impl Stage {
    pub(super) fn new(worth: Worth) -> Self {
        let rule = Economic {
            worth,
            ..Economic::default()
        };
        Self {
            state: State::new(&rule),
            rule,
            now: Timestamp::from_secs(1_750_000_000),
            arrived: 1e6,
            ready: 10,
            current: 10,
            max: 5_000,
            interval: Duration::from_secs(10),
            age: Duration::ZERO,
            launched_ago: Duration::ZERO,
        }
    }

    fn shown(&mut self, readings: &Readings) -> Opinion {
        let view = View {
            now: self.now,
            readings,
            current: self.current,
            ready: self.ready,
            slots: 1,
            desired: self.current,
            lives: &[],
        };
        let mut fleet = Fleet {
            interval: self.interval,
            max: self.max,
            ..Fleet::plain(&view)
        };
        fleet.booting.fill(self.launched_ago);
        self.rule.decide(&mut self.state, &view, &fleet)
    }

    /// One more cycle, in which `came` jobs have come.
    pub(super) fn cycle(&mut self, came: f64, waiting: f64, running: f64) -> Opinion {
        self.now = self.now + self.interval;
        self.arrived += came;
        let numbers = [
            ("backlog", waiting),
            ("in_flight", running),
            ("arrivals", self.arrived),
        ];
        let mut readings = Readings::new();
        for (name, value) in numbers {
            readings.insert(name, Reading::complete(value, self.now - self.age));
        }
        self.shown(&readings)
    }

    /// Hours in which ten instances have eight jobs of 20 s at a time.
    pub(super) fn steady(&mut self, hours: u32) {
        for round in 0..360 * hours {
            let came = if round % 2 == 0 { 3.0 } else { 5.0 };
            self.cycle(came, 0.0, 8.0);
        }
    }
}

pub(super) fn wish(opinion: &Opinion) -> Option<u32> {
    match opinion.wish {
        Wish::Instances(count) => Some(count),
        Wish::Abstain(_) => None,
    }
}

fn balanced() -> Stage {
    Stage::new(Worth::Preset(Preset::Balanced))
}

#[test]
fn decisions_say_what_was_seen_what_bound_and_what_one_more_is_worth() {
    let mut stage = balanced();
    stage.steady(2);
    let mut said = String::new();
    for (came, waiting, running) in [(4.0, 0.0, 8.0), (60.0, 50.0, 10.0), (4.0, 0.0, 2.0)] {
        said.push_str(&stage.cycle(came, waiting, running).why);
        said.push('\n');
    }
    for _ in 0..60 {
        stage.cycle(0.0, 0.0, 0.0);
    }
    said.push_str(&stage.cycle(0.0, 0.0, 0.0).why);
    expect![[r#"
        holding: 0 waiting, 8 running, 10 of 10 ready, arrivals 0.4 a second over the last 7200 s; one more would save $0.00026 of waiting for $0.00384 and be worth 94 % of its price when it came up (not before a job-hour of waiting is worth about $1.46 instead of $0.10000); the last stays because the waiting it saves is worth its price
        launching 11: 50 waiting, 10 running, 10 of 10 ready, arrivals 0.485 a second over the last 190 s; each of the 11 saves at least $0.00407 of waiting and $0.00192 of others' work for $0.00572; the 12th would save $0.00303 of waiting and $0.00154 of others' work for $0.00518 (not before a job-hour of waiting is worth about $0.12021 instead of $0.10000)
        launching 3: 0 waiting, 2 running, 10 of 10 ready, arrivals 0.489 a second over the last 180 s; each of the 3 saves at least $0.02527 of waiting and $0.00038 of others' work for $0.02322; the 4th would save $0.00022 of waiting and $0.00001 of others' work for $0.00384 and be worth 66 % of its price when it came up (not before a job-hour of waiting is worth about $1.77 instead of $0.10000)
        releasing 10: 0 waiting, 0 running, 10 of 10 ready, arrivals 0 a second over the last 470 s; none of them is worth its price"#]].assert_eq(&said);
    // The manual quotes the second one.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let manual = words(include_str!("../../../../docs/policies.md"));
    let quoted = said.lines().nth(1).expect("four of them");
    assert!(
        manual.contains(&words(quoted)),
        "docs/policies.md does not quote: {quoted}"
    );
}

/// What is said and wished for after two steady hours in which `running` of 16
/// instances had work, if a job-hour is worth so many ten-thousandths of a dollar.
fn settled(worth: u64, running: f64) -> Opinion {
    let mut stage = Stage::new(Worth::Usd(MicroUsdPerHour::new(100 * worth)));
    (stage.ready, stage.current) = (16, 16);
    for round in 0..720 {
        let came = if round % 2 == 0 { 0.4 } else { 0.6 };
        stage.cycle((came * running).round(), 0.0, running);
    }
    stage.cycle((0.5 * running).round(), 0.0, running)
}

#[test]
fn what_stays_and_what_goes_says_at_which_worth_of_waiting_it_would_not() {
    let mut said = String::new();
    for (worth, running) in [(1_000, 9.0), (1_000, 10.0), (1_000, 11.0), (10_000, 9.0)] {
        said.push_str(&settled(worth, running).why);
        said.push('\n');
    }
    expect![[r#"
        releasing 4: 0 waiting, 9 running, 16 of 16 ready, arrivals 0.45 a second over the last 7200 s; none of them is worth its price (one would stay if a job-hour of waiting were worth about $0.24888 instead of $0.10000); the next stays because it is likely to be needed again before a new one has paid
        releasing 3: 0 waiting, 10 running, 16 of 16 ready, arrivals 0.5 a second over the last 7200 s; none of them is worth its price (one would stay if a job-hour of waiting were worth about $0.21083 instead of $0.10000); the next stays because it is likely to be needed again before a new one has paid
        releasing 2: 0 waiting, 11 running, 16 of 16 ready, arrivals 0.55 a second over the last 7200 s; none of them is worth its price (one would stay if a job-hour of waiting were worth about $0.18249 instead of $0.10000); the next stays because the waiting it saves is worth its price
        releasing 2: 0 waiting, 9 running, 16 of 16 ready, arrivals 0.45 a second over the last 7200 s; none of them is worth its price (one would stay if a job-hour of waiting were worth about $1.52 instead of $1.00); the next stays because it is likely to be needed again before a new one has paid
    "#]].assert_eq(&said);
    // And so it is, within a fifth: what it takes is told as of this moment.
    for (worth, running, flip) in [
        (1_000, 9.0, 2_489),
        (1_000, 10.0, 2_108),
        (1_000, 11.0, 1_825),
        (10_000, 9.0, 15_200),
    ] {
        let kept = |worth| wish(&settled(worth, running)).expect("all readings are there");
        assert_eq!(kept(flip * 4 / 5), kept(worth), "{worth} {running}");
        assert!(kept(flip * 6 / 5) > kept(worth), "{worth} {running}");
    }
}

#[test]
fn the_dearer_waiting_is_the_more_are_wished_for() {
    let wished = [
        Preset::Bulk,
        Preset::Batch,
        Preset::Balanced,
        Preset::Interactive,
    ]
    .map(|preset| {
        let mut stage = Stage::new(Worth::Preset(preset));
        stage.steady(2);
        wish(&stage.cycle(204.0, 200.0, 10.0)).expect("all readings are there")
    });
    assert!(wished.is_sorted(), "{wished:?}");
    assert!(wished[3] > 2 * wished[1], "{wished:?}");
}

#[test]
fn service_and_boot_times_are_learnt() {
    let mut stage = balanced();
    stage.steady(3);
    let service = stage.state.service.mean();
    assert!((service - 20.0).abs() < 1.0, "{service}");
}

#[test]
fn what_was_learnt_survives_being_written_down() {
    let mut stage = balanced();
    stage.steady(30);
    let text = serde_json::to_string(&stage.state).expect("plain data");
    assert!(text.len() < 24_000, "{} bytes", text.len());
    let read: State = serde_json::from_str(&text).expect("what was written");
    assert_eq!(read, stage.state);
    let mut other = Stage {
        rule: stage.rule.clone(),
        state: read,
        ..stage
    };
    stage.state = other.state.clone();
    for round in 0..50_u32 {
        let waiting = f64::from(round % 7);
        let said = stage.cycle(4.0, waiting, 8.0);
        assert_eq!(said, other.cycle(4.0, waiting, 8.0));
    }
}

#[test]
fn absent_readings_may_launch_and_never_let_go() {
    let mut stage = balanced();
    stage.steady(1);
    for missing in ["backlog", "in_flight", "arrivals"] {
        for (backlog, grows) in [(0.0, false), (500.0, missing != "backlog")] {
            let mut readings = Readings::new();
            let all = [
                present("backlog", backlog),
                present("in_flight", 0.0),
                present("arrivals", 0.0),
            ];
            for (name, reading) in all {
                let absent = absent(name).1;
                let reading = if name == missing { absent } else { reading };
                readings.insert(name, reading);
            }
            let opinion = stage.shown(&readings);
            let grown = wish(&opinion).is_some_and(|count| count > stage.current);
            assert_eq!(grown, grows, "{missing} {backlog}: {opinion:?}");
            assert!(grown || wish(&opinion).is_none(), "{missing}: {opinion:?}");
        }
    }
}

#[test]
fn a_dump_is_worked_off_and_not_extrapolated() {
    let mut stage = balanced();
    stage.max = 1_000_000;
    stage.steady(2);
    let opinion = stage.cycle(100_000.0, 100_000.0, 10.0);
    let wished = wish(&opinion).expect("all readings are there");
    // Jobs of 20 s, a boot of 2 min: some 70 s of work for each instance.
    assert!((20_000..50_000).contains(&wished), "{wished}");
    // It is gone, and nothing of it is left in the forecast.
    for _ in 0..40 {
        stage.cycle(4.0, 0.0, 8.0);
    }
    let after = wish(&stage.cycle(4.0, 0.0, 8.0)).expect("all readings are there");
    assert!(after <= 12, "{after}");
}

#[test]
fn a_counter_that_begins_anew_or_lies_is_bounded() {
    for lie in [0.0, 1e7, 5.0] {
        let mut stage = balanced();
        stage.steady(2);
        stage.arrived = lie;
        let opinion = stage.cycle(0.0, 0.0, 8.0);
        let wished = wish(&opinion).expect("all readings are there");
        assert!((8..=14).contains(&wished), "{lie}: {opinion:?}");
    }
}

#[test]
fn a_rate_that_lies_tenfold_costs_a_bounded_reserve() {
    let mut stage = balanced();
    stage.steady(2);
    // The counter says ten times what comes; jobs in the system stay as they are.
    let mut most = 0;
    for _ in 0..2_000 {
        let opinion = stage.cycle(40.0, 0.0, 8.0);
        most = most.max(wish(&opinion).expect("all readings are there"));
    }
    assert!(most <= 200, "{most}");
    let last = wish(&stage.cycle(40.0, 0.0, 8.0)).expect("all readings are there");
    assert!(last <= 40, "{last}: service {}", stage.state.service.mean());
}

#[test]
fn a_promise_that_is_kept_makes_waiting_cheaper_and_a_broken_one_dearer() {
    let promise = Worth::P95(Duration::from_mins(1));
    let mut kept = Stage::new(promise);
    kept.steady(2);
    let mut broken = Stage::new(promise);
    for _ in 0..720 {
        broken.cycle(4.0, 200.0, 10.0);
    }
    assert!(kept.state.promise.kappa() < 0.5);
    assert!(broken.state.promise.kappa() > 100.0);
}

/// At ten in the evening jobs may wait for an hour instead of a minute.
#[test]
fn a_promise_of_the_night_is_kept_apart_from_that_of_the_day() {
    let text = "[[policy]]\nkind = \"economic\"\np95_wait = \"1m\"\n\
                [[policy.window]]\nstart = \"0 22 * * *\"\nduration = \"8h\"\np95_wait = \"1h\"\n";
    let file = crate::policy_file::read(text).expect("a policy");
    let crate::policy::Policy::Economic(rule) = &file.policies[0].policy else {
        panic!("it is economic");
    };
    let mut stage = Stage {
        rule: rule.clone(),
        ..balanced()
    };
    // Every job waits for 400 s, from noon on.
    stage.now = Timestamp::parse("2026-01-12T12:00:00Z").expect("a time");
    for _ in 1..10 * 360 {
        stage.cycle(4.0, 200.0, 10.0);
    }
    let day = stage.state.promise.kappa();
    assert!(day > 100.0, "{day}");
    assert!(stage.state.window_promises.is_empty());
    let mut said = String::new();
    for _ in 0..4 * 360 {
        said = stage.cycle(4.0, 200.0, 10.0).why;
    }
    assert!(
        said.ends_with("; window `0 22 * * *` for 8h is open (UTC)"),
        "{said}"
    );
    assert!(stage.state.promised(Some(0)) < 0.02 * day);
    assert!((stage.state.promise.kappa() - day).abs() < 1e-9);
    let text = serde_json::to_string(&stage.state).expect("plain data");
    assert_eq!(
        serde_json::from_str::<State>(&text).expect("what was written"),
        stage.state
    );
}

#[test]
fn what_was_launched_is_not_let_go_by_readings_from_before_the_launch() {
    for (age, held) in [(0, false), (50, false), (80, true), (140, true)] {
        let mut stage = balanced();
        stage.interval = Duration::from_mins(1);
        stage.age = Duration::from_secs(age);
        for round in 0..240_u32 {
            stage.cycle(f64::from(23 + round % 3), 0.0, 8.0);
        }
        // Three were launched a minute ago, and there is nothing for them to do.
        stage.current = 13;
        stage.launched_ago = Duration::from_mins(1);
        let opinion = stage.cycle(24.0, 0.0, 8.0);
        let kept = wish(&opinion) == Some(13);
        assert_eq!(kept, held, "{age}: {opinion:?}");
        // A minute later it is a lull, however old the readings are.
        stage.launched_ago = Duration::from_mins(2);
        let opinion = stage.cycle(24.0, 0.0, 8.0);
        assert!(wish(&opinion) < Some(13), "{age}: {opinion:?}");
    }
}

#[test]
fn without_a_worth_waiting_is_as_dear_as_an_instance() {
    let mut nobody_says = Stage::new(Worth::Objective);
    let mut balanced = Stage::new(Worth::Preset(Preset::Balanced));
    for waiting in [10.0, 300.0, 0.0] {
        let opinion = nobody_says.cycle(4.0, waiting, 8.0);
        assert_eq!(opinion, balanced.cycle(4.0, waiting, 8.0));
    }
}
