//! Plans a project, runs the steps that are out of date on a run branch, and merges that branch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use headwater_catalog::EVENT_SCOPE;
use headwater_engine::{Engine, SessionRights};
use headwater_functions::{EnvironmentCache, Functions, TableQuota};
use headwater_jobs::{JobContext, Jobs};
use headwater_lake::{Lake, MergeOptions, set_creator};
use headwater_model::{
    Action, Actor, CommitId, ErrorCode, JobEventKind, JobId, MergeOutcome, MergeRequest,
    PROPERTY_EVENT, PROPERTY_JOB, Problem, RefSpec, RunPlan, RunReport, RunRequest, StepReport,
};
use headwater_secrets::SecretStore;
use headwater_sql_python_runtime::SqlFunctionRuntime;
use headwater_store::{RefChange, UniqueKey, WriteBatch};

use crate::checked_query_cache::CheckedQueryCache;
use crate::parse::parse_project;
use crate::plan::{self, Plan, PlanOptions};
use crate::run::{Run, RunStepsResult};
use crate::run_context::RunContext;
use crate::{Error, Project, Result, passed_checks, rerun_merge};

/// Plans and runs projects. Cheap to clone.
#[derive(Clone)]
pub struct Runner {
    pub(crate) engine: Engine,
    pub(crate) functions: Functions,
    /// Quota for intermediate rows between steps.
    pub(crate) table_quota: TableQuota,
    pub(crate) secrets: SecretStore,
    /// The permissions of runs; `None` allows everything.
    pub(crate) access: Option<Arc<dyn SessionRights>>,
    /// The identity whose rights the outputs of runs use; `None` if runs write no outputs.
    pub(crate) actor: Option<Actor>,
    pub(crate) checked: CheckedQueryCache,
    pub(crate) environments: Arc<EnvironmentCache>,
    jobs: Jobs,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").finish_non_exhaustive()
    }
}

/// Returns the name of a run's branch.
pub(crate) fn run_branch(job: JobId) -> String {
    format!("run/{job}")
}

impl Runner {
    /// Creates a runner, and the runtime of the Python functions in SQL. The quota limits the
    /// memory of the tables that functions of all runs receive and return.
    pub fn new(
        engine: Engine,
        functions: Functions,
        jobs: Jobs,
        secrets: SecretStore,
        table_quota: TableQuota,
    ) -> Self {
        engine.set_python_runtime(Arc::new(SqlFunctionRuntime::new(functions.clone())));
        let (checked, environments) = (CheckedQueryCache::new(), Arc::default());
        let (access, actor) = (None, None);
        Runner {
            engine,
            functions,
            table_quota,
            secrets,
            access,
            actor,
            checked,
            environments,
            jobs,
        }
    }

    /// Returns the quota for tables passed to and from functions.
    pub fn table_quota(&self) -> &TableQuota {
        &self.table_quota
    }

    pub(crate) fn lake(&self) -> &Lake {
        self.engine.lake()
    }

    /// Plans a run. Finds every error that can be found without running a step.
    pub async fn plan(&self, request: &RunRequest) -> Result<RunPlan> {
        let reference = request.reference.clone().unwrap_or_else(RefSpec::main);
        self.check_target(&reference, request).await?;
        if request.merge.is_some() {
            let target = self.target(&reference).await?;
            return Box::pin(self.plan_merged(&target, request)).await;
        }
        if request.retry.is_some() {
            let target = self.target(&reference).await?;
            if let Some(kept) = self.kept_branch(request, &target).await? {
                return Box::pin(self.plan_retry(request, &kept)).await;
            }
        }
        let project = parse_project(&request.files)?.into_runnable()?;
        Box::pin(self.make_plan(project, request, &reference)).await?.forecast(self).await
    }

    /// Returns the target branch of a run.
    pub(crate) async fn target(&self, reference: &RefSpec) -> Result<String> {
        let view = self.lake().view(reference).await.map_err(|error| Error::other(&error))?;
        plan::branch_of(&view, reference)
    }

    pub(crate) async fn make_plan(
        &self,
        project: Project,
        request: &RunRequest,
        reference: &RefSpec,
    ) -> Result<Plan> {
        let values = project.parameter_values(&request.parameters)?;
        let view = self.lake().view(reference).await.map_err(|error| Error::other(&error))?;
        plan::branch_of(&view, reference)?;
        let options = PlanOptions {
            no_cache: request.no_cache,
            no_reuse: request.no_reuse,
            priority: request.priority,
            preview: request.preview,
            select: &request.select,
            exclude: &request.exclude,
            environments: &request.environments,
        };
        let plan = Plan::new(self, project, view, values, options).await;
        plan.map_err(|error| self.conceal(error))
    }

