//! Operations whose caller waits for the result, recorded as jobs.

use headwater_jobs::NewJob;
use headwater_model::{OrProblem, Problem, Usage};
use serde_json::Value;

use crate::service::Components;

impl Components {
    /// Runs an operation as a job. The job's usage contains the processor time of `work`, its
    /// duration and its outcome; its record is written in a group after the result is returned.
    ///
    /// Dropping the future stops the work and records the job as cancelled.
    pub(crate) async fn run_as_job<T: Send + 'static>(
        &self,
        new: NewJob,
        work: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<T, Problem> {
        let (context, guard) = self.jobs.record(new).await.or_problem()?;
        let cancelled = context.cancelled();
        let outcome = tokio::select! {
            outcome = self.operations.run(work) => outcome,
            () = cancelled.cancelled() => Err(crate::statement::stopped()),
        };
        let outcome = outcome.and_then(|(result, cpu_us)| {
            context.add_usage(&Usage { cpu_us, ..Usage::default() });
            result
        });
        guard.finish(outcome.as_ref().map(|_| Value::Null).map_err(Clone::clone));
        outcome
    }
}
