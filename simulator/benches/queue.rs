//! How long the queue takes for a job: the yardstick, the fast queue, and the
//! one for priorities and speeds. `cargo bench -p windlass-simulator`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use windlass_simulator::bench::{self, Load};
use windlass_simulator::queue::Keep;

/// A day of W2 has 864,000 jobs or so.
const W2_DAYS: u32 = 1;

fn queue(criterion: &mut Criterion) {
    for load in [bench::w1(500_000), bench::w2(W2_DAYS), bench::w2500(1)] {
        let mut group = criterion.benchmark_group(load.name);
        let jobs = u64::try_from(load.jobs.len()).expect("few");
        group.throughput(Throughput::Elements(jobs));
        group.bench_function("bare", |bencher| {
            bencher.iter(|| bench::bare(black_box(&load)));
        });
        for (name, keep) in [
            ("sums", Keep::Sums),
            ("histogram", Keep::Histogram),
            ("every wait", Keep::EveryWait),
        ] {
            let run = |load: &Load| bench::full(load, keep).expect("a world");
            group.bench_function(name, |bencher| bencher.iter(|| run(black_box(&load))));
        }
        let run = |load: &Load| bench::full_slow(load, Keep::Histogram).expect("a world");
        group.bench_function("ordered", |bencher| bencher.iter(|| run(black_box(&load))));
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5));
    targets = queue
}
criterion_main!(benches);
