//! Triggers whose target is a function.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::TestServer;
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("triggers::a_function_gets_the_event_of_a_file", file_arrives),
        trial("triggers::a_function_gets_the_event_of_a_schedule", schedule_fires),
        trial("triggers::a_function_gets_the_event_of_a_table", table_changes),
        trial("triggers::a_call_that_fails_is_retried_kept_and_replayed", call_fails),
        trial("triggers::a_function_declares_its_triggers", declared_by_function),
        trial("triggers::a_function_reports_the_files_that_failed", reported),
        trial("triggers::an_event_whose_call_fails_is_bisected", bisected),
        trial("triggers::a_deployment_checks_the_functions_of_triggers", refusals),
    ]
}

const DECLARED: &str = r#"
import headwater


@headwater.function(
    on=[
        {"schedule": "* * * * * *"},
        {"files": {"folder": "landing", "debounce": "20ms"}, "name": "landed", "retries": 1},
    ]
)
def notify(event):
    return event["time"]
"#;

const FILES: &str = r#"files = { folder = "landing", debounce = "20ms" }"#;

fn manifest(source: &str, target: &str) -> String {
    format!(
        "[project]\nname = \"notices\"\n\n[[trigger]]\nname = \"notice\"\n{source}\n\
         retries = 1\n{target}\n"
    )
}

fn function(definition: &str) -> String {
    format!("import headwater\n\n\n@headwater.function()\n{definition}\n")
}

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

/// Starts a server with a deployed trigger.
async fn deployed(source: &str, definition: &str) -> TestServer {
    let server = TestServer::start().await;
    let folder = server.folder.path();
    write(folder, "landing/.keep", "");
    write(folder, "headwater.toml", &manifest(source, "function = \"notify\""));
    write(folder, "functions/notify.py", &function(definition));
    let deployed = server.deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    server
}

/// Waits until `count` events are done. Returns the events and the jobs of calls, newest first.
async fn done(server: &TestServer, count: usize) -> (Value, Value) {
    let is_done = |events: &Value| events.as_array().is_some_and(|events| events.len() >= count);
    let events = server.until("/v1/trigger-events?status=done", is_done).await;
    (events, server.get("/v1/jobs?kind=function").await)
}

async fn file_arrives() {
    let server = deployed(FILES, "def notify(event):\n    return event").await;
    let triggers = server.get("/v1/triggers").await;
    assert_eq!(triggers[0]["function"], "notify");
    write(server.folder.path(), "landing/one.csv", "a\n1\n");
    let (events, jobs) = done(&server, 1).await;
    let (event, job) = (&events[0], &jobs[0]);
    assert_eq!((&job["id"], &job["status"]), (&event["job"], &json!("succeeded")));
    assert_eq!(job["event"], event["id"]);
    let got = &job["result"]["function"];
    let folder = server.folder.path().canonicalize().expect("a folder");
    let path = folder.join("landing/one.csv").display().to_string();
    assert_eq!(got["specversion"], "1.0");
    assert_eq!(got["type"], "headwater.file.arrived");
    assert_eq!(got["subject"], "one.csv");
    assert!(got["source"].as_str().is_some_and(|source| source.ends_with("/landing")), "{got}");
    let file = &got["data"]["files"][0];
    assert!(path.ends_with(file["path"].as_str().expect("a path")), "{file}");
    assert_eq!(file["uri"], format!("file://{}", file["path"].as_str().expect("a path")));
    assert_eq!(file["size"], 4);
    for key in ["id", "source", "subject", "time", "type", "data", "caused_by"] {
        assert_eq!(got[key], event[key], "{key}");
    }
    // A new version of the file causes another event. Each event is delivered once.
    write(server.folder.path(), "landing/one.csv", "a\n1\n2\n");
    let (events, jobs) = done(&server, 2).await;
    assert_eq!(
        (events.as_array().map(Vec::len), jobs.as_array().map(Vec::len)),
        (Some(2), Some(2))
    );
    let etag = &jobs[0]["result"]["function"]["data"]["files"][0]["etag"];
    assert_ne!(etag, &file["etag"]);
    server.running.shutdown().await;
}

async fn schedule_fires() {
    let source = r#"schedule = { cron = "* * * * * *" }"#;
    let server = deployed(source, "def notify(event):\n    return event[\"time\"]").await;
    let (events, jobs) = done(&server, 2).await;
    let events = events.as_array().expect("events");
    let scheduled = |event: &Value| event["data"]["scheduled"].as_str().map(str::to_owned);
    let times: BTreeSet<_> = events.iter().filter_map(scheduled).collect();
    assert_eq!(times.len(), events.len(), "{events:?}");
    for event in events {
        assert_eq!(event["type"], "headwater.schedule.fired");
        assert_eq!(event["time"], event["data"]["scheduled"]);
        let of_event = |job: &&Value| job["event"] == event["id"];
        let called: Vec<&Value> = jobs.as_array().expect("jobs").iter().filter(of_event).collect();
        assert_eq!(called.len(), 1, "{jobs}");
        assert_eq!(called[0]["result"]["function"], event["data"]["scheduled"]);
    }
    server.running.shutdown().await;
}

