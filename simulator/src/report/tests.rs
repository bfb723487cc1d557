//! What a page shows is what happened, reckoned again from every tick.

use std::time::Duration;

use windlass_policies::policy_file;
use windlass_policies::presets;
use windlass_policies::units::Timestamp;

use super::recorder::Column;
use super::*;
use crate::engine;
use crate::queue::narrow;
use crate::scenario::Scenario;
use crate::score::Label;
use crate::world::WorldView;

/// A tick: the world right after it, what was wished, whether it changed a size.
struct Tick {
    view: WorldView,
    wish: Option<u32>,
    changed: bool,
}

struct Told {
    run: Run,
    ticks: Vec<Tick>,
    /// Arrivals and waits.
    jobs: Vec<(u64, u64)>,
    price: u64,
}

/// The built-in scenario `name` under the preset `policy`, whose results are
/// called `label`.
fn told(name: &str, policy: &str, label: &str) -> Told {
    let scenario = Scenario::open(&format!("builtin:{name}")).expect("built in");
    let trace = scenario.read_trace().expect("built in");
    let workload = scenario.build_workload(&trace).expect("it has jobs");
    let text = presets::text(policy).expect("built in");
    let file = policy_file::read(text).expect("built in");
    let spec = scenario.fleet_spec(file.policies, file.signals);
    let world = scenario
        .world(&spec.name, &workload, &spec.signals, false)
        .expect("a world");
    let length = workload.length_micros;
    let end = world.now() + Duration::from_micros(length);
    let interval = u64::try_from(spec.interval.as_micros()).expect("short");
    let mut recorder = Recorder::new(length, interval);
    let mut ticks = vec![Tick {
        view: world.view(),
        wish: None,
        changed: false,
    }];
    recorder.note_view(&ticks[0].view);
    let world = engine::observe(&spec, world, end, |cycle, world| {
        let view = world.view();
        recorder.note(cycle, &view);
        ticks.push(Tick {
            view,
            wish: cycle.decision.wish,
            changed: cycle.decision.current != cycle.decision.target,
        });
    });
    let world = world.expect("nothing is stored");
    let label = Label {
        scenario: name.to_owned(),
        policy: label.to_owned(),
        trace: scenario.trace_name(),
        seed: scenario.seed,
    };
    let score = Score::of(label, &world.summary(), scenario.objective);
    let usual = scenario.objective.usd_per_job_hour_waiting;
    let prices = WaitPrices {
        usual,
        classes: Vec::new(),
    };
    let course = recorder.finish(&world, &workload, &prices, &score);
    let mut jobs = Vec::new();
    let arrivals = workload.jobs.arrivals();
    world.each_wait(|job, wait| jobs.push((arrivals[narrow(job)], wait)));
    Told {
        run: Run { score, course },
        ticks,
        jobs,
        price: usual.get(),
    }
}

fn column<'a>(course: &'a Course, name: &str) -> &'a Column {
    let named = course.columns.iter().find(|(known, _)| *known == name);
    &named.expect("a column").1
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn float(number: u64) -> f64 {
    number as f64
}

fn near(found: Option<f64>, expected: f64, what: &str) {
    let found = found.expect(what);
    let off = (found - expected).abs();
    assert!(
        off <= 1e-6 * expected.abs().max(1.0),
        "{what}: {found} for {expected}"
    );
}

