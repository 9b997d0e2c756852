//! The long tests. `cargo xtask test` runs them with small counts. `cargo xtask soak` sets
//! `HEADWATER_SOAK`, which selects the full counts.

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use support::{Workspace, count, python, until, until_at_least};

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
            // Kill the server after the import of some files, while the imports of other files may
            // be in progress.
            let seen = i64::try_from(part * quarter).expect("a small count");
            until("more rows are in the table", || rows(&workspace) > seen);
            server.kill().expect("the server is killed");
            server.wait().expect("the server is gone");
            server = serve(&workspace);
        }
    }
    let expected = i64::try_from(files).expect("a small count");
    until_at_least("every row is in the table", expected, || rows(&workspace));
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

/// Starts a script that puts objects until the bucket has `count` objects.
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
        until_at_least("more rows are in the table", wanted, || rows(&workspace));
        server.kill().expect("the server is killed");
        server.wait().expect("the server is gone");
        putting.wait_with_output().expect("the script ends");
        (server, endpoint) = serve_s3(&workspace);
    }
    let ended = put(&key, &endpoint, objects).wait_with_output().expect("a script");
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(String::from_utf8_lossy(&ended.stdout).trim(), "0", "failed puts: {errors}");
    until_at_least("every row is in the table", objects, || rows(&workspace));
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
    // Maintenance of the table may still run.
    let running = || workspace.json(&["job", "ls", "--status", "running"]);
    until("no job runs", || running() == json!([]));
    let triggers = workspace.json(&["trigger", "ls"]);
    assert_eq!(triggers[0]["done"], objects, "{triggers}");
    workspace.ok(&["stop"]);
    server.wait().expect("the server ends");
}

/// Returns the number of instances of functions, running and idle.
fn instances(workspace: &Workspace) -> f64 {
    let record = workspace.server().expect("a server");
    let socket = record["socket"].as_str().expect("a socket");
    let mut stream = UnixStream::connect(socket).expect("a connection");
    let head = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let values = text.lines().filter(|line| line.starts_with("headwater_instances{"));
    let values =
        values.map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()));
    let values: Vec<f64> = values.map(|value| value.expect("a number")).collect();
    assert!(!values.is_empty(), "{text}");
    values.iter().sum()
}

/// A server of a deployed project that cleans the objects of a bucket.
struct CleaningServer<'a> {
    workspace: &'a Workspace,
    process: Child,
    key: Key,
    endpoint: String,
    /// The CPU time of functions after the first call, in microseconds: as the kernel counts it, and
    /// in the usage table.
    kernel_start_us: u64,
    metered_start_us: u64,
}

impl<'a> CleaningServer<'a> {
    /// Deploys the files of the workspace, starts the server, and puts the first object.
    fn start(workspace: &'a Workspace) -> Self {
        workspace.ok(&["init"]);
        workspace.ok(&["deploy"]);
        let key = key(workspace);
        workspace.ok(&["stop"]);
        let (process, endpoint) = serve_s3(workspace);
        // The first call installs the environment. The installation also takes CPU time, but belongs
        // to no call, so it is excluded.
        assert_eq!(ended(put(&key, &endpoint, 1)), "0");
        until("the first row is in the table", || rows(workspace) == 1);
        let (kernel_start_us, metered_start_us) =
            (kernel_cpu_us(workspace), metered_cpu_us(workspace));
        CleaningServer { workspace, process, key, endpoint, kernel_start_us, metered_start_us }
    }

    /// Puts objects until the bucket has this number of objects.
    fn put(&self, objects: i64) {
        assert_eq!(ended(put(&self.key, &self.endpoint, objects)), "0");
    }

    /// Checks that the usage contains the CPU time of all calls, with a tolerance of 1 %.
    fn check_cpu_time(&self) {
        let kernel = kernel_cpu_us(self.workspace) - self.kernel_start_us;
        let metered = metered_cpu_us(self.workspace) - self.metered_start_us;
        let difference = kernel.abs_diff(metered) as f64 / kernel as f64;
        assert!(difference < 0.01, "CPU time: kernel {kernel} us, usage {metered} us");
    }

    fn stop(mut self) {
        self.workspace.ok(&["stop"]);
        self.process.wait().expect("the server ends");
    }
}

