//! Refs: what they stand for, and the commits that lead there.

use axum::Json;
use axum::extract::State;
use headwater_model::{Commit, CommitId, Problem, RefSpec, ResolvedRef};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Caller, Parameters, Segments};
use super::failure::{Answer, Failure};

/// The most commits in one answer.
const COMMITS_MAX: usize = 1_000;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(commits))
}

/// Answers what a ref stands for.
#[utoipa::path(get, path = "/v1/refs/{ref}",
    operation_id = "get_ref", tag = "ref",
    params(("ref" = String, Path)),
    responses((status = 200, body = ResolvedRef), (status = "default", body = Problem)))]
async fn show(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(reference): Segments<String>,
) -> Answer<Json<ResolvedRef>> {
    Ok(Json(app.service.refs().resolve(&principal, &parse(&reference)?).await?))
}

/// Which commits to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Page {
    /// At most so many; 100 where nothing is said, 1,000 at the most.
    limit: Option<usize>,
    /// Only commits that are listed after this one, by its id.
    #[param(value_type = Option<String>)]
    after: Option<String>,
}

/// Lists the commits that lead to a ref, newest first.
#[utoipa::path(get, path = "/v1/refs/{ref}/commits",
    operation_id = "list_commits", tag = "ref",
    params(("ref" = String, Path), Page),
    responses((status = 200, body = [Commit]), (status = "default", body = Problem)))]
async fn commits(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(reference): Segments<String>,
    Parameters(page): Parameters<Page>,
) -> Answer<Json<Vec<Commit>>> {
    let after = page.after.as_deref().map(parse_commit).transpose()?;
    let limit = page.limit.unwrap_or(100).min(COMMITS_MAX);
    Ok(Json(app.service.refs().log(&principal, &parse(&reference)?, limit, after).await?))
}

fn parse_commit(text: &str) -> Answer<CommitId> {
    text.parse().map_err(|_| {
        let hint = "Give the id of the last commit of the page before.";
        Failure::invalid(format!("`{text}` is not a commit's id"), hint)
    })
}

/// A ref, read from a path.
pub fn parse(text: &str) -> Answer<RefSpec> {
    Ok(text.parse::<RefSpec>()?)
}
