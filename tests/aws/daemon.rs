//! The daemon on AWS, and what its tests wait for.

use std::process::{Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use windlass::store::{Entry, History, Range};

#[path = "../support/daemon.rs"]
mod program;

pub(crate) use program::{Daemon, Place, is_decision};

/// One offering on demand, and workers nobody hears of: what goes into a fleet's
/// table `ec2`.
pub(crate) const SILENT: &str = r#"
workers = "none"
ready = "running"

[[FLEET.ec2.offering]]
name = "on-demand"
types = ["m5.large"]
usd_per_hour = 0.1
"#;

/// Quick in everything, so that a test is short.
pub(crate) const QUICK: &str = r#"
[FLEET.limits]
max = 12
max_usd_per_hour = 100.0
shrink_settle = "0s"
observe_cycles = 1
listing_patience = "5s"

[FLEET.drain]
deadline = "0s"
"#;

impl Place {
    pub(crate) fn new(config: &str) -> Self {
        Self::with(&[("windlass.toml", config)])
    }

    /// Starts `windlass run`.
    pub(crate) fn start(&self) -> Daemon {
        self.start_as(&[], &[])
    }

    /// Starts it with more arguments, in an environment with these variables.
    pub(crate) fn start_as(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Daemon {
        let mut run = self.command("run", arguments);
        self.somebody(&mut run);
        run.envs(environment.iter().copied());
        Daemon::start(run)
    }

    /// How `windlass` ends with `arguments`, and what it prints.
    pub(crate) fn windlass(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        self.somebody(&mut command);
        command
            .current_dir(self.path(""))
            .args(arguments)
            .env_remove("WINDLASS_LOG")
            .stdin(Stdio::null());
        let done = command.output().expect("started");
        let out = String::from_utf8_lossy(&done.stdout).into_owned();
        (done.status.code(), out)
    }

    /// Makes `command` somebody AWS knows, whoever runs the test.
    pub(crate) fn somebody(&self, command: &mut Command) {
        command
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", self.path("none"))
            .env("AWS_SHARED_CREDENTIALS_FILE", self.path("none"));
    }

    /// All decisions of `fleet` so far, and what came of them.
    pub(crate) fn entries(&self, fleet: &str) -> Vec<Entry> {
        let history = History::open(&self.path("windlass.db")).expect("a store");
        let decisions = history.decisions(fleet, Range::All).expect("readable");
        decisions.map(|entry| entry.expect("readable")).collect()
    }
}

impl Daemon {
    /// Asks `done` after every cycle until it says so.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
        let end = Instant::now() + limit;
        loop {
            self.more_decisions();
            self.cycle(what, end);
            if done() {
                return;
            }
        }
    }

    /// Lets it begin and end so many cycles from now on.
    #[track_caller]
    pub(crate) fn cycles(&self, count: usize) {
        self.more_decisions();
        // One may be under way.
        self.decisions(count + 1, Duration::from_mins(10));
    }

    /// Waits until it has written of so many more decisions, of whatever fleet.
    #[track_caller]
    pub(crate) fn decisions(&self, count: usize, limit: Duration) {
        let end = Instant::now() + limit;
        for _ in 0..count {
            self.cycle("decisions", end);
        }
    }

    /// How many decisions it has written of since the last one waited for:
    /// asking a server takes a while, and lines pile up meanwhile.
    pub(crate) fn more_decisions(&self) -> usize {
        let now = Instant::now();
        let more = std::iter::from_fn(|| self.line(now).ok());
        more.filter(|line| is_decision(line)).count()
    }

    /// Asks it to stop, waits until it has, and says how many decisions it has
    /// written of since the last one waited for.
    #[track_caller]
    pub(crate) fn stop(self, limit: Duration) -> usize {
        let told = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        assert!(told.expect("kill is there").success());
        let end = Instant::now() + limit;
        let mut decisions = 0;
        loop {
            match self.line(end) {
                Ok(line) => decisions += usize::from(is_decision(&line)),
                Err(RecvTimeoutError::Disconnected) => return decisions,
                Err(RecvTimeoutError::Timeout) => panic!("it goes on\n{}", self.told()),
            }
        }
    }

    /// Waits for the next decision.
    #[track_caller]
    fn cycle(&self, what: &str, end: Instant) {
        loop {
            match self.line(end) {
                Ok(line) if is_decision(&line) => return,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("too late: {what}\n{}", self.told()),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended\n{}", self.told()),
            }
        }
    }
}
