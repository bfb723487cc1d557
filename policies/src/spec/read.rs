//! The parts of a fleet, from TOML.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Drain, FleetSpec, Limits, Mix, Objective, OnRebalance, Spot, Strays};
use crate::fields::Fields;
use crate::policy::{INSTANCES_MAX, NamedPolicy};
use crate::units::MicroUsdPerHour;

/// Policies one fleet may have; more are a slip of the generator.
const POLICIES_MAX: usize = 32;

/// No wait of the governor needs to be longer than a day.
const DAY: Duration = Duration::from_hours(24);

/// A second: nothing in a fleet happens faster.
const SECOND: Duration = Duration::from_secs(1);

/// Reads `interval`, the time between cycles: a second to an hour, a minute if
/// it is not set.
pub fn read_interval(fields: &mut Fields<'_>) -> Duration {
    let bounds = SECOND..=Duration::from_hours(1);
    fields.or_within("interval", FleetSpec::INTERVAL, bounds)
}

/// Checks the name of a fleet: 1 to 24 characters of `a-z`, `0-9` and `-`, so
/// that it fits into a launch token beside everything else that is in there.
///
/// # Errors
/// What to write.
pub fn parse_fleet_name(name: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=24).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(name.to_owned());
    }
    Err(format!(
        "{name:?} is no name for a fleet; write 1 to 24 characters of a-z, 0-9 and -"
    ))
}

/// Reads `[limits]`. `max` and `max_usd_per_hour` are mandatory; all else has
/// its default.
pub fn read_limits(fields: &mut Fields<'_>) -> Option<Limits> {
    fields.table_or_empty("limits", |limits| {
        let what = "the most instances the fleet may have, such as 20";
        let max = limits.required_within("max", what, 1..=INSTANCES_MAX);
        let what = "the most the fleet may cost an hour in dollars, such as 3.40";
        let most = limits.required::<MicroUsdPerHour>("max_usd_per_hour", what);
        let defaults = Limits {
            min: Limits::MIN,
            max: max.unwrap_or(INSTANCES_MAX),
            max_usd_per_hour: most.unwrap_or_default(),
            grow_step_max: Limits::GROW_STEP_MAX,
            shrink_step_max: Limits::SHRINK_STEP_MAX,
            shrink_settle: Limits::SHRINK_SETTLE,
            grow_settle: Limits::GROW_SETTLE,
            shrink_percent_per_hour_max: Limits::SHRINK_PERCENT_PER_HOUR_MAX,
            boot_timeout: Limits::BOOT_TIMEOUT,
            breaker_failures: Limits::BREAKER_FAILURES,
            observe_cycles: Limits::OBSERVE_CYCLES,
            listing_patience: Limits::LISTING_PATIENCE,
            strays: Strays::default(),
            strays_confirmations: Limits::STRAYS_CONFIRMATIONS,
        };
        let read = read_each_limit(limits, &defaults);
        max.and(most).and(read)
    })
}

/// Reads `[limits]` where every key that is not set is as in `defaults`.
pub fn read_limits_over(fields: &mut Fields<'_>, defaults: &Limits) -> Option<Limits> {
    fields.table_or_empty("limits", |limits| read_each_limit(limits, defaults))
}

fn read_each_limit(limits: &mut Fields<'_>, defaults: &Limits) -> Option<Limits> {
    let wait = Duration::ZERO..=DAY;
    let read = Limits {
        min: limits.or_within("min", defaults.min, 0..=INSTANCES_MAX),
        max: limits.or_within("max", defaults.max, 1..=INSTANCES_MAX),
        max_usd_per_hour: limits.or("max_usd_per_hour", defaults.max_usd_per_hour),
        grow_step_max: limits.or_within("grow_step_max", defaults.grow_step_max, 1..=INSTANCES_MAX),
        shrink_step_max: limits.or_within(
            "shrink_step_max",
            defaults.shrink_step_max,
            1..=INSTANCES_MAX,
        ),
        shrink_settle: limits.or_within("shrink_settle", defaults.shrink_settle, wait.clone()),
        grow_settle: limits.or_within("grow_settle", defaults.grow_settle, wait),
        shrink_percent_per_hour_max: limits.or_within(
            "shrink_percent_per_hour_max",
            defaults.shrink_percent_per_hour_max,
            1..=100,
        ),
        boot_timeout: limits.or_within("boot_timeout", defaults.boot_timeout, SECOND..=DAY),
        breaker_failures: limits.or_within(
            "breaker_failures",
            defaults.breaker_failures,
            1..=1_000,
        ),
        observe_cycles: limits.or_within("observe_cycles", defaults.observe_cycles, 0..=100),
        listing_patience: limits.or_within(
            "listing_patience",
            defaults.listing_patience,
            SECOND..=DAY,
        ),
        strays: limits
            .word("strays", &[("adopt", Strays::Adopt), ("end", Strays::End)])
            .unwrap_or(defaults.strays),
        strays_confirmations: limits.or_within(
            "strays_confirmations",
            defaults.strays_confirmations,
            2..=100,
        ),
    };
    if read.min > read.max {
        limits.problem("min", format!("{} is above max ({})", read.min, read.max));
        return None;
    }
    Some(read)
}

