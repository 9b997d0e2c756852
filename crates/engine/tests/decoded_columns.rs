//! The cache of decoded columns: the same rows as without it, and its use of memory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use headwater_engine::{Engine, EngineOptions, SessionOptions};
use headwater_lake::Lake;
use headwater_model::Usage;

/// Two engines over one lake, one with the cache and one without.
struct Fixture {
    cached: Engine,
    plain: Engine,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Fixture {
        Fixture::with(256 << 20).await
    }

    /// Creates engines with a limit for the memory of all statements and of the cache.
    async fn with(memory_bytes: u64) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open_local(&folder.path().join(".headwater")).await.unwrap();
        let options = EngineOptions {
            memory_bytes,
            query_memory_bytes: memory_bytes,
            decoded_cache_bytes: memory_bytes,
            spill_dir: folder.path().join("spill"),
            threads: 2,
            ..EngineOptions::default()
        };
        let without = EngineOptions { decoded_cache_bytes: 0, ..options.clone() };
        Fixture {
            cached: Engine::new(lake.clone(), options).unwrap(),
            plain: Engine::new(lake, without).unwrap(),
            _folder: folder,
        }
    }

    /// Runs statements without the cache.
    async fn run(&self, statements: &[&str]) {
        for sql in statements {
            rows(&self.plain, sql).await;
        }
    }

    /// Creates a table `t` with 400,000 rows in one file.
    async fn large_table(&self) {
        self.run(&["CREATE TABLE t AS SELECT value AS id, (value * 7919) % 400009 AS n, \
                    'a name that is not short, number ' || (value % 1000) AS name \
                    FROM generate_series(1, 400000)"])
            .await;
    }

    /// Checks that queries return the same rows in three reads with the cache as without it.
    async fn check(&self, queries: &[&str]) {
        for sql in queries {
            let (expected, _) = rows(&self.plain, sql).await;
            for read in 1..=3 {
                let (found, _) = rows(&self.cached, sql).await;
                assert_eq!(found, expected, "read {read} of `{sql}`");
            }
        }
    }

    /// Runs a query with the cache. Returns its usage.
    async fn usage(&self, sql: &str) -> Usage {
        rows(&self.cached, sql).await.1
    }
}

/// Runs a statement. Returns its rows and its usage.
async fn rows(engine: &Engine, sql: &str) -> (String, Usage) {
    let session = engine.session(SessionOptions::default()).unwrap();
    let answer = session.execute(sql).await.unwrap();
    let metrics = Arc::clone(&answer.metrics);
    let batches: Vec<RecordBatch> = answer.stream.try_collect().await.unwrap();
    (pretty_format_batches(&batches).unwrap().to_string(), metrics.usage())
}

#[tokio::test]
async fn filters_joins_sorts_and_limits_have_the_same_rows() {
    let lake = Fixture::new().await;
    lake.large_table().await;
    lake.run(&["CREATE TABLE few AS SELECT value * 1000 AS id FROM generate_series(1, 50)"]).await;
    lake.check(&[
        "SELECT count(*), sum(id), sum(n), count(DISTINCT name) FROM t",
        "SELECT * FROM t WHERE id BETWEEN 199990 AND 200010 ORDER BY id",
        "SELECT name, count(*), min(n) FROM t WHERE n % 3 = 1 GROUP BY name ORDER BY name LIMIT 20",
        "SELECT t.* FROM t JOIN few ON t.id = few.id ORDER BY t.id",
        "SELECT n, id FROM t ORDER BY n DESC, id LIMIT 10",
        "SELECT id + 1 AS next, upper(name) AS name FROM t WHERE id = 77",
        "SELECT count(*) FROM (SELECT id FROM t LIMIT 1234) AS part",
        "SELECT id FROM t WHERE id > 500000",
    ])
    .await;
}

#[tokio::test]
async fn row_groups_are_pruned_and_have_the_same_rows() {
    let lake = Fixture::new().await;
    lake.run(&["CREATE TABLE t AS SELECT value AS id, value % 10 AS digit, \
                'x' || (value % 100) AS name FROM generate_series(1, 1100000)"])
        .await;
    lake.check(&[
        "SELECT count(*), sum(id), sum(digit), max(name) FROM t",
        "SELECT sum(digit) FROM t WHERE id > 1060000",
        "SELECT id, name FROM t WHERE id IN (1, 1048576, 1048577, 1100000) ORDER BY id",
        "SELECT id, digit FROM t ORDER BY id DESC LIMIT 5",
    ])
    .await;
}

