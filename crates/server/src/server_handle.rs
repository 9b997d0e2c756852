//! The handle of a running server.

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use axum::body::Body;
use headwater_model::{Principal, Problem};
use headwater_service::Access;
use hyper::{Request, Response};
use tokio::task::JoinHandle;
use tower::ServiceExt;

use crate::lake_lock::ServerRecord;
use crate::server_state::App;
use crate::tls::TlsSettings;

/// A running server. Dropping the handle stops the server immediately, without waiting for running
/// jobs; [`ServerHandle::shutdown`] waits for these jobs.
pub struct ServerHandle {
    parts: ServerParts,
    task: JoinHandle<()>,
}

/// The components of a server that its handle needs.
pub(crate) struct ServerParts {
    pub state: App,
    pub router: Router,
    pub info: ServerRecord,
    pub tls: Option<TlsSettings>,
}

impl ServerHandle {
    pub(crate) fn new(parts: ServerParts, task: JoinHandle<()>) -> Self {
        ServerHandle { parts, task }
    }

    /// Returns the HTTP address, with the actual port.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.parts.info.http
    }

    /// Returns the address of the PostgreSQL listener, with the actual port.
    pub fn postgres_addr(&self) -> Option<SocketAddr> {
        self.parts.info.postgres
    }

    /// Returns the address of the S3 listener, with the actual port.
    pub fn s3_addr(&self) -> Option<SocketAddr> {
        self.parts.info.s3
    }

    /// Returns the path of the Unix socket.
    pub fn socket(&self) -> Option<&Path> {
        self.parts.info.socket.as_deref()
    }

    /// Returns true if the HTTP listener uses TLS.
    pub fn has_tls(&self) -> bool {
        self.parts.tls.is_some()
    }

    /// Returns the SHA-256 fingerprint of the certificate.
    pub fn fingerprint(&self) -> Option<String> {
        self.parts.tls.as_ref().map(TlsSettings::fingerprint)
    }

    /// Returns the path of the self-signed certificate, if the server uses one.
    pub fn self_signed(&self) -> Option<&Path> {
        self.parts.tls.as_ref()?.self_signed()
    }

    /// Returns the path of the file with the server's token; `None` if requests over TCP need no
    /// token.
    pub fn token_file(&self) -> Option<&Path> {
        self.parts.info.token_file.as_deref()
    }

    /// Returns the access control of the lake: users, roles, grants and tokens.
    pub fn access(&self) -> Result<Access, Problem> {
        self.parts.state.service.access_control().registry(&Principal::owner())
    }

    /// Answers a request that did not come from a listener, with the rights that a request on the
    /// Unix socket has.
    pub async fn call(&self, request: Request<Body>) -> Response<Body> {
        match self.parts.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Waits until the server has shut down, after [`ServerHandle::shutdown`], a shutdown request,
    /// or the idle timeout.
    pub async fn wait(&self) {
        self.parts.state.shutdown.completed().await;
    }

    /// Shuts the server down: rejects new jobs, waits at most [`crate::ServerConfig::grace`] for
    /// running jobs, and interrupts the remaining jobs. Returns when the server has stopped.
    pub async fn shutdown(&self) {
        self.parts.state.shut_down(self.parts.state.config.grace);
        self.wait().await;
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ServerHandle").field(&self.parts.info).finish()
    }
}
