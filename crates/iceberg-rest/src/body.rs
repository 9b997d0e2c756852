//! JSON bodies of requests. Unknown fields are ignored, as the specification requires.

use axum::http::HeaderMap;
use headwater_http_request::check_content_type;
use serde::de::DeserializeOwned;

use crate::IcebergError;
use crate::error::HandlerResult;

/// Parses a JSON body.
pub fn parse<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8]) -> HandlerResult<T> {
    check_content_type(headers)?;
    let parsed = serde_json::from_slice(bytes);
    parsed.map_err(|error| IcebergError::invalid(format!("the body cannot be parsed: {error}")))
}
