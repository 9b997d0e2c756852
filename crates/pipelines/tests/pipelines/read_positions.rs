//! Read positions of incremental models of two projects that write one table.

use headwater_model::{ErrorCode, MergeRequest, ProjectFiles, RefSpec, StepStatus};

use crate::concurrent_changes::{of_project, run_both};
use crate::incremental::compact;
use crate::support::{Ran, World, files};

const APPENDED: &str = "-- headwater: allow_takeover = true\n\
                        -- headwater: materialization = append\n-- headwater: incremental = ";

const MERGED: &str = "-- headwater: allow_takeover = true\n\
                      -- headwater: materialization = merge\n-- headwater: keys = id\n\
                      -- headwater: incremental = ";

/// Returns a model that adds the new rows of `t`.
fn of_t(head: &str) -> String {
    format!("{head}t\nSELECT id FROM t")
}

/// Returns a model that adds the new rows of `other`, with other ids.
fn of_other(head: &str) -> String {
    format!("{head}other\nSELECT id + 100 AS id FROM other")
}

async fn world() -> World {
    let world = World::new().await;
    let tables = ["CREATE TABLE t AS SELECT 1 AS id", "CREATE TABLE other AS SELECT 1 AS id"];
    world.sql("main", &tables).await;
    world
}

/// Creates `log` with the rows of both sources, and with a read position in each.
async fn split_world() -> World {
    let world = world().await;
    let both =
        format!("{APPENDED}t, other\nSELECT id FROM t UNION ALL SELECT id + 100 AS id FROM other");
    world.run(&files("", &[("log.sql", &both)])).await.report();
    world
}

async fn run_on(world: &World, branch: &str, files: &ProjectFiles) -> Ran {
    world.run_with(files, |request| request.reference = Some(branch.parse().unwrap())).await
}

/// Adds a row to each source on `main`.
async fn add(world: &World, id: u32) {
    let inserts = ["t", "other"].map(|table| format!("INSERT INTO {table} VALUES ({id})"));
    world.sql("main", &inserts.each_ref().map(String::as_str)).await;
}

/// Checks the ids of a table on `main`.
async fn check_ids(world: &World, table: &str, expected: &[u32]) {
    let shown = world.sql("main", &[&format!("SELECT id FROM {table} ORDER BY id")]).await;
    let values = shown.lines().filter_map(|line| line.trim_matches(['|', ' ']).parse::<u32>().ok());
    assert_eq!(values.collect::<Vec<u32>>(), expected, "`{table}`: {shown}");
}

#[tokio::test]
async fn parallel_appends_from_different_sources_are_merged_and_keep_their_positions() {
    let world = split_world().await;
    let (one, two) = (of_t(APPENDED), of_other(APPENDED));
    add(&world, 2).await;
    let [first, second] = run_both(&world, &[("log.sql", &one)], &[("log.sql", &two)]).await;
    assert_eq!(second.report().tables, ["log"]);
    assert_eq!(first.report().tables, ["last", "log"]);
    assert_eq!([&first, &second].map(|ran| ran.step("log").rows), [Some(1), Some(1)]);
    check_ids(&world, "log", &[1, 2, 101, 102]).await;

    // The merged table has both positions, so each project reads each row once.
    add(&world, 3).await;
    for project in [files("", &[("log.sql", &one)]), of_project("other", &[("log.sql", &two)])] {
        assert_eq!(world.run(&project).await.step("log").rows, Some(1));
    }
    check_ids(&world, "log", &[1, 2, 3, 101, 102, 103]).await;
}

#[tokio::test]
async fn parallel_incremental_merges_by_key_from_different_sources_are_merged() {
    let world = world().await;
    let (one, two) = (of_t(MERGED), of_other(MERGED));
    world.run(&files("", &[("latest.sql", &one)])).await.report();
    world.run(&of_project("other", &[("latest.sql", &two)])).await.report();
    add(&world, 2).await;
    let [first, second] = run_both(&world, &[("latest.sql", &one)], &[("latest.sql", &two)]).await;
    assert_eq!([&first, &second].map(|ran| ran.step("latest").rows), [Some(1), Some(1)]);
    first.report();
    check_ids(&world, "latest", &[1, 2, 101, 102]).await;
}

#[tokio::test]
async fn parallel_appends_of_the_same_source_are_a_conflict() {
    let world = world().await;
    let model = of_t(APPENDED);
    world.run(&files("", &[("log.sql", &model)])).await.report();
    add(&world, 2).await;
    let [first, second] = run_both(&world, &[("log.sql", &model)], &[("log.sql", &model)]).await;
    second.report();
    let text = first.refusal();
    assert!(text.contains("changed tables that the run read: log"), "{text}");
    assert!(text.contains("used the read positions in this table"), "{text}");
    check_ids(&world, "log", &[1, 2]).await;
    // The table contains the position of the merged run, so the next run does not read the row
    // again.
    world.run(&files("", &[("log.sql", &model)])).await.report();
    check_ids(&world, "log", &[1, 2]).await;
}

#[tokio::test]
async fn an_append_conflicts_with_a_parallel_rebuild_by_another_project() {
    let world = split_world().await;
    let (one, two) = (of_t(APPENDED), of_other(APPENDED));
    add(&world, 2).await;
    let gate = world.gate(1);
    let waits = "SELECT count(*) AS n FROM system.gate";
    let last = "-- headwater: materialization = replace\nSELECT n FROM waits";
    let own = files("", &[("log.sql", &one), ("waits.sql", waits), ("last.sql", last)]);
    let other = of_project("other", &[("log.sql", &two)]);
    let rebuild = async {
        gate.reached().await;
        let ran = world.run_with(&other, |request| request.no_cache = true).await;
        gate.open();
        ran
    };
    let (append, rebuild) = tokio::join!(world.run(&own), rebuild);
    rebuild.report();
    assert_eq!(append.outcome.as_ref().unwrap_err().code, ErrorCode::MergeConflict);
    check_ids(&world, "log", &[101, 102]).await;
}

