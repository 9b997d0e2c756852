//! Tests of kept results: pages, reopening, limits and expiry.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use headwater_model::{Actor, ErrorCode, JobId, JobStatus, Problem, ToProblem};
use headwater_query_results::{QueryResults, ResultLimits, ResultWriter};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

fn batch(numbers: std::ops::Range<i64>) -> RecordBatch {
    let column = Arc::new(Int64Array::from_iter_values(numbers));
    RecordBatch::try_new(schema(), vec![column]).expect("a batch")
}

fn open(folder: &Path, limits: ResultLimits) -> QueryResults {
    let clock = Arc::new(headwater_model::SystemClock);
    QueryResults::open(folder.to_owned(), limits, clock).expect("results")
}

fn create(results: &QueryResults) -> ResultWriter {
    let text = |text: &str| text.to_owned();
    results.create(Actor::Owner, text("ann"), text("SELECT 1"), text("main")).expect("a writer")
}

/// Writes a result of two batches. Returns its id.
fn write(results: &QueryResults) -> String {
    let mut writer = create(results);
    writer.begin(JobId::generate(), &schema()).expect("a schema");
    writer.write(&batch(0..3)).expect("a batch");
    writer.write(&batch(3..8)).expect("a batch");
    writer.end(Ok(()));
    writer.id().to_owned()
}

async fn page(results: &QueryResults, id: &str, offset: u64, limit: u64) -> Vec<i64> {
    let mut rows = results.rows(id, offset, limit).expect("rows");
    let mut numbers = Vec::new();
    while let Some(batch) = rows.next().await.expect("a batch") {
        numbers.extend(batch.column(0).as_primitive::<Int64Type>().values());
        assert!(!batch.column(0).is_empty(), "an empty batch");
    }
    numbers
}

#[tokio::test]
async fn pages_start_at_any_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let results = open(folder.path(), ResultLimits::default());
    let id = write(&results);
    for (offset, limit, expected) in
        [(0, 100, 0..8), (0, 3, 0..3), (2, 2, 2..4), (3, 1, 3..4), (7, 9, 7..8), (8, 1, 0..0)]
    {
        let expected: Vec<i64> = expected.collect();
        assert_eq!(page(&results, &id, offset, limit).await, expected, "{offset} {limit}");
    }
}

#[tokio::test]
async fn results_survive_and_running_queries_are_interrupted() {
    let folder = tempfile::tempdir().expect("a folder");
    let results = open(folder.path(), ResultLimits::default());
    let id = write(&results);
    let mut running = create(&results);
    let job = JobId::generate();
    running.begin(job, &schema()).expect("a schema");
    running.write(&batch(0..3)).expect("a batch");
    let rows = folder.path().join(running.id()).join("rows.arrow");
    assert!(rows.exists());
    let again = open(folder.path(), ResultLimits::default());
    assert!(!rows.exists());
    assert_eq!(page(&again, &id, 6, 9).await, [6, 7]);
    let (query, _) = again.get(running.id()).expect("the query");
    assert_eq!(query.status, JobStatus::Interrupted);
    assert_eq!(query.job, Some(job.to_string()));
    assert_eq!((results.running(), again.running()), (1, 0));
    again.all_ended().await;
    assert_eq!(again.list().len(), 2);
}

#[test]
fn limits_are_enforced_and_old_results_are_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let limits = ResultLimits { query_bytes: 4_000, own_queries: 2, running: 1, ..limits() };
    let results = open(folder.path(), limits);
    let mut writer = create(&results);
    let second = results.create(Actor::Owner, String::new(), String::new(), String::new());
    assert_eq!(second.expect_err("an error").code(), ErrorCode::TooBusy);
    assert_eq!(results.rows(writer.id(), 0, 1).expect_err("an error").code(), NOT_ENDED);
    let large = writer.write(&batch(0..1_000)).expect_err("an error");
    assert_eq!(large.code(), ErrorCode::QuotaExceeded);
    writer.end(Err(large.to_problem()));
    let failed = results.get(writer.id()).expect("the query").0;
    assert_eq!((failed.status, failed.rows), (JobStatus::Failed, 0));
    let first = write(&results);
    let second = write(&results);
    let ids: Vec<String> = results.list().into_iter().map(|(query, _)| query.id).collect();
    assert_eq!(ids, [second, first]);
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 2);
}

