//! Messages of commands: errors suggest the next step, and unsupported output formats are rejected.

mod support;

use serde_json::json;
use support::{Workspace, answer, until};

fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
}

#[test]
fn the_active_branch_is_not_deleted_without_force() {
    let workspace = Workspace::new();
    workspace.ok(&["checkout", "-b", "dev"]);
    let text = workspace.fails(8, &["branch", "rm", "dev"]);
    contains(
        &text,
        &[
            "branch `dev` is the active branch and cannot be deleted",
            "`headwater checkout main`",
            "`--force`",
        ],
    );
    workspace.ok(&["branch", "rm", "dev", "--force"]);
    let status = workspace.json(&["status"]);
    assert_eq!((&status["branch"], &status["branch_exists"]), (&json!("main"), &json!(true)));
}

#[test]
fn a_tag_cannot_be_the_active_branch() {
    let workspace = Workspace::new();
    workspace.ok(&["tag", "create", "v1"]);
    let text = workspace.fails(2, &["checkout", "v1"]);
    contains(&text, &["`v1` is a tag", "`--ref v1`", "`headwater checkout -b NAME --from v1`"]);
    workspace.ok(&["checkout", "-b", "later", "--from", "v1"]);
    contains(&workspace.fails(3, &["checkout", "nope"]), &["no branch `nope`"]);
}

#[test]
fn a_deleted_active_branch_is_reported() {
    let workspace = Workspace::new();
    workspace.ok(&["checkout", "-b", "dev"]);
    // Delete the branch through the API, which does not read the folder's active branch.
    let elsewhere = Workspace::empty();
    std::fs::create_dir(elsewhere.path().join(".headwater")).expect("a folder");
    std::fs::rename(workspace.path().join(".headwater/HEAD"), elsewhere.path().join("HEAD"))
        .expect("a file");
    workspace.ok(&["branch", "rm", "dev"]);
    std::fs::rename(elsewhere.path().join("HEAD"), workspace.path().join(".headwater/HEAD"))
        .expect("a file");
    let status = workspace.ok(&["status"]);
    contains(&status, &["dev (missing)", "`headwater checkout main`"]);
    assert_eq!(workspace.json(&["status"])["branch_exists"], false);
    for command in [&["table", "ls"][..], &["query", "SELECT 1"], &["log"], &["run"]] {
        let text = workspace.fails(3, command);
        contains(&text, &["`dev`", "`headwater checkout main`"]);
    }
    workspace.ok(&["checkout", "main"]);
    workspace.ok(&["table", "ls"]);
}

#[test]
fn a_conflict_names_tables_changes_commits_and_the_base() {
    let workspace = Workspace::new();
    workspace.ok(&["query", "CREATE TABLE cities AS SELECT 'Oslo' AS name, 1 AS n"]);
    let base = workspace.json(&["log"])[0]["id"].as_str().expect("a commit")[..12].to_owned();
    workspace.ok(&["branch", "create", "dev"]);
    for branch in ["main", "dev"] {
        let sql = format!("CREATE OR REPLACE TABLE cities AS SELECT '{branch}' AS name, 2 AS n");
        workspace.ok(&["query", &sql, "--ref", branch]);
    }
    let head = |branch: &str| {
        workspace.json(&["log", branch])[0]["id"].as_str().expect("a commit")[..12].to_owned()
    };
    let parts = [&base, &head("main"), &head("dev"), "cities", "eva", "hint:"];
    let merge = ["branch", "merge", "dev", "--into", "main"];
    let dry_run = [&merge[..], &["--dry-run"]].concat();
    contains(&workspace.fails(4, &merge), &parts);
    contains(&workspace.fails(4, &dry_run), &parts);
    let json = |arguments: &[&str]| workspace.run(&[arguments, &["-o", "json"]].concat()).stdout;
    assert_eq!(json(&merge), json(&dry_run));
    let document: serde_json::Value = serde_json::from_str(&json(&dry_run)).expect("JSON");
    let conflict = &document["error"]["context"]["report"]["conflicts"][0];
    assert_eq!(conflict["table"], "cities");
}

/// Returns the id of a branch's newest commit, as twelve digits.
fn head(workspace: &Workspace, branch: &str) -> String {
    workspace.json(&["log", branch])[0]["id"].as_str().expect("a commit")[..12].to_owned()
}

