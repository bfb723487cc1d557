//! Comparisons as tables, whoever prints them.

use super::frontier::undominated_by;
use super::{FrontierPoint, Row, Sheet};
use crate::score::table::Column;

/// One row for each policy on one load.
pub fn totals(sheet: &Sheet) -> Vec<Column> {
    let rows = &sheet.rows;
    let mut columns = Vec::new();
    let mut add = |head, cell: &dyn Fn(&Row) -> String| {
        let cells = rows.iter().map(cell).collect();
        columns.push(Column { head, cells });
    };
    let money = |amount: f64| format!("{amount:.2}");
    let maybe = |amount: Option<f64>| amount.map_or_else(|| "-".to_owned(), money);
    add("policy", &|row| row.policy.clone());
    if rows.iter().any(|row| row.tuned) {
        add("tuned", &|row| {
            if row.tuned { "yes" } else { "no" }.to_owned()
        });
    }
    add("total $", &|row| money(row.total_usd));
    add("instances $", &|row| money(row.instance_usd));
    add("waiting $", &|row| money(row.delay_usd));
    add("wait p50 s", &|row| format!("{:.1}", row.wait_secs.p50));
    add("p95", &|row| format!("{:.1}", row.wait_secs.p95));
    add("p99", &|row| format!("{:.1}", row.wait_secs.p99));
    add("launched", &|row| row.launches.to_string());
    if rows.iter().any(|row| row.unfinished_jobs > 0) {
        add("unfinished", &|row| row.unfinished_jobs.to_string());
    }
    if rows.iter().any(|row| row.ratio_to_bound.is_some()) {
        add("x bound", &|row| {
            row.ratio_to_bound
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"))
        });
    }
    add("$ at p95", &|row| maybe(row.usd_at_matched_wait));
    columns
}

/// What the search turned, a row for each policy that was tuned; without rows
/// if none was.
pub fn knobs(sheet: &Sheet) -> Vec<Column> {
    let tuned: Vec<&Row> = sheet.rows.iter().filter(|row| row.tuned).collect();
    let told = |row: &Row| {
        if row.knobs.is_empty() {
            return "as it stands in its file".to_owned();
        }
        let each = row.knobs.iter();
        let each = each.map(|(name, value)| format!("{name} = {value}"));
        each.collect::<Vec<_>>().join(", ")
    };
    let column = |head, cell: &dyn Fn(&Row) -> String| Column {
        head,
        cells: tuned.iter().map(|row| cell(row)).collect(),
    };
    vec![
        column("policy", &|row| row.policy.clone()),
        column("best in the tuning window", &told),
    ]
}

/// The front of a load: of all policies, wherever their knobs are, those that no
/// other beats in both the wait that 95 % of the jobs do not exceed and what
/// instances cost, by their waits.
pub fn front(sheet: &Sheet) -> Vec<Column> {
    let itself = |row: &Row| FrontierPoint {
        knobs: row.knobs.clone(),
        instance_usd: row.instance_usd,
        total_usd: row.total_usd,
        wait_secs: row.wait_secs,
    };
    let mut all: Vec<(&Row, FrontierPoint)> = Vec::new();
    for row in &sheet.rows {
        all.push((row, itself(row)));
        all.extend(row.frontier.iter().map(|point| (row, point.clone())));
    }
    let place = |one: &(&Row, FrontierPoint)| (one.1.wait_secs.p95, one.1.instance_usd);
    let front = undominated_by(all, place);
    let column = |head, cell: &dyn Fn(&Row, &FrontierPoint) -> String| Column {
        head,
        cells: front.iter().map(|(row, point)| cell(row, point)).collect(),
    };
    let knobs = |_: &Row, point: &FrontierPoint| {
        if point.knobs.is_empty() {
            return "as in its file".to_owned();
        }
        let each = point.knobs.iter();
        let each = each.map(|(name, value)| format!("{name} = {value}"));
        each.collect::<Vec<_>>().join(", ")
    };
    vec![
        column("policy", &|row, _| {
            let tuned = if row.tuned { ", tuned" } else { "" };
            format!("{}{tuned}", row.policy)
        }),
        column("wait p95 s", &|_, point| {
            format!("{:.1}", point.wait_secs.p95)
        }),
        column("mean", &|_, point| format!("{:.1}", point.wait_secs.mean)),
        column("instances $", &|_, point| {
            format!("{:.2}", point.instance_usd)
        }),
        column("total $", &|_, point| format!("{:.2}", point.total_usd)),
        column("knobs", &knobs),
    ]
}

