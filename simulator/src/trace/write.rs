//! Writing traces.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use thiserror::Error;

use super::{Classes, Trace, TraceKind, cache};

/// What a file name must end in.
const ENDINGS: &str = ".rate.csv, .jobs.csv or .wtrace, perhaps followed by .gz";

/// Why a trace is not written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The name or the kind of trace does not fit; the text says what to do.
    #[error("cannot write {name}: {reason}")]
    Unfit {
        /// The file.
        name: String,
        /// What to change.
        reason: String,
    },
    /// The system refuses.
    #[error("cannot write {name}")]
    Unwritten {
        /// The file.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// How a file is to hold a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutFormat {
    /// `t_s,count`.
    Rates,
    /// `arrival_s,service_s` and perhaps `class`.
    Jobs,
    /// The cache; see [`cache`].
    Cache,
}

impl OutFormat {
    /// The format that a file name asks for by its ending, and whether it is
    /// to be gzipped.
    pub fn of_name(path: &Path) -> Option<(Self, bool)> {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        let (name, zipped) = match name.strip_suffix(".gz") {
            Some(name) => (name, true),
            None => (name.as_str(), false),
        };
        let formats = [
            (".rate.csv", Self::Rates),
            (".jobs.csv", Self::Jobs),
            (".wtrace", Self::Cache),
        ];
        let found = formats
            .into_iter()
            .find(|(ending, _)| name.ends_with(ending));
        found.map(|(_, format)| (format, zipped))
    }
}

/// Writes a trace into a file, in the format that its ending names. The file is
/// there when it is whole: until then it has another name.
///
/// # Errors
/// If the ending says no format, or one for the other kind of trace, or the
/// file cannot be written.
pub fn write_file(trace: &Trace, path: &Path) -> Result<(), WriteError> {
    let name = path.display().to_string();
    let unfit = |reason: String| WriteError::Unfit {
        name: name.clone(),
        reason,
    };
    let (format, zipped) =
        OutFormat::of_name(path).ok_or_else(|| unfit(format!("its name must end in {ENDINGS}")))?;
    check(trace, format).map_err(unfit)?;
    let part = path.with_file_name({
        let mut part = OsString::from(path.file_name().unwrap_or_default());
        part.push(".part");
        part
    });
    let written = File::create(&part)
        .and_then(|file| write_zipped(trace, format, zipped, file))
        .and_then(|()| fs::rename(&part, path));
    written.map_err(|source| {
        // What is left of it is of no use; that it stays is no further trouble.
        let _ = fs::remove_file(&part);
        WriteError::Unwritten { name, source }
    })
}

fn write_zipped(trace: &Trace, format: OutFormat, zipped: bool, file: File) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 17, file);
    if zipped {
        let mut encoder = GzEncoder::new(out, Compression::default());
        write(trace, format, &mut encoder)?;
        out = encoder.finish()?;
    } else {
        write(trace, format, &mut out)?;
    }
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()
}

/// Whether the format can hold the trace.
fn check(trace: &Trace, format: OutFormat) -> Result<(), String> {
    match (trace.kind(), format) {
        (TraceKind::Rate { .. }, OutFormat::Jobs) => Err(
            "the trace says when jobs arrive but not how long they take; write a .rate.csv".into(),
        ),
        (TraceKind::Jobs { .. }, OutFormat::Rates) => {
            Err("the trace holds jobs; count them into steps first".into())
        }
        (TraceKind::Jobs { classes, .. }, OutFormat::Jobs) => check_classes(classes),
        (TraceKind::Rate { counts, .. }, OutFormat::Rates) if counts.len() < 2 => {
            Err("one row would not tell the length of a step; write a .wtrace".into())
        }
        (TraceKind::Rate { .. }, OutFormat::Rates) | (_, OutFormat::Cache) => Ok(()),
    }
}

fn check_classes(classes: &Classes) -> Result<(), String> {
    let unfit = |name: &&String| {
        name.contains([',', '\n', '\r'])
            || name.starts_with('"')
            || name.trim_ascii().len() != name.len()
    };
    match classes.names().iter().find(unfit) {
        Some(name) => Err(format!(
            "the class {name:?} has a comma, a line end, or a quote or a space at an end; write a .wtrace"
        )),
        None => Ok(()),
    }
}

/// Writes a trace. The kind of trace and the format must fit.
///
/// # Errors
/// If it cannot be written; [`io::ErrorKind::InvalidInput`] if they do not fit.
pub fn write(trace: &Trace, format: OutFormat, out: &mut dyn Write) -> io::Result<()> {
    check(trace, format).map_err(|reason| io::Error::new(io::ErrorKind::InvalidInput, reason))?;
    match (trace.kind(), format) {
        (_, OutFormat::Cache) => cache::write(trace, out),
        (
            TraceKind::Rate {
                step_micros,
                counts,
            },
            _,
        ) => {
            let mut rows = Rows::new(out, "t_s,count")?;
            for (step, count) in counts.iter().enumerate() {
                rows.seconds(step as u64 * step_micros);
                rows.text.push(b',');
                rows.whole(*count);
                rows.end()?;
            }
            rows.finish()
        }
        (
            TraceKind::Jobs {
                arrival_micros,
                service_micros,
                classes,
            },
            _,
        ) => {
            let classed = !classes.numbers().is_empty();
            let header = if classed {
                "arrival_s,service_s,class"
            } else {
                "arrival_s,service_s"
            };
            let mut rows = Rows::new(out, header)?;
            for (job, (arrival, service)) in arrival_micros.iter().zip(service_micros).enumerate() {
                rows.seconds(*arrival);
                rows.text.push(b',');
                rows.seconds(*service);
                if let Some(number) = classes.number_of(job) {
                    rows.text.push(b',');
                    rows.text
                        .extend_from_slice(classes.names()[number as usize].as_bytes());
                }
                rows.end()?;
            }
            rows.finish()
        }
    }
}

/// Rows of text, written many at a time.
struct Rows<'a> {
    out: &'a mut dyn Write,
    text: Vec<u8>,
}

/// When so much has come together it is written.
const ROWS_BYTES: usize = 1 << 16;

impl<'a> Rows<'a> {
    fn new(out: &'a mut dyn Write, header: &str) -> io::Result<Self> {
        let mut rows = Self {
            out,
            text: header.as_bytes().to_vec(),
        };
        rows.end()?;
        Ok(rows)
    }

    fn end(&mut self) -> io::Result<()> {
        self.text.push(b'\n');
        if self.text.len() >= ROWS_BYTES {
            self.out.write_all(&self.text)?;
            self.text.clear();
        }
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        self.out.write_all(&self.text)
    }

    fn whole(&mut self, value: u64) {
        self.digits(value, 1);
    }

    /// Seconds with as many decimals as they need.
    fn seconds(&mut self, micros: u64) {
        self.whole(micros / 1_000_000);
        let fraction = micros % 1_000_000;
        if fraction > 0 {
            self.text.push(b'.');
            self.digits(fraction, 6);
            while self.text.last() == Some(&b'0') {
                self.text.pop();
            }
        }
    }

    /// At least `least` digits.
    fn digits(&mut self, mut value: u64, least: usize) {
        let mut digits = [b'0'; 20];
        let mut from = digits.len();
        while value > 0 || digits.len() - from < least {
            from -= 1;
            digits[from] += u8::try_from(value % 10).unwrap_or(0);
            value /= 10;
        }
        self.text.extend_from_slice(&digits[from..]);
    }
}
