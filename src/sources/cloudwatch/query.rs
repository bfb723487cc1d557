//! From specs to calls of `GetMetricData`, and from its answers to readings.
//! Nothing here asks anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_cloudwatch::types::{
    Dimension, MetricDataQuery, MetricDataResult, MetricStat, StatusCode,
};
use windlass_policies::signal::{Absence, Completeness, Reading, Sample};
use windlass_policies::units::Timestamp;

use super::{CloudWatchSpec, Metric, What};
use crate::sources::{unreachable_because, unusable};

/// The most queries `CloudWatch` takes in one call.
const QUERIES_MAX: u64 = 500;

/// The most numbers `CloudWatch` puts into one page of an answer.
const POINTS_MAX: u64 = 100_800;

/// Periods below a minute are kept for so long only.
const FINE_KEPT: Duration = Duration::from_hours(3);

/// One call: queries of one period over one span of time.
#[derive(Debug)]
pub(super) struct Call {
    /// From when, in seconds since 1970; a whole number of periods.
    pub(super) start_secs: u64,
    /// Until when, exclusive: no period that is still open is in it.
    pub(super) end_secs: u64,
    /// What is asked, by id.
    pub(super) specs: BTreeMap<String, CloudWatchSpec>,
    /// The same in the words of `CloudWatch`.
    pub(super) queries: Vec<MetricDataQuery>,
}

/// The fewest calls that answer `wanted`, which says for each spec how old a
/// number may be.
pub(super) fn calls(wanted: &BTreeMap<CloudWatchSpec, Duration>, now: Timestamp) -> Vec<Call> {
    let mut by_period: BTreeMap<u64, Vec<(&CloudWatchSpec, Duration)>> = BTreeMap::new();
    for (spec, max_age) in wanted {
        let secs = spec.period.as_secs().max(1);
        by_period.entry(secs).or_default().push((spec, *max_age));
    }
    let mut calls = Vec::new();
    for (period, specs) in by_period {
        let reach = specs.iter().map(|(spec, max_age)| *max_age + spec.delay);
        let periods = periods_back(period, reach.max().unwrap_or_default());
        let end_secs = now.micros() / 1_000_000 / period * period;
        let start_secs = end_secs.saturating_sub(periods * period);
        let most = (POINTS_MAX / periods).clamp(1, QUERIES_MAX);
        let mut room = 0;
        for (spec, _) in specs {
            let size = size_of(spec);
            if size > room {
                room = most.max(size);
                calls.push(Call {
                    start_secs,
                    end_secs,
                    specs: BTreeMap::new(),
                    queries: Vec::new(),
                });
            }
            room -= size;
            if let Some(call) = calls.last_mut() {
                call.add(spec);
            }
        }
    }
    calls
}

/// How many periods of `period` seconds reach back for `reach`, one more for
/// the number that ends just then.
fn periods_back(period: u64, reach: Duration) -> u64 {
    let reach = if period < 60 {
        reach.min(FINE_KEPT)
    } else {
        reach
    };
    reach.as_secs().div_ceil(period) + 1
}

/// How many queries `spec` takes.
fn size_of(spec: &CloudWatchSpec) -> u64 {
    match &spec.what {
        What::Metric(_) => 1,
        What::Maths { metrics, .. } => 1 + metrics.len() as u64,
    }
}

impl Call {
    fn add(&mut self, spec: &CloudWatchSpec) {
        let id = format!("q{}", self.specs.len());
        // At most a day, by the bounds of the configuration.
        let period = i32::try_from(spec.period.as_secs()).unwrap_or(i32::MAX);
        match &spec.what {
            What::Metric(metric) => self.queries.push(query(&id, metric, period, true)),
            What::Maths {
                expression,
                metrics,
            } => {
                let prefix = format!("{id}_");
                for (name, metric) in metrics {
                    let id = format!("{prefix}{name}");
                    self.queries.push(query(&id, metric, period, false));
                }
                let maths = MetricDataQuery::builder()
                    .id(&id)
                    .expression(expression.prefixed(&prefix))
                    .period(period)
                    .return_data(true);
                self.queries.push(maths.build());
            }
        }
        self.specs.insert(id, spec.clone());
    }
}

