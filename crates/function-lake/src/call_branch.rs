//! The branch of a call: a hidden copy of the lake for the call's writes.
//!
//! A call reads the state that the lake had at the call's first read. The branch is created at this
//! state before the first statement that writes. It is also created before a read that follows an
//! append, so that the call sees its own rows. The branch is merged after the call has succeeded.
//! The merge fails if another commit has changed the same rows, even in the same way. If the call
//! fails, the branch is deleted with its last handle. The branches of a killed server are deleted
//! at the next start. A call that only appends needs no branch: it commits its rows in one
//! transaction.

use std::collections::BTreeSet;
use std::sync::Arc;

use headwater_engine::SessionRights;
use headwater_lake::{CommitView, EqualChanges, MergeOptions, TemporaryBranch};
use headwater_model::{
    AccessObject, Action, Commit, ErrorCode, MergeOutcome, MergeReport, MergeRequest, PROPERTY_JOB,
    Problem, RefSpec, ResultExt, TRANSACTION_BRANCHES, TableName,
};
use headwater_pipelines::HiddenBranchAccess;
use serde_json::json;

use crate::function_lake::CommitJournalEntry;
use crate::{AppendResult, FunctionLakeAccess};

/// The state that a call reads and writes.
#[derive(Debug, Default)]
pub(crate) struct CallBranchState {
    /// The state of the target branch at the first read.
    view: Option<CommitView>,
    /// The branch with the call's writes.
    pub(crate) branch: Option<TemporaryBranch>,
    /// Tables that a `MERGE` statement changed.
    merged_into: BTreeSet<TableName>,
    /// Descriptions of the writes on the branch, for the message of the commit.
    changes: Vec<String>,
    /// The numbers of rows and bytes written to the branch.
    written: AppendResult,
}

impl FunctionLakeAccess {
    /// Returns the state that the call reads while it has no branch.
    pub(crate) async fn view(&self) -> Result<CommitView, Problem> {
        let known = self.state.lock().view.clone();
        if let Some(view) = known {
            return Ok(view);
        }
        let reference = RefSpec::Name(self.scope.branch.clone());
        let view = self.parts.lake.view(&reference).await.or_problem()?;
        self.state.lock().view = Some(view.clone());
        Ok(view)
    }

    /// Replaces the name of the call's hidden branch in an error, because users do not know this
    /// branch.
    pub(crate) fn described(&self, problem: Problem, branch: Option<&TemporaryBranch>) -> Problem {
        let Some(branch) = branch else { return problem };
        problem.without_branch(branch.name(), "this call", &self.scope.branch)
    }

    /// Returns the branch of the call, and creates it if it does not exist.
    ///
    /// Errors: `forbidden` or `protected_branch` if the call cannot write to the target.
    pub(crate) async fn branch(&self) -> Result<TemporaryBranch, Problem> {
        let known = self.state.lock().branch.clone();
        if let Some(branch) = known {
            return Ok(branch);
        }
        self.check_target().await?;
        let branch = self.create_branch().await?;
        self.state.lock().branch = Some(branch.clone());
        Ok(branch)
    }

    /// Creates a branch at the state that the call reads.
    async fn create_branch(&self) -> Result<TemporaryBranch, Problem> {
        let (lake, commit) = (&self.parts.lake, self.view().await?.commit());
        let head = RefSpec::Name(self.scope.branch.clone());
        let branch =
            TemporaryBranch::create(lake, TRANSACTION_BRANCHES, head).await.or_problem()?;
        if lake.catalog().branch(branch.name()).await.or_problem()?.commit == commit {
            return Ok(branch);
        }
        branch.delete().await;
        // The target has moved since the first read, so create the branch at the commit that was
        // read. This is slower, because the lake then checks the files of all tables.
        let from = RefSpec::Commit(commit.to_string());
        TemporaryBranch::create(lake, TRANSACTION_BRANCHES, from).await.or_problem()
    }

