//! The listeners: HTTP/1.1, and HTTP/2 with prior knowledge, on a TCP port and on a Unix socket.
//!
//! There is no TLS: TCP listens on loopback addresses only and needs a token, and only the owner
//! can open the socket.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::middleware::from_fn_with_state;
use axum::serve::{Listener, ListenerExt};
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

use crate::auth::TcpPeer;
use crate::preface_timeout::PrefaceTimeout;
use crate::socket::short_path;
use crate::token::TokenFile;
use crate::{Error, Result, ServerConfig, write_timeout};

/// Keep-alive interval of HTTP/2 connections.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Time that connections have to end after the listeners are closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A bound HTTP address: an unusable address is reported before a server starts. Connections wait
/// until a server accepts them.
#[derive(Debug)]
pub struct HttpListener(TcpListener);

impl HttpListener {
    /// Binds an address; port 0 selects a free port.
    ///
    /// Errors: [`Error::NotLoopback`]; [`Error::Listen`] if another program uses the address.
    pub async fn bind(address: SocketAddr) -> Result<Self> {
        if !address.ip().is_loopback() {
            return Err(Error::NotLoopback { address });
        }
        let failed = |source| Error::Listen { address: address.to_string(), source };
        TcpListener::bind(address).await.map(HttpListener).map_err(failed)
    }
}

/// Timeouts of a listener's connections.
#[derive(Debug, Clone, Copy)]
struct Timeouts {
    /// For the head of a request.
    header: Duration,
    /// For the client to read of a response.
    write: Option<Duration>,
}

/// The bound listeners, which do not accept connections yet.
pub struct BoundListeners {
    tcp: Option<TcpListener>,
    token: Option<TokenFile>,
    timeouts: Timeouts,
    socket: Option<(UnixListener, PathBuf)>,
}

impl BoundListeners {
    /// Binds the configured listeners; `http` is the HTTP listener if it is bound already.
    pub async fn bind(config: &ServerConfig, http: Option<HttpListener>) -> Result<Self> {
        let http = match (http, config.http) {
            (None, Some(address)) => Some(HttpListener::bind(address).await?),
            (http, _) => http,
        };
        let tcp = http.map(|HttpListener(listener)| listener);
        let token = match &tcp {
            Some(_) if config.auth => Some(create_token(&config.service.lake_dir)?),
            _ => None,
        };
        let socket = match &config.socket {
            Some(path) => Some((bind_socket(path)?, path.clone())),
            None => None,
        };
        let timeouts =
            Timeouts { header: config.header_timeout, write: Some(config.write_timeout) };
        Ok(BoundListeners { tcp, token, timeouts, socket })
    }

    /// Returns the HTTP address, with the actual port.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.tcp.as_ref()?.local_addr().ok()
    }

    /// Returns the path of the file with the token for HTTP.
    pub fn token_file(&self) -> Option<PathBuf> {
        self.token.as_ref().map(|token| token.path.clone())
    }

    /// Starts to accept connections.
    pub fn open(self, router: &Router) -> OpenListeners {
        let closing = CancellationToken::new();
        let mut loops = JoinSet::new();
        if let Some(listener) = self.tcp {
            let listener = listener.tap_io(|stream| {
                // A response of several small frames must not wait for acknowledgements.
                let _ = stream.set_nodelay(true);
            });
            let token = self.token.as_ref().map(|file| file.token.clone());
            let router = router.clone().layer(Extension(TcpPeer(token)));
            let router = match self.timeouts.write {
                Some(write) => router.layer(from_fn_with_state(write, write_timeout::apply)),
                None => router,
            };
            loops.spawn(serve(listener, router, self.timeouts, closing.clone()));
        }
        let mut path = None;
        if let Some((listener, bound)) = self.socket {
            let timeouts = Timeouts { write: None, ..self.timeouts };
            loops.spawn(serve(listener, router.clone(), timeouts, closing.clone()));
            path = Some(bound);
        }
        OpenListeners { closing, loops, path, _token: self.token }
    }
}

fn create_token(lake_dir: &Path) -> Result<TokenFile> {
    let failed = |source| Error::Folder { path: lake_dir.to_owned(), source };
    TokenFile::create(lake_dir).map_err(failed)
}

/// Binds the socket at a temporary path, restricts it to the owner, and renames it. A file at the
/// path was left by a killed server, since this one holds the lake's lock.
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

/// The listeners, which accept connections. Dropping them closes every connection.
pub struct OpenListeners {
    closing: CancellationToken,
    loops: JoinSet<()>,
    path: Option<PathBuf>,
    _token: Option<TokenFile>,
}

impl OpenListeners {
    /// Stops accepting connections, and waits shortly for requests in progress.
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
async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    timeouts: Timeouts,
    closing: CancellationToken,
) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = closing.cancelled() => break,
            // `accept` waits by itself if no file descriptor is free.
            (stream, _) = listener.accept() => {
                let mut stream = TimeoutStream::new(stream);
                stream.set_write_timeout(timeouts.write);
                let stream = PrefaceTimeout::new(Box::pin(stream), timeouts.header);
                let watcher = graceful.watcher();
                let serve = serve_connection(stream, timeouts.header, router.clone(), watcher);
                connections.spawn(serve);
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    // Connections that remain are closed when the set is dropped.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, graceful.shutdown()).await;
}

async fn serve_connection<Io>(
    stream: Io,
    header_timeout: Duration,
    router: Router,
    watcher: Watcher,
) where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PING_INTERVAL);
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!("a connection was aborted: {error}");
    }
}
