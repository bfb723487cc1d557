//! Readings from Amazon `CloudWatch`: a metric, or a metric maths expression.
//!
//! A statistic belongs to a period, and is true once the period has ended: a
//! reading is the newest period that is over, and its age counts from the end
//! of it. A period that is still open is never taken. All fleets that read
//! within one tick share their calls (`shared`).

mod expression;
#[cfg(feature = "aws")]
mod query;
#[cfg(feature = "aws")]
mod shared;

use std::collections::BTreeMap;
use std::time::Duration;

use windlass_policies::fields::Fields;
use windlass_policies::signal::SignalKind;

pub use expression::Expression;
#[cfg(feature = "aws")]
pub use shared::CloudWatch;

/// A minute, as fine as most metrics of AWS are.
const PERIOD_DEFAULT: Duration = Duration::from_mins(1);

/// `CloudWatch` takes no longer period.
const PERIOD_MAX: Duration = Duration::from_hours(24);

/// The only periods below a minute; metrics stored that finely must be
/// published so ("high resolution").
const FINE_PERIODS: [u64; 5] = [1, 5, 10, 20, 30];

/// Numbers that come later than this are no basis for a decision.
const DELAY_MAX: Duration = Duration::from_hours(1);

/// `CloudWatch` takes no more dimensions of one metric.
const DIMENSIONS_MAX: usize = 30;

/// Enough for a formula a person can check; `CloudWatch` itself takes 500 in all.
const METRICS_MAX: usize = 20;

/// What one signal asks of `CloudWatch`. Equal ones of several fleets are asked
/// once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CloudWatchSpec {
    /// What is computed.
    pub what: What,
    /// The length of the periods that `CloudWatch` summarises.
    pub period: Duration,
    /// How long after its end a period is left alone, because numbers of it
    /// may still come in.
    pub delay: Duration,
}

/// A metric, or numbers made of several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// One statistic of one metric.
    Metric(Metric),
    /// A formula over named metrics.
    Maths {
        /// The formula.
        expression: Expression,
        /// The metrics it names; empty if it finds them itself (`SEARCH`).
        metrics: BTreeMap<String, Metric>,
    },
}

/// One statistic of one metric.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Metric {
    /// Such as `AWS/SQS`.
    pub namespace: String,
    /// Its name, such as `ApproximateAgeOfOldestMessage`.
    pub name: String,
    /// All its dimensions: `CloudWatch` keeps a metric of its own for each set.
    pub dimensions: BTreeMap<String, String>,
    /// A statistic in the words of `CloudWatch`, such as `Average` or `p95`.
    pub statistic: String,
}

impl CloudWatchSpec {
    /// The age of the oldest message of the SQS queue `name`, in seconds.
    pub fn oldest_message(name: &str) -> Self {
        let dimensions = [("QueueName".to_owned(), name.to_owned())];
        Self {
            what: What::Metric(Metric {
                namespace: "AWS/SQS".to_owned(),
                name: "ApproximateAgeOfOldestMessage".to_owned(),
                dimensions: dimensions.into(),
                statistic: "Maximum".to_owned(),
            }),
            period: PERIOD_DEFAULT,
            delay: Duration::ZERO,
        }
    }

    /// Why this is no number of `kind`, if that can be told.
    pub fn misfit(&self, kind: SignalKind) -> Option<String> {
        let What::Metric(metric) = &self.what else {
            return None;
        };
        let statistic = metric.statistic.as_str();
        let adds_up = matches!(statistic, "Sum" | "SampleCount") || is_class(statistic, "ts");
        match kind {
            SignalKind::Rate if adds_up => Some(format!(
                "a {statistic} counts a whole period, and a rate is events a second; write it as \
                 an expression, such as \"m1 / PERIOD(m1)\""
            )),
            SignalKind::Counter => Some(
                "CloudWatch keeps statistics of periods and no counter that only rises; make it a \
                 rate, with an expression such as \"m1 / PERIOD(m1)\""
                    .to_owned(),
            ),
            SignalKind::Total
            | SignalKind::PerWorker
            | SignalKind::Ratio
            | SignalKind::Rate
            | SignalKind::Duration => None,
        }
    }
}