/// Appends the names of the files. Fails for the file `bad.csv` as `FAIL` states.
const COLLECT: &str = r#"
import headwater
from headwater import lake


@headwater.function(
    on=[
        {
            "files": {"folder": "landing", "debounce": "20ms"},
            "name": "landed",
            "retries": 1,
            "SETTING": True,
        }
    ]
)
def collect(event):
    failed, names = [], []
    for file in event["data"]["files"]:
        if file["path"].endswith("bad.csv"):
            FAIL
        names.append({"name": file["path"].rsplit("/", 1)[1]})
    if names:
        lake.append("seen", names)
    return {"batchItemFailures": failed}
"#;

/// Deploys a function that receives five files in one event, one of which fails. Waits until only
/// the failed file is in a failed event.
async fn collected(setting: &str, fail: &str) -> TestServer {
    let server = TestServer::start().await;
    let folder = server.folder.path();
    let function = COLLECT.replace("SETTING", setting).replace("FAIL", fail);
    write(folder, "headwater.toml", "[project]\nname = \"notices\"\n");
    write(folder, "functions/collect.py", &function);
    for name in ["a.csv", "b.csv", "bad.csv", "c.csv", "d.csv"] {
        write(folder, &format!("landing/{name}"), "a\n1\n");
    }
    let deployed = server.deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    let triggers = server.get("/v1/triggers").await;
    assert_eq!(triggers[0][setting], true, "{triggers}");
    let has_failed = |events: &Value| events.as_array().is_some_and(|events| !events.is_empty());
    let failed = server.until("/v1/trigger-events?status=failed", has_failed).await;
    assert_eq!(failed.as_array().map(Vec::len), Some(1), "{failed}");
    let files = failed[0]["data"]["files"].as_array().expect("files");
    assert_eq!((files.len(), &failed[0]["subject"]), (1, &json!("bad.csv")), "{failed}");
    let expected = ["a.csv", "b.csv", "c.csv", "d.csv"].map(|name| json!({"name": name}));
    let seen = server.rows("SELECT name FROM seen ORDER BY name").await;
    assert_eq!(seen, json!(expected));
    server
}

