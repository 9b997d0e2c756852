//! The outcome of a job.

use headwater_model::{
    ErrorCode, Job, JobEvent, JobEventKind, JobStatus, Problem, Timestamp, ToProblem, Usage,
};
use serde_json::Value;
use tokio::task::JoinError;

use crate::active_job::StopReason;
use crate::{Error, Result};

/// The result of ending a job: its final status, usage and cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JobEnd {
    pub status: JobStatus,
    pub usage: Usage,
    pub cost: f64,
    /// False if the job ended before its execution started.
    pub has_started: bool,
}

/// Sets the status of an ended job, from its result and the reason for stopping it.
pub(crate) fn set_final_status(
    job: &mut Job,
    result: Result<Value, Problem>,
    stop: Option<StopReason>,
) {
    let problem = match result {
        Ok(value) => {
            job.status = JobStatus::Succeeded;
            job.result = value;
            return;
        }
        Err(problem) => problem,
    };
    let (status, problem) = match (stop, problem.code) {
        (Some(StopReason::Request), _) => {
            (JobStatus::Cancelled, stopped(ErrorCode::Cancelled, "the job was stopped", problem))
        }
        (Some(StopReason::Shutdown), _) => {
            let message = "the server stopped while the job ran";
            (JobStatus::Interrupted, stopped(ErrorCode::Interrupted, message, problem))
        }
        (None, ErrorCode::Cancelled) => (JobStatus::Cancelled, problem),
        (None, ErrorCode::Interrupted) => (JobStatus::Interrupted, problem),
        (None | Some(StopReason::DayLimit), _) => (JobStatus::Failed, problem),
    };
    job.status = status;
    job.error = Some(problem);
}

fn stopped(code: ErrorCode, message: &str, problem: Problem) -> Problem {
    // Keep the error of the work if it already has the expected code.
    if problem.code == code {
        return problem;
    }
    let mut stopped = Problem::new(code, message);
    if !matches!(problem.code, ErrorCode::Cancelled | ErrorCode::Interrupted) {
        stopped.causes.push(problem.message);
        stopped.causes.extend(problem.causes);
    }
    stopped.hint = (code == ErrorCode::Interrupted).then(|| "Start the job again.".to_owned());
    stopped
}

/// Returns the problem of a job that succeeded but whose end cannot be stored.
pub(crate) fn end_not_stored(error: &Problem) -> Problem {
    let mut problem =
        Problem::new(error.code, "the job succeeded, but its result could not be stored");
    problem.causes.push(error.message.clone());
    problem.hint.clone_from(&error.hint);
    problem
}

/// Returns the milliseconds since a job started, rounded up; 0 if it has not started.
pub(crate) fn elapsed_ms(started: Option<Timestamp>, now: Timestamp) -> u64 {
    let Some(started) = started else { return 0 };
    let micros = (now - started).num_microseconds().unwrap_or(0);
    u64::try_from(micros).unwrap_or(0).div_ceil(1_000)
}

/// Returns the start and end events for a stored job that has no stored events.
pub(crate) fn plain_events(job: &Job) -> Vec<JobEvent> {
    let started = job.started.map(|time| (time, JobEventKind::Started));
    let ended = job.ended.filter(|_| job.status.is_final());
    let ended = ended
        .map(|time| (time, JobEventKind::Ended { status: job.status, error: job.error.clone() }));
    let events = started.into_iter().chain(ended).zip(1..);
    events.map(|((time, event), sequence)| JobEvent { sequence, time, event }).collect()
}

/// Returns the problem for work that panicked or was dropped, so that it has no result.
pub(crate) fn lost(error: JoinError) -> Problem {
    match error.try_into_panic() {
        Err(_) => {
            Problem::new(ErrorCode::Cancelled, "the job did not stop in time and was aborted")
        }
        Ok(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            let mut problem = Problem::new(ErrorCode::Internal, "the job panicked")
                .with_hint("Report this error: a panic is a defect of Headwater.");
            problem.causes.extend(text);
            problem
        }
    }
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        error.to_problem()
    }
}
