//! Files that are no trace, or a damaged one: each gives one clear error, with
//! the place and the reason, in little memory and time.
//!
//! Cases are data: a file name, what the file holds, and what the error says.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use windlass_simulator::scenario::{Scenario, TraceFile};
use windlass_simulator::trace::{
    ReadOptions, Trace, TraceError, read, read_bytes, read_bytes_with,
};
use windlass_simulator::workload::flow::Choice;

fn zip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// Everything that the error says, causes too, on one line.
fn said(error: &TraceError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn check(cases: &[(&str, &[u8], &str)]) {
    for (name, bytes, words) in cases {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]);
        let error = match read_bytes(name, *bytes) {
            Ok(trace) => panic!("{name} with {shown:?} is a trace: {trace:?}"),
            Err(error) => said(&error),
        };
        assert!(
            error.contains(name) && error.contains(words) && !error.contains('\n'),
            "{name} with {shown:?} gives {error:?}"
        );
    }
}

const RECORD: &str = "1 0 5 10 1 -1 -1 1 -1 -1 1 1 1 -1 1 -1 -1 -1\n";

#[test]
fn what_holds_nothing_says_so() {
    check(&[
        ("a.rate.csv", b"", "a.rate.csv:1: the file is empty"),
        ("a", b"", "a:1: the file is empty"),
        ("a.jobs.csv.gz", b"", "the file is empty"),
        ("a.swf", b"", "has no job with a submit time"),
        ("a.jsonl", b"\n \n", "the file is empty"),
        ("a.json", b" \n", "document: it is empty"),
        ("a.log", b"", "the log holds no request"),
        ("a.parquet", b"", "this is no Parquet file"),
        ("a.wtrace", b"", "this is no cache"),
        ("a.csv", b"t_s,count\n", "a header but no rows"),
        (
            "a.csv",
            b"arrival_s,service_s,class\r\n",
            "a header but no rows",
        ),
        ("a.csv", b"\xef\xbb\xbft_s,count", "a header but no rows"),
        ("a.swf", b"; Version: 2\n; MaxJobs: 0\n", "(0 without)"),
        ("a.json", b"{}", "neither `MetricDataResults` nor `data`"),
        (
            "a.json",
            b"{\"MetricDataResults\": []}",
            "there is no metric",
        ),
    ]);
    check(&[("a.csv.gz", &zip(b""), "the file is empty")]);
}

#[test]
fn what_is_something_else_says_what() {
    check(&[
        (
            "a.csv",
            b"\x28\xb5\x2f\xfd\x04\0",
            "packed with zstd; unpack it",
        ),
        ("a.csv.xz", b"\xfd7zXZ\0\0", "packed with xz"),
        ("a.csv.bz2", b"BZh91AY", "packed with bzip2"),
        ("a.csv", b"PK\x03\x04\x14\0", "a zip archive"),
        (
            "a.csv",
            b"\xff\xfet\0_\0s\0",
            "text in UTF-16; write it as UTF-8",
        ),
        (
            "a.csv.gz",
            &zip(&zip(b"t_s,count\n0,1\n10,1\n")),
            "packed with gzip twice; unpack it once",
        ),
        (
            "a",
            b"SQLite format 3\0\x10\0",
            "`windlass trace convert STORE.db",
        ),
        ("a.csv", b"\"t_s,count\"\n", "is no header of a trace"),
        (
            "a.csv",
            b"arrival_s,service_s,class\n0,1,\"a,b\"\n",
            "4 found in `0,1,\\\"a,b\\\"`: fields in quotes can hold neither commas",
        ),
        (
            "a.csv",
            b"arrival_s,service_s,class\n0,1,\"a\"\"b\"\n",
            "a.csv:2: class `\\\"a\\\"\\\"b\\\"`: fields in quotes",
        ),
        ("a.csv", b"t_s;count\n0;1\n", "`t_s;count` is no header"),
        ("a.csv", b"<html>\n", "`<html>` is no header"),
        (
            "a.csv",
            RECORD.as_bytes(),
            "the ending of another format, such as .swf",
        ),
        ("a.swf", b"t_s,count\n", "18 fields expected, 1 found"),
        (
            "a.swf",
            b"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19\n",
            "19 found",
        ),
        (
            "a.jsonl",
            b"[1, null, 2, null, null, null]\n",
            "is no object",
        ),
        ("a.jsonl", b"{\"a\": 1}\n", "neither a job nor a count"),
        ("a.jsonl", b"{\"arrival_s\": 1}\n", "service_s is missing"),
        (
            "a.jsonl",
            b"{\"arrival_s\": \"1\"}\n",
            "invalid type: string",
        ),
        ("a.json", b"[]", "it is no JSON object"),
        (
            "a.json",
            b"{\"MetricDataResults\": [",
            "line 1 column 23: EOF while parsing",
        ),
        (
            "a.log",
            b"hello\n",
            "no date in `hello`; expected `host ident",
        ),
        (
            "a.parquet",
            b"t_s,count\n0,1\n1,1\n",
            "this is no Parquet file",
        ),
    ]);
}

