//! Ownership of tables: a model replaces only tables that models of its project wrote.

use headwater_model::{ErrorCode, StepStatus};

use crate::support::{World, files, shown};

const KEPT: &str = "-- headwater: materialization = replace\nSELECT 2 AS id";

async fn world() -> World {
    let world = World::new().await;
    world.sql("main", &["CREATE TABLE kept AS SELECT 1 AS id"]).await;
    world
}

async fn kept(world: &World) -> String {
    world.sql("main", &["SELECT id FROM kept"]).await
}

#[tokio::test]
async fn a_table_that_no_model_created_is_not_overwritten() {
    let world = world().await;
    let project = files("", &[("models/kept.sql", KEPT)]);
    insta::assert_snapshot!(world.plan(&project).await, @r"
    already_exists: model `kept` would write to a table that already exists at `main`, and that no model created (models/kept.sql:1)
      hint: Rename the model, or set `allow_takeover = true` on it.
    ");
    let ran = world.run(&project).await;
    assert_eq!(ran.outcome.as_ref().unwrap_err().code, ErrorCode::AlreadyExists);
    let append = KEPT.replace("replace", "append");
    let plan = world.plan(&files("", &[("KEPT.sql", &append)])).await;
    assert!(plan.starts_with("already_exists: model `KEPT`"), "{plan}");
    assert!(kept(&world).await.contains("| 1  |"));

    // A model that is not stored may have the name of an existing table.
    world.run(&files("", &[("kept.sql", "SELECT 3 AS id")])).await.report();

    world.sql("main", &["DROP TABLE kept"]).await;
    world.run(&project).await.report();
    assert!(kept(&world).await.contains("| 2  |"));
    assert!(world.run(&project).await.all(StepStatus::Unchanged));
}

#[tokio::test]
async fn a_table_is_taken_over_if_the_model_allows_it() {
    let world = world().await;
    let takeover = format!("-- headwater: allow_takeover = true\n{KEPT}");
    world.run(&files("", &[("kept.sql", &takeover)])).await.report();
    assert!(kept(&world).await.contains("| 2  |"));
    // Afterwards the model owns the table.
    let changed = KEPT.replace('2', "3");
    world.run(&files("", &[("kept.sql", &changed)])).await.report();
    assert!(kept(&world).await.contains("| 3  |"));

    let python = "import headwater\n\n\
                  @headwater.model(materialization=\"append\", allow_takeover=True)\n\
                  def other():\n    return [{\"id\": 4}]\n";
    world.sql("main", &["CREATE TABLE other AS SELECT 1 AS id"]).await;
    world.run(&files("", &[("m.py", python)])).await.report();
    assert!(world.sql("main", &["SELECT sum(id) AS n FROM other"]).await.contains("| 5 |"));
}

#[tokio::test]
async fn a_models_table_stays_its_own_after_changes_by_others() {
    let world = World::new().await;
    let project = files("", &[("kept.sql", KEPT)]);
    world.run(&project).await.report();
    world.sql("main", &["INSERT INTO kept VALUES (7)"]).await;
    assert_eq!(world.plan(&project).await, "kept: its table was changed");
    world.run(&project).await.report();
    // A table that another writer recreated is not the model's.
    world.sql("main", &["DROP TABLE kept", "CREATE TABLE kept AS SELECT 1 AS id"]).await;
    assert!(world.plan(&project).await.starts_with("already_exists"));
}

#[tokio::test]
async fn another_projects_table_is_not_overwritten() {
    let world = World::new().await;
    world.run(&files("", &[("kept.sql", KEPT)])).await.report();
    let mut other = files("", &[("kept.sql", &KEPT.replace('2', "5"))]);
    other.insert("headwater.toml".to_owned(), "[project]\nname = \"other\"\n".into());
    let ran = world.run(&other).await;
    insta::assert_snapshot!(shown(ran.outcome.as_ref().unwrap_err()), @r"
    already_exists: model `kept` would write to a table that project `test` created at `main` (kept.sql:1)
      hint: Rename the model, or set `allow_takeover = true` on it.
    ");
    let takeover = format!("-- headwater: allow_takeover = true\n{}", KEPT.replace('2', "5"));
    other.insert("kept.sql".to_owned(), takeover.into());
    world.run(&other).await.report();
    assert!(kept(&world).await.contains("| 5  |"));
    assert!(world.plan(&files("", &[("kept.sql", KEPT)])).await.contains("project `other`"));
}

#[tokio::test]
async fn a_table_written_by_an_old_version_belongs_to_its_model() {
    let world = world().await;
    // Tables written by old versions, which did not record an owner.
    let mut transaction = world.lake.transaction("main", "tester").await.unwrap();
    let name = "public.kept".parse().unwrap();
    transaction.snapshot_property("headwater.fingerprint", "abc");
    let rows = transaction.table(&name).await.unwrap().schema();
    let none = arrow::array::RecordBatch::new_empty(rows);
    transaction.append(&name, Box::pin(futures::stream::iter([Ok(none)]))).await.unwrap();
    transaction.commit("as it was").await.unwrap();
    world.run(&files("", &[("kept.sql", KEPT)])).await.report();
    assert!(kept(&world).await.contains("| 2  |"));
}
