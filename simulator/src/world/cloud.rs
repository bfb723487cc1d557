//! What can be different about a cloud beyond boots, bills and lags: pools
//! that run dry, prices that change, instances that are taken back or die,
//! calls that are refused. Everything here is absent unless it is asked for.

use std::sync::Arc;
use std::time::Duration;

use windlass_policies::units::MicroUsdPerHour;

use super::price::PriceCourse;
use crate::distribution::Distribution;

/// All of it; the default is a cloud in which none of it happens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CloudSpec {
    /// What its random streams grow from.
    pub seed: u64,
    /// One for each offering, in their order; plain ones where it ends early.
    pub pools: Vec<PoolSpec>,
    /// What goes wrong.
    pub faults: FaultSpec,
    /// Instances that are kept stopped, ready to start.
    pub warm_pool: Option<WarmPoolSpec>,
}

impl CloudSpec {
    /// The pool of the offering at `place`.
    pub(super) fn pool(&self, place: usize) -> PoolSpec {
        self.pools.get(place).cloned().unwrap_or_default()
    }
}

/// How instances of one offering come and go.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolSpec {
    /// The price over time, in place of the offering's own.
    pub prices: Option<Arc<PriceCourse>>,
    /// How fast it works, in percent: at 200 a job takes half its time.
    pub throughput_percent: u32,
    /// Time from a launch to the first job taken; if not given, that of all.
    pub boot: Option<Distribution>,
    /// The most instances at once.
    pub instances_max: Option<u32>,
    /// When there is capacity; always, if not given.
    pub capacity: Option<CapacitySpec>,
    /// How instances are taken back; never, if not given.
    pub interruption: Option<InterruptionSpec>,
    /// What each instance that is paid for already costs, used or not.
    pub prepaid_price: MicroUsdPerHour,
}

impl Default for PoolSpec {
    fn default() -> Self {
        Self {
            prices: None,
            throughput_percent: 100,
            boot: None,
            instances_max: None,
            capacity: None,
            interruption: None,
            prepaid_price: MicroUsdPerHour::default(),
        }
    }
}

/// Capacity that comes and goes: spells of exponential length, in turn. The
/// first one has capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapacitySpec {
    /// Mean length of a spell with capacity.
    pub up: Duration,
    /// Mean length of a spell without.
    pub down: Duration,
}

/// Waves in which a pool is taken back, exponential times apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InterruptionSpec {
    /// Mean time from one wave to the next.
    pub every: Duration,
    /// The share of the pool's instances that a wave hits, 0 to 1.
    pub share: f64,
    /// Their notices come spread over so long.
    pub within: Duration,
    /// From an instance's notice to its end.
    pub notice: Duration,
    /// How long before the first notices the instances are told that they are
    /// likelier than others to be taken back; not at all, if zero.
    pub rebalance_ahead: Duration,
    /// How long after the beginning of a wave the pool has no capacity.
    pub dry: Duration,
}

/// What goes wrong, and how often. Shares are 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FaultSpec {
    /// One token for each call that launches.
    pub launch_requests: Option<BucketSpec>,
    /// One token for each instance that is asked for.
    pub launch_instances: Option<BucketSpec>,
    /// One token for each call that ends an instance.
    pub terminate_requests: Option<BucketSpec>,
    /// Share of launches of two instances or more that bring only some of them.
    pub launch_partial: f64,
    /// Share of listings that fail.
    pub listing_fails: f64,
    /// Share of launched instances that listings show late.
    pub listing_straggles: f64,
    /// How late at most.
    pub listing_straggle_max: Duration,
    /// Share of launched instances that end when their boot should.
    pub boot_fails: f64,
    /// Share of launched instances that boot for ever.
    pub boot_hangs: f64,
    /// Mean time until an instance dies, exponential; never, if not given.
    pub lifetime: Option<Duration>,
    /// Share of metric samples that are never seen.
    pub metric_gaps: f64,
    /// What comes on top of the metric lag, for each sample on its own.
    pub metric_delay: Option<Distribution>,
}

/// A bucket of tokens that fills up again. A call that finds too few is refused
/// and takes none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketSpec {
    /// How many it holds; it begins full.
    pub size: u32,
    /// How many come back each second.
    pub per_sec: u32,
}

/// Instances that were booted once and are kept stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmPoolSpec {
    /// Index of the offering it is of.
    pub offering: usize,
    /// How many there are; one that is taken is replaced by one that boots first.
    pub size: u32,
    /// Time from a launch to the first job taken for one out of the pool.
    pub start: Distribution,
    /// How long one boots that fills the pool up again; its price is the
    /// offering's for so long.
    pub boot: Distribution,
    /// What one costs while it is stopped.
    pub price: MicroUsdPerHour,
}
