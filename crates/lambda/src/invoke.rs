//! Calls: synchronous (optionally with the tail of the log), asynchronous, and dry runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use headwater_model::{
    ErrorCode, InvokeAsyncRequest, Job, JobEventKind, JobId, LogStream, Principal, Problem,
};
use headwater_service::{
    Argument, ArgumentValue, CallInput, FunctionResult, JobContext, OptionalCallParts,
    ResolvedFunction, ResultKind, Service,
};
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::error::{LambdaError, Result};
use crate::function_name::FunctionName;
use crate::protocol::REQUEST_ID;
use crate::request::LambdaRequest;

/// The name of the function argument that receives the event.
pub(crate) const EVENT: &str = "event";

/// Maximum length of the log in a response, in bytes before Base64.
const LOG_BYTES_MAX: usize = 4 << 10;

/// Maximum length of an event in bytes. AWS accepts 6 MiB, and 1 MiB for asynchronous calls.
pub const EVENT_BYTES_MAX: usize = 64 << 20;

/// Maximum length of a result that is validated on the request's thread, in bytes. A longer result
/// is validated on a thread of the blocking pool.
const INLINE_BYTES_MAX: usize = 64 << 10;

pub(crate) const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
const LOG_RESULT: HeaderName = HeaderName::from_static("x-amz-log-result");

