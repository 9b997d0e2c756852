//! Work that a caller waits for, and that continues in the background if the caller stops waiting.
//!
//! The work runs in the caller's task, because a separate task would wake another thread twice.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;

/// A future that is spawned as a task if it is dropped before its end.
pub struct DetachOnDrop<T: Send + 'static>(Option<BoxFuture<'static, Option<T>>>);

impl<T: Send + 'static> DetachOnDrop<T> {
    /// Creates the future. Its output is `None` if the work panics.
    pub fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        let caught = AssertUnwindSafe(work).catch_unwind();
        DetachOnDrop(Some(caught.map(Result::ok).boxed()))
    }
}

impl<T: Send + 'static> Future for DetachOnDrop<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(work) = &mut self.0 else { return Poll::Ready(None) };
        let ended = work.as_mut().poll(context);
        if ended.is_ready() {
            self.0 = None;
        }
        ended
    }
}

impl<T: Send + 'static> Drop for DetachOnDrop<T> {
    fn drop(&mut self) {
        let Some(work) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn dropped_work_continues() {
        let (begin, begun) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        let mut work = DetachOnDrop::new(async move {
            begun.await.expect("a signal");
            end.send(7).expect("a receiver");
        });
        let short = Duration::from_millis(1);
        tokio::time::timeout(short, &mut work).await.expect_err("the work waits");
        drop(work);
        begin.send(()).expect("a receiver");
        assert_eq!(ended.await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_is_not_a_result() {
        let work = DetachOnDrop::new(async { "none".parse::<u8>().expect("a number") });
        assert_eq!(work.await, None);
    }
}
