//! Rates and jobs as comma-separated values with a header.

use super::decimal::parse_whole;
use super::lines::Lines;
use super::stream::JobBlock;
use super::swar;
use super::{
    Classes, Interner, TIME_MICROS_MAX, TraceError, TraceKind, parse_time, seconds, shown,
};

/// What a header must be.
const HEADERS: &str = "`t_s,count`, `arrival_s,service_s` or `arrival_s,service_s,class`";

/// What is said of fields that are quoted for a reason.
const QUOTED: &str = ": fields in quotes can hold neither commas nor quotes";

/// What a header announces.
pub(super) enum Announced {
    Rates,
    Jobs(Columns),
}

/// Reads the header and then what it announces.
pub(super) fn read(lines: &mut Lines<'_>) -> Result<TraceKind, TraceError> {
    match read_header(lines)? {
        Announced::Rates => read_rates(lines),
        Announced::Jobs(columns) => read_jobs(lines, columns),
    }
}

/// Reads the header.
pub(super) fn read_header(lines: &mut Lines<'_>) -> Result<Announced, TraceError> {
    if !lines.advance()? {
        return Err(lines.error(format!("the file is empty; expected the header {HEADERS}")));
    }
    let mut columns = [&[][..]; 4];
    let count = split(lines.current(), &mut columns);
    match (count, columns) {
        (2, [b"t_s", b"count", ..]) => Ok(Announced::Rates),
        (2, [b"arrival_s", b"service_s", ..]) => Ok(Announced::Jobs(Columns::WithoutClass)),
        (3, [b"arrival_s", b"service_s", b"class", ..]) => Ok(Announced::Jobs(Columns::WithClass)),
        _ => Err(lines.error(format!(
            "{} is no header of a trace; expected {HEADERS}, or a file name with the ending of \
             another format, such as .swf or .swf.gz",
            shown(lines.current())
        ))),
    }
}

/// Reads the rest of a trace of rates.
fn read_rates(lines: &mut Lines<'_>) -> Result<TraceKind, TraceError> {
    let mut rates = RateRows::default();
    while lines.advance()? {
        let [at, count] = match row(lines) {
            Ok(fields) => fields,
            Err(error) => {
                lines.refuse(error)?;
                continue;
            }
        };
        let parsed = parse_time("t_s", at).and_then(|at| {
            let count =
                parse_whole(count).map_err(|reason| format!("count {} {reason}", shown(count)))?;
            rates.push(at, count, lines.skipped_count())
        });
        if let Err(reason) = parsed {
            lines.refuse(lines.error(reason))?;
        }
    }
    rates.finish().map_err(|reason| lines.error(reason))
}

/// The rows of a rate trace so far.
#[derive(Default)]
pub(super) struct RateRows {
    step_micros: u64,
    counts: Vec<u64>,
    filled: u64,
}

impl RateRows {
    /// The next row. Where one was passed over (`skipped` so far), a gap in the
    /// grid is filled with steps without arrivals.
    pub(super) fn push(&mut self, at: u64, count: u64, skipped: u64) -> Result<(), String> {
        while self.filled < skipped
            && self.counts.len() >= 2
            && (self.counts.len() as u64).saturating_mul(self.step_micros) < at
        {
            self.counts.push(0);
            self.filled += 1;
        }
        let index = self.counts.len() as u64;
        let step_micros = if index == 1 { at } else { self.step_micros };
        check_grid(index, step_micros, at)?;
        self.step_micros = step_micros;
        self.counts.push(count);
        Ok(())
    }

    /// All of them.
    pub(super) fn finish(self) -> Result<TraceKind, String> {
        match self.counts.len() {
            0 => Err("the trace has a header but no rows".into()),
            1 => Err("one row does not tell the length of a step; at least two are needed".into()),
            _ => Ok(TraceKind::Rate {
                step_micros: self.step_micros,
                counts: self.counts,
            }),
        }
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

/// Reads the rest of a trace of jobs.
fn read_jobs(lines: &mut Lines<'_>, columns: Columns) -> Result<TraceKind, TraceError> {
    let mut rows = JobRows::new(columns);
    let mut block = JobBlock::default();
    rows.read_into(lines, &mut block, usize::MAX)?;
    if block.is_empty() {
        return Err(lines.error("the trace has a header but no rows"));
    }
    Ok(TraceKind::Jobs {
        arrival_micros: block.arrival_micros,
        service_micros: block.service_micros,
        classes: Classes {
            names: rows.interner.names,
            numbers: block.class_numbers,
        },
    })
}

/// Whether a job has a third column.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Columns {
    WithClass,
    WithoutClass,
}

/// The state of a reader of jobs between two blocks.
pub(super) struct JobRows {
    columns: Columns,
    interner: Interner,
    // The arrival of the job before.
    last: u64,
}

impl JobRows {
    pub(super) fn new(columns: Columns) -> Self {
        Self {
            columns,
            interner: Interner::new(),
            last: 0,
        }
    }

