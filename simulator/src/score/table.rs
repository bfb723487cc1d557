//! Scores as tables, whoever prints them.

use super::{ClassScore, Score};
use crate::elasticity::Elasticity;

/// One column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// What stands above it.
    pub head: &'static str,
    /// One for each row.
    pub cells: Vec<String>,
}

impl Column {
    fn of<T>(head: &'static str, rows: &[T], cell: impl Fn(&T) -> String) -> Self {
        Self {
            head,
            cells: rows.iter().map(cell).collect(),
        }
    }
}

/// One row for each policy: what it cost, how long jobs waited, what it did.
pub fn totals(scores: &[Score]) -> Vec<Column> {
    let mut columns = plain(scores);
    columns.extend(extras(scores));
    columns
}

fn plain(scores: &[Score]) -> Vec<Column> {
    let column = |head, cell: &dyn Fn(&Score) -> String| Column::of(head, scores, cell);
    vec![
        column("policy", &|score| score.policy.clone()),
        column("total $", &|score| format!("{:.2}", score.total_usd)),
        column("instances $", &|score| format!("{:.2}", score.instance_usd)),
        column("waiting $", &|score| format!("{:.2}", score.delay_usd)),
        column("wait mean s", &|score| {
            format!("{:.2}", score.wait_secs.mean)
        }),
        column("p50", &|score| format!("{:.1}", score.wait_secs.p50)),
        column("p95", &|score| format!("{:.1}", score.wait_secs.p95)),
        column("p99", &|score| format!("{:.1}", score.wait_secs.p99)),
        column("max", &|score| format!("{:.1}", score.wait_secs.max)),
        column("unfinished", &|score| score.unfinished_jobs.to_string()),
        column("launched", &|score| score.launches.to_string()),
        column("ended", &|score| score.terminations.to_string()),
        column("mean", &|score| format!("{:.1}", score.instances_mean)),
        column("peak", &|score| score.instances_peak.to_string()),
    ]
}

/// What is told only of worlds in which it can happen.
fn extras(scores: &[Score]) -> Vec<Column> {
    let mut columns = Vec::new();
    let mut add = |head, cell: &dyn Fn(&Score) -> Option<String>| {
        if scores.iter().any(|score| cell(score).is_some()) {
            let cell = |score: &Score| cell(score).unwrap_or_default();
            columns.push(Column::of(head, scores, cell));
        }
    };
    let count = |count: Option<u64>| count.map(|count| count.to_string());
    let money = |amount: Option<f64>| amount.map(|amount| format!("{amount:.2}"));
    add("interrupted", &|score| count(score.interrupted));
    add("died", &|score| count(score.died));
    add("redone", &|score| {
        let lossy = score.interrupted.or(score.died).is_some();
        lossy.then(|| score.jobs_redone.to_string())
    });
    add("no capacity", &|score| {
        count(score.launches_without_capacity)
    });
    add("throttled", &|score| count(score.calls_throttled));
    add("prepaid $", &|score| money(score.prepaid_usd));
    add("warm pool $", &|score| money(score.warm_pool_usd));
    columns
}

/// A row for each policy whose elasticity is known.
pub fn elasticity(scores: &[Score]) -> Vec<Column> {
    let rows: Vec<(&str, Elasticity)> = scores
        .iter()
        .filter_map(|score| Some((score.policy.as_str(), score.elasticity?)))
        .collect();
    let column = |head, cell: &dyn Fn(&Elasticity) -> f64| {
        Column::of(head, &rows, |(_, row)| format!("{:.1}", cell(row)))
    };
    vec![
        Column::of("policy", &rows, |row| row.0.to_owned()),
        column("deviation", &|row| row.deviation),
        column("theta_u %", &|row| row.theta_u),
        column("theta_o %", &|row| row.theta_o),
        column("tau_u %", &|row| row.tau_u),
        column("tau_o %", &|row| row.tau_o),
        column("instability %", &|row| row.instability),
        column("jitter /h", &|row| row.jitter),
        column("violations %", &|row| row.violations),
    ]
}

/// A row for each class under each policy; none without classes.
pub fn classes(scores: &[Score]) -> Vec<Column> {
    let rows: Vec<(&str, &ClassScore)> = scores
        .iter()
        .flat_map(|score| {
            let classes = score.classes.iter();
            classes.map(|class| (score.policy.as_str(), class))
        })
        .collect();
    let column =
        |head, cell: &dyn Fn(&(&str, &ClassScore)) -> String| Column::of(head, &rows, cell);
    vec![
        column("policy", &|row| row.0.to_owned()),
        column("class", &|row| row.1.class.clone()),
        column("jobs", &|row| row.1.jobs.to_string()),
        column("waiting $", &|row| format!("{:.2}", row.1.delay_usd)),
        column("wait mean s", &|row| format!("{:.2}", row.1.wait_secs.mean)),
        column("p50", &|row| format!("{:.1}", row.1.wait_secs.p50)),
        column("p95", &|row| format!("{:.1}", row.1.wait_secs.p95)),
        column("p99", &|row| format!("{:.1}", row.1.wait_secs.p99)),
        column("max", &|row| format!("{:.1}", row.1.wait_secs.max)),
    ]
}

/// Whether a table has no row.
pub fn is_empty(columns: &[Column]) -> bool {
    columns.first().is_none_or(|column| column.cells.is_empty())
}
