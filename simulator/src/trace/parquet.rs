//! Jobs or steps in the columns of an Apache Parquet file.
//!
//! The columns are those of JSON lines, by the same names: `arrival_s` or
//! `arrival`, `service_s` and perhaps `class`; or `t_s` and `count`. Others are
//! passed over. Rows are read in pieces, so that a file of any length takes the
//! memory of its trace and of one page of each column.

mod pages;

use std::cell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use bytes::Bytes;
use parquet::basic::{Compression, ConvertedType, LogicalType, TimeUnit, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, FileReader, Length};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};
use windlass_policies::units::Timestamp;

use self::pages::Ordered;
use super::decimal::parse_whole;
use super::lines::{LINES_MAX, Lines};
use super::options::{ReadOptions, TraceFormat};
use super::records::{Arrival, Records};
use super::{Skipped, Trace, TraceError, TraceKind, parse_time, shown};

/// How a file begins, and ends.
pub(super) const MAGIC: &[u8; 4] = b"PAR1";

/// Rows of one piece: a few hundred kilobytes.
const PIECE_ROWS: usize = 8_192;

/// What does not come from a file that can be read at any place is kept in
/// memory; more than this is to be written to a file first.
const MEMORY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What a file must have.
const EXPECTED: &str = "expected the columns arrival_s (or arrival, a timestamp), service_s and \
                        perhaps class, or t_s and count";

/// Whether it is a Parquet file that can be read at any place. It is looked at
/// from its beginning, and left there.
pub(super) fn is_file(file: &mut File, options: &ReadOptions) -> bool {
    let regular = file.metadata().is_ok_and(|about| about.is_file());
    let asked = options
        .format
        .is_none_or(|format| format == TraceFormat::Parquet);
    if !regular || !asked {
        return false;
    }
    let mut magic = Vec::new();
    let read = file.by_ref().take(4).read_to_end(&mut magic);
    file.seek(SeekFrom::Start(0)).is_ok() && read.is_ok() && magic == MAGIC
}

/// Reads the trace of a file.
pub(super) fn read_file(
    name: &str,
    file: File,
    options: &ReadOptions,
) -> Result<Trace, TraceError> {
    let mut lines = Lines::new(name, std::io::empty(), options.skip_bad)?;
    let length = file.len();
    let (kind, begins_at) = read_chunks(
        &mut lines,
        Whole {
            inner: file,
            length,
        },
    )?;
    let skipped: Skipped = lines.into_skipped();
    Ok(Trace {
        name: name.to_owned(),
        kind,
        left_out: 0,
        skipped,
        begins_at,
    })
}

/// Reads what has no place to go to, from its beginning.
pub(super) fn read(lines: &mut Lines<'_>) -> Result<(TraceKind, Option<Timestamp>), TraceError> {
    let bytes = lines
        .read_all(MEMORY_BYTES_MAX)?
        .ok_or_else(|| wrong(lines, format!("it is longer than {MEMORY_BYTES_MAX} bytes, and is packed or comes from a pipe; write it to a file first")))?;
    if !bytes.starts_with(MAGIC) {
        return Err(wrong(lines, "this is no Parquet file".into()));
    }
    let inner = Bytes::from(bytes);
    let length = inner.len() as u64;
    read_chunks(lines, Whole { inner, length })
}

fn wrong(lines: &Lines<'_>, reason: String) -> TraceError {
    lines.wrong("file", reason)
}

/// The bytes of a file, of which nothing is asked that it has not: lengths in a
/// damaged file are not to be believed.
struct Whole<R> {
    inner: R,
    length: u64,
}

impl<R: ChunkReader> Length for Whole<R> {
    fn len(&self) -> u64 {
        self.length
    }
}

impl<R: ChunkReader> ChunkReader for Whole<R> {
    type T = R::T;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        self.check(start, 0)?;
        self.inner.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        self.check(start, length)?;
        self.inner.get_bytes(start, length)
    }
}

