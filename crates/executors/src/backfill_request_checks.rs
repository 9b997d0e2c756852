//! Checks of requests to start backfills.

use headwater_model::{BackfillRequest, ErrorCode, Problem, ResultExt};
use headwater_pipelines::parse_project;

use crate::backfill::{BACKFILL_JOBS, BACKFILL_RETRIES};
use crate::run_request_checks::check_request;

/// Maximum number of runs that a backfill executes at once.
const JOBS_MAX: u32 = 64;

/// Maximum number of retries of the run for one value.
const RETRIES_MAX: u32 = 20;

/// Checks the project and the parameters of all runs, so that an error of the request is reported
/// once, before the first run.
///
/// Errors: those of the project; `invalid_argument` for a value that the parameter cannot have.
pub fn check_backfill_parameters(request: &BackfillRequest) -> Result<(), Problem> {
    let project = parse_project(&request.run.files).or_problem()?.into_runnable().or_problem()?;
    let mut given = request.run.parameters.clone();
    for value in &request.values {
        given.insert(request.parameter.clone(), value.clone());
        project.parameter_values(&given).or_problem()?;
    }
    Ok(())
}

/// Checks the options of a backfill, and those of its runs.
///
/// Errors: `invalid_argument`.
pub fn check_backfill(request: &BackfillRequest) -> Result<(), Problem> {
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
        let message = "a backfill cannot be a merge, a retry, a preview, a dry run or a test";
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
    let jobs = request.jobs.unwrap_or(BACKFILL_JOBS);
    let retries = request.retries.unwrap_or(BACKFILL_RETRIES);
    if !(1..=JOBS_MAX).contains(&jobs) || retries > RETRIES_MAX {
        let message = format!("`jobs` ({jobs}) or `retries` ({retries}) is out of range");
        return invalid(message, "Write `jobs` from 1 to 64, and `retries` from 0 to 20.");
    }
    Ok(())
}
