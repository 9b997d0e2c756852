//! Triggers on objects of the S3 endpoint, and SQL and imports on the lake's own buckets.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use hyper::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::access::Users;
use crate::s3_clients::{address, python, run, started, with_key};
use crate::support::TestServer;
use crate::{clients, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("bucket_triggers::each_change_of_an_object_calls_a_function_once", functions),
        trial("bucket_triggers::a_notification_of_boto3_calls_a_function_once", notifications),
        trial("bucket_triggers::an_object_is_imported", imports),
        trial("bucket_triggers::imports_and_copies_use_the_lakes_own_buckets", own_buckets),
        trial("bucket_triggers::a_user_needs_grants_on_the_bucket", rights),
    ]
}

/// Writes a file below a folder.
pub fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

/// Runs a Python script with boto3 and an access key of the owner.
async fn boto3(server: &TestServer, script: &str) {
    let key = server.post("/v1/access-keys", json!({})).await;
    let mut command = Command::new(python());
    command.arg(script).arg(format!("http://{}", address(server)));
    with_key(&mut command, &key);
    assert_eq!(run(command).await, "ok\n");
}

/// Creates a bucket, and an object in it.
pub async fn object(server: &TestServer, bucket: &str, key: &str, text: &str) {
    let script = format!(
        "import boto3, sys\n\
         s3 = boto3.client('s3', endpoint_url=sys.argv[1])\n\
         s3.create_bucket(Bucket='{bucket}')\n\
         s3.put_object(Bucket='{bucket}', Key='{key}', Body=b'''{text}''')\n\
         print('ok')\n"
    );
    write(server.folder.path(), "put.py", &script);
    boto3(server, &server.folder.path().join("put.py").display().to_string()).await;
}

const FUNCTIONS: &str = r#"
[project]
name = "landing"

[[trigger]]
name = "aws"
bucket = { name = "landing", prefix = "in/", suffix = ".csv", events = ["created", "removed"] }
function = "notify"

[[trigger]]
name = "cloud"
bucket = { name = "landing", suffix = "large.csv", format = "cloudevents" }
function = "notify"
order_by = "data.object.key"
"#;

const NOTIFY: &str = "\
import headwater


@headwater.function()
def notify(event):
    return event
";

async fn functions() {
    let server = started().await;
    write(server.folder.path(), "headwater.toml", FUNCTIONS);
    write(server.folder.path(), "functions/notify.py", NOTIFY);
    let deployed = server.deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    let triggers = server.get("/v1/triggers").await;
    assert_eq!(triggers[0]["error"]["code"], "bucket_not_found", "{triggers}");
    boto3(&server, clients::client("s3_events.py").to_str().expect("a path")).await;

    let is_done = |events: &Value| events.as_array().is_some_and(|events| events.len() >= 6);
    let events = server.until("/v1/trigger-events?status=done", is_done).await;
    assert_eq!(events.as_array().map(Vec::len), Some(6), "{events}");
    let jobs = server.get("/v1/jobs?kind=function").await;
    let jobs: BTreeMap<&str, &Value> = jobs
        .as_array()
        .expect("jobs")
        .iter()
        .map(|job| (job["event"].as_str().expect("an event"), &job["result"]["function"]))
        .collect();
    let mut records = Vec::new();
    for event in events.as_array().expect("events").iter().rev() {
        let got = jobs[event["id"].as_str().expect("an id")];
        if event["trigger"] == "cloud" {
            assert_eq!(got["type"], "headwater.object.created");
            assert_eq!(got["source"], "s3://landing");
            assert_eq!(got["data"]["object"]["operation"], "complete_multipart_upload");
            assert_eq!(got["data"]["object"]["size"], (5 << 20) + 1);
        } else {
            let record = &got["Records"][0];
            assert_eq!(record["s3"]["bucket"]["name"], "landing", "{got}");
            assert_eq!(record["s3"]["configurationId"], "aws");
            records.push(format!("{} {}", record["eventName"], record["s3"]["object"]["key"]));
        }
    }
    let mut expected = [
        r#""ObjectCreated:Put" "in/Happy+Face%2B%C3%A9.csv""#,
        r#""ObjectCreated:Copy" "in/copy.csv""#,
        r#""ObjectCreated:CompleteMultipartUpload" "in/large.csv""#,
        r#""ObjectRemoved:Delete" "in/copy.csv""#,
        r#""ObjectRemoved:Delete" "in/large.csv""#,
    ];
    records.sort();
    expected.sort_unstable();
    assert_eq!(records, expected);
    let triggers = server.get("/v1/triggers").await;
    assert_eq!(triggers[0]["error"], Value::Null, "{triggers}");
    server.running.shutdown().await;
}

