//! `headwater function invoke --watch`: calls a function of the working folder again after each
//! edit, until Ctrl-C.
//!
//! Each call prints its output, its result or error, and a line with its duration and memory in the
//! format of AWS Lambda.

use headwater_model::{InvokeRequest, Job, ProjectFiles};

use crate::api::Api;
use crate::arguments::FunctionInvoke;
use crate::commands::{function, watch};
use crate::context::Context;
use crate::error::Result;
use crate::project;
use crate::terminal::Tone;

/// Calls the function after each edit.
pub async fn watch(
    context: &Context,
    api: &Api,
    arguments: &FunctionInvoke,
    mut request: InvokeRequest,
) -> Result<()> {
    let root = project::locate(None, &context.lake()?)?;
    let round = async |files: &ProjectFiles| {
        request.files = Some(files.clone());
        let (job, outcome) = function::call(context, api, &arguments.name, &request).await?;
        let style = context.style;
        if let Err(problem) = &outcome {
            style.print_problem(problem);
        }
        if let Some(job) = job {
            style.say(style.paint(Tone::Faint, report(&api.job(&job).await?)));
        }
        Ok(())
    };
    let repeated = watch::repeat(context, &root, "call", round);
    tokio::select! {
        outcome = repeated => outcome,
        // The server stops the function when the connection closes.
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Returns the report of a call in the format of AWS Lambda.
fn report(job: &Job) -> String {
    let usage = &job.usage;
    let peak = usage.memory_bytes_peak >> 20;
    let (id, wall) = (job.id, usage.wall_ms);
    let report = format!(
        "REPORT RequestId: {id}\tDuration: {wall} ms\tBilled Duration: {wall} ms\t\
         Max Memory Used: {peak} MB"
    );
    match usage.start_ms + usage.environment_ms {
        0 => report,
        start => format!("{report}\tInit Duration: {start} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_the_format_of_aws() {
        let id = "01a2165b-82e8-73fc-9bd2-c80fae13df2b";
        let job = |start_ms: u64| -> Job {
            let time = headwater_model::Timestamp::UNIX_EPOCH;
            let usage = headwater_model::Usage {
                wall_ms: 255,
                memory_bytes_peak: 6_758_400,
                start_ms,
                ..Default::default()
            };
            let job = serde_json::json!({
                "id": id, "kind": "function", "status": "succeeded", "summary": "f",
                "author": "eva", "reference": null, "created": time, "started": null,
                "ended": null, "usage": usage,
            });
            serde_json::from_value(job).expect("a job")
        };
        let warm = format!(
            "REPORT RequestId: {id}\tDuration: 255 ms\tBilled Duration: 255 ms\t\
             Max Memory Used: 6 MB"
        );
        assert_eq!(report(&job(0)), warm);
        assert_eq!(report(&job(40)), format!("{warm}\tInit Duration: 40 ms"));
    }
}
