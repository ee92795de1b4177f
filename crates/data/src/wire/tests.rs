//! Round trips between the forms, conversions, refusals, and bodies that claim more than they have.

use std::sync::Arc;

use ::parquet::{
    arrow::ArrowWriter,
    basic::{Compression, Encoding},
    file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion},
};
use arrow_array::{
    BooleanArray, DictionaryArray, Float32Array, Float64Array, Int8Array, Int32Array, Int64Array,
    LargeStringArray, ListArray, NullArray, StringArray, StringViewArray,
    TimestampMicrosecondArray, TimestampNanosecondArray, TimestampSecondArray,
    builder::{FixedSizeListBuilder, Float32Builder},
    types::Float64Type,
};
use arrow_ipc::{
    CompressionType,
    writer::{FileWriter, IpcWriteOptions, StreamWriter},
};
use arrow_schema::Field;
use luthier_types::Column;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const BINARY: [Format; 3] = [Format::ArrowStream, Format::ArrowFile, Format::Parquet];

fn column(name: &str, data_type: DataType) -> Column {
    serde_json::from_value(json!({ "name": name, "data_type": data_type })).unwrap()
}

fn parser_of(columns: &[(&str, DataType)]) -> RowParser {
    let columns: Vec<Column> = columns.iter().map(|(n, t)| column(n, *t)).collect();
    RowParser::new(&columns.iter().collect::<Vec<_>>(), crate::Missing::Reject)
}

/// One column of each type, named after it.
fn every_type() -> RowParser {
    parser_of(&[
        ("float", DataType::Float),
        ("int", DataType::Int),
        ("bool", DataType::Bool),
        ("str", DataType::Str),
        ("timestamp", DataType::Timestamp),
        ("vector", DataType::Vector),
    ])
}

fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields = columns
        .iter()
        .map(|(n, a)| Field::new(*n, a.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns.into_iter().map(|(_, a)| a).collect()).unwrap()
}

fn bytes(batch: &RecordBatch, format: Format) -> Bytes {
    let mut out = vec![];
    write_table(batch, format, &mut out).unwrap();
    out.into()
}

fn parquet_bytes(batch: &RecordBatch, properties: WriterPropertiesBuilder) -> Vec<u8> {
    let mut out = vec![];
    let mut writer =
        ArrowWriter::try_new(&mut out, batch.schema(), Some(properties.build())).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    out
}

fn read(body: impl Into<Bytes>, format: Format, parser: &RowParser) -> Result<RecordBatch, Error> {
    read_table(body.into(), format, parser, Bounds::default())
}

fn refused(body: impl Into<Bytes>, format: Format, parser: &RowParser) -> String {
    let error = read(body, format, parser).unwrap_err();
    assert_eq!(error.code(), Code::BadRequest, "{error}");
    assert!(error.next_step().is_some(), "{error}");
    error.public_text()
}

/// Reads within bounds of so many MiB, in vain.
fn too_large(body: impl Into<Bytes>, format: Format, parser: &RowParser, mib: u64) -> String {
    let bounds = Bounds {
        rows: 1_000_000,
        bytes: mib << 20,
    };
    let error = read_table(body.into(), format, parser, bounds).unwrap_err();
    assert_eq!(error.code(), Code::TooLarge, "{error}");
    error.public_text()
}

fn floats() -> impl Strategy<Value = Option<f64>> {
    prop::option::of(
        any::<f64>().prop_filter("JSON and CSV have no word for others", |v| v.is_finite()),
    )
}

/// Points in time of the years 1 to 9999, which every form can write.
fn times() -> impl Strategy<Value = Option<i64>> {
    prop::option::of(-62_135_596_800_000_000..253_402_207_200_000_000_i64)
}

