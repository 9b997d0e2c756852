//! Plans: dependencies, errors before the run, and the reason to run each step.

use crate::support::{World, files};

async fn world() -> World {
    let world = World::new().await;
    world.sql("main", &["CREATE TABLE flights AS SELECT 1 AS id, 'EWR' AS origin"]).await;
    world
}

#[tokio::test]
async fn cyclic_models_are_shown_as_a_path() {
    let world = world().await;
    let python =
        "import headwater\n\n@headwater.model()\ndef c(\n    x=headwater.Model(\"A\"),\n): pass\n";
    let circle = files(
        "",
        &[
            ("a.sql", "SELECT * FROM flights,\n b"),
            ("b.sql", "SELECT * FROM c"),
            ("c.py", python),
            ("d.sql", "SELECT * FROM a"),
        ],
    );
    insta::assert_snapshot!(world.plan(&circle).await, @r"
    invalid_project: models depend on each other in a cycle: `a` (a.sql:2) reads `b` (b.sql:1) reads `c` (c.py:5) reads `a`
      hint: Rename a model, or remove one of the references between the models.
    ");
    let own = files("", &[("flights.sql", "SELECT *\nFROM flights")]);
    insta::assert_snapshot!(world.plan(&own).await, @r"
    invalid_project: models depend on each other in a cycle: `flights` (flights.sql:2) reads `flights`
      hint: Rename a model, or remove one of the references between the models.
    ");
}

#[tokio::test]
async fn missing_tables_and_columns_are_rejected_before_the_run() {
    let world = world().await;
    let plan = |others: Vec<(&'static str, &'static str)>| {
        let (files, world) = (files("[parameters.p]\ndefault = \"x\"\n", &others), &world);
        async move { world.plan(&files).await }
    };
    insta::assert_snapshot!(plan(vec![("m.sql", "SELECT *\nFROM fligths")]).await, @r"
    table_not_found: `m` reads `fligths`, which is neither a model nor a table at `main` (m.sql:2)
      hint: Did you mean `flights`?
    ");
    insta::assert_snapshot!(plan(vec![("m.sql", "SELECT id,\n  orign FROM flights")]).await, @r"
    column_not_found: model `m` cannot be planned (m.sql:2)
      m.sql:2:3
      2 |   orign FROM flights
        |   ^
      caused by: column `orign` is not in `flights` (line 2, column 3)
      hint: Did you mean `origin`?
    ");
    insta::assert_snapshot!(
        plan(vec![("a.sql", "SELECT id AS x FROM flights"), ("b.sql", "SELECT\n y FROM a")]).await, @r"
    column_not_found: model `b` cannot be planned (b.sql:2)
      b.sql:2:2
      2 |  y FROM a
        |  ^
      caused by: column `y` is not in `a` (line 2, column 2)
      hint: Correct the query; `headwater table get TABLE` lists a table's columns.
    ");
    let python = "import headwater\n@headwater.model(columns=[\"x\"])\n\
                  def a(f=headwater.Model(\"flights\", columns=[\"id\", \"orign\"])): pass\n";
    insta::assert_snapshot!(plan(vec![("a.py", python)]).await, @r"
    column_not_found: `a` reads column `orign`, which `flights` does not have (a.py:3)
      hint: Did you mean `origin`?
    ");
    let python = "import headwater\n@headwater.model(columns=[\"x\"])\n\
                  def a(f=headwater.Model(\"flights\", filter=\"orgin = $p\")): pass\n";
    insta::assert_snapshot!(plan(vec![("a.py", python)]).await, @r"
    column_not_found: model `a` cannot be planned (a.py:3)
      caused by: column `orgin` is not in `flights`
      hint: Did you mean `origin`?
    ");
    // Of a Python model, only the declared columns are known before the run.
    let python = "import headwater\n@headwater.model(columns=[\"x\"])\n\
                  def a(f=headwater.Model(\"FLIGHTS\", columns=[\"ORIGIN\"])): pass\n\n\
                  @headwater.expectation()\ndef c(a=headwater.Model(\"a\", columns=[\"z\"])): pass\n";
    insta::assert_snapshot!(plan(vec![("a.py", python)]).await, @r"
    column_not_found: `c` reads column `z`, which `a` does not have (a.py:6)
      hint: The columns are `x`.
    ");
    let python = "import headwater\n@headwater.model(columns=[\"x\"])\ndef a(): pass\n";
    insta::assert_snapshot!(plan(vec![("a.py", python), ("b.sql", "SELECT z FROM a")]).await, @r"
    column_not_found: model `b` cannot be planned (b.sql:1)
      b.sql:1:8
      1 | SELECT z FROM a
        |        ^
      caused by: column `z` is not in `a` (line 1, column 8)
      hint: Correct the query; `headwater table get TABLE` lists a table's columns.
    ");
    insta::assert_snapshot!(
        plan(vec![("a.py", python), ("b.sql", "SELECT upper(x) AS y FROM a WHERE x > 1")]).await, @r"
    a: its child runs
    b: first run
    ");
}

#[tokio::test]
async fn a_run_needs_a_branch() {
    let world = world().await;
    let head = world.lake.catalog().branch("main").await.unwrap().commit;
    let project = files("", &[("m.sql", "SELECT 1 AS a")]);
    let at = |reference: String| {
        let project = &project;
        let world = &world;
        async move {
            let reference = Some(reference.parse().unwrap());
            world.run_with(project, |request| request.reference = reference).await.refusal()
        }
    };
    insta::assert_snapshot!(at("nowhere".to_owned()).await, @r"
    ref_not_found: there is no branch or tag `nowhere`
      hint: List the names with `headwater branch ls` and `headwater tag ls`.
    ");
    let commit = at(format!("main@{head}")).await;
    assert!(commit.starts_with("invalid_argument: `main@"), "{commit}");
}

#[tokio::test]
async fn the_plan_has_the_reason_of_each_step() {
    let world = world().await;
    let first = [
        ("kept.sql", "-- headwater: materialization = replace\nSELECT id FROM passing"),
        ("passing.sql", "SELECT id FROM flights"),
        ("alone.sql", "SELECT $p AS p"),
    ];
    let manifest = "[parameters.p]\ntype = \"int\"\ndefault = 1\n";
    let project = files(manifest, &first);
    insta::assert_snapshot!(world.plan(&project).await, @r"
    alone: first run
    passing: its child runs
    kept: first run
    ");
    world.run(&project).await.report();
    insta::assert_snapshot!(world.plan(&project).await, @r"
    alone: unchanged
    passing: unchanged
    kept: unchanged
    ");

    let mut changed = first;
    changed[0].1 = "-- headwater: materialization = replace\nSELECT id + 1 AS id FROM passing";
    insta::assert_snapshot!(world.plan(&files(manifest, &changed)).await, @r"
    alone: unchanged
    passing: its child runs
    kept: changed code
    ");
    let other = manifest.replace("default = 1", "default = 2");
    insta::assert_snapshot!(world.plan(&files(&other, &first)).await, @r"
    alone: first run
    passing: unchanged
    kept: unchanged
    ");

    world.sql("main", &["INSERT INTO flights VALUES (2, 'JFK')"]).await;
    insta::assert_snapshot!(world.plan(&project).await, @r"
    alone: unchanged
    passing: its child runs
    kept: changed input
    ");
    world.run(&project).await.report();
    world.sql("main", &["INSERT INTO kept VALUES (7)"]).await;
    insta::assert_snapshot!(world.plan(&project).await, @r"
    alone: unchanged
    passing: its child runs
    kept: its table was changed
    ");
}

#[tokio::test]
async fn a_new_model_that_reads_a_new_model_was_never_built() {
    let world = world().await;
    let first = [
        ("parent.sql", "-- headwater: materialization = replace\nSELECT 1 AS x"),
        ("child.sql", "-- headwater: materialization = replace\nSELECT x FROM parent"),
    ];
    let plan = world.plan(&files("", &first)).await;
    assert_eq!(plan, "parent: first run\nchild: first run");
}

#[tokio::test]
async fn a_model_is_checked_again_when_the_columns_of_its_input_changed() {
    let world = world().await;
    let child = ("child.sql", "-- headwater: materialization = replace\nSELECT day FROM parent");
    let good = [child, ("parent.sql", "SELECT 1 AS day")];
    let bad = [child, ("parent.sql", "SELECT 1 AS month")];
    insta::assert_snapshot!(world.plan(&files("", &good)).await, @r"
    parent: its child runs
    child: first run
    ");
    let refused = world.plan(&files("", &bad)).await;
    assert!(refused.starts_with("column_not_found"), "{refused}");
    assert_eq!(world.plan(&files("", &good)).await, "parent: its child runs\nchild: first run");

    let reader = files("", &[("reader.sql", "SELECT day FROM source")]);
    world.sql("main", &["CREATE TABLE source AS SELECT 1 AS day"]).await;
    assert_eq!(world.plan(&reader).await, "reader: first run");
    world.sql("main", &["ALTER TABLE source RENAME COLUMN day TO month"]).await;
    let refused = world.plan(&reader).await;
    assert!(refused.starts_with("column_not_found"), "{refused}");
}
