//! Between records and columns.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use windlass_policies::model::Decision;
use windlass_policies::ports::Decided;

use super::error::SqliteError;

/// The format of `detail` that this program writes: [`Decided`] as JSON, gzip.
pub(super) const DETAIL_FORMAT: i64 = 1;

/// The most JSON one decision may be. A fleet of ten thousand instances has
/// about 3 MB; what is longer is a mistake or an attack on the reader's memory.
const DETAIL_BYTES_MAX: u64 = 64 << 20;

/// The longest `summary`, in characters: it is one line for people.
const SUMMARY_CHARS_MAX: usize = 500;

/// `decided` as the `detail` column keeps it, proven to read back the same:
/// what cannot be read after a crash was not written down.
pub(super) fn encode(fleet: &str, decided: &Decided) -> Result<Vec<u8>, SqliteError> {
    let not_faithful = |why: String| SqliteError::NotFaithful {
        fleet: fleet.to_owned(),
        cycle: decided.decision.cycle,
        why,
    };
    let json = serde_json::to_vec(decided).map_err(|error| not_faithful(error.to_string()))?;
    if u64::try_from(json.len()).is_ok_and(|bytes| bytes > DETAIL_BYTES_MAX) {
        return Err(not_faithful(format!(
            "it is longer than {DETAIL_BYTES_MAX} bytes"
        )));
    }
    let back: Decided =
        serde_json::from_slice(&json).map_err(|error| not_faithful(error.to_string()))?;
    if back != *decided {
        return Err(not_faithful(
            "a value has no form in JSON, such as NaN".to_owned(),
        ));
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed
        .write_all(&json)
        .and_then(|()| packed.finish())
        .map_err(|error| not_faithful(error.to_string()))
}

/// The other way round. `what` names the decision in the message.
pub(super) fn decode(what: &str, format: i64, detail: &[u8]) -> Result<Decided, SqliteError> {
    if format != DETAIL_FORMAT {
        return Err(SqliteError::Damaged(format!(
            "{what} has the unknown format {format}"
        )));
    }
    let mut json = Vec::new();
    GzDecoder::new(detail)
        .take(DETAIL_BYTES_MAX + 1)
        .read_to_end(&mut json)
        .map_err(|error| SqliteError::Damaged(format!("{what} does not unpack: {error}")))?;
    serde_json::from_slice(&json)
        .map_err(|error| SqliteError::Damaged(format!("{what} cannot be understood: {error}")))
}

/// The decision in one line of limited length.
pub(super) fn summary(decision: &Decision) -> String {
    let line = decision.summary().replace(['\n', '\r', '\t'], " ");
    match line.char_indices().nth(SUMMARY_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// A count or time as `SQLite` holds it. Its largest number stands for what is
/// larger; no clock and no counter gets there in 292,000 years.
pub(super) fn stored(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The other way round; a negative number is nothing this program wrote.
pub(super) fn unstored(value: i64) -> Result<u64, SqliteError> {
    u64::try_from(value).map_err(|_| SqliteError::Damaged(format!("{value} is no count or time")))
}
