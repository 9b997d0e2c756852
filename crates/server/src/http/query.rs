//! Queries: one SQL statement, answered as it is computed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::body::Body as AnswerBody;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use headwater_engine::SessionOptions;
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
    let sql = with_parameters(&request)?;
    let author = author.or(request.author.clone());
    let (context, guard) = app.jobs.record(new_job(&request, &author)).await?;
    let id = context.id();
    let statement = Statement::new(context, guard, request.limit);
    let session = app.engine.session(session_options(&request, author, id));
    let answer = statement.answer(session, &sql, format).await;
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
    let view = app.lake.view(request.reference.as_ref().unwrap_or(&main)).await?;
    // SQL finds names without case.
    let same = |known: &headwater_model::Namespace| known.name.eq_ignore_ascii_case(namespace);
    if view.namespaces().await?.iter().any(same) {
        return Ok(());
    }
    Ok(view.check_namespace(namespace).await?)
}

/// The statement with its parameters put in. One that the statement does not have is an error.
fn with_parameters(request: &QueryRequest) -> Answer<Cow<'_, str>> {
    if request.parameters.is_empty() {
        return Ok(Cow::Borrowed(&request.sql));
    }
    let used = headwater_engine::placeholders(&request.sql)?;
    let stranger = request.parameters.keys().find(|name| used.iter().all(|(it, _)| it != *name));
    if let Some(name) = stranger {
        let message = format!("the statement has no parameter `${name}`");
        return Err(Failure::invalid(message, "Leave it out, or use it in the statement."));
    }
    Ok(Cow::Owned(headwater_engine::substitute(&request.sql, &request.parameters)?))
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
