//! What spot instances cost now: read about once an hour for all fleets of a
//! region, beside their cycles.
//!
//! A cycle takes the prices that are there and waits for none. If they cannot be
//! read the old ones stay, and what is recorded of them says how old they are.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use aws_sdk_ec2::types::{InstanceType, SpotPrice};
use tracing::{info, warn};

use windlass_policies::model::FleetError;
use windlass_policies::quote::{Quote, Quotes};
use windlass_policies::units::{MicroUsdPerHour, Timestamp};

use super::budget::Bucket;
use super::errors::{Call, fleet_error};
use super::region::{Pages, Region, filter};
use crate::config::asg::AsgSettings;
use crate::config::ec2::Ec2Settings;

/// Most prices move a few times a day, and by little.
const READ_EVERY: Duration = Duration::from_hours(1);

/// After a reading that failed. Prices are not urgent.
const RETRY_AFTER: Duration = Duration::from_mins(5);

/// What EC2 calls the kind of instance that is priced; the second is for old
/// accounts, at the same price.
const PRODUCTS: [&str; 2] = ["Linux/UNIX", "Linux/UNIX (Amazon VPC)"];

/// The most types named in one call, far below what its address may hold.
const TYPES_PER_CALL: usize = 100;

/// The most that EC2 gives in one page.
const PAGE_SIZE: i32 = 1_000;

/// Prices by type, then by zone.
type ByPool = BTreeMap<String, BTreeMap<String, MicroUsdPerHour>>;

/// The spot prices of a region.
#[derive(Debug)]
pub struct SpotPrices {
    region: Rc<Region>,
    /// What fleets want to know of: types, and subnets whose zones count.
    types: RefCell<BTreeSet<String>>,
    subnets: RefCell<BTreeSet<String>>,
    /// The last complete reading.
    latest: RefCell<Option<Reading>>,
    /// Subnets to zones, as far as they are known. A subnet never moves.
    zones: RefCell<BTreeMap<String, String>>,
    /// When to read again; `None` before the first time.
    due: Cell<Option<Timestamp>>,
    /// Whether a reading is under way.
    reading: Cell<bool>,
    /// Whether the last one failed.
    failed: Cell<bool>,
}

/// One complete reading.
#[derive(Debug)]
struct Reading {
    at: Timestamp,
    prices: ByPool,
}

impl SpotPrices {
    /// Those of `region`, none of which is read yet.
    pub fn new(region: Rc<Region>) -> Self {
        Self {
            region,
            types: RefCell::default(),
            subnets: RefCell::default(),
            latest: RefCell::default(),
            zones: RefCell::default(),
            due: Cell::new(None),
            reading: Cell::new(false),
            failed: Cell::new(false),
        }
    }

    /// Begins to read them anew if it is time. Must be called on a `LocalSet`.
    fn refresh(self: &Rc<Self>) {
        let now = self.region.now();
        if self.reading.get() || self.due.get().is_some_and(|due| now < due) {
            return;
        }
        self.reading.set(true);
        let prices = Rc::clone(self);
        // Ends by itself: every call has a timeout, and pages have an end.
        tokio::task::spawn_local(async move { prices.read().await });
    }

    async fn read(&self) {
        let at = self.region.now();
        let read = self.read_all().await;
        let again = match read {
            Ok(prices) => {
                if self.failed.replace(false) {
                    info!("spot prices can be read again");
                }
                self.latest.replace(Some(Reading { at, prices }));
                READ_EVERY
            }
            Err(error) => {
                if !self.failed.replace(true) {
                    warn!(%error, "spot prices cannot be read, so the old ones stay");
                }
                RETRY_AFTER
            }
        };
        self.due.set(Some(self.region.now() + again));
        self.reading.set(false);
    }

