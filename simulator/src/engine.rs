//! The driver: lets simulated time pass from tick to tick, and at each runs
//! the very cycle that the daemon runs.
//!
//! A run covers the half-open span from the world's beginning to `end`: ticks
//! come at every whole multiple of the fleet's interval that is greater than 0
//! and earlier than `end`, and what would happen at `end` does not.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use windlass_policies::memory::Memory;
use windlass_policies::memory_store::MemoryStore;
use windlass_policies::model::Epoch;
use windlass_policies::ports::{Clock, StoreError};
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
    mut watch: impl FnMut(&Cycle, &mut World),
) -> Result<World, StoreError> {
    let world = SimulatedPorts::new(world);
    let store = MemoryStore::keeping_nothing();
    let mut memory = Memory::new("simulated", Epoch(1));
    let ports = Ports {
        clock: &world,
        metrics: &world,
        provider: &world,
        store: &store,
    };
    let mut tick = world.now() + spec.interval;
    while tick < end {
        world.with(|world| world.advance(tick));
        let cycle = poll_once(reconcile(spec, Mode::Act, &mut memory, ports))
            .expect("simulated ports never wait")?;
        world.with(|world| watch(&cycle, world));
        tick = tick + spec.interval;
    }
    let mut world = world.into_world().expect("every other handle is gone");
    world.advance(end);
    Ok(world)
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