#[test]
fn a_row_conflict_names_its_commits_and_values() {
    let workspace = Workspace::new();
    let rows = "CREATE TABLE cities AS SELECT * FROM (VALUES ('Oslo', 1, 10), ('Rome', 2, 20)) \
                AS v(name, people, area)";
    workspace.ok(&["query", rows]);
    workspace.ok(&["branch", "create", "dev"]);
    let mut changed = Vec::new();
    for (branch, people) in [("main", 3), ("dev", 4)] {
        workspace.ok(&["query", "INSERT INTO cities VALUES ('Bern', 5, 5)", "--ref", branch]);
        let sql = format!("UPDATE cities SET people = {people} WHERE name = 'Oslo'");
        workspace.ok(&["query", &sql, "--ref", branch]);
        changed.push(head(&workspace, branch));
        for name in ["Lund", "Pisa"] {
            let sql = format!("INSERT INTO cities VALUES ('{name}', 6, 6)");
            workspace.ok(&["query", &sql, "--ref", branch]);
        }
    }
    let merge = ["branch", "merge", "dev", "--into", "main"];
    let text = workspace.fails(4, &merge);
    let row = "row {\"name\":\"Oslo\",\"area\":10}: people 1 before, 3 on main, 4 on dev";
    contains(&text, &[row, &format!("by @{}", changed[0]), &format!("by @{}", changed[1])]);
    let json = workspace.run(&[&merge[..], &["-o", "json"]].concat()).stdout;
    let document: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let conflict = &document["error"]["context"]["report"]["conflicts"][0];
    let column = &conflict["causes"][0]["changed"][0]["columns"][0];
    let expected =
        json!({"column": "people", "changed": true, "base": 1, "target": 3, "source": 4});
    assert_eq!(*column, expected);
    let id = |side: &str| conflict[side]["id"].as_str().expect("a commit")[..12].to_owned();
    assert_eq!([id("target"), id("source")], [changed[0].clone(), changed[1].clone()]);
}

#[test]
fn a_conflict_about_a_removed_row_names_the_side_that_removed_it() {
    let workspace = Workspace::new();
    let rows =
        "CREATE TABLE cities AS SELECT * FROM (VALUES ('Oslo', 1), ('Rome', 2)) AS v(name, n)";
    workspace.ok(&["query", rows]);
    workspace.ok(&["branch", "create", "dev"]);
    workspace.ok(&["query", "DELETE FROM cities WHERE name = 'Oslo'"]);
    workspace.ok(&["query", "UPDATE cities SET n = 7 WHERE name = 'Oslo'", "--ref", "dev"]);
    let text = workspace.fails(4, &["branch", "merge", "dev", "--into", "main"]);
    contains(&text, &["row {\"name\":\"Oslo\"}: removed on main; n 1 before, 7 on dev"]);
}

#[test]
fn a_merge_after_its_revert_names_the_revert_and_the_command_to_restore() {
    let workspace = Workspace::new();
    workspace.ok(&["query", "CREATE TABLE cities AS SELECT 'Oslo' AS name"]);
    workspace.ok(&["branch", "create", "dev"]);
    workspace.ok(&["query", "INSERT INTO cities VALUES ('Bern')", "--ref", "dev"]);
    workspace.ok(&["query", "INSERT INTO cities VALUES ('Rome')"]);
    let merge = ["branch", "merge", "dev", "--into", "main"];
    workspace.ok(&merge);
    workspace.ok(&["branch", "revert", "main", "--on", "main"]);
    let revert = head(&workspace, "main");
    let again = workspace.run(&merge);
    assert_eq!(again.code, 0, "{}", again.stderr);
    let command = format!("headwater branch revert @{revert} --on main");
    contains(&again.stderr, &["already has all changes of dev", &format!("@{revert}"), &command]);
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    workspace.ok(&words);
    let names = workspace.rows("SELECT name FROM cities ORDER BY name");
    assert_eq!(names, json!([{"name": "Bern"}, {"name": "Oslo"}, {"name": "Rome"}]));
    let again = workspace.run(&merge);
    assert!(!again.stderr.contains("reverted these changes"), "{}", again.stderr);
}

