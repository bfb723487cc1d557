//! The same load in every format is the same trace, and simulates to the same
//! bytes.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use windlass_policies::policy_file;
use windlass_policies::presets;
use windlass_policies::units::Timestamp;
use windlass_simulator::engine;
use windlass_simulator::scenario::{Scenario, TraceFile};
use windlass_simulator::score::{Label, Score};
use windlass_simulator::trace::write::{OutFormat, write, write_file};
use windlass_simulator::trace::{
    Classes, JobBlock, JobStream, ReadOptions, Trace, TraceKind, Values, read, read_bytes,
    read_bytes_with,
};

const SECOND: u64 = 1_000_000;

/// Two hours of jobs, one every 7 s, of two sizes.
fn jobs() -> Vec<(u64, u64, &'static str)> {
    (0..1_000)
        .map(|job| {
            (
                job * 7,
                (3 + job % 11) * SECOND + 250_000,
                if job % 3 == 0 { "16" } else { "4" },
            )
        })
        .collect()
}

fn zip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

fn rows(head: &str, row: impl Fn((u64, u64, &str)) -> String) -> String {
    let rows: Vec<String> = jobs().into_iter().map(row).collect();
    format!("{head}{}\n", rows.join("\n"))
}

fn put<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
    levels: Option<&[i16]>,
) {
    let mut column = group.next_column().expect("open").expect("a column");
    let typed = column.typed::<T>();
    typed.write_batch(values, levels, None).expect("written");
    column.close().expect("closed");
}

/// The jobs as columns, in several row groups; `user` is there to be passed over.
fn jobs_as_parquet() -> Vec<u8> {
    let schema = "message jobs { required double arrival_s; optional int64 user; \
        required double service_s; optional binary class (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).expect("open");
    for piece in jobs().chunks(300) {
        let mut group = writer.next_row_group().expect("open");
        let number = |micros: u64| f64::from(u32::try_from(micros / 1_000).expect("small")) / 1e3;
        let arrivals: Vec<f64> = piece.iter().map(|job| number(job.0 * SECOND)).collect();
        let services: Vec<f64> = piece.iter().map(|job| number(job.1)).collect();
        let classes: Vec<ByteArray> = piece.iter().map(|job| job.2.into()).collect();
        put::<DoubleType>(&mut group, &arrivals, None);
        put::<Int64Type>(&mut group, &[], Some(&vec![0; piece.len()]));
        put::<DoubleType>(&mut group, &services, None);
        put::<ByteArrayType>(&mut group, &classes, Some(&vec![1; piece.len()]));
        group.close().expect("closed");
    }
    writer.into_inner().expect("written")
}

/// The load in every format that holds jobs.
fn every_jobs() -> Vec<(&'static str, Vec<u8>)> {
    let secs = |micros: u64| format!("{}.{:06}", micros / SECOND, micros % SECOND);
    let csv = rows("arrival_s,service_s,class\n", |(at, service, class)| {
        format!("{at},{},{class}", secs(service))
    });
    let quoted = rows(
        "\"arrival_s\",\"service_s\",\"class\"\n",
        |(at, service, class)| format!("{at},\"{}\",\"{class}\"", secs(service)),
    );
    let swf = rows(
        "; Version: 2.2\n;UnixStartTime: 1782864000\n",
        |(at, service, class)| {
            format!(
                "  1 {at}\t-1  {} {class} -1 -1 {class} -1 -1 1 1 1 -1 1 -1 -1 -1",
                secs(service)
            )
        },
    );
    let lines = rows("", |(at, service, class)| {
        format!(
            "{{\"class\": \"{class}\", \"service_s\": {}, \"arrival_s\": {at}, \"x\": []}}",
            secs(service)
        )
    });
    let stamped = rows("", |(at, service, class)| {
        let at = Timestamp::from_secs(1_782_864_000 + at);
        format!(
            "{{\"arrival\": \"{at}\", \"service_s\": {}, \"class\": {class}}}",
            secs(service)
        )
    });
    let log = rows("", |(at, service, _)| {
        let (hour, minute, second) = (at / 3_600, at / 60 % 60, at % 60);
        format!(
            "::1 - - [01/Jul/2026:{hour:02}:{minute:02}:{second:02} +0000] \"GET /a\\\"b HTTP/1.1\" 200 5 {service}"
        )
    });
    let mut cache = Vec::new();
    let trace = read_bytes("a.csv", csv.as_bytes()).expect("a trace");
    write(&trace, OutFormat::Cache, &mut cache).expect("memory");
    vec![
        ("a.jobs.csv.gz", zip(&csv)),
        (
            "windows.jobs.csv",
            format!("\u{feff}{}", csv.trim_end().replace('\n', "\r\n")).into_bytes(),
        ),
        ("quoted.jobs.csv", quoted.into_bytes()),
        ("a.jobs.csv", csv.into_bytes()),
        ("a.swf", swf.clone().into_bytes()),
        ("a.swf.gz", zip(&swf)),
        ("a.jsonl", lines.into_bytes()),
        ("stamped.ndjson.gz", zip(&stamped)),
        ("access.log", log.into_bytes()),
        ("a.wtrace", cache),
        ("a.parquet", jobs_as_parquet()),
    ]
}

