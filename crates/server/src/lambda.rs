//! Lambda's REST API and the URLs of functions on the HTTP listener. Requests to the API are
//! authenticated by their signatures. Requests to the URL of a function are authenticated as the
//! function's configuration requires.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use headwater_lambda::{BODY_BYTES_MAX, LambdaApi, LambdaResponseBody, ROOTS, URL_ROOT};

use crate::auth::{TcpPeer, client_address};
use crate::host_and_origin::WebOrigin;
use crate::http::body::{BodyKind, is_too_long};
use crate::server_state::App;

/// Returns the routes of the API.
pub fn router() -> Router<App> {
    let urls = Router::new()
        .route(&format!("/{URL_ROOT}/{{name}}"), any(handle_function_url))
        .route(&format!("/{URL_ROOT}/{{name}}/"), any(handle_function_url))
        .route(&format!("/{URL_ROOT}/{{name}}/{{*path}}"), any(handle_function_url));
    ROOTS.iter().fold(urls, |router, root| router.route(&format!("/{root}/{{*path}}"), any(answer)))
}

fn protocol(app: &App) -> LambdaApi {
    let scheme = if app.config.network.is_https() { "https" } else { "http" };
    LambdaApi::new(&app.service, scheme)
}

async fn handle_function_url(State(app): State<App>, request: Request) -> Response {
    let peer = request.extensions().get::<TcpPeer>().map(|peer| peer.address);
    let address = peer.map(|peer| client_address(&app, peer, request.headers()));
    let protocol = protocol(&app);
    let (parts, body) = request.into_parts();
    // Find the URL settings first, so that a rejected request is answered before its body is read.
    let is_foreign = parts.extensions.get::<WebOrigin>() == Some(&WebOrigin::Foreign);
    let target = match protocol.find_url(&parts, address, is_foreign).await {
        Ok(target) => target,
        Err(rejected) => return rejected.map(Body::from),
    };
    let request = Request::from_parts(parts.clone(), body);
    let (bytes, _permit) = match app.bodies.read(request, BodyKind::Call).await {
        Ok(read) => read,
        Err(error) if is_too_long(&error) => {
            let bytes_max = app.bodies.bytes_max(BodyKind::Call);
            return LambdaApi::too_long(bytes_max).map(Body::from);
        }
        Err(error) => return error.into_response(),
    };
    let request = axum::http::Request::from_parts(parts, bytes);
    protocol.call_url(target, request, address).await.map(body_of)
}

async fn answer(State(app): State<App>, request: Request) -> Response {
    let peer = request.extensions().get::<TcpPeer>().map(|peer| peer.address);
    let address = peer.map(|peer| client_address(&app, peer, request.headers()));
    let protocol = protocol(&app);
    let (parts, body) = request.into_parts();
    // Reject a request without a valid key before its body is read.
    if let Some(rejected) = protocol.reject_unknown(&parts, address).await {
        return rejected.map(Body::from);
    }
    let path = parts.uri.path().trim_end_matches('/');
    let is_call = path.ends_with("invocations") || path.ends_with("invoke-async");
    let (kind, bytes_max) = if is_call {
        (BodyKind::Call, app.bodies.bytes_max(BodyKind::Call))
    } else {
        (BodyKind::Table, BODY_BYTES_MAX)
    };
    let too_long = || LambdaApi::too_long(bytes_max).map(Body::from);
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|text| text.parse::<usize>().ok()).unwrap_or_default();
    if length > bytes_max {
        app.bodies.skip(body.into_data_stream()).await;
        return too_long();
    }
    let request = Request::from_parts(parts.clone(), body);
    let (bytes, _permit) = match app.bodies.read(request, kind).await {
        // Without `content-length`, the length is known only now. It can exceed this API's limit.
        Ok((bytes, _)) if bytes.len() > bytes_max => return too_long(),
        Ok(read) => read,
        Err(error) if is_too_long(&error) => return too_long(),
        Err(error) => return error.into_response(),
    };
    let request = axum::http::Request::from_parts(parts, bytes);
    protocol.call(request, address).await.map(body_of)
}

fn body_of(body: LambdaResponseBody) -> Body {
    match body {
        LambdaResponseBody::Whole(bytes) => Body::from(bytes),
        LambdaResponseBody::Parts(parts) => Body::from_stream(parts),
    }
}
