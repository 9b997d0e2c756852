//! Retries of failed runs. A retry is a new run that starts from the branch of the failed run, so
//! models that have written their tables do not run again. The new run then checks and merges the
//! result.

use std::sync::Arc;

use headwater_jobs::JobContext;
use headwater_model::{
    Commit, CommitId, ErrorCode, JobId, JobKind, MAIN_BRANCH, PROPERTY_JOB, Problem, RefSpec,
    RunPlan, RunReport, RunRequest, run_reasons,
};

use crate::parse::parse_project;
use crate::plan::Plan;
use crate::run_context::RunContext;
use crate::runner::{Runner, run_branch};
use crate::{Error, Result};

/// The branch that a failed run kept.
pub(crate) struct FailedRunBranch {
    /// Target of the failed run.
    target: String,
    pub name: String,
    /// Commit of the target that the failed run started from.
    base: CommitId,
    head: CommitId,
    /// Commits of the failed run, and of earlier runs that the failed run itself had retried.
    commits: Vec<CommitId>,
}

impl Runner {
    /// Returns the branch that the failed run kept, or `None` if the run wrote nothing; the retry
    /// is then an ordinary run. Fails with `BranchMoved` if another client committed to the branch.
    pub(crate) async fn kept_branch(
        &self,
        request: &RunRequest,
        target: &str,
    ) -> Result<Option<FailedRunBranch>> {
        let Some(id) = &request.retry else { return Ok(None) };
        let id: JobId = id.parse().map_err(|_| {
            let message = format!("`{id}` is not the id of a job");
            Error::from(Problem::new(ErrorCode::InvalidArgument, message))
        })?;
        let (catalog, name) = (self.lake().catalog(), run_branch(id));
        let failed = |error: headwater_catalog::Error| Error::other(&error);
        let found = catalog.branches(Some(&name)).await.map_err(failed)?;
        let Some(head) = found.into_iter().find(|one| one.name == name).map(|one| one.commit)
        else {
            return Ok(None);
        };
        let start = catalog.branch(target).await.map_err(failed)?.commit;
        let bases = catalog.merge_bases(start, head).await.map_err(failed)?;
        let moved = || Error::BranchMoved { target: target.to_owned(), branch: name.clone() };
        let [base] = bases[..] else { return Err(moved()) };
        let (mut commits, mut at) = (Vec::new(), head);
        while at != base {
            let commit = catalog.read_commit(at).await.map_err(failed)?;
            let own = self.is_by_run(&commit, target).await;
            match commit.parents.first().filter(|_| own) {
                Some(parent) => commits.push(std::mem::replace(&mut at, *parent)),
                None => return Err(moved()),
            }
        }
        let target = target.to_owned();
        Ok(Some(FailedRunBranch { target, name, base, head, commits }))
    }

    /// Returns true if a run with this target created the commit. On the branch of a failed run,
    /// this is the failed run itself, or an earlier run that it retried. Any other run that wrote
    /// to the branch had the branch as its target.
    async fn is_by_run(&self, commit: &Commit, target: &str) -> bool {
        let id = commit.properties.get(PROPERTY_JOB).and_then(|id| id.parse().ok());
        let Some(id) = id else { return false };
        self.jobs().job(id).await.is_ok_and(|job| {
            let own_target = job.reference.as_deref().unwrap_or(MAIN_BRANCH);
            job.kind == JobKind::Run && own_target == target
        })
    }

    /// Plans a retry at the state that the failed run left.
    pub(crate) async fn plan_retry(
        &self,
        request: &RunRequest,
        kept: &FailedRunBranch,
    ) -> Result<RunPlan> {
        let plan = self.retry_plan(request, kept).await?;
        plan.forecast(self).await
    }

    async fn retry_plan(&self, request: &RunRequest, kept: &FailedRunBranch) -> Result<Plan> {
        let project = parse_project(&request.files)?.into_runnable()?;
        let reference = RefSpec::Name(kept.name.clone());
        let plan = Box::pin(self.make_plan(project, request, &reference)).await?;
        self.check_repeatable(&plan, kept).await?;
        Ok(plan)
    }

    /// Fails if a model would run again although the failed run has already appended its rows.
    async fn check_repeatable(&self, plan: &Plan, kept: &FailedRunBranch) -> Result<()> {
        let base = RefSpec::Commit(kept.base.to_string());
        let base = self.lake().view(&base).await.map_err(|error| Error::other(&error))?;
        for (step, planned) in plan.project.steps.iter().zip(&plan.steps) {
            let runs = planned.reason.is_some() && step.materialization.accumulates();
            let Some(table) = planned.table.as_ref().filter(|_| runs) else { continue };
            let before = base.find(&step.table.namespace, &step.table.name).await;
            let before = before.map_err(|error| Error::other(&error))?;
            if before.is_some_and(|(_, it)| it.metadata_location() == table.metadata_location()) {
                continue;
            }
            let why = run_reasons(planned.reason, &planned.why, None).join(", ");
            let message = format!(
                "the failed run already appended the rows of `{}`, and a retry would append them \
                 again: {why} ({})",
                step.name, step.at
            );
            let problem = Problem::new(ErrorCode::InvalidArgument, message);
            return Err(problem.with_hint("Start a new run with `headwater run`.").into());
        }
        Ok(())
    }

    /// Continues a failed run on a new branch, which replaces the branch of the failed run.
    pub(crate) async fn retry(
        &self,
        kept: FailedRunBranch,
        request: RunRequest,
        context: JobContext,
    ) -> Result<RunReport> {
        let (target, stopped) = (kept.target.clone(), context.cancelled());
        let plan = tokio::select! {
            plan = Box::pin(self.retry_plan(&request, &kept)) => Arc::new(plan?),
            () = stopped.cancelled() => {
                return Err(Error::Cancelled { target, branch: Some(kept.name) });
            }
        };
        let branch = run_branch(context.id());
        self.branch_in_quarantine(&branch, kept.head, context.id().to_string()).await?;
        let catalog = self.lake().catalog();
        catalog.delete_branch(&kept.name).await.map_err(|error| Error::other(&error))?;
        let made = kept.commits;
        let work = RunContext { target, branch, start: kept.base, request, context, made };
        Box::pin(self.run_there(&plan, &work)).await
    }
}
