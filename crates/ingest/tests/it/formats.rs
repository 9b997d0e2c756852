//! NDJSON and Parquet, compressed files, and several formats at once.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, DictionaryArray, Int32Array, Int64Array, NullArray, RecordBatch,
    StringArray, TimestampNanosecondArray, UInt32Array,
};
use arrow::datatypes::{DataType, Field, Int8Type, Schema, TimeUnit};
use headwater_ingest::Error;
use headwater_model::{ErrorCode, OnError, ToProblem};
use headwater_tables::with_default;
use parquet::arrow::ArrowWriter;
use serde_json::json;

use crate::support::{Fixture, name};

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn write_parquet(lake: &Fixture, name: &str, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = File::create(lake.path(name)).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[tokio::test]
async fn objects_become_structs_arrays_lists_and_mixed_values_text() {
    let lake = Fixture::new().await;
    let lines = [
        r#"{"id": 1, "at": "2013-01-01T05:00:00Z", "user": {"name": "Ann", "tags": ["a", "b"]}}"#,
        r#"{"id": 2, "any": 1, "user": {"age": 7}}"#,
        "",
        r#"{"id": 3, "any": {"k": "v"}, "user": null, "n": [1, 2.5]}"#,
    ];
    lake.file("a.ndjson", lines.join("\n"));
    let report = lake.import(&lake.request("t", &["a.ndjson"])).await.unwrap();
    assert_eq!(report.rows, 3);
    let columns = lake.columns("t").await;
    assert_eq!(columns[..2], ["id long", "at timestamptz"]);
    assert!(columns[2].starts_with("user struct<"), "{columns:?}");
    assert_eq!(columns[3..], ["any string", "n list<double>"]);
    let rows = lake.rows("t").await;
    assert_eq!(rows[0]["user"], json!({"name": "Ann", "tags": ["a", "b"], "age": null}));
    assert_eq!(rows[1]["any"], "1");
    assert_eq!(rows[2]["any"], r#"{"k": "v"}"#);
    assert_eq!((&rows[2]["user"], &rows[2]["n"]), (&json!(null), &json!([1.0, 2.5])));
}

#[tokio::test]
async fn bad_lines_are_named_or_rejected() {
    let lake = Fixture::new().await;
    lake.file("a.ndjson", "{\"id\": 1}\n\n{\"id\": \n{\"id\": 4}\n[5]\n");
    let mut request = lake.request("t", &["a.ndjson"]);
    let error = lake.import(&request).await.unwrap_err();
    assert!(error.to_string().contains("line 3"), "{error}");
    assert_eq!(error.code(), ErrorCode::BadRow);
    request.on_error = OnError::Reject;
    let report = lake.import(&request).await.unwrap();
    assert_eq!((report.rows, report.rows_rejected), (2, 2));
    let rejected = lake.rows("t__rejected").await;
    assert_eq!((&rejected[0]["line"], &rejected[1]["line"]), (&json!(3), &json!(5)));
}

#[tokio::test]
async fn a_json_array_is_read_as_its_elements() {
    let lake = Fixture::new().await;
    lake.file(
        "a.json",
        "[\n  {\"id\": 1, \"tags\": [\"x\"]},\n  {\"id\": 2, \"name\": \"]\"}\n]\n",
    );
    let report = lake.import(&lake.request("t", &["a.json"])).await.unwrap();
    assert_eq!(report.rows, 2);
    assert_eq!(lake.columns("t").await, ["id long", "tags list<string>", "name string"]);
    assert_eq!(lake.rows("t").await[1]["name"], "]");

    lake.file("bad.json", "[{\"id\": 1}, {\"id\": \"x\"}, 7]");
    let mut request = lake.request("t", &["bad.json"]);
    request.on_error = OnError::Reject;
    let report = lake.import(&request).await.unwrap();
    assert_eq!((report.rows, report.rows_rejected), (1, 2));
    assert_eq!(lake.rows("t__rejected").await[0]["line"], 2, "the second element");

    lake.file("torn.json", "[{\"id\": 1}, {\"id\": 2}");
    let error = lake.import(&lake.request("t", &["torn.json"])).await.unwrap_err();
    assert!(error.to_string().ends_with("as a JSON array: the array is not closed"), "{error}");
    assert_eq!(error.code(), ErrorCode::BadRow);
}

/// Three rows as an Arrow file or stream, in two batches.
fn arrow_bytes(as_file: bool, compressed: bool) -> Vec<u8> {
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
    let names: DictionaryArray<Int8Type> = vec!["x", "y", "x"].into_iter().collect();
    let id: ArrayRef = Arc::new(UInt32Array::from(vec![1, 2, 3]));
    let batch =
        RecordBatch::try_from_iter([("id", id), ("name", Arc::new(names) as ArrayRef)]).unwrap();
    let compression = compressed.then_some(CompressionType::ZSTD);
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let batches = [batch.slice(0, 2), batch.slice(2, 1)];
    let mut bytes = Vec::new();
    if as_file {
        let mut writer =
            FileWriter::try_new_with_options(&mut bytes, &batch.schema(), options).unwrap();
        for batch in &batches {
            writer.write(batch).unwrap();
        }
        writer.finish().unwrap();
    } else {
        let mut writer =
            StreamWriter::try_new_with_options(&mut bytes, &batch.schema(), options).unwrap();
        for batch in &batches {
            writer.write(batch).unwrap();
        }
        writer.finish().unwrap();
    }
    bytes
}

#[tokio::test]
async fn arrow_files_and_streams_are_read() {
    for (name, as_file, compressed) in [
        ("a.arrow", true, false),
        ("a.feather", true, true),
        ("a.arrows", false, false),
        ("a.bin", true, false),
        ("stream.bin", false, true),
    ] {
        let lake = Fixture::new().await;
        lake.file(name, arrow_bytes(as_file, compressed));
        let report = lake.import(&lake.request("t", &[name])).await.unwrap();
        assert_eq!(report.rows, 3, "{name}");
        assert_eq!(lake.columns("t").await, ["id long", "name string"], "{name}");
        let rows = lake.rows("t").await;
        assert_eq!(rows[2], json!({"id": 3, "name": "x"}), "{name}");
        let again = lake.import(&lake.request("t", &[name])).await.unwrap();
        assert_eq!(again.files_skipped, 1, "{name}");
    }
}

#[tokio::test]
async fn a_damaged_arrow_file_is_an_error_and_takes_no_memory() {
    let lake = Fixture::new().await;
    let whole = arrow_bytes(false, true);
    let read = async |name: &str, bytes: &[u8]| {
        lake.file(name, bytes);
        lake.plan(&lake.request("t", &[name])).await
    };
    for length in (0..whole.len()).step_by(13) {
        let _ = read("short.arrows", &whole[..length]).await;
    }
    // Replace each byte of the file in turn by a large value, including the bytes of sizes,
    // offsets, counts and types.
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] = 0x7f;
        let _ = read("damaged.arrows", &bytes).await;
    }
    let error = read("short.arrows", &whole[..whole.len() / 2]).await.unwrap_err();
    assert!(error.to_string().contains("the file ends inside a message"), "{error}");
    let error = read("old.feather", b"FEA1 and more").await.unwrap_err();
    assert!(error.to_string().contains("Feather version 1"), "{error}");
    let error = read("text.arrow", b"id,name\n1,x\n").await.unwrap_err();
    assert!(error.to_string().contains("not an Arrow file or stream"), "{error}");
}

