//! Row expectations: failing rows fail the run, are a warning, or go to the quarantine table.

use headwater_model::StepStatus;

use crate::support::{World, files, refusal};

const EVENTS: &str = "CREATE TABLE events AS SELECT * FROM \
                      (VALUES (1, 10), (2, -5), (3, NULL), (4, 200)) AS v(id, amount)";

async fn world() -> World {
    let world = World::new().await;
    world.sql("main", &[EVENTS]).await;
    world
}

async fn rows(world: &World, query: &str) -> Vec<String> {
    let shown = world.sql("main", &[query]).await;
    let rows = shown.lines().filter(|line| line.starts_with('|')).skip(1);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(","))
        .collect()
}

fn model(materialization: &str, settings: &str) -> String {
    let settings = settings.lines().map(|line| format!("-- headwater: {line}\n"));
    format!(
        "-- headwater: materialization = {materialization}\n{}SELECT id, amount FROM events",
        settings.collect::<String>()
    )
}

#[tokio::test]
async fn rows_in_quarantine_are_in_a_separate_table_with_their_reasons() {
    let world = world().await;
    let settings =
        "expect_or_quarantine = amount >= 0\nexpect_or_quarantine = clean.amount < $most";
    let sql = model("replace", settings);
    let child = "-- headwater: materialization = replace\nSELECT count(*) AS n FROM clean";
    let manifest = "[parameters.most]\ntype = 'int'\ndefault = 100\n";
    let project = files(manifest, &[("clean.sql", &sql), ("total.sql", child)]);
    let ran = world.run(&project).await;
    ran.report();
    assert_eq!((ran.step("clean").rows, ran.step("clean").quarantined), (Some(1), Some(3)));
    assert_eq!(ran.step("total").quarantined, None);
    assert_eq!(rows(&world, "SELECT * FROM clean").await, ["1,10"]);
    assert_eq!(rows(&world, "SELECT * FROM total").await, ["1"]);
    let job = ran.id.to_string();
    let query = "SELECT * FROM clean_quarantine ORDER BY id";
    let reasons = ["amount >= 0", "amount >= 0; clean.amount < $most", "clean.amount < $most"];
    let expected: Vec<String> = ["2,-5", "3,", "4,200"]
        .iter()
        .zip(reasons)
        .map(|(row, reason)| format!("{row},{reason},{job}"))
        .collect();
    assert_eq!(rows(&world, query).await, expected);

    // A changed parameter of a condition makes the model run again. Without rows for the
    // quarantine, the quarantine table becomes empty.
    let parameters = |request: &mut headwater_model::RunRequest| {
        request.parameters.insert("most".to_owned(), "1000".to_owned());
    };
    let ran = world.run_with(&project, parameters).await;
    assert_eq!(ran.step("clean").quarantined, Some(2));
    assert_eq!(rows(&world, query).await.len(), 2);
    world.sql("main", &["DELETE FROM events WHERE amount IS NULL OR amount < 0"]).await;
    let ran = world.run_with(&project, parameters).await;
    assert_eq!((ran.step("clean").rows, ran.step("clean").quarantined), (Some(2), Some(0)));
    assert_eq!(rows(&world, query).await, [""; 0]);
    assert!(world.run_with(&project, parameters).await.all(StepStatus::Unchanged));
}

#[tokio::test]
async fn quarantined_rows_of_growing_tables_are_added() {
    for (materialization, more) in [("append", ""), ("merge", "keys = id\n")] {
        let world = world().await;
        let settings = format!("{more}incremental = events\nexpect_or_quarantine = amount >= 0");
        let sql = model(materialization, &settings);
        let project = files("", &[("clean.sql", &sql)]);
        let first = world.run(&project).await;
        assert_eq!(first.step("clean").quarantined, Some(2), "{materialization}");
        world.sql("main", &["INSERT INTO events VALUES (5, 50), (6, -6)"]).await;
        let second = world.run(&project).await;
        let step = second.step("clean");
        assert_eq!((step.rows, step.quarantined), (Some(1), Some(1)), "{materialization}");
        assert_eq!(rows(&world, "SELECT id FROM clean ORDER BY id").await, ["1", "4", "5"]);
        let query = "SELECT quarantine_job, count(*) FROM clean_quarantine \
                     GROUP BY quarantine_job ORDER BY count(*)";
        let expected = [format!("{},1", second.id), format!("{},2", first.id)];
        assert_eq!(rows(&world, query).await, expected, "{materialization}");
    }
}

/// Returns the number of commits of the model `clean`.
async fn commits(world: &World) -> usize {
    rows(world, "SELECT id FROM system.commits WHERE message = 'Model clean'").await.len()
}

#[tokio::test]
async fn rows_and_quarantine_are_one_commit() {
    let more = [
        ("append", ""),
        ("merge", "keys = id\n"),
        ("overwrite_partitions", "partition_by = id\noverwrite_filter = id > 0\n"),
    ];
    for (materialization, more) in more {
        let world = world().await;
        let settings = format!("{more}expect_or_quarantine = amount >= 0");
        let project = files("", &[("clean.sql", &model(materialization, &settings))]);
        world.run(&project).await.report();
        world.sql("main", &["INSERT INTO events VALUES (5, 50), (6, -6)"]).await;
        let before = commits(&world).await;
        let second = world.run(&project).await;
        second.report();
        let after = commits(&world).await;
        assert_eq!(after - before, 1, "{materialization}: one commit");
    }
}

