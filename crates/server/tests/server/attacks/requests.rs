//! Attacks by malicious pages and by malformed requests.

use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};

use super::{anonymous, raw};
use crate::access::Users;
use crate::access_matrix::OPERATIONS;
use crate::support::{self, TestServer, bearer, request};

async fn session(server: &TestServer) -> (String, String) {
    let token = bearer(&server.running);
    let token = token.to_str().expect("text").trim_start_matches("Bearer ");
    let sent = request(Method::POST, "/v1/session", Some(&json!({ "token": token })));
    let response = server.send(sent).await;
    let cookie = response.headers()["set-cookie"].to_str().expect("text").to_owned();
    let key = support::json(response).await["key"].as_str().expect("a key").to_owned();
    (cookie.split(';').next().expect("a pair").to_owned(), key)
}

pub async fn forgery() {
    let server = TestServer::start().await;
    let (cookie, key) = session(&server).await;
    // A browser sends only the cookie with a request of another page.
    let by_page = [("cookie", cookie.as_str())];
    assert_eq!(anonymous(&server, "/v1/branches", &by_page).await.0, 401);
    let stolen = [
        ("cookie", cookie.as_str()),
        ("x-headwater-session", key.as_str()),
        ("origin", "https://evil.example"),
    ];
    assert_eq!(anonymous(&server, "/v1/branches", &stolen).await.0, 403);
    assert_eq!(anonymous(&server, "/v1/branches", &stolen[..2]).await.0, 200);
}

pub async fn forms() {
    let server = TestServer::start().await;
    for kind in ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data", ""] {
        let mut sent = request(Method::POST, "/v1/query", Some(&json!({"sql": "SELECT 1"})));
        sent.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_str(kind).expect("a value"));
        assert_eq!(server.send(sent).await.status(), 400, "{kind}");
    }
}

pub async fn rebinding() {
    let server = TestServer::start().await;
    let shown = bearer(&server.running);
    let shown = shown.to_str().expect("text");
    for host in
        ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "user@localhost"]
    {
        for path in ["/v1/branches", "/health", "/", "/iceberg/v1/config"] {
            let headers = [("host", host), ("authorization", shown)];
            assert_eq!(anonymous(&server, path, &headers).await.0, 403, "{host} {path}");
        }
    }
    let absolute = format!(
        "GET http://evil.example/v1/branches HTTP/1.1\r\nhost: localhost\r\n\
         authorization: {shown}\r\nconnection: close\r\n\r\n"
    );
    let answer = raw(&server, absolute.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

pub async fn origins() {
    let server = TestServer::start().await;
    let shown = bearer(&server.running);
    let shown = shown.to_str().expect("text");
    for origin in
        ["https://evil.example", "null", "http://localhost:1", "file://", "http://localhost.evil"]
    {
        let headers = [("origin", origin), ("authorization", shown)];
        assert_eq!(anonymous(&server, "/v1/branches", &headers).await.0, 403, "{origin}");
    }
}

pub async fn smuggled() {
    let server = TestServer::start().await;
    let shown = bearer(&server.running);
    let shown = shown.to_str().expect("text");
    let inner = "GET /v1/branches HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let outer = format!(
        "POST /v1/query HTTP/1.1\r\nhost: localhost\r\nauthorization: {shown}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\
         transfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
        inner.len() + 5
    );
    let answer = raw(&server, outer.as_bytes()).await;
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
    assert!(!answer.contains("\"main\""), "{answer}");
}

