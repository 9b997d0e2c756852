//! Functions of the project: list them, and call one by its name and wait for what it returns.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body as AnswerBody;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use headwater_functions::{Argument, ArgumentValue, Returned, Returns};
use headwater_model::{ErrorCode, FunctionSummary, InvokeRequest, Principal, Problem};
use headwater_service::{CallInput, FoundFunction};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::body::Kind;
use super::extract::{Caller, Parameters, Segments, check_content_type};
use super::failure::{Answer, Failure};
use super::query::JOB_HEADER;
use crate::answer::{Encoder, Format};

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
async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
) -> Answer<Json<Vec<FunctionSummary>>> {
    Ok(Json(app.service.invocations().list(&principal)?))
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
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Parameters(beside): Parameters<Beside>,
    headers: HeaderMap,
    request: Request,
) -> Answer<Response> {
    let format = Format::accepted(&headers)?;
    let call = prepare(&app, &principal, &name, beside, request).await?;
    let principal = principal.with_author(call.author);
    let returns = if format == Format::Json { Returns::Any } else { Returns::Table };
    let input = CallInput { arguments: call.arguments, returns, permit: call.permit };
    let encode = move |returned| answer(format, returned);
    let ended = app.service.invocations().call(&principal, call.function, input, encode).await?;
    let (id, answer) = (ended.job, ended.result);
    let mut response = answer.unwrap_or_else(|problem| Failure(problem).into_response());
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(JOB_HEADER, id);
    }
    Ok(response)
}

/// A call whose function and arguments are known.
struct PreparedCall {
    function: FoundFunction,
    arguments: Vec<Argument>,
    /// The author in the body.
    author: Option<String>,
    /// The memory quota of the body, held until the call has ended.
    permit: Option<Box<dyn Send>>,
}

async fn prepare(
    app: &App,
    principal: &Principal,
    name: &str,
    beside: Beside,
    request: Request,
) -> Answer<PreparedCall> {
    let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if media_type == Some(Format::Arrow.media_type()) {
        return prepare_table(app, principal, name, beside, request).await;
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
    let invocations = app.service.invocations();
    let function = match request.files {
        Some(files) => invocations.find_in_files(principal, files, name).await?,
        None => invocations.find(principal, name).await?,
    };
    function.callable().check(&request.arguments, None)?;
    let (arguments, author) = (values(request.arguments), request.author);
    Ok(PreparedCall { function, arguments, author, permit: Some(Box::new(permit)) })
}

/// A call whose body is a table.
async fn prepare_table(
    app: &App,
    principal: &Principal,
    name: &str,
    beside: Beside,
    request: Request,
) -> Answer<PreparedCall> {
    let function = app.service.invocations().find(principal, name).await?;
    let callable = function.callable();
    let table = match beside.table.as_deref() {
        Some(table) => table.to_owned(),
        None => callable.table_argument()?.to_owned(),
    };
    let others: BTreeMap<String, Value> = match &beside.arguments {
        Some(text) => serde_json::from_str(text).map_err(|error| {
            let message = format!("`arguments` cannot be read: {error}");
            Failure::invalid(message, "Write one JSON object, percent-encoded.")
        })?,
        None => BTreeMap::new(),
    };
    callable.check(&others, Some(&table))?;
    let read = super::rows::read_table(app, request).await?;
    let mut arguments = values(others);
    arguments.push(Argument { name: table, value: ArgumentValue::Table(read) });
    // The table itself counts towards the memory for rows.
    Ok(PreparedCall { function, arguments, author: None, permit: None })
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
