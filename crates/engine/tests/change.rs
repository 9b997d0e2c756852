//! Tests of row changes beyond SQL results: rewritten files, bytes read, and concurrent commits.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use headwater_engine::{
    Engine, EngineOptions, Error, SessionOptions, StatementResult, SystemTable,
};
use headwater_lake::{CommitView, Lake};
use headwater_model::{ErrorCode, Problem, RefSpec, TableName, ToProblem};

struct Fixture {
    engine: Engine,
    _folder: tempfile::TempDir,
}

/// The effect of a statement.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    /// Affected rows.
    rows: i64,
    /// Removed data files.
    removed: usize,
    /// Added data files.
    added: usize,
    /// True if the statement read any data.
    read: bool,
}

impl Fixture {
    async fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open_local(&folder.path().join(".headwater")).await.unwrap();
        let options = EngineOptions { threads: 2, ..EngineOptions::default() };
        Fixture { engine: Engine::new(lake, options).unwrap(), _folder: folder }
    }

    async fn execute(&self, sql: &str) -> Result<StatementResult, Error> {
        self.engine.session(SessionOptions::default())?.execute(sql).await
    }

    async fn run(&self, sql: &str) {
        drop(self.execute(sql).await.unwrap());
    }

    /// Returns the only column of a query's result.
    async fn numbers(&self, sql: &str) -> Vec<i64> {
        let answer = self.execute(sql).await.unwrap();
        numbers(&answer.stream.try_collect::<Vec<_>>().await.unwrap())
    }

    async fn files(&self, table: &str) -> BTreeSet<String> {
        let view = self.engine.lake().view(&RefSpec::main()).await.unwrap();
        let table = view.table(&table.parse().unwrap()).await.unwrap();
        let plan = view.lake().tables().plan(&table, None).await.unwrap();
        plan.files().iter().map(|file| file.location.clone()).collect()
    }

    /// Runs a statement that changes the table `t`.
    async fn change(&self, sql: &str) -> Change {
        let before = self.files("t").await;
        let answer = self.execute(sql).await.unwrap();
        let metrics = Arc::clone(&answer.metrics);
        let rows = numbers(&answer.stream.try_collect::<Vec<_>>().await.unwrap())[0];
        let after = self.files("t").await;
        Change {
            rows,
            removed: before.difference(&after).count(),
            added: after.difference(&before).count(),
            read: metrics.usage().bytes_read > 0,
        }
    }

    /// Creates a table `t` with properties and the columns `id` and `part`.
    async fn table_with(&self, properties: &[(&str, &str)]) {
        let columns = ["id", "part"].map(|name| Field::new(name, DataType::Int64, true));
        let schema: SchemaRef = Arc::new(Schema::new(columns.to_vec()));
        let properties: BTreeMap<String, String> =
            properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let name: TableName = "t".parse().unwrap();
        let mut change = self.engine.lake().transaction("main", "ada").await.unwrap();
        change.create(&name, schema, Vec::new(), properties).await.unwrap();
        change.commit("make t").await.unwrap();
    }

    /// Creates the empty table `system.meanwhile`, whose first `times` reads run the statement.
    fn meanwhile(&self, sql: &'static str, times: usize) {
        let engine = self.engine.clone();
        let left = AtomicUsize::new(times);
        self.engine.add_system_table(Arc::new(ConcurrentCommit { engine, sql, left }));
    }
}

fn numbers(batches: &[RecordBatch]) -> Vec<i64> {
    let columns = batches.iter().map(|batch| batch.column(0).as_primitive::<Int64Type>());
    columns.flat_map(|column| column.values().to_vec()).collect()
}

/// A table that makes a concurrent commit while a statement is planned.
struct ConcurrentCommit {
    engine: Engine,
    sql: &'static str,
    left: AtomicUsize,
}

#[async_trait]
impl SystemTable for ConcurrentCommit {
    fn name(&self) -> &'static str {
        "meanwhile"
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]))
    }

    async fn batches(&self, _: &CommitView) -> Result<Vec<RecordBatch>, Problem> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_ok() {
            let session = self.engine.session(SessionOptions::default()).unwrap();
            session.execute(self.sql).await.unwrap();
        }
        let none: Arc<dyn Array> = Arc::new(Int64Array::from(Vec::<i64>::new()));
        Ok(vec![RecordBatch::try_new(self.schema(), vec![none]).unwrap()])
    }
}