#[tokio::test]
async fn deleted_rows_and_row_ids_are_the_same() {
    let lake = Fixture::new().await;
    let queries = [
        "SELECT count(*), sum(id), count(name) FROM t",
        "SELECT id, _row_id FROM t WHERE id % 1000 < 3 ORDER BY id",
        "SELECT * FROM t WHERE id < 12 ORDER BY id",
    ];
    lake.run(&[
        "CREATE TABLE t (id BIGINT, name VARCHAR) TBLPROPERTIES ('format-version' = '3', \
         'write.delete.mode' = 'merge-on-read', 'write.update.mode' = 'merge-on-read')",
        "INSERT INTO t SELECT value, 'name ' || value FROM generate_series(1, 20000)",
        "INSERT INTO t SELECT value, NULL FROM generate_series(20001, 30000)",
    ])
    .await;
    lake.check(&queries).await;
    for change in [
        "DELETE FROM t WHERE id % 7 = 0",
        "UPDATE t SET name = 'changed' WHERE id % 11 = 0",
        "DELETE FROM t WHERE id BETWEEN 5000 AND 26000",
    ] {
        // The statement itself reads with the cache.
        rows(&lake.cached, change).await;
        lake.check(&queries).await;
    }
}

#[tokio::test]
async fn changed_schemas_and_nested_columns_have_the_same_rows() {
    let lake = Fixture::new().await;
    lake.run(&[
        "CREATE TABLE t TBLPROPERTIES ('format-version' = '3') AS SELECT value::INT AS id, \
         'name ' || value AS name, named_struct('a', value, 'b', 'text ' || value) AS pair, \
         [value, value + 1] AS list, CASE WHEN value % 2 = 0 THEN value * 0.5 END AS half \
         FROM generate_series(1, 20000)",
    ])
    .await;
    lake.check(&[
        "SELECT * FROM t WHERE id < 10 ORDER BY id",
        "SELECT sum(pair.a), count(half) FROM t",
    ])
    .await;
    for change in [
        "ALTER TABLE t RENAME COLUMN name TO label",
        "ALTER TABLE t ALTER COLUMN id TYPE BIGINT",
        "ALTER TABLE t ADD COLUMN name VARCHAR DEFAULT 'new', ADD COLUMN pair.c INT",
        "ALTER TABLE t DROP COLUMN half",
        "INSERT INTO t (id, label) SELECT value, 'later' FROM generate_series(30001, 30010)",
    ] {
        lake.run(&[change]).await;
        lake.check(&[
            "SELECT * FROM t WHERE id < 5 OR id > 30007 ORDER BY id",
            "SELECT sum(id), count(*), sum(pair.a), count(list) FROM t",
        ])
        .await;
    }
    lake.check(&["SELECT name, count(*), min(label) FROM t GROUP BY name ORDER BY name"]).await;
}

#[tokio::test]
async fn a_column_is_kept_at_the_second_read() {
    let lake = Fixture::new().await;
    lake.large_table().await;
    let sql = "SELECT sum(id) FROM t";
    let first = lake.usage(sql).await;
    assert!(first.bytes_read > 0 && first.bytes_cached == 0, "{first:?}");
    let second = lake.usage(sql).await;
    assert_eq!((second.bytes_read, second.bytes_cached), (first.bytes_read, 0));
    let third = lake.usage(sql).await;
    assert_eq!((third.bytes_read, third.bytes_cached), (0, first.bytes_read));
    assert_eq!((third.rows_read, first.rows_read), (400_000, 400_000));
    // Only the column that is not cached is read.
    let other = lake.usage("SELECT sum(id), sum(n) FROM t").await;
    assert_eq!(other.bytes_cached, first.bytes_read);
    assert!(other.bytes_read > 0);
}

#[tokio::test]
async fn a_query_with_a_limit_uses_cached_columns_and_keeps_none() {
    let lake = Fixture::new().await;
    lake.large_table().await;
    let few = "SELECT id FROM t LIMIT 5";
    for _ in 0..3 {
        assert!(lake.usage(few).await.bytes_read > 0);
    }
    for _ in 0..2 {
        lake.usage("SELECT sum(id) FROM t").await;
    }
    assert_eq!(lake.usage(few).await.bytes_read, 0);
}

