//! Behaviour that SQL scripts cannot test: files read, metrics, spilling.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::pretty::pretty_format_batches;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use headwater_engine::{
    Engine, EngineOptions, Error, Parameters, PreparedStatement, RecordBatches, RowSource,
    SessionOptions, StatementResult,
};
use headwater_lake::Lake;
use headwater_model::{ErrorCode, RefSpec, TableName, ToProblem, Usage};

struct Fixture {
    engine: Engine,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Fixture {
        Fixture::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut EngineOptions)) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open_local(&folder.path().join(".headwater")).await.unwrap();
        let mut options = EngineOptions {
            memory_bytes: 256 << 20,
            query_memory_bytes: 128 << 20,
            spill_dir: folder.path().join("spill"),
            spill_bytes_max: 1 << 30,
            threads: 2,
            ..EngineOptions::default()
        };
        change(&mut options);
        Fixture { engine: Engine::new(lake, options).unwrap(), _folder: folder }
    }

    async fn execute(&self, sql: &str) -> Result<StatementResult, Error> {
        self.engine.session(SessionOptions::default())?.execute(sql).await
    }

    async fn run(&self, sql: &str) -> String {
        table(self.execute(sql).await.unwrap()).await
    }

    /// Returns the number of files that a query scans, and its result.
    async fn planned(&self, sql: &str) -> (usize, String) {
        let answer = self.execute(sql).await.unwrap();
        let metrics = Arc::clone(&answer.metrics);
        let shown = table(answer).await;
        (metrics.files_planned(), shown)
    }
}

/// Returns the rows of a result as lines, without the frame.
async fn table(answer: StatementResult) -> String {
    let batches: Vec<RecordBatch> = answer.stream.try_collect().await.unwrap();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    let row =
        |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(" ");
    text.lines()
        .filter(|line| line.starts_with('|'))
        .skip(1)
        .map(row)
        .collect::<Vec<_>>()
        .join("\n")
}

