//! Differences between two states of a table: columns, layout, files, statistics, rows.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use headwater_engine::{Engine, EngineOptions, Error, SessionOptions};
use headwater_lake::Lake;
use headwater_model::{
    ChangeKind, ColumnStatistics, CompareRows, ComparisonMethod, ErrorCode, MaintainRequest,
    RowDiff, TableComparison, TableDiff, ToProblem,
};
use headwater_table_diff::{ComparedTable, DiffOptions, StateComparer};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

struct Fixture {
    engine: Engine,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Fixture {
        Fixture::with_memory(1 << 30).await
    }

    async fn with_memory(query_memory_bytes: u64) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open_local(&folder.path().join(".headwater")).await.unwrap();
        let spill_dir = folder.path().join("spill");
        let options =
            EngineOptions { threads: 2, query_memory_bytes, spill_dir, ..EngineOptions::default() };
        Fixture { engine: Engine::new(lake, options).unwrap(), _folder: folder }
    }

    async fn run(&self, sql: &str) {
        let session = self.engine.session(SessionOptions::default()).unwrap();
        session.execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn run_all(&self, statements: &[&str]) {
        for sql in statements {
            self.run(sql).await;
        }
    }

    async fn compare(
        &self,
        from: &str,
        to: &str,
        options: &DiffOptions,
    ) -> Result<TableComparison, Error> {
        StateComparer::new(self.engine.clone()).diff_table(&at(from), &at(to), options).await
    }

    /// Returns the changes of the last commits to `t`, with rows identified by `key`.
    async fn diff(&self, commits: usize, key: &str) -> TableDiff {
        let from = format!("t@main~{commits}");
        self.compare(&from, "t@main", &by(key)).await.unwrap().diff
    }
}

fn by(key: &str) -> DiffOptions {
    let key = key.split(',').filter(|column| !column.is_empty()).map(str::to_owned).collect();
    DiffOptions { key, limit: 100, compare: CompareRows::Always, ..DiffOptions::default() }
}

fn at(text: &str) -> ComparedTable {
    let (text, snapshot) = match text.split_once('#') {
        Some((text, snapshot)) => (text, Some(snapshot.parse().unwrap())),
        None => (text, None),
    };
    let (table, reference) = text.split_once('@').unwrap();
    ComparedTable { table: table.parse().unwrap(), reference: reference.parse().unwrap(), snapshot }
}

fn rows(diff: &TableDiff) -> &[RowDiff] {
    &diff.rows.as_ref().unwrap().rows
}

/// Returns the numbers of removed, added and changed rows.
fn counts(diff: &TableDiff) -> (Option<u64>, Option<u64>, Option<u64>) {
    (diff.rows_removed, diff.rows_added, diff.rows_changed)
}

fn known(removed: u64, added: u64, changed: u64) -> (Option<u64>, Option<u64>, Option<u64>) {
    (Some(removed), Some(added), Some(changed))
}

/// Returns the rows as `-{..}`, `+{..}` and `~{..} {..} columns`, once per difference.
fn lines(diff: &TableDiff) -> Vec<String> {
    let text = |side: &Option<Value>| side.as_ref().map(ToString::to_string).unwrap_or_default();
    let line = |row: &RowDiff| {
        let (before, after) = (text(&row.before), text(&row.after));
        let times = if row.times == 1 { String::new() } else { format!(" x{}", row.times) };
        match row.kind {
            ChangeKind::Removed => format!("-{before}{times}"),
            ChangeKind::Added => format!("+{after}{times}"),
            _ => format!("~{before} {after} {}", row.changed.join(",")),
        }
    };
    rows(diff).iter().map(line).collect()
}

