//! Concurrent changes during a run, on its target and on its run branch.

use headwater_model::{
    ErrorCode, MergeOutcome, MergeRequest, ProjectFiles, RevertRequest, ToProblem,
};

use crate::support::{Ran, World, files};

const KEPT: &str = "-- headwater: materialization = replace\n";

async fn world() -> World {
    let world = World::new().await;
    world
        .sql("main", &["CREATE TABLE t AS SELECT 1 AS id", "CREATE TABLE other AS SELECT 1 AS id"])
        .await;
    world
}

/// Runs a project that writes `a` and blocks before `last`; runs `between` while the project is
/// blocked.
async fn run_while<F: Future<Output = ()>>(
    world: &World,
    last: &str,
    meanwhile: impl FnOnce(String) -> F,
) -> Ran {
    let gate = world.gate(1);
    let first = format!("{KEPT}SELECT id FROM t");
    let waits = "SELECT count(*) AS n FROM system.gate";
    let project = files("", &[("a.sql", &first), ("waits.sql", waits), ("last.sql", last)]);
    let run = world.run(&project);
    let change = async {
        gate.reached().await;
        let written = world.written("a").await;
        meanwhile(written).await;
        gate.open();
    };
    tokio::join!(run, change).0
}

const LAST: &str = "-- headwater: materialization = replace\nSELECT n FROM waits";

fn refused(ran: &Ran) -> String {
    ran.refusal().replace(&ran.id.to_string(), "ID")
}

#[tokio::test]
async fn a_concurrent_change_of_another_table_is_merged() {
    let world = world().await;
    let ran = run_while(&world, LAST, |_| async {
        world.sql("main", &["INSERT INTO other VALUES (2)", "INSERT INTO t VALUES (2)"]).await;
    })
    .await;
    assert_eq!(ran.report().tables, ["a", "last"]);
    let shown = world
        .sql("main", &["SELECT (SELECT count(*) FROM other) AS o, (SELECT count(*) FROM a) AS a"])
        .await;
    assert!(shown.contains("| 2 | 1 |"), "the run reads the state at its start: {shown}");
    assert_eq!(world.branches().await, []);
}