async fn failure(answer: Result<StatementResult, Error>) -> Error {
    match answer {
        Err(error) => error,
        Ok(answer) => answer.stream.try_collect::<Vec<_>>().await.unwrap_err(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_have_types_and_are_bound_as_values() {
    let fixture = Fixture::new().await;
    fixture.run("CREATE TABLE t AS SELECT 1 AS a, 'x' AS b").await;
    let session = fixture.engine.session(SessionOptions::default()).unwrap();
    let query =
        PreparedStatement::parse("SELECT a, $1 AS c FROM t WHERE a < $1 AND b = $name").unwrap();
    let described = session.describe(&query).await.unwrap();
    let types: Vec<String> = described
        .parameters
        .iter()
        .map(|one| format!("{} {:?}", one.parameter.name, one.data_type))
        .collect();
    assert_eq!(types, ["1 Some(Int64)", "name Some(Utf8View)"]);
    let columns = described.columns.unwrap();
    assert_eq!(columns.fields().iter().map(|field| field.name()).collect::<Vec<_>>(), ["a", "c"]);
    let unbound = session.execute(query.clone()).await.map(drop).unwrap_err();
    assert_eq!(unbound.to_string(), "parameter `$1` has no value (line 1, column 11)");
    let values: Parameters = [("1".to_owned(), 5.into()), ("name".to_owned(), "x".into())].into();
    let answer = session.execute(query.bind(&values).unwrap()).await.unwrap();
    assert_eq!(table(answer).await, "1 5");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_stores_the_values_of_its_parameters() {
    let fixture = Fixture::new().await;
    fixture.run("CREATE TABLE t AS SELECT 1 AS a UNION ALL SELECT -7").await;
    let session = fixture.engine.session(SessionOptions::default()).unwrap();
    let view = "CREATE VIEW v AS SELECT a FROM t AT BRANCH main WHERE a < $most";
    let values: Parameters = [("most".to_owned(), (-5).into())].into();
    session.execute(PreparedStatement::parse(view).unwrap().bind(&values).unwrap()).await.unwrap();
    assert_eq!(fixture.run("SELECT * FROM v").await, "-7");
}

#[tokio::test]
async fn only_the_files_that_can_hold_a_row_are_read() {
    let lake = Fixture::new().await;
    lake.run("CREATE TABLE t (id BIGINT, name VARCHAR, day DATE)").await;
    for part in 0..4 {
        let (from, until) = (part * 100 + 1, part * 100 + 100);
        lake.run(&format!(
            "INSERT INTO t SELECT value, 'name-' || lpad(value::text, 3, '0'), \
             DATE '2024-01-0{}' FROM generate_series({from}, {until})",
            part + 1
        ))
        .await;
    }
    let all = lake.planned("SELECT sum(id) FROM t").await;
    assert_eq!(all, (4, "80200".to_owned()));
    for (filter, files, answer) in [
        ("id = 150", 1, "1"),
        ("id BETWEEN 90 AND 110", 2, "21"),
        ("id IN (1, 399)", 2, "2"),
        ("id > 1000", 0, "0"),
        ("name = 'name-250'", 1, "1"),
        ("day = DATE '2024-01-04'", 1, "100"),
        ("day >= DATE '2024-01-02' AND id < 250", 2, "149"),
        ("id IS NULL", 0, "0"),
        ("id % 2 = 0", 4, "200"),
    ] {
        let sql = format!("SELECT count(name) FROM t WHERE {filter}");
        assert_eq!(lake.planned(&sql).await, (files, answer.to_owned()), "`{filter}`");
    }
    let limited = lake.planned("SELECT name FROM t LIMIT 1").await;
    assert_eq!(limited.0, 1);
}

#[tokio::test]
async fn counts_and_bounds_come_from_the_manifests() {
    let lake = Fixture::new().await;
    lake.run(
        "CREATE TABLE t AS SELECT value AS id, value::double AS x FROM generate_series(1, 1000)",
    )
    .await;
    let answer = lake.execute("SELECT count(*), min(id), max(id) FROM t").await.unwrap();
    let metrics = Arc::clone(&answer.metrics);
    assert_eq!(table(answer).await, "1000 1 1000");
    assert_eq!((metrics.usage().rows_read, metrics.usage().bytes_read), (0, 0));

    let answer = lake.execute("SELECT sum(id), max(x) FROM t").await.unwrap();
    let metrics = Arc::clone(&answer.metrics);
    assert_eq!(table(answer).await, "500500 1000.0");
    let usage = metrics.usage();
    assert_eq!(usage.rows_read, 1000);
    assert!(usage.bytes_read > 0 && usage.cpu_us > 0, "{usage:?}");
    assert_eq!(usage.rows_written, 1);
}

#[tokio::test]
async fn a_write_returns_its_result_and_its_commit_has_the_properties() {
    let lake = Fixture::new().await;
    let options = SessionOptions {
        author: "ada".to_owned(),
        properties: BTreeMap::from([("headwater.job".to_owned(), "job-1".to_owned())]),
        ..SessionOptions::default()
    };
    let session = lake.engine.session(options).unwrap();
    let answer = session.execute("CREATE TABLE t AS SELECT 1 AS a").await.unwrap();
    let commit = answer.commit.clone().unwrap();
    assert_eq!((commit.author.as_str(), commit.message.as_str()), ("ada", "create table t"));
    assert_eq!(commit.properties["headwater.job"], "job-1");
    let usage = answer.metrics.usage();
    assert_eq!(usage.rows_written, 1);
    assert!(usage.bytes_written > 0);
    assert_eq!(table(answer).await, format!("1 {}", commit.id));
}

#[tokio::test]
async fn columns_added_later_are_null_in_older_files() {
    let lake = Fixture::new().await;
    lake.run("CREATE TABLE t AS SELECT 1 AS a").await;
    let name: TableName = "t".parse().unwrap();
    let mut change = lake.engine.lake().transaction("main", "ada").await.unwrap();
    change.add_columns(&name, vec![Field::new("b", DataType::Utf8, true)]).await.unwrap();
    change.commit("add b").await.unwrap();
    lake.run("INSERT INTO t VALUES (2, 'x')").await;
    assert_eq!(lake.run("SELECT * FROM t ORDER BY a").await, "1 \n2 x");
    assert_eq!(lake.run("SELECT a FROM t WHERE b IS NULL").await, "1");
    assert_eq!(lake.run("SELECT a FROM t WHERE b = 'x'").await, "2");
}

#[tokio::test]
async fn a_sort_larger_than_its_memory_is_spilled() {
    let lake = Fixture::new().await;
    let options = SessionOptions { memory_bytes: Some(24 << 20), ..SessionOptions::default() };
    let session = lake.engine.session(options).unwrap();
    let sql = "SELECT value, repeat('x', 20) AS pad FROM generate_series(1, 1000000) \
               ORDER BY value % 1000 DESC, value";
    let answer = session.execute(sql).await.unwrap();
    let metrics = Arc::clone(&answer.metrics);
    let batches: Vec<RecordBatch> = answer.stream.try_collect().await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1_000_000);
    assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), 999);
    assert!(metrics.spilled_bytes() > 0);
    assert!(metrics.usage().memory_bytes_peak > 1 << 20);
}

#[tokio::test]
async fn a_hash_join_that_does_not_fit_is_sorted_instead() {
    let lake = Fixture::new().await;
    let options = SessionOptions { memory_bytes: Some(24 << 20), ..SessionOptions::default() };
    let session = lake.engine.session(options).unwrap();
    let sql = "SELECT count(*) FROM \
               (SELECT value AS a, repeat('x', 30) AS p FROM generate_series(1, 700000)) l JOIN \
               (SELECT value AS b, repeat('y', 30) AS q FROM generate_series(1, 700000)) r \
               ON l.a = r.b WHERE p <> q";
    let answer = session.execute(sql).await.unwrap();
    assert_eq!(table(answer).await, "700000");
}

#[tokio::test]
async fn memory_and_spill_limits_have_their_own_errors() {
    let lake = Fixture::with(|options| options.spill_bytes_max = 1 << 20).await;
    let options = SessionOptions { memory_bytes: Some(8 << 20), ..SessionOptions::default() };
    let session = lake.engine.session(options).unwrap();
    let sql = "SELECT array_agg(value) FROM generate_series(1, 5000000)";
    let error = failure(session.execute(sql).await).await;
    assert_eq!(error.code(), ErrorCode::MemoryLimit);
    assert_eq!(error.to_string(), "the statement needs more than its memory limit of 8 MiB");
    assert!(error.hint().is_some());

    let options = SessionOptions { memory_bytes: Some(24 << 20), ..SessionOptions::default() };
    let session = lake.engine.session(options).unwrap();
    let sql = "SELECT value, repeat('x', 50) AS pad FROM generate_series(1, 1000000) \
               ORDER BY value % 1000 DESC, value";
    let error = failure(session.execute(sql).await).await;
    assert_eq!(error.code(), ErrorCode::DiskFull, "{error}");
}

#[tokio::test]
async fn statements_together_are_limited_by_the_engines_memory() {
    let lake = Fixture::with(|options| options.memory_bytes = 8 << 20).await;
    let sql = "SELECT array_agg(value) FROM generate_series(1, 5000000)";
    let error = failure(lake.execute(sql).await).await;
    assert_eq!(error.code(), ErrorCode::MemoryLimit);
}

#[tokio::test]
async fn registered_rows_stand_in_for_tables() {
    let lake = Fixture::new().await;
    lake.run("CREATE TABLE flights AS SELECT 1 AS id").await;
    let session = lake.engine.session(SessionOptions::default()).unwrap();
    let schema = Arc::new(Schema::new(vec![
        Field::new("Id", DataType::Int64, true),
        Field::new("word", DataType::Utf8, true),
    ]));
    let ids = Arc::new(Int64Array::from_iter_values(0..100_000));
    let words = Arc::new(StringArray::from_iter_values((0..100_000).map(|i| (i % 7).to_string())));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![ids, words]).unwrap();
    session.register("flights", &RecordBatches { schema, batches: vec![batch] }).unwrap();
    let answer = session.select("SELECT count(*), max(ID), min(word) FROM Flights").await.unwrap();
    assert_eq!(table(answer).await, "100000 99999 0");
    let answer = session.select("SELECT count(*) FROM \"flights@main\"").await.unwrap();
    assert_eq!(table(answer).await, "1");

    let columns = session.schema_of("SELECT word, count(*) AS n FROM flights GROUP BY word").await;
    let columns = columns.unwrap();
    let shown: Vec<String> =
        columns.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
    assert_eq!(shown, ["word Utf8", "n Int64"]);
    let wrong = session.schema_of("SELECT wrod FROM flights").await.unwrap_err();
    assert_eq!(
        (wrong.code(), wrong.position().map(|p| p.column)),
        (ErrorCode::ColumnNotFound, Some(8))
    );
    let refused = session.select("DROP TABLE flights").await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::UnsupportedStatement);
}

