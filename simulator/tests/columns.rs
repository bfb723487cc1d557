//! Parquet files whose columns or rows are not those of a trace: read right, or
//! one clear error with the column or the row.

use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type,
};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use windlass_simulator::trace::{ReadOptions, Trace, TraceKind, read_bytes, read_bytes_with};

/// What a column of one row group holds.
enum Column<'a> {
    Double(&'a [f64]),
    /// Rows without a value hold none.
    Doubles(&'a [Option<f64>]),
    Single(&'a [f32]),
    Long(&'a [i64]),
    Short(&'a [i32]),
    Truth(&'a [bool]),
    Text(&'a [&'a [u8]]),
}

fn put<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
    levels: Option<&[i16]>,
) {
    let mut column = group.next_column().expect("open").expect("a column");
    let typed = column.typed::<T>();
    typed.write_batch(values, levels, None).expect("written");
    column.close().expect("closed");
}

/// A file with these fields and row groups.
fn file(fields: &str, packed: Compression, groups: &[&[Column<'_>]]) -> Vec<u8> {
    let schema = parse_message_type(&format!("message m {{ {fields} }}")).expect("a schema");
    let properties = WriterProperties::builder().set_compression(packed).build();
    let open = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties));
    let mut writer = open.expect("open");
    for columns in groups {
        let mut group = writer.next_row_group().expect("open");
        for column in *columns {
            match column {
                Column::Double(values) => put::<DoubleType>(&mut group, values, None),
                Column::Doubles(values) => {
                    let levels: Vec<i16> = values.iter().map(|v| v.is_some().into()).collect();
                    let present: Vec<f64> = values.iter().copied().flatten().collect();
                    put::<DoubleType>(&mut group, &present, Some(&levels));
                }
                Column::Single(values) => put::<FloatType>(&mut group, values, None),
                Column::Long(values) => put::<Int64Type>(&mut group, values, None),
                Column::Short(values) => put::<Int32Type>(&mut group, values, None),
                Column::Truth(values) => put::<BoolType>(&mut group, values, None),
                Column::Text(values) => {
                    let values: Vec<ByteArray> =
                        values.iter().map(|text| text.to_vec().into()).collect();
                    put::<ByteArrayType>(&mut group, &values, None);
                }
            }
        }
        group.close().expect("closed");
    }
    writer.into_inner().expect("written")
}

fn plain(fields: &str, columns: &[Column<'_>]) -> Vec<u8> {
    file(fields, Compression::UNCOMPRESSED, &[columns])
}

fn refused(bytes: &[u8]) -> String {
    let error = read_bytes("a.parquet", bytes).expect_err("no trace");
    let error = error.to_string();
    assert!(
        error.starts_with("a.parquet: ") && !error.contains('\n'),
        "{error}"
    );
    error
}

fn jobs(trace: &Trace) -> (&[u64], &[u64]) {
    match trace.kind() {
        TraceKind::Jobs {
            arrival_micros,
            service_micros,
            ..
        } => (arrival_micros, service_micros),
        TraceKind::Rate { .. } => panic!("jobs"),
    }
}

const JOBS: &str = "required double arrival_s; required double service_s;";

#[test]
fn every_usual_compression_and_several_row_groups_are_read() {
    for packed in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(parquet::basic::GzipLevel::default()),
        Compression::LZ4_RAW,
        Compression::ZSTD(parquet::basic::ZstdLevel::default()),
    ] {
        let one: &[Column<'_>] = &[Column::Double(&[0.0, 1.5]), Column::Double(&[1.0, 0.25])];
        let two: &[Column<'_>] = &[Column::Double(&[1.5]), Column::Double(&[2.0])];
        let none: &[Column<'_>] = &[Column::Double(&[]), Column::Double(&[])];
        let bytes = file(JOBS, packed, &[one, none, two]);
        let trace = read_bytes("a.parquet", bytes.as_slice()).expect("a trace");
        let expected: (&[u64], &[u64]) =
            (&[0, 1_500_000, 1_500_000], &[1_000_000, 250_000, 2_000_000]);
        assert_eq!(jobs(&trace), expected, "{packed}");
    }
}

#[test]
fn numbers_of_every_width_are_read() {
    let fields = "required int32 service_s; required int64 more; required float arrival_s; \
        required binary class (UTF8);";
    let columns = [
        Column::Short(&[3, 4]),
        Column::Long(&[-1, i64::MIN]),
        Column::Single(&[0.5, 2.0]),
        Column::Text(&[b"a", b"b"]),
    ];
    let bytes = plain(fields, &columns);
    let trace = read_bytes("a.parquet", bytes.as_slice()).expect("a trace");
    let expected: (&[u64], &[u64]) = (&[500_000, 2_000_000], &[3_000_000, 4_000_000]);
    assert_eq!(jobs(&trace), expected);
}

#[test]
fn values_that_are_none_are_refused_with_their_row() {
    let two = [1.0, 1.0];
    for (arrivals, words) in [
        ([0.0, f64::NAN], "row 2: arrival_s `NaN` is not a decimal"),
        (
            [0.0, f64::INFINITY],
            "row 2: arrival_s `inf` is not a decimal",
        ),
        ([-1.0, 0.0], "row 1: arrival_s `-1` is negative"),
        ([0.0, 1e308], "is too large"),
        (
            [5.0, 4.0],
            "row 2: arrival_s is 4 s, before the 5 s of the row above",
        ),
    ] {
        let bytes = plain(JOBS, &[Column::Double(&arrivals), Column::Double(&two)]);
        let error = refused(&bytes);
        assert!(error.contains(words), "{error}");
        let options = ReadOptions {
            skip_bad: 1,
            ..ReadOptions::default()
        };
        let trace = read_bytes_with("a.parquet", bytes.as_slice(), &options).expect("one is left");
        assert_eq!((trace.arrivals(), trace.skipped().count), (1, 1));
        assert_eq!(trace.skipped().first, [error]);
    }
    for (times, words) in [
        (
            [0, i64::MAX],
            "row 2: t_s `9223372036854775807` is too large",
        ),
        ([0, -60], "row 2: t_s `-60` is negative"),
        ([60, 120], "row 1: t_s must start at 0"),
    ] {
        let columns = [Column::Long(&times), Column::Long(&[1, 1])];
        let error = refused(&plain(
            "required int64 t_s; required int64 count;",
            &columns,
        ));
        assert!(error.contains(words), "{error}");
    }
    let counts = [Column::Long(&[0, 60]), Column::Double(&[1.0, 1.5])];
    let error = refused(&plain(
        "required int64 t_s; required double count;",
        &counts,
    ));
    assert!(
        error.contains("row 2: count `1.5` is not a whole number"),
        "{error}"
    );
    let nulls = [Column::Doubles(&[Some(0.0), None]), Column::Double(&two)];
    let error = refused(&plain(
        "optional double arrival_s; required double service_s;",
        &nulls,
    ));
    assert!(error.contains("row 2: arrival_s is missing"), "{error}");
    let texts = [
        Column::Double(&[0.0]),
        Column::Double(&[1.0]),
        Column::Text(&[b"\xff"]),
    ];
    let error = refused(&plain(&format!("{JOBS} required binary class;"), &texts));
    assert!(
        error.contains("row 1: the class") && error.contains("is not UTF-8"),
        "{error}"
    );
}

#[test]
fn columns_that_are_none_of_a_trace_are_refused_by_name() {
    let one = [Column::Double(&[0.0]), Column::Double(&[1.0])];
    for (fields, columns, words) in [
        (
            "required double start; required double end;",
            &one[..],
            "expected the columns arrival_s (or arrival, a timestamp), service_s and perhaps \
             class, or t_s and count; the file has `start, end`",
        ),
        (
            "required double arrival_s; required double duration;",
            &one,
            "the file has `arrival_s, duration`",
        ),
        (
            "required double arrival; required double service_s;",
            &one,
            "the column arrival is no timestamp; call it arrival_s",
        ),
        (
            "required binary arrival_s (UTF8); required double service_s;",
            &[Column::Text(&[b"0"]), Column::Double(&[1.0])],
            "the column arrival_s does not hold numbers",
        ),
        (
            "required boolean arrival_s; required double service_s;",
            &[Column::Truth(&[true]), Column::Double(&[1.0])],
            "the column arrival_s holds BOOLEAN, which is not read",
        ),
        (
            "required int32 arrival_s (DECIMAL(9,2)); required double service_s;",
            &[Column::Short(&[100]), Column::Double(&[1.0])],
            "the column arrival_s holds",
        ),
    ] {
        let error = refused(&plain(fields, columns));
        assert!(error.contains(words), "{error}");
    }
    let error = refused(&file(JOBS, Compression::UNCOMPRESSED, &[]));
    assert!(error.contains("it has no rows"), "{error}");
}

#[test]
fn a_file_that_is_cut_or_damaged_is_refused_wherever_it_is() {
    let arrivals: Vec<f64> = (0..500_u32).map(f64::from).collect();
    let columns = [Column::Double(&arrivals), Column::Double(&arrivals)];
    let whole = file(JOBS, Compression::SNAPPY, &[&columns]);
    for end in (4..whole.len()).step_by(7) {
        let error = refused(&whole[..end]);
        assert!(error.contains("it is damaged; write it again"), "{error}");
    }
}
