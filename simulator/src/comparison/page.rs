//! The page: tables and planes, all drawn here, without a script.

mod plane;

use std::fmt::Write;

use super::{Sheet, table};
use crate::report::{CONTENT_POLICY, STYLE, escaped, push_table};
use crate::score::table::{Column, is_empty};

use plane::{Plane, Wait};

const PLANE_STYLE: &str = include_str!("page.css");

/// What a page begins with.
#[derive(Clone, Debug, Default)]
pub struct Opening {
    /// What the window is called.
    pub title: String,
    /// What stands above everything.
    pub heading: String,
    /// What is to be said first.
    pub notes: Vec<String>,
    /// Tables below that.
    pub tables: Vec<Vec<Column>>,
}

/// The page of `sheets`: it opens from a disk, fetches nothing, and holds no
/// script.
pub fn html(sheets: &[Sheet]) -> String {
    let opening = Opening {
        title: "windlass compare".to_owned(),
        heading: "Policies compared".to_owned(),
        ..Opening::default()
    };
    html_after(&opening, sheets)
}

/// The same below another `opening`.
pub fn html_after(opening: &Opening, sheets: &[Sheet]) -> String {
    let mut page = String::new();
    let out = &mut page;
    out.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    out.push_str(
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"",
    );
    out.push_str(CONTENT_POLICY);
    out.push_str("\">\n<link rel=\"icon\" href=\"data:,\">\n");
    let _ = write!(
        out,
        "<title>{}</title>\n<style>\n{STYLE}{PLANE_STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>{}</h1>\n",
        escaped(&opening.title),
        escaped(&opening.heading)
    );
    for note in &opening.notes {
        let _ = writeln!(out, "<p>{}</p>", escaped(note));
    }
    for table in &opening.tables {
        push_table(out, table);
    }
    let overall = table::overall(sheets);
    if !is_empty(&overall) {
        out.push_str("<section aria-labelledby=\"all\">\n<h2 id=\"all\">All loads</h2>\n");
        push_table(out, &overall);
        out.push_str("</section>\n");
    }
    for (place, sheet) in sheets.iter().enumerate() {
        push_sheet(out, place, sheet);
    }
    out.push_str("</main>\n</body>\n</html>\n");
    page
}

fn push_sheet(out: &mut String, place: usize, sheet: &Sheet) {
    let _ = writeln!(
        out,
        "<section aria-labelledby=\"load-{place}\">\n<h2 id=\"load-{place}\">{} &middot; {}{}</h2>\n\
         <p>{}.</p>",
        escaped(&sheet.stage.scenario),
        escaped(&sheet.stage.trace),
        match sheet.stage.seed {
            1 => String::new(),
            seed => format!(" &middot; seed {seed}"),
        },
        escaped(&table::head(sheet))
    );
    push_table(out, &table::totals(sheet));
    for note in table::notes(sheet) {
        let _ = writeln!(out, "<p class=\"note\">{}</p>", escaped(&note));
    }
    push_legend(out, sheet);
    out.push_str("<div class=\"planes\">\n");
    for wait in [Wait::Mean, Wait::P95] {
        Plane::of(sheet, wait).push(out);
    }
    out.push_str("</div>\n");
    let knobs = table::knobs(sheet);
    if !is_empty(&knobs) {
        out.push_str("<h3>What tuning found</h3>\n");
        push_table(out, &knobs);
    }
    out.push_str("</section>\n");
}

fn push_legend(out: &mut String, sheet: &Sheet) {
    out.push_str(
        "<h3>Cost and wait</h3>\n<p class=\"note\">Left and low is good. Each line is one policy \
         as its main knob is turned; of what is tuned, the tuned one. The large dot is what the \
         tables tell, a ring the policy as it stands in its file.</p>\n<p class=\"legend\">",
    );
    for (place, name) in plane::names(sheet).into_iter().enumerate() {
        let _ = write!(
            out,
            "<span class=\"key\"><svg width=\"22\" height=\"10\" aria-hidden=\"true\"><line x1=\"0\" \
             y1=\"5\" x2=\"22\" y2=\"5\" class=\"p{}\"/></svg> {}</span> ",
            place % plane::COLOURS,
            escaped(name)
        );
    }
    out.push_str(
        "<span class=\"key\"><svg width=\"22\" height=\"10\" aria-hidden=\"true\"><line x1=\"0\" \
         y1=\"5\" x2=\"22\" y2=\"5\" class=\"front\"/></svg> the front: what nothing else beats</span> ",
    );
    if !sheet.bounds.is_empty() {
        out.push_str(
            "<span class=\"key\"><svg width=\"22\" height=\"10\" aria-hidden=\"true\"><line x1=\"0\" \
             y1=\"5\" x2=\"22\" y2=\"5\" class=\"bound\"/></svg> the bound</span> \
             <span class=\"key\"><svg width=\"14\" height=\"10\" aria-hidden=\"true\"><path \
             d=\"M3 1l4 4-4 4-4-4z\" transform=\"translate(4 0)\" class=\"hindsight\"/></svg> made with hindsight</span>",
        );
    }
    out.push_str("</p>\n");
}
