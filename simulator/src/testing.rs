//! What several tests of this crate need.

use proptest::test_runner::{Config, RngSeed};

/// A property test of so many cases, the same ones in every run; nothing is
/// written to disk. A case that fails is printed and becomes a named test.
pub(crate) fn properties(cases: u32) -> Config {
    Config {
        cases,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..Config::default()
    }
}
