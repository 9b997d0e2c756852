//! Uploads: files that a client sends, for an import or a function.

use axum::Json;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use futures::StreamExt;
use headwater_model::{ErrorCode, Problem, Upload};
use serde::Deserialize;
use tokio::time::timeout;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::HandlerResult;
use super::extract::{Caller, Parameters};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    // Disable the default limit: the service limits the length of the body, which it writes to
    // disk.
    OpenApiRouter::new().routes(routes!(create, remove)).layer(DefaultBodyLimit::disable())
}

/// Properties of the file.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct UploadProperties {
    /// The file's name, whose extension determines its format.
    name: String,
}

/// The path of an upload.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct UploadPath {
    /// The path that `create_upload` returned.
    path: String,
}

/// Stores a file of at most 4 GiB on the server's machine for one day. The returned path can be
/// used as a source of an import, or as `upload` of `deploy_function`.
#[utoipa::path(post, path = "/v1/uploads",
    operation_id = "create_upload", tag = "import",
    params(UploadProperties),
    request_body(content((Vec<u8> = "application/octet-stream"))),
    responses((status = 201, body = Upload), (status = "default", body = Problem)))]
async fn create(
    State(app): State<App>,
    Caller(principal): Caller,
    Parameters(properties): Parameters<UploadProperties>,
    request: Request,
) -> HandlerResult<(StatusCode, Json<Upload>)> {
    let patience = app.config.write_timeout;
    let parts = request.into_body().into_data_stream();
    let parts = futures::stream::try_unfold(parts, move |mut parts| async move {
        match timeout(patience, parts.next()).await {
            Err(_) => Err(incomplete(ErrorCode::TimeLimit, "the client stopped sending data")),
            Ok(Some(Err(error))) => Err(incomplete(ErrorCode::InvalidArgument, &error.to_string())),
            Ok(part) => Ok(part.and_then(Result::ok).map(|part| (part, parts))),
        }
    });
    let upload = app.service.uploads().create(&principal, &properties.name, parts).await?;
    Ok((StatusCode::CREATED, Json(upload)))
}

/// Deletes an upload, for example after its deployment failed.
#[utoipa::path(delete, path = "/v1/uploads",
    operation_id = "delete_upload", tag = "import",
    params(UploadPath),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Caller(principal): Caller,
    Parameters(stored): Parameters<UploadPath>,
) -> HandlerResult<StatusCode> {
    app.service.uploads().delete(&principal, &stored.path).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn incomplete(code: ErrorCode, cause: &str) -> Problem {
    let mut problem = Problem::new(code, "the file was not sent completely");
    problem.causes.push(cause.to_owned());
    problem.with_hint("Send the file again.")
}
