//! Files that queries read without a table: the parts that are read, and the counted bytes.

use std::fmt::Write;
use std::fs::File;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use futures::TryStreamExt;
use headwater_ingest::{ByteCounter, Importer};
use headwater_model::ImportRequest;
use parquet::arrow::ArrowWriter;

use crate::support::Fixture;

const ROWS: i64 = 200_000;

/// Writes a small column and a large one. Returns the size of the file.
fn write_parquet(fixture: &Fixture, name: &str) -> u64 {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values((0..ROWS).map(|id| id / 1_000)));
    let texts = (0..ROWS).map(|id| format!("{:x}", id.wrapping_mul(6_364_136_223_846_793_005)));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    let batch = RecordBatch::try_from_iter([("id", ids), ("text", texts)]).unwrap();
    let file = File::create(fixture.path(name)).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    std::fs::metadata(fixture.path(name)).unwrap().len()
}

fn request(fixture: &Fixture, names: &[&str]) -> ImportRequest {
    let sources = names.iter().map(|name| fixture.path(name).display().to_string()).collect();
    ImportRequest { table: "files".to_owned(), sources, ..ImportRequest::default() }
}

/// Returns the batches with some columns of files, and the bytes that were read.
async fn read(fixture: &Fixture, names: &[&str], columns: &[usize]) -> (Vec<RecordBatch>, u64) {
    let counter = ByteCounter::default();
    let importer = Importer::new(fixture.lake.clone());
    let rows = importer.open(&request(fixture, names), &counter).await.unwrap();
    let batches = rows.read(columns).unwrap().try_collect().await.unwrap();
    (batches, counter.get())
}

fn count(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

#[tokio::test]
async fn only_the_selected_columns_of_a_parquet_file_are_read() {
    let fixture = Fixture::new().await;
    let bytes = write_parquet(&fixture, "a.parquet");
    let (batches, all) = read(&fixture, &["a.parquet"], &[0, 1]).await;
    assert_eq!(count(&batches) as i64, ROWS);
    assert!(all >= bytes * 9 / 10 && all < 2 * bytes, "{all} of {bytes}");
    let (batches, one) = read(&fixture, &["a.parquet"], &[0]).await;
    assert_eq!(count(&batches) as i64, ROWS);
    assert_eq!(batches[0].schema().fields().len(), 1);
    assert!(one > 0 && one < bytes / 4, "{one} of {bytes}");
    let (batches, none) = read(&fixture, &["a.parquet"], &[]).await;
    assert_eq!(count(&batches) as i64, ROWS);
    assert!(none <= one, "{none} of {bytes}");
    let (batches, _) = read(&fixture, &["a.parquet"], &[1, 0]).await;
    assert_eq!(batches[0].schema().field(0).name(), "text");
}

#[tokio::test]
async fn a_column_that_a_file_lacks_is_null() {
    let fixture = Fixture::new().await;
    write_parquet(&fixture, "a.parquet");
    let other: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    let batch = RecordBatch::try_from_iter([("other", other)]).unwrap();
    let file = File::create(fixture.path("b.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let (batches, _) = read(&fixture, &["a.parquet", "b.parquet"], &[0, 2]).await;
    assert_eq!(count(&batches) as i64, ROWS + 1);
    let last = batches.last().unwrap();
    assert_eq!((last.column(0).null_count(), last.column(1).null_count()), (1, 0));
    assert_eq!(batches[0].column(1).null_count(), batches[0].num_rows());
}

#[tokio::test]
async fn a_description_reads_only_the_start_of_a_file() {
    let fixture = Fixture::new().await;
    let mut csv = "id,name\n".to_owned();
    let mut json = String::new();
    for id in 0..ROWS {
        writeln!(csv, "{id},name {id}").unwrap();
        writeln!(json, "{{\"id\": {id}, \"name\": \"name {id}\"}}").unwrap();
    }
    for (name, text) in [("a.csv", csv), ("a.ndjson", json)] {
        std::fs::write(fixture.path(name), &text).unwrap();
        let bytes = text.len() as u64;
        let (importer, counter) = (Importer::new(fixture.lake.clone()), ByteCounter::default());
        let request = request(&fixture, &[name]);
        let described = importer.describe(&request, &counter).await.unwrap();
        assert!(counter.get() > 0 && counter.get() < bytes / 2, "{name}: {}", counter.get());
        let counter = ByteCounter::default();
        let rows = importer.open(&request, &counter).await.unwrap();
        assert_eq!(described, rows.schema(), "{name}");
        // A file of this format is read once for its types, and again for its rows.
        assert_eq!(counter.get(), bytes, "{name}");
        let batches: Vec<_> = rows.read(&[0]).unwrap().try_collect().await.unwrap();
        assert_eq!(count(&batches) as i64, ROWS, "{name}");
        assert_eq!(counter.get(), 2 * bytes, "{name}");
    }
}
