//! The PostgreSQL listener, which accepts connections up to a limit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use headwater_model::{ErrorCode, Problem};
use headwater_postgres::{BufferedConnection, ReplyWriter, Severity};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

use super::startup::{self, ListenerState, UnauthenticatedClient};
use crate::{Error, NetworkConfig, Result, ServerConfig};

/// Maximum time for open connections to finish after the listener is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause after a failed accept, for example without a free file descriptor.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// A bound address, on which connections wait until [`serve`] accepts them.
#[derive(Debug)]
pub struct PostgresListener(TcpListener);

impl PostgresListener {
    /// Binds an address; port 0 selects a free port.
    ///
    /// Errors: [`Error::NoPostgresTls`] or [`Error::NoAuth`] if the configuration does not protect
    /// the address; [`Error::Listen`] if another program uses the address.
    pub async fn bind(address: SocketAddr, config: &ServerConfig) -> Result<Self> {
        // Ignore `behind_proxy`: the proxy that provides TLS for HTTP does not encrypt this
        // protocol.
        let network = NetworkConfig { behind_proxy: false, ..config.network.clone() };
        network.check_address(address, config.auth).map_err(|error| match error {
            Error::NoTls { address } => Error::NoPostgresTls { address },
            other => other,
        })?;
        let failed = |source| Error::Listen { address: address.to_string(), source };
        TcpListener::bind(address).await.map(PostgresListener).map_err(failed)
    }

    /// Returns the address, with the actual port.
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.local_addr().ok()
    }
}

/// Accepts and serves connections until `closing` is cancelled.
pub async fn serve(listener: PostgresListener, shared: ListenerState, closing: CancellationToken) {
    let permits = Arc::new(Semaphore::new(shared.app.config.postgres_connections_max));
    let mut connections = JoinSet::new();
    loop {
        let (stream, address) = tokio::select! {
            () = closing.cancelled() => break,
            accepted = listener.0.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("a PostgreSQL connection was not accepted: {error}");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        let wire = accept(stream, shared.app.config.write_timeout);
        let permit = permits.clone().try_acquire_owned().ok();
        let (shared, closing) = (shared.clone(), closing.clone());
        connections.spawn(async move {
            let served = match permit {
                Some(_) => {
                    serve_connection(wire, UnauthenticatedClient { address, shared }, closing).await
                }
                None => reject(wire, shared.app.config.postgres_connections_max).await,
            };
            if let Err(error) = served {
                tracing::debug!("a PostgreSQL connection was aborted: {error}");
            }
        });
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    // Dropping the set closes the connections that are still open.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, ended).await;
}

/// Serves a connection until it ends. The startup phase must end within the time limit for the head
/// of a request.
async fn serve_connection(
    wire: BufferedConnection,
    peer: UnauthenticatedClient,
    closing: CancellationToken,
) -> std::io::Result<()> {
    let app = &peer.shared.app;
    let started = tokio::time::timeout(app.config.header_timeout, startup::start(wire, &peer));
    let Some(mut session) = started.await?? else { return Ok(()) };
    session.serve(&closing, || app.activity.begin()).await
}

/// Sets the socket options of a connection, and wraps its stream.
fn accept(stream: TcpStream, write_timeout: Duration) -> BufferedConnection {
    // Send each reply without waiting for acknowledgements of earlier ones. Keep-alive detects
    // clients that no longer respond.
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(write_timeout));
    BufferedConnection::new(Box::new(Box::pin(stream)))
}

async fn reject(mut wire: BufferedConnection, limit: usize) -> std::io::Result<()> {
    let message = format!("there are too many connections (limit {limit})");
    wire.output.error(Severity::Fatal, &Problem::new(ErrorCode::TooBusy, message));
    wire.send().await
}
