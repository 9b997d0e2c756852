//! Tests of the server's life cycle: lock, shutdown by request and after idle time, and kill.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_model::{ErrorCode, ToProblem};
use headwater_server::{Server, ServerRecord, connect_socket};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::{self, PATIENCE, TestServer, body, json, request, send_http2};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("life_cycle::one_server_per_lake", one_per_lake),
        trial("life_cycle::a_waiting_server_starts_when_the_lock_is_released", follows),
        trial("life_cycle::a_request_shuts_the_server_down", shutdown_by_request),
        trial("life_cycle::running_jobs_may_end_during_the_shutdown", graceful),
        trial("life_cycle::an_idle_server_shuts_down", idle),
        trial("life_cycle::a_kill_leaves_the_lake_unchanged", killed),
        trial("life_cycle::a_dropped_server_leaves_no_files", dropped),
        trial("life_cycle::results_of_asynchronous_queries_survive_a_kill", kept_results),
        trial("life_cycle::a_shutdown_interrupts_asynchronous_queries", interrupted_query),
    ]
}

/// A query that never ends.
pub const ENDLESS: &str = "WITH d(x) AS (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) \
     SELECT sum(a.x + p.x) AS n \
     FROM d a, d b, d c, d e, d f, d g, d h, d i, d j, d k, d l, d m, d o, d p";

