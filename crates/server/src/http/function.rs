//! Functions of the project: list, invoke.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body as ResponseBody;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use headwater_encoding::{Format, RowEncoder};
use headwater_http_request::check_content_type;
use headwater_model::{
    AcceptedEvent, ErrorCode, FunctionSummary, InvokeAsyncRequest, InvokeRequest, JobId, Principal,
    Problem,
};
use headwater_service::{
    Argument, ArgumentValue, CallInput, EndedJob, FunctionResult, JobContext, OptionalCallParts,
    ResolvedFunction, ResultKind,
};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::oneshot;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::BodyKind;
use super::call_events;
use super::error::{ErrorResponse, HandlerResult};
use super::extract::{Caller, Parameters, Segments, parse_body};
use super::query::JOB_HEADER;
use crate::server_state::App;

/// Maximum length of a JSON result that is validated on the request's thread, in bytes. A longer
/// result is validated on a thread of the blocking pool.
const INLINE_BYTES_MAX: usize = 64 << 10;

pub(super) fn routes() -> OpenApiRouter<App> {
    // Disable the default limit: the body quota limits the length of these bodies.
    let calls = OpenApiRouter::new().routes(routes!(invoke)).routes(routes!(invoke_async));
    let calls = calls.layer(DefaultBodyLimit::disable());
    OpenApiRouter::new().routes(routes!(list)).merge(calls)
}

/// Lists the functions by name: functions of the deployed version, and functions without a
/// project.
#[utoipa::path(get, path = "/v1/functions",
    operation_id = "list_functions", tag = "function",
    responses((status = 200, body = [FunctionSummary]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Caller(principal): Caller,
) -> HandlerResult<Json<Vec<FunctionSummary>>> {
    Ok(Json(app.service.invocations().list(&principal).await?))
}

/// Options of a call.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct CallOptions {
    /// Argument that receives the table; by default the function's only required argument. Allowed
    /// only if the body is an Arrow stream.
    table: Option<String>,
    /// The other arguments, as one JSON object. Allowed only if the body is an Arrow stream.
    arguments: Option<String>,
    /// Send the events of the job while the function runs, before the response; false by default.
    #[serde(default)]
    events: bool,
}

/// Calls a deployed function and returns its result. The body is JSON, or one table as
/// `application/vnd.apache.arrow.stream`. If the JSON contains `files`, the function is taken from
/// these files.
///
/// A table is returned in the format that `Accept` selects (see `query`), any other result as JSON.
/// The header `x-headwater-job` contains the id of the job, whose record is durable before the
/// response is sent. If the client disconnects, the function is stopped.
/// With `events`, the status is 200 as soon as the job has started. The body contains the events of
/// the job, one JSON object per line. Then follow the line
/// `{"response": STATUS, "content_type": TYPE}` and the body of the response.
#[utoipa::path(post, path = "/v1/functions/{function}/invoke",
    operation_id = "invoke_function", tag = "function",
    params(("function" = String, Path), CallOptions),
    request_body(content((InvokeRequest = "application/json"),
        (Vec<u8> = "application/vnd.apache.arrow.stream"))),
    responses(
    (status = 200, description = "The result of the function.", content(
        (serde_json::Value = "application/json"),
        (String = "application/x-ndjson"),
        (String = "text/csv"),
        (Vec<u8> = "application/vnd.apache.arrow.stream"))),
    (status = "default", body = Problem)))]
async fn invoke(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    Parameters(options): Parameters<CallOptions>,
    headers: HeaderMap,
    request: Request,
) -> HandlerResult<Response> {
    let format = Format::accepted(&headers)?;
    let with_events = options.events;
    let call = prepare(&app, &principal, &name, options, request).await?;
    let PreparedCall { function, arguments, author, permit } = call;
    let principal = principal.with_author(author);
    let returns = if format == Format::Json { ResultKind::Any } else { ResultKind::Table };
    let client = OptionalCallParts::default();
    let (started, job) = oneshot::channel();
    let started = with_events.then_some(started);
    let input = CallInput { arguments, returns, client, permit, started };
    let encode = move |returned, _: JobContext| encode(format, returned);
    let (invocations, caller) = (app.service.invocations(), principal.clone());
    let call = async move { invocations.call(&caller, function, input, encode).await };
    if with_events {
        return call_events::respond(&app, &principal, job, call).await;
    }
    Ok(response(call.await?))
}

/// Returns the response to a call that has ended.
pub(super) fn response(ended: EndedJob<Response>) -> Response {
    let response = ended.result.unwrap_or_else(|problem| ErrorResponse(problem).into_response());
    with_job(response, ended.job)
}

/// Adds the id of a call's job to the headers of a response.
pub(super) fn with_job(mut response: Response, job: JobId) -> Response {
    if let Ok(id) = HeaderValue::from_str(&job.to_string()) {
        response.headers_mut().insert(JOB_HEADER, id);
    }
    response
}

/// Accepts a call of a deployed function for asynchronous execution.
///
/// The event is durable before the response is sent. The call is attempted at least once and
/// retried after errors; `get_trigger_event` returns its status.
#[utoipa::path(post, path = "/v1/functions/{function}/invoke-async",
    operation_id = "invoke_function_async", tag = "function",
    params(("function" = String, Path)), request_body = InvokeAsyncRequest,
    responses(
    (status = 202, body = AcceptedEvent), (status = "default", body = Problem)))]
