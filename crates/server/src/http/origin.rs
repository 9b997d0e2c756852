//! Who may speak to the server over TCP: programs on this machine that know its token, and no web
//! page from elsewhere.
//!
//! A page that a browser has open can send requests to a loopback address, and by DNS rebinding
//! even read the answers. So the `Host` header must be a loopback name, and an `Origin`, which
//! browsers add to what pages send, must be the server's own. And a loopback port is open to every
//! program of the machine, so all but the server's health and the description of its API asks for
//! the token. The Unix socket needs none of it: the file system guards it.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use headwater_model::{ErrorCode, Principal, Problem};

use super::failure::Failure;
use crate::iceberg::{self, Refusal};
use crate::token::Token;

/// What anybody may read: it is the same for all, and tells nothing of the lake's tables.
const OPEN: [&str; 2] = ["/health", "/v1/openapi.json"];

/// Marks a request that came over TCP, with the token it must show.
#[derive(Debug, Clone)]
pub struct OverTcp(pub Option<Token>);

/// Marks a request that did not show the token it should, for what anybody may read.
#[derive(Debug, Clone, Copy)]
pub struct Stranger;

/// Refuses what may have been sent by a web page from elsewhere, or by a program that may not read
/// the lake's folder.
pub async fn check(mut request: Request, next: Next) -> Response {
    let Some(OverTcp(token)) = request.extensions().get::<OverTcp>() else {
        // The file system protects the Unix socket.
        request.extensions_mut().insert(Principal::owner());
        return next.run(request).await;
    };
    if let Err(problem) = check_headers(request.uri(), request.headers()) {
        return refuse(request.uri(), problem);
    }
    let shown = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let known = token.as_ref().is_none_or(|token| shown.is_some_and(|it| token.is_shown_by(it)));
    if known {
        request.extensions_mut().insert(Principal::owner());
    } else {
        let path = request.uri().path();
        if !OPEN.contains(&path) && !iceberg::is_token_path(path) {
            return unauthenticated(request.uri(), shown.is_some());
        }
        request.extensions_mut().insert(Stranger);
        request.extensions_mut().insert(Principal::anonymous());
    }
    next.run(request).await
}

/// A problem, in the form that the door it came to has for it.
pub(super) fn refuse(uri: &Uri, problem: Problem) -> Response {
    if iceberg::is_iceberg(uri) {
        return Refusal::from(problem).into_response();
    }
    Failure(problem).into_response()
}

fn unauthenticated(uri: &Uri, shown: bool) -> Response {
    let message =
        if shown { "the token is not this server's" } else { "the request shows no token" };
    let problem = Problem::new(ErrorCode::Unauthenticated, message).with_hint(
        "Send the header `authorization: Bearer TOKEN` with what `server.token` in the lake's \
         folder holds.",
    );
    let scheme = (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"headwater\""));
    ([scheme], refuse(uri, problem)).into_response()
}

fn check_headers(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let host = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or(""),
    };
    if !is_loopback(host) {
        let message = format!("the host `{host}` is not this server's");
        return Err(Problem::new(ErrorCode::Forbidden, message)
            .with_hint("Address the server as `127.0.0.1`, `[::1]` or `localhost`."));
    }
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let own = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
    if own.is_some_and(|origin| origin.eq_ignore_ascii_case(host)) {
        return Ok(());
    }
    let origin = String::from_utf8_lossy(origin.as_bytes());
    let message = format!("a page from `{origin}` may not use this server");
    Err(Problem::new(ErrorCode::Forbidden, message)
        .with_hint("Send the request from a program instead of a web page."))
}

/// Whether `host`, with or without a port, can only mean this machine.
fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<axum::http::uri::Authority>() else { return false };
    let name = authority.host();
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().expect("a header"));
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().expect("a header"));
        }
        check_headers(&Uri::from_static("/v1/query"), &headers).is_ok()
    }

    #[test]
    fn only_loopback_names_are_answered() {
        for host in ["localhost", "LOCALHOST:4280", "127.0.0.1:4280", "127.1.2.3", "[::1]:80"] {
            assert!(check(host, None), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example", "192.168.1.2:4280", "a@b c"] {
            assert!(!check(host, None), "{host}");
        }
    }

    #[test]
    fn only_the_servers_own_pages_are_answered() {
        assert!(check("localhost:4280", Some("http://localhost:4280")));
        for origin in ["https://evil.example", "null", "http://localhost:3000", ""] {
            assert!(!check("localhost:4280", Some(origin)), "{origin}");
        }
    }
}
