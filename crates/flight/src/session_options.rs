//! The options of a client's session: `catalog`, the ref, and `schema`, the namespace.
//!
//! The server does not store the options. It returns them as cookies, which the client sends with
//! each further request. This also works for clients without a session token. The headers of a
//! request take precedence.

use std::collections::HashMap;

use headwater_service::Service;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use prost::Message;
use tonic::Status;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::caller::{Caller, parse_ref};
use crate::flight_sql::malformed;

/// The options of a session: each with its name and the name of its cookie.
const CATALOG: (&str, &str) = ("catalog", "headwater-ref");
const SCHEMA: (&str, &str) = ("schema", "headwater-namespace");

/// The header that sets a cookie, and the header with the cookies of a request.
const SET_COOKIE: &str = "set-cookie";
const COOKIE: &str = "cookie";

/// Reasons why an option was not set.
const INVALID_NAME: i32 = 1;
const INVALID_VALUE: i32 = 2;

/// A request to set options. The crate `arrow-flight` does not define the messages for session
/// options.
#[derive(Clone, PartialEq, Message)]
struct SetSessionOptionsRequest {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, SessionOptionValue>,
}

/// The value of an option. Only text is decoded.
#[derive(Clone, PartialEq, Message)]
struct SessionOptionValue {
    #[prost(string, optional, tag = "1")]
    string_value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct SetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    errors: HashMap<String, OptionError>,
}

#[derive(Clone, PartialEq, Message)]
struct OptionError {
    #[prost(int32, tag = "1")]
    value: i32,
}

#[derive(Clone, PartialEq, Message)]
struct GetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, SessionOptionValue>,
}

/// Sets options. Returns the result, and adds the cookies to the metadata of the response. An empty
/// value resets an option.
pub async fn set(
    service: &Service,
    caller: &Caller,
    request: &[u8],
    response: &mut MetadataMap,
) -> Result<Vec<u8>, Status> {
    let request = SetSessionOptionsRequest::decode(request).map_err(malformed)?;
    let mut errors = HashMap::new();
    for (name, value) in request.session_options {
        let value = value.string_value.unwrap_or_default();
        let cookie = match name.as_str() {
            name if name == CATALOG.0 => Some(CATALOG.1),
            name if name == SCHEMA.0 => Some(SCHEMA.1),
            _ => None,
        };
        let is_valid =
            name != CATALOG.0 || value.is_empty() || is_ref(service, caller, &value).await;
        let set = cookie.filter(|_| is_valid).and_then(|cookie| {
            let value = utf8_percent_encode(&value, NON_ALPHANUMERIC);
            format!("{cookie}={value}").parse::<MetadataValue<_>>().ok()
        });
        if let Some(set) = set {
            response.append(SET_COOKIE, set);
        } else {
            let value = if cookie.is_none() { INVALID_NAME } else { INVALID_VALUE };
            errors.insert(name, OptionError { value });
        }
    }
    Ok(SetSessionOptionsResult { errors }.encode_to_vec())
}

/// Returns the options of a client.
pub fn get(caller: &Caller) -> Vec<u8> {
    let value = |value: String| SessionOptionValue { string_value: Some(value) };
    let catalog = (CATALOG.0.to_owned(), value(caller.reference.to_string()));
    let schema = caller.namespace.clone().map(|name| (SCHEMA.0.to_owned(), value(name)));
    GetSessionOptionsResult { session_options: [catalog].into_iter().chain(schema).collect() }
        .encode_to_vec()
}

async fn is_ref(service: &Service, caller: &Caller, name: &str) -> bool {
    match parse_ref(name) {
        Ok(reference) => service.refs().resolve(&caller.principal, &reference).await.is_ok(),
        Err(_) => false,
    }
}

/// Returns the ref in the cookies of a request.
pub fn reference(metadata: &MetadataMap) -> Option<String> {
    cookie(metadata, CATALOG.1)
}

/// Returns the namespace in the cookies of a request.
pub fn namespace(metadata: &MetadataMap) -> Option<String> {
    cookie(metadata, SCHEMA.1)
}

fn cookie(metadata: &MetadataMap, wanted: &str) -> Option<String> {
    let headers = metadata.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
    let cookies = headers.flat_map(|header| header.split(';'));
    let mut values = cookies.filter_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        (name == wanted).then(|| value.trim_matches('"'))
    });
    let value = percent_decode_str(values.next()?).decode_utf8().ok()?;
    Some(value.into_owned()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_contain_the_ref_and_the_namespace() {
        let mut metadata = MetadataMap::new();
        metadata.append(COOKIE, "other=1; headwater-ref=\"a%2Fb\"".parse().expect("a header"));
        metadata.append(COOKIE, "headwater-namespace=".parse().expect("a header"));
        assert_eq!(reference(&metadata).as_deref(), Some("a/b"));
        assert_eq!(namespace(&metadata), None);
    }
}
