//! Incremental models: rows merged by keys, and inputs read incrementally.

use std::sync::Arc;

use headwater_model::{
    ErrorCode, JobEventKind, LogStream, MaintainRequest, MergeRequest, RevertRequest, StepStatus,
    TableName,
};
use tokio_util::sync::CancellationToken;

use crate::support::{World, files, refusal};

const MERGED: &str = "-- headwater: materialization = merge\n-- headwater: keys = id\n";
const APPENDED: &str =
    "-- headwater: materialization = append\n-- headwater: incremental = events\n";

async fn world() -> World {
    let world = World::new().await;
    let rows = "CREATE TABLE events AS SELECT * FROM (VALUES (1, 'a', 10), (2, 'b', 20)) AS v(id, name, n)";
    world.sql("main", &[rows]).await;
    world
}

async fn table(world: &World, query: &str) -> Vec<String> {
    let shown = world.sql("main", &[query]).await;
    let rows = shown.lines().filter(|line| line.starts_with('|')).skip(1);
    rows.map(|row| row.split_whitespace().filter(|word| *word != "|").collect::<Vec<_>>().join(" "))
        .collect()
}

#[tokio::test]
async fn partitions_are_overwritten_by_sql_and_python() {
    let world = world().await;
    let head = "-- headwater: materialization = overwrite_partitions\n\
                -- headwater: partition_by = name\n";
    let python = "import headwater\n@headwater.model(materialization='overwrite_partitions', \
                  partition_by='name', overwrite_filter='n >= $least')\n\
                  def large(t=headwater.Model('events', filter='n >= $least')):\n    return t\n";
    let sql = format!("{head}SELECT id, name, n FROM events WHERE name <> 'z'");
    let manifest = "[defaults]\npython = '3.11'\n[parameters.least]\ntype = 'int'\ndefault = 20\n";
    let project = files(manifest, &[("latest.sql", &sql), ("m.py", python)]);
    world.run(&project).await.report();
    world.sql("main", &["DELETE FROM events WHERE id = 1", "UPDATE events SET n = 21"]).await;
    world.run(&project).await.report();
    assert_eq!(table(&world, "SELECT * FROM latest ORDER BY id").await, ["1 a 10", "2 b 21"]);
    assert_eq!(table(&world, "SELECT * FROM large ORDER BY id").await, ["2 b 21"]);
    assert!(world.run(&project).await.all(StepStatus::Unchanged));

    for (settings, expected) in [
        (
            "-- headwater: materialization = overwrite_partitions\n",
            "overwrites partitions, but is not partitioned",
        ),
        ("-- headwater: overwrite_filter = id = 1\n", "does not overwrite partitions"),
        (
            &*format!("{head}-- headwater: overwrite_filter = id =\n"),
            "`overwrite_filter` cannot be used",
        ),
        (&*format!("{head}-- headwater: incremental = events\n"), "reads `events` incrementally"),
    ] {
        let sql = format!("{settings}SELECT * FROM events");
        let refused = refusal(&files("", &[("m.sql", &sql)]));
        assert!(refused.contains(expected), "{settings}{refused}");
    }
}

#[tokio::test]
async fn rows_are_merged_by_their_keys() {
    let world = world().await;
    let project = files("", &[("latest.sql", &format!("{MERGED}SELECT id, name, n FROM events"))]);
    let all = "SELECT * FROM latest ORDER BY id";
    world.run(&project).await.report();
    assert_eq!(table(&world, all).await, ["1 a 10", "2 b 20"]);
    assert!(world.run(&project).await.all(StepStatus::Unchanged));

    // Rows that the model no longer returns stay; rows with an existing key are replaced.
    world
        .sql("main", &["DELETE FROM events WHERE id = 1", "INSERT INTO events VALUES (3, 'c', 30)"])
        .await;
    world.sql("main", &["UPDATE events SET n = 21 WHERE id = 2"]).await;
    let ran = world.run(&project).await;
    assert_eq!(ran.step("latest").rows, Some(2));
    assert_eq!(table(&world, all).await, ["1 a 10", "2 b 21", "3 c 30"]);
    assert!(world.run(&project).await.all(StepStatus::Unchanged));

    // Changes by other writers stay in the table, and the model's children read them.
    world.sql("main", &["UPDATE latest SET name = 'x' WHERE id = 1"]).await;
    assert!(world.run(&project).await.all(StepStatus::Unchanged));
    let forced = world.run_with(&project, |request| request.no_cache = true).await;
    assert!(forced.all(StepStatus::Succeeded));
    assert_eq!(table(&world, all).await, ["1 x 10", "2 b 21", "3 c 30"]);
    assert!(
        world.run(&project).await.all(StepStatus::Unchanged),
        "nothing changed, and that is noted"
    );
}

