//! The commits on which a project's expectations passed, which some branches require before a
//! merge.

use bytes::Bytes;
use headwater_catalog::MergePlan;
use headwater_model::CommitId;
use headwater_store::{JournalAppend, WriteBatch};

use crate::error::{Error, Result};
use crate::lake::Lake;

/// The journal of checked commits, by commit and project.
const JOURNAL: &str = "commits_checked";

/// Returns the journal key which records that a project's expectations have passed on at least one
/// commit. The key is never equal to a key for a single commit.
fn key_of_project(project: &str) -> String {
    format!("/{project}")
}

fn key(commit: CommitId, project: &str) -> String {
    format!("{commit}/{project}")
}

impl Lake {
    /// Records that all expectations of a project passed on a commit.
    pub async fn remember_checked(&self, commit: CommitId, project: &str) -> Result<()> {
        let entry = |key| {
            let value = Some(Bytes::from_static(b"1"));
            JournalAppend { journal: JOURNAL.to_owned(), key, value }
        };
        let mut entries = vec![entry(key(commit, project))];
        if !self.has_checked(project).await? {
            entries.push(entry(key_of_project(project)));
        }
        self.store().apply(WriteBatch { entries, ..WriteBatch::default() }).await?;
        Ok(())
    }

    /// Returns true if all expectations of a project have passed on at least one commit.
    pub async fn has_checked(&self, project: &str) -> Result<bool> {
        Ok(self.store().latest(JOURNAL, &key_of_project(project)).await?.is_some())
    }

    /// Rejects a merge into a branch that requires checks, unless the checks have passed on the
    /// state that results from the merge.
    ///
    /// The required project's expectations must have passed on the source, or in the current run
    /// (`passed`). `exact` is true if the target becomes identical to the source. The result of a
    /// revert, or of a merge in which both sides have changes, is a new state on which no checks
    /// have passed.
    pub(crate) async fn check_required(
        &self,
        plan: &MergePlan,
        source: &str,
        passed: Option<&str>,
        exact: bool,
    ) -> Result<()> {
        let Some(project) = plan.requires() else { return Ok(()) };
        let checked = match passed {
            Some(passed) => passed == project,
            None => self.store().latest(JOURNAL, &key(plan.source, project)).await?.is_some(),
        };
        if checked && exact {
            return Ok(());
        }
        Err(Error::NotChecked {
            branch: plan.target.clone(),
            reference: source.to_owned(),
            project: project.to_owned(),
            moved: checked,
        })
    }
}
