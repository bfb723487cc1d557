//! The page: tables as HTML, everything else as data for the script.

use std::fmt::Write;

use windlass_policies::units::Timestamp;

use super::Run;
use super::recorder::{Column, Course, MARKS_MAX, secs};
use crate::score::Score;
use crate::score::table::{self, Column as TableColumn};

/// How pages look.
pub(crate) const STYLE: &str = include_str!("page.css");
/// What a page may fetch: nothing, whatever is in it.
pub(crate) const CONTENT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src \
    'unsafe-inline'; img-src data:";
const SCRIPT: &str = include_str!("page.js");

/// The report of `runs` of one scenario, in their order. `begins_at` is what
/// time the run begins at, if anybody said; `prices` says what waiting costs.
pub fn html(runs: &[Run], begins_at: Option<Timestamp>, prices: &str) -> String {
    let scores: Vec<Score> = runs.iter().map(|run| run.score.clone()).collect();
    let scenario = scores.first().map_or("", |score| score.scenario.as_str());
    let mut page = String::new();
    let out = &mut page;
    push(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
    );
    push(
        out,
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
    );
    let _ = writeln!(
        out,
        "<meta http-equiv=\"Content-Security-Policy\" content=\"{CONTENT_POLICY}\">"
    );
    push(out, "<link rel=\"icon\" href=\"data:,\">\n");
    let _ = writeln!(
        out,
        "<title>{} - windlass simulate</title>",
        escaped(scenario)
    );
    let _ = write!(out, "<style>\n{STYLE}</style>\n</head>\n<body>\n");
    push_head(out, &scores, begins_at, prices);
    push_tables(out, &scores);
    push(out, PLANE);
    push(out, CONTROLS);
    for (place, run) in runs.iter().enumerate() {
        push_run(out, place, run);
    }
    push(
        out,
        "</main>\n<script type=\"application/json\" id=\"data\">\n",
    );
    push_data(out, runs, begins_at);
    let _ = write!(
        out,
        "</script>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    );
    page
}

const PLANE: &str = "<section aria-labelledby=\"plane-head\">\n<h2 id=\"plane-head\">Cost and \
    wait</h2>\n<p class=\"note\">Each policy by what its instances cost and how long jobs waited \
    on average: left and low is good. The line joins those that no other beats in both.</p>\n\
    <div id=\"plane\"></div>\n</section>\n";

const CONTROLS: &str = "<section aria-labelledby=\"course-head\">\n<h2 id=\"course-head\">Course\
    </h2>\n<noscript><p>The pictures need JavaScript, which this browser does not run. The tables \
    above are complete.</p></noscript>\n<p class=\"note\">Drag over a picture to zoom all of them; \
    click one to read its values and the decision there. Keys, once a picture has the focus: \
    <kbd>&larr;</kbd> <kbd>&rarr;</kbd> move (with <kbd>Shift</kbd> ten times as far), <kbd>n</kbd> \
    <kbd>p</kbd> next and previous decision, <kbd>+</kbd> <kbd>-</kbd> zoom, <kbd>0</kbd> the whole \
    run. Waits are told by when a job \
    arrived; of those that still wait at the end, so far.</p>\n<div class=\"controls\" role=\"group\" aria-label=\"Time shown\">\n\
    <button type=\"button\" id=\"all\">Whole run</button>\n\
    <button type=\"button\" id=\"in\">Zoom in</button>\n\
    <button type=\"button\" id=\"out\">Zoom out</button>\n\
    <button type=\"button\" id=\"back\">Earlier</button>\n\
    <button type=\"button\" id=\"on\">Later</button>\n\
    <label><input type=\"checkbox\" id=\"log\"> Queue and waits on a log scale</label>\n\
    <span id=\"span\" aria-live=\"polite\"></span>\n</div>\n</section>\n";

fn push_head(out: &mut String, scores: &[Score], begins_at: Option<Timestamp>, prices: &str) {
    let Some(first) = scores.first() else {
        push(out, "<main>\n<h1>No policies</h1>\n");
        return;
    };
    let _ = writeln!(out, "<main>\n<h1>{}</h1>", escaped(&first.scenario));
    let begins = begins_at.map_or(String::new(), |at| format!(" from {at}"));
    let _ = writeln!(
        out,
        "<p>{} jobs of {} in {:.1} h{}, seed {}; {}.</p>",
        first.jobs,
        escaped(&first.trace),
        first.simulated_secs / 3_600.0,
        escaped(&begins),
        first.seed,
        escaped(prices)
    );
}

fn push_tables(out: &mut String, scores: &[Score]) {
    push(
        out,
        "<section aria-labelledby=\"totals-head\">\n<h2 id=\"totals-head\">Totals</h2>\n",
    );
    push_table(out, &table::totals(scores));
    let classes = table::classes(scores);
    if !table::is_empty(&classes) {
        push(out, "<h3>By class of jobs</h3>\n");
        push_table(out, &classes);
    }
    let elasticity = table::elasticity(scores);
    if !table::is_empty(&elasticity) {
        push(out, "<h3>Elasticity</h3>\n");
        push_table(out, &elasticity);
        push_elasticity_note(out, scores);
    }
    push(out, "</section>\n");
}

fn push_elasticity_note(out: &mut String, scores: &[Score]) {
    let Some(known) = scores.iter().find_map(|score| score.elasticity) else {
        return;
    };
    let _ = writeln!(
        out,
        "<p class=\"note\">The measures of the SPEC research group: how closely the fleet followed \
         a demand of {:.1} instances on average and {} at most, which is the least that lets at \
         most 5 % of the jobs wait longer than {:.1} s. They know neither money nor backlog and boots; \
         a policy that saves may well look worse here.</p>",
        known.demand_mean, known.demand_peak, known.target_wait_secs
    );
}

/// A table, heads first; the first column has the rows' heads.
pub(crate) fn push_table(out: &mut String, columns: &[TableColumn]) {
    push(
        out,
        "<div class=\"wide\" tabindex=\"0\"><table>\n<thead><tr>",
    );
    for column in columns {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escaped(column.head));
    }
    push(out, "</tr></thead>\n<tbody>\n");
    let rows = columns.first().map_or(0, |column| column.cells.len());
    for row in 0..rows {
        push(out, "<tr>");
        for (place, column) in columns.iter().enumerate() {
            let cell = escaped(&column.cells[row]);
            let _ = match place {
                0 => write!(out, "<th scope=\"row\">{cell}</th>"),
                _ => write!(out, "<td>{cell}</td>"),
            };
        }
        push(out, "</tr>\n");
    }
    push(out, "</tbody>\n</table></div>\n");
}