impl<R> Whole<R> {
    fn check(&self, start: u64, length: usize) -> Result<(), ParquetError> {
        let end = start.checked_add(length as u64);
        if end.is_some_and(|end| end <= self.length) {
            return Ok(());
        }
        let told = format!(
            "{length} bytes from {start} on are beyond its {}",
            self.length
        );
        Err(ParquetError::EOF(told))
    }
}

thread_local! {
    /// Whether a panic of this thread is caught, and told as an error.
    static CATCHING: cell::Cell<bool> = const { cell::Cell::new(false) };
}

/// Keeps the hook for panics from telling those that are caught while a damaged
/// file is read, and told as its error. For programs, once at their start.
pub fn silence_caught_panics() {
    let hook = take_hook();
    set_hook(Box::new(move |panic| {
        if !CATCHING.get() {
            hook(panic);
        }
    }));
}

/// Reads all rows. The library checks most of what it reads, and ends the
/// program where it did not expect damage: that is an error like others.
fn read_chunks(
    lines: &mut Lines<'_>,
    source: impl ChunkReader + 'static,
) -> Result<(TraceKind, Option<Timestamp>), TraceError> {
    CATCHING.set(true);
    let read = catch_unwind(AssertUnwindSafe(|| read_rows(lines, source)));
    CATCHING.set(false);
    read.unwrap_or_else(|_| Err(wrong(lines, DAMAGED.into())))
}

const DAMAGED: &str = "it is damaged; write it again";

fn read_rows(
    lines: &mut Lines<'_>,
    source: impl ChunkReader + 'static,
) -> Result<(TraceKind, Option<Timestamp>), TraceError> {
    let damaged = |error: &ParquetError| format!("{DAMAGED} ({error})");
    let reader =
        SerializedFileReader::new(source).map_err(|error| wrong(lines, damaged(&error)))?;
    let layout = Layout::of(reader.metadata().file_metadata().schema_descr())
        .map_err(|reason| lines.wrong("columns", reason))?;
    check_places(reader.metadata()).map_err(|reason| wrong(lines, reason.into()))?;
    check_packing(reader.metadata(), &layout).map_err(|reason| wrong(lines, reason))?;
    let mut records = Records::new();
    let mut row = 0;
    for group in 0..reader.num_row_groups() {
        let place = format!("row group {group}");
        let read = read_group(lines, &reader, group, &layout, &mut records, &mut row);
        read.map_err(|error| match error {
            GroupError::Trace(error) => error,
            GroupError::Damaged(error) => lines.wrong(place, damaged(&error)),
        })?;
    }
    if records.is_empty() {
        return Err(wrong(lines, "it has no rows".into()));
    }
    records.finish().map_err(|reason| wrong(lines, reason))
}

/// Where columns lie, and how long they are: the library ends the program over
/// numbers below 0.
fn check_places(metadata: &ParquetMetaData) -> Result<(), &'static str> {
    for group in metadata.row_groups() {
        let numbers = group.columns().iter().flat_map(|column| {
            [
                column.data_page_offset(),
                column.dictionary_page_offset().unwrap_or(0),
                column.compressed_size(),
                column.uncompressed_size(),
                column.num_values(),
            ]
        });
        if group.num_rows() < 0 || numbers.into_iter().any(|number| number < 0) {
            return Err(DAMAGED);
        }
    }
    Ok(())
}

/// Whether the columns that are read are packed in a way that is known here.
fn check_packing(metadata: &ParquetMetaData, layout: &Layout) -> Result<(), String> {
    for (group, column) in metadata
        .row_groups()
        .iter()
        .flat_map(|group| layout.columns().map(move |column| (group, column)))
    {
        let column = group.column(column.place);
        let packed = match column.compression() {
            Compression::BROTLI(_) => "Brotli",
            Compression::LZO => "LZO",
            _ => continue,
        };
        return Err(format!(
            "the column {} is packed with {packed}, which is not read; write it with Snappy, \
             Zstandard, gzip, LZ4 or no compression",
            column.column_descr().name(),
        ));
    }
    Ok(())
}

enum GroupError {
    Trace(TraceError),
    Damaged(ParquetError),
}