async fn hundreds(lake: &Fixture) {
    lake.run("CREATE TABLE t (id BIGINT, name VARCHAR)").await;
    for part in 0..4 {
        let (from, until) = (part * 100 + 1, part * 100 + 100);
        lake.run(&format!(
            "INSERT INTO t SELECT value, CASE WHEN value % 10 > 0 THEN 'n' || value END \
             FROM generate_series({from}, {until})"
        ))
        .await;
    }
}

#[tokio::test]
async fn only_files_with_a_deleted_row_are_rewritten() {
    let lake = Fixture::new().await;
    hundreds(&lake).await;
    let change = lake.change("DELETE FROM t WHERE id IN (150, 151, 390)").await;
    assert_eq!(change, Change { rows: 3, removed: 2, added: 1, read: true });
    assert_eq!(lake.numbers("SELECT count(*) FROM t").await, [397]);
    assert_eq!(lake.numbers("SELECT sum(id) FROM t").await, [80200 - 150 - 151 - 390]);
    let change = lake.change("DELETE FROM t WHERE id = 1000").await;
    assert_eq!(change, Change { rows: 0, removed: 0, added: 0, read: false });
}

#[tokio::test]
async fn files_without_remaining_rows_are_removed_without_being_read() {
    let lake = Fixture::new().await;
    hundreds(&lake).await;
    let change = lake.change("DELETE FROM t WHERE id <= 200").await;
    assert_eq!(change, Change { rows: 200, removed: 2, added: 0, read: false });
    // Rows with a null in the column do not match and stay, so the file must be read.
    let change = lake.change("DELETE FROM t WHERE name >= 'a'").await;
    assert_eq!(change, Change { rows: 180, removed: 2, added: 1, read: true });
    assert_eq!(lake.numbers("SELECT count(*) FROM t WHERE name IS NULL").await, [20]);
    let change = lake.change("DELETE FROM t WHERE name IS NULL AND id > 0").await;
    assert_eq!(change, Change { rows: 20, removed: 1, added: 0, read: false });
}

#[tokio::test]
async fn conditions_that_bounds_cannot_prove_are_evaluated() {
    let lake = Fixture::new().await;
    for (condition, left) in [
        ("id > 0 AND id % 2 = 0", 200),
        ("id > 0 OR name = 'x'", 0),
        ("id > 0 AND random() < -1", 400),
        ("NOT (id > 200)", 200),
        ("id BETWEEN 1 AND 100 OR id BETWEEN 301 AND 400", 200),
        ("id NOT IN (1, 2)", 2),
        ("id NOT BETWEEN 1 AND 399", 399),
        ("NULLIF(id, 5) > 0", 1),
        ("CASE WHEN id > 100 THEN id END > 0", 100),
        ("name <> 'n1'", 41),
        ("name LIKE 'n%'", 40),
        ("name NOT LIKE 'n%'", 400),
        ("name IS NOT NULL", 40),
        ("id IS NOT NULL", 0),
        ("id IS NULL", 400),
        ("(name > 'a') IS NULL", 360),
        ("coalesce(name, 'zz') > 'a'", 0),
        ("id + 0 > 100", 100),
        ("id::double > 100.5", 100),
        ("TRUE", 0),
        ("id = id", 0),
        ("id > NULL", 400),
        ("id > 0 AND (id > 0 OR NULL)", 0),
    ] {
        hundreds(&lake).await;
        let change = lake.change(&format!("DELETE FROM t WHERE {condition}")).await;
        assert_eq!(change.rows, 400 - left, "`{condition}`");
        assert_eq!(lake.numbers("SELECT count(*) FROM t").await, [left], "`{condition}`");
        lake.run("DROP TABLE t").await;
    }
}

