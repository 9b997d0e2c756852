//! `headwater function invoke --watch`: calls a function of the working folder again after each
//! edit, until Ctrl-C.
//!
//! Each call prints its output, its result or error, and a line with its duration and memory in the
//! format of AWS Lambda.

use headwater_model::{ErrorCode, InvokeRequest, ProjectFiles};

use crate::api::ApiClient;
use crate::arguments::FunctionInvoke;
use crate::commands::{call_report, function, watch};
use crate::context::Context;
use crate::error::Result;
use crate::project;
use crate::terminal::Tone;

/// Calls the function after each edit.
pub async fn watch(
    context: &Context,
    api: &ApiClient,
    arguments: &FunctionInvoke,
    mut request: InvokeRequest,
) -> Result<()> {
    let root = project::locate(None, &context.lake()?)?;
    let round = async |files: &ProjectFiles| {
        request.files = Some(files.clone());
        let (job, outcome) = function::call(context, api, &arguments.name, &request).await?;
        let style = context.style;
        if let Err(problem) = outcome {
            if problem.code == ErrorCode::FunctionNotFound {
                return Err(problem);
            }
            style.print_problem(&problem);
        }
        if let Some(job) = job {
            style.say(style.paint(Tone::Faint, call_report::line(&api.job(&job).await?, None)));
        }
        Ok(())
    };
    let repeated = watch::repeat(context, &root, "call", round);
    tokio::select! {
        outcome = repeated => outcome,
        // On Ctrl-C, only return: the server stops the function when the connection closes.
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}
