//! Tests of the export of traces, with a collector that decodes OTLP over HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use headwater_server::{Telemetry, TelemetryOptions};
use hyper::Method;
use hyper::header::HeaderValue;
use libtest_mimic::Trial;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message;
use serde_json::{Value, json};

use crate::bucket_triggers::{object, write};
use crate::support::{self, PATIENCE, TestServer, config, request, start};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("traces::an_object_calls_a_function_that_appends_in_one_trace", event),
        trial("traces::a_call_continues_the_trace_of_its_client", call),
        trial("traces::later_work_belongs_to_its_request", later),
        trial("traces::a_merge_has_a_span_below_its_job", merge),
        trial("traces::calls_do_not_wait_for_a_collector_that_is_gone", unavailable),
    ]
}

const MANIFEST: &str = r#"
[project]
name = "traced"

[[trigger]]
name = "arrivals"
bucket = { name = "landing", suffix = ".csv", events = ["created"] }
function = "load"
"#;

const FUNCTIONS: &str = r#"
import os

import headwater
from headwater import lake


@headwater.function()
def load(event):
    record = event["Records"][0]["s3"]
    text = lake.read_object(record["bucket"]["name"], record["object"]["key"]).decode()
    lake.append("arrivals", [{"line": line} for line in text.split()])
    return os.environ["TRACEPARENT"]


@headwater.function(reuse=True)
def own():
    return {name: os.environ.get(name) for name in ("TRACEPARENT", "_X_AMZN_TRACE_ID")}
"#;

/// A collector, and the spans that it has received.
#[derive(Debug, Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

/// A span with its ids as digits and its attributes as text.
#[derive(Debug, Clone)]
struct Received {
    trace: String,
    id: String,
    parent: String,
    attributes: BTreeMap<String, String>,
    span: Span,
}

impl Received {
    /// Returns the ids of the trace and of the span.
    fn position(&self) -> (String, String) {
        (self.trace.clone(), self.id.clone())
    }

    /// Returns the ids of the trace and of the span of the only link.
    fn link(&self) -> (String, String) {
        let [link] = self.span.links.as_slice() else { panic!("{self:#?}") };
        (digits(&link.trace_id), digits(&link.span_id))
    }
}

impl Collector {
    /// Starts the collector on a free port. Returns the collector and its URL.
    async fn start() -> (Collector, String) {
        let collector = Collector::default();
        let router = Router::new().route("/v1/traces", post(receive));
        let router = router.with_state(collector.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, url)
    }

    fn spans(&self) -> Vec<Received> {
        self.0.lock().iter().map(received).collect()
    }