#[tokio::test]
async fn a_delete_of_whole_partitions_touches_metadata_only() {
    let lake = Fixture::new().await;
    lake.run(
        "CREATE TABLE t PARTITIONED BY (day(at), place) AS SELECT value AS id, \
         to_timestamp_micros(1709251200000000 + value * 3600000000) AS at, \
         'a place with a long name, number ' || (value % 2) AS place FROM generate_series(0, 95)",
    )
    .await;
    assert_eq!(lake.files("t").await.len(), 8);
    let day = "at >= '2024-03-02' AND at < '2024-03-03'";
    let change = lake.change(&format!("DELETE FROM t WHERE {day}")).await;
    assert_eq!(change, Change { rows: 24, removed: 2, added: 0, read: false });
    // Bounds of strings are truncated, but the partition value is complete, so no file is read.
    let sql = "DELETE FROM t WHERE place = 'a place with a long name, number 1'";
    assert_eq!(lake.change(sql).await, Change { rows: 36, removed: 3, added: 0, read: false });
    let change = lake.change("DELETE FROM t WHERE at < '2024-03-01 12:00:00'").await;
    assert_eq!(change, Change { rows: 6, removed: 1, added: 1, read: true });
    assert_eq!(lake.numbers("SELECT count(*) FROM t").await, [30]);
    let change = lake.change("DELETE FROM t").await;
    assert_eq!(change, Change { rows: 30, removed: 3, added: 0, read: false });
}

#[tokio::test]
async fn rows_of_large_files_are_deleted_by_position() {
    let lake = Fixture::new().await;
    lake.run(
        "CREATE TABLE t AS SELECT value AS id, value % 7 AS part, repeat('x', 3) AS pad \
         FROM generate_series(1, 300000)",
    )
    .await;
    let change = lake.change("DELETE FROM t WHERE part = 3").await;
    assert_eq!(change.rows, 42857);
    let sums = "SELECT sum(id) FROM t UNION ALL SELECT count(*) FROM t WHERE part = 3";
    let expected: i64 = (1..=300_000).filter(|id| id % 7 != 3).sum();
    let mut found = lake.numbers(sums).await;
    found.sort_unstable();
    assert_eq!(found, [0, expected]);
}

#[tokio::test]
async fn a_row_added_in_the_meantime_is_seen() {
    let lake = Fixture::new().await;
    lake.table_with(&[]).await;
    lake.run("INSERT INTO t SELECT value, 0 FROM generate_series(1, 10)").await;
    lake.meanwhile("INSERT INTO t VALUES (7, 1)", 1);
    let sql = "DELETE FROM t WHERE id > 5 AND id NOT IN (SELECT id FROM system.meanwhile)";
    assert_eq!(lake.change(sql).await.rows, 6);
    assert_eq!(lake.numbers("SELECT max(id) FROM t").await, [5]);

    // Concurrently added rows outside the condition do not affect the change.
    lake.meanwhile("INSERT INTO t VALUES (100, 1)", 1);
    let sql = "DELETE FROM t WHERE id < 3 AND id NOT IN (SELECT id FROM system.meanwhile)";
    assert_eq!(lake.change(sql).await.rows, 2);
    assert_eq!(lake.numbers("SELECT id FROM t ORDER BY id").await, [3, 4, 5, 100]);
}

#[tokio::test]
async fn continuous_concurrent_changes_cause_a_conflict() {
    let lake = Fixture::new().await;
    lake.table_with(&[]).await;
    lake.run("INSERT INTO t VALUES (1, 0)").await;
    lake.meanwhile("INSERT INTO t VALUES (1, 1)", usize::MAX);
    let sql = "DELETE FROM t WHERE id = 1 AND id NOT IN (SELECT id FROM system.meanwhile)";
    let error = lake.execute(sql).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::CommitConflict);
    assert_eq!(lake.numbers("SELECT count(*) FROM t").await, [5]);
}

#[tokio::test]
async fn snapshot_isolation_keeps_concurrently_added_rows() {
    let lake = Fixture::new().await;
    lake.table_with(&[("write.delete.isolation-level", "snapshot")]).await;
    lake.run("INSERT INTO t SELECT value, 0 FROM generate_series(1, 10)").await;
    lake.meanwhile("INSERT INTO t VALUES (7, 1)", 1);
    let sql = "DELETE FROM t WHERE id > 5 AND id NOT IN (SELECT id FROM system.meanwhile)";
    assert_eq!(lake.change(sql).await.rows, 5);
    assert_eq!(lake.numbers("SELECT part FROM t WHERE id = 7").await, [1]);
    // Concurrent changes of rows in the same file are a conflict at any isolation level.
    lake.meanwhile("DELETE FROM t WHERE id = 1", 1);
    let sql = "DELETE FROM t WHERE id = 2 AND id NOT IN (SELECT id FROM system.meanwhile)";
    assert_eq!(lake.change(sql).await.rows, 1);
    assert_eq!(lake.numbers("SELECT id FROM t ORDER BY id").await, [3, 4, 5, 7]);
}

