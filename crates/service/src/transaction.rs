//! Transactions of several statements: all reads see one commit, and all writes become one merge.
//!
//! The first write creates a hidden branch for all later reads and writes of the transaction. The
//! commit merges the branch, so other clients see all changes or none. The commit fails if another
//! commit has changed the same rows, even in the same way: the first committer wins. A read-only
//! transaction creates no branch. On the hidden branch, a user has the same rights as on the
//! target.
//!
//! The branch is deleted when the transaction ends or its last handle is dropped, for example
//! because the client disconnected. The branches of a killed server are deleted at the next start.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_engine::SessionRights;
use headwater_jobs::NewJob;
use headwater_lake::{EqualChanges, Lake, MergeOptions, TemporaryBranch, conflict_problem};
use headwater_model::{
    AccessObject, Action, ErrorCode, JobKind, MergeChoice, MergeOutcome, MergeRequest, Principal,
    Problem, RefSpec, ResultExt, TRANSACTION_BRANCHES,
};
use headwater_pipelines::HiddenBranchAccess;

use crate::reference::Refs;
use crate::service::Components;

/// Maximum number of savepoints of a transaction.
const SAVEPOINTS_MAX: usize = 1_000;

/// Operations on transactions.
#[derive(Clone)]
pub struct Transactions(pub(crate) Arc<Components>);

/// An open transaction.
#[derive(Debug, Clone)]
pub struct OpenTransaction {
    /// The ref at the start of the transaction.
    base: RefSpec,
    /// The ref for the transaction's reads and writes.
    reference: RefSpec,
    /// The branch to merge into; `None` if the transaction started at a tag or commit, because
    /// these cannot be written.
    target: Option<String>,
    /// The hidden branch; `None` until the first write.
    branch: Option<TemporaryBranch>,
    /// The savepoints, each with the ref at its creation.
    savepoints: Vec<Savepoint>,
}

/// A state to which a transaction can return.
#[derive(Debug, Clone)]
struct Savepoint {
    name: String,
    reference: RefSpec,
}

impl OpenTransaction {
    /// Returns the ref for the transaction's reads and writes.
    pub fn reference(&self) -> &RefSpec {
        &self.reference
    }

    /// Returns the ref at the start of the transaction.
    pub(crate) fn base(&self) -> &RefSpec {
        &self.base
    }

    /// Returns the name of the branch, tag or commit at which the transaction started.
    pub(crate) fn database(&self) -> String {
        self.target.clone().unwrap_or_else(|| self.base.to_string())
    }

    /// Replaces the name of the hidden branch in the error of a statement by a description.
    pub(crate) fn described(&self, problem: Problem) -> Problem {
        match (&self.branch, &self.target) {
            (Some(branch), Some(target)) => {
                problem.without_branch(branch.name(), "this transaction", target)
            }
            _ => problem,
        }
    }

    /// Returns the index of the newest savepoint with this name.
    fn savepoint(&self, name: &str) -> Result<usize, Problem> {
        self.savepoints.iter().rposition(|one| one.name == name).ok_or_else(|| {
            let message = format!("there is no savepoint `{name}`");
            Problem::new(ErrorCode::InvalidArgument, message)
        })
    }

    /// Returns the access checks of the transaction's statements. On the hidden branch, a user has
    /// the same rights as on the target.
    pub(crate) fn access(&self, access: Arc<dyn SessionRights>) -> Arc<dyn SessionRights> {
        match (&self.branch, &self.target) {
            (Some(branch), Some(target)) => {
                Arc::new(HiddenBranchAccess::as_on(access, branch.name(), target))
            }
            _ => access,
        }
    }
}

impl Transactions {
    /// Begins a transaction at the current commit of a ref.
    pub async fn begin(
        &self,
        principal: &Principal,
        reference: &RefSpec,
    ) -> Result<OpenTransaction, Problem> {
        let resolved = Refs(self.0.clone()).resolve(principal, reference).await?;
        let hash = resolved.commit.to_string();
        let reference = match &resolved.branch {
            Some(name) => RefSpec::At { name: name.clone(), hash },
            None => RefSpec::Commit(hash),
        };
        Ok(OpenTransaction {
            base: reference.clone(),
            reference,
            target: resolved.branch,
            branch: None,
            savepoints: Vec::new(),
        })
    }

    /// Creates the branch of a transaction before its first write. Does nothing if the branch
    /// exists. Also does nothing if the transaction started at a tag or commit, where the write
    /// itself fails.
    ///
    /// Errors: `forbidden` or `protected_branch` if the principal cannot write to the target.
    pub async fn prepare_write(
        &self,
        principal: &Principal,
        transaction: &mut OpenTransaction,
    ) -> Result<(), Problem> {
        let Some(target) = transaction.target.as_deref() else { return Ok(()) };
        if transaction.branch.is_some() {
            return Ok(());
        }
        self.check_target(principal, target).await?;
        let from = transaction.reference.clone();
        let created = TemporaryBranch::create(&self.0.lake, TRANSACTION_BRANCHES, from).await;
        let branch = created.or_problem()?;
        transaction.reference = RefSpec::Name(branch.name().to_owned());
        transaction.branch = Some(branch);
        Ok(())
    }

