//! Jobs: list, get, follow, stop, and their usage. Ids are accepted as unique prefixes or suffixes.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use headwater_executors::{EVERY, JobPayload};
use headwater_jobs::{JobFilter, UsageGrouping};
use headwater_model::{
    AccessObject, Action, CreateRef, ErrorCode, FunctionCall, Job, JobEvent, JobEventKind, JobKind,
    Principal, Problem, RefSpec, ResultExt, RunEnvironment, RunRequest, Timestamp, UsageLine,
};
use headwater_pipelines::rerun_environments;

use crate::branch::Branches;
use crate::run::Runs;
use crate::service::Components;

/// Operations on jobs.
#[derive(Clone)]
pub struct Jobs(pub(crate) Arc<Components>);

impl Jobs {
    /// Returns the number of running jobs.
    pub fn running(&self) -> usize {
        self.0.jobs.monitor().running()
    }

    /// Lists jobs, newest first. With [`JobFilter::wait`], waits for the first job.
    pub async fn list(
        &self,
        principal: &Principal,
        filter: &JobFilter,
    ) -> Result<Vec<Job>, Problem> {
        self.0.authenticated(principal)?;
        let is_visible = |job: &Job| self.is_visible(principal, job);
        filter.list_visible(&self.0.jobs, is_visible).await.or_problem()
    }

    /// Returns a job that the principal may see. A hidden job and a missing job give the same
    /// error.
    pub(crate) async fn find(&self, principal: &Principal, id: &str) -> Result<Job, Problem> {
        self.0.authenticated(principal)?;
        if self.0.is_unlimited(principal) {
            return self.0.jobs.get(id).await.or_problem();
        }
        // Drop the error: for an ambiguous short id, it contains the ids of hidden jobs.
        let found = self.0.jobs.get(id).await.ok().filter(|job| self.is_visible(principal, job));
        found.ok_or_else(|| Problem::new(ErrorCode::JobNotFound, format!("there is no job `{id}`")))
    }

    /// Returns true if a principal may see a job: its own job, or a job of a user whose usage it
    /// may read.
    fn is_visible(&self, principal: &Principal, job: &Job) -> bool {
        principal.is_author_of(&job.author, job.created)
            || self.0.allows(principal, Action::Read, &AccessObject::usage(&job.author))
    }

    /// Returns a job, with the reasons why its function calls wait. The result of a backfill has
    /// the outcome of each value, even if the backfill is still running or has failed.
    pub async fn get(&self, principal: &Principal, id: &str) -> Result<Job, Problem> {
        let mut job = self.with_values(self.find(principal, id).await?).await?;
        if job.status.is_final() {
            return Ok(job);
        }
        // Searching a long queue takes time, so use a thread of the blocking pool.
        let (functions, id) = (self.0.functions.clone(), job.id);
        let calls = tokio::task::spawn_blocking(move || functions.calls_of(id)).await;
        let reason =
            |call: FunctionCall| Some(format!("`{}` waits for {}", call.label, call.waits_for?));
        job.waits_for.extend(calls.unwrap_or_default().into_iter().filter_map(reason));
        Ok(job)
    }

    /// Returns a job's recorded events after a sequence number.
    pub async fn events(
        &self,
        principal: &Principal,
        id: &str,
        after: u64,
    ) -> Result<Vec<JobEvent>, Problem> {
        let id = self.find(principal, id).await?.id;
        self.0.jobs.events(id, after).await.or_problem()
    }

