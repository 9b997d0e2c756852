//! Authentication of requests over TCP.
//!
//! A web page can send requests to a loopback address and, by DNS rebinding, read the responses. So
//! the `Host` header must be a loopback name, and an `Origin`, which browsers send with requests of
//! pages, must be the server's own. Every program of the machine can connect to a loopback port, so
//! every path that is not public needs the token. The file system protects the Unix socket, which
//! needs neither.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use headwater_model::{ErrorCode, Principal, Problem};

use crate::protocol::{error_response, is_public};
use crate::token::Token;

/// Marks a request over TCP, with the token that it needs, if any.
#[derive(Debug, Clone)]
pub struct TcpPeer(pub Option<Token>);

/// Marks a request to a public path without a valid token.
#[derive(Debug, Clone, Copy)]
pub struct Unauthenticated;

/// Adds the [`Principal`] to a request, or rejects it.
pub async fn authenticate(mut request: Request, next: Next) -> Response {
    let Some(TcpPeer(token)) = request.extensions().get::<TcpPeer>() else {
        request.extensions_mut().insert(Principal::owner());
        return next.run(request).await;
    };
    if let Err(problem) = check_headers(request.uri(), request.headers()) {
        return error_response(request.uri(), problem);
    }
    let header = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let is_valid =
        token.as_ref().is_none_or(|token| header.is_some_and(|it| token.is_shown_by(it)));
    if is_valid {
        request.extensions_mut().insert(Principal::owner());
    } else {
        if !is_public(request.uri().path()) {
            return unauthenticated(request.uri(), header.is_some());
        }
        request.extensions_mut().insert(Unauthenticated);
        request.extensions_mut().insert(Principal::anonymous());
    }
    next.run(request).await
}

fn unauthenticated(uri: &Uri, has_header: bool) -> Response {
    let message = if has_header { "the token is invalid" } else { "the request has no token" };
    let problem = Problem::new(ErrorCode::Unauthenticated, message).with_hint(
        "Send the header `authorization: Bearer TOKEN` with the contents of `server.token` in the \
         lake's folder.",
    );
    let scheme = (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"headwater\""));
    ([scheme], error_response(uri, problem)).into_response()
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

/// Returns true if a host, with or without a port, is a loopback name or address.
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
    fn only_loopback_hosts_are_accepted() {
        for host in ["localhost", "LOCALHOST:4280", "127.0.0.1:4280", "127.1.2.3", "[::1]:80"] {
            assert!(check(host, None), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example", "192.168.1.2:4280", "a@b c"] {
            assert!(!check(host, None), "{host}");
        }
    }

    #[test]
    fn only_the_servers_own_origin_is_accepted() {
        assert!(check("localhost:4280", Some("http://localhost:4280")));
        for origin in ["https://evil.example", "null", "http://localhost:3000", ""] {
            assert!(!check("localhost:4280", Some(origin)), "{origin}");
        }
    }
}
