//! Which queue serves a world: the fastest that can.

use std::sync::Arc;

use super::classes::{ClassTotals, JobClasses};
use super::jobs::{JobColumns, JobsError};
use super::journal::JobEntry;
use super::ordered::OrderedQueue;
use super::sharing::{LatencyCurve, SharingQueue};
use super::{JobTotals, Queue, QueueSpec, Snapshot, WorkerId, WorkerState};

/// What the queue must be able to do beyond first come, first served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerSpec {
    /// The classes of the jobs; all of one, if not given.
    pub classes: Option<Arc<JobClasses>>,
    /// Sessions that share their server, and how it slows down; not given, a
    /// slot works on one job at a time.
    pub sharing: Option<LatencyCurve>,
    /// Whether some instances are faster than others.
    pub speeds: bool,
    /// Takes the slower queue although the fast one would do, to hold one
    /// against the other.
    pub slow: bool,
    /// Whether each job's way is told. The fast queue does not know it, so the
    /// slower ones serve.
    pub journal: bool,
}

/// The queue of a world.
#[derive(Debug)]
pub struct Server(Kind);

#[derive(Debug)]
enum Kind {
    Fast(Box<Queue>),
    Ordered(Box<OrderedQueue>),
    Sharing(Box<SharingQueue>),
}

/// The same call on whichever queue it is.
macro_rules! each {
    ($server:expr, $queue:ident => $call:expr) => {
        match $server {
            Kind::Fast($queue) => $call,
            Kind::Ordered($queue) => $call,
            Kind::Sharing($queue) => $call,
        }
    };
}

impl Server {
    /// An empty queue at time 0, without workers.
    ///
    /// # Errors
    /// If the jobs repeat before they have all arrived.
    pub fn new(queue: QueueSpec, spec: ServerSpec) -> Result<Self, JobsError> {
        let classes = spec.classes;
        if let Some(curve) = spec.sharing {
            let queue = SharingQueue::new(queue, classes, curve, spec.journal)?;
            return Ok(Self(Kind::Sharing(Box::new(queue))));
        }
        if classes.is_some() || spec.speeds || spec.slow || spec.journal {
            let queue = OrderedQueue::new(queue, classes, spec.journal)?;
            return Ok(Self(Kind::Ordered(Box::new(queue))));
        }
        Ok(Self(Kind::Fast(Box::new(Queue::new(queue)?))))
    }

    /// See [`Queue::now`].
    pub fn now(&self) -> u64 {
        each!(&self.0, queue => queue.now())
    }

    /// See [`Queue::advance`].
    pub fn advance(&mut self, horizon: u64) {
        each!(&mut self.0, queue => queue.advance(horizon));
    }

    /// See [`Queue::feed`]. The slower queues forget nothing.
    ///
    /// # Errors
    /// As there, and if the jobs have classes.
    pub fn feed(&mut self, jobs: Arc<JobColumns>) -> Result<(), JobsError> {
        each!(&mut self.0, queue => queue.feed(jobs))
    }

    /// Adds a worker of that many slots, at `percent` of the usual speed, that
    /// is ready at `ready_at`, or at once if that is past.
    pub fn add(&mut self, slots: u32, ready_at: u64, percent: u32) -> WorkerId {
        match &mut self.0 {
            Kind::Fast(queue) => queue.add(slots, ready_at),
            Kind::Ordered(queue) => queue.add(slots, ready_at, percent),
            Kind::Sharing(queue) => queue.add(slots, ready_at, percent),
        }
    }

    /// See [`Queue::fence`].
    pub fn fence(&mut self, worker: WorkerId) {
        each!(&mut self.0, queue => queue.fence(worker));
    }

    /// See [`Queue::unfence`].
    pub fn unfence(&mut self, worker: WorkerId) {
        each!(&mut self.0, queue => queue.unfence(worker));
    }

    /// See [`Queue::remove`].
    pub fn remove(&mut self, worker: WorkerId) -> u64 {
        each!(&mut self.0, queue => queue.remove(worker))
    }

    /// See [`Queue::state`].
    pub fn state(&self, worker: WorkerId) -> Option<WorkerState> {
        each!(&self.0, queue => queue.state(worker))
    }

    /// See [`Queue::free_at`]. `None` where sessions share servers: when one ends
    /// depends on those that come.
    pub fn free_at(&self, worker: WorkerId) -> Option<u64> {
        match &self.0 {
            Kind::Fast(queue) => queue.free_at(worker),
            Kind::Ordered(queue) => queue.free_at(worker),
            Kind::Sharing(_) => None,
        }
    }

    /// See [`Queue::snapshot`]. Where sessions share servers, `busy` counts the
    /// sessions in service, and `busy_micros` the slots they use.
    pub fn snapshot(&self) -> Snapshot {
        each!(&self.0, queue => queue.snapshot())
    }

    /// See [`Queue::take_finished`].
    pub fn take_finished(&mut self) -> Vec<u64> {
        each!(&mut self.0, queue => queue.take_finished())
    }

    /// See [`Queue::waited_micros`].
    pub fn waited_micros(&self) -> u128 {
        each!(&self.0, queue => queue.waited_micros())
    }

    /// See [`Queue::each_wait`].
    pub fn each_wait(&self, note: impl FnMut(u64, u64)) {
        each!(&self.0, queue => queue.each_wait(note));
    }

    /// The jobs that ended since this was last asked, in the order of their
    /// ends; none without [`ServerSpec::journal`].
    pub fn take_journal(&mut self) -> Vec<JobEntry> {
        match &mut self.0 {
            Kind::Fast(_) => Vec::new(),
            Kind::Ordered(queue) => queue.take_journal(),
            Kind::Sharing(queue) => queue.take_journal(),
        }
    }

    /// The jobs that are not finished, in the order of their arrivals; none
    /// without [`ServerSpec::journal`].
    pub fn unfinished(&self) -> Vec<JobEntry> {
        match &self.0 {
            Kind::Fast(_) => Vec::new(),
            Kind::Ordered(queue) => queue.unfinished(),
            Kind::Sharing(queue) => queue.unfinished(),
        }
    }

    /// See [`Queue::totals`].
    pub fn totals(&self) -> JobTotals {
        each!(&self.0, queue => queue.totals())
    }

    /// What became of each class; empty without classes, or unless every wait
    /// is kept.
    pub fn class_totals(&self) -> Vec<ClassTotals> {
        match &self.0 {
            Kind::Fast(_) => Vec::new(),
            Kind::Ordered(queue) => queue.class_totals(),
            Kind::Sharing(queue) => queue.class_totals(),
        }
    }

    /// The fast queue, if that is what serves.
    pub fn fast(&self) -> Option<&Queue> {
        match &self.0 {
            Kind::Fast(queue) => Some(queue),
            Kind::Ordered(_) | Kind::Sharing(_) => None,
        }
    }
}