#[tokio::test]
async fn a_small_cached_column_does_not_cause_the_read_of_whole_columns() {
    let lake = Fixture::new().await;
    lake.run(&["CREATE TABLE t AS SELECT value AS id, md5(value::VARCHAR) AS a, \
                md5((value + 1)::VARCHAR) AS b FROM generate_series(1, 200000)"])
        .await;
    for _ in 0..2 {
        lake.usage("SELECT sum(id) FROM t").await;
    }
    let (_, whole) = rows(&lake.plain, "SELECT count(DISTINCT a), count(DISTINCT b) FROM t").await;
    // The bounds of pages exclude two fifths of the rows.
    let sql = "SELECT sum(id), count(DISTINCT a), count(DISTINCT b) FROM t WHERE id <= 120000";
    let first = lake.usage(sql).await;
    assert!(first.bytes_read * 4 < whole.bytes_read * 3, "{first:?} {whole:?}");
    lake.usage(sql).await;
    assert_eq!(lake.usage(sql).await.bytes_read, 0);
    lake.check(&[sql]).await;
}

#[tokio::test]
async fn a_column_with_one_value_in_a_file_is_not_kept() {
    let lake = Fixture::new().await;
    lake.run(&["CREATE TABLE t AS SELECT value AS id, 7 AS day FROM generate_series(1, 100000)"])
        .await;
    let sql = "SELECT day, sum(id) FROM t GROUP BY day";
    for _ in 0..2 {
        lake.usage(sql).await;
    }
    let cached = lake.usage(sql).await;
    let other = lake.usage("SELECT sum(id) FROM t").await;
    assert_eq!((cached.bytes_read, cached.bytes_cached), (0, other.bytes_cached));
    lake.check(&[sql]).await;
}

#[tokio::test]
async fn a_projection_with_functions_uses_cached_columns() {
    let lake = Fixture::new().await;
    lake.run(&["CREATE TABLE t AS SELECT value AS id, 'name ' || value AS name, \
                named_struct('a', value) AS pair FROM generate_series(1, 1000)"])
        .await;
    let sql = "SELECT upper(name) || id AS name FROM t";
    for _ in 0..2 {
        lake.usage(sql).await;
    }
    assert_eq!(lake.usage(sql).await.bytes_read, 0);
    lake.check(&[
        "SELECT upper(name) || id AS name FROM t ORDER BY id",
        "SELECT pair.a + length(name) AS size FROM t ORDER BY size",
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_queries_keep_a_column_once() {
    let lake = Fixture::new().await;
    lake.large_table().await;
    let sql = "SELECT sum(n), count(name) FROM t";
    lake.usage(sql).await;
    let (one, other) = tokio::join!(rows(&lake.cached, sql), rows(&lake.cached, sql));
    assert_eq!(one.0, other.0);
    let after = lake.usage(sql).await;
    assert!(after.bytes_read == 0 && after.bytes_cached > 0, "{after:?}");
}

#[tokio::test]
async fn a_statement_gets_the_memory_of_cached_columns() {
    let lake = Fixture::with(32 << 20).await;
    lake.large_table().await;
    let sql = "SELECT sum(id), sum(n) FROM t";
    for _ in 0..2 {
        lake.usage(sql).await;
    }
    assert_eq!(lake.usage(sql).await.bytes_read, 0);
    let sort = "SELECT value, repeat('x', 20) AS pad FROM generate_series(1, 1000000) \
                ORDER BY value % 1000 DESC, value";
    let session = lake.cached.session(SessionOptions::default()).unwrap();
    let sorted = session.execute(sort).await.unwrap();
    let batches: Vec<RecordBatch> = sorted.stream.try_collect().await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1_000_000);
    assert!(lake.usage(sql).await.bytes_read > 0);
}

#[tokio::test]
async fn a_limit_of_zero_disables_the_cache() {
    let lake = Fixture::new().await;
    lake.large_table().await;
    for _ in 0..4 {
        let (_, usage) = rows(&lake.plain, "SELECT sum(id) FROM t").await;
        assert!(usage.bytes_read > 0 && usage.bytes_cached == 0, "{usage:?}");
    }
}