#[test]
fn courses_are_those_of_every_tick_and_job() {
    for (name, policy) in [("web-week", "step"), ("ci-bursts", "queue-backlog")] {
        let told = told(name, policy, policy);
        let course = &told.run.course;
        let step = course.step;
        let bins = column(course, "ready").len();
        assert!(bins > 100 && bins <= narrow(BINS_MAX), "{bins}");
        let place = |at: u64| narrow(at / step);
        for bin in 0..bins {
            let from = told.ticks.partition_point(|tick| place(tick.view.at) < bin);
            let to = told
                .ticks
                .partition_point(|tick| place(tick.view.at) <= bin);
            let own = || told.ticks[from..to].iter();
            let check = |name: &str, value: &dyn Fn(&Tick) -> Option<u64>| {
                let values: Vec<u64> = own().filter_map(value).collect();
                let Some(least) = values.iter().min() else {
                    assert_eq!(column(course, name)[bin], None);
                    return;
                };
                let most = values.iter().max().copied().unwrap_or(0);
                let mean = float(values.iter().sum()) / float(crate::queue::wide(values.len()));
                near(column(course, name)[bin], mean, name);
                near(
                    column(course, &format!("{name}_min"))[bin],
                    float(*least),
                    name,
                );
                near(
                    column(course, &format!("{name}_max"))[bin],
                    float(most),
                    name,
                );
            };
            check("ready", &|tick| Some(tick.view.ready.into()));
            check("booting", &|tick| Some(tick.view.booting.into()));
            check("draining", &|tick| Some(tick.view.draining.into()));
            check("wish", &|tick| tick.wish.map(u64::from));
            check("backlog", &|tick| Some(tick.view.queue.backlog));
            check("busy", &|tick| Some(tick.view.queue.busy));
            // The bin begins with a tick: what was spent until then.
            let first = &own().next().expect("a tick").view;
            let instances = first.instance_cost.get().unsigned_abs();
            near(
                column(course, "instance_usd")[bin],
                float(instances) / 1e6,
                "instances",
            );
            let waited = first.waited_micros * u128::from(told.price) / 3_600_000_000;
            let waited = u64::try_from(waited).expect("small");
            near(
                column(course, "delay_usd")[bin],
                float(waited) / 1e6,
                "waiting",
            );
            let from = told.jobs.partition_point(|job| place(job.0) < bin);
            let to = told.jobs.partition_point(|job| place(job.0) <= bin);
            let mut waits: Vec<u64> = told.jobs[from..to].iter().map(|job| job.1).collect();
            waits.sort_unstable();
            let Some(longest) = waits.last() else {
                assert_eq!(column(course, "wait")[bin], None);
                continue;
            };
            let rank = (waits.len() * 95).div_ceil(100).max(1) - 1;
            near(
                column(course, "wait_p95")[bin],
                float(waits[rank]) / 1e6,
                "p95",
            );
            near(
                column(course, "wait_max")[bin],
                float(*longest) / 1e6,
                "longest",
            );
        }
        let score = &told.run.score;
        near(
            column(course, "instance_usd")[bins],
            score.instance_usd,
            "all instances",
        );
        near(
            column(course, "delay_usd")[bins],
            score.delay_usd,
            "all waiting",
        );
        let changed = told.ticks.iter().filter(|tick| tick.changed).count();
        assert_eq!(course.changes, crate::queue::wide(changed));
        assert_eq!(course.marks.len(), changed.min(MARKS_MAX));
        assert!(course.marks.is_sorted_by_key(|mark| mark.at));
        let kept = |at: u64| course.marks.iter().any(|mark| mark.at == at);
        // Nothing that was left out changed more than anything that is there.
        let change =
            |mark: &super::recorder::Mark| mark.from.zip(mark.to).map(|(a, b)| a.abs_diff(b));
        let least = course.marks.iter().filter_map(change).min().unwrap_or(0);
        for tick in told
            .ticks
            .iter()
            .filter(|tick| tick.changed && !kept(tick.view.at))
        {
            assert!(least >= 1, "{}", tick.view.at);
        }
    }
}

#[test]
fn runs_of_any_length_have_few_points() {
    for (length_secs, interval_secs) in [(1, 60), (60, 60), (86_400, 60), (31_536_000, 60), (7, 1)]
    {
        let recorder = Recorder::new(length_secs * 1_000_000, interval_secs * 1_000_000);
        assert!(recorder.points() <= narrow(BINS_MAX), "{length_secs}");
        assert!(recorder.points() >= 1);
    }
}

#[test]
fn a_page_is_the_same_twice_fetches_nothing_and_obeys_no_name() {
    let evil = "</script><script>boom()</script>\"'&";
    let run = || told("ci-bursts", "step", evil).run;
    let begins_at = Some(Timestamp::from_secs(1_000_000_000));
    let page = html(&[run()], begins_at, "waiting costs <$1>");
    assert_eq!(page, html(&[run()], begins_at, "waiting costs <$1>"));
    assert_eq!(page.matches("<script").count(), 2, "data and program");
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(!page.contains("boom()</"));
    assert!(!page.contains("<$1>"));
    assert!(page.contains("&lt;/script&gt;&lt;script&gt;boom()&lt;/script&gt;&quot;&#39;&amp;"));
    let fetched = page.replace("http://www.w3.org/2000/svg", "");
    for trace in ["http:", "https:", "//www", "url(\"", "@import", "src="] {
        assert!(!fetched.contains(trace), "{trace}");
    }
}

#[test]
fn a_page_without_runs_is_a_page() {
    let page = html(&[], None, "");
    assert!(page.contains("No policies") && page.ends_with("</html>\n"));
}
