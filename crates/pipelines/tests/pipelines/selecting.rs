//! Runs of selected models: dbt's selection syntax, the expectations of a selection, and reads of
//! the tables of other models.

use headwater_model::{ProjectFiles, RunRequest, StepStatus, ToProblem};

use crate::support::{Ran, World, files, shown};

const KEPT: &str = "-- headwater: materialization = replace\n";

/// Returns a shop: `orders` -> `clean` (not stored) -> `daily` -> `weekly`, and `people` -> `vips`.
fn shop(daily: &str) -> ProjectFiles {
    let daily = format!("{KEPT}-- headwater: tags = sales, core\n{daily}");
    let checks = "import headwater\n\n\n@headwater.expectation(tags=[\"quick\"])\n\
                  def daily_has_rows(daily=headwater.Model(\"daily\")):\n    \
                  return daily.num_rows > 0\n";
    files(
        "",
        &[
            ("models/staging/clean.sql", "SELECT id, amount FROM orders WHERE amount > 0"),
            ("models/daily.sql", &daily),
            (
                "models/weekly.sql",
                &format!(
                    "{KEPT}-- headwater: tags = sales\nSELECT sum(amount) AS amount FROM daily"
                ),
            ),
            ("models/vips.sql", &format!("{KEPT}SELECT id FROM people")),
            ("checks.py", checks),
        ],
    )
}

const DAILY: &str = "SELECT id, sum(amount) AS amount FROM clean GROUP BY id";

async fn world() -> World {
    let world = World::new().await;
    let tables = [
        "CREATE TABLE orders AS SELECT 1 AS id, 20 AS amount",
        "CREATE TABLE people AS SELECT 7 AS id",
    ];
    world.sql("main", &tables).await;
    world
}

/// Returns the names of the listed steps, or the error.
async fn listed(world: &World, select: &[&str], exclude: &[&str]) -> String {
    let texts = |items: &[&str]| items.iter().map(|one| (*one).to_owned()).collect();
    let (select, exclude) = (texts(select), texts(exclude));
    let request = RunRequest { files: shop(DAILY), select, exclude, ..RunRequest::default() };
    match world.runner.plan(&request).await {
        Err(error) => shown(&error.to_problem()),
        Ok(plan) => {
            let steps = plan.steps.into_iter().filter(|step| step.reason.is_some());
            let mut names: Vec<String> = steps.map(|step| step.name).collect();
            names.sort();
            names.join(" ")
        }
    }
}

async fn run(world: &World, files: &ProjectFiles, select: &[&str]) -> Ran {
    let select: Vec<String> = select.iter().map(|one| (*one).to_owned()).collect();
    world.run_with(files, |request| request.select = select).await
}

#[tokio::test]
async fn selections_have_the_meaning_of_dbt() {
    let world = world().await;
    for (select, exclude, expected) in [
        (&["+weekly"][..], &[][..], "clean daily daily_has_rows weekly"),
        (&["1+weekly"], &["clean"], "clean daily daily_has_rows weekly"),
        (&["daily+"], &[], "clean daily daily_has_rows weekly"),
        (&["daily"], &["daily_has_rows"], "clean daily"),
        (&["DAILY", "vips"], &["kind:expectation"], "clean daily vips"),
        (&["daily vips"], &["kind:expectation"], "clean daily vips"),
        (&["tag:sales,tag:core"], &["tag:quick"], "clean daily"),
        (&["tag:sales"], &["weekly", "tag:quick"], "clean daily"),
        (&["path:models/staging"], &[], "clean"),
        (&["models/v*.sql"], &[], "vips"),
        (&["*i*"], &["daily", "kind:expectation"], "vips"),
        (&["@vips"], &[], "vips"),
        (&["source:people+1"], &[], "vips"),
        (&["source:orders+2"], &["type:expectation"], "clean daily"),
        (&["kind:model"], &["kind:sql"], ""),
        (&[], &["tag:sales"], "clean vips"),
        (&["state:new"], &["kind:expectation", "weekly"], "clean daily vips"),
        (&["state:old"], &[], ""),
        (&["state:unmodified"], &[], ""),
        (&["daily.sql", "file:v*"], &["kind:expectation"], "clean daily vips"),
        (&["file:weekly", "file:vips.sql"], &["weekly"], "vips"),
        (&["fqn:staging"], &[], "clean"),
        (&["fqn:test.staging.clean"], &[], "clean"),
        (&["fqn:staging.*"], &[], "clean"),
        (&["fqn:test.vips"], &[], "vips"),
        (&["package:test"], &["kind:expectation", "weekly", "daily"], "clean vips"),
        (&["package:this,vips"], &[], "vips"),
        (&["resource_type:model"], &["weekly", "resource_type:test", "daily"], "clean vips"),
        (&["config.materialized:ephemeral"], &[], "clean"),
        (&["config.materialized:none"], &[], "clean"),
        (&["config.materialized:table,v*"], &[], "vips"),
        (&["config.materialized:incremental"], &[], ""),
        (&["config.tags:core"], &["test_type:data"], "clean daily"),
    ] {
        let listed = listed(&world, select, exclude).await;
        assert_eq!(listed, expected, "{select:?} without {exclude:?}");
    }
}

