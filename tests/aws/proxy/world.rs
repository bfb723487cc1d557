//! What EC2 does that the local servers do not: tokens, capacity by pool, boots
//! and ends that take time, listings that lag and come in pages.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::Answer;
use super::call::{Call, Form, Protocol, field, numbered, with};
use super::xml;

/// Listings by pages that someone may still ask for.
const SNAPSHOTS_MAX: usize = 256;

/// Earlier listings that a stale answer may repeat.
const HISTORY_MAX: usize = 8;

/// What a launch asks of EC2's stock; a `None` stands for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) instance_type: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) spot: Option<bool>,
}

impl Pool {
    fn holds(&self, wanted: &Pool) -> bool {
        fn agrees<T: PartialEq>(rule: Option<&T>, wanted: Option<&T>) -> bool {
            rule.is_none() || rule == wanted
        }
        agrees(self.instance_type.as_ref(), wanted.instance_type.as_ref())
            && agrees(self.zone.as_ref(), wanted.zone.as_ref())
            && agrees(self.spot.as_ref(), wanted.spot.as_ref())
    }
}

/// Earlier answers to questions: what a stale one repeats.
#[derive(Debug)]
pub(crate) struct History<T>(BTreeMap<Form, VecDeque<T>>);

impl<T> Default for History<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Clone> History<T> {
    /// What is told to `call`: the answer of now, or an earlier one.
    pub(crate) fn told(&mut self, call: &Call, now: T, stale: bool) -> T {
        let history = self.0.entry(call.parameters()).or_default();
        let earlier = history.front().cloned();
        history.push_back(now.clone());
        if history.len() > HISTORY_MAX {
            history.pop_front();
        }
        earlier.filter(|_| stale).unwrap_or(now)
    }
}

/// What is remembered of an instance that was launched through the proxy.
#[derive(Clone, Debug)]
pub(crate) struct Launched {
    at: Instant,
    pub(crate) pool: Pool,
    pub(crate) fleet: Option<String>,
    token: Option<String>,
    ended: Option<Instant>,
}

/// How EC2 behaves here. All times are real ones, scaled by the test.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// How many more instances a pool has; pools not named have any number.
    pub(crate) capacity: Vec<(Pool, u64)>,
    /// What `CreateFleet` says of a pool that has none, if it is not that.
    pub(crate) fleet_errors: Vec<(Pool, &'static str)>,
    /// The most one launch gives.
    pub(crate) launch_at_most: Option<u64>,
    /// The most instances on a page, asked for or not.
    pub(crate) page_size: Option<usize>,
    /// How long an instance is `pending`.
    pub(crate) boot: Duration,
    /// How long a new instance is in no listing.
    pub(crate) hidden: Duration,
    /// How long the status checks of a running instance go on.
    pub(crate) checks: Duration,
    /// Instances whose system fails its status check.
    pub(crate) impaired: BTreeSet<String>,
    /// How long an ended instance is `shutting-down`.
    pub(crate) ending: Duration,
    /// How long an ended instance is listed at all.
    pub(crate) remembered: Option<Duration>,
    /// What spot costs now, in dollars an hour by type; as the server says if empty.
    pub(crate) spot: BTreeMap<String, String>,
    /// Zones by subnet, as the server has them.
    subnets: BTreeMap<String, String>,
    pub(crate) launched: BTreeMap<String, Launched>,
    tokens: BTreeMap<(String, String), (Form, Answer)>,
    history: History<Vec<String>>,
    snapshots: BTreeMap<u64, Vec<String>>,
    snapshots_made: u64,
}

/// What becomes of a launch.
pub(crate) enum Grant {
    /// The server is asked for this, from this pool; others gave nothing, for
    /// the reason that has this code.
    Forward(Form, Pool, Vec<(Pool, String)>),
    /// Nothing is launched.
    Refuse(Answer),
}

impl World {
    pub(crate) fn new(subnets: BTreeMap<String, String>) -> Self {
        Self {
            subnets,
            ..Self::default()
        }
    }