#[test]
fn numbers_that_are_none_are_refused_in_every_format() {
    let swf = |submit: &str, run: &str| {
        format!("1 {submit} 5 {run} 1 -1 -1 1 -1 -1 1 1 1 -1 1 -1 -1 -1\n").into_bytes()
    };
    check(&[
        ("a.csv", b"arrival_s,service_s\nNaN,1\n", "a.csv:2: arrival_s `NaN` is not a decimal"),
        ("a.csv", b"arrival_s,service_s\n0,-inf\n", "service_s `-inf` is not a decimal"),
        ("a.csv", b"arrival_s,service_s\n0,-1e-9\n", "service_s `-1e-9` is negative"),
        ("a.csv", b"arrival_s,service_s\n1e999999,1\n", "is too large"),
        ("a.csv", b"arrival_s,service_s\n5,1\n4,1\n", "a.csv:3: arrival_s is 4 s, before the 5 s"),
        ("a.csv", b"t_s,count\n0,1\n10,18446744073709551616\n", "is too large"),
        ("a.csv", b"t_s,count\n0,1\n10,1\n10,1\n", "a.csv:4: t_s is 10 s, but on the grid"),
        ("a.csv", b"t_s,count\n0,1\n10,0x10\n", "count `0x10` is not a whole number"),
        ("a.swf", &swf("NaN", "1"), "submit time (field 2) `NaN`"),
        ("a.swf", &swf("0", "1e30"), "run time (field 4) `1e30` is too large"),
        ("a.jsonl", b"{\"arrival_s\": NaN}\n", "expected value at column"),
        ("a.jsonl", b"{\"arrival_s\": 1e400, \"service_s\": 1}\n", "number out of range"),
        ("a.jsonl", b"{\"arrival_s\": -1, \"service_s\": 1}\n", "arrival_s `-1` is negative"),
        ("a.jsonl", b"{\"t_s\": 0, \"count\": 1.5}\n", "count `1.5` is not a whole number"),
        (
            "a.jsonl",
            b"{\"arrival_s\": 1, \"service_s\": 1}\n{\"arrival\": \"2026-01-01T00:00:00Z\", \"service_s\": 1}\n",
            "a.jsonl:2: arrival among jobs with arrival_s",
        ),
        (
            "a.jsonl",
            b"{\"arrival\": \"yesterday\", \"service_s\": 1}\n",
            "arrival: ",
        ),
        ("a.log", b"h - - [32/Jan/2026:00:00:00 +0000] \"GET /\" 200 1\n", "no date in"),
        ("a.log", b"h - - [01/Jan/2026:00:00:00] \"GET /\" 200 1\n", "no date in"),
        ("a.log", b"h - - [01/Jan/1969:00:00:00 +0000] \"GET /\" 200 1\n", "no date in"),
    ]);
    let early = b"h - - [01/Jan/1990:00:00:00 +0000] \"GET /\" 200 1\n\
        h - - [01/Jan/2026:00:00:00 +0000] \"GET /\" 200 1\n";
    check(&[("a.log", early, "one of its dates must be wrong")]);
}