/// Each policy on all loads: totals over the bound in the geometric mean, or, as
/// long as there is no bound, over the best total of each load. Without rows for
/// a single load.
pub fn overall(sheets: &[Sheet]) -> Vec<Column> {
    let mut names: Vec<(&str, bool)> = Vec::new();
    for row in sheets.iter().flat_map(|sheet| &sheet.rows) {
        if sheets.len() > 1 && !names.contains(&(&row.policy, row.tuned)) {
            names.push((&row.policy, row.tuned));
        }
    }
    let bounded = sheets
        .iter()
        .flat_map(|sheet| &sheet.rows)
        .all(|row| row.ratio_to_bound.is_some());
    let ratio = |sheet: &Sheet, name: (&str, bool)| {
        let mut rows = sheet.rows.iter();
        let row = rows.find(|row| (row.policy.as_str(), row.tuned) == name)?;
        if bounded {
            return row.ratio_to_bound;
        }
        let totals = sheet.rows.iter().map(|row| row.total_usd);
        let best = totals.min_by(f64::total_cmp).filter(|best| *best > 0.0)?;
        Some(row.total_usd / best)
    };
    let ratios = |name: (&str, bool)| -> Vec<f64> {
        let each = sheets.iter().filter_map(|sheet| ratio(sheet, name));
        each.collect()
    };
    let column = |head, cell: &dyn Fn((&str, bool)) -> String| Column {
        head,
        cells: names.iter().map(|name| cell(*name)).collect(),
    };
    let told = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |one| format!("{one:.3}"));
    let worst = |ratios: Vec<f64>| ratios.into_iter().max_by(f64::total_cmp);
    let mut columns = vec![column("policy", &|name| name.0.to_owned())];
    if names.iter().any(|(_, tuned)| *tuned) {
        columns.push(column("tuned", &|name| {
            if name.1 { "yes" } else { "no" }.to_owned()
        }));
    }
    let (mean, most) = if bounded {
        ("x bound, geometric mean", "x bound, worst")
    } else {
        ("x best, geometric mean", "x best, worst")
    };
    columns.push(column("loads", &|name| ratios(name).len().to_string()));
    columns.push(column(mean, &|name| told(geometric_mean(&ratios(name)))));
    columns.push(column(most, &|name| told(worst(ratios(name)))));
    columns
}

/// `None` of nothing.
fn geometric_mean(values: &[f64]) -> Option<f64> {
    let count = u32::try_from(values.len())
        .ok()
        .filter(|count| *count > 0)?;
    let logs: f64 = values.iter().map(|value| libm::log(*value)).sum();
    Some(libm::exp(logs / f64::from(count)))
}

/// What a load is, in one line.
pub fn head(sheet: &Sheet) -> String {
    let stage = &sheet.stage;
    let Some(row) = sheet.rows.first() else {
        return format!("{}: no policies", stage.scenario);
    };
    let from = if row.scored_from_secs > 0.0 {
        format!(" after {:.1} h of tuning", row.scored_from_secs / 3_600.0)
    } else {
        String::new()
    };
    format!(
        "{}: {} jobs of {} in {:.1} h{from}, seed {}; waiting costs ${} per job and hour",
        stage.scenario,
        row.jobs,
        stage.trace,
        row.scored_secs / 3_600.0,
        stage.seed,
        row.usd_per_job_hour_waiting
    )
}

/// What the bound is, and at which wait costs are compared.
pub fn notes(sheet: &Sheet) -> Vec<String> {
    let Some(row) = sheet.rows.first() else {
        return Vec::new();
    };
    let mut notes = Vec::new();
    if let Some(bound) = row.bound_usd {
        let achieved = row.achieved_usd.map_or_else(String::new, |achieved| {
            format!("; a schedule made with hindsight comes to ${achieved:.2}")
        });
        let whose = if row.scored_from_secs > 0.0 {
            // What a policy inherits from the tuning window is not part of the proof.
            "The bound of the scored part by itself is"
        } else {
            "No policy can go below"
        };
        notes.push(format!("{whose} ${bound:.2} in total{achieved}."));
    }
    notes.push(format!(
        "\"$ at p95\" is what the instances cost if 95 % of the jobs wait at most {:.1} s; - where \
         the policy comes to no such wait.",
        row.matched_p95_secs
    ));
    notes
}
