use super::*;

fn quantiles(p95: f64) -> Quantiles {
    Quantiles {
        mean: p95 / 4.0,
        p50: p95 / 8.0,
        p95,
        p99: p95 * 1.5,
        max: p95 * 2.0,
    }
}

fn figures(instance_usd: f64, p95: f64) -> Figures {
    Figures {
        length_secs: 3_600.0,
        jobs: 1_000,
        unfinished_jobs: 0,
        instance_usd,
        delay_usd: p95 / 10.0,
        total_usd: instance_usd + p95 / 10.0,
        wait_secs: quantiles(p95),
        launches: 4,
        terminations: 3,
    }
}

fn record(unit: u64, what: What, policy: &str, tuned: bool, usd: f64, p95: f64) -> Record {
    Record {
        unit,
        what,
        stage: Stage {
            scenario: "web".into(),
            trace: "t.csv".into(),
            seed: 1,
        },
        policy: policy.into(),
        tuned,
        knobs: format!("{policy}.knob={usd}"),
        usd_per_job_hour_waiting: 1.0,
        scored_from_secs: 0.0,
        figures: Some(figures(usd, p95)),
        limits: None,
    }
}

fn records() -> Vec<Record> {
    let mut bound = record(0, What::Bound, "", false, 4.0, 1.0);
    bound.figures = None;
    bound.limits = Some(Limits {
        bound_usd: 4.0,
        achieved_instance_usd: 4.0,
        achieved_delay_usd: 0.1,
    });
    let mut dearer = bound.clone();
    dearer.usd_per_job_hour_waiting = 10.0;
    dearer.limits = Some(Limits {
        bound_usd: 5.0,
        achieved_instance_usd: 5.0,
        achieved_delay_usd: 0.5,
    });
    vec![
        dearer,
        bound,
        record(1, What::Result, "ours", false, 6.0, 9.0),
        record(1, What::Frontier, "ours", false, 10.0, 0.0),
        record(1, What::Frontier, "ours", false, 5.0, 99.0),
        record(2, What::Result, "ours", true, 5.5, 19.0),
        record(3, What::Result, "<b>theirs", false, 8.0, 99.0),
        record(3, What::Frontier, "<b>theirs", false, 12.0, 9.0),
    ]
}

#[test]
fn the_order_of_records_does_not_matter() {
    let sheets_of = |order: &dyn Fn(&mut Vec<Record>)| {
        let mut records = records();
        order(&mut records);
        let sheets = sheets(&records, None);
        (to_json(&sheets), html(&sheets))
    };
    let as_they_are = sheets_of(&|_| ());
    // Units come in any order; within one, records stay as they were made.
    let by_units = sheets_of(&|records| records.sort_by_key(|record| u64::MAX - record.unit));
    assert!(as_they_are == by_units);
}

#[test]
fn waits_are_matched_at_the_best_policy_unless_told() {
    let matched = |at| {
        let sheets = sheets(&records(), at);
        let rows = sheets[0].rows.iter();
        rows.map(|row| (row.matched_p95_secs, row.usd_at_matched_wait))
            .collect::<Vec<_>>()
    };
    // Totals are 6.9, 7.4 and 17.9.
    let found = matched(None);
    assert_eq!(found[0], (9.0, Some(6.0)));
    assert_eq!(found[1], (9.0, None));
    assert_eq!(found[2], (9.0, Some(12.0)));
    let found = matched(Some(50.0));
    assert!(found[0].1.is_some_and(|usd| (5.0..6.0).contains(&usd)));
    assert_eq!(found[1].1, Some(5.5));
    assert!(found[2].1.is_some_and(|usd| (8.0..12.0).contains(&usd)));
    // Told; and who comes to no such wait.
    let found = matched(Some(1.0));
    assert_eq!((found[0].0, found[1].1, found[2].1), (1.0, None, None));
}

#[test]
fn the_bound_is_that_of_the_price_and_totals_are_held_against_it() {
    let sheets = sheets(&records(), None);
    let row = &sheets[0].rows[0];
    assert_eq!(row.bound_usd, Some(4.0));
    assert_eq!(row.achieved_usd, Some(4.1));
    assert_eq!(row.ratio_to_bound, Some(row.total_usd / 4.0));
    assert_eq!(row.frontier.len(), 2);
    assert_eq!(row.knobs["ours.knob"], "6");
}

#[test]
fn the_page_draws_all_and_obeys_no_name() {
    let page = html(&sheets(&records(), None));
    assert!(!page.contains("<b>") && page.contains("&lt;b&gt;theirs"));
    assert!(!page.contains("<script") && !page.contains("NaN"));
    assert!(!page.contains("http:") && !page.contains("https:"));
    assert_eq!(page.matches("<svg viewBox").count(), 2);
    assert_eq!(page.matches("class=\"bound\" d=\"M").count(), 1);
    // Two planes with a ring for what was tuned and a large dot for each policy.
    assert_eq!(page.matches("class=\"ring").count(), 2);
    assert_eq!(page.matches("r=\"5.5\"").count(), 6);
}

#[test]
fn several_loads_are_summed_up() {
    assert!(crate::score::table::is_empty(&table::overall(&sheets(
        &records(),
        None
    ))));
    let mut more = records();
    for mut record in records() {
        record.unit += 10;
        record.stage.seed = 2;
        more.push(record);
    }
    let sheets = sheets(&more, None);
    assert_eq!(sheets.len(), 2);
    let overall = table::overall(&sheets);
    let heads: Vec<&str> = overall.iter().map(|column| column.head).collect();
    let expected = [
        "policy",
        "tuned",
        "loads",
        "x bound, geometric mean",
        "x bound, worst",
    ];
    assert_eq!(heads, expected);
    assert_eq!(overall[2].cells, ["2", "2", "2"]);
    assert_eq!(overall[3].cells[0], "1.725");
}