#[test]
fn documents_of_monitoring_are_checked_value_by_value() {
    let metric = |values: &str, times: &str| {
        format!(
            "{{\"MetricDataResults\": [{{\"Id\": \"m\", \"Timestamps\": [{times}], \
             \"Values\": [{values}]}}]}}"
        )
    };
    let query = |kind: &str, values: &str| {
        format!(
            "{{\"status\": \"success\", \"data\": {{\"resultType\": \"{kind}\", \
             \"result\": [{{\"values\": [{values}]}}]}}}}"
        )
    };
    for (text, words) in [
        (metric("1", "1, 2"), "metric m: 2 Timestamps for 1 Values"),
        (
            metric("1, -1", "1, 2"),
            "metric m[1]: value -1 is not a number",
        ),
        (
            metric("1, 2", "1, 1"),
            "metric m[1]: the time 1000000 comes twice",
        ),
        (metric("1, 2", "1, true"), "time true is no time"),
        (metric("1, 2", "1, \"soon\""), "metric m[1]: "),
        (metric("1", "1"), "at least two are needed"),
        (metric("1, 2, 3", "0, 60, 150"), "off the grid"),
        (
            metric("1, 2, 3", "0, 0.000001, 1e9"),
            "steps of 0.000001 s; at most",
        ),
        (metric("1, 1e300", "0, 60"), "not a number from 0 to 2^53"),
        (
            query("matrix", "[0, \"1\"], [60, \"NaN\"]"),
            "values[1]: value NaN is not",
        ),
        (
            query("matrix", "[0, \"+Inf\"]"),
            "values[0]: value inf is not",
        ),
        (query("matrix", "[0, \"one\"]"), "value `one` is no number"),
        (query("matrix", "[-5, \"1\"]"), "time -5 is negative"),
        (query("vector", ""), "`matrix` is needed: use query_range"),
        (query("matrix", ""), "there is no value"),
        (
            "{\"status\": \"error\", \"error\": \"bad query\"}".into(),
            "bad query",
        ),
        (
            "{\"NextToken\": \"x\", \"MetricDataResults\": []}".into(),
            "NextToken: this is one page of several",
        ),
    ] {
        check(&[("a.json", text.as_bytes(), words)]);
    }
}

#[test]
fn damaged_gzip_data_says_so() {
    let whole = zip(b"t_s,count\n0,1\n10,2\n");
    let cut = &whole[..whole.len() - 4];
    check(&[
        (
            "a.csv.gz",
            cut,
            "ends early, in or after line 3; fetch the file again",
        ),
        (
            "a.csv.gz",
            &[&whole[..], b"\0\0\0\0\0\0\0\0\0\0\0\0"].concat(),
            "invalid gzip header",
        ),
        (
            "a.csv.gz",
            b"\x1f\x8b\x08\0garbage that goes on and on",
            "a.csv.gz",
        ),
    ]);
    // Not gzip at all, in spite of its name: plain text is read as such.
    read_bytes("a.csv.gz", b"t_s,count\n0,1\n10,2\n".as_slice()).expect("a trace");
    let members = [zip(b"t_s,count\n0,1\n"), zip(b"10,2\n")].concat();
    assert_eq!(
        read_bytes("a.csv.gz", members.as_slice())
            .expect("two")
            .arrivals(),
        3
    );
}

/// So many times the same byte, which nobody holds in memory.
fn endless(byte: u8, bytes: u64) -> impl Read {
    io::repeat(byte).take(bytes)
}

#[test]
fn a_terabyte_of_one_line_is_given_up_at_once() {
    const TERABYTE: u64 = 1 << 40;
    for (name, byte, words) in [
        (
            "a.csv",
            b'1',
            "a.csv:1: the line is longer than 65536 bytes; is this a trace?",
        ),
        ("a", b' ', "longer than 65536 bytes"),
        ("a.swf", b';', "longer than 65536 bytes"),
        ("a.jsonl", b'{', "longer than 65536 bytes"),
        ("a.log", b'[', "longer than 65536 bytes"),
        ("a.csv", 0, "longer than 65536 bytes"),
        ("a.json", b'[', "it is longer than 67108864 bytes"),
        ("a.wtrace", b'x', "this is no cache"),
        ("a.parquet", b'x', "it is longer than 268435456 bytes"),
    ] {
        let error = read_bytes(name, endless(byte, TERABYTE)).expect_err(name);
        assert!(said(&error).contains(words), "{name}: {error}");
    }
    // With lines that may be passed over its end is looked for, but not for ever.
    let options = ReadOptions {
        skip_bad: 5,
        ..ReadOptions::default()
    };
    let text = b"t_s,count\n0,1\n".chain(endless(b'1', 1 << 22));
    let text = text.chain(b"\n10,1\n20,1\n".as_slice());
    let trace = read_bytes_with("a.csv", text, &options).expect("a trace");
    assert_eq!((trace.arrivals(), trace.skipped().count), (3, 1));
    let error = read_bytes_with("a.csv", endless(b'1', TERABYTE), &options).expect_err("endless");
    assert!(said(&error).contains("does not end within"), "{error}");
}

#[test]
fn bombs_go_off_in_little_memory() {
    let zeros = vec![b'0'; 80 << 20];
    check(&[
        (
            "a.csv.gz",
            &zip(&zeros),
            "the line is longer than 65536 bytes",
        ),
        (
            "a.json.gz",
            &zip(&zeros),
            "it is longer than 67108864 bytes",
        ),
        ("a.jsonl", &vec![b'['; 60_000], "is no object"),
        (
            "a.json",
            &[&b"{\"data\":"[..], &vec![b'['; 60_000]].concat(),
            "line 1 column",
        ),
        ("a.json", &b"{\"x\":".repeat(60_000), "EOF while parsing"),
    ]);
}

