//! `headwater run --watch`: runs the project again after each edit, until Ctrl-C. Only the models
//! that an edit affects run; unchanged models are skipped.

use std::path::Path;

use headwater_model::{ProjectFiles, RunRequest};

use crate::api::ApiClient;
use crate::commands::{run, watch};
use crate::context::Context;
use crate::error::Result;

/// Runs a project after each edit. If a run fails, prints its error and waits for the next edit.
pub async fn watch(
    context: &Context,
    api: &ApiClient,
    root: &Path,
    mut request: RunRequest,
) -> Result<()> {
    let round = async |files: &ProjectFiles| {
        request.files.clone_from(files);
        run::send(context, api, &request, false).await
    };
    watch::repeat(context, root, "run", round).await
}
