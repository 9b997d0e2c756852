//! Backfills: a run of the project for each value of a parameter, several at once, as one job.
//!
//! The first value runs on the branch itself. This run creates the tables, and computes the models
//! that do not depend on the parameter. Every other value runs on its own branch of the resulting
//! commit, so that these values all read the same state. The branches are merged one at a time.
//! After a merge conflict, the value runs again on the merged state, and merges of other values
//! wait.
//!
//! Each run is a job of its own, with the rights and limits of the user. A backfill that is stopped
//! stops its runs, and deletes the branches of its values.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use headwater_backfill::{BackfillReport, ValueReport, check_values, partition_values};
use headwater_executors::ActingRequest;
use headwater_jobs::{Executor, JobContext, NewJob};
use headwater_model::{
    Action, Actor, BackfillRequest, CommitId, CreateRef, ErrorCode, Job, JobEventKind, JobId,
    JobKind, JobStatus, MergeRequest, Object, Principal, Problem, RefSpec, ResultExt, TableName,
};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::branch::Branches;
use crate::run::{Runs, check_request, project_name, project_object};
use crate::service::Components;

/// Default and maximum number of runs at once.
const JOBS: u32 = 4;
const JOBS_MAX: u32 = 64;

/// Default and maximum number of retries of a value.
const RETRIES: u32 = 2;
const RETRIES_MAX: u32 = 20;

impl Runs {
    /// Starts a backfill and returns its job. The job waits for earlier backfills of the project on
    /// the branch.
    pub async fn backfill(
        &self,
        principal: &Principal,
        mut request: BackfillRequest,
    ) -> Result<Job, Problem> {
        self.0.authorize(principal, Action::Run, &project_object(&request.run.files))?;
        check(&request)?;
        self.0.settings.refresh().await;
        let branch = self.0.branch_to_write(request.run.reference.as_ref()).await;
        let branch = branch.map_err(|problem| self.0.conceal(principal, problem))?;
        self.0.authorize(principal, Action::Write, &Object::branch(&branch))?;
        if let Some(table) = request.partitions_of.take() {
            request.values = self.partitions(principal, &branch, &table).await?;
        }
        check_values(&request.parameter, &request.values)?;
        request.run.reference = Some(RefSpec::Name(branch.clone()));
        request.run.author = Some(principal.author().to_owned());
        let project = project_name(&request.run);
        let count = request.values.len();
        let summary = format!("{project}, {count} values of {}", request.parameter);
        let new = NewJob::of(JobKind::Backfill, summary, principal).named(&project);
        let actor = Actor::of(principal).without_token();
        let new = NewJob {
            // The limits of the user apply to the runs. A limit of one job would block them.
            user: None,
            queue: Some(format!("backfill of {project} on {branch}")),
            reference: Some(branch),
            payload: json!(ActingRequest { request, actor }),
            ..new
        };
        let id = self.0.jobs.submit(new).await.or_problem()?;
        self.0.jobs.job(id).await.or_problem()
    }

    /// Returns the values of a table's partitions at the head of a branch. The principal needs the
    /// right to read all rows of the table.
    async fn partitions(
        &self,
        principal: &Principal,
        branch: &str,
        table: &str,
    ) -> Result<Vec<String>, Problem> {
        let name = table.parse::<TableName>().or_problem()?;
        let view = self.0.lake.view(&RefSpec::Name(branch.to_owned())).await.or_problem()?;
        let found = view.state().find_table(&name.namespace, &name.name).await.or_problem()?;
        let stored = found.as_ref().map_or(&name, |(stored, _)| stored);
        self.0.authorize(principal, Action::Select, &Object::table(stored))?;
        let Some((stored, entry)) = &found else {
            let missing = view.table(&name).await.map(|_| Vec::new()).or_problem();
            return missing.map_err(|problem| self.0.conceal(principal, problem));
        };
        let access = self.0.table_access(principal);
        if access
            .is_some_and(|access| access.restrictions(stored, Some(entry.id.as_str())).is_some())
        {
            let message = format!("`{stored}` has a row filter or column mask for this user");
            let problem = Problem::new(ErrorCode::Forbidden, message);
            return Err(problem.with_hint("List the values instead of the table's partitions."));
        }
        let table = view.load(entry).await.or_problem()?;
        let files = self.0.lake.tables().list_files(&table).await.or_problem()?;
        let data = files.into_iter().filter(|file| file.content == "data");
        let partitions = data.map(|file| file.partition);
        partition_values(&stored.to_string(), table.partition().len(), partitions)
    }
}

