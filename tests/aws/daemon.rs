//! A place for a daemon to live in, and the daemon as a process.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use windlass::store::{Entry, History, Range};

/// Lines of the log that a failure shows.
const LINES_SHOWN: usize = 40;

/// A folder with a configuration and the store that grows beside it.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new(config: &str) -> Self {
        let place = Self(tempfile::tempdir().expect("a temporary folder"));
        fs::write(place.path("windlass.toml"), config).expect("written");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `windlass`, in the place, as somebody AWS knows.
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command
            .current_dir(self.0.path())
            .env_remove("WINDLASS_LOG")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", self.path("none"))
            .env("AWS_SHARED_CREDENTIALS_FILE", self.path("none"))
            .stdin(Stdio::null());
        command
    }

    /// How `windlass` ends with `arguments`, and what it prints.
    pub(crate) fn windlass(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let done = self.command().args(arguments).output().expect("started");
        let out = String::from_utf8_lossy(&done.stdout).into_owned();
        (done.status.code(), out)
    }

    /// Starts `windlass run`.
    pub(crate) fn start(&self) -> Daemon {
        self.start_as(&[], &[])
    }

    /// Starts it with more arguments, in an environment with these variables.
    pub(crate) fn start_as(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Daemon {
        let mut child = self
            .command()
            .args(["run", "--log", "json", "--config", "windlass.toml"])
            .args(arguments)
            .envs(environment.iter().copied())
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
        Daemon {
            child,
            lines,
            last: VecDeque::new(),
        }
    }

    /// All decisions of `fleet` so far, and what came of them.
    pub(crate) fn entries(&self, fleet: &str) -> Vec<Entry> {
        let history = History::open(&self.path("windlass.db")).expect("a store");
        let decisions = history.decisions(fleet, Range::All).expect("readable");
        decisions.map(|entry| entry.expect("readable")).collect()
    }
}

/// A running `windlass run`. It is gone when this is dropped.
pub(crate) struct Daemon {
    child: Child,
    lines: Receiver<String>,
    last: VecDeque<String>,
}

impl Daemon {
    /// Asks `done` after every cycle until it says so.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
        let end = Instant::now() + limit;
        loop {
            self.skip_what_was_written();
            self.cycle(what, end);
            if done() {
                return;
            }
        }
    }

    /// Lets it begin and end so many cycles from now on.
    #[track_caller]
    pub(crate) fn cycles(&mut self, count: usize) {
        self.skip_what_was_written();
        let end = Instant::now() + Duration::from_mins(1);
        // One may be under way.
        for _ in 0..=count {
            self.cycle("a few cycles", end);
        }
    }

    /// Waits until it has written of so many more decisions, of whatever fleet.
    #[track_caller]
    pub(crate) fn decisions(&mut self, count: usize, limit: Duration) {
        let end = Instant::now() + limit;
        for _ in 0..count {
            self.cycle("decisions", end);
        }
    }

    /// How many decisions it has written of since the last one waited for.
    pub(crate) fn more_decisions(&mut self) -> usize {
        let mut more = 0;
        while let Ok(line) = self.lines.try_recv() {
            more += usize::from(is_decision(&line));
            self.keep(line);
        }
        more
    }

    /// Asking a server takes a while, and lines pile up meanwhile.
    fn skip_what_was_written(&mut self) {
        while let Ok(line) = self.lines.try_recv() {
            self.keep(line);
        }
    }

    fn keep(&mut self, line: String) {
        if self.last.len() == LINES_SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// Waits for the next decision.
    #[track_caller]
    fn cycle(&mut self, what: &str, end: Instant) {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let over = is_decision(&line);
                    self.keep(line);
                    if over {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("too late: {what}\n{}", self.told()),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended\n{}", self.told()),
            }
        }
    }

    fn told(&self) -> String {
        let last: Vec<&str> = self.last.iter().map(String::as_str).collect();
        last.join("\n")
    }

    /// kill -9: nothing of it runs any more, at whatever instruction it was.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("ours to kill");
        self.child.wait().expect("ended");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a line of the log tells of a decision.
fn is_decision(line: &str) -> bool {
    line.contains("\"message\":\"decided\"")
}
