//! The listeners of a server. HTTP/1.1, and HTTP/2 with prior knowledge, are served on a TCP port
//! and a Unix socket, the PostgreSQL and S3 protocols on TCP ports.
//!
//! Clients on TCP must authenticate, and TLS is required on an address that other machines can
//! reach. Only the owner of the lake can open the socket.

use std::convert::Infallible;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::middleware::from_fn_with_state;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::auth::TcpPeer;
use crate::host_and_origin::{self, HostAndOriginRules};
use crate::local_tcp_token::{LocalTcpToken, TokenFile};
use crate::network_config::is_public;
use crate::postgres::{self, PostgresListener};
use crate::preface_timeout::PrefaceTimeout;
use crate::s3;
use crate::server_state::App;
use crate::tls::{TlsSettings, first_byte};
use crate::unix_socket::short_path;
use crate::{Error, Result, ServerConfig, write_timeout};

/// Keep-alive interval of HTTP/2 connections.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Maximum time for open connections to finish after the listeners are closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A bound HTTP address with its certificate. The address is bound before the server starts, so
/// that an address that is already in use is reported before anything else happens. Connections
/// wait until the server accepts them.
pub struct HttpListener {
    tcp: TcpListener,
    tls: Option<TlsSettings>,
}

impl HttpListener {
    /// Binds an address; port 0 selects a free port.
    ///
    /// Errors: [`Error::NoTls`] or [`Error::NoAuth`] if the configuration does not protect the
    /// address; [`Error::Listen`] if another program uses the address; [`Error::Certificate`].
    pub async fn bind(address: SocketAddr, config: &ServerConfig) -> Result<Self> {
        config.network.check_address(address, config.auth)?;
        let failed = |source| Error::Listen { address: address.to_string(), source };
        let tls = TlsSettings::load(&config.network, &config.service.lake_dir)?;
        let tcp = TcpListener::bind(address).await.map_err(failed)?;
        Ok(HttpListener { tcp, tls })
    }
}

/// Timeouts of a listener's connections.
#[derive(Debug, Clone, Copy)]
struct Timeouts {
    /// Timeout for receiving the head of a request.
    header: Duration,
    /// Time within which a client must read further bytes of a response.
    write: Option<Duration>,
}

/// Bound listeners. They accept connections only after [`BoundListeners::open`].
pub struct BoundListeners {
    tcp: Option<TcpListener>,
    tls: Option<TlsSettings>,
    rules: Option<Arc<HostAndOriginRules>>,
    token: Option<TokenFile>,
    timeouts: Timeouts,
    socket: Option<(UnixListener, PathBuf)>,
    postgres: Option<PostgresListener>,
    s3: Option<TcpListener>,
}

impl BoundListeners {
    /// Binds the configured listeners; `http` is the HTTP listener, if it is bound already.
    pub async fn bind(config: &ServerConfig, http: Option<HttpListener>) -> Result<Self> {
        let http = match (http, config.http) {
            (None, Some(address)) => Some(HttpListener::bind(address, config).await?),
            (http, _) => http,
        };
        let (tcp, tls) = match http {
            Some(HttpListener { tcp, tls }) => (Some(tcp), tls),
            None if config.postgres.is_some() || config.s3.is_some() => {
                (None, TlsSettings::load(&config.network, &config.service.lake_dir)?)
            }
            None => (None, None),
        };
        let address = tcp.as_ref().and_then(|tcp| tcp.local_addr().ok());
        let rules =
            address.map(|address| Arc::new(HostAndOriginRules::new(&config.network, address)));
        let postgres = match config.postgres {
            Some(address) => Some(PostgresListener::bind(address, config).await?),
            None => None,
        };
        let s3 = match config.s3 {
            Some(address) => Some(HttpListener::bind(address, config).await?.tcp),
            None => None,
        };
        let needs_token = config.auth && (tcp.is_some() || postgres.is_some());
        let token = needs_token.then(|| create_token(&config.service.lake_dir)).transpose()?;
        let socket = match &config.socket {
            Some(path) => Some((bind_socket(path)?, path.clone())),
            None => None,
        };
        let timeouts =
            Timeouts { header: config.header_timeout, write: Some(config.write_timeout) };
        Ok(BoundListeners { tcp, tls, rules, token, timeouts, socket, postgres, s3 })
    }

