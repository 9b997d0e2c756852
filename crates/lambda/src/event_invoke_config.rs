//! Configurations of asynchronous calls: retries, maximum age and destinations.

use std::collections::BTreeMap;

use headwater_model::{Actor, ErrorCode, Timestamp};
use headwater_service::{
    EventInvokeConfig, QualifierChange, QualifierSettings, Service, StoredFunction,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{LambdaError, Result};
use crate::function_name::{FunctionName, arn};
use crate::pagination::page;
use crate::qualifier_settings;
use crate::request::LambdaRequest;
use crate::sqs::arn as queue_arn;

/// Limits of the retries and of the age in seconds. AWS allows 2 retries and 21,600 seconds.
const RETRIES_MAX: u64 = 100;
const AGE_MIN: u64 = 60;
const AGE_MAX: u64 = 14 * 86_400;

/// Prefix of the addresses of queues.
const QUEUE: &str = "queue://";

/// The body of `PutFunctionEventInvokeConfig` and `UpdateFunctionEventInvokeConfig`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EventInvokeConfigRequest {
    maximum_retry_attempts: Option<u64>,
    maximum_event_age_in_seconds: Option<u64>,
    #[serde(default)]
    destination_config: Destinations,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Destinations {
    on_success: Destination,
    on_failure: Destination,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Destination {
    destination: Option<String>,
}

pub(crate) async fn put(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let config = read(service, request, &name).await?;
    change(service, request, name, QualifierChange::PutInvoke(config)).await
}

pub(crate) async fn update(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let config = read(service, request, &name).await?;
    change(service, request, name, QualifierChange::UpdateInvoke(config)).await
}

pub(crate) async fn delete(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<()> {
    change(service, request, name, QualifierChange::DeleteInvoke).await.map(drop)
}

async fn read(
    service: &Service,
    request: &LambdaRequest,
    name: &FunctionName,
) -> Result<EventInvokeConfig> {
    let read: EventInvokeConfigRequest = request.parse()?;
    let Destinations { on_success, on_failure } = read.destination_config;
    let retries = within("MaximumRetryAttempts", read.maximum_retry_attempts, 0, RETRIES_MAX)?;
    let age = read.maximum_event_age_in_seconds;
    Ok(EventInvokeConfig {
        retries,
        max_age_seconds: within("MaximumEventAgeInSeconds", age, AGE_MIN, AGE_MAX)?,
        on_success: destination(service, request, name, on_success).await?,
        on_failure: destination(service, request, name, on_failure).await?,
        success_actor: Actor::default(),
        failure_actor: Actor::default(),
        modified: Timestamp::UNIX_EPOCH,
    })
}

fn within(name: &str, value: Option<u64>, from: u64, to: u64) -> Result<Option<u32>> {
    let Some(value) = value else { return Ok(None) };
    let narrow = u32::try_from(value).ok().filter(|_| (from..=to).contains(&value));
    let invalid =
        || LambdaError::invalid(format!("{name} {value} is not between {from} and {to}."));
    narrow.map(Some).ok_or_else(invalid)
}

/// Checks a destination: another function that the caller may call, a queue, or an address.
async fn destination(
    service: &Service,
    request: &LambdaRequest,
    own: &FunctionName,
    destination: Destination,
) -> Result<Option<String>> {
    let text = destination.destination.filter(|text| !text.is_empty());
    let Some(text) = text else { return Ok(None) };
    let invalid = |reason: &str| {
        let shown: String = text.chars().take(200).collect();
        LambdaError::invalid(format!("The destination {shown} {reason}."))
    };
    if let Some(address) = address(&text) {
        let deployed = service.invocations().standalone();
        let checked = deployed.check_destination(&request.principal, &address).await;
        return match checked {
            Ok(()) => Ok(Some(address)),
            Err(problem) if problem.code == ErrorCode::QueueNotFound => {
                Err(invalid("does not exist"))
            }
            Err(problem) => Err(problem.into()),
        };
    }
    let name = FunctionName::parse(&text)
        .map_err(|_| invalid("is neither the ARN of a function or queue nor an address"))?;
    if name.name == own.name {
        return Err(invalid("is the function itself"));
    }
    let called = name.called();
    let function = service.invocations().find(&request.principal, &called).await;
    let function = function.map_err(|problem| match problem.code {
        ErrorCode::FunctionNotFound | ErrorCode::DeploymentNotFound => invalid("does not exist"),
        _ => problem.into(),
    })?;
    let arguments = BTreeMap::from([("event".to_owned(), Value::Null)]);
    function.check_arguments(&arguments, None)?;
    Ok(Some(called))
}

/// Returns the address that a destination's text means; `None` if it is a function.
fn address(text: &str) -> Option<String> {
    match text.split(':').collect::<Vec<&str>>().as_slice() {
        ["arn", _, "sqs", _, _, name] => Some(format!("{QUEUE}{name}")),
        _ => text.contains("://").then(|| text.to_owned()),
    }
}

async fn change(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
    change: QualifierChange,
) -> Result<Value> {
    let name = request.qualified(name)?;
    let changed = qualifier_settings::change(service, request, &name, change).await?;
    Ok(config_of(&changed, &name).map(|config| shape(&name, config)).unwrap_or_default())
}

fn config_of<'a>(
    function: &'a StoredFunction,
    name: &FunctionName,
) -> Option<&'a EventInvokeConfig> {
    function.settings_of(name.qualifier.as_deref())?.invoke.as_ref()
}

pub(crate) async fn get(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let (function, name) = qualifier_settings::get(service, request, name).await?;
    let config = config_of(&function, &name).ok_or_else(|| {
        let arn = arn(&name.name, Some(name.qualifier_or_latest()));
        LambdaError::missing(format!("The function {arn} doesn't have an EventInvokeConfig"))
    })?;
    Ok(shape(&name, config))
}

pub(crate) async fn list(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<Value> {
    let function = service.invocations().standalone().get(&request.principal, &name.name).await?;
    let config = |(qualifier, settings): (&String, &QualifierSettings)| {
        let config = settings.invoke.as_ref()?;
        Some(shape(&name.with_qualifier(qualifier), config))
    };
    let items = function.qualifiers.iter().filter_map(config).collect();
    page(request, "FunctionEventInvokeConfigs", items)
}

fn shape(name: &FunctionName, config: &EventInvokeConfig) -> Value {
    let destination = |called: &Option<String>| match called {
        Some(address) if address.contains("://") => {
            let queue = address.strip_prefix(QUEUE);
            json!({"Destination": queue.map_or_else(|| address.clone(), queue_arn)})
        }
        Some(called) => {
            let (name, qualifier) = called
                .split_once(':')
                .map_or((called.as_str(), None), |pair| (pair.0, Some(pair.1)));
            json!({"Destination": arn(name, qualifier)})
        }
        None => json!({}),
    };
    let mut shape = json!({
        "LastModified": config.modified.timestamp_millis() as f64 / 1_000.0,
        "FunctionArn": arn(&name.name, Some(name.qualifier_or_latest())),
        "DestinationConfig": {
            "OnSuccess": destination(&config.on_success),
            "OnFailure": destination(&config.on_failure),
        },
    });
    if let Some(retries) = config.retries {
        shape["MaximumRetryAttempts"] = retries.into();
    }
    if let Some(seconds) = config.max_age_seconds {
        shape["MaximumEventAgeInSeconds"] = seconds.into();
    }
    shape
}
