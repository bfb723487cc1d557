//! The whole program as its users see it: standard output, standard error and
//! exit codes, against the files in `golden`. `UPDATE_EXPECT=1 cargo test
//! --test cli` writes them anew; read the difference.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use expect_test::{ExpectFile, expect_file};
use tempfile::TempDir;
use windlass_policies::presets;
use windlass_simulator::scenario::BUILT_IN_SCENARIOS;

/// A folder to run the program in.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path().join(name), text).expect("written");
    }

    /// A built-in scenario under its own name, cut down to `length`.
    fn write_scenario(&self, name: &str, length: &str) {
        let (_, text) = BUILT_IN_SCENARIOS
            .iter()
            .find(|(known, _)| *known == name)
            .expect("a built-in scenario");
        let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("simulator/traces/");
        let text: String = text
            .replace("../traces/", &traces.display().to_string())
            .lines()
            .filter(|line| !line.starts_with("length"))
            .map(|line| match line {
                "[workload]" => format!("[workload]\nlength = \"{length}\"\n"),
                line => format!("{line}\n"),
            })
            .collect();
        self.write(&format!("{name}.toml"), text);
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command
            .args(arguments.split_whitespace())
            .current_dir(self.path())
            .env_remove("WINDLASS_LOG")
            .env("COLUMNS", "100")
            .stdin(Stdio::null());
        command
    }

    /// What the program writes to standard output, if it ends well.
    fn output(&self, arguments: &str) -> String {
        let output = self.command(arguments).output().expect("started");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments}: {errors}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Commands as they look in a shell, with all that comes of them.
    fn session(&self, commands: &[&str]) -> String {
        let mut told = String::new();
        for arguments in commands {
            let output = self.command(arguments).output().expect("started");
            writeln!(told, "$ windlass {arguments}").expect("written");
            let code = output.status.code().expect("no signal");
            for (label, stream) in [("", output.stdout), ("stderr: ", output.stderr)] {
                let text = String::from_utf8(stream).expect("text");
                // Usual in a shell, and another on every machine.
                let text = text.replace(&self.path().display().to_string(), "~");
                for line in text.lines() {
                    writeln!(told, "{}", format!("{label}{line}").trim_end()).expect("written");
                }
            }
            writeln!(told, "exit {code}\n").expect("written");
        }
        told
    }
}

fn same(told: &str, golden: &ExpectFile) {
    golden.assert_eq(told);
}

#[test]
fn help_teaches() {
    let desk = Desk::new();
    let told = desk.session(&[
        "--help",
        "-h",
        "run --help",
        "check --help",
        "simulate --help",
        "bound --help",
        "explain --help",
        "replay --help",
        "bench --help",
    ]);
    same(&told, &expect_file!["golden/help.txt"]);
}

#[test]
fn scenarios_are_simulated() {
    let desk = Desk::new();
    for (name, length) in [
        ("web-week", "3h"),
        ("call-centre", "12h"),
        ("ci-bursts", "1d"),
        ("supercomputer", "1d"),
    ] {
        desk.write_scenario(name, length);
    }
    let told = desk.session(&[
        "simulate --scenario web-week.toml",
        "simulate --scenario call-centre.toml --policy builtin:queue-backlog",
        "simulate --scenario ci-bursts.toml --policy builtin:queue-backlog --policy builtin:fixed",
        "simulate --scenario supercomputer.toml --policy builtin:step --seed 7",
        "simulate --scenario call-centre.toml --policy builtin:queue-backlog --format json",
    ]);
    same(&told, &expect_file!["golden/simulate.txt"]);
}

#[test]
fn tables_tell_more_where_more_can_happen() {
    let desk = Desk::new();
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("simulator/traces");
    let text = "[workload]\ntrace = \"TRACES/call_centre_feb99_fortnight.jobs.csv.gz\"\n\
        length = \"1d\"\n[workload.class.other]\npriority = 1\n[workload.class.batch]\n\
        trace = \"TRACES/ci_abb_iofrol_2016.jobs.csv.gz\"\n[cloud]\n\
        boot = { distribution = \"constant\", value = \"60s\" }\n[[cloud.offering]]\n\
        name = \"spot\"\nmarket = \"spot\"\nusd_per_hour = 0.03\n\
        interruption = { every = \"1h\" }\n[[cloud.offering]]\nname = \"reserved\"\n\
        usd_per_hour = 0.1\nprepaid = 1\nprepaid_usd_per_hour = 0.06\n[cloud.faults]\n\
        lifetime = \"2h\"\nlaunch_requests = { size = 5, per_sec = 2 }\n[fleet]\nmax = 20\n";
    let text = text.replace("TRACES", &traces.display().to_string());
    desk.write("rich.toml", text);
    let table = desk.output("simulate --scenario rich.toml --policy builtin:queue-backlog");
    for word in [
        "interrupted  died  redone  throttled  prepaid $",
        "policy         class",
        "queue-backlog  batch",
        "queue-backlog  other",
    ] {
        assert!(table.contains(word), "{word}:\n{table}");
    }
    assert!(
        !table.contains("no capacity"),
        "it never runs out:\n{table}"
    );
    let json =
        desk.output("simulate --scenario rich.toml --policy builtin:queue-backlog --format json");
    for key in [
        "interrupted",
        "died",
        "calls_throttled",
        "prepaid_usd",
        "classes",
    ] {
        assert!(json.contains(&format!("\"{key}\": ")), "{key}:\n{json}");
    }
    assert!(json.contains("\"prepaid_usd\": 1.44"), "{json}");
    assert!(!json.contains("warm_pool_usd"), "{json}");
}

