//! Which commits the expectations of a project have passed on, for branches that take no other.

use bytes::Bytes;
use headwater_catalog::MergePlan;
use headwater_model::CommitId;
use headwater_store::{Append, Batch};

use crate::error::{Error, Result};
use crate::lake::Lake;

/// The journal of commits that were checked, by commit and project.
const JOURNAL: &str = "commits_checked";

/// The key of a project that has checked anything at all, which no commit has.
fn key_of_project(project: &str) -> String {
    format!("/{project}")
}

fn key(commit: CommitId, project: &str) -> String {
    format!("{commit}/{project}")
}

impl Lake {
    /// Remembers that all expectations of a project have passed on a commit.
    pub async fn remember_checked(&self, commit: CommitId, project: &str) -> Result<()> {
        let entry = |key| {
            let value = Some(Bytes::from_static(b"1"));
            Append { journal: JOURNAL.to_owned(), key, value }
        };
        let mut entries = vec![entry(key(commit, project))];
        if !self.has_checked(project).await? {
            entries.push(entry(key_of_project(project)));
        }
        self.store().apply(Batch { entries, ..Batch::default() }).await?;
        Ok(())
    }

    /// Whether all expectations of a project have ever passed on a commit.
    pub async fn has_checked(&self, project: &str) -> Result<bool> {
        Ok(self.store().latest(JOURNAL, &key_of_project(project)).await?.is_some())
    }

    /// Refuses what a branch does not take: anything but a commit on which the expectations of the
    /// project that it requires have passed, or a run of that project has `passed` on, and which has all
    /// that the branch has. A merge of two sides is a third state, which nobody has checked, and so is a
    /// branch without one of its older commits; `exact` says that it is neither.
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
