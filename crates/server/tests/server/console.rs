//! The console: its files, its sessions, and the page in a real browser.
//!
//! Chromium is installed from Debian, and Playwright's client from npm, once into the target
//! folder.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use axum::http::header::{ACCEPT_ENCODING, COOKIE, HOST, IF_NONE_MATCH, SET_COOKIE};
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request, Response};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::clients;
use crate::support::{self, TestServer, bearer, request};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("console::the_page_needs_no_token_and_no_other_server", page),
        trial("console::a_session_needs_its_cookie_and_its_key", sessions),
        trial("console::a_code_logs_in_once", codes),
        trial("console::a_person_works_in_a_browser", browser),
        trial("console::a_person_logs_in_at_a_provider", provider_login),
    ]
}

/// Version of Playwright's client, which controls the browser.
const PLAYWRIGHT: &str = "playwright-core@1.65.1";

/// Sends a request without the server's token.
async fn send(server: &TestServer, mut request: Request<Sent>) -> Response<Incoming> {
    request.headers_mut().insert(AUTHORIZATION, "none".parse().expect("a value"));
    server.send(request).await
}

/// A method and a path.
type Call = (Method, &'static str);

type Sent = http_body_util::Full<bytes::Bytes>;

async fn page() {
    let server = TestServer::start().await;
    let answer = send(&server, request(Method::GET, "/", None)).await;
    assert_eq!(answer.status(), 200);
    let policy = answer.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    let tag = answer.headers()["etag"].clone();
    let text = support::body(answer).await.expect("a page");
    let text = String::from_utf8(text.to_vec()).expect("text");

    let mut again = request(Method::GET, "/", None);
    again.headers_mut().insert(IF_NONE_MATCH, tag);
    assert_eq!(send(&server, again).await.status(), 304);

    let script = text.split('"').find(|part| part.starts_with("/console/app.js?v="));
    let mut script = request(Method::GET, script.expect("a script"), None);
    script.headers_mut().insert(ACCEPT_ENCODING, "br, gzip;q=0.8".parse().expect("a value"));
    let script = send(&server, script).await;
    assert_eq!(script.headers()["content-encoding"], "gzip");
    assert!(script.headers()["cache-control"].to_str().expect("text").contains("immutable"));

    let missing = send(&server, request(Method::GET, "/console/none.js", None)).await;
    assert_eq!(missing.status(), 401, "only the files of the page are public");
    let missing = server.send(request(Method::GET, "/console/none.js", None)).await;
    assert_eq!(missing.status(), 404);
}

/// Logs in; returns the status, the cookie and the key.
async fn log_in(server: &TestServer, body: Value) -> (u16, String, String) {
    let answer = send(server, request(Method::POST, "/v1/session", Some(&body))).await;
    let status = answer.status().as_u16();
    let cookie = answer.headers().get(SET_COOKIE).map(|value| value.to_str().expect("text"));
    let cookie = cookie.unwrap_or("").to_owned();
    let answer = support::json(answer).await;
    (status, cookie, answer["key"].as_str().unwrap_or("").to_owned())
}

/// Sends a request with a cookie and a key; returns the status.
async fn status(server: &TestServer, call: Call, cookie: &str, key: &str) -> u16 {
    let (method, path) = call;
    let mut request = request(method, path, None);
    let pair = cookie.split(';').next().unwrap_or("");
    request.headers_mut().insert(COOKIE, pair.parse().expect("a value"));
    request.headers_mut().insert("x-headwater-session", key.parse().expect("a value"));
    send(server, request).await.status().as_u16()
}

async fn sessions() {
    let server = TestServer::start().await;
    let token = bearer(&server.running);
    let token = token.to_str().expect("text").trim_start_matches("Bearer ");
    for wrong in [json!({}), json!({"token": ""}), json!({"token": "0"}), json!({"code": "0"})] {
        assert_eq!(log_in(&server, wrong).await.0, 401);
    }
    let (created, cookie, key) = log_in(&server, json!({ "token": token })).await;
    assert_eq!(created, 201);
    assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains(token) && !cookie.contains(&key));
    let branches = || (Method::GET, "/v1/branches");
    assert_eq!(status(&server, branches(), &cookie, &key).await, 200);
    assert_eq!(status(&server, branches(), &cookie, "").await, 401);
    assert_eq!(status(&server, branches(), "", &key).await, 401);
    let (_, other, _) = log_in(&server, json!({ "token": token })).await;
    assert_eq!(status(&server, branches(), &other, &key).await, 401);

    // A cookie is valid only for its own port.
    let mut elsewhere = request(Method::GET, "/v1/branches", None);
    elsewhere.headers_mut().insert(HOST, "localhost:4280".parse().expect("a value"));
    let pair = cookie.split(';').next().expect("a pair");
    elsewhere.headers_mut().insert(COOKIE, pair.parse().expect("a value"));
    elsewhere.headers_mut().insert("x-headwater-session", key.parse().expect("a value"));
    assert_eq!(send(&server, elsewhere).await.status(), 401);

    let session = || (Method::GET, "/v1/session");
    assert_eq!(status(&server, session(), &cookie, &key).await, 200);
    assert_eq!(status(&server, (Method::DELETE, "/v1/session"), &cookie, "").await, 204);
    assert_eq!(status(&server, session(), &cookie, &key).await, 200, "the key was missing");
    assert_eq!(status(&server, (Method::DELETE, "/v1/session"), &cookie, &key).await, 204);
    assert_eq!(status(&server, session(), &cookie, &key).await, 401);
}