    /// Returns the access checks on the branch of the call, where the same rights apply as on the
    /// target.
    pub(crate) fn access_on(&self, branch: &TemporaryBranch) -> Option<Arc<dyn SessionRights>> {
        let access = self.scope.access.clone()?;
        Some(Arc::new(HiddenBranchAccess::as_on(access, branch.name(), &self.scope.branch)))
    }

    /// Records a write to the branch of the call.
    pub(crate) fn record(&self, change: String, rows: u64, bytes: u64) {
        let mut state = self.state.lock();
        state.changes.push(change);
        state.written.rows += rows;
        state.written.bytes += bytes;
    }

    /// Records the tables that a `MERGE` statement changed. The statement inserts rows for which it
    /// found no match, so any concurrent change of the table must be a conflict. Otherwise, two
    /// calls could both insert a row for the same value.
    pub(crate) async fn record_merged(&self, commit: &Commit) -> Result<(), Problem> {
        let Some(parent) = commit.parents.first() else { return Ok(()) };
        let changes = self.parts.lake.catalog().diff(*parent, commit.id).await.or_problem()?;
        let tables = changes.into_iter().map(|change| change.table);
        self.state.lock().merged_into.extend(tables);
        Ok(())
    }

    /// Merges the branch into the target. The commit contains the id of the call's event.
    pub(crate) async fn merge(&self, branch: &TemporaryBranch) -> Result<AppendResult, Problem> {
        // The lake allows merges into a protected branch. A function may not write to a protected
        // branch, so check the target here.
        self.check_target().await?;
        let (scope, source) = (&self.scope, RefSpec::Name(branch.name().to_owned()));
        let (message, written, whole) = {
            let state = self.state.lock();
            (state.changes.join("; "), state.written, state.merged_into.clone())
        };
        // Treat equal changes as a conflict: two calls that each add one to a counter make the same
        // change, but must not be merged as one change.
        let mut options = MergeOptions {
            author: scope.author.clone(),
            whole,
            equal_changes: EqualChanges::Conflict,
            ..MergeOptions::default()
        };
        options.properties.insert(PROPERTY_JOB.to_owned(), scope.job.to_string());
        if let Some(event) = &scope.event {
            options = options.with_event(event);
        }
        if let Some(CommitJournalEntry { journal, key, value }) = self.entry.lock().clone() {
            options = options.with_entry(&journal, &key, value);
        }
        let request = MergeRequest { message: Some(message), ..MergeRequest::new(source) };
        let merged = Box::pin(self.parts.lake.merge_with(&scope.branch, request, options)).await;
        match merged.or_problem() {
            Ok(report) if report.outcome == MergeOutcome::Conflict => {
                Err(conflict(&scope.branch, &report))
            }
            Ok(_) => Ok(written),
            Err(problem) => self.failed(problem),
        }
    }

    /// Checks that the call may write to the target.
    async fn check_target(&self) -> Result<(), Problem> {
        let branch = self.scope.branch.clone();
        self.check(Action::Write, &AccessObject::branch(&branch))?;
        if self.parts.lake.catalog().branch(&branch).await.or_problem()?.protected {
            return Err(headwater_engine::Error::Protected { branch }).or_problem();
        }
        Ok(())
    }
}

/// Returns the error for a merge with conflicts. The error contains no rows, because the call may
/// not have the right to see them. The call can be retried, because it then reads the other
/// changes.
fn conflict(target: &str, report: &MergeReport) -> Problem {
    let tables: Vec<String> =
        report.conflicts.iter().map(|conflict| format!("`{}`", conflict.table)).collect();
    let message = format!(
        "the call and another commit on `{target}` changed the same rows of {}",
        tables.join(", ")
    );
    let mut problem = Problem::new(ErrorCode::MergeConflict, message)
        .with_hint("Call the function again: the changes of this call were discarded.");
    problem.context.insert("retryable".to_owned(), json!(true));
    problem
}
