//! `[fleet.NAME.asg]`: an existing Auto Scaling group.

use std::path::Path;
use std::time::Duration;

use windlass_policies::fields::Fields;
use windlass_policies::model::{Billing, Market, Offering};
use windlass_policies::units::MicroUsdPerHour;

use super::price::{self, Priced};
use super::workers::{self, WorkersSettings};
use crate::aws::settings::{AwsSettings, read_url};

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
    /// Where that comes from.
    pub priced: Priced,
    /// On which terms the group buys.
    pub market: Market,
    /// Jobs one instance works on at a time.
    pub slots: u32,
    /// How workers hear of a fence and answer.
    pub workers: WorkersSettings,
    /// The queue of what EC2 announces.
    pub notices_queue_url: Option<String>,
}

impl AsgSettings {
    /// Whether it is spot whose price the file leaves to EC2.
    pub fn is_spot_priced(&self) -> bool {
        self.market == Market::Spot && self.priced == Priced::OnDemand
    }

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

/// Reads the table; files are relative to `folder`.
pub(super) fn read(asg: &mut Fields<'_>, folder: &Path, aws: &AwsSettings) -> Option<AsgSettings> {
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
    let types: Vec<&str> = instance_type
        .iter()
        .map(String::as_str)
        .filter(|name| !name.is_empty())
        .collect();
    let price = price::read(asg, aws, &types);
    let markets = [
        (Market::OnDemand.word(), Market::OnDemand),
        (Market::Spot.word(), Market::Spot),
    ];
    let market = asg.word("market", &markets).unwrap_or_default();
    let slots = asg.or_within("slots", 1, 1..=SLOTS_MAX);
    let workers = workers::read(asg, folder, &workers::IN_A_GROUP);
    let notices_queue_url = read_url(asg, "notices_queue_url");
    let (price, priced) = price?;
    Some(AsgSettings {
        group: group?,
        instance_type: instance_type?,
        price,
        priced,
        market,
        slots,
        workers: workers?,
        notices_queue_url,
    })
}
