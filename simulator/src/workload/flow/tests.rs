use std::fs::{self, File};
use std::io::{BufWriter, Write};

use super::*;
use crate::trace::write::write_file;
use crate::workload::build;

/// More than are held, with many at one instant.
fn long_trace() -> Trace {
    let mut stream = Stream::new(1, "flow");
    let mut at = 0;
    let arrivals: Vec<u64> = std::iter::repeat_with(|| {
        at += stream.below(4) * 500_000;
        at
    })
    .take(300_000)
    .collect();
    let services = arrivals.iter().map(|_| stream.below(9_000_000)).collect();
    Trace::of_jobs("long", arrivals, services).expect("sorted")
}

fn spec(start: u64, length: Option<u64>, busy_mean: Option<f64>) -> WorkloadSpec {
    WorkloadSpec {
        start_micros: start * 1_000_000,
        length_micros: length.map(|secs| secs * 1_000_000),
        busy_mean,
        ..WorkloadSpec::default()
    }
}

fn check_same(choice: Choice, trace: &Trace, spec: &WorkloadSpec) {
    let (Choice::Flow(flow) | Choice::Cut(flow)) = choice else {
        panic!("it flows: {choice:?}");
    };
    let whole = build(trace, spec, 7).expect("a workload");
    assert_eq!(flow.collect().expect("the same").0, whole);
    let mut pieces = flow.open().expect("it is still there");
    let mut largest = 0;
    while let Some(piece) = pieces.next_piece().expect("sound") {
        largest = largest.max(piece.len());
    }
    assert!(largest <= 20_000, "{largest} jobs in a piece");
    assert_eq!(pieces.length_micros(), whole.length_micros);
}

#[test]
fn a_flow_gives_the_jobs_of_the_whole_trace() {
    let trace = long_trace();
    let folder = tempfile::tempdir().expect("a folder");
    let specs = [
        spec(0, None, None),
        spec(70_000, None, None),
        spec(0, Some(220_000), None),
        spec(1_000, Some(50_000), None),
        spec(0, Some(900_000), None),
        spec(0, None, Some(4.0)),
        spec(2_000, Some(210_000), Some(5.5)),
        spec(0, None, Some(0.1)),
    ];
    for name in [
        "long.jobs.csv",
        "long.jobs.csv.gz",
        "long.wtrace",
        "long.jsonl",
    ] {
        let path = folder.path().join(name);
        if name == "long.jsonl" {
            write_json_lines(&path, &trace);
        } else {
            write_file(&trace, &path).expect("written");
        }
        for spec in &specs {
            let choice = Flow::of_jobs(&path, &ReadOptions::default(), spec, 7);
            check_same(choice.expect("sound"), &trace, spec);
        }
    }
}

fn write_json_lines(path: &Path, trace: &Trace) {
    let mut file = BufWriter::new(File::create(path).expect("a file"));
    for_each_job(trace, |arrival, service| {
        writeln!(file, "{{\"arrival_s\":{arrival},\"service_s\":{service}}}").expect("written");
    });
}

/// Seconds with six decimals.
fn for_each_job(trace: &Trace, mut tell: impl FnMut(String, String)) {
    let TraceKind::Jobs {
        arrival_micros,
        service_micros,
        ..
    } = trace.kind()
    else {
        panic!("it has jobs");
    };
    let secs = |micros: &u64| format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    for (arrival, service) in arrival_micros.iter().zip(service_micros) {
        tell(secs(arrival), secs(service));
    }
}

#[test]
fn logs_of_supercomputers_flow_if_they_are_sorted() {
    let (trace, folder) = (long_trace(), tempfile::tempdir().expect("a folder"));
    let mut lines = Vec::new();
    for_each_job(&trace, |arrival, service| {
        // A run time of zero is none.
        lines.push(format!("1 {arrival} 0 1{service} 1{}", " -1".repeat(13)));
    });
    let path = folder.path().join("long.swf");
    let choose = || Flow::of_jobs(&path, &ReadOptions::default(), &spec(0, None, None), 7);
    fs::write(&path, lines.join("\n")).expect("written");
    let whole = crate::trace::read(&path).expect("sound");
    check_same(choose().expect("sound"), &whole, &spec(0, None, None));
    lines.swap(299_998, 7);
    fs::write(&path, lines.join("\n")).expect("written");
    let choice = choose().expect("sound");
    assert!(
        matches!(choice, Choice::Whole("it is not sorted by arrival")),
        "{choice:?}"
    );
}

#[test]
fn rates_flow_as_the_jobs_that_are_drawn_at_once() {
    let counts = (0..2_000).map(|step| step * 7 % 400).collect();
    let trace = Arc::new(Trace::of_counts("rates", 30_000_000, counts).expect("a trace"));
    for (start, length, busy_mean) in [
        (0, None, None),
        (45, Some(50_000), None),
        (7, None, Some(60.0)),
        (1, Some(70_000), None),
    ] {
        let service = Distribution::exponential(std::time::Duration::from_secs(10));
        let spec = WorkloadSpec {
            service: Some(service.expect("a distribution")),
            ..spec(start, length, busy_mean)
        };
        let choice = Flow::of_rates(&trace, &spec, 7);
        check_same(choice.expect("sound"), &trace, &spec);
    }
    let superposed = spec(0, None, Some(500.0));
    let service = Distribution::exponential(std::time::Duration::from_secs(10));
    let superposed = WorkloadSpec {
        service: Some(service.expect("a distribution")),
        ..superposed
    };
    let choice = Flow::of_rates(&trace, &superposed, 7).expect("sound");
    assert!(matches!(choice, Choice::Whole(SUPERPOSED)), "{choice:?}");
}

#[test]
fn a_flow_says_what_is_wrong_with_a_trace_where_it_is_wrong() {
    let (trace, folder) = (long_trace(), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("long.jobs.csv");
    write_file(&trace, &path).expect("written");
    let text = fs::read_to_string(&path).expect("written");
    let line = text.lines().nth(280_000).expect("long");
    fs::write(&path, text.replace(line, "x,1")).expect("written");
    let choice = Flow::of_jobs(&path, &ReadOptions::default(), &spec(0, None, None), 7);
    let Ok(Choice::Flow(flow)) = choice else {
        panic!("the beginning is sound: {choice:?}");
    };
    let error = flow.collect().expect_err("wrong").to_string();
    assert!(error.contains("long.jobs.csv:280001: arrival_s"), "{error}");
    // Where nothing is.
    for (spec, expected) in [
        (
            spec(900_000, None, None),
            "workload.start: 900000 s is not before the end",
        ),
        (
            spec(400_000, Some(1), None),
            "workload.start: 400000 s is not",
        ),
    ] {
        write_file(&trace, &path).expect("written");
        let choice = Flow::of_jobs(&path, &ReadOptions::default(), &spec, 7).expect("sound");
        let Choice::Cut(flow) = choice else {
            panic!("little is used of it: {choice:?}");
        };
        let error = flow.collect().expect_err("no jobs").to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}
