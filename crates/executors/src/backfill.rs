//! Backfills: a run of the project for each value of a parameter, several at once, as one job.
//!
//! The first value runs on the branch itself. This run creates the tables, and computes the models
//! that do not depend on the parameter. Every other value runs on its own branch. All these
//! branches start at the commit of the first run, so that their runs read the same state. The
//! branches are merged one at a time. After a merge conflict, the value of the branch runs again on
//! the merged state; merges of other values wait until it has ended.
//!
//! Each run is a job of its own, with the rights and limits of the user. A backfill that is stopped
//! stops its runs, and deletes the branches of its values.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use headwater_access::Access;
use headwater_backfill::{BackfillReport, ValueReport};
use headwater_jobs::{DetachOnDrop, Executor, JobContext, Jobs, NewJob};
use headwater_lake::Lake;
use headwater_model::{
    AccessObject, Action, Actor, BackfillRequest, CommitId, CreateRef, ErrorCode, Job,
    JobEventKind, JobId, JobKind, JobStatus, MergeOutcome, MergeRequest, Principal, Problem,
    RefSpec, ResultExt,
};
use headwater_pipelines::Project;
use parking_lot::Mutex as SyncMutex;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::job_payload::{JobPayload, read};
use crate::rights::{EVERY, authorize, limits};
use crate::run::run_queue;

/// Default number of runs at once.
pub const BACKFILL_JOBS: u32 = 4;

/// Default number of retries of a value.
pub const BACKFILL_RETRIES: u32 = 2;

/// Returns the prefix of the branches of a backfill's values.
fn branch_prefix(job: JobId) -> String {
    format!("backfill/{}-", job.short())
}

/// Executes backfills.
#[derive(Clone)]
pub struct BackfillExecutor {
    /// The jobs, to which each value adds a run.
    pub jobs: Jobs,
    /// The lake that the runs read and change.
    pub lake: Lake,
    /// The rights of users.
    pub access: Access,
}

impl BackfillExecutor {
    /// Deletes the branches that interrupted backfills left.
    pub async fn delete_interrupted(&self) {
        let catalog = self.lake.catalog();
        for id in self.jobs.interrupted() {
            let job = self.jobs.job(*id).await;
            if !job.is_ok_and(|job| job.kind == JobKind::Backfill) {
                continue;
            }
            let branches = catalog.branches(Some(&branch_prefix(*id))).await;
            for branch in branches.unwrap_or_default() {
                if let Err(error) = catalog.delete_branch(&branch.name).await {
                    tracing::warn!("the branch `{}` cannot be deleted: {error}", branch.name);
                }
            }
        }
    }
}

#[async_trait]
impl Executor for BackfillExecutor {
    async fn execute(&self, context: JobContext, payload: Value) -> Result<Value, Problem> {
        let JobPayload::<BackfillRequest> { request, actor, .. } = read(payload)?;
        let settings = Project::read_settings(&request.run.files);
        let work = Arc::new(RunningBackfill {
            components: self.clone(),
            principal: actor.principal().with_author(request.run.author.clone()),
            actor,
            project: settings.map_or_else(|_| EVERY.to_owned(), |settings| settings.name),
            target: request.run.reference.as_ref().map(ToString::to_string).unwrap_or_default(),
            prefix: branch_prefix(context.id()),
            context,
            request,
            merging: Mutex::default(),
            ended: SyncMutex::default(),
            done: AtomicUsize::new(0),
        });
        // The job queue drops the future of a stopped job that does not end in time. This task
        // continues even then, to stop the runs and delete the branches of the backfill.
        let ended = DetachOnDrop::new(async move { work.execute().await }).await;
        ended.unwrap_or_else(|| Err(Problem::new(ErrorCode::Internal, "the backfill panicked")))
    }
}

