//! Sessions of the console: log in, get the session, log out, and create codes for logins.

use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono::Utc;
use headwater_model::{
    BrowserSession, CreateSession, ErrorCode, LoginMethods, LoginStart, Principal, Problem,
    SessionCode, StartLogin,
};
use headwater_service::{Credential, LoginAttempt};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{ErrorResponse, HandlerResult};
use super::extract::{Body, Caller};
use crate::auth::{TcpPeer, Unauthenticated, client_address};
use crate::console::{expired_cookie, presented_session, session_cookie};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(create))
        .routes(routes!(remove))
        .routes(routes!(create_code))
        .routes(routes!(methods))
        .routes(routes!(start_login))
}

/// Returns the available login methods for people, in addition to access tokens and passwords.
#[utoipa::path(get, path = "/v1/login",
    operation_id = "get_login_methods", tag = "session", security(()),
    responses((status = 200, body = LoginMethods), (status = "default", body = Problem)))]
async fn methods(State(app): State<App>) -> Json<LoginMethods> {
    Json(app.service.access_control().login_methods())
}

/// Starts a browser's login at the OpenID provider of the server. The browser opens the address in
/// the response. The provider's redirect contains a code, which the browser sends to `POST
/// /v1/session`.
#[utoipa::path(post, path = "/v1/login",
    operation_id = "start_login", tag = "session", security(()),
    request_body = StartLogin, responses(
    (status = 200, body = LoginStart), (status = "default", body = Problem)))]
async fn start_login(
    State(app): State<App>,
    Body(request): Body<StartLogin>,
) -> HandlerResult<Json<LoginStart>> {
    let started = app.service.access_control().start_login(&request).await;
    started.map(Json).map_err(ErrorResponse)
}

/// Returns the session of a browser. Also succeeds for requests that are authenticated by a token
/// instead of a session.
#[utoipa::path(get, path = "/v1/session",
    operation_id = "get_session", tag = "session",
    responses((status = 200, body = BrowserSession), (status = "default", body = Problem)))]
async fn show(
    Caller(principal): Caller,
    unauthenticated: Option<Extension<Unauthenticated>>,
) -> HandlerResult<Json<BrowserSession>> {
    match unauthenticated {
        Some(_) => Err(not_logged_in("the request has no session, or its session has expired")),
        None => {
            Ok(Json(BrowserSession { author: principal.named_author(), key: None, expires: None }))
        }
    }
}

/// Logs a browser in with a token, a login code, or the code of an OpenID provider. The response
/// sets the session's cookie, which scripts cannot read, and contains the session's key. Later
/// requests must send the cookie, and the key in the header `x-headwater-session`.
#[utoipa::path(post, path = "/v1/session",
    operation_id = "create_session", tag = "session", security(()),
    request_body = CreateSession, responses(
    (status = 201, body = BrowserSession), (status = "default", body = Problem)))]
async fn create(
    State(app): State<App>,
    peer: Option<Extension<TcpPeer>>,
    headers: HeaderMap,
    Body(request): Body<CreateSession>,
) -> HandlerResult<Response> {
    let principal = log_in(&app, peer.as_ref().map(|peer| &peer.0), &headers, &request).await?;
    let author = principal.named_author();
    let credential_expires = principal.expires();
    let session = app.create_session(principal).map_err(ErrorResponse)?;
    let cookie = session_cookie(&headers, &session, app.config.network.is_https());
    let expires = Utc::now() + session.lifetime;
    let expires = Some(credential_expires.map_or(expires, |earlier| earlier.min(expires)));
    let answer = BrowserSession { author, key: Some(session.key), expires };
    Ok((StatusCode::CREATED, [(SET_COOKIE, cookie)], Json(answer)).into_response())
}

/// Returns the principal whose token or code a login request contains. An invalid credential counts
/// as a failed login.
async fn log_in(
    app: &App,
    peer: Option<&TcpPeer>,
    headers: &HeaderMap,
    request: &CreateSession,
) -> Result<Principal, ErrorResponse> {
    // Requests on the Unix socket need no token, and have the identity of the owner.
    let Some(peer) = peer else { return Ok(Principal::owner()) };
    let address = client_address(app, peer.address, headers);
    let attempt = LoginAttempt { address, user: None };
    app.logins.check(attempt).map_err(ErrorResponse)?;
    let refused = |message| {
        app.logins.record_failure(attempt);
        not_logged_in(message)
    };
    if let Some(code) = &request.code {
        let principal = app.sessions.redeem(code);
        return principal
            .ok_or_else(|| refused("the login code is invalid, was used before or has expired"));
    }
    if let Some(code) = &request.login {
        let access = app.service.access_control();
        return access.finish_login(code, Some(address)).await.map_err(|problem| {
            if problem.code == ErrorCode::Unauthenticated {
                app.logins.record_failure(attempt);
            }
            ErrorResponse(problem)
        });
    }
    if peer.token.is_none() && !app.service.has_users() {
        return Ok(Principal::owner());
    }
    let shown = request.token.as_deref().unwrap_or("").trim();
    let principal = app.service.authenticate(Credential::Token(shown), Some(address)).await;
    principal.map_err(|problem| match problem.code {
        ErrorCode::Unauthenticated => refused("the token is invalid"),
        _ => ErrorResponse(problem),
    })
}

/// Logs a browser out. Succeeds even if there is no session.
#[utoipa::path(delete, path = "/v1/session",
    operation_id = "delete_session", tag = "session", security(()),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(State(app): State<App>, headers: HeaderMap) -> Response {
    if let Some(shown) = presented_session(&headers) {
        app.sessions.remove(shown);
    }
    (StatusCode::NO_CONTENT, [(SET_COOKIE, expired_cookie(&headers))]).into_response()
}

/// Creates a single-use login code, valid for one minute. A browser that logs in with the code gets
/// the identity of this request.
#[utoipa::path(post, path = "/v1/session/codes",
    operation_id = "create_session_code", tag = "session",
    responses((status = 201, body = SessionCode), (status = "default", body = Problem)))]
async fn create_code(
    State(app): State<App>,
    Caller(principal): Caller,
) -> HandlerResult<(StatusCode, Json<SessionCode>)> {
    let (code, lifetime) = app.sessions.create_code(principal).map_err(no_random)?;
    Ok((StatusCode::CREATED, Json(SessionCode { code, expires: Utc::now() + lifetime })))
}

fn not_logged_in(message: &str) -> ErrorResponse {
    let problem = Problem::new(ErrorCode::Unauthenticated, message);
    ErrorResponse(problem.with_hint(
        "Run `headwater console`, or log in with an access token or the contents of \
         `server.token` in the lake's folder.",
    ))
}

fn no_random(error: std::io::Error) -> ErrorResponse {
    let problem = Problem::new(ErrorCode::Internal, "no random bytes are available");
    ErrorResponse(problem).caused_by(error.to_string())
}
