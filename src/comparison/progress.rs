//! How far a comparison is, and how long it takes yet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::simulation::note;

/// How long it may take before it says how far it is; then twice as long each
/// time, up to [`PROGRESS_MAX`].
const PROGRESS: Duration = Duration::from_secs(2);

/// Who watches wants a sign of life, and who reads a log no page of them.
const PROGRESS_MAX: Duration = Duration::from_secs(30);

/// A whole run is so many parts of work.
pub(super) const RUN: u64 = 1_000_000;

/// A bound takes about as long as so many parts: its schedules are tried too.
pub(super) const BOUND: u64 = 5 * RUN;

/// What is done, in parts of runs.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// What is being done, such as `comparing`.
    doing: &'static str,
    all: u64,
    /// Done by this process.
    done: AtomicU64,
    /// Found done.
    found: AtomicU64,
    runs: AtomicU64,
    runs_found: AtomicU64,
}

impl Progress {
    pub(super) fn of(doing: &'static str, all: u64) -> Self {
        Self {
            doing,
            all,
            ..Self::default()
        }
    }

    /// Some of a run is done.
    pub(super) fn add(&self, parts: u64) {
        self.done.fetch_add(parts, Ordering::Relaxed);
    }

    /// A run is finished.
    pub(super) fn finish(&self) {
        self.runs.fetch_add(1, Ordering::Relaxed);
    }

    /// A run of so many parts was finished before.
    pub(super) fn skip(&self, parts: u64) {
        self.found.fetch_add(parts, Ordering::Relaxed);
        self.runs_found.fetch_add(1, Ordering::Relaxed);
    }

    /// Does `work`, and tells on standard error how far it is as long as it goes
    /// on.
    pub(super) fn told<T>(&self, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let (ended, ends) = mpsc::channel::<()>();
        let result = thread::scope(|scope| {
            scope.spawn(move || {
                let mut pause = PROGRESS;
                while ends.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                    note(&self.line(started.elapsed()));
                    pause = (pause * 2).min(PROGRESS_MAX);
                }
            });
            let result = work();
            drop(ended);
            result
        });
        let (runs, found) = (
            self.runs.load(Ordering::Relaxed),
            self.runs_found.load(Ordering::Relaxed),
        );
        let before = match found {
            0 => String::new(),
            found => format!(", {found} found finished"),
        };
        if found > 0 || started.elapsed() >= PROGRESS {
            note(&format!(
                "{runs} runs simulated in {:.1} s{before}",
                started.elapsed().as_secs_f64()
            ));
        }
        result
    }

    fn line(&self, elapsed: Duration) -> String {
        let done = self.done.load(Ordering::Relaxed);
        let found = self.found.load(Ordering::Relaxed);
        let runs = self.runs.load(Ordering::Relaxed) + self.runs_found.load(Ordering::Relaxed);
        let finished = (done + found).min(self.all);
        let percent = u128::from(finished) * 100 / u128::from(self.all.max(1));
        let left = u128::from(self.all - finished) * elapsed.as_millis();
        let left = match left.checked_div(u128::from(done)) {
            None => "?".to_owned(),
            Some(millis) => time_left(millis.div_ceil(1_000)),
        };
        format!(
            "{}: {runs} runs, {percent} %, about {left} left",
            self.doing
        )
    }
}

/// `42 s`, `7 min`, `3.5 h`.
fn time_left(secs: u128) -> String {
    match secs {
        0..120 => format!("{secs} s"),
        120..7_200 => format!("{} min", secs.div_ceil(60)),
        7_200.. => format!("{}.{} h", secs / 3_600, secs % 3_600 / 360),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_that_of_what_this_process_has_to_do() {
        let progress = Progress::of("comparing", 10 * RUN);
        assert_eq!(
            progress.line(Duration::from_secs(5)),
            "comparing: 0 runs, 0 %, about ? left"
        );
        progress.skip(6 * RUN);
        progress.add(RUN);
        progress.finish();
        assert_eq!(
            progress.line(Duration::from_secs(20)),
            "comparing: 2 runs, 70 %, about 60 s left"
        );
        assert_eq!(
            progress.line(Duration::from_secs(20_000)),
            "comparing: 2 runs, 70 %, about 16.6 h left"
        );
        progress.add(9 * RUN);
        assert_eq!(
            progress.line(Duration::from_secs(1)),
            "comparing: 2 runs, 100 %, about 0 s left"
        );
    }
}