#[tokio::test]
async fn a_table_is_read_as_of_a_time_and_at_its_snapshots() {
    let lake = Fixture::new().await;
    lake.run("CREATE TABLE t AS SELECT 1 AS id").await;
    let mut times = Vec::new();
    let mut snapshots = Vec::new();
    for id in 2..5 {
        let head = lake.engine.lake().view(&RefSpec::main()).await.unwrap();
        let log = lake.engine.lake().catalog().log(&RefSpec::main(), 1, None).await.unwrap();
        times.push(log[0].time);
        snapshots.push(head.table(&"t".parse().unwrap()).await.unwrap().snapshot_id().unwrap());
        // Commit times are compared in microseconds, but the clock may be coarser.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        lake.run(&format!("INSERT INTO t VALUES ({id})")).await;
    }
    lake.run("CREATE OR REPLACE TABLE t AS SELECT 'x' AS word").await;
    for (count, (time, snapshot)) in times.iter().zip(&snapshots).enumerate() {
        let time = time.to_rfc3339();
        for version in [
            format!("FOR TIMESTAMP AS OF '{time}'"),
            format!("TIMESTAMP AS OF TIMESTAMP '{time}' AS t"),
            format!("AT (TIMESTAMP => TIMESTAMP '{time}' + INTERVAL '1 microsecond')"),
            format!("FOR VERSION AS OF {snapshot}"),
            format!("AT SNAPSHOT '{snapshot}'"),
        ] {
            let sql = format!("SELECT count(t.id), max(id) FROM t {version}");
            let expected = format!("{} {}", count + 1, count + 1);
            assert_eq!(lake.run(&sql).await, expected, "{sql}");
        }
        let sql = format!("SELECT max(id) FROM \"t@main*{time}\"");
        assert_eq!(lake.run(&sql).await, (count + 1).to_string());
    }
}

