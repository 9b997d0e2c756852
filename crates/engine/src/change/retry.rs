//! Changes that another commit overtook, made again.

use std::future::Future;

use headwater_model::{ErrorCode, Fault};

use crate::answer::Answer;
use crate::error::{Error, Result};
use crate::session::Session;

/// How often a statement is made again that another commit overtook.
pub(super) const ATTEMPTS_MAX: usize = 4;

impl Session {
    /// Makes a change again, from the table as it is then, where another commit changed rows that it
    /// concerns before it was committed itself.
    pub(crate) async fn in_turn<F>(&self, change: impl Fn() -> F) -> Result<Answer>
    where
        F: Future<Output = Result<Answer>>,
    {
        let mut attempt = 1;
        loop {
            match Box::pin(change()).await {
                Err(error) if is_overtaken(&error) && attempt < ATTEMPTS_MAX => {
                    tracing::debug!(attempt, "another commit came first; the change is made again");
                    attempt += 1;
                }
                other => return other,
            }
        }
    }
}

/// Whether another commit changed the table first. Where others changed the branch each time, it was tried
/// often enough.
pub(super) fn is_overtaken(error: &Error) -> bool {
    let contended = matches!(error, Error::Lake(error) if error.is_contended());
    error.code() == ErrorCode::CommitConflict && !contended
}
