//! Price histories in files: comma-separated values with a header, plain or
//! gzipped. The columns `unix_s` (seconds since 1970) and `usd_per_hour` are
//! read; any other can be asked for by its value.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use windlass_policies::units::{MICROS_PER_SEC, MicroUsdPerHour, Timestamp};

/// The most a price file may hold when unpacked: ten times a year of changes
/// of every type and zone of a region.
const BYTES_MAX: u64 = 256 << 20;

/// The steps of the price in `file`, of the rows in which each column of `rows`
/// has its value: when, and what an hour costs from then on. Sorted by time.
///
/// # Errors
/// What is wrong with the file, for a person.
pub(super) fn read(
    file: &Path,
    rows: &[(String, String)],
) -> Result<Vec<(Timestamp, MicroUsdPerHour)>, String> {
    let shown = file.display();
    let unread = |error: std::io::Error| format!("cannot read {shown}: {error}");
    let mut source = BufReader::new(File::open(file).map_err(unread)?);
    let gzipped = source
        .fill_buf()
        .map_err(unread)?
        .starts_with(&[0x1f, 0x8b]);
    let source: Box<dyn Read> = if gzipped {
        Box::new(MultiGzDecoder::new(source))
    } else {
        Box::new(source)
    };
    let mut lines = BufReader::new(source.take(BYTES_MAX)).lines();
    let header = match lines.next() {
        Some(header) => header.map_err(unread)?,
        None => return Err(format!("{shown} is empty")),
    };
    let columns: Vec<&str> = header.trim_end().split(',').collect();
    let column = |name: &str| {
        let place = columns.iter().position(|column| *column == name);
        place.ok_or_else(|| {
            format!(
                "{shown} has no column `{name}`; it has {}",
                columns.join(", ")
            )
        })
    };
    let (time, price) = (column("unix_s")?, column("usd_per_hour")?);
    let mut wanted = Vec::new();
    for (name, value) in rows {
        wanted.push((column(name)?, value.as_str()));
    }
    let mut steps = Vec::new();
    for (number, line) in (2_u64..).zip(lines) {
        let line = line.map_err(unread)?;
        let cells: Vec<&str> = line.trim_end().split(',').collect();
        let wrong = |what: &str| format!("{shown}:{number}: {what}");
        let matches = |(place, value): &(usize, &str)| cells.get(*place) == Some(value);
        if line.trim_end().is_empty() || !wanted.iter().all(matches) {
            continue;
        }
        let at = cells.get(time).and_then(|cell| cell.parse::<u64>().ok());
        let at = at.filter(|secs| *secs <= u64::MAX / MICROS_PER_SEC);
        let at = at.ok_or_else(|| wrong("unix_s is no number of seconds"))?;
        let amount = cells.get(price).copied().unwrap_or_default();
        let amount = decimal(amount).ok_or_else(|| wrong("usd_per_hour is no price"))?;
        steps.push((Timestamp::from_secs(at), amount));
    }
    if steps.is_empty() {
        return Err(format!(
            "{shown} has no row in which all of price_rows is so"
        ));
    }
    steps.sort_by_key(|(at, _)| *at);
    Ok(steps)
}

/// A price as files have it; places beyond a millionth of a dollar are cut off.
fn decimal(text: &str) -> Option<MicroUsdPerHour> {
    let short = match text.split_once('.') {
        Some((whole, places)) => {
            let places: String = places.chars().take(6).collect();
            format!("{whole}.{places}")
        }
        None => text.to_owned(),
    };
    MicroUsdPerHour::parse(&short).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn price_files_are_read_by_their_header() {
        let folder = tempfile::tempdir().expect("a folder");
        let check = |text: &str, rows: &[(&str, &str)]| {
            let file = folder.path().join("prices.csv");
            std::fs::write(&file, text).expect("written");
            let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            let rows: Vec<_> = rows.iter().map(own).collect();
            let steps = read(&file, &rows)
                .map_err(|why| why.replace(&format!("{}/", folder.path().display()), ""))?;
            let plain = |(at, price): &(Timestamp, MicroUsdPerHour)| {
                format!("{} {price}", at.micros() / MICROS_PER_SEC)
            };
            Ok::<_, String>(steps.iter().map(plain).collect::<Vec<_>>().join(", "))
        };
        let text = "unix_s,az,usd_per_hour\n20,b,0.5\n10,a,0.03240001\n15,b,1\n\n";
        let all = check(text, &[]);
        assert_eq!(all.as_deref(), Ok("10 0.0324, 15 1.00, 20 0.50"));
        assert_eq!(
            check(text, &[("az", "b")]).as_deref(),
            Ok("15 1.00, 20 0.50")
        );
        for (text, rows, problem) in [
            ("", &[][..], "is empty"),
            (
                "time,usd_per_hour\n",
                &[],
                "no column `unix_s`; it has time, usd_per_hour",
            ),
            (text, &[("zone", "b")], "no column `zone`"),
            (
                text,
                &[("az", "c")],
                "no row in which all of price_rows is so",
            ),
            (
                "unix_s,usd_per_hour\nx,1\n",
                &[],
                "prices.csv:2: unix_s is no number",
            ),
            (
                "unix_s,usd_per_hour\n1,-1\n",
                &[],
                "prices.csv:2: usd_per_hour is no price",
            ),
        ] {
            let told = check(text, rows).expect_err("wrong");
            assert!(told.contains(problem), "{told}");
        }
        assert!(read(&folder.path().join("none.csv"), &[]).is_err());
    }
}