fn rows() -> impl Strategy<Value = RecordBatch> {
    let row = (
        floats(),
        any::<Option<i64>>(),
        any::<Option<bool>>(),
        // An empty field of CSV is no value, so a text is never empty here.
        prop::option::of(".{1,12}"),
        times(),
        prop::option::of(prop::collection::vec(floats(), 0..4)),
    );
    prop::collection::vec(row, 0..20).prop_map(|rows| {
        let rows = || rows.iter().cloned();
        table(vec![
            (
                "float",
                Arc::new(rows().map(|r| r.0).collect::<Float64Array>()),
            ),
            ("int", Arc::new(rows().map(|r| r.1).collect::<Int64Array>())),
            (
                "bool",
                Arc::new(rows().map(|r| r.2).collect::<BooleanArray>()),
            ),
            (
                "str",
                Arc::new(rows().map(|r| r.3).collect::<StringArray>()),
            ),
            (
                "timestamp",
                Arc::new(rows().map(|r| r.4).collect::<TimestampMicrosecondArray>()),
            ),
            (
                "vector",
                Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(
                    rows().map(|r| r.5),
                )),
            ),
        ])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_form_reads_back_what_it_wrote(table in rows()) {
        for format in Format::ALL {
            let back = read(bytes(&table, format), format, &every_type()).unwrap();
            prop_assert_eq!(&back, &table, "{:?}", format);
        }
    }

    #[test]
    fn columns_go_by_name(table in rows(), order in Just((0..6).collect::<Vec<_>>()).prop_shuffle()) {
        let mixed = table.project(&order).unwrap();
        for format in Format::ALL {
            let back = read(bytes(&mixed, format), format, &every_type()).unwrap();
            prop_assert_eq!(&back, &table, "{:?}", format);
        }
    }

    #[test]
    fn damaged_bodies_are_refused_or_read_but_never_more(
        table in rows(),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
        cut in any::<prop::sample::Index>(),
    ) {
        for format in Format::ALL {
            let mut body = bytes(&table, format).to_vec();
            let at = at.index(body.len());
            body[at] ^= flip;
            let cut = bytes(&table, format).slice(..cut.index(body.len()));
            for body in [body.into(), cut] {
                if let Err(error) = read(body, format, &every_type()) {
                    prop_assert!(matches!(error.code(), Code::BadRequest | Code::TooLarge), "{}", error);
                }
            }
        }
    }
}

#[test]
fn types_are_converted_by_the_schema() {
    let list = {
        let mut list = FixedSizeListBuilder::new(Float32Builder::new(), 2);
        list.values().append_slice(&[0.5, 1.5]);
        list.append(true);
        list.values().append_nulls(2);
        list.append(false);
        list.finish()
    };
    let words: DictionaryArray<arrow_array::types::Int8Type> =
        vec![Some("x"), None].into_iter().collect();
    let zoned = TimestampNanosecondArray::from(vec![Some(1_700_000_000_123_456_789), None]);
    let sent = table(vec![
        ("vector", Arc::new(list)),
        ("extra", Arc::new(BooleanArray::from(vec![true, false]))),
        (
            "timestamp",
            Arc::new(zoned.with_timezone("America/New_York")),
        ),
        ("str", Arc::new(words)),
        ("bool", Arc::new(Int8Array::from(vec![Some(1), None]))),
        ("int", Arc::new(Float64Array::from(vec![3.0, f64::NAN]))),
        ("float", Arc::new(Float32Array::from(vec![0.5, 1.5]))),
    ]);
    for format in BINARY {
        let got = read(bytes(&sent, format), format, &every_type()).unwrap();
        assert_eq!(got.schema_ref(), every_type().schema());
        let rows = crate::batch_to_rows(&got);
        insta::allow_duplicates! {
            insta::assert_snapshot!(json!(rows), @r#"[{"float":0.5,"int":3,"bool":true,"str":"x","timestamp":"2023-11-14T22:13:20.123456+00:00","vector":[0.5,1.5]},{"float":1.5,"int":null,"bool":null,"str":null,"timestamp":null,"vector":null}]"#);
        }
    }
    let text = table(vec![
        (
            "a",
            Arc::new(LargeStringArray::from(vec![
                "x",
                "long enough to be no part of a view",
            ])),
        ),
        (
            "b",
            Arc::new(StringViewArray::from(vec![
                "x",
                "long enough to be no part of a view",
            ])),
        ),
        ("c", Arc::new(Int32Array::from(vec![1, 2]))),
    ]);
    let parser = parser_of(&[
        ("a", DataType::Str),
        ("b", DataType::Category),
        ("c", DataType::Str),
    ]);
    for format in BINARY {
        let got = read(bytes(&text, format), format, &parser).unwrap();
        insta::allow_duplicates! {
            insta::assert_snapshot!(json!(crate::batch_to_rows(&got)), @r#"[{"a":"x","b":"x","c":"1"},{"a":"long enough to be no part of a view","b":"long enough to be no part of a view","c":"2"}]"#);
        }
    }
}

#[test]
fn what_fits_is_not_copied() {
    let sent = table(vec![("a", Arc::new(Float64Array::from(vec![0.5; 1000])))]);
    // As an allocation is; within a body of HTTP it may lie otherwise, and is then copied once.
    let body = Bytes::from(bytes(&sent, Format::ArrowStream).to_vec());
    let within = body.as_ptr_range();
    let parser = parser_of(&[("a", DataType::Float)]);
    let got = read(body, Format::ArrowStream, &parser).unwrap();
    let data = got.column(0).to_data().buffers()[0].as_ptr();
    assert!(within.contains(&data));
}

#[test]
fn several_batches_and_row_groups_are_one_table() {
    let parser = parser_of(&[("a", DataType::Int), ("s", DataType::Str)]);
    let part = |first: i32| {
        let numbers = Int32Array::from((first..first + 3000).collect::<Vec<_>>());
        let texts = StringArray::from(vec!["x"; 3000]);
        table(vec![("a", Arc::new(numbers)), ("s", Arc::new(texts))])
    };
    let mut stream = vec![];
    let mut writer = StreamWriter::try_new(&mut stream, part(0).schema_ref()).unwrap();
    let groups = WriterProperties::builder().set_max_row_group_row_count(Some(1000));
    let mut file = vec![];
    let mut groups =
        ArrowWriter::try_new(&mut file, part(0).schema(), Some(groups.build())).unwrap();
    for first in [0, 3000, 6000] {
        writer.write(&part(first)).unwrap();
        groups.write(&part(first)).unwrap();
    }
    writer.finish().unwrap();
    groups.close().unwrap();
    for (body, format) in [(stream, Format::ArrowStream), (file, Format::Parquet)] {
        let got = read(body.clone(), format, &parser).unwrap();
        let numbers = got.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
        assert!(numbers.values().iter().copied().eq(0..9000), "{format:?}");
        // The row in a message is the row of the whole table.
        let wrong = parser_of(&[("a", DataType::Int), ("s", DataType::Float)]);
        assert!(refused(body, format, &wrong).starts_with("row 0: column `s` is \"x\""));
    }
}

#[test]
fn compressed_arrow_is_read() {
    let sent = table(vec![("a", Arc::new(Float64Array::from(vec![0.5; 1000])))]);
    let parser = parser_of(&[("a", DataType::Float)]);
    for codec in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let body = compressed(&sent, codec);
        assert!(body.len() < 2000);
        assert_eq!(read(body, Format::ArrowFile, &parser).unwrap(), sent);
    }
}

fn compressed(batch: &RecordBatch, codec: CompressionType) -> Vec<u8> {
    let mut out = vec![];
    let options = IpcWriteOptions::default()
        .try_with_compression(Some(codec))
        .unwrap();
    let mut writer =
        FileWriter::try_new_with_options(&mut out, batch.schema_ref(), options).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    out
}

#[test]
fn tables_without_rows_are_tables() {
    let none = RecordBatch::new_empty(every_type().schema().clone());
    for format in Format::ALL {
        assert_eq!(
            read(bytes(&none, format), format, &every_type()).unwrap(),
            none
        );
    }
    // A stream of a schema alone, as pyarrow writes a table without chunks.
    let mut stream = vec![];
    let mut writer = StreamWriter::try_new(&mut stream, none.schema_ref()).unwrap();
    writer.finish().unwrap();
    assert_eq!(
        read(stream.clone(), Format::ArrowStream, &every_type()).unwrap(),
        none
    );
    let other = parser_of(&[("else", DataType::Float)]);
    assert!(refused(stream, Format::ArrowStream, &other).contains("`else`"));
}

#[test]
fn missing_and_repeated_columns_are_named() {
    let sent = table(vec![
        ("Float", Arc::new(Float64Array::from(vec![1.0]))),
        ("str", Arc::new(StringArray::from(vec!["x"]))),
    ]);
    for format in [
        Format::ArrowStream,
        Format::ArrowFile,
        Format::Parquet,
        Format::Csv,
    ] {
        let text = refused(bytes(&sent, format), format, &every_type());
        insta::allow_duplicates! {
            insta::assert_snapshot!(text, @"the table lacks the columns `float`, `int`, `bool`, `timestamp`, `vector`. `Float` was sent where `float` is meant. Sent and not known: `Float`. Send every input of the model in every row; null stands for a missing value.");
        }
    }
    let parser = parser_of(&[("a", DataType::Float)]);
    let one: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    let twice = table(vec![("a", one.clone()), ("b", one.clone()), ("a", one)]);
    for format in [Format::ArrowStream, Format::Parquet, Format::Csv] {
        assert!(refused(bytes(&twice, format), format, &parser).contains("`a` twice"));
    }
}

#[test]
fn values_that_do_not_fit_are_named() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["1", "many"]));
    let sent = table(vec![("a", texts)]);
    let parser = parser_of(&[("a", DataType::Float)]);
    for format in Format::ALL {
        let text = refused(bytes(&sent, format), format, &parser);
        assert!(
            text.starts_with("row 1: column `a` is \"many\", but a number is needed"),
            "{text}"
        );
    }
    let fractions = table(vec![("a", Arc::new(Float64Array::from(vec![1.5])))]);
    let whole = parser_of(&[("a", DataType::Int)]);
    for format in Format::ALL {
        let text = refused(bytes(&fractions, format), format, &whole);
        assert!(
            text.contains("1.5") && text.contains("a whole number is needed"),
            "{text}"
        );
    }
    let far = TimestampSecondArray::from(vec![Some(0), Some(i64::MAX / 2)]);
    let far = bytes(&table(vec![("a", Arc::new(far))]), Format::ArrowStream);
    let time = parser_of(&[("a", DataType::Timestamp)]);
    assert!(
        refused(far, Format::ArrowStream, &time).starts_with("row 1: column `a` is out of range")
    );
    let binary = arrow_array::BinaryArray::from(vec![&b"x"[..]]);
    for format in [Format::ArrowStream, Format::Parquet] {
        let body = bytes(&table(vec![("a", Arc::new(binary.clone()))]), format);
        assert!(refused(body, format, &parser).starts_with("the column `a` has the type Binary"));
    }
}

