//! What an instance costs an hour on demand: the table that comes with
//! windlass, or a file of the user's own in its place.
//!
//! Where the built-in table comes from stands in `src/prices/README.md`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use windlass_policies::units::MicroUsdPerHour;

/// The built-in table, compressed.
const BUILT_IN: &[u8] = include_bytes!("prices/ec2_on_demand_2026_07.csv.gz");

/// The largest file that is read, in bytes. All types in all regions are less
/// than 2 MB; what is larger is some other file.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// So many bad lines are told one by one: who sees them knows what is wrong.
const TOLD_MAX: usize = 20;

/// The columns a table must have; it may have others.
const REGION: &str = "region";
const INSTANCE_TYPE: &str = "instance_type";
const USD_PER_HOUR: &str = "usd_per_hour";

/// On-demand prices by region and instance type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices {
    /// Never empty, and no region in it is.
    regions: BTreeMap<String, BTreeMap<String, MicroUsdPerHour>>,
}

/// Why a price is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceUnknown {
    /// The table has nothing for the region.
    #[error(
        "the price table has no prices of {region}; it has those of {}",
        list(known)
    )]
    Region {
        /// The region asked for.
        region: String,
        /// The regions it has, sorted.
        known: Vec<String>,
    },
    /// The table has the region, and not the type.
    #[error("the price table has no {instance_type} in {region}")]
    Type {
        /// The region asked for.
        region: String,
        /// The instance type asked for.
        instance_type: String,
    },
}

/// Why a file is no table of prices.
#[derive(Debug, thiserror::Error)]
pub enum PricesError {
    /// It cannot be read.
    #[error("cannot read the prices in {}", path.display())]
    Unread {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is larger than any table of prices.
    #[error("{} is larger than {} MiB; a table of prices is not", path.display(), BYTES_MAX >> 20)]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// Lines of it are wrong.
    #[error("{}", told(path, lines))]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// What is wrong, in the order of the file; at least one.
        lines: Vec<BadLine>,
    },
}

/// A line that is no price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1, the header included.
    pub line: usize,
    /// What is wrong and what to write.
    pub reason: String,
}

impl Prices {
    /// The table that comes with windlass.
    pub fn built_in() -> &'static Self {
        static TABLE: LazyLock<Prices> = LazyLock::new(|| {
            let mut text = String::new();
            GzDecoder::new(BUILT_IN)
                .read_to_string(&mut text)
                .expect("a test reads the built-in table");
            Prices::parse(&text).expect("a test reads the built-in table")
        });
        &TABLE
    }

    /// Reads the CSV file at `path`: a header that names at least the columns
    /// `region`, `instance_type` and `usd_per_hour`, then one price a line.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn open(path: &Path) -> Result<Self, PricesError> {
        let unread = |source| PricesError::Unread {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(unread)?;
        let mut text = String::new();
        let length = file
            .take(BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(unread)?;
        if u64::try_from(length).is_ok_and(|length| length > BYTES_MAX) {
            return Err(PricesError::TooLarge {
                path: path.to_owned(),
            });
        }
        Self::parse(&text).map_err(|lines| PricesError::Wrong {
            path: path.to_owned(),
            lines,
        })
    }

    /// Reads the text of such a file. Prices are exact decimals, at most six
    /// places, above zero. Empty lines are skipped.
    ///
    /// # Errors
    /// Every line that is wrong; at least one.
    pub fn parse(text: &str) -> Result<Self, Vec<BadLine>> {
        let text = text.trim_start_matches('\u{feff}');
        let mut lines = (1..)
            .zip(text.lines())
            .filter(|(_, line)| !line.trim().is_empty());
        let columns = match lines.next() {
            Some((line, header)) => {
                Columns::find(header).map_err(|reason| vec![BadLine { line, reason }])?
            }
            None => return Err(vec![nothing("header")]),
        };
        let mut table = Self {
            regions: BTreeMap::new(),
        };
        let mut seen_at = BTreeMap::new();
        let mut bad = Vec::new();
        for (line, text) in lines {
            let row = match columns.row(text) {
                Ok(row) => row,
                Err(reason) => {
                    bad.push(BadLine { line, reason });
                    continue;
                }
            };
            if let Some(earlier) = seen_at.insert((row.region, row.instance_type), line) {
                let reason = format!(
                    "{} in {} has a price on line {earlier} already; keep one of the two",
                    row.instance_type, row.region
                );
                bad.push(BadLine { line, reason });
            }
            table
                .regions
                .entry(row.region.to_owned())
                .or_default()
                .insert(row.instance_type.to_owned(), row.price);
        }
        if bad.is_empty() && table.regions.is_empty() {
            bad.push(nothing("price"));
        }
        if bad.is_empty() { Ok(table) } else { Err(bad) }
    }

    /// What one `instance_type` costs in `region`.
    ///
    /// # Errors
    /// What the table lacks.
    pub fn of(&self, region: &str, instance_type: &str) -> Result<MicroUsdPerHour, PriceUnknown> {
        let Some(types) = self.regions.get(region) else {
            return Err(PriceUnknown::Region {
                region: region.to_owned(),
                known: self.regions.keys().cloned().collect(),
            });
        };
        types
            .get(instance_type)
            .copied()
            .ok_or_else(|| PriceUnknown::Type {
                region: region.to_owned(),
                instance_type: instance_type.to_owned(),
            })
    }

    /// How many prices there are.
    pub fn count(&self) -> usize {
        self.regions.values().map(BTreeMap::len).sum()
    }
}

