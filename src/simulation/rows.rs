//! Files of rows: text for everybody, Parquet for those who have many.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, ConvertedType, GzipLevel, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;

use super::{FileFormat, SimulationError};

/// Rows that are kept until they are written as one group: some megabytes.
const GROUP_ROWS: usize = 32_768;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Whole numbers.
    Count,
    /// Millionths, written as whole ones with a fraction.
    Micros,
    /// Numbers, as they are.
    Real,
    /// Yes or no.
    Flag,
    /// Text.
    Text,
}

/// One value; only of the kind of its column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    /// There is none.
    Absent,
    /// A whole number.
    Count(u64),
    /// Millionths.
    Micros(u64),
    /// A number.
    Real(f64),
    /// Yes or no.
    Flag(bool),
    /// Text.
    Text(&'a str),
}

/// Nothing for `None`.
pub(crate) fn or_absent<T>(
    value: Option<T>,
    cell: impl FnOnce(T) -> Cell<'static>,
) -> Cell<'static> {
    value.map_or(Cell::Absent, cell)
}

/// A file of rows. The first write that fails is told at the end.
pub(crate) struct Rows {
    path: PathBuf,
    form: Form,
    failed: Option<io::Error>,
}

enum Form {
    Csv(BufWriter<File>),
    Parquet(Box<Groups>),
}

impl Rows {
    /// Begins `stem` in `folder`, with the ending of its format, for rows of
    /// `columns`.
    pub(crate) fn create(
        folder: &Path,
        stem: &str,
        format: FileFormat,
        columns: &[(&str, Kind)],
    ) -> Result<Self, SimulationError> {
        let path = folder.join(match format {
            FileFormat::Csv => format!("{stem}.csv"),
            FileFormat::Parquet => format!("{stem}.parquet"),
        });
        match Form::begin(&path, format, columns, None) {
            Ok(form) => Ok(Self::begun(path, form)),
            Err(source) => Err(SimulationError::Write { path, source }),
        }
    }

    /// Begins the Parquet file `path` for rows of `columns`, with a note about
    /// all of it: its name and its text.
    pub(crate) fn create_noted(
        path: &Path,
        columns: &[(&str, Kind)],
        note: (&str, String),
    ) -> Result<Self, SimulationError> {
        match Form::begin(path, FileFormat::Parquet, columns, Some(note)) {
            Ok(form) => Ok(Self::begun(path.to_owned(), form)),
            Err(source) => Err(SimulationError::Write {
                path: path.to_owned(),
                source,
            }),
        }
    }

    const fn begun(path: PathBuf, form: Form) -> Self {
        Self {
            path,
            form,
            failed: None,
        }
    }

    /// Writes a row: one cell for each column.
    pub(crate) fn write(&mut self, cells: &[Cell<'_>]) {
        if self.failed.is_none() {
            self.failed = self.form.write(cells).err();
        }
    }

    /// Ends the file.
    pub(crate) fn finish(self) -> Result<(), SimulationError> {
        let finished = match self.failed {
            Some(failed) => Err(failed),
            None => self.form.finish(),
        };
        finished.map_err(|source| SimulationError::Write {
            path: self.path,
            source,
        })
    }
}

impl Form {
    fn begin(
        path: &Path,
        format: FileFormat,
        columns: &[(&str, Kind)],
        note: Option<(&str, String)>,
    ) -> io::Result<Self> {
        let file = File::create(path)?;
        match format {
            FileFormat::Csv => {
                let mut file = BufWriter::new(file);
                let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
                writeln!(file, "{}", names.join(","))?;
                Ok(Self::Csv(file))
            }
            FileFormat::Parquet => {
                let groups = Groups::begin(file, columns, note).map_err(io::Error::other)?;
                Ok(Self::Parquet(Box::new(groups)))
            }
        }
    }

