//! A place for a daemon to live in, and the daemon as a process: what all
//! whole-program tests share.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use tempfile::TempDir;

/// Lines of the log that a failure shows.
const LINES_SHOWN: usize = 40;

/// A folder with a configuration, `windlass.toml`, and what grows beside it.
pub(crate) struct Place(TempDir);

impl Place {
    /// One with these files.
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

    /// `windlass VERB --config ... ARGUMENTS`.
    pub(crate) fn command(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command
            .arg(verb)
            .arg("--config")
            .arg(self.path("windlass.toml"))
            .args(arguments)
            .env_remove("WINDLASS_LOG")
            .stdin(Stdio::null());
        command
    }
}

/// A running `windlass run`. It is gone when this is dropped.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    lines: Receiver<String>,
    last: RefCell<VecDeque<String>>,
}

impl Daemon {
    /// Starts `run`, a command of [`Place::command`].
    pub(crate) fn start(mut run: Command) -> Self {
        let mut child = run
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
        Self {
            child,
            lines,
            last: RefCell::default(),
        }
    }

    /// The next line of its log, if there is one before `end`.
    pub(crate) fn line(&self, end: Instant) -> Result<String, RecvTimeoutError> {
        let left = end.saturating_duration_since(Instant::now());
        let line = self.lines.recv_timeout(left)?;
        let mut last = self.last.borrow_mut();
        if last.len() == LINES_SHOWN {
            last.pop_front();
        }
        last.push_back(line.clone());
        Ok(line)
    }

    /// The last lines of its log, for the message of a test that fails.
    pub(crate) fn told(&self) -> String {
        let last: Vec<String> = self.last.borrow().iter().cloned().collect();
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
pub(crate) fn is_decision(line: &str) -> bool {
    line.contains("\"message\":\"decided\"")
}
