//! Attacks with credentials.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use headwater_model::{CredentialSettings, Principal};
use headwater_server::{Access, NewUser};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderValue, SET_COOKIE};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{anonymous, raw};
use crate::access::Users;
use crate::support::{self, PATIENCE, config, request, start};

/// A token with a valid format and checksum that no lake has issued.
const FORGED: &str = "hwp_0123456789abcdef0123456789abcdef0123456789abcdefb73ba778";

const PASSWORD: &str = "correct horse battery";

async fn admin() -> (Users, String) {
    let users = Users::start().await;
    let token = users.user("ana", &["administer on lake"]).await;
    (users, token)
}

pub async fn forged() {
    let (users, _) = admin().await;
    assert_eq!(users.get(FORGED, "/v1/branches").await.0, 401);
}

pub async fn changed() {
    let (users, token) = admin().await;
    for at in (4..token.len()).step_by(13) {
        let other = if &token[at..=at] == "0" { "1" } else { "0" };
        let changed = format!("{}{other}{}", &token[..at], &token[at + 1..]);
        assert_eq!(users.get(&changed, "/v1/branches").await.0, 401, "{at}");
    }
    assert_eq!(users.get(&token, "/v1/branches").await.0, 200);
}

pub async fn expired() {
    let (users, _) = admin().await;
    let expires = Some(chrono::Utc::now() + chrono::TimeDelta::milliseconds(300));
    let token =
        users.token("ana", CredentialSettings { expires, ..CredentialSettings::default() }).await;
    let deadline = Instant::now() + PATIENCE;
    while users.get(&token, "/v1/branches").await.0 != 401 {
        assert!(Instant::now() < deadline, "the token does not expire");
    }
}

pub async fn revoked() {
    let (users, _) = admin().await;
    let owner = Principal::owner();
    let created = users.access.create_token(&owner, "ana", CredentialSettings::default()).await;
    let created = created.expect("a token");
    let address = users.server.running.http_addr().expect("an address");
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    let mut status = async || {
        let mut sent = request(Method::GET, "/v1/branches", None);
        sent.headers_mut().insert(AUTHORIZATION, bearer(&created.secret));
        let response = sender.send_request(sent).await.expect("an answer");
        let status = response.status();
        support::body(response).await.expect("a whole body");
        status
    };
    assert_eq!(status().await, 200);
    users.access.revoke_token(&owner, &created.token.id, None).await.expect("revoked");
    assert_eq!(status().await, 401);
}

pub async fn unsigned() {
    let (users, _) = admin().await;
    // The headers `{"alg":"none"}`, `{"alg":"nOnE"}` and `{"alg":"HS256"}`, with the subject `ana`.
    for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJuT25FIn0", "eyJhbGciOiJIUzI1NiJ9"] {
        for signature in ["", "AAAA"] {
            let token = format!("{header}.eyJzdWIiOiJhbmEifQ.{signature}");
            assert_eq!(users.get(&token, "/v1/branches").await.0, 401, "{token}");
        }
    }
}

pub async fn in_url() {
    let (users, token) = admin().await;
    for path in [
        format!("/v1/branches?access_token={token}"),
        format!("/v1/branches?token={token}"),
        format!("/v1/branches?authorization=Bearer%20{token}"),
        format!("/iceberg/v1/main/namespaces?token={token}"),
        format!("/v1/session?token={token}"),
    ] {
        assert_eq!(anonymous(&users.server, &path, &[]).await.0, 401, "{path}");
    }
    let host = format!("{token}@localhost");
    let answer = raw(
        &users.server,
        format!("GET /v1/branches HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
            .as_bytes(),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

pub async fn timing() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(config(folder.path())).await;
    let access = server.access().expect("the owner's");
    let new = NewUser {
        name: "ana".to_owned(),
        password: Some(PASSWORD.to_owned()),
        ..NewUser::default()
    };
    access.create_user(&Principal::owner(), new).await.expect("a user");
    let wrong = fastest(&access, "ana").await;
    let unknown = fastest(&access, "eva").await;
    assert!(unknown * 2 > wrong && wrong * 2 > unknown, "{unknown:?} and {wrong:?}");
}

/// Returns the shortest time of several failed logins.
async fn fastest(access: &Access, user: &str) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let credential = headwater_server::Credential::Password { user, password: "a wrong one" };
        let begun = Instant::now();
        access.authenticate(credential, None).await.expect_err("wrong");
        best = best.min(begun.elapsed());
    }
    best
}

