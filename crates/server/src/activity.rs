//! Whether anyone still wants the server: requests under way, and when the last one ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
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
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _ = &busy;
            frame
        }))
    })
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
}
