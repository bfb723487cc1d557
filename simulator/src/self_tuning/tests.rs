use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use windlass_policies::memory::Memory;
use windlass_policies::memory_store::MemoryStore;
use windlass_policies::model::{Billing, Epoch, Market, Offering};
use windlass_policies::policy_file;
use windlass_policies::ports::Record;
use windlass_policies::reconcile::{Mode, Ports, reconcile};
use windlass_policies::signal::SignalSpec;
use windlass_policies::spec::{Drain, FleetSpec, Limits, Mix, Objective, Spot};
use windlass_policies::units::{MicroUsdPerHour, Timestamp};

use super::*;
use crate::distribution::Distribution;
use crate::engine::poll_once;
use crate::queue::{Keep, QueueSpec, ServerSpec};
use crate::trace::Trace;
use crate::workload::{self, WorkloadSpec};
use crate::world::cloud::CloudSpec;
use crate::world::{SimulatedPorts, World, WorldSpec};

const HOUR: usize = 60;
const DAY: usize = 24 * HOUR;

/// Three times as many instances as there are jobs: what to find is plain.
const LAVISH: &str = "[[policy]]\nkind = \"queue_backlog\"\njobs_per_instance = 0.3\n";

/// About as good as a fleet that is looked at once a minute gets.
const THRIFTY: &str = "[[policy]]\nkind = \"queue_backlog\"\njobs_per_instance = 0.9\n";

/// Four days of the lavish fleet by day, which many tests look at.
static LOOKS: LazyLock<Vec<Look>> = LazyLock::new(|| record(&fleet(LAVISH), by_day(4)));

/// What they come to.
static REPORT: LazyLock<Report> = LazyLock::new(|| report(LAVISH, None, &LOOKS));

fn fleet(text: &str) -> FleetSpec {
    let file = policy_file::read(text).expect("a policy");
    let standard = ["arrivals", "backlog", "in_flight"].map(SignalSpec::standard);
    FleetSpec {
        name: "web".to_owned(),
        interval: Duration::from_mins(1),
        offerings: vec![Offering {
            name: "one".to_owned(),
            price: MicroUsdPerHour::new(360_000),
            billing: Billing {
                increment: Duration::from_secs(1),
                minimum: Duration::from_mins(1),
            },
            slots: 1,
            market: Market::OnDemand,
            prepaid: 0,
        }],
        signals: standard.into_iter().flatten().collect(),
        policies: file.policies,
        limits: Limits::unbound(1, 60),
        mix: Mix::default(),
        spot: Spot::default(),
        drain: Drain::default(),
        objective: Objective {
            usd_per_job_hour_waiting: MicroUsdPerHour::new(360_000),
        },
    }
}

fn own(text: &str) -> Own {
    Own {
        name: "own".to_owned(),
        text: text.to_owned(),
    }
}

/// Jobs that come by day more than by night, each minute.
fn by_day(days: usize) -> Vec<u64> {
    let hours = [
        1, 1, 1, 1, 2, 3, 5, 8, 9, 9, 8, 9, 9, 8, 8, 9, 8, 7, 5, 4, 3, 2, 1, 1,
    ];
    (0..days * DAY)
        .map(|minute| hours[minute / HOUR % 24])
        .collect()
}

/// Nothing for hours, then very many.
fn bursts(days: usize) -> Vec<u64> {
    let burst = |minute: usize| minute % (5 * HOUR) < 5;
    (0..days * DAY)
        .map(|minute| if burst(minute) { 120 } else { 0 })
        .collect()
}