pub async fn same_answer() {
    let (users, token) = admin().await;
    let (_, expected) = users.get(FORGED, "/v1/branches").await;
    users.access.disable_user(&Principal::owner(), "ana", true).await.expect("disabled");
    for wrong in [&token, "hwp_", "x", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbmEifQ."] {
        let (status, answer) = users.get(wrong, "/v1/branches").await;
        assert_eq!((status.as_u16(), &answer), (401, &expected), "{wrong}");
    }
}

/// Logs in with a token, and sends the cookie that the browser has. Returns the new cookie and its
/// key.
async fn log_in(users: &Users, token: &str, cookie: Option<&str>) -> (String, String) {
    let body = json!({ "token": token });
    let mut sent = request(Method::POST, "/v1/session", Some(&body));
    sent.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static("none"));
    if let Some(cookie) = cookie {
        sent.headers_mut().insert(COOKIE, cookie.parse().expect("a value"));
    }
    let response = users.server.send(sent).await;
    assert_eq!(response.status(), 201);
    let cookie = response.headers()[SET_COOKIE].to_str().expect("text").to_owned();
    let pair = cookie.split(';').next().expect("a pair").to_owned();
    let key = support::json(response).await["key"].as_str().expect("a key").to_owned();
    (pair, key)
}

pub async fn fixation() {
    let (users, token) = admin().await;
    let name = log_in(&users, &token, None).await.0.split('=').next().expect("a name").to_owned();
    let chosen = format!("{name}={}", "0".repeat(64));
    let (cookie, key) = log_in(&users, &token, Some(&chosen)).await;
    assert_ne!(cookie, chosen, "the login replaces the cookie of the attacker");
    let session =
        |cookie: &str| [("cookie", cookie.to_owned()), ("x-headwater-session", key.clone())];
    let status = async |cookie: &str| {
        let headers = session(cookie);
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        anonymous(&users.server, "/v1/branches", &headers).await.0
    };
    assert_eq!(status(&cookie).await, 200);
    assert_eq!(status(&chosen).await, 401);
}

pub async fn replayed_code() {
    let (users, token) = admin().await;
    let (_, code) = users.post(&token, "/v1/session/codes", Value::Null).await;
    let body = json!({ "code": code["code"] });
    assert_eq!(users.post("none", "/v1/session", body.clone()).await.0, 201);
    assert_eq!(users.post("none", "/v1/session", body).await.0, 401);
}

pub async fn old_session() {
    let (users, token) = admin().await;
    let (cookie, key) = log_in(&users, &token, None).await;
    let headers = [("cookie", cookie.as_str()), ("x-headwater-session", key.as_str())];
    assert_eq!(anonymous(&users.server, "/v1/whoami", &headers).await.0, 200);
    users.access.disable_user(&Principal::owner(), "ana", true).await.expect("disabled");
    for path in ["/v1/whoami", "/v1/branches", "/v1/users", "/v1/jobs", "/v1/tokens"] {
        assert_eq!(anonymous(&users.server, path, &headers).await.0, 401, "{path}");
    }
    // An access key would outlive the session.
    for (method, path) in
        [(Method::POST, "/v1/access-keys"), (Method::DELETE, "/v1/access-keys/none")]
    {
        let mut sent = request(method, path, Some(&json!({})));
        for (name, value) in headers.iter().chain(&[("authorization", "none")]) {
            sent.headers_mut().insert(*name, value.parse().expect("a value"));
        }
        assert_eq!(users.server.send(sent).await.status(), 401, "{path}");
    }
    for path in ["/v1/grants?grantee=ana", EXPLAIN] {
        assert_eq!(anonymous(&users.server, path, &headers).await.0, 401, "{path}");
    }
}

const EXPLAIN: &str = "/v1/access/explain?user=ana&action=select&object=table:a.b";

pub async fn guesses() {
    let (users, token) = admin().await;
    let mut answers = Vec::new();
    for _ in 0..12 {
        answers.push(users.get(FORGED, "/v1/branches").await.0.as_u16());
    }
    assert_eq!(answers.last(), Some(&429), "{answers:?}");
    assert_eq!(users.get(&token, "/v1/branches").await.0, 200, "a valid token is not locked out");
}