async fn reported() {
    let fail = "failed.append({\"itemIdentifier\": file[\"path\"]}); continue";
    let server = collected("report_failures", fail).await;
    let failed = server.get("/v1/trigger-events?status=failed").await;
    let message = failed[0]["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("reported 1 of 1 items as failed"), "{failed}");
    let done = server.get("/v1/trigger-events?status=done").await;
    let recorded = done.as_array().and_then(|events| events.last()).expect("an event");
    let id = recorded["id"].as_str().expect("an id");
    assert!(failed[0]["id"].as_str().is_some_and(|part| part.starts_with(id)), "{done}");
    server.running.shutdown().await;
}

async fn bisected() {
    let server = collected("bisect", "raise ValueError(\"bad\")").await;
    let failed = server.get("/v1/trigger-events?status=failed").await;
    assert_eq!(failed[0]["attempts"], 2, "{failed}");
    let events = server.get("/v1/trigger-events?status=pending").await;
    assert_eq!(events, json!([]));
    server.running.shutdown().await;
}

async fn declared_by_function() {
    let server = TestServer::start().await;
    let folder = server.folder.path();
    write(folder, "landing/.keep", "");
    write(folder, "headwater.toml", "[project]\nname = \"notices\"\n");
    write(folder, "functions/notify.py", DECLARED);
    let deployed = server.deploy().await;
    assert_eq!(deployed["deployment"]["triggers"], json!(["notify", "landed"]), "{deployed}");
    let triggers = server.get("/v1/triggers").await;
    let places: BTreeMap<&str, &str> = triggers
        .as_array()
        .expect("triggers")
        .iter()
        .filter_map(|trigger| Some((trigger["name"].as_str()?, trigger["defined_at"].as_str()?)))
        .collect();
    let expected = [("landed", "functions/notify.py:8"), ("notify", "functions/notify.py:7")];
    assert_eq!(places, BTreeMap::from(expected), "{triggers}");
    write(folder, "landing/one.csv", "a\n1\n");
    for trigger in ["notify", "landed"] {
        let done = format!("/v1/trigger-events?trigger={trigger}&status=done");
        let events = server.until(&done, |events| events[0].is_object()).await;
        let job = events[0]["job"].as_str().expect("a job");
        let job = server.get(&format!("/v1/jobs/{job}")).await;
        assert_eq!(job["result"]["function"], events[0]["time"], "{job}");
    }
    // A trigger that is removed from the source is removed by the next deployment.
    let only = DECLARED.replace("        {\"schedule\": \"* * * * * *\"},\n", "");
    write(folder, "functions/notify.py", &only);
    server.deploy().await;
    let triggers = server.get("/v1/triggers").await;
    assert_eq!(triggers.as_array().map(Vec::len), Some(1), "{triggers}");
    assert_eq!(triggers[0]["name"], "landed");
    server.running.shutdown().await;
}

async fn table_changes() {
    let source = r#"tables = { names = ["orders"], debounce = "0s" }"#;
    let server = deployed(source, "def notify(event):\n    return event[\"data\"]").await;
    server.rows("CREATE TABLE orders AS SELECT 1 AS id").await;
    let (events, jobs) = done(&server, 1).await;
    let head = server.get("/v1/refs/main/commits?limit=1").await;
    let data = json!({"branch": "main", "tables": ["public.orders"], "commit": head[0]["id"]});
    assert_eq!(jobs[0]["result"]["function"], data);
    assert_eq!(events[0]["subject"], "public.orders");
    server.running.shutdown().await;
}

async fn call_fails() {
    let server = deployed(FILES, "def notify(event):\n    raise ValueError(\"not today\")").await;
    write(server.folder.path(), "landing/one.csv", "a\n1\n");
    let failed = "/v1/trigger-events?status=failed";
    let events = server.until(failed, |events| events[0].is_object()).await;
    let event = &events[0];
    assert_eq!(
        (&event["attempts"], &event["error"]["code"]),
        (&json!(2), &json!("function_failed"))
    );
    let jobs = server.get("/v1/jobs?kind=function").await;
    let jobs = jobs.as_array().expect("jobs");
    assert_eq!(jobs.len(), 2, "{jobs:?}");
    assert!(jobs.iter().all(|job| job["status"] == "failed" && job["event"] == event["id"]));
    let triggers = server.get("/v1/triggers").await;
    assert_eq!((&triggers[0]["failed"], &triggers[0]["done"]), (&json!(1), &json!(0)));

    // A replay calls the version that is deployed at that time.
    let fixed = function("def notify(event):\n    return event[\"id\"]");
    write(server.folder.path(), "functions/notify.py", &fixed);
    server.deploy().await;
    let id = event["id"].as_str().expect("an id");
    server.post(&format!("/v1/trigger-events/{id}/replay"), json!({})).await;
    let (events, jobs) = done(&server, 1).await;
    assert_eq!((&events[0]["id"], &events[0]["attempts"]), (&event["id"], &json!(1)));
    assert_eq!(jobs[0]["result"]["function"], event["id"]);
    server.running.shutdown().await;
}

async fn refusals() {
    let server = deployed(FILES, "def notify(event):\n    return 1").await;
    let folder = server.folder.path();
    let model = "-- headwater: materialization = replace\nSELECT 1 AS n\n";
    write(folder, "models/totals.sql", model);
    let two = "def two(event, other=1):\n    return 1";
    write(folder, "functions/two.py", &function(two));
    write(folder, "functions/none.py", &function("def none():\n    return 1"));
    let refused = async |target: &str, message: &str, hint: &str| {
        write(folder, "headwater.toml", &manifest(FILES, target));
        let answer = server.deploy().await;
        assert_eq!(answer["code"], "invalid_project", "{answer}");
        let found = answer["message"].as_str().expect("a message");
        assert_eq!(found, message);
        assert_eq!(answer["hint"], hint);
    };
    let missing = |name: &str| {
        format!(
            "trigger `notice` calls function `{name}`, which the project does not define \
             (headwater.toml:4)"
        )
    };
    refused("function = \"notfy\"", &missing("notfy"), "Did you mean `notify`?").await;
    refused(
        "function = \"totals\"",
        &missing("totals"),
        "`totals` is a model or an expectation; name a function instead.",
    )
    .await;
    refused(
        "function = \"two\"",
        "trigger `notice`: function `two` must take exactly one argument, the event, but takes 2 \
         (functions/two.py:5) (headwater.toml:4)",
        "Declare the function as `def two(event):`.",
    )
    .await;
    refused(
        "function = \"none\"",
        "trigger `notice`: function `none` must take exactly one argument, the event, but takes 0 \
         (functions/none.py:5) (headwater.toml:4)",
        "Declare the function as `def none(event):`.",
    )
    .await;
    refused(
        "function = \"notify\"\nrun = true",
        "trigger `notice` cannot be used: a trigger with `function` cannot also import files or start a run \
         (headwater.toml:4)",
        "Remove `function`, or write a second trigger for the function.",
    )
    .await;
    // The deployed version remains active.
    assert_eq!(server.get("/v1/triggers").await[0]["function"], "notify");
    server.running.shutdown().await;
}