/// What is kept of the fleet of `spec` under a load that really is.
fn record(spec: &FleetSpec, counts: Vec<u64>) -> Vec<Look> {
    let length = Duration::from_mins(u64::try_from(counts.len()).expect("few"));
    let trace = Trace::of_counts("web", 60_000_000, counts).expect("a trace");
    let work = WorkloadSpec {
        service: Some(Distribution::exponential(Duration::from_secs(90)).expect("times")),
        ..WorkloadSpec::default()
    };
    let jobs = workload::build(&trace, &work, 77).expect("a workload").jobs;
    let begins_at = Timestamp::parse("2026-03-02T00:00:00Z").expect("a Monday");
    let world = World::new(
        WorldSpec {
            fleet: spec.name.clone(),
            begins_at,
            offerings: spec.offerings.clone(),
            initial: 2,
            listing_lag: Duration::ZERO,
            metric_period: Duration::ZERO,
            metric_lag: Duration::ZERO,
            queue: QueueSpec {
                jobs: Arc::clone(&jobs),
                repeat_every: None,
                keep: Keep::Sums,
                responses: false,
            },
            server: ServerSpec::default(),
            cloud: CloudSpec::default(),
        },
        Box::new(|| Some(90_000_000)),
    );
    let ports = SimulatedPorts::new(world.expect("a world"));
    let store = MemoryStore::keeping_tail();
    let mut memory = Memory::new("simulated", Epoch(1));
    let mut looks = Vec::new();
    let mut tick = begins_at + spec.interval;
    while tick < begins_at + length {
        ports.with(|world| world.advance(tick));
        let all = Ports {
            clock: &ports,
            metrics: &ports,
            provider: &ports,
            store: &store,
        };
        let cycle = poll_once(reconcile(spec, Mode::Act, &mut memory, all));
        cycle.expect("never waits").expect("never fails");
        store.look(&spec.name, |records| {
            let Some(Record::Decided(decided)) = records.first() else {
                panic!("a cycle begins with a decision");
            };
            looks.push(Look::of(decided));
        });
        tick = tick + spec.interval;
    }
    looks
}

fn report(text: &str, following: Option<&Following>, looks: &[Look]) -> Report {
    judged(&fleet(text), text, following, looks, &Settings::default())
}

fn judged(
    spec: &FleetSpec,
    text: &str,
    following: Option<&Following>,
    looks: &[Look],
    settings: &Settings,
) -> Report {
    let input = Input {
        spec,
        own: &own(text),
        following,
        looks,
        settings,
    };
    judge(input, &mut || ControlFlow::Continue(())).expect("nobody stops it")
}

fn following(text: &str, since: Timestamp) -> Following {
    Following {
        found: Found {
            name: "other".to_owned(),
            turned: Vec::new(),
            text: text.to_owned(),
            policies: policy_file::read(text).expect("a policy").policies,
            own: false,
        },
        since,
    }
}