#[tokio::test]
async fn rows_are_identified_by_their_key() {
    let lake = Fixture::new().await;
    lake.run_all(&[
        "CREATE TABLE t (id BIGINT, name VARCHAR, price DECIMAL(20, 2))",
        "INSERT INTO t VALUES (1, 'a', 1.50), (2, 'b', NULL), (3, 'c', 3), (4, 'd', 4)",
        "UPDATE t SET name = 'B', price = CAST('12345678901234567.25' AS DECIMAL(20, 2)) WHERE id = 2",
        "DELETE FROM t WHERE id = 3",
        "INSERT INTO t VALUES (9, 'z', 9)",
    ])
    .await;
    let diff = lake.diff(3, "id").await;
    assert_eq!(diff.kind, ChangeKind::Changed);
    assert_eq!(counts(&diff), known(1, 1, 1));
    assert_eq!((diff.rows_before, diff.rows_after), (Some(4), Some(4)));
    let expected = [
        r#"~{"id":2,"name":"b","price":null} {"id":2,"name":"B","price":"12345678901234567.25"} name,price"#,
        r#"-{"id":3,"name":"c","price":"3.00"}"#,
        r#"+{"id":9,"name":"z","price":"9.00"}"#,
    ];
    assert_eq!(lines(&diff), expected);
    let found = diff.rows.unwrap();
    assert_eq!((found.how, found.key), (ComparisonMethod::Compared, vec!["id".to_owned()]));
    let changed: Vec<_> = found.changed_columns.iter().map(|c| (&*c.column, c.rows)).collect();
    assert_eq!(changed, [("name", 1), ("price", 1)]);

    let whole = lake.diff(3, "").await;
    assert_eq!(counts(&whole), (Some(2), Some(2), None), "without a key, rows are wholes");
    let backwards = lake.compare("t@main", "t@main~3", &by("id")).await.unwrap().diff;
    assert_eq!(counts(&backwards), known(1, 1, 1));
    assert_eq!(rows(&backwards)[0].before.as_ref().unwrap()["name"], "B");
}

#[tokio::test]
async fn repeated_rows_are_counted() {
    let lake = Fixture::new().await;
    lake.run_all(&[
        "CREATE TABLE t (id BIGINT)",
        "INSERT INTO t VALUES (1), (1), (1), (2)",
        "INSERT OVERWRITE t VALUES (1), (2), (2), (2)",
    ])
    .await;
    let diff = lake.diff(1, "").await;
    assert_eq!(counts(&diff), (Some(2), Some(2), None));
    assert_eq!(lines(&diff), [r#"-{"id":1} x2"#, r#"+{"id":2} x2"#]);
}

#[tokio::test]
async fn keys_with_nulls_or_several_rows_are_reported() {
    let lake = Fixture::new().await;
    lake.run_all(&[
        "CREATE TABLE t (a BIGINT, b VARCHAR, n INT)",
        "INSERT INTO t VALUES (1, 'x', 1), (1, 'x', 2), (2, 'x', 1), (NULL, 'x', 1), (3, 'y', 1)",
        "INSERT OVERWRITE t VALUES (1, 'x', 3), (2, 'x', 2), (NULL, 'x', 2), (3, 'y', 1)",
    ])
    .await;
    let diff = lake.diff(1, "a,b").await;
    assert_eq!(counts(&diff), known(3, 2, 1));
    let found = diff.rows.as_ref().unwrap();
    assert_eq!((found.duplicate_keys, found.null_keys), (1, 2));
    assert_eq!(
        lines(&diff),
        [
            r#"-{"a":1,"b":"x","n":1}"#,
            r#"-{"a":1,"b":"x","n":2}"#,
            r#"+{"a":1,"b":"x","n":3}"#,
            r#"~{"a":2,"b":"x","n":1} {"a":2,"b":"x","n":2} n"#,
            r#"-{"a":null,"b":"x","n":1}"#,
            r#"+{"a":null,"b":"x","n":2}"#,
        ]
    );
}

#[tokio::test]
async fn a_key_must_be_on_both_sides() {
    let lake = Fixture::new().await;
    lake.run_all(&[
        "CREATE TABLE t (id BIGINT, n INT)",
        "INSERT INTO t VALUES (1, 1)",
        "ALTER TABLE t ADD COLUMN late INT",
        "UPDATE t SET late = 2",
    ])
    .await;
    let refused = lake.compare("t@main~2", "t@main", &by("late")).await.unwrap_err();
    assert!(refused.to_string().contains("`late`"), "{refused}");
    let unknown = lake.compare("t@main~2", "t@main", &by("idd")).await.unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::ColumnNotFound);
    assert!(unknown.hint().unwrap().contains("`id`"));
    let unknown = lake.compare("u@main~2", "u@main", &by("")).await.unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::TableNotFound);
}

