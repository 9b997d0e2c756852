//! Triggers of the deployed version, and their events.

use axum::Json;
use axum::extract::State;
use headwater_jobs::{TriggerEventFilter, Triggers};
use headwater_model::{ErrorCode, Problem, TriggerEvent, TriggerStatus};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Parameters, Segments, parse_words};
use super::failure::{Answer, Failure};
use headwater_service::missing_branch;

/// The most events in one answer.
const EVENTS_MAX: usize = 10_000;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(events)).routes(routes!(replay))
}

/// Lists the triggers of the deployed version, by name.
#[utoipa::path(get, path = "/v1/triggers",
    operation_id = "list_triggers", tag = "trigger",
    responses(
    (status = 200, body = [TriggerStatus]), (status = "default", body = Problem)))]
async fn list(State(app): State<App>) -> Answer<Json<Vec<TriggerStatus>>> {
    app.service.components().deployer.deployed().version()?;
    let mut listed =
        app.service.components().triggers.as_ref().map(Triggers::list).unwrap_or_default();
    for status in listed.iter_mut().filter(|status| status.error.is_none()) {
        status.error = missing_branch(&app.service.components().lake, &status.trigger).await?;
    }
    Ok(Json(listed))
}

/// Which events to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Only these statuses, with commas between them: `pending`, `running`, `done`, `failed`.
    status: Option<String>,
    /// Only events of this trigger.
    trigger: Option<String>,
    /// At most so many; 100 where nothing is said, 10,000 at the most.
    limit: Option<usize>,
}

/// Lists events, newest first.
#[utoipa::path(get, path = "/v1/trigger-events",
    operation_id = "list_trigger_events", tag = "trigger",
    params(Filter), responses(
    (status = 200, body = [TriggerEvent]), (status = "default", body = Problem)))]
async fn events(
    State(app): State<App>,
    Parameters(filter): Parameters<Filter>,
) -> Answer<Json<Vec<TriggerEvent>>> {
    let filter = TriggerEventFilter {
        statuses: parse_words(filter.status.as_deref(), "status of an event")?,
        trigger: filter.trigger,
        limit: filter.limit.unwrap_or(100).min(EVENTS_MAX),
    };
    match (&app.service.components().triggers, &filter.trigger) {
        (Some(triggers), _) => Ok(Json(triggers.events(&filter).await?)),
        (None, None) => Ok(Json(Vec::new())),
        (None, Some(name)) => Err(no_triggers(&format!("trigger `{name}`"))),
    }
}

/// Has an event acted on again: one that failed begins anew, one that waits is due at once.
#[utoipa::path(post, path = "/v1/trigger-events/{event}/replay",
    operation_id = "replay_trigger_event", tag = "trigger",
    params(("event" = String, Path)),
    responses((status = 200, body = TriggerEvent), (status = "default", body = Problem)))]
async fn replay(
    State(app): State<App>,
    Segments(event): Segments<String>,
) -> Answer<Json<TriggerEvent>> {
    let triggers = app.service.components().triggers.as_ref();
    let triggers = triggers.ok_or_else(|| no_triggers(&format!("trigger event `{event}`")))?;
    Ok(Json(triggers.replay(&event).await?))
}

fn no_triggers(what: &str) -> Failure {
    let message = format!("there is no {what}: this server acts on no triggers");
    Failure(Problem::new(ErrorCode::TriggerNotFound, message))
}
