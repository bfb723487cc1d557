//! A folder to run the program in, what it says there, and a load: what the tests
//! of `windlass compare` and `windlass tune` share.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Jobs that come in waves, and a cloud for them.
pub(crate) const SCENARIO: &str = "[workload]\ntrace = \"waves.csv\"\n\
    service = { distribution = \"exponential\", mean = \"60s\" }\n[cloud]\n\
    boot = { distribution = \"constant\", value = \"90s\" }\nusd_per_hour = 0.17\n[fleet]\n\
    initial = 5\nmax = 40\n[objective]\nusd_per_job_hour_waiting = 1.0\n";

/// A folder to run the program in, with a scenario and its trace.
pub(crate) struct Desk(TempDir);

impl Desk {
    /// With `waves.toml`, and so many minutes of jobs whose rate changes after
    /// each `block` of them.
    pub(crate) fn of_waves(minutes: u32, block: u32) -> Self {
        let desk = Self(tempfile::tempdir().expect("a temporary folder"));
        let mut trace = "t_s,count\n".to_owned();
        for minute in 0..minutes {
            let wave = 3 + (minute / block) % 3 * 7;
            writeln!(trace, "{},{wave}", minute * 60).expect("written");
        }
        desk.write("waves.csv", &trace);
        desk.write("waves.toml", SCENARIO);
        desk
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("written");
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path().join(name)).expect(name)
    }

    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command
            .args(arguments.split_whitespace())
            .current_dir(self.path())
            .env("XDG_CACHE_HOME", self.path().join("cache"))
            .env("COLUMNS", "100")
            .stdin(Stdio::null());
        for variable in [
            "WINDLASS_LOG",
            "AWS_BATCH_JOB_ARRAY_INDEX",
            "JOB_COMPLETION_INDEX",
            "SLURM_ARRAY_TASK_ID",
        ] {
            command.env_remove(variable);
        }
        command
    }

    pub(crate) fn output(&self, arguments: &str) -> Output {
        let output = self.command(arguments).output().expect("started");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments}: {errors}");
        output
    }

    /// What the program says to `commands`, as it looks in a shell.
    pub(crate) fn session(&self, commands: &[&str]) -> String {
        let mut told = String::new();
        for arguments in commands {
            let output = self.command(arguments).output().expect("started");
            writeln!(told, "$ windlass {arguments}").expect("written");
            let code = output.status.code().expect("no signal");
            for (label, stream) in [("", output.stdout), ("stderr: ", output.stderr)] {
                let text = String::from_utf8(stream).expect("text");
                // How far it is and how long it took is another on every machine.
                let same = |line: &&str| {
                    !line.starts_with("windlass: comparing: ")
                        && !line.starts_with("windlass: tuning: ")
                        && !line.contains(" runs simulated in ")
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