    /// Streams a job's events after a sequence number until the job has ended.
    pub async fn follow(
        &self,
        principal: &Principal,
        id: &str,
        after: u64,
    ) -> Result<BoxStream<'static, Result<JobEvent, Problem>>, Problem> {
        let id = self.find(principal, id).await?.id;
        let events = self.0.jobs.follow(id, after).await.or_problem()?;
        Ok(events.map(ResultExt::or_problem).boxed())
    }

    /// Stops a job and returns its state. A job that has ended is unchanged.
    pub async fn stop(&self, principal: &Principal, id: &str) -> Result<Job, Problem> {
        let job = self.find(principal, id).await?;
        if !principal.is_author_of(&job.author, job.created) {
            self.0.authorize(principal, Action::Maintain, &AccessObject::lake())?;
        }
        let id = job.id;
        self.0.jobs.stop(id).await.or_problem()
    }

    /// Starts a run again with the request of an earlier run: files, parameters and branch.
    pub async fn rerun(&self, principal: &Principal, id: &str) -> Result<Job, Problem> {
        let job = self.find(principal, id).await?;
        let request = self.run_request(&job).await?;
        // The changes for a trigger's event are committed at most once. With the event of the
        // original run, the new run could commit nothing. The new run is also not a retry.
        let request = RunRequest { event: None, retry: None, ..request };
        Runs(self.0.clone()).start(principal, request).await
    }

    /// Repeats a run exactly, with the same files, parameters, selection and package versions. The
    /// new run is on a new branch, which starts at the same commit as the original run. The default
    /// name of the branch is `rerun/JOB`. If the run fails or is stopped before a model has
    /// written a table, the branch is deleted.
    pub async fn rerun_exactly(
        &self,
        principal: &Principal,
        id: &str,
        branch: Option<String>,
    ) -> Result<Job, Problem> {
        let job = self.find(principal, id).await?;
        let JobPayload { request, new_branch, .. } = self.recorded_run(&job).await?;
        if request.merge.is_some() || request.test {
            let message = format!(
                "the run `{}` merges a ref or runs tests, so it cannot be repeated exactly",
                job.id.short()
            );
            return Err(Problem::new(ErrorCode::InvalidArgument, message)
                .with_hint("Repeat the run without `exact`."));
        }
        let start = self.0.runner.start_of(&job, &request, new_branch).await.or_problem()?;
        let environments = self.environments(&job).await?;
        let environments = rerun_environments(environments, &request.environments);
        let name = branch.unwrap_or_else(|| format!("rerun/{}", job.id.short()));
        let from = Some(RefSpec::Commit(start.to_string()));
        let create = CreateRef { name: name.clone(), from, if_not_exists: false };
        let branches = Branches(self.0.clone());
        branches.create(principal, create).await?;
        let reference = Some(RefSpec::Name(name.clone()));
        let request = RunRequest {
            event: None,
            retry: None,
            reference,
            no_reuse: true,
            // After a merge conflict, a repetition would read another commit than the original run.
            no_repeat: true,
            environments,
            ..request
        };
        let runs = Runs(self.0.clone());
        let started = runs.start_on_new_branch(principal, request, start).await;
        if started.is_err()
            && let Err(problem) = branches.delete(principal, &name).await
        {
            tracing::warn!("the branch `{name}` of a rerun cannot be deleted: {problem}");
        }
        started
    }

    /// Returns the packages that a run used, from its recorded events.
    async fn environments(&self, job: &Job) -> Result<Vec<RunEnvironment>, Problem> {
        let events = self.0.jobs.events(job.id, 0).await.or_problem()?;
        let used = events.into_iter().filter_map(|event| match event.event {
            JobEventKind::Environment { environment } => Some(*environment),
            _ => None,
        });
        Ok(used.collect())
    }

    /// Returns the recorded request of a run.
    pub(crate) async fn run_request(&self, job: &Job) -> Result<RunRequest, Problem> {
        Ok(self.recorded_run(job).await?.request)
    }

    /// Returns the recorded request of a run, with the commit of the branch created for the run.
    async fn recorded_run(&self, job: &Job) -> Result<JobPayload<RunRequest>, Problem> {
        if job.kind != JobKind::Run {
            let message = format!("the job `{}` is not a run", job.id);
            let problem = Problem::new(ErrorCode::InvalidArgument, message);
            return Err(problem.with_hint("Send the original request again."));
        }
        let payload = self.0.jobs.payload(job.id).await.or_problem()?;
        let request = payload.and_then(|payload| serde_json::from_value(payload).ok());
        request.ok_or_else(|| {
            let message = format!("the project files of the run `{}` were deleted", job.id);
            let problem = Problem::new(ErrorCode::FileNotFound, message);
            problem.with_hint("Run the project with `headwater run`.")
        })
    }

    /// Returns the usage of jobs that were recorded in `[since, until)`, summed by group. Covers
    /// all jobs if the principal may read the usage of every user, otherwise only the jobs that the
    /// principal may see.
    ///
    /// Errors: `invalid_project` if the rates of the working folder's project cannot be read; the
    /// costs would then be wrong.
    pub async fn usage(
        &self,
        principal: &Principal,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        by: UsageGrouping,
    ) -> Result<Vec<UsageLine>, Problem> {
        self.0.authenticated(principal)?;
        self.0.settings.refresh().await;
        if let Some(problem) = self.0.settings.problem() {
            return Err(problem);
        }
        self.0.message_queue_meter.flush();
        if self.0.allows(principal, Action::Read, &AccessObject::usage(EVERY)) {
            return self.0.jobs.usage(since, until, by).await.or_problem();
        }
        let is_visible = |job: &Job| self.is_visible(principal, job);
        self.0.jobs.usage_of(since, until, by, is_visible).await.or_problem()
    }
}
