//! How a trace is to be read.

use std::path::Path;

/// What a reader must be told, or may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// The format; told by the name if not given.
    pub format: Option<TraceFormat>,
    /// How many malformed lines (or values of a document) are passed over
    /// before one is an error. A row of a rate trace that is passed over
    /// becomes a step without arrivals, if the grid has a gap there.
    pub skip_bad: u64,
    /// Which metric of a `CloudWatch` document is read, by its id or label;
    /// needed if it holds several.
    pub series: Option<String>,
    /// What the values of a `CloudWatch` or Prometheus document count.
    pub values: Values,
}

/// What the values of a document count. They may be fractions: each step gets
/// the whole part of what has come together so far, so that the sum is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Values {
    /// Arrivals in the step: the statistic Sum, or `increase(...)` over as much
    /// as the step of the query.
    #[default]
    PerStep,
    /// Arrivals per second: `rate(...)`.
    PerSecond,
}

/// How a file holds a trace; see the module's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceFormat {
    /// Rates or jobs as comma-separated values.
    Csv,
    /// The Standard Workload Format.
    Swf,
    /// The cache of windlass.
    Cache,
    /// One JSON object a line.
    JsonLines,
    /// A JSON document of `CloudWatch` or Prometheus.
    Json,
    /// An access log in the Common Log Format.
    AccessLog,
}

impl TraceFormat {
    /// The format of a file called `name`; [`TraceFormat::Csv`] if the ending
    /// says nothing.
    pub fn of_name(name: &str) -> Self {
        let path = Path::new(name);
        let stem = path.with_extension("");
        let bare = if ending(path) == "gz" { &stem } else { path };
        match ending(bare).as_str() {
            "swf" => Self::Swf,
            "wtrace" => Self::Cache,
            "jsonl" | "ndjson" => Self::JsonLines,
            "json" => Self::Json,
            "log" => Self::AccessLog,
            _ => {
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                let log = file.contains("access_log") || file.contains("access.log");
                if log && !file.contains(".csv") {
                    Self::AccessLog
                } else {
                    Self::Csv
                }
            }
        }
    }
}

fn ending(path: &Path) -> String {
    path.extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_lowercase()
}

/// What was wrong and passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many lines or values.
    pub count: u64,
    /// What was wrong with the first few, with file, line and reason.
    pub first: Vec<String>,
}

/// Of so many the reason is kept: enough to see what is wrong with all.
const REASONS_MAX: usize = 10;

impl Skipped {
    pub(super) fn push(&mut self, reason: String) {
        self.count += 1;
        if self.first.len() < REASONS_MAX {
            self.first.push(reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_formats() {
        for (name, format) in [
            ("a.rate.csv", TraceFormat::Csv),
            ("a.jobs.csv.gz", TraceFormat::Csv),
            ("a", TraceFormat::Csv),
            ("a.gz", TraceFormat::Csv),
            ("a.swf.gz", TraceFormat::Swf),
            ("a.SWF", TraceFormat::Swf),
            ("a.wtrace", TraceFormat::Cache),
            ("a.wtrace.gz", TraceFormat::Cache),
            ("a.ndjson", TraceFormat::JsonLines),
            ("a.jsonl.gz", TraceFormat::JsonLines),
            ("a.json", TraceFormat::Json),
            ("x/access.log.3.gz", TraceFormat::AccessLog),
            ("x/NASA_access_log_Jul95.gz", TraceFormat::AccessLog),
            ("x/access_log.rate.csv", TraceFormat::Csv),
            ("access.log/x.csv", TraceFormat::Csv),
        ] {
            assert_eq!(TraceFormat::of_name(name), format, "{name}");
        }
    }
}
