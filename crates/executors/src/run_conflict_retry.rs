//! Repetition of runs whose merge has a conflict, because another client changed the same tables
//! during the run.
//!
//! A repetition is a complete run on the new state of the target, within the same job, with a new
//! plan. It reuses tables of the failed attempt if their inputs have not changed. Nothing of the
//! failed attempt was merged; its branch is kept under another name until the repetition has ended.

use std::time::Duration;

use futures::FutureExt;
use headwater_jobs::JobContext;
use headwater_model::{
    AccessObject, Principal, Problem, ResultExt, RunReport, RunRequest, ToProblem,
};
use headwater_pipelines::{Error, Runner, conflict_branch};
use serde_json::json;

use crate::run::RunExecutor;

/// Maximum number of repetitions of a run.
const REPETITIONS_MAX: u32 = 3;

/// Wait before the first repetition. Each further wait is twice as long.
const WAIT: Duration = Duration::from_millis(500);

impl RunExecutor {
    /// Runs a project, and repeats the run after a conflict.
    pub(crate) async fn run_repeatedly(
        &self,
        runner: &Runner,
        request: RunRequest,
        principal: &Principal,
        context: &JobContext,
    ) -> Result<RunReport, Problem> {
        if !may_repeat(&request) {
            // Otherwise, after a conflict, the runner would keep the run's tables for a repetition
            // that never happens.
            let request = RunRequest { no_repeat: true, ..request };
            let ran = runner.run(request, context.clone()).boxed().await;
            return ran.map_err(|error| error.to_problem());
        }
        let mut conflicts: Vec<Problem> = Vec::new();
        let ended = loop {
            let error = match runner.run(request.clone(), context.clone()).boxed().await {
                Ok(report) => break Ok(report),
                Err(error) => error,
            };
            let problem = repeated(&error, conflicts.len());
            let repetition = u32::try_from(conflicts.len()).unwrap_or(u32::MAX) + 1;
            if !error.is_conflict() || repetition > REPETITIONS_MAX {
                break Err(problem);
            }
            if !wait(repetition, &problem, context).await {
                let is_stopped = context.cancelled().is_cancelled();
                let stopped = || context.stopped("the run was stopped before it was repeated");
                break Err(if is_stopped { stopped() } else { problem });
            }
            conflicts.push(problem);
            if let Err(failed) = self.rename_attempt_branch(principal, context).await {
                break Err(failed);
            }
        };
        if !conflicts.is_empty() {
            self.delete_attempt_branch(principal, context).await;
        }
        ended.map(|report| RunReport { conflicts, ..report })
    }

    /// Renames the branch of an attempt with a conflict, so that the repetition can reuse the
    /// tables whose inputs have not changed. Deletes the branch of the previous attempt.
    async fn rename_attempt_branch(
        &self,
        principal: &Principal,
        context: &JobContext,
    ) -> Result<(), Problem> {
        self.delete_attempt_branch(principal, context).await;
        let (from, to) = (format!("run/{}", context.id()), conflict_branch(context.id()));
        let catalog = self.lake.catalog();
        if catalog.branch(&from).await.is_err() {
            // The attempt wrote nothing, so the runner has deleted its branch.
            return Ok(());
        }
        catalog.rename_branch(&from, &to).await.or_problem()?;
        self.access.set_owner(principal, &AccessObject::branch(&to)).await.or_problem()
    }

    async fn delete_attempt_branch(&self, principal: &Principal, context: &JobContext) {
        let branch = conflict_branch(context.id());
        let catalog = self.lake.catalog();
        if catalog.branch(&branch).await.is_err() {
            return;
        }
        if let Err(error) = catalog.delete_branch(&branch).await {
            tracing::warn!("the branch `{branch}` of a run cannot be deleted: {error}");
        } else if let Err(error) =
            self.access.remove_owner(principal, &AccessObject::branch(&branch)).await
        {
            tracing::warn!("the owner of branch `{branch}` cannot be removed: {error}");
        }
    }
}

/// Returns true if a run is repeated after a conflict. A trigger's run is not repeated, because the
/// trigger retries it. A retry or a merge of an earlier run is not repeated, because it needs the
/// state of the earlier run, which a repetition would not read.
fn may_repeat(request: &RunRequest) -> bool {
    !request.no_repeat
        && request.retry.is_none()
        && request.merge.is_none()
        && request.preview.is_none()
        && request.event.is_none()
}

/// Returns the error of an attempt. Its message contains the number of repetitions so far.
fn repeated(error: &Error, repetitions: usize) -> Problem {
    let mut problem = error.to_problem();
    if repetitions > 0 {
        problem.context.insert("repetitions".to_owned(), json!(repetitions));
        let times =
            if repetitions == 1 { "once".to_owned() } else { format!("{repetitions} times") };
        problem.causes.push(format!("the run was repeated {times} after conflicts"));
    }
    problem
}

/// Logs the reason of a repetition and waits. Returns false if the job must end.
async fn wait(repetition: u32, problem: &Problem, context: &JobContext) -> bool {
    let wait = WAIT.saturating_mul(1 << (repetition - 1));
    let (seconds, reason) = (wait.as_secs_f64(), &problem.message);
    context.log_system(format!(
        "repeating the run ({repetition} of {REPETITIONS_MAX}) in {seconds} s: {reason}"
    ));
    let (cancelled, draining) = (context.cancelled(), context.draining());
    tokio::select! {
        () = tokio::time::sleep(wait) => true,
        () = cancelled.cancelled() => false,
        () = draining.cancelled() => false,
    }
}

#[cfg(test)]
mod tests {
    use headwater_model::{ErrorCode, MergeRequest, PreviewOptions, RefSpec};

    use super::*;

    #[test]
    fn only_runs_on_the_current_state_are_repeated() {
        let repeats = |change: fn(&mut RunRequest)| {
            let mut request = RunRequest::default();
            change(&mut request);
            may_repeat(&request)
        };
        assert!(repeats(|_| ()));
        assert!(!repeats(|request| request.no_repeat = true));
        assert!(!repeats(|request| request.retry = Some("3fa9c1".to_owned())));
        assert!(!repeats(|request| request.event = Some("event/run".to_owned())));
        assert!(!repeats(|request| request.merge = Some(MergeRequest::new(RefSpec::main()))));
        let preview = |request: &mut RunRequest| {
            request.preview = Some(PreviewOptions { rows: 1, tail: false });
        };
        assert!(!repeats(preview));
    }

    #[test]
    fn the_last_error_contains_the_number_of_repetitions() {
        let conflict = Error::Conflict {
            target: "main".to_owned(),
            branch: "run/1".to_owned(),
            conflicts: Vec::new(),
        };
        assert!(conflict.is_conflict());
        let problem = repeated(&conflict, 0);
        assert_eq!((problem.code, problem.causes.len()), (ErrorCode::MergeConflict, 0));
        let problem = repeated(&conflict, 3);
        assert_eq!(problem.context["repetitions"], 3);
        assert_eq!(problem.causes, ["the run was repeated 3 times after conflicts"]);
    }
}
