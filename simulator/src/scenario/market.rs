//! The tables of a scenario that make its cloud more like a real one:
//! `[[cloud.offering]]`, `[cloud.warm_pool]` and `[cloud.faults]`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toml::Value;
use windlass_policies::fields::Fields;
use windlass_policies::model::{Billing, Market, Offering};
use windlass_policies::units::{MicroUsdPerHour, Timestamp, micros_of};

use super::{DAY, prices, read_distribution};
use crate::distribution::Distribution;
use crate::queue::SLOTS_MAX;
use crate::world::cloud::{
    BucketSpec, CapacitySpec, FaultSpec, InterruptionSpec, PoolSpec, WarmPoolSpec,
};
use crate::world::price::PriceCourse;

/// The most offerings: a region has fewer of one size.
const OFFERINGS_MAX: usize = 64;

/// The longest mean time between two things: a century would never be seen.
const YEARS: Duration = Duration::from_hours(24 * 3_650);

/// One thing that can be launched, and how its instances come and go.
#[derive(Clone, Debug, PartialEq)]
pub struct ScenarioOffering {
    /// What it is.
    pub offering: Offering,
    /// Its pool.
    pub pool: PoolSpec,
}

/// What the offerings have in common where they do not say otherwise.
#[derive(Clone, Copy)]
pub(super) struct Common {
    pub(super) billing: Billing,
    pub(super) slots: u32,
}

/// Where a file of a name is; `None` if it can be none.
pub(super) type Place<'a> = &'a dyn Fn(&str) -> Option<PathBuf>;

/// `[[cloud.offering]]`.
pub(super) fn read_offerings(
    fields: &mut Fields<'_>,
    common: Common,
    place: Place<'_>,
) -> Vec<ScenarioOffering> {
    let offerings = fields.tables("offering", |fields| read_offering(fields, common, place));
    for (index, one) in offerings.iter().enumerate() {
        let same = |other: &ScenarioOffering| other.offering.name == one.offering.name;
        if offerings[..index].iter().any(same) {
            let message = format!(
                "`{}` is there twice; give each its own name",
                one.offering.name
            );
            fields.problem("offering", message);
        }
    }
    if offerings.len() > OFFERINGS_MAX {
        fields.problem("offering", format!("more than {OFFERINGS_MAX} offerings"));
    }
    offerings
}

fn read_offering(
    fields: &mut Fields<'_>,
    common: Common,
    place: Place<'_>,
) -> Option<ScenarioOffering> {
    let name = fields.required::<String>(
        "name",
        "what decisions call it, such as \"c7g.large/a/spot\"",
    );
    if name.as_ref().is_some_and(String::is_empty) {
        fields.problem("name", "is empty; write what decisions are to call it");
    }
    let market = fields.word(
        "market",
        &[
            (Market::OnDemand.word(), Market::OnDemand),
            (Market::Spot.word(), Market::Spot),
        ],
    );
    let course = read_prices(fields, place);
    let fixed = if course.is_none() && !fields.has("price_file") && !fields.has("prices") {
        fields.required::<MicroUsdPerHour>("usd_per_hour", "what an hour costs, such as 0.17")
    } else {
        if fields.has("usd_per_hour") {
            fields.problem(
                "usd_per_hour",
                "remove it: prices or price_file say what an hour costs",
            );
        }
        fields.raw("usd_per_hour");
        None
    };
    let second = Duration::from_secs(1);
    let billing = Billing {
        increment: fields.or_within("billing_increment", common.billing.increment, second..=DAY),
        minimum: fields.or_within(
            "billing_minimum",
            common.billing.minimum,
            Duration::ZERO..=DAY,
        ),
    };
    let slots = fields.or_within("slots", common.slots, 1..=1_000);
    let prepaid = fields.or_within("prepaid", 0, 0..=100_000);
    let prepaid_price = fields.or("prepaid_usd_per_hour", MicroUsdPerHour::default());
    let throughput_percent = fields.or_within("throughput_percent", 100, 1..=10_000);
    let boot = fields.table("boot", read_distribution);
    let instances_max = fields.optional_within("instances_max", 0..=SLOTS_MAX);
    let capacity = fields.table("capacity", read_capacity);
    let interruption = fields.table("interruption", read_interruption);
    let price = course.as_ref().map_or(fixed, |course| Some(course.at(0)));
    Some(ScenarioOffering {
        offering: Offering {
            name: name?,
            price: price?,
            billing,
            slots,
            market: market.unwrap_or_default(),
            prepaid,
        },
        pool: PoolSpec {
            prices: course.map(Arc::new),
            throughput_percent,
            boot,
            instances_max,
            capacity,
            interruption,
            prepaid_price,
        },
    })
}