const REMOVE: &str = "\
import boto3
import sys

s3 = boto3.client('s3', endpoint_url=sys.argv[1])
s3.put_bucket_notification_configuration(Bucket='landing', NotificationConfiguration={})
answer = s3.get_bucket_notification_configuration(Bucket='landing')
assert 'LambdaFunctionConfigurations' not in answer, answer
print('ok')
";

async fn notifications() {
    let server = started().await;
    write(server.folder.path(), "headwater.toml", "[project]\nname = \"landing\"\n");
    write(server.folder.path(), "functions/notify.py", NOTIFY);
    let deployed = server.deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    boto3(&server, clients::client("s3_notifications.py").to_str().expect("a path")).await;

    let is_done = |jobs: &Value| {
        let text = jobs.to_string();
        text.contains("in/first.csv") && text.contains("in/last.csv")
    };
    let jobs = server.until("/v1/jobs?kind=function&status=succeeded", is_done).await;
    let record = |job: &Value| job["result"]["function"]["Records"][0].clone();
    let records: Vec<Value> = jobs.as_array().expect("jobs").iter().map(record).collect();
    let key =
        |record: &Value| record["s3"]["object"]["key"].as_str().unwrap_or_default().to_owned();
    let mut keys: Vec<String> = records.iter().map(key).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["in/first.csv", "in/last.csv"], "{jobs}");
    assert_eq!(records[0]["s3"]["configurationId"], "new files", "{records:?}");
    let triggers = server.get("/v1/triggers").await;
    assert_eq!(triggers[0]["name"], "landing/new files", "{triggers}");

    write(server.folder.path(), "remove.py", REMOVE);
    boto3(&server, &server.folder.path().join("remove.py").display().to_string()).await;
    assert_eq!(server.get("/v1/triggers").await, json!([]));
    server.running.shutdown().await;
}

const IMPORT: &str = r#"
[project]
name = "landing"

[[trigger]]
name = "landing"
bucket = { name = "landing", prefix = "in/" }
import = { table = "readings" }
run = true
parameters = { source = "{bucket}:{key}" }

[parameters.source]
default = ""
"#;

const LATEST: &str = "\
-- headwater: materialization = replace
SELECT max(n) AS n, $source AS source FROM readings
";

async fn imports() {
    let server = started().await;
    write(server.folder.path(), "headwater.toml", IMPORT);
    write(server.folder.path(), "models/latest.sql", LATEST);
    let deployed = server.deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    object(&server, "landing", "in/a [1].csv", "n\n1\n2\n").await;
    let is_tried = |events: &Value| events[0]["attempts"].as_u64().is_some_and(|tries| tries > 0);
    let events = server.until("/v1/trigger-events", is_tried).await;
    assert_eq!(events[0]["status"], "done", "{events}");
    assert_eq!(events[0]["subject"], "in/a [1].csv", "{events}");
    let job = format!("/v1/jobs/{}", events[0]["job"].as_str().expect("a job"));
    let job = server.get(&job).await;
    assert_eq!(job["result"]["import"]["rows"], 2, "{job}");
    let latest = json!([{"n": 2, "source": "landing:in/a [1].csv"}]);
    assert_eq!(server.rows("SELECT n, source FROM latest").await, latest);
    server.running.shutdown().await;
}

/// Imports files, and returns the job.
async fn import(users: &Users, token: &str, source: &str) -> (u16, Value) {
    let body = json!({"table": "shop.items", "sources": [source]});
    let (status, job) = users.send(token, Method::POST, "/v1/imports", Some(body)).await;
    let Some(id) = job["id"].as_str() else { return (status.as_u16(), job) };
    let is_over = |job: &Value| job["status"] != "running" && job["status"] != "queued";
    (status.as_u16(), users.server.until(&format!("/v1/jobs/{id}"), is_over).await)
}

