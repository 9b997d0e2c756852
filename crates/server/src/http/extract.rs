//! What handlers take from a request. Whatever cannot be read is a [`Failure`] that says what is
//! wrong with it; no field or parameter that nobody knows is passed over in silence.

use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use headwater_model::{AUTHOR_BYTES_MAX, ErrorCode, Principal, Problem};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::failure::Failure;

/// The header with the author; a field of the request overrides it.
pub const AUTHOR_HEADER: &str = "x-headwater-author";

/// The principal of a request: the lake's owner, the only identity that the listeners accept, with the
/// author that the header names.
#[derive(Debug, Clone)]
pub struct Caller(pub Principal);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let owner = parts.extensions.get::<Principal>().cloned();
        let owner = owner.ok_or_else(|| {
            Failure(Problem::new(ErrorCode::Unauthenticated, "the request has no identity"))
        })?;
        let Some(value) = parts.headers.get(AUTHOR_HEADER) else { return Ok(Caller(owner)) };
        match std::str::from_utf8(value.as_bytes()) {
            Ok(author) if author.len() <= AUTHOR_BYTES_MAX => {
                Ok(Caller(owner.with_author(Some(author.to_owned()))))
            }
            _ => Err(Failure::invalid(
                format!("header `{AUTHOR_HEADER}` cannot be used"),
                "Send UTF-8 text of at most 200 bytes.",
            )),
        }
    }
}

/// The parts of the path that stand for names, percent-decoded.
pub struct Segments<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.map(|Path(value)| Segments(value)).map_err(|rejection| {
            Failure::invalid(
                format!("the path `{}` cannot be read: {rejection}", parts.uri.path()),
                "Percent-encode names as UTF-8.",
            )
        })
    }
}

/// The parameters after `?`.
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let query: Result<axum::extract::Query<T>, _> =
            axum::extract::Query::try_from_uri(&parts.uri);
        query.map(|query| Parameters(query.0)).map_err(|rejection| {
            let reason = std::error::Error::source(&rejection)
                .map_or_else(|| rejection.to_string(), ToString::to_string);
            Failure::invalid(
                format!("the parameters `{}` cannot be used", parts.uri.query().unwrap_or("")),
                "See the parameters of this address in `/v1/openapi.json`.",
            )
            .because(reason)
        })
    }
}

/// The body, read from JSON.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned + Serialize, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        check_content_type(request.headers())?;
        let bytes = Bytes::from_request(request, state).await.map_err(|error| too_long(&error))?;
        parse(&bytes).map(Body)
    }
}

/// Only JSON is taken, so that no web page can send a form here unasked.
pub(crate) fn check_content_type(headers: &HeaderMap) -> Result<(), Failure> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if essence == "application/json" || essence.ends_with("+json") {
        return Ok(());
    }
    Err(Failure::invalid(
        format!("the content type `{given}` cannot be read"),
        "Send JSON, with the header `content-type: application/json`.",
    ))
}

pub(crate) fn too_long(rejection: &BytesRejection) -> Failure {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let hint = "Send less in one request; a run takes 64 MiB, everything else 1 MiB.";
        return Failure::invalid("the body is longer than this address takes", hint);
    }
    Failure::invalid("the body ended before it was whole", "Send the request again.")
        .because(rejection.body_text())
}

/// Reads JSON; a field that `T` does not have is an error.
fn parse<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, Failure> {
    let wrong = |error: serde_json::Error| {
        Failure::invalid("the body cannot be read", "See its schema in `/v1/openapi.json`.")
            .because(error.to_string())
    };
    let value: T = serde_json::from_slice(bytes).map_err(wrong)?;
    let given: serde_json::Value = serde_json::from_slice(bytes).map_err(wrong)?;
    // What was read, written again, holds every field that `T` knows.
    let known = serde_json::to_value(&value).map_err(wrong)?;
    if let (Some(given), Some(known)) = (given.as_object(), known.as_object())
        && let Some(stranger) = given.keys().find(|field| !known.contains_key(*field))
    {
        let fields: Vec<_> = known.keys().map(|field| format!("`{field}`")).collect();
        let hint = format!("Use the fields {}.", fields.join(", "));
        return Err(Failure::invalid(format!("the body has an unknown field `{stranger}`"), hint));
    }
    Ok(value)
}

impl Failure {
    fn because(mut self, reason: String) -> Self {
        self.0.causes.push(reason);
        self
    }
}

/// A value that a parameter names in the words of the API, such as a job's kind.
pub fn parse_word<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, Failure> {
    let value = serde_json::Value::String(text.to_owned());
    serde_json::from_value(value).map_err(|error| {
        let message = format!("`{text}` is not a {what}");
        Failure(Problem::new(ErrorCode::InvalidArgument, message)).because(error.to_string())
    })
}

/// Several such values, with commas between them.
pub fn parse_words<T: DeserializeOwned>(text: Option<&str>, what: &str) -> Result<Vec<T>, Failure> {
    let words = text.unwrap_or("").split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| parse_word(word, what)).collect()
}

/// A moment, as RFC 3339, or a day, which begins at midnight UTC.
pub fn parse_moment(text: &str) -> Result<headwater_model::Timestamp, Failure> {
    if let Ok(moment) = chrono::DateTime::parse_from_rfc3339(text) {
        return Ok(moment.to_utc());
    }
    let day = text.parse::<chrono::NaiveDate>().ok();
    let midnight = day.and_then(|day| day.and_hms_opt(0, 0, 0)).map(|moment| moment.and_utc());
    midnight.ok_or_else(|| {
        Failure::invalid(
            format!("`{text}` is not a moment"),
            "Write it as `2026-01-31` or `2026-01-31T12:00:00Z`, with `+` percent-encoded.",
        )
    })
}

#[cfg(test)]
mod tests {
    use headwater_model::QueryRequest;

    use super::*;

    #[test]
    fn a_field_that_nobody_knows_is_named() {
        let failure = parse::<QueryRequest>(br#"{"sql": "SELECT 1", "reff": "main"}"#);
        let problem = failure.expect_err("an unknown field").0;
        assert_eq!(problem.message, "the body has an unknown field `reff`");
        assert!(problem.hint.expect("a hint").contains("`ref`"));
        assert!(parse::<QueryRequest>(br#"{"sql": "SELECT 1", "ref": "dev"}"#).is_ok());
    }

    #[test]
    fn moments_are_days_or_rfc_3339() {
        for text in ["2026-01-31", "2026-01-31T00:00:00Z", "2026-01-31T01:00:00+01:00"] {
            let moment = parse_moment(text).expect("a moment");
            assert_eq!(moment.to_rfc3339(), "2026-01-31T00:00:00+00:00");
        }
        assert!(parse_moment("yesterday").is_err());
    }
}