    /// Runs a project as part of a job. If the run fails, the target is unchanged. The run branch
    /// is kept in quarantine, so that a later merge of the branch requires the checks.
    pub async fn run(&self, request: RunRequest, context: JobContext) -> Result<RunReport> {
        let reference = request.reference.clone().unwrap_or_else(RefSpec::main);
        let branch = run_branch(context.id());
        check_preview(&request)?;
        self.check_target(&reference, &request).await?;
        if request.merge.is_some() {
            let target = self.target(&reference).await?;
            return Box::pin(self.merge_and_run(target, branch, request, context)).await;
        }
        if request.retry.is_some() {
            let target = self.target(&reference).await?;
            if let Some(kept) = self.kept_branch(&request, &target).await? {
                return Box::pin(self.retry(kept, request, context)).await;
            }
        }
        let project = parse_project(&request.files)?.into_runnable()?;
        let stopped = context.cancelled();
        let plan = tokio::select! {
            plan = Box::pin(self.make_plan(project, &request, &reference)) => Arc::new(plan?),
            () = stopped.cancelled() => {
                return Err(Error::Cancelled { target: reference.to_string(), branch: None });
            }
        };
        let target = plan::branch_of(&plan.view, &reference)?;
        let start = plan.view.commit();
        let work = RunContext { target, branch, start, request, context, made: Vec::new() };
        if plan.has_work() || work.is_preview() {
            self.run_on_branch(&plan, &work).await
        } else {
            plan.environments.emit(&work.context);
            let unchanged = plan.listed_steps().map(|step| plan.unchanged(step));
            let steps: Vec<StepReport> = unchanged.collect();
            for report in &steps {
                work.context.emit(JobEventKind::StepEnded { report: Box::new(report.clone()) });
            }
            self.remember_checked(&plan, &work, plan.view.commit()).await?;
            Ok(work.report(&plan, steps, None, Vec::new()))
        }
    }

    /// Records that all expectations of the project passed on a commit, if the project has any.
    async fn remember_checked(
        &self,
        plan: &Plan,
        work: &RunContext,
        commit: CommitId,
    ) -> Result<()> {
        if work.checks(plan) {
            let remembered = self.lake().remember_checked(commit, &plan.project.name).await;
            remembered.map_err(|error| Error::other(&error))?;
        }
        Ok(())
    }

    async fn run_on_branch(&self, plan: &Arc<Plan>, work: &RunContext) -> Result<RunReport> {
        let start = work.start;
        self.branch_in_quarantine(&work.branch, start, work.context.id().to_string()).await?;
        let ran = Box::pin(self.run_there(plan, work)).await;
        if work.is_preview() {
            self.forget(&work.branch).await;
        } else if ran.is_err() {
            self.forget_empty(start, &work.branch).await;
        }
        ran
    }

    pub(crate) async fn run_there(&self, plan: &Arc<Plan>, work: &RunContext) -> Result<RunReport> {
        let strict = work.is_strict();
        let run = Run::new(self, Arc::clone(plan), &work.branch, strict, &work.context);
        for commit in &work.made {
            run.note_commit(Some(*commit));
        }
        run.note_commit(self.create_namespaces(plan, work).await?);
        self.adopt_tables(&run, work).await?;
        let finished = run.execute().await;
        let (target, start) = (work.target.clone(), work.start);
        if work.context.cancelled().is_cancelled() {
            let branch = self.kept(work).await?;
            return Err(Error::Cancelled { target, branch });
        }
        if !finished.failures.is_empty() {
            let branch = self.kept(work).await?;
            return Err(Error::Run { target, branch, failures: finished.failures });
        }
        if work.is_preview() {
            return Ok(work.report(plan, finished.reports, None, Vec::new()));
        }
        let (commit, tables) = self.merge(plan, work, &run, &finished).await?;
        if self.is_checked_state(&run, start, commit).await? {
            self.remember_checked(plan, work, commit.unwrap_or(start)).await?;
        }
        Ok(work.report(plan, finished.reports, commit, tables))
    }

    /// Returns true if the result of the merge is exactly the checked state: no other client
    /// committed to the target during the run.
    async fn is_checked_state(
        &self,
        run: &Run,
        start: CommitId,
        commit: Option<CommitId>,
    ) -> Result<bool> {
        let Some(commit) = commit.filter(|commit| !run.has_committed(*commit)) else {
            return Ok(true);
        };
        let merge = self.lake().catalog().read_commit(commit).await;
        let merge = merge.map_err(|error| Error::other(&error))?;
        Ok(merge.parents.first() == Some(&start))
    }