#[test]
fn a_simulation_leaves_its_course_in_a_folder_and_repeats_to_the_byte() {
    let desk = Desk::new();
    desk.write_scenario("supercomputer", "6h");
    desk.write(
        "mine.toml",
        presets::text("queue-backlog").expect("a preset"),
    );
    let simulate = "simulate --scenario supercomputer.toml --policy mine.toml \
                    --policy builtin:step --format json --out";
    let (first, again) = (
        desk.output(&format!("{simulate} deep/first")),
        desk.output(&format!("{simulate} again")),
    );
    assert_eq!(first, again);
    let mut told = String::new();
    let mut names: Vec<String> = fs::read_dir(desk.path().join("again"))
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    names.sort();
    for name in names {
        let read =
            |folder: &str| fs::read_to_string(desk.path().join(folder).join(&name)).expect("text");
        let text = read("again");
        assert_eq!(text, read("deep/first"), "{name}");
        let lines = text.lines().count();
        writeln!(told, "# {name}: {lines} lines").expect("written");
        if name == "results.json" {
            assert_eq!(text, first);
        } else {
            let some = text.lines().enumerate().filter(|(at, _)| at % 36 == 0);
            told.extend(some.flat_map(|(_, line)| [line, "\n"]));
        }
    }
    same(&told, &expect_file!["golden/out.txt"]);
    // Another seed is another course.
    assert_ne!(desk.output(&format!("{simulate} seven --seed 7")), first);
}

const FLEETS: &str = r#"
[fleet.web]
provider = "simulated"
interval = "60s"

[fleet.web.simulated]
scenario = "builtin:web-week"

[fleet.web.limits]
max = 30
max_usd_per_hour = 6.0
observe_cycles = 1

[[fleet.web.policy]]
kind = "queue_backlog"
jobs_per_instance = 3
"#;

#[test]
fn files_are_checked() {
    let desk = Desk::new();
    desk.write("fleets.toml", FLEETS);
    desk.write(
        "wrong.toml",
        FLEETS.replace("max =", "mxa =").replace("60s", "60"),
    );
    desk.write_scenario("web-week", "1h");
    desk.write(
        "world.toml",
        "[workload]\ntrace = \"none.csv\"\n[run]\nseed = -1\n",
    );
    let preset = presets::text("fixed").expect("a preset");
    desk.write("fixed.toml", preset);
    desk.write(
        "failing.toml",
        preset.replace("instances = 9\ntarget = 4", "instances = 9\ntarget = 5"),
    );
    desk.write("typo.toml", preset.replace("target = 4", "targt = 4"));
    desk.write("bytes.toml", b"\xff\xfe");
    desk.write("folder", "");
    let told = desk.session(&[
        "check fleets.toml web-week.toml fixed.toml",
        "check wrong.toml",
        "check world.toml",
        "check typo.toml",
        "check failing.toml",
        "check none.toml",
        "check bytes.toml",
        "check .",
        // All at once: every file is told of, and the highest code counts.
        "check fleets.toml wrong.toml failing.toml none.toml fixed.toml",
    ]);
    same(&told, &expect_file!["golden/check.txt"]);
}