fn check(request: &BackfillRequest) -> Result<(), Problem> {
    check_request(&request.run)?;
    let invalid = |message: String, hint: &str| {
        Err(Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint))
    };
    let run = &request.run;
    if run.merge.is_some()
        || run.retry.is_some()
        || run.preview.is_some()
        || run.dry_run
        || run.test
    {
        let message = "a backfill cannot merge, retry, be a preview, a dry run or a test";
        let hint = "Omit `merge`, `retry`, `preview`, `dry_run` and `test` in `run`.";
        return invalid(message.to_owned(), hint);
    }
    if request.partitions_of.is_some() != request.values.is_empty() {
        let message = "a backfill needs either values or a table";
        return invalid(message.to_owned(), "Write `values` or `partitions_of`.");
    }
    let name = &request.parameter;
    if run.parameters.contains_key(name) {
        let message = format!("the parameter `{name}` is given twice");
        return invalid(message, "Remove it from the parameters of `run`.");
    }
    let (jobs, retries) = (jobs(request), retries(request));
    if !(1..=JOBS_MAX).contains(&jobs) || retries > RETRIES_MAX {
        let message = format!("{jobs} jobs and {retries} retries are out of range");
        return invalid(message, "Write `jobs` from 1 to 64, and `retries` from 0 to 20.");
    }
    Ok(())
}

fn jobs(request: &BackfillRequest) -> u32 {
    request.jobs.unwrap_or(JOBS)
}

fn retries(request: &BackfillRequest) -> u32 {
    request.retries.unwrap_or(RETRIES)
}

/// Returns the prefix of the branches of a backfill's values.
fn branch_prefix(job: JobId) -> String {
    format!("backfill/{}-", job.short())
}

/// Executes backfills.
pub(crate) struct BackfillExecutor(Weak<Components>);

impl BackfillExecutor {
    /// Registers the executor. Deletes the branches that interrupted backfills left.
    pub(crate) async fn register(components: &Arc<Components>) {
        let (jobs, catalog) = (&components.jobs, components.lake.catalog());
        for id in jobs.interrupted() {
            let job = jobs.job(*id).await;
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
        jobs.register(JobKind::Backfill, Arc::new(BackfillExecutor(Arc::downgrade(components))));
    }
}

#[async_trait]
impl Executor for BackfillExecutor {
    async fn execute(&self, context: JobContext, payload: Value) -> Result<Value, Problem> {
        let stopping = || Problem::new(ErrorCode::Unavailable, "the server is shutting down");
        let components = self.0.upgrade().ok_or_else(stopping)?;
        let recorded = serde_json::from_value(payload).map_err(|error| {
            let message = format!("the recorded request cannot be read: {error}");
            Problem::new(ErrorCode::Corrupt, message)
        });
        let ActingRequest::<BackfillRequest> { request, actor } = recorded?;
        let author = request.run.author.clone();
        let work = Arc::new(RunningBackfill {
            components,
            principal: actor.principal().with_author(author),
            target: request.run.reference.as_ref().map(ToString::to_string).unwrap_or_default(),
            prefix: branch_prefix(context.id()),
            context,
            request,
            merging: Mutex::default(),
            done: AtomicUsize::new(0),
        });
        work.execute().await
    }
}

/// A running backfill.
struct RunningBackfill {
    components: Arc<Components>,
    principal: Principal,
    /// The branch into which the values are merged.
    target: String,
    /// Prefix of the branches of values.
    prefix: String,
    context: JobContext,
    request: BackfillRequest,
    /// Locked during a merge.
    merging: Mutex<()>,
    /// Number of finished values.
    done: AtomicUsize,
}

impl RunningBackfill {
    /// Runs all values and returns the report. If values failed, the report is in the error.
    async fn execute(self: &Arc<Self>) -> Result<Value, Problem> {
        let values = self.run().await;
        self.check_stopped()?;
        let report = BackfillReport {
            parameter: self.request.parameter.clone(),
            branch: self.target.clone(),
            total: self.request.values.len(),
            values: values?,
        };
        match report.problem(&[]) {
            None => Ok(json!(report)),
            Some(mut problem) => {
                problem.context.insert("report".to_owned(), json!(report));
                Err(problem)
            }
        }
    }