/// Reads the keys of a signal whose `source` is `cloudwatch`.
pub(super) fn read_spec(fields: &mut Fields<'_>) -> Option<CloudWatchSpec> {
    let period = read_period(fields);
    let delay = fields.or_within("delay", Duration::ZERO, Duration::ZERO..=DELAY_MAX);
    let what = if fields.has("expression") {
        read_maths(fields)
    } else {
        // An expression is missing just as much as a metric is.
        if !fields.has("metric") {
            fields.problem(
                "metric",
                "missing; write the name of a metric, or `expression`",
            );
            let _reported = fields.raw("metric");
        }
        if fields.has("metrics") {
            fields.problem(
                "metrics",
                "is for an expression; write `expression`, or remove it",
            );
            let _reported = fields.raw("metrics");
        }
        read_metric(fields).map(What::Metric)
    };
    Some(CloudWatchSpec {
        what: what?,
        period: period?,
        delay,
    })
}

fn read_period(fields: &mut Fields<'_>) -> Option<Duration> {
    if !fields.has("period") {
        let _known = fields.raw("period");
        return Some(PERIOD_DEFAULT);
    }
    let bounds = Duration::from_secs(1)..=PERIOD_MAX;
    let period = fields.optional_within("period", bounds)?;
    let secs = period.as_secs();
    let whole = period.subsec_nanos() == 0;
    if whole && (secs.is_multiple_of(60) || FINE_PERIODS.contains(&secs)) {
        return Some(period);
    }
    fields.problem(
        "period",
        "CloudWatch has periods of 1, 5, 10, 20, 30 and whole times 60 seconds; write one of them",
    );
    None
}

fn read_maths(fields: &mut Fields<'_>) -> Option<What> {
    for key in ["namespace", "metric", "dimensions", "statistic"] {
        if fields.raw(key).is_some() {
            let message = "stands beside `expression`; put it into a table under `metrics`";
            fields.problem(key, message);
        }
    }
    let mut written = 0;
    let read: Vec<(String, Metric)> = fields.named_tables("metrics", |name, table| {
        written += 1;
        let metric = read_metric(table);
        if let Err(message) = expression::check_name(name) {
            table.problem_here(message);
            return None;
        }
        Some((name.to_owned(), metric?))
    });
    let text = fields.optional::<String>("expression")?;
    let names: Vec<&str> = read.iter().map(|(name, _)| name.as_str()).collect();
    if read.len() < written {
        // A metric that is wrong has been reported; which names are right is
        // not known then.
        return None;
    }
    if written > METRICS_MAX {
        fields.problem(
            "metrics",
            format!("{written} metrics; write {METRICS_MAX} at most"),
        );
        return None;
    }
    match Expression::parse(&text, &names) {
        Ok(expression) => Some(What::Maths {
            expression,
            metrics: read.into_iter().collect(),
        }),
        Err(message) => {
            fields.problem("expression", message);
            None
        }
    }
}

fn read_metric(fields: &mut Fields<'_>) -> Option<Metric> {
    let namespace = filled(fields, "namespace", "a namespace such as \"AWS/SQS\"");
    let name = filled(fields, "metric", "the name of a metric");
    let statistic = filled(
        fields,
        "statistic",
        "a statistic such as \"Average\" or \"p95\"",
    );
    let dimensions = read_dimensions(fields);
    let statistic = statistic.filter(|statistic| {
        let known = is_statistic(statistic);
        if !known {
            fields.problem(
                "statistic",
                format!(
                    "`{statistic}` is no statistic of CloudWatch; write Average, Sum, Minimum, \
                     Maximum, SampleCount, IQM, or such as p95, tm99, wm99, tc90, ts90, TM(2%:98%), PR(:300)"
                ),
            );
        }
        known
    });
    Some(Metric {
        namespace: namespace?,
        name: name?,
        dimensions: dimensions?,
        statistic: statistic?,
    })
}