/// Ten minutes of counts.
fn counts() -> Vec<u64> {
    (0..60).map(|step| step * 13 % 40 + 1).collect()
}

/// The load in every format that holds counts, in steps of 10 s.
fn every_rates() -> Vec<(&'static str, Vec<u8>)> {
    let rows = |head: &str, row: &dyn Fn(usize, u64) -> String| {
        let rows: Vec<String> = counts()
            .into_iter()
            .enumerate()
            .map(|(step, count)| row(step * 10, count))
            .collect();
        format!("{head}{}", rows.join("\n"))
    };
    let csv = rows("t_s,count\n", &|at, count| format!("{at},{count}"));
    let lines = rows("", &|at, count| {
        format!("{{\"t_s\": {at}, \"count\": {count}}}")
    });
    // Newest first, as CloudWatch answers if not asked otherwise, in two pages.
    let mut points: Vec<(String, u64)> = counts()
        .into_iter()
        .enumerate()
        .map(|(step, count)| {
            (
                format!(
                    "\"2026-07-01T00:{:02}:{:02}+00:00\"",
                    step / 6,
                    step % 6 * 10
                ),
                count,
            )
        })
        .collect();
    points.reverse();
    let page = |points: &[(String, u64)], status: &str| {
        let times: Vec<&str> = points.iter().map(|point| point.0.as_str()).collect();
        let values: Vec<String> = points
            .iter()
            .map(|point| format!("{:.1}", f64::from(u32::try_from(point.1).expect("small"))))
            .collect();
        format!(
            "{{\"Id\": \"m1\", \"Label\": \"RequestCount\", \"Timestamps\": [{}], \"Values\": [{}], \"StatusCode\": \"{status}\"}}",
            times.join(", "),
            values.join(", ")
        )
    };
    let metrics = format!(
        "{{\n  \"MetricDataResults\": [{}, {}],\n  \"Messages\": []\n}}\n",
        page(&points[..25], "PartialData"),
        page(&points[25..], "Complete")
    );
    // Two series whose sum it is; a range is named by its end.
    let series = |share: &dyn Fn(u64) -> u64| {
        let values: Vec<String> = counts()
            .into_iter()
            .enumerate()
            .map(|(step, count)| format!("[{}, \"{}\"]", 1_782_864_010 + step * 10, share(count)))
            .collect();
        format!("{{\"metric\": {{}}, \"values\": [{}]}}", values.join(", "))
    };
    let query = format!(
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"matrix\",\"result\":[{}, {}]}}}}",
        series(&|count| count / 3),
        series(&|count| count - count / 3)
    );
    let schema = Arc::new(
        parse_message_type("message rates { required int64 count; required int64 t_s; }")
            .expect("a schema"),
    );
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).expect("open");
    let mut group = writer.next_row_group().expect("open");
    let whole: Vec<i64> = counts()
        .iter()
        .map(|count| i64::try_from(*count).expect("small"))
        .collect();
    let times: Vec<i64> = (0..60).map(|step| step * 10).collect();
    put::<Int64Type>(&mut group, &whole, None);
    put::<Int64Type>(&mut group, &times, None);
    group.close().expect("closed");
    let columns = writer.into_inner().expect("written");
    let mut cache = Vec::new();
    write(
        &read_bytes("a.csv", csv.as_bytes()).expect("a trace"),
        OutFormat::Cache,
        &mut cache,
    )
    .expect("memory");
    vec![
        ("a.rate.csv", csv.clone().into_bytes()),
        ("a.rate.csv.gz", zip(&csv)),
        ("a.jsonl", lines.into_bytes()),
        ("metrics.json", metrics.into_bytes()),
        ("query.json", query.into_bytes()),
        ("a.parquet", columns),
        ("a.wtrace", cache),
    ]
}