    /// Runs all values, and then the project once more to check the merged tables.
    async fn run(self: &Arc<Self>) -> Result<Vec<ValueReport>, Problem> {
        let values = &self.request.values;
        let Some((first, others)) = values.split_first() else { return Ok(Vec::new()) };
        let report = self.first(first).await;
        self.tell(&report);
        if report.error.is_some() {
            // Stop here, because the other values need the tables of the first value.
            return Ok(vec![report]);
        }
        let mut reports = vec![report];
        if others.is_empty() {
            return Ok(reports);
        }
        let start = self.head().await?;
        self.run_others(others, start, &mut reports).await?;
        let order: HashMap<&str, usize> =
            values.iter().enumerate().map(|(at, value)| (value.as_str(), at)).collect();
        reports.sort_by_key(|report| order.get(report.value.as_str()).copied());
        let is_whole = reports.iter().all(|report| report.error.is_none());
        if let Some(last) = values.last().filter(|_| is_whole) {
            self.job(last, &self.target).await?.1?;
        }
        Ok(reports)
    }

    /// Runs the values after the first, several at once.
    async fn run_others(
        self: &Arc<Self>,
        values: &[String],
        start: CommitId,
        reports: &mut Vec<ValueReport>,
    ) -> Result<(), Problem> {
        let at_once = usize::try_from(jobs(&self.request)).unwrap_or(1);
        let (mut waiting, mut running) = (values.iter(), JoinSet::new());
        loop {
            while running.len() < at_once
                && let Some(value) = waiting.next()
            {
                let (this, value) = (Arc::clone(self), value.clone());
                running.spawn(async move { this.value(&value, start).await });
            }
            let Some(ended) = running.join_next().await else { return Ok(()) };
            let report = ended.map_err(|error| {
                Problem::new(ErrorCode::Internal, format!("the run of a value failed: {error}"))
            })?;
            self.tell(&report);
            reports.push(report);
        }
    }

