//! Invalid input gives an error with a hint, and changes no data.

mod support;

use serde_json::json;
use support::Workspace;

/// Creates a project with one Python model with this body.
fn with_model(decorators: &str, body: &str) -> Workspace {
    let workspace = Workspace::new();
    workspace.write("data.csv", "x\n1\n2\n");
    workspace.ok(&["table", "import", "numbers", "data.csv"]);
    workspace.write(
        "models/wrong.py",
        format!(
            "import headwater\n\n\n@headwater.model(materialization=\"replace\"{decorators})\n\
             @headwater.python(\"3.11\", pip={{}})\n\
             def wrong(numbers=headwater.Model(\"numbers\")):\n{body}\n"
        ),
    );
    workspace
}

fn assert_main_unchanged(workspace: &Workspace) {
    let tables = workspace.json(&["table", "ls", "--ref", "main"]);
    let names: Vec<_> = tables.as_array().expect("tables").iter().map(|t| &t["name"]).collect();
    assert_eq!(names, [&json!("numbers")]);
}

#[test]
fn a_malformed_row_is_reported_with_file_line_and_column() {
    let workspace = Workspace::new();
    workspace.write("good.csv", "day,degrees\n2026-01-01,4\n");
    workspace.ok(&["table", "import", "weather", "good.csv"]);
    workspace.write("bad.csv", "day,degrees\n2026-01-02,5\n2026-01-03,warm\n");
    let text = workspace.fails(5, &["table", "import", "weather", "bad.csv"]);
    for part in ["bad.csv", "line 3", "degrees", "`warm`", "hint:"] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    assert_eq!(workspace.rows("SELECT count(*) AS n FROM weather"), json!([{"n": 1}]));
    let report = workspace.json(&["table", "import", "weather", "bad.csv", "--on-error", "reject"]);
    assert_eq!((&report["rows"], &report["rows_rejected"]), (&json!(1), &json!(1)));
    assert_eq!(workspace.rows("SELECT line FROM weather__rejected"), json!([{"line": 3}]));
}

#[test]
fn a_detached_query_needs_a_server_in_the_background() {
    let workspace = Workspace::new();
    let text = workspace.fails(2, &["query", "SELECT 1 AS n", "--detach", "--in-process"]);
    assert!(text.contains("`--detach` cannot be combined with `--in-process`"), "{text}");
}

#[test]
fn usage_of_no_day_is_rejected() {
    let workspace = Workspace::new();
    for days in ["0", "36501"] {
        let text = workspace.fails(2, &["usage", "--days", days]);
        assert!(text.contains("not in 1..=36500"), "{text}");
    }
    workspace.ok(&["usage", "--days", "1"]);
}

#[test]
fn a_missing_column_is_rejected_before_the_run() {
    let workspace = with_model("", "    return numbers");
    workspace.write("models/sum.sql", "SELECT sum(y) AS y FROM numbers\n");
    let text = workspace.fails(2, &["run"]);
    for part in ["sum.sql:1", "`y`", "hint:"] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    assert_main_unchanged(&workspace);
}

#[test]
fn a_cycle_is_shown_as_a_path() {
    let workspace = Workspace::new();
    workspace.write("models/a.sql", "SELECT * FROM b\n");
    workspace.write("models/b.sql", "SELECT * FROM a\n");
    let text = workspace.fails(2, &["run"]);
    for part in ["a.sql", "b.sql", "hint:"] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
}

#[test]
fn a_decorator_without_parentheses_is_rejected_before_the_run() {
    let workspace = Workspace::new();
    workspace
        .write("models/m.py", "import headwater\n\n\n@headwater.model\ndef m():\n    return []\n");
    for command in [&["run", "--dry-run"][..], &["deploy", "--dry-run"]] {
        let text = workspace.fails(2, command);
        for part in ["models/m.py:4", "Write `@headwater.model()`."] {
            assert!(text.contains(part), "no {part} in:\n{text}");
        }
    }
}

#[test]
fn a_package_that_does_not_exist_is_named() {
    let workspace = Workspace::new();
    workspace.write(
        "models/wrong.py",
        "import headwater\n\n\n@headwater.model()\n\
         @headwater.python(\"3.11\", pip={\"no-such-package-of-headwater\": \"1.0\"})\n\
         def wrong():\n    return [{\"x\": 1}]\n",
    );
    let text = workspace.fails(5, &["run"]);
    for part in ["no-such-package-of-headwater", "hint:"] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
}

#[test]
fn a_function_that_raises_shows_its_own_frames_only() {
    let workspace = with_model(
        "",
        "    return helper(numbers)\n\n\ndef helper(numbers):\n    raise ValueError(\"no such luck\")",
    );
    // The run's branch keeps the tables that were written before the failure.
    let first = "-- headwater: materialization = replace\nSELECT x FROM numbers\n";
    workspace.write("models/first.sql", first);
    let model = std::fs::read_to_string(workspace.path().join("models/wrong.py")).expect("a model");
    workspace.write("models/wrong.py", model.replace("Model(\"numbers\")", "Model(\"first\")"));
    let text = workspace.fails(5, &["run"]);
    for part in ["ValueError", "no such luck", "models/wrong.py", "helper"] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    assert!(!text.contains("site-packages"), "{text}");
    assert_main_unchanged(&workspace);
    let branches = workspace.json(&["branch", "ls"]);
    let failed =
        branches.as_array().expect("branches").iter().find(|b| b["quarantine"].is_string());
    let name = failed.expect("the failed run's branch")["name"].as_str().expect("a name");
    let text = workspace.fails(8, &["branch", "merge", name, "--into", "main"]);
    assert!(text.contains("--unchecked"), "{text}");
}

#[test]
fn a_function_that_exceeds_its_timeout_is_killed() {
    let workspace = with_model(", timeout=\"2s\"", "    while True:\n        pass");
    let text = workspace.fails(6, &["run"]);
    for part in ["wrong", "2", "timeout", "hint:"] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    assert_main_unchanged(&workspace);
}

#[test]
fn a_function_that_exceeds_its_memory_limit_is_killed() {
    let body = "    hoard = []\n    while True:\n        hoard.append(bytearray(16 << 20))";
    let workspace = with_model(", memory=\"256MiB\"", body);
    let text = workspace.fails(6, &["run"]);
    for part in ["wrong", "256", "memory", "hint:"] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    assert_main_unchanged(&workspace);
}

#[test]
fn an_error_is_one_json_document_with_json_output() {
    let workspace = Workspace::new();
    let answer = workspace.run(&["query", "SELECT * FROM nothing", "--output", "json"]);
    assert_eq!(answer.code, 3);
    let document: serde_json::Value = serde_json::from_str(&answer.stdout).expect("one document");
    assert_eq!(document["error"]["code"], "table_not_found");
}

#[test]
fn an_unsupported_statement_is_rejected_by_name() {
    let workspace = with_model("", "    return numbers");
    for (sql, name) in [
        ("CREATE INDEX i ON numbers (x)", "CREATE INDEX"),
        ("CREATE SEQUENCE eva", "CREATE SEQUENCE"),
        ("COPY numbers FROM 'x.csv'", "COPY FROM"),
    ] {
        let text = workspace.fails(2, &["query", sql]);
        assert!(text.contains(name), "{sql}\n{text}");
    }
    assert_eq!(workspace.rows("SELECT count(*) AS n FROM numbers"), json!([{"n": 2}]));
}