#[tokio::test]
async fn names_that_match_nothing_are_errors_with_a_suggestion() {
    let world = world().await;
    insta::assert_snapshot!(listed(&world, &["+dayly"], &[]).await, @r"
    invalid_argument: the selector `+dayly` matches no model and no expectation
      hint: Did you mean `daily`?
    ");
    insta::assert_snapshot!(listed(&world, &["tag:sale"], &[]).await, @r"
    invalid_argument: the selector `tag:sale` matches no model and no expectation
      hint: Did you mean `sales`?
    ");
    insta::assert_snapshot!(listed(&world, &["daily"], &["weekli"]).await, @r"
    invalid_argument: the selector `weekli` matches no model and no expectation
      hint: Did you mean `weekly`?
    ");
    insta::assert_snapshot!(listed(&world, &["stat:modified"], &[]).await, @r"
    invalid_argument: the selector `stat:modified` has the unknown method `stat:`
      hint: Did you mean `state`?
    ");
    insta::assert_snapshot!(listed(&world, &["exposure:x"], &[]).await, @r"
    invalid_argument: the selector `exposure:x` has the unknown method `exposure:`
      hint: The methods are `name`, `tag`, `path`, `file`, `fqn`, `package`, `kind`, `type`, `resource_type`, `test_type`, `source`, `state`, `result`, `config.materialized`, `config.tags`.
    ");
    insta::assert_snapshot!(listed(&world, &["state:modified.body"], &[]).await, @r"
    invalid_argument: the selector `state:modified.body` has the unknown value `modified.body`
      hint: Write `state:modified`. It compares the code, settings, packages and parameters of a model together.
    ");
    insta::assert_snapshot!(listed(&world, &["package:other"], &[]).await, @r"
    invalid_argument: the selector `package:other` matches no model and no expectation
      hint: The projects are `test`, `this`.
    ");
    insta::assert_snapshot!(listed(&world, &["a[b"], &[]).await, @r"
    invalid_argument: the selector `a[b` is not a pattern: unclosed character class; missing ']'
      hint: Use `*`, `?` and `[abc]`.
    ");
}

#[tokio::test]
async fn a_model_reads_the_table_of_a_model_that_is_not_selected() {
    let world = world().await;
    insta::assert_snapshot!(run(&world, &shop(DAILY), &["weekly"]).await.refusal(), @r"
    table_not_found: `weekly` reads model `daily`, which is not selected and has no table at `main` (models/weekly.sql:3)
      hint: Also select the parents of the model: `--select +weekly`.
    ");
    world.run(&shop(DAILY)).await.report();
    world.sql("main", &["INSERT INTO orders VALUES (2, 30)"]).await;

    // `daily` is out of date, but `weekly` is unchanged, because the table of `daily` has not
    // changed.
    let ran = run(&world, &shop(DAILY), &["weekly"]).await;
    assert_eq!(ran.steps(), "weekly unchanged");
    let ran = run(&world, &shop(DAILY), &["daily"]).await;
    assert_eq!(ran.steps(), "clean succeeded, daily succeeded, daily_has_rows succeeded");
    assert_eq!(ran.report().tables, ["daily"]);
    let ran = run(&world, &shop(DAILY), &["weekly"]).await;
    assert_eq!(ran.steps(), "weekly succeeded");

    // After the runs of all parts, a full run has nothing to do.
    let ran = world.run(&shop(DAILY)).await;
    assert!(ran.steps().split(", ").all(|step| step.ends_with("unchanged")), "{}", ran.steps());
    let total = world.sql("main", &["SELECT amount FROM weekly"]).await;
    assert!(total.contains("| 50 "), "{total}");
}

#[tokio::test]
async fn modified_models_are_those_whose_code_differs_from_the_last_build() {
    let world = world().await;
    world.run(&shop(DAILY)).await.report();
    let ran = run(&world, &shop(DAILY), &["state:modified"]).await;
    assert_eq!(ran.steps(), "");
    assert_eq!(ran.report().commit, None);

    // Changed data is not a modification.
    world.sql("main", &["INSERT INTO orders VALUES (2, 30)"]).await;
    assert_eq!(run(&world, &shop(DAILY), &["state:modified"]).await.steps(), "");

    let changed = shop("SELECT id, max(amount) AS amount FROM clean GROUP BY id");
    let ran = run(&world, &changed, &["state:modified+"]).await;
    let expected = "clean succeeded, daily succeeded, daily_has_rows succeeded, weekly succeeded";
    assert_eq!(ran.steps(), expected);
    assert_eq!(run(&world, &changed, &["state:modified+"]).await.steps(), "");

    // An edit of an intermediate model counts as a modification, and so does reverting it.
    let mut edited = changed.clone();
    let clean = "SELECT id, amount FROM orders WHERE amount > 1".to_owned();
    edited.insert("models/staging/clean.sql".to_owned(), clean.into());
    assert_eq!(run(&world, &edited, &["state:modified+"]).await.steps(), expected);
    assert_eq!(run(&world, &edited, &["state:modified+"]).await.steps(), "");
    let reverted = "clean unchanged, daily reused, daily_has_rows unchanged, weekly reused";
    assert_eq!(run(&world, &changed, &["state:modified+"]).await.steps(), reverted);

    // `state:modified` compares with the tables of the run's own branch.
    world.branch("dev").await;
    let dev = Some("dev".parse().unwrap());
    let on_dev = world.run_with(&changed, |request| {
        request.select = vec!["state:modified".to_owned()];
        request.reference = dev;
    });
    assert_eq!(on_dev.await.steps(), "");
}

#[tokio::test]
async fn old_models_are_those_that_were_built() {
    let world = world().await;
    run(&world, &shop(DAILY), &["+daily"]).await.report();
    let old = run(&world, &shop(DAILY), &["state:old,config.materialized:table"]).await;
    assert_eq!(old.steps(), "daily unchanged, daily_has_rows unchanged");
    let new = run(&world, &shop(DAILY), &["state:new"]).await;
    assert_eq!(new.steps(), "vips succeeded, weekly succeeded");

    let changed = shop("SELECT id, max(amount) AS amount FROM clean GROUP BY id");
    let select = &["state:unmodified,config.materialized:table"];
    assert_eq!(run(&world, &changed, select).await.steps(), "vips unchanged, weekly unchanged");
    let ran = run(&world, &changed, &["state:old,kind:model,state:modified"]).await;
    assert_eq!(ran.steps(), "clean succeeded, daily succeeded, daily_has_rows succeeded");
}

#[tokio::test]
async fn results_of_the_last_run_select_models() {
    let world = world().await;
    let run = async |daily: &str, select: &[&str]| {
        let request = |request: &mut RunRequest| {
            request.select = select.iter().map(|one| (*one).to_owned()).collect();
            request.reference = Some("main".parse().unwrap());
        };
        world.run_with(&shop(daily), request).await
    };
    insta::assert_snapshot!(run(DAILY, &["result:error"]).await.refusal(), @r"
    invalid_argument: project `test` has not run on `main`
      hint: Run the project on this branch first, or name the models to run.
    ");

    // `CAST` fails during the run, so that the failed step is `daily` and `weekly` does not run.
    let failing = "SELECT id, CAST('x' || id AS BIGINT) AS amount FROM clean";
    let failed = run(failing, &["clean+"]).await;
    assert!(failed.outcome.is_err(), "{}", failed.steps());
    assert_eq!(failed.step("daily").status, StepStatus::Failed);
    assert_eq!(failed.step("weekly").status, StepStatus::Skipped);

    let ran = run(DAILY, &["result:error", "result:skipped"]).await;
    let expected = "clean succeeded, daily succeeded, daily_has_rows succeeded, weekly succeeded";
    assert_eq!(ran.steps(), expected);
    assert_eq!(run(DAILY, &["result:error+"]).await.steps(), "", "the last run had no error");

    // The last run with steps counts, because the run after it had no steps.
    assert_eq!(run(DAILY, &["result:pass"]).await.steps(), "daily_has_rows unchanged");
}

#[tokio::test]
async fn warnings_and_failed_expectations_of_the_last_run_are_selected() {
    let world = world().await;
    let run = async |severity: &str, select: &[&str]| {
        let checks = format!(
            "import headwater\n\n\n@headwater.expectation(severity=\"{severity}\")\n\
             def many(vips=headwater.Model(\"vips\")):\n    return vips.num_rows > 1\n"
        );
        let vips = format!("{KEPT}SELECT id FROM people");
        let project = files("", &[("vips.sql", &vips), ("checks.py", &checks)]);
        let request = |request: &mut RunRequest| {
            request.select = select.iter().map(|one| (*one).to_owned()).collect();
            request.reference = Some("main".parse().unwrap());
        };
        world.run_with(&project, request).await
    };
    assert_eq!(run("warn", &[]).await.steps(), "many warned, vips succeeded");
    let ran = run("warn", &["result:success"]).await;
    assert_eq!(ran.steps(), "many warned, vips unchanged");
    assert_eq!(run("warn", &["result:warn"]).await.steps(), "many warned");
    assert!(run("fail", &[]).await.outcome.is_err());
    assert_eq!(run("warn", &["result:fail"]).await.steps(), "many warned");
    assert_eq!(run("warn", &["result:fail"]).await.steps(), "", "the last run had no failure");
}

#[tokio::test]
async fn an_expectation_with_severity_warn_does_not_fail_a_run() {
    let world = world().await;
    let checks = |severity: &str| {
        format!(
            "import headwater\n\n\n@headwater.expectation(severity=\"{severity}\")\n\
             def many(vips=headwater.Model(\"vips\")):\n    return vips.num_rows > 1\n"
        )
    };
    let vips = format!("{KEPT}SELECT id FROM people");
    let project = |severity| files("", &[("vips.sql", &vips), ("checks.py", &checks(severity))]);
    let ran = world.run(&project("warn")).await;
    assert_eq!(ran.steps(), "many warned, vips succeeded");
    assert_eq!(ran.report().tables, ["vips"]);
    let again = world.run(&project("warn")).await;
    assert_eq!(again.steps(), "many warned, vips unchanged", "a warning is repeated");
    let modified = run(&world, &project("warn"), &["state:modified"]).await;
    assert_eq!(modified.steps(), "", "the expectation is not modified");
    let refusal = world.run(&project("fail")).await.refusal();
    assert!(refusal.starts_with("expectation_failed: expectation `many` returned false"));
    let refusal = crate::support::refusal(&project("loud"));
    insta::assert_snapshot!(refusal, @r#"
    invalid_project: `severity` of `expectation` does not accept the value `"loud"` (checks.py:4)
      hint: Write the value as `"fail"` or `"warn"`.
    "#);
}
