//! Tests of the metrics for Prometheus.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use hyper::Method;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use libtest_mimic::Trial;
use serde_json::json;

use crate::s3_clients::run;
use crate::support::{TestServer, bearer, body, request};
use crate::{clients, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("metrics::work_is_counted_by_function_trigger_and_kind", counts),
        trial("metrics::the_client_of_prometheus_parses_both_formats", parsed),
        trial("metrics::requests_are_counted_by_route", requests),
    ]
}

const PACKAGES: [&str; 1] = ["prometheus-client==0.23.1"];

const MANIFEST: &str = r#"
[project]
name = "observed"

[[trigger]]
name = "landing"
files = { folder = "landing", debounce = "20ms" }
retries = 0
function = "on_file"
"#;

const FUNCTIONS: &str = r#"
import headwater


@headwater.function(reuse=True)
def double(n):
    return 2 * n


@headwater.function()
def fails():
    raise ValueError("not today")


@headwater.function()
def on_file(event):
    return "seen"
"#;

/// Starts a server with a deployed project.
async fn deployed() -> TestServer {
    let server = TestServer::start().await;
    let folder = server.folder.path();
    write(folder, "landing/.keep", "");
    write(folder, "headwater.toml", MANIFEST);
    write(folder, "functions/all.py", FUNCTIONS);
    let deployed = server.deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    server
}

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

/// Returns the samples by their name and labels.
async fn samples(server: &TestServer) -> BTreeMap<String, f64> {
    let text = server.text("/metrics").await;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    lines.map(sample).collect()
}

async fn counts() {
    let server = deployed().await;
    for n in 0..3 {
        let arguments = json!({"arguments": {"n": n}});
        server.post("/v1/functions/double/invoke", arguments).await;
    }
    server.post("/v1/functions/fails/invoke", json!({"arguments": {}})).await;
    server.rows("CREATE TABLE t AS SELECT 1 AS n").await;
    server.rows("SELECT * FROM t").await;
    // The internal query that returns the result of a statement on rights is not counted.
    server.rows("CREATE ROLE reader").await;
    server.rows("GRANT SELECT ON t TO reader").await;
    write(server.folder.path(), "landing/one.csv", "a\n1\n");
    let is_done = |events: &serde_json::Value| events.as_array().is_some_and(|all| all.len() == 1);
    server.until("/v1/trigger-events?status=done", is_done).await;
    server.post("/v1/branches", json!({"name": "dev"})).await;
    let merge = json!({"source": "dev"});
    server.post("/v1/branches/main/merge", merge).await;
    let samples = samples(&server).await;
    let value = |name: &str| *samples.get(name).unwrap_or_else(|| panic!("{name}: {samples:#?}"));
    for (name, expected) in [
        ("headwater_function_calls_total{function=\"double\",outcome=\"succeeded\"}", 3.0),
        ("headwater_function_calls_total{function=\"fails\",outcome=\"failed\"}", 1.0),
        ("headwater_function_calls_total{function=\"on_file\",outcome=\"succeeded\"}", 1.0),
        ("headwater_function_starts_total{function=\"double\",start=\"reused\"}", 2.0),
        ("headwater_function_run_seconds_count{function=\"double\"}", 3.0),
        ("headwater_function_queue_seconds_count{function=\"double\"}", 3.0),
        ("headwater_function_calls_running{function=\"double\"}", 0.0),
        ("headwater_function_calls_waiting{function=\"double\"}", 0.0),
        ("headwater_instances{state=\"running\"}", 0.0),
        ("headwater_events_accepted_total{trigger=\"landing\"}", 1.0),
        ("headwater_events_delivered_total{trigger=\"landing\"}", 1.0),
        ("headwater_events_failed_total{trigger=\"landing\"}", 0.0),
        ("headwater_events_pending{trigger=\"landing\"}", 0.0),
        ("headwater_jobs_total{kind=\"query\",status=\"succeeded\"}", 4.0),
        ("headwater_jobs_total{kind=\"function\",status=\"failed\"}", 1.0),
        ("headwater_jobs_total{kind=\"function\",status=\"succeeded\"}", 4.0),
        ("headwater_statements_total{statement=\"CREATE TABLE\"}", 1.0),
        ("headwater_statements_total{statement=\"SELECT\"}", 1.0),
        ("headwater_statements_total{statement=\"CREATE ROLE\"}", 1.0),
        ("headwater_statements_total{statement=\"GRANT\"}", 1.0),
        ("headwater_merges_total{result=\"up_to_date\"}", 1.0),
        ("headwater_commits_total", 1.0),
    ] {
        assert!((value(name) - expected).abs() < 1e-9, "{name}: {} {samples:#?}", value(name));
    }
    let first = |start: &str| {
        value(&format!("headwater_function_starts_total{{function=\"double\",start=\"{start}\"}}"))
    };
    assert!((first("cold") + first("zygote") - 1.0).abs() < 1e-9, "{samples:#?}");
    assert!(value("headwater_written_bytes_total{kind=\"query\"}") > 0.0);
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("headwater_uptime_seconds") >= 0.0);
}

async fn requests() {
    let server = TestServer::start().await;
    for name in ["one", "two"] {
        server.get(&format!("/v1/branches/{name}")).await;
    }
    server.get("/no/such/page").await;
    // Clients choose methods freely, so unknown methods share a label.
    for method in ["BREW", "WHEN"] {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        server.send(request(method, "/v1/branches/one", None)).await;
    }
    let samples = samples(&server).await;
    let branch = "headwater_http_requests_total{method=\"GET\",route=\"/v1/branches/{branch}\",\
                  status=\"404\"}";
    assert_eq!(samples.get(branch), Some(&2.0), "{samples:#?}");
    let other = "headwater_http_requests_total{method=\"GET\",route=\"unmatched\",status=\"404\"}";
    assert_eq!(samples.get(other), Some(&1.0), "{samples:#?}");
    assert!(!samples.keys().any(|name| name.contains("/no/such/page")), "{samples:#?}");
    let methods = "headwater_http_requests_total{method=\"other\",route=\"/v1/branches/{branch}\",";
    let methods: f64 =
        samples.iter().filter(|(name, _)| name.starts_with(methods)).map(|(_, it)| it).sum();
    assert!((methods - 2.0).abs() < 1e-9, "{samples:#?}");
    assert!(!samples.keys().any(|name| name.contains("BREW")), "{samples:#?}");
    let mut accepted = request(Method::GET, "/metrics", None);
    let accept = HeaderValue::from_static("application/openmetrics-text; version=1.0.0");
    accepted.headers_mut().insert(ACCEPT, accept);
    let response = server.send(accepted).await;
    let kind = response.headers()[CONTENT_TYPE].to_str().expect("text").to_owned();
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(body(response).await.expect("a whole body").ends_with(b"# EOF\n"));
}

async fn parsed() {
    let server = deployed().await;
    server.post("/v1/functions/double/invoke", json!({"arguments": {"n": 1}})).await;
    let http = server.running.http_addr().expect("an address");
    let header = bearer(&server.running);
    let header = header.to_str().expect("text").to_owned();
    let python = clients::environment_of("prometheus-client-0.23.1", &PACKAGES);
    let mut command = Command::new(python.join("bin/python"));
    command.arg(clients::client("metrics.py")).args([format!("http://{http}/metrics"), header]);
    assert_eq!(run(command).await, "ok\n");
}
