//! What offerings cost at the moment, where that moves: spot prices.
//!
//! Prices are part of what a cycle sees, and so of its record: deciding again
//! uses those that were in force, and a restart begins with them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::spec::FleetSpec;
use crate::units::{MicroUsdPerHour, Timestamp};

/// What an offering costs now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// What one instance costs an hour.
    pub price: MicroUsdPerHour,
    /// When that was read.
    pub read_at: Timestamp,
}

/// Quotes by the name of the offering. What has none costs what its spec says.
pub type Quotes = BTreeMap<String, Quote>;

/// `spec` at the prices of `quotes`. The offerings stay in the order of the
/// spec: the first of them stands for the fleet where only one can, and must
/// not change with the price of the hour.
pub fn priced<'a>(spec: &'a FleetSpec, quotes: &Quotes) -> Cow<'a, FleetSpec> {
    let moved = spec.offerings.iter().any(|offering| {
        let quote = quotes.get(&offering.name);
        quote.is_some_and(|quote| quote.price != offering.price)
    });
    // Most fleets have no price that moves, and simulations decide often.
    if !moved {
        return Cow::Borrowed(spec);
    }
    let mut priced = spec.clone();
    for offering in &mut priced.offerings {
        if let Some(quote) = quotes.get(&offering.name) {
            offering.price = quote.price;
        }
    }
    Cow::Owned(priced)
}
