//! Functions of the project: list them, and call one by its name and wait for what it returns.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body as AnswerBody;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use headwater_functions::{Argument, ArgumentValue, Returned, Returns};
use headwater_jobs::NewJob;
use headwater_model::{
    ErrorCode, Fault, FunctionSummary, InvokeRequest, JobKind, Problem, nearest,
};
use headwater_pipelines::{Callable, Parsed, Project};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::body::{Held, Kind};
use super::extract::{Author, Parameters, Segments, check_content_type};
use super::failure::{Answer, Failure};
use super::query::JOB_HEADER;
use crate::answer::{Encoder, Format};
use headwater_service::{nothing_deployed, parse_folder};

/// The longest answer in JSON that is looked through where others are served.
const SHORT: usize = 64 << 10;

pub(super) fn routes() -> OpenApiRouter<App> {
    // Each body is held to its own limit, once there is room for it.
    let invoke = OpenApiRouter::new().routes(routes!(invoke)).layer(DefaultBodyLimit::disable());
    OpenApiRouter::new().routes(routes!(list)).merge(invoke)
}

/// Lists the functions of the deployed version, by name: those with `@headwater.function()`.
#[utoipa::path(get, path = "/v1/functions",
    operation_id = "list_functions", tag = "function",
    responses((status = 200, body = [FunctionSummary]), (status = "default", body = Problem)))]
async fn list(State(app): State<App>) -> Answer<Json<Vec<FunctionSummary>>> {
    let Some(version) = app.service.deployer.deployed().version()? else {
        return Ok(Json(Vec::new()));
    };
    let project = version.project;
    let summary = |callable: &Callable| callable.summary(&project.defaults);
    Ok(Json(project.callables.values().map(summary).collect()))
}

/// What a call with a table for a body says beside it.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Beside {
    /// The argument that the table is given to; the only one that the function needs where nothing is
    /// said. For a body of Arrow alone.
    table: Option<String>,
    /// The other arguments, as one JSON object. For a body of Arrow alone.
    arguments: Option<String>,
}

/// Calls a function of the deployed version and waits for what it returns. The body is JSON, or one
/// table as `application/vnd.apache.arrow.stream`. With `files` in the JSON the function is called as
/// these files define it.
///
/// The answer is what the function returned: a table in the form that `Accept` names (see `query`),
/// and whatever else as JSON. The header `x-headwater-job` names the job; its record is stored, so
/// that it outlives the server, before the answer is sent. Going away stops the function.
#[utoipa::path(post, path = "/v1/functions/{function}/invoke",
    operation_id = "invoke_function", tag = "function",
    params(("function" = String, Path), Beside),
    request_body(content((InvokeRequest = "application/json"),
        (Vec<u8> = "application/vnd.apache.arrow.stream"))),
    responses(
    (status = 200, description = "What the function returned.", content(
        (serde_json::Value = "application/json"),
        (String = "application/x-ndjson"),
        (String = "text/csv"),
        (Vec<u8> = "application/vnd.apache.arrow.stream"))),
    (status = "default", body = Problem)))]
async fn invoke(
    State(app): State<App>,
    author: Author,
    Segments(name): Segments<String>,
    Parameters(beside): Parameters<Beside>,
    headers: HeaderMap,
    request: Request,
) -> Answer<Response> {
    let format = Format::accepted(&headers)?;
    let call = prepare(&app, &name, beside, request).await?;
    let PreparedCall { project, callable, arguments, author: named, permit } = call;
    let kind = if format == Format::Json { Returns::Any } else { Returns::Table };
    let new = NewJob::new(JobKind::Function, callable.name.clone(), author.or(named));
    let (context, guard) = app.service.jobs.record(new).await?;
    let id = context.id();
    // Whoever goes away stops the function, and what it took until then is recorded all the same.
    let leaving = context.cancelled().drop_guard();
    let call = tokio::spawn(async move {
        let with = (&*project, &app.service.given);
        let returned = app.service.runner.call(with, &callable, (arguments, kind), &context).await;
        drop(permit);
        let answer = match returned {
            Ok(returned) => answer(format, returned).await,
            Err(error) => Err(error.to_problem()),
        };
        let outcome = answer.as_ref().map(|_| Value::Null).map_err(Clone::clone);
        match guard.finish_stored(outcome).await {
            Some(problem) => Err(problem),
            None => answer,
        }
    });
    let answer = call.await.unwrap_or_else(|error| {
        Err(Problem::new(
            ErrorCode::Internal,
            format!("the call ended before it was done: {error}"),
        ))
    });
    drop(leaving.disarm());
    let mut response = answer.unwrap_or_else(|problem| Failure(problem).into_response());
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(JOB_HEADER, id);
    }
    Ok(response)
}

