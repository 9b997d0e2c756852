//! Tests of access by other machines and web pages: addresses, hosts, origins, failed logins.

use std::net::SocketAddr;

use headwater_model::{ErrorCode, Principal, ToProblem};
use headwater_server::{
    CertificateSource, NewUser, Server, ServerConfig, ServerHandle, connect_socket,
};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Response};
use libtest_mimic::Trial;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{self, config, json, request, send_http2, start};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("network::a_public_address_needs_tls_and_authentication", public_addresses),
        trial("network::a_public_address_needs_a_user", public_address_without_users),
        trial("network::a_proxy_may_terminate_tls", behind_proxy),
        trial("network::only_configured_hosts_are_accepted", hosts),
        trial("network::pages_of_configured_origins_may_read_responses", origins),
        trial("network::failed_logins_are_limited", failed_logins),
        trial("network::behind_a_proxy_the_clients_address_is_limited", proxied_logins),
    ]
}

/// Number of invalid tokens before the first lock-out of an address.
const FREE: usize = 10;

async fn serve(change: impl FnOnce(&mut ServerConfig)) -> (ServerHandle, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = config(folder.path());
    change(&mut config);
    (start(config).await, folder)
}

/// Serves a lake with a user.
async fn serve_with_user(change: impl FnOnce(&mut ServerConfig)) -> (ServerHandle, TempDir) {
    let (first, folder) = serve(|_| {}).await;
    let access = first.access().expect("the owner's");
    let new = NewUser { name: "ana".to_owned(), ..NewUser::default() };
    access.create_user(&Principal::owner(), new).await.expect("a user");
    first.shutdown().await;
    let mut config = config(folder.path());
    change(&mut config);
    (start(config).await, folder)
}

async fn get(
    server: &ServerHandle,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Response<Incoming> {
    let mut request = request(Method::GET, path, None);
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a value"));
    }
    support::send(server, request).await
}

async fn public_addresses() {
    let public: SocketAddr = "0.0.0.0:0".parse().expect("an address");
    let refused = async |change: fn(&mut ServerConfig)| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = config(folder.path());
        config.http = Some(public);
        change(&mut config);
        let error = Server::start(config).await.expect_err("an error");
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert!(error.to_string().contains("`0.0.0.0:0`"), "{error}");
        error.hint().expect("a hint")
    };
    let hint = refused(|_| {}).await;
    for option in ["--tls-certificate", "--tls-self-signed", "--behind-proxy", "127.0.0.1"] {
        assert!(hint.contains(option), "{hint}");
    }
    let hint = refused(|config| {
        config.network.behind_proxy = true;
        config.postgres = config.http;
    })
    .await;
    assert!(hint.contains("`--behind-proxy` is for HTTP only"), "{hint}");
    let hint = refused(|config| {
        config.network.tls = Some(CertificateSource::SelfSigned);
        config.auth = false;
    })
    .await;
    assert!(hint.contains("--no-auth"), "{hint}");
    let (server, _folder) = serve_with_user(|config| {
        config.network.tls = Some(CertificateSource::SelfSigned);
        config.http = Some(public);
    })
    .await;
    assert!(server.http_addr().is_some_and(|address| address.ip().is_unspecified()));
    server.shutdown().await;
}

async fn public_address_without_users() {
    let public: SocketAddr = "0.0.0.0:0".parse().expect("an address");
    let changes: [fn(&mut ServerConfig, SocketAddr); 3] = [
        |config, public| config.http = Some(public),
        |config, public| config.postgres = Some(public),
        |config, public| config.s3 = Some(public),
    ];
    for change in changes {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = config(folder.path());
        config.network.tls = Some(CertificateSource::SelfSigned);
        change(&mut config, public);
        let error = Server::start(config).await.expect_err("an error");
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert!(error.to_string().contains("the lake must have a user"), "{error}");
        let hint = error.hint().expect("a hint");
        assert!(hint.contains("`headwater user create NAME`"), "{hint}");
    }
}

async fn behind_proxy() {
    let (server, _folder) = serve_with_user(|config| {
        config.network.behind_proxy = true;
        config.network.hosts = vec!["lake.example".to_owned()];
        config.http = Some("0.0.0.0:0".parse().expect("an address"));
    })
    .await;
    let own = [("host", "lake.example"), ("origin", "https://lake.example")];
    assert_eq!(get(&server, "/v1/branches", &own).await.status(), 200);
    let plain = [("host", "lake.example"), ("origin", "http://lake.example")];
    assert_eq!(get(&server, "/v1/branches", &plain).await.status(), 403);
}

async fn hosts() {
    let (server, _folder) =
        serve(|config| config.network.hosts = vec!["lake.example".to_owned()]).await;
    for (host, status) in [
        ("lake.example:4280", 200),
        ("LAKE.example", 200),
        ("localhost", 200),
        ("evil.example", 403),
        ("lake.example.evil.example", 403),
    ] {
        let response = get(&server, "/v1/branches", &[("host", host)]).await;
        assert_eq!(response.status(), status, "{host}");
    }
    // An unknown host is rejected before the check of the token, also on public paths.
    let response = get(&server, "/health", &[("host", "evil.example")]).await;
    let problem = json(response).await;
    assert_eq!(problem["code"], "forbidden");
    assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("--host")));
}

