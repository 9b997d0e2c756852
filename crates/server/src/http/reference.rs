//! Refs: what they stand for, the commits that lead there, and what differs between two.

use axum::Json;
use axum::extract::State;
use headwater_model::{Commit, CommitId, Diff, Problem, RefSpec, ResolvedRef};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Parameters, Segments};
use super::failure::{Answer, Failure};

/// The most commits in one answer.
const COMMITS_MAX: usize = 1_000;

/// The most sample rows of one table, on each side.
const ROWS_MAX: usize = 100;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(commits)).routes(routes!(diff))
}

/// Answers what a ref stands for.
#[utoipa::path(get, path = "/v1/refs/{ref}",
    operation_id = "get_ref", tag = "ref",
    params(("ref" = String, Path)),
    responses((status = 200, body = ResolvedRef), (status = "default", body = Problem)))]
async fn show(
    State(app): State<App>,
    Segments(reference): Segments<String>,
) -> Answer<Json<ResolvedRef>> {
    let resolved = app.lake.catalog().resolve(&parse(&reference)?).await?;
    Ok(Json(ResolvedRef { commit: resolved.commit, branch: resolved.branch }))
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
    Segments(reference): Segments<String>,
    Parameters(page): Parameters<Page>,
) -> Answer<Json<Vec<Commit>>> {
    let after = page.after.as_deref().map(parse_commit).transpose()?;
    let limit = page.limit.unwrap_or(100).min(COMMITS_MAX);
    Ok(Json(app.lake.catalog().log(&parse(&reference)?, limit, after).await?))
}

fn parse_commit(text: &str) -> Answer<CommitId> {
    text.parse().map_err(|_| {
        let hint = "Give the id of the last commit of the page before.";
        Failure::invalid(format!("`{text}` is not a commit's id"), hint)
    })
}

/// How much to say of a difference.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Samples {
    /// Sample rows of each table on each side; 5 where nothing is said, 100 at the most.
    rows: Option<usize>,
}

/// Answers what differs between two refs: tables, schemas, files, and a few rows.
#[utoipa::path(get, path = "/v1/refs/{from}/diff/{to}",
    operation_id = "diff_refs", tag = "ref",
    params(("from" = String, Path), ("to" = String, Path), Samples),
    responses((status = 200, body = Diff), (status = "default", body = Problem)))]
async fn diff(
    State(app): State<App>,
    Segments((from, to)): Segments<(String, String)>,
    Parameters(samples): Parameters<Samples>,
) -> Answer<Json<Diff>> {
    let rows = samples.rows.unwrap_or(5).min(ROWS_MAX);
    Ok(Json(app.lake.diff(&parse(&from)?, &parse(&to)?, rows).await?))
}

/// A ref, read from a path.
pub fn parse(text: &str) -> Answer<RefSpec> {
    Ok(text.parse::<RefSpec>()?)
}
