//! Authentication of requests over TCP.
//!
//! Every program of the machine can connect to a loopback port, and other machines to a public one,
//! so every path that is not public needs a token, or the session of a browser that has shown it.
//! The file system protects the Unix socket, which needs neither.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use headwater_model::{ErrorCode, Principal, Problem};

use crate::console::shown_session;
use crate::login_limit::LoginAttempt;
use crate::protocol::{error_response, is_public};
use crate::state::App;
use crate::token::Token;

/// Header with the addresses that a request passed, the nearest one last.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Marks a request over TCP, with the token that it needs, if any.
#[derive(Debug, Clone)]
pub struct TcpPeer {
    /// The client's address, or its proxy's.
    pub address: SocketAddr,
    /// The server's token; None if requests need none.
    pub token: Option<Token>,
}

/// Marks a request to a public path without a valid token.
#[derive(Debug, Clone, Copy)]
pub struct Unauthenticated;

/// Adds the [`Principal`] to a request, or rejects it.
pub async fn authenticate(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let Some(TcpPeer { address, token }) = request.extensions().get::<TcpPeer>() else {
        request.extensions_mut().insert(Principal::owner());
        return next.run(request).await;
    };
    let header = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let is_valid =
        token.as_ref().is_none_or(|token| header.is_some_and(|it| token.is_shown_by(it)));
    let session = shown_session(request.headers()).and_then(|it| app.sessions.principal(it));
    if let Some(principal) = is_valid.then(Principal::owner).or(session) {
        request.extensions_mut().insert(principal);
        return next.run(request).await;
    }
    if is_public(request.uri().path()) {
        request.extensions_mut().insert(Unauthenticated);
        request.extensions_mut().insert(Principal::anonymous());
        return next.run(request).await;
    }
    let address = client_address(&app, *address, request.headers());
    match refusal(&app, address, header.is_some()) {
        problem if problem.code == ErrorCode::Unauthenticated => {
            unauthenticated(request.uri(), problem)
        }
        problem => error_response(request.uri(), problem),
    }
}

/// Returns the address of the client: behind a proxy the one that the proxy reports.
pub fn client_address(app: &App, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
    let forwarded = headers.get_all(FORWARDED_FOR).iter().next_back();
    let forwarded = forwarded.filter(|_| app.config.network.behind_proxy);
    let nearest = forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next());
    nearest.and_then(|address| address.trim().parse().ok()).unwrap_or(peer.ip())
}

/// Returns the error of a request without a valid token. An invalid token counts as a failed login.
fn refusal(app: &App, address: IpAddr, has_header: bool) -> Problem {
    let attempt = LoginAttempt { address, user: None };
    if has_header {
        if let Err(problem) = app.logins.check(attempt) {
            return problem;
        }
        app.logins.record_failure(attempt);
    }
    let message = if has_header { "the token is invalid" } else { "the request has no token" };
    Problem::new(ErrorCode::Unauthenticated, message).with_hint(
        "Send the header `authorization: Bearer TOKEN` with the contents of `server.token` in the \
         lake's folder.",
    )
}

fn unauthenticated(uri: &Uri, problem: Problem) -> Response {
    let scheme = (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"headwater\""));
    ([scheme], error_response(uri, problem)).into_response()
}
