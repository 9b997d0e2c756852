//! Tests of function calls over HTTP: JSON and Arrow, new and reused processes, jobs.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Method, Request, Response};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::{self, TestServer, body, json, request};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("functions::a_call_returns_the_result_and_is_a_job", values),
        trial("functions::arguments_and_results_may_be_arrow_tables", tables),
        trial("functions::a_process_is_reused_if_the_function_allows_it", reuse),
        trial("functions::an_edit_is_effective_after_its_deployment", edits),
        trial("functions::the_events_of_a_call_precede_its_response", followed),
        trial("functions::a_client_that_disconnects_stops_the_function", gone),
        trial("functions::the_record_of_a_call_survives_a_kill", outlives),
        trial("functions::an_event_and_a_result_have_up_to_64_mib", large),
    ]
}

const ARROW: &str = "application/vnd.apache.arrow.stream";

const CALLS: &str = r#"
import time

import headwater

calls = []


@headwater.function()
def value(given=None, times=1):
    print("given", given)
    return {"given": given, "times": [times] * times}


@headwater.function()
def rows(count):
    import pyarrow

    return pyarrow.table({"n": list(range(count))})


@headwater.function(memory="256MiB")
def double(table, by=2):
    import pyarrow.compute

    return table.set_column(0, "n", pyarrow.compute.multiply(table["n"], by))


@headwater.function(reuse=True, memory="256MiB")
def count():
    calls.append(1)
    return len(calls)


@headwater.function()
def fails():
    raise ValueError("not today")


@headwater.function()
@headwater.python(pip={"no-such-package-of-headwater": "1.0"})
def unmade():
    pass


@headwater.function(memory="768MiB")
def echo(event):
    return event


@headwater.function()
def odd():
    return object()


@headwater.function()
def endless():
    import subprocess

    # So that the process can be found from outside.
    subprocess.Popen(["headwater-test-endless", "1000"], executable="/bin/sleep")
    print("begun", flush=True)
    time.sleep(1000)
"#;

/// Starts a server with a project of functions. All tests on this machine share the installed
/// packages.
async fn start() -> TestServer {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(&folder, CALLS);
    let running = support::start(support::config(folder.path())).await;
    let server = TestServer { running, folder };
    server.deploy().await;
    server
}

/// Returns the name of the endless function's child process, which is unique to this test run.
fn endless_name() -> String {
    format!("headwater-test-endless-{}", std::process::id())
}

fn write(folder: &tempfile::TempDir, source: &str) {
    let project = "[project]\nname = \"calls\"\n";
    std::fs::write(folder.path().join("headwater.toml"), project).expect("a file");
    std::fs::create_dir_all(folder.path().join("functions")).expect("a folder");
    let source = source.replace("headwater-test-endless", &endless_name());
    std::fs::write(folder.path().join("functions/calls.py"), source).expect("a file");
}

async fn large() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(&folder, CALLS);
    let mut config = support::config(folder.path());
    config.service.memory_bytes = 4 << 30;
    let running = support::start(config).await;
    let server = TestServer { running, folder };
    server.deploy().await;
    let event = Value::String("x".repeat(60 << 20));
    let (status, result, _) = invoke(&server, "echo", json!({"event": event})).await;
    assert!(status == 200 && result == event, "{status}");
    let body = json!({"arguments": {"event": event}});
    let accepted = server.post("/v1/functions/echo/invoke-async", body).await;
    assert!(accepted["event"].is_string(), "{accepted}");
    let is_done = |events: &Value| events.as_array().is_some_and(|events| !events.is_empty());
    let done = server.until("/v1/trigger-events?status=done&limit=1", is_done).await;
    assert_eq!(done[0]["id"], accepted["event"]);
    for operation in ["invoke", "invoke-async"] {
        let body = json!({"arguments": {"event": "x".repeat(65 << 20)}});
        let path = format!("/v1/functions/echo/{operation}");
        let (status, problem) = server.ask(Method::POST, &path, Some(&body)).await;
        assert_eq!(status, 400, "{problem}");
        assert_eq!(problem["hint"], "Send at most 64 MiB in one request.");
    }
    server.running.shutdown().await;
}

