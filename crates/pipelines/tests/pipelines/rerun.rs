//! Merges that recompute derived tables.

use headwater_model::{ErrorCode, MergeOutcome, MergeRequest, ProjectFiles, RefSpec, StepStatus};

use crate::support::{Ran, World, files, shown};

const REPLACE: &str = "-- headwater: materialization = replace\n";

const COUNT: &str = "SELECT count(*) AS n, sum(id) AS total FROM t";

const POSITIVE: &str = r#"
import headwater


@headwater.expectation()
@headwater.python("3.11")
def few(agg=headwater.Model("agg")):
    return agg.column("n")[0].as_py() < 4
"#;

fn project(query: &str) -> ProjectFiles {
    files("", &[("agg.sql", &format!("{REPLACE}{query}"))])
}

/// Creates a lake with `agg`, computed from `t`, on `main` and `feat`.
async fn world() -> World {
    let world = World::new().await;
    world.sql("main", &["CREATE TABLE t AS SELECT 1 AS id"]).await;
    world.run(&project(COUNT)).await.report();
    world.branch("feat").await;
    world
}

async fn run_on(world: &World, branch: &str, files: &ProjectFiles) -> Ran {
    world.run_with(files, |request| request.reference = Some(branch.parse().unwrap())).await
}

fn merge(source: &str) -> MergeRequest {
    MergeRequest::new(source.parse().unwrap())
}

/// Merges `feat` into `main` with a run.
async fn rerun(world: &World, files: &ProjectFiles) -> Ran {
    world.run_with(files, |request| request.merge = Some(merge("feat"))).await
}

async fn head(world: &World) -> headwater_model::CommitId {
    world.lake.catalog().branch("main").await.unwrap().commit
}

const CHANGED: &str = "SELECT count(*) AS n, sum(id) AS total, max(id) AS greatest FROM t";

#[tokio::test]
async fn a_table_that_both_sides_computed_is_recomputed() {
    let world = world().await;
    world.sql("feat", &["INSERT INTO t VALUES (10)"]).await;
    run_on(&world, "feat", &project(CHANGED)).await.report();
    world.sql("main", &["INSERT INTO t VALUES (100)"]).await;
    run_on(&world, "main", &project(COUNT)).await.report();
    let before = head(&world).await;

    let plain = world.lake.merge("main", merge("feat"), "eva").await.unwrap();
    assert_eq!(plain.outcome, MergeOutcome::Conflict);
    assert_eq!(plain.conflicts[0].project.as_deref(), Some("test"));
    let problem = headwater_lake::conflict_problem("main", "feat", &plain);
    let problem = headwater_lake::with_rerun_hint(problem, "main", "feat", &plain, false);
    assert!(
        shown(&problem).ends_with(
            "hint: `headwater branch merge feat --into main --rerun` merges the other tables and \
             recomputes `public.agg` with the models of project `test`."
        ) || shown(&problem).contains("--rerun` merges the other tables and recomputes `agg`"),
        "{}",
        shown(&problem)
    );
    let problem = headwater_lake::with_rerun_hint(problem, "main", "run/1", &plain, true);
    let command = "`headwater branch merge run/1 --into main --rerun --unchecked`";
    assert!(shown(&problem).contains(command), "{}", shown(&problem));

    let ran = rerun(&world, &project(CHANGED)).await;
    let report = ran.report();
    assert_eq!(report.tables, ["agg", "t"]);
    assert_eq!(ran.steps(), "agg succeeded");
    let rows = world.sql("main", &["SELECT n, total, greatest FROM agg"]).await;
    assert!(rows.contains("| 3 | 111   | 100      |"), "{rows}");
    let commit = world.lake.catalog().read_commit(report.commit.unwrap()).await.unwrap();
    assert_eq!(commit.message, "Merge feat into main");
    assert_eq!(commit.parents.first(), Some(&before), "one commit on the target");
    assert_eq!(world.branches().await, [("feat".to_owned(), false)]);
    let again = world.lake.merge("main", merge("feat"), "eva").await.unwrap();
    assert_eq!(again.outcome, MergeOutcome::UpToDate);
    assert!(world.run(&project(CHANGED)).await.all(StepStatus::Unchanged));
}

#[tokio::test]
async fn a_quarantine_table_that_both_sides_computed_is_recomputed() {
    let world = World::new().await;
    world.sql("main", &["CREATE TABLE t AS SELECT 1 AS id"]).await;
    let setting = "-- headwater: expect_or_quarantine = id > 5\n";
    let model = format!("{REPLACE}{setting}SELECT id FROM t");
    let project = files("", &[("agg.sql", &model)]);
    world.run(&project).await.report();
    world.branch("feat").await;
    for (branch, row) in [("feat", 2), ("main", 3)] {
        world.sql(branch, &[&format!("INSERT INTO t VALUES ({row}), ({})", row * 10)]).await;
        run_on(&world, branch, &project).await.report();
    }
    rerun(&world, &project).await.report();
    let count = "SELECT (SELECT sum(id) FROM agg) AS kept, sum(id) AS failed FROM agg_quarantine";
    let rows = world.sql("main", &[count]).await;
    assert!(rows.contains("| 50   | 6      |"), "{rows}");
}