#[tokio::test]
async fn an_http_url_is_an_error_with_a_hint() {
    let lake = Fixture::new().await;
    for (source, what, command) in [
        ("https://example.org/a.csv", "do not read web addresses", "curl"),
        ("file:///tmp/a.csv", "path without", "file://"),
        ("ftp://example.org/a.csv", "no object store has this URL scheme", "s3://"),
    ] {
        let mut request = lake.request("t", &[]);
        request.sources = vec![source.to_owned()];
        let error = lake.import(&request).await.unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains(command)), "{error:?}");
    }
}

#[tokio::test]
async fn a_rare_text_among_numbers_is_a_bad_row() {
    let lake = Fixture::new().await;
    let numbers: Vec<String> = (0..50_000).map(|n: i64| n.to_string()).collect();
    lake.file("a.csv", format!("n\n{}\nabc\n", numbers.join("\n")));
    let mut request = lake.request("t", &["a.csv"]);
    let error = lake.import(&request).await.unwrap_err();
    assert!(error.to_string().contains("line 50002, column `n`: `abc` is not a long"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("`--on-error reject`")), "{error:?}");
    request.on_error = OnError::Reject;
    let report = lake.import(&request).await.unwrap();
    assert_eq!((report.rows, report.rows_rejected), (50_000, 1));
    assert_eq!(lake.columns("t").await, ["n long"]);
    let mut request = lake.request("u", &["a.csv"]);
    request.types = [("n".to_owned(), "string".to_owned())].into();
    assert_eq!(lake.import(&request).await.unwrap().rows, 50_001);
}