#[tokio::test]
async fn a_pinned_view_does_not_move() {
    let lake = Fixture::new().await;
    lake.run("CREATE TABLE t AS SELECT 1 AS id").await;
    let view = lake.engine.lake().view(&RefSpec::main()).await.unwrap();
    let options = SessionOptions { view: Some(view), ..SessionOptions::default() };
    let pinned = lake.engine.session(options).unwrap();
    lake.run("INSERT INTO t VALUES (2)").await;
    let answer = pinned.execute("SELECT count(*) FROM t").await.unwrap();
    assert_eq!(table(answer).await, "1");
    assert_eq!(lake.run("SELECT count(*) FROM t").await, "2");
}

#[tokio::test]
async fn a_statement_that_is_not_read_can_be_stopped() {
    let lake = Fixture::new().await;
    let sql = "SELECT a.value FROM generate_series(1, 100000) a, generate_series(1, 100000) b";
    let mut answer = lake.execute(sql).await.unwrap();
    let first = answer.stream.next().await.unwrap().unwrap();
    assert!(first.num_rows() > 0);
    drop(answer);
    assert_eq!(lake.run("SELECT 1").await, "1");
}

/// With one thread, the next statement runs only after the previous one has released the thread.
#[tokio::test]
async fn a_statement_without_output_rows_can_be_stopped() {
    let lake = Fixture::with(|options| options.threads = 1).await;
    let ten = "WITH d(x) AS (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) ";
    let many = "generate_series(1, 1000000)";
    for endless in [
        format!(
            "{ten} SELECT sum(a.x + n.x) FROM {}",
            "d a, d b, d c, d e, d f, d g, d h, d i, d j, d k, d l, d m, d n"
        ),
        format!("SELECT count(*) FROM {many} a JOIN {many} b ON a.value * b.value < 0"),
        format!(
            "SELECT count(*) FROM {many} a JOIN {many} b ON a.value % 2 = b.value % 2 AND a.value * b.value < 0"
        ),
    ] {
        let mut answer =
            lake.execute(&endless).await.unwrap_or_else(|error| panic!("{endless}: {error}"));
        let early = tokio::time::timeout(Duration::from_millis(100), answer.stream.next()).await;
        assert!(early.is_err(), "{endless}: {early:?}");
        drop(answer);
        assert_eq!(lake.run("SELECT 1").await, "1");
    }
}