fn read_dimensions(fields: &mut Fields<'_>) -> Option<BTreeMap<String, String>> {
    if !fields.has("dimensions") {
        let _known = fields.raw("dimensions");
        return Some(BTreeMap::new());
    }
    fields.table("dimensions", |table| {
        let names: Vec<&str> = table.keys().collect();
        if names.len() > DIMENSIONS_MAX {
            table.problem_here(format!(
                "{} dimensions; a metric of CloudWatch has {DIMENSIONS_MAX} at most",
                names.len()
            ));
            return None;
        }
        let pair = |name: &str| Some((name.to_owned(), filled(table, name, "a value")?));
        names.into_iter().map(pair).collect()
    })
}

/// A text that must be there and not empty. What is missing is reported once,
/// even if the caller has done it.
fn filled(fields: &mut Fields<'_>, key: &str, what: &str) -> Option<String> {
    let text = if fields.has(key) {
        fields.optional::<String>(key)?
    } else if key == "metric" && !fields.path().contains(".metrics.") {
        return None;
    } else {
        fields.required::<String>(key, what)?
    };
    if text.trim().is_empty() {
        fields.problem(key, format!("is empty; write {what}"));
        return None;
    }
    Some(text)
}

/// Whether `CloudWatch` knows the statistic ("`CloudWatch` statistics definitions",
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Statistics-definitions.html>).
fn is_statistic(text: &str) -> bool {
    const PLAIN: [&str; 6] = ["Average", "Sum", "Minimum", "Maximum", "SampleCount", "IQM"];
    const CLASSES: [&str; 5] = ["p", "tm", "wm", "tc", "ts"];
    PLAIN.contains(&text)
        || CLASSES.iter().any(|class| is_class(text, class))
        || ["TM", "WM", "TC", "TS", "PR"]
            .iter()
            .any(|class| is_range(text, class))
}

/// `p95`, `tm99.9`: a class and a percentage from 0 to 100.
fn is_class(text: &str, class: &str) -> bool {
    text.strip_prefix(class).is_some_and(is_percent)
}

/// `TM(2%:98%)`, `PR(:300)`: a class and bounds, one of which may be left out.
fn is_range(text: &str, class: &str) -> bool {
    let inside = text
        .strip_prefix(class)
        .and_then(|rest| rest.strip_prefix('('))
        .and_then(|rest| rest.strip_suffix(')'));
    let Some((low, high)) = inside.and_then(|inside| inside.split_once(':')) else {
        return false;
    };
    let percent = |bound: &str| bound.strip_suffix('%').is_some_and(is_percent);
    let value = |bound: &str| is_decimal(bound);
    let both = |fits: &dyn Fn(&str) -> bool| {
        (low.is_empty() || fits(low)) && (high.is_empty() || fits(high))
    };
    // Of percentages a percentile rank knows nothing; the others take both.
    !(low.is_empty() && high.is_empty()) && (both(&value) || (class != "PR" && both(&percent)))
}

fn is_percent(text: &str) -> bool {
    is_decimal(text) && text.parse::<f64>().is_ok_and(|percent| percent <= 100.0)
}

/// Digits, with a point and digits after it or not.
fn is_decimal(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(text),
    }
}

#[cfg(test)]
mod tests {
    use windlass_policies::fields::Document;

    use super::*;

    fn read(text: &str) -> Result<CloudWatchSpec, String> {
        Document::parse(text)
            .expect("TOML")
            .read(read_spec)
            .map_err(|problems| problems.to_string())
    }

    const METRIC: &str = "namespace = \"AWS/SQS\"\nmetric = \"NumberOfMessagesSent\"\n\
        dimensions = { QueueName = \"jobs\" }\nstatistic = \"Sum\"\n";

