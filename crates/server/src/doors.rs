//! The doors: HTTP/1.1, and HTTP/2 with prior knowledge, on one TCP port and on one Unix socket.
//!
//! The first bytes of a connection tell which of the two it speaks. There is no TLS: TCP is bound
//! to loopback addresses only and asks for a token, and the socket is its owner's alone.

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

use crate::http::origin::OverTcp;
use crate::http::stall;
use crate::opening::Opening;
use crate::socket::short_path;
use crate::token::TokenFile;
use crate::{Error, Result, ServerConfig};

/// How often HTTP/2 connections are asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(30);

/// How long connections may take to end, once the doors close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// An HTTP address that is this program's own already: whether it may be listened on and is free is known
/// before anything else is begun. Connections wait until a server takes it.
#[derive(Debug)]
pub struct HttpDoor(TcpListener);

impl HttpDoor {
    /// Takes an address; port 0 picks a free one.
    ///
    /// Errors: [`Error::NotLoopback`]; [`Error::Listen`] where another program has it.
    pub async fn bind(address: SocketAddr) -> Result<Self> {
        if !address.ip().is_loopback() {
            return Err(Error::NotLoopback { address });
        }
        let failed = |source| Error::Listen { address: address.to_string(), source };
        TcpListener::bind(address).await.map(HttpDoor).map_err(failed)
    }
}

/// The doors, bound and not yet open: connections wait.
pub struct Bound {
    tcp: Option<TcpListener>,
    token: Option<TokenFile>,
    stall: Duration,
    head: Duration,
    socket: Option<(UnixListener, PathBuf)>,
}

impl Bound {
    /// Binds what the configuration names and is not bound yet.
    pub async fn bind(config: &ServerConfig, door: Option<HttpDoor>) -> Result<Self> {
        let door = match (door, config.http) {
            (None, Some(address)) => Some(HttpDoor::bind(address).await?),
            (door, _) => door,
        };
        let tcp = door.map(|HttpDoor(listener)| listener);
        let token = match &tcp {
            Some(_) if config.auth => Some(create_token(&config.service.lake_dir)?),
            _ => None,
        };
        let socket = match &config.socket {
            Some(path) => Some((bind_socket(path)?, path.clone())),
            None => None,
        };
        Ok(Bound { tcp, token, stall: config.stall, head: config.head, socket })
    }

    /// The address, with the port that was picked.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.tcp.as_ref()?.local_addr().ok()
    }

    /// The file with the token that the address asks for.
    pub fn token_file(&self) -> Option<PathBuf> {
        self.token.as_ref().map(|token| token.path.clone())
    }

    /// Opens the doors.
    pub fn open(self, router: &Router) -> Doors {
        let closing = CancellationToken::new();
        let mut loops = JoinSet::new();
        if let Some(listener) = self.tcp {
            let listener = listener.tap_io(|stream| {
                // An answer of several small frames must not wait for acknowledgements.
                let _ = stream.set_nodelay(true);
            });
            let token = self.token.as_ref().map(|file| file.token.clone());
            let router = router.clone().layer(Extension(OverTcp(token)));
            let router = router.layer(from_fn_with_state(self.stall, stall::watch));
            loops.spawn(serve(listener, router, (self.head, Some(self.stall)), closing.clone()));
        }
        let mut path = None;
        if let Some((listener, bound)) = self.socket {
            loops.spawn(serve(listener, router.clone(), (self.head, None), closing.clone()));
            path = Some(bound);
        }
        Doors { closing, loops, path, _token: self.token }
    }
}

fn create_token(lake_dir: &Path) -> Result<TokenFile> {
    let failed = |source| Error::Folder { path: lake_dir.to_owned(), source };
    TokenFile::create(lake_dir).map_err(failed)
}

/// Binds the socket beside its place and moves it there once nobody else may use it. What lies
/// there was left behind by a server that was killed: the lake's lock is ours.
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

/// The doors, open. Dropping them cuts every connection.
pub struct Doors {
    closing: CancellationToken,
    loops: JoinSet<()>,
    path: Option<PathBuf>,
    _token: Option<TokenFile>,
}

impl Doors {
    /// Accepts no more connections, and lets requests under way end, for a moment.
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

impl Drop for Doors {
    fn drop(&mut self) {
        self.remove_socket();
    }
}

/// Serves connections, of which each may wait for its client to send a request's head for as long as
/// `head` says, and for it to read an answer for as long as `stall` does.
async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    (head, stall): (Duration, Option<Duration>),
    closing: CancellationToken,
) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = closing.cancelled() => break,
            // It waits by itself where there are no file descriptors left.
            (stream, _) = listener.accept() => {
                let mut stream = TimeoutStream::new(stream);
                stream.set_write_timeout(stall);
                let stream = Opening::new(Box::pin(stream), head);
                let watcher = graceful.watcher();
                connections.spawn(serve_connection(stream, head, router.clone(), watcher));
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    // What is still under way then is cut when the set is dropped.
    let _ = tokio::time::timeout(CLOSE_PATIENCE, graceful.shutdown()).await;
}

async fn serve_connection<Io>(stream: Io, head: Duration, router: Router, watcher: Watcher)
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(head);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PING_EVERY);
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!("a connection was cut: {error}");
    }
}
