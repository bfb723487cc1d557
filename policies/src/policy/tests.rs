//! What is true of every rule.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::testing::{absent, partial, present, propose};
use super::*;
use crate::cron::{CronLine, Zone};
use crate::model::Wish;
use crate::signal::Reading;

fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 0.0..1e6,
        1 => prop::num::f64::ANY,
        1 => prop::sample::select(vec![0.0, 1.0, -1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE]),
    ]
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any::<i32>().prop_map(Change::By),
        any::<u32>().prop_map(Change::Exact),
        (any_number(), any::<u32>()).prop_map(|(percent, change_min)| Change::Percent {
            percent,
            change_min
        }),
    ]
}

fn any_rung() -> impl Strategy<Value = Rung> {
    let when = prop_oneof![
        any_number().prop_map(Threshold::Above),
        any_number().prop_map(Threshold::Below),
    ];
    (when, any_change()).prop_map(|(when, change)| Rung { when, change })
}

fn any_schedule() -> impl Strategy<Value = Schedule> {
    let line = prop::sample::select(vec![
        "0 8 * * *",
        "30 2 * * *",
        "*/15 * * * *",
        "0 0 29 2 *",
    ])
    .prop_map(|text| CronLine::parse(text).expect("a cron line"));
    let until = prop_oneof![
        (0..100_000_000_u64).prop_map(|secs| Until::For(Duration::from_secs(secs))),
        line.clone().prop_map(Until::At),
    ];
    let window = (line, until, any::<u32>()).prop_map(|(start, until, instances)| Window {
        hours: Hours { start, until },
        instances,
    });
    (prop::collection::vec(window, 0..3), any::<u32>()).prop_map(|(windows, otherwise)| Schedule {
        zone: Zone::parse("Europe/Berlin").expect("a zone"),
        windows,
        otherwise,
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        any::<u32>().prop_map(|instances| Policy::Fixed(Fixed { instances })),
        any_schedule().prop_map(Policy::Schedule),
        (any_number(), any::<bool>()).prop_map(|(jobs, count_in_flight)| {
            Policy::QueueBacklog(QueueBacklog {
                count_in_flight,
                ..QueueBacklog::new(jobs)
            })
        }),
        (any_number(), any_number(), any::<bool>()).prop_map(|(target, dead_band, to_zero)| {
            Policy::TargetTracking(TargetTracking {
                dead_band,
                to_zero,
                ..TargetTracking::new(target)
            })
        }),
        prop::collection::vec(any_rung(), 0..4).prop_map(|steps| {
            Policy::Step(Step {
                signal: "oldest_age".to_owned(),
                steps,
            })
        }),
    ]
}

/// The policies of the peers' presets.
fn any_peer() -> impl Strategy<Value = NamedPolicy> {
    let presets = crate::presets::peers().iter();
    let peers: Vec<NamedPolicy> = presets
        .flat_map(|(name, text)| {
            let file = crate::policy_file::read(text);
            file.unwrap_or_else(|problems| panic!("{}", problems.in_file(name)))
                .policies
        })
        .collect();
    prop::sample::select(peers)
}

/// Cycles a policy is shown: seconds since the one before, ready and current
/// instances, what is desired, and readings.
fn any_cycles() -> impl Strategy<Value = Vec<Cycle>> {
    let cycle = (
        prop_oneof![0..10_u64, 10..120_u64, 0..100_000_u64],
        any_counts(),
        any::<u32>(),
        any_all_readings(),
    );
    prop::collection::vec(cycle, 1..20)
}

type Cycle = (u64, (u32, u32), u32, Vec<(&'static str, Reading)>);

fn any_all_readings() -> impl Strategy<Value = Vec<(&'static str, Reading)>> {
    let names = crate::signal::standard::ALL;
    Vec::from(names.map(any_reading))
}

/// Not so many that a test takes minutes.
fn lives(count: u32, seed: u32) -> Vec<Life> {
    let lives = (0..count.min(50)).map(|index| Life {
        ready_for: Duration::from_secs(u64::from(index.wrapping_mul(seed) % 1_000)),
        idle_for: (index % 3 == 0).then(|| Duration::from_secs(u64::from(index) * 30)),
    });
    lives.collect()
}

fn any_reading(name: &'static str) -> impl Strategy<Value = (&'static str, Reading)> {
    (0..3, any_number()).prop_map(move |(which, value)| match which {
        0 => absent(name),
        1 => partial(name, value),
        _ => present(name, value),
    })
}

fn any_readings() -> impl Strategy<Value = Vec<(&'static str, Reading)>> {
    (
        any_reading("backlog"),
        any_reading("in_flight"),
        any_reading("utilization"),
        any_reading("oldest_age"),
    )
        .prop_map(|(a, b, c, d)| vec![a, b, c, d])
}

/// Ready and current instances.
fn any_counts() -> impl Strategy<Value = (u32, u32)> {
    (any::<u32>(), any::<u32>()).prop_map(|(one, other)| (one.min(other), one.max(other)))
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_input_is_too_odd_and_a_missing_or_partial_reading_never_shrinks(
        policy in any_policy(),
        counts in any_counts(),
        micros in any::<u64>(),
        readings in any_readings(),
    ) {
        let now = Timestamp::from_micros(micros);
        let proposal = propose(&policy, counts, now, &readings);
        prop_assert_eq!(&proposal.policy, policy.kind());
        let _ = policy.boundary_after(now);
        let sound = |name: &str| readings.iter().any(|(known, reading)| {
            *known == name && matches!(reading, Reading::Present(sample)
                if sample.value >= 0.0
                    && sample.value.is_finite()
                    && sample.completeness == Completeness::Complete)
        });
        if let Wish::Instances(count) = proposal.wish
            && !policy.signals().into_iter().all(sound)
        {
            prop_assert!(count >= counts.1, "{proposal:?}");
        }
    }

    #[test]
    fn more_jobs_never_ask_for_fewer_instances(
        jobs_per_instance in 0.001..1e6,
        fewer in 0.0_f64..1e9,
        more in 0.0_f64..1e9,
        in_flight in 0.0..1e6,
        counts in any_counts(),
    ) {
        let policy = Policy::QueueBacklog(QueueBacklog::new(jobs_per_instance));
        let wish = |jobs: f64| {
            let readings = [present("backlog", jobs), present("in_flight", in_flight)];
            propose(&policy, counts, Timestamp::EPOCH, &readings).wish
        };
        let (Wish::Instances(few), Wish::Instances(many)) =
            (wish(fewer.min(more)), wish(fewer.max(more)))
        else {
            return Err(TestCaseError::fail("nothing is absent"));
        };
        prop_assert!(few <= many);
        // Enough for all jobs, and not one instance too many.
        let jobs = fewer.min(more) + in_flight;
        if few < u32::MAX {
            prop_assert!(f64::from(few) * jobs_per_instance >= jobs * (1.0 - 1e-8));
        }
        prop_assert!(few == 0 || f64::from(few - 1) * jobs_per_instance < jobs);
    }

    #[test]
    fn a_busier_fleet_never_asks_for_fewer_instances(
        target in 0.01..1.0,
        calm in 0.0_f64..2.0,
        busy in 0.0_f64..2.0,
        ready in 1_u32..1_000,
        booting in 0_u32..1_000,
    ) {
        let policy = Policy::TargetTracking(TargetTracking::new(target));
        let wish = |share: f64| {
            let readings = [present("utilization", share)];
            propose(&policy, (ready, ready + booting), Timestamp::EPOCH, &readings).wish
        };
        let (Wish::Instances(few), Wish::Instances(many)) =
            (wish(calm.min(busy)), wish(calm.max(busy)))
        else {
            return Err(TestCaseError::fail("nothing is absent"));
        };
        prop_assert!(few <= many);
    }

    #[test]
    fn no_past_is_too_odd_for_a_peer_and_a_missing_reading_never_shrinks(
        peer in any_peer(),
        cycles in any_cycles(),
    ) {
        let (mut recall, mut again) = (Recall::default(), Recall::default());
        let mut now = Timestamp::from_secs(1_000_000);
        for (secs, (ready, current), desired, read) in cycles {
            now = now + Duration::from_secs(secs);
            let mut readings = Readings::new();
            for (name, reading) in &read {
                let reading = match reading {
                    Reading::Present(sample) => Reading::Present(Sample { at: now, ..*sample }),
                    Reading::Absent(why) => Reading::Absent(why.clone()),
                };
                readings.insert(name, reading);
            }
            let lives = lives(ready, desired);
            let view = View {
                now,
                readings: &readings,
                current,
                ready,
                slots: 1 + desired % 4,
                desired,
                lives: &lives,
            };
            peer.consider(&view, None, &mut recall);
            let proposal = peer.propose(&view, Some(&recall));
            let sound = |name: &str| view.sample(name)
                .is_ok_and(|sample| sample.completeness == Completeness::Complete);
            if let Wish::Instances(count) = proposal.wish
                && !peer.policy.signals().into_iter().all(sound)
            {
                prop_assert!(count >= current, "{proposal:?}");
            }
            // What was written down and read back says the same.
            let json = serde_json::to_string(&again).expect("plain data");
            again = serde_json::from_str(&json).expect("as written");
            peer.consider(&view, None, &mut again);
            prop_assert_eq!(&recall, &again);
            prop_assert!(json.len() < 250_000, "{} bytes of notes", json.len());
        }
    }

    #[test]
    fn rules_survive_being_written_down(policy in any_policy()) {
        let json = serde_json::to_string(&policy).expect("plain data");
        // NaN and infinity have no JSON; a rule that was read from a file has none.
        if !json.contains("null") {
            let read: Policy = serde_json::from_str(&json).expect("as written");
            prop_assert_eq!(read, policy);
        }
    }
}
