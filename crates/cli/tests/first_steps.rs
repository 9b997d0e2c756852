//! First steps, as in the README.

mod support;

use serde_json::json;
use support::Workspace;

const MARCH: &str = "origin,carrier,delay\nJFK,AA,5\nJFK,UA,\nLGA,AA,-3\n";

fn imported() -> Workspace {
    let workspace = Workspace::new();
    workspace.write("data/march.csv", MARCH);
    workspace.ok(&["table", "import", "flights", "./data/*.csv"]);
    workspace
}

#[test]
fn a_lake_is_found_from_any_subfolder() {
    let workspace = Workspace::empty();
    let answer = workspace.json(&["init", "my-lake"]);
    assert_eq!(answer["name"], "my-lake");
    assert!(workspace.path().join("my-lake/headwater.toml").is_file());
    let models = workspace.path().join("my-lake/models");
    let output = workspace.command(&["status", "--output", "json"]).current_dir(models).output();
    let answer = support::answer(output.expect("the command runs"));
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    workspace.ok(&["stop", "--lake", "my-lake"]);
    let text = workspace.fails(4, &["init", "my-lake"]);
    assert!(text.contains("already has a lake") && text.contains("hint:"), "{text}");
}

#[test]
fn a_project_for_bauplan_gets_a_lake_and_keeps_its_files() {
    let workspace = Workspace::empty();
    let id = "id: 6f1f0a52-7c2e-4f0e-9a35-0d5f5f2b7c11";
    workspace.write("bauplan_project.yml", format!("project: {{{id}, name: taxis}}\n"));
    workspace.write("models.py", "import bauplan\n\n@bauplan.modle()\ndef m():\n    return []\n");
    let answer = support::answer(workspace.command(&["init"]).output().expect("it runs"));
    assert!(answer.stderr.contains("created a lake for the project"), "{}", answer.stderr);
    assert!(!workspace.path().join("headwater.toml").exists());
    let refused = workspace.fails(2, &["run"]);
    assert!(refused.contains("`bauplan` has no decorator `modle` (models.py:3)"), "{refused}");
    assert!(refused.contains("hint: Did you mean `model`?"), "{refused}");
    workspace.write("models.py", "import bauplan\n\n@bauplan.model()\ndef m():\n    return []\n");
    let plan = workspace.json(&["run", "--dry-run"]);
    assert_eq!(
        (&plan["project"], &plan["steps"][0]["name"]),
        (&json!("taxis"), &json!("bauplan.m"))
    );
}

#[test]
fn files_are_imported_into_a_table_and_queried() {
    let workspace = imported();
    let rows =
        workspace.rows("SELECT origin, count(*) AS n FROM flights GROUP BY origin ORDER BY origin");
    assert_eq!(rows, json!([{"origin": "JFK", "n": 2}, {"origin": "LGA", "n": 1}]));
    let again = workspace.json(&["table", "import", "flights", "data"]);
    assert_eq!((&again["files"], &again["files_skipped"]), (&json!(0), &json!(1)));
    let tables = workspace.json(&["table", "ls"]);
    assert_eq!(tables[0]["rows"], 3);
    let sql = "SELECT carrier, delay FROM flights ORDER BY delay";
    let csv = workspace.ok(&["query", sql, "-o", "csv"]);
    assert_eq!(csv.trim(), "carrier,delay\nAA,-3\nAA,5\nUA,");
}

#[test]
fn a_branch_isolates_changes_until_it_is_merged() {
    let workspace = imported();
    workspace.ok(&["branch", "create", "dev"]);
    workspace.ok(&["checkout", "dev"]);
    workspace.ok(&["query", "CREATE TABLE delays AS SELECT * FROM flights WHERE delay > 0"]);
    let missing = workspace.fails(3, &["query", "SELECT * FROM delays", "--ref", "main"]);
    assert!(missing.contains("`delays`"), "{missing}");
    let diff = workspace.json(&["branch", "diff", "main", "dev"]);
    assert_eq!(diff["tables"][0]["table"], "delays");
    assert_eq!(diff["tables"][0]["kind"], "added");
    assert_eq!(diff["tables"][0]["rows_after"], 1);
    let merged = workspace.json(&["branch", "merge", "dev", "--into", "main"]);
    assert_eq!(merged["outcome"], "fast_forward");
    let commit = merged["commit"].as_str().expect("a commit");
    let at = format!("main@{}", &commit[..12]);
    let rows = workspace.json(&["query", "SELECT carrier FROM delays", "--ref", &at]);
    assert_eq!(rows, json!([{"carrier": "AA"}]));
}

#[test]
fn a_table_is_compared_row_by_row() {
    let workspace = imported();
    workspace.ok(&["query", "UPDATE flights SET delay = 9 WHERE carrier = 'UA'"]);
    let text = workspace.ok(&["table", "diff", "flights", "--key", "origin,carrier,delay"]);
    assert!(text.contains("(+1 -1 ~0)"), "{text}");
    let rows = workspace.ok(&["table", "diff", "flights~1", "flights", "-o", "csv"]);
    assert!(rows.starts_with("change,times,from_origin,"), "{rows}");
    assert!(rows.contains("\nadded,1,,,,"), "{rows}");
    let found = workspace.json(&["table", "diff", "flights@main~1", "flights", "--summary"]);
    assert_eq!((&found["rows_added"], &found["rows"]["rows"]), (&json!(1), &json!([])));
    let same = workspace.ok(&["table", "diff", "flights", "main", "main"]);
    assert!(same.contains("no difference"), "{same}");
    let text = workspace.fails(3, &["table", "diff", "flihgts"]);
    assert!(text.contains("`flights`"), "{text}");
}