#[tokio::test]
async fn a_concurrent_change_of_the_same_table_is_a_conflict() {
    let world = world().await;
    let ran = run_while(&world, LAST, |_| async {
        world.sql("main", &["CREATE TABLE a AS SELECT 7 AS id"]).await;
    })
    .await;
    insta::assert_snapshot!(refused(&ran), @r"
    merge_conflict: during the run, other commits on `main` changed the same tables: a
      caused by: `a`: both sides created a table with this name
      hint: Start a new run with `headwater run`: it reads the latest commit.
    ");
    let problem = ran.outcome.as_ref().unwrap_err();
    assert_eq!(problem.code, ErrorCode::MergeConflict);
    assert!(world.sql("main", &["SELECT id FROM a"]).await.contains("| 7  |"));
    assert!(world.sql("main", &["SELECT * FROM last"]).await.contains("`last`"), "not merged");
    assert_eq!(world.branches().await, [(format!("run/{}", ran.id), true)]);
}

const ADDED: &str = "-- headwater: materialization = append\n";

/// Runs a project that appends to the existing table `a` and blocks before its end.
async fn add_while(world: &World, checks: &[(&str, &str)], statement: &str) -> Ran {
    let first = format!("{ADDED}SELECT id FROM t");
    let waits = "SELECT count(*) AS n FROM system.gate";
    let made = world.run(&files("", &[("a.sql", &first)])).await;
    assert_eq!(made.report().tables, ["a"]);
    world.sql("main", &["INSERT INTO t VALUES (2)"]).await;
    let gate = world.gate(1);
    let own = [("a.sql", first.as_str()), ("waits.sql", waits), ("last.sql", LAST)];
    let project = files("", &own.iter().chain(checks).copied().collect::<Vec<_>>());
    let change = async {
        gate.reached().await;
        world.written("a").await;
        world.sql("main", &[statement]).await;
        gate.open();
    };
    tokio::join!(world.run(&project), change).0
}

#[tokio::test]
async fn reverted_rows_are_added_again_by_the_next_run() {
    let world = world().await;
    let first = format!("{ADDED}SELECT id FROM t");
    let project = files("", &[("a.sql", &first)]);
    world.run(&project).await.report();
    world.sql("main", &["INSERT INTO t VALUES (2)"]).await;
    let ran = world.run(&project).await;
    ran.report();
    world.sql("main", &["INSERT INTO a VALUES (100)"]).await;
    let run = RevertRequest { run: Some(ran.id.to_string()), ..RevertRequest::default() };
    world.lake.revert("main", run, "eva").await.unwrap();
    assert!(world.sql("main", &[COUNTED]).await.contains("| 2 | 101 |"));
    world.run(&project).await.report();
    assert!(world.sql("main", &[COUNTED]).await.contains("| 4 | 104 |"));
}

const SMALL: &str = r#"
import headwater


@headwater.expectation()
@headwater.python("3.11")
def small(a=headwater.Model("a")):
    return len(a) < 50
"#;

const COUNTED: &str = "SELECT count(*) AS n, sum(id) AS sum FROM a";

#[tokio::test]
async fn rows_of_a_model_and_of_other_writers_are_both_kept() {
    let world = world().await;
    let ran = add_while(&world, &[], "INSERT INTO a VALUES (100)").await;
    assert!(ran.report().tables.contains(&"a".to_owned()));
    let shown = world.sql("main", &[COUNTED]).await;
    assert!(shown.contains("| 4 | 104 |"), "1, then 1 and 2, and 100: {shown}");
    let first = format!("{ADDED}SELECT id FROM t");
    let again = world.run(&files("", &[("a.sql", &first)])).await;
    assert_eq!(again.report().tables, [""; 0], "the rows of the run are known after the merge");
    assert!(world.sql("main", &[COUNTED]).await.contains("| 4 | 104 |"));
}

/// Returns the files of another project.
pub(crate) fn of_project(name: &str, own: &[(&str, &str)]) -> ProjectFiles {
    let named = |text: &str| text.replace("\"test\"", &format!("\"{name}\"")).into();
    files("", own).into_iter().map(|(path, text)| (path, named(text.text()))).collect()
}

/// Runs the project `test` until its last model is blocked, then runs the project `other`
/// to its end, and returns both runs.
pub(crate) async fn run_both(
    world: &World,
    own: &[(&str, &str)],
    other: &[(&str, &str)],
) -> [Ran; 2] {
    let gate = world.gate(1);
    let waits = [("waits.sql", "SELECT count(*) AS n FROM system.gate"), ("last.sql", LAST)];
    let own: Vec<(&str, &str)> = own.iter().chain(&waits).copied().collect();
    let (own, other) = (files("", &own), of_project("other", other));
    let meanwhile = async {
        gate.reached().await;
        let ran = world.run(&other).await;
        gate.open();
        ran
    };
    let (first, second) = tokio::join!(world.run(&own), meanwhile);
    [first, second]
}

const BY_KEY: &str = "-- headwater: materialization = merge\n-- headwater: keys = id\n\
                      -- headwater: allow_takeover = true\n";

#[tokio::test]
async fn a_new_key_of_two_runs_is_a_conflict_that_names_the_key() {
    let world = world().await;
    world.sql("main", &["CREATE TABLE k AS SELECT 1 AS id, 10 AS v"]).await;
    let model = format!("{BY_KEY}SELECT 2 AS id, 20 AS v");
    let [first, second] = run_both(&world, &[("k.sql", &model)], &[("k.sql", &model)]).await;
    assert_eq!(second.report().tables, ["k"]);
    insta::assert_snapshot!(refused(&first), @r"
    merge_conflict: during the run, other commits on `main` changed the same tables: k
      caused by: `k`: both sides added or changed a row with the key `id` 2
      hint: Start a new run with `headwater run`: it reads the latest commit.
    ");
    let shown = world.sql("main", &["SELECT count(*) AS n FROM k WHERE id = 2"]).await;
    assert!(shown.contains("| 1 |"), "{shown}");
}

#[tokio::test]
async fn different_new_keys_of_two_runs_are_merged() {
    let world = world().await;
    world.sql("main", &["CREATE TABLE k AS SELECT 1 AS id, 10 AS v"]).await;
    let [two, three] = [2, 3].map(|id| format!("{BY_KEY}SELECT {id} AS id, 20 AS v"));
    let [first, second] = run_both(&world, &[("k.sql", &two)], &[("k.sql", &three)]).await;
    second.report();
    assert_eq!(first.report().tables, ["k", "last"]);
    let shown = world.sql("main", &["SELECT count(*) AS n, sum(id) AS ids FROM k"]).await;
    assert!(shown.contains("| 3 | 6   |"), "{shown}");
}

#[tokio::test]
async fn rows_that_two_runs_append_to_a_table_that_neither_reads_are_merged() {
    let world = world().await;
    world.sql("main", &["CREATE TABLE notes AS SELECT 0 AS id"]).await;
    let [one, two] = [1, 2].map(|id| format!("{TAKEN}append\nSELECT {id} AS id FROM t"));
    let [first, second] = run_both(&world, &[("notes.sql", &one)], &[("notes.sql", &two)]).await;
    assert_eq!(second.report().tables, ["notes"]);
    assert_eq!(first.report().tables, ["last", "notes"]);
    let shown = world.sql("main", &["SELECT count(*) AS n, sum(id) AS ids FROM notes"]).await;
    assert!(shown.contains("| 3 | 3   |"), "{shown}");
}

/// Replaces the ids of commits, which differ in each run.
fn without_ids(text: &str) -> String {
    let mut parts = text.split("commit `");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (_, rest) = part.split_once('`').unwrap();
        shown.push_str(&format!("commit `ID`{rest}"));
    }
    shown
}

const TAKEN: &str = "-- headwater: allow_takeover = true\n-- headwater: materialization = ";

#[tokio::test]
async fn two_runs_that_compute_the_same_new_value_are_a_conflict() {
    let world = world().await;
    world.sql("main", &["CREATE TABLE events (id BIGINT)", "CREATE TABLE sums (n BIGINT)"]).await;
    let append = format!("{TAKEN}append\nSELECT 1::BIGINT AS id");
    let sums = format!("{TAKEN}replace\nSELECT count(*) AS n FROM events");
    let models = [("events.sql", append.as_str()), ("sums.sql", sums.as_str())];
    let [first, second] = run_both(&world, &models, &models).await;
    second.report();
    let text = refused(&first);
    assert!(
        text.starts_with("merge_conflict: during the run, other commits on `main` changed"),
        "{text}"
    );
    let shown = world.sql("main", &["SELECT n, (SELECT count(*) FROM events) AS e FROM sums"]);
    assert!(shown.await.contains("| 1 | 1 |"), "the first run is not merged");
}

#[tokio::test]
async fn two_runs_that_each_read_what_the_other_writes_are_a_conflict() {
    let world = world().await;
    let tables = ["CREATE TABLE one AS SELECT 1 AS id", "CREATE TABLE two AS SELECT 1 AS id"];
    world.sql("main", &tables).await;
    let [one, two] = ["one", "two"].map(|from| format!("{TAKEN}append\nSELECT id FROM {from}"));
    let [first, second] = run_both(&world, &[("two.sql", &one)], &[("one.sql", &two)]).await;
    second.report();
    insta::assert_snapshot!(without_ids(&refused(&first)), @r"
    merge_conflict: during the run, other commits on `main` changed tables that the run read: one
      caused by: `one`: this run read the table before commit `ID` changed it; the run of commit `ID` read `two` before this run changed it; the runs have no serial order
      hint: Start a new run with `headwater run`: it reads the latest commit.
    ");
    assert!(world.sql("main", &["SELECT count(*) AS n FROM two"]).await.contains("| 1 |"));
}

#[tokio::test]
async fn rows_that_a_filter_would_delete_are_a_conflict_if_the_runs_have_no_order() {
    let overwrite = format!(
        "{TAKEN}overwrite_partitions\n-- headwater: partition_by = id\n\
         -- headwater: overwrite_filter = id >= 0\nSELECT id FROM t"
    );
    let latest = format!("{TAKEN}replace\nSELECT max(id) AS id FROM t");
    let overwrites = [("log.sql", &*overwrite), ("latest.sql", &*latest)];
    let append = format!("{TAKEN}append\nSELECT id + 100 AS id FROM latest");
    let appends = [("log.sql", &*append)];
    // In the first case, the first run reads the old row of `latest`. In the second case, it does
    // not delete the row that the other run appended.
    for (own, other) in [(&appends[..], &overwrites[..]), (&overwrites[..], &appends[..])] {
        let world = world().await;
        world.run(&of_project("other", &overwrites)).await.report();
        world.sql("main", &["INSERT INTO t VALUES (2)"]).await;
        let [first, second] = run_both(&world, own, other).await;
        second.report();
        let text = refused(&first);
        assert!(text.contains("changed tables that the run read"), "{text}");
    }
}

#[tokio::test]
async fn a_run_is_merged_although_another_run_appended_to_its_source() {
    let world = world().await;
    let load = format!("{TAKEN}append\nSELECT 2 AS id");
    let model = format!("{TAKEN}replace\nSELECT count(*) AS n FROM t");
    let [first, second] = run_both(&world, &[("counted.sql", &model)], &[("t.sql", &load)]).await;
    assert_eq!(second.report().tables, ["t"]);
    assert_eq!(first.report().tables, ["counted", "last"]);
    let shown = world.sql("main", &["SELECT n, (SELECT count(*) FROM t) AS t FROM counted"]).await;
    assert!(shown.contains("| 1 | 2 |"), "as if the first run had ended before: {shown}");
}

#[tokio::test]
async fn a_run_that_read_a_load_conflicts_with_an_older_run_that_did_not() {
    let world = world().await;
    let slow = |name: &str, path: &str, sql: &str| {
        let waits = "SELECT count(*) AS n FROM system.gate";
        of_project(name, &[(path, &format!("{TAKEN}append\n{sql}")), ("waits.sql", waits)])
    };
    let old = slow("old", "other.sql", "SELECT t.id FROM t CROSS JOIN waits");
    let new = slow("new", "last.sql", "SELECT other.id FROM other CROSS JOIN t CROSS JOIN waits");
    let load = of_project("load", &[("t.sql", &format!("{TAKEN}append\nSELECT 2 AS id"))]);
    let old_gate = world.gate(1);
    let (ended, old_ended) = tokio::sync::oneshot::channel();
    let old_run = async {
        let ran = world.run(&old).await;
        ended.send(()).unwrap();
        ran
    };
    let others = async {
        old_gate.reached().await;
        world.run(&load).await.report();
        let new_gate = world.gate(1);
        let order = async {
            new_gate.reached().await;
            old_gate.open();
            old_ended.await.unwrap();
            new_gate.open();
        };
        tokio::join!(world.run(&new), order).0
    };
    let (old_ran, new_ran) = tokio::join!(old_run, others);
    assert_eq!(old_ran.report().tables, ["other"], "ordered before the load");
    insta::assert_snapshot!(without_ids(&refused(&new_ran)), @r"
    merge_conflict: during the run, other commits on `main` changed tables that the run read: other
      caused by: `other`: this run read the table before commit `ID` changed it; the run of commit `ID` read a table before commit `ID` changed it, but this run started after commit `ID`; the runs have no serial order
      hint: Start a new run with `headwater run`: it reads the latest commit.
    ");
}

#[tokio::test]
async fn a_branch_accepts_only_commits_that_a_project_checked() {
    let world = world().await;
    world.branch("dev").await;
    let catalog = world.lake.catalog();
    catalog.require_checks("main", "test").await.unwrap();
    let first = format!("{KEPT}SELECT id FROM t");
    let project = files("", &[("a.sql", &first), ("small.py", SMALL)]);
    let merge = |source: &str| {
        let request = MergeRequest::new(source.parse().unwrap());
        world.lake.merge("main", request, "eva")
    };
    let world = &world;
    let run_on = |branch: &'static str, files: ProjectFiles| async move {
        world.run_with(&files, |request| request.reference = Some(branch.parse().unwrap())).await
    };
    world.sql("dev", &["INSERT INTO t VALUES (2)"]).await;
    let refused = merge("dev").await.unwrap_err();
    insta::assert_snapshot!(refused, @"`main` requires that the expectations of project `test` pass; they have not passed on `dev`");
    assert_eq!(refused.code(), ErrorCode::BranchProtected);
    let picked = serde_json::from_value(serde_json::json!({"commit": "dev"})).unwrap();
    let refused = world.lake.cherry_pick("main", picked, "eva").await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::BranchProtected);
    run_on("dev", project.clone()).await.report();
    assert_eq!(merge("dev").await.unwrap().outcome, MergeOutcome::FastForward);
    // A run may commit to `main`. The checks on `dev` do not cover the commits that `main` has
    // received since.
    world.sql("dev", &["INSERT INTO t VALUES (3)"]).await;
    let more = [("b.sql", first.as_str()), ("a.sql", &first), ("small.py", SMALL)];
    run_on("main", files("", &more)).await.report();
    run_on("dev", project.clone()).await.report();
    let refused = merge("dev").await.unwrap_err();
    insta::assert_snapshot!(refused, @"`main` requires that the expectations of project `test` pass; they passed on `dev`, which lacks the latest commits of `main`");
    let request = MergeRequest { unchecked: true, ..MergeRequest::new("dev".parse().unwrap()) };
    let report = world.lake.merge("main", request, "eva").await.unwrap();
    assert_eq!(report.outcome, MergeOutcome::Merged);
    // The expectations of another project do not count as the required checks.
    let other = files("", &[("c.sql", &first)]);
    let other = other
        .into_iter()
        .map(|(path, text)| (path, text.text().replace("\"test\"", "\"other\"").into()));
    let ran = run_on("main", other.collect()).await;
    assert_eq!(ran.outcome.as_ref().unwrap_err().code, ErrorCode::BranchProtected);
    let unprotected = catalog.protect_branch("main", false).await.unwrap();
    assert_eq!(unprotected.requires, None);
}

#[tokio::test]
async fn checks_of_an_overtaken_run_do_not_count_for_the_combined_state() {
    let world = world().await;
    let first = format!("{KEPT}SELECT id FROM t");
    let own = [("a.sql", first.as_str()), ("small.py", SMALL)];
    world.run(&files("", &own)).await.report();
    world.lake.catalog().require_checks("main", "test").await.unwrap();
    world.sql("main", &["SELECT 1 AS one"]).await;
    let gate = world.gate(1);
    let waits = "-- headwater: materialization = replace\nSELECT count(*) AS n FROM system.gate";
    let slow = [("a.sql", first.as_str()), ("small.py", SMALL), ("waits.sql", waits)];
    let slow = files("", &slow);
    let run = world.run(&slow);
    let meanwhile = async {
        gate.reached().await;
        let quick = [("a.sql", first.as_str()), ("small.py", SMALL), ("b.sql", first.as_str())];
        world.run(&files("", &quick)).await.report();
        gate.open();
    };
    let (overtaken, ()) = tokio::join!(run, meanwhile);
    insta::assert_snapshot!(refused(&overtaken), @r"
    commit_conflict: `main` received other commits during the run, so its required expectations did not check the merged tables
      hint: Start a new run with `headwater run`: it reads the latest commit.
    ");
    let gate = world.gate(1);
    gate.open();
    assert_eq!(world.run(&slow).await.report().tables, ["waits"]);
}

#[tokio::test]
async fn a_revert_on_a_protected_branch_restores_a_checked_state() {
    let world = world().await;
    let first = format!("{KEPT}SELECT id FROM t");
    let own = |more: &'static str| {
        let own = [("a.sql", first.as_str()), ("small.py", SMALL), (more, first.as_str())];
        files("", &own)
    };
    world.lake.catalog().require_checks("main", "test").await.unwrap();
    let mut runs = Vec::new();
    for more in ["b.sql", "c.sql", "d.sql"] {
        runs.push(world.run(&own(more)).await.report().commit.unwrap());
    }
    let undo = |commit: headwater_model::CommitId, unchecked: bool| {
        let commit = Some(headwater_model::RefSpec::Commit(commit.to_string()));
        let request = RevertRequest { commit, unchecked, ..RevertRequest::default() };
        world.lake.revert("main", request, "eva")
    };
    // Reverting the second run gives a state that no run has checked.
    let refused = undo(runs[1], false).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::BranchProtected);
    assert_eq!(undo(runs[2], false).await.unwrap().outcome, MergeOutcome::Merged);
    assert!(world.sql("main", &["SELECT * FROM d"]).await.contains("`d`"), "undone");
    assert_eq!(undo(runs[1], true).await.unwrap().outcome, MergeOutcome::Merged);
    assert!(world.sql("main", &["SELECT * FROM c"]).await.contains("`c`"), "undone");
    assert!(world.sql("main", &["SELECT id FROM b"]).await.contains("| 1  |"));
}