async fn invoke(server: &TestServer, name: &str, arguments: Value) -> (u16, Value, Value) {
    let path = format!("/v1/functions/{name}/invoke");
    let sent = request(Method::POST, &path, Some(&json!({ "arguments": arguments })));
    let response = server.send(sent).await;
    let job = job_of(&response);
    let status = response.status().as_u16();
    let answer = json(response).await;
    (status, answer, server.get(&format!("/v1/jobs/{job}")).await)
}

fn job_of<T>(response: &Response<T>) -> String {
    let job = response.headers().get("x-headwater-job").expect("a job");
    job.to_str().expect("text").to_owned()
}

async fn values() {
    let server = start().await;
    let (status, answer, job) = invoke(&server, "value", json!({"given": "a", "times": 2})).await;
    assert_eq!((status, answer), (200, json!({"given": "a", "times": [2, 2]})));
    assert_eq!((&job["kind"], &job["status"]), (&json!("function"), &json!("succeeded")));
    assert_eq!((&job["summary"], job.get("result")), (&json!("value"), None));
    assert_eq!((&job["usage"]["calls"], &job["usage"]["cold_starts"]), (&json!(1), &json!(1)));
    assert!(job["usage"]["start_ms"].as_u64() > Some(10), "{job}");
    assert!(job["usage"]["cpu_us"].as_u64() > Some(0), "{job}");
    assert!(job["usage"]["memory_bytes_peak"].as_u64() > Some(1 << 20), "{job}");
    let id = job["id"].as_str().expect("an id");
    let events = server.text(&format!("/v1/jobs/{id}/events")).await;
    assert!(events.contains("given a") && events.contains("functions/calls.py"), "{events}");

    let (_, answer, _) = invoke(&server, "value", json!({})).await;
    assert_eq!(answer, json!({"given": null, "times": [1]}));
    let (_, answer, _) = invoke(&server, "rows", json!({"count": 2})).await;
    assert_eq!(answer, json!([{"n": 0}, {"n": 1}]));
    let (status, problem, job) = invoke(&server, "fails", json!({})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("function_failed")), "{problem}");
    assert!(problem["message"].as_str().expect("text").contains("not today"), "{problem}");
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &problem["code"]));
    assert_eq!((&job["usage"]["calls"], &job["usage"]["cold_starts"]), (&json!(1), &json!(0)));
    let (status, problem, job) = invoke(&server, "unmade", json!({})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("environment_failed")), "{problem}");
    assert!(job["usage"]["environment_ms"].as_u64() > Some(10), "{job}");
    assert_eq!((&job["usage"]["calls"], &job["usage"]["wall_ms"]), (&json!(0), &json!(0)));
    let (status, problem, _) = invoke(&server, "odd", json!({})).await;
    assert!(status == 422 && problem["message"].as_str().is_some(), "{problem}");

    let usage = server.get("/v1/usage?by=kind").await;
    let line = usage.as_array().expect("lines").iter().find(|line| line["group"] == "function");
    let line = line.expect("a line");
    assert_eq!((&line["jobs"], &line["usage"]["calls"]), (&json!(6), &json!(5)), "{usage}");
    assert_eq!(line["usage"]["cold_starts"], 1, "{usage}");
    let sql = "SELECT summary, status, calls, cold_starts, start_ms > 0 AS began, queue_ms, \
               environment_ms > 0 AS made FROM system.jobs WHERE kind = 'function' \
               ORDER BY created LIMIT 1";
    let rows = server.post("/v1/query", json!({ "sql": sql })).await;
    let first = json!({"summary": "value", "status": "succeeded", "calls": 1, "cold_starts": 1,
                       "began": true, "queue_ms": 0, "made": rows[0]["made"]});
    assert_eq!(rows, json!([first]));
}