#[tokio::test]
async fn python_models_have_row_expectations() {
    let world = world().await;
    let python = "import headwater\n\
                  @headwater.model(materialization='replace', expect=['id > 0'],\n    \
                  expect_or_warn='amount < 100', expect_or_quarantine=['amount IS NOT NULL'])\n\
                  def clean(t=headwater.Model('events')):\n    return t\n";
    let project = files("[defaults]\npython = '3.11'\n", &[("m.py", python)]);
    let ran = world.run(&project).await;
    ran.report();
    assert_eq!((ran.step("clean").rows, ran.step("clean").quarantined), (Some(3), Some(1)));
    let warning =
        "clean m.py:4 warning: 1 of 3 rows of `clean` do not satisfy `amount < 100` (m.py:3)";
    assert!(ran.printed().contains(&warning.to_owned()), "{:?}", ran.printed());
    assert_eq!(rows(&world, "SELECT id FROM clean_quarantine").await, ["3"]);
    // An edited condition makes the model run again.
    let edited = python.replace("amount IS NOT NULL", "amount > 0");
    let ran = world.run(&files("[defaults]\npython = '3.11'\n", &[("m.py", &edited)])).await;
    ran.report();
    assert_eq!((ran.step("clean").rows, ran.step("clean").quarantined), (Some(2), Some(2)));
}

#[tokio::test]
async fn a_failed_row_expectation_fails_a_strict_run() {
    let world = world().await;
    let sql = model("replace", "expect = amount >= 0\nexpect = id < 4");
    let project = files("", &[("clean.sql", &sql)]);
    let refused = world.run(&project).await.refusal();
    assert!(refused.starts_with("expectation_failed: "), "{refused}");
    let first = "2 of 4 rows of `clean` do not satisfy `amount >= 0` (clean.sql:2)";
    let second = "1 of 4 rows of `clean` do not satisfy `id < 4` (clean.sql:3)";
    assert!(refused.contains(first) && refused.contains(second), "{refused}");
    assert!(rows(&world, "SELECT * FROM clean").await.is_empty(), "nothing is written");
    let ran = world.run_with(&project, |request| request.strict = Some(false)).await;
    ran.report();
    assert_eq!(ran.printed().iter().filter(|line| line.contains("warning: ")).count(), 2);
    assert_eq!(rows(&world, "SELECT count(*) FROM clean").await, ["4"]);
}

#[tokio::test]
async fn wrong_row_expectations_are_errors_before_the_run() {
    let world = world().await;
    for (materialization, settings, expected) in [
        ("replace", "expect = amount >=", "`expect` cannot be used"),
        ("replace", "expect_or_warn = amount IN (SELECT 1)", "a subquery"),
        ("replace", "expect_or_quarantin = amount > 0", "Did you mean `expect_or_quarantine`?"),
        (
            "none",
            "expect_or_quarantine = amount > 0",
            "uses `expect_or_quarantine`, but is not stored as a table (m.sql:2)",
        ),
        ("replace", "expect = amount > $least", "least"),
    ] {
        let refused = refusal(&files("", &[("m.sql", &model(materialization, settings))]));
        assert!(refused.contains(expected), "{settings}: {refused}");
    }
    for (settings, expected) in [
        ("expect = amuont > 0", "amuont"),
        ("expect = amount + 1", "has the type Int64, not Boolean (m.sql:2)"),
    ] {
        let plan = world.plan(&files("", &[("m.sql", &model("replace", settings))])).await;
        assert!(plan.contains(expected) && plan.contains("m.sql:2"), "{settings}: {plan}");
    }
    let reserved = "-- headwater: materialization = replace\n\
                    -- headwater: expect_or_quarantine = id > 0\n\
                    SELECT id, 1 AS quarantine_job FROM events";
    let plan = world.plan(&files("", &[("m.sql", reserved)])).await;
    assert!(plan.contains("column `quarantine_job` of `m` has a name that"), "{plan}");

    let quarantine = model("replace", "expect_or_quarantine = amount > 0");
    let both = files("", &[("m.sql", &quarantine), ("m_quarantine.sql", "SELECT 1 AS a")]);
    let refused = refusal(&both);
    assert!(refused.contains("has the name of the quarantine table of `m`"), "{refused}");
    world.sql("main", &["CREATE TABLE m_quarantine AS SELECT 1 AS a"]).await;
    let plan = world.plan(&files("", &[("m.sql", &quarantine)])).await;
    assert!(plan.contains("model `m_quarantine` would write to a table that"), "{plan}");

    let whole = "import headwater\n@headwater.expectation(severity='quarantine')\n\
                 def e(t=headwater.Model('events')):\n    return True\n";
    let refused = refusal(&files("", &[("e.py", whole)]));
    assert!(refused.contains("checks whole tables") && refused.contains("expect_or_quarantine"));
}