    /// Returns the run branch if its tables differ from the tables at the run's start.
    pub(crate) async fn changed_branch(
        &self,
        start: CommitId,
        branch: &str,
    ) -> Result<Option<String>> {
        let catalog = self.lake().catalog();
        let head = catalog.branch(branch).await.map_err(|error| Error::other(&error))?.commit;
        let changes = catalog.diff(start, head).await.map_err(|error| Error::other(&error))?;
        Ok((!changes.is_empty()).then(|| branch.to_owned()))
    }

    /// Returns the run branch if it is kept after a failure.
    async fn kept(&self, work: &RunContext) -> Result<Option<String>> {
        if work.is_preview() {
            Ok(None)
        } else {
            self.changed_branch(work.start, &work.branch).await
        }
    }

    /// Deletes the branch of a run that wrote nothing.
    pub(crate) async fn forget_empty(&self, start: CommitId, branch: &str) {
        if matches!(self.changed_branch(start, branch).await, Ok(None)) {
            self.forget(branch).await;
        }
    }

    async fn forget(&self, branch: &str) {
        if let Err(error) = self.lake().catalog().delete_branch(branch).await {
            tracing::warn!("the branch `{branch}` of a run cannot be deleted: {error}");
        }
    }

    /// Returns the run branch's head and the ref change that deletes the branch at that head. Fails
    /// with `BranchMoved` if another client committed to the run branch.
    async fn checked(
        &self,
        start: CommitId,
        work: &RunContext,
        run: &Run,
    ) -> Result<(CommitId, RefChange)> {
        let catalog = self.lake().catalog();
        let failed = |error: headwater_catalog::Error| Error::other(&error);
        let head = catalog.branch(&work.branch).await.map_err(failed)?.commit;
        let mut at = head;
        while at != start {
            let parents = catalog.read_commit(at).await.map_err(failed)?.parents;
            match parents.first() {
                Some(parent) if run.has_committed(at) => at = *parent,
                _ => return Err(work.branch_moved()),
            }
        }
        let closing = catalog.branch_deletion(&work.branch, head).await.map_err(failed)?;
        Ok((head, closing.ok_or_else(|| work.branch_moved())?))
    }

    /// Merges the checked commit into the target. The same batch deletes the run branch, and fails
    /// if the branch has moved.
    async fn merge(
        &self,
        plan: &Plan,
        work: &RunContext,
        run: &Run,
        finished: &RunStepsResult,
    ) -> Result<(Option<CommitId>, Vec<String>)> {
        let (head, closing) = self.checked(plan.view.commit(), work, run).await?;
        let closes = closing.name.clone();
        let mut properties =
            BTreeMap::from([(PROPERTY_JOB.to_owned(), work.context.id().to_string())]);
        let mut with = passed_checks::remember(finished.passed.iter().cloned());
        with.refs.push(closing);
        if let Some(event) = &work.request.event {
            properties.insert(PROPERTY_EVENT.to_owned(), event.clone());
            with.unique.push(UniqueKey { scope: EVENT_SCOPE.to_owned(), key: event.clone() });
        }
        let request = MergeRequest {
            message: Some(match &work.request.merge {
                Some(merge) => rerun_merge::message(merge, &work.target),
                None => format!("Run {}", plan.project.name),
            }),
            ..MergeRequest::new(RefSpec::Commit(head.to_string()))
        };
        let view = self.lake().view(&request.source).await.map_err(|error| Error::other(&error))?;
        let whole = plan.checked_tables(&view).await?;
        let computed = self.record_computed(plan, work, &view, finished).await?;
        with.refs.extend(computed.iter().cloned());
        with.refs.extend(self.record_outputs(plan, work, head).await?);
        let checked = work.checks(plan).then(|| plan.project.name.clone());
        let (author, passed) = (work.author(), Some(checked.unwrap_or_default()));
        let merged = work.request.merge.as_ref().map(|merge| merge.source.clone());
        let is_retry = !work.made.is_empty();
        let mut reads = plan.read_set(work.start, is_retry).await?;
        reads.changes_any_position |= merged.is_some();
        let merge = MergeOptions {
            author,
            properties,
            with: with.clone(),
            whole,
            passed,
            reads: Some(reads),
            merged,
            // By default, equal changes do not conflict. This is needed, because runs of a `merge`
            // model may write equal rows.
            ..MergeOptions::default()
        };
        let merged = self.lake().merge_with(&work.target, request, merge).await;
        let report = merged.map_err(|error| work.not_merged(error, &closes))?;
        let report = self.visible(&work.target, report).await?;
        let tables: Vec<String> = report.tables.iter().map(ToString::to_string).collect();
        match report.outcome {
            MergeOutcome::Conflict => {
                self.record_for_repetition(work, computed).await?;
                let (target, branch) = (work.target.clone(), work.branch.clone());
                Err(Error::Conflict { target, branch, conflicts: report.conflicts })
            }
            MergeOutcome::UpToDate => {
                // If no table changed, there is no merge commit, so store the record of passed
                // checks without a commit.
                let stored = self.remember(with).await;
                stored.map_err(|error| work.not_stored(error, &closes))?;
                Ok((None, tables))
            }
            MergeOutcome::FastForward | MergeOutcome::Merged => Ok((Some(report.commit), tables)),
        }
    }

