//! Authentication of requests over TCP.
//!
//! Every program on the machine can connect to a loopback port, and other machines can connect to a
//! public port. Therefore every path that is not public requires a token, or the session of a
//! browser that logged in with a token. The Unix socket requires neither, because file permissions
//! protect it.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use headwater_model::{AuthMethod, ErrorCode, Principal, Problem};
use headwater_service::{Credential, LoginAttempt, is_jwt};

use crate::console::presented_session;
use crate::flight;
use crate::host_and_origin::only;
use crate::local_tcp_token::LocalTcpToken;
use crate::request_protocol::{error_response, is_public};
use crate::server_state::App;

/// Header with the addresses of the client and of the proxies through which the request came, the
/// nearest one last.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Prefix of access tokens.
const ACCESS_TOKEN_PREFIX: &str = "hwp_";

/// Returns true if a string has the form of an access token or of a token of an OpenID provider.
/// The owner's token has a different form.
pub fn is_user_token(text: &str) -> bool {
    text.starts_with(ACCESS_TOKEN_PREFIX) || is_jwt(text)
}

/// Request extension for requests received over TCP.
#[derive(Debug, Clone)]
pub struct TcpPeer {
    /// The address of the client, or of the proxy in front of it.
    pub address: SocketAddr,
    /// The server's token, which the request must contain; `None` if requests need no token.
    pub token: Option<LocalTcpToken>,
}

/// Request extension for requests to a public path without a valid token.
#[derive(Debug, Clone, Copy)]
pub struct Unauthenticated;

/// Adds the [`Principal`] to a request, or rejects it.
pub async fn authenticate(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<TcpPeer>().cloned();
    let address = peer.as_ref().map(|peer| client_address(&app, peer.address, request.headers()));
    if let Some(principal) = peer.as_ref().and_then(|_| of_session(&app, request.headers())) {
        request.extensions_mut().insert(principal.with_address(address));
        return next.run(request).await;
    }
    if let Some(logged_in) = flight::log_in(&app, &mut request).await {
        return match logged_in {
            Ok(principal) => {
                request.extensions_mut().insert(principal.with_address(address));
                next.run(request).await
            }
            Err(problem) => error_response(request.uri(), problem),
        };
    }
    let shown = bearer(request.headers());
    let is_flight = peer.is_some() && flight::contains(request.uri().path());
    let session = shown.filter(|_| is_flight).and_then(|token| flight::of_token(&app, token));
    if let Some((principal, session)) = session {
        request.extensions_mut().insert(principal.with_address(address));
        request.extensions_mut().insert(session);
        return next.run(request).await;
    }
    match identify(&app, peer.as_ref(), shown, address).await {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(problem) if problem.code != ErrorCode::Unauthenticated => {
            error_response(request.uri(), problem)
        }
        Err(_) if is_public(request.uri().path()) => {
            request.extensions_mut().insert(Unauthenticated);
            request.extensions_mut().insert(Principal::anonymous());
            next.run(request).await
        }
        Err(_) => {
            let has_header = request.headers().contains_key(AUTHORIZATION);
            match refusal(&app, address, has_header) {
                problem if problem.code == ErrorCode::Unauthenticated => {
                    unauthenticated(request.uri(), problem)
                }
                problem => error_response(request.uri(), problem),
            }
        }
    }
}

/// Returns the address of the client. Behind a proxy, returns the address reported by the proxy.
pub fn client_address(app: &App, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
    let forwarded = headers.get_all(FORWARDED_FOR).iter().next_back();
    let forwarded = forwarded.filter(|_| app.config.network.behind_proxy);
    let nearest = forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next());
    nearest.and_then(|address| address.trim().parse().ok()).unwrap_or(peer.ip())
}

/// Returns the error for a request without a valid token. An invalid token counts as a failed
/// login. Failed logins over the Unix socket are not counted, because requests over the socket have
/// no address.
fn refusal(app: &App, address: Option<IpAddr>, has_header: bool) -> Problem {
    if let Some(address) = address.filter(|_| has_header) {
        let attempt = LoginAttempt { address, user: None };
        if let Err(problem) = app.logins.check(attempt) {
            return problem;
        }
        app.logins.record_failure(attempt);
    }
    let message = if has_header { "the token is invalid" } else { "the request has no token" };
    Problem::new(ErrorCode::Unauthenticated, message).with_hint(
        "Send the header `authorization: Bearer TOKEN` with an access token, or the contents of \
         `server.token` in the lake's folder.",
    )
}

/// Checks a user's password or access token, or the server's token, which is valid with any user
/// name. A wrong password counts as a failed login.
pub async fn check_password(
    app: &App,
    user: &str,
    password: &str,
    address: IpAddr,
) -> Result<Principal, Problem> {
    let attempt = LoginAttempt { address, user: Some(user) };
    app.logins.check(attempt)?;
    let credential = Credential::Password { user, password };
    match app.service.authenticate(credential, Some(address)).await {
        // Concurrent guesses pass the first check before the first of them has failed.
        Ok(principal) if principal.method() == AuthMethod::Password => {
            app.logins.check(attempt).map(|()| principal)
        }
        Err(problem) if problem.code == ErrorCode::Unauthenticated => {
            app.logins.record_failure(attempt);
            let message = format!("the password of user `{user}` is wrong");
            Err(Problem::new(ErrorCode::Unauthenticated, message).with_hint(
                "Send the user's password or access token. The contents of `server.token` in the \
                 lake's folder are valid with any user name. A disabled user cannot log in until \
                 an administrator enables it.",
            ))
        }
        other => other,
    }
}

/// Returns the principal of the console session, which the cookie and the header of a request
/// identify.
fn of_session(app: &App, headers: &HeaderMap) -> Option<Principal> {
    app.session_principal(presented_session(headers)?)
}

/// Returns the principal of a request. On the Unix socket the principal is the owner, unless the
/// request contains a user's token. On a TCP listener without authentication the principal is the
/// owner until the first user is created.
async fn identify(
    app: &App,
    peer: Option<&TcpPeer>,
    shown: Option<&str>,
    address: Option<IpAddr>,
) -> Result<Principal, Problem> {
    let Some(peer) = peer else {
        return match shown.filter(|token| is_user_token(token)) {
            Some(token) => app.service.authenticate(Credential::Token(token), None).await,
            None => Ok(Principal::owner()),
        };
    };
    let is_open = peer.token.is_none() && !app.service.has_users();
    match shown {
        _ if is_open => Ok(Principal::owner().with_address(address)),
        Some(token) => app.service.authenticate(Credential::Token(token), address).await,
        None => Err(Problem::new(ErrorCode::Unauthenticated, "the request has no credential")),
    }
}

/// Returns the token from the header `authorization: Bearer TOKEN`; `None` if the header is sent
/// more than once.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = only(headers, AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthenticated(uri: &Uri, problem: Problem) -> Response {
    let scheme = (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"headwater\""));
    ([scheme], error_response(uri, problem)).into_response()
}
