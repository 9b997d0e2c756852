//! Usage: what jobs took, and what that costs.

use axum::Json;
use axum::extract::State;
use headwater_jobs::UsageGroup;
use headwater_model::{Problem, UsageLine};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Parameters, parse_moment, parse_word};
use super::failure::Answer;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(usage))
}

/// Which usage, and how summed up.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Only jobs recorded at this moment or later: RFC 3339, or a day.
    since: Option<String>,
    /// Only jobs recorded before this moment.
    until: Option<String>,
    /// `day`, `kind`, `job` or `model`; `day` where nothing is said.
    by: Option<String>,
}

/// Sums up what jobs took.
#[utoipa::path(get, path = "/v1/usage",
    operation_id = "get_usage", tag = "usage",
    params(Filter), responses(
    (status = 200, body = [UsageLine]), (status = "default", body = Problem)))]
async fn usage(
    State(app): State<App>,
    Parameters(filter): Parameters<Filter>,
) -> Answer<Json<Vec<UsageLine>>> {
    let group: Option<UsageGroup> =
        filter.by.as_deref().map(|by| parse_word(by, "way to group usage")).transpose()?;
    let since = filter.since.as_deref().map(parse_moment).transpose()?;
    let until = filter.until.as_deref().map(parse_moment).transpose()?;
    app.service.components().settings.refresh().await;
    Ok(Json(app.service.components().jobs.usage(since, until, group.unwrap_or_default()).await?))
}
