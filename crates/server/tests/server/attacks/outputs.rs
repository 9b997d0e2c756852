//! A function that outputs its secret in every possible way.

use hyper::Method;
use serde_json::{Value, json};

use crate::support::{TestServer, request};

const SECRET: &str = "sk_live_4eC39HqLyjWDarjtT1";

/// The secret in base64.
const BASE64: &str = "c2tfbGl2ZV80ZUMzOUhxTHlqV0Rhcmp0VDE";

const CODE: &str = "\
import base64
import os
import headwater


@headwater.function(secrets=[\"API_KEY\"])
def leak(way):
    key = os.environ[\"API_KEY\"]
    if way == \"plain\":
        print(\"the key is\", key)
    if way == \"base64\":
        print(base64.b64encode(key.encode()).decode())
        print(base64.b64encode(b\"x:\" + key.encode() + b\"!\").decode())
    if way == \"split\":
        print(key[:13])
        print(key[13:])
    if way == \"traceback\":
        raise ValueError(\"wrong key \" + key)
    if way == \"result\":
        return {\"key\": key, \"keys\": [key], key: 1}
    if way == \"environment\":
        print(dict(os.environ))
        return dict(os.environ)
";

/// Starts a server with the function and its secret.
async fn start() -> TestServer {
    let server = TestServer::start().await;
    let folder = server.folder.path();
    std::fs::write(folder.join("headwater.toml"), "[project]\nname = \"p\"\n").expect("a file");
    std::fs::write(folder.join("leak.py"), CODE).expect("a file");
    let value = json!({ "value": SECRET });
    let stored = server.send(request(Method::PUT, "/v1/secrets/API_KEY", Some(&value))).await;
    assert_eq!(stored.status(), 200);
    let deployed = server.deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    server
}

/// Calls the function. Returns all related data that a client can read: the response, the job, its
/// events.
async fn leak(way: &str) -> String {
    let server = start().await;
    let body = json!({"arguments": {"way": way}});
    let answer = server.post("/v1/functions/leak/invoke", body).await;
    let ended = |jobs: &Value| !matches!(jobs[0]["status"].as_str(), Some("queued" | "running"));
    let jobs = server.until("/v1/jobs?kind=function", ended).await;
    let id = jobs[0]["id"].as_str().expect("an id");
    let events = server.text(&format!("/v1/jobs/{id}/events")).await;
    let rows = server.rows("SELECT * FROM system.jobs").await;
    format!("{answer}\n{jobs}\n{events}\n{rows}")
}

fn check_redacted(shown: &str, marks: usize) {
    assert!(!shown.contains(SECRET) && !shown.contains("4eC39Hq"), "{shown}");
    assert!(shown.matches("***").count() >= marks, "{shown}");
}

pub async fn plain() {
    check_redacted(&leak("plain").await, 1);
}

pub async fn base64() {
    let shown = leak("base64").await;
    check_redacted(&shown, 2);
    assert!(!shown.contains(BASE64), "{shown}");
}

pub async fn split() {
    let shown = leak("split").await;
    assert!(shown.contains(&SECRET[..13]) && shown.contains(&SECRET[13..]), "{shown}");
    let page = include_str!("../../../../../docs/secrets.md");
    assert!(page.contains("a value that a function splits"), "the page states it");
}

pub async fn traceback() {
    let shown = leak("traceback").await;
    check_redacted(&shown, 1);
    assert!(shown.contains("function_failed"), "{shown}");
}

pub async fn result() {
    check_redacted(&leak("result").await, 3);
}

pub async fn environment() {
    check_redacted(&leak("environment").await, 2);
}

pub async fn model() {
    let server = start().await;
    let code = "import os\nimport headwater\n\n\n\
                @headwater.model(materialization=\"replace\", secrets=[\"API_KEY\"])\n\
                def fails():\n    print(os.environ[\"API_KEY\"])\n    \
                raise ValueError(os.environ[\"API_KEY\"])\n";
    let files = json!({"headwater.toml": "[project]\nname = \"p\"\n", "models/fails.py": code});
    let job = server.post("/v1/runs", json!({ "files": files })).await;
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap_or_else(|| panic!("{job}")));
    let failed = |job: &Value| job["status"] == "failed";
    let job = server.until(&path, failed).await;
    let events = server.text(&format!("{path}/events")).await;
    let branches = server.get("/v1/branches?prefix=run/").await;
    check_redacted(&format!("{job}\n{events}\n{branches}"), 2);
}
