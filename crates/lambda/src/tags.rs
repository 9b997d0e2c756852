//! Tags of functions.

use std::collections::BTreeMap;

use headwater_service::{FunctionChange, Service};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Result;
use crate::function_name::FunctionName;
use crate::request::LambdaRequest;

#[derive(Deserialize)]
struct TagRequest {
    #[serde(rename = "Tags")]
    tags: BTreeMap<String, String>,
}

pub(crate) async fn tag(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<()> {
    let TagRequest { tags } = request.parse()?;
    change(service, request, &name, FunctionChange::Tag(tags)).await
}

pub(crate) async fn untag(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<()> {
    let keys = request.query.iter().filter(|(key, _)| key == "tagKeys");
    let keys = keys.map(|(_, value)| value.clone()).collect();
    change(service, request, &name, FunctionChange::Untag(keys)).await
}

pub(crate) async fn list(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let function = service.invocations().standalone().get(&request.principal, &name.name).await?;
    Ok(json!({"Tags": function.tags}))
}

async fn change(
    service: &Service,
    request: &LambdaRequest,
    name: &FunctionName,
    change: FunctionChange,
) -> Result<()> {
    let functions = service.invocations().standalone();
    functions.change(&request.principal, &name.name, change.into()).await?;
    Ok(())
}
