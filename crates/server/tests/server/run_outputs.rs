//! Declared outputs of models are written after the merge, and only once, even if an attempt is
//! repeated.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use hyper::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::access::Users;
use crate::bucket_triggers::object;
use crate::s3_clients::started;
use crate::support::TestServer;
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("run_outputs::the_rows_of_a_model_are_written_after_the_run", works),
        trial("run_outputs::an_output_that_failed_is_written_by_the_next_run", repeats),
        trial("run_outputs::a_run_needs_the_rights_to_its_outputs", rights),
    ]
}

/// Returns a project with one model.
fn project(settings: &str, query: &str) -> Value {
    json!({"files": {
        "headwater.toml": "[project]\nname = \"outputs\"\n",
        "models/report.sql": format!("{settings}\n{query}\n"),
    }})
}

async fn run(server: &TestServer, files: Value) -> Value {
    let job = server.post("/v1/runs", files).await;
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap_or_else(|| panic!("{job}")));
    let is_final = |job: &Value| !["queued", "running"].iter().any(|it| job["status"] == *it);
    server.until(&path, is_final).await
}

const READ: &str = r#"
import headwater
from headwater import lake


@headwater.function()
def read(key):
    return lake.read_object("landing", key).decode()
"#;

async fn works() {
    let server = started().await;
    object(&server, "landing", "in/a.csv", "id\n1\n").await;
    let settings = "-- headwater: materialization = replace\n\
                    -- headwater: outputs = bucket://landing/{function}.csv, table://copies\n\
                    -- headwater: outputs = bucket://landing/report.json";
    let files = project(settings, "SELECT 7 AS id, 'tea' AS name");
    let job = run(&server, files.clone()).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    let copies = server.rows("SELECT id, name FROM copies").await;
    assert_eq!(copies, json!([{"id": 7, "name": "tea"}]));
    // A run without changes writes no output.
    let job = run(&server, files).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    let copies = server.rows("SELECT count(*) AS n FROM copies").await;
    assert_eq!(copies, json!([{"n": 1}]));

    let path = server.folder.path();
    crate::bucket_triggers::write(path, "headwater.toml", "[project]\nname = \"read\"\n");
    crate::bucket_triggers::write(path, "functions/read.py", READ);
    let deployed = server.deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    let body = json!({"arguments": {"key": "report.csv"}});
    let text = server.post("/v1/functions/read/invoke", body).await;
    assert_eq!(text, "id,name\n7,tea\n");
    server.running.shutdown().await;
}

/// Receives a request and responds to it. Returns the idempotency key and the body of the request.
fn answer(listener: &TcpListener, status: &str) -> (String, Value) {
    let (mut stream, _) = listener.accept().expect("a request");
    let mut reader = BufReader::new(&stream);
    let (mut key, mut length, mut line) = (String::new(), 0, String::new());
    while reader.read_line(&mut line).expect("a line") > 2 {
        let lower = line.to_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if let Some(value) = lower.strip_prefix("idempotency-key:") {
            value.trim().clone_into(&mut key);
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let response = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(response.as_bytes()).expect("sent");
    (key, serde_json::from_slice(&body).expect("JSON"))
}

async fn repeats() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let hook = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let server = TestServer::start().await;
    let settings = format!(
        "-- headwater: materialization = replace\n-- headwater: outputs = table://copies, {hook}"
    );
    let files = project(&settings, "SELECT 7 AS id");
    let requests = tokio::task::spawn_blocking(move || {
        ["400 No", "200 OK"].map(|status| answer(&listener, status))
    });
    let job = run(&server, files.clone()).await;
    assert_eq!(job["status"], "failed", "{job}");
    let message = job["error"]["message"].as_str().unwrap_or_default();
    let expected = "the run is merged, but an output of model `report` failed";
    assert!(message.starts_with(expected), "{job}");
    assert_eq!(server.rows("SELECT id FROM report").await, json!([{"id": 7}]));
    // No model has to run again, but the output is written.
    let job = run(&server, files).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    let requests = requests.await.expect("requests");
    assert_eq!(requests[0], requests[1]);
    assert!(requests[0].0.contains("/output/"), "{requests:?}");
    assert_eq!(requests[0].1, json!([{"id": 7}]));
    let copies = server.rows("SELECT count(*) AS n FROM copies").await;
    assert_eq!(copies, json!([{"n": 1}]), "the first output is not written again");
    server.running.shutdown().await;
}

async fn rights() {
    let server = TestServer::start().await;
    let access = server.running.access().expect("the owner's");
    let users = Users { server, access };
    let grants = ["run on project:*", "read,write on branch:*"];
    let ana = users.user("ana", &grants).await;
    let settings =
        "-- headwater: materialization = replace\n-- headwater: outputs = table://copies";
    let files = project(settings, "SELECT 7 AS id");
    let (_, job) = users.send(&ana, Method::POST, "/v1/runs", Some(files)).await;
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap_or_else(|| panic!("{job}")));
    let job = users.server.until(&path, |job| job["status"] == "failed").await;
    assert_eq!(job["error"]["code"], "forbidden", "{job}");
    let message = job["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("`outputs` of model `report`"), "{job}");
    // The rights are checked before the run starts.
    assert_eq!(users.server.get("/v1/refs/main/tables").await, json!([]));
    users.server.running.shutdown().await;
}
