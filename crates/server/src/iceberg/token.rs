//! Tokens: what clients that speak OAuth ask for before anything else.
//!
//! The secret of a client is the server's token, and so is what it gets for it: the file in the lake's
//! folder that holds the token says who may come in, here as everywhere.

use axum::Json;
use axum::extract::{Extension, Query};
use axum::http::StatusCode;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::ROOT;
use crate::http::origin::OverTcp;

/// The end of the addresses that hand out tokens, which show none.
const PATH: &str = "/v1/oauth/tokens";

/// What is handed out where no token is asked for.
const NONE: &str = "none";

/// Whether an address hands out tokens.
pub(crate) fn is_token_path(path: &str) -> bool {
    let rest = path.strip_prefix(ROOT).and_then(|rest| rest.strip_suffix(PATH));
    rest.is_some_and(|rest| rest.is_empty() || rest.rfind('/') == Some(0))
}

/// A request for a token.
#[derive(Deserialize)]
pub struct Asked {
    grant_type: String,
    client_secret: Option<String>,
    subject_token: Option<String>,
}

/// Hands out the server's token to a client that knows it.
pub async fn exchange(over: Option<Extension<OverTcp>>, body: String) -> Response {
    // A form has the shape of a query.
    let form = format!("/?{}", body.trim()).parse::<Uri>().ok();
    let asked = form.and_then(|form| Query::<Asked>::try_from_uri(&form).ok());
    let Some(Query(asked)) = asked else {
        return refuse("invalid_request", "the body is no form with a `grant_type`");
    };
    let shown = match asked.grant_type.as_str() {
        "client_credentials" => asked.client_secret,
        "urn:ietf:params:oauth:grant-type:token-exchange" => asked.subject_token,
        _ => return refuse("unsupported_grant_type", "the grant is `client_credentials`"),
    };
    let token = over.and_then(|Extension(OverTcp(token))| token);
    let shown = shown.unwrap_or_default();
    if token.is_some_and(|token| !token.equals(shown.as_bytes())) {
        return refuse("invalid_client", "the client's secret is not the server's token");
    }
    let token = if shown.is_empty() { NONE } else { &shown };
    Json(json!({
        "access_token": token,
        "token_type": "bearer",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    }))
    .into_response()
}

fn refuse(error: &str, description: &str) -> Response {
    let status = match error {
        "invalid_client" => StatusCode::UNAUTHORIZED,
        _ => StatusCode::BAD_REQUEST,
    };
    let body = Json(json!({"error": error, "error_description": description}));
    (status, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_addresses_of_tokens_are_open() {
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
