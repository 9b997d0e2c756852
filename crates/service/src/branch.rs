//! Branches: list, create, get, update, delete, merge, cherry-pick, revert.

use std::sync::Arc;

use headwater_executors::sides;
use headwater_jobs::NewJob;
use headwater_lake::{MergeOptions, conflict_problem, with_rerun_hint};
use headwater_model::{
    AccessObject, Action, Branch, CherryPickRequest, CreateRef, ErrorCode, JobKind, MergeOutcome,
    MergeReport, MergeRequest, Principal, Problem, RefSpec, ResultExt, RevertRequest,
    TRANSACTION_BRANCHES, UpdateRef, did_you_mean, nearest,
};
use headwater_pipelines::{merge_rights, readable};

use crate::service::Components;

/// Operations on branches.
#[derive(Clone)]
pub struct Branches(pub(crate) Arc<Components>);

impl Branches {
    /// Lists branches by name, optionally only those with a prefix.
    pub async fn list(
        &self,
        principal: &Principal,
        prefix: Option<&str>,
    ) -> Result<Vec<Branch>, Problem> {
        self.0.authenticated(principal)?;
        let branches = self.0.lake.catalog().branches(prefix).await.or_problem()?;
        let mut branches = Branch::visible(branches);
        let allows =
            |name: &str| self.0.allows(principal, Action::Read, &AccessObject::branch(name));
        branches.retain(|branch| allows(&branch.name));
        Ok(branches)
    }

    /// Creates a branch. Needs one durable write, regardless of the number of tables.
    pub async fn create(
        &self,
        principal: &Principal,
        request: CreateRef,
    ) -> Result<Branch, Problem> {
        let object = AccessObject::branch(&request.name);
        self.0.authorize(principal, Action::Create, &object)?;
        check_not_reserved(&request.name)?;
        self.0.check_from(principal, &request).await?;
        // Detect a branch that already exists, because an existing branch keeps its owner.
        let may_exist = request.if_not_exists;
        let request = CreateRef { if_not_exists: false, ..request };
        let created = self.0.lake.create_branch(request).await.or_problem();
        match created.map_err(|problem| self.0.conceal(principal, problem)) {
            Ok(branch) => {
                self.0.access.set_owner(principal, &object).await.or_problem()?;
                Ok(branch)
            }
            Err(problem) if may_exist && problem.code == ErrorCode::AlreadyExists => {
                self.get(principal, object.name()).await
            }
            Err(problem) => Err(problem),
        }
    }

    /// Returns a branch.
    pub async fn get(&self, principal: &Principal, name: &str) -> Result<Branch, Problem> {
        self.0.authorize(principal, Action::Read, &AccessObject::branch(name))?;
        let found = self.0.lake.catalog().branch(name).await.or_problem();
        found.map_err(|problem| self.0.conceal(principal, problem))
    }

    /// Renames a branch, changes its protection, or sets the project whose checks merges require.
    pub async fn update(
        &self,
        principal: &Principal,
        name: &str,
        change: UpdateRef,
    ) -> Result<Branch, Problem> {
        self.0.authorize(principal, Action::Alter, &AccessObject::branch(name))?;
        // Reject the hidden branch of a transaction: if it were protected, it could not be deleted.
        check_not_reserved(name)?;
        let catalog = self.0.lake.catalog();
        let found = catalog.branch(name).await.or_problem();
        let mut branch = found.map_err(|problem| self.0.conceal(principal, problem))?;
        if let Some(new) = change.name.filter(|new| *new != branch.name) {
            let new_object = AccessObject::branch(&new);
            self.0.authorize(principal, Action::Create, &new_object)?;
            check_not_reserved(&new)?;
            branch = catalog.rename_branch(&branch.name, &new).await.or_problem()?;
            self.0
                .access
                .move_owner(principal, &AccessObject::branch(name), &new_object)
                .await
                .or_problem()?;
        }
        if let Some(protected) = change.protected {
            branch = catalog.protect_branch(&branch.name, protected).await.or_problem()?;
        }
        if let Some(project) = change.requires {
            self.check_project(&project).await?;
            branch = catalog.require_checks(&branch.name, &project).await.or_problem()?;
        }
        Ok(branch)
    }