#[tokio::test]
async fn deep_and_long_expressions_are_planned() {
    let lake = Fixture::new().await;
    let long = (0..1_000).map(|n| format!("{n} = x")).collect::<Vec<_>>().join(" OR ");
    let sql = format!("SELECT count(*) FROM (SELECT 7 AS x) WHERE {long}");
    assert_eq!(lake.run(&sql).await, "1");
    let deep = format!("SELECT {}1{}", "(".repeat(400), ")".repeat(400));
    let error = failure(lake.execute(&deep).await).await;
    assert_eq!(error.code(), ErrorCode::InvalidSql);
}

/// A table of one row that counts its scans.
#[derive(Debug, Default)]
struct Counted(AtomicUsize);

impl RowSource for Counted {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]))
    }

    fn read(&self) -> BoxStream<'static, Result<RecordBatch, ArrowError>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let ids = Arc::new(Int64Array::from(vec![7]));
        stream::iter([RecordBatch::try_new(self.schema(), vec![ids])]).boxed()
    }
}

#[tokio::test]
async fn a_lazy_query_runs_when_its_rows_are_read() {
    let lake = Fixture::new().await;
    let session = lake.engine.session(SessionOptions::default()).unwrap();
    let (prepared, selected) = (Arc::new(Counted::default()), Arc::new(Counted::default()));
    session.register_stored("prepared", prepared.clone());
    session.register_stored("selected", selected.clone());
    let later = session.select_lazy("SELECT sum(id) AS sum FROM prepared").await.unwrap();
    let never = session.select_lazy("SELECT sum(id) AS sum FROM prepared").await.unwrap();
    let now = session.select("SELECT sum(id) AS sum FROM selected").await.unwrap();
    while selected.0.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(prepared.0.load(Ordering::SeqCst), 0);
    assert_eq!(
        (later.schema.clone(), later.metrics.usage()),
        (now.schema.clone(), Usage::default())
    );
    assert_eq!((table(now).await, table(later).await), ("7".to_owned(), "7".to_owned()));
    drop(never);
    assert_eq!(prepared.0.load(Ordering::SeqCst), 1);
    let refused = session.select_lazy("DROP TABLE flights").await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::UnsupportedStatement);
}

