//! Bodies: JSON, and what a client can be told when it is not what the specification says. Fields that are
//! not known are passed over, as the specification wants, since clients are newer than servers.

use axum::http::HeaderMap;
use serde::de::DeserializeOwned;

use super::Refusal;
use super::error::Answer;
use crate::http::extract::check_content_type;

/// Reads a body from JSON.
pub fn read<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8]) -> Answer<T> {
    check_content_type(headers)?;
    parse(bytes)
}

/// Reads a body that is known to be JSON.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    let read = serde_json::from_slice(bytes);
    read.map_err(|error| Refusal::invalid(format!("the body cannot be read: {error}")))
}
