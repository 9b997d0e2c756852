//! A server under way, as the one who started it holds it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use hyper::{Request, Response};
use tokio::task::JoinHandle;
use tower::ServiceExt;

use crate::lock::ServerInfo;
use crate::state::AppState;

/// A server under way. Dropping it ends it at once, without letting jobs end; see
/// [`Running::shutdown`].
pub struct Running {
    state: Arc<AppState>,
    router: Router,
    info: ServerInfo,
    life: JoinHandle<()>,
}

impl Running {
    pub(crate) fn new(
        state: Arc<AppState>,
        router: Router,
        info: ServerInfo,
        life: JoinHandle<()>,
    ) -> Self {
        Running { state, router, info, life }
    }

    /// The address it listens on for HTTP, with the port that was picked.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.info.http
    }

    /// The Unix socket it listens on.
    pub fn socket(&self) -> Option<&Path> {
        self.info.socket.as_deref()
    }

    /// The file with the token that HTTP asks for.
    pub fn token_file(&self) -> Option<&Path> {
        self.info.token_file.as_deref()
    }

    /// Answers one request without a door.
    pub async fn call(&self, request: Request<Body>) -> Response<Body> {
        match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Returns when the server has ended: by [`Running::shutdown`], by request, or by being idle.
    pub async fn wait(&self) {
        self.state.ending.finished().await;
    }

    /// Takes no more jobs, lets those under way end for as long as [`crate::ServerConfig::grace`]
    /// says, interrupts what is left, and returns when all is put away.
    pub async fn shutdown(&self) {
        self.state.end(self.state.config.grace);
        self.wait().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.life.abort();
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Running").field(&self.info).finish()
    }
}