/// A call whose function and arguments are known.
struct PreparedCall {
    project: Arc<Project>,
    callable: Callable,
    arguments: Vec<Argument>,
    /// The author that the body names.
    author: Option<String>,
    /// The memory that the body takes until the call has ended.
    permit: Option<Held>,
}

async fn prepare(app: &App, name: &str, beside: Beside, request: Request) -> Answer<PreparedCall> {
    let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if media_type == Some(Format::Arrow.media_type()) {
        return prepare_table(app, name, beside, request).await;
    }
    if beside.table.is_some() || beside.arguments.is_some() {
        let message = "`table` and `arguments` go with a body of Arrow";
        return Err(Failure::invalid(message, "Put the arguments into the body."));
    }
    check_content_type(request.headers())?;
    let (bytes, permit) = app.bodies.read(request, Kind::Values).await?;
    let request: InvokeRequest = serde_json::from_slice(&bytes).map_err(|error| {
        let hint = "Send `{\"arguments\": {\"NAME\": VALUE}}`.";
        Failure::invalid(format!("the body cannot be read: {error}"), hint)
    })?;
    let (project, callable) = match request.files {
        Some(files) => of_files(files, name).await?,
        None => deployed(app, name).await?,
    };
    callable.check(&request.arguments, None)?;
    let (arguments, author) = (values(request.arguments), request.author);
    Ok(PreparedCall { project, callable, arguments, author, permit: Some(permit) })
}

/// The function of the deployed version.
async fn deployed(app: &App, name: &str) -> Answer<(Arc<Project>, Callable)> {
    let version = app.service.deployer.deployed().version()?;
    if let Some(version) = &version
        && let Some(callable) = version.project.callables.get(name)
    {
        return Ok((version.project.clone(), callable.clone()));
    }
    if is_in_folder(app, name).await {
        let message = format!("function `{name}` is in the working folder, but not deployed");
        let hint = "Run `headwater deploy`, or call it with `--working-folder`.";
        return Err(Failure(Problem::new(ErrorCode::FunctionNotFound, message).with_hint(hint)));
    }
    Err(version
        .map_or_else(|| Failure(nothing_deployed()), |version| not_found(&version.project, name)))
}

/// Whether the working folder defines a function.
async fn is_in_folder(app: &App, name: &str) -> bool {
    let Some(folder) = app.config.service.project_dir.clone() else { return false };
    let parsed = parse_folder(folder).await.ok();
    parsed.is_some_and(|parsed| matches!(parsed.into_callable(name), Ok((_, Some(_)))))
}

/// The function that files define.
async fn of_files(files: BTreeMap<String, String>, name: &str) -> Answer<(Arc<Project>, Callable)> {
    let wanted = name.to_owned();
    let read = move || {
        let parsed = Parsed::read(&files).map_err(|error| error.to_problem())?;
        parsed.into_callable(&wanted).map_err(|error| error.to_problem())
    };
    let read = tokio::task::spawn_blocking(read).await.map_err(|error| {
        Failure(Problem::new(ErrorCode::Internal, format!("the files were not read: {error}")))
    })?;
    let (project, callable) = read?;
    let callable = callable.ok_or_else(|| not_found(&project, name))?;
    Ok((Arc::new(project), callable))
}