    /// The prices of the types asked for, the same in every zone; `None` if those
    /// of the server hold.
    pub(crate) fn spot_prices(&self, call: &Call) -> Option<Answer> {
        if self.spot.is_empty() {
            return None;
        }
        let types = numbered(&call.parameters(), "InstanceType");
        let priced = types
            .iter()
            .filter_map(|one| Some((one, self.spot.get(one)?)));
        let zones: BTreeSet<&String> = self.subnets.values().collect();
        let rows = priced.flat_map(|(one, price)| {
            zones.iter().map(move |zone| {
                format!(
                    "<item><instanceType>{one}</instanceType>\
                     <productDescription>Linux/UNIX</productDescription>\
                     <spotPrice>{price}</spotPrice><timestamp>2026-03-01T11:00:00.000Z</timestamp>\
                     <availabilityZone>{zone}</availabilityZone></item>"
                )
            })
        });
        let rows: String = rows.collect();
        Some(Answer::xml(format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DescribeSpotPriceHistoryResponse \
             xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>proxy</requestId>\
             <spotPriceHistorySet>{rows}</spotPriceHistorySet></DescribeSpotPriceHistoryResponse>"
        )))
    }

    /// The answer that was given to a launch with this token, or the refusal of
    /// one that asks for something else by it.
    pub(crate) fn repeated(&self, call: &Call) -> Option<Answer> {
        let key = (call.action.clone(), call.field("ClientToken")?.to_owned());
        let (parameters, answer) = self.tokens.get(&key)?;
        if *parameters == call.parameters() {
            return Some(answer.clone());
        }
        Some(Answer::refusal(
            call.protocol,
            400,
            "IdempotentParameterMismatch",
            "Arguments on this idempotent request are inconsistent with arguments used in \
             previous request(s).",
        ))
    }

    pub(crate) fn grant(&mut self, call: &Call) -> Grant {
        match call.action.as_str() {
            "RunInstances" => self.grant_run(call),
            _ => self.grant_fleet(call),
        }
    }

    fn grant_run(&mut self, call: &Call) -> Grant {
        let pool = Pool {
            instance_type: call.field("InstanceType").map(str::to_owned),
            zone: self.zone(&call.form, "Placement.AvailabilityZone", "SubnetId"),
            spot: Some(call.field("InstanceMarketOptions.MarketType") == Some("spot")),
        };
        let most = call.number("MaxCount").unwrap_or(1);
        let least = call.number("MinCount").unwrap_or(1);
        let count = self.available(&pool, most);
        if count < least.max(1) {
            return Grant::Refuse(Answer::no_capacity(&pool));
        }
        // Both servers launch the least of what may be launched, EC2 the most.
        let form = with(&call.form, "MinCount", Some(count.to_string()));
        let form = with(&form, "MaxCount", Some(count.to_string()));
        Grant::Forward(form, pool, Vec::new())
    }

    /// An instant fleet takes what it gets from the first pool that has any, as
    /// the strategy `prioritized` does, and tells what the others lacked.
    fn grant_fleet(&mut self, call: &Call) -> Grant {
        let spot = call.field("TargetCapacitySpecification.DefaultTargetCapacityType");
        let spot = Some(spot == Some("spot"));
        let target = "TargetCapacitySpecification.TotalTargetCapacity";
        let most = call.number(target).unwrap_or(0);
        let mut empty = Vec::new();
        for prefix in overrides(&call.form) {
            let pool = Pool {
                instance_type: field(&call.form, &format!("{prefix}.InstanceType"))
                    .map(str::to_owned),
                zone: self.zone(
                    &call.form,
                    &format!("{prefix}.AvailabilityZone"),
                    &format!("{prefix}.SubnetId"),
                ),
                spot,
            };
            let count = self.available(&pool, most);
            if count > 0 {
                let form = only_override(&call.form, &prefix);
                let form = with(&form, target, Some(count.to_string()));
                return Grant::Forward(form, pool, empty);
            }
            let code = self.fleet_errors.iter().find(|(rule, _)| rule.holds(&pool));
            let code = code.map_or("InsufficientInstanceCapacity", |(_, code)| code);
            empty.push((pool, code.to_owned()));
        }
        Grant::Refuse(Answer::empty_fleet(&Answer::fleet_errors(&empty)))
    }

    fn zone(&self, form: &Form, zone: &str, subnet: &str) -> Option<String> {
        let named = field(form, zone).map(str::to_owned);
        named.or_else(|| self.subnets.get(field(form, subnet)?).cloned())
    }

    fn available(&self, pool: &Pool, most: u64) -> u64 {
        let left = self.capacity.iter().filter(|(rule, _)| rule.holds(pool));
        let left = left.map(|(_, left)| *left).min().unwrap_or(u64::MAX);
        most.min(left).min(self.launch_at_most.unwrap_or(u64::MAX))
    }

    /// Takes in the server's answer to a launch; what is told instead.
    pub(crate) fn launched(
        &mut self,
        call: &Call,
        pool: &Pool,
        answer: Answer,
        now: Instant,
    ) -> Answer {
        if !answer.is_good() {
            return answer;
        }
        let text = answer.text();
        for id in xml::instance_ids(&text) {
            for (_, left) in self
                .capacity
                .iter_mut()
                .filter(|(rule, _)| rule.holds(pool))
            {
                *left = left.saturating_sub(1);
            }
            let launched = Launched {
                at: now,
                pool: pool.clone(),
                fleet: call.fleet.clone(),
                token: call.field("ClientToken").map(str::to_owned),
                ended: None,
            };
            self.launched.insert(id, launched);
        }
        let pending = xml::with_content(&text, "instanceState", PENDING);
        let answer = answer.with_text(pending);
        if let Some(token) = call.field("ClientToken") {
            let key = (call.action.clone(), token.to_owned());
            self.tokens.insert(key, (call.parameters(), answer.clone()));
        }
        answer
    }

    /// How many instances every launch made, ended ones too, by its token.
    pub(crate) fn made_by_token(&self) -> BTreeMap<String, u32> {
        let mut made = BTreeMap::new();
        for token in self.launched.values().filter_map(|one| one.token.clone()) {
            *made.entry(token).or_default() += 1;
        }
        made
    }

    /// Takes in the server's answer to an end of instances.
    pub(crate) fn ended(&mut self, call: &Call, answer: Answer, now: Instant) -> Answer {
        if !answer.is_good() {
            return answer;
        }
        for id in &call.instances {
            if let Some(launched) = self.launched.get_mut(id) {
                launched.ended.get_or_insert(now);
            }
        }
        if self.ending.is_zero() {
            return answer;
        }
        let text = xml::with_content(&answer.text(), "currentState", SHUTTING_DOWN);
        answer.with_text(text)
    }

    /// The request for a whole listing: pages and states are made here.
    pub(crate) fn whole_listing(call: &Call) -> (Form, Option<BTreeSet<String>>) {
        // moto ends at a hundred unless it is told otherwise.
        let mut form = with(&call.form, "MaxResults", Some("10000".to_owned()));
        let state = form.iter().find_map(|(key, value)| {
            (value == "instance-state-name")
                .then(|| key.strip_suffix(".Name").map(str::to_owned))?
        });
        let Some(prefix) = state else {
            return (form, None);
        };
        let (own, others): (Form, Form) = form
            .into_iter()
            .partition(|(key, _)| key.starts_with(&format!("{prefix}.")));
        form = others;
        let values = own.into_iter().filter(|(key, _)| key.contains(".Value."));
        (
            renumbered(form),
            Some(values.map(|(_, value)| value).collect()),
        )
    }

    /// The server's listing as EC2 would tell it, one reservation per instance.
    pub(crate) fn listing(
        &mut self,
        call: &Call,
        answer: &Answer,
        states: Option<&BTreeSet<String>>,
        stale: bool,
        now: Instant,
    ) -> Vec<String> {
        let text = answer.text();
        let mut listed = Vec::new();
        for reservation in xml::items(list(&text, "reservationSet")) {
            let set = list(reservation, "instancesSet");
            for instance in xml::items(set) {
                let Some(instance) = self.shown(instance, now) else {
                    continue;
                };
                if states.is_none_or(|states| states.contains(state_of(&instance))) {
                    let one = format!("<item>{instance}</item>");
                    listed.push(format!("<item>{}</item>", reservation.replace(set, &one)));
                }
            }
        }
        self.history.told(call, listed, stale)
    }

    /// An instance as a listing shows it now, if it does.
    fn shown(&self, instance: &str, now: Instant) -> Option<String> {
        let id = xml::content(instance, "instanceId")?;
        let Some(launched) = self.launched.get(id) else {
            return Some(instance.to_owned());
        };
        let since = |then: Instant| now.saturating_duration_since(then);
        if since(launched.at) < self.hidden {
            return None;
        }
        let gone = launched.ended.map(since);
        if gone.is_some_and(|gone| self.remembered.is_some_and(|most| gone > most)) {
            return None;
        }
        let mut shown = instance.to_owned();
        let state = match gone {
            Some(gone) if gone < self.ending => Some(SHUTTING_DOWN),
            Some(_) => Some(TERMINATED),
            None if since(launched.at) < self.boot => Some(PENDING),
            None => None,
        };
        // Someone else may have ended it: then the server knows better.
        let ended_elsewhere =
            gone.is_none() && matches!(state_of(instance), "terminated" | "shutting-down");
        if let Some(state) = state.filter(|_| !ended_elsewhere) {
            shown = xml::with_content(&shown, "instanceState", state);
        }
        if let Some(zone) = &launched.pool.zone {
            shown = xml::with_content(&shown, "availabilityZone", zone);
        }
        if launched.pool.spot == Some(true) && !shown.contains("<instanceLifecycle>") {
            shown.push_str("<instanceLifecycle>spot</instanceLifecycle>");
        }
        if let Some(token) = &launched.token
            && !shown.contains("<clientToken>")
        {
            shown += "<clientToken>";
            shown += token;
            shown += "</clientToken>";
        }
        Some(shown)
    }

    /// The server's status checks, which it passes at once, as EC2 tells them:
    /// one that goes on or has failed is not `ok`.
    pub(crate) fn checked(&self, answer: Answer, now: Instant) -> Answer {
        if !answer.is_good() {
            return answer;
        }
        let text = answer.text();
        let set = list(&text, "instanceStatusSet").to_owned();
        let shown = xml::items(&set).into_iter().filter_map(|one| {
            let id = xml::content(one, "instanceId")?;
            let since = self.launched.get(id).map(|launched| now - launched.at);
            if since.is_some_and(|since| since < self.boot + self.checks) {
                // Whoever asks for those that pass is not told of it at all.
                return None;
            }
            let system = xml::content(one, "systemStatus").unwrap_or_default();
            let impaired = xml::with_content(system, "status", "impaired");
            Some(if self.impaired.contains(id) {
                format!("<item>{}</item>", one.replace(system, &impaired))
            } else {
                format!("<item>{one}</item>")
            })
        });
        let shown: String = shown.collect();
        answer.with_text(xml::with_content(&text, "instanceStatusSet", &shown))
    }

    /// One page of `listed`, and the token of the rest.
    pub(crate) fn first_page(&mut self, call: &Call, listed: Vec<String>) -> Answer {
        let serial = self.snapshots_made;
        self.snapshots_made += 1;
        self.snapshots.insert(serial, listed);
        if self.snapshots.len() > SNAPSHOTS_MAX {
            self.snapshots.pop_first();
        }
        self.page(call, serial, 0)
    }

    /// A page by the token of an earlier one.
    pub(crate) fn next_page(&self, call: &Call, token: &str) -> Answer {
        let place = token
            .strip_prefix("page-")
            .and_then(|rest| rest.split_once('-'));
        let place =
            place.and_then(|(serial, from)| Some((serial.parse().ok()?, from.parse().ok()?)));
        match place {
            Some((serial, from)) if self.snapshots.contains_key(&serial) => {
                self.page(call, serial, from)
            }
            _ => Answer::refusal(
                Protocol::Ec2,
                400,
                "InvalidNextToken",
                "The specified value for NextToken is not valid.",
            ),
        }
    }

    fn page(&self, call: &Call, serial: u64, from: usize) -> Answer {
        let asked = call
            .number("MaxResults")
            .and_then(|most| usize::try_from(most).ok());
        let size = asked.unwrap_or(1000).min(self.page_size.unwrap_or(1000));
        let listed = &self.snapshots[&serial];
        let to = listed.len().min(from + size);
        let next = if to < listed.len() {
            format!("<nextToken>page-{serial}-{to}</nextToken>")
        } else {
            String::new()
        };
        Answer::xml(format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DescribeInstancesResponse \
             xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>proxy</requestId>\
             <reservationSet>{}</reservationSet>{next}</DescribeInstancesResponse>",
            listed[from.min(to)..to].concat()
        ))
    }
}

