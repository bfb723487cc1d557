//! `windlass compare` and `windlass merge` as their users see them: tables,
//! going on after a kill, parts of one comparison, and a real array of jobs.

use std::env;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use expect_test::expect_file;

#[path = "compare/browser.rs"]
mod browser;
#[path = "support/desk.rs"]
mod desk;
#[path = "compare/slurm.rs"]
mod slurm;

use desk::{Desk, SCENARIO};

const POLICY: &str = "[[policy]]\nkind = \"queue_backlog\"\njobs_per_instance = 4\n";

/// All that the tests compare.
const COMPARE: &str = "compare --scenario waves.toml --policy mine.toml builtin:step builtin:fixed";

fn desk() -> Desk {
    let desk = Desk::of_waves(360, 45);
    desk.write("mine.toml", POLICY);
    desk
}

#[test]
fn help_teaches() {
    let told = desk().session(&["compare --help", "merge --help"]);
    expect_file!["golden/compare_help.txt"].assert_eq(&told);
}

#[test]
fn policies_are_compared() {
    let desk = desk();
    let commands = [
        COMPARE,
        "compare --scenario waves.toml --policy mine.toml builtin:schedule --tune-peers --at-p95 2m",
        "compare --scenario waves.toml --policy mine.toml --seed 1 2 --frontier-points 0",
        "compare --scenario waves.toml --policy mine.toml --frontier-points 2 --format json",
    ]
    .map(|command| format!("{command} --bound-points 0"));
    let told = desk.session(&commands.each_ref().map(String::as_str));
    expect_file!["golden/compare.txt"].assert_eq(&told);
}

#[test]
fn totals_are_held_against_the_bound() {
    let desk = desk();
    let told = desk.session(&[&format!("{COMPARE} --frontier-points 0")]);
    for word in [
        "  x bound  ",
        "No policy can go below $",
        "made with hindsight comes to $",
    ] {
        assert!(told.contains(word), "{word}: {told}");
    }
}

#[test]
fn wrong_arguments_are_answered() {
    let desk = desk();
    desk.write("broken.toml", "[[policy]]\nkind = \"queue_backlog\"\n");
    desk.write("not.parquet", "PAR1 and no more");
    fs::create_dir(desk.path().join("empty")).expect("made");
    desk.write("flat", "a file\n");
    let told = desk.session(&[
        "compare",
        "compare --scenario waves.toml waves.toml",
        "compare --scenario none.toml",
        "compare --scenario waves.toml --policy broken.toml",
        "compare --scenario waves.toml --policy mine.toml mine.toml",
        "compare --scenario waves.toml --trace /dev/null",
        "compare --scenario waves.toml --trace none.csv",
        "compare --scenario waves.toml --shard 4/4",
        "compare --scenario waves.toml --shard 0/4",
        "compare --scenario waves.toml --shard 0/4 --format json",
        "compare --scenario waves.toml --tuning-share 40",
        "compare --scenario waves.toml --tune-peers --tuning-share 95",
        "compare --scenario waves.toml --at-p95 soon",
        "compare --scenario waves.toml --out flat",
        "compare --scenario waves.toml --state flat",
        "compare --scenario waves.toml --state somewhere --fresh",
        "merge",
        "merge none",
        "merge empty",
        "merge not.parquet",
    ]);
    expect_file!["golden/compare_refused.txt"].assert_eq(&told);
}

#[test]
fn a_window_that_is_too_short_is_refused() {
    let desk = desk();
    let short = SCENARIO.replace("[cloud]", "length = \"4m\"\n[cloud]");
    desk.write("waves.toml", &short);
    let output = desk.command(&format!("{COMPARE} --tune-peers")).output();
    let output = output.expect("started");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{told}");
    assert!(told.contains("too short to tune on"), "{told}");
}

#[test]
fn rows_without_tuning_are_what_simulate_says() {
    let desk = desk();
    let parse = |output: Output| -> Vec<serde_json::Value> {
        serde_json::from_slice(&output.stdout).expect("an array")
    };
    let arguments = "--scenario waves.toml --policy mine.toml --policy builtin:step --format json";
    let compared = parse(desk.output(&format!("compare {arguments}")));
    let simulated = parse(desk.output(&format!("simulate {arguments}")));
    assert_eq!(compared.len(), 2);
    let page = include_str!("../docs/compare.md");
    for key in compared[0].as_object().expect("a row").keys() {
        assert!(
            page.contains(&format!("`{key}`")),
            "docs/compare.md says nothing of {key}"
        );
    }
    for (row, score) in compared.iter().zip(&simulated) {
        for key in [
            "policy",
            "trace",
            "scenario",
            "seed",
            "instance_usd",
            "delay_usd",
            "total_usd",
            "wait_secs",
            "launches",
            "terminations",
            "jobs",
            "unfinished_jobs",
        ] {
            assert_eq!(row[key], score[key], "{key}");
        }
        assert_eq!(row["tuned"], false);
        let usd = |key: &str| row[key].as_f64().expect(key);
        assert!(usd("bound_usd") <= usd("achieved_usd"));
        assert!(usd("bound_usd") <= usd("total_usd"));
        let ratio = usd("total_usd") / usd("bound_usd");
        assert!((usd("ratio_to_bound") - ratio).abs() < 1e-12);
    }
}