#[tokio::test]
async fn a_condition_on_the_same_table_sees_concurrently_added_rows() {
    let lake = Fixture::new().await;
    lake.table_with(&[]).await;
    lake.run("INSERT INTO t SELECT value, 0 FROM generate_series(1, 10)").await;
    lake.meanwhile("INSERT INTO t VALUES (1000, 1)", 1);
    let sql = "DELETE FROM t WHERE id < 20 AND id < (SELECT avg(id) FROM t) \
               AND id NOT IN (SELECT id FROM system.meanwhile)";
    assert_eq!(lake.change(sql).await.rows, 10);
    assert_eq!(lake.numbers("SELECT id FROM t").await, [1000]);
}

#[tokio::test]
async fn a_failed_change_leaves_no_files() {
    let lake = Fixture::new().await;
    hundreds(&lake).await;
    let before = lake.files("t").await;
    let error = lake.execute("DELETE FROM t WHERE 1 / (id - 250) = 0").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::BadRow);
    assert_eq!(lake.files("t").await, before);
    let mut stored = lake.engine.lake().tables().object_store().list(None);
    let mut data = 0;
    while let Some(file) = stored.next().await {
        data += usize::from(file.unwrap().location.as_ref().ends_with(".parquet"));
    }
    assert_eq!(data, 4);
}

#[tokio::test]
async fn updates_and_merges_rewrite_only_files_with_a_changed_row() {
    let lake = Fixture::new().await;
    hundreds(&lake).await;
    let change = lake.change("UPDATE t SET name = 'x' WHERE id IN (150, 390)").await;
    assert_eq!(change, Change { rows: 2, removed: 2, added: 1, read: true });
    assert_eq!(lake.numbers("SELECT id FROM t WHERE name = 'x' ORDER BY id").await, [150, 390]);
    assert_eq!(lake.numbers("SELECT count(*) FROM t").await, [400]);
    let change = lake
        .change(
            "MERGE INTO t USING (VALUES (1, 'one'), (1000, 'new')) AS s (id, name) \
             ON t.id = s.id WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *",
        )
        .await;
    assert_eq!(change, Change { rows: 2, removed: 1, added: 1, read: true });
    let change = lake
        .change(
            "MERGE INTO t USING (VALUES (1), (2000)) AS s (id) ON t.id = s.id \
             WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)",
        )
        .await;
    assert_eq!((change.rows, change.removed, change.added), (1, 0, 1));
    assert_eq!(lake.numbers("SELECT count(*) FROM t").await, [402]);
}

#[tokio::test]
async fn updates_and_merges_see_concurrent_changes() {
    for (property, sql) in [
        (
            "write.update.isolation-level",
            "UPDATE t SET part = 9 WHERE id > 5 AND id NOT IN (SELECT id FROM system.meanwhile)",
        ),
        (
            "write.merge.isolation-level",
            "MERGE INTO t USING (SELECT 7 AS id EXCEPT SELECT id FROM system.meanwhile) AS s \
             ON t.id >= s.id AND t.id > 5 WHEN MATCHED THEN UPDATE SET part = 9 \
             WHEN NOT MATCHED THEN INSERT VALUES (s.id, 9)",
        ),
    ] {
        for (level, expected) in [("serializable", 2), ("snapshot", 1)] {
            let lake = Fixture::new().await;
            lake.table_with(&[(property, level)]).await;
            lake.run("INSERT INTO t VALUES (1, 0), (8, 0)").await;
            lake.meanwhile("INSERT INTO t VALUES (7, 1)", 1);
            assert_eq!(lake.change(sql).await.rows, expected, "{sql} at {level}");
            let changed = lake.numbers("SELECT count(*) FROM t WHERE part = 9").await;
            assert_eq!(changed, [expected], "{sql} at {level}");
            assert_eq!(lake.numbers("SELECT count(*) FROM t").await, [3]);
        }
    }
}

