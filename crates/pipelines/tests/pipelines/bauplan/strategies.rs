//! Materialization and cache strategies on tables.

use headwater_model::RunRequest;

use crate::support::{Ran, World, bauplan_files};

const MANIFEST: &str =
    "defaults: {python: {version: '3.11'}}\nparameters:\n  day: {default: '2026-01-02'}\n";

/// A lake with a table `days` of two days, partitioned by day.
async fn world() -> World {
    let world = World::new().await;
    world
        .sql(
            "main",
            &[
                "CREATE SCHEMA bauplan",
                "CREATE TABLE bauplan.days (day VARCHAR, n BIGINT) PARTITIONED BY (day)",
                "INSERT INTO bauplan.days VALUES ('2026-01-01', 1), ('2026-01-02', 2), ('2026-01-02', 3)",
            ],
        )
        .await;
    world
}

async fn run(world: &World, arguments: &str, rows: &str, day: &str) -> Ran {
    let code = format!(
        "import bauplan\n@bauplan.model({arguments})\ndef days(day=bauplan.Parameter('day')):\n    return {rows}\n"
    );
    let set = |request: &mut RunRequest| {
        request.parameters.insert("day".to_owned(), day.to_owned());
    };
    world.run_with(&bauplan_files(MANIFEST, &[("models.py", &code)]), set).await
}

/// Returns the rows of the table as `day n`.
async fn days(world: &World) -> Vec<String> {
    let rows = world.sql("main", &["SELECT day, n FROM bauplan.days ORDER BY day, n"]).await;
    let rows = rows.lines().skip(3).filter(|line| line.starts_with('|'));
    rows.map(|row| row.replace('|', " ").split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

const ROW: &str = "[{'day': day, 'n': 9}]";

#[tokio::test]
async fn overwritten_partitions_are_those_of_the_new_rows() {
    let world = world().await;
    let arguments = "materialization_strategy='OVERWRITE_PARTITIONS', partitioned_by=['day']";
    run(&world, arguments, ROW, "2026-01-02").await.report();
    assert_eq!(days(&world).await, ["2026-01-01 1", "2026-01-02 9"]);
    run(&world, arguments, ROW, "2026-01-03").await.report();
    assert_eq!(days(&world).await, ["2026-01-01 1", "2026-01-02 9", "2026-01-03 9"]);
    run(&world, arguments, ROW, "2026-01-03").await.report();
    assert_eq!(days(&world).await, ["2026-01-01 1", "2026-01-02 9", "2026-01-03 9"]);
}

#[tokio::test]
async fn the_overwrite_filter_selects_the_replaced_rows() {
    let world = world().await;
    let arguments = "materialization_strategy='OVERWRITE_PARTITIONS', partitioned_by='day', \
                     overwrite_filter=\"day = $day OR day IN ('2026-01-01')\"";
    run(&world, arguments, ROW, "2026-01-02").await.report();
    assert_eq!(days(&world).await, ["2026-01-02 9"]);
    run(&world, arguments, ROW, "2026-01-03").await.report();
    assert_eq!(days(&world).await, ["2026-01-02 9", "2026-01-03 9"]);
    let unknown = arguments.replace("day = $day", "dai = $day");
    let ran = run(&world, &unknown, ROW, "2026-01-04").await;
    assert_eq!(ran.steps(), "", "nothing ran");
    let refused = ran.refusal();
    assert!(refused.contains("`dai`") && refused.contains("models.py:3"), "{refused}");
    assert_eq!(days(&world).await, ["2026-01-02 9", "2026-01-03 9"]);
}

#[tokio::test]
async fn a_missing_table_is_created_by_every_strategy() {
    for arguments in [
        "materialization_strategy='REPLACE'",
        "materialization_strategy='APPEND'",
        "materialization_strategy='OVERWRITE_PARTITIONS', partitioned_by='day'",
        "materialization_strategy='OVERWRITE_PARTITIONS', partitioned_by='day', overwrite_filter='day = $day'",
    ] {
        let world = World::new().await;
        run(&world, arguments, ROW, "2026-01-02").await.report();
        assert_eq!(days(&world).await, ["2026-01-02 9"], "{arguments}");
    }
}

#[tokio::test]
async fn a_table_of_another_writer_is_appended_to_and_replaced() {
    let world = world().await;
    run(&world, "materialization_strategy='APPEND'", ROW, "2026-01-02").await.report();
    assert_eq!(days(&world).await.len(), 4);
    run(&world, "materialization_strategy='REPLACE'", ROW, "2026-01-02").await.report();
    assert_eq!(days(&world).await, ["2026-01-02 9"]);
}

#[tokio::test]
async fn a_model_without_a_cache_runs_every_time() {
    let world = world().await;
    for (arguments, expected) in [
        ("materialization_strategy='REPLACE', cache_strategy='DEFAULT'", "days unchanged"),
        ("materialization_strategy='REPLACE', cache_strategy='NONE'", "days succeeded"),
    ] {
        run(&world, arguments, ROW, "2026-01-02").await.report();
        let again = run(&world, arguments, ROW, "2026-01-02").await;
        assert!(again.steps().ends_with(expected), "{}", again.steps());
    }
}

#[tokio::test]
async fn partitions_by_day_are_overwritten_by_sql_with_a_filter_over_timestamps() {
    let world = World::new().await;
    world
        .sql(
            "main",
            &[
                "CREATE SCHEMA bauplan",
                "CREATE TABLE bauplan.taxi AS SELECT * FROM (VALUES
                    (1, TIMESTAMPTZ '2026-01-01T23:00:00Z'), (2, TIMESTAMPTZ '2026-01-02T01:00:00Z'))
                    AS t(\"PULocationID\", pickup_datetime)",
            ],
        )
        .await;
    let sql = "-- bauplan: materialization_strategy=OVERWRITE_PARTITIONS
-- bauplan: partitioned-by=\"day(pickup_datetime), PULocationID\"
-- bauplan: overwrite_filter=\"pickup_datetime >= $from AND pickup_datetime < '2026-02-01T00:00:00-05:00'\"
SELECT PULocationID, pickup_datetime, $size AS size FROM taxi WHERE pickup_datetime >= $from";
    let manifest = "parameters:\n  from: {default: '2026-01-01T00:00:00-00:00'}\n  size: {type: int, default: 1}\n";
    let project = bauplan_files(manifest, &[("rides.sql", sql)]);
    world.run(&project).await.report();
    let later = |request: &mut RunRequest| {
        request.parameters.insert("from".to_owned(), "2026-01-02T00:00:00-00:00".to_owned());
        request.parameters.insert("size".to_owned(), "2".to_owned());
    };
    world.run_with(&project, later).await.report();
    let rows =
        world.sql("main", &["SELECT PULocationID, size FROM bauplan.rides ORDER BY 1"]).await;
    assert!(
        rows.contains("| 1            | 1    |") && rows.contains("| 2            | 2    |"),
        "{rows}"
    );
    assert_eq!(rows.matches("\n|").count(), 3, "{rows}");
}