/// Calls a function with `events`. Returns the events, the line after the events, and the result.
async fn follow(server: &TestServer, name: &str, arguments: Value) -> (Vec<Value>, Value, Value) {
    let path = format!("/v1/functions/{name}/invoke?events=true");
    let sent = request(Method::POST, &path, Some(&json!({ "arguments": arguments })));
    let response = server.send(sent).await;
    assert_eq!(response.status(), 200);
    let job = server.get(&format!("/v1/jobs/{}", job_of(&response))).await;
    assert_eq!(job["summary"], name);
    let bytes = body(response).await.expect("a whole body");
    let text = String::from_utf8(bytes.to_vec()).expect("text");
    let parse = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
    let mut lines = text.lines();
    let mut events = Vec::new();
    while let Some(line) = lines.next().map(parse) {
        if line.get("response").is_some() {
            return (events, line, parse(&lines.collect::<String>()));
        }
        events.push(line);
    }
    panic!("no response: {text}");
}

async fn followed() {
    let server = start().await;
    let (events, start, result) = follow(&server, "value", json!({"given": "a"})).await;
    assert!(events.iter().any(|event| event["text"] == "given a"), "{events:?}");
    assert_eq!(events.last().expect("an event")["type"], "ended");
    assert_eq!(start, json!({"response": 200, "content_type": "application/json"}));
    assert_eq!(result, json!({"given": "a", "times": [1]}));
    let (events, start, problem) = follow(&server, "fails", json!({})).await;
    assert_eq!(events.last().expect("an event")["status"], "failed");
    assert_eq!((&start["response"], &problem["code"]), (&json!(422), &json!("function_failed")));
    // A call that is rejected has no events.
    let path = "/v1/functions/missing/invoke?events=true";
    let (status, problem) = server.ask(Method::POST, path, Some(&json!({}))).await;
    assert_eq!((status, &problem["code"]), (404, &json!("function_not_found")), "{problem}");
}

async fn tables() {
    let server = start().await;
    let column = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let batch = RecordBatch::try_from_iter([("n", column as _)]).expect("a batch");
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).expect("a writer");
    writer.write(&batch).expect("a batch");
    let bytes = writer.into_inner().expect("the bytes");
    for (query, by) in [("", 2), ("?table=table&arguments=%7B%22by%22%3A10%7D", 10)] {
        let mut sent = request(Method::POST, &format!("/v1/functions/double/invoke{query}"), None);
        sent.headers_mut().insert(CONTENT_TYPE, ARROW.parse().expect("a value"));
        sent.headers_mut().insert(ACCEPT, ARROW.parse().expect("a value"));
        let sent = sent.map(|_| http_body_util::Full::from(bytes.clone()));
        let response = server.send(sent).await;
        assert_eq!(response.status(), 200);
        let answer = body(response).await.expect("a whole body");
        let mut reader = StreamReader::try_new(Cursor::new(answer), None).expect("a stream");
        let found = reader.next().expect("a batch").expect("a batch");
        let column = found.column(0).as_any().downcast_ref::<Int64Array>().expect("numbers");
        assert_eq!(column.values().to_vec(), vec![by, 2 * by, 3 * by]);
        assert!(reader.next().is_none());
    }
    // The first message declares 32 TiB, the second declares more than the limit of the body.
    let huge = |number: i64, by: i64| {
        let mut bytes = bytes.clone();
        for at in (0..bytes.len() - 8).step_by(8) {
            if bytes[at..at + 8] == number.to_le_bytes() {
                bytes[at..at + 8].copy_from_slice(&by.to_le_bytes());
            }
        }
        bytes
    };
    for hostile in [huge(128, 1 << 45), huge(64, 1 << 45), huge(192, -1)] {
        let mut sent = request(Method::POST, "/v1/functions/double/invoke", None);
        sent.headers_mut().insert(CONTENT_TYPE, ARROW.parse().expect("a value"));
        let answer = server.send(sent.map(|_| http_body_util::Full::from(hostile))).await;
        assert!(answer.status() == 200 || answer.status() == 400, "{}", answer.status());
    }
    // The server has 1 GiB of memory.
    let long = "x".repeat((16 << 20) + 1);
    let problem = server.post("/v1/functions/value/invoke", json!({"arguments": {"given": long}}));
    assert!(problem.await["hint"].as_str().is_some_and(|hint| hint.contains("16 MiB")));
    // The server responds to every request, even if its body is incomplete.
    for end in [0, 3, 20, bytes.len() / 2] {
        let mut sent = request(Method::POST, "/v1/functions/double/invoke", None);
        sent.headers_mut().insert(CONTENT_TYPE, ARROW.parse().expect("a value"));
        let sent = sent.map(|_| http_body_util::Full::from(bytes[..end].to_vec()));
        let problem = json(server.send(sent).await).await;
        assert_eq!(problem["code"], "invalid_argument", "{end}: {problem}");
    }
}

