//! Python environments: list, explain, prune, rebuild.

use axum::Json;
use axum::extract::State;
use headwater_model::{
    EnvironmentDetails, EnvironmentSummary, Problem, PruneEnvironments, PrunedEnvironments,
    RebuiltEnvironment,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::HandlerResult;
use super::extract::{Body, Caller, Segments};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(explain))
        .routes(routes!(prune))
        .routes(routes!(rebuild))
}

/// Lists environments, the most recently used environment first.
#[utoipa::path(get, path = "/v1/environments",
    operation_id = "list_environments", tag = "environment",
    responses((status = 200, body = [EnvironmentSummary]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
) -> HandlerResult<Json<Vec<EnvironmentSummary>>> {
    Ok(Json(app.service.environments().list(&principal).await?))
}

/// Returns an environment's packages, its zygote and its calls. An id may be shortened to a unique
/// prefix.
#[utoipa::path(get, path = "/v1/environments/{environment}",
    operation_id = "explain_environment", tag = "environment",
    params(("environment" = String, Path)),
    responses((status = 200, body = EnvironmentDetails), (status = "default", body = Problem)))]
async fn explain(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(id): Segments<String>,
) -> HandlerResult<Json<EnvironmentDetails>> {
    Ok(Json(app.service.environments().explain(&principal, &id).await?))
}

/// Removes environments that have not been used for some time.
#[utoipa::path(post, path = "/v1/environments/prune",
    operation_id = "prune_environments", tag = "environment",
    request_body = PruneEnvironments,
    responses((status = 200, body = PrunedEnvironments), (status = "default", body = Problem)))]
async fn prune(
    State(app): State<App>,
    Caller(principal): Caller,
    Body(request): Body<PruneEnvironments>,
) -> HandlerResult<Json<PrunedEnvironments>> {
    Ok(Json(app.service.environments().prune(&principal, &request).await?))
}

/// Resolves an environment's packages again. Running calls continue with the old packages.
#[utoipa::path(post, path = "/v1/environments/{environment}/rebuild",
    operation_id = "rebuild_environment", tag = "environment",
    params(("environment" = String, Path)),
    responses((status = 200, body = RebuiltEnvironment), (status = "default", body = Problem)))]
async fn rebuild(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(id): Segments<String>,
) -> HandlerResult<Json<RebuiltEnvironment>> {
    Ok(Json(app.service.environments().rebuild(&principal, &id).await?))
}
