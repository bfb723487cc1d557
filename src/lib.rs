//! windlass raises and lowers fleets of EC2 instances by what waiting is worth.
//!
//! This library is what the `windlass` program is made of; it is public so that
//! tests and tools can use the parts. The rules themselves are in
//! [`windlass_policies`], the simulated world is in `windlass_simulator`.

pub mod store;