    /// Rejects an unknown project, because a misspelled name would block all merges into the
    /// branch.
    async fn check_project(&self, project: &str) -> Result<(), Problem> {
        self.0.settings.refresh().await;
        let own = self.0.settings.name();
        if own.as_deref() == Some(project) || self.0.lake.has_checked(project).await.or_problem()? {
            return Ok(());
        }
        let message = format!("project `{project}` has no successful run in this lake");
        let near = own.as_deref().and_then(|own| nearest(project, [own]));
        let run = "Write the `name` that is in the project's `headwater.toml`, and run the project \
                   before you protect the branch.";
        let hint = did_you_mean(near.as_deref(), run);
        Err(Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint))
    }

    /// Deletes a branch. Its commits can still be read by their ids.
    pub async fn delete(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        let object = AccessObject::branch(name);
        self.0.authorize(principal, Action::Drop, &object)?;
        let deleted = self.0.lake.catalog().delete_branch(name).await.or_problem();
        deleted.map_err(|problem| self.0.conceal(principal, problem))?;
        self.0.access.remove_owner(principal, &object).await.or_problem()
    }

    /// Merges a ref into a branch, as a job. A conflict changes nothing; the context of the error
    /// `merge_conflict` contains the report. A dry run changes nothing.
    pub async fn merge(
        &self,
        principal: &Principal,
        target: &str,
        request: MergeRequest,
    ) -> Result<MergeReport, Problem> {
        let (source, unchecked) = (request.source.to_string(), request.unchecked);
        let new =
            self.new_job(JobKind::Merge, &format!("{source} into {target}"), target, principal)?;
        self.0.check_ref(principal, &request.source).await?;
        let (lake, branch, options) = self.job_input(target, principal);
        let work =
            async move { Box::pin(lake.merge_with(&branch, request, options)).await.or_problem() };
        let report = self.0.run_as_job(new, work).await;
        let report = report.map_err(|problem| self.0.conceal(principal, problem))?;
        let report = self.0.visible_report(principal, target, report).await?;
        if report.outcome == MergeOutcome::Conflict {
            let problem = conflict_problem(target, &source, &report);
            return Err(with_rerun_hint(problem, target, &source, &report, unchecked));
        }
        Ok(report)
    }

    /// Applies the change of a commit, relative to its first parent, to a branch, as a job.
    /// Conflicts are errors, as in a merge.
    pub async fn cherry_pick(
        &self,
        principal: &Principal,
        target: &str,
        request: CherryPickRequest,
    ) -> Result<MergeReport, Problem> {
        let source = request.commit.to_string();
        let summary = format!("{source} onto {target}");
        let new = self.new_job(JobKind::CherryPick, &summary, target, principal)?;
        self.0.check_ref(principal, &request.commit).await?;
        let (lake, branch, options) = self.job_input(target, principal);
        let work =
            async move { Box::pin(lake.cherry_pick(&branch, request, options)).await.or_problem() };
        let report = self.0.run_as_job(new, work).await;
        let report = report.map_err(|problem| self.0.conceal(principal, problem))?;
        let report = self.0.visible_report(principal, target, report).await?;
        if report.outcome == MergeOutcome::Conflict {
            return Err(conflict_problem(target, &source, &report));
        }
        Ok(report)
    }

    /// Undoes a commit of a branch, or all changes of a run to the branch, as a job. Conflicts are
    /// errors, as in a merge.
    pub async fn revert(
        &self,
        principal: &Principal,
        target: &str,
        request: RevertRequest,
    ) -> Result<MergeReport, Problem> {
        let new = self.new_job(JobKind::Revert, &format!("on {target}"), target, principal)?;
        if let Some(commit) = &request.commit {
            self.0.check_ref(principal, commit).await?;
        }
        let (lake, branch, options) = self.job_input(target, principal);
        let work =
            async move { Box::pin(lake.revert(&branch, request, options)).await.or_problem() };
        let report = self.0.run_as_job(new, work).await;
        let report = report.map_err(|problem| self.0.conceal(principal, problem))?;
        let report = self.0.visible_report(principal, target, report).await?;
        if report.outcome == MergeOutcome::Conflict {
            let undone = report.base.map(|base| format!("the revert of @{}", base.short()));
            return Err(conflict_problem(target, &undone.unwrap_or_default(), &report));
        }
        Ok(report)
    }

    fn new_job(
        &self,
        kind: JobKind,
        summary: &str,
        target: &str,
        principal: &Principal,
    ) -> Result<NewJob, Problem> {
        self.0.authorize(principal, Action::Merge, &AccessObject::branch(target))?;
        let new = NewJob::of(kind, summary, principal);
        Ok(NewJob { reference: Some(target.to_owned()), ..new })
    }

    fn job_input(
        &self,
        target: &str,
        principal: &Principal,
    ) -> (headwater_lake::Lake, String, MergeOptions) {
        let rights = self.0.table_access(principal).map(merge_rights);
        let options = MergeOptions { rights, ..MergeOptions::from(principal.author()) };
        (self.0.lake.clone(), target.to_owned(), options)
    }
}

impl Components {
    /// Checks that a principal may read the ref at which a new branch or tag starts.
    pub(crate) async fn check_from(
        &self,
        principal: &Principal,
        request: &CreateRef,
    ) -> Result<(), Problem> {
        let main = RefSpec::main();
        self.check_ref(principal, request.from.as_ref().unwrap_or(&main)).await
    }

    /// Removes from a merge report the tables in which the principal may not read all rows, because
    /// the report of a conflict contains rows.
    pub(crate) async fn visible_report(
        &self,
        principal: &Principal,
        target: &str,
        mut report: MergeReport,
    ) -> Result<MergeReport, Problem> {
        let restricted = self.restricted_at(principal, sides(target, report.base)).await?;
        let allows = |action, object: &AccessObject| self.allows(principal, action, object);
        let readable = readable(&self.lake, report.commits(), report.names(), allows).await;
        let readable = readable.or_problem()?;
        report.retain(|table| self.reads_all(principal, &readable, &restricted, table));
        Ok(report)
    }
}

/// Rejects names reserved for the branches of transactions, which are hidden and temporary.
fn check_not_reserved(name: &str) -> Result<(), Problem> {
    if !name.starts_with(TRANSACTION_BRANCHES) {
        return Ok(());
    }
    let message = format!("branch names that begin with `{TRANSACTION_BRANCHES}` are reserved");
    Err(Problem::new(ErrorCode::InvalidArgument, message).with_hint("Choose another name."))
}