/// A running backfill.
struct RunningBackfill {
    components: BackfillExecutor,
    principal: Principal,
    actor: Actor,
    /// The project's name.
    project: String,
    /// The branch into which the values are merged.
    target: String,
    /// Prefix of the branches of values.
    prefix: String,
    context: JobContext,
    request: BackfillRequest,
    /// A lock that is held while a value is merged, so that only one value is merged at a time.
    merging: Mutex<()>,
    /// The reports of the values that have ended.
    ended: SyncMutex<Vec<ValueReport>>,
    /// Number of values that ended without an error.
    done: AtomicUsize,
}

impl RunningBackfill {
    /// Runs all values and returns the report. If the backfill fails or is stopped, the report is
    /// in the error.
    async fn execute(self: &Arc<Self>) -> Result<Value, Problem> {
        let ran = self.run().await;
        let ended = std::mem::take(&mut *self.ended.lock());
        let request = &self.request;
        let report = BackfillReport::new(&request.parameter, &self.target, &request.values, ended);
        let failed = self.check_stopped().and(ran).err().or_else(|| report.problem(&[]));
        let Some(mut problem) = failed else { return Ok(json!(report)) };
        // The last run checks the merged tables. If it fails, its problem already contains a
        // report.
        problem.context.entry("report".to_owned()).or_insert_with(|| json!(report));
        Err(problem)
    }

    /// Runs all values, and then the project once more on the target, to check the merged tables.
    async fn run(self: &Arc<Self>) -> Result<(), Problem> {
        let values = &self.request.values;
        let Some((first, others)) = values.split_first() else { return Ok(()) };
        self.end(self.first(first).await);
        // The other values read the tables that the run of the first value creates.
        if self.has_failed() || others.is_empty() {
            return Ok(());
        }
        let start = self.head().await?;
        self.run_remaining_values(others, start).await?;
        if let Some(last) = values.last().filter(|_| !self.has_failed()) {
            self.job(last, &self.target).await?.1?;
        }
        Ok(())
    }

    /// Returns true if a run of any ended value failed.
    fn has_failed(&self) -> bool {
        self.ended.lock().iter().any(|report| report.error.is_some())
    }

    /// Runs the values after the first, several at once.
    async fn run_remaining_values(
        self: &Arc<Self>,
        values: &[String],
        start: CommitId,
    ) -> Result<(), Problem> {
        let at_once = self.request.jobs.unwrap_or(BACKFILL_JOBS);
        // The job queue rejects more concurrent runs than the user's limit.
        let limit = limits(&self.components.access, &self.principal).jobs;
        let at_once = at_once.min(limit.unwrap_or(u32::MAX)).max(1);
        let at_once = usize::try_from(at_once).unwrap_or(1);
        let (mut waiting, mut running) = (values.iter(), JoinSet::new());
        loop {
            while running.len() < at_once && self.check_stopped().is_ok() {
                let Some(value) = waiting.next() else { break };
                let (this, value) = (Arc::clone(self), value.clone());
                running.spawn(async move { this.value(&value, start).await });
            }
            let Some(ended) = running.join_next().await else { return Ok(()) };
            let report = ended.map_err(|error| {
                let message = format!("the task that runs a value ended unexpectedly: {error}");
                Problem::new(ErrorCode::Internal, message)
            })?;
            self.end(report);
        }
    }

    /// Runs the first value on the target branch.
    async fn first(&self, value: &str) -> ValueReport {
        let mut report = ValueReport::new(value);
        loop {
            report.attempts += 1;
            let outcome = self.job(value, &self.target).await.and_then(|(id, outcome)| {
                report.job = Some(id.to_string());
                outcome
            });
            match outcome {
                Ok(job) => {
                    let commit = job.result.get("commit").cloned().unwrap_or_default();
                    report.merged(serde_json::from_value(commit).ok());
                    return report;
                }
                Err(problem) => {
                    let wait = report.retry(self.retries(), &problem);
                    if !self.pause(wait).await {
                        return report.failed(problem);
                    }
                }
            }
        }
    }

