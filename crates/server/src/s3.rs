//! The S3 protocol. It has a separate listener, because the path of an object can be any path, also
//! one of another protocol.
//!
//! Requests are authenticated by their signatures only.

use std::net::IpAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use headwater_s3::{HttpRequest, Peer, S3Protocol};
use headwater_service::S3Operations;

use crate::auth::{TcpPeer, client_address};
use crate::server_state::App;
use crate::{expect_continue, panic, request_activity};

/// Returns the router of the S3 listener.
pub fn router(app: &App) -> Router {
    let protocol = S3Protocol::new(S3Operations::of(&app.service));
    Router::new()
        .fallback(answer)
        .layer(from_fn(panic::catch))
        .layer(from_fn(expect_continue::close_if_unread))
        .layer(from_fn_with_state(app.activity.of_protocol("s3"), request_activity::count))
        .with_state(S3ListenerState { app: app.clone(), protocol })
}

#[derive(Clone)]
struct S3ListenerState {
    app: App,
    protocol: S3Protocol,
}

async fn answer(State(shared): State<S3ListenerState>, request: Request) -> Response {
    let peer = request.extensions().get::<TcpPeer>().map(|peer| peer.address);
    let address: Option<IpAddr> =
        peer.map(|peer| client_address(&shared.app, peer, request.headers()));
    let request: HttpRequest = request.map(headwater_s3::Body::http_body_unsync);
    shared.protocol.call(request, &Peer::new(address)).await.map(Body::new)
}
