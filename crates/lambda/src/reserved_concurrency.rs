//! The limit on concurrent calls of a function (reserved concurrency).

use headwater_service::{FunctionChange, Service};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Result;
use crate::function_name::FunctionName;
use crate::request::LambdaRequest;

#[derive(Deserialize)]
struct ConcurrencyRequest {
    #[serde(rename = "ReservedConcurrentExecutions")]
    limit: u32,
}

pub(crate) async fn put(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let ConcurrencyRequest { limit } = request.parse()?;
    set(service, request, &name, Some(limit)).await?;
    Ok(json!({"ReservedConcurrentExecutions": limit}))
}

pub(crate) async fn get(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let function = service.invocations().standalone().get(&request.principal, &name.name).await?;
    Ok(match function.concurrency {
        Some(limit) => json!({"ReservedConcurrentExecutions": limit}),
        None => json!({}),
    })
}

pub(crate) async fn delete(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<()> {
    set(service, request, &name, None).await
}

async fn set(
    service: &Service,
    request: &LambdaRequest,
    name: &FunctionName,
    limit: Option<u32>,
) -> Result<()> {
    let change = FunctionChange::Concurrency(limit).into();
    let functions = service.invocations().standalone();
    functions.change(&request.principal, &name.name, change).await?;
    Ok(())
}
