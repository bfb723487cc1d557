//! What reports and records see of a world: all of it, as it truly is.

use windlass_policies::units::MicroUsd;

use super::World;
use crate::queue::{JobEntry, Snapshot};

/// Fleet, queue and money at one instant, however late listings and metrics
/// are. Taken right after a tick it shows what the tick's actions made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorldView {
    /// When: microseconds from the world's beginning.
    pub at: u64,
    /// Instances that take jobs.
    pub ready: u32,
    /// Instances that are not ready yet, those that never will be too.
    pub booting: u32,
    /// Instances that take no new jobs, ready or not.
    pub draining: u32,
    /// The queue and the jobs in service.
    pub queue: Snapshot,
    /// What all jobs have waited so far, summed, in microseconds.
    pub waited_micros: u128,
    /// What instances came to if all of them ended now, what was paid ahead and
    /// the warm pool included.
    pub instance_cost: MicroUsd,
}

/// The time an instance was there, in microseconds of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// From when on it took jobs; `None` if it never did.
    pub ready_at: Option<u64>,
    /// Until when it was there; `None` if it still is.
    pub ended_at: Option<u64>,
}

/// What became of one job. Times are microseconds of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobStory<'a> {
    /// When it arrived.
    pub arrival: u64,
    /// When the service that counts began; `None` if it waits.
    pub start: Option<u64>,
    /// When it ended; `None` if it is unfinished.
    pub end: Option<u64>,
    /// The instance that serves or served it; `None` if it waits.
    pub instance: Option<&'a str>,
    /// Its class; `None` where there are none.
    pub class: Option<&'a str>,
    /// How often it had to begin again.
    pub redone: u32,
}

impl World {
    /// The world as it is now. Takes as long as there are instances and waiting
    /// jobs.
    pub fn view(&self) -> WorldView {
        let now = self.queue.now();
        let (mut ready, mut booting, mut draining) = (0, 0, 0);
        for record in self.roster.alive() {
            let group = match record.ready_at {
                _ if record.fenced => &mut draining,
                Some(at) if at <= now => &mut ready,
                Some(_) | None => &mut booting,
            };
            *group += 1;
        }
        let other = [self.prepaid_cost(), self.warm_pool_cost()];
        let other = other.into_iter().flatten();
        WorldView {
            at: now,
            ready,
            booting,
            draining,
            queue: self.queue.snapshot(),
            waited_micros: self.queue.waited_micros(),
            instance_cost: other.fold(self.bill_so_far().cost(), |sum, one| sum + one),
        }
    }

    /// All instances there ever were, in the order of their launches; without
    /// those that a world that is fed has forgotten.
    pub fn stays(&self) -> impl Iterator<Item = Stay> {
        self.roster.all().map(|record| Stay {
            ready_at: record.ready_at,
            ended_at: record.ended_at,
        })
    }

    /// Shows `note` the number of each job that has arrived, counted from 0 in
    /// the order of arrivals, and what it waited; so far, if it waits. Nothing
    /// is shown unless every wait is kept.
    pub fn each_wait(&self, note: impl FnMut(u64, u64)) {
        self.queue.each_wait(note);
    }

    /// Shows `note` the jobs that were finished since this was last asked, in
    /// the order of their ends. Only with
    /// [`ServerSpec::journal`](crate::queue::ServerSpec::journal).
    pub fn take_jobs(&mut self, mut note: impl FnMut(&JobStory<'_>)) {
        for entry in self.queue.take_journal() {
            note(&self.story(&entry));
        }
    }

    /// Shows `note` the jobs that are not finished, in the order of their
    /// arrivals. Only with a journal.
    pub fn unfinished_jobs(&self, mut note: impl FnMut(&JobStory<'_>)) {
        for entry in self.queue.unfinished() {
            note(&self.story(&entry));
        }
    }

    fn story(&self, entry: &JobEntry) -> JobStory<'_> {
        let place = entry
            .worker
            .and_then(|worker| self.places.get(worker.place()));
        let instance = place.map(|place| self.roster.at(*place).id.as_str());
        let classes = self.spec.server.classes.as_deref();
        JobStory {
            arrival: entry.arrival,
            start: entry.start,
            end: entry.end,
            instance,
            class: classes.and_then(|classes| classes.name_of(entry.job)),
            redone: entry.redone,
        }
    }
}
