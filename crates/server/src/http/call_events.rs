//! Calls whose client requested the events: one body contains the events of the job, sent while the
//! function runs, and then the response.
//!
//! The status of the HTTP response is sent before the function has ended. So a line after the
//! events contains the status of the call.

use axum::body::Body as ResponseBody;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use headwater_model::{CallResponseStart, ErrorCode, JobId, Principal, Problem};
use headwater_service::EndedJob;
use headwater_telemetry::with_current;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::error::{ErrorResponse, HandlerResult};
use super::function::{response, with_job};
use super::job::line;
use crate::server_state::App;

/// The media type of a body with events and a response.
const MEDIA_TYPE: &str = "application/octet-stream";

/// The result of a call. An error means that the call has no job.
type CallOutcome = Result<EndedJob<Response>, Problem>;

/// Starts a call, and responds with the events of its job. `job` receives the id of the job. If the
/// call is rejected before it has a job, the response is only the error.
pub(super) async fn respond(
    app: &App,
    principal: &Principal,
    job: oneshot::Receiver<JobId>,
    call: impl Future<Output = CallOutcome> + Send + 'static,
) -> HandlerResult<Response> {
    // The call runs in its own task, so that a client that reads slowly does not delay it. Dropping
    // the set stops the call: the client has disconnected.
    let mut task = JoinSet::new();
    task.spawn(with_current(call));
    let Ok(job) = job.await else { return Ok(response(ended(task).await?)) };
    let events = app.service.jobs().follow(principal, &job.to_string(), 0).await;
    // An error only ends the events, because the client needs the result of the call.
    let events = events.unwrap_or_else(|_| futures::stream::empty().boxed());
    let lines = events.filter_map(|event| {
        let line = event.ok().and_then(|event| line(&event).ok());
        std::future::ready(line.map(Ok::<Bytes, std::io::Error>))
    });
    let end = futures::stream::once(async move {
        let ended = ended(task).await.map(response);
        parts(ended.unwrap_or_else(|problem| ErrorResponse(problem).into_response()))
    });
    let body = ResponseBody::from_stream(lines.chain(end.flatten()));
    Ok(with_job(([(CONTENT_TYPE, MEDIA_TYPE)], body).into_response(), job))
}

/// Waits for the end of a call.
async fn ended(mut task: JoinSet<CallOutcome>) -> CallOutcome {
    match task.join_next().await {
        Some(Ok(outcome)) => outcome,
        Some(Err(_)) | None => {
            Err(Problem::new(ErrorCode::Internal, "the call stopped before it finished"))
        }
    }
}

/// Returns the line with the status of a response, and its body.
fn parts(response: Response) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let (head, body) = response.into_parts();
    let media_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let start = CallResponseStart {
        response: head.status.as_u16(),
        content_type: media_type.unwrap_or_default().to_owned(),
    };
    let line = serde_json::to_vec(&start).map_err(std::io::Error::other).map(|mut line| {
        line.push(b'\n');
        Bytes::from(line)
    });
    let line = futures::stream::once(std::future::ready(line));
    line.chain(body.into_data_stream().map_err(std::io::Error::other))
}
