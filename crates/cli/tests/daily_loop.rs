//! The daily work on a project: selections, plans, retries, and runs after each edit.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use serde_json::json;
use support::{Workspace, until};

/// Creates a project: `orders` -> `daily` -> `weekly`.
fn shop() -> Workspace {
    let workspace = Workspace::new();
    workspace.write("orders.csv", "id,amount\n1,20\n2,30\n");
    workspace.ok(&["table", "import", "orders", "orders.csv"]);
    let kept = "-- headwater: materialization = replace\n";
    workspace.write(
        "models/daily.sql",
        format!("{kept}-- headwater: tags = sales\nSELECT id, amount FROM orders"),
    );
    workspace.write("models/weekly.sql", format!("{kept}SELECT sum(amount) AS amount FROM daily"));
    workspace
}

fn edit(workspace: &Workspace, query: &str) {
    let text = format!("-- headwater: materialization = replace\n{query}");
    workspace.write("models/weekly.sql", text);
}

#[test]
fn a_selection_runs_some_models_and_names_a_misspelled_one() {
    let workspace = shop();
    let report = workspace.json(&["run", "--select", "tag:sales", "--exclude", "weekly"]);
    assert_eq!(report["tables"], json!(["daily"]));
    let steps = report["steps"].as_array().expect("steps");
    assert_eq!(steps.len(), 1);
    let failure = workspace.fails(2, &["run", "-s", "weekli"]);
    insta::assert_snapshot!(failure, @r"
    error: the selector `weekli` matches no model and no expectation
      hint: Did you mean `weekly`?
    ");
}

#[test]
fn a_plan_of_an_empty_selection_names_the_selection() {
    let workspace = shop();
    for arguments in [&["--exclude", "*"][..], &["--select", "daily,weekly"]] {
        let answer = workspace.run(&[&["run", "--dry-run"][..], arguments].concat());
        assert_eq!((answer.code, answer.stdout.as_str()), (0, ""), "{}", answer.stderr);
        let text = "the selection matches no model and no expectation";
        assert!(answer.stderr.contains(text), "{}", answer.stderr);
    }
}

#[test]
fn a_plan_is_text_for_people_and_json_for_programs() {
    let workspace = shop();
    workspace.ok(&["run"]);
    workspace.ok(&["query", "CREATE VIEW top AS SELECT max(amount) AS amount FROM weekly"]);
    edit(&workspace, "SELECT max(amount) AS most FROM daily");
    let text = workspace.ok(&["run", "--plan"]);
    // Remove file sizes and costs, which differ between machines.
    let known = |line: &str| match line.find(" rows (") {
        Some(at) => line[..at + " rows".len()].to_owned(),
        None => line.to_owned(),
    };
    let text: Vec<String> = text.lines().map(known).collect();
    insta::assert_snapshot!(text.join("\n"), @r"
    run weekly replace models/weekly.sql:1
        file `models/weekly.sql` changed
        reads 2 rows
        columns: adds `most`; removes `amount` (breaking)
    skip daily: code, settings and inputs are unchanged
    affects view top, which reads weekly: breaking change of columns
    1 to run, 1 to skip; 2 rows
    ");
    let lines = workspace.ok(&["run", "--dry-run"]);
    let weekly = lines.lines().find(|line| line.starts_with("weekly")).expect("a line");
    assert!(weekly.ends_with("file `models/weekly.sql` changed"), "{lines}");
    let plan = workspace.json(&["run", "--plan"]);
    assert_eq!(plan["steps"][1]["why"], json!(["file `models/weekly.sql` changed"]));
    assert_eq!(plan["steps"][1]["columns"]["removed"], json!(["amount"]));
    assert_eq!(plan["affected"][0]["name"], "top");
    assert_eq!(workspace.rows("SELECT amount FROM weekly"), json!([{"amount": 50}]));
}

#[test]
fn a_reverted_edit_reuses_the_earlier_table_unless_reuse_is_off() {
    let workspace = shop();
    workspace.ok(&["run"]);
    let weekly = |arguments: &[&str]| {
        let report = workspace.json(arguments);
        let steps = report["steps"].as_array().expect("steps");
        let step = steps.iter().find(|step| step["step"] == "weekly").expect("a step");
        (step["status"].clone(), step["reuses"].clone())
    };
    let queries = ["max", "sum"].map(|sum| format!("SELECT {sum}(amount) AS amount FROM daily"));
    edit(&workspace, &queries[0]);
    assert_eq!(weekly(&["run"]), (json!("succeeded"), json!(null)));
    edit(&workspace, &queries[1]);
    assert_eq!(weekly(&["run"]), (json!("reused"), json!("main")));
    edit(&workspace, &queries[0]);
    assert_eq!(weekly(&["run", "--no-reuse"]), (json!("succeeded"), json!(null)));
    assert_eq!(workspace.rows("SELECT amount FROM weekly"), json!([{"amount": 30}]));
}

#[test]
fn a_preview_prints_rows_and_changes_nothing() {
    let workspace = shop();
    let text = workspace.ok(&["run", "--preview=1", "--tail"]);
    insta::assert_snapshot!(text, @r"
    daily 1 of 2 rows
      id  amount
       2      30
    weekly 1 of 1 rows
      amount
          50
    ");
    let lines = workspace.ok(&["run", "--preview", "--output", "ndjson", "--select", "daily"]);
    let rows: serde_json::Value = serde_json::from_str(lines.trim()).expect("one JSON line");
    assert_eq!(rows["rows"], json!([{"id": 1, "amount": 20}, {"id": 2, "amount": 30}]));
    assert_eq!(rows["columns"][0], json!({"name": "id", "type": "Int64"}));
    let report = workspace.json(&["run", "--preview=1"]);
    assert_eq!((&report["commit"], &report["tables"]), (&json!(null), &json!([])));
    let missing = workspace.run(&["query", "SELECT * FROM daily"]).stderr;
    assert!(missing.contains("table `daily` is not in `main`"), "{missing}");
    for wrong in [&["--preview=0"][..], &["--tail"], &["--preview", "--plan"], &["--preview=x"]] {
        workspace.fails(2, &[&["run"], wrong].concat());
    }
    let failure = workspace.fails(2, &["run", "--preview", "--output", "csv"]);
    assert!(failure.contains("does not support `--output csv`"), "{failure}");
}

#[test]
fn a_preview_is_not_the_last_run_of_the_project() {
    let workspace = shop();
    workspace.ok(&["run"]);
    edit(&workspace, "SELECT sum(amount) / 0 AS amount FROM daily");
    workspace.fails(5, &["run"]);
    workspace.ok(&["run", "--preview", "--select", "daily"]);
    workspace.ok(&["run", "--dry-run"]);
    edit(&workspace, "SELECT max(amount) AS amount FROM daily");
    let report = workspace.json(&["run", "--select", "result:error"]);
    assert!(report["commit"].is_string(), "{report}");
    assert_eq!(workspace.rows("SELECT amount FROM weekly"), json!([{"amount": 30}]));
    let jobs = workspace.json(&["job", "ls"]);
    let summaries = jobs.as_array().expect("jobs").iter().map(|job| &job["summary"]);
    assert!(summaries.into_iter().any(|summary| summary == "test, preview"), "{jobs}");
}

#[test]
fn a_run_has_openlineage_events() {
    let workspace = shop();
    workspace.ok(&["run", "--openlineage", "events.ndjson"]);
    edit(&workspace, "SELECT sum(amount) / 0 AS amount FROM daily");
    let namespace = ["--openlineage-namespace", "lake"];
    workspace.fails(5, &[&["run", "--openlineage", "events.ndjson"][..], &namespace].concat());
    let text = std::fs::read_to_string(workspace.path().join("events.ndjson")).expect("a file");
    let events = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let events: Vec<serde_json::Value> = events.collect();
    let shown: Vec<String> = events
        .iter()
        .map(|event| {
            let job = &event["job"];
            format!("{} {} {}", job["namespace"], job["name"], event["eventType"]).replace('"', "")
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    headwater test.daily START
    headwater test.daily COMPLETE
    headwater test.weekly START
    headwater test.weekly COMPLETE
    lake test.weekly START
    lake test.weekly FAIL
    ");
    assert_eq!(events[3]["inputs"][0]["name"], "public.daily@main");
    assert_eq!(events[3]["outputs"][0]["name"], "public.weekly@main");
    let columns = &events[3]["outputs"][0]["facets"]["columnLineage"]["fields"];
    let source = &columns["amount"]["inputFields"][0];
    assert_eq!(
        (&source["name"], &source["field"]),
        (&json!("public.daily@main"), &json!("amount"))
    );
    let failure = workspace.fails(3, &["run", "--openlineage", "missing/events.ndjson"]);
    assert!(failure.contains("cannot open `missing/events.ndjson`"), "{failure}");
}

#[test]
fn rows_in_quarantine_are_counted() {
    let workspace = shop();
    let kept = "-- headwater: materialization = replace\n";
    let setting = "-- headwater: expect_or_quarantine = amount > 20\n";
    workspace.write("models/daily.sql", format!("{kept}{setting}SELECT id, amount FROM orders"));
    let shown = workspace.run(&["run"]).stderr;
    assert!(shown.contains("1 row  1 in quarantine"), "{shown}");
    assert!(shown.contains("! 1 row of daily in quarantine: daily_quarantine"), "{shown}");
    let rows = workspace.rows("SELECT id, quarantine_reason AS why FROM daily_quarantine");
    assert_eq!(rows, json!([{"id": 1, "why": "amount > 20"}]));
}

#[test]
fn a_run_reports_why_each_model_ran() {
    let workspace = shop();
    let first = workspace.run(&["run"]).stderr;
    assert!(!first.contains("never built") && !first.contains("` changed"), "{first}");
    let jobs = workspace.json(&["job", "ls", "--kind", "run"]);
    let id = jobs[0]["id"].as_str().expect("an id").to_owned();
    let job = workspace.ok(&["job", "get", &id]);
    let reason = "\n    the model was never built on this branch";
    assert_eq!(job.matches(reason).count(), 2, "{job}");
    let logs = workspace.ok(&["job", "logs", &id]);
    assert!(!logs.contains("never built"), "{logs}");
    edit(&workspace, "SELECT max(amount) AS most FROM daily");
    let shown = workspace.run(&["run"]).stderr;
    let line = |name: &str, text: &str| {
        let mut lines = text.lines().filter(|line| line.contains(&format!(" {name} ")));
        lines.next().unwrap_or_default().to_owned()
    };
    assert!(line("weekly", &shown).ends_with("  file `models/weekly.sql` changed"), "{shown}");
    assert!(line("daily", &shown).ends_with("unchanged"), "{shown}");

    let jobs = workspace.json(&["job", "ls", "--kind", "run"]);
    let id = jobs[0]["id"].as_str().expect("an id").to_owned();
    let logs = workspace.ok(&["job", "logs", &id]);
    assert!(line("weekly", &logs).ends_with("  file `models/weekly.sql` changed"), "{logs}");
    let job = workspace.ok(&["job", "get", &id]);
    assert!(job.contains("\n    file `models/weekly.sql` changed"), "{job}");
    assert!(line("daily", &job).ends_with("unchanged"), "{job}");
    let report = workspace.json(&["job", "get", &id])["result"].clone();
    let reasons = |name: &str| {
        let mut steps = report["steps"].as_array().expect("steps").iter();
        steps.find(|step| step["step"] == name).expect("a step")["reasons"].clone()
    };
    assert_eq!(reasons("weekly"), json!(["file `models/weekly.sql` changed"]));
    assert_eq!(reasons("daily"), json!(null));
}

#[test]
fn a_failed_run_is_continued_by_its_job_id() {
    let workspace = shop();
    edit(&workspace, "SELECT sum(amount) / 0 AS amount FROM daily");
    workspace.fails(5, &["run"]);
    let jobs = workspace.json(&["job", "ls", "--kind", "run"]);
    let id = jobs[0]["id"].as_str().expect("an id").to_owned();
    edit(&workspace, "SELECT sum(amount) AS amount FROM daily");
    let report = workspace.json(&["run", "--retry", &id]);
    let status = |at: usize| report["steps"][at]["status"].clone();
    assert_eq!((status(0), status(1)), (json!("unchanged"), json!("succeeded")));
    assert_eq!(report["tables"], json!(["daily", "weekly"]));
    assert_eq!(workspace.rows("SELECT amount FROM weekly"), json!([{"amount": 50}]));

    let jobs = workspace.json(&["job", "ls", "--kind", "run"]);
    let id = jobs[0]["id"].as_str().expect("an id").to_owned();
    let failure = workspace.fails(2, &["job", "retry", &id]);
    assert!(failure.contains("succeeded, so it cannot be continued"), "{failure}");
}

#[test]
fn unit_tests_compare_the_rows_of_models_without_the_lake() {
    let workspace = shop();
    let test = |amount: u32| {
        format!(
            "- name: amounts are summed\n  model: weekly\n  given:\n    daily:\n      \
             - {{id: 1, amount: 2}}\n      - {{id: 2, amount: 3}}\n  expect:\n    \
             - {{amount: {amount}}}\n"
        )
    };
    workspace.write("tests/weekly.yaml", test(5));
    workspace.ok(&["test"]);
    workspace.write("tests/weekly.yaml", test(6));
    let failure = workspace.fails(5, &["test", "weekly"]);
    assert!(failure.contains("- amount=6") && failure.contains("+ amount=5"), "{failure}");
    workspace.ok(&["test", "daily"]);
    let tables = workspace.json(&["table", "ls"]);
    assert_eq!(tables.as_array().map(Vec::len), Some(1), "no table was written: {tables}");
}

/// A command with `--watch`, and its standard error so far.
struct Watch {
    child: Child,
    shown: Arc<Mutex<String>>,
}

impl Watch {
    fn start(workspace: &Workspace, arguments: &[&str]) -> Self {
        let mut child = workspace.start(arguments);
        let shown = Arc::new(Mutex::new(String::new()));
        let reader = BufReader::new(child.stderr.take().expect("standard error"));
        let copy = Arc::clone(&shown);
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                copy.lock().expect("no panic").push_str(&format!("{line}\n"));
            }
        });
        Watch { child, shown }
    }

    fn shown(&self) -> String {
        self.shown.lock().expect("no panic").clone()
    }

    fn until_rounds(&self, count: usize) {
        until("the round ends", || self.shown().matches("; waiting for edits").count() == count);
    }

    /// Stops the command with Ctrl-C, and returns its standard output.
    fn stop(mut self) -> String {
        let signal = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        assert!(signal.expect("kill runs").success());
        assert_eq!(self.child.wait().expect("the command ends").code(), Some(0));
        let output = self.child.stdout.take().expect("standard output");
        std::io::read_to_string(output).expect("text")
    }
}

#[test]
fn a_watched_project_runs_again_after_each_edit_until_ctrl_c() {
    let workspace = shop();
    let watch = Watch::start(&workspace, &["run", "--watch"]);
    let amount = || workspace.rows("SELECT amount FROM weekly");
    watch.until_rounds(1);
    assert_eq!(amount(), json!([{"amount": 50}]));
    edit(&workspace, "SELECT max(amout) AS amount FROM daily");
    watch.until_rounds(2);
    let error = watch.shown();
    assert!(error.contains("weekly.sql:2"), "the error is shown: {error}");
    assert_eq!(amount(), json!([{"amount": 50}]));
    edit(&workspace, "SELECT max(amount) AS amount FROM daily");
    watch.until_rounds(3);
    assert_eq!(amount(), json!([{"amount": 30}]));
    watch.stop();
}

#[test]
fn a_watched_function_is_called_again_after_each_edit_until_ctrl_c() {
    let workspace = Workspace::new();
    let project = "[project]\nname = \"shop\"\n\n[functions.price]\nruntime = \"python3.11\"\n\
         handler = \"app.handler\"\nfolder = \"price\"\n";
    workspace.write("headwater.toml", project);
    let edit = |body: &str| {
        let text = format!("def handler(event, context):\n    print('got', event)\n    {body}\n");
        workspace.write("price/app.py", text);
    };
    edit("return event * 2");
    let watch = ["function", "invoke", "price", "--arg", "event=21", "--watch"];
    let watch = Watch::start(&workspace, &watch);
    watch.until_rounds(1);
    edit("return event / 0");
    watch.until_rounds(2);
    edit("return event *");
    watch.until_rounds(3);
    edit("return event * 3");
    watch.until_rounds(4);
    let shown = watch.shown();
    for expected in ["got 21", "ZeroDivisionError", "app.py", "call took", "REPORT RequestId: "] {
        assert!(shown.contains(expected), "{expected} in:\n{shown}");
    }
    assert_eq!(watch.stop(), "42\n63\n");
}