    /// Stores a batch without a commit. If an earlier attempt has already stored the trigger event,
    /// stores only the other entries.
    async fn remember(&self, mut with: WriteBatch) -> Result<(), headwater_store::Error> {
        match self.lake().store().apply(with.clone()).await {
            Err(headwater_store::Error::NotUnique { scope, .. }) if scope == EVENT_SCOPE => {
                with.unique.clear();
                self.lake().store().apply(with).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    /// Creates the namespaces of all models before the first step, so that steps do not create the
    /// same namespace concurrently.
    async fn create_namespaces(&self, plan: &Plan, work: &RunContext) -> Result<Option<CommitId>> {
        let known = plan.view.namespaces().await.map_err(|error| Error::other(&error))?;
        let steps = plan.planned_steps().filter(|step| step.is_materialized() || step.is_view());
        let wanted: BTreeSet<&str> = steps.map(|step| step.table.namespace.as_str()).collect();
        let missing: Vec<&str> = wanted
            .into_iter()
            .filter(|name| known.iter().all(|namespace| namespace.name != *name))
            .collect();
        if missing.is_empty() {
            return Ok(None);
        }
        let author = work.author();
        let transaction = self.lake().transaction(&work.branch, &author).await;
        let mut transaction = transaction.map_err(|error| Error::other(&error))?;
        set_creator(&mut transaction, self.creator());
        for name in missing {
            let object = plan.view.namespace_object(name).await;
            self.authorize(Action::Create, &object.map_err(|error| Error::other(&error))?)?;
            transaction.create_namespace(name, BTreeMap::new());
        }
        transaction.property(PROPERTY_JOB, work.context.id().to_string());
        let made = transaction.commit("Create the namespaces of the models").await;
        Ok(made.map_err(|error| Error::other(&error))?.map(|commit| commit.id))
    }

    /// Cleans up the branch of an interrupted run: puts the branch into quarantine, or deletes it
    /// if the run wrote nothing.
    pub async fn quarantine(&self, job: JobId) -> Result<()> {
        self.delete_conflict_branch(job).await?;
        let (catalog, branch) = (self.lake().catalog(), run_branch(job));
        let found = catalog.branches(Some(&branch)).await.map_err(|error| Error::other(&error))?;
        let Some(found) = found.into_iter().find(|one| one.name == branch) else { return Ok(()) };
        if found.quarantine.is_none() {
            let run = job.to_string();
            let marked = catalog.quarantine_branch(&branch, Some(&run)).await;
            marked.map_err(|error| Error::other(&error))?;
        }
        // The run started at the merge base of its branch and the target. If the target was
        // deleted, the branch is kept.
        let target = self.jobs.job(job).await.ok().and_then(|job| job.reference);
        let Some(target) = target else { return Ok(()) };
        let Ok(target) = catalog.branch(&target).await else { return Ok(()) };
        let starts = catalog.merge_bases(target.commit, found.commit).await;
        if let [start] = starts.map_err(|error| Error::other(&error))?[..] {
            self.forget_empty(start, &branch).await;
        }
        Ok(())
    }

    /// Returns the job service that records the runs.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }
}

/// Rejects a preview of a run that needs the merge.
fn check_preview(request: &RunRequest) -> Result<()> {
    if request.preview.is_none() || (request.merge.is_none() && request.retry.is_none()) {
        return Ok(());
    }
    let problem = Problem::new(
        ErrorCode::InvalidArgument,
        "`preview` cannot be combined with `merge` or `retry`",
    );
    Err(problem.with_hint("Preview the project without `merge` and `retry`.").into())
}
