//! Arrow Flight SQL on the HTTP listener: its route, and logins with a user name and a password.
//!
//! A client with a token sends the token in each request, as over HTTP. A client with a password
//! sends the password once, in the request `Handshake`, and receives the token of a session.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use headwater_flight::{ClientSession, FlightSql, HANDSHAKE_PATH, PATH_PREFIX, SessionToken};
use headwater_model::{Principal, Problem};

use crate::auth::{TcpPeer, check_password, client_address};
use crate::console::PresentedSession;
use crate::host_and_origin::only;
use crate::server_state::App;

/// Prefix of session tokens. The two secrets of the session follow.
const SESSION_PREFIX: &str = "hws_";

/// Returns the routes. An error is only logged, because the server can run without this protocol.
pub fn router(app: &App) -> Router<App> {
    match FlightSql::server(app.service.clone(), &app.config.flight) {
        Ok(server) => Router::new().route_service(&format!("{PATH_PREFIX}{{method}}"), server),
        Err(error) => {
            tracing::error!("Flight SQL is not available: {error}");
            Router::new()
        }
    }
}

/// Returns true if a request path belongs to this protocol.
pub fn contains(path: &str) -> bool {
    path.starts_with(PATH_PREFIX)
}

/// Logs in a client that sends a user name and a password; `None` for other requests. Adds the
/// token of the new session to the request as an extension.
pub async fn log_in(app: &App, request: &mut Request) -> Option<Result<Principal, Problem>> {
    if request.uri().path() != HANDSHAKE_PATH {
        return None;
    }
    let peer = request.extensions().get::<TcpPeer>().cloned()?;
    if peer.token.is_none() && !app.service.has_users() {
        return None;
    }
    let (user, password) = basic(request.headers())?;
    let address = client_address(app, peer.address, request.headers());
    let principal = match check_password(app, &user, &password, address).await {
        Ok(principal) => principal,
        Err(problem) => return Some(Err(problem)),
    };
    Some(app.create_session(principal.clone()).map(|session| {
        let token = format!("{SESSION_PREFIX}{}.{}", session.secret, session.key);
        request.extensions_mut().insert(SessionToken(token));
        principal
    }))
}

/// Returns the session that a token identifies, and its principal.
pub fn of_token(app: &App, token: &str) -> Option<(Principal, ClientSession)> {
    let (secret, key) = token.strip_prefix(SESSION_PREFIX)?.split_once('.')?;
    let shown = PresentedSession { secret, key };
    let principal = app.session_principal(shown)?;
    let session = TokenSession { app: app.clone(), secret: secret.to_owned(), key: key.to_owned() };
    let ended = session.clone();
    let is_open = move || session.app.is_session_open(session.presented_session());
    let end = move || ended.app.sessions.remove(ended.presented_session());
    Some((principal, ClientSession::new(shown.id(), Arc::new(is_open), Arc::new(end))))
}

/// The two secrets of a session, which the session's token contains.
#[derive(Clone)]
struct TokenSession {
    app: App,
    secret: String,
    key: String,
}

impl TokenSession {
    fn presented_session(&self) -> PresentedSession<'_> {
        PresentedSession { secret: &self.secret, key: &self.key }
    }
}

/// Returns the user name and password of `authorization: Basic`.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, value) = only(headers, AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    // Some clients send the padding of the Base64 text, others omit it.
    let value = value.trim();
    let decoded = STANDARD.decode(value).or_else(|_| STANDARD_NO_PAD.decode(value)).ok()?;
    let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_read_with_and_without_padding() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().expect("a value"));
            basic(&headers)
        };
        let expected = Some(("ann".to_owned(), "a:b".to_owned()));
        assert_eq!(read("Basic YW5uOmE6Yg=="), expected);
        assert_eq!(read("basic YW5uOmE6Yg"), expected);
        assert_eq!(read("Bearer YW5uOmE6Yg"), None);
        assert_eq!(read("Basic ?"), None);
    }
}
