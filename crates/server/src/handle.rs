//! The handle of a running server.

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use axum::body::Body;
use hyper::{Request, Response};
use tokio::task::JoinHandle;
use tower::ServiceExt;

use crate::lock::ServerInfo;
use crate::state::App;

/// A running server. Dropping the handle stops it at once, without waiting for jobs; see
/// [`ServerHandle::shutdown`].
pub struct ServerHandle {
    state: App,
    router: Router,
    info: ServerInfo,
    task: JoinHandle<()>,
}

impl ServerHandle {
    pub(crate) fn new(state: App, router: Router, info: ServerInfo, task: JoinHandle<()>) -> Self {
        ServerHandle { state, router, info, task }
    }

    /// Returns the HTTP address, with the actual port.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.info.http
    }

    /// Returns the path of the Unix socket.
    pub fn socket(&self) -> Option<&Path> {
        self.info.socket.as_deref()
    }

    /// Returns the path of the file with the token for HTTP.
    pub fn token_file(&self) -> Option<&Path> {
        self.info.token_file.as_deref()
    }

    /// Answers a request without a listener, as from the Unix socket.
    pub async fn call(&self, request: Request<Body>) -> Response<Body> {
        match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Waits until the server has shut down: by [`ServerHandle::shutdown`], by request, or when
    /// idle.
    pub async fn wait(&self) {
        self.state.shutdown.completed().await;
    }

    /// Rejects new jobs, waits [`crate::ServerConfig::grace`] for running ones, interrupts the
    /// rest, and returns when the server has shut down.
    pub async fn shutdown(&self) {
        self.state.shut_down(self.state.config.grace);
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
        f.debug_tuple("ServerHandle").field(&self.info).finish()
    }
}