#[test]
fn damage_that_a_library_panics_over_is_told_in_a_line() {
    let desk = Desk::new();
    for seed in ["cut_page", "no_dictionary"] {
        let file = format!(
            "{}/simulator/fuzz/seeds/parquet/{seed}",
            env!("CARGO_MANIFEST_DIR")
        );
        fs::copy(&file, desk.path().join("damaged.parquet")).expect("copied");
        let inspect = desk.command("trace inspect damaged.parquet").output();
        let output = inspect.expect("started");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{seed}");
        assert!(told.contains("it is damaged; write it again"), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[test]
fn what_cannot_be_done_is_told_in_a_line() {
    let desk = Desk::new();
    desk.write("fleets.toml", FLEETS);
    desk.write("wrong.toml", FLEETS.replace("max =", "mxa ="));
    desk.write_scenario("web-week", "1h");
    desk.write("bad.csv", "t_s,count\n0,1\n60,many\n");
    desk.write("store.db", "this is no store");
    desk.write(
        "foreign.toml",
        FLEETS.replacen('\n', "[store]\npath = \"store.db\"\n", 1),
    );
    desk.write(
        "lost.toml",
        FLEETS.replacen('\n', "[store]\npath = \"none/store.db\"\n", 1),
    );
    let told = desk.session(&[
        "run --config none.toml",
        "run --config wrong.toml",
        "run --config lost.toml --once",
        "run --config foreign.toml --once",
        "explain --config fleets.toml",
        "replay --config fleets.toml",
        "simulate --scenario none.toml",
        "simulate --scenario builtin:none",
        "simulate --scenario fleets.toml",
        "simulate --scenario web-week.toml --policy none.toml",
        "simulate --scenario web-week.toml --policy builtin:none",
        "simulate --scenario web-week.toml --policy builtin:step --policy builtin:step",
        "simulate --scenario web-week.toml --trace none.csv",
        "simulate --scenario web-week.toml --trace bad.csv",
        "simulate --scenario web-week.toml --policy builtin:fixed --out store.db",
        "simulate",
        "simulate --scenario web-week.toml --seed -1",
        "run --onec",
        "explain --config fleets.toml --at yesterday",
    ]);
    same(&told, &expect_file!["golden/refused.txt"]);
}

#[test]
fn a_cycle_is_logged_explained_and_replayed() {
    let desk = Desk::new();
    // Nothing becomes ready within the milliseconds that this takes.
    let rules = "kind = \"fixed\"\ninstances = 12";
    let fleets = FLEETS.replace("kind = \"queue_backlog\"\njobs_per_instance = 3", rules);
    desk.write("fleets.toml", fleets);
    let told = desk.session(&[
        "run --config fleets.toml --once --dry-run --log human",
        "run --config fleets.toml --once --log json",
        "run --config fleets.toml --once --log json",
        "explain --config fleets.toml --last 3",
        "replay --config fleets.toml",
    ]);
    for line in told
        .lines()
        .filter_map(|line| line.strip_prefix("stderr: {"))
    {
        // Whoever reads the log must get each field once.
        let names: Vec<&str> = line
            .split("\":")
            .filter_map(|part| part.rsplit('"').next())
            .collect();
        let once: BTreeSet<&&str> = names.iter().collect();
        assert_eq!(once.len(), names.len(), "{line}");
    }
    same(&masked(&told), &expect_file!["golden/run.txt"]);
    let raw = desk.output("explain --config fleets.toml --last 2 --format json");
    let raw: serde_json::Value = serde_json::from_str(&raw).expect("JSON");
    let cycle = |index: usize| &raw[index]["records"][0]["decided"]["decision"]["cycle"];
    assert_eq!(
        (cycle(0).as_u64(), cycle(1).as_u64()),
        (Some(2), Some(3)),
        "{raw}"
    );
    assert_eq!(
        raw[0]["records"][1]["acted"]["cycle"].as_u64(),
        Some(2),
        "{raw}"
    );
}

/// Times, which are others at every run, as `TIME`, and the store's name in
/// tokens as `STORE`.
fn masked(text: &str) -> String {
    let ends = [' ', ',', '\n', '"', '=', ';', ')', ':'];
    let is_time = |word: &str| word.len() >= 20 && word.ends_with('Z') && word.contains('T');
    let mut told = String::new();
    // A time has colons in it: what is between two other ends is looked at.
    for piece in text.split_inclusive(&ends[..7]) {
        let bare = piece.trim_end_matches(ends);
        told.push_str(&if is_time(bare) {
            piece.replace(bare, "TIME")
        } else {
            piece.to_owned()
        });
    }
    let stores: BTreeSet<String> = told
        .match_indices("-web-")
        .filter_map(|(at, _)| told.get(at.checked_sub(6)?..at))
        .map(str::to_owned)
        .collect();
    assert!(stores.len() <= 1, "{stores:?}");
    stores
        .iter()
        .fold(told, |told, store| told.replace(store.as_str(), "STORE"))
}

#[test]
fn nobody_who_reads_is_no_error() {
    let desk = Desk::new();
    desk.write("fleets.toml", FLEETS);
    desk.write_scenario("web-week", "1h");
    assert_eq!(
        desk.output("run --config fleets.toml --once --log json"),
        ""
    );
    for arguments in [
        "--help",
        "check fleets.toml",
        "simulate --scenario web-week.toml --policy builtin:fixed",
        "explain --config fleets.toml",
        "replay --config fleets.toml",
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = desk
            .command(arguments)
            .stdout(writer)
            .output()
            .expect("started");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), &*errors),
            (Some(0), ""),
            "{arguments}"
        );
    }
    // And nobody who listens does not stop a daemon.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut run = desk.command("run --config fleets.toml --once --log json");
    let status = run.stderr(writer).status().expect("started");
    assert_eq!(status.code(), Some(0));
}