    fn write(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        match self {
            Self::Csv(file) => write_line(file, cells),
            Self::Parquet(groups) => groups.write(cells).map_err(io::Error::other),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Csv(mut file) => file.flush(),
            Self::Parquet(groups) => groups.finish().map_err(io::Error::other),
        }
    }
}

fn write_line(file: &mut impl Write, cells: &[Cell<'_>]) -> io::Result<()> {
    for (place, cell) in cells.iter().enumerate() {
        if place > 0 {
            file.write_all(b",")?;
        }
        match cell {
            Cell::Absent => {}
            Cell::Count(count) => write!(file, "{count}")?,
            Cell::Micros(micros) => {
                write!(file, "{}.{:06}", micros / 1_000_000, micros % 1_000_000)?;
            }
            Cell::Real(number) => write!(file, "{number}")?,
            Cell::Flag(flag) => write!(file, "{flag}")?,
            // In quotes, quotes doubled.
            Cell::Text(text) => write!(file, "\"{}\"", text.replace('"', "\"\""))?,
        }
    }
    file.write_all(b"\n")
}

/// Rows that become groups of columns.
struct Groups {
    file: SerializedFileWriter<File>,
    columns: Vec<Column>,
    rows: usize,
}

/// One column of the group that is being gathered.
struct Column {
    values: Values,
    /// 1 where there is a value, 0 where there is none.
    levels: Vec<i16>,
}

enum Values {
    Count(Vec<i64>),
    /// Micros too.
    Real(Vec<f64>),
    Flag(Vec<bool>),
    Text(Vec<ByteArray>),
}

impl Groups {
    fn begin(
        file: File,
        columns: &[(&str, Kind)],
        note: Option<(&str, String)>,
    ) -> Result<Self, ParquetError> {
        let notes = note.map(|(name, text)| vec![KeyValue::new(name.to_owned(), text)]);
        let properties = WriterProperties::builder()
            .set_created_by("windlass".to_owned())
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(Compression::GZIP(GzipLevel::try_new(1)?))
            .set_key_value_metadata(notes)
            .build();
        Ok(Self {
            file: SerializedFileWriter::new(file, schema(columns)?, Arc::new(properties))?,
            columns: columns.iter().map(|(_, kind)| Column::of(*kind)).collect(),
            rows: 0,
        })
    }

    fn write(&mut self, cells: &[Cell<'_>]) -> Result<(), ParquetError> {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            column.push(cell);
        }
        self.rows += 1;
        if self.rows == GROUP_ROWS {
            self.write_group()?;
        }
        Ok(())
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.file.next_row_group()?;
        for column in &mut self.columns {
            column.write(&mut group)?;
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<(), ParquetError> {
        if self.rows > 0 {
            self.write_group()?;
        }
        self.file.close()?;
        Ok(())
    }
}

impl Column {
    fn of(kind: Kind) -> Self {
        Self {
            values: match kind {
                Kind::Count => Values::Count(Vec::new()),
                Kind::Micros | Kind::Real => Values::Real(Vec::new()),
                Kind::Flag => Values::Flag(Vec::new()),
                Kind::Text => Values::Text(Vec::new()),
            },
            levels: Vec::new(),
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a double is exact up to 285 years of microseconds"
    )]
    fn push(&mut self, cell: &Cell<'_>) {
        let there = match (&mut self.values, cell) {
            (Values::Count(values), Cell::Count(count)) => {
                values.push(i64::try_from(*count).unwrap_or(i64::MAX));
                true
            }
            (Values::Real(values), Cell::Micros(micros)) => {
                values.push(*micros as f64 / 1e6);
                true
            }
            (Values::Real(values), Cell::Real(number)) => {
                values.push(*number);
                true
            }
            (Values::Flag(values), Cell::Flag(flag)) => {
                values.push(*flag);
                true
            }
            (Values::Text(values), Cell::Text(text)) => {
                values.push(ByteArray::from(*text));
                true
            }
            (_, Cell::Absent) => false,
            (
                _,
                Cell::Count(_) | Cell::Micros(_) | Cell::Real(_) | Cell::Flag(_) | Cell::Text(_),
            ) => {
                debug_assert!(false, "a cell of another kind than its column");
                false
            }
        };
        self.levels.push(i16::from(there));
    }

    fn write(
        &mut self,
        group: &mut SerializedRowGroupWriter<'_, File>,
    ) -> Result<(), ParquetError> {
        let Some(mut writer) = group.next_column()? else {
            return Ok(());
        };
        let levels = Some(&self.levels[..]);
        match &mut self.values {
            Values::Count(values) => {
                writer
                    .typed::<Int64Type>()
                    .write_batch(values, levels, None)?;
                values.clear();
            }
            Values::Real(values) => {
                writer
                    .typed::<DoubleType>()
                    .write_batch(values, levels, None)?;
                values.clear();
            }
            Values::Flag(values) => {
                writer
                    .typed::<BoolType>()
                    .write_batch(values, levels, None)?;
                values.clear();
            }
            Values::Text(values) => {
                writer
                    .typed::<ByteArrayType>()
                    .write_batch(values, levels, None)?;
                values.clear();
            }
        }
        self.levels.clear();
        writer.close()
    }
}

fn schema(columns: &[(&str, Kind)]) -> Result<Arc<Type>, ParquetError> {
    let fields = columns.iter().map(|(name, kind)| {
        let physical = match kind {
            Kind::Count => Physical::INT64,
            Kind::Micros | Kind::Real => Physical::DOUBLE,
            Kind::Flag => Physical::BOOLEAN,
            Kind::Text => Physical::BYTE_ARRAY,
        };
        let mut field = Type::primitive_type_builder(name, physical);
        if *kind == Kind::Text {
            field = field.with_converted_type(ConvertedType::UTF8);
        }
        let field = field.with_repetition(Repetition::OPTIONAL).build();
        field.map(Arc::new)
    });
    let fields = fields.collect::<Result<_, _>>()?;
    let schema = Type::group_type_builder("row")
        .with_fields(fields)
        .build()?;
    Ok(Arc::new(schema))
}
