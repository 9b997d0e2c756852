//! The start of a job's commit, which excludes a stop of the job.
//!
//! A stopped job may still be running for a moment. So a stop cannot know whether the job is
//! committing, unless both agree on one value.

use std::sync::OnceLock;

use headwater_model::{ErrorCode, Problem};

/// The decision between the commit of a job and a stop that prevents it. The first call decides.
#[derive(Debug, Default)]
pub struct CommitDecision(OnceLock<bool>);

impl CommitDecision {
    /// Starts the commit.
    ///
    /// Errors: `cancelled` if a stop has prevented the commit.
    pub fn start(&self) -> Result<(), Problem> {
        if *self.0.get_or_init(|| true) {
            return Ok(());
        }
        Err(Problem::new(ErrorCode::Cancelled, "the job was stopped before its commit"))
    }

    /// Prevents the commit. Returns false if the commit has started before: it may succeed or fail.
    pub fn prevent(&self) -> bool {
        !*self.0.get_or_init(|| false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_and_a_stop_exclude_each_other() {
        let stopped = CommitDecision::default();
        assert!(stopped.prevent());
        let error = stopped.start().expect_err("a stopped job");
        assert_eq!(error.code, ErrorCode::Cancelled);
        let committing = CommitDecision::default();
        committing.start().expect("no stop");
        assert!(!committing.prevent(), "the commit may succeed");
        committing.start().expect("the stop had no effect");
    }
}
