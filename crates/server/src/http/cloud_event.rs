//! Events for functions, in the formats of CloudEvents.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use headwater_model::{AcceptedEvent, CloudEvent, CloudEventFormat, Problem};
use percent_encoding::percent_decode_str;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::BodyKind;
use super::error::{ErrorResponse, HandlerResult};
use super::extract::{Caller, Segments};
use crate::server_state::App;

/// Prefix of the headers with attributes, in the binary format.
const PREFIX: &str = "ce-";

pub(super) fn routes() -> OpenApiRouter<App> {
    // Disable the default limit: the body quota limits the length of the body.
    OpenApiRouter::new().routes(routes!(send)).layer(DefaultBodyLimit::disable())
}

/// Accepts events, each of which calls a deployed function once.
///
/// The body has up to 10,000 events and 8 MiB, in a format of CloudEvents 1.0: a batch, a single
/// event (structured), or the data of an event whose attributes are in the headers `ce-id`,
/// `ce-source` and so on (binary). All events are accepted or none. They are durable before the
/// response is sent, which lists them in the order of the request. An event with the `source` and
/// `id` of one that the same user sent within 10 minutes is not added, and `duplicate` is true.
/// Events with the same `partitionkey` are delivered one at a time, in order.
#[utoipa::path(post, path = "/v1/functions/{function}/events",
    operation_id = "send_events", tag = "function",
    params(("function" = String, Path)),
    request_body(content((Vec<serde_json::Value> = "application/cloudevents-batch+json"),
        (serde_json::Value = "application/cloudevents+json"),
        (serde_json::Value = "application/json"))),
    responses(
    (status = 202, body = [AcceptedEvent]), (status = "default", body = Problem)))]
async fn send(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    headers: HeaderMap,
    request: Request,
) -> HandlerResult<(StatusCode, Json<Vec<AcceptedEvent>>)> {
    let (body, permit) = app.bodies.read(request, BodyKind::Values).await?;
    let events = events(&headers, &body)?;
    drop(body);
    let accepted = app.service.invocations().accept_events(&principal, &name, events).await?;
    drop(permit);
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

fn events(headers: &HeaderMap, body: &[u8]) -> HandlerResult<Vec<CloudEvent>> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    // This header proves that no foreign web page sent the request: browsers send it to another
    // origin only with the consent of this server.
    if headers.contains_key("ce-specversion") {
        return Ok(vec![CloudEvent::binary(attributes(headers)?, media_type, body)?]);
    }
    let essence = media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let format = CloudEventFormat::of(&essence.to_ascii_lowercase()).ok_or_else(|| {
        let message = format!("the content type `{essence}` is not a format of CloudEvents");
        let hint = "Send `application/cloudevents-batch+json`, `application/cloudevents+json`, or \
                    the attributes as headers such as `ce-id`.";
        ErrorResponse::invalid(message, hint)
    })?;
    Ok(CloudEvent::parse(body, format)?)
}

/// Returns the attributes in the headers of a request.
fn attributes(headers: &HeaderMap) -> HandlerResult<BTreeMap<String, String>> {
    let mut attributes = BTreeMap::new();
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix(PREFIX) else { continue };
        let text = std::str::from_utf8(value.as_bytes()).ok();
        let text = text.and_then(|text| percent_decode_str(text).decode_utf8().ok());
        let text = text.ok_or_else(|| {
            let message = format!("header `{name}` is not UTF-8");
            ErrorResponse::invalid(message, "Percent-encode its value.")
        })?;
        attributes.insert(attribute.to_owned(), text.into_owned());
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        all.iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect()
    }

    #[test]
    fn events_are_read_from_the_body_or_from_headers() {
        let text = r#"{"specversion":"1.0","id":"a","source":"/s","type":"t"}"#;
        let structured =
            headers(&[("content-type", "application/cloudevents+json; charset=UTF-8")]);
        assert_eq!(events(&structured, text.as_bytes()).expect("events")[0].json.get(), text);
        let batch = headers(&[("content-type", "application/cloudevents-batch+json")]);
        assert_eq!(events(&batch, format!("[{text},{text}]").as_bytes()).expect("two").len(), 2);
        let binary = headers(&[
            ("ce-specversion", "1.0"),
            ("ce-id", "caf%C3%A9"),
            ("ce-source", "/s"),
            ("ce-type", "t"),
            ("content-type", "text/plain"),
        ]);
        let read = events(&binary, b"hello").expect("an event").remove(0);
        assert_eq!((read.id.as_str(), read.source.as_str()), ("café", "/s"));
        assert!(read.json.get().contains(r#""data":"hello""#), "{}", read.json);
    }

    #[test]
    fn forms_are_rejected() {
        for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
            let all = headers(&[("content-type", kind)]);
            let error = events(&all, b"[]").expect_err("an error").0;
            assert!(error.hint.expect("a hint").contains("cloudevents-batch+json"), "{kind}");
        }
    }
}
