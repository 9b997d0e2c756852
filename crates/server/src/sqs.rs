//! The SQS protocol on the HTTP listener: `POST /` and the URLs of queues. Requests are
//! authenticated by their signatures.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use headwater_lambda::{SqsApi, TARGET_PREFIX};

use crate::auth::{TcpPeer, client_address};
use crate::http::body::BodyKind;
use crate::router::not_found;
use crate::server_state::App;

/// Returns the routes of the API.
pub fn router() -> Router<App> {
    Router::new().route("/", post(answer)).route("/000000000000/{queue}", post(answer))
}

async fn answer(State(app): State<App>, request: Request) -> Response {
    let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok());
    if !target.is_some_and(|target| target.starts_with(TARGET_PREFIX)) {
        return not_found(request).await.into_response();
    }
    let peer = request.extensions().get::<TcpPeer>().map(|peer| peer.address);
    let address = peer.map(|peer| client_address(&app, peer, request.headers()));
    let scheme = if app.config.network.is_https() { "https" } else { "http" };
    let protocol = SqsApi::new(&app.service, scheme);
    let (parts, body) = request.into_parts();
    // Reject a request without a valid key before its body is read.
    if let Some(rejected) = protocol.reject_unknown(&parts, address).await {
        return rejected.map(Body::from);
    }
    let request = Request::from_parts(parts.clone(), body);
    let (bytes, _permit) = match app.bodies.read(request, BodyKind::Values).await {
        Ok(read) => read,
        Err(error) => return error.into_response(),
    };
    protocol.call(axum::http::Request::from_parts(parts, bytes), address).await.map(Body::from)
}
