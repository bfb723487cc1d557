//! AWS: what its settings are, how it is asked, how often, and what its
//! answers mean.
//!
//! The settings are read in every build, so that `windlass check` understands
//! a file whose fleets need AWS. All else needs the feature `aws`.

pub mod permissions;
#[cfg(feature = "aws")]
pub mod preflight;
pub mod settings;

#[cfg(feature = "aws")]
pub mod budget;
#[cfg(feature = "aws")]
pub mod client;
#[cfg(feature = "aws")]
pub mod codes;
#[cfg(feature = "aws")]
pub mod errors;
#[cfg(feature = "aws")]
pub mod notices;
#[cfg(feature = "aws")]
pub mod region;
#[cfg(feature = "aws")]
pub mod shared;
#[cfg(feature = "aws")]
pub mod spot_prices;
#[cfg(all(test, feature = "aws"))]
pub(crate) mod testing;