async fn own_buckets() {
    let server = started().await;
    object(&server, "landing", "in/a.csv", "id,name\n1,tea\n").await;
    // The first file is large enough to be written in several parts.
    let rows =
        "SELECT n AS id, repeat('row ', 50) || n AS name FROM UNNEST(range(1, 70001)) AS r(n)";
    for (key, count) in [("in/copied.csv", 70_000), ("in/small.csv", 1)] {
        let sql = format!("COPY ({rows} LIMIT {count}) TO 's3://landing/{key}'");
        let copied = server.rows(&sql).await;
        assert_eq!(copied[0]["rows"], count, "{copied}");
    }
    let failed = server.rows("COPY (SELECT 1 / 0 AS a) TO 's3://landing/in/none.csv'").await;
    assert!(failed.get("code").is_some(), "{failed}");
    let bad = server.rows("COPY (SELECT 1 AS a) TO 's3://landing/' (FORMAT csv)").await;
    assert!(bad["message"].as_str().is_some_and(|it| it.contains("not an object")), "{bad}");
    for (table, source, count) in [
        ("one", "s3://landing/in/a.csv", 1),
        ("pattern", "s3://landing/in/co*.csv", 70_000),
        ("folder", "s3://landing/in/", 70_002),
        ("without_slash", "s3://landing/in", 70_002),
    ] {
        let body = json!({"table": table, "sources": [source]});
        let job = server.post("/v1/imports", body).await;
        let job = format!("/v1/jobs/{}", job["id"].as_str().expect("an id"));
        let is_over = |job: &Value| job["status"] != "running" && job["status"] != "queued";
        let job = server.until(&job, is_over).await;
        assert_eq!(job["status"], "succeeded", "{job}");
        assert_eq!(job["result"]["rows"], count, "{job}");
    }
    server.running.shutdown().await;
}

async fn rights() {
    let server = started().await;
    object(&server, "landing", "in/a.csv", "id\n2\n").await;
    object(&server, "private", "a.csv", "id\n3\n").await;
    for sql in ["CREATE SCHEMA shop", "CREATE TABLE shop.items AS SELECT 1 AS id"] {
        let answer = server.rows(sql).await;
        assert!(answer.get("code").is_none(), "{sql}: {answer}");
    }
    let access = server.running.access().expect("the owner's");
    let users = Users { server, access };
    let tables = ["read,write on branch:*", "select,insert on table:shop.items"];
    // A right on a location at AWS does not include the lake's own bucket of the same name.
    let location = ["read,write on location:s3://landing", "read on location:s3://private"];
    let ana = users.user("ana", &[&tables[..], &location[..]].concat()).await;
    let copy = async |key: &str| {
        let body = json!({"sql": format!("COPY shop.items TO 's3://landing/{key}'")});
        users.send(&ana, Method::POST, "/v1/query", Some(body)).await.0.as_u16()
    };
    assert_eq!(import(&users, &ana, "s3://landing/in/a.csv").await.0, 403);
    assert_eq!(import(&users, &ana, "s3://landing/in/*.csv").await.0, 403);
    let read = async |key: &str| {
        let body = json!({"sql": format!("SELECT id FROM read_csv('s3://{key}')")});
        let (status, answer): (_, Value) =
            users.send(&ana, Method::POST, "/v1/query", Some(body)).await;
        (status.as_u16(), answer)
    };
    assert_eq!((copy("in/b.csv").await, read("landing/in/a.csv").await.0), (403, 403));
    users.grant("ana", &["read on bucket:landing/in", "write on bucket:landing/out"]).await;
    let (status, job) = import(&users, &ana, "s3://landing/in/a.csv").await;
    assert_eq!((status, &job["status"]), (202, &json!("succeeded")), "{job}");
    // An import with a glob also requires the right to list.
    assert_eq!(import(&users, &ana, "s3://landing/in/*.csv").await.0, 403);
    assert_eq!(import(&users, &ana, "s3://private/a.csv").await.0, 403);
    assert_eq!(read("landing/in/a.csv").await, (200, json!([{"id": 2}])));
    let denied = (read("landing/in/*.csv").await.0, read("private/a.csv").await.0);
    assert_eq!(denied, (403, 403));
    assert_eq!((copy("in/b.csv").await, copy("out/b.csv").await), (403, 200));
    users.grant("ana", &["list on bucket:landing/in"]).await;
    let (status, job) = import(&users, &ana, "s3://landing/in/*.csv").await;
    assert_eq!((status, &job["status"]), (202, &json!("succeeded")), "{job}");
    users.server.running.shutdown().await;
}
