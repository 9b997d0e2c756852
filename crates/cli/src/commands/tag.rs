//! `headwater tag`.

use headwater_model::{CreateRef, ErrorCode, Tag as TagRow, UpdateRef};
use hyper::Method;

use crate::api::{ApiClient, segment};
use crate::api_output::{self, fetch};
use crate::arguments::Tag;
use crate::commands::branch::removed_if_exists;
use crate::commands::reference;
use crate::context::Context;
use crate::error::{self, Result};
use crate::output::{self, Grid};

/// Runs `headwater tag`.
pub async fn tag(context: &Context, api: &ApiClient, arguments: Tag) -> Result<()> {
    match arguments {
        Tag::Ls => list(context, api).await,
        Tag::Create(arguments) => {
            let from = reference(context, arguments.from)?;
            let request = CreateRef {
                name: arguments.name,
                from: Some(from.parse().map_err(error::from_error)?),
                if_not_exists: arguments.if_not_exists,
            };
            show(context, "created", &api.post("/v1/tags", &request).await?);
            Ok(())
        }
        Tag::Rm(arguments) => {
            let (name, if_exists) = (&arguments.name, arguments.if_exists);
            let deletion = api.delete(format!("/v1/tags/{}", segment(name))).await;
            let missing = if_exists.then_some(ErrorCode::RefNotFound);
            removed_if_exists(context, "tag", name, missing, deletion)
        }
        Tag::Rename(arguments) => {
            let path = format!("/v1/tags/{}", segment(&arguments.name));
            let change = UpdateRef { name: Some(arguments.new_name), ..UpdateRef::default() };
            show(context, "renamed to", &api.call(Method::PATCH, path, &change).await?);
            Ok(())
        }
    }
}

async fn list(context: &Context, api: &ApiClient) -> Result<()> {
    let Some(tags) = fetch::<Vec<TagRow>>(context, api, "/v1/tags").await? else { return Ok(()) };
    let mut grid = Grid::new(context.answer_style, &["TAG", "COMMIT", "CREATED"]);
    for tag in tags {
        grid.row([tag.name, tag.commit.short(), output::format_time(tag.created)]);
    }
    grid.print("no tags; create one with `headwater tag create NAME`");
    Ok(())
}

fn show(context: &Context, verb: &str, tag: &TagRow) {
    api_output::print(context, tag, format!("{verb} tag {} at @{}", tag.name, tag.commit.short()));
}