/// Logs in with the password of `ana` over Flight SQL. Returns the gRPC status.
async fn handshake(users: &Users, password: &str) -> String {
    let path = "/arrow.flight.protocol.FlightService/Handshake";
    let mut sent = request(Method::POST, path, None);
    let basic = format!("Basic {}", STANDARD.encode(format!("ana:{password}")));
    sent.headers_mut().insert(AUTHORIZATION, basic.parse().expect("a header"));
    let response = users.server.send(sent).await;
    let status = response.headers().get("grpc-status");
    status.map(|status| status.to_str().expect("text").to_owned()).unwrap_or_default()
}

pub async fn concurrent_guesses() {
    let (unauthenticated, exhausted) = ("16", "8");
    let users = Users::start().await;
    let password = Some(PASSWORD.to_owned());
    let new = NewUser { name: "ana".to_owned(), password, ..NewUser::default() };
    users.access.create_user(&Principal::owner(), new).await.expect("a user");
    let guesses: Vec<String> = (0..40).map(|number| format!("wrong guess {number}")).collect();
    let mut wrong: FuturesUnordered<_> =
        guesses.iter().map(|guess| handshake(&users, guess)).collect();
    // The server checks passwords in the order of their arrival, so it checks the right password
    // after the failed guesses that lock out the user.
    let first = wrong.next().await;
    assert_eq!(first.as_deref(), Some(unauthenticated));
    let right = handshake(&users, PASSWORD);
    let (others, right) = futures::future::join(wrong.collect::<Vec<_>>(), right).await;
    assert!(others.iter().all(|one| one == unauthenticated || one == exhausted), "{others:?}");
    assert_eq!(right, exhausted, "the right password is not recognized while guesses are made");
}

/// Requests an Iceberg token with a secret in the form of a JSON Web Token. Returns the response.
async fn exchange(users: &Users) -> String {
    let mut sent = request(Method::POST, "/iceberg/v1/oauth/tokens", None);
    let body = "grant_type=client_credentials&client_id=ana&client_secret=eyJa.b.c";
    *sent.body_mut() = Full::new(body.into());
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    sent.headers_mut().insert(CONTENT_TYPE, form);
    sent.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static("none"));
    let response = users.server.send(sent).await;
    let bytes = support::body(response).await.expect("a whole body");
    String::from_utf8_lossy(&bytes).into_owned()
}

pub async fn hashed_tokens() {
    let (users, _) = admin().await;
    for answer in futures::future::join_all((0..100).map(|_| exchange(&users))).await {
        assert!(!answer.contains("password checks"), "{answer}");
        assert!(answer.contains("invalid_client") || answer.contains("failed logins"), "{answer}");
    }
}

pub async fn address() {
    let (users, _) = admin().await;
    let mut last = 0;
    for client in 0..12 {
        let (forged, shown) = (format!("192.0.2.{client}"), format!("Bearer {FORGED}"));
        let headers = [
            ("x-forwarded-for", forged.as_str()),
            ("forwarded", "for=192.0.2.1"),
            ("x-real-ip", forged.as_str()),
            ("authorization", shown.as_str()),
        ];
        last = anonymous(&users.server, "/v1/branches", &headers).await.0.as_u16();
    }
    assert_eq!(last, 429);
}

pub async fn proxy_headers() {
    let (users, _) = admin().await;
    for name in [
        "x-forwarded-user",
        "x-remote-user",
        "remote-user",
        "x-auth-request-user",
        "x-headwater-author",
        "x-headwater-user",
    ] {
        let (status, _) = anonymous(&users.server, "/v1/branches", &[(name, "ana")]).await;
        assert_eq!(status, 401, "{name}");
    }
}

pub async fn two() {
    let (users, token) = admin().await;
    for pair in [[FORGED, &token], [&token, FORGED]] {
        let mut sent: Request<_> = request(Method::GET, "/v1/branches", None);
        for one in pair {
            sent.headers_mut().append(AUTHORIZATION, bearer(one));
        }
        assert_eq!(users.server.send(sent).await.status(), 401);
    }
}

fn bearer(token: &str) -> HeaderValue {
    format!("Bearer {token}").parse().expect("a header")
}
