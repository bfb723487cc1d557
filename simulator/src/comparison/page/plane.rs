//! The plane of money against waiting, as an SVG picture.

use std::fmt::Write;

use super::super::frontier::undominated_by;
use super::super::{BoundPoint, Row, Sheet};
use crate::report::escaped;
use crate::score::Quantiles;

/// How many colours there are; after that they come again.
pub(super) const COLOURS: usize = 8;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 58.0;
const BOTTOM: f64 = 40.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 14.0;

/// So many points make the line of the bound.
const BOUND_POINTS: u32 = 96;

/// Which wait is told on the way to the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Mean,
    P95,
}

impl Wait {
    fn of(self, waits: &Quantiles) -> f64 {
        match self {
            Self::Mean => waits.mean,
            Self::P95 => waits.p95,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean wait",
            Self::P95 => "wait that 95 % of the jobs do not exceed",
        }
    }
}

/// The policies of a sheet, each once.
pub(super) fn names(sheet: &Sheet) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for row in &sheet.rows {
        if !names.contains(&row.policy.as_str()) {
            names.push(&row.policy);
        }
    }
    names
}

/// A place in the plane, and what it is.
struct Spot {
    wait: f64,
    usd: f64,
    told: String,
}

pub(super) struct Plane<'a> {
    sheet: &'a Sheet,
    wait: Wait,
    /// Waits on the way to the right, by [`stretched`].
    waits: (f64, f64),
    /// Dollars on the way up, by their logarithm.
    dollars: (f64, f64),
}

/// A second more than the wait, by its logarithm: no wait has a place too.
fn stretched(secs: f64) -> f64 {
    libm::log1p(secs.max(0.0))
}

impl<'a> Plane<'a> {
    pub(super) fn of(sheet: &'a Sheet, wait: Wait) -> Self {
        let spots: Vec<Spot> = sheet
            .rows
            .iter()
            .flat_map(|row| spots(row, wait))
            .chain(hindsight(sheet, wait))
            .collect();
        let most = spots
            .iter()
            .map(|spot| stretched(spot.wait))
            .fold(1.0, f64::max);
        let paid = spots.iter().map(|spot| spot.usd).filter(|usd| *usd > 0.0);
        let logs: Vec<f64> = paid.map(libm::log).collect();
        let least = logs.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let dollars = if least <= highest {
            (least - 0.15, highest + 0.1)
        } else {
            (0.0, 1.0)
        };
        Self {
            sheet,
            wait,
            waits: (0.0, most * 1.02),
            dollars,
        }
    }

    fn x(&self, wait: f64) -> f64 {
        let (from, to) = self.waits;
        LEFT + (stretched(wait) - from) / (to - from) * (WIDTH - LEFT - RIGHT)
    }

    /// What costs nothing lies at the bottom.
    fn y(&self, usd: f64) -> f64 {
        let (from, to) = self.dollars;
        let height = HEIGHT - TOP - BOTTOM;
        let up = (libm::log(usd.max(1e-9)) - from) / (to - from);
        TOP + height * (1.0 - up.clamp(0.0, 1.0))
    }

    pub(super) fn push(&self, out: &mut String) {
        let name = self.wait.name();
        let _ = writeln!(
            out,
            "<figure>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" class=\"plane\" role=\"img\" \
             aria-label=\"what instances cost against the {name}, on scales of ratios\">"
        );
        self.push_axes(out);
        self.push_front(out);
        self.push_bound(out);
        for (place, name) in names(self.sheet).into_iter().enumerate() {
            self.push_policy(out, place % COLOURS, name);
        }
        for spot in hindsight(self.sheet, self.wait) {
            let _ = writeln!(
                out,
                "<path class=\"hindsight\" d=\"M0-4l4 4-4 4-4-4z\" transform=\"translate({:.1} \
                 {:.1})\"><title>{}</title></path>",
                self.x(spot.wait),
                self.y(spot.usd),
                escaped(&spot.told)
            );
        }
        out.push_str("</svg>\n</figure>\n");
    }