#[tokio::test]
async fn rows_that_a_rebuild_by_another_project_removed_are_read_again() {
    let world = split_world().await;
    let one = files("", &[("log.sql", &of_t(APPENDED))]);
    let two = of_project("other", &[("log.sql", &of_other(APPENDED))]);
    add(&world, 2).await;
    world.run(&one).await.report();
    world.run_with(&two, |request| request.no_cache = true).await.report();
    check_ids(&world, "log", &[101, 102]).await;
    assert_eq!(world.run(&one).await.step("log").rows, Some(2));
    check_ids(&world, "log", &[1, 2, 101, 102]).await;
    assert!(world.run(&one).await.all(StepStatus::Unchanged));
}

#[tokio::test]
async fn a_run_that_also_reads_the_rows_is_ordered_before_a_parallel_append() {
    let world = split_world().await;
    let (one, two) = (of_t(APPENDED), of_other(APPENDED));
    let counted = "-- headwater: materialization = replace\nSELECT count(*) AS n FROM log";
    add(&world, 2).await;
    let own = [("log.sql", &*one), ("counted.sql", counted)];
    let [first, second] = run_both(&world, &own, &[("log.sql", &two)]).await;
    second.report();
    first.report();
    check_ids(&world, "log", &[1, 2, 101, 102]).await;
    let shown = world.sql("main", &["SELECT n FROM counted"]).await;
    assert!(shown.contains("| 3 |"), "without the row of the other run: {shown}");
}

#[tokio::test]
async fn rows_of_a_parallel_append_are_read_once_although_the_table_was_compacted() {
    let world = split_world().await;
    let (one, two) = (of_t(APPENDED), of_other(APPENDED));
    let copy = format!("{APPENDED}log\nSELECT id FROM log");
    let own = [("log.sql", &*one), ("copy.sql", &*copy)];
    world.run(&files("", &own)).await.report();
    add(&world, 2).await;
    let [first, second] = run_both(&world, &own, &[("log.sql", &two)]).await;
    second.report();
    first.report();
    check_ids(&world, "copy", &[1, 2, 101]).await;
    compact(&world, &["log"]).await;
    assert_eq!(world.run(&files("", &own)).await.step("copy").rows, Some(1));
    check_ids(&world, "copy", &[1, 2, 101, 102]).await;
}

#[tokio::test]
async fn the_newest_snapshot_contains_the_read_positions() {
    let world = split_world().await;
    add(&world, 2).await;
    world.run(&files("", &[("log.sql", &of_t(APPENDED))])).await.report();
    world.sql("main", &["INSERT INTO log VALUES (9)"]).await;
    compact(&world, &["log"]).await;
    let view = world.lake.view(&RefSpec::main()).await.unwrap();
    let summary = view.table(&"log".parse().unwrap()).await.unwrap().summary();
    for source in ["t", "other"] {
        assert!(summary.contains_key(&format!("headwater.read.public.{source}")), "{summary:?}");
    }
}

#[tokio::test]
async fn a_retry_without_a_model_does_not_append_rows_that_another_run_read() {
    let world = split_world().await;
    let model = of_t(APPENDED);
    add(&world, 2).await;
    let replace = "-- headwater: materialization = replace\n";
    let bad = format!("{replace}SELECT id / 0 AS id FROM log");
    let failed = world.run(&files("", &[("log.sql", &model), ("last.sql", &bad)])).await;
    assert!(failed.outcome.is_err());
    world.run(&of_project("other", &[("log.sql", &model)])).await.report();
    let (id, good) = (failed.id.to_string(), format!("{replace}SELECT 1 AS id"));
    let project = files("", &[("last.sql", &good)]);
    let retried = world.run_with(&project, |request| request.retry = Some(id)).await;
    assert_eq!(retried.outcome.as_ref().unwrap_err().code, ErrorCode::MergeConflict);
    check_ids(&world, "log", &[1, 2, 101]).await;
}

#[tokio::test]
async fn rows_are_not_appended_twice_if_a_merged_branch_read_them() {
    let world = split_world().await;
    let one = files("", &[("log.sql", &of_t(APPENDED))]);
    let two = of_project("other", &[("log.sql", &of_other(APPENDED))]);
    add(&world, 2).await;
    world.run(&two).await.report();
    world.run(&one).await.report();
    world.branch("dev").await;
    // On `dev`, both projects read rows that `main` does not have.
    world.sql("dev", &["INSERT INTO t VALUES (3)", "INSERT INTO other VALUES (3)"]).await;
    run_on(&world, "dev", &two).await.report();
    run_on(&world, "dev", &one).await.report();
    world.sql("main", &["INSERT INTO other VALUES (4)"]).await;
    world.run(&two).await.report();
    let merge = MergeRequest::new("dev".parse().unwrap());
    world.lake.merge("main", merge, "tester").await.unwrap();
    check_ids(&world, "log", &[1, 2, 3, 101, 102, 103, 104]).await;

    // Row 3 of the table `other` is new since the position on `main`, but the merge has already
    // added it to `log`.
    let refused = world.run(&two).await;
    assert_eq!(refused.outcome.as_ref().unwrap_err().code, ErrorCode::CommitConflict);
    // Only `dev` changed the position in `t`, so this position is valid after the merge.
    world.sql("main", &["INSERT INTO t VALUES (5)"]).await;
    assert_eq!(world.run(&one).await.step("log").rows, Some(1));
    check_ids(&world, "log", &[1, 2, 3, 5, 101, 102, 103, 104]).await;
}