/// How many policies' pictures are open at first; the others open on a click.
const OPEN: usize = 3;

fn push_run(out: &mut String, place: usize, run: &Run) {
    let open = if place < OPEN { " open" } else { "" };
    let Score {
        policy,
        total_usd,
        wait_secs,
        ..
    } = &run.score;
    let _ = writeln!(
        out,
        "<details class=\"run\" data-run=\"{place}\"{open}>\n<summary><h3>{}</h3> <span>${total_usd:.2}, \
         mean wait {:.2} s</span></summary>\n<div class=\"charts\"></div>",
        escaped(policy),
        wait_secs.mean
    );
    let kept = run.course.marks.len();
    let changes = run.course.changes;
    if u64::try_from(kept).is_ok_and(|kept| kept < changes) {
        let _ = writeln!(
            out,
            "<p class=\"note\">Shown are the {kept} decisions that changed most, of {changes} that \
             changed something (a report keeps {MARKS_MAX}); all of them stand in the ticks file.</p>"
        );
    }
    push(
        out,
        "<details class=\"decisions\"><summary>Decisions in the time shown</summary>\
         <div class=\"wide\"></div></details>\n</details>\n",
    );
}

fn push_data(out: &mut String, runs: &[Run], begins_at: Option<Timestamp>) {
    let Some(first) = runs.first().map(|run| &run.course) else {
        push(out, "{}\n");
        return;
    };
    let begins = begins_at.map_or("null".to_owned(), |at| (at.micros() / 1_000).to_string());
    let _ = write!(
        out,
        "{{\"begins_ms\":{begins},\"step\":{},\"length\":{},\"runs\":[",
        secs(first.step),
        secs(first.length)
    );
    for (place, run) in runs.iter().enumerate() {
        push(out, if place == 0 { "\n" } else { ",\n" });
        let Score {
            policy, wait_secs, ..
        } = &run.score;
        let cost = run.score.total_usd - run.score.delay_usd;
        let _ = write!(
            out,
            "{{\"policy\":{},\"cost\":{},\"wait\":{},\"columns\":{{",
            json_text(policy),
            rounded(cost),
            rounded(wait_secs.mean)
        );
        push_columns(out, &run.course);
        push(out, "},\"marks\":[");
        push_marks(out, &run.course);
        push(out, "]}");
    }
    push(out, "]}\n");
}

/// Least and largest values only where they are not the mean.
fn push_columns(out: &mut String, course: &Course) {
    let value = |name: &str| {
        let named = course.columns.iter().find(|(known, _)| *known == name);
        named.map(|(_, column)| column)
    };
    let mut first = true;
    for (name, column) in &course.columns {
        let base = name.strip_suffix("_min").or(name.strip_suffix("_max"));
        let mean = base.filter(|base| *base != "wait").and_then(value);
        if mean.is_some_and(|mean| mean == column) {
            continue;
        }
        if !first {
            push(out, ",");
        }
        first = false;
        let _ = write!(out, "\n\"{name}\":[");
        push_numbers(out, column);
        push(out, "]");
    }
}

fn push_numbers(out: &mut String, column: &Column) {
    for (place, value) in column.iter().enumerate() {
        if place > 0 {
            push(out, ",");
        }
        match value {
            Some(value) => {
                let _ = write!(out, "{}", rounded(*value));
            }
            None => push(out, "null"),
        }
    }
}

fn push_marks(out: &mut String, course: &Course) {
    for (place, mark) in course.marks.iter().enumerate() {
        let size = |count: Option<u32>| count.map_or("null".to_owned(), |count| count.to_string());
        let _ = write!(
            out,
            "{}\n[{}.{:06},{},{},{}]",
            if place == 0 { "" } else { "," },
            mark.at / 1_000_000,
            mark.at % 1_000_000,
            size(mark.from),
            size(mark.to),
            json_text(&mark.why)
        );
    }
}

fn push(out: &mut String, text: &str) {
    out.push_str(text);
}

/// To thousandths: more than a picture shows.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// A string of JSON that cannot end the element of the page it stands in.
fn json_text(text: &str) -> String {
    let json = serde_json::to_string(text).expect("text is plain data");
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// Text for a page, in an element or an attribute.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(letter),
        }
    }
    safe
}
