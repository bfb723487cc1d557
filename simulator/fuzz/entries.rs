//! What is tried with any bytes: one entry for each reader of traces. The fuzz
//! targets call them, and so does `tests/fuzz.rs`, which needs no nightly.

use std::sync::Once;

use windlass_simulator::trace::describe::{course, describe};
use windlass_simulator::trace::write::{OutFormat, write};
use windlass_simulator::trace::{
    ReadOptions, TIME_MICROS_MAX, Trace, TraceFormat, TraceKind, Values, read_bytes_with,
    silence_caught_panics,
};

/// What is called with a file's bytes; it panics if something does not hold.
pub(crate) type Entry = fn(&[u8]);

/// The entries by the names of their targets and of the folders with seeds.
pub(crate) const ENTRIES: [(&str, Entry); 8] = [
    ("access_log", access_log),
    ("cache", cache),
    ("csv", csv),
    ("json", json),
    ("json_lines", json_lines),
    ("parquet", parquet),
    ("swf", swf),
    ("unnamed", unnamed),
];

pub(crate) fn access_log(bytes: &[u8]) {
    check(Some(TraceFormat::AccessLog), bytes);
}

pub(crate) fn cache(bytes: &[u8]) {
    check(Some(TraceFormat::Cache), bytes);
}

pub(crate) fn csv(bytes: &[u8]) {
    check(Some(TraceFormat::Csv), bytes);
}

pub(crate) fn json(bytes: &[u8]) {
    check(Some(TraceFormat::Json), bytes);
}

pub(crate) fn json_lines(bytes: &[u8]) {
    check(Some(TraceFormat::JsonLines), bytes);
}

pub(crate) fn parquet(bytes: &[u8]) {
    check(Some(TraceFormat::Parquet), bytes);
}

pub(crate) fn swf(bytes: &[u8]) {
    check(Some(TraceFormat::Swf), bytes);
}

/// Any format, told by the beginning.
pub(crate) fn unnamed(bytes: &[u8]) {
    check(None, bytes);
}

/// What the fuzzer must not take for a fault: it ends at every panic it is told of.
static SILENCE: Once = Once::new();

/// A trace that keeps its promises, or an error in one line; the same again,
/// and with lines that may be passed over.
fn check(format: Option<TraceFormat>, bytes: &[u8]) {
    SILENCE.call_once(silence_caught_panics);
    let mut options = ReadOptions {
        format,
        ..ReadOptions::default()
    };
    let strict = read(bytes, &options);
    if strict.as_ref().is_ok_and(is_long) {
        return;
    }
    assert_eq!(strict, read(bytes, &options), "the same twice");
    options.skip_bad = 3;
    options.values = Values::PerSecond;
    let lenient = read(bytes, &options);
    if let (Ok(strict), false) = (&strict, format == Some(TraceFormat::Json)) {
        let rates = matches!(strict.kind(), TraceKind::Rate { .. });
        assert!(rates || lenient.as_ref() == Ok(strict), "nothing was bad");
    }
    for trace in [strict, lenient].iter().flatten() {
        assert!(trace.skipped().count <= 3);
        if !is_long(trace) {
            check_trace(trace);
        }
    }
}

/// Two dates of a log are enough for three years of seconds. Of such traces it is
/// only tried that they are read, or the fuzzer would find nothing else.
fn is_long(trace: &Trace) -> bool {
    const STEPS_MAX: usize = 1_000_000;
    matches!(trace.kind(), TraceKind::Rate { counts, .. } if counts.len() > STEPS_MAX)
}

fn read(bytes: &[u8], options: &ReadOptions) -> Result<Trace, String> {
    read_bytes_with("x", bytes, options).map_err(|error| {
        let text = error.to_string();
        assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
        assert!(text.len() < 4_000, "{} bytes of reason", text.len());
        text
    })
}

fn check_trace(trace: &Trace) {
    const TEN_YEARS: u64 = 10 * 366 * 86_400 * 1_000_000;
    match trace.kind() {
        TraceKind::Rate {
            step_micros,
            counts,
        } => assert!(*step_micros > 0 && !counts.is_empty()),
        TraceKind::Jobs {
            arrival_micros,
            service_micros,
            classes,
        } => {
            assert!(!arrival_micros.is_empty() && arrival_micros.is_sorted());
            assert_eq!(arrival_micros.len(), service_micros.len());
            let times = arrival_micros.iter().chain(service_micros);
            assert!(times.max().is_some_and(|most| *most <= TIME_MICROS_MAX));
            let numbers = classes.numbers();
            assert!(numbers.is_empty() || numbers.len() == arrival_micros.len());
            let known = classes.names().len();
            assert!(numbers.iter().all(|number| (*number as usize) < known));
        }
    }
    assert!(trace.span_micros() > 0);
    if trace.span_micros() < TEN_YEARS {
        describe(trace);
        assert!(course(trace, 70).iter().all(|rate| *rate >= 0.0));
    }
    let mut written = Vec::new();
    write(trace, OutFormat::Cache, &mut written).expect("memory");
    let options = ReadOptions::default();
    let again = read_bytes_with("x", written.as_slice(), &options).expect("what was written");
    assert_eq!(again.kind(), trace.kind(), "written and read");
}
