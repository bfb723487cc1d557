//! A place for a daemon to live in, and the daemon as a process.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The one fleet.
pub(crate) const FLEET: &str = "bursts";

/// Bursts of jobs of a few seconds: launches and ends in every cycle. Instances
/// boot in seconds and show late, so that a crash finds them half known.
const TRACE: &str = "arrival_s,service_s\n0,6\n0,6\n0,4\n1,5\n1,7\n9,3\n9,3\n9,9\n9,9\n10,2\n\
                     10,2\n10,2\n20,5\n21,5\n28,4\n28,4\n28,4\n28,4\n28,4\n28,4\n";

const SCENARIO: &str = r#"
[workload]
trace = "bursts.jobs.csv"
length = "36s"

[cloud]
boot = { distribution = "lognormal", median = "2s", p99 = "5s" }
usd_per_hour = 0.17
listing_lag = "2s"
metric_period = "0s"
metric_lag = "0s"

[fleet]
initial = 0
max = 50
"#;

/// A simulated second takes ten milliseconds.
const CONFIG: &str = r#"
[store]
path = "windlass.db"

[fleet.bursts]
provider = "simulated"
interval = "1s"

[fleet.bursts.simulated]
scenario = "bursts.toml"
speed = 100

[fleet.bursts.limits]
max = 12
max_usd_per_hour = 10.0
shrink_settle = "0s"
observe_cycles = 1
listing_patience = "6s"

[fleet.bursts.drain]
deadline = "4s"

[[fleet.bursts.policy]]
kind = "queue_backlog"
jobs_per_instance = 1
"#;

/// Longer than anything here takes, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder with a configuration, its scenario, and what grows beside them.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(&[
            ("bursts.jobs.csv", TRACE),
            ("bursts.toml", SCENARIO),
            ("windlass.toml", CONFIG),
        ])
    }

    /// One with these files, `windlass.toml` among them.
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let place = Self(tempfile::tempdir().expect("a temporary folder"));
        for (name, text) in files {
            fs::write(place.path(name), text).expect("written");
        }
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("windlass.toml")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("windlass.db")
    }

    /// The file of the cloud itself, which the store knows nothing of.
    pub(crate) fn cloud(&self) -> PathBuf {
        self.path(&format!("windlass.{FLEET}.cloud.db"))
    }

    /// `windlass VERB --config ... ARGUMENTS`.
    fn command(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command
            .arg(verb)
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .env_remove("WINDLASS_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Runs a verb to its end.
    pub(crate) fn output(&self, verb: &str, arguments: &[&str]) -> Output {
        self.command(verb, arguments).output().expect("started")
    }

    /// Starts `windlass run`.
    pub(crate) fn start(&self, arguments: &[&str]) -> Daemon {
        let mut child = self
            .command("run", arguments)
            .args(["--log", "json"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        // Ends with the daemon, which closes the pipe, or with the receiver.
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Daemon { child, lines }
    }
}

/// A running `windlass run`. It is gone when this is dropped.
pub(crate) struct Daemon {
    child: Child,
    lines: Receiver<String>,
}

impl Daemon {
    /// The next line of the log with `part` in it; `None` if the daemon ends
    /// before.
    pub(crate) fn next_line(&self, part: &str) -> Option<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(part) => return Some(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!("no `{part}` in the log"),
            }
        }
    }

    /// The cycle of the next decision; `None` if the daemon ends before.
    pub(crate) fn next_cycle(&self) -> Option<u64> {
        let line = self.next_line("\"message\":\"decided\"")?;
        let fields: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        fields["cycle"].as_u64()
    }

    /// Lets it run for `span`; the log goes nowhere.
    pub(crate) fn let_run(&self, span: Duration) {
        let until = Instant::now() + span;
        let left = || until.saturating_duration_since(Instant::now());
        while self.lines.recv_timeout(left()).is_ok() {}
        // A daemon that has ended leaves a channel that does not wait.
        while !left().is_zero() {
            thread::yield_now();
        }
    }

    /// kill -9: nothing of it runs any more, at whatever instruction it was.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("ours to kill");
        self.child.wait().expect("ended");
    }

    /// Sends `signal` (such as `TERM`), and says how it ended, and how long
    /// that took.
    pub(crate) fn stop(mut self, signal: &str) -> (Option<i32>, Duration) {
        let asked = Instant::now();
        self.send(signal);
        let status = self.wait();
        (status, asked.elapsed())
    }

    pub(crate) fn send(&self, signal: &str) {
        let order = format!("kill -{signal} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &order]).status();
        assert!(sent.expect("a shell").success(), "{order}");
    }

    /// Waits until it ends by itself; its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        assert_eq!(self.next_line("\u{0}"), None);
        self.child.wait().expect("ended").code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Most have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
