//! `windlass tune` as its users see it: bad knobs found on loads that were never
//! searched, good ones left alone, going on after a kill, and one answer on any
//! number of cores.

use std::fmt::Write as _;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use expect_test::expect_file;
use serde_json::Value;

#[path = "support/desk.rs"]
mod desk;

use desk::{Desk, SCENARIO};

/// Forty jobs wait for each instance: far too many at that price.
const BAD: &str = "# What we run.\n[[policy]]\nkind = \"queue_backlog\" # by the queue\n\
    jobs_per_instance = 40 # planted\n\n[[case]]\nname = \"a long queue\"\ninstances = 1\n\
    readings = { backlog = 400, in_flight = 0 }\ntarget = 10\n";

const TUNE: &str = "tune --scenario waves.toml --policy bad.toml --peer builtin:fixed \
    --frontier-points 3 --out tuned.toml";

fn desk() -> Desk {
    let desk = Desk::of_waves(720, 20);
    desk.write("bad.toml", BAD);
    desk
}

fn text(desk: &Desk, name: &str) -> String {
    String::from_utf8(desk.read(name)).expect(name)
}

/// What `arguments` answer with `--format json`.
fn answer(desk: &Desk, arguments: &str) -> Value {
    let output = desk.output(&format!("{arguments} --format json"));
    serde_json::from_slice(&output.stdout).expect("an object")
}

fn number(answer: &Value, path: &str) -> f64 {
    let found = answer.pointer(path).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no {path} in {answer}"))
}

#[test]
fn help_teaches() {
    let told = desk().session(&["tune --help"]);
    expect_file!["golden/tune_help.txt"].assert_eq(&told);
}

#[test]
fn a_tuning_is_told_in_tables() {
    let desk = desk();
    let told = desk.session(&[TUNE, "check tuned.toml"]);
    expect_file!["golden/tune.txt"].assert_eq(&told);
}

#[test]
fn planted_knobs_are_improved_on_what_was_never_searched() {
    let desk = desk();
    let answer = answer(&desk, TUNE);
    assert_eq!(answer["pays"], true, "{answer}");
    let unseen = |field: &str| number(&answer, &format!("/unseen/{field}"));
    assert!(unseen("gain_low") > 0.0, "{answer}");
    let gain = (unseen("given_usd") - unseen("tuned_usd")) / unseen("given_usd");
    assert!((unseen("gain") - gain).abs() < 1e-9);
    let gap = number(&answer, "/training/gain") - gain;
    assert!((number(&answer, "/train_test_gap") - gap).abs() < 1e-9);

    // What is written differs in that value alone, and costs what was told, in
    // a simulation of its own that is cut in no way.
    let tuned = text(&desk, "tuned.toml");
    let to = answer["changes"][0]["to"].as_str().expect("a value");
    assert_eq!(
        tuned,
        BAD.replace(
            "jobs_per_instance = 40 #",
            &format!("jobs_per_instance = {to} #")
        )
    );
    let simulate = |policy: &str| {
        let told = format!("simulate --scenario waves.toml --policy {policy} --format json");
        let rows: Value = serde_json::from_slice(&desk.output(&told).stdout).expect("rows");
        number(&rows, "/0/total_usd")
    };
    let (before, after) = (simulate("bad.toml"), simulate("tuned.toml"));
    assert!(after < before, "{after} instead of {before}");
    let sum = |field: &str| {
        number(&answer, &format!("/training/{field}"))
            + number(&answer, &format!("/unseen/{field}"))
    };
    // Jobs of the folds that are searched may still wait where these end, and
    // what they wait after that is not seen there.
    assert!(sum("given_usd") <= before * 1.001);
    assert!((sum("tuned_usd") - after).abs() < 0.02 * after);

    let page = include_str!("../docs/tune.md");
    for key in answer.as_object().expect("an object").keys() {
        assert!(page.contains(&format!("`{key}`")), "docs/tune.md: {key}");
    }
}

#[test]
fn what_is_best_already_is_left_as_it_is() {
    let desk = desk();
    desk.output(TUNE);
    let again = "tune --scenario waves.toml --policy tuned.toml --peer builtin:fixed \
        --frontier-points 0 --out again.toml";
    let answer = answer(&desk, again);
    assert_eq!(answer["pays"], false, "{answer}");
    assert!(
        answer["says"]
            .as_str()
            .expect("text")
            .starts_with("Nothing pays")
    );
    assert_eq!(text(&desk, "again.toml"), text(&desk, "tuned.toml"));
}

#[test]
fn what_pays_only_where_it_was_searched_is_not_written() {
    let desk = desk();
    // After the third fold a job comes now and then, for which one instance is
    // enough, and what the waves left is done in the fourth.
    let mut trace = "t_s,count\n".to_owned();
    for minute in 0..720_u32 {
        let count = if minute < 432 {
            3 + (minute / 20) % 3 * 7
        } else {
            u32::from(minute % 10 == 0)
        };
        writeln!(trace, "{},{count}", minute * 60).expect("written");
    }
    desk.write("waves.csv", &trace);
    let answer = answer(&desk, TUNE);
    assert_eq!(answer["pays"], false, "{answer}");
    assert!(number(&answer, "/training/gain") > 0.1, "{answer}");
    assert!(number(&answer, "/unseen/gain_low") <= 0.0, "{answer}");
    assert!(!answer["changes"].as_array().expect("a list").is_empty());
    assert_eq!(text(&desk, "tuned.toml"), BAD);
}

