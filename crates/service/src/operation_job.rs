//! Operations that run as jobs while the caller waits for the result.

use futures::FutureExt;
use futures::future::BoxFuture;
use headwater_jobs::{JobContext, NewJob};
use headwater_lake::{Transaction, set_creator};
use headwater_model::{JobId, JobKind, PROPERTY_JOB, Principal, Problem, ResultExt, Usage};
use headwater_telemetry::in_scope;
use serde_json::Value;

use crate::service::Components;

/// A job that has ended, with the result of its operation.
pub struct EndedJob<T> {
    /// Id of the job.
    pub job: JobId,
    /// The result of the operation.
    pub result: Result<T, Problem>,
}

impl Components {
    /// Runs an operation as a job. The job's usage contains the processor time of `work`, its
    /// duration and its outcome. The job's record is written later, in a batch with other records.
    ///
    /// Dropping the future stops the work and records the job as cancelled.
    pub(crate) async fn run_as_job<T: Send + 'static>(
        &self,
        new: NewJob,
        work: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<T, Problem> {
        let (context, guard) = self.jobs.record(new).await.or_problem()?;
        let outcome = self.run_in_job(&context, work).await.and_then(|outcome| outcome);
        guard.finish(outcome.as_ref().map(|_| Value::Null).map_err(Clone::clone));
        outcome
    }

    /// Runs work within a job and charges its CPU time to the job. Spans of the work are children
    /// of the job's span.
    ///
    /// Errors: `cancelled` if the job is stopped, or `quota_exceeded` if a daily limit stops it;
    /// `internal` if the work panics.
    pub(crate) async fn run_in_job<T: Send + 'static>(
        &self,
        context: &JobContext,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Problem> {
        let cancelled = context.cancelled();
        // Box the future of the work: it is large, and each caller's future would contain it.
        let work = in_scope(self.jobs.monitor().telemetry().of_job(context.id()), work).boxed();
        let outcome = tokio::select! {
            biased;
            outcome = self.operations.run(work) => outcome,
            () = cancelled.cancelled() => {
                Err(context.stopped("the job was stopped"))
            }
        };
        outcome.map(|(result, cpu_us)| {
            context.add_usage(&Usage { cpu_us, ..Usage::default() });
            result
        })
    }

    /// Applies a change to a branch and commits it, as a job. `change` is the commit message.
    pub(crate) async fn commit_as_job(
        &self,
        principal: &Principal,
        branch: &str,
        change: String,
        apply: impl for<'a> FnOnce(&'a mut Transaction) -> BoxFuture<'a, Result<(), Problem>>
        + Send
        + 'static,
    ) -> Result<(), Problem> {
        let (author, creator) = (principal.author().to_owned(), principal.as_object_owner());
        let new = NewJob::of(JobKind::Commit, format!("{change} on {branch}"), principal);
        let new = NewJob { reference: Some(branch.to_owned()), ..new };
        let (context, guard) = self.jobs.record(new).await.or_problem()?;
        let (lake, branch, job) = (self.lake.clone(), branch.to_owned(), context.id());
        let work = async move {
            let mut transaction = lake.transaction(&branch, &author).await.or_problem()?;
            set_creator(&mut transaction, creator);
            transaction.property(PROPERTY_JOB, job.to_string());
            apply(&mut transaction).await?;
            transaction.commit(&change).await.map(drop).or_problem()
        };
        let outcome = self.run_in_job(&context, work).await.and_then(|outcome| outcome);
        guard.finish(outcome.as_ref().map(|()| Value::Null).map_err(Clone::clone));
        outcome
    }
}
