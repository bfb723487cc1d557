//! `windlass trace` as a program: formats, parts, scale, made-up loads.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs the program in `folder`: standard output, standard error, exit code.
fn trace(folder: &Path, arguments: &[&str]) -> (String, String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_windlass"))
        .arg("trace")
        .args(arguments)
        .current_dir(folder)
        .env_remove("WINDLASS_LOG")
        .output()
        .expect("started");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let code = output.status.code().expect("no signal");
    (text(output.stdout), text(output.stderr), code)
}

/// Runs the program, which must end well, and gives its output.
fn done(folder: &Path, arguments: &[&str]) -> String {
    let (out, err, code) = trace(folder, arguments);
    assert_eq!((err.as_str(), code), ("", 0), "{arguments:?}: {out}");
    out
}

fn week() -> String {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("simulator/traces");
    path_text(&traces.join("nasa_http_jul95_week.rate.csv.gz"))
}

fn path_text(path: &Path) -> String {
    path.to_str().expect("a plain path").to_owned()
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_owned();
    (directory, path)
}

#[test]
fn a_trace_is_described_in_numbers_and_as_a_picture() {
    let (_keep, at) = folder();
    let table = done(&at, &["inspect", &week()]);
    for part in [
        "arrivals           567785",
        "span               7.00 d",
        "peak of 5 min",
        "correlation, day",
        "hours of the week",
        "█",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let json = done(&at, &["inspect", &week(), "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["arrivals"], 567_785);
    assert_eq!(json["kind"], "rate");
}

#[test]
fn formats_convert_into_each_other_without_loss() {
    let (_keep, at) = folder();
    let text = "arrival_s,service_s,class\n0,1.5,a\n0.25,0.000001,b c\n86400,3600,a\n";
    fs::write(at.join("a.jobs.csv"), text).expect("written");
    done(&at, &["convert", "a.jobs.csv", "b.wtrace"]);
    done(&at, &["convert", "b.wtrace", "c.jobs.csv.gz"]);
    done(&at, &["convert", "c.jobs.csv.gz", "d.jobs.csv"]);
    assert_eq!(
        fs::read_to_string(at.join("d.jobs.csv")).expect("read"),
        text
    );
    done(&at, &["convert", "b.wtrace", "e.rate.csv", "--step", "12h"]);
    let rates = fs::read_to_string(at.join("e.rate.csv")).expect("read");
    assert_eq!(rates, "t_s,count\n0,2\n43200,0\n86400,1\n");
    let (_, err, code) = trace(&at, &["convert", "e.rate.csv", "f.jobs.csv"]);
    assert!(err.contains("not how long they take"), "{err}");
    assert_eq!(code, 64);
    let (_, err, code) = trace(&at, &["convert", "a.jobs.csv", "f.parquet"]);
    assert!(err.contains("must end in .rate.csv"), "{err}");
    assert_eq!(code, 64);
    assert!(
        fs::read_dir(&at).expect("a folder").all(|entry| entry
            .expect("an entry")
            .path()
            .extension()
            != Some("part".as_ref()))
    );
}

#[test]
fn parts_and_scales_are_exact_and_repeatable() {
    let (_keep, at) = folder();
    let out = done(
        &at,
        &[
            "cut",
            &week(),
            "day.rate.csv",
            "--start",
            "1d",
            "--length",
            "1d",
        ],
    );
    assert!(
        out.starts_with("day.rate.csv: ") && out.ends_with(" in 24 h\n"),
        "{out}"
    );
    done(
        &at,
        &[
            "scale",
            "day.rate.csv",
            "x.rate.csv",
            "--factor",
            "2.5",
            "--seed",
            "4",
        ],
    );
    done(
        &at,
        &[
            "scale",
            "day.rate.csv",
            "y.rate.csv",
            "--factor",
            "2.5",
            "--seed",
            "4",
        ],
    );
    let read = |name| fs::read(at.join(name)).expect("read");
    assert_eq!(read("x.rate.csv"), read("y.rate.csv"));
    let (_, err, code) = trace(&at, &["cut", &week(), "z.rate.csv", "--start", "8d"]);
    assert!(err.contains("nothing is left"), "{err}");
    assert_eq!(code, 64);
}

#[test]
fn the_example_in_the_help_makes_a_trace() {
    let (_keep, at) = folder();
    let help = done(&at, &["synth", "--help"]);
    let (_, example) = help.split_once("are needed:").expect("an example");
    let from = example.find("# A made-up load").expect("its first line");
    let to = example.find("cv = 1.5").expect("its last line") + "cv = 1.5".len();
    fs::write(at.join("load.toml"), &example[from..to]).expect("written");
    let out = done(&at, &["synth", "load.toml", "load.wtrace"]);
    assert!(
        out.ends_with(" in 27 d 23 h\n") || out.ends_with(" in 28 d\n"),
        "{out}"
    );
    let json = done(&at, &["inspect", "load.wtrace", "--format", "json"]);
    assert!(
        json.contains("\"begins_at\": \"2026-06-01T00:00:00Z\""),
        "{json}"
    );
    fs::write(at.join("bad.toml"), "length = \"1x\"\n").expect("written");
    let (_, err, code) = trace(&at, &["synth", "bad.toml", "x.wtrace"]);
    assert!(
        err.contains("bad.toml:1: length") && err.contains("arrivals_per_hour: missing"),
        "{err}"
    );
    assert_eq!(code, 64);
}

#[test]
fn malformed_lines_are_named_and_some_may_be_passed_over() {
    let (_keep, at) = folder();
    let text = "arrival_s,service_s\n0,1\nx,1\n5,-1\n7,2\n";
    fs::write(at.join("a.jobs.csv"), text).expect("written");
    let (out, err, code) = trace(&at, &["inspect", "a.jobs.csv"]);
    assert!(
        err.contains("a.jobs.csv:3: arrival_s `x` is not a decimal number"),
        "{err}"
    );
    assert_eq!((out.as_str(), code), ("", 66));
    let (_, err, code) = trace(&at, &["inspect", "a.jobs.csv", "--skip-bad", "1"]);
    assert!(
        err.contains("a.jobs.csv:4: service_s `-1` is negative"),
        "{err}"
    );
    assert_eq!(code, 66);
    let (out, err, code) = trace(&at, &["inspect", "a.jobs.csv", "--skip-bad", "2"]);
    assert!(err.contains("passed over: a.jobs.csv:3: "), "{err}");
    assert!(
        err.ends_with("windlass: 2 lines passed over in all\n"),
        "{err}"
    );
    assert!(out.contains("arrivals           2\n"), "{out}");
    assert_eq!(code, 0);
}