    /// Runs a value on a new branch that starts at `start`, and merges the branch. Retries after an
    /// error.
    async fn value(&self, value: &str, start: CommitId) -> ValueReport {
        let mut report = ValueReport::new(value);
        loop {
            report.attempts += 1;
            let outcome = self.attempt(&mut report, start).await;
            self.delete_branch(&report).await;
            let Err(problem) = outcome else { return report };
            let wait = report.retry(self.retries(), &problem);
            if !self.pause(wait).await {
                // The value's branch was deleted, so describe it instead of giving its name.
                let described = format!("the branch of `{}={value}`", self.request.parameter);
                let branch = self.branch_of(&report);
                return report.failed(problem.without_branch(&branch, &described, &self.target));
            }
        }
    }

    async fn attempt(&self, report: &mut ValueReport, start: CommitId) -> Result<(), Problem> {
        self.on_branch(report, start).await?;
        let _merging = self.merging.lock().await;
        match self.merge(report).await {
            Err(problem) if problem.code == ErrorCode::MergeConflict => {
                // This task holds the lock `merging`: no other merge can change the target during
                // the rerun.
                self.delete_branch(report).await;
                report.attempts += 1;
                let head = self.head().await?;
                self.on_branch(report, head).await?;
                self.merge(report).await
            }
            outcome => outcome,
        }
    }

    /// Runs a value on a new branch that starts at the commit `from`.
    async fn on_branch(&self, report: &mut ValueReport, from: CommitId) -> Result<(), Problem> {
        self.check_stopped()?;
        let name = self.branch_of(report);
        let from = Some(RefSpec::Commit(from.to_string()));
        let create = CreateRef { name: name.clone(), from, if_not_exists: false };
        let (object, components) = (AccessObject::branch(&name), &self.components);
        self.authorize(Action::Create, &object)?;
        components.lake.create_branch(create).await.or_problem()?;
        components.access.set_owner(&self.principal, &object).await.or_problem()?;
        let (id, outcome) = self.job(&report.value, &name).await?;
        report.job = Some(id.to_string());
        outcome.map(drop)
    }

    async fn merge(&self, report: &mut ValueReport) -> Result<(), Problem> {
        self.check_stopped()?;
        let target = &self.target;
        self.authorize(Action::Merge, &AccessObject::branch(target))?;
        let source = RefSpec::Name(self.branch_of(report));
        let message = Some(format!("Backfill {}={}", self.request.parameter, report.value));
        let request = MergeRequest { message, ..MergeRequest::new(source) };
        let (lake, author) = (&self.components.lake, self.principal.author());
        let merged = Box::pin(lake.merge(target, request, author)).await.or_problem()?;
        if merged.outcome == MergeOutcome::Conflict {
            let tables = merged.conflicts.iter().map(|conflict| format!("`{}`", conflict.table));
            let tables = tables.collect::<Vec<_>>().join(", ");
            let message = format!("other commits on `{target}` changed the same tables: {tables}");
            return Err(Problem::new(ErrorCode::MergeConflict, message));
        }
        report.merged((!merged.tables.is_empty()).then_some(merged.commit));
        Ok(())
    }

    /// Runs the project with a value on a branch, and waits. Returns the id and the outcome of the
    /// run. If the backfill is stopped meanwhile, stops the run.
    async fn job(
        &self,
        value: &str,
        branch: &str,
    ) -> Result<(JobId, Result<Job, Problem>), Problem> {
        self.check_stopped()?;
        let id = self.start_run(value, branch).await?;
        let (cancelled, draining) = (self.context.cancelled(), self.context.draining());
        let jobs = &self.components.jobs;
        let must_stop = tokio::select! {
            _ = jobs.wait(id) => false,
            () = cancelled.cancelled() => true,
            () = draining.cancelled() => true,
        };
        if must_stop {
            jobs.stop(id).await.or_problem()?;
        }
        let job = jobs.wait(id).await.or_problem()?;
        if job.status == JobStatus::Succeeded {
            return Ok((id, Ok(job)));
        }
        let problem = job.error.unwrap_or_else(|| {
            Problem::new(ErrorCode::Internal, format!("the run `{id}` failed without an error"))
        });
        Ok((id, Err(problem)))
    }

