use super::*;
use proptest::prelude::*;

fn read_text(name: &str, text: &str) -> Result<Trace, TraceError> {
    read_bytes(name, text.as_bytes())
}

#[test]
fn rates_are_read() {
    let trace = read_text("web.rate.csv", "t_s,count\n0,3\n0.5,0\n1.0,12\n").expect("a trace");
    assert_eq!(
        trace,
        Trace::of_counts("web.rate.csv", 500_000, vec![3, 0, 12]).expect("valid")
    );
    assert_eq!(
        (trace.span_micros(), trace.arrivals(), trace.left_out()),
        (1_500_000, 15, 0)
    );
    assert_eq!(trace.name(), "web.rate.csv");
}

#[test]
fn jobs_are_read_with_and_without_classes() {
    let trace = read_text("j.csv", "arrival_s,service_s\n1,2\n1,0.0000005\n").expect("a trace");
    let expected = Trace::of_jobs("j.csv", vec![1_000_000; 2], vec![2_000_000, 1]);
    assert_eq!(trace, expected.expect("valid"));
    assert_eq!((trace.span_micros(), trace.arrivals()), (1_000_001, 2));

    let text = "arrival_s, service_s ,class\r\n0,1,a\r\n0, 2 ,b b\r\n3,0,a\r\n4,1,";
    let trace = read_text("whatever", text).expect("a trace");
    let TraceKind::Jobs {
        service_micros,
        classes,
        ..
    } = trace.kind()
    else {
        panic!("not jobs: {trace:?}");
    };
    assert_eq!(*service_micros, [1_000_000, 2_000_000, 0, 1_000_000]);
    assert_eq!(classes.names(), ["a", "b b", ""]);
    let numbers: Vec<_> = (0..5).map(|job| classes.number_of(job)).collect();
    assert_eq!(numbers, [Some(0), Some(1), Some(0), Some(2), None]);
}

#[test]
fn many_classes_keep_their_numbers() {
    // More than the interner remembers by hash, each twice, far apart.
    let classes: Vec<String> = (0..9_000).map(|class| format!("class {class}")).collect();
    let mut interner = Interner::new();
    for _ in 0..2 {
        for (number, class) in classes.iter().enumerate() {
            let given = interner.intern(class.as_bytes()).expect("a class");
            assert_eq!(given as usize, number);
        }
    }
    assert_eq!(interner.names, classes);
}

fn record(submit: &str, run: &str, allocated: &str, requested: &str) -> String {
    format!("1 {submit} -1 {run} {allocated} -1 -1 {requested} -1 -1 1 1 1 -1 1 -1 -1 -1\n")
}

#[test]
fn workload_format_records_are_sorted_and_useless_ones_counted() {
    let text = [
        "; Computer: somewhere\n\n;\n".to_owned(),
        record("20", "5", "8", "-1"),
        record("10", "1.5", "-1", "16"),
        record("10", "2", "0", "8"),
        record("11", "0", "8", "8"),
        record("12", "-1", "8", "8"),
        record("13", "4", "-1", "0"),
        record("-1", "4", "1", "1"),
    ]
    .concat();
    for name in ["x.swf", "x.SWF.gz", "a/b.swf.gz"] {
        let trace = read_text(name, &text).expect(name);
        assert_eq!(trace.left_out(), 4);
        let TraceKind::Jobs {
            arrival_micros,
            service_micros,
            classes,
        } = trace.kind()
        else {
            panic!("not jobs: {trace:?}");
        };
        assert_eq!(*arrival_micros, [10_000_000, 10_000_000, 20_000_000]);
        assert_eq!(*service_micros, [1_500_000, 2_000_000, 5_000_000]);
        let names: Vec<_> = (0..3)
            .filter_map(|job| classes.number_of(job))
            .map(|number| classes.names()[number as usize].as_str())
            .collect();
        assert_eq!(names, ["16", "8", "8"]);
    }
}

/// Each text must be refused at the line, with the words.
fn check_refused(name: &str, cases: &[(&str, u64, &str)]) {
    for (text, line, words) in cases {
        let error = read_text(name, text).expect_err(text).to_string();
        let place = format!("{name}:{line}: ");
        assert!(
            error.starts_with(&place) && error.contains(words),
            "{text:?} gives {error:?}"
        );
    }
}

