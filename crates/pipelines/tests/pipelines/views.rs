//! Models with `materialization = view`.

use headwater_model::{RefSpec, RunRequest, StepStatus};

use crate::support::{World, files};

const VIEW: &str = "-- headwater: materialization = view\n-- The large ones.\nSELECT id, id * 2 AS twice FROM source WHERE id > 1";
const TOTAL: &str = "-- headwater: materialization = replace\nSELECT sum(twice) AS n FROM large";
const CHECK: &str = "import headwater\n\n\n@headwater.expectation()\n@headwater.python(pip={})\n\
                     def is_small(large=headwater.Model(\"large\")):\n    return large.num_rows < 3\n";

async fn world() -> World {
    let world = World::new().await;
    headwater_pipelines::register_system_tables(&world.engine);
    world.sql("main", &["CREATE TABLE source AS SELECT * FROM (VALUES (1), (2)) AS t(id)"]).await;
    world
}

async fn commits(world: &World) -> usize {
    world.lake.catalog().log(&RefSpec::main(), 100, None).await.unwrap().len()
}

#[tokio::test]
async fn a_view_is_created_read_by_models_and_expectations_and_shown_as_lineage() {
    let world = world().await;
    let project = files("", &[("large.sql", VIEW), ("total.sql", TOTAL), ("checks.py", CHECK)]);
    let ran = world.run(&project).await;
    assert!(ran.all(StepStatus::Succeeded), "{}", ran.steps());
    assert!(world.sql("main", &["SELECT n FROM total"]).await.contains("| 4 |"));
    assert!(world.sql("main", &["SELECT twice FROM large"]).await.contains("| 4 "));
    assert_eq!(world.branches().await, [], "no run branch is left");
    let lineage = "SELECT name, \"column\", input_name, input_column FROM system.lineage \
                   WHERE name = 'large' AND \"column\" IS NOT NULL ORDER BY 2";
    insta::assert_snapshot!(world.sql("main", &[lineage]).await, @r"
    +-------+--------+------------+--------------+
    | name  | column | input_name | input_column |
    +-------+--------+------------+--------------+
    | large | id     | source     | id           |
    | large | twice  | source     | id           |
    +-------+--------+------------+--------------+
    ");
    let models = "SELECT name, materialization FROM system.models ORDER BY 1";
    let models = world.sql("main", &[models]).await;
    assert!(models.contains("| large | view "), "{models}");
    assert!(world.run(&project).await.all(StepStatus::Unchanged));

    // New rows appear in the view, and its readers run again.
    world.sql("main", &["INSERT INTO source VALUES (5)"]).await;
    assert!(world.sql("main", &["SELECT sum(twice) AS n FROM large"]).await.contains("| 14 |"));
    let ran = world.run(&project).await;
    assert_eq!(ran.steps(), "is_small succeeded, large succeeded, total succeeded");
    assert!(world.sql("main", &["SELECT n FROM total"]).await.contains("| 14 |"));
    world.sql("main", &["INSERT INTO source VALUES (6)"]).await;
    let failed = world.run(&project).await.refusal();
    assert!(failed.contains("is_small"), "{failed}");
}

#[tokio::test]
async fn a_view_follows_its_code_and_is_restored_if_another_client_replaces_it() {
    let world = world().await;
    let project = files("", &[("large.sql", VIEW)]);
    world.run(&project).await.report();
    let edited = VIEW.replace("id * 2", "id * 3");
    let edited = files("", &[("large.sql", edited.as_str())]);
    assert_eq!(world.plan(&edited).await, "large: changed code");
    world.run(&edited).await.report();
    assert!(world.sql("main", &["SELECT twice FROM large"]).await.contains("| 6 "));
    assert_eq!(world.plan(&edited).await, "large: unchanged");
    world.sql("main", &["CREATE OR REPLACE VIEW large AS SELECT 1 AS other"]).await;
    assert_eq!(world.plan(&edited).await, "large: its view was changed");
    world.run(&edited).await.report();
    assert!(world.sql("main", &["SELECT twice FROM large"]).await.contains("| 6 "));

    // A run that only checks the view against new rows commits nothing.
    let before = commits(&world).await;
    world.sql("main", &["INSERT INTO source VALUES (9)"]).await;
    let ran = world.run(&edited).await;
    assert_eq!((ran.steps().as_str(), ran.report().commit), ("large succeeded", None));
    assert_eq!(commits(&world).await, before + 1);
    // New columns of the input appear in the view.
    let all =
        files("", &[("large.sql", "-- headwater: materialization = view\nSELECT * FROM source")]);
    world.run(&all).await.report();
    world.sql("main", &["ALTER TABLE source ADD COLUMN more INT"]).await;
    assert!(world.run(&all).await.report().commit.is_some());
    assert!(world.sql("main", &["SELECT more FROM large LIMIT 1"]).await.contains("more"));
}

#[tokio::test]
async fn a_preview_shows_the_rows_of_a_view_and_creates_none() {
    let world = world().await;
    let project = files("", &[("large.sql", VIEW), ("total.sql", TOTAL)]);
    let preview = |request: &mut RunRequest| {
        request.preview = serde_json::from_value(serde_json::json!({"rows": 5})).unwrap();
    };
    let ran = world.run_with(&project, preview).await;
    assert_eq!(ran.step("large").preview.as_ref().unwrap().rows.len(), 1);
    assert!(world.sql("main", &["SELECT * FROM large"]).await.contains("large"));
    assert!(world.run(&project).await.all(StepStatus::Succeeded));
}

#[tokio::test]
async fn wrong_views_are_refused_by_name() {
    let world = world().await;
    let plan = |manifest: &'static str, others: Vec<(&'static str, &'static str)>| {
        let (files, world) = (files(manifest, &others), &world);
        async move { world.plan(&files).await }
    };
    let view = "-- headwater: materialization = view\n";
    let reads: &str = Box::leak(format!("{view}SELECT * FROM kept").into_boxed_str());
    insta::assert_snapshot!(
        plan("", vec![("v.sql", reads), ("kept.sql", "SELECT 1 AS id")]).await, @r"
    invalid_project: `v` is a view and reads model `kept`, which is not stored (v.sql:2)
      hint: Set the materialization of `kept`, for example to `replace`.
    ");
    let uses: &str = Box::leak(format!("{view}SELECT $p AS p").into_boxed_str());
    insta::assert_snapshot!(plan("[parameters.p]\ndefault = \"x\"\n", vec![("v.sql", uses)]).await, @r"
    invalid_project: `v` is a view, but uses parameters (v.sql:1)
      hint: Use another materialization, or write the values into the query.
    ");
    let python = "import headwater\n\n@headwater.model(materialization=\"view\")\ndef v(): pass\n";
    insta::assert_snapshot!(plan("", vec![("v.py", python)]).await, @r"
    invalid_project: `v` is a view, but is written in Python (v.py:4)
      hint: Use another materialization, or write the model in SQL.
    ");
    let expects: &str =
        Box::leak(format!("{view}-- headwater: expect = id > 0\nSELECT 1 AS id").into_boxed_str());
    insta::assert_snapshot!(plan("", vec![("v.sql", expects)]).await, @r"
    invalid_project: `v` is a view, but has row expectations, which need stored rows (v.sql:1)
      hint: Write the conditions as expectations.
    ");
    world.sql("main", &["CREATE VIEW own AS SELECT 1 AS id"]).await;
    let own: &str = Box::leak(format!("{view}SELECT 1 AS id").into_boxed_str());
    insta::assert_snapshot!(plan("", vec![("own.sql", own)]).await, @r"
    already_exists: model `own` would write to a table that already exists at `main`, and that no model created (own.sql:1)
      hint: Rename the model, or set `allow_takeover = true` on it.
    ");
    insta::assert_snapshot!(plan("", vec![("source.sql", own)]).await, @r"
    already_exists: model `source` is a view, but `source` is a table at `main` (source.sql:1)
      hint: Drop the table, or rename the model.
    ");
}
