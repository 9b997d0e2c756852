//! Responses of function URLs that are streamed while the function runs.
//!
//! A function can begin its output with a description of the response: status and headers in JSON,
//! followed by 8 zero bytes. Otherwise the output is the body of a response with the status 200.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt};
use headwater_model::Problem;
use headwater_service::{EndedJob, ResponsePart};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use serde_json::Value;

use crate::response_body::LambdaResponseBody;
use crate::streamed_call::{CallEvent, StreamedCall};
use crate::url_response::{described_head, response, sandboxed};

/// Media type of an output that begins with a description of the response.
const DESCRIBED: &str = "application/vnd.awslambda.http-integration-response";

/// The end of the description.
const SEPARATOR: [u8; 8] = [0; 8];

/// Maximum size of a description in bytes.
const HEAD_BYTES_MAX: usize = 256 << 10;

/// The reason why a call gives no response.
pub(crate) enum StreamFailure {
    /// The call was rejected, or the function failed before its first output.
    Problem(Problem),
    /// The output of the function is not valid.
    Invalid,
}

/// Waits for the start of the output, and returns the response.
pub(crate) async fn respond(
    mut call: StreamedCall,
) -> Result<Response<LambdaResponseBody>, StreamFailure> {
    let media_type = match call.next().await {
        Some(CallEvent::Part(ResponsePart::Begin { media_type })) => media_type,
        Some(CallEvent::Part(ResponsePart::Bytes(_))) | None => return Err(StreamFailure::Invalid),
        Some(CallEvent::Ended(end)) => {
            let EndedJob { result, .. } = end.map_err(StreamFailure::Problem)?;
            let whole = response(&result.map_err(StreamFailure::Problem)?);
            let whole = whole.map_err(|_| StreamFailure::Invalid)?;
            return Ok(whole.map(LambdaResponseBody::from));
        }
    };
    let (mut response, start) = if media_type.split(';').next() == Some(DESCRIBED) {
        described(&mut call).await?
    } else {
        let mut response = Response::new(Bytes::new());
        if let Ok(value) = HeaderValue::from_str(&media_type) {
            response.headers_mut().insert(CONTENT_TYPE, value);
        }
        (response, Bytes::new())
    };
    let headers = response.headers_mut();
    if headers.get(CONTENT_TYPE).is_none_or(HeaderValue::is_empty) {
        let bytes = HeaderValue::from_static("application/octet-stream");
        headers.insert(CONTENT_TYPE, bytes);
    }
    Ok(sandboxed(response).map(|_| LambdaResponseBody::Parts(body(start, call))))
}

/// Returns the response that an output describes, and the bytes of the body that were read together
/// with the description.
async fn described(call: &mut StreamedCall) -> Result<(Response<Bytes>, Bytes), StreamFailure> {
    let mut read = BytesMut::new();
    loop {
        let separator = read.windows(SEPARATOR.len()).position(|bytes| bytes == SEPARATOR);
        if let Some(at) = separator {
            let head = read.split_to(at + SEPARATOR.len());
            let fields: Value =
                serde_json::from_slice(&head[..at]).map_err(|_| StreamFailure::Invalid)?;
            let response = fields.as_object().and_then(|fields| described_head(fields).ok());
            return Ok((response.ok_or(StreamFailure::Invalid)?, read.freeze()));
        }
        match call.next().await {
            Some(CallEvent::Part(ResponsePart::Bytes(bytes))) if read.len() < HEAD_BYTES_MAX => {
                read.extend(bytes);
            }
            Some(CallEvent::Ended(Err(problem))) => return Err(StreamFailure::Problem(problem)),
            Some(CallEvent::Ended(Ok(EndedJob { result: Err(problem), .. }))) => {
                return Err(StreamFailure::Problem(problem));
            }
            _ => return Err(StreamFailure::Invalid),
        }
    }
}

/// Returns the body of the response: `start`, followed by the rest of the output of the call. If
/// the function fails, the stream ends with an error.
fn body(start: Bytes, call: StreamedCall) -> BoxStream<'static, io::Result<Bytes>> {
    let rest = stream::unfold(call, async |mut call| {
        loop {
            match call.next().await? {
                CallEvent::Part(ResponsePart::Bytes(bytes)) => return Some((Ok(bytes), call)),
                CallEvent::Part(ResponsePart::Begin { .. }) => {}
                CallEvent::Ended(Ok(EndedJob { result: Ok(_), .. })) => return None,
                CallEvent::Ended(_) => {
                    let failed =
                        io::Error::other("the function failed while it streamed the response");
                    return Some((Err(failed), call));
                }
            }
        }
    });
    let start = stream::iter((!start.is_empty()).then_some(Ok(start)));
    start.chain(rest).boxed()
}