/// `prices`, or `price_file` with `price_rows` and `price_start`.
fn read_prices(fields: &mut Fields<'_>, place: Place<'_>) -> Option<PriceCourse> {
    let steps = fields.tables("prices", |fields| {
        let from = fields.required::<Duration>("from", "the time of the world, such as \"6h\"");
        let price = fields.required::<MicroUsdPerHour>("usd_per_hour", "what an hour costs then");
        Some((micros_of(from?), price?))
    });
    let course = PriceCourse::new(steps);
    let file = fields.optional::<String>("price_file");
    let start = fields.optional::<Timestamp>("price_start");
    let rows = fields.table("price_rows", |fields| Some(read_rows(fields)));
    let Some(file) = file else {
        for key in ["price_start", "price_rows"] {
            if fields.has(key) {
                fields.problem(key, "means nothing without price_file");
            }
        }
        return course;
    };
    if fields.has("prices") {
        fields.problem(
            "price_file",
            "remove it, or prices: both say what an hour costs",
        );
        return course;
    }
    let Some(path) = place(&file) else {
        fields.problem(
            "price_file",
            "a built-in scenario has no files; write prices",
        );
        return None;
    };
    match prices::read(&path, &rows.unwrap_or_default()) {
        Ok(steps) => {
            let zero = start
                .or(steps.first().map(|(at, _)| *at))
                .unwrap_or_default();
            // What came before the start holds at the start.
            let at = |at: Timestamp| micros_of(at.since(zero));
            PriceCourse::new(
                steps
                    .into_iter()
                    .map(|(when, price)| (at(when), price))
                    .collect(),
            )
        }
        Err(why) => {
            fields.problem("price_file", why);
            None
        }
    }
}

fn read_rows(fields: &mut Fields<'_>) -> Vec<(String, String)> {
    let keys: Vec<&str> = fields.keys().collect();
    let mut rows = Vec::new();
    for key in keys {
        let value = fields.raw(key).and_then(Value::as_str);
        match value {
            Some(value) => rows.push((key.to_owned(), value.to_owned())),
            None => fields.problem(key, "write the column's value as text"),
        }
    }
    rows
}

fn read_capacity(fields: &mut Fields<'_>) -> Option<CapacitySpec> {
    let second = Duration::from_secs(1);
    let up = fields.required_within(
        "up",
        "the mean time with capacity, such as \"12h\"",
        second..=YEARS,
    );
    let down = fields.required_within(
        "down",
        "the mean time without, such as \"20m\"",
        second..=YEARS,
    );
    Some(CapacitySpec {
        up: up?,
        down: down?,
    })
}

fn read_interruption(fields: &mut Fields<'_>) -> Option<InterruptionSpec> {
    let minute = Duration::from_mins(1);
    let every = fields.required_within(
        "every",
        "the mean time from one wave to the next, such as \"3d\"",
        minute..=YEARS,
    );
    Some(InterruptionSpec {
        share: read_share(fields, "share", 1.0),
        within: fields.or_within("within", 3 * minute, Duration::ZERO..=DAY),
        notice: fields.or_within("notice", 2 * minute, Duration::ZERO..=DAY),
        rebalance_ahead: fields.or_within("rebalance_ahead", Duration::ZERO, Duration::ZERO..=DAY),
        dry: fields.or_within("dry", Duration::ZERO, Duration::ZERO..=DAY),
        every: every?,
    })
}

/// A share from 0 to 1.
fn read_share(fields: &mut Fields<'_>, key: &str, default: f64) -> f64 {
    fields.or_within(key, default, 0.0..=1.0)
}

/// `[cloud.faults]`.
pub(super) fn read_faults(fields: &mut Fields<'_>) -> FaultSpec {
    let second = Duration::from_secs(1);
    FaultSpec {
        launch_requests: fields.table("launch_requests", read_bucket),
        launch_instances: fields.table("launch_instances", read_bucket),
        terminate_requests: fields.table("terminate_requests", read_bucket),
        launch_partial: read_share(fields, "launch_partial", 0.0),
        listing_fails: read_share(fields, "listing_fails", 0.0),
        listing_straggles: read_share(fields, "listing_straggles", 0.0),
        listing_straggle_max: fields.or_within("listing_straggle_max", 60 * second, second..=DAY),
        boot_fails: read_share(fields, "boot_fails", 0.0),
        boot_hangs: read_share(fields, "boot_hangs", 0.0),
        lifetime: fields.optional_within("lifetime", second..=YEARS),
        metric_gaps: read_share(fields, "metric_gaps", 0.0),
        metric_delay: fields.table("metric_delay", read_distribution),
    }
}

fn read_bucket(fields: &mut Fields<'_>) -> Option<BucketSpec> {
    let size = fields.required_within("size", "how many it holds", 1..=1_000_000);
    let per_sec = fields.required_within("per_sec", "how many come back a second", 0..=1_000_000);
    Some(BucketSpec {
        size: size?,
        per_sec: per_sec?,
    })
}

/// `[cloud.warm_pool]`, of one of `offerings`; `boot` is that of all.
pub(super) fn read_warm_pool(
    fields: &mut Fields<'_>,
    offerings: &[ScenarioOffering],
    boot: Option<Distribution>,
) -> Option<WarmPoolSpec> {
    let size = fields.required_within("size", "how many are kept stopped", 1..=10_000);
    let price = fields.or("usd_per_hour", MicroUsdPerHour::default());
    let start = if fields.has("start") {
        fields.table("start", read_distribution)
    } else {
        fields.required::<String>(
            "start",
            "a distribution such as { distribution = \"constant\", value = \"10s\" }",
        );
        None
    };
    let name = fields.optional::<String>("offering");
    let place = match &name {
        None => Some(0),
        Some(name) => offerings.iter().position(|one| one.offering.name == *name),
    };
    let Some(offering) = place else {
        fields.problem("offering", "there is no [[cloud.offering]] of this name");
        return None;
    };
    let own = offerings.get(offering).and_then(|one| one.pool.boot);
    Some(WarmPoolSpec {
        offering,
        size: size?,
        start: start?,
        boot: own.or(boot)?,
        price,
    })
}