#[tokio::test]
async fn a_large_merge_has_every_expected_row() {
    let lake = Fixture::new().await;
    lake.run(
        "CREATE TABLE t AS SELECT value AS id, value % 10 AS n, 'old' AS word \
         FROM generate_series(0, 99999)",
    )
    .await;
    lake.run("CREATE TABLE s AS SELECT value * 3 AS id, value AS n FROM generate_series(0, 49999)")
        .await;
    let change = lake
        .change(
            "MERGE INTO t USING s ON t.id = s.id \
             WHEN MATCHED AND t.n = 0 THEN DELETE \
             WHEN MATCHED THEN UPDATE SET n = s.n, word = 'new' \
             WHEN NOT MATCHED AND s.id % 2 = 0 THEN INSERT VALUES (s.id, s.n, 'came') \
             WHEN NOT MATCHED BY SOURCE AND t.n = 1 THEN UPDATE SET word = 'lone'",
        )
        .await;
    let mut expected: BTreeMap<i64, (i64, &str)> =
        (0..100_000).map(|id| (id, (id % 10, "old"))).collect();
    let mut rows = 0;
    for n in 0..50_000 {
        let id = n * 3;
        match expected.get(&id) {
            Some((0, _)) => drop(expected.remove(&id)),
            Some(_) => drop(expected.insert(id, (n, "new"))),
            None if id % 2 == 0 => drop(expected.insert(id, (n, "came"))),
            None => continue,
        }
        rows += 1;
    }
    for (id, (n, word)) in &mut expected {
        if *id < 100_000 && id % 3 != 0 && *n == 1 {
            *word = "lone";
            rows += 1;
        }
    }
    assert_eq!(change.rows, rows);
    for (word, count) in ["old", "new", "came", "lone"]
        .map(|word| (word, expected.values().filter(|(_, found)| *found == word).count() as i64))
    {
        let sql = format!("SELECT count(*) FROM t WHERE word = '{word}'");
        assert_eq!(lake.numbers(&sql).await, [count], "{word}");
    }
    let sum: i64 = expected.iter().map(|(id, (n, _))| id * 7 + n).sum();
    assert_eq!(lake.numbers("SELECT sum(id * 7 + n) FROM t").await, [sum]);
}

/// Table properties for delete files instead of rewritten data files.
const ON_READ: [(&str, &str); 3] = [
    ("write.delete.mode", "merge-on-read"),
    ("write.update.mode", "merge-on-read"),
    ("write.merge.mode", "merge-on-read"),
];

#[tokio::test]
async fn a_table_that_is_merged_on_read_keeps_its_data_files() {
    let lake = Fixture::new().await;
    lake.table_with(&ON_READ).await;
    lake.run("INSERT INTO t SELECT value, 0 FROM generate_series(1, 1000)").await;
    lake.run("INSERT INTO t SELECT value, 1 FROM generate_series(1001, 2000)").await;
    let nothing = |rows| Change { rows, removed: 0, added: 0, read: true };
    assert_eq!(lake.change("DELETE FROM t WHERE id % 100 = 7").await, nothing(20));
    assert_eq!(lake.change("DELETE FROM t WHERE id % 100 = 7").await, nothing(0));
    // Counts and bounds are exact, although file statistics include deleted rows.
    let counts = "SELECT count(*) FROM t UNION ALL SELECT max(id) FROM t WHERE id < 8";
    let mut counted = lake.numbers(counts).await;
    counted.sort_unstable();
    assert_eq!(counted, [6, 1980]);
    assert_eq!(lake.change("DELETE FROM t WHERE id >= 1999").await, nothing(2));
    assert_eq!(lake.numbers("SELECT max(id) FROM t").await, [1998]);
    assert_eq!(lake.numbers("SELECT id FROM t WHERE id = 7 OR id = 8").await, [8]);
    assert_eq!(lake.numbers("SELECT id FROM t ORDER BY id LIMIT 3 OFFSET 5").await, [6, 8, 9]);
    assert_eq!(lake.numbers("SELECT count(*) FROM (SELECT * FROM t LIMIT 1990)").await, [1978]);
    let joined = "SELECT count(*) FROM t JOIN (VALUES (6), (7), (8)) AS v (id) ON t.id = v.id";
    assert_eq!(lake.numbers(joined).await, [2]);
    assert_eq!(lake.numbers("SELECT count(*) FROM \"t~1\"").await, [1980]);
    // New versions of rows go to new files.
    let update = Change { rows: 10, removed: 0, added: 1, read: true };
    assert_eq!(lake.change("UPDATE t SET part = 7 WHERE id BETWEEN 1 AND 11").await, update);
    let merge = "MERGE INTO t USING (VALUES (12), (7)) AS s (id) ON t.id = s.id \
                 WHEN MATCHED THEN UPDATE SET part = 7 WHEN NOT MATCHED THEN INSERT VALUES (s.id, 7)";
    let merged = Change { rows: 2, removed: 0, added: 1, read: true };
    assert_eq!(lake.change(merge).await, merged);
    assert_eq!(lake.numbers("SELECT count(*) FROM t WHERE part = 7").await, [12]);
    assert_eq!(lake.numbers("SELECT count(*) FROM t").await, [1979]);
    // A file without remaining rows is removed, with its delete file.
    let gone = Change { rows: 988, removed: 1, added: 0, read: false };
    assert_eq!(lake.change("DELETE FROM t WHERE id > 1000").await, gone);
    assert_eq!(lake.described().await, (991, 1));
    // The rewritten file needs no delete file.
    lake.run("INSERT OVERWRITE t SELECT * FROM t").await;
    assert_eq!(lake.described().await, (991, 0));
    assert_eq!(lake.change("TRUNCATE TABLE t").await.rows, 991);
}