/// The result of the scenario on the trace under a preset, as JSON.
fn simulated(trace: &Trace, service: &str) -> String {
    let text = format!(
        "[workload]\ntrace = \"x\"\n{service}[cloud]\nboot = {{ distribution = \"constant\", value = \"60s\" }}\nusd_per_hour = 0.17\n[fleet]\nmax = 50\n"
    );
    let scenario =
        Scenario::parse("s", &text, |name| TraceFile::Embedded(name.to_owned())).expect("sound");
    let workload = scenario.build_workload(trace).expect("it has jobs");
    let presets = presets::all();
    let (_, policy) = presets.first().expect("a preset");
    let policies = policy_file::read(policy).expect("built in");
    let spec = scenario.fleet_spec(policies.policies, policies.signals);
    let world = scenario
        .world(&spec.name, &workload, &spec.signals, false)
        .expect("a world");
    let end = world.now() + Duration::from_micros(workload.length_micros);
    let summary = engine::run(&spec, world, end, |_| ()).expect("nothing is stored");
    let label = Label {
        scenario: "s".into(),
        policy: "p".into(),
        trace: "t".into(),
        seed: 1,
    };
    serde_json::to_string(&Score::of(label, &summary, scenario.objective)).expect("plain data")
}

/// Each file, by its name and by its beginning alone, from disk and from a
/// pipe, must be the same trace and come to the same result.
fn check_same(files: &[(&str, Vec<u8>)], service: &str, kind: &TraceKind, named: bool) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut first = None;
    for (name, bytes) in files {
        let path = directory.path().join(name);
        fs::write(&path, bytes).expect("written");
        for trace in [
            read(&path).expect(name),
            read_bytes(name, bytes.as_slice()).expect(name),
            read_bytes("standard input", bytes.as_slice()).expect(name),
        ] {
            let same = trace.kind() == kind || !named && times(trace.kind()) == times(kind);
            assert!(same, "{name}: {:?}", trace.kind());
            let result = simulated(&trace, service);
            assert_eq!(
                first.get_or_insert_with(|| result.clone()),
                &result,
                "{name}"
            );
        }
    }
}

fn times(kind: &TraceKind) -> Option<(&[u64], &[u64])> {
    match kind {
        TraceKind::Jobs {
            arrival_micros,
            service_micros,
            ..
        } => Some((arrival_micros, service_micros)),
        TraceKind::Rate { .. } => None,
    }
}

fn expected_jobs() -> Trace {
    let arrivals = jobs().iter().map(|job| job.0 * SECOND).collect();
    let services = jobs().iter().map(|job| job.1).collect();
    let numbers = jobs().iter().map(|job| u32::from(job.2 == "4")).collect();
    let classes = Classes::new(vec!["16".into(), "4".into()], numbers).expect("valid");
    Trace::of_classed_jobs("t", arrivals, services, classes).expect("valid")
}

#[test]
fn jobs_in_every_format_simulate_to_the_same_bytes() {
    let (logs, others): (Vec<_>, Vec<_>) = every_jobs()
        .into_iter()
        .partition(|(name, _)| *name == "access.log");
    check_same(&others, "", expected_jobs().kind(), true);
    // A log has no such classes, but the same jobs.
    let both = [logs, others].concat();
    check_same(&both, "", expected_jobs().kind(), false);
}

#[test]
fn rates_in_every_format_simulate_to_the_same_bytes() {
    let expected = Trace::of_counts("t", 10 * SECOND, counts()).expect("valid");
    let service = "service = { distribution = \"exponential\", mean = \"20s\" }\n";
    check_same(&every_rates(), service, expected.kind(), true);
}

