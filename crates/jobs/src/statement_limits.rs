//! Limits of one statement that a request sets: its time, and the bytes that it reads.

use std::time::Duration;

use headwater_model::{ErrorCode, Problem, QueryRequest, Usage};
use tokio::time::Instant;

/// The limits of a statement that has started.
#[derive(Debug, Clone, Copy)]
pub struct StatementLimits {
    deadline: Option<Instant>,
    max_ms: u64,
    max_bytes: Option<u64>,
    has_day_limit: bool,
}

impl StatementLimits {
    /// Returns the limits of a request whose statement starts now. `has_day_limit` is true if the
    /// user of the statement has a daily limit, which its job enforces.
    pub fn of(request: &QueryRequest, has_day_limit: bool) -> Self {
        let max_ms = request.max_ms.unwrap_or_default();
        // A deadline too far in the future to be represented means no limit.
        let deadline = request
            .max_ms
            .and_then(|limit| Instant::now().checked_add(Duration::from_millis(limit)));
        StatementLimits { deadline, max_ms, max_bytes: request.max_bytes, has_day_limit }
    }

    /// Returns true if the statement has any limit.
    pub fn is_limited(&self) -> bool {
        self.has_day_limit || self.deadline.is_some() || self.max_bytes.is_some()
    }

    /// Waits until the time of the statement is over. Never returns without a time limit.
    pub async fn expired(&self) -> Problem {
        match self.deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
        self.time_limit()
    }

    /// Fails if the statement exceeds a limit of its request.
    pub fn check(&self, usage: &Usage) -> Result<(), Problem> {
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(self.time_limit());
        }
        let read = usage.bytes_read;
        match self.max_bytes {
            Some(limit) if read > limit => {
                let message = format!(
                    "the statement read {read} bytes, more than `max_bytes` (limit {limit})"
                );
                Err(Problem::new(ErrorCode::QuotaExceeded, message)
                    .with_hint("Read fewer columns, add a condition, or raise `max_bytes`."))
            }
            _ => Ok(()),
        }
    }

    fn time_limit(&self) -> Problem {
        let message = format!("the statement ran longer than `max_ms` (limit {})", self.max_ms);
        Problem::new(ErrorCode::TimeLimit, message).with_hint("Read fewer rows, or raise `max_ms`.")
    }
}
