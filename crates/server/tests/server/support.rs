//! Starts a server on a temporary lake, and sends requests over a network connection.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_server::{Server, ServerConfig, ServerHandle, SpawnerCommand};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// Time limit for any wait in a test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a temporary lake with a project.
pub struct TestServer {
    /// The server.
    pub running: ServerHandle,
    /// Project folder, which contains the lake.
    pub folder: TempDir,
}

impl TestServer {
    /// Starts a server on an empty lake, with a free port and a Unix socket.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let running = start(config(folder.path())).await;
        TestServer { running, folder }
    }

    /// Sends a request over TCP with HTTP/1.1.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        send(&self.running, request).await
    }

    /// Sends a request. Returns the status and the body; null if the body is not JSON.
    pub async fn ask(&self, method: Method, path: &str, sent: Option<&Value>) -> (u16, Value) {
        let response = self.send(request(method, path, sent)).await;
        let status = response.status().as_u16();
        let bytes = body(response).await.expect("a whole body");
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Sends `GET` and returns the JSON response.
    pub async fn get(&self, path: &str) -> Value {
        json(self.send(request(Method::GET, path, None)).await).await
    }

    /// Sends `GET` and returns the text response.
    pub async fn text(&self, path: &str) -> String {
        let response = self.send(request(Method::GET, path, None)).await;
        let bytes = body(response).await.expect("a whole body");
        String::from_utf8(bytes.to_vec()).expect("text")
    }

    /// Sends `POST` and returns the JSON response.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        json(self.send(request(Method::POST, path, Some(&body))).await).await
    }

    /// Deploys the current files of the project folder.
    pub async fn deploy(&self) -> Value {
        self.post("/v1/deployments", deployment(self.folder.path())).await
    }

    /// Returns the rows of a query.
    pub async fn rows(&self, sql: &str) -> Value {
        self.post("/v1/query", serde_json::json!({ "sql": sql })).await
    }

    /// Polls a JSON resource until it satisfies the condition.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.get(path).await;
            if wanted(&found) {
                return found;
            }
            assert!(Instant::now() < deadline, "`{path}` still answers {found}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Creates the request body that deploys the project in a folder.
pub fn deployment(folder: &Path) -> Value {
    let files = headwater_server::read_project(folder).expect("a project");
    serde_json::json!({ "files": files })
}

/// Returns a configuration for the lake in a project folder.
pub fn config(project: &Path) -> ServerConfig {
    let lake = project.join(".headwater");
    let program = std::env::current_exe().expect("this program");
    let spawner = SpawnerCommand { program, arguments: vec![crate::SPAWNER.to_owned()] };
    let mut config = ServerConfig::new(&lake, spawner);
    config.service.project_dir = Some(project.to_owned());
    config.http = Some("127.0.0.1:0".parse().expect("an address"));
    config.socket = Some(lake.join("server.sock"));
    config.service.memory_bytes = 1 << 30;
    // All tests on a machine share the package cache.
    config.service.cache_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let path = std::env::var_os("PATH").unwrap_or_default();
    config.service.python_search = std::env::split_paths(&path).collect();
    config
}

/// Starts a server.
pub async fn start(config: ServerConfig) -> ServerHandle {
    Server::start(config).await.expect("a server")
}

/// Creates a request with an optional JSON body.
pub fn request(method: Method, path: &str, body: Option<&Value>) -> Request<Full<Bytes>> {
    let text = body.map(Value::to_string).unwrap_or_default();
    let builder = Request::builder().method(method).uri(path).header("host", "localhost");
    let builder = builder.header("content-type", "application/json");
    builder.body(Full::new(text.into())).expect("a request")
}

/// Returns the `Authorization` header with the server's token.
pub fn bearer(server: &ServerHandle) -> HeaderValue {
    let file = server.token_file().expect("a token");
    let token = std::fs::read_to_string(file).expect("a token");
    format!("Bearer {}", token.trim()).parse().expect("a header")
}

/// Sends a request over TCP with HTTP/1.1. Adds the server's token if the request has no token.
pub async fn send(server: &ServerHandle, mut request: Request<Full<Bytes>>) -> Response<Incoming> {
    if !request.headers().contains_key(AUTHORIZATION) {
        request.headers_mut().insert(AUTHORIZATION, bearer(server));
    }
    let address = server.http_addr().expect("an address");
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    sender.send_request(request).await.expect("an answer")
}

/// Sends a request over HTTP/2 with prior knowledge.
pub async fn send_http2<Io>(stream: Io, request: Request<Full<Bytes>>) -> Response<Incoming>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    sender.send_request(request).await.expect("an answer")
}

/// Reads the whole body. Fails if the body is truncated.
pub async fn body(response: Response<Incoming>) -> Result<Bytes, hyper::Error> {
    Ok(response.into_body().collect().await?.to_bytes())
}

/// Reads the whole body as JSON.
pub async fn json(response: Response<Incoming>) -> Value {
    let bytes = body(response).await.expect("a whole body");
    serde_json::from_slice(&bytes)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&bytes)))
}

/// Returns the ids of processes whose command line contains a string.
pub fn processes(text: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("processes").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command).contains(text) {
            found.push(pid);
        }
    }
    found
}