async fn reuse() {
    let server = start().await;
    for wanted in 1..4 {
        let (_, answer, job) = invoke(&server, "count", json!({})).await;
        let cold = u64::from(wanted == 1);
        assert_eq!((answer, &job["usage"]["cold_starts"]), (json!(wanted), &json!(cold)));
    }
    let listed = server.get("/v1/jobs?kind=function").await;
    assert_eq!(listed.as_array().expect("jobs").len(), 3);
}

async fn edits() {
    let server = start().await;
    let (_, answer, _) = invoke(&server, "count", json!({})).await;
    assert_eq!(answer, json!(1));
    let edited = CALLS.replace("return len(calls)", "return -len(calls)");
    write(&server.folder, &edited);
    let (_, answer, _) = invoke(&server, "count", json!({})).await;
    assert_eq!(answer, json!(2), "the deployed code runs, and not the edited one");
    server.deploy().await;
    let (_, answer, _) = invoke(&server, "count", json!({})).await;
    assert_eq!(answer, json!(-1), "new code runs in a new process");
    write(&server.folder, &edited.replace("def fails", "def fails("));
    let problem = server.deploy().await;
    assert_eq!(problem["code"], "invalid_project", "{problem}");
    let (_, answer, _) = invoke(&server, "count", json!({})).await;
    assert_eq!(answer, json!(-2), "a refused deployment changes nothing");
}

async fn gone() {
    let server = start().await;
    leave(&server, "/v1/functions/endless/invoke").await;
    leave(&server, "/v1/functions/endless/invoke?events=true").await;
}

/// Closes the connection of a call, and waits until the function has stopped.
async fn leave(server: &TestServer, path: &str) {
    let address = server.running.http_addr().expect("an address");
    let mut sent = request(Method::POST, path, Some(&json!({})));
    let bearer = support::bearer(&server.running);
    sent.headers_mut().insert(hyper::header::AUTHORIZATION, bearer);
    let asked = tokio::spawn(ask(address, sent));
    let begun = |jobs: &Value| jobs[0]["status"] == "running";
    let jobs = server.until("/v1/jobs?kind=function", begun).await;
    let id = jobs[0]["id"].as_str().expect("an id").to_owned();
    let events = format!("/v1/jobs/{id}/events");
    while !server.text(&events).await.contains("begun") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let marked = || support::processes(&endless_name());
    assert_eq!(marked().len(), 1);
    asked.abort();
    let ended = |job: &Value| job["status"] == "cancelled";
    let job = server.until(&format!("/v1/jobs/{id}"), ended).await;
    assert!(job["usage"]["cpu_us"].as_u64() > Some(0), "{job}");
    assert_eq!(marked(), Vec::<i32>::new());
}

/// Sends a request over a separate connection, which is closed at the end of the task.
async fn ask(address: std::net::SocketAddr, sent: Request<http_body_util::Full<bytes::Bytes>>) {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.expect("a handshake");
    let _ = tokio::join!(connection, sender.send_request(sent));
}

async fn outlives() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(&folder, CALLS);
    let mut child = crate::life_cycle::Killable::start(folder.path()).await;
    let path = "/v1/functions/value/invoke";
    let deployment = support::deployment(folder.path());
    child.ask(Method::POST, "/v1/deployments", Some(&deployment)).await;
    let answer = child.ask(Method::POST, path, Some(&json!({}))).await;
    assert_eq!(answer["times"], json!([1]), "{answer}");
    child.kill();
    let mut config = support::config(folder.path());
    config.lock_wait = support::PATIENCE;
    let running = support::start(config).await;
    let server = TestServer { running, folder };
    let jobs = server.get("/v1/jobs?kind=function").await;
    assert_eq!((&jobs[0]["status"], jobs.as_array().map(Vec::len)), (&json!("succeeded"), Some(1)));
}
