//! Lambda's REST API and the URLs of functions on the HTTP listener. Signatures authenticate
//! requests to the API. The configuration of a function determines the authentication of requests
//! to its URL.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use headwater_lambda::{BODY_BYTES_MAX, LambdaProtocol, ROOTS, URL_ROOT};

use crate::auth::{TcpPeer, client_address};
use crate::http::body::BodyKind;
use crate::state::App;

/// Returns the routes of the API.
pub fn router() -> Router<App> {
    let urls = Router::new()
        .route(&format!("/{URL_ROOT}/{{name}}"), any(answer_url))
        .route(&format!("/{URL_ROOT}/{{name}}/"), any(answer_url))
        .route(&format!("/{URL_ROOT}/{{name}}/{{*path}}"), any(answer_url));
    ROOTS.iter().fold(urls, |router, root| router.route(&format!("/{root}/{{*path}}"), any(answer)))
}

fn protocol(app: &App) -> LambdaProtocol {
    let scheme = if app.config.network.is_https() { "https" } else { "http" };
    LambdaProtocol::new(&app.service, scheme)
}

async fn answer_url(State(app): State<App>, request: Request) -> Response {
    let peer = request.extensions().get::<TcpPeer>().map(|peer| peer.address);
    let address = peer.map(|peer| client_address(&app, peer, request.headers()));
    let protocol = protocol(&app);
    let (parts, body) = request.into_parts();
    // The body of a rejected request is not read.
    let target = match protocol.find_url(&parts, address).await {
        Ok(target) => target,
        Err(rejected) => return rejected.map(Body::from),
    };
    let request = Request::from_parts(parts.clone(), body);
    let (bytes, _permit) = match app.bodies.read(request, BodyKind::Values).await {
        Ok(read) => read,
        Err(error) => return error.into_response(),
    };
    let request = axum::http::Request::from_parts(parts, bytes);
    protocol.call_url(target, request, address).await.map(Body::from)
}

async fn answer(State(app): State<App>, request: Request) -> Response {
    let peer = request.extensions().get::<TcpPeer>().map(|peer| peer.address);
    let address = peer.map(|peer| client_address(&app, peer, request.headers()));
    let protocol = protocol(&app);
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|text| text.parse::<usize>().ok()).unwrap_or_default();
    if length > BODY_BYTES_MAX {
        return LambdaProtocol::too_long().map(Body::from);
    }
    let (parts, body) = request.into_parts();
    // The body of a request without a valid key is not read.
    if let Some(rejected) = protocol.reject_unknown(&parts, address).await {
        return rejected.map(Body::from);
    }
    let is_call = parts.uri.path().ends_with("/invocations");
    let kind = if is_call { BodyKind::Values } else { BodyKind::Table };
    let request = Request::from_parts(parts.clone(), body);
    let (bytes, _permit) = match app.bodies.read(request, kind).await {
        Ok(read) => read,
        Err(error) => return error.into_response(),
    };
    let request = axum::http::Request::from_parts(parts, bytes);
    protocol.call(request, address).await.map(Body::from)
}
