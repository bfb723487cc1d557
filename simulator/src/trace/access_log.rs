//! Access logs in the Common Log Format and its kin.

use windlass_policies::units::{MICROS_PER_SEC, Timestamp};

use super::lines::Lines;
use super::{Classes, Interner, TIME_MICROS_MAX, TraceError, TraceKind, parse_time, shown};

/// The longest log, in seconds: three years. Beyond it a date is wrong.
const SECONDS_MAX: u64 = 100_000_000;

const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// What a line must be.
const EXPECTED: &str =
    "expected `host ident user [01/Jul/1995:00:00:01 -0400] \"request\" status bytes`";

/// One request.
struct Request {
    second: u64,
    service: u64,
    class: u32,
}

/// Reads all lines, and what time it was at the trace's zero.
pub(super) fn read(lines: &mut Lines<'_>) -> Result<(TraceKind, Timestamp), TraceError> {
    let mut clock = Clock::default();
    let mut counts: Vec<(u64, u64)> = Vec::new();
    let mut requests: Vec<Request> = Vec::new();
    let mut interner = Interner::new();
    // Whether lines end in the time a request took; the first good line tells.
    let mut timed = None;
    while lines.advance()? {
        let line = lines.current();
        let parsed = clock.second_of(line).and_then(|second| {
            let timed = *timed.get_or_insert_with(|| time_taken(line).is_some());
            if !timed {
                return Ok((second, None));
            }
            let service = time_taken(line).ok_or_else(|| {
                format!(
                    "{} does not end in the time it took, as the first line does",
                    shown(line)
                )
            })??;
            let class = interner.intern(method(line))?;
            Ok((second, Some((service, class))))
        });
        match parsed {
            Err(reason) => lines.refuse(lines.error(reason))?,
            Ok((second, Some((service, class)))) => requests.push(Request {
                second,
                service,
                class,
            }),
            Ok((second, None)) => match counts.last_mut() {
                Some((last, count)) if *last == second => *count += 1,
                _ => counts.push((second, 1)),
            },
        }
    }
    let made = if requests.is_empty() {
        rates(counts)
    } else {
        jobs(requests, interner)
    };
    made.map_err(|reason| lines.error(reason))
}

fn rates(mut counts: Vec<(u64, u64)>) -> Result<(TraceKind, Timestamp), String> {
    counts.sort_unstable();
    let (Some((first, _)), Some((last, _))) = (counts.first(), counts.last()) else {
        return Err(format!("the log holds no request; {EXPECTED}"));
    };
    let first = *first;
    let seconds = checked_span(first, *last)? + 1;
    let mut grid = vec![0; usize::try_from(seconds).unwrap_or(0)];
    for (second, count) in counts {
        if let Some(place) = usize::try_from(second - first)
            .ok()
            .and_then(|index| grid.get_mut(index))
        {
            *place += count;
        }
    }
    let kind = TraceKind::Rate {
        step_micros: MICROS_PER_SEC,
        counts: grid,
    };
    Ok((kind, Timestamp::from_secs(first)))
}

fn jobs(mut requests: Vec<Request>, interner: Interner) -> Result<(TraceKind, Timestamp), String> {
    // Stable: requests of one second keep the order of the log.
    requests.sort_by_key(|request| request.second);
    let first = requests.first().map_or(0, |request| request.second);
    let last = requests.last().map_or(0, |request| request.second);
    checked_span(first, last)?;
    let kind = TraceKind::Jobs {
        arrival_micros: requests
            .iter()
            .map(|request| (request.second - first) * MICROS_PER_SEC)
            .collect(),
        service_micros: requests.iter().map(|request| request.service).collect(),
        classes: Classes {
            names: interner.names,
            numbers: requests.iter().map(|request| request.class).collect(),
        },
    };
    Ok((kind, Timestamp::from_secs(first)))
}

fn checked_span(first: u64, last: u64) -> Result<u64, String> {
    let span = last - first;
    if span >= SECONDS_MAX {
        return Err(format!(
            "the log reaches over {span} seconds from its first to its last date, which is more \
             than {SECONDS_MAX}; one of its dates must be wrong"
        ));
    }
    Ok(span)
}

/// Reads dates, and remembers the last one: most lines have the same.
#[derive(Default)]
struct Clock {
    text: Vec<u8>,
    second: u64,
}

/// `01/Jul/1995:00:00:01 -0400`.
const DATE_BYTES: usize = 26;

impl Clock {
    fn second_of(&mut self, line: &[u8]) -> Result<u64, String> {
        let wrong = || format!("no date in {}; {EXPECTED}", shown(line));
        let date = bracketed(line).ok_or_else(wrong)?;
        if date != self.text {
            self.second = parse_date(date).ok_or_else(wrong)?;
            self.text.clear();
            self.text.extend_from_slice(date);
        }
        Ok(self.second)
    }
}