    fn push_axes(&self, out: &mut String) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let secs = [
            (0.0, "0"),
            (1.0, "1 s"),
            (5.0, "5 s"),
            (15.0, "15 s"),
            (60.0, "1 min"),
            (300.0, "5 min"),
            (900.0, "15 min"),
            (3_600.0, "1 h"),
            (18_000.0, "5 h"),
            (86_400.0, "1 d"),
            (604_800.0, "7 d"),
            (2_592_000.0, "30 d"),
        ];
        for (secs, told) in secs
            .into_iter()
            .filter(|(secs, _)| stretched(*secs) <= self.waits.1)
        {
            let x = self.x(secs);
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{told}</text>",
                bottom + 14.0
            );
        }
        for usd in self.marks() {
            let y = self.y(usd);
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">${usd}</text>",
                LEFT - 6.0,
                y + 4.0
            );
        }
        let _ = writeln!(
            out,
            "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text class=\"name\" transform=\"translate(12 {:.1}) rotate(-90)\" \
             text-anchor=\"middle\">instances $</text>",
            f64::midpoint(LEFT, right),
            HEIGHT - 6.0,
            self.wait.name(),
            f64::midpoint(TOP, bottom)
        );
    }

    /// Round sums of money on the way up: few where the way is long.
    fn marks(&self) -> Vec<f64> {
        let (from, to) = self.dollars;
        let round: &[f64] = match to - from {
            way if way > 9.0 => &[1.0],
            way if way > 2.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0],
        };
        let tens = (-6_i32..=12).map(|power| libm::pow(10.0, f64::from(power)));
        let all = tens.flat_map(|ten| round.iter().map(move |one| one * ten));
        // Ten to a negative power is not quite what its digits say.
        let neat = all.map(|usd| format!("{usd:.6}").parse().unwrap_or(usd));
        neat.filter(|usd: &f64| (from..=to).contains(&libm::log(*usd)))
            .collect()
    }

    /// The dearest of all lines "bound at some price, less the waiting at that
    /// price": whoever waits so long on average pays at least that.
    fn push_bound(&self, out: &mut String) {
        let jobs = jobs(self.sheet);
        if self.wait != Wait::Mean || self.sheet.bounds.is_empty() {
            return;
        }
        let least = |wait: f64| {
            let line = |point: &BoundPoint| {
                point.limits.bound_usd - point.usd_per_job_hour_waiting * jobs * wait / 3_600.0
            };
            let lines = self.sheet.bounds.iter().map(line);
            lines.fold(f64::NEG_INFINITY, f64::max)
        };
        let mut path = String::new();
        for step in 0..=BOUND_POINTS {
            let share = f64::from(step) / f64::from(BOUND_POINTS);
            let wait = libm::expm1(self.waits.0 + share * (self.waits.1 - self.waits.0));
            let usd = least(wait);
            if usd <= 0.0 || libm::log(usd) < self.dollars.0 {
                break;
            }
            let word = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{word}{:.1} {:.1}", self.x(wait), self.y(usd));
        }
        let _ = writeln!(
            out,
            "<path class=\"bound\" d=\"{path}\"><title>the bound</title></path>"
        );
    }

    /// What no other point beats, of all policies: a stair, since between two of
    /// its points nothing was tried.
    fn push_front(&self, out: &mut String) {
        let rows = self.sheet.rows.iter();
        let all: Vec<Spot> = rows.flat_map(|row| spots(row, self.wait)).collect();
        let mut path = String::new();
        for spot in undominated_by(all, |spot| (spot.wait, spot.usd)) {
            let (x, y) = (self.x(spot.wait), self.y(spot.usd));
            let _ = if path.is_empty() {
                write!(path, "M{x:.1} {y:.1}")
            } else {
                write!(path, "H{x:.1}V{y:.1}")
            };
        }
        let _ = writeln!(
            out,
            "<path class=\"front\" d=\"{path}\"><title>the front: what nothing else beats</title></path>"
        );
    }

    fn push_policy(&self, out: &mut String, colour: usize, name: &str) {
        let own: Vec<&Row> = self
            .sheet
            .rows
            .iter()
            .filter(|row| row.policy == name)
            .collect();
        let Some(main) = own.last() else { return };
        let mut along = spots(main, self.wait);
        along.sort_by(|one, other| {
            one.wait
                .total_cmp(&other.wait)
                .then(other.usd.total_cmp(&one.usd))
        });
        let mut path = String::new();
        for spot in &along {
            let word = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(
                path,
                "{word}{:.1} {:.1}",
                self.x(spot.wait),
                self.y(spot.usd)
            );
        }
        let _ = writeln!(out, "<path class=\"line p{colour}\" d=\"{path}\"/>");
        for spot in &along {
            self.push_dot(out, &format!("dot p{colour}"), 2.5, spot);
        }
        for (place, row) in own.iter().enumerate() {
            let spot = itself(row, self.wait);
            let kind = if place + 1 == own.len() {
                "dot"
            } else {
                "ring"
            };
            self.push_dot(out, &format!("{kind} p{colour}"), 5.5, &spot);
        }
    }

    fn push_dot(&self, out: &mut String, class: &str, radius: f64, spot: &Spot) {
        let _ = writeln!(
            out,
            "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius}\"><title>{}</title></circle>",
            self.x(spot.wait),
            self.y(spot.usd),
            escaped(&spot.told)
        );
    }
}

/// A policy's row and its frontier.
fn spots(row: &Row, wait: Wait) -> Vec<Spot> {
    let mut spots = vec![itself(row, wait)];
    for point in &row.frontier {
        let knobs = point.knobs.iter();
        let knobs: Vec<String> = knobs
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        spots.push(spot(
            &knobs.join(", "),
            point.instance_usd,
            &point.wait_secs,
            wait,
        ));
    }
    spots
}

fn itself(row: &Row, wait: Wait) -> Spot {
    let name = if row.tuned {
        format!("{}, tuned", row.policy)
    } else {
        row.policy.clone()
    };
    spot(&name, row.instance_usd, &row.wait_secs, wait)
}

/// What schedules made with hindsight come to, one for each price of waiting.
/// Only their mean wait is known.
fn hindsight(sheet: &Sheet, wait: Wait) -> Vec<Spot> {
    let jobs = jobs(sheet);
    let one = |point: &BoundPoint| {
        let price = point.usd_per_job_hour_waiting;
        let limits = point.limits;
        let wait = limits.achieved_delay_usd / (price * jobs) * 3_600.0;
        let usd = limits.achieved_instance_usd;
        wait.is_finite().then(|| Spot {
            wait,
            usd,
            told: format!(
                "made with hindsight at ${price} per job and hour: ${usd:.2}, wait {wait:.1} s on \
                 average"
            ),
        })
    };
    let bounds = sheet.bounds.iter().filter(|_| wait == Wait::Mean);
    bounds.filter_map(one).collect()
}

/// How many jobs are scored.
fn jobs(sheet: &Sheet) -> f64 {
    let jobs = sheet.rows.first().map_or(0, |row| row.jobs);
    f64::from(u32::try_from(jobs).unwrap_or(u32::MAX))
}

fn spot(name: &str, usd: f64, waits: &Quantiles, wait: Wait) -> Spot {
    Spot {
        wait: wait.of(waits),
        usd,
        told: format!(
            "{name}: ${usd:.2}, wait {:.1} s on average, p95 {:.1} s",
            waits.mean, waits.p95
        ),
    }
}
