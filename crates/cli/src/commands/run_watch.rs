//! `headwater run --watch`: runs the project again after each edit, until Ctrl-C. Only the models
//! that an edit affects run; unchanged models are skipped.
//!
//! The files are compared by content, so saving a file without a change does not start a run.
//! Editors may write several files, or one file in several steps. So a run starts only after an
//! interval without changes.

use std::path::Path;
use std::time::{Duration, Instant};

use headwater_model::{ErrorCode, ProjectFiles, RunRequest};

use crate::api::Api;
use crate::commands::run;
use crate::context::Context;
use crate::error::{self, Result};
use crate::output;
use crate::terminal::Tone;

/// Interval between two reads of the project. After an edit, the files must be unchanged for this
/// time before a run starts.
const INTERVAL: Duration = Duration::from_millis(200);

/// A project's files, or the error of reading them.
type Files = Result<ProjectFiles>;

/// Runs a project after each edit. Prints the errors of a run, and waits for the next edit.
pub async fn watch(
    context: &Context,
    api: &Api,
    root: &Path,
    mut request: RunRequest,
) -> Result<()> {
    let mut files = headwater_server::read_project(root);
    loop {
        let began = Instant::now();
        let round = match &files {
            Ok(files) => {
                request.files.clone_from(files);
                run::send(context, api, &request, false).await
            }
            Err(problem) => Err(problem.clone()),
        };
        match round {
            Err(problem) if problem.code == ErrorCode::Cancelled => return Ok(()),
            Err(problem) => context.style.print_problem(&problem),
            Ok(()) => {}
        }
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let took = output::milliseconds(took);
        let text = format!("run took {took}; waiting for edits, press Ctrl-C to stop");
        context.style.say(context.style.paint(Tone::Faint, text));
        files = tokio::select! {
            edited = edited(root, &files) => edited,
            interrupt = tokio::signal::ctrl_c() => {
                return interrupt.map_err(error::from_io("listen for Ctrl-C"));
            }
        };
    }
}

/// Waits until the files differ from `known` and have been unchanged for an interval.
async fn edited(root: &Path, known: &Files) -> Files {
    let mut last = text(known);
    let mut changed = false;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let files = headwater_server::read_project(root);
        let now = text(&files);
        if now != last {
            (last, changed) = (now, true);
        } else if changed {
            return files;
        }
    }
}

/// Returns the result of a read in a comparable form.
fn text(files: &Files) -> std::result::Result<ProjectFiles, String> {
    files.clone().map_err(|problem| problem.message)
}
