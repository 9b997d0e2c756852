//! Retries of failed runs. A retry keeps the results of the failed run. A retry ends with the same
//! tables as a run without a failure.

use headwater_model::{ProjectFiles, RefSpec, RunRequest, ToProblem};

use crate::bauplan::runs::DEFAULTS;
use crate::support::{Ran, World, bauplan_files, files, shown};

const KEPT: &str = "-- headwater: materialization = replace\n";

/// Returns a project whose model `bad` reads `good` and fails with the divisor 0.
fn project(good: &str, divisor: u8) -> ProjectFiles {
    let bad = format!("{KEPT}SELECT id / {divisor} AS id FROM good");
    let checks = "import headwater\n\n\n@headwater.expectation()\n\
                  def bad_has_rows(bad=headwater.Model(\"bad\")):\n    return bad.num_rows > 0\n";
    files("", &[("good.sql", good), ("bad.sql", &bad), ("checks.py", checks)])
}

fn good() -> String {
    format!("{KEPT}SELECT id FROM t")
}

async fn world() -> World {
    let world = World::new().await;
    world.sql("main", &["CREATE TABLE t AS SELECT 1 AS id"]).await;
    world
}

async fn retry(world: &World, files: &ProjectFiles, failed: &Ran) -> Ran {
    let id = failed.id.to_string();
    world.run_with(files, |request| request.retry = Some(id)).await
}

#[tokio::test]
async fn a_retry_runs_only_what_failed_and_merges_everything() {
    let world = world().await;
    let failed = world.run(&project(&good(), 0)).await;
    assert_eq!(failed.steps(), "bad failed, bad_has_rows skipped, good succeeded");
    assert!(world.sql("main", &["SELECT * FROM good"]).await.contains("good"), "not merged");

    // If the retry also fails, its tables are also kept. All retries of a run share one branch.
    let again = retry(&world, &project(&good(), 0), &failed).await;
    assert_eq!(again.steps(), "bad failed, bad_has_rows skipped, good unchanged");
    assert_eq!(world.branches().await, [(format!("run/{}", again.id), true)]);

    // The retry reads the same state as the failed run, without rows that were added later.
    world.sql("main", &["INSERT INTO t VALUES (2)"]).await;
    let request = RunRequest {
        files: project(&good(), 1),
        retry: Some(again.id.to_string()),
        ..RunRequest::default()
    };
    let plan = world.runner.plan(&request).await.unwrap();
    let plan: Vec<_> = plan.steps.iter().map(|step| (&*step.name, step.reason.is_some())).collect();
    assert_eq!(plan, [("good", false), ("bad", true), ("bad_has_rows", true)]);

    let done = retry(&world, &project(&good(), 1), &again).await;
    assert_eq!(done.steps(), "bad succeeded, bad_has_rows succeeded, good unchanged");
    assert_eq!(done.report().tables, ["bad", "good"]);
    assert_eq!(world.branches().await, []);
    let rows = world.sql("main", &["SELECT count(*) AS n FROM bad"]).await;
    assert!(rows.contains("| 1 |"), "{rows}");
    let total = world.sql("main", &["SELECT count(*) AS n FROM t"]).await;
    assert!(total.contains("| 2 |"), "rows of the target stay: {total}");
    assert_eq!(world.run(&project(&good(), 1)).await.report().tables, ["bad", "good"]);
}

#[tokio::test]
async fn a_run_that_only_failed_a_check_is_retried_without_its_models() {
    let world = world().await;
    let check = |minimum: u8| {
        format!(
            "import headwater\n\n\n@headwater.expectation()\n\
             def enough(good=headwater.Model(\"good\")):\n    return good.num_rows > {minimum}\n"
        )
    };
    let project = |minimum| files("", &[("good.sql", &good()), ("checks.py", &check(minimum))]);
    let failed = world.run(&project(1)).await;
    assert!(failed.refusal().starts_with("expectation_failed"), "{}", failed.refusal());
    let done = retry(&world, &project(0), &failed).await;
    assert_eq!(done.steps(), "enough succeeded, good unchanged");
    assert_eq!(done.report().tables, ["good"]);
}

