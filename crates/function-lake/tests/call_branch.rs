//! Calls of functions that write: their changes are visible to the call, and to others after the
//! commit, once per event.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use headwater_engine::{Engine, EngineOptions, SessionOptions};
use headwater_function_lake::{CallIdentity, FunctionLakeAccess, LakeComponents};
use headwater_functions::{LakeAccess, LakeRequest, SharedTable};
use headwater_lake::Lake;
use headwater_model::{ErrorCode, JobId, MAIN_BRANCH, Problem};
use headwater_objects::Objects;

struct Fixture {
    parts: LakeComponents,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open_local(&folder.path().join(".headwater")).await.unwrap();
        let options = EngineOptions { threads: 2, ..EngineOptions::default() };
        let engine = Engine::new(lake.clone(), options).unwrap();
        let (store, clock) = (Arc::clone(lake.store()), Arc::clone(lake.clock()));
        let objects = Objects::local(store, clock, &folder.path().join("objects")).unwrap();
        Fixture { parts: LakeComponents { lake, engine, objects }, _folder: folder }
    }

    /// Begins a call; `event` is the id of the event that caused it.
    fn call(&self, event: Option<&str>) -> FunctionLakeAccess {
        let scope = CallIdentity {
            access: None,
            author: "ana".to_owned(),
            job: JobId::generate(),
            branch: MAIN_BRANCH.to_owned(),
            event: event.map(str::to_owned),
            caused_by: Vec::new(),
        };
        FunctionLakeAccess::new(self.parts.clone(), scope)
    }

    /// Returns the number of rows of `t` on the main branch.
    async fn count(&self) -> usize {
        self.ids().await.len()
    }

    /// Returns the ids in `t` on the main branch, in order.
    async fn ids(&self) -> Vec<i64> {
        let session = self.parts.engine.session(SessionOptions::default()).unwrap();
        let result = session.execute("SELECT id FROM t ORDER BY id").await.unwrap();
        let batches: Vec<RecordBatch> = result.stream.try_collect().await.unwrap();
        let ids = batches.iter().map(|batch| batch.column(0).as_primitive::<Int64Type>());
        ids.flat_map(|ids| ids.values().to_vec()).collect()
    }

    /// Creates `t` with these ids in one file.
    async fn create(&self, ids: Vec<i64>) {
        let call = self.call(None);
        append(&call, Arc::new(Int64Array::from(ids))).await.unwrap();
        call.commit().await.unwrap();
    }

    async fn branches(&self) -> usize {
        self.parts.lake.catalog().branches(None).await.unwrap().len()
    }
}

async fn run(call: &FunctionLakeAccess, sql: &str) -> Result<(), Problem> {
    call.answer(LakeRequest::Query { sql: sql.to_owned(), json: false }).await.map(drop)
}

async fn append(call: &FunctionLakeAccess, ids: ArrayRef) -> Result<(), Problem> {
    let batch = RecordBatch::try_from_iter([("id", ids)]).unwrap();
    let rows = SharedTable::write(batch.schema(), [Ok(batch)]).unwrap();
    call.answer(LakeRequest::Append { table: "t".to_owned(), rows }).await.map(drop)
}