pub async fn ambiguous() {
    let server = TestServer::start().await;
    let shown = bearer(&server.running);
    let shown = shown.to_str().expect("text");
    for (headers, statuses) in [
        ("content-length: 1\r\ncontent-length: 2\r\n", ["400", "400"]),
        ("content-length: +1\r\n", ["400", "400"]),
        ("transfer-encoding : chunked\r\n", ["400", "400"]),
        ("transfer-encoding: chunked, identity\r\n", ["400", "400"]),
        ("x-a: b\r\n c: d\r\n", ["400", "400"]),
        ("host: evil.example\r\n", ["403", "400"]),
        ("origin: http://localhost\r\norigin: https://evil.example\r\n", ["403", "400"]),
    ] {
        let text = format!(
            "POST /v1/query HTTP/1.1\r\nhost: localhost\r\nauthorization: {shown}\r\n\
             connection: close\r\n{headers}\r\n{{}}"
        );
        let answer = raw(&server, text.as_bytes()).await;
        let status = answer.get(9..12).unwrap_or_default();
        assert!(statuses.contains(&status), "{headers}: {answer}");
    }
}

pub async fn long_headers() {
    let server = TestServer::start().await;
    let long = "x".repeat(1 << 20);
    let many: Vec<String> = (0..1_000).map(|number| format!("x-{number}: 1\r\n")).collect();
    let many = many.concat();
    for head in [
        format!("GET /health HTTP/1.1\r\nhost: localhost\r\nx-long: {long}\r\n\r\n"),
        format!("GET /{long} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"),
    ] {
        let answer = raw(&server, head.as_bytes()).await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    assert_eq!(server.get("/health").await["status"], "ok");
}

pub async fn long_bodies() {
    let server = TestServer::start().await;
    let long = json!({"sql": format!("SELECT '{}'", "x".repeat(2 << 20))});
    let response = server.send(request(Method::POST, "/v1/query", Some(&long))).await;
    assert_eq!(response.status(), 400);
    for deep in ["[".repeat(100_000), r#"{"sql":"#.repeat(50_000)] {
        let mut sent = request(Method::POST, "/v1/query", None);
        *sent.body_mut() = deep.into();
        assert_eq!(server.send(sent).await.status(), 400);
    }
    let sql = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    let answer = server.rows(&sql).await;
    assert!(answer["code"].is_string(), "{answer}");
    assert_eq!(server.rows("SELECT 1 AS n").await, json!([{"n": 1}]));
}

/// Values of path parameters that leave a folder, terminate a text, or terminate a header.
const EVIL: [&str; 7] = [
    "..%2F..%2F..%2F..%2Fetc%2Fpasswd",
    "%2e%2e",
    "..%2F..%2F..%2F..%2Ftmp%2Fheadwater-attack",
    "%00",
    "a%0d%0aset-cookie:%20x=y",
    "%ff",
    "..%5C..%5Cx",
];

pub async fn traversal() {
    let users = Users::start().await;
    let owner = bearer(&users.server.running);
    let description = serde_json::to_value(headwater_server::openapi()).expect("JSON");
    let mut tried = 0;
    for (path, methods) in description["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            if !path.contains('{') {
                continue;
            }
            let id = operation["operationId"].as_str().expect("an id");
            let row = OPERATIONS.iter().find(|row| row.0 == id).expect("a row");
            let body: Value = serde_json::from_str(row.3).unwrap_or(Value::Null);
            for evil in EVIL {
                let method: Method = method.to_uppercase().parse().expect("a method");
                let mut sent = request(method, &filled(path, evil), Some(&body));
                sent.headers_mut().insert(AUTHORIZATION, owner.clone());
                let response = users.server.send(sent).await;
                let status = response.status().as_u16();
                assert!(!response.headers().contains_key("set-cookie"), "{id} {evil}");
                let text = support::body(response).await.expect("a whole body");
                let text = String::from_utf8_lossy(&text);
                let is_nothing = matches!((status, &*text), (200, "[]"));
                assert!((400..500).contains(&status) || is_nothing, "{id} {evil}: {status} {text}");
                assert!(!text.contains("root:"), "{id} {evil}: {text}");
                tried += 1;
            }
        }
    }
    assert!(tried > 200, "{tried}");
    assert!(!std::path::Path::new("/tmp/headwater-attack").exists());
}

/// Returns a path with its parameters replaced by a value.
fn filled(path: &str, value: &str) -> String {
    let mut parts = path.split('/').map(|part| if part.starts_with('{') { value } else { part });
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |path, part| format!("{path}/{part}"))
}