    /// Returns the HTTP address, with the actual port.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.tcp.as_ref()?.local_addr().ok()
    }

    /// Returns the TLS settings of the HTTP listener; `None` without TLS.
    pub fn tls(&self) -> Option<&TlsSettings> {
        self.tls.as_ref()
    }

    /// Returns the PostgreSQL address, with the actual port.
    pub fn postgres_addr(&self) -> Option<SocketAddr> {
        self.postgres.as_ref()?.address()
    }

    /// Returns the S3 address, with the actual port.
    pub fn s3_addr(&self) -> Option<SocketAddr> {
        self.s3.as_ref()?.local_addr().ok()
    }

    /// Returns an address that other machines can reach, if there is one.
    pub fn public_address(&self) -> Option<SocketAddr> {
        let all = [self.http_addr(), self.postgres_addr(), self.s3_addr()];
        all.into_iter().flatten().find(|address| is_public(*address))
    }

    /// Returns the path of the file with the server's token; `None` if requests over TCP need no
    /// token.
    pub fn token_file(&self) -> Option<PathBuf> {
        self.token.as_ref().map(|token| token.path.clone())
    }

    /// Returns the required token of requests over TCP; `None` if these requests need no token.
    pub fn token(&self) -> Option<&LocalTcpToken> {
        self.token.as_ref().map(|file| &file.token)
    }

    /// Starts to accept connections.
    pub fn open(self, router: &Router, app: &App) -> OpenListeners {
        let closing = CancellationToken::new();
        let mut loops = JoinSet::new();
        let token = self.token.as_ref().map(|file| file.token.clone());
        if let Some(listener) = self.postgres {
            let shared =
                postgres::ListenerState::new(app.clone(), self.tls.clone(), token.is_some());
            loops.spawn(postgres::serve(listener, shared, closing.clone()));
        }
        if let Some(tls) = self.tls.clone() {
            let closing = closing.clone();
            loops
                .spawn(async move { closing.run_until_cancelled(tls.watch()).await.unwrap_or(()) });
        }
        if let Some(listener) = self.s3 {
            let protocol = TcpConnectionSettings {
                router: tcp_router(&s3::router(app), None, self.timeouts.write),
                tls: self.tls.clone(),
                token: token.clone(),
                timeouts: self.timeouts,
            };
            let start = move |stream, address, watcher| {
                serve_tcp(stream, address, watcher, protocol.clone())
            };
            loops.spawn(serve(listener, start, closing.clone()));
        }
        if let Some(listener) = self.tcp {
            let protocol = TcpConnectionSettings {
                router: tcp_router(router, self.rules, self.timeouts.write),
                tls: self.tls,
                token,
                timeouts: self.timeouts,
            };
            let start = move |stream, address, watcher| {
                serve_tcp(stream, address, watcher, protocol.clone())
            };
            loops.spawn(serve(listener, start, closing.clone()));
        }
        let mut path = None;
        if let Some((listener, bound)) = self.socket {
            let (router, timeout) = (router.clone(), self.timeouts.header);
            let start = move |stream, _, watcher| {
                serve_connection(stream, timeout, router.clone(), watcher)
            };
            loops.spawn(serve(listener, start, closing.clone()));
            path = Some(bound);
        }
        OpenListeners { closing, loops, path, _token: self.token }
    }
}

fn create_token(lake_dir: &Path) -> Result<TokenFile> {
    let failed = |source| Error::Folder { path: lake_dir.to_owned(), source };
    TokenFile::create(lake_dir).map_err(failed)
}

