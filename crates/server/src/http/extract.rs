//! Extractors of handlers. A request that cannot be parsed results in an [`ErrorResponse`]; unknown
//! fields and parameters are errors.

use std::collections::BTreeMap;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use bytes::Bytes;
use headwater_http_request::{body_error, check_content_type, principal};
use headwater_model::{Principal, RefSpec, Timestamp, field_names};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::error::{ErrorResponse, HandlerResult};

/// The principal of a request.
#[derive(Debug, Clone)]
pub struct Caller(pub Principal);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> HandlerResult<Self> {
        Ok(Caller(principal(parts)?))
    }
}

/// The variable segments of the path, percent-decoded.
pub struct Segments<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> HandlerResult<Self> {
        let path: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.map(|Path(value)| Segments(value)).map_err(|rejection| {
            ErrorResponse::invalid(
                format!("the path `{}` cannot be parsed: {rejection}", parts.uri.path()),
                "Percent-encode names as UTF-8.",
            )
        })
    }
}

/// The parameters of the query string.
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> HandlerResult<Self> {
        let query: Result<axum::extract::Query<T>, _> =
            axum::extract::Query::try_from_uri(&parts.uri);
        query.map(|query| Parameters(query.0)).map_err(|rejection| {
            let reason = std::error::Error::source(&rejection)
                .map_or_else(|| rejection.to_string(), ToString::to_string);
            ErrorResponse::invalid(
                format!("the parameters `{}` are invalid", parts.uri.query().unwrap_or("")),
                "See the parameters of this path in `/v1/openapi.json`.",
            )
            .caused_by(reason)
        })
    }
}

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned + Serialize, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ErrorResponse;

    async fn from_request(request: Request, state: &S) -> HandlerResult<Self> {
        check_content_type(request.headers())?;
        let bytes =
            Bytes::from_request(request, state).await.map_err(|error| body_error(&error))?;
        parse_body(&bytes).map(Body)
    }
}

/// Parses JSON. A field that `T` does not have is an error.
pub(super) fn parse_body<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> HandlerResult<T> {
    let invalid = |error: serde_json::Error| {
        ErrorResponse::invalid(
            "the body cannot be parsed",
            "See the schema of the body in `/v1/openapi.json`.",
        )
        .caused_by(error.to_string())
    };
    let value: T = serde_json::from_slice(bytes).map_err(invalid)?;
    // Parse the body again only for the names of its fields, because it may contain a whole
    // project.
    #[expect(clippy::zero_sized_map_values, reason = "a set has no skipped values to parse")]
    let sent = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(bytes);
    let Ok(sent) = sent else { return Ok(value) };
    let known = known_fields(&value).map_err(invalid)?;
    if let Some(unknown) = sent.keys().find(|field| !known.contains(field)) {
        let fields: Vec<_> = known.iter().map(|field| format!("`{field}`")).collect();
        let hint = format!("Use the fields {}.", fields.join(", "));
        let message = format!("the body has an unknown field `{unknown}`");
        return Err(ErrorResponse::invalid(message, hint));
    }
    Ok(value)
}

/// Returns the fields that a type accepts. If a type has flattened fields, its implementation of
/// `Deserialize` does not reveal their names. In this case, returns the fields of the serialized
/// `value`.
fn known_fields<T: DeserializeOwned + Serialize>(value: &T) -> serde_json::Result<Vec<String>> {
    if let Some(names) = field_names::<T>() {
        return Ok(names.iter().map(|&name| name.to_owned()).collect());
    }
    let known = serde_json::to_value(value)?;
    Ok(known.as_object().into_iter().flat_map(|fields| fields.keys().cloned()).collect())
}

/// Parses a ref.
pub fn parse_ref(text: &str) -> HandlerResult<RefSpec> {
    Ok(text.parse::<RefSpec>()?)
}

/// Parses an enum value, such as a job kind. Error messages name the value by `noun`, such as
/// `status`.
pub fn parse_word<T: DeserializeOwned>(text: &str, noun: &str) -> HandlerResult<T> {
    let value = serde_json::Value::String(text.to_owned());
    serde_json::from_value(value).map_err(|error| {
        let message = format!("`{text}` is not a {noun}");
        let reason = error.to_string();
        // The error of serde ends with `unknown variant ..., expected one of ...`.
        let hint = match reason.rsplit_once(", expected ") {
            Some((_, accepted)) => format!("Write {accepted}."),
            None => "See the accepted values in `/v1/openapi.json`.".to_owned(),
        };
        ErrorResponse::invalid(message, hint).caused_by(reason)
    })
}

/// Parses enum values separated by commas.
pub fn parse_words<T: DeserializeOwned>(text: Option<&str>, noun: &str) -> HandlerResult<Vec<T>> {
    let words = text.unwrap_or("").split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| parse_word(word, noun)).collect()
}

/// Parses a time in RFC 3339 format, or a date, which means midnight UTC.
pub fn parse_time(text: &str) -> HandlerResult<Timestamp> {
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let date = text.parse::<chrono::NaiveDate>().ok();
    let midnight = date.and_then(|date| date.and_hms_opt(0, 0, 0)).map(|time| time.and_utc());
    midnight.ok_or_else(|| {
        ErrorResponse::invalid(
            format!("`{text}` is not a time"),
            "Write the time as `2026-01-31` or `2026-01-31T12:00:00Z`, with `+` percent-encoded.",
        )
    })
}

#[cfg(test)]
mod tests {
    use headwater_model::QueryRequest;

    use super::*;

    #[test]
    fn a_wrong_word_has_a_hint_with_the_accepted_words() {
        let error = parse_words::<headwater_model::TriggerEventStatus>(Some("done,fail"), "status");
        let error = error.expect_err("`fail` is not a status");
        let hint = "Write one of `pending`, `running`, `done`, `failed`.";
        assert_eq!(error.0.hint.as_deref(), Some(hint));
    }

    #[test]
    fn an_unknown_field_is_named() {
        let error = parse_body::<QueryRequest>(br#"{"sql": "SELECT 1", "reff": "main"}"#);
        let problem = error.expect_err("an unknown field").0;
        assert_eq!(problem.message, "the body has an unknown field `reff`");
        assert!(problem.hint.expect("a hint").contains("`ref`"));
        assert!(parse_body::<QueryRequest>(br#"{"sql": "SELECT 1", "ref": "dev"}"#).is_ok());
    }

    #[test]
    fn times_are_dates_or_rfc_3339() {
        for text in ["2026-01-31", "2026-01-31T00:00:00Z", "2026-01-31T01:00:00+01:00"] {
            let time = parse_time(text).expect("a time");
            assert_eq!(time.to_rfc3339(), "2026-01-31T00:00:00+00:00");
        }
        assert!(parse_time("yesterday").is_err());
    }
}
