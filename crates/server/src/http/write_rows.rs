//! Rows of a table: written from an Arrow stream, in one commit.

use axum::Json;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use headwater_encoding::Format;
use headwater_model::{Principal, Problem, TableName, WriteMode, WriteReport};
use headwater_service::{SharedTable, WriteTarget};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::BodyKind;
use super::error::{ErrorResponse, HandlerResult};
use super::extract::{Caller, Parameters, Segments};
use super::query::JOB_HEADER;
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    // Disable the default limit: the body quota limits the length of the body.
    OpenApiRouter::new().routes(routes!(write)).layer(DefaultBodyLimit::disable())
}

/// Options of a write.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct WriteOptions {
    /// The effect on an existing table: `append`, the default, or `replace`.
    #[serde(default)]
    #[param(inline)]
    mode: WriteMode,
}

/// Writes rows to a table of a branch, and creates the table if it does not exist. The body is one
/// table as `application/vnd.apache.arrow.stream`, not compressed, of at most 256 MiB.
///
/// The rows are written in one commit, which is durable before the response is sent. The header
/// `x-headwater-job` contains the id of the job.
#[utoipa::path(post, path = "/v1/branches/{branch}/tables/{table}/rows",
    operation_id = "write_rows", tag = "table",
    params(("branch" = String, Path), ("table" = String, Path), WriteOptions),
    request_body(content((Vec<u8> = "application/vnd.apache.arrow.stream"))),
    responses((status = 200, body = WriteReport), (status = "default", body = Problem)))]
async fn write(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments((branch, table)): Segments<(String, String)>,
    Parameters(options): Parameters<WriteOptions>,
    request: Request,
) -> HandlerResult<([(HeaderName, HeaderValue); 1], Json<WriteReport>)> {
    let table: TableName = table.parse()?;
    let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if media_type != Some(Format::Arrow.media_type()) {
        let message = "the body is not an Arrow stream";
        let hint = format!("Send one table with `Content-Type: {}`.", Format::Arrow.media_type());
        return Err(ErrorResponse::invalid(message, hint));
    }
    let rows = read_table(&app, &principal, request).await?;
    let target = WriteTarget { branch, table, mode: options.mode };
    let ended = app.service.tables().write_rows(&principal, target, rows).await?;
    let id = HeaderValue::from_str(&ended.job.to_string());
    let id = id.unwrap_or(HeaderValue::from_static(""));
    Ok(([(HeaderName::from_static(JOB_HEADER), id)], Json(ended.result?)))
}

/// Reads a body that is one table as an Arrow stream.
pub(super) async fn read_table(
    app: &App,
    principal: &Principal,
    request: Request,
) -> HandlerResult<SharedTable> {
    let (bytes, _permit) = app.bodies.read(request, BodyKind::Table).await?;
    Ok(app.service.tables().read_arrow(principal, bytes).await?)
}
