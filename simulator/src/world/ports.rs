//! The world behind the ports of a cycle. It always answers at once, so its
//! futures never wait.

use std::cell::RefCell;
use std::rc::Rc;

use windlass_policies::model::{Action, Epoch, FleetError, Listing, Outcome};
use windlass_policies::ports::{Clock, FleetProvider, MetricSource};
use windlass_policies::quote::Quotes;
use windlass_policies::signal::{Readings, SignalSpec};
use windlass_policies::units::Timestamp;

use super::World;

/// A handle on a world that is clock, metric source and fleet provider at
/// once. Clones are handles on the same world.
#[derive(Clone, Debug)]
pub struct SimulatedPorts(Rc<RefCell<World>>);

impl SimulatedPorts {
    /// Puts `world` behind the ports.
    pub fn new(world: World) -> Self {
        Self(Rc::new(RefCell::new(world)))
    }

    /// The world itself; `None` if there are other handles on it.
    pub fn into_world(self) -> Option<World> {
        Rc::into_inner(self.0).map(RefCell::into_inner)
    }

    /// Looks at the world or changes it. `look` must not use the ports.
    pub fn with<R>(&self, look: impl FnOnce(&mut World) -> R) -> R {
        look(&mut self.0.borrow_mut())
    }
}

impl Clock for SimulatedPorts {
    fn now(&self) -> Timestamp {
        self.0.borrow().now()
    }
}

impl MetricSource for SimulatedPorts {
    async fn read(&self, signals: &[SignalSpec], now: Timestamp) -> Readings {
        self.0.borrow_mut().read(signals, now)
    }
}

impl FleetProvider for SimulatedPorts {
    fn prices(&self) -> Quotes {
        self.0.borrow().quotes()
    }

    async fn list(&self, fleet: &str) -> Result<Listing, FleetError> {
        self.0.borrow().list(fleet)
    }

    async fn apply(&self, fleet: &str, epoch: Epoch, action: &Action) -> Outcome {
        self.0.borrow_mut().apply(fleet, epoch, action)
    }
}
