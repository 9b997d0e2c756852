//! Jobs: list, get, follow, stop. An id may be abbreviated to a unique prefix or suffix.

use std::time::Duration;

use axum::Json;
use axum::body::Body as AnswerBody;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use headwater_model::{Job, JobEvent, Problem};
use headwater_service::JobFilter;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::HandlerResult;
use super::extract::{Caller, Parameters, Segments, parse_time, parse_words};
use crate::server_state::App;

/// Maximum number of jobs in a response.
const JOBS_MAX: usize = 10_000;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(events))
        .routes(routes!(stop))
        .routes(routes!(rerun))
}

/// The filter for jobs.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Kinds, separated by commas: `query`, `import`, `run`, `trigger`,
    /// `maintenance`, `function`, `merge`, `cherry_pick`, `revert`, `diff`, `commit`, `queue`,
    /// `backfill`.
    kind: Option<String>,
    /// Statuses, separated by commas: `queued`, `running`, `succeeded`, `failed`,
    /// `cancelled`, `interrupted`.
    status: Option<String>,
    /// Only jobs recorded at or after this time: RFC 3339, or a date.
    since: Option<String>,
    /// Maximum number of jobs; 100 by default, at most 10,000.
    limit: Option<usize>,
    /// Maximum time in milliseconds to wait for a new job if there is none; 0 by default, at most
    /// 60,000.
    #[serde(default)]
    wait_ms: u64,
}

/// Lists jobs, newest first.
#[utoipa::path(get, path = "/v1/jobs",
    operation_id = "list_jobs", tag = "job",
    params(Filter), responses(
    (status = 200, body = [Job]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
    Parameters(filter): Parameters<Filter>,
) -> HandlerResult<Json<Vec<Job>>> {
    let filter = JobFilter {
        kinds: parse_words(filter.kind.as_deref(), "kind of job")?,
        statuses: parse_words(filter.status.as_deref(), "status of a job")?,
        since: filter.since.as_deref().map(parse_time).transpose()?,
        until: None,
        limit: filter.limit.unwrap_or(100).min(JOBS_MAX),
        wait: Duration::from_millis(filter.wait_ms),
    };
    Ok(Json(app.service.jobs().list(&principal, &filter).await?))
}

/// Returns a job, including the reasons why its function calls are waiting.
#[utoipa::path(get, path = "/v1/jobs/{job}",
    operation_id = "get_job", tag = "job",
    params(("job" = String, Path)),
    responses((status = 200, body = Job), (status = "default", body = Problem)))]
async fn show(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(id): Segments<String>,
) -> HandlerResult<Json<Job>> {
    Ok(Json(app.service.jobs().get(&principal, &id).await?))
}

/// The filter for events.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct JobEventFilter {
    /// Only events after this sequence number; all by default.
    #[serde(default)]
    after: u64,
    /// Keep sending new events until the job has ended.
    #[serde(default)]
    follow: bool,
}

/// Returns a job's events, one JSON object per line.
#[utoipa::path(get, path = "/v1/jobs/{job}/events",
    operation_id = "list_job_events", tag = "job",
    params(("job" = String, Path), JobEventFilter), responses(
    (status = 200, body = JobEvent, content_type = "application/x-ndjson"),
    (status = "default", body = Problem)))]
async fn events(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(id): Segments<String>,
    Parameters(range): Parameters<JobEventFilter>,
) -> HandlerResult<Response> {
    let jobs = app.service.jobs();
    let body = if range.follow {
        let events = jobs.follow(&principal, &id, range.after).await?;
        let lines = events.map_err(std::io::Error::other).and_then(async |event| line(&event));
        AnswerBody::from_stream(lines.boxed())
    } else {
        let mut text = Vec::new();
        for event in jobs.events(&principal, &id, range.after).await? {
            text.extend(line(&event).unwrap_or_default());
        }
        AnswerBody::from(text)
    };
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// Returns an event as one line of JSON.
pub(super) fn line(event: &JobEvent) -> std::io::Result<Bytes> {
    let mut text = serde_json::to_vec(event)?;
    text.push(b'\n');
    Ok(text.into())
}

/// Stops a job and returns the job. Has no effect on a job that has already ended.
#[utoipa::path(post, path = "/v1/jobs/{job}/stop",
    operation_id = "stop_job", tag = "job",
    params(("job" = String, Path)),
    responses((status = 200, body = Job), (status = "default", body = Problem)))]
async fn stop(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(id): Segments<String>,
) -> HandlerResult<Json<Job>> {
    Ok(Json(app.service.jobs().stop(&principal, &id).await?))
}

/// Options for running a run again.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct RerunOptions {
    /// Run on a new branch, created at the commit from which the first run started, so that the new
    /// run reads the same rows; false by default.
    #[serde(default)]
    exact: bool,
    /// The name of the new branch; `rerun/JOB` by default. Allowed only with `exact`.
    branch: Option<String>,
}

/// Starts a run again as a new job, with the same files, parameters and branch. With `exact`, the
/// new job runs on a new branch, created at the commit from which the first run started. It then
/// uses the package versions of the first run. Only the files of recent runs are kept. Error:
/// `file_not_found` if the files of the run have been deleted.
#[utoipa::path(post, path = "/v1/jobs/{job}/rerun",
    operation_id = "rerun_job", tag = "job",
    params(("job" = String, Path), RerunOptions), responses(
    (status = 202, description = "The new job.", body = Job),
    (status = "default", body = Problem)))]
async fn rerun(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(id): Segments<String>,
    Parameters(how): Parameters<RerunOptions>,
) -> HandlerResult<(StatusCode, Json<Job>)> {
    let jobs = app.service.jobs();
    let job = if how.exact || how.branch.is_some() {
        jobs.rerun_exactly(&principal, &id, how.branch).await?
    } else {
        jobs.rerun(&principal, &id).await?
    };
    Ok((StatusCode::ACCEPTED, Json(job)))
}