/// Reads `[mix]`; nothing must be on demand unless it says so.
pub fn read_mix(fields: &mut Fields<'_>) -> Mix {
    fields
        .table_or_empty("mix", |mix| {
            Some(Mix {
                on_demand_base: mix.or_within("on_demand_base", 0, 0..=INSTANCES_MAX),
                on_demand_percent: mix.or_within("on_demand_percent", 0, 0..=100),
            })
        })
        .unwrap_or_default()
}

/// Reads `[spot]`; everything in it has its default.
pub fn read_spot(fields: &mut Fields<'_>) -> Spot {
    let words = [
        ("replace", OnRebalance::Replace),
        ("ignore", OnRebalance::Ignore),
    ];
    fields
        .table_or_empty("spot", |spot| {
            Some(Spot {
                on_rebalance: spot.word("on_rebalance", &words).unwrap_or_default(),
            })
        })
        .unwrap_or_default()
}

/// Reads `[drain]`; everything in it has its default.
pub fn read_drain(fields: &mut Fields<'_>) -> Drain {
    let bounds = Duration::ZERO..=Duration::from_hours(7 * 24);
    fields
        .table_or_empty("drain", |drain| {
            Some(Drain {
                deadline: drain
                    .optional_within("deadline", bounds)
                    .or(Drain::DEADLINE),
                busy: drain.or("busy", Drain::BUSY),
            })
        })
        .unwrap_or_default()
}

/// Reads `[objective]`; waiting is worth nothing unless it is set.
pub fn read_objective(fields: &mut Fields<'_>) -> Objective {
    fields
        .table_or_empty("objective", |objective| {
            let usd_per_job_hour_waiting =
                objective.or("usd_per_job_hour_waiting", MicroUsdPerHour::ZERO);
            Some(Objective {
                usd_per_job_hour_waiting,
            })
        })
        .unwrap_or_default()
}

/// Reads every `[[policy]]` table, in the order of the file. `None` if one is
/// wrong, there is none, or two have one name; all reported.
pub fn read_policies(fields: &mut Fields<'_>) -> Option<Vec<NamedPolicy>> {
    if !fields.has("policy") {
        let _asked = fields.raw("policy");
        fields.problem(
            "policy",
            "missing; write at least one [[policy]] table with its `kind`",
        );
        return None;
    }
    let read = fields.tables("policy", |table| {
        Some((table.path().to_owned(), NamedPolicy::read(table)))
    });
    let array = fields.raw("policy").is_some_and(toml::Value::is_array);
    if read.is_empty() && array {
        fields.problem(
            "policy",
            "empty; write at least one [[policy]] table with its `kind`",
        );
    }
    if read.len() > POLICIES_MAX {
        fields.problem(
            "policy",
            format!("{} policies; at most {POLICIES_MAX}", read.len()),
        );
    }
    let mut first_by_name: BTreeMap<String, String> = BTreeMap::new();
    for (path, policy) in &read {
        let Some(policy) = policy else { continue };
        if let Some(first) = first_by_name.get(&policy.name) {
            let message = format!(
                "is called `{}` like {first}; give one of them another `name`",
                policy.name
            );
            fields.problem_at(path.clone(), message);
        } else {
            first_by_name.insert(policy.name.clone(), path.clone());
        }
    }
    let policies: Option<Vec<NamedPolicy>> = read.into_iter().map(|(_, policy)| policy).collect();
    policies.filter(|policies| !policies.is_empty())
}