#[tokio::test]
async fn merge_on_read_changes_see_concurrent_changes() {
    let lake = Fixture::new().await;
    lake.table_with(&ON_READ).await;
    lake.run("INSERT INTO t SELECT value, 0 FROM generate_series(1, 10)").await;
    lake.meanwhile("DELETE FROM t WHERE id = 1", 1);
    let sql =
        "UPDATE t SET part = part + 1 WHERE id < 3 AND id NOT IN (SELECT id FROM system.meanwhile)";
    assert_eq!(lake.change(sql).await.rows, 1);
    lake.meanwhile("UPDATE t SET part = part + 1 WHERE id = 2", 1);
    assert_eq!(lake.change(sql).await.rows, 1);
    assert_eq!(lake.numbers("SELECT part FROM t WHERE id < 3").await, [3]);
    assert_eq!(lake.numbers("SELECT count(*) FROM t").await, [9]);
}

#[tokio::test]
async fn a_merge_on_read_change_detects_a_concurrently_removed_file() {
    let lake = Fixture::new().await;
    lake.table_with(&ON_READ).await;
    lake.run("INSERT INTO t SELECT value, 0 FROM generate_series(1, 10)").await;
    lake.meanwhile("TRUNCATE TABLE t", 1);
    let sql = "UPDATE t SET part = 1 WHERE id = 1 AND id NOT IN (SELECT id FROM system.meanwhile)";
    assert_eq!(lake.change(sql).await.rows, 0);
    assert_eq!(lake.numbers("SELECT count(*) FROM t").await, [0]);
}

impl Fixture {
    /// Returns the numbers of rows and delete files of the table `t`, from its metadata.
    async fn described(&self) -> (u64, u64) {
        let view = self.engine.lake().view(&RefSpec::main()).await.unwrap();
        let table = view.table(&"t".parse().unwrap()).await.unwrap();
        let deletes = table.summary()["total-delete-files"].parse().unwrap();
        (table.rows(), deletes)
    }
}

#[tokio::test]
async fn row_ids_count_towards_the_statements_memory() {
    let lake = Fixture::new().await;
    let small = || SessionOptions { memory_bytes: Some(4 << 20), ..SessionOptions::default() };
    let half = "UPDATE t SET r = r + 1 WHERE id % 2 = 0";
    lake.run("CREATE TABLE t (id BIGINT, r BIGINT) TBLPROPERTIES ('format-version' = '3')").await;
    let rows = "SELECT value, (value * 7919) % 400009 FROM generate_series(1, 400000)";
    lake.run(&format!("INSERT INTO t {rows}")).await;
    // Consecutive row ids are stored as one range, which fits into the memory limit.
    lake.run("UPDATE t SET r = r + 1 WHERE id = 400000").await;
    drop(lake.engine.session(small()).unwrap().execute(half).await.unwrap());
    lake.run("ALTER TABLE t WRITE ORDERED BY r").await;
    lake.run("UPDATE t SET r = r + 1").await;
    let refused = lake.engine.session(small()).unwrap().execute(half).await;
    assert_eq!(refused.err().unwrap().code(), ErrorCode::MemoryLimit);
    lake.run(half).await;
}
