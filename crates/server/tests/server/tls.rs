//! Tests of TLS with a real client: trust, versions of HTTP, renewal, and clients without TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_model::{ErrorCode, ToProblem};
use headwater_server::{CertificateSource, Server, ServerConfig, ServerHandle};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use libtest_mimic::Trial;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::listeners::is_cut;
use crate::support::{PATIENCE, bearer, body, config, json, request, send_http2, start};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("tls::http1_and_http2_are_served_over_tls", versions),
        trial("tls::a_client_checks_the_name_and_the_certificate", trust),
        trial("tls::a_replaced_certificate_is_served", renewal),
        trial("tls::a_request_without_tls_gets_a_readable_answer", plain_client),
        trial("tls::a_client_without_a_handshake_is_disconnected", silent_client),
        trial("tls::tls_to_a_plain_port_fails_immediately", tls_to_plain),
        trial("tls::a_key_of_another_certificate_is_refused_at_the_start", wrong_key),
    ]
}

/// A server with TLS on a temporary lake.
struct TlsServer {
    running: ServerHandle,
    folder: TempDir,
}

impl TlsServer {
    async fn start(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = config(folder.path());
        config.network.tls = Some(CertificateSource::SelfSigned);
        change(&mut config);
        TlsServer { running: start(config).await, folder }
    }

    async fn connect(&self) -> TcpStream {
        let address = self.running.http_addr().expect("an address");
        TcpStream::connect(address).await.expect("a connection")
    }

    /// Returns the self-signed certificate.
    fn certificate(&self) -> PathBuf {
        self.running.self_signed().expect("a certificate").to_owned()
    }

    fn query(&self) -> Request<Full<Bytes>> {
        let query = json!({"sql": "SELECT 1 AS one"});
        let mut sent = request(Method::POST, "https://localhost/v1/query", Some(&query));
        sent.headers_mut().insert(AUTHORIZATION, bearer(&self.running));
        sent
    }
}

/// Returns a TLS client that trusts one certificate.
fn client(trusted: &Path, alpn: &[u8]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(trusted).expect("a certificate");
    roots.add(certificate).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn handshake(
    client: &TlsConnector,
    name: &'static str,
    stream: TcpStream,
) -> std::io::Result<TlsStream<TcpStream>> {
    client.connect(ServerName::try_from(name).expect("a name"), stream).await
}

async fn versions() {
    let server = TlsServer::start(|_| {}).await;
    let trusted = server.certificate();
    let old = client(&trusted, b"http/1.1");
    let stream = handshake(&old, "localhost", server.connect().await).await.expect("TLS");
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    let response = sender.send_request(server.query()).await.expect("an answer");
    assert_eq!(json(response).await, json!([{"one": 1}]));
    let new = client(&trusted, b"h2");
    let stream = handshake(&new, "127.0.0.1", server.connect().await).await.expect("TLS");
    let response = send_http2(stream, server.query()).await;
    assert_eq!(response.version(), hyper::Version::HTTP_2);
    assert_eq!(json(response).await, json!([{"one": 1}]));
    server.running.shutdown().await;
}

async fn trust() {
    let server = TlsServer::start(|config| {
        config.network.hosts = vec!["lake.example".to_owned()];
    })
    .await;
    let own = client(&server.certificate(), b"http/1.1");
    assert!(handshake(&own, "lake.example", server.connect().await).await.is_ok());
    assert!(handshake(&own, "evil.example", server.connect().await).await.is_err());
    let other = server.folder.path().join("other.crt");
    std::fs::write(&other, generate().0).expect("a file");
    let other = client(&other, b"http/1.1");
    assert!(handshake(&other, "lake.example", server.connect().await).await.is_err());
}

/// Returns a certificate for `localhost` and its key.
fn generate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
    let made = made.expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

async fn renewal() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (certificate, key) = (folder.path().join("a.crt"), folder.path().join("a.key"));
    let write = || {
        let (certificate_text, key_text) = generate();
        std::fs::write(&key, key_text).expect("a file");
        std::fs::write(&certificate, certificate_text).expect("a file");
    };
    write();
    let files = CertificateSource::Files { certificate: certificate.clone(), key: key.clone() };
    let server = TlsServer::start(|config| config.network.tls = Some(files)).await;
    assert_eq!(server.running.self_signed(), None);
    let fingerprint = server.running.fingerprint();
    let first = client(&certificate, b"http/1.1");
    assert!(handshake(&first, "localhost", server.connect().await).await.is_ok());
    write();
    let second = client(&certificate, b"http/1.1");
    let deadline = Instant::now() + PATIENCE;
    while handshake(&second, "localhost", server.connect().await).await.is_err() {
        assert!(Instant::now() < deadline, "the old certificate is still served");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(handshake(&first, "localhost", server.connect().await).await.is_err());
    assert_ne!(server.running.fingerprint(), fingerprint);
}

async fn plain_client() {
    let server = TlsServer::start(|_| {}).await;
    let stream = server.connect().await;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    let response = sender.send_request(request(Method::GET, "/health", None)).await;
    let response = response.expect("an answer");
    assert_eq!(response.status(), 400);
    let problem: Value =
        serde_json::from_slice(&body(response).await.expect("a body")).expect("a problem");
    assert_eq!(problem["message"], "this port accepts only HTTPS");
    assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("`https://`")));
}

async fn silent_client() {
    let server =
        TlsServer::start(|config| config.header_timeout = Duration::from_millis(300)).await;
    // The client sends no bytes, or only the beginning of a handshake.
    for said in [&b""[..], b"\x16\x03\x01"] {
        assert!(is_cut(server.connect().await, said).await, "{said:?}");
    }
    let own = client(&server.certificate(), b"http/1.1");
    let stream = handshake(&own, "localhost", server.connect().await).await.expect("TLS");
    assert!(is_cut(stream, b"GET /hea").await);
}

async fn tls_to_plain() {
    let server = TlsServer::start(|config| config.network.tls = None).await;
    let hello = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03".repeat(20);
    assert!(is_cut(server.connect().await, &hello).await);
}

async fn wrong_key() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (certificate, key) = (folder.path().join("a.crt"), folder.path().join("a.key"));
    std::fs::write(&certificate, generate().0).expect("a file");
    std::fs::write(&key, generate().1).expect("a file");
    let mut config = config(folder.path());
    config.network.tls = Some(CertificateSource::Files { certificate, key: key.clone() });
    let error = Server::start(config).await.expect_err("an error");
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(error.to_string().contains(&*key.to_string_lossy()), "{error}");
}