#[test]
fn tuning_does_not_lose_in_its_window_and_says_what_it_found() {
    let desk = desk();
    let output = desk.output(&format!(
        "{COMPARE} --tune-peers --bound-points 0 --format json"
    ));
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("an array");
    let names: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {}", row["policy"], row["tuned"]))
        .collect();
    let expected = [
        "\"mine\" false",
        "\"mine\" true",
        "\"step\" false",
        "\"step\" true",
        "\"fixed\" false",
        "\"fixed\" true",
    ];
    assert_eq!(names, expected);
    // 40 % of six hours, and the rest.
    assert_eq!(rows[0]["scored_from_secs"], 8_640.0);
    assert_eq!(rows[0]["scored_secs"], 12_960.0);
    assert!(
        rows[1]["knobs"]["queue_backlog.jobs_per_instance"].is_string(),
        "{}",
        rows[1]
    );
    let total = |place: usize| rows[place]["total_usd"].as_f64().expect("a number");
    assert!(
        total(1) < total(0),
        "four jobs for each instance are too many"
    );
}

#[test]
fn the_same_comes_of_one_core_and_of_several() {
    let desk = desk();
    let arguments = format!("{COMPARE} --tune-peers --fresh --format json");
    let with = |threads: &str| {
        let mut command = desk.command(&arguments);
        command
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .expect("started")
            .stdout
    };
    let one = with("1");
    assert!(one.len() > 1_000);
    assert!(one == with("5"));
    assert!(!desk.path().join("cache").exists(), "--fresh keeps nothing");
}

/// Two more seeds, so that it takes a while.
const LONG: &str = "--tune-peers --seed 1 2 3 --bound-points 1 --state kept --format json";

#[test]
fn it_goes_on_where_it_was_killed() {
    let desk = desk();
    let arguments = format!("{COMPARE} {LONG}");
    let fresh = desk
        .output(&arguments.replace("--state kept", "--fresh"))
        .stdout;
    let mut command = desk.command(&arguments);
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = command.spawn().expect("started");
    let kept = desk.path().join("kept/runs-0.jsonl");
    let deadline = Instant::now() + Duration::from_mins(2);
    let lines = || fs::read_to_string(&kept).map_or(0, |text| text.lines().count());
    while lines() < 5 {
        assert!(Instant::now() < deadline, "no run was kept");
        assert!(
            process.try_wait().expect("a process").is_none(),
            "too fast to be killed"
        );
        std::thread::yield_now();
    }
    process.kill().expect("killed with -9");
    process.wait().expect("gone");
    let found = lines();
    // As if it had died in the middle of a line.
    let mut text = fs::read(&kept).expect("read");
    text.extend_from_slice(b"{\"of\":\"1234");
    fs::write(&kept, text).expect("written");
    let again = desk.output(&arguments);
    assert!(again.stdout == fresh, "the same bytes as in one go");
    let told = String::from_utf8_lossy(&again.stderr);
    assert!(told.contains(" found finished"), "{told}");
    // And nothing is left to do.
    let third = desk.output(&arguments);
    assert!(third.stdout == fresh);
    let told = String::from_utf8_lossy(&third.stderr);
    assert!(
        told.contains("windlass: 0 runs simulated"),
        "{told} after {found}"
    );
}