    /// Runs the first value on the target.
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
                    let wait = report.retry(retries(&self.request), &problem);
                    if !self.pause(wait).await {
                        return report.failed(problem);
                    }
                }
            }
        }
    }

    /// Runs a value on a branch of `start`, and merges the branch.
    async fn value(&self, value: &str, start: CommitId) -> ValueReport {
        let mut report = ValueReport::new(value);
        loop {
            report.attempts += 1;
            let outcome = self.attempt(&mut report, start).await;
            self.delete_branch(&report).await;
            let Err(problem) = outcome else { return report };
            let wait = report.retry(retries(&self.request), &problem);
            if !self.pause(wait).await {
                return report.failed(problem);
            }
        }
    }

    async fn attempt(&self, report: &mut ValueReport, start: CommitId) -> Result<(), Problem> {
        self.on_branch(report, start).await?;
        let _merging = self.merging.lock().await;
        match self.merge(report).await {
            Err(problem) if problem.code == ErrorCode::MergeConflict => {
                // This task holds the lock, so no other value of the backfill is merged at the same
                // time.
                self.delete_branch(report).await;
                report.attempts += 1;
                let head = self.head().await?;
                self.on_branch(report, head).await?;
                self.merge(report).await
            }
            outcome => outcome,
        }
    }

    /// Runs a value on a new branch of a commit.
    async fn on_branch(&self, report: &mut ValueReport, from: CommitId) -> Result<(), Problem> {
        self.check_stopped()?;
        let name = self.branch_of(report);
        let from = Some(RefSpec::Commit(from.to_string()));
        let create = CreateRef { name: name.clone(), from, if_not_exists: false };
        Branches(self.components.clone()).create(&self.principal, create).await?;
        let (id, outcome) = self.job(&report.value, &name).await?;
        report.job = Some(id.to_string());
        outcome.map(drop)
    }

    async fn merge(&self, report: &mut ValueReport) -> Result<(), Problem> {
        self.check_stopped()?;
        let source = RefSpec::Name(self.branch_of(report));
        let message = Some(format!("Backfill {}={}", self.request.parameter, report.value));
        let request = MergeRequest { message, ..MergeRequest::new(source) };
        let branches = Branches(self.components.clone());
        let merged = Box::pin(branches.merge(&self.principal, &self.target, request)).await?;
        report.merged((!merged.tables.is_empty()).then_some(merged.commit));
        Ok(())
    }

    /// Runs the project with a value on a branch, and waits. Returns the run's id and outcome. If
    /// the backfill is stopped, stops the run.
    async fn job(
        &self,
        value: &str,
        branch: &str,
    ) -> Result<(JobId, Result<Job, Problem>), Problem> {
        self.check_stopped()?;
        let mut run = self.request.run.clone();
        run.reference = Some(RefSpec::Name(branch.to_owned()));
        run.parameters.insert(self.request.parameter.clone(), value.to_owned());
        let runs = Runs(self.components.clone());
        let id = Box::pin(runs.start(&self.principal, run)).await?.id;
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
        let outcome = match (job.status, &job.error) {
            (JobStatus::Succeeded, _) => Ok(job),
            (_, Some(problem)) => Err(problem.clone()),
            (status, None) => {
                let message = format!("the run `{id}` ended as {status:?}");
                Err(Problem::new(ErrorCode::Internal, message))
            }
        };
        Ok((id, outcome))
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
        let deleted = Branches(self.components.clone()).delete(&self.principal, &name).await;
        if let Err(problem) = deleted
            && problem.code != ErrorCode::RefNotFound
        {
            self.context.log_system(format!("branch {name} remains: {}", problem.message));
        }
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

    /// Fails if the backfill must end: a client stopped it, or the server shuts down.
    fn check_stopped(&self) -> Result<(), Problem> {
        let hint = "Run the command again; repeating a value does not duplicate its rows.";
        let (done, total) = (self.done.load(Ordering::Relaxed), self.request.values.len());
        let stopped = format!("the backfill was stopped after {done} of {total} values");
        if self.context.cancelled().is_cancelled() {
            return Err(self.context.stopped(&stopped).with_hint(hint));
        }
        if self.context.draining().is_cancelled() {
            return Err(Problem::new(ErrorCode::Cancelled, stopped).with_hint(hint));
        }
        Ok(())
    }

    /// Records the outcome of a value in the job's events.
    fn tell(&self, report: &ValueReport) {
        let ended = usize::from(report.error.is_none());
        let done = self.done.fetch_add(ended, Ordering::Relaxed) + ended;
        let total = self.request.values.len();
        let (name, value, outcome) = (&self.request.parameter, &report.value, report.outcome());
        self.context.log_system(format!("{name}={value} {outcome}, {done} of {total} done"));
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.context.emit(JobEventKind::Progress {
            stage: "backfill".to_owned(),
            done: count(done),
            total: Some(count(total)),
            unit: "values".to_owned(),
        });
    }
}