#[test]
fn a_row_changed_on_both_sides_is_a_conflict_that_changes_nothing() {
    let workspace = imported();
    workspace.ok(&["branch", "create", "dev"]);
    let delayed = |minutes| format!("UPDATE flights SET delay = {minutes} WHERE carrier = 'UA'");
    workspace.ok(&["query", &delayed(1), "--ref", "dev"]);
    workspace.ok(&["query", &delayed(2)]);
    let head = workspace.json(&["log"])[0]["id"].clone();
    let text = workspace.fails(4, &["branch", "merge", "dev", "--into", "main"]);
    assert!(text.contains("flights") && text.contains("hint:"), "{text}");
    assert_eq!(workspace.json(&["log"])[0]["id"], head);
}

#[test]
fn rows_added_on_both_sides_are_merged() {
    let workspace = imported();
    workspace.ok(&["branch", "create", "dev"]);
    workspace.ok(&["query", "INSERT INTO flights VALUES ('EWR', 'B6', 1)", "--ref", "dev"]);
    workspace.ok(&["query", "INSERT INTO flights VALUES ('EWR', 'DL', 2)"]);
    workspace.ok(&["branch", "merge", "dev", "--into", "main"]);
    let carriers =
        workspace.rows("SELECT carrier FROM flights WHERE origin = 'EWR' ORDER BY carrier");
    assert_eq!(carriers, json!([{"carrier": "B6"}, {"carrier": "DL"}]));
}

#[test]
fn a_run_builds_tables_from_models_and_an_unchanged_run_does_nothing() {
    let workspace = imported();
    workspace.write(
        "models/by_origin.sql",
        "-- headwater: materialization = replace\n\
         SELECT origin, count(*) AS n FROM flights GROUP BY origin\n",
    );
    let report = workspace.json(&["run"]);
    assert_eq!(report["steps"][0]["status"], "succeeded");
    assert_eq!(workspace.rows("SELECT sum(n) AS n FROM by_origin"), json!([{"n": 3}]));
    let again = workspace.json(&["run"]);
    assert_eq!(again["steps"][0]["status"], "unchanged");
    assert_eq!(again["commit"], serde_json::Value::Null);
}

#[test]
fn every_operation_is_a_job_with_usage() {
    let workspace = imported();
    workspace.rows("SELECT 1 AS one");
    let jobs = workspace.json(&["job", "ls"]);
    let kinds: Vec<_> = jobs.as_array().expect("jobs").iter().map(|job| &job["kind"]).collect();
    assert!(kinds.contains(&&json!("query")) && kinds.contains(&&json!("import")), "{kinds:?}");
    let import = jobs.as_array().expect("jobs").iter().find(|job| job["kind"] == "import");
    let id = import.expect("the import")["id"].as_str().expect("an id");
    let job = workspace.json(&["job", "get", &id[id.len() - 8..]]);
    assert_eq!(job["usage"]["rows_written"], 3);
    let usage = workspace.json(&["usage"]);
    let line = usage.as_array().expect("lines").iter().find(|line| line["group"] == "import");
    assert_eq!(line.expect("imports")["jobs"], 1);
}

#[test]
fn system_tables_show_the_lake_through_sql() {
    let workspace = imported();
    workspace.ok(&["branch", "create", "dev"]);
    let rows = workspace.rows("SELECT name FROM system.branches ORDER BY name");
    assert_eq!(rows, json!([{"name": "dev"}, {"name": "main"}]));
    let rows = workspace.rows("SELECT count(*) > 0 AS some FROM system.jobs");
    assert_eq!(rows, json!([{"some": true}]));
}

#[test]
fn a_command_can_run_with_an_embedded_server() {
    let workspace = imported();
    workspace.ok(&["stop"]);
    let rows = workspace.json(&["query", "SELECT count(*) AS n FROM flights", "--in-process"]);
    assert_eq!(rows, json!([{"n": 3}]));
    assert!(workspace.server().is_none(), "the server ended with its command");
}

#[test]
fn table_get_prints_columns_sort_order_and_properties() {
    let workspace = Workspace::new();
    let create = "CREATE TABLE orders (id BIGINT NOT NULL, state VARCHAR DEFAULT 'new') \
                  TBLPROPERTIES ('format-version' = '3', 'owner' = 'sales')";
    workspace.ok(&["query", create]);
    workspace.ok(&["query", "ALTER TABLE orders WRITE ORDERED BY state, id DESC NULLS LAST"]);
    workspace.ok(&["query", "ALTER TABLE orders ALTER COLUMN id COMMENT 'counts up'"]);
    let shown = workspace.ok(&["table", "get", "orders"]);
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    for told in [
        "sorted by state NULLS FIRST, id DESC NULLS LAST",
        "format Iceberg v3",
        "owner = sales",
        "DEFAULT COMMENT",
        "id long no counts up",
        "state string yes 'new'",
    ] {
        assert!(words.contains(told), "`{told}` is not in {shown}");
    }
    let table = workspace.json(&["table", "get", "orders"]);
    assert_eq!(table["sort"][1]["descending"], true);
    assert_eq!(table["columns"][1]["default"], "'new'");
}