fn read_record(project: &Path) -> Option<ServerRecord> {
    let text = std::fs::read(project.join(".headwater/server.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

async fn one_per_lake() {
    let server = TestServer::start().await;
    let info = read_record(server.folder.path()).expect("a note");
    assert_eq!(info.pid, std::process::id());
    assert_eq!(info.http, server.running.http_addr());
    let error = Server::start(support::config(server.folder.path())).await.expect_err("an error");
    assert_eq!(error.code(), ErrorCode::Unavailable);
    let text = error.to_string();
    let socket = info.socket.expect("a socket").display().to_string();
    for part in [&info.pid.to_string(), &info.version, &socket] {
        assert!(text.contains(part), "{text}");
    }
    // The second server, which failed to start, does not affect the first server.
    assert_eq!(server.get("/health").await["status"], "ok");
}

async fn follows() {
    let server = TestServer::start().await;
    let mut config = support::config(server.folder.path());
    config.lock_wait = PATIENCE;
    let next = tokio::spawn(Server::start(config));
    server.running.shutdown().await;
    let next = next.await.expect("no panic").expect("a server");
    assert!(next.http_addr().is_some());
    next.shutdown().await;
}

async fn shutdown_by_request() {
    let server = TestServer::start().await;
    assert_eq!(server.post("/v1/shutdown", json!({})).await["status"], "stopping");
    server.running.wait().await;
    let lake = server.folder.path().join(".headwater");
    assert!(!lake.join("server.json").exists());
    assert!(!lake.join("server.sock").exists());
    let again = support::start(support::config(server.folder.path())).await;
    again.shutdown().await;
}

async fn graceful() {
    let server = TestServer::start().await;
    let query = json!({"sql": ENDLESS});
    let sent = support::send(&server.running, request(Method::POST, "/v1/query", Some(&query)));
    let client = async {
        server.until("/v1/jobs?status=running", |jobs| jobs[0]["status"] == "running").await;
        server.post("/v1/shutdown?drain_ms=60000", json!({})).await;
        // The server still responds, but rejects new jobs.
        assert_eq!(server.get("/health").await["status"], "stopping");
        assert_eq!(server.rows("SELECT 1").await["code"], "unavailable");
        let jobs = server.get("/v1/jobs?status=running").await;
        let stop = format!("/v1/jobs/{}/stop", jobs[0]["id"].as_str().expect("an id"));
        server.post(&stop, json!({})).await;
        server.running.wait().await;
    };
    let (response, ()) = tokio::join!(sent, client);
    let whole = body(response).await;
    let text = whole.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(text.is_err() || text.is_ok_and(|text| text.contains("cancelled")));
}

async fn idle() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = support::config(folder.path());
    config.idle = Some(Duration::from_secs(2));
    let started = Instant::now();
    let running = support::start(config).await;
    let server = TestServer { running, folder };
    assert_eq!(server.rows("SELECT 1 AS one").await, json!([{"one": 1}]));
    let ended = tokio::time::timeout(PATIENCE, server.running.wait()).await;
    assert!(ended.is_ok() && started.elapsed() >= Duration::from_secs(2));
}

/// Runs this process as the server that a test kills.
pub async fn serve_until_killed(project: &Path) {
    let running = support::start(support::config(project)).await;
    running.wait().await;
}

/// A server in a separate process, which can be killed.
pub struct Killable {
    child: Child,
    info: ServerRecord,
}

impl Killable {
    /// Starts the server and waits until it responds.
    pub async fn start(project: &Path) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command.arg(crate::SERVE).arg(project).stdin(Stdio::null());
        let child = command.spawn().expect("a process");
        let info = ready(project).await;
        Killable { child, info }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let socket = self.info.socket.as_ref().expect("a socket");
        send_http2(connect_socket(socket).await.expect("a connection"), request).await
    }

    /// Sends a request and returns the JSON response.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let uri = format!("http://localhost{path}");
        json(self.send(request(method, &uri, body)).await).await
    }

    /// Polls a resource until its text satisfies the condition.
    pub async fn until(&self, path: &str, wanted: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let uri = format!("http://localhost{path}");
        loop {
            let response = self.send(request(Method::GET, &uri, None)).await;
            let bytes = body(response).await.expect("a whole body");
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if wanted(&text) {
                return;
            }
            assert!(Instant::now() < deadline, "`{path}` still answers {text}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends SIGKILL to the server, without waiting for its end.
    pub fn signal(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("a signal");
    }

    /// Kills the server with SIGKILL, so it cannot clean up.
    pub fn kill(&mut self) {
        self.child.kill().expect("a signal");
        self.child.wait().expect("an end");
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        // Kill the server even after a failed test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the server of another process responds.
async fn ready(project: &Path) -> ServerRecord {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(info) = read_record(project) {
            return info;
        }
        assert!(Instant::now() < deadline, "the server does not start");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn killed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut child = Killable::start(folder.path()).await;
    let create = json!({"sql": "CREATE TABLE kept AS SELECT 7 AS n"});
    child.ask(Method::POST, "/v1/query", Some(&create)).await;
    let socket = child.info.socket.clone().expect("a socket");
    let asked = tokio::spawn(async move {
        let stream = connect_socket(&socket).await.expect("a connection");
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
        tokio::spawn(connection);
        let endless = json!({"sql": ENDLESS});
        sender.send_request(request(Method::POST, "/v1/query", Some(&endless))).await.is_err()
    });
    child.until("/v1/jobs?status=running", |jobs| jobs.contains("query")).await;
    child.kill();
    assert!(asked.await.expect("no panic"));

    let mut config = support::config(folder.path());
    config.lock_wait = PATIENCE;
    let running = support::start(config).await;
    let server = TestServer { running, folder };
    assert_eq!(server.rows("SELECT n FROM kept").await, json!([{"n": 7}]));
    let unfinished = server.get("/v1/jobs?status=running,queued").await;
    assert_eq!(unfinished, json!([]));
}

async fn kept_results() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut child = Killable::start(folder.path()).await;
    let short = json!({"sql": "SELECT value AS n FROM range(3) ORDER BY value"});
    let short = child.ask(Method::POST, "/v1/queries", Some(&short)).await;
    let short = id_of(&short);
    child.until(&format!("/v1/queries/{short}"), |state| state.contains("succeeded")).await;
    let endless = json!({"sql": ENDLESS});
    let endless = child.ask(Method::POST, "/v1/queries", Some(&endless)).await;
    let endless = id_of(&endless);
    child.until("/v1/jobs?status=running", |jobs| jobs.contains("query")).await;
    child.kill();

    let mut config = support::config(folder.path());
    config.lock_wait = PATIENCE;
    let server = TestServer { running: support::start(config).await, folder };
    let rows = server.get(&format!("/v1/queries/{short}/rows?offset=1")).await;
    assert_eq!(rows, json!([{"n": 1}, {"n": 2}]));
    let stopped = server.get(&format!("/v1/queries/{endless}")).await;
    assert_eq!(stopped["status"], "interrupted");
    assert_eq!(stopped["error"]["code"], "interrupted");
}

async fn interrupted_query() {
    let server = TestServer::start().await;
    let endless = id_of(&server.post("/v1/queries", json!({"sql": ENDLESS})).await);
    server.until("/v1/jobs?status=running", |jobs| jobs[0]["status"] == "running").await;
    server.post("/v1/shutdown?drain_ms=0", json!({})).await;
    let TestServer { running, folder } = server;
    running.wait().await;
    let running = support::start(support::config(folder.path())).await;
    let server = TestServer { running, folder };
    let stopped = server.get(&format!("/v1/queries/{endless}")).await;
    assert_eq!(stopped["status"], "interrupted");
    assert_eq!(stopped["error"]["code"], "interrupted");
    // Only the shutdown records the end of a query with causes. The next start would record an end
    // without causes.
    assert!(stopped["error"]["causes"].is_array(), "{stopped}");
}

fn id_of(query: &Value) -> String {
    query["id"].as_str().expect("an id").to_owned()
}

async fn dropped() {
    let server = TestServer::start().await;
    server.rows("CREATE TABLE t AS SELECT 1 AS n").await;
    let TestServer { running, folder } = server;
    drop(running);
    let mut config = support::config(folder.path());
    config.lock_wait = PATIENCE;
    let running = support::start(config).await;
    let again = TestServer { running, folder };
    assert_eq!(again.rows("SELECT n FROM t").await, json!([{"n": 1}]));
}