async fn invoke_async(
    State(app): State<App>,
    Caller(principal): Caller,
    Segments(name): Segments<String>,
    request: Request,
) -> HandlerResult<(StatusCode, Json<AcceptedEvent>)> {
    check_content_type(request.headers())?;
    let (bytes, permit) = app.bodies.read(request, BodyKind::Call).await?;
    let request: InvokeAsyncRequest = parse_body(&bytes)?;
    drop(bytes);
    let accepted = app.service.invocations().accept(&principal, &name, request).await?;
    drop(permit);
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

/// A call whose function and arguments have been validated.
struct PreparedCall {
    function: ResolvedFunction,
    arguments: Vec<Argument>,
    /// The author that the request body contains.
    author: Option<String>,
    /// The memory quota of the body, held until the end of the call.
    permit: Option<Box<dyn Send>>,
}

async fn prepare(
    app: &App,
    principal: &Principal,
    name: &str,
    options: CallOptions,
    request: Request,
) -> HandlerResult<PreparedCall> {
    let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if media_type == Some(Format::Arrow.media_type()) {
        return prepare_table(app, principal, name, options, request).await;
    }
    if options.table.is_some() || options.arguments.is_some() {
        let message = "the parameters `table` and `arguments` are only for an Arrow body";
        let hint = "Send the arguments in the JSON body, or send the table as an Arrow stream.";
        return Err(ErrorResponse::invalid(message, hint));
    }
    check_content_type(request.headers())?;
    let (bytes, permit) = app.bodies.read(request, BodyKind::Call).await?;
    let request: InvokeRequest = serde_json::from_slice(&bytes).map_err(|error| {
        let hint = "Send `{\"arguments\": {\"NAME\": VALUE}}`.";
        ErrorResponse::invalid(format!("the body cannot be parsed: {error}"), hint)
    })?;
    let invocations = app.service.invocations();
    let function = match request.files {
        Some(files) => invocations.find_in_files(principal, files, name).await?,
        None => invocations.find(principal, name).await?,
    };
    function.check_arguments(&request.arguments, None)?;
    let (arguments, author) = (values(request.arguments), request.author);
    Ok(PreparedCall { function, arguments, author, permit: Some(Box::new(permit)) })
}

/// Prepares a call whose body is a table.
async fn prepare_table(
    app: &App,
    principal: &Principal,
    name: &str,
    options: CallOptions,
    request: Request,
) -> HandlerResult<PreparedCall> {
    let function = app.service.invocations().find(principal, name).await?;
    let table = match options.table.as_deref() {
        Some(table) => table.to_owned(),
        None => function.table_argument()?.to_owned(),
    };
    let others: BTreeMap<String, Value> = match &options.arguments {
        Some(text) => serde_json::from_str(text).map_err(|error| {
            let message = format!("`arguments` cannot be parsed: {error}");
            ErrorResponse::invalid(message, "Send one JSON object, percent-encoded.")
        })?,
        None => BTreeMap::new(),
    };
    function.check_arguments(&others, Some(&table))?;
    let read = super::write_rows::read_table(app, principal, request).await?;
    let mut arguments = values(others);
    arguments.push(Argument { name: table, value: ArgumentValue::Table(read) });
    // No body quota is needed, because the memory of the table counts towards the row quota.
    Ok(PreparedCall { function, arguments, author: None, permit: None })
}

fn values(values: BTreeMap<String, Value>) -> Vec<Argument> {
    let argument = |(name, value)| Argument { name, value: ArgumentValue::Json(value) };
    values.into_iter().map(argument).collect()
}

/// Encodes the result of a function.
async fn encode(format: Format, returned: FunctionResult) -> Result<Response, Problem> {
    let table = match returned {
        FunctionResult::Table(table) => table,
        FunctionResult::Bool(value) => return Ok(Json(value).into_response()),
        FunctionResult::Json(text) => return json_response(text).await,
    };
    let not_encoded = |error: arrow::error::ArrowError| {
        let message = format!("the result cannot be encoded: {error}");
        Problem::new(ErrorCode::Internal, message)
    };
    let encoder = RowEncoder::new(format, &table.schema()).map_err(not_encoded)?;
    let state = (table.stream(), Some((encoder, None)));
    let chunks = futures::stream::try_unfold(state, |(mut rows, encoder)| async move {
        let Some((mut encoder, left)) = encoder else { return Ok(None) };
        let next = match left {
            Some(left) => Some(left),
            None => rows.next().await.transpose()?,
        };
        let (bytes, encoder) = match next {
            Some(batch) => {
                let (bytes, left) = encoder.encode_prefix(batch)?;
                (bytes, Some((encoder, left)))
            }
            None => (encoder.end()?, None),
        };
        Ok::<_, arrow::error::ArrowError>(Some((bytes, (rows, encoder))))
    });
    let media_type = [(CONTENT_TYPE, format.media_type())];
    Ok((media_type, ResponseBody::from_stream(chunks)).into_response())
}

/// Validates a function's JSON result, and returns it as a response.
async fn json_response(text: Bytes) -> Result<Response, Problem> {
    let check = |text: &Bytes| serde_json::from_slice::<serde::de::IgnoredAny>(text).map(drop);
    let checked = if text.len() <= INLINE_BYTES_MAX {
        check(&text)
    } else {
        let text = text.clone();
        let checked = tokio::task::spawn_blocking(move || check(&text)).await;
        checked.unwrap_or_else(|error| Err(serde::de::Error::custom(error)))
    };
    checked.map_err(|error| {
        let message = format!("the function's result is not valid JSON: {error}");
        Problem::new(ErrorCode::FunctionFailed, message)
    })?;
    Ok(([(CONTENT_TYPE, Format::Json.media_type())], text).into_response())
}