#[test]
fn csv_is_as_spreadsheets_write_it() {
    let parser = parser_of(&[("name", DataType::Str), ("n", DataType::Int)]);
    let got = read(
        "\u{feff}n,name\r\n1,\"a, \"\"b\"\"\r\nc\"\r\n,\r\n2.0, é \r\n",
        Format::Csv,
        &parser,
    );
    insta::assert_snapshot!(json!(crate::batch_to_rows(&got.unwrap())), @r#"[{"name":"a, \"b\"\r\nc","n":1},{"name":null,"n":null},{"name":" é ","n":2}]"#);
    let one = parser_of(&[("n", DataType::Int)]);
    let nothing = table(vec![("n", Arc::new(Int64Array::from(vec![None, Some(1)])))]);
    assert_eq!(
        read(bytes(&nothing, Format::Csv), Format::Csv, &one).unwrap(),
        nothing
    );
    for (body, place) in [
        ("", "empty"),
        ("n,name\n1\n", "line 2"),
        ("n,name\n1,x,y\n", "line 2"),
        ("name\nx\n", "lacks the column `n`"),
    ] {
        let text = refused(body, Format::Csv, &parser);
        assert!(text.contains(place), "{body}: {text}");
    }
    assert!(refused(&b"n,name\n1,\xff\n"[..], Format::Csv, &parser).contains("UTF-8"));
}

#[test]
fn bodies_cut_off_anywhere_are_refused() {
    let sent = table(vec![("a", Arc::new(Float64Array::from(vec![1.0, 2.0])))]);
    let parser = parser_of(&[("a", DataType::Float)]);
    for format in BINARY {
        let whole = bytes(&sent, format);
        // The end of a stream need not be said.
        let needed = whole.len() - if format == Format::ArrowStream { 8 } else { 0 };
        for length in 0..needed {
            let got = read(whole.slice(..length), format, &parser);
            if let Ok(table) = got {
                // Cut between two messages of a stream.
                assert_eq!(
                    (format, table.num_rows()),
                    (Format::ArrowStream, 0),
                    "{length}"
                );
            }
        }
    }
    for format in BINARY {
        refused(
            &b"{\"data\": [[1, 2]]}, and no table at all"[..],
            format,
            &parser,
        );
    }
}

#[test]
fn arrow_that_claims_more_than_it_has_takes_no_memory() {
    let parser = parser_of(&[("a", DataType::Float)]);
    // A column of nothing takes no bytes, however many rows it has.
    let endless = table(vec![("a", Arc::new(NullArray::new(1 << 40)))]);
    let body = bytes(&endless, Format::ArrowStream);
    assert!(body.len() < 1000);
    assert!(too_large(body, Format::ArrowStream, &parser, 64).contains("1000000 rows"));

    // A buffer that claims to unpack to a pebibyte would end the process.
    let small = table(vec![("a", Arc::new(Float64Array::from(vec![0.5; 1000])))]);
    let mut body = compressed(&small, CompressionType::ZSTD);
    let claim = 8000_i64.to_le_bytes();
    let at = body.windows(8).position(|w| w == claim).unwrap();
    body[at..at + 8].copy_from_slice(&(1_i64 << 50).to_le_bytes());
    assert!(too_large(body, Format::ArrowFile, &parser, 64).contains("64 MiB"));

    // One that really does.
    let zeros = table(vec![(
        "a",
        Arc::new(Float64Array::from(vec![0.0; 900_000])),
    )]);
    let body = compressed(&zeros, CompressionType::ZSTD);
    assert!(body.len() < 4000);
    too_large(body, Format::ArrowFile, &parser, 4);

    // A long word in a dictionary, for each of many rows.
    let words: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1 << 16)]));
    let keys = Int8Array::from(vec![0; 100_000]);
    let often = table(vec![("a", Arc::new(DictionaryArray::new(keys, words)))]);
    let text = parser_of(&[("a", DataType::Str)]);
    let body = bytes(&often, Format::ArrowStream);
    assert!(body.len() < 1 << 18);
    too_large(body, Format::ArrowStream, &text, 64);
}

