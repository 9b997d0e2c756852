//! Queries: one SQL statement, answered as it is computed.

use std::collections::BTreeMap;

use axum::body::Body as AnswerBody;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use headwater_engine::{Prepared, SessionOptions};
use headwater_jobs::NewJob;
use headwater_model::{
    DEFAULT_NAMESPACE, JobId, JobKind, PROPERTY_JOB, Problem, QueryRequest, RefSpec,
    SYSTEM_NAMESPACE,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Author, Body};
use super::failure::{Answer, Failure};
use crate::answer::Format;
use crate::statement::Statement;

/// The header that carries the statement's job.
pub(super) const JOB_HEADER: &str = "x-headwater-job";

/// The longest summary of a statement, in characters.
const SUMMARY_CHARACTERS_MAX: usize = 2_000;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(query))
}

/// Answers one SQL statement, in the form that `Accept` names: `application/json` (an array of
/// objects, and what is meant where nothing is said), `application/x-ndjson`, `text/csv`, or
/// `application/vnd.apache.arrow.stream`. The header `x-headwater-job` names its job.
///
/// The answer streams while it is computed. An error before the first row is a `Problem`; an error
/// after it ends the answer abnormally, and the job holds the error. Going away cancels the
/// statement.
#[utoipa::path(post, path = "/v1/query",
    operation_id = "query", tag = "query",
    request_body = QueryRequest, responses(
    (status = 200, description = "The rows.", content(
        (Vec<serde_json::Value> = "application/json"),
        (String = "application/x-ndjson"),
        (String = "text/csv"),
        (Vec<u8> = "application/vnd.apache.arrow.stream"))),
    (status = "default", body = Problem)))]
async fn query(
    State(app): State<App>,
    author: Author,
    headers: HeaderMap,
    Body(request): Body<QueryRequest>,
) -> Answer<Response> {
    let format = Format::accepted(&headers)?;
    check_namespace(&app, &request).await?;
    let prepared = Prepared::parse(&request.sql);
    if let Ok(statement) = &prepared {
        check_parameters(&request, statement)?;
    }
    let prepared = prepared.and_then(|statement| statement.bind(&request.parameters));
    let author = author.or(request.author.clone());
    let (context, guard) = app.service.jobs.record(new_job(&request, &author)).await?;
    let id = context.id();
    let statement = Statement::new(context, guard, request.limit);
    let session = app.service.engine.session(session_options(&request, author, id));
    let answer =
        statement.answer(session, prepared.map_err(headwater_engine::Error::from), format).await;
    let mut response = match answer {
        Ok(chunks) => {
            let media_type = [(CONTENT_TYPE, format.media_type())];
            (media_type, AnswerBody::from_stream(chunks)).into_response()
        }
        Err(problem) => Failure(problem).into_response(),
    };
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(JOB_HEADER, id);
    }
    Ok(response)
}

/// A namespace that is named must be there, whether the statement has bare names or not.
async fn check_namespace(app: &App, request: &QueryRequest) -> Answer<()> {
    let Some(namespace) = request.namespace.as_deref().filter(|name| *name != SYSTEM_NAMESPACE)
    else {
        return Ok(());
    };
    let main = RefSpec::main();
    let view = app.service.lake.view(request.reference.as_ref().unwrap_or(&main)).await?;
    // SQL finds names without case.
    let same = |known: &headwater_model::Namespace| known.name.eq_ignore_ascii_case(namespace);
    if view.namespaces().await?.iter().any(same) {
        return Ok(());
    }
    Ok(view.check_namespace(namespace).await?)
}

/// Refuses values without a parameter in the statement.
fn check_parameters(request: &QueryRequest, statement: &Prepared) -> Answer<()> {
    let is_used = |name: &str| statement.parameters().iter().any(|one| one.name == name);
    let Some(name) = request.parameters.keys().find(|name| !is_used(name)) else { return Ok(()) };
    let message = format!("the statement has no parameter `${name}`");
    Err(Failure::invalid(message, "Leave it out, or use it in the statement."))
}

fn new_job(request: &QueryRequest, author: &str) -> NewJob {
    let words: Vec<_> = request.sql.split_whitespace().collect();
    let summary = words.join(" ").chars().take(SUMMARY_CHARACTERS_MAX).collect::<String>();
    let reference = request.reference.clone().unwrap_or_else(headwater_model::RefSpec::main);
    NewJob {
        reference: Some(reference.to_string()),
        ..NewJob::new(JobKind::Query, summary, author)
    }
}

fn session_options(request: &QueryRequest, author: String, id: JobId) -> SessionOptions {
    SessionOptions {
        reference: request.reference.clone().unwrap_or_else(headwater_model::RefSpec::main),
        namespace: request.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        author,
        memory_bytes: request.memory_bytes_max,
        properties: BTreeMap::from([(PROPERTY_JOB.to_owned(), id.to_string())]),
        snapshot_properties: BTreeMap::new(),
        view: None,
    }
}