#[test]
fn a_conflict_of_a_models_table_names_the_command_to_recompute_it() {
    let workspace = Workspace::new();
    workspace.ok(&["query", "CREATE TABLE t AS SELECT 1 AS id"]);
    let model = "-- headwater: materialization = replace\nSELECT count(*) AS n FROM t\n";
    workspace.write("models/agg.sql", model);
    workspace.ok(&["run"]);
    workspace.ok(&["branch", "create", "dev"]);
    for branch in ["main", "dev"] {
        workspace.ok(&["query", "INSERT INTO t VALUES (2)", "--ref", branch]);
        workspace.ok(&["run", "--ref", branch]);
    }
    let text = workspace.fails(4, &["branch", "merge", "dev", "--into", "main"]);
    contains(&text, &["headwater branch merge dev --into main --rerun", "recomputes `agg`"]);
    let merge = ["branch", "merge", "dev", "--into", "main", "--rerun"];
    let plan = workspace.ok(&[&merge[..], &["--dry-run"]].concat());
    contains(&plan, &["agg", "table `t` changed"]);
    let merged = workspace.run(&merge);
    assert_eq!(merged.code, 0, "{}", merged.stderr);
    contains(&merged.stderr, &["merged into main", "agg recomputed", "t merged by content"]);
    assert_eq!(workspace.rows("SELECT n FROM agg"), json!([{"n": 3}]));
}

#[test]
fn an_unsupported_output_format_is_rejected() {
    let workspace = Workspace::new();
    for form in ["csv", "ndjson"] {
        for command in [&["table", "ls"][..], &["branch", "ls"], &["status"], &["job", "ls"]] {
            let text = workspace.fails(2, &[command, &["--output", form]].concat());
            contains(&text, &[&format!("`--output {form}`"), "`--output json`", "table"]);
        }
    }
    assert_eq!(workspace.ok(&["query", "SELECT 1 AS n", "-o", "csv"]), "n\n1\n");
    let comment = "-- a comment = no option\nSELECT 1 AS n, '' AS e";
    assert_eq!(workspace.ok(&["query", comment, "-o", "csv"]), "n,e\n1,\"\"\n");
    assert!(workspace.ok(&["audit", "-o", "csv"]).starts_with("time,"), "the header");
}

#[test]
fn conflicting_flags_and_empty_names_are_rejected() {
    let workspace = Workspace::new();
    workspace.fails(2, &["run", "--strict", "--no-strict"]);
    workspace.fails(2, &["init", "other", "--name", ""]);
    assert!(!workspace.path().join("other").exists());
}

#[test]
fn stop_reports_the_stopped_jobs() {
    let workspace = Workspace::new();
    workspace.write("models/forever.sql", support::ENDLESS);
    let run = workspace.json(&["run", "--detach"]);
    let id = run["id"].as_str().expect("an id");
    workspace.job_until("run", "running");
    let stopped = workspace.run(&["job", "stop", id]);
    contains(&stopped.stderr, &["stop", id]);
    workspace.job_until("run", "cancelled");
    let again = workspace.run(&["job", "stop", id]);
    assert_eq!(again.code, 0);
    contains(&again.stderr, &[id, "had already ended", "cancelled"]);
    let pid = workspace.server().expect("a server")["pid"].to_string();
    let text = workspace.run(&["stop"]).stderr;
    contains(&text, &["stopped the server", &pid]);
    contains(&workspace.run(&["stop"]).stderr, &["no server is running"]);
}

#[test]
fn a_stopped_run_is_not_a_failed_run() {
    let workspace = Workspace::new();
    workspace.write("models/forever.sql", support::ENDLESS);
    workspace.write("models/first.sql", "-- headwater: materialization = replace\nSELECT 1 AS n\n");
    let run = workspace.json(&["run", "--detach"]);
    let id = run["id"].as_str().expect("an id");
    until("the first model is written", || {
        workspace.ok(&["job", "logs", id, "-o", "json"]).contains("step_ended")
    });
    workspace.ok(&["job", "stop", id]);
    workspace.job_until("run", "cancelled");
    let branches = workspace.ok(&["branch", "ls", "--all"]);
    assert!(branches.contains("stopped run") && !branches.contains("failed"), "{branches}");
    let shown = workspace.run(&["branch", "ls"]);
    assert!(!shown.stdout.contains("run/"), "{}", shown.stdout);
    contains(&shown.stderr, &["1 branch of a run not shown", "`headwater branch ls --all`"]);
    assert_eq!(workspace.json(&["branch", "ls"]).as_array().expect("branches").len(), 2);
}

