//! Retries changes that conflict with concurrent commits.

use std::future::Future;

use headwater_model::{ErrorCode, ToProblem};

use crate::error::{Error, Result};
use crate::session::Session;
use crate::statement_result::StatementResult;

/// Maximum number of attempts to run a statement if other commits conflict with it.
pub(super) const ATTEMPTS_MAX: usize = 4;

impl Session {
    /// Runs a change. If a concurrent commit changed the same rows, runs the change again on the
    /// new state of the table.
    pub(crate) async fn retry_on_conflict<F>(
        &self,
        change: impl Fn() -> F,
    ) -> Result<StatementResult>
    where
        F: Future<Output = Result<StatementResult>>,
    {
        let mut attempt = 1;
        loop {
            match Box::pin(change()).await {
                Err(error)
                    if is_retryable_conflict(&error)
                        && attempt < ATTEMPTS_MAX
                        && !self.shared.is_open() =>
                {
                    tracing::debug!(attempt, "retrying the change after a concurrent commit");
                    attempt += 1;
                }
                other => return other,
            }
        }
    }
}

/// Returns true for a commit conflict on the table. Returns false if the branch moved too often,
/// because the transaction has already retried the commit.
pub(super) fn is_retryable_conflict(error: &Error) -> bool {
    let contended = matches!(error, Error::Lake(error) if error.is_contended());
    error.code() == ErrorCode::CommitConflict && !contended
}
