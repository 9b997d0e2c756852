//! Aliases: names that refer to a version, optionally with a weighted second version.

use std::collections::BTreeMap;

use headwater_model::{FunctionAlias, UpdateFunctionAlias};
use headwater_service::{FunctionChange, Service, StoredFunction};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{LambdaError, Result};
use crate::function_name::{FunctionName, arn};
use crate::pagination::page;
use crate::request::LambdaRequest;

/// The body of `CreateAlias` and `UpdateAlias`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AliasRequest {
    name: Option<String>,
    function_version: Option<String>,
    description: Option<String>,
    routing_config: Option<RoutingConfig>,
    revision_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoutingConfig {
    additional_version_weights: Option<BTreeMap<String, f64>>,
}

impl AliasRequest {
    /// Returns the changes of an alias that the request contains.
    fn update(self) -> Result<UpdateFunctionAlias> {
        let mut update = UpdateFunctionAlias {
            version: self.function_version.as_deref().map(number).transpose()?,
            description: self.description,
            weights: None,
        };
        if let Some(routing) = self.routing_config {
            let weights = routing.additional_version_weights.unwrap_or_default();
            if weights.len() > 1 {
                let message = "An alias has at most one additional version.";
                return Err(LambdaError::invalid(message));
            }
            let weight = |(version, weight): (String, f64)| {
                let number = number(&version)?.ok_or_else(|| {
                    LambdaError::invalid("$LATEST cannot be an additional version.")
                })?;
                Ok((number, weight))
            };
            update.weights = Some(weights.into_iter().map(weight).collect::<Result<_>>()?);
        }
        Ok(update)
    }
}

fn number(version: &str) -> Result<Option<u64>> {
    if version == "$LATEST" {
        return Ok(None);
    }
    let invalid =
        || LambdaError::invalid(format!("{version} is not the number of a published version."));
    version.parse().map(Some).map_err(|_| invalid())
}

fn shape(function: &StoredFunction, name: &str) -> Result<Value> {
    let Some(alias) = function.aliases.get(name) else {
        let message = format!("Cannot find alias arn: {}", arn(&function.name, Some(name)));
        return Err(LambdaError::missing(message));
    };
    let version = alias.version.map_or("$LATEST".to_owned(), |version| version.to_string());
    let mut shape = json!({
        "AliasArn": arn(&function.name, Some(name)),
        "Name": name,
        "FunctionVersion": version,
        "Description": alias.description,
        "RevisionId": function.alias_revision(name),
    });
    if !alias.weights.is_empty() {
        shape["RoutingConfig"] = json!({"AdditionalVersionWeights": alias.weights});
    }
    Ok(shape)
}

pub(crate) async fn create(
    service: &Service,
    request: &LambdaRequest,
    function: FunctionName,
) -> Result<Value> {
    let mut body: AliasRequest = request.parse()?;
    let (Some(name), true) = (body.name.take(), body.function_version.is_some()) else {
        return Err(LambdaError::invalid("Name and FunctionVersion are required."));
    };
    let mut alias = FunctionAlias::default();
    body.update()?.apply(&mut alias);
    let change = FunctionChange::CreateAlias(name.clone(), alias).into();
    let functions = service.invocations().standalone();
    let changed = functions.change(&request.principal, &function.name, change).await?;
    shape(&changed, &name)
}

pub(crate) async fn get(
    service: &Service,
    request: &LambdaRequest,
    function: FunctionName,
    name: &str,
) -> Result<Value> {
    shape(&service.invocations().standalone().get(&request.principal, &function.name).await?, name)
}

pub(crate) async fn list(
    service: &Service,
    request: &LambdaRequest,
    function: FunctionName,
) -> Result<Value> {
    let function =
        service.invocations().standalone().get(&request.principal, &function.name).await?;
    let of_version = request.query("FunctionVersion").map(number).transpose()?;
    let is_listed = |alias: &FunctionAlias| of_version.is_none_or(|wanted| alias.version == wanted);
    let names = function.aliases.iter().filter(|(_, alias)| is_listed(alias));
    let shapes = names.map(|(name, _)| shape(&function, name)).collect::<Result<_>>()?;
    page(request, "Aliases", shapes)
}

pub(crate) async fn update(
    service: &Service,
    request: &LambdaRequest,
    function: FunctionName,
    name: String,
) -> Result<Value> {
    let mut body: AliasRequest = request.parse()?;
    let revision = body.revision_id.take();
    let update = body.update()?;
    let change = FunctionChange::UpdateAlias { name: name.clone(), update, revision }.into();
    let functions = service.invocations().standalone();
    let changed = functions.change(&request.principal, &function.name, change).await?;
    shape(&changed, &name)
}

pub(crate) async fn delete(
    service: &Service,
    request: &LambdaRequest,
    function: FunctionName,
    name: String,
) -> Result<()> {
    let change = FunctionChange::DeleteAlias(name).into();
    let functions = service.invocations().standalone();
    functions.change(&request.principal, &function.name, change).await?;
    Ok(())
}