#[test]
fn a_result_that_fails_midway_fails_the_command() {
    let workspace = Workspace::new();
    let digits = "d(x) AS (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9))";
    let sql = format!(
        "WITH {digits}, n(n) AS (SELECT a.x + 10 * b.x + 100 * c.x + 1000 * d.x + 10000 * e.x \
         + 100000 * f.x FROM d a, d b, d c, d d, d e, d f) SELECT 1 / (n - 999999) AS q FROM n"
    );
    for form in ["json", "ndjson", "csv"] {
        let answer = workspace.run(&["query", &sql, "-o", form]);
        assert_eq!(answer.code, 5, "{form}: {}", answer.stderr);
        assert!(answer.stdout.len() > 1000, "{form}: rows came before the error");
        contains(&answer.stderr, &["error:", "zero"]);
    }
    let job = &workspace.json(&["job", "ls", "--status", "failed"])[0];
    assert_eq!(job["kind"], "query");
}

#[test]
fn statements_take_parameters() {
    let workspace = Workspace::new();
    let sql = "SELECT $late AS late, $code AS code, $really AS really";
    let given = ["--param", "late=60", "--param", "code=0123", "--param", "really=true"];
    let rows = workspace.json(&[&["query", sql][..], &given].concat());
    assert_eq!(rows, json!([{"late": 60, "code": "0123", "really": true}]));
    let text = workspace.fails(2, &["query", "SELECT $late"]);
    contains(&text, &["`$late` has no value", "--param late=VALUE"]);
}

#[test]
fn unknown_names_are_rejected() {
    let workspace = Workspace::new();
    for command in [&["query", "SELECT 1"][..], &["table", "ls"]] {
        let text = workspace.fails(3, &[command, &["--namespace", "nowhere"]].concat());
        contains(&text, &["`nowhere`", "hint:"]);
    }
    contains(&workspace.fails(3, &["event", "ls", "--trigger", "none"]), &["`none`"]);
    let text = workspace.fails(2, &["query", "SELECT 1", "--ref", "main@beef"]);
    contains(&text, &["`main@beef` is not a usable ref:", "`main@3fa9c1d2`"]);
    let text = workspace.fails(2, &["branch", "create", "a b"]);
    contains(&text, &["branch name", "`feature/prices`"]);
}

#[test]
fn a_table_command_on_a_view_names_the_view_command_and_vice_versa() {
    let workspace = Workspace::new();
    workspace.ok(&["query", "CREATE TABLE cities AS SELECT 'Oslo' AS name"]);
    workspace.ok(&["query", "CREATE VIEW names AS SELECT name FROM cities"]);
    for verb in ["get", "rm"] {
        let text = workspace.fails(2, &["table", verb, "names"]);
        contains(&text, &["is a view", &format!("`headwater view {verb} names`")]);
        let text = workspace.fails(3, &["view", verb, "cities"]);
        contains(&text, &["a table with this name", &format!("`headwater table {verb} cities`")]);
    }
    workspace.ok(&["view", "get", "names", "--branch", "main"]);
    workspace.ok(&["view", "rm", "names", "--branch", "main"]);
}

#[test]
fn a_lake_can_have_a_long_path() {
    let workspace = Workspace::empty();
    let deep = workspace.path().join("a-long-name-".repeat(8)).join("another-".repeat(8));
    std::fs::create_dir_all(&deep).expect("folders");
    for arguments in [&["init", "--name", "deep"][..], &["query", "SELECT 1 AS n"], &["stop"]] {
        let output = workspace.command(arguments).current_dir(&deep).output();
        let answer = answer(output.expect("the command runs"));
        assert_eq!(answer.code, 0, "{arguments:?}: {}", answer.stderr);
    }
    let inside = ["query", "SELECT 1 AS n", "--in-process"];
    let output = workspace.command(&inside).current_dir(&deep).output();
    assert_eq!(answer(output.expect("the command runs")).code, 0);
}

