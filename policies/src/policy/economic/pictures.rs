//! The pictures of `docs/policies.md`, drawn from what the policy computes:
//! `UPDATE_EXPECT=1 cargo test -p windlass-policies pictures` draws them anew.

use std::fmt::Write as _;

use expect_test::expect_file;

use super::budget::Allowance;
use super::plan::Plan;
use super::state::jobs_at_least;
use super::tests::{Stage, wish};
use super::*;
use crate::policy::View;
use crate::signal::{Reading, Readings};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 220.0;
const TOP: f64 = 60.0;
const RED: &str = "#b3261e";
const COLOURS: [&str; 2] = ["#0b62c4", "#e0a458"];

/// Bars of parts on top of one another, and a line across them.
struct Chart<'a> {
    title: &'a str,
    /// What the bars stand for.
    below: &'a str,
    /// The parts of a bar.
    parts: &'a [&'a str],
    bars: Vec<(String, Vec<f64>)>,
    /// How high it is, and what it says.
    line: Option<(f64, &'a str)>,
    /// How numbers are written.
    unit: &'a str,
    places: usize,
}

impl Chart<'_> {
    fn svg(&self) -> String {
        let sums = self.bars.iter().map(|(_, parts)| parts.iter().sum::<f64>());
        let line = self.line.map_or(0.0, |(height, _)| height);
        let top = sums.fold(line, f64::max).max(1e-9);
        let height = |value: f64| (BOTTOM - TOP) * value / top;
        let count = f64::from(u32::try_from(self.bars.len()).expect("few"));
        let pitch = (WIDTH - LEFT - 20.0) / count;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <title>{}</title>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"18\" font-size=\"14\">{}</text>\n",
            self.title, self.title
        );
        for share in [0.0, 0.5, 1.0] {
            let y = BOTTOM - share * (BOTTOM - TOP);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{:.1}\" stroke=\"#d5dae0\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}{:.*}</text>",
                WIDTH - 20.0,
                LEFT - 6.0,
                y + 4.0,
                self.unit,
                self.places,
                share * top
            );
        }
        let mut x = LEFT;
        for (label, parts) in &self.bars {
            let mut y = BOTTOM;
            for (part, colour) in parts.iter().zip(COLOURS) {
                y -= height(*part);
                let _ = writeln!(
                    svg,
                    "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
                    x + 0.15 * pitch,
                    0.7 * pitch,
                    height(*part)
                );
            }
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                x + 0.5 * pitch,
                BOTTOM + 16.0
            );
            x += pitch;
        }
        let mut legend: Vec<(&str, &str, f64)> = Vec::new();
        for (part, colour) in self.parts.iter().zip(COLOURS) {
            legend.push((part, colour, 10.0));
        }
        if let Some((at, text)) = self.line {
            let y = BOTTOM - height(at);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{:.1}\" stroke=\"{RED}\" stroke-width=\"2\"/>",
                WIDTH - 20.0,
            );
            legend.push((text, RED, 2.0));
        }
        let mut x = LEFT;
        for (text, colour, thick) in legend {
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"10\" height=\"{thick}\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"40\">{text}</text>",
                36.0 - 0.5 * thick,
                x + 14.0
            );
            x += 130.0;
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(LEFT, WIDTH - 20.0),
            BOTTOM + 34.0,
            self.below
        );
        svg.push_str("</svg>\n");
        svg
    }
}

/// What each instance more comes to in the cycle that the manual tells of, as
/// shares of what it is billed: waiting saved and others' work done.
fn next_ones(stage: &Stage, waiting: f64, running: f64, count: u32) -> Vec<(f64, f64)> {
    let mut readings = Readings::new();
    for (name, value) in [("backlog", waiting), ("in_flight", running)] {
        readings.insert(name, Reading::complete(value, stage.now));
    }
    let view = View {
        now: stage.now,
        readings: &readings,
        current: stage.current,
        ready: stage.ready,
        slots: 1,
        desired: stage.current,
        lives: &[],
    };
    let fleet = Fleet {
        interval: Duration::from_secs(10),
        ..Fleet::plain(&view)
    };
    let jobs = jobs_at_least(&stage.rule, &view).expect("all readings are there");
    let allowed = Allowance {
        kappa: 1.0,
        most: fleet.max,
        why: None,
    };
    let mut plan = Plan::new(&stage.state, &view, &fleet, jobs, &allowed);
    let verdicts = (0..count).map(|more| plan.launch(stage.current + more));
    verdicts
        .map(|verdict| {
            let saved = verdict.saved;
            (saved.waiting / verdict.billed, saved.work / verdict.billed)
        })
        .collect()
}

/// Two hours of steady traffic, then fifty jobs wait.
fn surprised(preset: Preset) -> (Stage, u32) {
    let mut stage = Stage::new(Worth::Preset(preset));
    stage.steady(2);
    stage.cycle(4.0, 0.0, 8.0);
    let opinion = stage.cycle(60.0, 50.0, 10.0);
    let wished = wish(&opinion).expect("all readings are there");
    (stage, wished)
}

#[test]
fn pictures_show_what_is_computed() {
    let (stage, wished) = surprised(Preset::Balanced);
    let next = next_ones(&stage, 50.0, 10.0, 16);
    let bars = next.iter().zip(1..).map(|((waiting, work), more)| {
        let mark = if 10 + more == wished { " *" } else { "" };
        (format!("{more}{mark}"), vec![*waiting, *work])
    });
    let launch = Chart {
        title: "What one instance more saves for each dollar it costs",
        below: "one more, two more ...; * the last that is launched",
        parts: &["waiting", "others' work"],
        bars: bars.collect(),
        line: Some((1.0, "what it costs")),
        unit: "$",
        places: 2,
    };
    expect_file!["../../../../docs/economic-launch.svg"].assert_eq(&launch.svg());

    let bars = [
        ("bulk", Preset::Bulk),
        ("batch", Preset::Batch),
        ("balanced", Preset::Balanced),
        ("interactive", Preset::Interactive),
    ]
    .map(|(name, preset)| (name.to_owned(), vec![f64::from(surprised(preset).1)]));
    let worth = Chart {
        title: "How many instances are wished for when 50 jobs wait for 10",
        below: "what waiting is worth, each ten times the one before",
        parts: &[],
        bars: bars.to_vec(),
        line: Some((10.0, "what there is")),
        unit: "",
        places: 0,
    };
    expect_file!["../../../../docs/economic-worth.svg"].assert_eq(&worth.svg());
}
