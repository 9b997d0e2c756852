//! Provisioned concurrency of versions and aliases: set, get, list and delete.

use headwater_service::{ProvisionedConfig, ProvisionedStatus, QualifierChange, Service};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::configuration::lambda_time;
use crate::error::{LambdaError, Result};
use crate::function_name::{FunctionName, arn};
use crate::pagination::page;
use crate::qualifier_settings;
use crate::request::LambdaRequest;

#[derive(Deserialize)]
struct ProvisionedRequest {
    #[serde(rename = "ProvisionedConcurrentExecutions")]
    count: u32,
}

pub(crate) async fn put(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let ProvisionedRequest { count } = request.parse()?;
    if count == 0 {
        return Err(LambdaError::invalid("ProvisionedConcurrentExecutions must be at least 1."));
    }
    let name = published(request, name)?;
    qualifier_settings::change(service, request, &name, QualifierChange::PutProvisioned(count))
        .await?;
    show(service, request, &name).await
}

/// Returns the setting of a version or alias, or the list of all settings of a function.
pub(crate) async fn get(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    if request.query("List") != Some("ALL") {
        return show(service, request, &published(request, name)?).await;
    }
    let functions = service.invocations().standalone();
    let function = functions.get(&request.principal, &name.name).await?;
    let mut items = Vec::new();
    for (qualifier, settings) in &function.qualifiers {
        let Some(config) = &settings.provisioned else { continue };
        let (_, status) = functions.provisioned(&request.principal, &name.name, qualifier).await?;
        let mut item = shape(config, status);
        item["FunctionArn"] = arn(&name.name, Some(qualifier)).into();
        items.push(item);
    }
    page(request, "ProvisionedConcurrencyConfigs", items)
}

pub(crate) async fn delete(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<()> {
    let name = published(request, name)?;
    qualifier_settings::change(service, request, &name, QualifierChange::DeleteProvisioned).await?;
    Ok(())
}

/// Returns the function's name with the qualifier of the request.
///
/// Errors: the qualifier is missing or `$LATEST`, which AWS rejects, too.
fn published(request: &LambdaRequest, name: FunctionName) -> Result<FunctionName> {
    let name = request.qualified(name)?;
    if name.qualifier_or_latest() == "$LATEST" {
        let message = "Provisioned Concurrency Configs cannot be applied to unpublished function \
                       versions.";
        return Err(LambdaError::invalid(message));
    }
    Ok(name)
}

async fn show(service: &Service, request: &LambdaRequest, name: &FunctionName) -> Result<Value> {
    let functions = service.invocations().standalone();
    let qualifier = name.qualifier_or_latest();
    let (function, status) =
        functions.provisioned(&request.principal, &name.name, qualifier).await?;
    let settings = function.settings_of(Some(qualifier));
    let config = settings.and_then(|settings| settings.provisioned.as_ref()).ok_or_else(|| {
        let message = "No Provisioned Concurrency Config found for this function";
        LambdaError::new(404, "ProvisionedConcurrencyConfigNotFoundException", message)
    })?;
    Ok(shape(config, status))
}

fn shape(config: &ProvisionedConfig, status: Option<ProvisionedStatus>) -> Value {
    let requested = config.count as usize;
    let (allotted, ready) = status.as_ref().map_or((0, 0), |it| (it.allotted, it.ready));
    let problem = status.and_then(|status| status.problem);
    let state = match &problem {
        _ if ready >= requested => "READY",
        Some(_) => "FAILED",
        None => "IN_PROGRESS",
    };
    let mut shape = json!({
        "RequestedProvisionedConcurrentExecutions": requested,
        "AllocatedProvisionedConcurrentExecutions": allotted,
        "AvailableProvisionedConcurrentExecutions": ready,
        "Status": state,
        "LastModified": lambda_time(config.modified),
    });
    if let Some(reason) = problem.filter(|_| state == "FAILED") {
        shape["StatusReason"] = reason.into();
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_depends_on_the_started_instances_and_on_a_failure() {
        let time = "2026-03-01T00:00:00Z".parse().expect("a time");
        let config = ProvisionedConfig { count: 2, modified: time };
        let status = |ready, problem: Option<&str>| {
            let (requested, allotted) = (2, 2);
            let problem = problem.map(str::to_owned);
            Some(ProvisionedStatus { requested, allotted, ready, problem })
        };
        for (status, expected) in [
            (None, "IN_PROGRESS"),
            (status(1, None), "IN_PROGRESS"),
            (status(2, None), "READY"),
            (status(1, Some("broken")), "FAILED"),
        ] {
            assert_eq!(shape(&config, status)["Status"], expected);
        }
        assert_eq!(shape(&config, status(0, Some("broken")))["StatusReason"], "broken");
    }
}