fn query(id: &str, metric: &Metric, period: i32, shown: bool) -> MetricDataQuery {
    let dimensions = metric
        .dimensions
        .iter()
        .map(|(name, value)| Dimension::builder().name(name).value(value).build());
    let named = aws_sdk_cloudwatch::types::Metric::builder()
        .namespace(&metric.namespace)
        .metric_name(&metric.name)
        .set_dimensions(Some(dimensions.collect()))
        .build();
    let stat = MetricStat::builder()
        .metric(named)
        .period(period)
        .stat(&metric.statistic)
        .build();
    MetricDataQuery::builder()
        .id(id)
        .metric_stat(stat)
        .return_data(shown)
        .build()
}

/// What all pages of an answer say.
#[derive(Debug, Default)]
pub(super) struct Answer {
    found: BTreeMap<String, Found>,
    /// Messages about the answer as a whole: something is missing somewhere.
    warned: bool,
}

/// What an answer says about one query.
#[derive(Debug, Default)]
struct Found {
    labels: BTreeSet<String>,
    /// Beginning of the period, in seconds since 1970, and its number.
    points: BTreeMap<i64, f64>,
    status: Option<StatusCode>,
    messages: Vec<String>,
    /// Why it cannot be used at all.
    flaw: Option<&'static str>,
}

impl Answer {
    /// Takes in one page.
    pub(super) fn add(&mut self, results: &[MetricDataResult], warned: bool) {
        self.warned |= warned;
        for result in results {
            let Some(id) = result.id() else { continue };
            let found = self.found.entry(id.to_owned()).or_default();
            found.labels.insert(result.label().unwrap_or("").to_owned());
            // Pages before the last say that there is more to come.
            found.status = result.status_code().cloned();
            for message in result.messages() {
                let text = message.value().or(message.code()).unwrap_or("");
                found.messages.push(text.to_owned());
            }
            let (times, values) = (result.timestamps(), result.values());
            if times.len() != values.len() {
                found.flaw = Some("CloudWatch gave times and numbers that do not pair up");
            }
            for (time, value) in times.iter().zip(values) {
                if found.points.insert(time.secs(), *value).is_some() {
                    found.flaw = Some(SEVERAL);
                }
            }
            if found.labels.len() > 1 {
                found.flaw = Some(SEVERAL);
            }
        }
    }

    /// The reading of `spec`, which was asked as `id`.
    pub(super) fn reading(&self, id: &str, spec: &CloudWatchSpec, now: Timestamp) -> Reading {
        let Some(found) = self.found.get(id) else {
            return unusable("CloudWatch left this query out of its answer");
        };
        if let Some(flaw) = found.flaw {
            return unusable(flaw);
        }
        let partial = match &found.status {
            Some(StatusCode::Complete) => false,
            Some(StatusCode::PartialData) => true,
            Some(StatusCode::Forbidden) => {
                return unreachable_because("CloudWatch: this metric may not be read (Forbidden)");
            }
            Some(other) => {
                let why = found.messages.first().map_or("", String::as_str);
                return unreachable_because(format!("CloudWatch: {other} {why}").trim_end());
            }
            None => return unusable("CloudWatch gave no status"),
        };
        let newest = found.points.iter().rev().find_map(|(begins, value)| {
            let begins = Timestamp::from_secs(u64::try_from(*begins).ok()?);
            let ends = begins + spec.period;
            (ends + spec.delay <= now).then_some((ends, *value))
        });
        let Some((at, value)) = newest else {
            return Reading::Absent(Absence::NoData);
        };
        match Reading::complete(value, at) {
            Reading::Present(sample) if partial || self.warned || !found.messages.is_empty() => {
                Reading::Present(Sample {
                    completeness: Completeness::Partial,
                    ..sample
                })
            }
            reading => reading,
        }
    }
}

const SEVERAL: &str =
    "the expression gives several series; make one of them, such as with SUM(...)";

#[cfg(test)]
mod tests {
    use aws_sdk_cloudwatch::primitives::DateTime;
    use aws_sdk_cloudwatch::types::MessageData;

