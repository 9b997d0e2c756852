//! Refs: resolve, list commits.

use axum::Json;
use axum::extract::State;
use headwater_model::{Commit, CommitId, Problem, ResolvedRef};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{ErrorResponse, HandlerResult};
use super::extract::{Caller, Parameters, Segments, parse_ref};
use crate::server_state::App;

/// Maximum number of commits in a response.
const COMMITS_MAX: usize = 1_000;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(commits))
}

/// Returns the commit of a ref, and the branch if the ref is the head of a branch.
#[utoipa::path(get, path = "/v1/refs/{ref}",
    operation_id = "get_ref", tag = "ref",
    params(("ref" = String, Path)),
    responses((status = 200, body = ResolvedRef), (status = "default", body = Problem)))]
async fn show(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(reference): Segments<String>,
) -> HandlerResult<Json<ResolvedRef>> {
    Ok(Json(app.service.refs().resolve(&principal, &parse_ref(&reference)?).await?))
}

/// The requested page of commits.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct CommitPageOptions {
    /// Maximum number of commits; 100 by default, at most 1,000.
    limit: Option<usize>,
    /// Id of the last commit of the previous page.
    #[param(value_type = Option<String>)]
    after: Option<String>,
}

/// Lists the commits of a ref, newest first.
#[utoipa::path(get, path = "/v1/refs/{ref}/commits",
    operation_id = "list_commits", tag = "ref",
    params(("ref" = String, Path), CommitPageOptions),
    responses((status = 200, body = [Commit]), (status = "default", body = Problem)))]
async fn commits(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(reference): Segments<String>,
    Parameters(page): Parameters<CommitPageOptions>,
) -> HandlerResult<Json<Vec<Commit>>> {
    let after = page.after.as_deref().map(parse_commit).transpose()?;
    let limit = page.limit.unwrap_or(100).min(COMMITS_MAX);
    Ok(Json(app.service.refs().log(&principal, &parse_ref(&reference)?, limit, after).await?))
}

fn parse_commit(text: &str) -> HandlerResult<CommitId> {
    text.parse().map_err(|_| {
        let hint = "Use the id of the last commit of the previous page.";
        ErrorResponse::invalid(format!("`{text}` is not a commit id"), hint)
    })
}