#[tokio::test]
async fn a_column_that_became_text_is_reported() {
    let lake = Fixture::new().await;
    lake.file("a.csv", "n,word\n1,a\nabc,b\n3,7\n");
    let report = lake.import(&lake.request("t", &["a.csv"])).await.unwrap();
    let [column] = &report.columns_as_text[..] else { panic!("{report:?}") };
    assert_eq!((column.name.as_str(), column.data_type.as_str()), ("n", "string"));
    assert!(column.reason.starts_with("`abc` in line 3 of `"), "{}", column.reason);
    assert!(column.reason.ends_with("1 of 3 values is text"), "{}", column.reason);
    let hint = column.hint.as_deref().unwrap();
    assert!(hint.starts_with("`--type n=long --on-error reject`"), "{hint}");
}

#[tokio::test]
async fn local_date_and_number_formats_are_read_with_an_option() {
    let lake = Fixture::new().await;
    lake.file("a.csv", "day;amount;note\n31.01.2026;1.234,5;1,5 l\n01.02.2026;2;\n");
    let plan = lake.plan(&lake.request("t", &["a.csv"])).await.unwrap();
    let hint = |at: usize| plan.columns[at].hint.clone().unwrap_or_default();
    assert!(hint(0).contains("`--date-format DD.MM.YYYY`"), "{plan:?}");
    assert!(hint(1).contains("`--decimal-comma`"), "{plan:?}");
    let mut request = lake.request("t", &["a.csv"]);
    request.date_format = Some("DD.MM.YYYY".to_owned());
    request.decimal_comma = true;
    let report = lake.import(&request).await.unwrap();
    assert_eq!(report.columns_as_text, []);
    assert_eq!(lake.columns("t").await, ["day date", "amount double", "note string"]);
    let rows = lake.rows("t").await;
    assert_eq!(rows[0], json!({"day": "2026-01-31", "amount": 1234.5, "note": "1,5 l"}));
    request.date_format = Some("DD.MM".to_owned());
    let error = lake.import(&request).await.unwrap_err();
    assert_eq!(error.to_string(), "`DD.MM` is not a date format");
}

#[tokio::test]
async fn parquet_columns_become_what_a_table_can_hold() {
    let lake = Fixture::new().await;
    let names: DictionaryArray<Int8Type> = vec!["x", "y", "x"].into_iter().collect();
    write_parquet(
        &lake,
        "a.parquet",
        vec![
            ("id", Arc::new(UInt32Array::from(vec![1, 2, 3]))),
            ("at", Arc::new(TimestampNanosecondArray::from(vec![1_500, 0, 1_000_000_000]))),
            ("name", Arc::new(names)),
            (
                "price",
                Arc::new(
                    Decimal128Array::from(vec![150, 1, -5]).with_precision_and_scale(5, 2).unwrap(),
                ),
            ),
        ],
    );
    // Import another format into the same table: columns match by name, and the values fit the
    // wider type.
    lake.file("b.csv", "ID,price,note\n4,2.25,from csv\n");
    let report = lake.import(&lake.request("t", &["a.parquet", "b.csv"])).await.unwrap();
    assert_eq!(report.rows, 4);
    let expected = ["id long", "at timestamp", "name string", "price double", "note string"];
    assert_eq!(lake.columns("t").await, expected);
    let rows = lake.rows("t").await;
    assert_eq!((&rows[0]["name"], &rows[0]["price"]), (&json!("x"), &json!(1.5)));
    assert_eq!((&rows[3]["id"], &rows[3]["note"]), (&json!(4), &json!("from csv")));
}