    /// Waits for a span with this name.
    async fn until(&self, name: &str) -> Received {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let spans = self.spans();
            if let Some(found) = spans.iter().find(|received| received.span.name == name) {
                return found.clone();
            }
            let names: Vec<_> = spans.iter().map(|received| &received.span.name).collect();
            assert!(Instant::now() < deadline, "no span `{name}` in {names:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

async fn receive(State(collector): State<Collector>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).expect("a request of OTLP");
    for resource in request.resource_spans {
        let attributes = resource.resource.expect("a resource").attributes;
        assert!(attributes.iter().any(|one| one.key == "service.name"), "{attributes:?}");
        collector.0.lock().extend(resource.scope_spans.into_iter().flat_map(|it| it.spans));
    }
}

fn digits(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

fn received(span: &Span) -> Received {
    let attributes = span.attributes.iter().map(|attribute| {
        let value = attribute.value.clone().and_then(|value| value.value);
        let value = match value.expect("a value") {
            AnyValue::StringValue(text) => text,
            AnyValue::BoolValue(value) => value.to_string(),
            AnyValue::IntValue(value) => value.to_string(),
            other => panic!("{other:?}"),
        };
        (attribute.key.clone(), value)
    });
    Received {
        trace: digits(&span.trace_id),
        id: digits(&span.span_id),
        parent: digits(&span.parent_span_id),
        attributes: attributes.collect(),
        span: span.clone(),
    }
}

/// Starts a server with a deployed project, which exports its traces.
async fn traced(endpoint: String) -> TestServer {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = config(folder.path());
    config.s3 = Some("127.0.0.1:0".parse().expect("an address"));
    let service = "lake".to_owned();
    let options = TelemetryOptions { endpoint, service, ..TelemetryOptions::default() };
    config.service.telemetry = Telemetry::start(&options).expect("an export");
    let server = TestServer { running: start(config).await, folder };
    write(server.folder.path(), "headwater.toml", MANIFEST);
    write(server.folder.path(), "functions/all.py", FUNCTIONS);
    let deployed = server.deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    server
}

async fn event() {
    let (collector, url) = Collector::start().await;
    let server = traced(url).await;
    object(&server, "landing", "in/a.csv", "one two").await;
    let is_done = |events: &Value| events.as_array().is_some_and(|events| !events.is_empty());
    let events = server.until("/v1/trigger-events?status=done", is_done).await;
    let jobs = server.get("/v1/jobs?kind=function").await;
    let root = collector.until("event arrivals").await;

    // The id of the trace is the id of the event.
    let event = events[0]["id"].as_str().expect("an id");
    assert_eq!(root.trace, event.replace('-', ""));
    assert_eq!(
        (root.parent.as_str(), root.attributes["headwater.trigger"].as_str()),
        ("", "arrivals")
    );
    let spans = collector.spans();
    let spans: Vec<_> = spans.iter().filter(|one| one.trace == root.trace).collect();
    let one = |name: &str| {
        let found: Vec<_> = spans.iter().filter(|one| one.span.name == name).collect();
        assert_eq!(found.len(), 1, "{name}: {spans:#?}");
        *found[0]
    };
    let (job, call, handler) = (one("job function"), one("call load"), one("handler"));
    let (commit, append) = (one("commit"), one("lake append"));
    for (child, parent) in [
        (job, &root),
        (call, job),
        (handler, call),
        (one("lake read_object"), handler),
        (append, handler),
        (commit, job),
    ] {
        assert_eq!(child.parent, parent.id, "{} below {}", child.span.name, parent.span.name);
        let (inner, outer) = (&child.span, &parent.span);
        assert!(inner.start_time_unix_nano <= inner.end_time_unix_nano, "{inner:?}");
        // Times of jobs have a resolution of one millisecond.
        let early = outer.start_time_unix_nano.saturating_sub(2_000_000);
        assert!(inner.start_time_unix_nano >= early, "{inner:?} {outer:?}");
    }
    let queue = spans.iter().find(|one| one.span.name == "queue" && one.parent == call.id);
    assert!(queue.is_some(), "{spans:#?}");
    assert_eq!(job.attributes["headwater.job.id"], jobs[0]["id"]);
    assert_eq!(job.attributes["headwater.event.id"], event);
    assert_eq!(call.attributes["faas.name"], "load");
    assert!(["true", "false"].contains(&call.attributes["faas.coldstart"].as_str()));
    assert_eq!(commit.attributes["headwater.branch"], "main");
    let head = server.get("/v1/branches/main").await;
    assert_eq!(commit.attributes["headwater.commit.id"], head["commit"], "{head}");
    // The span of the event has a link to the request that wrote the object.
    let puts: Vec<_> = collector.spans();
    let puts = puts.iter().filter(|one| one.span.name == "PUT s3").map(Received::position);
    assert!(puts.collect::<Vec<_>>().contains(&root.link()), "{root:#?}");
    // Spans that the handler creates would be children of the handler's span.
    let own = jobs[0]["result"]["function"].as_str().expect("a text").to_owned();
    assert_eq!(own, format!("00-{}-{}-01", root.trace, handler.id));
    let metrics = server.text("/metrics").await;
    assert!(metrics.contains("headwater_trace_spans_total{result=\"dropped\"} 0"), "{metrics}");
}

async fn call() {
    let (collector, url) = Collector::start().await;
    let server = traced(url).await;
    let invoke = async |trace: &str, name: &'static str| {
        let body = json!({"arguments": {}});
        let mut call = request(Method::POST, "/v1/functions/own/invoke", Some(&body));
        call.headers_mut().insert(name, HeaderValue::try_from(trace).expect("a header"));
        support::json(server.send(call).await).await
    };
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let own = invoke(&format!("00-{trace}-{parent}-01"), "traceparent").await;
    let request = collector.until("POST /v1/functions/{function}/invoke").await;
    assert_eq!((request.trace.as_str(), request.parent.as_str()), (trace, parent));
    assert_eq!(request.attributes["http.response.status_code"], "200");
    let handler = collector.until("handler").await;
    assert_eq!(own["TRACEPARENT"], format!("00-{trace}-{}-01", handler.id), "{own}");
    let (time, unique) = trace.split_at(8);
    let xray = format!("Root=1-{time}-{unique};Parent={};Sampled=1", handler.id);
    assert_eq!(own["_X_AMZN_TRACE_ID"], xray);
    let job = collector.until("job function").await;
    assert_eq!((job.trace.as_str(), &job.parent), (trace, &request.id));
    assert_eq!(collector.until("call own").await.parent, job.id);

    // If a client does not record its trace, no spans are exported, not even in another trace.
    let count = collector.spans().len();
    let unsampled = trace.replace('0', "1");
    let own = invoke(&format!("00-{unsampled}-{parent}-00"), "traceparent").await;
    let own = own["TRACEPARENT"].as_str().expect("a text").to_owned();
    assert!(own.starts_with(&format!("00-{unsampled}-")) && own.ends_with("-00"), "{own}");
    let header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
    let own = invoke(header, "x-amzn-trace-id").await;
    let own = own["TRACEPARENT"].as_str().expect("a text");
    assert!(own.starts_with("00-5759e988bd862e3fe1be46a994272793-"), "{own}");
    let deadline = Instant::now() + PATIENCE;
    let other = "5759e988bd862e3fe1be46a994272793";
    while !collector.spans().iter().any(|one| one.trace == other && one.span.name == "call own") {
        assert!(Instant::now() < deadline, "the third call has no trace");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let spans = collector.spans();
    assert!(spans.len() > count && spans.iter().all(|one| one.trace != unsampled));
    let calls = spans.iter().filter(|one| one.span.name == "call own");
    assert_eq!(calls.count(), 2, "{spans:#?}");
}

async fn later() {
    let (collector, url) = Collector::start().await;
    let server = traced(url).await;
    let body = json!({"arguments": {}});
    server.post("/v1/functions/own/invoke-async", body).await;
    let request = collector.until("POST /v1/functions/{function}/invoke-async").await;
    let event = collector.until("event functions/own").await;
    assert_eq!(event.link(), request.position());
    assert_ne!(event.trace, request.trace);
    server.post("/v1/queries", json!({"sql": "SELECT 1 AS n"})).await;
    let job = collector.until("job query").await;
    let request = collector.until("POST /v1/queries").await;
    assert_eq!((&job.trace, &job.parent), (&request.trace, &request.id));
}

async fn merge() {
    let (collector, url) = Collector::start().await;
    let server = traced(url).await;
    server.rows("CREATE TABLE t (n BIGINT)").await;
    server.post("/v1/branches", json!({"name": "dev"})).await;
    let insert = json!({"sql": "INSERT INTO t VALUES (1)", "ref": "dev"});
    server.post("/v1/query", insert).await;
    server.post("/v1/branches/main/merge", json!({"source": "dev"})).await;
    let merge = collector.until("merge").await;
    assert_eq!(merge.parent, collector.until("job merge").await.id);
    assert_eq!(merge.attributes["headwater.branch"], "main");
    assert_eq!(merge.attributes["headwater.merge.result"], "merged");
    let head = server.get("/v1/branches/main").await;
    assert_eq!(merge.attributes["headwater.commit.id"], head["commit"], "{head}");
    // The insert is small, so it uses group commit.
    let spans = collector.spans();
    let on_dev =
        |one: &&Received| one.span.name == "commit" && one.attributes["headwater.branch"] == "dev";
    let commit = spans.iter().find(on_dev).expect("a commit");
    assert_eq!(commit.attributes["headwater.tables"], "t", "{commit:#?}");
}

async fn unavailable() {
    // The address accepts connections and never responds.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let server = traced(format!("http://{}", listener.local_addr().expect("an address"))).await;
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(server.rows("SELECT 1 AS n").await, json!([{"n": 1}]));
    }
    // One export alone would wait for 10 seconds.
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}
