//! The driver: lets simulated time pass from tick to tick, and at each runs
//! the very cycle that the daemon runs.
//!
//! A run covers the half-open span from the world's beginning to `end`: ticks
//! come at every whole multiple of the fleet's interval that is greater than 0
//! and earlier than `end`, and what would happen at `end` does not.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use windlass_policies::memory::Memory;
use windlass_policies::memory_store::MemoryStore;
use windlass_policies::model::Epoch;
use windlass_policies::ports::StoreError;
use windlass_policies::reconcile::{Cycle, Mode, Ports, reconcile};
use windlass_policies::spec::FleetSpec;
use windlass_policies::units::Timestamp;

use crate::world::{SimulatedPorts, Summary, World};

/// Runs the fleet of `spec` in `world` until `end`, and shows each cycle to
/// `watch`.
///
/// # Errors
/// Those of the store in memory: none today.
pub fn run(
    spec: &FleetSpec,
    world: World,
    end: Timestamp,
    mut watch: impl FnMut(&Cycle),
) -> Result<Summary, StoreError> {
    Ok(observe(spec, world, end, |cycle, _| watch(cycle))?.summary())
}

/// The same, showing `watch` the world too, right after the actions of each
/// cycle; gives the world as it is at `end`. What is not asked of the world
/// costs nothing.
///
/// # Errors
/// Those of the store in memory: none today.
///
/// # Panics
/// If `watch` keeps a handle on the world, which it is not given.
pub fn observe(
    spec: &FleetSpec,
    world: World,
    end: Timestamp,
    watch: impl FnMut(&Cycle, &mut World),
) -> Result<World, StoreError> {
    Ok(Run::new(spec, world).go_on(end, watch)?.finish(end))
}

/// A run that goes on piece by piece: between two pieces its world can be fed
/// and looked at. However it is cut, it comes to the same.
#[derive(Debug)]
pub struct Run<'a> {
    spec: &'a FleetSpec,
    world: World,
    store: MemoryStore,
    memory: Memory,
    /// The next one.
    tick: Timestamp,
}

impl<'a> Run<'a> {
    /// A run at its beginning.
    pub fn new(spec: &'a FleetSpec, world: World) -> Self {
        Self {
            spec,
            store: MemoryStore::keeping_nothing(),
            memory: Memory::new("simulated", Epoch(1)),
            tick: world.now() + spec.interval,
            world,
        }
    }

    /// Its world, as of the last tick.
    pub const fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// When its next tick is.
    pub const fn next_tick(&self) -> Timestamp {
        self.tick
    }

    /// Time between two ticks.
    pub const fn interval(&self) -> Duration {
        self.spec.interval
    }

    /// Goes through all ticks earlier than `end`, and shows `watch` each cycle
    /// and the world right after its actions.
    ///
    /// # Errors
    /// Those of the store in memory: none today.
    ///
    /// # Panics
    /// If `watch` keeps a handle on the world, which it is not given.
    pub fn go_on(
        mut self,
        end: Timestamp,
        mut watch: impl FnMut(&Cycle, &mut World),
    ) -> Result<Self, StoreError> {
        let world = SimulatedPorts::new(self.world);
        let ports = Ports {
            clock: &world,
            metrics: &world,
            provider: &world,
            store: &self.store,
        };
        while self.tick < end {
            world.with(|world| world.advance(self.tick));
            let cycle = poll_once(reconcile(self.spec, Mode::Act, &mut self.memory, ports))
                .expect("simulated ports never wait")?;
            world.with(|world| watch(&cycle, world));
            self.tick = self.tick + self.spec.interval;
        }
        self.world = world.into_world().expect("every other handle is gone");
        Ok(self)
    }

    /// The world at `end`, before which all its ticks have been.
    pub fn finish(mut self, end: Timestamp) -> World {
        self.world.advance(end);
        self.world
    }
}

/// What `future` gives if it does not wait; `None` if it does, and then it is
/// dropped where it stands.
pub fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