fn not_found(project: &Project, name: &str) -> Failure {
    let message = format!("the project `{}` has no function `{name}`", project.name);
    let hint = if project.steps.iter().any(|step| step.table.name == name) {
        "It is a model, which a run computes; only what has `@headwater.function()` is called."
            .to_owned()
    } else if let Some(near) = nearest(name, project.callables.keys().map(String::as_str)) {
        format!("Did you mean `{near}`?")
    } else {
        "See `headwater function ls`; only what has `@headwater.function()` is called.".to_owned()
    };
    Failure(Problem::new(ErrorCode::FunctionNotFound, message).with_hint(hint))
}

/// A call whose body is a table.
async fn prepare_table(
    app: &App,
    name: &str,
    beside: Beside,
    request: Request,
) -> Answer<PreparedCall> {
    let (project, callable) = deployed(app, name).await?;
    let table = match beside.table.as_deref() {
        Some(table) => table,
        None => callable.table_argument()?,
    };
    let others: BTreeMap<String, Value> = match &beside.arguments {
        Some(text) => serde_json::from_str(text).map_err(|error| {
            let message = format!("`arguments` cannot be read: {error}");
            Failure::invalid(message, "Write one JSON object, percent-encoded.")
        })?,
        None => BTreeMap::new(),
    };
    callable.check(&others, Some(table))?;
    let read = super::rows::read_table(app, request).await?;
    let mut arguments = values(others);
    arguments.push(Argument { name: table.to_owned(), value: ArgumentValue::Table(read) });
    // The table itself counts towards the memory for rows.
    Ok(PreparedCall { project, callable, arguments, author: None, permit: None })
}

fn values(given: BTreeMap<String, Value>) -> Vec<Argument> {
    let argument = |(name, value)| Argument { name, value: ArgumentValue::Json(value) };
    given.into_iter().map(argument).collect()
}

/// What a function returned, in the form that was asked for.
async fn answer(format: Format, returned: Returned) -> Result<Response, Problem> {
    let table = match returned {
        Returned::Table(table) => table,
        Returned::Bool(value) => return Ok(Json(value).into_response()),
        Returned::Json(text) => return said(text).await,
    };
    let unsayable = |error: arrow::error::ArrowError| {
        let message = format!("the answer cannot be written: {error}");
        Problem::new(ErrorCode::Internal, message)
    };
    let encoder = Encoder::new(format, &table.schema()).map_err(unsayable)?;
    let state = (table.stream(), Some((encoder, None)));
    let chunks = futures::stream::try_unfold(state, |(mut rows, encoder)| async move {
        let Some((mut encoder, left)) = encoder else { return Ok(None) };
        let next = match left {
            Some(left) => Some(left),
            None => rows.next().await.transpose()?,
        };
        let (bytes, encoder) = match next {
            Some(batch) => {
                let (bytes, left) = encoder.piece(batch)?;
                (bytes, Some((encoder, left)))
            }
            None => (encoder.end()?, None),
        };
        Ok::<_, arrow::error::ArrowError>(Some((bytes, (rows, encoder))))
    });
    let media_type = [(CONTENT_TYPE, format.media_type())];
    Ok((media_type, AnswerBody::from_stream(chunks)).into_response())
}

/// What a function says in JSON, where it is any.
async fn said(text: Bytes) -> Result<Response, Problem> {
    let check = |text: &Bytes| serde_json::from_slice::<serde::de::IgnoredAny>(text).map(drop);
    let checked = if text.len() <= SHORT {
        check(&text)
    } else {
        let text = text.clone();
        let checked = tokio::task::spawn_blocking(move || check(&text)).await;
        checked.unwrap_or_else(|error| Err(serde::de::Error::custom(error)))
    };
    checked.map_err(|error| {
        let message = format!("what the function returned cannot be read: {error}");
        Problem::new(ErrorCode::FunctionFailed, message)
    })?;
    Ok(([(CONTENT_TYPE, Format::Json.media_type())], text).into_response())
}
