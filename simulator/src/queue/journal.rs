//! Each job's way, for those who want to read it.

use std::collections::BTreeMap;

use super::WorkerId;

/// What became of one job. Times are microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobEntry {
    /// Its number, counted from 0 in the order of arrivals.
    pub job: u64,
    /// When it arrived.
    pub arrival: u64,
    /// When the service that counts began; `None` if it waits.
    pub start: Option<u64>,
    /// When it ended; `None` if it is unfinished.
    pub end: Option<u64>,
    /// Who serves or served it; `None` if it waits.
    pub worker: Option<WorkerId>,
    /// How often it was lost with its worker and had to begin again.
    pub redone: u32,
}

/// What is written down of jobs, if anybody wants to know. It holds the jobs
/// that ended since it was last taken, and those unfinished ones that were lost.
#[derive(Debug, Default)]
pub(super) struct Journal {
    ended: Option<Vec<JobEntry>>,
    redone: BTreeMap<u64, u32>,
}

impl Journal {
    /// A journal that is kept, or one that is not.
    pub(super) fn new(kept: bool) -> Self {
        Self {
            ended: kept.then(Vec::new),
            redone: BTreeMap::new(),
        }
    }

    /// Whether it is kept.
    pub(super) fn kept(&self) -> bool {
        self.ended.is_some()
    }

    /// A job ended; `entry` need not know how often it began again.
    pub(super) fn end(&mut self, entry: JobEntry) {
        if let Some(ended) = &mut self.ended {
            let redone = self.redone.remove(&entry.job).unwrap_or(0);
            ended.push(JobEntry { redone, ..entry });
        }
    }

    /// A job must begin again.
    pub(super) fn lose(&mut self, job: u64) {
        if self.kept() {
            *self.redone.entry(job).or_default() += 1;
        }
    }

    /// How often an unfinished job had to begin again.
    pub(super) fn redone(&self, job: u64) -> u32 {
        self.redone.get(&job).copied().unwrap_or(0)
    }

    /// The jobs that ended since this was last asked.
    pub(super) fn take(&mut self) -> Vec<JobEntry> {
        self.ended.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
