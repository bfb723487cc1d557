//! How long one decision of the economic policy takes, learning included.
//! `cargo bench -p windlass-policies`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use windlass_policies::policy::economic::Fleet;
use windlass_policies::policy::{NamedPolicy, Recall, View};
use windlass_policies::policy_file;
use windlass_policies::signal::{Reading, Readings};
use windlass_policies::units::Timestamp;

const MINUTE: Duration = Duration::from_mins(1);

/// Jobs take a minute.
const JOBS_A_MINUTE: f64 = 900.0;

/// A policy that has seen a week of a fleet of a thousand instances.
struct Stage {
    policy: NamedPolicy,
    recall: Recall,
    now: Timestamp,
    arrived: f64,
}

impl Stage {
    fn new(keys: &str) -> Self {
        let text = format!("[[policy]]\nkind = \"economic\"\n{keys}");
        let file = policy_file::read(&text).expect("a policy");
        let mut stage = Self {
            policy: file.policies.into_iter().next().expect("one"),
            recall: Recall::default(),
            now: Timestamp::from_secs(1_750_032_000),
            arrived: 0.0,
        };
        for minute in 0..7 * 1_440_u32 {
            let turn = f64::from(minute % 1_440) / 1_440.0 * std::f64::consts::TAU;
            let came = (JOBS_A_MINUTE - 400.0 * libm::cos(turn)).floor();
            stage.cycle(came, 0.0, came);
        }
        stage
    }

    fn cycle(&mut self, came: f64, waiting: f64, running: f64) -> Option<u32> {
        self.now = self.now + MINUTE;
        self.arrived += came;
        let mut readings = Readings::new();
        for (name, value) in [
            ("backlog", waiting),
            ("in_flight", running),
            ("arrivals", self.arrived),
        ] {
            readings.insert(name, Reading::complete(value, self.now));
        }
        let view = View {
            now: self.now,
            readings: &readings,
            current: 1_000,
            ready: 950,
            slots: 1,
            desired: 1_000,
            lives: &[],
        };
        let fleet = Fleet {
            max: 10_000,
            idle: Some(50),
            booting: vec![MINUTE; 50],
            ..Fleet::plain(&view)
        };
        self.policy.consider(&view, Some(&fleet), &mut self.recall);
        match self.policy.propose(&view, Some(&self.recall)).wish {
            windlass_policies::model::Wish::Instances(count) => Some(count),
            windlass_policies::model::Wish::Abstain(_) => None,
        }
    }
}

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("1,000 instances");
    let all = "budget_usd_per_month = 90000\n[[policy.window]]\nstart = \"0 22 * * *\"\n\
               end = \"0 6 * * *\"\npreset = \"batch\"\n";
    for (knobs, keys) in [("price", ""), ("price, budget, window", all)] {
        for (what, came, waiting, running) in [
            ("holds", 900.0, 0.0, 930.0),
            ("launches", 1_900.0, 4_000.0, 950.0),
            ("releases", 300.0, 0.0, 400.0),
        ] {
            let stage = Stage::new(keys);
            group.bench_function(format!("{what} ({knobs})"), |bencher| {
                // Each decides once, after the same week.
                bencher.iter_batched(
                    || Stage {
                        policy: stage.policy.clone(),
                        recall: stage.recall.clone(),
                        ..stage
                    },
                    |mut stage| {
                        black_box(stage.cycle(came, waiting, running));
                        stage
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = decisions
}
criterion_main!(benches);
