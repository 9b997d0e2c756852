//! `InvokeWithResponseStream`: a call whose response is sent while the function runs.

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use headwater_model::{JobId, Principal, Problem};
use headwater_service::{EndedJob, ResponsePart, Service};
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::error::{LambdaError, Result};
use crate::event_stream::{self, MEDIA_TYPE, payload_chunks};
use crate::function_name::FunctionName;
use crate::invoke::{
    CalledVersion, EXECUTED_VERSION, client_context, encoded_log, error_body, event,
    is_of_function, set,
};
use crate::request::LambdaRequest;
use crate::response_body::LambdaResponseBody;
use crate::streamed_call::{CallEnd, CallEvent, ClientInput, StreamedCall};

pub(crate) async fn invoke(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Response<LambdaResponseBody>> {
    let name = name.qualified(request.query("Qualifier"))?;
    let function = service.invocations().find(&request.principal, &name.called()).await?;
    match request.header("x-amz-invocation-type") {
        None | Some("RequestResponse") => {}
        Some("DryRun") => {
            let mut response = Response::new(LambdaResponseBody::Whole(Bytes::new()));
            *response.status_mut() = StatusCode::NO_CONTENT;
            return Ok(response);
        }
        Some(other) => {
            let message = format!("{other} is not an invocation type of a streaming call.");
            return Err(LambdaError::invalid(message));
        }
    }
    let called = CalledVersion::of(&function);
    let version = called.version.clone();
    let (event, context) = (event(request)?, client_context(request)?);
    let input = ClientInput { event, context, check: |_| None };
    let mut call = StreamedCall::new(service, &request.principal, function, input);
    // Wait for the first event before the response starts: if the call is rejected, the response
    // has the status of the error.
    let first = call.next().await;
    let first = match first {
        Some(CallEvent::Ended(Err(problem))) => return Err(problem.into()),
        Some(CallEvent::Ended(Ok(EndedJob { result: Err(problem), .. })))
            if !is_of_function(problem.code) =>
        {
            return Err(problem.into());
        }
        first => first,
    };
    let log = (request.header("x-amz-log-type") == Some("Tail")).then(|| CallLogReader {
        service: service.clone(),
        principal: request.principal.clone(),
        called,
    });
    let mut response = Response::new(LambdaResponseBody::Parts(messages(ResponseMessages {
        call,
        first,
        has_parts: false,
        log,
    })));
    set(&mut response, CONTENT_TYPE, MEDIA_TYPE);
    set(&mut response, EXECUTED_VERSION, &version);
    Ok(response)
}

/// The events of a call that are not sent yet, encoded as messages.
struct ResponseMessages {
    call: StreamedCall,
    /// The first event, which was read before the response; `None` after it was encoded.
    first: Option<CallEvent>,
    has_parts: bool,
    log: Option<CallLogReader>,
}

/// The values that are needed to read the log of an ended call.
struct CallLogReader {
    service: Service,
    principal: Principal,
    called: CalledVersion,
}

fn messages(state: ResponseMessages) -> stream::BoxStream<'static, std::io::Result<Bytes>> {
    stream::unfold(state, async |mut state| {
        loop {
            let next = match state.first.take() {
                Some(first) => Some(first),
                None => state.call.next().await,
            };
            let message = match next? {
                CallEvent::Part(ResponsePart::Begin { .. }) => {
                    state.has_parts = true;
                    continue;
                }
                CallEvent::Part(ResponsePart::Bytes(bytes)) => payload_chunks(bytes),
                CallEvent::Ended(end) => state.end(end).await,
            };
            return Some((Ok(message), state));
        }
    })
    .boxed()
}

impl ResponseMessages {
    /// Encodes the end of a call. If the call sent no parts, its result comes first, as the only
    /// part.
    async fn end(&mut self, end: CallEnd) -> Bytes {
        let (job, result) = match end {
            Ok(EndedJob { job, result }) => (Some(job), result),
            Err(problem) => (None, Err(problem)),
        };
        let mut complete = json!({});
        let mut messages = Vec::new();
        match result {
            Ok(answer) if !self.has_parts => messages.extend(payload_chunks(answer)),
            Ok(_) => {}
            Err(problem) => describe(&problem, job, &mut complete),
        }
        if let (Some(log), Some(job)) = (&self.log, job)
            && let Ok(text) = encoded_log(&log.service, &log.principal, job, &log.called).await
        {
            complete["LogResult"] = text.into();
        }
        messages.extend(event_stream::event("InvokeComplete", &complete));
        messages.into()
    }
}

/// Adds the error of a call to `complete`, the payload of the last message.
fn describe(problem: &Problem, job: Option<JobId>, complete: &mut Value) {
    let body = error_body(problem, job.unwrap_or_else(JobId::generate));
    let described: Value = serde_json::from_slice(&body).unwrap_or_default();
    complete["ErrorCode"] = described["errorType"].clone();
    complete["ErrorDetails"] = String::from_utf8_lossy(&body).into();
}