#[tokio::test]
async fn a_changed_model_runs_again_unless_it_adds_rows() {
    let world = world().await;
    let failed = world.run(&project(&good(), 0)).await;
    let edited = format!("{KEPT}SELECT id + 1 AS id FROM t");
    let done = retry(&world, &project(&edited, 1), &failed).await;
    assert_eq!(done.steps(), "bad succeeded, bad_has_rows succeeded, good succeeded");

    let append = "-- headwater: materialization = append\nSELECT id FROM t";
    let failed = world.run(&project(append, 0)).await;
    assert!(failed.refusal().contains("`bad` failed"), "{}", failed.refusal());
    let edited = "-- headwater: materialization = append\nSELECT id + 1 AS id FROM t";
    let refusal = retry(&world, &project(edited, 1), &failed).await.refusal();
    insta::assert_snapshot!(refusal, @r"
    invalid_argument: the failed run already appended the rows of `good`, and a retry would append them again: file `good.sql` changed (good.sql:1)
      hint: Start a new run with `headwater run`.
    ");
    assert_eq!(world.branches().await.len(), 1, "the branch is still there");
    let done = retry(&world, &project(append, 1), &failed).await;
    assert_eq!(done.steps(), "bad succeeded, bad_has_rows succeeded, good unchanged");
    let rows = world.sql("main", &["SELECT count(*) AS n FROM good"]).await;
    assert!(rows.contains("| 2 |"), "appended once: {rows}");
}

#[tokio::test]
async fn a_failed_overwrite_deletes_no_rows() {
    let world = world().await;
    let sql = "-- headwater: materialization = overwrite_partitions\n\
               -- headwater: partition_by = id\n\
               -- headwater: overwrite_filter = id >= 0\n\
               SELECT id, 10 / (id - 2) AS tenth FROM good";
    let project = files("", &[("good.sql", &good()), ("tenths.sql", sql)]);
    world.run(&project).await.report();
    world.sql("main", &["INSERT INTO t VALUES (2)"]).await;
    let failed = world.run(&project).await;
    assert_eq!(failed.steps(), "good succeeded, tenths failed");
    let again = retry(&world, &project, &failed).await;
    assert_eq!(again.steps(), "good unchanged, tenths failed", "{:?}", again.outcome);
    let rows = world.sql(&format!("run/{}", again.id), &["SELECT count(*) AS n FROM tenths"]).await;
    assert!(rows.contains("| 1 |"), "the run's branch has the rows of the first run: {rows}");
}

#[tokio::test]
async fn a_branch_that_others_wrote_to_is_not_continued() {
    let world = world().await;
    let failed = world.run(&project(&good(), 0)).await;
    let branch = format!("run/{}", failed.id);
    world.sql(&branch, &["INSERT INTO good VALUES (9)"]).await;
    let refusal = retry(&world, &project(&good(), 1), &failed).await.refusal();
    assert!(refusal.starts_with("commit_conflict: another client wrote to"), "{refusal}");
}

#[tokio::test]
async fn a_branch_to_which_another_run_was_merged_is_not_continued() {
    let world = world().await;
    let failed = world.run(&project(&good(), 0)).await;
    let branch = RefSpec::Name(format!("run/{}", failed.id));
    let other = files("", &[("other.sql", &good())]);
    let merged = world.run_with(&other, |request| request.reference = Some(branch)).await;
    assert_eq!(merged.report().tables, ["other"]);
    let refusal = retry(&world, &project(&good(), 1), &failed).await.refusal();
    assert!(refusal.starts_with("commit_conflict: another client wrote to"), "{refusal}");
}

#[tokio::test]
async fn a_run_that_wrote_nothing_is_retried_as_a_new_run() {
    let world = world().await;
    let bad = format!("{KEPT}SELECT id / 0 AS id FROM t");
    let failed = world.run(&files("", &[("bad.sql", &bad)])).await;
    assert_eq!(world.branches().await, []);
    let mended = format!("{KEPT}SELECT id FROM t");
    let done = retry(&world, &files("", &[("bad.sql", &mended)]), &failed).await;
    assert_eq!(done.steps(), "bad succeeded");

    let request =
        RunRequest { files: files("", &[]), retry: Some("x".to_owned()), ..RunRequest::default() };
    let error = world.runner.plan(&request).await.unwrap_err();
    insta::assert_snapshot!(shown(&error.to_problem()), @"invalid_argument: `x` is not the id of a job");
}

/// Returns a model that fails until the time `{until}`, a placeholder for seconds since 1970.
fn flaky(settings: &str, exception: &str) -> ProjectFiles {
    let model = format!(
        "import headwater\n\n\n@headwater.model(materialization=\"replace\", {settings})\n\
         def flaky(t=headwater.Model(\"t\", batches=True)):\n    \
         import time\n    \
         print(\"attempt with\", sum(batch.num_rows for batch in t), \"rows\")\n    \
         if time.time() < {{until}}:\n        raise {exception}(\"not yet\")\n    \
         return [{{\"id\": 1}}]\n"
    );
    files("", &[("flaky.py", &model)])
}

#[tokio::test]
async fn a_function_with_retries_is_repeated_with_the_same_inputs() {
    let world = world().await;
    let soon = std::time::SystemTime::now() + std::time::Duration::from_millis(2_500);
    let soon = soon.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64().to_string();
    let project: ProjectFiles = flaky("retries=20, backoff=\"200ms\"", "ConnectionError")
        .into_iter()
        .map(|(path, text)| (path, text.text().replace("{until}", &soon).into()))
        .collect();
    let ran = world.run(&project).await;
    assert_eq!(ran.steps(), "flaky succeeded");
    let attempts =
        ran.printed().iter().filter(|line| line.ends_with("attempt with 1 rows")).count();
    assert!(attempts > 1, "{:?}", ran.printed());
    assert!(ran.printed().iter().any(|line| line.contains("retry 1 of 20 in 0.2 s: ")));
}

#[tokio::test]
async fn errors_of_the_program_and_functions_without_retries_are_not_repeated() {
    let world = world().await;
    let never = |project: ProjectFiles| -> ProjectFiles {
        project
            .into_iter()
            .map(|(path, text)| (path, text.text().replace("{until}", "1e18").into()))
            .collect()
    };
    for (project, attempts) in [
        (flaky("retries=2, backoff=\"10ms\"", "TypeError"), 1),
        (flaky("retries=2, backoff=\"10ms\"", "OSError"), 3),
        (flaky("", "OSError"), 1),
    ] {
        let ran = world.run(&never(project)).await;
        assert!(ran.refusal().contains("not yet"), "{}", ran.refusal());
        let printed = ran.printed();
        assert_eq!(printed.iter().filter(|line| line.contains("attempt with")).count(), attempts);
    }
    let refusal = crate::support::refusal(&flaky("retries=-1", "OSError"));
    assert!(refusal.contains("`retries` of `model` does not accept"), "{refusal}");
}

#[tokio::test]
async fn a_sql_model_with_retries_is_repeated_after_failures_that_may_be_transient() {
    let world = world().await;
    let retries = "-- headwater: retries = 2\n-- headwater: backoff = 10ms\n";
    let model = |settings: &str, query: &str| {
        files("", &[("slow.sql", format!("{KEPT}{retries}{settings}{query}").as_str())])
    };
    let slow = "SELECT count(*) AS n FROM generate_series(1, 1000000) AS a(i) \
                CROSS JOIN generate_series(1, 1000000) AS b(j)";
    let ran = world.run(&model("-- headwater: timeout = 20ms\n", slow)).await;
    assert!(ran.refusal().contains("ran longer than its limit"), "{}", ran.refusal());
    let printed = ran.printed();
    let repeated =
        |number: u8| printed.iter().any(|line| line.contains(&format!("retry {number} of 2 in ")));
    assert!(repeated(1) && repeated(2) && !repeated(3), "{printed:?}");

    // Errors of the query or of its rows are permanent.
    let ran = world.run(&model("", "SELECT id / 0 AS id FROM t")).await;
    assert!(ran.refusal().contains("`slow` failed"), "{}", ran.refusal());
    assert!(!ran.printed().iter().any(|line| line.contains("retry")), "{:?}", ran.printed());

    let ran = world.run(&model("", "SELECT id FROM t")).await;
    assert_eq!(ran.steps(), "slow succeeded");
    let many = files("", &[("m.sql", "-- headwater: retries = 101\nSELECT 1 AS n")]);
    let refusal = crate::support::refusal(&many);
    assert!(refusal.contains("`101` is not a valid number of retries"), "{refusal}");
}

#[tokio::test]
async fn models_of_bauplan_projects_declare_retries() {
    let world = crate::bauplan::runs::world().await;
    let model = "import bauplan\n\n\n@bauplan.model(materialization_strategy=\"REPLACE\", \
                 retries=2, backoff=\"10ms\")\n@bauplan.python(\"3.11\")\n\
                 def flaky(trips=bauplan.Model(\"trips\")):\n    print(\"attempt\")\n    \
                 raise OSError(\"not yet\")\n";
    let project = bauplan_files(DEFAULTS, &[("models.py", model)]);
    let ran = world.run(&project).await;
    assert!(ran.refusal().contains("not yet"), "{}", ran.refusal());
    let attempts = ran.printed().iter().filter(|line| line.ends_with("attempt")).count();
    assert_eq!(attempts, 3, "{:?}", ran.printed());

    let sql = "-- bauplan: materialization_strategy = REPLACE\n-- headwater: retries = 2\n\
               -- headwater: timeout = 20ms\n-- headwater: backoff = 10ms\n\
               SELECT count(*) AS n FROM generate_series(1, 1000000) AS a(i) \
               CROSS JOIN generate_series(1, 1000000) AS b(j)";
    let ran = world.run(&bauplan_files(DEFAULTS, &[("slow.sql", sql)])).await;
    assert!(ran.refusal().contains("ran longer than its limit"), "{}", ran.refusal());
    let repeated = ran.printed().iter().filter(|line| line.contains("retry ")).count();
    assert_eq!(repeated, 2, "{:?}", ran.printed());
}