#[tokio::test]
async fn nanoseconds_are_kept_where_the_table_has_them() {
    let lake = Fixture::new().await;
    let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("at", nanos, true),
        Field::new("coarse", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]);
    let version = [("format-version".to_owned(), "3".to_owned())].into();
    let mut change = lake.lake.transaction("main", "eva").await.unwrap();
    change.create(&name("t"), Arc::new(schema), Vec::new(), version).await.unwrap();
    change.commit("a table").await.unwrap();
    let times = || Arc::new(TimestampNanosecondArray::from(vec![1_234_567_891])) as ArrayRef;
    let id = || Arc::new(UInt32Array::from(vec![1])) as ArrayRef;
    let columns = vec![("id", id()), ("at", times()), ("coarse", times()), ("new", times())];
    write_parquet(&lake, "a.parquet", columns);
    let micros: ArrayRef = Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![7]));
    write_parquet(&lake, "b.parquet", vec![("id", id()), ("at", micros)]);
    lake.file(
        "c.csv",
        "id,at,coarse\n3,1970-01-01 00:00:00.000000009,1970-01-01 00:00:00.000000009\n",
    );
    lake.file("d.ndjson", "{\"id\": 4, \"at\": \"1970-01-01T00:00:00.12345678\"}\n");
    let files = ["a.parquet", "b.parquet", "c.csv", "d.ndjson"];
    let report = lake.import(&lake.request("t", &files)).await.unwrap();
    assert_eq!(report.rows, 4);
    let expected = ["id long", "at timestamp_ns", "coarse timestamp", "new timestamp"];
    assert_eq!(lake.columns("t").await, expected);
    let rows = lake.rows("t").await;
    assert_eq!(rows[0]["at"], "1970-01-01T00:00:01.234567891");
    assert_eq!((&rows[0]["coarse"], &rows[0]["new"]), (&rows[0]["new"], &rows[0]["coarse"]));
    assert_eq!(rows[0]["coarse"], "1970-01-01T00:00:01.234567");
    assert_eq!(rows[1]["at"], "1970-01-01T00:00:00.000007");
    assert_eq!(rows[2]["at"], "1970-01-01T00:00:00.000000009");
    assert_eq!(rows[2]["coarse"], "1970-01-01T00:00:00");
    assert_eq!(rows[3]["at"], "1970-01-01T00:00:00.123456780");
    // A new table has version 2, which has no nanosecond columns.
    let mut request = lake.request("u", &["c.csv"]);
    request.types.insert("at".into(), "timestamp_ns".into());
    let refused = lake.import(&request).await.unwrap_err();
    assert!(
        refused.to_string().contains("nanosecond precision requires format version 3"),
        "{refused}"
    );
}

#[tokio::test]
async fn parquet_values_that_do_not_fit_are_bad_rows() {
    let lake = Fixture::new().await;
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("1"), Some("x"), None, Some("4")]));
    write_parquet(&lake, "a.parquet", vec![("n", texts)]);
    let mut request = lake.request("t", &["a.parquet"]);
    request.types.insert("n".into(), "long".into());
    let error = lake.import(&request).await.unwrap_err();
    assert!(error.to_string().contains("line 2, column `n`: `x` is not a long"), "{error}");
    request.on_error = OnError::Reject;
    let report = lake.import(&request).await.unwrap();
    assert_eq!((report.rows, report.rows_rejected), (3, 1));
    assert_eq!(lake.rows("t").await[1], json!({"n": null}));

    // A Parquet column of another type is an error, unless the request declares the column's type.
    write_parquet(&lake, "b.parquet", vec![("n", Arc::new(StringArray::from(vec!["5"])))]);
    assert!(matches!(
        lake.import(&lake.request("t", &["b.parquet"])).await,
        Err(Error::TypeConflict { .. })
    ));
    write_parquet(&lake, "c.parquet", vec![("N", Arc::new(Int32Array::from(vec![6])))]);
    lake.import(&lake.request("t", &["c.parquet"])).await.unwrap();
    assert_eq!(lake.rows("t").await[3], json!({"n": 6}));
}

#[tokio::test]
async fn a_parquet_column_without_a_type_holds_nulls() {
    let lake = Fixture::new().await;
    let id: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    let none: ArrayRef = Arc::new(NullArray::new(2));
    write_parquet(&lake, "a.parquet", vec![("id", id), ("n", none)]);
    let report = lake.import(&lake.request("t", &["a.parquet"])).await.unwrap();
    assert_eq!((report.rows, report.rows_rejected), (2, 0));
    assert_eq!(lake.rows("t").await[0], json!({"id": 1, "n": null}));
}

