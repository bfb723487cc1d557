//! What owns the instances of a fleet: one file per provider.

pub mod simulated;