const PENDING: &str = "<code>0</code><name>pending</name>";
const SHUTTING_DOWN: &str = "<code>32</code><name>shutting-down</name>";
const TERMINATED: &str = "<code>48</code><name>terminated</name>";

fn list<'a>(text: &'a str, name: &str) -> &'a str {
    xml::content(text, name).unwrap_or_default()
}

fn state_of(instance: &str) -> &str {
    let state = xml::content(instance, "instanceState").unwrap_or_default();
    xml::content(state, "name").unwrap_or_default()
}

/// The prefixes of the overrides of an instant fleet, in their order.
fn overrides(form: &Form) -> Vec<String> {
    let mut prefixes: Vec<String> = Vec::new();
    for (key, _) in form {
        let Some((config, rest)) = key.split_once(".Overrides.") else {
            continue;
        };
        let number = rest.split('.').next().unwrap_or_default();
        let prefix = format!("{config}.Overrides.{number}");
        if !prefixes.contains(&prefix) {
            prefixes.push(prefix);
        }
    }
    prefixes
}

/// The request with this override only.
fn only_override(form: &Form, prefix: &str) -> Form {
    let config = prefix.split(".Overrides.").next().unwrap_or_default();
    let renamed = |key: &str| {
        if let Some(rest) = key.strip_prefix(&format!("{prefix}.")) {
            return Some(format!("LaunchTemplateConfigs.1.Overrides.1.{rest}"));
        }
        if !key.starts_with("LaunchTemplateConfigs.") {
            return Some(key.to_owned());
        }
        let rest = key.strip_prefix(&format!("{config}."))?;
        let other = rest.starts_with("Overrides.");
        (!other).then(|| format!("LaunchTemplateConfigs.1.{rest}"))
    };
    let kept = form.iter();
    kept.filter_map(|(key, value)| Some((renamed(key)?, value.clone())))
        .collect()
}

/// The filters numbered from 1 without a gap: servers stop reading at one.
fn renumbered(form: Form) -> Form {
    let mut numbers: Vec<String> = Vec::new();
    form.into_iter()
        .map(|(key, value)| {
            let Some((number, rest)) = key
                .strip_prefix("Filter.")
                .and_then(|rest| rest.split_once('.'))
            else {
                return (key, value);
            };
            let place = numbers.iter().position(|known| known == number);
            let place = place.unwrap_or_else(|| {
                numbers.push(number.to_owned());
                numbers.len() - 1
            });
            (format!("Filter.{}.{rest}", place + 1), value)
        })
        .collect()
}
