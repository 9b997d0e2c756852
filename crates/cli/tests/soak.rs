//! The long tests. `cargo xtask test` runs them with small counts. `cargo xtask soak` sets
//! `HEADWATER_SOAK`, which selects the full counts.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use support::{Workspace, python, until};

/// Returns the full count in a soak test, otherwise the small count.
fn count(small: usize, full: usize) -> usize {
    if std::env::var_os("HEADWATER_SOAK").is_some() { full } else { small }
}

fn count_i64(small: usize, full: usize) -> i64 {
    i64::try_from(count(small, full)).expect("a small count")
}

const TRIGGER: &str = "
[project]
name = \"landing\"

[[trigger]]
name = \"landing\"
files = { folder = \"landing\", pattern = \"*.csv\", debounce = \"100ms\", batch = 100 }
import = { table = \"readings\" }
retries = 20
";

/// Starts a server, which the caller kills.
fn serve(workspace: &Workspace) -> Child {
    serve_with(workspace, &[])
}

fn serve_with(workspace: &Workspace, options: &[&str]) -> Child {
    let mut command = workspace.command(&[&["serve", "--http", "127.0.0.1:0"], options].concat());
    // A pipe that is not read would block the server.
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a server");
    let pid = i64::from(child.id());
    until("the server answers", || {
        workspace.server().is_some_and(|server| server["pid"] == pid)
            && workspace.run(&["status"]).stdout.contains("ok, process")
    });
    child
}

fn rows(workspace: &Workspace) -> i64 {
    let answer = workspace.run(&["query", "SELECT count(*) AS n FROM readings", "-o", "json"]);
    let parsed: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
    parsed[0]["n"].as_i64().unwrap_or(0)
}

#[test]
fn soak_files_that_arrive_while_the_server_is_killed_are_imported_exactly_once() {
    let files = count(240, 10_000);
    let workspace = Workspace::empty();
    workspace.write("headwater.toml", TRIGGER);
    workspace.ok(&["init"]);
    workspace.ok(&["deploy"]);
    workspace.ok(&["stop"]);
    std::fs::create_dir_all(workspace.path().join("landing")).expect("a folder");
    std::fs::create_dir_all(workspace.path().join("staging")).expect("a folder");
    for index in 0..files {
        workspace
            .write(&format!("staging/{index}.csv"), format!("file,value\n{index},{}\n", index * 3));
    }
    let mut server = serve(&workspace);
    let quarter = files / 4;
    for part in 0..4 {
        let end = if part == 3 { files } else { (part + 1) * quarter };
        land(workspace.path(), part * quarter, end);
        if part < 3 {
            // Kill the server after the import of some files, while others may be in progress.
            let seen = i64::try_from(part * quarter).expect("a small count");
            until("more rows are in the table", || rows(&workspace) > seen);
            server.kill().expect("the server is killed");
            server.wait().expect("the server is gone");
            server = serve(&workspace);
        }
    }
    let expected = i64::try_from(files).expect("a small count");
    until("every row is in the table", || rows(&workspace) >= expected);
    let sums = workspace.rows(
        "SELECT count(*) AS n, count(DISTINCT file) AS files, sum(value) AS value FROM readings",
    );
    let value = expected * (expected - 1) / 2 * 3;
    assert_eq!(sums, json!([{"n": expected, "files": expected, "value": value}]));
    until("no event is pending", || {
        workspace.json(&["event", "ls", "--status", "pending"]) == json!([])
            && workspace.json(&["event", "ls", "--status", "running"]) == json!([])
    });
    assert_eq!(rows(&workspace), expected, "nothing comes in twice afterwards");
    assert_eq!(workspace.json(&["event", "ls", "--status", "failed"]), json!([]));
    workspace.ok(&["stop"]);
    server.wait().expect("the server ends");
}

fn land(root: &Path, from: usize, until: usize) {
    for index in from..until {
        let name = format!("{index}.csv");
        std::fs::rename(root.join("staging").join(&name), root.join("landing").join(&name))
            .expect("the file moves");
    }
}

#[test]
fn soak_eight_writers_lose_no_commit() {
    let inserts = count(5, 50);
    let workspace = Workspace::new();
    workspace.ok(&["query", "CREATE TABLE entries (writer BIGINT, n BIGINT)"]);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let workspace = &workspace;
            scope.spawn(move || {
                for n in 0..inserts {
                    let sql = format!("INSERT INTO entries VALUES ({writer}, {n})");
                    workspace.ok(&["query", &sql]);
                }
            });
        }
    });
    let rows = workspace.rows("SELECT writer, n FROM entries");
    let rows = rows.as_array().expect("rows");
    let distinct: BTreeSet<_> = rows.iter().map(ToString::to_string).collect();
    assert_eq!((rows.len(), distinct.len()), (8 * inserts, 8 * inserts));
    // Concurrent inserts share a commit, whose property lists all their jobs.
    let commits = workspace.json(&["log", "--limit", "1000"]);
    let commits = commits.as_array().expect("commits");
    let jobs = commits.iter().flat_map(|commit| {
        let named = &commit["properties"];
        let named = [&named["headwater.job"], &named["headwater.jobs"]];
        named.into_iter().filter_map(|jobs| jobs.as_str()).flat_map(|jobs| jobs.split(','))
    });
    let jobs: Vec<&str> = jobs.collect();
    let distinct: BTreeSet<&str> = jobs.iter().copied().collect();
    assert_eq!(jobs.len(), distinct.len(), "no statement is committed twice");
    assert!(jobs.len() >= 8 * inserts, "{} statements in {} commits", jobs.len(), commits.len());
}