#[test]
fn wrong_headers_are_refused() {
    check_refused(
        "a.csv",
        &[
            ("", 1, "the file is empty; expected the header `t_s,count`"),
            ("\n\n \n", 3, "the file is empty"),
            ("0,1\n10,2\n", 1, "`0,1` is no header of a trace"),
            ("t_s,count,more\n", 1, "is no header of a trace"),
            ("T_S,COUNT\n", 1, "is no header of a trace"),
            ("\u{1}\u{2}binary\n", 1, "`\\u{1}\\u{2}binary` is no header"),
        ],
    );
}

#[test]
fn wrong_rates_are_refused() {
    check_refused(
        "a.rate.csv",
        &[
            ("t_s,count\n", 1, "the trace has a header but no rows"),
            ("t_s,count\n0,1\n", 2, "at least two are needed"),
            ("t_s,count\n5,1\n", 2, "t_s must start at 0, and not at 5 s"),
            ("t_s,count\n0,1\n0,1\n", 3, "it is 0 twice"),
            (
                "t_s,count\n0,1\n10,1\n25,1\n",
                4,
                "t_s is 25 s, but on the grid of 10 s comes 20 s",
            ),
            ("t_s,count\n0,1\n10,1\n10,1\n", 4, "comes 20 s"),
            (
                "t_s,count\n0,1\n1200000000000,1\n",
                3,
                "t_s `1200000000000` is too large",
            ),
            (
                "t_s,count\n0,1\n600000000000,1\n",
                3,
                "ends at 1200000000000 s, too late",
            ),
            (
                "t_s,count\n0\n",
                2,
                "2 columns expected as in the header, 1 found in `0`",
            ),
            ("t_s,count\n0,1,2\n", 2, "3 found"),
            ("t_s,count\n0,1.5\n", 2, "count `1.5` is not a whole number"),
            ("t_s,count\n0,-1\n", 2, "count `-1` is negative"),
            ("t_s,count\n0,NaN\n", 2, "count `NaN` is not a whole number"),
            ("t_s,count\n0,\n", 2, "count `` is not a whole number"),
            ("t_s,count\n0,99999999999999999999\n", 2, "is too large"),
            ("t_s,count\n-1,1\n", 2, "t_s `-1` is negative"),
        ],
    );
}

#[test]
fn wrong_jobs_are_refused() {
    let long_class = format!("arrival_s,service_s,class\n0,1,{}\n", "x".repeat(300));
    check_refused(
        "a.jobs.csv",
        &[
            ("arrival_s,service_s\n", 1, "no rows"),
            ("arrival_s,service_s\n0,1,x\n", 2, "2 columns expected"),
            ("arrival_s,service_s,class\n0,1\n", 2, "3 columns expected"),
            (
                "arrival_s,service_s\n2,1\n1,1\n",
                3,
                "is 1 s, before the 2 s of the row above",
            ),
            (
                "arrival_s,service_s\ninf,1\n",
                2,
                "arrival_s `inf` is not a decimal number",
            ),
            (
                "arrival_s,service_s\n0,NaN\n",
                2,
                "service_s `NaN` is not a decimal number",
            ),
            (
                "arrival_s,service_s\n0,-1\n",
                2,
                "service_s `-1` is negative",
            ),
            (
                "arrival_s,service_s\n0,1e300\n",
                2,
                "service_s `1e300` is too large",
            ),
            (
                "arrival_s,service_s\n0,2e12\n",
                2,
                "at most 1152921504606.846976 s",
            ),
            (&long_class, 2, "the class is longer than 256 bytes"),
        ],
    );
    let error = read_bytes("a.csv", b"arrival_s,service_s,class\n0,1,\xff\n".as_slice());
    assert!(
        error
            .expect_err("not UTF-8")
            .to_string()
            .contains("is not UTF-8")
    );
}

