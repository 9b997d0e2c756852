//! `headwater checkout`: sets the active branch.

use headwater_model::{Branch, CreateRef, Problem, Tag};

use crate::api::{ApiClient, segment};
use crate::arguments::{Checkout, OutputFormat};
use crate::commands::reference;
use crate::context::Context;
use crate::error::{self, Result};
use crate::output;
use crate::terminal::Tone;

/// Sets the active branch.
pub async fn checkout(context: &Context, api: &ApiClient, arguments: &Checkout) -> Result<()> {
    if arguments.create {
        let from = reference(context, arguments.from.clone())?;
        let from = Some(from.parse().map_err(error::from_error)?);
        let request = CreateRef { name: arguments.branch.clone(), from, if_not_exists: false };
        let _: Branch = api.post("/v1/branches", &request).await?;
    }
    let branch = api.get(format!("/v1/branches/{}", segment(&arguments.branch))).await;
    let branch: Branch = match branch {
        Ok(branch) => branch,
        Err(problem) => return Err(if_tag(problem, api, &arguments.branch).await),
    };
    context.lake()?.set_active_branch(&branch.name)?;
    if context.output == OutputFormat::Json {
        output::print_json(&branch);
    } else {
        let name = context.style.paint(Tone::Strong, &branch.name);
        context.style.say(format!("switched to branch {name} at @{}", branch.commit.short()));
    }
    Ok(())
}

/// Adds a hint to the error for a missing branch if a tag has this name.
async fn if_tag(problem: Problem, api: &ApiClient, name: &str) -> Problem {
    let tag: Result<Tag> = api.get(format!("/v1/tags/{}", segment(name))).await;
    if tag.is_err() {
        return problem;
    }
    error::invalid(format!("`{name}` is a tag, which cannot be the active branch")).with_hint(
        format!(
            "Read the tag with `--ref {name}`, or create a branch with `headwater checkout -b \
             NAME --from {name}`."
        ),
    )
}
