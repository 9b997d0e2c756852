//! Runs of SQL: a run writes to a run branch, is merged completely or not at all, and skips
//! unchanged steps.

use std::time::Duration;

use headwater_jobs::NewJob;
use headwater_model::{JobKind, StepStatus};

use crate::support::{World, files};

const KEPT: &str = "-- headwater: materialization = replace\n";

async fn world() -> World {
    let world = World::new().await;
    world.sql("main", &["CREATE TABLE t AS SELECT 1 AS id UNION ALL SELECT 2 AS id"]).await;
    world
}

#[tokio::test]
async fn a_run_is_merged_completely_and_leaves_no_branch() {
    let world = world().await;
    let a = format!("{KEPT}SELECT id * 10 AS id FROM b");
    let c = format!("{KEPT}SELECT sum(id) AS total FROM a");
    let project = files("", &[("a.sql", &a), ("b.sql", "SELECT id FROM t"), ("c.sql", &c)]);
    let before = world.lake.catalog().branch("main").await.unwrap().commit;
    let ran = world.run(&project).await;
    let report = ran.report();
    assert_eq!(report.tables, ["a", "c"]);
    assert_eq!(report.run_branch, format!("run/{}", ran.id));
    assert_eq!(report.steps.len(), 3);
    assert!(report.usage.rows_read >= 2 && report.cost > 0.0 && report.usage.bytes_written > 0);
    assert_eq!(world.branches().await, []);
    let head = world.lake.catalog().branch("main").await.unwrap().commit;
    assert_eq!(Some(head), report.commit);
    let commit = world.lake.catalog().read_commit(head).await.unwrap();
    assert_eq!(commit.parents[0], before, "one commit brings everything");
    assert_eq!(commit.properties["headwater.job"], ran.id.to_string());
    assert_eq!(commit.author, "tester");
    insta::assert_snapshot!(world.sql("main", &["SELECT total FROM c"]).await, @r"
    +-------+
    | total |
    +-------+
    | 30    |
    +-------+
    ");

    let again = world.run(&project).await;
    assert!(again.all(StepStatus::Unchanged) && again.report().commit.is_none());
    assert_eq!(again.steps(), "a unchanged, b unchanged, c unchanged");
    let forced = world.run_with(&project, |request| request.no_cache = true).await;
    assert!(forced.all(StepStatus::Succeeded));
}

#[tokio::test]
async fn only_changed_models_run_again() {
    let world = world().await;
    let a = format!("{KEPT}SELECT id * 10 AS id FROM t");
    let c = |with: &str| format!("{KEPT}SELECT sum(id) {with} AS total FROM a");
    world.run(&files("", &[("a.sql", &a), ("c.sql", &c(""))])).await.report();
    let second = world.run(&files("", &[("a.sql", &a), ("c.sql", &c("+ 1"))])).await;
    assert_eq!(second.steps(), "a unchanged, c succeeded");
    assert_eq!(second.report().tables, ["c"]);
    insta::assert_snapshot!(world.sql("main", &["SELECT total FROM c"]).await, @r"
    +-------+
    | total |
    +-------+
    | 31    |
    +-------+
    ");
}

#[tokio::test]
async fn a_failed_run_leaves_its_target_and_keeps_its_branch() {
    let world = world().await;
    let good = format!("{KEPT}SELECT id FROM t");
    let bad = format!("{KEPT}SELECT id / (id - id) AS id\nFROM good");
    let project = files("", &[("good.sql", &good), ("bad.sql", &bad)]);
    let before = world.lake.catalog().branch("main").await.unwrap().commit;
    let ran = world.run(&project).await;
    let refusal = ran.refusal().replace(&ran.id.to_string(), "ID");
    insta::assert_snapshot!(refusal, @r"
    bad_row: `bad` failed (bad.sql:1); `main` is unchanged
      caused by: division by zero
      hint: The output of the run can be read on `run/ID`.
    ");
    assert_eq!(ran.steps(), "bad failed, good succeeded");
    assert_eq!(world.lake.catalog().branch("main").await.unwrap().commit, before);
    let branch = format!("run/{}", ran.id);
    assert_eq!(world.branches().await, [(branch.clone(), true)]);
    let shown = world.sql(&branch, &["SELECT count(*) AS n FROM good"]).await;
    assert!(shown.contains("| 2 |"), "{shown}");
    let merge = serde_json::from_value(serde_json::json!({ "source": branch })).unwrap();
    let merged = world.lake.merge("main", merge, "tester").await;
    assert!(merged.is_err(), "a failed run's branch cannot be merged unchecked");
}

#[tokio::test]
async fn appended_rows_are_appended_once() {
    let world = world().await;
    let log = "-- headwater: materialization = append\nSELECT id, $day AS day FROM t";
    let count = format!("{KEPT}SELECT count(*) AS n FROM log");
    let manifest = |day: u32| format!("[parameters.day]\ntype = \"int\"\ndefault = {day}\n");
    let project = |day| files(&manifest(day), &[("log.sql", log), ("n.sql", &count)]);
    let rows = || async { world.sql("main", &["SELECT n FROM n"]).await };

    world.run(&project(1)).await.report();
    assert!(rows().await.contains("| 2 |"));
    assert!(world.run(&project(1)).await.all(StepStatus::Unchanged));
    world.run(&project(2)).await.report();
    assert!(rows().await.contains("| 4 |"), "a child reads the whole table");
    assert!(world.run(&project(2)).await.all(StepStatus::Unchanged));

    // Rows that other writers append do not make the model run again. The model's children see
    // these rows.
    world.sql("main", &["INSERT INTO log VALUES (9, 9)"]).await;
    let ran = world.run(&project(2)).await;
    assert_eq!(ran.steps(), "log unchanged, n succeeded");
    assert!(rows().await.contains("| 5 |"));
    assert!(world.run(&project(2)).await.all(StepStatus::Unchanged));
}

#[tokio::test]
async fn a_model_without_rows_is_not_run_twice() {
    let world = world().await;
    let empty = format!("{KEPT}SELECT id FROM t WHERE false");
    let project = files("", &[("empty.sql", &empty)]);
    world.run(&project).await.report();
    assert!(world.run(&project).await.all(StepStatus::Unchanged));
    let shown = world.sql("main", &["SELECT count(*) AS n FROM empty"]).await;
    assert!(shown.contains("| 0 |"), "{shown}");
}

#[tokio::test]
async fn models_can_be_in_namespaces() {
    let world = world().await;
    let manifest = "[defaults]\nnamespace = \"shop\"\n";
    let project = files(
        manifest,
        &[
            ("a.sql", "SELECT id FROM public.t"),
            ("b.sql", "-- headwater: name = other.b\nSELECT id FROM a"),
            ("c.sql", "-- headwater: materialization = replace\nSELECT id FROM other.b, shop.a"),
        ],
    );
    let problem = world.run(&project).await.refusal();
    assert!(problem.contains("id"), "an ambiguous column is refused: {problem}");
    let project = files(
        manifest,
        &[
            ("a.sql", "SELECT id FROM public.t"),
            ("b.sql", "-- headwater: name = other.b\nSELECT id + 1 AS id FROM a"),
            ("c.sql", "-- headwater: materialization = replace\nSELECT id FROM other.b"),
            (
                "d.sql",
                "-- headwater: name = third.d\n-- headwater: materialization = replace\n\
                       SELECT c.id FROM c JOIN other.b ON c.id = b.id",
            ),
        ],
    );
    let ran = world.run(&project).await;
    assert_eq!(ran.report().tables, ["shop.c", "third.d"]);
    let shown = world.sql("main", &["SELECT sum(id) AS n FROM third.d"]).await;
    assert!(shown.contains("| 5 |"), "{shown}");
    assert!(world.run(&project).await.all(StepStatus::Unchanged));
}

#[tokio::test]
async fn an_event_commits_once() {
    let world = world().await;
    let project =
        files("", &[("a.sql", "-- headwater: materialization = append\nSELECT id FROM t")]);
    let run = || {
        world.run_with(&project, |request| {
            request.event = Some("event-1".to_owned());
            request.no_cache = true;
        })
    };
    let first = run().await;
    let head = first.report().commit.unwrap();
    let commit = world.lake.catalog().read_commit(head).await.unwrap();
    assert_eq!(commit.properties["headwater.event"], "event-1");
    let second = run().await;
    assert!(second.outcome.is_err(), "the event has committed already");
    assert_eq!(world.lake.catalog().branch("main").await.unwrap().commit, head);
}

#[tokio::test]
async fn a_run_on_a_branch_does_not_change_main() {
    let world = world().await;
    world.branch("dev").await;
    let project = files("", &[("a.sql", &format!("{KEPT}SELECT id FROM t"))]);
    world.run_with(&project, |request| request.reference = Some("dev".parse().unwrap())).await;
    let shown = world.sql("dev", &["SELECT count(*) AS n FROM a"]).await;
    assert!(shown.contains("| 2 |"), "{shown}");
    let on_main = world.sql("main", &["SELECT * FROM a"]).await;
    assert!(on_main.contains("`a`"), "main has no such table: {on_main}");
}

#[tokio::test]
async fn a_model_that_takes_too_long_is_stopped() {
    let world = world().await;
    let slow = "-- headwater: timeout = 300ms\n\
                SELECT count(*) AS n FROM generate_series(1, 3000000) AS a(x), generate_series(1, 3000000) AS b(y)\n\
                WHERE (x * y) % 7 = 3";
    let began = std::time::Instant::now();
    let ran = world.run(&files("", &[("slow.sql", slow)])).await;
    assert!(began.elapsed() < Duration::from_secs(30));
    let refusal = ran.refusal().replace(&ran.id.to_string(), "ID");
    insta::assert_snapshot!(refusal, @r"
    time_limit: `slow` ran longer than its limit of 0.3 s (slow.sql:1); `main` is unchanged
      hint: Raise `timeout` in the model's settings.
    ");
}

#[tokio::test]
async fn a_stopped_run_does_not_change_its_target() {
    let world = world().await;
    let slow = "SELECT count(*) AS n FROM generate_series(1, 3000000) AS a(x), generate_series(1, 3000000) AS b(y)\n\
                WHERE (x * y) % 7 = 3";
    let kept = format!("{KEPT}SELECT id FROM t");
    let project = files("", &[("slow.sql", slow), ("a.sql", &kept)]);
    let ran = world.run_and_stop(&project).await;
    insta::assert_snapshot!(ran.refusal(), @"cancelled: the run was stopped; `main` is unchanged");
    let shown = world.sql("main", &["SELECT * FROM a"]).await;
    assert!(shown.contains("`a`"), "main has no such table: {shown}");
}

#[tokio::test]
async fn the_branch_of_an_interrupted_run_is_quarantined_if_it_has_changes() {
    let world = world().await;
    for (statement, kept) in [("SELECT 1", false), ("CREATE TABLE a AS SELECT 1 AS id", true)] {
        let new =
            NewJob { reference: Some("main".into()), ..NewJob::new(JobKind::Run, "test", "me") };
        let (_context, guard) = world.jobs.record(new).await.unwrap();
        let (job, branch) = (guard.id(), format!("run/{}", guard.id()));
        world.runner.quarantine(job).await.unwrap();
        world.branch(&branch).await;
        world.sql(&branch, &[statement]).await;
        world.runner.quarantine(job).await.unwrap();
        world.runner.quarantine(job).await.unwrap();
        let expected = if kept { vec![(branch, true)] } else { Vec::new() };
        assert_eq!(world.branches().await, expected);
    }
}
