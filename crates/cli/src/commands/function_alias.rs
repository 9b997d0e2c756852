//! `headwater function alias`: aliases of functions without a project.

use std::collections::BTreeMap;

use headwater_model::{ErrorCode, FunctionAlias as Alias, StandaloneFunction, UpdateFunctionAlias};
use hyper::Method;

use super::branch::removed_if_exists;
use crate::api::{ApiClient, segment};
use crate::api_output;
use crate::arguments::{
    AliasVersion, FunctionAlias, FunctionAliasCreate, FunctionAliasRm, FunctionAliasUpdate,
};
use crate::context::Context;
use crate::error::Result;
use crate::grid::Grid;

/// Runs `headwater function alias`.
pub async fn alias(context: &Context, api: &ApiClient, arguments: FunctionAlias) -> Result<()> {
    match arguments {
        FunctionAlias::Create(arguments) => create(context, api, arguments).await,
        FunctionAlias::Update(arguments) => update(context, api, arguments).await,
        FunctionAlias::Ls { name } => list(context, api, &name).await,
        FunctionAlias::Rm(arguments) => remove(context, api, &arguments).await,
    }
}

async fn create(context: &Context, api: &ApiClient, arguments: FunctionAliasCreate) -> Result<()> {
    let FunctionAliasCreate { name, alias, version, weights, description } = arguments;
    let AliasVersion(version) = version;
    let request = Alias { version, description, weights: weights.into_iter().collect() };
    let created: Alias = api.post(path(&name, &alias), &request).await?;
    let text = format!("created alias {alias} of {name}: {}", target(&created));
    api_output::print(context, &created, text);
    Ok(())
}

async fn update(context: &Context, api: &ApiClient, arguments: FunctionAliasUpdate) -> Result<()> {
    let (name, alias) = (&arguments.name, &arguments.alias);
    let has_weights = arguments.no_weights || !arguments.weights.is_empty();
    let request = UpdateFunctionAlias {
        version: arguments.version.map(|AliasVersion(version)| version),
        description: arguments.description,
        weights: has_weights.then(|| arguments.weights.into_iter().collect()),
    };
    let updated: Alias = api.call(Method::PUT, path(name, alias), &request).await?;
    let text = format!("updated alias {alias} of {name}: {}", target(&updated));
    api_output::print(context, &updated, text);
    Ok(())
}

async fn list(context: &Context, api: &ApiClient, name: &str) -> Result<()> {
    let aliases = aliases(api, name).await?;
    if api_output::is_printed(context, &aliases) {
        return Ok(());
    }
    let mut grid = Grid::new(context.answer_style, &["ALIAS", "VERSION", "DESCRIPTION"]);
    for (name, alias) in aliases {
        grid.row([name, target(&alias), alias.description]);
    }
    grid.print("no aliases; `headwater function alias create` creates one");
    Ok(())
}

async fn remove(context: &Context, api: &ApiClient, arguments: &FunctionAliasRm) -> Result<()> {
    let FunctionAliasRm { name, alias, if_exists } = arguments;
    let deletion = api.delete(path(name, alias)).await;
    let missing = if_exists.then_some(ErrorCode::FunctionNotFound);
    removed_if_exists(context, "alias", &format!("{name}:{alias}"), missing, deletion)
}

async fn aliases(api: &ApiClient, name: &str) -> Result<BTreeMap<String, Alias>> {
    let path = format!("/v1/functions/{}", segment(name));
    Ok(api.get::<StandaloneFunction>(path).await?.aliases)
}

fn path(name: &str, alias: &str) -> String {
    format!("/v1/functions/{}/aliases/{}", segment(name), segment(alias))
}

/// Formats the versions of an alias, with the traffic shares of the additional versions.
fn target(alias: &Alias) -> String {
    let version = alias.version.map_or("latest".to_owned(), |version| version.to_string());
    let share = |(version, share): (&u64, &f64)| format!("{version}={share}");
    let shares: Vec<String> = alias.weights.iter().map(share).collect();
    if shares.is_empty() { version } else { format!("{version}, {}", shares.join(", ")) }
}
