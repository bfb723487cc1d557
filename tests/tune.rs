//! `windlass tune` as its users see it: bad knobs found on loads that were never
//! searched, good ones left alone, going on after a kill, and one answer on any
//! number of cores.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use expect_test::expect_file;
use serde_json::Value;
use tempfile::TempDir;

/// Twelve hours of jobs that come in waves, and a cloud for them.
const SCENARIO: &str = "[workload]\ntrace = \"waves.csv\"\n\
    service = { distribution = \"exponential\", mean = \"60s\" }\n[cloud]\n\
    boot = { distribution = \"constant\", value = \"90s\" }\nusd_per_hour = 0.17\n[fleet]\n\
    initial = 5\nmax = 40\n[objective]\nusd_per_job_hour_waiting = 1.0\n";

/// Forty jobs wait for each instance: far too many at that price.
const BAD: &str = "# What we run.\n[[policy]]\nkind = \"queue_backlog\" # by the queue\n\
    jobs_per_instance = 40 # planted\n\n[[case]]\nname = \"a long queue\"\ninstances = 1\n\
    readings = { backlog = 400, in_flight = 0 }\ntarget = 10\n";

const TUNE: &str = "tune --scenario waves.toml --policy bad.toml --peer builtin:fixed \
    --frontier-points 3 --out tuned.toml";

/// A folder to run the program in, with a scenario, a trace and a policy.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().expect("a temporary folder"));
        let mut trace = "t_s,count\n".to_owned();
        for minute in 0..720_u32 {
            let wave = 3 + (minute / 20) % 3 * 7;
            writeln!(trace, "{},{wave}", minute * 60).expect("written");
        }
        desk.write("waves.csv", &trace);
        desk.write("waves.toml", SCENARIO);
        desk.write("bad.toml", BAD);
        desk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("written");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).expect(name)
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command
            .args(arguments.split_whitespace())
            .current_dir(self.path())
            .env("XDG_CACHE_HOME", self.path().join("cache"))
            .env("COLUMNS", "100")
            .env_remove("WINDLASS_LOG")
            .stdin(Stdio::null());
        command
    }

    fn output(&self, arguments: &str) -> Output {
        let output = self.command(arguments).output().expect("started");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments}: {errors}");
        output
    }

    /// What `arguments` answer with `--format json`.
    fn answer(&self, arguments: &str) -> Value {
        let output = self.output(&format!("{arguments} --format json"));
        serde_json::from_slice(&output.stdout).expect("an object")
    }

    /// What the program says to `commands`, as it looks in a shell.
    fn session(&self, commands: &[&str]) -> String {
        let mut told = String::new();
        for arguments in commands {
            let output = self.command(arguments).output().expect("started");
            writeln!(told, "$ windlass {arguments}").expect("written");
            let code = output.status.code().expect("no signal");
            for (label, stream) in [("", output.stdout), ("stderr: ", output.stderr)] {
                let text = String::from_utf8(stream).expect("text");
                // How far it is and how long it took is another on every machine.
                let same = |line: &&str| {
                    !line.starts_with("windlass: tuning: ") && !line.contains(" runs simulated in ")
                };
                for line in text.lines().filter(same) {
                    writeln!(told, "{}", format!("{label}{line}").trim_end()).expect("written");
                }
            }
            writeln!(told, "exit {code}\n").expect("written");
        }
        told
    }
}

fn number(answer: &Value, path: &str) -> f64 {
    let found = answer.pointer(path).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no {path} in {answer}"))
}

#[test]
fn help_teaches() {
    let told = Desk::new().session(&["tune --help"]);
    expect_file!["golden/tune_help.txt"].assert_eq(&told);
}

#[test]
fn a_tuning_is_told_in_tables() {
    let desk = Desk::new();
    let told = desk.session(&[TUNE, "check tuned.toml"]);
    expect_file!["golden/tune.txt"].assert_eq(&told);
}

#[test]
fn planted_knobs_are_improved_on_what_was_never_searched() {
    let desk = Desk::new();
    let answer = desk.answer(TUNE);
    assert_eq!(answer["pays"], true, "{answer}");
    let unseen = |field: &str| number(&answer, &format!("/unseen/{field}"));
    assert!(unseen("gain_low") > 0.0, "{answer}");
    let gain = (unseen("given_usd") - unseen("tuned_usd")) / unseen("given_usd");
    assert!((unseen("gain") - gain).abs() < 1e-9);
    let gap = number(&answer, "/training/gain") - gain;
    assert!((number(&answer, "/train_test_gap") - gap).abs() < 1e-9);

    // What is written differs in that value alone, and costs what was told, in
    // a simulation of its own that is cut in no way.
    let tuned = desk.read("tuned.toml");
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
    let desk = Desk::new();
    desk.output(TUNE);
    let again = "tune --scenario waves.toml --policy tuned.toml --peer builtin:fixed \
        --frontier-points 0 --out again.toml";
    let answer = desk.answer(again);
    assert_eq!(answer["pays"], false, "{answer}");
    assert!(
        answer["says"]
            .as_str()
            .expect("text")
            .starts_with("Nothing pays")
    );
    assert_eq!(desk.read("again.toml"), desk.read("tuned.toml"));
}

#[test]
fn what_pays_only_where_it_was_searched_is_not_written() {
    let desk = Desk::new();
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
    let answer = desk.answer(TUNE);
    assert_eq!(answer["pays"], false, "{answer}");
    assert!(number(&answer, "/training/gain") > 0.1, "{answer}");
    assert!(number(&answer, "/unseen/gain_low") <= 0.0, "{answer}");
    assert!(!answer["changes"].as_array().expect("a list").is_empty());
    assert_eq!(desk.read("tuned.toml"), BAD);
}

#[test]
fn the_same_comes_of_one_core_and_of_several() {
    let desk = Desk::new();
    let with = |threads: &str| {
        let arguments =
            format!("{TUNE} --seed 1 2 --force --report page.html --fresh --format json");
        let mut command = desk.command(&arguments);
        let output = command.env("RAYON_NUM_THREADS", threads).output();
        let told = output.expect("started").stdout;
        (told, desk.read("tuned.toml"), desk.read("page.html"))
    };
    let one = with("1");
    assert!(one.0.len() > 1_000);
    assert!(one.2.contains("class=\"front\"") && one.2.contains("<h1>Tuning of bad</h1>"));
    assert!(one == with("5"));
    assert!(!desk.path().join("cache").exists(), "--fresh keeps nothing");
}

#[test]
fn it_goes_on_where_it_was_killed() {
    let desk = Desk::new();
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
    let desk = Desk::new();
    desk.write("broken.toml", "[[policy]]\nkind = \"queue_backlog\"\n");
    desk.write("there.toml", "mine\n");
    let short = SCENARIO.replace("[cloud]", "length = \"30m\"\n[cloud]");
    desk.write("short.toml", &short);
    // The last fold begins with the 577th row.
    let trace = desk.read("waves.csv");
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
    assert_eq!(desk.read("there.toml"), "mine\n");
}
