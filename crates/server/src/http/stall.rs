//! Clients over TCP that stop reading: their answers are cut, so that they hold no query and no memory
//! for ever.
//!
//! Whoever comes by the socket is the lake's owner, who may leave an answer in a pager overnight.

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

/// Cuts an answer of which nothing was read for so long.
pub async fn watch(State(patience): State<Duration>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    // What is whole already holds nothing but itself.
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| pass_on(body, patience))
}

/// A body that reads another ahead by one frame, and lets go of it where nobody takes that.
fn pass_on(mut body: Body, patience: Duration) -> Body {
    let (sender, mut receiver) = mpsc::channel::<Result<Frame<Bytes>, axum::Error>>(1);
    let stalled = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stalled);
    tokio::spawn(async move {
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = sender.closed() => None,
            };
            let Some(frame) = frame else { return };
            match tokio::time::timeout(patience, sender.send(frame)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    seen.store(true, Ordering::Release);
                    return;
                }
            }
        }
    });
    // An answer that was cut never looks like one that is whole.
    Body::new(StreamBody::new(stream::poll_fn(move |context| match receiver.poll_recv(context) {
        Poll::Ready(None) if stalled.swap(false, Ordering::AcqRel) => {
            let error = Error::new(ErrorKind::TimedOut, "nothing was read for too long");
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

    async fn is_let_go(kept: &Arc<()>) {
        while Arc::strong_count(kept) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn what_nobody_reads_is_let_go_and_visibly_cut() {
        let kept = Arc::new(());
        let mut body = pass_on(endless(Arc::clone(&kept)), Duration::from_millis(50));
        assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
        is_let_go(&kept).await;
        assert!(body.frame().await.is_some_and(|frame| frame.is_ok()), "the frame that waited");
        assert!(body.frame().await.is_some_and(|frame| frame.is_err()));
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn who_goes_away_is_seen_while_nothing_comes() {
        let kept = Arc::new(());
        let held = Arc::clone(&kept);
        let silent = stream::once(async move {
            pending::<()>().await;
            drop(held);
            Ok::<_, Error>(Bytes::new())
        });
        let body = pass_on(Body::from_stream(silent), Duration::from_secs(300));
        drop(body);
        is_let_go(&kept).await;
    }
}