pub(crate) async fn invoke(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Response<Bytes>> {
    let name = request.qualified(name)?;
    match request.header("x-amz-invocation-type") {
        None | Some("RequestResponse") => call(service, request, &name).await,
        Some("Event") => accept(service, request, &name).await,
        Some("DryRun") => {
            service.invocations().find(&request.principal, &name.called()).await?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        Some(other) => Err(LambdaError::invalid(format!(
            "{other} is not an invocation type: use RequestResponse, Event or DryRun."
        ))),
    }
}

pub(crate) async fn invoke_async(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Response<Bytes>> {
    let mut response = accept(service, request, &name).await?;
    *response.body_mut() = Bytes::from_static(b"{\"Status\":202}");
    Ok(response)
}

/// Accepts an asynchronous call, which is durable on return.
async fn accept(
    service: &Service,
    request: &LambdaRequest,
    name: &FunctionName,
) -> Result<Response<Bytes>> {
    let arguments = BTreeMap::from([(EVENT.to_owned(), event(request)?)]);
    let call = InvokeAsyncRequest { arguments, ..InvokeAsyncRequest::default() };
    let invocations = service.invocations();
    let accepted = invocations.accept(&request.principal, &name.called(), call).await?;
    let mut response = empty(StatusCode::ACCEPTED);
    set(&mut response, REQUEST_ID, &accepted.event);
    Ok(response)
}

/// The version that a call executes, as the log of the call shows it.
pub(crate) struct CalledVersion {
    /// The number of the version, or `$LATEST`.
    pub version: String,
    /// The memory limit in bytes.
    pub memory_bytes: u64,
}

impl CalledVersion {
    /// Returns the version that a call of this function executes.
    pub(crate) fn of(function: &ResolvedFunction) -> Self {
        let version = function.version().unwrap_or("$LATEST").to_owned();
        CalledVersion { version, memory_bytes: function.memory_bytes() }
    }
}

/// Calls a function and waits for its result.
async fn call(
    service: &Service,
    request: &LambdaRequest,
    name: &FunctionName,
) -> Result<Response<Bytes>> {
    let event = event(request)?;
    let invocations = service.invocations();
    let function = invocations.find(&request.principal, &name.called()).await?;
    let called = CalledVersion::of(&function);
    let value = ArgumentValue::Json(event);
    let arguments = vec![Argument { name: EVENT.to_owned(), value }];
    let client =
        OptionalCallParts { context: client_context(request)?, ..OptionalCallParts::default() };
    let returns = ResultKind::Any;
    let input = CallInput { arguments, returns, client, permit: None, started: None };
    let encode = |returned, _: JobContext| encode(returned);
    let ended = invocations.call(&request.principal, function, input, encode).await?;
    let mut response = match ended.result {
        Ok(body) => Response::new(body),
        Err(problem) if is_of_function(problem.code) => {
            let mut response = Response::new(error_body(&problem, ended.job));
            set(&mut response, FUNCTION_ERROR, "Unhandled");
            response
        }
        Err(problem) => return Err(problem.into()),
    };
    set(&mut response, CONTENT_TYPE, "application/json");
    set(&mut response, EXECUTED_VERSION, &called.version);
    set(&mut response, REQUEST_ID, &ended.job.to_string());
    if request.header("x-amz-log-type") == Some("Tail") {
        let log = encoded_log(service, &request.principal, ended.job, &called).await?;
        set(&mut response, LOG_RESULT, &log);
    }
    Ok(response)
}

/// Returns the context that a client sends, which is JSON in Base64.
pub(crate) fn client_context(request: &LambdaRequest) -> Result<Option<Value>> {
    let Some(text) = request.header("x-amz-client-context") else { return Ok(None) };
    let bytes = STANDARD.decode(text).ok();
    let value = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let invalid = || {
        let message = "Client context must be a valid Base64-encoded JSON object.";
        LambdaError::new(400, "InvalidRequestContentException", message)
    };
    value.filter(Value::is_object).map(Some).ok_or_else(invalid)
}

/// Returns the event in the body of a request; an empty body is an empty object.
pub(crate) fn event(request: &LambdaRequest) -> Result<Value> {
    if request.body.len() > EVENT_BYTES_MAX {
        return Err(too_large(EVENT_BYTES_MAX));
    }
    request.parse()
}

/// Returns the error for a request of more than `bytes_max` bytes.
pub(crate) fn too_large(bytes_max: usize) -> LambdaError {
    let message = format!(
        "Request must be smaller than {bytes_max} bytes for the operation. Store larger data in a \
         bucket, and send its key."
    );
    LambdaError::new(413, "RequestTooLargeException", message)
}

/// Encodes the value that a function returned as JSON.
pub(crate) async fn encode(returned: FunctionResult) -> Result<Bytes, Problem> {
    match returned {
        FunctionResult::Json(text) => {
            let checked = if text.len() <= INLINE_BYTES_MAX {
                check(&text)
            } else {
                let text = text.clone();
                let checked = tokio::task::spawn_blocking(move || check(&text)).await;
                checked.unwrap_or_else(|error| Err(error.to_string()))
            };
            checked.map_err(|reason| {
                let message = format!("the function's result is not valid JSON: {reason}");
                Problem::new(ErrorCode::FunctionFailed, message)
            })?;
            Ok(text)
        }
        FunctionResult::Bool(value) => Ok(Bytes::from(value.to_string())),
        FunctionResult::Table(_) => {
            let message = "the function returned a table, which Lambda's API cannot return";
            Err(Problem::new(ErrorCode::FunctionFailed, message))
        }
    }
}

fn check(text: &[u8]) -> Result<(), String> {
    let checked = serde_json::from_slice::<serde::de::IgnoredAny>(text);
    checked.map(drop).map_err(|error| error.to_string())
}

/// Returns true for errors of the function itself, for which `Invoke` has the status 200.
pub(crate) fn is_of_function(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::FunctionFailed
            | ErrorCode::MemoryLimit
            | ErrorCode::TempLimit
            | ErrorCode::TimeLimit
            | ErrorCode::EnvironmentFailed
    )
}

/// Returns the response body for an error raised by a function.
pub(crate) fn error_body(problem: &Problem, job: JobId) -> Bytes {
    if problem.code == ErrorCode::TimeLimit {
        let milliseconds = problem.context.get("limit_ms").and_then(Value::as_u64);
        let seconds = milliseconds.unwrap_or_default() as f64 / 1_000.0;
        let time = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.3fZ");
        let message = format!("{time} {job} Task timed out after {seconds:.2} seconds");
        let body = json!({"errorType": "Sandbox.Timedout", "errorMessage": message});
        return Bytes::from(body.to_string());
    }
    let raised = problem.context.get("exception").and_then(Value::as_str);
    let kind = raised.unwrap_or(match problem.code {
        ErrorCode::MemoryLimit => "Runtime.OutOfMemory",
        _ => "Runtime.ExitError",
    });
    let frames = problem.context.get("frames").and_then(Value::as_array);
    let message = raised_message(&problem.message, kind, frames.and_then(|frames| frames.last()));
    let mut body = json!({"errorType": kind, "errorMessage": message});
    if let Some(frames) = frames {
        let line = |frame: &Value| {
            let text = |key: &str| frame[key].as_str().unwrap_or_default().to_owned();
            let (function, source) = (text("function"), text("source"));
            let file = text("file").replacen("code/", "/var/task/", 1);
            format!("  File \"{file}\", line {}, in {function}\n    {source}\n", frame["line"])
        };
        body["stackTrace"] = frames.iter().map(line).collect();
        body["requestId"] = job.to_string().into();
    }
    Bytes::from(body.to_string())
}

/// Returns the first line of an exception's message, without the class at the start and the
/// location at the end.
fn raised_message<'a>(message: &'a str, kind: &str, frame: Option<&Value>) -> &'a str {
    let message = message.lines().next().unwrap_or_default();
    let message = message.strip_prefix(&format!("{kind}: ")).unwrap_or(message);
    let Some(frame) = frame else { return message };
    let file = frame["file"].as_str().unwrap_or_default();
    message.strip_suffix(&format!(" ({file}:{})", frame["line"])).unwrap_or(message)
}

