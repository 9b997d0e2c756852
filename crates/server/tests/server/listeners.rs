//! Tests of the listeners: HTTP versions, authentication, limits and timeouts.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use headwater_model::{ErrorCode, ToProblem};
use headwater_server::{Body, Server, connect_socket};
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{self, TestServer, json, request, send_http2};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("listeners::http2_with_prior_knowledge_on_the_port_and_on_the_socket", http2),
        trial("listeners::only_the_owner_can_open_the_socket", socket_mode),
        trial("listeners::a_socket_path_may_be_long", deep_socket),
        trial("listeners::other_origins_are_rejected", web_pages),
        trial("listeners::tcp_needs_the_token", token),
        trial("listeners::authentication_can_be_disabled", no_token),
        trial("listeners::only_loopback_addresses_are_accepted", only_loopback),
        trial("listeners::bodies_have_a_limit", body_limits),
        trial("listeners::a_client_without_a_request_is_disconnected", silent_clients),
        trial("listeners::a_request_needs_no_listener", without_a_listener),
    ]
}

async fn http2() {
    let server = TestServer::start().await;
    let address = server.running.http_addr().expect("an address");
    let stream = TcpStream::connect(address).await.expect("a connection");
    let uri = format!("http://{address}/v1/query");
    let query = json!({"sql": "SELECT 1 AS one"});
    let mut sent = request(Method::POST, &uri, Some(&query));
    sent.headers_mut().insert(AUTHORIZATION, support::bearer(&server.running));
    let response = send_http2(stream, sent).await;
    assert_eq!(response.version(), hyper::Version::HTTP_2);
    assert_eq!(json(response).await, json!([{"one": 1}]));

    let socket = server.running.socket().expect("a socket");
    let stream = connect_socket(socket).await.expect("a connection");
    let response = send_http2(stream, request(Method::GET, "http://localhost/health", None)).await;
    assert_eq!(json(response).await["status"], "ok");
}

async fn socket_mode() {
    let server = TestServer::start().await;
    let metadata = std::fs::metadata(server.running.socket().expect("a socket")).expect("a file");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

async fn deep_socket() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let deep = folder.path().join("a-long-name-".repeat(8)).join("another-".repeat(8));
    std::fs::create_dir_all(&deep).expect("a folder");
    let running = support::start(support::config(&deep)).await;
    let socket = running.socket().expect("a socket");
    assert!(socket.as_os_str().len() > 107);
    let stream = connect_socket(socket).await.expect("a connection");
    let health = request(Method::GET, "http://localhost/health", None);
    assert_eq!(send_http2(stream, health).await.status(), 200);
    running.shutdown().await;
    assert!(!socket.exists());
}

async fn web_pages() {
    let server = TestServer::start().await;
    let check = async |host: &str, origin: Option<&str>, status: u16| {
        let mut request = request(Method::GET, "/v1/branches", None);
        request.headers_mut().insert(HOST, host.parse().expect("a value"));
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().expect("a value"));
        }
        let response = server.send(request).await;
        assert_eq!(response.status(), status, "{host} {origin:?}");
        let answer = json(response).await;
        assert_eq!(answer["code"] == "forbidden", status == 403);
    };
    check("localhost:4280", None, 200).await;
    check("localhost:4280", Some("http://localhost:4280"), 200).await;
    check("rebound.example:4280", None, 403).await;
    check("localhost:4280", Some("https://evil.example"), 403).await;
    check("localhost:4280", Some("null"), 403).await;
}