#[tokio::test]
async fn a_checked_table_is_merged_completely_or_not_at_all() {
    let world = world().await;
    let ran = add_while(&world, &[("small.py", SMALL)], "INSERT INTO a VALUES (100)").await;
    insta::assert_snapshot!(refused(&ran), @r"
    merge_conflict: during the run, other commits on `main` changed the same tables: a
      caused by: `a`: both sides changed the table, but the expectations checked only the source's rows, not the merged rows
      hint: Start a new run with `headwater run`: it reads the latest commit.
    ");
    let shown = world.sql("main", &[COUNTED]).await;
    assert!(shown.contains("| 2 | 101 |"), "{shown}");
}

#[tokio::test]
async fn foreign_commits_on_the_run_branch_are_never_merged() {
    let world = world().await;
    let ran = run_while(&world, LAST, |branch| {
        let world = &world;
        async move {
            world.sql(&branch, &["CREATE OR REPLACE TABLE a AS SELECT 666 AS id"]).await;
        }
    })
    .await;
    insta::assert_snapshot!(refused(&ran), @r"
    commit_conflict: another client wrote to `run/ID` during the run; `main` is unchanged
      hint: Run again, and do not write to the run's branch.
    ");
    assert_eq!(ran.outcome.as_ref().unwrap_err().code, ErrorCode::CommitConflict);
    assert!(world.sql("main", &["SELECT * FROM a"]).await.contains("`a`"), "not merged");
    let shown = world.sql(&format!("run/{}", ran.id), &["SELECT id FROM a"]).await;
    assert!(shown.contains("666"), "it is kept: {shown}");
}