#[test]
fn soak_objects_put_at_once_are_cleaned_once_and_then_nothing_runs() {
    let objects = count_i64(500, 10_000);
    let workspace = Workspace::empty();
    workspace.write("headwater.toml", CLEANING);
    workspace.write("functions/clean.py", CLEAN);
    let server = CleaningServer::start(&workspace);
    server.put(objects);
    until_at_least("every row is in the table", objects, || rows(&workspace));
    let list = |status: &str| workspace.json(&["event", "ls", "--status", status]);
    until("no event is open", || list("pending,running") == json!([]));
    assert_eq!(list("failed"), json!([]));
    let sums = workspace.rows(
        "SELECT count(*) AS n, count(DISTINCT file) AS files, sum(value) AS value FROM readings",
    );
    let value = objects * (objects - 1) / 2 * 3;
    assert_eq!(sums, json!([{"n": objects, "files": objects, "value": value}]));
    // Maintenance of the table may still run.
    let running = || workspace.json(&["job", "ls", "--status", "running"]);
    until("no job runs", || running() == json!([]));
    until("no instance of a function is left", || instances(&workspace) == 0.0);
    server.check_cpu_time();
    server.stop();
}

/// A handler that crashes or hangs now and then, and never succeeds for some files.
const FAULTY: &str = r#"
import os
import random
import time

import clean as cleaning
import headwater


@headwater.function(timeout="3s", memory="256MiB")
def clean(event):
    key = event["Records"][0]["s3"]["object"]["key"]
    if key.endswith("99.csv"):
        raise ValueError("this file is never accepted")
    fault = random.random()
    if fault < 0.01:
        os._exit(7)
    if fault < 0.02:
        time.sleep(60)
    return cleaning.clean(event)
"#;

/// The CPU time of all processes of functions, in microseconds, as the kernel counts it.
fn kernel_cpu_us(workspace: &Workspace) -> u64 {
    let found = Command::new("find")
        .arg(workspace.path().join(".headwater"))
        .args(["-name", ".spawner-*"])
        .output();
    let records = String::from_utf8(found.expect("find").stdout).expect("paths");
    let records = records.lines().map(|path| std::fs::read_to_string(path).expect("a record"));
    let groups: String = records.collect::<Vec<_>>().join("\n");
    let usage = groups.lines().find_map(|group| {
        let nanoseconds = std::fs::read_to_string(Path::new(group).join("cpuacct.usage")).ok()?;
        Some(nanoseconds.trim().parse::<u64>().expect("a number") / 1_000)
    });
    usage.unwrap_or_else(|| {
        let of = |group: &str| {
            let text = std::fs::read_to_string(Path::new(group).join("cpu.stat")).ok()?;
            text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse().ok())
        };
        groups.lines().find_map(of).expect("a group with its usage")
    })
}

/// The CPU time of functions in the usage table, in microseconds.
fn metered_cpu_us(workspace: &Workspace) -> u64 {
    let usage = workspace.json(&["usage", "--by", "kind"]);
    let lines = usage.as_array().expect("lines");
    let functions = lines.iter().filter(|line| line["group"] == "function");
    functions.filter_map(|line| line["usage"]["cpu_us"].as_u64()).sum()
}

#[test]
fn soak_objects_of_crashing_and_hanging_handlers_are_appended_or_kept_as_failed() {
    let objects = count_i64(200, 10_000);
    let workspace = Workspace::empty();
    workspace.write("headwater.toml", CLEANING.replace("retries = 20", "retries = 6"));
    let plain = CLEAN.replace("@headwater.function()\n", "");
    workspace.write("functions/clean.py", plain);
    workspace.write("functions/faulty.py", FAULTY);
    let server = CleaningServer::start(&workspace);
    server.put(objects);
    let failed = objects / 100;
    let list =
        |status: &str| workspace.json(&["event", "ls", "--status", status, "--limit", "1000"]);
    until_at_least("every file is in the table or failed", objects, || {
        rows(&workspace) + count_of(&list("failed"))
    });
    until("no event is pending", || list("pending") == json!([]) && list("running") == json!([]));
    assert_eq!(count_of(&list("failed")), failed);
    let sums = workspace.rows("SELECT count(*) AS n, count(DISTINCT file) AS files FROM readings");
    assert_eq!(sums, json!([{"n": objects - failed, "files": objects - failed}]));
    let lost = "SELECT count(*) AS n FROM readings WHERE file % 100 = 99";
    assert_eq!(workspace.rows(lost), json!([{"n": 0}]));
    assert_eq!(workspace.json(&["job", "ls", "--status", "running"]), json!([]));
    server.check_cpu_time();
    server.stop();
}