#[test]
fn a_cancelled_query_and_an_expired_one_have_no_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let results = open(folder.path(), ResultLimits { retention: Duration::ZERO, ..limits() });
    let mut writer = create(&results);
    results.cancel(writer.id());
    assert!(writer.cancelled().is_cancelled());
    writer.end(Err(Problem::new(ErrorCode::Cancelled, "stopped")));
    let gone = results.get(writer.id()).expect_err("an error");
    assert_eq!(gone.to_string(), format!("there is no query `{}`", writer.id()));
    results.delete_expired();
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn the_texts_of_other_rows_are_not_stored() {
    let folder = tempfile::tempdir().expect("a folder");
    let results = open(folder.path(), limits());
    let texts = (0..1_000).map(|n| format!("{n:0100}"));
    let column: ArrayRef = Arc::new(StringViewArray::from_iter_values(texts));
    let batch = RecordBatch::try_from_iter([("t", column)]).expect("a batch");
    let mut writer = create(&results);
    writer.begin(JobId::generate(), batch.schema_ref()).expect("a schema");
    writer.write(&batch.slice(10, 1)).expect("a batch");
    writer.end(Ok(()));
    let bytes = results.get(writer.id()).expect("the query").0.bytes;
    assert!(bytes < 2_000, "{bytes}");
}

#[test]
fn the_oldest_results_beyond_the_bytes_of_a_user_are_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let results = open(folder.path(), limits());
    let bytes = results.get(&write(&results)).expect("the query").0.bytes;
    let results = open(folder.path(), ResultLimits { own_bytes: 2 * bytes, ..limits() });
    let second = write(&results);
    let third = write(&results);
    let ids: Vec<String> = results.list().into_iter().map(|(query, _)| query.id).collect();
    assert_eq!(ids, [third, second]);
}

#[test]
fn a_user_cannot_take_all_running_queries() {
    let folder = tempfile::tempdir().expect("a folder");
    let results = open(folder.path(), ResultLimits { own_running: 1, ..limits() });
    let text = String::new;
    let _running = create(&results);
    let second = results.create(Actor::Owner, text(), text(), text()).expect_err("an error");
    assert_eq!(second.code(), ErrorCode::TooBusy);
    assert!(results.create(Actor::Anonymous, text(), text(), text()).is_ok());
}

#[test]
fn a_query_whose_end_cannot_be_stored_has_failed() {
    let folder = tempfile::tempdir().expect("a folder");
    let results = open(folder.path(), limits());
    let mut writer = create(&results);
    writer.write(&batch(0..3)).expect("a batch");
    std::fs::remove_dir_all(folder.path().join(writer.id())).expect("a removed folder");
    writer.end(Ok(()));
    let query = results.get(writer.id()).expect("the query").0;
    assert_eq!((query.status, query.rows), (JobStatus::Failed, 0));
    assert_eq!(query.error.map(|problem| problem.code), Some(ErrorCode::Storage));
}

#[test]
fn a_query_that_panics_has_failed() {
    let folder = tempfile::tempdir().expect("a folder");
    let results = open(folder.path(), limits());
    let writer = create(&results);
    let id = writer.id().to_owned();
    assert!(std::thread::spawn(move || fail_with(writer)).join().is_err());
    let query = results.get(&id).expect("the query").0;
    assert_eq!(query.status, JobStatus::Failed);
    assert_eq!(query.error.map(|problem| problem.code), Some(ErrorCode::Internal));
}

#[test]
fn only_folders_with_an_invalid_record_are_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let [invalid, unreadable] = ["invalid", "unreadable"].map(|name| folder.path().join(name));
    std::fs::create_dir(&invalid).expect("a folder");
    std::fs::write(invalid.join("query.json"), "{").expect("a file");
    std::fs::create_dir_all(unreadable.join("query.json")).expect("a folder");
    assert!(open(folder.path(), limits()).list().is_empty());
    assert_eq!((invalid.exists(), unreadable.exists()), (false, true));
}

fn fail_with(_writer: ResultWriter) {
    panic!("a defect");
}

const NOT_ENDED: ErrorCode = ErrorCode::PreconditionFailed;

fn limits() -> ResultLimits {
    ResultLimits::default()
}
