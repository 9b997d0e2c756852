//! Whether anyone still wants the server: requests under way, and when the last one ended.

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

/// Counts requests. Clones count together.
#[derive(Debug, Clone)]
pub struct Activity(Arc<Mutex<Count>>);

#[derive(Debug)]
struct Count {
    under_way: usize,
    last: Instant,
}

impl Default for Activity {
    fn default() -> Self {
        Activity(Arc::new(Mutex::new(Count { under_way: 0, last: Instant::now() })))
    }
}

impl Activity {
    /// Something is under way until the answer is dropped.
    pub fn begin(&self) -> Busy {
        self.0.lock().under_way += 1;
        Busy(self.clone())
    }

    /// For how long nothing has been under way.
    pub fn idle(&self) -> Duration {
        let count = self.0.lock();
        if count.under_way == 0 { count.last.elapsed() } else { Duration::ZERO }
    }
}

/// Something under way.
#[derive(Debug)]
pub struct Busy(Activity);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut count = self.0.0.lock();
        count.under_way -= 1;
        count.last = Instant::now();
    }
}

/// Counts a request from its head to the last byte of its answer.
pub async fn count(State(activity): State<Activity>, request: Request, next: Next) -> Response {
    let busy = activity.begin();
    let response = next.run(request).await;
    response.map(|body| Body::new(Counted { body, _busy: busy }))
}

/// An answer that is under way until it is dropped. It has the size that it has: one that is whole is
/// written at once, and nothing needs to watch who reads it.
struct Counted {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Counted {
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
    fn what_is_under_way_is_not_idle() {
        let activity = Activity::default();
        let first = activity.begin();
        let second = activity.begin();
        drop(first);
        assert_eq!(activity.idle(), Duration::ZERO);
        drop(second);
        assert!(activity.idle() < Duration::from_secs(60));
    }

    #[test]
    fn an_answer_that_is_whole_says_how_long_it_is() {
        let activity = Activity::default();
        let answer = Counted { body: Body::from("{}"), _busy: activity.begin() };
        assert_eq!(answer.size_hint().exact(), Some(2));
        assert_eq!(activity.idle(), Duration::ZERO);
    }
}