#[tokio::test]
async fn compressed_files_are_read_completely_under_any_name() {
    let lake = Fixture::new().await;
    lake.file("a.csv.gz", [gzip(b"id,n\n1,2\n"), gzip(b"2,3\n")].concat());
    lake.file("b.csv", zstd::encode_all(&b"id,n\n3,4\n"[..], 1).unwrap());
    lake.file("c.jsonl.gz", gzip(b"{\"id\": 4}\n"));
    lake.file("d.data", "{\"id\": 5}\n");
    let names = ["a.csv.gz", "b.csv", "c.jsonl.gz", "d.data"];
    let report = lake.import(&lake.request("t", &names)).await.unwrap();
    assert_eq!((report.files, report.rows), (4, 5));
    let ids: Vec<_> = lake.rows("t").await.iter().map(|row| row["id"].as_i64()).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5].map(Some));
}

#[tokio::test]
async fn a_malformed_file_is_named_and_changes_nothing() {
    let lake = Fixture::new().await;
    let whole = gzip("1,2\n".repeat(50_000).as_bytes());
    lake.file("good.csv", "a,b\n1,2\n");
    lake.file("torn.csv.gz", &whole[..whole.len() / 2]);
    lake.file("torn.parquet", b"PAR1 and then nothing");
    for (file, what) in [("torn.csv.gz", "gzip"), ("torn.parquet", "parquet")] {
        let error = lake.import(&lake.request("t", &["good.csv", file])).await.unwrap_err();
        assert!(matches!(error, Error::BrokenFile { .. }), "{error}");
        assert!(error.to_string().contains(file) && error.to_string().contains(what), "{error}");
        assert_eq!(error.code(), ErrorCode::BadRow);
    }
    assert!(!lake.has_table("t").await);
    assert_eq!(lake.data_files(), 0);
}

#[tokio::test]
async fn a_file_not_compressed_as_its_name_indicates_is_rejected() {
    let lake = Fixture::new().await;
    for (name, what) in [("a.csv.gz", "gzip"), ("b.ndjson.ZST", "zstd"), ("c.tsv.gzip", "gzip")] {
        lake.file(name, "{\"a\": 1}\n{\"a\": 2}\n");
        let error = lake.import(&lake.request("t", &[name])).await.unwrap_err();
        let path = lake.path(name);
        let expected =
            format!("`{}` is not a {what} file, although its name indicates one", path.display());
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.code(), ErrorCode::BadRow);
        assert!(error.hint().unwrap().contains("remove the suffix"));
    }
    // The compression is detected from the content: this `.gz` file is in fact compressed with
    // zstd.
    lake.file("d.csv.gz", zstd::encode_all(&b"a\n1\n"[..], 1).unwrap());
    assert_eq!(lake.import(&lake.request("t", &["d.csv.gz"])).await.unwrap().rows, 1);
    lake.file("e.csv.gz", "");
    let error = lake.import(&lake.request("u", &["e.csv.gz"])).await.unwrap_err();
    assert!(error.to_string().ends_with("is empty"), "{error}");
}

#[tokio::test]
async fn the_peak_memory_of_rows_is_reported() {
    let lake = Fixture::new().await;
    let rows: Vec<String> = (0..50_000).map(|n| format!("{n},{}", n * 7)).collect();
    lake.file("a.csv", format!("id,value\n{}\n", rows.join("\n")));
    let report = lake.import(&lake.request("t", &["a.csv"])).await.unwrap();
    // The peak memory covers more than one batch, and stays below a plausible upper limit.
    let bytes = report.memory_bytes_peak;
    assert!(bytes > 200_000 && bytes < 100 << 20, "{bytes}");
}

#[tokio::test]
async fn a_column_that_a_parquet_file_lacks_has_its_default() {
    let lake = Fixture::new().await;
    let seven: ArrayRef = Arc::new(Int32Array::from(vec![7]));
    let n = with_default(Field::new("n", DataType::Int32, false), &seven).unwrap();
    let columns = Schema::new(vec![Field::new("id", DataType::Int64, true), n]);
    let mut change = lake.lake.transaction("main", "eva").await.unwrap();
    let version = [("format-version".to_owned(), "3".to_owned())].into();
    let name = "t".parse().unwrap();
    change.create(&name, Arc::new(columns), Vec::new(), version).await.unwrap();
    change.commit("create").await.unwrap();
    let id: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    write_parquet(&lake, "a.parquet", vec![("id", id)]);
    lake.import(&lake.request("t", &["a.parquet"])).await.unwrap();
    assert_eq!(lake.rows("t").await, [json!({"id": 1, "n": 7})]);
}
