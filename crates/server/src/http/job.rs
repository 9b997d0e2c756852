//! Jobs: list, look at, follow, stop. An id may be shortened to the beginning or the end that is
//! its own.

use axum::Json;
use axum::body::Body as AnswerBody;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use headwater_jobs::JobFilter;
use headwater_model::{FunctionCall, Job, JobEvent, Problem};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Parameters, Segments, parse_moment, parse_words};
use super::failure::Answer;

/// The most jobs in one answer.
const JOBS_MAX: usize = 10_000;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(events))
        .routes(routes!(stop))
}

/// Which jobs to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Only these kinds, with commas between them: `query`, `import`, `run`, `trigger`,
    /// `upkeep`, `function`, `merge`, `cherry_pick`, `revert`, `diff`, `commit`.
    kind: Option<String>,
    /// Only these statuses, with commas between them: `queued`, `running`, `succeeded`, `failed`,
    /// `cancelled`, `interrupted`.
    status: Option<String>,
    /// Only jobs recorded at this moment or later: RFC 3339, or a day.
    since: Option<String>,
    /// At most so many; 100 where nothing is said, 10,000 at the most.
    limit: Option<usize>,
}

/// Lists jobs, newest first.
#[utoipa::path(get, path = "/v1/jobs",
    operation_id = "list_jobs", tag = "job",
    params(Filter), responses(
    (status = 200, body = [Job]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Parameters(filter): Parameters<Filter>,
) -> Answer<Json<Vec<Job>>> {
    let filter = JobFilter {
        kinds: parse_words(filter.kind.as_deref(), "kind of job")?,
        statuses: parse_words(filter.status.as_deref(), "status of a job")?,
        since: filter.since.as_deref().map(parse_moment).transpose()?,
        until: None,
        limit: filter.limit.unwrap_or(100).min(JOBS_MAX),
    };
    Ok(Json(app.service.components().jobs.list(&filter).await?))
}

/// Answers a job as it stands, and what its calls of functions wait for.
#[utoipa::path(get, path = "/v1/jobs/{job}",
    operation_id = "get_job", tag = "job",
    params(("job" = String, Path)),
    responses((status = 200, body = Job), (status = "default", body = Problem)))]
async fn show(State(app): State<App>, Segments(id): Segments<String>) -> Answer<Json<Job>> {
    let mut job = app.service.components().jobs.get(&id).await?;
    if !job.status.is_final() {
        // In a long queue it takes a moment to find out who is before it.
        let (functions, id) = (app.service.components().functions.clone(), job.id);
        let calls = tokio::task::spawn_blocking(move || functions.calls_of(id)).await;
        let calls = calls.unwrap_or_default().into_iter();
        let told =
            |call: FunctionCall| Some(format!("`{}` waits for {}", call.label, call.waits_for?));
        job.waits_for.extend(calls.filter_map(told));
    }
    Ok(Json(job))
}

/// Which events to answer.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Range {
    /// Only events after this sequence; all where nothing is said.
    #[serde(default)]
    after: u64,
    /// Go on until the job has ended.
    #[serde(default)]
    follow: bool,
}

/// Answers a job's events, one JSON object a line.
#[utoipa::path(get, path = "/v1/jobs/{job}/events",
    operation_id = "list_job_events", tag = "job",
    params(("job" = String, Path), Range), responses(
    (status = 200, body = JobEvent, content_type = "application/x-ndjson"),
    (status = "default", body = Problem)))]
async fn events(
    State(app): State<App>,
    Segments(id): Segments<String>,
    Parameters(range): Parameters<Range>,
) -> Answer<Response> {
    let id = app.service.components().jobs.get(&id).await?.id;
    let body = if range.follow {
        let events = app.service.components().jobs.follow(id, range.after).await?;
        let lines = events.map_err(std::io::Error::other).and_then(async |event| line(&event));
        AnswerBody::from_stream(lines.boxed())
    } else {
        let mut text = Vec::new();
        for event in app.service.components().jobs.events(id, range.after).await? {
            text.extend(line(&event).unwrap_or_default());
        }
        AnswerBody::from(text)
    };
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

fn line(event: &JobEvent) -> std::io::Result<Bytes> {
    let mut text = serde_json::to_vec(event)?;
    text.push(b'\n');
    Ok(text.into())
}

/// Asks a job to stop, and answers how it stands; one that has ended stays as it is.
#[utoipa::path(post, path = "/v1/jobs/{job}/stop",
    operation_id = "stop_job", tag = "job",
    params(("job" = String, Path)),
    responses((status = 200, body = Job), (status = "default", body = Problem)))]
async fn stop(State(app): State<App>, Segments(id): Segments<String>) -> Answer<Json<Job>> {
    let id = app.service.components().jobs.get(&id).await?.id;
    Ok(Json(app.service.components().jobs.stop(id).await?))
}