    use super::super::Expression;
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000_030);

    /// The minute before the one that is open at [`NOW`].
    const LAST: i64 = 999_999_960;

    fn spec(name: &str) -> CloudWatchSpec {
        CloudWatchSpec {
            period: Duration::from_mins(1),
            ..CloudWatchSpec::oldest_message(name)
        }
    }

    fn maths(name: &str) -> CloudWatchSpec {
        let expression = Expression::parse("m1 / m2", &["m1", "m2"]).expect("sound");
        let CloudWatchSpec {
            what: What::Metric(metric),
            ..
        } = spec(name)
        else {
            panic!("a metric");
        };
        let metrics = ["m1", "m2"].map(|name| (name.to_owned(), metric.clone()));
        CloudWatchSpec {
            what: What::Maths {
                expression,
                metrics: metrics.into(),
            },
            ..spec(name)
        }
    }

    fn planned(specs: impl Iterator<Item = CloudWatchSpec>) -> Vec<Call> {
        let wanted = specs.map(|spec| (spec, Duration::from_mins(5))).collect();
        calls(&wanted, NOW)
    }

    #[test]
    fn a_thousand_fleets_take_two_calls_and_equal_queries_one_place() {
        let calls = planned((0..1_000).map(|number| spec(&format!("queue-{number}"))));
        assert_eq!(
            calls
                .iter()
                .map(|call| call.queries.len())
                .collect::<Vec<_>>(),
            [500, 500]
        );
        let same = planned((0..1_000).map(|number| spec(&format!("queue-{}", number % 7))));
        assert_eq!(same.len(), 1);
        assert_eq!(same[0].queries.len(), 7);
    }

    #[test]
    fn a_formula_is_never_torn_apart() {
        // Three queries each: 166 fit into 500.
        let calls = planned((0..400).map(|number| maths(&format!("queue-{number}"))));
        let sizes: Vec<usize> = calls.iter().map(|call| call.queries.len()).collect();
        assert_eq!(sizes, [498, 498, 204]);
        for call in &calls {
            for query in &call.queries {
                let id = query.id().expect("named");
                let shown = query.return_data().expect("said");
                assert_eq!(shown, call.specs.contains_key(id), "{id}");
                if let Some(expression) = query.expression() {
                    assert_eq!(expression, format!("{id}_m1 / {id}_m2"));
                }
            }
        }
    }

    #[test]
    fn periods_have_calls_of_their_own_and_end_before_the_open_period() {
        let five = CloudWatchSpec {
            period: Duration::from_mins(5),
            ..spec("b")
        };
        let calls = planned([spec("a"), five].into_iter());
        let spans: Vec<(u64, u64)> = calls
            .iter()
            .map(|call| {
                (
                    NOW.micros() / 1_000_000 - call.end_secs,
                    call.end_secs - call.start_secs,
                )
            })
            .collect();
        // 1,000,000,030 s: 10 s into the minute, 130 s into the five minutes.
        assert_eq!(spans, [(10, 360), (130, 600)]);
    }

    #[test]
    fn what_would_not_fit_into_a_page_is_spread() {
        let fine = |name: &str| CloudWatchSpec {
            period: Duration::from_secs(1),
            ..spec(name)
        };
        let wanted = (0..20)
            .map(|number| (fine(&format!("{number}")), Duration::from_hours(24)))
            .collect();
        let calls = calls(&wanted, NOW);
        // Three hours of seconds each, nine of which fit into a page.
        assert_eq!(
            calls
                .iter()
                .map(|call| call.queries.len())
                .collect::<Vec<_>>(),
            [9, 9, 2]
        );
        assert_eq!(calls[0].end_secs - calls[0].start_secs, 3 * 3_600 + 1);
    }

    fn result(status: StatusCode, points: &[(i64, f64)]) -> MetricDataResult {
        let (times, values) = points
            .iter()
            .map(|(time, value)| (DateTime::from_secs(*time), *value))
            .unzip();
        MetricDataResult::builder()
            .id("q0")
            .label("age")
            .set_timestamps(Some(times))
            .set_values(Some(values))
            .status_code(status)
            .build()
    }

    fn read(pages: &[MetricDataResult]) -> Reading {
        let mut answer = Answer::default();
        for page in pages {
            answer.add(std::slice::from_ref(page), false);
        }
        answer.reading("q0", &spec("jobs"), NOW)
    }

    fn sample(value: f64, at: i64, completeness: Completeness) -> Reading {
        Reading::Present(Sample {
            value,
            at: Timestamp::from_secs(u64::try_from(at).expect("after 1970")),
            completeness,
        })
    }

    #[test]
    fn the_newest_period_that_is_over_is_read_as_of_its_end() {
        let complete = |points: &[(i64, f64)]| read(&[result(StatusCode::Complete, points)]);
        let expected = sample(7.0, LAST + 60, Completeness::Complete);
        assert_eq!(complete(&[(LAST, 7.0), (LAST - 60, 5.0)]), expected);
        // In any order, and with the open period in it.
        assert_eq!(complete(&[(LAST - 60, 5.0), (LAST, 7.0)]), expected);
        assert_eq!(complete(&[(LAST + 60, 9.0), (LAST, 7.0)]), expected);
        assert_eq!(
            complete(&[(LAST + 60, 9.0)]),
            Reading::Absent(Absence::NoData)
        );
        assert_eq!(complete(&[]), Reading::Absent(Absence::NoData));
        assert_eq!(
            complete(&[(LAST, f64::NAN)]),
            Reading::Absent(Absence::NotANumber)
        );
        assert_eq!(
            complete(&[(LAST, -1.0)]),
            Reading::Absent(Absence::NotANumber)
        );
    }

    #[test]
    fn a_period_is_left_alone_for_its_delay() {
        let late = CloudWatchSpec {
            delay: Duration::from_secs(11),
            ..spec("jobs")
        };
        let mut answer = Answer::default();
        answer.add(
            &[result(
                StatusCode::Complete,
                &[(LAST, 7.0), (LAST - 60, 5.0)],
            )],
            false,
        );
        // It ended ten seconds ago.
        assert_eq!(
            answer.reading("q0", &late, NOW),
            sample(5.0, LAST, Completeness::Complete)
        );
    }

    #[test]
    fn pages_make_one_series_and_the_last_status_counts() {
        let first = result(StatusCode::PartialData, &[(LAST, 7.0)]);
        let last = result(StatusCode::Complete, &[(LAST - 60, 5.0)]);
        assert_eq!(
            read(&[first.clone(), last]),
            sample(7.0, LAST + 60, Completeness::Complete)
        );
        assert_eq!(
            read(&[first]),
            sample(7.0, LAST + 60, Completeness::Partial)
        );
    }

    #[test]
    fn whatever_leaves_a_doubt_is_partial_or_absent() {
        let good = || result(StatusCode::Complete, &[(LAST, 7.0)]);
        let message = MessageData::builder().code("MaxMetricsExceeded").build();
        let warned = MetricDataResult::builder()
            .messages(message)
            .id("q0")
            .label("age")
            .timestamps(DateTime::from_secs(LAST))
            .values(7.0)
            .status_code(StatusCode::Complete)
            .build();
        let partial = sample(7.0, LAST + 60, Completeness::Partial);
        assert_eq!(read(&[warned]), partial);
        let mut answer = Answer::default();
        answer.add(&[good()], true);
        assert_eq!(answer.reading("q0", &spec("jobs"), NOW), partial);

        let why = |reading: Reading| match reading {
            Reading::Absent(absence) => absence.to_string(),
            Reading::Present(sample) => panic!("{sample:?}"),
        };
        for status in [
            StatusCode::InternalError,
            StatusCode::Forbidden,
            "New".into(),
        ] {
            let word = status.to_string();
            let told = why(read(&[result(status, &[(LAST, 7.0)])]));
            assert!(told.contains(&word), "{told}");
        }
        let other = MetricDataResult::builder()
            .id("q0")
            .label("another")
            .timestamps(DateTime::from_secs(LAST - 60))
            .values(1.0)
            .status_code(StatusCode::Complete)
            .build();
        assert!(why(read(&[good(), other])).contains("several series"));
        assert!(
            why(read(&[good(), good()])).contains("several series"),
            "one label twice"
        );
        let odd = MetricDataResult::builder()
            .id("q0")
            .timestamps(DateTime::from_secs(LAST))
            .status_code(StatusCode::Complete)
            .build();
        assert!(why(read(&[odd])).contains("pair up"));
        let mut empty = Answer::default();
        empty.add(&[], false);
        assert!(why(empty.reading("q0", &spec("jobs"), NOW)).contains("left this query out"));
    }
}
