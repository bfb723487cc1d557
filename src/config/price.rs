//! What an instance counts at: what the file says, or what the table of
//! on-demand prices knows.

use windlass_policies::fields::Fields;
use windlass_policies::units::MicroUsdPerHour;

use crate::aws::settings::AwsSettings;

/// Where the price of an offering comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priced {
    /// `usd_per_hour` says it.
    InFile,
    /// The on-demand price of the dearest of its types, from the table; for
    /// spot until its own price has been read.
    OnDemand,
}

const KEY: &str = "usd_per_hour";

/// Reads `usd_per_hour` of an offering of `types`; without it, the price of
/// the dearest of them, so that money is never undercounted.
pub(super) fn read(
    table: &mut Fields<'_>,
    aws: &AwsSettings,
    types: &[&str],
) -> Option<(MicroUsdPerHour, Priced)> {
    if table.has(KEY) {
        let what = "what one instance costs an hour, in dollars, such as 0.17";
        return Some((table.required(KEY, what)?, Priced::InFile));
    }
    if types.is_empty() {
        // Reported where they were read.
        return None;
    }
    let Some(region) = &aws.region else {
        table.problem(
            KEY,
            "missing; write what one instance costs an hour, in dollars, such as 0.17, or \
             [aws] region, where it is looked up",
        );
        return None;
    };
    let mut dearest = None;
    for instance_type in types {
        match aws.prices.of(region, instance_type) {
            Ok(price) => dearest = dearest.max(Some(price)),
            Err(unknown) => {
                let message = format!(
                    "missing; {unknown}. Write what one instance costs an hour, in dollars, such \
                     as 0.17; or run `docs/prices.sh {region} > prices.csv` and write `prices = \
                     \"prices.csv\"` in [aws]"
                );
                table.problem(KEY, message);
                return None;
            }
        }
    }
    Some((dearest?, Priced::OnDemand))
}
