//! The plainest event loop there is, to compare the world with.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use crate::queue::Snapshot;

const BOOT: u8 = 0;
const TICK: u8 = 1;
const DEPARTURE: u8 = 2;
const ARRIVAL: u8 = 3;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: u64,
    kind: u8,
    /// Slot number of departures and boots, job number of arrivals.
    order: usize,
    instance: usize,
    slot: usize,
    /// A departure counts only if its slot still has this run in hand.
    run: u64,
}

#[derive(Clone, Default)]
pub(super) struct Slot {
    /// Since when it is free, and whether by a departure.
    free: (u64, u8),
    /// Job, start, run.
    pub(super) hand: Option<(usize, u64, u64)>,
}

pub(super) struct Instance {
    pub(super) launched: u64,
    pub(super) ready_at: Option<u64>,
    pub(super) ready: bool,
    pub(super) fenced: bool,
    pub(super) ended: Option<u64>,
    block: usize,
    pub(super) slots: Vec<Slot>,
}

impl Instance {
    pub(super) fn busy(&self) -> usize {
        self.slots.iter().filter(|slot| slot.hand.is_some()).count()
    }
}

pub(super) struct Reference {
    pub(super) now: u64,
    /// Arrival, service.
    jobs: Vec<(u64, u64)>,
    per_instance: usize,
    pub(super) instances: Vec<Instance>,
    events: BinaryHeap<Reverse<Event>>,
    waiting: BTreeSet<usize>,
    blocks: BTreeSet<usize>,
    block_next: usize,
    runs: u64,
    arrivals: u64,
    /// Wait of each job that is in service or finished.
    waits: Vec<Option<u64>>,
    /// End and response of each finished job.
    pub(super) finished: Vec<(u64, u64)>,
    busy_micros: u128,
    pub(super) redone: u64,
    pub(super) busy_killed: u64,
    pub(super) peak: usize,
}

impl Reference {
    pub(super) fn new(jobs: Vec<(u64, u64)>, per_instance: usize) -> Self {
        let arrival = |(order, job): (usize, &(u64, u64))| {
            Reverse(Event {
                at: job.0,
                kind: ARRIVAL,
                order,
                instance: 0,
                slot: 0,
                run: 0,
            })
        };
        Self {
            now: 0,
            events: jobs.iter().enumerate().map(arrival).collect(),
            waits: vec![None; jobs.len()],
            jobs,
            per_instance,
            instances: Vec::new(),
            waiting: BTreeSet::new(),
            blocks: BTreeSet::new(),
            block_next: 0,
            runs: 0,
            arrivals: 0,
            finished: Vec::new(),
            busy_micros: 0,
            redone: 0,
            busy_killed: 0,
            peak: 0,
        }
    }

    /// Everything before the tick at `to`.
    pub(super) fn advance(&mut self, to: u64) {
        self.hand_out();
        while let Some(Reverse(event)) = self.events.peek().copied() {
            if (event.at, event.kind) >= (to, TICK) {
                break;
            }
            self.events.pop();
            self.now = event.at;
            match event.kind {
                BOOT => self.instances[event.instance].ready = true,
                DEPARTURE => self.depart(event),
                _ => {
                    self.arrivals += 1;
                    self.waiting.insert(event.order);
                }
            }
            self.hand_out();
        }
        self.now = to;
    }

    fn depart(&mut self, event: Event) {
        let slot = &mut self.instances[event.instance].slots[event.slot];
        let Some((job, start, run)) = slot.hand else {
            return;
        };
        if run == event.run {
            *slot = Slot {
                free: (self.now, 1),
                hand: None,
            };
            self.busy_micros += u128::from(self.now - start);
            self.finished.push((self.now, self.now - self.jobs[job].0));
        }
    }

    /// Gives waiting jobs to free slots, the first job to the slot that has
    /// been free longest.
    fn hand_out(&mut self) {
        while let (Some(job), Some((_, order, instance, slot))) =
            (self.waiting.first().copied(), self.free_slots().min())
        {
            self.waiting.remove(&job);
            self.runs += 1;
            self.instances[instance].slots[slot].hand = Some((job, self.now, self.runs));
            self.waits[job] = Some(self.now - self.jobs[job].0);
            let (at, run) = (self.now + self.jobs[job].1, self.runs);
            self.events.push(Reverse(Event {
                at,
                kind: DEPARTURE,
                order,
                instance,
                slot,
                run,
            }));
        }
    }

