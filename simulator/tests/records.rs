//! What is told of each job and instance fits together, and telling it changes
//! nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use windlass_policies::policy_file;
use windlass_policies::presets;
use windlass_simulator::engine;
use windlass_simulator::scenario::{Scenario, TraceFile};
use windlass_simulator::world::{Summary, World};

/// Job after job on instances that die now and then.
const MORTAL: &str = r#"
[workload]
trace = "supercomputer"
length = "2d"

[cloud]
boot = { distribution = "constant", value = "90s" }
usd_per_hour = 0.10

[cloud.faults]
lifetime = "3h"

[fleet]
max = 40
initial = 3

[objective]
usd_per_job_hour_waiting = 1.0
"#;

/// A job as it is told.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    arrival: u64,
    start: Option<u64>,
    end: Option<u64>,
    instance: Option<String>,
    redone: u32,
}

fn run(scenario: &Scenario, journal: bool) -> (Summary, World, Vec<Told>) {
    let trace = scenario.read_trace().expect("built in");
    let workload = scenario.build_workload(&trace).expect("it has jobs");
    let text = presets::text("queue-backlog").expect("built in");
    let file = policy_file::read(text).expect("built in");
    let spec = scenario.fleet_spec(file.policies, file.signals);
    let mut world_spec = scenario.world_spec(&spec.name, &workload, &spec.signals, false);
    world_spec.server.journal = journal;
    let world = scenario.build_world(world_spec).expect("a world");
    let end = world.now() + Duration::from_micros(workload.length_micros);
    let mut jobs = Vec::new();
    let mut note = |job: &windlass_simulator::world::JobStory<'_>| {
        jobs.push(Told {
            arrival: job.arrival,
            start: job.start,
            end: job.end,
            instance: job.instance.map(str::to_owned),
            redone: job.redone,
        });
    };
    let world = engine::observe(&spec, world, end, |_, world| world.take_jobs(&mut note));
    let mut world = world.expect("nothing is stored");
    world.take_jobs(&mut note);
    world.unfinished_jobs(&mut note);
    (world.summary(), world, jobs)
}

fn check(scenario: &Scenario) -> (Summary, Vec<Told>) {
    let (plain, _, nothing) = run(scenario, false);
    let (summary, world, jobs) = run(scenario, true);
    assert_eq!(summary, plain, "telling of jobs changes nothing");
    assert!(nothing.is_empty());
    let count = |jobs: usize| u64::try_from(jobs).expect("few");
    assert_eq!(count(jobs.len()), summary.jobs);
    let unfinished = jobs.iter().filter(|job| job.end.is_none()).count();
    assert_eq!(count(unfinished), summary.unfinished_jobs);
    let (end, mut waited, mut took) = (summary.simulated_micros, 0, 0);
    for job in &jobs {
        waited += u128::from(job.start.unwrap_or(end) - job.arrival);
        took += u128::from(job.end.unwrap_or(end) - job.arrival);
        assert_eq!(job.start.is_some(), job.instance.is_some(), "{job:?}");
    }
    assert_eq!(
        (waited, took),
        (summary.wait.sum_micros, summary.response.sum_micros)
    );
    let redone: u64 = jobs.iter().map(|job| u64::from(job.redone)).sum();
    assert_eq!(redone, summary.jobs_redone);
    let ended: Vec<u64> = jobs.iter().filter_map(|job| job.end).collect();
    assert!(ended.is_sorted(), "in the order of their ends");
    let slots = usize::try_from(scenario.workload.slots_per_instance).expect("few");
    nobody_does_too_much_at_once(&jobs, &world, end, slots);
    (summary, jobs)
}

/// Each instance works on no more jobs than it has slots, between its boot and
/// its end.
fn nobody_does_too_much_at_once(jobs: &[Told], world: &World, end: u64, slots: usize) {
    let mut by_instance: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for job in jobs {
        if let (Some(instance), Some(start)) = (&job.instance, job.start) {
            let span = (start, job.end.unwrap_or(end));
            by_instance.entry(instance).or_default().push(span);
        }
    }
    assert!(by_instance.len() > 3, "{}", by_instance.len());
    let stays: Vec<_> = world.stays().collect();
    for (instance, mut spans) in by_instance {
        spans.sort_unstable();
        for (at, _) in &spans {
            let running = spans.iter().filter(|(from, to)| from <= at && at < to);
            assert!(running.count() <= slots, "{instance} at {at}: {spans:?}");
        }
        let number: usize = instance
            .trim_start_matches("sim-")
            .parse()
            .expect("a number");
        let stay = stays[number - 1];
        let ready = stay.ready_at.expect("it served");
        assert!(spans[0].0 >= ready, "{instance}: {spans:?} {stay:?}");
        let last = spans.iter().map(|span| span.1).max().expect("some");
        assert!(last <= stay.ended_at.unwrap_or(end), "{instance}: {stay:?}");
    }
}

#[test]
fn jobs_of_a_calm_cloud_are_told_as_they_went() {
    let scenario = Scenario::open("builtin:ci-bursts").expect("built in");
    let (summary, _) = check(&scenario);
    assert_eq!(summary.jobs_redone, 0);
}

#[test]
fn jobs_that_began_again_are_told_as_they_went_at_last() {
    let known = Scenario::open("builtin:supercomputer").expect("built in");
    let file = |_: &str| known.trace.clone();
    let scenario = Scenario::parse("mortal", MORTAL, file).unwrap_or_else(|problems| {
        panic!("{problems:?}");
    });
    assert!(matches!(scenario.trace, TraceFile::Embedded(_)));
    let (summary, jobs) = check(&scenario);
    assert!(summary.jobs_redone > 0, "the test is about them");
    assert!(jobs.iter().any(|job| job.redone > 0 && job.end.is_some()));
}
