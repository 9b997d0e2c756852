//! Conversion of content from and to the streams of `s3s`.

use bytes::Bytes;
use futures::{StreamExt, stream};
use headwater_model::{ErrorCode, Problem};
use headwater_service::objects::ContentStream;
use s3s::dto::StreamingBlob;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::checksum::Checksums;

/// Maximum number of chunks of a response that wait for the client.
const PARTS_WAITING: usize = 2;

/// Returns the content of a request as a stream, which ends with an error if a checksum does not
/// match.
pub(crate) fn received(body: Option<StreamingBlob>, checksums: Checksums) -> ContentStream {
    let state = (body, Some(checksums));
    let parts = stream::try_unfold(state, async |(mut body, mut checksums)| {
        let next = match &mut body {
            Some(body) => body.next().await,
            None => None,
        };
        match next {
            Some(Ok(part)) => {
                if let Some(checksums) = &mut checksums {
                    checksums.update(&part);
                }
                Ok(Some((part, (body, checksums))))
            }
            Some(Err(error)) => Err(incomplete(&*error)),
            None => match checksums.take() {
                Some(last) => last.check().map(|()| None),
                None => Ok(None),
            },
        }
    });
    parts.boxed()
}

fn incomplete(error: &(dyn std::error::Error + Send + Sync)) -> Problem {
    let message = "the content is incomplete, or a chunk signature does not match";
    let mut problem = Problem::new(ErrorCode::InvalidArgument, message);
    problem.causes.push(error.to_string());
    problem.context.insert("s3_code".to_owned(), "IncompleteBody".into());
    problem.with_hint("Send the request again.")
}

/// Returns the body of a response. The content is read only as fast as the client reads.
pub(crate) fn sent(mut content: ContentStream) -> StreamingBlob {
    let (parts, receiver) = mpsc::channel::<Result<Bytes, Problem>>(PARTS_WAITING);
    tokio::spawn(async move {
        while let Some(part) = content.next().await {
            let is_failed = part.is_err();
            // Stop if the client has disconnected or the content has an error.
            if parts.send(part).await.is_err() || is_failed {
                return;
            }
        }
    });
    StreamingBlob::wrap(ReceiverStream::new(receiver))
}