#[test]
fn formats_that_know_the_time_tell_it() {
    let begins = Timestamp::from_secs(1_782_864_000);
    for (name, bytes) in [every_jobs(), every_rates()].concat() {
        let found = read_bytes(name, bytes.as_slice()).expect(name).begins_at();
        let tells = [".swf", ".log", ".json", ".ndjson"].iter().any(|ending| {
            format!("{}.", name.trim_end_matches(".gz")).contains(&format!("{ending}."))
        });
        assert_eq!(found, tells.then_some(begins), "{name}");
    }
}

#[test]
fn what_is_written_is_read_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let rates = Trace::of_counts("t", 10 * SECOND, counts()).expect("valid");
    for (name, trace) in [
        ("a.jobs.csv", expected_jobs()),
        ("a.jobs.csv.gz", expected_jobs()),
        ("jobs.wtrace", expected_jobs()),
        ("jobs.wtrace.gz", expected_jobs()),
        ("a.rate.csv", rates.clone()),
        ("a.rate.csv.gz", rates.clone()),
        ("rates.wtrace", rates),
    ] {
        let path = directory.path().join(name);
        write_file(&trace, &path).expect(name);
        assert_eq!(read(&path).expect(name), trace.named(name));
    }
}

#[test]
fn blocks_of_every_format_are_the_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, bytes) in every_jobs() {
        let path = directory.path().join(name);
        fs::write(&path, bytes).expect("written");
        let mut stream = JobStream::open(&path, &ReadOptions::default()).expect(name);
        let (mut block, mut arrivals) = (JobBlock::default(), Vec::new());
        while stream.next_block(&mut block).expect(name) {
            arrivals.append(&mut block.arrival_micros);
        }
        let trace = expected_jobs();
        assert_eq!(
            Some(arrivals.as_slice()),
            times(trace.kind()).map(|times| times.0),
            "{name}"
        );
    }
}

/// What pyarrow, polars and `DuckDB` wrote: 200 jobs, one every 7.25 s.
#[test]
fn parquet_files_of_others_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats");
    let arrivals: Vec<u64> = (0..200).map(|job| job * 7_250_000).collect();
    let uneven: Vec<u64> = (0..200).map(|job| 1_500_000 + job % 13).collect();
    let even = vec![1_500_000; 200];
    let begins = Some(Timestamp::parse("2026-07-01T00:00:00Z").expect("a time"));
    for (name, services, classes, begins_at) in [
        ("pyarrow", &uneven, vec!["small", "big", "odd"], None),
        ("polars", &uneven, vec!["small", "big", "odd"], None),
        ("duckdb", &even, vec!["c0", "c1", "c2"], None),
        ("stamp_ms", &uneven, vec!["0", "1", "2"], begins),
        ("stamp_ns", &uneven, vec!["0", "1", "2"], begins),
        ("int96", &uneven, vec![], begins),
    ] {
        let trace = read(&folder.join(format!("{name}.parquet"))).expect(name);
        assert_eq!(
            times(trace.kind()),
            Some((arrivals.as_slice(), services.as_slice())),
            "{name}"
        );
        assert_eq!(trace.begins_at(), begins_at, "{name}");
        if let TraceKind::Jobs { classes: found, .. } = trace.kind() {
            assert_eq!(found.names(), classes, "{name}");
        }
    }
}

#[test]
fn parquet_files_that_are_packed_otherwise_are_refused() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats/brotli.parquet");
    let told = read(&file).expect_err("no Brotli here").to_string();
    assert!(
        told.ends_with(
            "file: the column arrival_s is packed with Brotli, which is not read; write it with \
             Snappy, Zstandard, gzip, LZ4 or no compression"
        ),
        "{told}"
    );
}

fn record(submit: u32, run: &str, size: &str, status: i32) -> String {
    format!("1 {submit} 5 {run} {size} -1 -1 {size} -1 -1 {status} 1 1 -1 1 -1 -1 -1\n")
}