#[test]
fn the_same_comes_of_one_core_and_of_several() {
    let desk = desk();
    let with = |threads: &str| {
        let arguments =
            format!("{TUNE} --seed 1 2 --force --report page.html --fresh --format json");
        let mut command = desk.command(&arguments);
        let output = command.env("RAYON_NUM_THREADS", threads).output();
        let told = output.expect("started").stdout;
        (told, text(&desk, "tuned.toml"), text(&desk, "page.html"))
    };
    let one = with("1");
    assert!(one.0.len() > 1_000);
    assert!(one.2.contains("class=\"front\"") && one.2.contains("<h1>Tuning of bad</h1>"));
    assert!(one == with("5"));
    assert!(!desk.path().join("cache").exists(), "--fresh keeps nothing");
}

#[test]
fn it_goes_on_where_it_was_killed() {
    let desk = desk();
    let arguments = format!("{TUNE} --force --seed 1 2 3 --state kept --format json");
    let fresh = desk.output(&arguments.replace("--state kept", "--fresh"));
    let mut command = desk.command(&arguments);
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = command.spawn().expect("started");
    let kept = desk.path().join("kept/runs-0.jsonl");
    let deadline = Instant::now() + Duration::from_mins(2);
    let lines = || fs::read_to_string(&kept).map_or(0, |text| text.lines().count());
    while lines() < 5 {
        assert!(Instant::now() < deadline, "no run was kept");
        let ended = process.try_wait().expect("a process");
        assert!(ended.is_none(), "too fast to be killed");
        std::thread::yield_now();
    }
    process.kill().expect("killed with -9");
    process.wait().expect("gone");
    let again = desk.output(&arguments);
    assert!(again.stdout == fresh.stdout, "the same bytes as in one go");
    let told = String::from_utf8_lossy(&again.stderr);
    assert!(told.contains(" found finished"), "{told}");
    // And nothing is left to do.
    let third = desk.output(&arguments);
    assert!(third.stdout == fresh.stdout);
    let told = String::from_utf8_lossy(&third.stderr);
    assert!(told.contains("windlass: 0 runs simulated"), "{told}");
}

#[test]
fn wrong_arguments_are_answered() {
    let desk = desk();
    desk.write("broken.toml", "[[policy]]\nkind = \"queue_backlog\"\n");
    desk.write("there.toml", "mine\n");
    let short = SCENARIO.replace("[cloud]", "length = \"30m\"\n[cloud]");
    desk.write("short.toml", &short);
    // The last fold begins with the 577th row.
    let trace = text(&desk, "waves.csv");
    let rows = trace.lines().enumerate();
    let quiet: Vec<String> = rows
        .map(|(place, row)| match row.split_once(',') {
            Some((at, _)) if place > 550 => format!("{at},0"),
            _ => row.to_owned(),
        })
        .collect();
    desk.write("quiet.csv", &quiet.join("\n"));
    desk.write("wide.toml", &SCENARIO.replace("max = 40", "max = 80"));
    fs::create_dir(desk.path().join("folder")).expect("made");
    let told = desk.session(&[
        "tune --scenario waves.toml --policy bad.toml",
        "tune --scenario waves.toml --policy none.toml --out new.toml",
        "tune --scenario waves.toml --policy broken.toml --out new.toml",
        "tune --scenario waves.toml --policy builtin:schedule --out new.toml",
        "tune --scenario none.toml --policy bad.toml --out new.toml",
        "tune --scenario waves.toml --trace none.csv --policy bad.toml --out new.toml",
        "tune --scenario waves.toml --policy bad.toml --out there.toml",
        "tune --scenario waves.toml --policy bad.toml --out new.toml --report there.toml",
        "tune --scenario waves.toml --policy bad.toml --out folder",
        "tune --scenario waves.toml --policy bad.toml --out none/new.toml",
        "tune --scenario short.toml --policy bad.toml --out new.toml",
        "tune --scenario waves.toml --trace quiet.csv --policy bad.toml --out new.toml",
        "tune --scenario waves.toml wide.toml --policy bad.toml --out new.toml",
        "tune --scenario waves.toml --policy bad.toml --out new.toml --folds 2",
        "tune --scenario waves.toml --policy bad.toml --peer bad.toml --out new.toml",
        "tune --scenario waves.toml waves.toml --policy bad.toml --out new.toml",
        "tune --scenario waves.toml --policy bad.toml --out new.toml --state there.toml",
    ]);
    expect_file!["golden/tune_refused.txt"].assert_eq(&told);
    assert!(!desk.path().join("new.toml").exists());
    assert_eq!(text(&desk, "there.toml"), "mine\n");
}