fn count_of(list: &serde_json::Value) -> i64 {
    i64::try_from(list.as_array().expect("a list").len()).expect("a small count")
}

/// Waits for a script, and returns what it prints.
fn ended(script: Child) -> String {
    let ended = script.wait_with_output().expect("a script");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8_lossy(&ended.stdout).trim().to_owned()
}

const RECEIVER: &str = r#"
from headwater import lake


def handler(event, context):
    row = {"id": event["requestPayload"]["id"], "answer": event["responsePayload"]["twice"]}
    return lake.append("received", [row])
"#;

const WORKER: &str = "def handler(event, context):\n    return {'twice': 2 * event['id']}\n";

/// Starts a script that calls the function asynchronously, and prints the accepted ids.
fn send(workspace: &Workspace, key: &Key, from: i64, until: i64) -> Child {
    let python = python::with_packages("s3-boto3-1.44.5", &["boto3==1.44.5", "requests==2.34.2"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/clients/lambda_send.py");
    let server = workspace.server().expect("a server");
    let endpoint = format!("http://{}", server["http"].as_str().expect("an address"));
    let mut command = Command::new(python);
    command.args([script, &endpoint, &from.to_string(), &until.to_string()]);
    command.envs(key.iter().cloned());
    command.env("AWS_DEFAULT_REGION", "us-east-1").env("AWS_CONFIG_FILE", "/dev/null");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("a script")
}

#[test]
fn soak_calls_of_a_killed_server_reach_their_destination_once() {
    let (calls, kills) = (count_i64(60, 2_000), count_i64(3, 20));
    let workspace = Workspace::empty();
    workspace.ok(&["init"]);
    workspace.write("work/app.py", WORKER);
    workspace.write("receive/app.py", RECEIVER);
    for (name, folder) in [("work", "work"), ("receive", "receive")] {
        let options = ["--runtime", "python3.11", "--handler", "app.handler"];
        workspace.ok(&[&["function", "deploy", name, folder], &options[..]].concat());
    }
    let key = key(&workspace);
    workspace.ok(&["stop"]);
    let received = || {
        let answer = workspace.run(&["query", "SELECT count(*) AS n FROM received", "-o", "json"]);
        let parsed: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
        parsed[0]["n"].as_i64().unwrap_or(0)
    };
    let mut server = serve(&workspace);
    let mut accepted = BTreeSet::new();
    for kill in 0..=kills {
        let from = calls * kill / (kills + 1);
        let sending = send(&workspace, &key, from, calls * (kill + 1) / (kills + 1));
        let is_last = kill == kills;
        if !is_last {
            until("more results have arrived", || received() > from);
            server.kill().expect("the server is killed");
            server.wait().expect("the server is gone");
        }
        accepted.extend(ended(sending).lines().map(|line| line.parse::<i64>().expect("an id")));
        if !is_last {
            server = serve(&workspace);
        }
    }
    let expected = i64::try_from(accepted.len()).expect("a small count");
    until_at_least("every result has arrived", expected, received);
    until("no event is pending", || {
        workspace.json(&["event", "ls", "--status", "pending"]) == json!([])
            && workspace.json(&["event", "ls", "--status", "running"]) == json!([])
    });
    let listed = workspace.rows("SELECT id, answer FROM received ORDER BY id");
    let listed = listed.as_array().expect("rows");
    let ids: Vec<i64> = listed.iter().filter_map(|row| row["id"].as_i64()).collect();
    let distinct: BTreeSet<i64> = ids.iter().copied().collect();
    assert_eq!(distinct.len(), ids.len(), "a result arrived twice: {ids:?}");
    // `distinct` can have more ids, because the server can accept a call whose response is lost.
    assert!(accepted.is_subset(&distinct), "lost: {:?}", accepted.difference(&distinct));
    assert!(listed.iter().all(|row| row["answer"].as_i64() == row["id"].as_i64().map(|id| 2 * id)));
    assert_eq!(workspace.json(&["event", "ls", "--status", "failed"]), json!([]));
    workspace.ok(&["stop"]);
    server.wait().expect("the server ends");
}