    /// The classes met so far.
    pub(super) fn class_names(&self) -> &[String] {
        &self.interner.names
    }

    /// Adds rows until the block has `jobs_max`, or the trace ends.
    pub(super) fn read_into(
        &mut self,
        lines: &mut Lines<'_>,
        block: &mut JobBlock,
        jobs_max: usize,
    ) -> Result<(), TraceError> {
        while block.len() < jobs_max {
            let left = usize::try_from(lines.lines_left()).unwrap_or(usize::MAX);
            let room = left.min(jobs_max - block.len());
            let (rows, bytes) = self.read_fast(lines.ahead(), block, room);
            lines.pass(rows, bytes);
            // The next line is one for the slow way: unusual, wrong, or not
            // whole in the buffer yet.
            if block.len() < jobs_max && !self.read_slow(lines, block)? {
                break;
            }
        }
        Ok(())
    }

    /// Reads plainly written rows, and says how many and how many bytes.
    fn read_fast(&mut self, bytes: &[u8], block: &mut JobBlock, rows_max: usize) -> (u64, usize) {
        let mut at = 0;
        let mut rows = 0;
        // Arrivals rise, so the next one is mostly as long as this one.
        let likely = swar::digits_of(self.last);
        while rows < rows_max {
            let Some(window) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
                break;
            };
            let Some(row) = swar::row(window, likely) else {
                break;
            };
            if row.arrival < self.last {
                break;
            }
            let length = match self.columns {
                Columns::WithoutClass => swar::line_end(window, row.end),
                Columns::WithClass => swar::class_end(window, row.end).and_then(|end| {
                    let class = &window[row.end + 1..end];
                    if class.first() == Some(&b'"') {
                        return None;
                    }
                    let number = self.interner.intern(class).ok()?;
                    block.class_numbers.push(number);
                    swar::line_end(window, end)
                }),
            };
            let Some(length) = length else {
                break;
            };
            self.last = row.arrival;
            block.arrival_micros.push(row.arrival);
            block.service_micros.push(row.service);
            at += length;
            rows += 1;
        }
        (rows as u64, at)
    }

    /// Reads one row of any kind; false at the end.
    fn read_slow(
        &mut self,
        lines: &mut Lines<'_>,
        block: &mut JobBlock,
    ) -> Result<bool, TraceError> {
        if !lines.advance()? {
            return Ok(false);
        }
        match self.parse(lines) {
            Ok((arrival, service, class)) => {
                self.last = arrival;
                block.arrival_micros.push(arrival);
                block.service_micros.push(service);
                block.class_numbers.extend(class);
            }
            Err(error) => lines.refuse(error)?,
        }
        Ok(true)
    }

    fn parse(&mut self, lines: &Lines<'_>) -> Result<(u64, u64, Option<u32>), TraceError> {
        let (arrival, service, class) = match self.columns {
            Columns::WithClass => {
                let [arrival, service, class] = row(lines)?;
                (arrival, service, Some(class))
            }
            Columns::WithoutClass => {
                let [arrival, service] = row(lines)?;
                (arrival, service, None)
            }
        };
        let error = |reason: String| lines.error(reason);
        let arrival = parse_time("arrival_s", arrival).map_err(error)?;
        let service = parse_time("service_s", service).map_err(error)?;
        check_order(self.last, arrival).map_err(error)?;
        if let Some(class) = class.filter(|class| class.starts_with(b"\"")) {
            return Err(error(format!("class {}{QUOTED}", shown(class))));
        }
        let class = class.map(|class| self.interner.intern(class)).transpose();
        Ok((arrival, service, class.map_err(error)?))
    }
}

/// Jobs come in the order of their arrivals.
pub(super) fn check_order(before: u64, arrival: u64) -> Result<(), String> {
    if before <= arrival {
        return Ok(());
    }
    Err(format!(
        "arrival_s is {}, before the {} of the row above; sort the jobs by arrival",
        seconds(arrival),
        seconds(before),
    ))
}

