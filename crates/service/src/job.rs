//! Jobs: list, get, follow, stop, and their usage. An id may be shortened to a unique prefix or
//! suffix.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use headwater_jobs::{JobFilter, UsageGroup};
use headwater_model::{
    FunctionCall, Job, JobEvent, OrProblem, Principal, Problem, Timestamp, UsageLine,
};

use crate::access::{Action, authorize};
use crate::service::Components;

/// Operations on jobs.
#[derive(Clone)]
pub struct Jobs(pub(crate) Arc<Components>);

impl Jobs {
    /// Lists jobs, newest first.
    pub async fn list(
        &self,
        principal: &Principal,
        filter: &JobFilter,
    ) -> Result<Vec<Job>, Problem> {
        authorize(principal, Action::Read)?;
        self.0.jobs.list(filter).await.or_problem()
    }

    /// Returns a job and what its function calls wait for.
    pub async fn get(&self, principal: &Principal, id: &str) -> Result<Job, Problem> {
        authorize(principal, Action::Read)?;
        let mut job = self.0.jobs.get(id).await.or_problem()?;
        if job.status.is_final() {
            return Ok(job);
        }
        // A long queue is searched on a thread for blocking work.
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
        authorize(principal, Action::Read)?;
        let id = self.0.jobs.get(id).await.or_problem()?.id;
        self.0.jobs.events(id, after).await.or_problem()
    }

    /// Streams a job's events after a sequence number until the job has ended.
    pub async fn follow(
        &self,
        principal: &Principal,
        id: &str,
        after: u64,
    ) -> Result<BoxStream<'static, Result<JobEvent, Problem>>, Problem> {
        authorize(principal, Action::Read)?;
        let id = self.0.jobs.get(id).await.or_problem()?.id;
        let events = self.0.jobs.follow(id, after).await.or_problem()?;
        Ok(events.map(OrProblem::or_problem).boxed())
    }

    /// Stops a job. Returns its state; a job that has ended is unchanged.
    pub async fn stop(&self, principal: &Principal, id: &str) -> Result<Job, Problem> {
        authorize(principal, Action::Maintain)?;
        let id = self.0.jobs.get(id).await.or_problem()?.id;
        self.0.jobs.stop(id).await.or_problem()
    }

    /// Returns the usage of jobs that were recorded in `[since, until)`, summed by group.
    pub async fn usage(
        &self,
        principal: &Principal,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        group: UsageGroup,
    ) -> Result<Vec<UsageLine>, Problem> {
        authorize(principal, Action::Read)?;
        self.0.settings.refresh().await;
        self.0.jobs.usage(since, until, group).await.or_problem()
    }
}