/// By the definition of the Standard Workload Format 2.2.
#[test]
fn swf_records_are_what_the_definition_says() {
    let text = [
        "; Version: 2.2\n;  UnixStartTime: 0\n".to_owned(),
        // Completed, failed and cancelled while it ran: they kept processors busy.
        record(10, "60", "4", 1),
        record(20, "60.5", "4", 0),
        record(30, "7", "2", 5),
        record(40, "7", "2", -1),
        // Cancelled before it ran, unknown size: nothing to simulate.
        record(50, "-1", "-1", 5),
        record(51, "0", "8", 5),
        record(52, "5", "-1", 1),
        // Swapped out: the first record sums up the three parts after it.
        record(60, "30", "8", 1),
        record(60, "10", "8", 2),
        record(60, "10", "8", 2),
        record(60, "10", "8", 3),
    ]
    .concat();
    let trace = read_bytes("x.swf", text.as_bytes()).expect("a trace");
    let (arrivals, services) = times(trace.kind()).expect("jobs");
    assert_eq!(arrivals, [10, 20, 30, 40, 60].map(|secs| secs * SECOND));
    assert_eq!(
        services,
        [60_000_000, 60_500_000, 7_000_000, 7_000_000, 30_000_000]
    );
    assert_eq!((trace.left_out(), trace.begins_at()), (6, None));
}

#[test]
fn logs_of_all_kinds_of_servers_are_read() {
    let at = "[10/Oct/2000:13:55:36 -0700]";
    for (line, jobs) in [
        (
            format!("127.0.0.1 - frank {at} \"GET /apache_pb.gif HTTP/1.0\" 200 2326"),
            false,
        ),
        (
            format!("2001:db8::1 - - {at} \"GET / HTTP/1.1\" 304 -"),
            false,
        ),
        (
            format!("[2001:db8::1]:443 - - {at} \"GET / HTTP/1.1\" 304 -"),
            false,
        ),
        (format!("h - a b {at} \"-\" 408 -"), false),
        (
            format!(
                "h - - {at} \"GET /\\\"[x] HTTP/1.1\" 200 5 \"http://a/\\\"b\" \"agent (x; y)\""
            ),
            false,
        ),
        (
            format!("h - - {at} \"GET / HTTP/1.1\" 200 5 \"-\" \"agent\" \"10.0.0.1, 10.0.0.2\""),
            false,
        ),
        (
            format!("h - - {at} \"GET / HTTP/1.1\" 200 5 \"-\" \"agent\" 0.250"),
            true,
        ),
        (format!("h - - {at} \"GET / HTTP/1.1\" 200 5 250000"), true),
        (format!("h - - {at} \"\\x16\\x03\\x01\" 400 226"), false),
        (format!("h - - {at} \"GET / HT"), false),
    ] {
        let trace = read_bytes("x", format!("{line}\r\n{line}").as_bytes()).expect(&line);
        let begins = Timestamp::parse("2000-10-10T20:55:36Z").expect("a time");
        assert_eq!(
            (trace.arrivals(), trace.begins_at()),
            (2, Some(begins)),
            "{line}"
        );
        let service = times(trace.kind()).map(|times| times.1);
        assert_eq!(service, jobs.then_some(&[250_000_u64; 2][..]), "{line}");
    }
}

#[test]
fn documents_of_rates_and_of_several_metrics_are_read_as_told() {
    let metric = |id: &str, values: &str| {
        format!(
            "{{\"Id\": \"{id}\", \"Label\": \"L{id}\", \"Timestamps\": [60, 0, 180], \"Values\": [{values}]}}"
        )
    };
    let text = format!(
        "{{\"MetricDataResults\": [{}, {}]}}",
        metric("m1", "1, 2, 3"),
        metric("m2", "0.05, 0.1, 0.1")
    );
    let mut options = ReadOptions::default();
    let error = read_bytes_with("a.json", text.as_bytes(), &options).expect_err("two metrics");
    assert!(
        error.to_string().contains("choose one: m1 (Lm1), m2 (Lm2)"),
        "{error}"
    );
    for (series, values, counts) in [
        ("m1", Values::PerStep, [2, 1, 0, 3]),
        ("Lm2", Values::PerSecond, [6, 3, 0, 6]),
    ] {
        options.series = Some(series.into());
        options.values = values;
        let trace = read_bytes_with("a.json", text.as_bytes(), &options).expect("a trace");
        let expected = Trace::of_counts("a.json", 60 * SECOND, counts.to_vec()).expect("valid");
        assert_eq!(trace.kind(), expected.kind());
    }
}