/// Returns the tail of a call's log, in Base64.
pub(crate) async fn encoded_log(
    service: &Service,
    principal: &Principal,
    job: JobId,
    called: &CalledVersion,
) -> Result<String> {
    Ok(STANDARD.encode(log(service, principal, job, called).await?))
}

/// Returns the tail of a call's log in the format of Lambda.
async fn log(
    service: &Service,
    principal: &Principal,
    job: JobId,
    called: &CalledVersion,
) -> Result<Vec<u8>> {
    let id = job.to_string();
    let events = service.jobs().events(principal, &id, 0).await?;
    let job = service.jobs().get(principal, &id).await?;
    let mut text = format!("START RequestId: {id} Version: {}\n", called.version);
    for event in events {
        if let JobEventKind::Log { stream, text: line, .. } = event.event
            && stream != LogStream::System
        {
            let _ = writeln!(text, "{line}");
        }
    }
    let (duration, billed) = duration(&job);
    let (size, peak) = (called.memory_bytes >> 20, job.usage.memory_bytes_peak >> 20);
    let _ = writeln!(text, "END RequestId: {id}");
    let _ = write!(
        text,
        "REPORT RequestId: {id}\tDuration: {duration:.2} ms\tBilled Duration: {billed} ms\t\
         Memory Size: {size} MB\tMax Memory Used: {peak} MB\t"
    );
    let usage = &job.usage;
    let start = usage.start_ms + usage.environment_ms + usage.runtime_start_ms;
    if start > 0 {
        let _ = write!(text, "Init Duration: {start}.00 ms\t");
    }
    text.push('\n');
    let from = text.len().saturating_sub(LOG_BYTES_MAX);
    Ok(text.into_bytes().split_off(from))
}

/// Returns the duration of a call and its billed duration, both in milliseconds.
fn duration(job: &Job) -> (f64, u64) {
    let elapsed = job.started.zip(job.ended).map(|(started, ended)| ended - started);
    let elapsed = elapsed.and_then(|elapsed| elapsed.to_std().ok());
    // If the system clock was set back, the end precedes the start. In this case, use the measured
    // time (`wall_ms`).
    let usage = &job.usage;
    let waited = usage.queue_ms + usage.start_ms + usage.environment_ms;
    let wall = usage.wall_ms as f64;
    let exact = elapsed.map_or(wall, |elapsed| elapsed.as_secs_f64() * 1e3 - waited as f64);
    // `wall` excludes waiting times, but is rounded up to whole milliseconds. So use the time of
    // the clock only within this last millisecond. The start of the runtime is billed, but is not
    // part of the duration.
    let exact = exact.clamp((wall - 1.0).max(0.0), wall) - usage.runtime_start_ms as f64;
    (exact.max(0.0), usage.wall_ms)
}

fn empty(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

pub(crate) fn set<B>(response: &mut Response<B>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