/// What stands in the first brackets that are as long as a date; hosts may
/// have brackets too, such as `[2001:db8::1]`.
fn bracketed(line: &[u8]) -> Option<&[u8]> {
    let opens = line.iter().enumerate().filter(|(_, byte)| **byte == b'[');
    opens
        .map(|(at, _)| &line[at + 1..])
        .find(|rest| rest.get(DATE_BYTES) == Some(&b']') && rest.get(2) == Some(&b'/'))
        .map(|rest| &rest[..DATE_BYTES])
}

/// Whether the line has a date where a request has one.
pub(super) fn looks_like(line: &[u8]) -> bool {
    bracketed(line).and_then(parse_date).is_some()
}

fn parse_date(date: &[u8]) -> Option<u64> {
    let text = str::from_utf8(date).ok()?;
    let month = MONTHS
        .iter()
        .position(|month| Some(*month) == date.get(3..6))?
        + 1;
    let (day, year, clock) = (text.get(0..2)?, text.get(7..11)?, text.get(12..20)?);
    let (hours, minutes) = (text.get(21..24)?, text.get(24..26)?);
    let plain = [(2, b'/'), (6, b'/'), (11, b':'), (20, b' ')];
    if plain.iter().any(|(at, byte)| date.get(*at) != Some(byte)) {
        return None;
    }
    let stamp = format!("{year}-{month:02}-{day}T{clock}{hours}:{minutes}");
    let at = Timestamp::parse(&stamp).ok()?;
    Some(at.micros() / MICROS_PER_SEC)
}

/// The time the request took, if the line ends in one more number than the
/// common (status and bytes) or the combined format (user agent) has.
fn time_taken(line: &[u8]) -> Option<Result<u64, String>> {
    let quote = line.iter().rposition(|byte| *byte == b'"')?;
    let mut tokens = line[quote + 1..]
        .split(u8::is_ascii_whitespace)
        .filter(|token| !token.is_empty());
    let first = tokens.next()?;
    let last = match (tokens.next(), tokens.next(), tokens.next()) {
        (None, _, _) => first,
        (Some(_), Some(third), None) => third,
        _ => return None,
    };
    if last.contains(&b'.') {
        return Some(parse_time("time taken", last));
    }
    let digits = last.iter().all(u8::is_ascii_digit);
    let micros: Option<u64> = str::from_utf8(last).ok().and_then(|text| text.parse().ok());
    digits.then(|| {
        micros
            .filter(|micros| *micros <= TIME_MICROS_MAX)
            .ok_or_else(|| format!("time taken {} is too large", shown(last)))
    })
}

/// `GET`, `POST` and so on; `-` if the request is no request.
fn method(line: &[u8]) -> &[u8] {
    const BYTES_MAX: usize = 16;
    let request = line.iter().position(|byte| *byte == b'"');
    let request = request.map_or(&[][..], |quote| &line[quote + 1..]);
    let end = request
        .iter()
        .position(|byte| !byte.is_ascii_uppercase())
        .unwrap_or(0);
    match end {
        1..=BYTES_MAX if request.get(end) == Some(&b' ') => &request[..end],
        _ => b"-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_with_their_zone() {
        for (date, second) in [
            ("01/Jul/1995:00:00:01 -0400", Some(804_571_201)),
            ("01/Jan/1970:00:00:00 +0000", Some(0)),
            ("29/Feb/2024:23:59:59 +0530", Some(1_709_231_399)),
            ("30/Feb/2024:23:59:59 +0000", None),
            ("01/jul/1995:00:00:01 -0400", None),
            ("01/Jul/1995 00:00:01 -0400", None),
        ] {
            assert_eq!(parse_date(date.as_bytes()), second, "{date}");
        }
    }

    #[test]
    fn a_time_taken_is_what_comes_after_the_known_fields() {
        let common = r#"h - - [01/Jul/1995:00:00:01 -0400] "GET /a b HTTP/1.0" 200 6245"#;
        let combined = format!("{common} \"-\" \"agent\"");
        for (line, expected) in [
            (common.to_owned(), None),
            (combined.clone(), None),
            (format!("{common} 0.250"), Some(250_000)),
            (format!("{combined} 1234"), Some(1_234)),
            (format!("{combined} -"), None),
        ] {
            let taken = time_taken(line.as_bytes()).map(|taken| taken.expect("in range"));
            assert_eq!(taken, expected, "{line}");
            assert_eq!(method(line.as_bytes()), b"GET");
        }
    }
}