#[tokio::test]
async fn a_merged_model_records_its_key() {
    let lake = Fixture::new().await;
    lake.run("CREATE TABLE t AS SELECT 1 AS id, 'a' AS name UNION ALL SELECT 2, 'b'").await;
    let noted = [("headwater.keys".to_owned(), r#"["ID"]"#.to_owned())];
    let options = SessionOptions { snapshot_properties: noted.into(), ..SessionOptions::default() };
    let session = lake.engine.session(options).unwrap();
    session.execute("UPDATE t SET name = 'B' WHERE id = 2").await.unwrap();
    lake.run("UPDATE t SET name = 'A' WHERE id = 1").await;
    let diff = lake.diff(2, "").await;
    assert_eq!(diff.rows.as_ref().unwrap().key, ["id"]);
    assert_eq!(counts(&diff), known(0, 0, 2));
    assert_eq!(counts(&lake.diff(2, "name").await), known(2, 2, 0), "the requested key is used");
}

#[tokio::test]
async fn nan_and_null_differ_and_each_is_itself() {
    let lake = Fixture::new().await;
    lake.run_all(&[
        "CREATE TABLE t (id BIGINT, x DOUBLE)",
        "INSERT INTO t VALUES (1, 'NaN'::DOUBLE), (2, 'NaN'::DOUBLE), (3, NULL), (4, NULL)",
        "INSERT OVERWRITE t VALUES (1, 'NaN'::DOUBLE), (2, NULL), (3, 'NaN'::DOUBLE), (4, NULL)",
    ])
    .await;
    let diff = lake.diff(1, "id").await;
    assert_eq!(counts(&diff), known(0, 0, 2));
    assert!(rows(&diff).iter().all(|row| row.changed == ["x"]));
}

#[tokio::test]
async fn nested_values_are_compared() {
    let lake = Fixture::new().await;
    lake.run_all(&[
        "CREATE TABLE t AS SELECT 1 AS id, [1, 2] AS list, {'a': 1, 'b': 'x'} AS pair \
         UNION ALL SELECT 2, NULL, {'a': NULL, 'b': 'y'}",
        "INSERT OVERWRITE t SELECT 1, [1, 3], {'a': 1, 'b': 'x'} \
         UNION ALL SELECT 2, NULL, {'a': NULL, 'b': 'y'}",
    ])
    .await;
    let diff = lake.diff(1, "id").await;
    assert_eq!(counts(&diff), known(0, 0, 1));
    assert_eq!(rows(&diff)[0].changed, ["list"]);
    assert_eq!(rows(&diff)[0].after.as_ref().unwrap()["list"], json!([1, 3]));
}

#[tokio::test]
async fn rewritten_rows_do_not_differ() {
    let lake = Fixture::new().await;
    lake.run("CREATE TABLE t AS SELECT value AS id, 'n' || value AS name FROM range(0, 500)").await;
    lake.run("INSERT INTO t SELECT value, 'm' || value FROM range(500, 900)").await;
    lake.run("INSERT OVERWRITE t SELECT * FROM t").await;
    let diff = lake.diff(1, "id").await;
    assert_eq!(counts(&diff), known(0, 0, 0));
    assert_eq!((diff.files_removed, diff.files_added), (2, 1));
    assert!(rows(&diff).is_empty() && diff.columns.is_empty() && diff.statistics.is_empty());
    let same = lake.compare("t@main", "t@main", &by("")).await.unwrap().diff;
    assert_eq!(same.kind, ChangeKind::Same);
    assert_eq!(counts(&same), (Some(0), Some(0), None));
}

#[tokio::test]
async fn added_and_removed_files_are_counted_without_being_read() {
    let lake = Fixture::new().await;
    lake.run_all(&[
        "CREATE TABLE t (id BIGINT)",
        "INSERT INTO t VALUES (3), (1)",
        "INSERT INTO t VALUES (2), (7), (5)",
        "DELETE FROM t WHERE id IN (1, 3)",
    ])
    .await;
    let never = DiffOptions { compare: CompareRows::Never, ..by("") };
    let grown = lake.compare("t@main~2", "t@main~1", &never).await.unwrap().diff;
    assert_eq!(counts(&grown), (Some(0), Some(3), None));
    assert_eq!(grown.rows.as_ref().unwrap().how, ComparisonMethod::Metadata);
    assert!(rows(&grown).is_empty());
    let grown = lake.compare("t@main~2", "t@main~1", &by("id")).await.unwrap().diff;
    assert_eq!(lines(&grown), [r#"+{"id":2}"#, r#"+{"id":5}"#, r#"+{"id":7}"#]);
    let shrunk = lake.diff(1, "").await;
    assert_eq!(counts(&shrunk), (Some(2), Some(0), None));
    assert_eq!(lines(&shrunk), [r#"-{"id":1}"#, r#"-{"id":3}"#]);
    let both = lake.compare("t@main~3", "t@main", &never).await.unwrap().diff;
    assert_eq!(counts(&both), (Some(0), Some(3), None), "what came and went again is not there");
}

#[tokio::test]
async fn without_reading_files_of_both_sides_are_not_compared() {
    let lake = Fixture::new().await;
    lake.run_all(&["CREATE TABLE t AS SELECT 1 AS id", "INSERT OVERWRITE t VALUES (2)"]).await;
    let never = DiffOptions { compare: CompareRows::Never, ..by("") };
    let diff = lake.compare("t@main~1", "t@main", &never).await.unwrap().diff;
    assert_eq!(counts(&diff), (None, None, None));
    let found = diff.rows.unwrap();
    assert_eq!(found.how, ComparisonMethod::NotCompared);
    assert!(found.reason.is_some());
}

#[tokio::test]
async fn pages_hold_every_row_once() {
    let lake = Fixture::new().await;
    lake.run("CREATE TABLE t AS SELECT value AS id, value AS n FROM range(0, 100)").await;
    lake.run("UPDATE t SET n = n + 1 WHERE id % 2 = 0").await;
    lake.run("INSERT INTO t SELECT value, value FROM range(100, 120)").await;
    for (from, expected) in [("t@main~2", 70), ("t@main~1", 20)] {
        let mut ids = Vec::new();
        let mut skip = 0;
        loop {
            let options = DiffOptions { skip, limit: 7, ..by("id") };
            let diff = lake.compare(from, "t@main", &options).await.unwrap().diff;
            assert_eq!(diff.rows_added, Some(20));
            let id = |row: &RowDiff| row.after.as_ref().unwrap()["id"].as_i64().unwrap();
            ids.extend(rows(&diff).iter().map(id));
            let Some(next) = diff.rows.unwrap().next_page_token else { break };
            skip = next.parse().unwrap();
        }
        assert_eq!(ids.len(), expected);
        assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] != pair[1]));
    }
}

#[tokio::test]
async fn pages_far_into_many_rows_are_found_in_little_memory() {
    let lake = Fixture::with_memory(64 << 20).await;
    lake.run("CREATE TABLE t (id BIGINT, text VARCHAR)").await;
    lake.run(
        "INSERT INTO t SELECT 999999 - value, 'a row with some more text, number ' || value \
         FROM range(0, 1000000)",
    )
    .await;
    for (skip, expected) in [(800_000, 3), (999_998, 2), (1_000_000, 0)] {
        let memory_bytes = Some(24 << 20);
        let options = DiffOptions { skip, limit: 3, memory_bytes, ..by("id") };
        let diff = lake.compare("t@main~1", "t@main", &options).await.unwrap().diff;
        assert_eq!(counts(&diff), known(0, 1_000_000, 0));
        let ids = rows(&diff).iter().map(|row| row.after.as_ref().unwrap()["id"].as_u64().unwrap());
        assert!(ids.eq((skip..).take(expected)), "{:?}", lines(&diff));
        let next = diff.rows.unwrap().next_page_token;
        assert_eq!(next.as_deref(), (skip == 800_000).then_some("800003"));
    }
}

#[tokio::test]
async fn the_rows_of_all_tables_fit_into_one_answer() {
    let lake = Fixture::new().await;
    for table in ["a", "b", "c", "d", "e"] {
        let rows = "SELECT value AS id, repeat('x', 1000000) AS text FROM range(0, 7)";
        lake.run(&format!("CREATE TABLE {table} AS {rows}")).await;
    }
    let options =
        DiffOptions { limit: 100, compare: CompareRows::Always, ..DiffOptions::default() };
    let (from, to) = ("main~5".parse().unwrap(), "main".parse().unwrap());
    let diff = StateComparer::new(lake.engine.clone()).diff(&from, &to, &options).await.unwrap();
    let shown: Vec<_> = diff.tables.iter().map(|table| rows(table).len()).collect();
    assert_eq!(shown, [7, 7, 2, 1, 0]);
    let reasons = diff.tables.iter().map(|table| table.rows.as_ref().unwrap().reason.is_some());
    assert!(reasons.eq([false, false, false, false, true]));
    assert!(diff.tables.iter().all(|table| table.rows_added == Some(7)));
}

#[tokio::test]
async fn a_key_column_is_found_by_its_current_name() {
    let lake = Fixture::new().await;
    lake.run_all(&[
        "CREATE TABLE t (a BIGINT, b BIGINT)",
        "INSERT INTO t VALUES (1, 10), (2, 20)",
        "ALTER TABLE t RENAME COLUMN a TO c",
        "ALTER TABLE t RENAME COLUMN b TO a",
        "ALTER TABLE t RENAME COLUMN c TO b",
        "UPDATE t SET b = 3 WHERE a = 20",
    ])
    .await;
    let diff = lake.diff(4, "a").await;
    assert_eq!(diff.rows.as_ref().unwrap().key, ["a"]);
    assert_eq!(lines(&diff), [r#"~{"b":2,"a":20} {"b":3,"a":20} b"#]);
    let missing = lake.compare("t@main~1", "t@main", &by("nocol")).await.unwrap_err();
    assert_eq!(missing.code(), ErrorCode::ColumnNotFound);
    assert_eq!(missing.hint().as_deref(), Some("The columns that can be a key are `b`, `a`."));
}

#[tokio::test]
async fn negative_zero_is_zero() {
    let lake = Fixture::new().await;
    lake.run_all(&[
        "CREATE TABLE t AS SELECT 1 AS id, CAST(0 AS DOUBLE) AS x, [CAST(0 AS FLOAT)] AS l, \
         {'d': CAST(0 AS DOUBLE)} AS s",
        "INSERT OVERWRITE t SELECT 1, -CAST(0 AS DOUBLE), [-CAST(0 AS FLOAT)], \
         {'d': -CAST(0 AS DOUBLE)}",
    ])
    .await;
    assert_eq!(counts(&lake.diff(1, "id").await), known(0, 0, 0));
}

#[tokio::test]
async fn a_compaction_changes_no_row() {
    let lake = Fixture::new().await;
    lake.run(
        "CREATE TABLE t (id BIGINT, name VARCHAR, at TIMESTAMP(9)) \
         TBLPROPERTIES ('format-version' = '3', 'write.delete.mode' = 'merge-on-read')",
    )
    .await;
    for id in 0..6 {
        let at = format!("2026-01-01T00:00:00.00000000{id}");
        lake.run(&format!("INSERT INTO t VALUES ({id}, 'n{id}', '{at}')")).await;
    }
    lake.run("DELETE FROM t WHERE id = 3").await;
    let request = MaintainRequest { compact: true, ..MaintainRequest::default() };
    let (table, progress) = ("t".parse().unwrap(), Arc::new(|_, _| {}));
    let cancelled = CancellationToken::new();
    let maintained =
        lake.engine.lake().maintenance().run("main", Some(&table), &request, progress, cancelled);
    Box::pin(maintained).await.unwrap();
    let diff = lake.diff(1, "id").await;
    assert!(diff.files_removed > 1 && diff.files_added == 1, "{diff:?}");
    assert_eq!(counts(&diff), known(0, 0, 0));
    assert!(rows(&diff).is_empty());
    let diff = lake.diff(2, "id").await;
    assert_eq!(counts(&diff), known(1, 0, 0));
}

#[tokio::test]
async fn a_renamed_or_widened_column_is_itself() {
    let lake = Fixture::new().await;
    lake.run_all(&[
        "CREATE TABLE t (id INT, name VARCHAR)",
        "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
        "ALTER TABLE t RENAME COLUMN name TO label",
        "ALTER TABLE t ALTER COLUMN id TYPE BIGINT",
        "UPDATE t SET label = 'B' WHERE id = 2",
    ])
    .await;
    let diff = lake.diff(3, "id").await;
    let columns: Vec<_> =
        diff.columns.iter().map(|c| (&*c.column, c.renamed_from.as_deref())).collect();
    assert_eq!(columns, [("id", None), ("label", Some("name"))]);
    assert_eq!(diff.columns[0].before.as_deref(), Some("int"));
    assert_eq!(diff.columns[0].after.as_deref(), Some("long"));
    assert_eq!(lines(&diff), [r#"~{"id":2,"label":"b"} {"id":2,"label":"B"} label"#]);
    let renamed = lake.compare("t@main~3", "t@main~1", &by("id")).await.unwrap().diff;
    assert_eq!(counts(&renamed), known(0, 0, 0), "no row differs by a name");
    let backwards = lake.compare("t@main", "t@main~3", &by("id")).await.unwrap().diff;
    assert_eq!(counts(&backwards), known(0, 0, 1));
}

#[tokio::test]
async fn an_added_column_has_its_default_in_older_rows() {
    let lake = Fixture::new().await;
    lake.run_all(&[
        "CREATE TABLE t (id BIGINT) TBLPROPERTIES ('format-version' = '3')",
        "INSERT INTO t VALUES (1), (2)",
        "ALTER TABLE t ADD COLUMN level INT NOT NULL DEFAULT 5, ADD COLUMN note VARCHAR",
        "UPDATE t SET level = 6 WHERE id = 2",
    ])
    .await;
    let diff = lake.diff(2, "id").await;
    let after: Vec<_> =
        diff.columns.iter().map(|c| (&*c.column, &c.before, c.after.as_deref())).collect();
    assert_eq!(after, [("level", &None, Some("int")), ("note", &None, Some("string"))]);
    assert_eq!(
        lines(&diff),
        [r#"~{"id":2,"level":5,"note":null} {"id":2,"level":6,"note":null} level"#]
    );
}

#[tokio::test]
async fn a_recreated_column_has_new_values() {
    let lake = Fixture::new().await;
    lake.run_all(&[
        "CREATE TABLE t (id BIGINT, n INT, gone INT)",
        "INSERT INTO t VALUES (1, 10, 1)",
        "INSERT INTO t VALUES (2, 20, 2)",
        "ALTER TABLE t DROP COLUMN n",
        "ALTER TABLE t ADD COLUMN n VARCHAR, DROP COLUMN gone",
        "INSERT INTO t VALUES (3, 'x')",
    ])
    .await;
    let diff = lake.diff(3, "id").await;
    assert_eq!(
        lines(&diff),
        [
            r#"~{"id":1,"n":"10"} {"id":1,"n":null} n"#,
            r#"~{"id":2,"n":"20"} {"id":2,"n":null} n"#,
            r#"+{"id":3,"n":"x"}"#,
        ]
    );
    assert_eq!(diff.rows.unwrap().not_compared, ["gone"]);
    let gone = diff.columns.iter().find(|column| column.column == "gone").unwrap();
    assert_eq!((gone.before.as_deref(), gone.after.as_deref()), (Some("int"), None));
}

#[tokio::test]
async fn a_recreated_table_is_compared_by_column_names() {
    let lake = Fixture::new().await;
    lake.run_all(&[
        "CREATE TABLE t AS SELECT 1 AS id, 'a' AS name UNION ALL SELECT 2, 'b'",
        "DROP TABLE t",
        "CREATE TABLE t AS SELECT 'b' AS name, 2 AS id UNION ALL SELECT 'c', 3",
        "CREATE TABLE u AS SELECT 2 AS id, 'B' AS name",
    ])
    .await;
    let diff = lake.diff(3, "id").await;
    assert_eq!(counts(&diff), known(1, 1, 0));
    let other = lake.compare("t@main", "u@main", &by("id")).await.unwrap().diff;
    assert_eq!(counts(&other), known(1, 0, 1), "two tables can be compared");
    let none = lake.compare("t@main~2", "t@main", &by("id")).await.unwrap().diff;
    assert_eq!((none.kind, counts(&none)), (ChangeKind::Added, known(0, 2, 0)));
    assert_eq!(rows(&none).len(), 2);
}

#[tokio::test]
async fn rows_that_delete_files_take_away_are_removed() {
    for version in [2, 3] {
        let lake = Fixture::new().await;
        lake.run(&format!(
            "CREATE TABLE t (id BIGINT, n BIGINT) TBLPROPERTIES ('format-version' = '{version}', \
             'write.delete.mode' = 'merge-on-read', 'write.update.mode' = 'merge-on-read')"
        ))
        .await;
        lake.run("INSERT INTO t SELECT value, value FROM range(0, 1000)").await;
        lake.run("DELETE FROM t WHERE id IN (10, 20)").await;
        let diff = lake.diff(1, "id").await;
        assert_eq!(counts(&diff), known(2, 0, 0));
        assert_eq!((diff.rows_before, diff.rows_after), (Some(1000), Some(998)));
        assert_eq!(lines(&diff), [r#"-{"id":10,"n":10}"#, r#"-{"id":20,"n":20}"#]);
        lake.run("UPDATE t SET n = 0 WHERE id = 30").await;
        let diff = lake.diff(1, "id").await;
        assert_eq!(lines(&diff), [r#"~{"id":30,"n":30} {"id":30,"n":0} n"#]);
        assert_eq!(lake.diff(2, "id").await.rows_removed, Some(2));
    }
}

#[tokio::test]
async fn changed_layout_properties_and_columns_are_reported() {
    let lake = Fixture::new().await;
    lake.run_all(&[
        "CREATE TABLE t (id BIGINT NOT NULL, at TIMESTAMP, place STRUCT<city VARCHAR>) \
         TBLPROPERTIES ('owner' = 'ada')",
        "ALTER TABLE t ALTER COLUMN id DROP NOT NULL",
        "ALTER TABLE t ALTER COLUMN at COMMENT 'when'",
        "ALTER TABLE t ADD COLUMN place.zip INT",
        "ALTER TABLE t ADD PARTITION FIELD day(at)",
        "ALTER TABLE t WRITE ORDERED BY id DESC",
        "ALTER TABLE t SET TBLPROPERTIES ('owner' = 'bob', 'format-version' = '3')",
    ])
    .await;
    let diff = lake.diff(6, "").await;
    let change = |at: usize| {
        let change = &diff.columns[at].changes[0];
        (&*diff.columns[at].column, &*change.key, change.before.as_deref(), change.after.as_deref())
    };
    assert_eq!(change(0), ("id", "nullable", Some("no"), Some("yes")));
    assert_eq!(change(1), ("at", "comment", None, Some("when")));
    let zip = &diff.columns[2];
    assert_eq!((&*zip.column, zip.after.as_deref()), ("place.zip", Some("int")));
    assert_eq!(diff.columns.len(), 3);
    let values = |values: &[headwater_model::PropertyDiff]| -> Vec<String> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let line = |value: &headwater_model::PropertyDiff| {
            format!("{} {}>{}", value.key, text(&value.before), text(&value.after))
        };
        values.iter().map(line).collect()
    };
    assert_eq!(
        values(&diff.layout),
        ["format-version 2>3", "partition >day(at)", "sort-order >id desc"]
    );
    assert_eq!(values(&diff.properties), ["owner ada>bob"]);
    assert_eq!(counts(&diff), (Some(0), Some(0), None));
}

#[tokio::test]
async fn statistics_report_if_they_are_exact() {
    let lake = Fixture::new().await;
    lake.run_all(&[
        "CREATE TABLE t (id BIGINT, name VARCHAR, same INT) \
         TBLPROPERTIES ('write.delete.mode' = 'merge-on-read')",
        "INSERT INTO t VALUES (1, 'a', 1), (5, NULL, 1), (9, 'c', 1)",
        "INSERT INTO t VALUES (12, NULL, 1)",
        "DELETE FROM t WHERE id = 9",
    ])
    .await;
    let of = |nulls: u64, min: Value, max: Value, exact: bool| ColumnStatistics {
        nulls: Some(nulls),
        min: Some(min),
        max: Some(max),
        distinct: None,
        exact,
    };
    let grown = lake.compare("t@main~2", "t@main~1", &by("")).await.unwrap().diff;
    let id = &grown.statistics[0];
    assert_eq!(id.before, Some(of(0, json!(1), json!(9), true)));
    assert_eq!(id.after, Some(of(0, json!(1), json!(12), true)));
    let columns: Vec<_> = grown.statistics.iter().map(|one| &*one.column).collect();
    assert_eq!(columns, ["id", "name"], "`same` has the same");
    assert!(!grown.statistics[1].after.as_ref().unwrap().exact, "bounds of texts may be cut");
    let options = DiffOptions { statistics: true, ..by("") };
    let read = lake.compare("t@main~1", "t@main", &options).await.unwrap().diff;
    let name = read.statistics.iter().find(|one| one.column == "name").unwrap();
    let expected = ColumnStatistics { distinct: Some(1), ..of(2, json!("a"), json!("a"), true) };
    assert_eq!(name.after, Some(expected));
}

#[tokio::test]
async fn snapshots_of_one_table_are_compared() {
    let lake = Fixture::new().await;
    lake.run_all(&[
        "CREATE TABLE t (id BIGINT)",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (2)",
        "ALTER TABLE t RENAME COLUMN id TO number",
        "INSERT INTO t VALUES (3)",
    ])
    .await;
    let here = lake.compare("t@main~2", "t@main", &by("")).await.unwrap();
    let (from, to) = (here.from_snapshot.unwrap(), here.to_snapshot.unwrap());
    let found = lake.compare(&format!("t@main#{from}"), &format!("t@main#{to}"), &by("")).await;
    let found = found.unwrap();
    assert_eq!((found.from_snapshot, found.to_snapshot), (Some(from), Some(to)));
    assert_eq!(lines(&found.diff), [r#"+{"number":3}"#]);
    assert_eq!(found.diff.columns[0].renamed_from.as_deref(), Some("id"));
    assert!(lake.compare("t@main#7", "t@main", &by("")).await.is_err());
}

#[tokio::test]
async fn a_diff_of_refs_has_every_table_with_some_rows() {
    let lake = Fixture::new().await;
    lake.run_all(&[
        "CREATE TABLE same AS SELECT 1 AS id",
        "CREATE TABLE goes AS SELECT 1 AS id",
        "CREATE TABLE t AS SELECT value AS id FROM range(0, 10)",
        "CREATE VIEW v AS SELECT id FROM t",
        "DROP TABLE goes",
        "DELETE FROM t WHERE id > 7",
        "CREATE TABLE comes AS SELECT value AS id FROM range(0, 10)",
        "CREATE OR REPLACE VIEW v AS SELECT id, 1 AS one FROM t",
    ])
    .await;
    let options = DiffOptions { limit: 3, ..DiffOptions::default() };
    let (from, to) = ("main~4".parse().unwrap(), "main".parse().unwrap());
    let diff = StateComparer::new(lake.engine.clone()).diff(&from, &to, &options).await.unwrap();
    let found: Vec<_> = diff
        .tables
        .iter()
        .map(|table| (table.table.to_string(), table.kind, table.rows_removed, table.rows_added))
        .collect();
    let text = str::to_owned;
    assert_eq!(
        found,
        [
            (text("comes"), ChangeKind::Added, Some(0), Some(10)),
            (text("goes"), ChangeKind::Removed, Some(1), Some(0)),
            (text("t"), ChangeKind::Changed, Some(2), Some(0)),
            (text("v"), ChangeKind::Changed, None, None),
        ]
    );
    assert_eq!(rows(&diff.tables[0]).len(), 3);
    assert_eq!(lines(&diff.tables[2]), [r#"-{"id":8}"#, r#"-{"id":9}"#]);
    assert!(diff.tables[3].view.is_some());
    assert_eq!(diff.tables[3].columns[0].column, "one");
}

#[tokio::test]
async fn many_rows_are_compared_in_little_memory() {
    let lake = Fixture::with_memory(64 << 20).await;
    lake.run(
        "CREATE TABLE t AS SELECT value AS id, 'a row with some text, number ' || value AS text \
         FROM range(0, 1000000)",
    )
    .await;
    lake.run(
        "INSERT OVERWRITE t SELECT id, CASE WHEN id = 500000 THEN 'other' ELSE text END \
         FROM t WHERE id <> 7 UNION ALL SELECT 2000000, 'new'",
    )
    .await;
    let options = DiffOptions { memory_bytes: Some(48 << 20), ..by("id") };
    let diff = lake.compare("t@main~1", "t@main", &options).await.unwrap().diff;
    assert_eq!(counts(&diff), known(1, 1, 1));
    assert_eq!(rows(&diff).len(), 3);
}