#[tokio::test]
async fn a_table_that_one_side_computed_is_recomputed_only_if_its_inputs_differ() {
    let world = world().await;
    world.sql("feat", &["CREATE TABLE other AS SELECT 1 AS id"]).await;
    run_on(&world, "feat", &project(CHANGED)).await.report();
    world.sql("main", &["CREATE TABLE more AS SELECT 1 AS id"]).await;
    let ran = rerun(&world, &project(CHANGED)).await;
    assert_eq!(ran.steps(), "agg unchanged");
    assert_eq!(ran.report().tables, ["agg", "other"]);

    let world = world_with_rows_on_main().await;
    let ran = rerun(&world, &project(CHANGED)).await;
    assert_eq!(ran.steps(), "agg succeeded");
    let rows = world.sql("main", &["SELECT n, total, greatest FROM agg"]).await;
    assert!(rows.contains("| 2 | 101   | 100      |"), "{rows}");
}

async fn world_with_rows_on_main() -> World {
    let world = world().await;
    run_on(&world, "feat", &project(CHANGED)).await.report();
    world.sql("main", &["INSERT INTO t VALUES (100)"]).await;
    world
}

#[tokio::test]
async fn a_failed_check_of_the_merged_state_keeps_the_target_and_the_branch() {
    let world = world().await;
    let checked = |query: &str| {
        let mut project = project(query);
        project.insert("few.py".to_owned(), POSITIVE.into());
        project
    };
    world.sql("feat", &["INSERT INTO t VALUES (10)"]).await;
    run_on(&world, "feat", &checked(CHANGED)).await.report();
    world.sql("main", &["INSERT INTO t VALUES (100), (200)"]).await;
    run_on(&world, "main", &checked(COUNT)).await.report();
    let before = head(&world).await;
    let ran = rerun(&world, &checked(CHANGED)).await;
    let problem = ran.outcome.as_ref().unwrap_err();
    assert_eq!(problem.code, ErrorCode::ExpectationFailed, "{}", shown(problem));
    assert_eq!(head(&world).await, before);
    let branch = format!("run/{}", ran.id);
    assert!(world.branches().await.contains(&(branch.clone(), true)));
    let rows = world.sql(&branch, &["SELECT n FROM agg"]).await;
    assert!(rows.contains("| 4 |"), "the merged state can be read: {rows}");
}

#[tokio::test]
async fn a_source_table_in_conflict_is_still_a_conflict() {
    let world = world().await;
    world.sql("feat", &["UPDATE t SET id = 2"]).await;
    run_on(&world, "feat", &project(CHANGED)).await.report();
    world.sql("main", &["UPDATE t SET id = 3"]).await;
    run_on(&world, "main", &project(COUNT)).await.report();
    let before = head(&world).await;
    let ran = rerun(&world, &project(CHANGED)).await;
    let problem = ran.outcome.as_ref().unwrap_err();
    assert_eq!(problem.code, ErrorCode::MergeConflict);
    assert_eq!(problem.message, "`main` and `feat` both changed `t`");
    assert_eq!(head(&world).await, before);
    assert_eq!(world.branches().await, [("feat".to_owned(), false)]);

    let chosen = MergeRequest {
        choices: [("t".parse().unwrap(), headwater_model::MergeChoice::Theirs)].into(),
        ..merge("feat")
    };
    let changed = project(CHANGED);
    let ran = world.run_with(&changed, |request| request.merge = Some(chosen)).await;
    ran.report();
    let rows = world.sql("main", &["SELECT n, total, greatest FROM agg"]).await;
    assert!(rows.contains("| 1 | 2     | 2        |"), "{rows}");
}

#[tokio::test]
async fn a_table_of_a_deleted_model_is_dropped_if_its_side_dropped_it() {
    let world = world().await;
    let without = files("", &[("other.sql", &format!("{REPLACE}SELECT 1 AS id"))]);
    world.sql("feat", &["DROP TABLE agg"]).await;
    run_on(&world, "feat", &without).await.report();
    world.sql("main", &["INSERT INTO t VALUES (100)"]).await;
    run_on(&world, "main", &project(COUNT)).await.report();
    let ran = rerun(&world, &without).await;
    assert_eq!(ran.report().tables, ["agg", "other"]);
    assert!(world.sql("main", &["SELECT * FROM agg"]).await.contains("`agg`"), "dropped");

    // The model recomputes the table, although one side dropped it.
    let world = self::world().await;
    world.sql("feat", &["DROP TABLE agg"]).await;
    world.sql("main", &["INSERT INTO t VALUES (100)"]).await;
    run_on(&world, "main", &project(COUNT)).await.report();
    rerun(&world, &project(CHANGED)).await.report();
    let rows = world.sql("main", &["SELECT n, total, greatest FROM agg"]).await;
    assert!(rows.contains("| 2 | 101   | 100      |"), "{rows}");
}

#[tokio::test]
async fn a_dry_run_plans_on_the_merged_state_and_changes_nothing() {
    let world = world_with_rows_on_main().await;
    let before = head(&world).await;
    let request = headwater_model::RunRequest {
        files: project(CHANGED),
        merge: Some(merge("feat")),
        reference: Some(RefSpec::main()),
        ..Default::default()
    };
    let plan = world.runner.plan(&request).await.unwrap();
    assert_eq!(plan.steps[0].reason.as_deref(), Some("changed input"));
    assert_eq!(head(&world).await, before);
    assert_eq!(world.branches().await, [("feat".to_owned(), false)]);
}

#[tokio::test]
async fn a_failed_rerun_keeps_the_merged_state_readable() {
    let world = world().await;
    run_on(&world, "feat", &project(CHANGED)).await.report();
    world.sql("main", &["ALTER TABLE t RENAME COLUMN id TO number"]).await;
    let before = head(&world).await;
    let ran = rerun(&world, &project(CHANGED)).await;
    let text = ran.refusal();
    assert!(text.contains("`main` is unchanged"), "{text}");
    assert!(text.contains(&format!("run/{}", ran.id)), "{text}");
    assert_eq!(head(&world).await, before);
}