#[test]
fn wrong_workload_format_is_refused() {
    let useless = record("0", "0", "1", "1");
    let wrong = record("0", "NaN", "1", "1");
    let huge = record("1e13", "1", "1", "1");
    check_refused(
        "a.swf",
        &[
            ("", 1, "the trace has no job with a submit time"),
            ("; only comments\n", 1, "(0 without)"),
            (&useless, 1, "(1 without)"),
            ("1 2 3\n", 1, "18 fields expected, 3 found in `1 2 3`"),
            ("t_s,count\n0,1\n", 1, "18 fields expected, 1 found"),
            (
                &wrong,
                1,
                "run time (field 4) `NaN` is not a decimal number",
            ),
            (&huge, 1, "submit time (field 2) `1e13` is too large"),
        ],
    );
}

#[test]
fn files_that_cannot_be_opened_or_read_say_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let absent = directory.path().join("absent.csv");
    let error = read(&absent).expect_err("absent");
    assert!(matches!(error, TraceError::Unopened { .. }));
    assert_eq!(
        error.to_string(),
        format!("cannot open the trace {}", absent.display())
    );
    let reason = |path: &Path| match read(path) {
        Err(TraceError::Unopened { source, .. }) => source.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        reason(directory.path()),
        "it is a directory; name a file in it"
    );
    if cfg!(unix) {
        // Opening it would wait for a writer, for ever.
        let pipe = directory.path().join("pipe.jobs.csv");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.is_ok_and(|status| status.success()), "a named pipe");
        assert_eq!(
            reason(&pipe),
            "it is a named pipe; write its lines to a file first"
        );
    }

    let file = directory.path().join("small.rate.csv");
    std::fs::write(&file, "t_s,count\n0,1\n1,x\n").expect("written");
    let error = read(&file).expect_err("malformed").to_string();
    assert!(
        error.starts_with(&format!("{}:3: ", file.display())),
        "{error}"
    );
    std::fs::write(&file, "t_s,count\n0,1\n1,2\n").expect("written");
    assert_eq!(read(&file).expect("a trace").name(), "small.rate.csv");
}

#[test]
fn traces_in_memory_are_checked() {
    for (trace, reason) in [
        (Trace::of_counts("t", 1, vec![]), "at least one step"),
        (Trace::of_counts("t", 0, vec![1]), "longer than 0"),
        (
            Trace::of_counts("t", TIME_MICROS_MAX, vec![1, 1]),
            "longer than 1152921504606",
        ),
        (
            Trace::of_counts("t", u64::MAX, vec![1, 1, 1]),
            "longer than",
        ),
        (Trace::of_jobs("t", vec![], vec![]), "at least one job"),
        (
            Trace::of_jobs("t", vec![1], vec![1, 2]),
            "as many services (2) as arrivals (1)",
        ),
        (Trace::of_jobs("t", vec![2, 1], vec![1, 1]), "ascending"),
        (
            Trace::of_jobs("t", vec![TIME_MICROS_MAX + 1], vec![1]),
            "above",
        ),
    ] {
        assert!(trace.expect_err(reason).contains(reason));
    }
}

proptest! {
    #![proptest_config(crate::testing::properties(64))]

    #[test]
    fn any_bytes_are_a_trace_or_an_error_with_a_line(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        header in prop::sample::select(vec![
            &b""[..],
            b"t_s,count\n",
            b"arrival_s,service_s,class\n",
            b"\x1f\x8b\x08\0\0\0\0\0\0\xff",
        ]),
        name in prop::sample::select(vec!["x.csv", "x.swf.gz"]),
    ) {
        let text = [header, &bytes].concat();
        if let Ok(trace) = read_bytes(name, text.as_slice()) {
            let rates = matches!(trace.kind(), TraceKind::Rate { .. });
            prop_assert!(rates || trace.arrivals() > 0);
            prop_assert!(trace.span_micros() > 0);
        }
    }

    #[test]
    fn written_jobs_are_read_back(
        mut jobs in prop::collection::vec((0_u64..1 << 50, 0_u64..1 << 50), 1..40),
    ) {
        jobs.sort_unstable();
        let decimal = |micros: u64| format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        let mut rows = vec!["arrival_s,service_s".to_owned()];
        rows.extend(jobs.iter().map(|(arrival, service)| {
            format!("{},{}", decimal(*arrival), decimal(*service))
        }));
        let text = rows.join("\n");
        let (arrivals, services) = jobs.into_iter().unzip();
        let expected = Trace::of_jobs("x", arrivals, services).expect("valid");
        prop_assert_eq!(read_text("x", &text).expect("valid"), expected);
    }
}
