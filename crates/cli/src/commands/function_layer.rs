//! `headwater function layer`: layers. Functions without a project can share the files of a layer.

use headwater_model::{DeployFunction, ErrorCode, LayerVersion, PublishLayer};

use super::branch::removed_if_exists;
use super::standalone_function;
use crate::api::{ApiClient, segment};
use crate::api_output::{self, fetch};
use crate::arguments::{FunctionLayer, FunctionLayerPublish, FunctionLayerRm};
use crate::context::Context;
use crate::error::Result;
use crate::grid::Grid;
use crate::output;

/// Runs `headwater function layer`.
pub async fn layer(context: &Context, api: &ApiClient, arguments: FunctionLayer) -> Result<()> {
    match arguments {
        FunctionLayer::Publish(arguments) => publish(context, api, arguments).await,
        FunctionLayer::Ls => list(context, api).await,
        FunctionLayer::Rm(arguments) => remove(context, api, &arguments).await,
    }
}

async fn publish(
    context: &Context,
    api: &ApiClient,
    arguments: FunctionLayerPublish,
) -> Result<()> {
    let FunctionLayerPublish { name, source, description } = arguments;
    let sent = standalone_function::send_files(api, &source).await?;
    let DeployFunction { files, archive, upload, .. } = sent;
    let request = PublishLayer { description, files, archive, upload, author: None };
    let sent = api.post(path(&name), &request).await;
    let upload = request.upload.as_deref();
    let published: LayerVersion = standalone_function::or_delete_upload(api, upload, sent).await?;
    let (version, size) = (published.version, output::bytes(published.code_bytes));
    let text = format!(
        "published version {version} of layer {name}, {size}; \
         `headwater function deploy --layer {name}:{version}` uses it"
    );
    api_output::print(context, &published, text);
    Ok(())
}

async fn list(context: &Context, api: &ApiClient) -> Result<()> {
    let Some(versions) = fetch::<Vec<LayerVersion>>(context, api, "/v1/layers").await? else {
        return Ok(());
    };
    let headings = ["LAYER", ">VERSION", ">SIZE", "CODE", "PUBLISHED", "AUTHOR", "DESCRIPTION"];
    let mut grid = Grid::new(context.answer_style, &headings);
    for one in versions {
        grid.row([
            one.layer,
            one.version.to_string(),
            output::bytes(one.code_bytes),
            one.code.short(),
            output::format_time(one.created),
            one.author,
            one.description,
        ]);
    }
    grid.print("no layers; `headwater function layer publish` publishes one");
    Ok(())
}

async fn remove(context: &Context, api: &ApiClient, arguments: &FunctionLayerRm) -> Result<()> {
    let FunctionLayerRm { name, version, if_exists } = arguments;
    let deletion = api.delete(format!("{}/{version}", path(name))).await;
    let missing = if_exists.then_some(ErrorCode::FunctionNotFound);
    removed_if_exists(context, "layer", &format!("{name}:{version}"), missing, deletion)
}

fn path(name: &str) -> String {
    format!("/v1/layers/{}/versions", segment(name))
}