#[test]
fn what_is_no_file_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let refused = |path: &Path| said(&read(path).expect_err("refused"));
    assert!(refused(directory.path()).contains("it is a directory; name a file in it"));
    assert!(refused(&directory.path().join("absent.swf")).contains("cannot open the trace"));
    // The ending does not say so, the beginning does.
    let path = directory.path().join("load.txt");
    for (text, jobs) in [
        (RECORD, 1),
        (
            "; Computer: X\n1 0 5 10 1 -1 -1 1 -1 -1 1 1 1 -1 1 -1 -1 -1\n",
            1,
        ),
        (
            "{\"arrival_s\": 0, \"service_s\": 1}\n{\"arrival_s\": 1, \"service_s\": 1}",
            2,
        ),
        (
            "::1 - - [01/Jan/2026:00:00:00 +0000] \"GET / HTTP/1.1\" 200 1\n",
            1,
        ),
    ] {
        fs::write(&path, text).expect("written");
        assert_eq!(read(&path).expect(text).arrivals(), jobs, "{text}");
    }
}

#[test]
fn what_can_be_read_only_once_is_not_looked_at_first() {
    let text = "[workload]\ntrace = \"/dev/null\"\n[cloud]\nboot = { distribution = \"constant\", value = \"60s\" }\nusd_per_hour = 0.17\n[fleet]\nmax = 50\n";
    let place = |name: &str| TraceFile::Path(PathBuf::from(name));
    let scenario = Scenario::parse("s", text, place).expect("sound");
    let choice = scenario.choose_flow().expect("it is not read yet");
    assert!(matches!(choice, Choice::Whole(_)), "{choice:?}");
}

fn skipping(name: &str, text: &str, skip_bad: u64) -> Result<Trace, String> {
    let options = ReadOptions {
        skip_bad,
        ..ReadOptions::default()
    };
    read_bytes_with(name, text.as_bytes(), &options).map_err(|error| said(&error))
}

#[test]
fn so_many_lines_may_be_bad_and_no_more() {
    let swf = format!("{RECORD}x\n{RECORD}1 2 3\n{RECORD}");
    let log = "h - - [01/Jan/2026:00:00:00 +0000] \"GET /\" 200 1\nx\n\ny\n\
        h - - [01/Jan/2026:00:00:02 +0000] \"GET /\" 200 1\n\
        h - - [01/Jan/2026:00:00:02 +0000] \"GET /\" 200 1\n";
    let query = "{\"data\": {\"resultType\": \"matrix\", \"result\": [{\"values\": [[0, \"1\"], \
        [60, \"NaN\"], [120, \"+Inf\"], [180, \"1\"], [240, \"1\"]]}]}}";
    let lines = "{\"arrival_s\": 0, \"service_s\": 1}\nx\n[]\n{\"arrival_s\": 1, \"service_s\": 1}\n\
        {\"arrival_s\": 2, \"service_s\": 1}\n";
    let csv = "arrival_s,service_s\n0,1\n0,x\n3,1\n2,1\n4,1\n";
    for (name, text, reason) in [
        ("a.swf", swf.as_str(), "a.swf:2: 18 fields expected"),
        ("a.log", log, "a.log:2: no date in `x`"),
        (
            "a.json",
            query,
            "a.json: data.result[0].values[1]: value NaN",
        ),
        ("a.jsonl", lines, "a.jsonl:2: `x` is no object"),
        (
            "a.csv",
            csv,
            "a.csv:3: service_s `x` is not a decimal number",
        ),
    ] {
        assert!(skipping(name, text, 0).expect_err(name).starts_with(reason));
        assert!(skipping(name, text, 1).is_err(), "{name}: the second one");
        let trace = skipping(name, text, 2).expect(name);
        assert_eq!((trace.arrivals(), trace.skipped().count), (3, 2), "{name}");
        assert!(trace.skipped().first[0].starts_with(reason), "{name}");
    }
    // Not more than a few are kept word by word.
    let many = format!("t_s,count\n0,1\n10,1\n{}20,1\n", "x\n".repeat(1_000));
    let trace = skipping("a.csv", &many, 1_000).expect("a trace");
    assert_eq!(
        (trace.skipped().count, trace.skipped().first.len()),
        (1_000, 10)
    );
}