    /// Starts the run of a value. The run waits for earlier runs of the project on the branch.
    async fn start_run(&self, value: &str, branch: &str) -> Result<JobId, Problem> {
        self.authorize(Action::Run, &AccessObject::project(&self.project))?;
        self.authorize(Action::Write, &AccessObject::branch(branch))?;
        let mut request = self.request.run.clone();
        request.reference = Some(RefSpec::Name(branch.to_owned()));
        request.parameters.insert(self.request.parameter.clone(), value.to_owned());
        let new = NewJob::of(JobKind::Run, self.project.clone(), &self.principal);
        let new = NewJob {
            queue: Some(run_queue(&self.project, branch)),
            reference: Some(branch.to_owned()),
            payload: json!(JobPayload::new(request, self.actor.clone())),
            ..new.named(&self.project)
        };
        self.components.jobs.submit(new).await.or_problem()
    }

    fn authorize(&self, action: Action, object: &AccessObject) -> Result<(), Problem> {
        authorize(&self.components.access, &self.principal, action, object)
    }

    fn retries(&self) -> u32 {
        self.request.retries.unwrap_or(BACKFILL_RETRIES)
    }

    async fn head(&self) -> Result<CommitId, Problem> {
        Ok(self.components.lake.catalog().branch(&self.target).await.or_problem()?.commit)
    }

    fn branch_of(&self, report: &ValueReport) -> String {
        format!("{}{}", self.prefix, report.branch_part())
    }

    /// Deletes the branch of a value, if it exists.
    async fn delete_branch(&self, report: &ValueReport) {
        let name = self.branch_of(report);
        if let Err(problem) = self.drop_branch(&name).await
            && problem.code != ErrorCode::RefNotFound
        {
            self.context
                .log_system(format!("branch `{name}` was not deleted: {}", problem.message));
        }
    }

    async fn drop_branch(&self, name: &str) -> Result<(), Problem> {
        let object = AccessObject::branch(name);
        self.authorize(Action::Drop, &object)?;
        self.components.lake.catalog().delete_branch(name).await.or_problem()?;
        self.components.access.remove_owner(&self.principal, &object).await.or_problem()
    }

    /// Waits before a retry. Returns false if there is no retry.
    async fn pause(&self, wait: Option<Duration>) -> bool {
        let Some(wait) = wait else { return false };
        let (cancelled, draining) = (self.context.cancelled(), self.context.draining());
        tokio::select! {
            () = tokio::time::sleep(wait) => true,
            () = cancelled.cancelled() => false,
            () = draining.cancelled() => false,
        }
    }

    /// Returns an error if the backfill must end: a client stopped it, or the server shuts down.
    fn check_stopped(&self) -> Result<(), Problem> {
        let hint = "Run the command again; repeating a value does not duplicate its rows.";
        let (done, total) = (self.done.load(Ordering::Relaxed), self.request.values.len());
        if self.context.cancelled().is_cancelled() {
            let stopped = format!("the backfill was stopped after {done} of {total} values");
            return Err(self.context.stopped(&stopped).with_hint(hint));
        }
        if self.context.draining().is_cancelled() {
            let message = format!("the server stopped after {done} of {total} values");
            return Err(Problem::new(ErrorCode::Interrupted, message).with_hint(hint));
        }
        Ok(())
    }

    /// Adds the outcome of a value to the report and to the job's events.
    fn end(&self, report: ValueReport) {
        let ended = usize::from(report.error.is_none());
        let done = self.done.fetch_add(ended, Ordering::Relaxed) + ended;
        let total = self.request.values.len();
        let (name, value, outcome) = (&self.request.parameter, &report.value, report.outcome());
        self.context.log_system(format!("{name}={value} {outcome}, {done} of {total} done"));
        self.context.emit(JobEventKind::ValueEnded { report: json!(report) });
        self.ended.lock().push(report);
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.context.emit(JobEventKind::Progress {
            stage: "backfill".to_owned(),
            done: count(done),
            total: Some(count(total)),
            unit: "values".to_owned(),
        });
    }
}