/// Where the three columns stand.
struct Columns {
    region: usize,
    instance_type: usize,
    price: usize,
    count: usize,
}

/// One line, understood.
struct Row<'a> {
    region: &'a str,
    instance_type: &'a str,
    price: MicroUsdPerHour,
}

impl Columns {
    fn find(header: &str) -> Result<Self, String> {
        let names: Vec<&str> = cells(header).collect();
        let place = |wanted: &str| {
            names.iter().position(|name| *name == wanted).ok_or_else(|| {
                format!(
                    "the header has no column `{wanted}`; begin with `{REGION},{INSTANCE_TYPE},{USD_PER_HOUR}`"
                )
            })
        };
        Ok(Self {
            region: place(REGION)?,
            instance_type: place(INSTANCE_TYPE)?,
            price: place(USD_PER_HOUR)?,
            count: names.len(),
        })
    }

    fn row<'a>(&self, line: &'a str) -> Result<Row<'a>, String> {
        let cells: Vec<&str> = cells(line).collect();
        if cells.len() != self.count {
            return Err(format!(
                "has {} columns; the header has {}",
                cells.len(),
                self.count
            ));
        }
        let region = cells[self.region];
        if region.is_empty() {
            return Err("has no region, such as us-east-1".to_owned());
        }
        let instance_type = cells[self.instance_type];
        if !instance_type.contains('.') {
            return Err(format!(
                "`{instance_type}` is no instance type such as c7g.large"
            ));
        }
        let price = MicroUsdPerHour::parse(cells[self.price])?;
        // A price of nothing would let any number of them pass the spend cap.
        if price == MicroUsdPerHour::ZERO {
            return Err("the price is 0; leave the line out if it is not known".to_owned());
        }
        Ok(Row {
            region,
            instance_type,
            price,
        })
    }
}

/// The cells of a line, without blanks and quotes around them. None of the
/// three columns can hold a comma.
fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').map(|cell| {
        let cell = cell.trim();
        cell.strip_prefix('"')
            .and_then(|cell| cell.strip_suffix('"'))
            .unwrap_or(cell)
    })
}

fn nothing(what: &str) -> BadLine {
    BadLine {
        line: 1,
        reason: format!("there is no {what} in it"),
    }
}