    #[test]
    fn a_metric_is_read_with_its_defaults() {
        let spec = read(METRIC).expect("sound");
        assert_eq!(spec.period, Duration::from_mins(1));
        assert_eq!(spec.delay, Duration::ZERO);
        let What::Metric(metric) = &spec.what else {
            panic!("{spec:?}");
        };
        assert_eq!(metric.dimensions["QueueName"], "jobs");
        assert_eq!(metric.statistic, "Sum");
    }

    #[test]
    fn a_formula_has_its_metrics_by_name() {
        let text = "expression = \"busy / slots\"\nperiod = \"5m\"\ndelay = \"2m\"\n\
            [metrics.busy]\nnamespace = \"Own\"\nmetric = \"Busy\"\nstatistic = \"Average\"\n\
            [metrics.slots]\nnamespace = \"Own\"\nmetric = \"Slots\"\nstatistic = \"Average\"\n";
        let spec = read(text).expect("sound");
        let What::Maths { metrics, .. } = &spec.what else {
            panic!("{spec:?}");
        };
        assert_eq!(metrics.keys().collect::<Vec<_>>(), ["busy", "slots"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_to_write() {
        let maths = "expression = \"m1\"\n[metrics.m1]\nnamespace = \"A\"\nmetric = \"B\"\n";
        for (text, told) in [
            (String::new(), "metric: missing"),
            (
                format!("{METRIC}period = \"90s\""),
                "period: CloudWatch has periods of",
            ),
            (format!("{METRIC}period = \"1.5s\""), "period:"),
            (
                format!("{METRIC}delay = \"2h\""),
                "delay: \"2h\" is out of bounds",
            ),
            (
                METRIC.replace("Sum", "Mean"),
                "statistic: `Mean` is no statistic",
            ),
            (
                METRIC.replace("\"jobs\"", "\"\""),
                "dimensions.QueueName: is empty",
            ),
            (
                format!("expression = \"m1\"\n{METRIC}"),
                "metric: stands beside `expression`",
            ),
            (maths.to_owned(), "metrics.m1.statistic: missing"),
            (
                format!("{METRIC}[metrics.m1]\nmetric = \"B\""),
                "metrics: is for an expression",
            ),
        ] {
            let problems = read(&text).expect_err(&text);
            assert!(problems.contains(told), "{text}: {problems}");
        }
    }

    #[test]
    fn statistics_are_those_of_cloudwatch() {
        for good in [
            "Average",
            "SampleCount",
            "IQM",
            "p95",
            "p99.9",
            "p100",
            "tm99",
            "wm90",
            "tc50",
            "ts10",
            "TM(2%:98%)",
            "TM(:300)",
            "PR(:300)",
            "PR(100:2000)",
            "TS(80%:)",
            "WM(10:20.5)",
        ] {
            assert!(is_statistic(good), "{good}");
        }
        for bad in [
            "average",
            "P95",
            "p",
            "p101",
            "p-1",
            "p9e1",
            "tm",
            "PR(2%:98%)",
            "TM(:)",
            "TM(2:98",
            "TM(2%:98)",
            "max",
            "",
            "pNaN",
            "p1.",
        ] {
            assert!(!is_statistic(bad), "{bad}");
        }
    }

    #[test]
    fn a_statistic_that_is_no_number_of_its_kind_is_told() {
        let sum = read(METRIC).expect("sound");
        assert!(
            sum.misfit(SignalKind::Rate)
                .expect("no rate")
                .contains("PERIOD(m1)")
        );
        assert!(sum.misfit(SignalKind::Counter).is_some());
        assert_eq!(sum.misfit(SignalKind::Total), None);
        let mean = read(&METRIC.replace("Sum", "Average")).expect("sound");
        assert_eq!(mean.misfit(SignalKind::Rate), None);
    }
}
