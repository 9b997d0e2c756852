//! Changes of rows: DELETE and its like, each one commit or nothing.
//!
//! A statement is first a query that says where the rows lie that it concerns, planned and run as
//! any other, so that subqueries, joins, LIMIT and functions mean in it what they mean elsewhere.
//! Then the data files that hold such rows are written anew without them; files of which every row
//! goes are left out unread. Files without such rows stay as they are.

mod delete;
mod merge;
mod rewrite;
mod row_locators;
mod target;
mod truncate;
mod update;

use std::future::Future;

use headwater_model::{ErrorCode, Fault};

use crate::answer::Answer;
use crate::error::{Error, Result};
use crate::session::Session;

/// How often a statement is made again that another commit overtook.
const ATTEMPTS_MAX: usize = 4;

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
fn is_overtaken(error: &Error) -> bool {
    let contended = matches!(error, Error::Lake(error) if error.is_contended());
    error.code() == ErrorCode::CommitConflict && !contended
}
