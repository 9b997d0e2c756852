//! Activity of the server: the number of requests in progress, and the time of the last one.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;

/// A counter of requests in progress. Clones share one count.
#[derive(Debug, Clone)]
pub struct Activity(Arc<Mutex<RequestCount>>);

#[derive(Debug)]
struct RequestCount {
    in_progress: usize,
    last: Instant,
}

impl Default for Activity {
    fn default() -> Self {
        Activity(Arc::new(Mutex::new(RequestCount { in_progress: 0, last: Instant::now() })))
    }
}

impl Activity {
    /// Counts a request as in progress until the guard is dropped.
    pub fn begin(&self) -> ActiveRequest {
        self.0.lock().in_progress += 1;
        ActiveRequest(self.clone())
    }

    /// Returns the time since the end of the last request; zero while a request is in progress.
    pub fn idle(&self) -> Duration {
        let count = self.0.lock();
        if count.in_progress == 0 { count.last.elapsed() } else { Duration::ZERO }
    }
}

/// A guard that counts a request as in progress until it is dropped.
#[derive(Debug)]
pub struct ActiveRequest(Activity);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let mut count = self.0.0.lock();
        count.in_progress -= 1;
        count.last = Instant::now();
    }
}

/// Counts a request from the receipt of its head until the last byte of its response.
pub async fn count(State(activity): State<Activity>, request: Request, next: Next) -> Response {
    let busy = activity.begin();
    let response = next.run(request).await;
    response.map(|body| Body::new(ActiveBody { body, _busy: busy }))
}

/// A response body that counts as activity until it is dropped. It has the size hint of the
/// original body, because a body of known size is written at once and needs no write timeout.
struct ActiveBody {
    body: Body,
    _busy: ActiveRequest,
}

impl HttpBody for ActiveBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_in_progress_is_activity() {
        let activity = Activity::default();
        let first = activity.begin();
        let second = activity.begin();
        drop(first);
        assert_eq!(activity.idle(), Duration::ZERO);
        drop(second);
        assert!(activity.idle() < Duration::from_secs(60));
    }

    #[test]
    fn a_complete_body_keeps_its_size_hint() {
        let activity = Activity::default();
        let answer = ActiveBody { body: Body::from("{}"), _busy: activity.begin() };
        assert_eq!(answer.size_hint().exact(), Some(2));
        assert_eq!(activity.idle(), Duration::ZERO);
    }
}
