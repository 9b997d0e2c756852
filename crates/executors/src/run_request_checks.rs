//! Checks of the request of a run, before the run is recorded as a job.

use headwater_model::{ErrorCode, Job, JobStatus, Problem, RunRequest};

/// Checks that a job is a run that failed and can be continued.
pub fn check_retriable(job: &Job, request: &RunRequest) -> Result<(), Problem> {
    let follow = format!("Follow the run with `headwater job logs {} --follow`.", job.id.short());
    let (why, hint) = match job.status {
        JobStatus::Succeeded => ("succeeded", "Start a new run with `headwater run`."),
        status if !status.is_final() => ("has not ended", follow.as_str()),
        _ if request.merge.is_some() => {
            ("merges a ref", "Repeat the merge with `headwater branch merge --rerun`.")
        }
        _ if request.no_cache => {
            ("was started with `--no-cache`", "Start a new run with `headwater run --no-cache`.")
        }
        _ => return Ok(()),
    };
    let message = format!("the run `{}` {why}, so it cannot be continued", job.id.short());
    let problem = Problem::new(ErrorCode::InvalidArgument, message);
    Err(problem.with_hint(hint))
}

/// Checks the options of a run.
///
/// Errors: `invalid_argument`.
pub fn check_request(request: &RunRequest) -> Result<(), Problem> {
    if request.files.is_empty() {
        let problem = Problem::new(ErrorCode::InvalidArgument, "the project has no files");
        return Err(problem.with_hint("Send the project's files in `files`."));
    }
    if request.test && (request.merge.is_some() || request.retry.is_some() || request.dry_run) {
        let message = "`test` cannot be combined with `merge`, `retry` or `dry_run`";
        let problem = Problem::new(ErrorCode::InvalidArgument, message);
        return Err(problem.with_hint("Send `test` in a separate request."));
    }
    let selects = !request.select.is_empty() || !request.exclude.is_empty();
    if request.merge.is_some() && selects {
        let message = "`merge` cannot be combined with `select` or `exclude`";
        let problem = Problem::new(ErrorCode::InvalidArgument, message);
        return Err(problem.with_hint("Omit `select` and `exclude`."));
    }
    Ok(())
}