    /// Commits a transaction as a job that merges its branch. A failed commit also ends the
    /// transaction, without changes.
    ///
    /// Errors: `merge_conflict` if a later commit changed the same rows.
    pub async fn commit(
        &self,
        principal: &Principal,
        transaction: OpenTransaction,
    ) -> Result<(), Problem> {
        let Some(target) = &transaction.target else { return Ok(()) };
        if transaction.reference == transaction.base {
            return Ok(());
        }
        let merged = Box::pin(self.merge(principal, target, &transaction.reference)).await;
        let merged = merged.map_err(|problem| transaction.described(problem));
        self.roll_back(transaction).await;
        merged
    }

    /// Ends a transaction and discards its changes.
    pub async fn roll_back(&self, transaction: OpenTransaction) {
        if let Some(branch) = transaction.branch {
            branch.delete().await;
        }
    }

    /// Adds a savepoint. An earlier savepoint with the same name is kept, but cannot be used until
    /// the new savepoint is released.
    pub async fn add_savepoint(
        &self,
        transaction: &mut OpenTransaction,
        name: &str,
    ) -> Result<(), Problem> {
        let count = transaction.savepoints.len();
        if count >= SAVEPOINTS_MAX {
            let message =
                format!("the transaction has {count} savepoints (limit {SAVEPOINTS_MAX})");
            return Err(Problem::new(ErrorCode::TooBusy, message)
                .with_hint("Release the savepoints that are not used."));
        }
        let resolved = self.0.lake.catalog().resolve(&transaction.reference).await.or_problem()?;
        let reference = match &transaction.branch {
            Some(_) => RefSpec::Commit(resolved.commit.to_string()),
            None => transaction.reference.clone(),
        };
        transaction.savepoints.push(Savepoint { name: name.to_owned(), reference });
        Ok(())
    }

    /// Removes a savepoint and all later savepoints.
    pub fn release_savepoint(
        &self,
        transaction: &mut OpenTransaction,
        name: &str,
    ) -> Result<(), Problem> {
        let index = transaction.savepoint(name)?;
        transaction.savepoints.truncate(index);
        Ok(())
    }

    /// Undoes the changes of a transaction since a savepoint. The savepoint is kept.
    pub async fn roll_back_to(
        &self,
        transaction: &mut OpenTransaction,
        name: &str,
    ) -> Result<(), Problem> {
        let index = transaction.savepoint(name)?;
        let reference = transaction.savepoints[index].reference.clone();
        transaction.savepoints.truncate(index + 1);
        // The refs after the savepoint are discarded. The next write creates a new hidden branch.
        transaction.reference = reference;
        if let Some(branch) = transaction.branch.take() {
            branch.delete().await;
        }
        Ok(())
    }

    async fn merge(
        &self,
        principal: &Principal,
        target: &str,
        source: &RefSpec,
    ) -> Result<(), Problem> {
        self.check_target(principal, target).await?;
        let options = MergeOptions {
            author: principal.author().to_owned(),
            equal_changes: EqualChanges::Conflict,
            ..MergeOptions::default()
        };
        let new = NewJob::of(JobKind::Merge, format!("transaction into {target}"), principal);
        let new = NewJob { reference: Some(target.to_owned()), ..new };
        let request = MergeRequest {
            source: source.clone(),
            message: Some("transaction".to_owned()),
            dry_run: false,
            unchecked: false,
            on_conflict: MergeChoice::default(),
            choices: BTreeMap::new(),
        };
        let (lake, into) = (self.0.lake.clone(), target.to_owned());
        let work =
            async move { Box::pin(lake.merge_with(&into, request, options)).await.or_problem() };
        let report = self.0.run_as_job(new, work).await?;
        let report = self.0.visible_report(principal, target, report).await?;
        if report.outcome == MergeOutcome::Conflict {
            let problem = conflict_problem(target, "this transaction", &report);
            return Err(problem.with_hint("Repeat the transaction: its changes were rolled back."));
        }
        Ok(())
    }

    /// Checks that a principal may write to the transaction's target, as for a single statement.
    async fn check_target(&self, principal: &Principal, target: &str) -> Result<(), Problem> {
        self.0.authorize(principal, Action::Write, &AccessObject::branch(target))?;
        if self.0.lake.catalog().branch(target).await.or_problem()?.protected {
            let branch = target.to_owned();
            return Err(headwater_engine::Error::Protected { branch }).or_problem();
        }
        Ok(())
    }
}

/// Deletes the branches of transactions that a killed server left.
pub(crate) async fn delete_interrupted(lake: &Lake) {
    TemporaryBranch::delete_all(lake, TRANSACTION_BRANCHES).await;
}

#[cfg(test)]
mod tests {
    use headwater_lake::WarehouseOptions;
    use headwater_model::CreateRef;

    use super::*;

    #[tokio::test]
    async fn only_branches_of_interrupted_transactions_are_deleted() {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = Lake::open_folder(folder.path(), WarehouseOptions::default()).await;
        let lake = opened.expect("a lake");
        for name in [format!("{TRANSACTION_BRANCHES}1"), "transaction".to_owned()] {
            let request = CreateRef { name, from: None, if_not_exists: false };
            lake.create_branch(request).await.expect("a branch");
        }
        delete_interrupted(&lake).await;
        let branches = lake.catalog().branches(None).await.expect("branches");
        let names: Vec<&str> = branches.iter().map(|branch| branch.name.as_str()).collect();
        assert_eq!(names, ["main", "transaction"]);
    }
}
