//! A request whose signature is valid: its principal, path, query and body.

use bytes::Bytes;
use headwater_model::Principal;
use http::HeaderMap;
use serde::de::DeserializeOwned;

use crate::error::{LambdaError, Result};
use crate::function_name::FunctionName;

/// A request to Lambda's API whose signature is valid.
pub(crate) struct LambdaRequest {
    pub principal: Principal,
    /// The scheme of the request: `http` or `https`.
    pub scheme: &'static str,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl LambdaRequest {
    /// Returns the first value of a query parameter; `None` if it is absent or empty.
    pub fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Returns the name of a function with the qualifier of the query.
    pub fn qualified(&self, name: FunctionName) -> Result<FunctionName> {
        name.qualified(self.query("Qualifier"))
    }

    /// Returns the value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Parses the body; an empty body is an empty object.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        let body: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        serde_json::from_slice(body).map_err(|error| {
            let message = format!("Could not parse request body into json: {error}");
            LambdaError::new(400, "InvalidRequestContentException", message)
        })
    }
}

/// Splits and decodes a query.
pub(crate) fn parse_query(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let split = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(&key.replace('+', " ")), decode(&value.replace('+', " ")))
    };
    pairs.map(split).collect()
}

/// Decodes percent-encoded text. Invalid sequences are kept unchanged.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            decoded.push(byte);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