async fn codes() {
    let server = TestServer::start().await;
    let answer = send(&server, request(Method::POST, "/v1/session/codes", None)).await;
    assert_eq!(answer.status(), 401, "a code needs a login");
    let code = server.post("/v1/session/codes", Value::Null).await["code"].clone();
    let (created, cookie, key) = log_in(&server, json!({ "code": code })).await;
    assert_eq!(created, 201);
    assert_eq!(status(&server, (Method::GET, "/v1/branches"), &cookie, &key).await, 200);
    assert_eq!(log_in(&server, json!({ "code": code })).await.0, 401);
}

/// Statements to execute before the browser's steps: they create two tables, and two branches that
/// change the same row.
const STATEMENTS: [(&str, &str); 5] = [
    ("main", "CREATE TABLE customers AS SELECT 1 AS id, 'Ada' AS name UNION ALL SELECT 2, NULL"),
    ("main", "CREATE TABLE orders AS SELECT 1 AS id, 10 AS amount UNION ALL SELECT 2, 20"),
    ("ours", "UPDATE orders SET amount = 11 WHERE id = 1"),
    ("theirs", "UPDATE orders SET amount = 12 WHERE id = 1"),
    ("added", "INSERT INTO orders VALUES (3, 30)"),
];

async fn browser() {
    let server = TestServer::start().await;
    for (branch, sql) in STATEMENTS {
        if branch != "main" {
            server.post("/v1/branches", json!({"name": branch, "from": "main"})).await;
        }
        let answer = server.post("/v1/query", json!({"sql": sql, "ref": branch})).await;
        assert!(answer.is_array(), "{answer}");
    }
    run_project(&server).await;
    let address = format!("http://{}", server.running.http_addr().expect("an address"));
    let token = bearer(&server.running);
    let token = token.to_str().expect("text").trim_start_matches("Bearer ").to_owned();
    let work = move || {
        let folder = tools();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/console.mjs");
        let mut command = Command::new("node");
        command.arg(script).arg(&folder).arg("/usr/bin/chromium").args([&address, &token]);
        run(command.arg(&folder));
    };
    tokio::task::spawn_blocking(work).await.expect("the script");
}

async fn provider_login() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = support::config(folder.path());
    let (_provider, oidc) = clients::provider().await;
    config.service.oidc = Some(oidc);
    let server = TestServer { running: support::start(config).await, folder };
    let address = format!("http://{}", server.running.http_addr().expect("an address"));
    let work = move || {
        let folder = tools();
        let script = clients::client("console_login.mjs");
        let mut command = Command::new("node");
        run(command.arg(script).arg(&folder).arg("/usr/bin/chromium").arg(&address));
    };
    tokio::task::spawn_blocking(work).await.expect("the script");
    let audit = server.post("/v1/query", json!({"sql": LOGINS, "ref": "main"})).await;
    assert_eq!(audit[0]["object"], "user:ana@example.com", "{audit}");
}

const LOGINS: &str = "SELECT object FROM system.audit WHERE action = 'external_login'";

/// Runs a project with two models, one of which reads the other.
async fn run_project(server: &TestServer) {
    let model = |sql: &str| format!("-- headwater: materialization = replace\n{sql}\n");
    let files = json!({
        "headwater.toml": "[project]\nname = \"shop\"\n",
        "models/doubled.sql": model("SELECT id, amount * 2 AS amount FROM orders"),
        "models/total.sql": model("SELECT sum(amount) AS total FROM doubled"),
    });
    let job = server.post("/v1/runs", json!({ "files": files })).await;
    let path = format!("/v1/jobs/{}", job["id"].as_str().expect("an id"));
    server.until(&path, |job| job["status"] == "succeeded").await;
}

/// Installs the browser and its client on first use. Returns the client's folder.
fn tools() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(PLAYWRIGHT);
    std::fs::create_dir_all(&folder).expect("a folder");
    let lock = File::create(folder.with_extension("lock")).expect("a lock file");
    lock.lock().expect("a lock");
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let needed: Vec<_> = [("/usr/bin/chromium", "chromium"), ("node", "nodejs"), ("npm", "npm")]
        .into_iter()
        .filter(|(program, _)| !has(program))
        .map(|(_, package)| package)
        .collect();
    if !needed.is_empty() {
        run(Command::new("apt-get").args(["update", "-qq"]));
        let install = ["install", "-qq", "--no-install-recommends"];
        run(Command::new("apt-get").args(install).args(needed).arg("fonts-dejavu-core"));
    }
    if !folder.join("node_modules/playwright-core/package.json").exists() {
        std::fs::write(folder.join("package.json"), "{\"private\": true}").expect("a file");
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", PLAYWRIGHT]);
        run(npm.env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1").current_dir(&folder));
    }
    folder
}

fn run(command: &mut Command) {
    let output = command.output().expect("a process");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{text}\n{errors}");
}
