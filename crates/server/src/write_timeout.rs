//! Write timeout of streamed responses over TCP. Without the timeout, a client that stops reading
//! its response would keep the query running, with its memory. The Unix socket has no timeout,
//! because the lake's owner may view a response in a pager for a long time.

use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

/// Aborts a response if the client reads no part of it within the timeout.
pub async fn apply(State(timeout): State<Duration>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    // A response of known length is complete in memory. It holds no query, so it needs no timeout.
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| with_timeout(body, timeout))
}

/// Returns a body that reads one frame of the inner body ahead. If the client does not take this
/// frame in time, the inner body is dropped.
fn with_timeout(mut body: Body, timeout: Duration) -> Body {
    let (sender, mut receiver) = mpsc::channel::<Result<Frame<Bytes>, axum::Error>>(1);
    let timed_out = Arc::new(AtomicBool::new(false));
    let expired = Arc::clone(&timed_out);
    tokio::spawn(async move {
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = sender.closed() => None,
            };
            let Some(frame) = frame else { return };
            match tokio::time::timeout(timeout, sender.send(frame)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    expired.store(true, Ordering::Release);
                    return;
                }
            }
        }
    });
    // End an aborted response with an error, so that the client does not take it for complete.
    Body::new(StreamBody::new(stream::poll_fn(move |context| match receiver.poll_recv(context) {
        Poll::Ready(None) if timed_out.swap(false, Ordering::AcqRel) => {
            let error =
                Error::new(ErrorKind::TimedOut, "the client did not read the response in time");
            Poll::Ready(Some(Err(axum::Error::new(error))))
        }
        other => other,
    })))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn endless(kept: Arc<()>) -> Body {
        Body::from_stream(stream::repeat_with(move || {
            let _ = &kept;
            Ok::<_, Error>(Bytes::from_static(b"row"))
        }))
    }

    async fn is_dropped(kept: &Arc<()>) {
        while Arc::strong_count(kept) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn a_response_that_is_not_read_is_aborted_with_an_error() {
        let kept = Arc::new(());
        let mut body = with_timeout(endless(Arc::clone(&kept)), Duration::from_millis(50));
        assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
        is_dropped(&kept).await;
        assert!(
            body.frame().await.is_some_and(|frame| frame.is_ok()),
            "the frame that was read ahead"
        );
        assert!(body.frame().await.is_some_and(|frame| frame.is_err()));
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_disconnect_is_detected_while_no_frame_arrives() {
        let kept = Arc::new(());
        let held = Arc::clone(&kept);
        let silent = stream::once(async move {
            pending::<()>().await;
            drop(held);
            Ok::<_, Error>(Bytes::new())
        });
        let body = with_timeout(Body::from_stream(silent), Duration::from_secs(300));
        drop(body);
        is_dropped(&kept).await;
    }
}
