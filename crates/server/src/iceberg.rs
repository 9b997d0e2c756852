//! The Iceberg REST catalog on the HTTP listener, and OAuth tokens for its clients.
//!
//! The client id is the name of a user, and the client secret is one of the user's tokens. The
//! response to a token request contains this same token. With the server's token as the secret, the
//! client acts as the owner. Clients send both values in the body or in an HTTP Basic header.

use std::net::IpAddr;

use axum::extract::{DefaultBodyLimit, Extension, Query, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use headwater_iceberg_rest::{IcebergError, ROOT, TOKENS};
use headwater_model::{ErrorCode, Principal, Problem};
use headwater_service::{Credential, LoginAttempt};
use serde::Deserialize;
use serde_json::json;

use crate::auth::{TcpPeer, client_address, is_user_token};
use crate::server_state::App;

/// Maximum length of a request for a token, in bytes. The limit is low, because any client may send
/// a token request.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The placeholder that is returned as the token if the server needs no token.
const NONE: &str = "none";

const INVALID_SECRET: &str = "the client's secret is not a valid token of this client";

/// Returns the routes of the Iceberg REST catalog, whose paths begin with [`ROOT`].
pub fn router(app: &App) -> Router<App> {
    let tokens: MethodRouter<App> = post(exchange).layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let tokens = tokens.with_state(app.clone());
    headwater_iceberg_rest::router(tokens).with_state(app.service.clone())
}

/// Returns true if a path is a token endpoint. Requests to these paths need no token.
pub fn is_token_path(path: &str) -> bool {
    let rest = path.strip_prefix(ROOT).and_then(|rest| rest.strip_suffix(TOKENS));
    rest.is_some_and(|rest| rest.is_empty() || rest.rfind('/') == Some(0))
}

/// A request for a token.
#[derive(Deserialize)]
struct TokenRequest {
    grant_type: String,
    client_id: Option<String>,
    client_secret: Option<String>,
    subject_token: Option<String>,
}

/// Returns the token that a client sends as its secret, in the body or in an HTTP Basic header (RFC
/// 6749, 2.3.1).
async fn exchange(
    State(app): State<App>,
    peer: Option<Extension<TcpPeer>>,
    headers: HeaderMap,
    body: String,
) -> Response {
    // Parse the form as the query of a URL, because both have the same syntax.
    let form = format!("/?{}", body.trim()).parse::<Uri>().ok();
    let request = form.and_then(|form| Query::<TokenRequest>::try_from_uri(&form).ok());
    let Some(Query(request)) = request else {
        return refuse("invalid_request", "the body is not a form with a `grant_type`");
    };
    let client = match request.grant_type.as_str() {
        "client_credentials" => request
            .client_secret
            .map(|secret| (request.client_id.unwrap_or_default(), secret))
            .or_else(|| basic_client(&headers)),
        "urn:ietf:params:oauth:grant-type:token-exchange" => {
            request.subject_token.map(|token| (String::new(), token))
        }
        _ => {
            return refuse("unsupported_grant_type", "the grant type must be `client_credentials`");
        }
    };
    let (id, secret) = client.unwrap_or_default();
    // Requests over the Unix socket, and over listeners without authentication, need no token.
    let needs_token = peer
        .as_ref()
        .is_some_and(|Extension(peer)| peer.token.is_some() || app.service.has_users());
    let address = peer.map(|Extension(peer)| client_address(&app, peer.address, &headers));
    if (needs_token || is_user_token(&secret))
        && let Err(problem) = authenticate(&app, &id, &secret, address).await
    {
        return match (problem.code, address) {
            (ErrorCode::Unauthenticated, Some(address)) => {
                refuse_secret(&app, LoginAttempt { address, user: None })
            }
            (ErrorCode::Unauthenticated, None) => refuse("invalid_client", INVALID_SECRET),
            _ => IcebergError::from(problem).into_response(),
        };
    }
    let token = if secret.is_empty() { NONE } else { &secret };
    Json(json!({
        "access_token": token,
        "token_type": "bearer",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    }))
    .into_response()
}

/// Authenticates a client. Without a client id, the token alone identifies the user.
async fn authenticate(
    app: &App,
    id: &str,
    secret: &str,
    address: Option<IpAddr>,
) -> Result<Principal, Problem> {
    let credential = if is_user_token(secret) && !id.is_empty() {
        Credential::Password { user: id, password: secret }
    } else {
        Credential::Token(secret)
    };
    app.service.authenticate(credential, address).await
}

/// Parses the client's id and secret from an HTTP Basic header: the base64 of both values, each
/// form-encoded, joined by a colon.
fn basic_client(headers: &HeaderMap) -> Option<(String, String)> {
    let shown = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = shown.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = BASE64.decode(encoded.trim()).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    let (id, secret) = pair.split_once(':')?;
    Some((decode_form(id), decode_form(secret)))
}

/// Decodes a form value. A value with an invalid encoding is returned unchanged.
fn decode_form(value: &str) -> String {
    #[derive(Deserialize)]
    struct Form {
        value: String,
    }
    let form = format!("/?value={value}").parse::<Uri>().ok();
    let form = form.and_then(|form| Query::<Form>::try_from_uri(&form).ok());
    form.map_or_else(|| value.to_owned(), |Query(form)| form.value)
}

/// Returns the response for an invalid secret, and records a failed login.
fn refuse_secret(app: &App, attempt: LoginAttempt<'_>) -> Response {
    if let Err(problem) = app.logins.check(attempt) {
        return IcebergError::from(problem).into_response();
    }
    app.logins.record_failure(attempt);
    refuse("invalid_client", INVALID_SECRET)
}

fn refuse(error: &str, description: &str) -> Response {
    let status = match error {
        "invalid_client" => StatusCode::UNAUTHORIZED,
        _ => StatusCode::BAD_REQUEST,
    };
    let body = Json(json!({"error": error, "error_description": description}));
    let mut response = (status, body).into_response();
    if status == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Basic realm=\"headwater\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_from_basic_authentication() {
        for (shown, secret) in [
            ("Basic eDpzM2NyZXQ=", Some("s3cret")),
            ("basic eDpzM2NyZXQ=", Some("s3cret")),
            // Base64 of the form-encoded text `a%2Fb+c:d%3Ae`.
            ("Basic YSUyRmIrYzpkJTNBZQ==", Some("d:e")),
            ("Basic eA==", None),
            ("Basic !", None),
            ("Bearer eDpzM2NyZXQ=", None),
        ] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(shown))]);
            let found = basic_client(&headers).map(|(_, secret)| secret);
            assert_eq!(found.as_deref(), secret, "{shown}");
        }
        assert_eq!(basic_client(&HeaderMap::new()), None);
    }

    #[test]
    fn only_the_paths_for_tokens_are_public() {
        for path in ["/iceberg/v1/oauth/tokens", "/iceberg/dev/v1/oauth/tokens"] {
            assert!(is_token_path(path), "{path}");
        }
        for path in [
            "/iceberg/v1/config",
            "/v1/oauth/tokens",
            "/iceberg/a/b/v1/oauth/tokens",
            "/iceberg/v1/oauth/tokens/",
            "/icebergs/v1/oauth/tokens",
        ] {
            assert!(!is_token_path(path), "{path}");
        }
    }
}