#[test]
fn parquet_that_unpacks_to_more_is_found_in_its_page_headers() {
    let parser = parser_of(&[("a", DataType::Float)]);
    let plain = || {
        WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_compression(Compression::ZSTD(Default::default()))
    };
    let zeros = table(vec![(
        "a",
        Arc::new(Float64Array::from(vec![0.0; 900_000])),
    )]);
    let mut body = parquet_bytes(&zeros, plain());
    assert!(body.len() < 10_000);
    // Its pages cannot be unpacked any more: it is refused before that.
    let middle = body
        .windows(4)
        .position(|w| w == [0x28, 0xb5, 0x2f, 0xfd])
        .unwrap();
    body[middle] = 0;
    too_large(body.clone(), Format::Parquet, &parser, 4);
    refused(body, Format::Parquet, &parser);

    // A word in a dictionary, for each of many rows: the pages are small, the texts are not.
    let word = "x".repeat(1 << 16);
    let texts = StringArray::from_iter_values(std::iter::repeat_n(&word, 4000));
    let body = parquet_bytes(
        &table(vec![("a", Arc::new(texts))]),
        WriterProperties::builder(),
    );
    assert!(body.len() < 1 << 18);
    let text = parser_of(&[("a", DataType::Str)]);
    too_large(body, Format::Parquet, &text, 64);

    // Values that take no bytes in a page.
    let same = table(vec![(
        "a",
        Arc::new(Float64Array::from(vec![0.5; 900_000])),
    )]);
    let body = parquet_bytes(&same, WriterProperties::builder());
    assert!(body.len() < 10_000);
    too_large(body, Format::Parquet, &parser, 4);

    // Texts that repeat the one before.
    let prefix = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::DELTA_BYTE_ARRAY);
    let body = parquet_bytes(
        &table(vec![("a", Arc::new(StringArray::from(vec!["x", "xy"])))]),
        prefix,
    );
    assert!(refused(body, Format::Parquet, &text).contains("DELTA_BYTE_ARRAY"));
}

#[test]
fn what_is_not_asked_for_counts_for_nothing() {
    let parser = parser_of(&[("a", DataType::Float)]);
    let big = StringArray::from(vec!["x".repeat(8 << 20)]);
    let sent = table(vec![
        ("text", Arc::new(big)),
        ("a", Arc::new(Float64Array::from(vec![1.0]))),
    ]);
    let bounds = Bounds {
        rows: 10,
        bytes: 1 << 20,
    };
    for format in [Format::ArrowStream, Format::Parquet, Format::Csv] {
        let got = read_table(bytes(&sent, format), format, &parser, bounds).unwrap();
        assert_eq!(got.num_rows(), 1, "{format:?}");
    }
}

#[test]
fn csv_is_bounded_in_rows_and_bytes() {
    let parser = parser_of(&[("a", DataType::Float), ("b", DataType::Float)]);
    let body = format!("a,b\n{}", ",\n".repeat(900_000));
    too_large(body.clone(), Format::Csv, &parser, 4);
    let few = Bounds {
        rows: 10,
        bytes: u64::MAX,
    };
    let error = read_table(body.into(), Format::Csv, &parser, few).unwrap_err();
    assert_eq!(error.code(), Code::TooLarge);
}
