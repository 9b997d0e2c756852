//! Backfills: a run for each value of a parameter, several at once, merged one at a time.

mod support;

use serde_json::{Value, json};
use support::{Workspace, until};

const APPEND: &str = "-- headwater: materialization = append\n";
const REPLACE: &str = "-- headwater: materialization = replace\n";

/// Creates a project with one parameter, and models.
fn project(parameter: &str, models: &[(&str, String)]) -> Workspace {
    let workspace = Workspace::new();
    let manifest = format!("[project]\nname = \"test\"\n\n{parameter}");
    workspace.write("headwater.toml", manifest);
    for (name, text) in models {
        workspace.write(&format!("{name}.sql"), text);
    }
    workspace
}

fn statuses(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let values = report["values"].as_array().expect("values").iter();
    values.map(|value| (text(&value["value"]), text(&value["status"]))).collect()
}

fn branches(workspace: &Workspace) -> Vec<String> {
    let branches = workspace.json(&["branch", "ls", "--all"]);
    let names = branches.as_array().expect("branches").iter();
    names.map(|branch| branch["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn every_day_is_computed_once_and_can_be_repeated() {
    let totals = "-- headwater: materialization = overwrite_partitions\n\
                  -- headwater: partition_by = day\n\
                  SELECT day, sum(amount) AS amount FROM orders WHERE day = $day GROUP BY day";
    let models = [
        ("totals", totals.to_owned()),
        ("days", format!("{APPEND}SELECT $day AS day")),
        ("all_orders", format!("{APPEND}SELECT amount FROM orders")),
    ];
    let workspace = project("[parameters.day]\n", &models);
    let orders = "CREATE TABLE orders AS SELECT '2026-01-0' || (1 + value % 8) AS day, \
                  value AS amount FROM generate_series(1, 80) AS t(value)";
    workspace.ok(&["query", orders]);
    let backfill = ["backfill", "day=2026-01-01..2026-01-08", "--jobs", "3"];
    let report = workspace.json(&backfill);
    assert_eq!((&report["parameter"], &report["branch"]), (&json!("day"), &json!("main")));
    let days: Vec<String> = (1..=8).map(|day| format!("2026-01-0{day}")).collect();
    let merged = days.iter().map(|day| (day.clone(), "merged".to_owned()));
    assert_eq!(statuses(&report), merged.collect::<Vec<_>>());
    let check = || {
        let expected = "SELECT day, sum(amount) AS amount FROM orders GROUP BY day ORDER BY day";
        let totals = "SELECT day, amount FROM totals ORDER BY day";
        assert_eq!(workspace.rows(totals), workspace.rows(expected));
        let rows = workspace.rows("SELECT day FROM days ORDER BY day");
        assert_eq!(rows, json!(days.iter().map(|day| json!({"day": day})).collect::<Vec<_>>()));
        // A model that does not depend on the parameter runs once.
        let rows = workspace.rows("SELECT count(*) AS n FROM all_orders");
        assert_eq!(rows, json!([{"n": 80}]));
        assert_eq!(branches(&workspace), ["main"]);
    };
    check();
    let shown = workspace.run(&backfill).stderr;
    assert!(shown.contains("8 of 8 done"), "{shown}");
    check();
}

#[test]
fn values_that_fail_are_named_and_the_others_are_merged() {
    let model = format!("{APPEND}SELECT $n AS n, 1 / (CASE WHEN $n = 3 THEN 0 ELSE 1 END) AS one");
    let workspace = project("[parameters.n]\ntype = \"int\"\n", &[("numbers", model)]);
    let failure = workspace.fails(5, &["backfill", "n=1..5", "--retries", "0"]);
    assert!(failure.contains("error: 1 of 5 values were not backfilled"), "{failure}");
    assert!(failure.contains("n=3: ") && failure.contains("4 of 5 done"), "{failure}");
    assert!(
        failure.contains("Run the missing values again: `headwater backfill n=3`."),
        "{failure}"
    );
    let jobs = workspace.json(&["job", "ls", "--kind", "backfill"]);
    let id = jobs[0]["id"].as_str().expect("an id");
    let shown = workspace.ok(&["job", "get", id]);
    assert!(shown.contains("  n=1 merged as @") && shown.contains("  n=3 failed: "), "{shown}");
    let result = &workspace.json(&["job", "get", id])["result"];
    let outcomes = statuses(result).into_iter().map(|(_, status)| status);
    let expected = ["merged", "merged", "failed", "merged", "merged"];
    assert_eq!(outcomes.collect::<Vec<_>>(), expected);
    assert!(result["values"][2]["error"]["message"].is_string(), "{result}");
    let numbers = "SELECT n FROM numbers ORDER BY n";
    assert_eq!(workspace.rows(numbers), json!([{"n": 1}, {"n": 2}, {"n": 4}, {"n": 5}]));
    assert!(!branches(&workspace).iter().any(|branch| branch.starts_with("backfill/")));

    let fixed = format!("{APPEND}SELECT $n AS n, 1 AS one");
    workspace.write("numbers.sql", fixed);
    workspace.ok(&["backfill", "n=3"]);
    let rows = workspace.rows("SELECT count(*) AS n FROM numbers WHERE n = 3");
    assert_eq!(rows, json!([{"n": 1}]));
}

#[test]
fn a_failed_first_value_ends_the_backfill() {
    let model = format!("{APPEND}SELECT 1 / $n AS n");
    let workspace = project("[parameters.n]\ntype = \"int\"\n", &[("numbers", model)]);
    let failure = workspace.fails(5, &["backfill", "n=0..3", "--retries", "0"]);
    assert!(failure.contains("4 of 4 values were not backfilled"), "{failure}");
    assert!(failure.contains("Correct the error, and run the command again."), "{failure}");
    let jobs = workspace.json(&["job", "ls", "--kind", "backfill"]);
    let shown = workspace.ok(&["job", "get", jobs[0]["id"].as_str().expect("an id")]);
    assert!(shown.contains("  n=0 failed: ") && shown.contains("  n=3 did not run"), "{shown}");
}

#[test]
fn values_with_conflicts_run_again_one_by_one() {
    let model = format!("{REPLACE}SELECT $n AS n");
    let workspace = project("[parameters.n]\ntype = \"int\"\n", &[("latest", model)]);
    let report = workspace.json(&["backfill", "n=1..6", "--jobs", "6"]);
    assert!(statuses(&report).iter().all(|(_, status)| status == "merged"), "{report}");
    assert_eq!(workspace.rows("SELECT n FROM latest"), json!([{"n": 6}]));
    assert_eq!(branches(&workspace), ["main"]);
}

#[test]
fn wrong_arguments_are_errors_before_the_run() {
    let model = format!("{APPEND}SELECT $n AS n");
    let workspace = project("[parameters.n]\ntype = \"int\"\n", &[("numbers", model)]);
    for (arguments, expected) in [
        (&["n"][..], "`n` does not have the form `PARAMETER=VALUES`"),
        (&["n=3..1"], "the end is before the start"),
        (&["n=1..2", "--param", "n=5"], "the parameter `n` is given twice"),
        (&["n=1..2", "--jobs", "0"], "0 is not in 1..=64"),
        (&["m=1..2"], "`m`"),
        (&["n=1,b"], "parameter `n` must be a whole number, not `b`"),
    ] {
        let failure = workspace.fails(2, &[&["backfill"], arguments].concat());
        assert!(failure.contains(expected), "{arguments:?}: {failure}");
        assert!(!failure.contains("were not backfilled"), "{arguments:?}: {failure}");
    }
    assert_eq!(workspace.json(&["job", "ls", "--kind", "run,backfill"]), json!([]));
}

#[test]
fn a_detached_backfill_over_partitions_is_one_job() {
    let totals = "-- headwater: materialization = overwrite_partitions\n\
                  -- headwater: partition_by = day\n\
                  SELECT $day AS day, 1 AS amount";
    let workspace = project("[parameters.day]\n", &[("totals", totals.to_owned())]);
    workspace.ok(&["backfill", "day=2026-01-01..2026-01-03"]);
    workspace.write("totals.sql", totals.replace("1 AS amount", "2 AS amount"));
    let failure = workspace.fails(2, &["backfill", "day=2026-01-01", "--partitions-of", "totals"]);
    assert!(failure.contains("Write only the name of the parameter."), "{failure}");
    let backfill = ["backfill", "day", "--partitions-of", "totals", "--detach"];
    let id = workspace.ok(&backfill).lines().next().expect("an id").to_owned();
    until("the backfill has succeeded", || {
        workspace.json(&["job", "get", &id])["status"] == "succeeded"
    });
    let job = workspace.json(&["job", "get", &id]);
    assert_eq!((&job["kind"], &job["result"]["total"]), (&json!("backfill"), &json!(3)));
    let rows = workspace.rows("SELECT count(*) AS n, sum(amount) AS sum FROM totals");
    assert_eq!(rows, json!([{"n": 3, "sum": 6}]));
    let jobs = workspace.json(&["job", "ls", "--kind", "backfill"]);
    let summaries = jobs.as_array().expect("jobs").iter().map(|job| &job["summary"]);
    let expected = json!("test, 3 values of day");
    assert_eq!(summaries.collect::<Vec<_>>(), [&expected, &expected]);
}
