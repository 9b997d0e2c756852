//! Tests of kept results: pages, reopening, limits and expiry.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use headwater_model::{Actor, ErrorCode, Fault, JobId, JobStatus, Problem};
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
    let running = create(&results);
    let again = open(folder.path(), ResultLimits::default());
    assert_eq!(page(&again, &id, 6, 9).await, [6, 7]);
    let (query, _) = again.get(running.id()).expect("the query");
    assert_eq!(query.status, JobStatus::Interrupted);
    assert_eq!(again.list().len(), 2);
}

#[test]
fn limits_hold_and_old_results_are_deleted() {
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

const NOT_ENDED: ErrorCode = ErrorCode::PreconditionFailed;

fn limits() -> ResultLimits {
    ResultLimits::default()
}