const CLEANING: &str = r#"
[project]
name = "landing"

[[trigger]]
name = "clean"
bucket = { name = "landing", prefix = "in/", suffix = ".csv" }
function = "clean"
retries = 20
"#;

const CLEAN: &str = r#"
import csv
import io
from urllib.parse import unquote_plus

import headwater
from headwater import lake


@headwater.function()
def clean(event):
    s3 = event["Records"][0]["s3"]
    key = unquote_plus(s3["object"]["key"])
    text = lake.read_object(s3["bucket"]["name"], key).decode()
    rows = csv.DictReader(io.StringIO(text))
    clean = [{name: int(value) for name, value in row.items()} for row in rows if row["value"]]
    return lake.append("readings", clean)
"#;

/// Starts a server with an S3 endpoint. Returns the process and the endpoint's URL.
fn serve_s3(workspace: &Workspace) -> (Child, String) {
    let child = serve_with(workspace, &["--s3", "127.0.0.1:0"]);
    let server = workspace.server().expect("a server");
    (child, format!("http://{}", server["s3"].as_str().expect("an address")))
}

/// The environment variables of an access key.
type Key = Vec<(String, String)>;

fn key(workspace: &Workspace) -> Key {
    let printed = workspace.ok(&["key", "create"]);
    let pairs = printed.lines().filter_map(|line| line.trim().split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Starts to put the objects that the bucket lacks.
fn put(key: &Key, endpoint: &str, count: i64) -> Child {
    let python = python::with_packages("s3-boto3-1.44.5", &["boto3==1.44.5", "requests==2.34.2"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/clients/s3_put_objects.py");
    let mut command = Command::new(python);
    command.args([script, endpoint, &count.to_string()]).envs(key.iter().cloned());
    command.env("AWS_DEFAULT_REGION", "us-east-1").env("AWS_CONFIG_FILE", "/dev/null");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("a script")
}

#[test]
fn soak_objects_put_while_the_server_is_killed_are_appended_exactly_once() {
    let (objects, kills) = (count_i64(200, 10_000), count_i64(1, 20));
    let workspace = Workspace::empty();
    workspace.write("headwater.toml", CLEANING);
    workspace.write("functions/clean.py", CLEAN);
    workspace.ok(&["init"]);
    workspace.ok(&["deploy"]);
    let key = key(&workspace);
    workspace.ok(&["stop"]);
    let (mut server, mut endpoint) = serve_s3(&workspace);
    for kill in 1..=kills {
        let putting = put(&key, &endpoint, objects);
        let wanted = objects * kill / (kills + 1);
        until("more rows are in the table", || rows(&workspace) >= wanted);
        server.kill().expect("the server is killed");
        server.wait().expect("the server is gone");
        putting.wait_with_output().expect("the script ends");
        (server, endpoint) = serve_s3(&workspace);
    }
    let ended = put(&key, &endpoint, objects).wait_with_output().expect("a script");
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(String::from_utf8_lossy(&ended.stdout).trim(), "0", "failed puts: {errors}");
    until("every row is in the table", || rows(&workspace) >= objects);
    until("no event is pending", || {
        workspace.json(&["event", "ls", "--status", "pending"]) == json!([])
            && workspace.json(&["event", "ls", "--status", "running"]) == json!([])
    });
    let sums = workspace.rows(
        "SELECT count(*) AS n, count(DISTINCT file) AS files, sum(value) AS value FROM readings",
    );
    let value = objects * (objects - 1) / 2 * 3;
    assert_eq!(sums, json!([{"n": objects, "files": objects, "value": value}]));
    assert_eq!(workspace.json(&["event", "ls", "--status", "failed"]), json!([]));
    assert_eq!(workspace.json(&["job", "ls", "--status", "running"]), json!([]));
    let triggers = workspace.json(&["trigger", "ls"]);
    assert_eq!(triggers[0]["done"], objects, "{triggers}");
    workspace.ok(&["stop"]);
    server.wait().expect("the server ends");
}