#[test]
fn what_is_kept_of_other_inputs_is_not_used() {
    let desk = desk();
    let compare = || {
        let arguments = "compare --scenario waves.toml --policy mine.toml --frontier-points 0 \
            --bound-points 1 --state kept --format json";
        let output = desk.output(arguments);
        (
            output.stdout,
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (first, _) = compare();
    let (second, told) = compare();
    assert!(
        first == second && told.contains("windlass: 0 runs"),
        "{told}"
    );
    let trace = String::from_utf8(desk.read("waves.csv")).expect("text");
    for (file, text) in [
        ("waves.csv", trace.replace("600,3", "600,4")),
        ("waves.toml", SCENARIO.replace("90s", "91s")),
        (
            "waves.toml",
            SCENARIO.replace(
                "usd_per_job_hour_waiting = 1.0",
                "usd_per_job_hour_waiting = 2.0",
            ),
        ),
        ("mine.toml", POLICY.replace('4', "3")),
    ] {
        let before = String::from_utf8(desk.read(file)).expect("text");
        assert_ne!(before, text, "{file}");
        desk.write(file, &text);
        let (other, told) = compare();
        assert!(other != first, "{file}: {text}");
        assert!(!told.contains("windlass: 0 runs"), "{file}: {told}");
        desk.write(file, &before);
    }
    assert!(compare().0 == first);
}

/// Each file of a whole comparison.
const WHOLE: [&str; 3] = ["results.json", "report.html", "results.parquet"];

#[test]
fn shards_are_merged_to_what_one_process_writes() {
    let desk = desk();
    let compare = format!("{COMPARE} --tune-peers --seed 1 2 --bound-points 1 --fresh");
    let table = desk.output(&format!("{compare} --out whole")).stdout;
    for shard in [2, 0, 3, 1] {
        let told = desk
            .output(&format!("{compare} --out parts --shard {shard}/4"))
            .stdout;
        let told = String::from_utf8(told).expect("text");
        assert!(told.starts_with(&format!("shard {shard}/4: ")), "{told}");
    }
    assert!(desk.output("merge parts --out merged").stdout == table);
    for file in WHOLE {
        let (whole, merged) = (
            desk.read(&format!("whole/{file}")),
            desk.read(&format!("merged/{file}")),
        );
        assert!(whole == merged, "{file}");
    }
    // What was joined can be read again, and matched at another wait.
    let again = desk
        .output("merge merged/results.parquet --format json")
        .stdout;
    assert!(again == desk.read("whole/results.json"));
    let other = desk.output("merge parts --at-p95 10s --format json").stdout;
    assert!(String::from_utf8_lossy(&other).contains("\"matched_p95_secs\": 10.0"));

    // Parts that make no whole.
    let refused = |arguments: &str| {
        let output = desk.command(arguments).output().expect("started");
        assert_eq!(output.status.code(), Some(64), "{arguments}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let told = refused("merge parts parts/shard-2-of-4.parquet");
    assert!(told.contains("shard 2 is there twice"), "{told}");
    fs::remove_file(desk.path().join("parts/shard-1-of-4.parquet")).expect("removed");
    let told = refused("merge parts");
    assert!(
        told.contains("there are none of 1; run them, with --shard 1/4"),
        "{told}"
    );
    desk.write("mine.toml", &POLICY.replace('4', "5"));
    desk.output(&format!("{compare} --out parts --shard 1/4"));
    let told = refused("merge parts");
    assert!(told.contains("are not of one comparison"), "{told}");
}

#[test]
fn schedulers_say_which_shard_it_is() {
    let desk = desk();
    let compare = "compare --scenario waves.toml --policy mine.toml --bound-points 0 --out parts";
    for (index, count) in [
        (
            ("AWS_BATCH_JOB_ARRAY_INDEX", "0"),
            ("AWS_BATCH_JOB_ARRAY_SIZE", "2"),
        ),
        (("JOB_COMPLETION_INDEX", "1"), ("JOB_COMPLETIONS", "2")),
    ] {
        let mut command = desk.command(compare);
        let output = command.env(index.0, index.1).env(count.0, count.1).output();
        let told = String::from_utf8(output.expect("started").stdout).expect("text");
        assert!(told.contains(&format!("as {} says", index.0)), "{told}");
    }
    desk.output("merge parts");
}

/// Where a program is; `None` if the tests were told to do without it.
fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    if found.is_none() {
        let left_out = env::var("WINDLASS_TESTS_WITHOUT").unwrap_or_default();
        assert!(
            left_out.split_whitespace().any(|one| one == name),
            "{name} is not installed, and this test is nothing without it; install it, or leave it \
             out with WINDLASS_TESTS_WITHOUT={name}"
        );
        eprintln!("NOT TESTED: {name} is not installed");
        note_left_out();
    }
    found
}

/// Counted by `tests/run`: a test that was left out did not pass.
fn note_left_out() {
    let Some(list) = env::var_os("WINDLASS_TESTS_LEFT_OUT") else {
        return;
    };
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let mut list = fs::File::options().append(true).open(list).expect("a list");
    // At once: other tests write there too.
    list.write_all(format!("{name}\n").as_bytes())
        .expect("written");
}
