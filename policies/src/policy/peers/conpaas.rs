//! `kind = "conpaas"`: the predictive rule of `ConPaaS`, Fernandez et al. (2014).
//!
//! It forecasts the load ([`super::load`]) from its last 21 points by three
//! models, and follows the one that was nearest last time:
//!
//! ```text
//! auto-regression of order 9      20 points ahead
//! linear regression               20 points, the newest included
//! Holt-Winters (0.2, 0.1, 0.05), season of 2 points        2 points ahead
//! wish = mean of the forecast, point i weighted by i (from 0), rounded up
//! ```
//!
//! A forecast of nothing keeps what there is. Below a load of one server there
//! is one. Until there are 21 points it reacts: the whole part of the load.
//!
//! Sources: H. Fernandez, G. Pierre, T. Kielmann, "Autoscaling Web applications
//! in heterogeneous cloud infrastructures", IC2E 2014; `prediction_models.py`
//! and `performance.py` of <https://github.com/ConPaaS-team/conpaas>, as
//! evaluated by Ilyushkin et al., ICPE 2017. The code of
//! <https://github.com/ahmedaley/Autoscalers> never leaves the auto-regression;
//! `model` can hold it, too. There that model is fitted by maximum likelihood
//! with a library; here by least squares, which gives other digits. Before the
//! 21st point that code has no capacity at all, by a slip of the pen; that is
//! not kept.
//!
//! Flaws kept: forecasts end after twenty points and weigh the far ones most. A
//! falling line soon forecasts nothing, which is taken for no forecast.
//!
//! | key | meaning |
//! |---|---|
//! | `model` | `"nearest"`, `"auto_regression"`, `"linear_regression"` or `"exponential_smoothing"`; default `"nearest"` |
//! | `service_mean`, `period`, `count_backlog`, `arrivals_signal`, `signal` | as in [`super::load`] |

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::load::{Load, LoadNotes};
use super::{Demand, Opinion, View};
use crate::fields::Fields;
use crate::policy::rounding::{self, text};

/// The predictive rule of `ConPaaS`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conpaas {
    /// How load is measured.
    pub load: Load,
    /// Which model it follows; the nearest of late if `None`.
    pub model: Option<Model>,
}

/// How it forecasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// From the nine points before.
    AutoRegression,
    /// Along a line.
    LinearRegression,
    /// Level, trend and season, smoothed.
    ExponentialSmoothing,
}

impl Model {
    const ALL: [Self; 3] = [
        Self::AutoRegression,
        Self::LinearRegression,
        Self::ExponentialSmoothing,
    ];

    fn forecast(self, points: &[f64]) -> f64 {
        weighted(&match self {
            Self::AutoRegression => auto_regression(points),
            Self::LinearRegression => linear_regression(points),
            Self::ExponentialSmoothing => holt_winters(points),
        })
    }
}

/// How many points a forecast is made of.
const POINTS: usize = 21;

/// How many points ahead.
const AHEAD: u32 = 20;

/// How many points before one the auto-regression looks at.
const ORDER: usize = 9;

/// What it remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    load: LoadNotes,
    points: VecDeque<f64>,
    /// What each model said last, in the order of [`Model::ALL`].
    said: Option<[f64; 3]>,
}

impl Conpaas {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let words = [
            ("nearest", None),
            ("auto_regression", Some(Model::AutoRegression)),
            ("linear_regression", Some(Model::LinearRegression)),
            ("exponential_smoothing", Some(Model::ExponentialSmoothing)),
        ];
        let model = fields.word("model", &words).flatten();
        let load = Load::read(fields)?;
        Some(Self { load, model })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        self.load.demands()
    }

    pub(super) fn step(&self, notes: &mut Notes, view: &View<'_>) -> Option<Opinion> {
        let load = match self.load.measure(&mut notes.load, view) {
            Ok(load) => load?,
            Err((signal, absence)) => return Some(Opinion::abstain(signal, absence)),
        };
        notes.points.push_back(load);
        while notes.points.len() > POINTS {
            notes.points.pop_front();
        }
        let shown = format!("load {}", text(load));
        if notes.points.len() < POINTS {
            let why = format!("{shown}, of {} points", notes.points.len());
            return Some(Opinion::instances(rounding::floor(load), why));
        }
        let points: Vec<f64> = notes.points.iter().copied().collect();
        let said = Model::ALL.map(|model| model.forecast(&points));
        let before = notes.said.replace(said);
        if load <= 1.0 {
            return Some(Opinion::instances(1, format!("{shown}: one server")));
        }
        let chosen = match self.model {
            Some(model) => said[place(model)],
            None => nearest(before, said, load),
        };
        if chosen > 0.0 {
            let why = format!("{shown}, forecast {}", text(chosen));
            Some(Opinion::instances(rounding::up(chosen), why))
        } else {
            let why = format!("{shown}, and no forecast");
            Some(Opinion::instances(view.desired, why))
        }
    }
}

fn place(model: Model) -> usize {
    match model {
        Model::AutoRegression => 0,
        Model::LinearRegression => 1,
        Model::ExponentialSmoothing => 2,
    }
}

/// What the model says now that was nearest to `load`; the first of equals, and
/// at the beginning.
fn nearest(before: Option<[f64; 3]>, said: [f64; 3], load: f64) -> f64 {
    let Some(before) = before else {
        return said[0];
    };
    let mut best = 0;
    for index in 1..before.len() {
        if (before[index] - load).abs() < (before[best] - load).abs() {
            best = index;
        }
    }
    said[best]
}

