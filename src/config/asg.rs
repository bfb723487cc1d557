//! `[fleet.NAME.asg]`: an existing Auto Scaling group.

use std::time::Duration;

use windlass_policies::fields::Fields;
use windlass_policies::model::{Billing, Market, Offering};
use windlass_policies::units::MicroUsdPerHour;

/// No instance has more processors than that.
const SLOTS_MAX: u32 = 10_000;

/// AWS takes no longer name.
const NAME_CHARS_MAX: usize = 255;

/// Which group, and what its instances are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsgSettings {
    /// The group's name.
    pub group: String,
    /// The type of its instances, such as `c7g.large`; of several the dearest.
    pub instance_type: String,
    /// What one instance costs an hour.
    pub price: MicroUsdPerHour,
    /// On which terms the group buys.
    pub market: Market,
    /// Jobs one instance works on at a time.
    pub slots: u32,
    /// How it is known what a worker does.
    pub workers: Workers,
}

/// How it is known what a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// It protects its instance from scale-in while it has a job, and takes
    /// none while the instance has the tag `windlass:fenced`.
    Protection,
    /// Instances hold no jobs: any may be ended at any time.
    Stateless,
}

impl AsgSettings {
    /// What can be bought: instances of the group, charged as EC2 charges
    /// Linux, by the second and a minute at least.
    pub fn offering(&self) -> Offering {
        Offering {
            name: self.instance_type.clone(),
            price: self.price,
            billing: Billing {
                increment: Duration::from_secs(1),
                minimum: Duration::from_mins(1),
            },
            slots: self.slots,
            market: self.market,
            prepaid: 0,
        }
    }
}

/// Reads the table.
pub(super) fn read(asg: &mut Fields<'_>) -> Option<AsgSettings> {
    let what = "the name of an Auto Scaling group";
    let group = asg.required::<String>("group", what);
    if let Some(group) = &group
        && (group.trim().is_empty() || group.chars().count() > NAME_CHARS_MAX)
    {
        asg.problem("group", format!("is no name of a group; write {what}"));
    }
    let what = "the type of its instances, such as \"c7g.large\"; of several the dearest";
    let instance_type = asg.required::<String>("type", what);
    if instance_type.as_ref().is_some_and(String::is_empty) {
        asg.problem("type", format!("is empty; write {what}"));
    }
    let price = asg.required::<MicroUsdPerHour>(
        "usd_per_hour",
        "what one instance costs an hour, in dollars, such as 0.0725",
    );
    let markets = [
        (Market::OnDemand.word(), Market::OnDemand),
        (Market::Spot.word(), Market::Spot),
    ];
    let market = asg.word("market", &markets).unwrap_or_default();
    let slots = asg.or_within("slots", 1, 1..=SLOTS_MAX);
    let words = [
        ("protection", Workers::Protection),
        ("stateless", Workers::Stateless),
    ];
    let workers = asg.required_word("workers", &words);
    Some(AsgSettings {
        group: group?,
        instance_type: instance_type?,
        price: price?,
        market,
        slots,
        workers: workers?,
    })
}
