//! How a trace is to be read.

use std::path::Path;

use super::{access_log, cache, parquet, swf};

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
    /// Jobs or rates in the columns of an Apache Parquet file.
    Parquet,
}

/// So many bytes tell the format: more than a usual first line has.
pub(super) const TELLING_BYTES: usize = 8 * 1024;

impl TraceFormat {
    /// The format of a file called `name`, if its ending says one.
    pub fn of_name(name: &str) -> Option<Self> {
        let path = Path::new(name);
        let stem = path.with_extension("");
        let bare = if ending(path) == "gz" { &stem } else { path };
        match ending(bare).as_str() {
            "csv" => Some(Self::Csv),
            "swf" => Some(Self::Swf),
            "wtrace" => Some(Self::Cache),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "json" => Some(Self::Json),
            "log" => Some(Self::AccessLog),
            "parquet" => Some(Self::Parquet),
            _ => {
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                let log = file.contains("access_log") || file.contains("access.log");
                (log && !file.contains(".csv")).then_some(Self::AccessLog)
            }
        }
    }

    /// The format of a file that begins with `bytes`; [`TraceFormat::Csv`] if
    /// they look like nothing that is known.
    pub fn of_beginning(bytes: &[u8]) -> Self {
        if bytes.starts_with(cache::MAGIC) {
            return Self::Cache;
        }
        if bytes.starts_with(parquet::MAGIC) {
            return Self::Parquet;
        }
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = text.trim_ascii_start();
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.trim_ascii();
        if line.starts_with(b"{") {
            let whole = line.ends_with(b"}");
            let keys = [&b"\"arrival"[..], b"\"t_s\""];
            let own = keys
                .iter()
                .any(|key| line.windows(key.len()).any(|part| part == *key));
            return if whole && own {
                Self::JsonLines
            } else {
                Self::Json
            };
        }
        if line.starts_with(b";") || swf::looks_like(line) {
            Self::Swf
        } else if access_log::looks_like(line) {
            Self::AccessLog
        } else {
            Self::Csv
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
            ("a.parquet", TraceFormat::Parquet),
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
            assert_eq!(TraceFormat::of_name(name), Some(format), "{name}");
        }
        for name in ["a", "a.gz", "a.txt", "-", ""] {
            assert_eq!(TraceFormat::of_name(name), None, "{name}");
        }
    }

    #[test]
    fn beginnings_tell_formats() {
        let record = "1 0 5 10 1 -1 -1 1 -1 -1 1 1 1 -1 1 -1 -1 -1\n";
        let request = "::1 - - [01/Jul/1995:00:00:01 -0400] \"GET / HTTP/1.0\" 200 1\n";
        for (text, format) in [
            ("t_s,count\n0,1\n", TraceFormat::Csv),
            ("", TraceFormat::Csv),
            ("; Version: 2\n", TraceFormat::Swf),
            (record, TraceFormat::Swf),
            (request, TraceFormat::AccessLog),
            ("\n{\"t_s\": 0, \"count\": 1}\n", TraceFormat::JsonLines),
            (
                "{\"class\": \"a\", \"arrival_s\": 1, \"service_s\": 2}",
                TraceFormat::JsonLines,
            ),
            ("{\n  \"MetricDataResults\": []}", TraceFormat::Json),
            ("\u{feff}{\"status\":\"success\"}", TraceFormat::Json),
            ("PAR1\u{15}", TraceFormat::Parquet),
        ] {
            assert_eq!(
                TraceFormat::of_beginning(text.as_bytes()),
                format,
                "{text:?}"
            );
        }
        let cache = [&cache::MAGIC[..], b"\x01\0\0\0"].concat();
        assert_eq!(TraceFormat::of_beginning(&cache), TraceFormat::Cache);
    }
}