/// The mean with weights 0, 1, 2...; what is below zero counts as nothing, and
/// has no weight.
fn weighted(forecast: &[f64]) -> f64 {
    let (mut sum, mut weights, mut weight) = (0.0, 0.0, 0.0);
    for value in forecast {
        if *value >= 0.0 {
            sum += value * weight;
            weights += weight;
        }
        weight += 1.0;
    }
    if sum > 0.0 { sum / weights } else { 0.0 }
}

fn linear_regression(points: &[f64]) -> Vec<f64> {
    let count = f64::from(u32::try_from(points.len()).unwrap_or(u32::MAX));
    let middle = (count - 1.0) / 2.0;
    let mean = points.iter().sum::<f64>() / count;
    let (mut across, mut square, mut x) = (0.0, 0.0, -middle);
    for y in points {
        across += x * (y - mean);
        square += x * x;
        x += 1.0;
    }
    let slope = across / square;
    let ahead = (0..AHEAD).map(|index| mean + slope * (middle + f64::from(index)));
    ahead.collect()
}

/// Holt and Winters, with a season of two points; nothing if the season cannot
/// be told.
fn holt_winters(points: &[f64]) -> Vec<f64> {
    const SEASON: usize = 2;
    let (alpha, beta, gamma) = (0.2, 0.1, 0.05);
    let second = f64::midpoint(points[2], points[3]);
    let first = f64::midpoint(points[0], points[1]);
    let trend = (second - first) / 2.0;
    let level = first - trend * 1.5;
    // Where the line crosses nothing there is no index, and so no forecast.
    let mut place = 0.0;
    let indices: Vec<f64> = points
        .iter()
        .map(|y| {
            place += 1.0;
            y / (level + place * trend)
        })
        .collect();
    let mut seasons: Vec<f64> = (0..SEASON)
        .map(|index| f64::midpoint(indices[index], indices[index + SEASON]))
        .collect();
    let scale = 2.0 / seasons.iter().sum::<f64>();
    for season in &mut seasons {
        *season *= scale;
    }
    let (mut level, mut trend) = (level, trend);
    for (index, y) in points.iter().enumerate() {
        let (level_before, trend_before) = (level, trend);
        level = alpha * y / seasons[index] + (1.0 - alpha) * (level_before + trend_before);
        trend = beta * (level - level_before) + (1.0 - beta) * trend_before;
        seasons.push(gamma * y / level + (1.0 - gamma) * seasons[index]);
    }
    let ahead = [1.0, 2.0].iter().zip(&seasons[points.len()..]);
    let ahead: Vec<f64> = ahead
        .map(|(far, season)| (level + trend * far) * season)
        .collect();
    if ahead.iter().all(|value| value.is_finite()) {
        ahead
    } else {
        Vec::new()
    }
}

/// Each point from a constant and the nine before it, by least squares; a
/// system that does not say all is settled by the smallest numbers (nearly).
fn auto_regression(points: &[f64]) -> Vec<f64> {
    const TERMS: usize = ORDER + 1;
    let terms = |before: &[f64]| {
        let mut terms = [1.0; TERMS];
        for (lag, term) in (1..).zip(&mut terms[1..]) {
            *term = before[before.len() - lag];
        }
        terms
    };
    let mut system = [[0.0; TERMS + 1]; TERMS];
    for end in ORDER..points.len() {
        let terms = terms(&points[..end]);
        for (row, left) in system.iter_mut().zip(terms) {
            for (cell, right) in row.iter_mut().zip(terms) {
                *cell += left * right;
            }
            row[TERMS] += left * points[end];
        }
    }
    let largest = (0..TERMS).map(|index| system[index][index]);
    let ridge = largest.fold(1.0, f64::max) * 1e-9;
    for (index, row) in system.iter_mut().enumerate() {
        row[index] += ridge;
    }
    let Some(weights) = solved(system) else {
        return Vec::new();
    };
    let mut series = points.to_vec();
    for _ in 0..AHEAD {
        let terms = terms(&series);
        let next: f64 = terms.iter().zip(weights).map(|(term, weight)| term * weight).sum();
        // A forecast that runs away is none.
        if !(next.abs() < 1e9) {
            return Vec::new();
        }
        series.push(next);
    }
    // Before them stands what the newest point should have been, and has no
    // weight.
    series.split_off(points.len() - 1)
}

/// Gauss, with the largest pivot first; `None` if there is none.
fn solved<const N: usize, const M: usize>(mut system: [[f64; M]; N]) -> Option<[f64; N]> {
    for column in 0..N {
        let pivot = (column..N).fold(column, |best, row| {
            if system[row][column].abs() > system[best][column].abs() {
                row
            } else {
                best
            }
        });
        system.swap(column, pivot);
        let top = system[column];
        if !(top[column].abs() > 1e-300) {
            return None;
        }
        for row in &mut system[column + 1..] {
            let share = row[column] / top[column];
            for (cell, above) in row.iter_mut().zip(top) {
                *cell -= share * above;
            }
        }
    }
    let mut found = [0.0; N];
    for row in (0..N).rev() {
        let known: f64 = (row + 1..N).map(|index| system[row][index] * found[index]).sum();
        found[row] = (system[row][N] - known) / system[row][row];
    }
    Some(found)
}