#[track_caller]
fn better(report: &Report) -> (&Found, &GainTold) {
    match &report.verdict {
        Verdict::Better { found, gain } => (found, gain),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn unfit(report: &Report) -> &str {
    match &report.verdict {
        Verdict::Unfit { why } => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_is_the_load_that_made_it() {
    let spec = fleet(LAVISH);
    let counts = by_day(4);
    let arrived: u64 = counts.iter().sum();
    let looks = record(&spec, counts);
    let recorded = Recorded::of(&looks, &spec, &Settings::default()).expect("a load");
    let near = |found: f64, expected: f64| {
        assert!(
            (found / expected - 1.0).abs() < 0.05,
            "{found}, not {expected}"
        );
    };
    let jobs = u32::try_from(recorded.jobs()).expect("few");
    near(
        f64::from(jobs),
        f64::from(u32::try_from(arrived).expect("few")),
    );
    near(recorded.service.as_secs_f64(), 90.0);
    near(recorded.boot.as_secs_f64(), 90.0);
    assert!(recorded.boot_seen);
    assert_eq!(recorded.lag, Duration::ZERO);
}

#[test]
fn a_policy_that_is_beaten_is_told_by_what() {
    let report = &*REPORT;
    let (found, gain) = better(report);
    assert!(gain.percent(gain.low_usd_per_day) > 10.0, "{report}");
    assert!(report.tried > 20);
    // What was found can be written down and used.
    let again = policy_file::read(&found.text).expect("a policy file");
    assert_eq!(again.policies, found.policies);
}

#[test]
fn what_is_not_surely_better_by_the_margin_is_only_told() {
    let verdict = |margin_percent| {
        let settings = Settings {
            margin_percent,
            ..Settings::default()
        };
        let report = judged(&fleet(LAVISH), LAVISH, None, &LOOKS, &settings);
        let step = next(&report, None, None, &Settings::default());
        (report.verdict, step)
    };
    let gain = better(&REPORT).1;
    let (low, mean) = (
        gain.percent(gain.low_usd_per_day),
        gain.percent(gain.usd_per_day),
    );
    // A margin between the low end and the gain: likely, and not sure.
    let between = (1..100).find(|margin| (low..mean).contains(&f64::from(*margin)));
    let (verdict, step) = verdict(between.expect("some percent lie in between"));
    assert!(matches!(verdict, Verdict::Unsure { .. }), "{verdict:?}");
    assert_eq!(step, Next::Stay);
}

#[test]
fn what_is_found_is_really_cheaper_the_day_after() {
    let days = by_day(5);
    let report = &*REPORT;
    let cost = |policies: &[NamedPolicy]| {
        let spec = FleetSpec {
            policies: policies.to_vec(),
            ..fleet(LAVISH)
        };
        let looks = record(&spec, days.clone());
        let settings = Settings::default();
        let recorded = Recorded::of(&looks, &spec, &settings).expect("a load");
        recorded.came_to(&spec, 4 * 86_400_000_000).get()
    };
    let before = cost(&fleet(LAVISH).policies);
    let after = cost(&better(report).0.policies);
    assert!(after * 10 < before * 9, "{after} for {before}: {report}");
}

#[test]
fn what_the_load_was_like_before_it_changed_does_not_count_as_proof() {
    // Thrifty by day; then the load becomes another.
    let mut counts = by_day(3);
    counts.extend(bursts(2));
    for text in [LAVISH, THRIFTY] {
        let looks = record(&fleet(text), counts.clone());
        let report = report(text, None, &looks);
        let Verdict::Better { found, .. } = &report.verdict else {
            continue;
        };
        let mut more = counts.clone();
        more.extend(bursts(1));
        let cost = |policies: Vec<NamedPolicy>| {
            let spec = FleetSpec {
                policies,
                ..fleet(text)
            };
            let recorded = record(&spec, more.clone());
            let recorded = Recorded::of(&recorded, &spec, &Settings::default());
            recorded.expect("a load").came_to(&spec, 5 * 86_400_000_000)
        };
        let (before, after) = (cost(fleet(text).policies), cost(found.policies.clone()));
        assert!(after < before, "{after} for {before}: {report}");
    }
}

#[test]
fn too_little_history_is_said_and_nothing_is_done() {
    let looks = record(&fleet(LAVISH), by_day(2));
    let report = report(LAVISH, None, &looks);
    assert_eq!(
        unfit(&report),
        "too little history: 1d23h58m of the 3d that are needed"
    );
    assert_eq!(next(&report, None, None, &Settings::default()), Next::Stay);
    assert!(unfit(&super::tests::report(LAVISH, None, &[])).starts_with("too little history"));
}

#[test]
fn a_clock_that_goes_back_and_a_long_gap_begin_the_record_anew() {
    let looks = record(&fleet(LAVISH), by_day(5));
    for (moved, why) in [
        (0, "the clock went back or stood still"),
        (-6, "the clock went back or stood still"),
        (6, "the fleet was not looked at for long"),
    ] {
        let mut broken = looks.clone();
        let still = broken[3 * DAY - 1].at;
        let shift = |at: Timestamp| {
            let hours = Duration::from_hours(6);
            match moved {
                0 if at < still + Duration::from_mins(2) => still,
                0 => at,
                ..0 => at - hours,
                _ => at + hours,
            }
        };
        for look in &mut broken[3 * DAY..] {
            look.at = shift(look.at);
            look.counted_at = look.counted_at.map(shift);
        }
        let told = report(LAVISH, None, &broken);
        let told = unfit(&told);
        assert!(told.contains(why), "{told}");
        assert!(told.contains("history: 1d23h5"), "{told}");
    }
}

#[test]
fn a_counter_that_begins_anew_loses_nothing_much() {
    let spec = fleet(LAVISH);
    let looks = record(&spec, by_day(4));
    let mut reset = looks.clone();
    let base = reset[2 * DAY].arrivals.expect("counted");
    for look in &mut reset[2 * DAY + 1..] {
        look.arrivals = look.arrivals.map(|arrivals| arrivals - base);
    }
    let jobs = |looks: &[Look]| {
        let recorded = Recorded::of(looks, &spec, &Settings::default());
        recorded.expect("a load").jobs()
    };
    assert!(jobs(&looks).abs_diff(jobs(&reset)) <= 1);
}

#[test]
fn a_record_that_lies_is_not_trusted() {
    let looks = LOOKS.clone();
    // Jobs in hand are said to be ten times what they are, or a tenth.
    for factor in [10.0, 0.1] {
        let mut lying = looks.clone();
        for look in &mut lying {
            look.in_flight = look.in_flight.map(|jobs| jobs * factor);
        }
        let report = report(LAVISH, None, &lying);
        assert!(
            matches!(report.verdict, Verdict::Unlike { .. }),
            "{factor}: {report}"
        );
        assert_eq!(next(&report, None, None, &Settings::default()), Next::Stay);
    }
    // Waiting that was recorded where there is none in the replay.
    let mut lying = looks.clone();
    for look in &mut lying {
        look.backlog = look.backlog.map(|jobs| jobs + 50.0);
    }
    let report = report(LAVISH, None, &lying);
    assert!(matches!(report.verdict, Verdict::Unlike { .. }), "{report}");
}

#[test]
fn without_a_counter_or_a_price_it_is_said_what_to_add() {
    let looks = LOOKS.clone();
    let mut uncounted = looks.clone();
    for look in &mut uncounted {
        (look.arrivals, look.completions) = (None, None);
    }
    assert!(unfit(&report(LAVISH, None, &uncounted)).contains("`arrivals`"));
    let mut unseen = looks.clone();
    for look in &mut unseen {
        look.in_flight = None;
        look.instances = None;
    }
    assert!(unfit(&report(LAVISH, None, &unseen)).contains("`in_flight`"));
    let promise = "[[policy]]\nkind = \"economic\"\np95_wait = \"5m\"\n";
    assert!(unfit(&report(promise, None, &looks)).contains("p95_wait"));
    let spec = FleetSpec {
        objective: Objective::default(),
        ..fleet(LAVISH)
    };
    let report = judged(&spec, LAVISH, None, &looks, &Settings::default());
    assert!(unfit(&report).contains("usd_per_job_hour_waiting"));
}

#[test]
fn it_stops_when_it_is_told_to() {
    let looks = LOOKS.clone();
    let spec = fleet(LAVISH);
    let input = Input {
        spec: &spec,
        own: &own(LAVISH),
        following: None,
        looks: &looks,
        settings: &Settings::default(),
    };
    let mut pieces = 0;
    let stopped = judge(input, &mut || {
        pieces += 1;
        if pieces < 10 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    assert_eq!((stopped, pieces), (Err(Stopped), 10));
}

#[test]
fn what_is_followed_is_given_up_when_it_turns_out_worse() {
    let base = fleet(THRIFTY);
    let since = Timestamp::parse("2026-03-06T00:00:00Z").expect("a time");
    let lavish = following(LAVISH, since);
    let under = lavish.spec(&base);
    // As if it had been followed all the time: the record is what it did.
    let looks = record(&under, by_day(5));
    let look = |following: &Following, text: &str| {
        let spec = fleet(text);
        let input = Input {
            spec: &spec,
            own: &own(text),
            following: Some(following),
            looks: &looks,
            settings: &Settings::default(),
        };
        look_back(input, &mut || ControlFlow::Continue(())).expect("nobody stops it")
    };
    let report = look(&lavish, THRIFTY).expect("it has been followed for a day");
    assert!(matches!(report.verdict, Verdict::Worse { .. }), "{report}");
    // Going back waits for nothing.
    let settings = Settings::default();
    assert_eq!(
        next(&report, Some(&lavish), Some(since), &settings),
        Next::Back
    );
    // So is what costs more than the replay that it was chosen by says.
    let mut dearer = looks.clone();
    for look in &mut dearer[4 * DAY..] {
        look.backlog = look.backlog.map(|jobs| jobs + 80.0);
    }
    let spec = fleet(THRIFTY);
    let input = Input {
        spec: &spec,
        own: &own(THRIFTY),
        following: Some(&lavish),
        looks: &dearer,
        settings: &settings,
    };
    let told = look_back(input, &mut || ControlFlow::Continue(())).expect("goes on");
    let told = told.expect("long enough").to_string();
    assert!(
        told.contains("where the replay that it was chosen by says"),
        "{told}"
    );
    // An hour is too short to say.
    let late = Timestamp::parse("2026-03-06T23:00:00Z").expect("a time");
    assert_eq!(look(&following(LAVISH, late), THRIFTY), None);
    // What is better stays.
    let looks = record(&fleet(THRIFTY), by_day(5));
    let thrifty = following(THRIFTY, since);
    let spec = fleet(LAVISH);
    let input = Input {
        spec: &spec,
        own: &own(LAVISH),
        following: Some(&thrifty),
        looks: &looks,
        settings: &Settings::default(),
    };
    let report = look_back(input, &mut || ControlFlow::Continue(())).expect("goes on");
    assert_eq!(report.expect("long enough").verdict, Verdict::Best);
}

#[test]
fn nothing_is_changed_again_before_it_has_been_held() {
    let report = &*REPORT;
    let settings = Settings::default();
    let ago = |span: Duration| Some(report.at - span);
    let hour = Duration::from_hours(1);
    assert_eq!(
        next(report, None, ago(hour), &settings),
        Next::Wait {
            until: report.at - hour + settings.hold
        }
    );
    let found = better(report).0.clone();
    assert_eq!(
        next(report, None, None, &settings),
        Next::Follow(found.clone())
    );
    assert_eq!(
        next(report, None, ago(settings.hold), &settings),
        Next::Follow(found)
    );
}