    async fn read_all(&self) -> Result<ByPool, FleetError> {
        self.learn_zones().await;
        let types: Vec<String> = self.types.borrow().iter().cloned().collect();
        let mut newest: BTreeMap<(String, String), (i128, MicroUsdPerHour)> = BTreeMap::new();
        for some in types.chunks(TYPES_PER_CALL) {
            for shown in self.read_types(some).await? {
                let Some((pool, at, price)) = understand(&shown) else {
                    continue;
                };
                let place = newest.entry(pool).or_insert((at, price));
                // Of equally new ones the dearer: money is never undercounted.
                *place = (*place).max((at, price));
            }
        }
        let mut prices = ByPool::new();
        for ((instance_type, zone), (_, price)) in newest {
            prices.entry(instance_type).or_default().insert(zone, price);
        }
        Ok(prices)
    }

    /// The prices in force now, with others perhaps.
    async fn read_types(&self, types: &[String]) -> Result<Vec<SpotPrice>, FleetError> {
        // EC2 shows what changed since then, and what was in force at that time.
        let since = self.region.now().micros() / 1_000_000;
        let since = i64::try_from(since).unwrap_or(i64::MAX);
        let since = aws_sdk_ec2::primitives::DateTime::from_secs(since);
        let mut found = Vec::new();
        let mut pages = Pages::default();
        while let Some(page) = pages.next()? {
            self.take()?;
            let types = types.iter().map(|one| InstanceType::from(one.as_str()));
            let answer = self
                .region
                .ec2()
                .describe_spot_price_history()
                .set_instance_types(Some(types.collect()))
                .set_product_descriptions(Some(PRODUCTS.map(str::to_owned).to_vec()))
                .start_time(since)
                .max_results(PAGE_SIZE)
                .set_next_token(page.token())
                .send()
                .await
                .map_err(|error| fleet_error(Call::Reads, &error))?;
            found.extend_from_slice(answer.spot_price_history());
            pages.turn(answer.next_token());
        }
        Ok(found)
    }

    /// Looks up the zones of subnets that are not known yet. Without them every
    /// zone of the region counts, so that nothing is undercounted.
    async fn learn_zones(&self) {
        let unknown: Vec<String> = {
            let (subnets, zones) = (self.subnets.borrow(), self.zones.borrow());
            let unknown = subnets.iter().filter(|one| !zones.contains_key(*one));
            unknown.cloned().collect()
        };
        if unknown.is_empty() {
            return;
        }
        let names: Vec<&str> = unknown.iter().map(String::as_str).collect();
        let answer = match self.take() {
            // By a filter: naming one that is not there would hide the others.
            Ok(()) => self
                .region
                .ec2()
                .describe_subnets()
                .filters(filter("subnet-id", &names))
                .send()
                .await
                .map_err(|error| fleet_error(Call::Reads, &error)),
            Err(error) => Err(error),
        };
        match answer {
            Ok(found) => {
                let found = found.subnets().iter().filter_map(|subnet| {
                    let zone = subnet.availability_zone()?.to_owned();
                    Some((subnet.subnet_id()?.to_owned(), zone))
                });
                self.zones.borrow_mut().extend(found);
            }
            Err(error) => warn!(
                %error,
                "the zones of subnets are not known, so spot counts at its price in the dearest \
                 zone of the region"
            ),
        }
    }

    fn take(&self) -> Result<(), FleetError> {
        let region = &self.region;
        region.budget.take(region.now(), &[(Bucket::Describe, 1)])
    }

    /// What the dearest of `pool`'s types costs in the dearest of its zones, and
    /// when that was read; `None` if it is not known.
    fn quote(&self, pool: &Pool) -> Option<Quote> {
        let latest = self.latest.borrow();
        let reading = latest.as_ref()?;
        let known = self.zones.borrow();
        let zones: Option<BTreeSet<&String>> =
            pool.subnets.iter().map(|it| known.get(it)).collect();
        let zones = zones.filter(|zones| !zones.is_empty());
        let counts = |zone: &String| zones.as_ref().is_none_or(|zones| zones.contains(zone));
        let types = pool.types.iter().filter_map(|one| reading.prices.get(one));
        let prices = types.flatten().filter(|(zone, _)| counts(zone));
        let price = prices.map(|(_, price)| *price).max()?;
        Some(Quote {
            price,
            read_at: reading.at,
        })
    }
}

