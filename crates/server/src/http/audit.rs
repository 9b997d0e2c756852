//! Export of the audit log.

use axum::Json;
use axum::body::Body as ResponseBody;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use headwater_encoding::{Format, RowEncoder};
use headwater_model::{AuditEvent, AuditRetention, ErrorCode, Problem};
use headwater_service::{AuditExport, AuditFilter};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{ErrorResponse, HandlerResult};
use super::extract::{Body, Caller, Parameters, parse_time, parse_word};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(export)).routes(routes!(retention, set_retention))
}

/// The filter for exported events; all by default.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Only events at or after this time: RFC 3339, or a date.
    since: Option<String>,
    /// Only events before this time: RFC 3339, or a date.
    until: Option<String>,
    /// Only events of this user, or of `owner` or `anonymous`.
    user: Option<String>,
    /// Only events with this action, for example `select`, `login` or `grant`.
    action: Option<String>,
    /// Only events with this outcome: `allowed` or `denied`.
    outcome: Option<String>,
}

/// Returns events of the audit log, the oldest first. The header `Accept` selects the format, as
/// for queries.
#[utoipa::path(get, path = "/v1/audit",
    operation_id = "export_audit", tag = "access",
    params(Filter), responses(
    (status = 200, description = "The events.", content(
        (Vec<AuditEvent> = "application/json"),
        (String = "application/x-ndjson"),
        (String = "text/csv"))),
    (status = "default", body = Problem)))]
async fn export(
    State(app): State<App>,
    Caller(principal): Caller,
    headers: HeaderMap,
    Parameters(filter): Parameters<Filter>,
) -> HandlerResult<Response> {
    let outcome = filter.outcome.as_deref().map(|word| parse_word(word, "outcome")).transpose()?;
    let filter = AuditFilter {
        since: filter.since.as_deref().map(parse_time).transpose()?,
        until: filter.until.as_deref().map(parse_time).transpose()?,
        principal: filter.user,
        action: filter.action,
        outcome,
    };
    let format = Format::accepted(&headers)?;
    let events = app.service.access_control().audit(&principal, filter)?;
    let encoder = RowEncoder::new(format, &events.schema()).map_err(|error| not_encoded(&error))?;
    let chunks = Chunks { events, encoder: Some(encoder) };
    let stream = futures::stream::try_unfold(chunks, |mut chunks| async {
        Ok::<_, Problem>(chunks.next().await?.map(|bytes| (bytes, chunks)))
    });
    let media_type = [(CONTENT_TYPE, format.media_type())];
    Ok((media_type, ResponseBody::from_stream(stream)).into_response())
}

/// Returns the retention of the audit log.
#[utoipa::path(get, path = "/v1/audit/retention",
    operation_id = "get_audit_retention", tag = "access",
    responses((status = 200, body = AuditRetention), (status = "default", body = Problem)))]
async fn retention(
    State(app): State<App>,
    Caller(principal): Caller,
) -> HandlerResult<Json<AuditRetention>> {
    Ok(Json(app.service.access_control().audit_retention(&principal)?))
}

/// Sets the retention of the audit log.
#[utoipa::path(put, path = "/v1/audit/retention",
    operation_id = "set_audit_retention", tag = "access",
    request_body = AuditRetention, responses(
    (status = 200, body = AuditRetention), (status = "default", body = Problem)))]
async fn set_retention(
    State(app): State<App>,
    Caller(principal): Caller,
    Body(retention): Body<AuditRetention>,
) -> HandlerResult<Json<AuditRetention>> {
    let access = app.service.access_control();
    Ok(Json(access.set_audit_retention(&principal, retention).await?))
}

/// The response body after its first chunk.
struct Chunks {
    events: AuditExport,
    /// The encoder; `None` after the last chunk.
    encoder: Option<RowEncoder>,
}

impl Chunks {
    /// Returns the next non-empty chunk; `None` after the last chunk.
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        while let Some(encoder) = &mut self.encoder {
            let bytes = if let Some(batch) = self.events.next().await? {
                encoder.batch(&batch)
            } else {
                let bytes = encoder.end();
                self.encoder = None;
                bytes
            };
            let bytes = bytes.map_err(|error| not_encoded(&error).0)?;
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

fn not_encoded(error: &arrow::error::ArrowError) -> ErrorResponse {
    let message = format!("the events cannot be encoded: {error}");
    ErrorResponse(Problem::new(ErrorCode::Internal, message))
}
