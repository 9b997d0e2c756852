//! The report of a function call: one line in the format of AWS Lambda, with its duration, its
//! memory and, for a call that did not succeed, its status.

use std::fmt::Write as _;

use headwater_model::{ErrorCode, Job, JobStatus};
use serde_json::Value;

/// Returns the report of an ended call. `memory_bytes` is the memory limit of the function, if it
/// is known.
pub fn line(job: &Job, memory_bytes: Option<u64>) -> String {
    let usage = &job.usage;
    let (id, billed) = (job.id, usage.wall_ms);
    // As in Lambda, the start of the runtime is billed, but is not part of the duration.
    let duration = billed.saturating_sub(usage.runtime_start_ms);
    let mut line =
        format!("REPORT RequestId: {id}\tDuration: {duration} ms\tBilled Duration: {billed} ms");
    if let Some(bytes) = memory_bytes {
        let _ = write!(line, "\tMemory Size: {} MB", bytes >> 20);
    }
    let _ = write!(line, "\tMax Memory Used: {} MB", usage.memory_bytes_peak >> 20);
    let start = usage.start_ms + usage.environment_ms + usage.runtime_start_ms;
    if start > 0 {
        let _ = write!(line, "\tInit Duration: {start} ms");
    }
    line.push_str(&status(job));
    line
}

/// Returns the status of a call that did not succeed, and the type of its error.
fn status(job: &Job) -> String {
    match (job.status, &job.error) {
        (JobStatus::Succeeded, _) => String::new(),
        (JobStatus::Failed, Some(problem)) if problem.code == ErrorCode::TimeLimit => {
            "\tStatus: timeout".to_owned()
        }
        (JobStatus::Failed, Some(problem)) => {
            let exception = problem.context.get("exception").and_then(Value::as_str);
            let kind = exception.unwrap_or(problem.code.as_str());
            format!("\tStatus: error\tError Type: {kind}")
        }
        (other, _) => format!("\tStatus: {}", other.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use headwater_model::Problem;

    use super::*;

    const ID: &str = "01a2165b-82e8-73fc-9bd2-c80fae13df2b";

    fn job(start_ms: u64, status: &str, error: Option<Problem>) -> Job {
        let time = headwater_model::Timestamp::UNIX_EPOCH;
        let usage = headwater_model::Usage {
            wall_ms: 255,
            memory_bytes_peak: 6_758_400,
            start_ms,
            ..Default::default()
        };
        let job = serde_json::json!({
            "id": ID, "kind": "function", "status": status, "summary": "f", "author": "eva",
            "reference": null, "created": time, "started": null, "ended": null, "usage": usage,
            "error": error,
        });
        serde_json::from_value(job).expect("a job")
    }

    #[test]
    fn a_report_has_the_format_of_aws() {
        let before = format!("REPORT RequestId: {ID}\tDuration: 255 ms\tBilled Duration: 255 ms");
        let warm = job(0, "succeeded", None);
        assert_eq!(line(&warm, None), format!("{before}\tMax Memory Used: 6 MB"));
        let cold = job(40, "succeeded", None);
        assert_eq!(
            line(&cold, Some(128 << 20)),
            format!("{before}\tMemory Size: 128 MB\tMax Memory Used: 6 MB\tInit Duration: 40 ms")
        );
        let mut node = job(0, "succeeded", None);
        node.usage.runtime_start_ms = 55;
        let report = line(&node, None);
        assert!(report.contains("\tDuration: 200 ms\tBilled Duration: 255 ms"), "{report}");
        assert!(report.ends_with("\tInit Duration: 55 ms"), "{report}");
    }

    #[test]
    fn a_report_shows_the_status_of_a_call_that_did_not_succeed() {
        let failed = Problem::new(ErrorCode::FunctionFailed, "no");
        let late = Problem::new(ErrorCode::TimeLimit, "late");
        for (status, error, expected) in [
            ("failed", Some(failed), "\tStatus: error\tError Type: function_failed"),
            ("failed", Some(late), "\tStatus: timeout"),
            ("cancelled", None, "\tStatus: cancelled"),
        ] {
            let report = line(&job(0, status, error), None);
            assert!(report.ends_with(expected), "{report}");
        }
    }
}
