//! Tests of statements: streaming, cancellation, concurrency, formats.

use std::io::Cursor;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::ipc::reader::StreamReader;
use headwater_server::connect_socket;
use hyper::body::Incoming;
use hyper::header::ACCEPT;
use hyper::{Method, Response};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::life_cycle::ENDLESS;
use crate::support::{TestServer, body, json, request, send_http2};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("statements::rows_as_an_arrow_stream", arrow_stream),
        trial("statements::a_client_that_disconnects_cancels", abandoned),
        trial("statements::a_stopped_statement_is_cancelled", stopped),
        trial("statements::a_late_error_aborts_the_response", cut),
        trial("statements::a_late_error_aborts_the_response_over_http2", cut_http2),
        trial("statements::many_concurrent_statements", concurrent),
        trial("statements::a_limit_ends_an_endless_result", limited),
        trial("statements::system_tables_show_jobs_and_usage", system_tables),
    ]
}

/// An endless query that returns rows immediately.
const ROWS: &str = "WITH d(x) AS (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) \
     SELECT a.x AS n FROM d a, d b, d c, d e, d f, d g, d h, d i, d j, d k, d l, d m, d o, d p";

fn job_of(response: &Response<Incoming>) -> String {
    response.headers()["x-headwater-job"].to_str().expect("an id").to_owned()
}

async fn arrow_stream() {
    let server = TestServer::start().await;
    let query = json!({"sql": "SELECT * FROM (VALUES (1), (2), (3)) AS t(n) ORDER BY n"});
    let mut request = request(Method::POST, "/v1/query", Some(&query));
    let form = "application/vnd.apache.arrow.stream";
    request.headers_mut().insert(ACCEPT, form.parse().expect("a value"));
    let response = server.send(request).await;
    assert_eq!(response.headers()["content-type"], form);
    let bytes = body(response).await.expect("a whole body");
    let reader = StreamReader::try_new(Cursor::new(bytes), None).expect("a stream");
    let batches: Vec<_> = reader.map(|batch| batch.expect("a batch")).collect();
    let values = batches
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
    assert_eq!(values.collect::<Vec<_>>(), [1, 2, 3]);
}

async fn abandoned() {
    let server = TestServer::start().await;
    for sql in [ENDLESS, ROWS] {
        let query = json!({"sql": sql});
        let sent = server.send(request(Method::POST, "/v1/query", Some(&query)));
        let job = async {
            server.until("/v1/jobs?status=running", |jobs| jobs[0]["status"] == "running").await
        };
        // The client disconnects as soon as rows arrive or the job is running.
        let id = tokio::select! {
            response = sent => job_of(&response),
            jobs = job => jobs[0]["id"].as_str().expect("an id").to_owned(),
        };
        let job = server.until(&format!("/v1/jobs/{id}"), |job| job["status"] != "running").await;
        assert_eq!(job["status"], "cancelled", "{job}");
    }
}

async fn stopped() {
    let server = TestServer::start().await;
    let query = json!({"sql": ENDLESS});
    let sent = server.send(request(Method::POST, "/v1/query", Some(&query)));
    let stop = async {
        let jobs =
            server.until("/v1/jobs?status=running", |jobs| jobs[0]["status"] == "running").await;
        let id = jobs[0]["id"].as_str().expect("an id").to_owned();
        server.post(&format!("/v1/jobs/{id}/stop"), json!({})).await;
    };
    let (response, ()) = tokio::join!(sent, stop);
    assert_eq!(response.status(), 409);
    assert!(response.headers().contains_key("x-headwater-job"));
    assert_eq!(json(response).await["code"], "cancelled");
}

async fn cut() {
    let server = TestServer::start().await;
    let query = json!({"sql": ROWS});
    let response = server.send(request(Method::POST, "/v1/query", Some(&query))).await;
    assert_eq!(response.status(), 200);
    let id = job_of(&response);
    let stop = server.post(&format!("/v1/jobs/{id}/stop"), json!({})).await;
    assert_eq!(stop["id"], id.as_str());
    assert!(body(response).await.is_err());
    let job = server.until(&format!("/v1/jobs/{id}"), |job| job["status"] != "running").await;
    assert_eq!(job["status"], "cancelled", "{job}");
}

async fn cut_http2() {
    let server = TestServer::start().await;
    let query = json!({"sql": ROWS});
    let socket = server.running.socket().expect("a socket");
    let stream = connect_socket(socket).await.expect("a connection");
    let sent = request(Method::POST, "http://localhost/v1/query", Some(&query));
    let response = send_http2(stream, sent).await;
    assert_eq!(response.status(), 200);
    server.post(&format!("/v1/jobs/{}/stop", job_of(&response)), json!({})).await;
    assert!(body(response).await.is_err());
}

async fn concurrent() {
    let server = std::sync::Arc::new(TestServer::start().await);
    server.rows("CREATE TABLE t AS SELECT 21 AS n").await;
    let mut asked = JoinSet::new();
    for number in 0..40 {
        let server = server.clone();
        asked.spawn(async move {
            let rows = server.rows(&format!("SELECT n * 2 + {number} AS n FROM t")).await;
            assert_eq!(rows, json!([{"n": 42 + number}]));
        });
    }
    asked.join_all().await;
    let wanted = |jobs: &Value| jobs.as_array().is_some_and(|jobs| jobs.len() == 41);
    server.until("/v1/jobs?kind=query&status=succeeded", wanted).await;
}

async fn limited() {
    let server = TestServer::start().await;
    let query = json!({"sql": ROWS, "limit": 10_000});
    let response = server.send(request(Method::POST, "/v1/query", Some(&query))).await;
    let id = job_of(&response);
    let rows = json(response).await;
    assert_eq!(rows.as_array().expect("rows").len(), 10_000);
    assert_eq!(server.get(&format!("/v1/jobs/{id}")).await["status"], "succeeded");
}

const JOBS: &str = "SELECT summary, status, error_code FROM system.jobs \
     WHERE ended IS NOT NULL ORDER BY created, id";

async fn system_tables() {
    let server = TestServer::start().await;
    server.rows("SELECT 'mark' AS m").await;
    server.rows("SELECT broken").await;
    let rows = server.rows(JOBS).await;
    let expected = json!([
        {"summary": "SELECT 'mark' AS m", "status": "succeeded", "error_code": null},
        {"summary": "SELECT broken", "status": "failed", "error_code": "column_not_found"},
    ]);
    assert_eq!(rows, expected);
    let rows = server.rows("SELECT name, jobs FROM system.usage WHERE grouping = 'kind'").await;
    assert_eq!(rows, json!([{"name": "query", "jobs": 3}]));
}