#[test]
fn a_moved_lake_must_be_mounted_at_its_original_path() {
    let workspace = Workspace::empty();
    let path = workspace.path();
    let run = |folder: &str, arguments: &[&str]| {
        let output = workspace.command(arguments).current_dir(path.join(folder)).output();
        answer(output.expect("the command runs"))
    };
    assert_eq!(run(".", &["init", "first"]).code, 0);
    assert_eq!(run("first", &["query", "CREATE TABLE t AS SELECT 1 AS n"]).code, 0);
    assert_eq!(run("first", &["stop"]).code, 0);
    std::fs::rename(path.join("first"), path.join("second")).expect("it moves");
    let moved = run("second", &["query", "SELECT n FROM t"]);
    assert_eq!(run("second", &["stop"]).code, 0);
    contains(
        &moved.stderr,
        &["is outside the warehouse", "hint: Mount a moved lake at its original path."],
    );
    std::fs::rename(path.join("second"), path.join("first")).expect("it moves back");
    assert_eq!(run("first", &["query", "SELECT n FROM t"]).code, 0);
    assert_eq!(run("first", &["stop"]).code, 0);
}

#[test]
fn the_author_is_the_system_user() {
    let workspace = Workspace::new();
    let name = std::process::Command::new("id").arg("-un").output().expect("id runs").stdout;
    let name = String::from_utf8(name).expect("text");
    let mut command = workspace.command(&["query", "CREATE TABLE t AS SELECT 1 AS n"]);
    for variable in ["HEADWATER_AUTHOR", "USER", "LOGNAME"] {
        command.env_remove(variable);
    }
    assert!(command.status().expect("the command runs").success());
    assert_eq!(workspace.json(&["log"])[0]["author"], name.trim());
}

/// The error lists the Python versions in the folders of uv and pyenv.
#[test]
fn a_missing_python_version_error_lists_those_of_uv_and_pyenv() {
    let workspace = Workspace::new();
    workspace.ok(&["stop"]);
    let kept = [("uv/one", 51), ("data/uv/python/two", 52), ("pyenv/versions/3.53.1", 53)];
    for (folder, minor) in kept {
        workspace.write(&format!("kept/{folder}/bin/python3.{minor}"), "");
        workspace.write(&format!("kept/{folder}/lib/python3.{minor}/os.py"), "");
    }
    let model = "import headwater\n\n\n@headwater.model()\n@headwater.python(\"3.99\", pip={})\n\
                 def none():\n    return None\n";
    workspace.write("models/none.py", model);
    let kept = workspace.path().join("kept");
    for (variables, found, not_found) in [
        (&[("UV_PYTHON_INSTALL_DIR", "uv"), ("XDG_DATA_HOME", "data")][..], "3.51", "3.52"),
        (&[("XDG_DATA_HOME", "data"), ("PYENV_ROOT", "pyenv")], "3.52, 3.53.1", "3.51"),
    ] {
        let mut command = workspace.command(&["--in-process", "run"]);
        command.env_remove("UV_PYTHON_INSTALL_DIR").env_remove("PYENV_ROOT");
        command.envs(variables.iter().map(|(name, folder)| (name, kept.join(folder))));
        let told = answer(command.output().expect("it runs")).stderr;
        contains(&told, &["there is no Python `3.99` on this machine", found]);
        assert!(!told.contains(not_found), "{told}");
    }
}

#[test]
fn a_deletion_of_nothing_is_reported_as_such() {
    let workspace = Workspace::new();
    for noun in ["table", "view", "namespace", "branch", "tag"] {
        let remove = [noun, "rm", "none", "--if-exists"];
        let told = workspace.run(&remove);
        let expected = format!("{noun} none does not exist; nothing was removed\n");
        assert_eq!((told.code, told.stderr.as_str()), (0, expected.as_str()));
        assert_eq!(workspace.json(&remove), json!({"removed": null}));
        workspace.fails(3, &[noun, "rm", "none"]);
    }
    assert_eq!(workspace.json(&["job", "ls", "--status", "failed"]), json!([]));
    workspace.ok(&["query", "CREATE TABLE t AS SELECT 1 AS n"]);
    let removed = workspace.run(&["table", "rm", "t", "--if-exists"]);
    assert_eq!((removed.code, removed.stderr.as_str()), (0, "removed table t\n"));
    let text = workspace.fails(3, &["table", "rm", "t", "--ref", "nowhere", "--if-exists"]);
    contains(&text, &["`nowhere`"]);
}

#[test]
fn a_verb_without_its_noun_suggests_the_full_command() {
    let workspace = Workspace::empty();
    let text = workspace.fails(2, &["merge", "dev"]);
    contains(&text, &["did you mean `headwater branch merge`?"]);
    assert!(!text.contains("serve"), "{text}");
}

