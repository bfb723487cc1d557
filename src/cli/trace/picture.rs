//! A trace as a picture of block characters.

use std::io::{self, Write};
use std::time::Duration;

use windlass_simulator::trace::Trace;
use windlass_simulator::trace::describe::{course, hours_of_week};

use crate::cli::text::{number, span};

/// As wide as fits into a terminal of 80 columns beside the scale.
const COLUMNS: usize = 66;
/// As high as is needed to tell a daily course from noise.
const ROWS: usize = 8;
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Draws the course of the rate over the whole trace and, if it is long enough,
/// over the hours of the week.
pub(super) fn write(out: &mut dyn Write, trace: &Trace) -> io::Result<()> {
    let length = span(Duration::from_micros(trace.span_micros()));
    writeln!(out, "\narrivals per second over {length}")?;
    write_bars(out, &course(trace, COLUMNS))?;
    let Some(week) = hours_of_week(trace) else {
        return Ok(());
    };
    let known = trace.begins_at().is_some();
    let zone = if known { " (UTC)" } else { " from its zero" };
    writeln!(out, "\nhours of the week{zone}, 0 to 23")?;
    let most = week.iter().copied().fold(0.0, f64::max);
    for (day, hours) in week.chunks(24).enumerate() {
        let name = if known {
            DAYS[day].to_owned()
        } else {
            format!("{}", day + 1)
        };
        let cells: String = hours
            .iter()
            .flat_map(|rate| [block(*rate, most, BLOCKS.len() - 1); 2])
            .collect();
        let mean = hours.iter().sum::<f64>() / 24.0;
        writeln!(out, "{name:>10} {cells} {}", short(mean))?;
    }
    Ok(())
}

fn write_bars(out: &mut dyn Write, rates: &[f64]) -> io::Result<()> {
    let most = rates.iter().copied().fold(0.0, f64::max);
    let levels = BLOCKS.len() - 1;
    for row in (0..ROWS).rev() {
        let label = match row {
            0 => "0".to_owned(),
            row if row == ROWS - 1 => short(most),
            _ => String::new(),
        };
        let line: String = rates
            .iter()
            .map(|rate| {
                let filled = level(*rate, most, ROWS * levels);
                BLOCKS[filled.saturating_sub(row * levels).min(levels)]
            })
            .collect();
        writeln!(out, "{label:>10} {}", line.trim_end())?;
    }
    Ok(())
}

fn block(rate: f64, most: f64, levels: usize) -> char {
    BLOCKS[level(rate, most, levels)]
}

/// How many of `levels` are filled: none only if nothing arrives.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a few levels"
)]
fn level(rate: f64, most: f64, levels: usize) -> usize {
    if !(rate > 0.0 && most > 0.0) {
        return 0;
    }
    ((rate / most * levels as f64).round() as usize).clamp(1, levels)
}

fn short(rate: f64) -> String {
    if rate >= 100.0 {
        format!("{rate:.0}")
    } else if rate >= 0.01 {
        number((rate * 100.0).round() / 100.0)
    } else if rate > 0.0 {
        format!("{rate:.1e}")
    } else {
        "0".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_shows_days_and_nights() {
        let counts = (0..14 * 24_u64)
            .map(|hour| {
                if hour % 24 < 12 {
                    0
                } else {
                    3_600 * (1 + hour / 24 % 7)
                }
            })
            .collect();
        let trace = Trace::of_counts("t", 3_600_000_000, counts).expect("valid");
        let mut out = Vec::new();
        write(&mut out, &trace).expect("memory");
        let text = String::from_utf8(out).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "arrivals per second over 14 d");
        assert!(lines[2].starts_with("         7 "), "{text}");
        let night = " ".repeat(24);
        assert_eq!(
            lines[12],
            format!("         1 {night}{} 0.5", "▁".repeat(24))
        );
        assert_eq!(
            lines[18],
            format!("         7 {night}{} 3.5", "█".repeat(24))
        );
        assert_eq!(lines.len(), 19, "{text}");
    }

    #[test]
    fn nothing_and_little_differ() {
        assert_eq!(block(0.0, 1.0, 8), ' ');
        assert_eq!(block(0.001, 1.0, 8), '▁');
        assert_eq!(block(1.0, 1.0, 8), '█');
        assert_eq!(block(0.0, 0.0, 8), ' ');
    }
}