impl From<ParquetError> for GroupError {
    fn from(error: ParquetError) -> Self {
        Self::Damaged(error)
    }
}

impl From<TraceError> for GroupError {
    fn from(error: TraceError) -> Self {
        Self::Trace(error)
    }
}

fn read_group<R: ChunkReader + 'static>(
    lines: &mut Lines<'_>,
    reader: &SerializedFileReader<R>,
    group: usize,
    layout: &Layout,
    records: &mut Records,
    row: &mut u64,
) -> Result<(), GroupError> {
    let group = reader.get_row_group(group)?;
    let mut columns = layout
        .columns()
        .map(|column| {
            let about = group.metadata().column(column.place).column_descr_ptr();
            let pages = Ordered::new(group.get_column_page_reader(column.place)?);
            let reader = get_column_reader(about, Box::new(pages));
            Ok(Cells::new(reader, column.nullable))
        })
        .collect::<Result<Vec<Cells>, ParquetError>>()?;
    loop {
        let mut counts = Vec::new();
        for column in &mut columns {
            counts.push(column.read()?);
        }
        let rows = counts.first().copied().unwrap_or(0);
        if counts.iter().any(|count| *count != rows) {
            return Err(ParquetError::General("columns differ in length".into()).into());
        }
        if rows == 0 {
            return Ok(());
        }
        for at in 0..rows {
            *row += 1;
            if *row > LINES_MAX {
                let reason = format!("it has more than {LINES_MAX} rows; cut it into parts");
                return Err(wrong(lines, reason).into());
            }
            let skipped = lines.skipped_count();
            if let Err(reason) = layout.push(&columns, at, records, skipped) {
                lines.refuse(lines.wrong(format!("row {row}"), reason))?;
            }
        }
    }
}

/// A column that is read.
struct Column {
    place: usize,
    nullable: bool,
    kind: Kind,
}

/// What the values of a column are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    /// A time of the calendar, so many of it in a second.
    Time {
        per_second: u32,
    },
}

/// Which columns the file has.
enum Layout {
    Rates {
        at: Column,
        count: Column,
    },
    Jobs {
        arrival: Column,
        service: Column,
        class: Option<Column>,
    },
}

impl Layout {
    fn of(schema: &SchemaDescriptor) -> Result<Self, String> {
        let find = |name: &str| find(schema, name).transpose();
        let number = |name: &str| match find(name)? {
            Some(column) if column.kind != Kind::Number => {
                Err(format!("the column {name} does not hold numbers"))
            }
            column => Ok(column),
        };
        if let (Some(at), Some(count)) = (number("t_s")?, number("count")?) {
            return Ok(Self::Rates { at, count });
        }
        let arrival = match (number("arrival_s")?, find("arrival")?) {
            (Some(column), _) => Some(column),
            (None, Some(column)) if matches!(column.kind, Kind::Time { .. }) => Some(column),
            (None, Some(_)) => {
                return Err(
                    "the column arrival is no timestamp; call it arrival_s if it holds \
                            seconds"
                        .into(),
                );
            }
            (None, None) => None,
        };
        let class = find("class")?;
        if let (Some(arrival), Some(service)) = (arrival, number("service_s")?) {
            return Ok(Self::Jobs {
                arrival,
                service,
                class,
            });
        }
        let names = schema.columns().iter().map(|column| column.path().string());
        let names: Vec<String> = names.take(20).collect();
        Err(format!(
            "{EXPECTED}; the file has {}",
            shown(names.join(", ").as_bytes())
        ))
    }

    fn columns(&self) -> impl Iterator<Item = &Column> {
        let columns = match self {
            Self::Rates { at, count } => [Some(at), Some(count), None],
            Self::Jobs {
                arrival,
                service,
                class,
            } => [Some(arrival), Some(service), class.as_ref()],
        };
        columns.into_iter().flatten()
    }