/// What EC2 says of a price: its pool, since when it holds, and how high it is;
/// `None` if it is no price.
fn understand(shown: &SpotPrice) -> Option<((String, String), i128, MicroUsdPerHour)> {
    let instance_type = shown.instance_type()?.as_str().to_owned();
    let zone = shown.availability_zone()?.to_owned();
    if !PRODUCTS.contains(&shown.product_description()?.as_str()) {
        return None;
    }
    let at = shown
        .timestamp()
        .map_or(0, aws_smithy_types::DateTime::as_nanos);
    let price = read_price(shown.spot_price()?)?;
    Some(((instance_type, zone), at, price))
}

/// Dollars an hour, exactly or rounded up to a millionth. What is free is a
/// mistake: nothing would limit how much of it is bought.
fn read_price(text: &str) -> Option<MicroUsdPerHour> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let (kept, rest) = fraction.split_at(fraction.len().min(6));
    let price = MicroUsdPerHour::parse(&format!("{whole}.{kept}")).ok()?;
    let up = u64::from(rest.bytes().any(|byte| byte != b'0'));
    let price = MicroUsdPerHour::new(price.get().saturating_add(up));
    (price > MicroUsdPerHour::ZERO).then_some(price)
}

/// Where instances of an offering may come from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pool {
    offering: String,
    types: Vec<String>,
    /// None leaves the zone open.
    subnets: Vec<String>,
}

/// What the spot offerings of one fleet cost, as far as its file does not say.
#[derive(Debug)]
pub struct FleetPrices {
    fleet: String,
    prices: Rc<SpotPrices>,
    pools: Vec<Pool>,
    /// What was told last.
    told: RefCell<Quotes>,
}

impl FleetPrices {
    /// Those of a fleet with `settings`; `last` are the ones its newest decision
    /// was made with, which hold until others are read. `None` if no price of it
    /// is to be read.
    pub fn of_ec2(
        fleet: &str,
        settings: &Ec2Settings,
        prices: &Rc<SpotPrices>,
        last: &Quotes,
    ) -> Option<Self> {
        let spot = settings.offerings.iter().filter(|one| one.is_spot_priced());
        let pools = spot.map(|one| Pool {
            offering: one.offering.name.clone(),
            types: one.types.clone(),
            subnets: one.subnets.clone(),
        });
        Self::open(fleet, pools.collect(), prices, last)
    }

    /// The same for a fleet that is an Auto Scaling group.
    pub fn of_group(
        fleet: &str,
        settings: &AsgSettings,
        prices: &Rc<SpotPrices>,
        last: &Quotes,
    ) -> Option<Self> {
        let pool = settings.is_spot_priced().then(|| Pool {
            offering: settings.offering().name,
            types: vec![settings.instance_type.clone()],
            subnets: Vec::new(),
        });
        Self::open(fleet, pool.into_iter().collect(), prices, last)
    }

    fn open(fleet: &str, pools: Vec<Pool>, prices: &Rc<SpotPrices>, last: &Quotes) -> Option<Self> {
        if pools.is_empty() {
            return None;
        }
        let mut told = last.clone();
        told.retain(|name, _| pools.iter().any(|pool| pool.offering == *name));
        for pool in &pools {
            prices.types.borrow_mut().extend(pool.types.clone());
            prices.subnets.borrow_mut().extend(pool.subnets.clone());
        }
        Some(Self {
            fleet: fleet.to_owned(),
            prices: Rc::clone(prices),
            pools,
            told: RefCell::new(told),
        })
    }

    /// The newest there are, by offering. Begins to read newer ones if it is
    /// time; those come with a later call. Must be called on a `LocalSet`.
    pub fn now(&self) -> Quotes {
        self.prices.refresh();
        let mut told = self.told.borrow_mut();
        for pool in &self.pools {
            let Some(quote) = self.prices.quote(pool) else {
                continue;
            };
            let before = told.insert(pool.offering.clone(), quote);
            if before.is_none_or(|before| before.price != quote.price) {
                let before = before.map(|before| before.price.to_string());
                info!(
                    fleet = %self.fleet,
                    offering = %pool.offering,
                    usd_per_hour = %quote.price,
                    before,
                    "a spot price has changed"
                );
            }
        }
        told.clone()
    }
}

#[cfg(test)]
#[path = "spot_prices_tests.rs"]
mod tests;