#[test]
fn log_accepts_a_ref() {
    let workspace = Workspace::new();
    workspace.ok(&["query", "CREATE TABLE t AS SELECT 1 AS n"]);
    workspace.ok(&["branch", "create", "dev"]);
    workspace.ok(&["query", "DROP TABLE t"]);
    let named = workspace.json(&["log", "dev"]);
    assert_eq!(workspace.json(&["log", "--ref", "dev"]), named);
    assert_eq!(workspace.json(&["log", "--branch", "dev"]), named);
    workspace.fails(2, &["log", "dev", "--ref", "main"]);
}

#[test]
fn an_import_that_skips_its_files_names_the_option() {
    let workspace = Workspace::new();
    workspace.write("lat.csv", b"city\nOrl\xe9ans\n");
    let text = workspace.fails(5, &["table", "import", "lat", "lat.csv"]);
    contains(&text, &["`--encoding windows-1252`"]);
    let import = ["table", "import", "lat", "lat.csv", "--encoding", "latin1"];
    workspace.ok(&["table", "import", "lat", "lat.csv", "--on-error", "reject"]);
    let skipped = workspace.run(&import).stderr;
    contains(&skipped, &["nothing to do: 1 file already imported", "`--again`"]);
    workspace.ok(&[&import[..], &["--again"]].concat());
    assert_eq!(workspace.rows("SELECT city FROM lat"), json!([{"city": "Orléans"}]));
}

#[test]
fn a_statement_about_rights_prints_its_verb() {
    let workspace = Workspace::new();
    for (sql, expected) in [
        ("CREATE ROLE analyst", "created"),
        ("GRANT READ ON BRANCH 'main' TO analyst", "granted"),
        ("REVOKE READ ON BRANCH 'main' FROM analyst", "revoked"),
        ("DROP ROLE analyst;", "dropped"),
    ] {
        let told = workspace.run(&["query", sql]);
        assert_eq!((told.code, told.stdout.as_str()), (0, ""), "{sql}");
        assert_eq!(told.stderr.trim(), expected, "{sql}");
    }
    let table = workspace.ok(&["query", "CREATE TABLE t AS SELECT 1 AS id"]);
    contains(&table, &["rows  commit"]);
    contains(&workspace.ok(&["query", "DELETE FROM t WHERE id = 2"]), &["rows  commit"]);
}

#[test]
fn an_explanation_of_a_missing_right_names_no_restrictions() {
    let workspace = Workspace::new();
    workspace.ok(&["query", "CREATE TABLE t AS SELECT 1 AS id"]);
    workspace.ok(&["user", "create", "ana"]);
    workspace.ok(&["grant", "select", "--on", "table:public.t", "--to", "ana"]);
    workspace.ok(&[
        "restriction",
        "create",
        "small",
        "--on",
        "t",
        "--using",
        "id < 9",
        "--to",
        "ana",
    ]);
    let explain =
        |action: &str| workspace.ok(&["access", "explain", "ana", action, "table:public.t"]);
    contains(&explain("select"), &["ana may select", "small"]);
    let text = explain("drop");
    assert!(text.contains("ana may not drop") && !text.contains("small"), "{text}");
    workspace.ok(&["grant", "delete", "--on", "table:public.*", "--to", "ana"]);
    contains(&explain("delete"), &["ana may not delete table:public.t: row filter `small`"]);
    // The row filter still applies after its table is renamed.
    workspace.ok(&["query", "ALTER TABLE t RENAME TO u"]);
    let text = workspace.ok(&["access", "explain", "ana", "delete", "table:public.u"]);
    contains(&text, &["ana may not delete table:public.u: row filter `small`"]);
}

#[test]
fn a_revert_without_changes_names_the_commit() {
    let workspace = Workspace::new();
    workspace.ok(&["query", "CREATE TABLE t AS SELECT 1 AS id"]);
    workspace.ok(&["branch", "create", "dev"]);
    for (branch, id) in [("main", 2), ("dev", 3)] {
        let sql = format!("UPDATE t SET id = {id}");
        workspace.ok(&["query", &sql, "--ref", branch]);
    }
    workspace.ok(&["branch", "merge", "dev", "--into", "main", "--on-conflict", "ours"]);
    let told = workspace.run(&["branch", "revert", "main", "--on", "main"]);
    let text = format!("{}{}", told.stdout, told.stderr);
    contains(&text, &["main has no changes of @", "to revert"]);
}
