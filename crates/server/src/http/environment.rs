//! Environments: list, look at, remove those that nobody uses, choose their packages anew.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use headwater_functions::EnvironmentEvent;
use headwater_model::{
    EnvironmentExplained, EnvironmentSummary, Problem, PruneEnvironments, PrunedEnvironments,
    RebuiltEnvironment,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Body, Segments};
use super::failure::Answer;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(explain))
        .routes(routes!(prune))
        .routes(routes!(rebuild))
}

/// Lists environments, the last used first.
#[utoipa::path(get, path = "/v1/environments",
    operation_id = "list_environments", tag = "environment",
    responses((status = 200, body = [EnvironmentSummary]), (status = "default", body = Problem)))]
async fn list(State(app): State<App>) -> Answer<Json<Vec<EnvironmentSummary>>> {
    Ok(Json(app.service.components().functions.environments().await))
}

/// Explains an environment, by the beginning of its id: its packages, what is held imported, and
/// which calls of functions run and wait.
#[utoipa::path(get, path = "/v1/environments/{environment}",
    operation_id = "explain_environment", tag = "environment",
    params(("environment" = String, Path)),
    responses((status = 200, body = EnvironmentExplained), (status = "default", body = Problem)))]
async fn explain(
    State(app): State<App>,
    Segments(id): Segments<String>,
) -> Answer<Json<EnvironmentExplained>> {
    Ok(Json(app.service.components().functions.explain(&id).await?))
}

/// Removes environments that no function has asked for in a while and that none uses now.
#[utoipa::path(post, path = "/v1/environments/prune",
    operation_id = "prune_environments", tag = "environment",
    request_body = PruneEnvironments,
    responses((status = 200, body = PrunedEnvironments), (status = "default", body = Problem)))]
async fn prune(
    State(app): State<App>,
    Body(request): Body<PruneEnvironments>,
) -> Answer<Json<PrunedEnvironments>> {
    let unused_for = Duration::from_secs(request.unused_seconds);
    if request.dry_run {
        return Ok(Json(app.service.components().functions.prunable(unused_for).await));
    }
    Ok(Json(app.service.components().functions.prune(unused_for).await?))
}

/// Chooses an environment's packages anew, within what was asked for. Calls that run go on with the
/// old ones.
#[utoipa::path(post, path = "/v1/environments/{environment}/rebuild",
    operation_id = "rebuild_environment", tag = "environment",
    params(("environment" = String, Path)),
    responses((status = 200, body = RebuiltEnvironment), (status = "default", body = Problem)))]
async fn rebuild(
    State(app): State<App>,
    Segments(id): Segments<String>,
) -> Answer<Json<RebuiltEnvironment>> {
    let silent = |_: EnvironmentEvent| ();
    Ok(Json(app.service.components().functions.rebuild(&id, &silent).await?))
}