#[tokio::test]
async fn a_missing_data_file_is_named() {
    let lake = Fixture::new().await;
    lake.run("CREATE TABLE t AS SELECT value AS id FROM generate_series(1, 10)").await;
    let file = lake.run("SELECT location FROM system.files WHERE table = 't'").await;
    std::fs::remove_file(file.trim_start_matches("file://")).unwrap();
    let error = failure(lake.execute("SELECT * FROM t").await).await.to_problem();
    assert_eq!(error.code, ErrorCode::Storage);
    assert!(error.message.ends_with(".parquet` is missing"), "{}", error.message);
    assert!(error.hint.unwrap().contains("earlier commit"));
}

#[tokio::test]
async fn chains_of_operators_are_planned_up_to_a_length_and_refused_beyond() {
    let lake = Fixture::new().await;
    let chain = |link: &str, by: &str, times: usize| vec![link; times].join(by);
    for (link, by, fine) in [
        ("1", " + ", 60),
        ("'a'", " || ", 60),
        ("x = 1", " OR ", 400),
        ("NOT x = 1", " AND ", 200),
        ("case when true then 1 end", " - ", 60),
        ("case when x = 1 then 1 else 2 + 3 * x end", " + ", 60),
        ("x BETWEEN 1 AND 2 + x", " AND ", 100),
    ] {
        let select = |times| format!("SELECT {} FROM (SELECT 1 AS x)", chain(link, by, times));
        lake.run(&select(fine)).await;
        for much in [3_000, 100_000] {
            let error = failure(lake.execute(&select(much)).await).await;
            assert_eq!(error.code(), ErrorCode::InvalidSql, "{by}: {error}");
            assert!(error.to_string().contains("more than"), "{error}");
        }
    }
    for (first, link, by) in [
        ("", "SELECT 1", " UNION ALL "),
        ("SELECT * FROM ", "(SELECT 1)", ", "),
        ("SELECT * FROM ", "(SELECT 1)", " CROSS JOIN "),
        ("SELECT 1", "::int", ""),
        ("SELECT [1]", "[1]", ""),
        ("VALUES ", "((SELECT 1))", ", "),
        ("SELECT 1 ", "IS NULL", " "),
        // A keyword that is used as a name does not start a clause.
        ("SELECT * FROM ", "(SELECT 1) AS where", ", "),
        ("SELECT * FROM ", "(SELECT 1) AS select", ", "),
        ("CREATE TABLE u AS SELECT * FROM ", "(SELECT 1)", ", "),
        ("SELECT interval FROM ", "(SELECT 1)", ", "),
        ("SELECT ", "then", " + "),
        ("SELECT ", "t.case", " + "),
        ("SELECT ", "case", " + "),
        ("SELECT ", "x * from", " - "),
        ("SELECT ", "end + t.when", " || "),
        ("SELECT ", "count(*) OVER when", " - "),
        ("SELECT ", "max(x) WITHIN GROUP (ORDER BY x)", " - "),
        ("SELECT ", "interval when", " + "),
        ("SELECT ", "a NOT LIKE when", " - "),
        ("SELECT ", "or", " * "),
        ("SELECT ", "CASE WHEN true THEN 1 END", " * "),
        ("SELECT ", "a BETWEEN b AND c", " - "),
    ] {
        let sql = |times| format!("{first}{}", chain(link, by, times));
        let error = failure(lake.execute(&sql(20_000)).await).await;
        assert_eq!(error.code(), ErrorCode::InvalidSql, "{by}: {error}");
    }
    let cases = format!(
        "SELECT CASE {} END FROM (SELECT 1 AS x)",
        chain("WHEN x = 2 THEN 1 + x", " ", 500)
    );
    assert_eq!(lake.run(&cases).await, "");
    let many = format!("SELECT count(*) FROM (VALUES {})", chain("(1 + 1, -2)", ", ", 5_000));
    assert_eq!(lake.run(&many).await, "5000");
}
