//! The state of a server's shutdown: the request, the time for running jobs, and the completion.

use std::time::Duration;

use tokio::sync::watch;

/// The state of a shutdown.
#[derive(Debug)]
pub struct Shutdown {
    /// Maximum time for running jobs to end; `None` until a shutdown is requested.
    timeout: watch::Sender<Option<Duration>>,
    completed: watch::Sender<bool>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown { timeout: watch::Sender::new(None), completed: watch::Sender::new(false) }
    }
}

impl Shutdown {
    /// Requests the shutdown. The shortest of all requested timeouts applies.
    pub fn request(&self, timeout: Duration) {
        self.timeout.send_if_modified(|current| {
            let shorter = current.is_none_or(|current| timeout < current);
            if shorter {
                *current = Some(timeout);
            }
            shorter
        });
    }

    /// Returns true after a shutdown was requested.
    pub fn is_requested(&self) -> bool {
        self.timeout.borrow().is_some()
    }

    /// Waits for a shutdown request and returns its timeout. If `than` is given, waits until a
    /// request reduces the timeout below `than`.
    pub async fn requested(&self, than: Option<Duration>) -> Duration {
        let mut timeout = self.timeout.subscribe();
        let requested = timeout.wait_for(|timeout| match (timeout, than) {
            (Some(timeout), Some(than)) => *timeout < than,
            (timeout, _) => timeout.is_some(),
        });
        match requested.await {
            Ok(timeout) => timeout.unwrap_or_default(),
            // This error cannot occur, because the sender is a field of `self`.
            Err(_) => Duration::ZERO,
        }
    }

    /// Marks the shutdown as complete.
    pub fn complete(&self) {
        self.completed.send_replace(true);
    }

    /// Waits until the shutdown is complete.
    pub async fn completed(&self) {
        // Waiting cannot fail, because the sender is a field of `self`.
        let _ = self.completed.subscribe().wait_for(|completed| *completed).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_shortest_timeout_applies() {
        let shutdown = Shutdown::default();
        assert!(!shutdown.is_requested());
        shutdown.request(Duration::from_secs(600));
        shutdown.request(Duration::from_secs(900));
        let timeout = shutdown.requested(None).await;
        assert_eq!(timeout, Duration::from_secs(600));
        shutdown.request(Duration::from_secs(1));
        assert_eq!(shutdown.requested(Some(timeout)).await, Duration::from_secs(1));
        shutdown.complete();
        shutdown.completed().await;
    }
}
