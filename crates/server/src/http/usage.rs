//! Usage of jobs and its cost.

use axum::Json;
use axum::extract::State;
use headwater_model::{Problem, UsageLine};
use headwater_service::{UsageGroup, UsageGrouping};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{ErrorResponse, HandlerResult};
use super::extract::{Caller, Parameters, parse_time, parse_words};
use crate::server_state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(usage))
}

/// The filter and grouping for usage.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Only jobs recorded at or after this time: RFC 3339, or a date.
    since: Option<String>,
    /// Only jobs recorded before this time: RFC 3339, or a date.
    until: Option<String>,
    /// The property by which jobs are grouped: `day`, `kind`, `job`, `model`, `function`,
    /// `trigger`, `branch` or `author`; `day` by default. Two properties, such as `function,day`,
    /// have a line for each combination. Records of single queries and calls are kept for a limited
    /// time. `day` and `kind` also include older queries and calls; `function` and `trigger` also
    /// include older calls. This also applies to a combination of one of them with `day`.
    by: Option<String>,
}

/// Returns the usage of jobs, summed by group.
#[utoipa::path(get, path = "/v1/usage",
    operation_id = "get_usage", tag = "usage",
    params(Filter), responses(
    (status = 200, body = [UsageLine]), (status = "default", body = Problem)))]
async fn usage(
    State(app): State<App>,
    Caller(principal): Caller,
    Parameters(filter): Parameters<Filter>,
) -> HandlerResult<Json<Vec<UsageLine>>> {
    let by = grouping(filter.by.as_deref())?;
    let since = filter.since.as_deref().map(parse_time).transpose()?;
    let until = filter.until.as_deref().map(parse_time).transpose()?;
    Ok(Json(app.service.jobs().usage(&principal, since, until, by).await?))
}

fn grouping(text: Option<&str>) -> HandlerResult<UsageGrouping> {
    let groups: Vec<UsageGroup> = parse_words(text, "way to group usage")?;
    match groups.as_slice() {
        [] => Ok(UsageGrouping::default()),
        [one] => Ok((*one).into()),
        [first, second] if first != second => {
            Ok(UsageGrouping { first: *first, second: Some(*second) })
        }
        _ => {
            let message = format!("usage cannot be grouped by `{}`", text.unwrap_or_default());
            let hint = "Name one property, or two different properties such as `function,day`.";
            Err(ErrorResponse::invalid(message, hint))
        }
    }
}