/// The fields of the line in hand, which must be `N`.
fn row<'a, const N: usize>(lines: &'a Lines<'_>) -> Result<[&'a [u8]; N], TraceError> {
    let mut fields = [&[][..]; N];
    match split(lines.current(), &mut fields) {
        count if count == N => Ok(fields),
        count => {
            let quotes = lines.current().contains(&b'"');
            Err(lines.error(format!(
                "{N} columns expected as in the header, {count} found in {}{}",
                shown(lines.current()),
                if quotes { QUOTED } else { "" }
            )))
        }
    }
}

/// Puts the trimmed fields of a line where there is room, and counts them all.
fn split<'a>(line: &'a [u8], into: &mut [&'a [u8]]) -> usize {
    let mut count = 0;
    for field in line.split(|byte| *byte == b',') {
        if let Some(place) = into.get_mut(count) {
            *place = unquoted(field.trim_ascii());
        }
        count += 1;
    }
    count
}

/// A field as it is, or what stands between its quotes.
fn unquoted(field: &[u8]) -> &[u8] {
    let inside = field
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    inside
        .filter(|inside| !inside.contains(&b'"'))
        .unwrap_or(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a text comes to, read at once.
    fn read_whole(text: &[u8], skip_bad: u64, fast: bool) -> (JobBlock, String) {
        let mut lines = Lines::new("test", text, skip_bad).expect("readable");
        let mut block = JobBlock::default();
        let read = read_header(&mut lines).and_then(|announced| match announced {
            Announced::Rates => Ok(()),
            Announced::Jobs(columns) => {
                let mut rows = JobRows::new(columns);
                if fast {
                    return rows.read_into(&mut lines, &mut block, usize::MAX);
                }
                while rows.read_slow(&mut lines, &mut block)? {}
                Ok(())
            }
        });
        let told = match read {
            Ok(()) => format!("{:?}", lines.into_skipped()),
            Err(error) => format!("{error}; {:?}", lines.skipped()),
        };
        (block, told)
    }

    fn check_same(text: &[u8]) {
        for skip_bad in [0, 1, 1_000] {
            let (fast, slow) = (
                read_whole(text, skip_bad, true),
                read_whole(text, skip_bad, false),
            );
            assert_eq!(fast, slow, "{:?}", String::from_utf8_lossy(text));
        }
    }

    /// Numbers as most are, and as hardly any is.
    fn number() -> impl Strategy<Value = String> {
        prop_oneof![
            8 => "[0-9]{1,3}\\.[0-9]{6}",
            4 => "[0-9]{1,9}(\\.[0-9]{0,8})?",
            1 => "[-+ ]?[0-9]{0,3}[.,eE:/]?[0-9]{0,30}[ \"]?",
            1 => "NaN|inf|-0|1e3|1e999|0x1|\u{663}|",
        ]
    }

    fn row() -> impl Strategy<Value = String> {
        let end =
            prop_oneof![12 => Just("\n"), 2 => Just("\r\n"), 1 => Just("\n\n"), 1 => Just("")];
        let class = prop_oneof![
            6 => Just(String::new()),
            6 => "[a-z]{1,4}".prop_map(|class| format!(",{class}")),
            1 => "[a-z \"]{0,80}".prop_map(|class| format!(",{class}")),
        ];
        // Arrivals that mostly rise: the number of the row goes in front.
        (any::<bool>(), number(), number(), class, end).prop_map(
            |(plain, arrival, service, class, end)| {
                let arrival = if plain {
                    format!("#{arrival}")
                } else {
                    arrival
                };
                format!("{arrival},{service}{class}{end}")
            },
        )
    }

    proptest! {
        #![proptest_config(crate::testing::properties(256))]

        #[test]
        fn both_ways_read_the_same_and_say_the_same(
            classed: bool,
            rows in prop::collection::vec(row(), 0..30),
            flipped in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        ) {
            let mut text = String::from(if classed { "arrival_s,service_s,class\n" } else { "arrival_s,service_s\n" });
            for (number, row) in rows.iter().enumerate() {
                text.push_str(&row.replace('#', &number.to_string()));
            }
            let mut bytes = text.into_bytes();
            check_same(&bytes);
            for (place, byte) in flipped {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            check_same(&bytes);
        }
    }

    /// Longer than what is read at once, so that rows lie across its end.
    #[test]
    fn both_ways_read_the_same_where_the_buffer_ends() {
        let row = |row: u32| format!("{}.{:06},{}.5\n", row / 3, row % 3 * 7, row % 200);
        let rows: String = (0..40_000).map(row).collect();
        let mut text = format!("arrival_s,service_s\n{rows}");
        check_same(text.as_bytes());
        text.push_str("1,1\n");
        check_same(text.as_bytes());
    }
}