    fn free_slots(&self) -> impl Iterator<Item = ((u64, u8), usize, usize, usize)> {
        let takes_jobs = |(_, instance): &(usize, &Instance)| {
            instance.ready && !instance.fenced && instance.ended.is_none()
        };
        let instances = self.instances.iter().enumerate().filter(takes_jobs);
        instances.flat_map(|(place, instance)| {
            let free = instance
                .slots
                .iter()
                .enumerate()
                .filter(|(_, slot)| slot.hand.is_none());
            let first = instance.block * self.per_instance;
            free.map(move |(number, slot)| (slot.free, first + number, place, number))
        })
    }

    pub(super) fn launch(&mut self, boot: Option<u64>) {
        // One that never becomes ready takes no slots.
        let spare = boot.and_then(|_| self.blocks.pop_first());
        let block = spare.unwrap_or(self.block_next);
        self.block_next = self.block_next.max(block + usize::from(boot.is_some()));
        let ready_at = boot.map(|boot| self.now + boot);
        let free = (ready_at.unwrap_or(0), 0);
        let slots = vec![Slot { free, hand: None }; self.per_instance];
        let (instance, order) = (self.instances.len(), block * self.per_instance);
        let ready = boot == Some(0);
        if let Some(at) = ready_at.filter(|_| !ready) {
            let boot = Event {
                at,
                kind: BOOT,
                order,
                instance,
                slot: 0,
                run: 0,
            };
            self.events.push(Reverse(boot));
        }
        self.instances.push(Instance {
            launched: self.now,
            ready_at,
            ready,
            fenced: false,
            ended: None,
            block,
            slots,
        });
        self.peak = self.peak.max(self.alive().count());
    }

    pub(super) fn fence(&mut self, place: usize) {
        self.instances[place].fenced = true;
    }

    pub(super) fn unfence(&mut self, place: usize) {
        let instance = &mut self.instances[place];
        if instance.fenced && instance.ready {
            for slot in instance.slots.iter_mut().filter(|slot| slot.hand.is_none()) {
                slot.free = (self.now, 0);
            }
        }
        instance.fenced = false;
    }

    pub(super) fn end(&mut self, place: usize) {
        let instance = &mut self.instances[place];
        instance.ended = Some(self.now);
        let hands: Vec<_> = instance
            .slots
            .iter_mut()
            .filter_map(|slot| slot.hand.take())
            .collect();
        self.busy_killed += u64::from(!hands.is_empty());
        for (job, start, _) in hands {
            self.redone += 1;
            self.busy_micros += u128::from(self.now - start);
            self.waits[job] = None;
            self.waiting.insert(job);
        }
        if instance.ready_at.is_some() {
            self.blocks.insert(instance.block);
        }
    }

    pub(super) fn alive(&self) -> impl Iterator<Item = (usize, &Instance)> {
        self.instances
            .iter()
            .enumerate()
            .filter(|(_, instance)| instance.ended.is_none())
    }

    fn in_hand(&self) -> impl Iterator<Item = (usize, u64)> {
        let slots = self.instances.iter().flat_map(|instance| &instance.slots);
        slots
            .filter_map(|slot| slot.hand)
            .map(|(job, start, _)| (job, start))
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let slots = self.per_instance as u64;
        let ready_micros = self.instances.iter().map(|instance| {
            let until = instance.ended.unwrap_or(self.now);
            let ready_at = instance.ready_at.unwrap_or(until);
            u128::from(slots * until.saturating_sub(ready_at))
        });
        let working = self
            .in_hand()
            .map(|(_, start)| u128::from(self.now - start));
        Snapshot {
            arrivals: self.arrivals,
            completions: self.finished.len() as u64,
            backlog: self.waiting.len() as u64,
            busy: self.in_hand().count() as u64,
            oldest_age: self
                .waiting
                .first()
                .map_or(0, |job| self.now - self.jobs[*job].0),
            ready_slots: slots * self.alive().filter(|(_, instance)| instance.ready).count() as u64,
            busy_micros: self.busy_micros + working.sum::<u128>(),
            ready_micros: ready_micros.sum(),
        }
    }

    /// Waits and responses of all jobs that have arrived, sorted.
    pub(super) fn times(&self) -> (Vec<u64>, Vec<u64>) {
        let so_far = |job: &usize| self.now - self.jobs[*job].0;
        let waiting: Vec<u64> = self.waiting.iter().map(so_far).collect();
        let mut waits: Vec<u64> = self.waits.iter().flatten().copied().collect();
        let mut responses: Vec<u64> = self
            .finished
            .iter()
            .map(|(_, response)| *response)
            .collect();
        responses.extend(self.in_hand().map(|(job, _)| so_far(&job)));
        waits.extend(&waiting);
        responses.extend(&waiting);
        waits.sort_unstable();
        responses.sort_unstable();
        (waits, responses)
    }
}