async fn origins() {
    let app = "https://app.example";
    let (server, _folder) =
        serve(|config| config.network.origins = vec![app.parse().expect("an origin")]).await;
    let response = get(&server, "/v1/branches", &[("origin", app)]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["access-control-allow-origin"], app);
    // A page needs the offset to read the next rows of an asynchronous query.
    let exposed = response.headers()["access-control-expose-headers"].to_str().expect("text");
    assert!(exposed.contains("x-headwater-next-offset"), "{exposed}");
    let response = get(&server, "/v1/branches", &[("origin", "https://evil.example")]).await;
    assert_eq!(response.status(), 403);
    assert!(!response.headers().contains_key("access-control-allow-origin"));
    // A browser first sends a preflight request without a token.
    let preflight = async |origin: &str| {
        let mut request = request(Method::OPTIONS, "/v1/query", None);
        let headers = request.headers_mut();
        headers.insert("origin", origin.parse().expect("a value"));
        headers.insert("access-control-request-method", "POST".parse().expect("a value"));
        headers.insert(AUTHORIZATION, "none".parse().expect("a value"));
        support::send(&server, request).await
    };
    let response = preflight(app).await;
    assert_eq!(response.status(), 204);
    let headers = response.headers();
    assert_eq!(headers["access-control-allow-origin"], app);
    let allowed = headers["access-control-allow-headers"].to_str().expect("text");
    assert!(allowed.contains("authorization") && !allowed.contains('*'), "{allowed}");
    assert!(!headers.contains_key("access-control-allow-credentials"));
    assert_eq!(preflight("https://evil.example").await.status(), 403);
    // Without configured origins, pages of other origins are rejected.
    let (closed, _folder) = serve(|_| {}).await;
    let response = get(&closed, "/v1/branches", &[("origin", app)]).await;
    assert_eq!(response.status(), 403);
}

async fn failed_logins() {
    let (server, _folder) = serve(|_| {}).await;
    let guess = [("authorization", "Bearer guess")];
    for _ in 0..FREE {
        assert_eq!(get(&server, "/v1/branches", &guess).await.status(), 401);
    }
    let response = get(&server, "/v1/branches", &guess).await;
    assert_eq!(response.status(), 429);
    let seconds = response.headers()["retry-after"].to_str().expect("text").parse::<u64>();
    assert!(seconds.is_ok_and(|seconds| (1..=2).contains(&seconds)));
    assert_eq!(json(response).await["code"], "too_busy");
    // Failed logins over HTTP also count for the other protocols.
    let mut exchange = request(Method::POST, "/iceberg/v1/oauth/tokens", None);
    let form = "grant_type=client_credentials&client_id=x&client_secret=guess";
    *exchange.body_mut() = form.into();
    exchange.headers_mut().insert(AUTHORIZATION, "none".parse().expect("a value"));
    let response = support::send(&server, exchange).await;
    assert_eq!(response.status(), 429);
    assert!(response.headers().contains_key("retry-after"));
    // The token cannot be guessed, so the server accepts it even from a locked-out address.
    assert_eq!(get(&server, "/v1/branches", &[]).await.status(), 200);
    let stream = connect_socket(server.socket().expect("a socket")).await.expect("a connection");
    let health = request(Method::GET, "http://localhost/v1/branches", None);
    assert_eq!(send_http2(stream, health).await.status(), 200);
}

async fn proxied_logins() {
    let (server, _folder) = serve(|config| config.network.behind_proxy = true).await;
    // A client can forge all addresses except the last address, which the proxy adds.
    let guess = async |forged: &str, client: &str| {
        let forwarded = format!("{forged}, {client}");
        let headers = [("authorization", "Bearer guess"), ("x-forwarded-for", &*forwarded)];
        get(&server, "/v1/branches", &headers).await.status().as_u16()
    };
    for index in 0..FREE {
        assert_eq!(guess(&format!("10.0.0.{index}"), "192.0.2.7").await, 401);
    }
    assert_eq!(guess("10.0.1.1", "192.0.2.7").await, 429);
    assert_eq!(guess("192.0.2.7", "192.0.2.8").await, 401);
    // If the server is not behind a proxy, the header is ignored.
    let (direct, _folder) = serve(|_| {}).await;
    for index in 0..=FREE {
        let client = format!("192.0.2.{index}");
        let headers = [("authorization", "Bearer guess"), ("x-forwarded-for", &*client)];
        let expected = if index < FREE { 401 } else { 429 };
        assert_eq!(get(&direct, "/v1/branches", &headers).await.status(), expected);
    }
    let body = json!({"sql": "SELECT 1 AS one"});
    let mut query = request(Method::POST, "/v1/query", Some(&body));
    query.headers_mut().insert(HOST, "127.0.0.1".parse().expect("a value"));
    assert_eq!(support::send(&direct, query).await.status(), 200);
}
