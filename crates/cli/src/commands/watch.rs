//! `--watch`: repeats an action after each edit of the project, until Ctrl-C.
//!
//! The files are compared by content, so saving a file without a change does not repeat the action.
//! Editors may write several files, or one file in several steps, so the action starts only after
//! an interval without changes.

use std::path::Path;
use std::time::{Duration, Instant};

use headwater_model::{ErrorCode, ProjectFiles};

use crate::context::Context;
use crate::error::{self, Result};
use crate::output;
use crate::terminal::Tone;

/// Interval between two reads of the project. The action starts when an edit is followed by one
/// interval without changes.
const INTERVAL: Duration = Duration::from_millis(200);

/// A project's files, or the error of reading them.
type ProjectFilesResult = Result<ProjectFiles>;

/// Calls `act` with the project's files now and after each edit. Prints an error of the action, and
/// waits for the next edit. `action` names the action in messages, as in `run`.
///
/// Errors: `function_not_found` from the first call, because the name is probably wrong.
pub async fn repeat(
    context: &Context,
    root: &Path,
    action: &str,
    mut act: impl AsyncFnMut(&ProjectFiles) -> Result<()>,
) -> Result<()> {
    let mut files = headwater_server::read_project(root);
    let mut is_first = true;
    loop {
        let began = Instant::now();
        let round = match &files {
            Ok(files) => act(files).await,
            Err(problem) => Err(problem.clone()),
        };
        match round {
            Err(problem) if problem.code == ErrorCode::Cancelled => return Ok(()),
            Err(problem) if is_first && problem.code == ErrorCode::FunctionNotFound => {
                return Err(problem);
            }
            Err(problem) => context.style.print_problem(&problem),
            Ok(()) => {}
        }
        is_first = false;
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let took = output::milliseconds(took);
        let text = format!("{action} took {took}; waiting for edits, press Ctrl-C to stop");
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
async fn edited(root: &Path, known: &ProjectFilesResult) -> ProjectFilesResult {
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

/// Converts the result of a read for comparisons: an error becomes its text.
fn text(files: &ProjectFilesResult) -> std::result::Result<ProjectFiles, String> {
    files.clone().map_err(|problem| problem.message)
}