/// Names in a row; of many only the first few.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn told(path: &Path, lines: &[BadLine]) -> impl fmt::Display {
    fmt::from_fn(move |out| {
        write!(out, "{} is no table of prices:", path.display())?;
        for BadLine { line, reason } in lines.iter().take(TOLD_MAX) {
            write!(out, "\n  line {line}: {reason}")?;
        }
        match lines.len().saturating_sub(TOLD_MAX) {
            0 => Ok(()),
            more => write!(out, "\n  and {more} more"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_table_holds_what_its_page_says() {
        let table = Prices::built_in();
        assert_eq!(table.count(), 1_367);
        for (instance_type, micro_usd) in [
            ("m5.large", 96_000),
            ("c5.xlarge", 170_000),
            ("t4g.nano", 4_200),
            ("a1.medium", 25_500),
        ] {
            let price = table.of("us-east-1", instance_type).expect(instance_type);
            assert_eq!(price, MicroUsdPerHour::new(micro_usd), "{instance_type}");
        }
        let page = include_str!("prices/README.md");
        assert!(page.contains("\n- Source: ") && page.contains("\n- Terms: "));
    }

    #[test]
    fn what_is_not_in_the_table_is_told_by_what_it_lacks() {
        let table = Prices::built_in();
        let region = table.of("eu-west-1", "m5.large").expect_err("not in it");
        assert_eq!(
            region.to_string(),
            "the price table has no prices of eu-west-1; it has those of us-east-1"
        );
        let unknown = table.of("us-east-1", "m5.huge").expect_err("not in it");
        assert_eq!(
            unknown.to_string(),
            "the price table has no m5.huge in us-east-1"
        );
    }

    #[test]
    fn columns_are_found_by_name_and_prices_are_exact() {
        let text = "\u{feff}\"instance_type\",vcpu,region,usd_per_hour\r\n\r\n\
            \"c7g.large\",2,eu-west-1,0.0773000000\r\nm5.large , 2 , eu-west-1 , 0.107\r\n";
        let table = Prices::parse(text).expect("sound");
        assert_eq!(table.count(), 2);
        let price = |name| table.of("eu-west-1", name).map(MicroUsdPerHour::get);
        assert_eq!(price("c7g.large"), Ok(77_300));
        assert_eq!(price("m5.large"), Ok(107_000));
        assert!(
            table.of("us-east-1", "m5.large").is_err(),
            "replaced as a whole"
        );
    }

    #[test]
    fn every_bad_line_is_told_with_its_number_and_reason() {
        let text = "region,instance_type,usd_per_hour\n\
            us-east-1,m5.large,0.096\n\
            us-east-1,m5.large,0.097\n\
            us-east-1,m5large,0.1\n\
            ,m5.xlarge,0.1\n\
            us-east-1,m5.xlarge,0\n\
            us-east-1,m5.xlarge,free\n\
            us-east-1,m5.xlarge,0.0000001\n\
            us-east-1,m5.xlarge\n\
            us-east-1,m5.xlarge,-1\n";
        let bad = Prices::parse(text).expect_err("wrong");
        let lines: Vec<usize> = bad.iter().map(|bad| bad.line).collect();
        assert_eq!(lines, [3, 4, 5, 6, 7, 8, 9, 10]);
        expect_test::expect![[r#"
            prices.csv is no table of prices:
              line 3: m5.large in us-east-1 has a price on line 2 already; keep one of the two
              line 4: `m5large` is no instance type such as c7g.large
              line 5: has no region, such as us-east-1
              line 6: the price is 0; leave the line out if it is not known
              line 7: `free` is not an amount in dollars such as 0.17
              line 8: `0.0000001` has more than six decimals; amounts are exact to a millionth of a dollar
              line 9: has 2 columns; the header has 3
              line 10: `-1` is not an amount in dollars such as 0.17
        "#]]
        .assert_eq(&format!("{}\n", told(Path::new("prices.csv"), &bad)));
    }

    #[test]
    fn what_is_no_table_at_all_is_told_at_its_first_line() {
        for (text, reason) in [
            ("", "there is no header in it"),
            (
                "region,instance_type,usd_per_hour\n",
                "there is no price in it",
            ),
            (
                "us-east-1,m5.large,0.096\n",
                "the header has no column `region`",
            ),
            (
                "region,instance_type,price\n",
                "the header has no column `usd_per_hour`",
            ),
        ] {
            let bad = Prices::parse(text).expect_err(text);
            assert_eq!(bad.len(), 1, "{text}");
            assert!(bad[0].reason.starts_with(reason), "{}", bad[0].reason);
        }
    }
}
