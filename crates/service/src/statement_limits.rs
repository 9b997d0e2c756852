//! Limits of one statement that a client sets: its time, and the bytes that it reads.

use std::time::Duration;

use headwater_engine::Metrics;
use headwater_model::{ErrorCode, Problem, QueryRequest};
use tokio::time::Instant;

/// Interval between checks of the bytes that were read.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The limits of a statement that has started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StatementLimits {
    deadline: Option<Instant>,
    max_ms: u64,
    max_bytes: Option<u64>,
}

impl StatementLimits {
    /// Returns the limits of a request whose statement starts now.
    pub(crate) fn of(request: &QueryRequest) -> Self {
        let deadline = request
            .max_ms
            .and_then(|limit| Instant::now().checked_add(Duration::from_millis(limit)));
        StatementLimits {
            deadline,
            max_ms: request.max_ms.unwrap_or_default(),
            max_bytes: request.max_bytes,
        }
    }

    /// Waits until the statement exceeds a limit. Never returns without limits.
    pub(crate) async fn exceeded(&self, metrics: Option<&Metrics>) -> Problem {
        tokio::select! {
            problem = self.expired() => problem,
            problem = self.read_too_much(metrics) => problem,
        }
    }

    async fn expired(&self) -> Problem {
        match self.deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
        let message = format!("the statement ran longer than `max_ms` (limit {})", self.max_ms);
        Problem::new(ErrorCode::TimeLimit, message)
    }

    async fn read_too_much(&self, metrics: Option<&Metrics>) -> Problem {
        let (Some(limit), Some(metrics)) = (self.max_bytes, metrics) else {
            return std::future::pending().await;
        };
        loop {
            if let Err(problem) = check(limit, metrics) {
                return problem;
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }

    /// Fails if the statement has read more bytes than it may.
    pub(crate) fn check(&self, metrics: Option<&Metrics>) -> Result<(), Problem> {
        match (self.max_bytes, metrics) {
            (Some(limit), Some(metrics)) => check(limit, metrics),
            _ => Ok(()),
        }
    }
}

fn check(limit: u64, metrics: &Metrics) -> Result<(), Problem> {
    let read = metrics.usage().bytes_read;
    if read <= limit {
        return Ok(());
    }
    let message = format!("the statement read {read} bytes, more than `max_bytes` (limit {limit})");
    Err(Problem::new(ErrorCode::QuotaExceeded, message)
        .with_hint("Read fewer columns, add a condition, or raise `max_bytes`."))
}
