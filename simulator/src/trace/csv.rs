//! Rates and jobs as comma-separated values with a header.

use super::decimal::parse_whole;
use super::lines::Lines;
use super::{
    Classes, Interner, TIME_MICROS_MAX, TraceError, TraceKind, parse_time, seconds, shown,
};

/// What a header must be.
const HEADERS: &str = "`t_s,count`, `arrival_s,service_s` or `arrival_s,service_s,class`";

/// Reads the header and then what it announces.
pub(super) fn read(lines: &mut Lines<'_>) -> Result<TraceKind, TraceError> {
    if !lines.advance()? {
        return Err(lines.error(format!("the file is empty; expected the header {HEADERS}")));
    }
    let mut columns = [&[][..]; 4];
    let count = split(lines.current(), &mut columns);
    match (count, columns) {
        (2, [b"t_s", b"count", ..]) => read_rates(lines),
        (2, [b"arrival_s", b"service_s", ..]) => read_jobs(lines, Columns::WithoutClass),
        (3, [b"arrival_s", b"service_s", b"class", ..]) => read_jobs(lines, Columns::WithClass),
        _ => Err(lines.error(format!(
            "{} is no header of a trace; expected {HEADERS}, or a file name ending in .swf or .swf.gz",
            shown(lines.current())
        ))),
    }
}

fn read_rates(lines: &mut Lines<'_>) -> Result<TraceKind, TraceError> {
    let mut counts: Vec<u64> = Vec::new();
    let mut step_micros = 0;
    while lines.advance()? {
        let [at, count] = row(lines)?;
        let at = parse_time("t_s", at).map_err(|reason| lines.error(reason))?;
        let count = parse_whole(count)
            .map_err(|reason| lines.error(format!("count {} {reason}", shown(count))))?;
        let index = counts.len() as u64;
        if index == 1 {
            step_micros = at;
        }
        check_grid(index, step_micros, at).map_err(|reason| lines.error(reason))?;
        counts.push(count);
    }
    match counts.len() {
        0 => Err(lines.error("the trace has a header but no rows")),
        1 => {
            Err(lines.error("one row does not tell the length of a step; at least two are needed"))
        }
        _ => Ok(TraceKind::Rate {
            step_micros,
            counts,
        }),
    }
}

/// Row number `index` must lie at `index` steps, and its end must be in range.
fn check_grid(index: u64, step_micros: u64, at: u64) -> Result<(), String> {
    match index {
        0 if at != 0 => Err(format!("t_s must start at 0, and not at {}", seconds(at))),
        1 if at == 0 => Err("t_s must rise; it is 0 twice".into()),
        _ => match index.checked_mul(step_micros) {
            Some(expected) if expected == at => {
                let end = at.saturating_add(step_micros);
                let fits = end <= TIME_MICROS_MAX;
                fits.then_some(())
                    .ok_or_else(|| format!("the step ends at {}, too late", seconds(end)))
            }
            expected => Err(format!(
                "t_s is {}, but on the grid of {} comes {}; every step needs a row, with count 0 \
                 if nothing arrived",
                seconds(at),
                seconds(step_micros),
                seconds(expected.unwrap_or(u64::MAX)),
            )),
        },
    }
}

/// Whether a job has a third column.
#[derive(Clone, Copy)]
enum Columns {
    WithClass,
    WithoutClass,
}

fn read_jobs(lines: &mut Lines<'_>, columns: Columns) -> Result<TraceKind, TraceError> {
    let mut arrival_micros: Vec<u64> = Vec::new();
    let mut service_micros: Vec<u64> = Vec::new();
    let mut numbers: Vec<u32> = Vec::new();
    let mut interner = Interner::new();
    while lines.advance()? {
        let (arrival, service, class) = match columns {
            Columns::WithClass => {
                let [arrival, service, class] = row(lines)?;
                (arrival, service, Some(class))
            }
            Columns::WithoutClass => {
                let [arrival, service] = row(lines)?;
                (arrival, service, None)
            }
        };
        let arrival = parse_time("arrival_s", arrival).map_err(|reason| lines.error(reason))?;
        let service = parse_time("service_s", service).map_err(|reason| lines.error(reason))?;
        check_order(arrival_micros.last(), arrival).map_err(|reason| lines.error(reason))?;
        if let Some(class) = class {
            numbers.push(
                interner
                    .intern(class)
                    .map_err(|reason| lines.error(reason))?,
            );
        }
        arrival_micros.push(arrival);
        service_micros.push(service);
    }
    if arrival_micros.is_empty() {
        return Err(lines.error("the trace has a header but no rows"));
    }
    let classes = Classes {
        names: interner.names,
        numbers,
    };
    Ok(TraceKind::Jobs {
        arrival_micros,
        service_micros,
        classes,
    })
}

fn check_order(before: Option<&u64>, arrival: u64) -> Result<(), String> {
    match before {
        Some(before) if *before > arrival => Err(format!(
            "arrival_s is {}, before the {} of the row above; sort the jobs by arrival",
            seconds(arrival),
            seconds(*before),
        )),
        _ => Ok(()),
    }
}

/// The fields of the line in hand, which must be `N`.
fn row<'a, const N: usize>(lines: &'a Lines<'_>) -> Result<[&'a [u8]; N], TraceError> {
    let mut fields = [&[][..]; N];
    match split(lines.current(), &mut fields) {
        count if count == N => Ok(fields),
        count => Err(lines.error(format!(
            "{N} columns expected as in the header, {count} found in {}",
            shown(lines.current())
        ))),
    }
}

/// Puts the trimmed fields of a line where there is room, and counts them all.
fn split<'a>(line: &'a [u8], into: &mut [&'a [u8]]) -> usize {
    let mut count = 0;
    for field in line.split(|byte| *byte == b',') {
        if let Some(place) = into.get_mut(count) {
            *place = field.trim_ascii();
        }
        count += 1;
    }
    count
}