/// Binds the socket at a temporary path, restricts access to the owner, and renames it to the
/// configured path. Replaces an existing file at the configured path: only a killed server can have
/// left it, because this server holds the lake's lock.
fn bind_socket(path: &Path) -> Result<UnixListener> {
    let failed = |source| Error::Listen { address: path.display().to_string(), source };
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let _ = std::fs::remove_file(&new);
    let (short, _folder) = short_path(&new).map_err(failed)?;
    let listener = UnixListener::bind(short).map_err(failed)?;
    std::fs::set_permissions(&new, Permissions::from_mode(0o600)).map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)?;
    Ok(listener)
}

/// The accepting listeners. Dropping them closes every connection.
pub struct OpenListeners {
    closing: CancellationToken,
    loops: JoinSet<()>,
    path: Option<PathBuf>,
    _token: Option<TokenFile>,
}

impl OpenListeners {
    /// Stops accepting connections, and waits briefly for requests in progress.
    pub async fn close(mut self) {
        self.remove_socket();
        self.closing.cancel();
        while self.loops.join_next().await.is_some() {}
    }

    fn remove_socket(&mut self) {
        if let Some(path) = self.path.take() {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for OpenListeners {
    fn drop(&mut self) {
        self.remove_socket();
    }
}

/// Accepts and serves connections until `closing` is cancelled.
async fn serve<L, F>(
    mut listener: L,
    start: impl Fn(L::Io, L::Addr, Watcher) -> F,
    closing: CancellationToken,
) where
    L: Listener,
    F: Future<Output = ()> + Send + 'static,
{
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = closing.cancelled() => break,
            // On an error, for example without a free file descriptor, `accept` waits and tries
            // again.
            (stream, address) = listener.accept() => {
                connections.spawn(start(stream, address, graceful.watcher()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    // Dropping the set closes the connections that are still open.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, graceful.shutdown()).await;
}

/// Returns the router with the additional layers for requests over TCP.
fn tcp_router(
    router: &Router,
    rules: Option<Arc<HostAndOriginRules>>,
    write: Option<Duration>,
) -> Router {
    let mut router = router.clone();
    if let Some(rules) = rules {
        router = router.layer(from_fn_with_state(rules, host_and_origin::apply));
    }
    match write {
        Some(write) => router.layer(from_fn_with_state(write, write_timeout::apply)),
        None => router,
    }
}

/// Settings for the connections of a TCP listener.
#[derive(Clone)]
struct TcpConnectionSettings {
    router: Router,
    tls: Option<TlsSettings>,
    token: Option<LocalTcpToken>,
    timeouts: Timeouts,
}

async fn serve_tcp(
    stream: TcpStream,
    address: SocketAddr,
    watcher: Watcher,
    protocol: TcpConnectionSettings,
) {
    let TcpConnectionSettings { router, tls, token, timeouts } = protocol;
    // Without this option, the kernel would delay small parts of a response until earlier parts are
    // acknowledged.
    let _ = stream.set_nodelay(true);
    let peer = TcpPeer { address, token };
    let router = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request
    });
    let Some(tls) = tls else {
        let stream = with_write_timeout(stream, timeouts.write);
        return serve_connection(stream, timeouts.header, router, watcher).await;
    };
    let handshake = async {
        let first = first_byte(&stream).await?;
        tls.accept(first, with_write_timeout(stream, timeouts.write)).await
    };
    if let Ok(Some(stream)) = tokio::time::timeout(timeouts.header, handshake).await {
        serve_connection(stream, timeouts.header, router, watcher).await;
    }
}

fn with_write_timeout(
    stream: TcpStream,
    timeout: Option<Duration>,
) -> Pin<Box<TimeoutStream<TcpStream>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(timeout);
    Box::pin(stream)
}

async fn serve_connection<Io, S>(stream: Io, header_timeout: Duration, router: S, watcher: Watcher)
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    S: tower::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let stream = PrefaceTimeout::new(stream, header_timeout);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PING_INTERVAL);
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!("a connection was aborted: {error}");
    }
}