    /// Adds a row of the piece in hand.
    fn push(
        &self,
        columns: &[Cells],
        row: usize,
        records: &mut Records,
        skipped: u64,
    ) -> Result<(), String> {
        let cell = |column: usize| columns.get(column).and_then(|cells| cells.cell(row));
        let number = |key: &str, column| {
            cell(column)
                .and_then(Cell::number)
                .ok_or_else(|| format!("{key} is missing"))
        };
        let micros = |key: &str, column| parse_time(key, number(key, column)?.as_bytes());
        match self {
            Self::Rates { .. } => {
                let at = micros("t_s", 0)?;
                let text = number("count", 1)?;
                let count = parse_whole(text.as_bytes())
                    .map_err(|reason| format!("count {} {reason}", shown(text.as_bytes())))?;
                records.push_count(at, count, skipped)
            }
            Self::Jobs { arrival, .. } => {
                let at = match arrival.kind {
                    Kind::Time { per_second } => {
                        let cell = cell(0).ok_or("arrival is missing")?;
                        Arrival::At(cell.time(per_second)?)
                    }
                    Kind::Number | Kind::Text => Arrival::Micros(micros("arrival_s", 0)?),
                };
                let service = micros("service_s", 1)?;
                let class = cell(2).map(Cell::bytes);
                records.push_job(&at, service, class.as_deref())
            }
        }
    }
}

/// The column of that name; nested ones have others.
fn find(schema: &SchemaDescriptor, name: &str) -> Option<Result<Column, String>> {
    let columns = schema.columns().iter().enumerate();
    let mut named = columns.filter(|(_, column)| {
        let path = column.path().parts();
        matches!(path, [only] if only == name)
    });
    let (place, column) = named.next()?;
    Some(match kind(column) {
        Some(kind) if column.max_rep_level() == 0 && column.max_def_level() <= 1 => Ok(Column {
            place,
            nullable: column.max_def_level() == 1,
            kind,
        }),
        _ => Err(format!(
            "the column {name} holds {}, which is not read; write numbers, texts or timestamps",
            told(column)
        )),
    })
}

fn told(column: &ColumnDescriptor) -> String {
    match column.logical_type_ref() {
        Some(logical) => format!("{logical:?}"),
        None => format!("{:?}", column.physical_type()),
    }
}

fn kind(column: &ColumnDescriptor) -> Option<Kind> {
    let time = |unit| Kind::Time {
        per_second: match unit {
            TimeUnit::MILLIS => 1_000,
            TimeUnit::MICROS => 1_000_000,
            TimeUnit::NANOS => 1_000_000_000,
        },
    };
    match (column.physical_type(), column.logical_type_ref()) {
        (Type::INT64, Some(LogicalType::Timestamp(stamp))) => Some(time(stamp.unit)),
        (Type::INT32 | Type::INT64, Some(LogicalType::Integer(_)))
        | (Type::FLOAT | Type::DOUBLE, None) => Some(Kind::Number),
        (Type::INT32 | Type::INT64, None) => match column.converted_type() {
            ConvertedType::TIMESTAMP_MILLIS => Some(time(TimeUnit::MILLIS)),
            ConvertedType::TIMESTAMP_MICROS => Some(time(TimeUnit::MICROS)),
            ConvertedType::DECIMAL
            | ConvertedType::DATE
            | ConvertedType::TIME_MILLIS
            | ConvertedType::TIME_MICROS => None,
            _ => Some(Kind::Number),
        },
        (Type::INT96, _) => Some(time(TimeUnit::NANOS)),
        (
            Type::BYTE_ARRAY,
            None | Some(LogicalType::String | LogicalType::Enum | LogicalType::Unknown),
        ) => Some(Kind::Text),
        _ => None,
    }
}

/// One value.
enum Cell {
    Whole(i64),
    Single(f32),
    Double(f64),
    Text(Vec<u8>),
}