#[tokio::test]
async fn python_models_that_merge_can_add_and_drop_columns() {
    let world = world().await;
    let code = |columns: &str| {
        format!(
            "import headwater\n\n@headwater.model(materialization=\"merge\", keys=[\"ID\", \"name\"])\n\
             @headwater.python(\"3.11\")\n\
             def kept(events=headwater.Model(\"events\")):\n    return events.select([{columns}])\n"
        )
    };
    let first = files("", &[("m.py", &code("'id', 'name'"))]);
    world.run(&first).await.report();
    world.run(&files("", &[("m.py", &code("'n', 'name', 'id'"))])).await.report();
    let all = "SELECT id, name, n FROM kept ORDER BY id";
    assert_eq!(table(&world, all).await, ["1 a 10", "2 b 20"]);
    // A column that the model no longer returns keeps its values.
    world.sql("main", &["INSERT INTO events VALUES (1, 'z', 5)"]).await;
    world.run(&first).await.report();
    let all = "SELECT id, name, coalesce(n, -1) FROM kept ORDER BY id, name";
    assert_eq!(table(&world, all).await, ["1 a 10", "1 z -1", "2 b 20"]);
}

#[tokio::test]
async fn rows_with_duplicate_keys_are_rejected() {
    let world = world().await;
    let ran =
        async |query: &str| world.run(&files("", &[("m.sql", &format!("{MERGED}{query}"))])).await;
    let twice = ran("SELECT 7 AS id, n FROM events").await;
    assert_eq!(twice.outcome.as_ref().unwrap_err().code, ErrorCode::BadRow);
    insta::assert_snapshot!(twice.refusal(), @"
    bad_row: model `m` returned 2 rows with `id` 7 (m.sql:1); `main` is unchanged
      hint: Return one row for each key, or add the column that differs to `keys`.
    ");
    insta::assert_snapshot!(ran("SELECT CASE WHEN n = 10 THEN id END AS id FROM events").await.refusal(), @"
    bad_row: model `m` returned a row whose key `id` is null (m.sql:1); `main` is unchanged
      hint: Leave out rows without a key with `WHERE id IS NOT NULL`, or name other `keys`.
    ");
    insta::assert_snapshot!(ran("SELECT n FROM events").await.refusal(), @"
    invalid_project: `m` does not return column `id`, which is one of its keys (m.sql:1)
      hint: The columns are `n`.
    ");
    assert_eq!(world.branches().await, []);
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    let refused = |text: &str| refusal(&files("", &[("m.sql", text)]));
    let query = "SELECT id FROM events";
    insta::assert_snapshot!(refused(&format!("-- headwater: materialization = merge\n{query}")), @"
    invalid_project: `m` has the materialization `merge`, but no `keys` (m.sql:1)
      hint: Set `keys` to the columns that identify its rows.
    ");
    insta::assert_snapshot!(refused(&format!("-- headwater: keys = id\n{query}")), @"
    invalid_project: `m` has `keys`, which only the materialization `merge` uses (m.sql:1)
      hint: Set `materialization` to `merge`, or leave `keys` out.
    ");
    insta::assert_snapshot!(refused(&format!("{}{query}", MERGED.replace("= id", "= id, id"))), @"
    invalid_project: `m` lists the key `id` twice (m.sql:1)
      hint: Name each key once.
    ");
    insta::assert_snapshot!(refused(&format!("-- headwater: incremental = events\n{query}")), @"
    invalid_project: `m` reads `events` incrementally, but is a model that does not add rows to a table (m.sql:2)
      hint: Set `materialization` to `append` or `merge`, or read the whole table.
    ");
    insta::assert_snapshot!(refused(&format!("{}{query}", APPENDED.replace("= events", "= event"))), @"
    invalid_project: `m` does not read `event` (m.sql:2)
      hint: Did you mean `events`?
    ");
    let other = format!("{APPENDED}SELECT id FROM \"events@dev\"");
    insta::assert_snapshot!(refused(&other), @"
    invalid_project: `m` reads a table at another ref incrementally, which is not supported (m.sql:3)
      hint: Read the table at the run's own branch.
    ");
}

#[tokio::test]
async fn only_new_rows_are_read() {
    let world = world().await;
    let count =
        "-- headwater: materialization = replace\nSELECT count(*) AS n, sum(n) AS sum FROM log";
    let log = format!("{APPENDED}SELECT id, upper(name) AS name, n FROM events");
    let project = files("", &[("log.sql", &log), ("count.sql", count)]);
    let counted = "SELECT n, sum FROM count";
    world.run(&project).await.report();
    assert_eq!(table(&world, counted).await, ["2 30"]);
    assert!(world.run(&project).await.all(StepStatus::Unchanged));

    world
        .sql(
            "main",
            &["INSERT INTO events VALUES (3, 'c', 30)", "INSERT INTO events VALUES (4, 'd', 40)"],
        )
        .await;
    let ran = world.run(&project).await;
    assert_eq!(ran.step("log").rows, Some(2));
    assert_eq!(ran.step("log").usage.rows_read, 2);
    assert_eq!(table(&world, counted).await, ["4 100"]);

    // Rows that another writer adds to the model's table do not make the model out of date.
    world.sql("main", &["INSERT INTO log VALUES (9, 'X', 1)"]).await;
    assert_eq!(world.run(&project).await.steps(), "count succeeded, log unchanged");
    // After a change of the code, existing rows stay, and new rows are computed by the new code.
    let lower = files("", &[("log.sql", &log.replace("upper", "lower")), ("count.sql", count)]);
    world.sql("main", &["INSERT INTO events VALUES (5, 'E', 50)"]).await;
    world.run(&lower).await.report();
    let names = "SELECT name FROM log ORDER BY id";
    assert_eq!(table(&world, names).await, ["A", "B", "C", "D", "e", "X"]);

    // A run without the cache rebuilds the table.
    world.run_with(&lower, |request| request.no_cache = true).await.report();
    assert_eq!(table(&world, names).await, ["a", "b", "c", "d", "e"]);
    assert!(world.run(&lower).await.all(StepStatus::Unchanged));
}

#[tokio::test]
async fn a_model_that_appends_all_rows_again_gets_a_hint() {
    let world = world().await;
    let whole = "-- headwater: materialization = append\nSELECT id FROM events";
    let project = files("", &[("log.sql", whole)]);
    let hints = |ran: &crate::support::Ran| {
        let texts = ran.events.iter().filter_map(|event| match event {
            JobEventKind::Log { stream: LogStream::System, model: Some(model), text, .. } => {
                Some(format!("{model}: {text}"))
            }
            _ => None,
        });
        texts.collect::<Vec<_>>()
    };
    let again = |request: &mut headwater_model::RunRequest| request.no_cache = true;
    assert_eq!(hints(&world.run(&project).await), Vec::<String>::new());
    world.sql("main", &["INSERT INTO events VALUES (3, 'c', 30)"]).await;
    let hinted = hints(&world.run(&project).await);
    assert_eq!(hinted.len(), 1, "{hinted:?}");
    assert!(hinted[0].starts_with("log: hint: `log` appends all of its rows again"), "{hinted:?}");
    assert_eq!(table(&world, "SELECT count(*) FROM log").await, ["5"]);
    let project = files("", &[("log.sql", &format!("{APPENDED}SELECT id FROM events"))]);
    world.run_with(&project, again).await.report();
    world.sql("main", &["INSERT INTO events VALUES (4, 'd', 40)"]).await;
    assert_eq!(hints(&world.run(&project).await), Vec::<String>::new());
}

#[tokio::test]
async fn a_failed_run_does_not_advance_read_positions() {
    let world = world().await;
    let log = format!("{APPENDED}SELECT id, 100 / (id - $bad) AS share FROM events");
    let manifest = |bad: u32| format!("[parameters.bad]\ntype = \"int\"\ndefault = {bad}\n");
    let project = |bad| files(&manifest(bad), &[("log.sql", &log)]);
    world.run(&project(9)).await.report();
    world.sql("main", &["INSERT INTO events VALUES (9, 'i', 90)"]).await;
    assert!(world.run(&project(9)).await.outcome.is_err());
    let ran = world.run(&project(8)).await;
    assert_eq!((ran.report().tables.len(), ran.step("log").rows), (1, Some(1)));
    assert_eq!(table(&world, "SELECT count(*) FROM log").await, ["3"]);
}

#[tokio::test]
async fn models_read_only_new_rows_of_other_models() {
    let world = world().await;
    let log = format!("{APPENDED}SELECT id, n FROM events");
    let code = "import headwater\n\n\
                @headwater.model(materialization=\"merge\", keys=[\"id\"])\n@headwater.python(\"3.11\")\n\
                def best(\n    log=headwater.Model(\"log\", columns=[\"id\", \"n\"], filter=\"n > 0\", incremental=True),\n\
                    events=headwater.Model(\"events\"),\n):\n    \
                    print(\"new\", log.num_rows, \"of\", events.num_rows)\n    return log\n";
    let project = files("", &[("log.sql", &log), ("m.py", code)]);
    world.run(&project).await.report();
    world.sql("main", &["INSERT INTO events VALUES (3, 'c', 30), (4, 'd', -1)"]).await;
    let ran = world.run(&project).await;
    assert_eq!(ran.report().tables, ["best", "log"]);
    assert_eq!(ran.printed(), ["best m.py:9 new 1 of 4"]);
    assert_eq!(table(&world, "SELECT id, n FROM best ORDER BY id").await, ["1 10", "2 20", "3 30"]);
    assert!(world.run(&project).await.all(StepStatus::Unchanged));
}

#[tokio::test]
async fn rows_are_not_appended_twice_if_the_new_rows_are_unknown() {
    let world = world().await;
    let log = files("", &[("log.sql", &format!("{APPENDED}SELECT id, n FROM events"))]);
    let merged =
        format!("-- headwater: incremental = public.events\n{MERGED}SELECT id, n FROM events");
    let merged = files("", &[("latest.sql", &merged)]);
    world.run(&log).await.report();
    world.run(&merged).await.report();
    world.sql("main", &["UPDATE events SET n = 11 WHERE id = 1"]).await;
    insta::assert_snapshot!(world.plan(&log).await, @"
    commit_conflict: cannot determine the rows added to `events` since `log` last read it: rows were changed, not only appended (log.sql:3)
      hint: Run with `--no-cache`: the model's table is then recomputed from all its inputs.
    ");
    let refused = world.run(&log).await;
    assert_eq!(refused.outcome.as_ref().unwrap_err().code, ErrorCode::CommitConflict);
    world.run_with(&log, |request| request.no_cache = true).await.report();
    assert_eq!(table(&world, "SELECT n FROM log ORDER BY n").await, ["11", "20"]);
    // A `merge` model may read rows again, because their keys prevent duplicates.
    world.run(&merged).await.report();
    assert_eq!(table(&world, "SELECT n FROM latest ORDER BY n").await, ["11", "20"]);

    // A recreated table is a different table.
    world
        .sql(
            "main",
            &["DROP TABLE events", "CREATE TABLE events AS SELECT 5 AS id, 'e' AS name, 50 AS n"],
        )
        .await;
    assert!(world.plan(&log).await.starts_with("commit_conflict"));

    // The model appended all rows so far, so no read position is recorded.
    let whole = "-- headwater: materialization = append\nSELECT id, n FROM events";
    world.run(&files("", &[("other.sql", whole)])).await.report();
    let other = files("", &[("other.sql", &format!("{APPENDED}SELECT id, n FROM events"))]);
    insta::assert_snapshot!(world.plan(&other).await, @"
    commit_conflict: cannot determine the rows added to `events` since `other` last read it: the position is unknown (other.sql:3)
      hint: Run with `--no-cache`: the model's table is then recomputed from all its inputs.
    ");

    // A table that is replaced in each run has no new rows.
    let parent = "-- headwater: materialization = replace\nSELECT 1 AS id";
    let child = APPENDED.replace("events", "parent") + "SELECT id FROM parent";
    let project = files("", &[("parent.sql", parent), ("child.sql", &child)]);
    insta::assert_snapshot!(world.plan(&project).await, @"
    invalid_project: `child` reads `parent` incrementally, but `parent` does not append rows to a table (child.sql:3)
      hint: Set the materialization of that model to `append`, or read the whole table.
    ");
}

#[tokio::test]
async fn each_branch_has_its_own_read_positions() {
    let world = world().await;
    let project = files("", &[("log.sql", &format!("{APPENDED}SELECT id FROM events"))]);
    world.run(&project).await.report();
    world.branch("dev").await;
    world.sql("main", &["INSERT INTO events VALUES (3, 'c', 30)"]).await;
    world.sql("dev", &["INSERT INTO events VALUES (4, 'd', 40)"]).await;
    let on_dev =
        world.run_with(&project, |request| request.reference = Some("dev".parse().unwrap())).await;
    assert_eq!(on_dev.step("log").rows, Some(1));
    let on_main = world.run(&project).await;
    assert_eq!(on_main.step("log").rows, Some(1));
    assert_eq!(table(&world, "SELECT id FROM log ORDER BY id").await, ["1", "2", "3"]);

    // After the merge, the table contains rows that the read positions of one side do not cover.
    let merge = MergeRequest::new("dev".parse().unwrap());
    world.lake.merge("main", merge, "tester").await.unwrap();
    assert_eq!(table(&world, "SELECT id FROM log ORDER BY id").await, ["1", "2", "3", "4"]);
    let refused = world.run(&project).await;
    assert_eq!(refused.outcome.as_ref().unwrap_err().code, ErrorCode::CommitConflict);
    assert_eq!(table(&world, "SELECT id FROM log ORDER BY id").await, ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn new_rows_are_found_beyond_the_snapshots_of_a_metadata_file() {
    let world = world().await;
    let project = files("", &[("log.sql", &format!("{APPENDED}SELECT id FROM events"))]);
    world.run(&project).await.report();
    let inserts: Vec<String> =
        (10..130).map(|id| format!("INSERT INTO events VALUES ({id}, 'x', 0)")).collect();
    let inserts: Vec<&str> = inserts.iter().map(String::as_str).collect();
    world.sql("main", &inserts).await;
    let ran = world.run(&project).await;
    assert_eq!(ran.step("log").rows, Some(120));
    assert_eq!(table(&world, "SELECT count(*), min(id) FROM log").await, ["122 1"]);
}

#[tokio::test]
async fn reverted_rows_do_not_count_as_read() {
    let world = world().await;
    let project = files("", &[("log.sql", &format!("{APPENDED}SELECT id FROM events"))]);
    world.run(&project).await.report();
    world.sql("main", &["INSERT INTO events VALUES (3, 'c', 30)"]).await;
    let second = world.run(&project).await;
    world.sql("main", &["INSERT INTO log VALUES (99)"]).await;
    let revert: RevertRequest =
        serde_json::from_value(serde_json::json!({ "run": second.id.to_string() })).unwrap();
    world.lake.revert("main", revert, "tester").await.unwrap();
    assert_eq!(table(&world, "SELECT id FROM log ORDER BY id").await, ["1", "2", "99"]);
    // The rows that the reverted run read count as new again. The next run reads these rows once.
    let again = world.run(&project).await;
    assert_eq!(again.step("log").rows, Some(1));
    assert_eq!(table(&world, "SELECT id FROM log ORDER BY id").await, ["1", "2", "3", "99"]);
    assert!(world.run(&project).await.all(StepStatus::Unchanged));
}

#[tokio::test]
async fn rows_reverted_with_their_input_are_not_read() {
    let world = world().await;
    let log = format!("{APPENDED}SELECT id FROM events");
    let more = APPENDED.replace("events", "log") + "SELECT id * 10 AS id FROM log";
    let project = files("", &[("log.sql", &log), ("more.sql", &more)]);
    world.run(&project).await.report();
    world.sql("main", &["INSERT INTO events VALUES (3, 'c', 30)"]).await;
    let second = world.run(&project).await;
    let revert: RevertRequest =
        serde_json::from_value(serde_json::json!({ "run": second.id.to_string() })).unwrap();
    world.lake.revert("main", revert, "tester").await.unwrap();
    assert_eq!(table(&world, "SELECT id FROM more ORDER BY id").await, ["10", "20"]);
    world.sql("main", &["INSERT INTO log VALUES (99)"]).await;
    world.run(&project).await.report();
    assert_eq!(table(&world, "SELECT id FROM log ORDER BY id").await, ["1", "2", "3", "99"]);
    assert_eq!(table(&world, "SELECT id FROM more ORDER BY id").await, ["10", "20", "30", "990"]);
}

#[tokio::test]
async fn a_cherry_picked_run_keeps_its_read_positions() {
    let world = world().await;
    let project = files("", &[("log.sql", &format!("{APPENDED}SELECT id FROM events"))]);
    world.run(&project).await.report();
    world.sql("main", &["INSERT INTO events VALUES (3, 'c', 30)"]).await;
    world.branch("dev").await;
    let on_dev =
        world.run_with(&project, |request| request.reference = Some("dev".parse().unwrap())).await;
    let picked = on_dev.report().commit.unwrap().to_string();
    world.sql("main", &["INSERT INTO log VALUES (99)"]).await;
    let pick =
        serde_json::from_value(serde_json::json!({ "commit": format!("@{picked}") })).unwrap();
    world.lake.cherry_pick("main", pick, "tester").await.unwrap();
    assert_eq!(table(&world, "SELECT id FROM log ORDER BY id").await, ["1", "2", "3", "99"]);
    world.run(&project).await.report();
    assert_eq!(table(&world, "SELECT id FROM log ORDER BY id").await, ["1", "2", "3", "99"]);
}

#[tokio::test]
async fn defaults_are_not_copied_to_other_tables() {
    let world = World::new().await;
    let version = "TBLPROPERTIES ('format-version' = '3')";
    let create = format!("CREATE TABLE src (id INT, name VARCHAR DEFAULT 'none') {version}");
    world.sql("main", &[&create, "INSERT INTO src (id) VALUES (1)"]).await;
    let anew = "-- headwater: materialization = replace\nSELECT id, name FROM src";
    world.run(&files("", &[("anew.sql", anew)])).await.report();
    assert_eq!(table(&world, "SELECT * FROM anew").await, ["1 none"]);
    // A new column is null in existing rows.
    let grows = |columns: &str| {
        format!("-- headwater: materialization = append\nSELECT {columns} FROM src")
    };
    world.run(&files("", &[("grown.sql", &grows("id"))])).await.report();
    world.sql("main", &["ALTER TABLE grown SET TBLPROPERTIES ('format-version' = '3')"]).await;
    world.run(&files("", &[("grown.sql", &grows("id, name"))])).await.report();
    assert_eq!(table(&world, "SELECT count(*), count(name) FROM grown").await, ["2 1"]);
}

/// Compacts tables on `main`.
pub(crate) async fn compact(world: &World, tables: &[&str]) {
    let request = MaintainRequest { compact: true, ..MaintainRequest::default() };
    for table in tables {
        let (progress, cancelled) = (Arc::new(|_, _| {}), CancellationToken::new());
        let name: TableName = table.parse().unwrap();
        let maintenance = world.lake.maintenance();
        let run = maintenance.run("main", Some(&name), &request, progress, cancelled);
        let report = Box::pin(run).await.unwrap();
        assert_eq!(report.tables[0].files_after, 1, "{table}");
    }
}

#[tokio::test]
async fn increments_are_known_after_a_compaction_during_a_run() {
    let world = world().await;
    let first = format!("{APPENDED}SELECT id FROM events");
    let second = "-- headwater: materialization = append\n-- headwater: incremental = a\n\
                  SELECT id FROM a";
    let models = [("a.sql", &*first), ("b.sql", second)];
    let gated = [
        &models[..],
        &[
            ("waits.sql", "SELECT count(*) AS n FROM system.gate"),
            ("last.sql", "-- headwater: materialization = replace\nSELECT n FROM waits"),
        ],
    ]
    .concat();
    for id in 3..9 {
        world.run(&files("", &models)).await.report();
        world.sql("main", &[&format!("INSERT INTO events VALUES ({id}, 'x', 0)")]).await;
    }
    let gate = world.gate(1);
    let project = files("", &gated);
    let meanwhile = async {
        gate.reached().await;
        while !is_written(&world).await {
            tokio::task::yield_now().await;
        }
        compact(&world, &["a", "b"]).await;
        gate.open();
    };
    tokio::join!(world.run(&project), meanwhile).0.report();
    world.sql("main", &["INSERT INTO events VALUES (9, 'x', 0)"]).await;
    world.run(&files("", &models)).await.report();
    for table in ["a", "b"] {
        let ids = rows_of(&world, table).await;
        assert_eq!(ids, ["1", "2", "3", "4", "5", "6", "7", "8", "9"], "{table}");
    }
}

async fn rows_of(world: &World, name: &str) -> Vec<String> {
    table(world, &format!("SELECT id FROM {name} ORDER BY id")).await
}

/// Returns true once a run has appended the last event to `b` on its branch.
async fn is_written(world: &World) -> bool {
    for (branch, _) in world.branches().await {
        if world.sql(&branch, &["SELECT id FROM b WHERE id = 8"]).await.contains("| 8 ") {
            return true;
        }
    }
    false
}