async fn token() {
    let server = TestServer::start().await;
    let file = server.running.token_file().expect("a token").to_owned();
    let mode = std::fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let bearer = support::bearer(&server.running);
    let own = bearer.to_str().expect("text");
    let check = async |path: &str, shown: &str, status: u16| {
        let mut request = request(Method::GET, path, None);
        request.headers_mut().insert(AUTHORIZATION, shown.parse().expect("a header"));
        let response = server.send(request).await;
        assert_eq!(response.status(), status, "{path} {shown}");
        let asks = response.headers().get("www-authenticate").is_some();
        assert_eq!(asks, status == 401);
        json(response).await
    };
    check("/v1/branches", own, 200).await;
    check("/v1/nothing", own, 404).await;
    let other = format!("Bearer {}", "0".repeat(64));
    let paths = [["/v1/branches", "/v1/nothing"], ["/health/", "//health"]];
    let invalid = ["", "Bearer", other.as_str(), &own[..own.len() - 1], &own[7..]];
    // These failed logins do not exceed the number after which an address is locked out.
    for (index, shown) in invalid.into_iter().enumerate() {
        for path in paths[index % 2] {
            let problem = check(path, shown, 401).await;
            assert_eq!(problem["code"], "unauthenticated");
            assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("server.token")));
        }
        check("/health", shown, 200).await;
        check("/v1/openapi.json", shown, 200).await;
    }
    server.running.shutdown().await;
    assert!(!file.exists());
}

async fn no_token() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = support::config(folder.path());
    config.auth = false;
    let running = support::start(config).await;
    assert_eq!(running.token_file(), None);
    let mut request = request(Method::GET, "/v1/branches", None);
    request.headers_mut().insert(AUTHORIZATION, "none".parse().expect("a header"));
    assert_eq!(support::send(&running, request).await.status(), 200);
    running.shutdown().await;
}

async fn only_loopback() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = support::config(folder.path());
    config.http = Some("0.0.0.0:0".parse().expect("an address"));
    let error = Server::start(config).await.expect_err("an error");
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(error.to_string().contains("`0.0.0.0:0`"), "{error}");
}

async fn body_limits() {
    let server = TestServer::start().await;
    let long = "x".repeat(2 << 20);
    let problem = server.rows(&format!("SELECT '{long}'")).await;
    assert_eq!(problem["code"], "invalid_argument");
    let files = json!({"headwater.toml": format!("# {long}")});
    let plan = server.post("/v1/runs", json!({"files": files, "dry_run": true})).await;
    assert_ne!(plan["message"], problem["message"]);
}

async fn silent_clients() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = support::config(folder.path());
    config.header_timeout = Duration::from_millis(500);
    let running = support::start(config).await;
    let address = running.http_addr().expect("an address");
    let socket = running.socket().expect("a socket").to_owned();
    // The client sends no bytes, bytes that could start HTTP/2, or half of a request head.
    for said in ["", "P", "PRI * HTTP/2.0\r\n", "GET /health HTTP/1.1\r\nHost: loc"] {
        let tcp = TcpStream::connect(address).await.expect("a connection");
        let unix = connect_socket(&socket).await.expect("a connection");
        let said = said.as_bytes();
        let (tcp, unix) = tokio::join!(is_cut(tcp, said), is_cut(unix, said));
        assert!(tcp && unix, "`{}`", said.escape_ascii());
    }
    // A client that sends its request in time gets a response, and may wait before its next
    // request.
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    for _ in 0..2 {
        let asked = stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        asked.expect("a request");
        let mut answer = [0; 1024];
        let length = stream.read(&mut answer).await.expect("an answer");
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
    }
    running.shutdown().await;
}

/// Sends some bytes. Returns true if the server then closes the connection soon.
pub async fn is_cut<Io>(mut stream: Io, said: &[u8]) -> bool
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    stream.write_all(said).await.expect("a connection");
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(10), read).await.is_ok()
}

async fn without_a_listener() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = support::config(folder.path());
    (config.http, config.socket) = (None, None);
    let running = support::start(config).await;
    let request = Request::builder().uri("/v1/branches").body(Body::empty()).expect("a request");
    let response = running.call(request).await;
    let bytes = http_body_util::BodyExt::collect(response.into_body()).await.expect("a body");
    let branches: Value = serde_json::from_slice(&bytes.to_bytes()).expect("JSON");
    assert_eq!(branches[0]["name"], "main");
    running.shutdown().await;
}