async fn append_id(call: &FunctionLakeAccess, id: i64) {
    append(call, Arc::new(Int64Array::from(vec![id]))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_delivered_again_changes_tables_once() {
    let fixture = Fixture::new().await;
    for is_repeated in [false, true] {
        let call = fixture.call(Some("e1/function"));
        append_id(&call, 1).await;
        run(&call, "INSERT INTO t VALUES (2)").await.unwrap();
        assert_eq!(call.is_committed().await, is_repeated);
        assert_eq!(call.commit().await.unwrap().is_repeated, is_repeated);
        assert_eq!(fixture.count().await, 2);
    }
    assert_eq!(fixture.branches().await, 1, "the branches of calls are deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_commit_changes_nothing() {
    let fixture = Fixture::new().await;
    let call = fixture.call(None);
    append_id(&call, 1).await;
    call.commit().await.unwrap();
    let failed = fixture.call(None);
    run(&failed, "DELETE FROM t").await.unwrap();
    append_id(&failed, 2).await;
    drop(failed);
    assert_eq!(fixture.count().await, 1);
    // A restarted call does not see its earlier changes.
    let restarted = fixture.call(None);
    run(&restarted, "DELETE FROM t").await.unwrap();
    restarted.restart();
    restarted.commit().await.unwrap();
    assert_eq!(fixture.count().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_fails_if_a_row_changed_after_its_first_read() {
    let fixture = Fixture::new().await;
    let first = fixture.call(None);
    append_id(&first, 1).await;
    first.commit().await.unwrap();
    let second = fixture.call(None);
    run(&second, "SELECT id FROM t").await.unwrap();
    let third = fixture.call(None);
    run(&third, "UPDATE t SET id = id + 1").await.unwrap();
    third.commit().await.unwrap();
    run(&second, "UPDATE t SET id = id + 10").await.unwrap();
    let problem = second.commit().await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::MergeConflict, "{problem:?}");
    assert_eq!(problem.context["retryable"], true);
    assert!(!problem.context.contains_key("report"), "the error contains no rows");
    assert_eq!(fixture.count().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_calls_that_make_the_same_change_conflict() {
    let fixture = Fixture::new().await;
    fixture.create(vec![1, 10]).await;
    let increment = "UPDATE t SET id = id + 1 WHERE id < 10";
    for sql in [increment, "DELETE FROM t WHERE id < 10"] {
        let calls = [fixture.call(None), fixture.call(None)];
        for call in &calls {
            run(call, sql).await.unwrap();
        }
        calls[0].commit().await.unwrap();
        let problem = calls[1].commit().await.unwrap_err();
        assert_eq!(problem.code, ErrorCode::MergeConflict, "{sql}");
        assert_eq!(problem.context["retryable"], true);
        if sql == increment {
            let repeated = fixture.call(None);
            run(&repeated, sql).await.unwrap();
            repeated.commit().await.unwrap();
            assert_eq!(fixture.ids().await, [3, 10], "both increments");
        }
    }
    assert_eq!(fixture.ids().await, [10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_calls_do_not_both_insert_the_row_that_a_merge_did_not_find() {
    let fixture = Fixture::new().await;
    fixture.create(vec![1]).await;
    let calls = [fixture.call(None), fixture.call(None)];
    let merge = "MERGE INTO t USING (VALUES (7)) AS s (id) ON t.id = s.id \
                 WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)";
    for call in &calls {
        run(call, merge).await.unwrap();
    }
    calls[0].commit().await.unwrap();
    let problem = calls[1].commit().await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::MergeConflict);
    assert_eq!(fixture.ids().await, [1, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_change_different_rows_of_a_file_are_all_committed() {
    let fixture = Fixture::new().await;
    fixture.create(vec![1, 2, 3]).await;
    let statements = [
        "UPDATE t SET id = 10 WHERE id = 1",
        "UPDATE t SET id = 20 WHERE id = 2",
        "DELETE FROM t WHERE id = 3",
        "INSERT INTO t VALUES (5)",
        "INSERT INTO t VALUES (5)",
    ];
    let mut calls = Vec::new();
    for sql in statements {
        let call = fixture.call(None);
        run(&call, sql).await.unwrap();
        calls.push(call);
    }
    for call in calls {
        call.commit().await.unwrap();
    }
    assert_eq!(fixture.ids().await, [5, 5, 10, 20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_written_fail_the_call() {
    let fixture = Fixture::new().await;
    let (call, other) = (fixture.call(None), fixture.call(None));
    append_id(&call, 1).await;
    run(&other, "CREATE TABLE t (id VARCHAR)").await.unwrap();
    other.commit().await.unwrap();
    let problem = run(&call, "SELECT 1").await.expect_err("a read writes the appended rows first");
    let expected = "cannot append to `t`: column `id` has type `long`";
    assert!(problem.message.starts_with(expected), "{problem:?}");
    assert!(call.commit().await.is_err(), "the rows are not lost");
    assert_eq!(fixture.branches().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_do_not_name_the_hidden_branch() {
    let fixture = Fixture::new().await;
    let call = fixture.call(None);
    run(&call, "CREATE TABLE t (id INT)").await.unwrap();
    let problem = run(&call, "SELECT id FROM missing").await.unwrap_err();
    assert!(problem.message.contains("`missing` is not in this call"), "{problem:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_type_is_rejected_by_the_append() {
    let fixture = Fixture::new().await;
    let texts = || Arc::new(StringArray::from(vec!["one"]));
    let first = fixture.call(None);
    append_id(&first, 1).await;
    // The table does not exist yet: the first rows determine the types of its columns.
    let problem = append(&first, texts()).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::BadRow);
    let expected =
        "cannot append to `t`: column `id` has type `string`, but the table has type `long`";
    assert_eq!(problem.message, expected);
    first.commit().await.unwrap();
    let second = fixture.call(None);
    assert_eq!(append(&second, texts()).await.unwrap_err().message, expected);
    append_id(&second, 2).await;
    second.commit().await.unwrap();
    assert_eq!(fixture.count().await, 2, "rejected rows are not written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_does_not_fit_is_rejected_by_the_append() {
    let fixture = Fixture::new().await;
    let floats = |values: Vec<f64>| Arc::new(Float64Array::from(values));
    let call = fixture.call(None);
    // The type of the column comes from earlier rows of the call, and then from the table.
    append_id(&call, 1).await;
    let expected = "cannot append to `t`: column `id` has the value `2.5` of type `double`, which \
                    does not fit the table's type `long`";
    for _ in 0..2 {
        let problem = append(&call, floats(vec![1.0, 2.5])).await.unwrap_err();
        assert_eq!((problem.code, problem.message.as_str()), (ErrorCode::BadRow, expected));
        run(&call, "SELECT id FROM t").await.unwrap();
    }
    append(&call, floats(vec![2.0])).await.unwrap();
    call.commit().await.unwrap();
    assert_eq!(fixture.ids().await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_does_not_write_to_a_protected_branch() {
    let fixture = Fixture::new().await;
    let call = fixture.call(None);
    run(&call, "CREATE TABLE t (id BIGINT)").await.unwrap();
    fixture.parts.lake.catalog().protect_branch(MAIN_BRANCH, true).await.unwrap();
    assert_eq!(call.commit().await.unwrap_err().code, ErrorCode::BranchProtected);
    let problem = run(&fixture.call(None), "CREATE TABLE u (id BIGINT)").await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::BranchProtected);
}