impl Cell {
    /// A number as a text, exactly.
    fn number(self) -> Option<String> {
        match self {
            Self::Whole(value) => Some(value.to_string()),
            Self::Single(value) => Some(value.to_string()),
            Self::Double(value) => Some(value.to_string()),
            Self::Text(_) => None,
        }
    }

    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text,
            number => number.number().unwrap_or_default().into_bytes(),
        }
    }

    /// A time, rounded down to microseconds.
    fn time(self, per_second: u32) -> Result<Timestamp, String> {
        let Self::Whole(value) = self else {
            return Err("arrival is no timestamp".into());
        };
        let since = u64::try_from(value).map_err(|_| format!("arrival {value} is before 1970"))?;
        let micros = match per_second {
            1_000 => since.checked_mul(1_000),
            1_000_000 => Some(since),
            _ => Some(since / 1_000),
        };
        micros
            .filter(|micros| *micros <= super::TIME_MICROS_MAX)
            .map(Timestamp::from_micros)
            .ok_or_else(|| format!("arrival {value} is too large"))
    }
}

/// A column of a row group, piece by piece.
struct Cells {
    reader: ColumnReader,
    nullable: bool,
    // For every row of the piece its place in `values`, if it has one.
    places: Vec<Option<usize>>,
    values: Values,
}

enum Values {
    Whole(Vec<i64>),
    Single(Vec<f32>),
    Double(Vec<f64>),
    Text(Vec<Vec<u8>>),
}

impl Cells {
    fn new(reader: ColumnReader, nullable: bool) -> Self {
        Self {
            reader,
            nullable,
            places: Vec::new(),
            values: Values::Whole(Vec::new()),
        }
    }

    fn cell(&self, row: usize) -> Option<Cell> {
        let place = self.places.get(row).copied().flatten()?;
        match &self.values {
            Values::Whole(values) => values.get(place).copied().map(Cell::Whole),
            Values::Single(values) => values.get(place).copied().map(Cell::Single),
            Values::Double(values) => values.get(place).copied().map(Cell::Double),
            Values::Text(values) => values.get(place).cloned().map(Cell::Text),
        }
    }

    /// Reads the next piece, and says how many rows it has.
    fn read(&mut self) -> Result<usize, ParquetError> {
        let mut levels = Vec::new();
        let (rows, values) = match &mut self.reader {
            ColumnReader::Int32ColumnReader(reader) => {
                let (rows, values) = piece(reader, &mut levels)?;
                let wide = values.into_iter().map(i64::from);
                (rows, Values::Whole(wide.collect()))
            }
            ColumnReader::Int64ColumnReader(reader) => {
                let (rows, values) = piece(reader, &mut levels)?;
                (rows, Values::Whole(values))
            }
            ColumnReader::Int96ColumnReader(reader) => {
                let (rows, values) = piece(reader, &mut levels)?;
                let nanos = values.iter().map(parquet::data_type::Int96::to_nanos);
                (rows, Values::Whole(nanos.collect()))
            }
            ColumnReader::FloatColumnReader(reader) => {
                let (rows, values) = piece(reader, &mut levels)?;
                (rows, Values::Single(values))
            }
            ColumnReader::DoubleColumnReader(reader) => {
                let (rows, values) = piece(reader, &mut levels)?;
                (rows, Values::Double(values))
            }
            ColumnReader::ByteArrayColumnReader(reader) => {
                let (rows, values) = piece(reader, &mut levels)?;
                let texts = values.iter().map(|value| value.data().to_vec());
                (rows, Values::Text(texts.collect()))
            }
            ColumnReader::BoolColumnReader(_) | ColumnReader::FixedLenByteArrayColumnReader(_) => {
                return Err(ParquetError::General("a column of another type".into()));
            }
        };
        self.values = values;
        let mut next = 0;
        let mut place = |present: bool| {
            present.then(|| {
                next += 1;
                next - 1
            })
        };
        self.places = if self.nullable {
            levels.iter().map(|level| place(*level > 0)).collect()
        } else {
            (0..rows).map(|_| place(true)).collect()
        };
        Ok(rows)
    }
}

fn piece<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    levels: &mut Vec<i16>,
) -> Result<(usize, Vec<T::T>), ParquetError> {
    let mut values = Vec::new();
    let (rows, _, _) = reader.read_records(PIECE_ROWS, Some(levels), None, &mut values)?;
    Ok((rows, values))
}
