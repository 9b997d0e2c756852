//! Triggers and their events.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{Problem, Trigger, TriggerEvent, TriggerStatus};
use headwater_service::TriggerEventFilter;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::branch::DeleteOptions;
use super::error::{ErrorResponse, HandlerResult};
use super::extract::{Body, Caller, Parameters, Segments, parse_words};
use crate::server_state::App;

/// Maximum number of events in a response.
const EVENTS_MAX: usize = 10_000;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(replace, delete))
        .routes(routes!(events))
        .routes(routes!(event, remove))
        .routes(routes!(replay))
}

/// Lists the triggers of the deployed version and the triggers without a project, by name.
#[utoipa::path(get, path = "/v1/triggers",
    operation_id = "list_triggers", tag = "trigger",
    responses(
    (status = 200, body = [TriggerStatus]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
) -> HandlerResult<Json<Vec<TriggerStatus>>> {
    Ok(Json(app.service.triggers().list(&principal).await?))
}

/// Creates a trigger without a project. The trigger has the rights of the user.
#[utoipa::path(post, path = "/v1/triggers",
    operation_id = "create_trigger", tag = "trigger", request_body = Trigger,
    responses((status = 201, body = Trigger), (status = "default", body = Problem)))]
async fn create(
    State(app): State<App>,
    Caller(principal): Caller,
    Body(trigger): Body<Trigger>,
) -> HandlerResult<(StatusCode, Json<Trigger>)> {
    app.service.triggers().create(&principal, trigger.clone(), false).await?;
    Ok((StatusCode::CREATED, Json(trigger)))
}

/// Creates or replaces a trigger without a project. The body must contain the name of the path.
#[utoipa::path(put, path = "/v1/triggers/{trigger}",
    operation_id = "replace_trigger", tag = "trigger",
    params(("trigger" = String, Path)), request_body = Trigger,
    responses(
    (status = 200, description = "The trigger was replaced.", body = Trigger),
    (status = 201, description = "The trigger was created.", body = Trigger),
    (status = "default", body = Problem)))]
async fn replace(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Body(trigger): Body<Trigger>,
) -> HandlerResult<(StatusCode, Json<Trigger>)> {
    if trigger.name != name {
        let message = format!("the body has the name `{}`, but the path `{name}`", trigger.name);
        let hint = "Use the same name in both; a trigger cannot be renamed.";
        return Err(ErrorResponse::invalid(message, hint));
    }
    let replaced = app.service.triggers().create(&principal, trigger.clone(), true).await?;
    let status = if replaced { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(trigger)))
}

/// Deletes a trigger that was created without a project, and its pending and failed events.
#[utoipa::path(delete, path = "/v1/triggers/{trigger}",
    operation_id = "delete_trigger", tag = "trigger",
    params(("trigger" = String, Path), DeleteOptions),
    responses((status = 204), (status = "default", body = Problem)))]
async fn delete(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Parameters(deletion): Parameters<DeleteOptions>,
) -> HandlerResult<StatusCode> {
    deletion.response(app.service.triggers().delete(&principal, &name).await)
}

/// The filter for events.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Statuses, separated by commas: `pending`, `running`, `done`, `failed`.
    status: Option<String>,
    /// Only events of the trigger with this name.
    trigger: Option<String>,
    /// Maximum number of events; 100 by default, at most 10,000.
    limit: Option<usize>,
}

/// Lists events, newest first.
#[utoipa::path(get, path = "/v1/trigger-events",
    operation_id = "list_trigger_events", tag = "trigger",
    params(Filter), responses(
    (status = 200, body = [TriggerEvent]), (status = "default", body = Problem)))]
async fn events(
    State(app): State<App>,
    Caller(principal): Caller,
    Parameters(filter): Parameters<Filter>,
) -> HandlerResult<Json<Vec<TriggerEvent>>> {
    let filter = TriggerEventFilter {
        statuses: parse_words(filter.status.as_deref(), "status of an event")?,
        trigger: filter.trigger,
        limit: filter.limit.unwrap_or(100).min(EVENTS_MAX),
    };
    Ok(Json(app.service.triggers().events(&principal, &filter).await?))
}

/// Returns an event and its delivery. The id may be shortened to a unique prefix or suffix.
#[utoipa::path(get, path = "/v1/trigger-events/{event}",
    operation_id = "get_trigger_event", tag = "trigger",
    params(("event" = String, Path)),
    responses((status = 200, body = TriggerEvent), (status = "default", body = Problem)))]
async fn event(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(event): Segments<String>,
) -> HandlerResult<Json<TriggerEvent>> {
    Ok(Json(app.service.triggers().event(&principal, &event).await?))
}

/// Removes a pending or failed event, so that it is never delivered.
#[utoipa::path(delete, path = "/v1/trigger-events/{event}",
    operation_id = "delete_trigger_event", tag = "trigger",
    params(("event" = String, Path)),
    responses((status = 200, body = TriggerEvent), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(event): Segments<String>,
) -> HandlerResult<Json<TriggerEvent>> {
    Ok(Json(app.service.triggers().remove(&principal, &event).await?))
}

/// Delivers an event again: a failed event is delivered with the full number of retries, and a
/// waiting event becomes due immediately.
#[utoipa::path(post, path = "/v1/trigger-events/{event}/replay",
    operation_id = "replay_trigger_event", tag = "trigger",
    params(("event" = String, Path)),
    responses((status = 200, body = TriggerEvent), (status = "default", body = Problem)))]
async fn replay(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(event): Segments<String>,
) -> HandlerResult<Json<TriggerEvent>> {
    Ok(Json(app.service.triggers().replay(&principal, &event).await?))
}
