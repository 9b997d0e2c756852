//! Event source mappings of queues. Mappings of Kafka topics are in [`crate::kafka_mapping`].

use headwater_model::Problem;
use headwater_service::{EventSourceMappings, MappingSettings, MappingStatus, Service};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{LambdaError, Result};
use crate::function_name::{FunctionName, arn};
use crate::kafka_mapping;
use crate::pagination::page;
use crate::request::LambdaRequest;

/// Default maximum number of messages in a call.
const BATCH_DEFAULT: u32 = 10;

/// The only accepted value in `FunctionResponseTypes`.
pub(crate) const REPORTS_FAILURES: &str = "ReportBatchItemFailures";

/// An operation on event source mappings, with the id of the mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MappingOperation {
    Create,
    List,
    Get(String),
    Update(String),
    Delete(String),
}

impl MappingOperation {
    /// Returns the operation of a request. `rest` is the path below `event-source-mappings`.
    pub fn of(method: &Method, rest: &[&str]) -> Option<Self> {
        match (method.as_str(), rest) {
            ("POST", []) => Some(MappingOperation::Create),
            ("GET", []) => Some(MappingOperation::List),
            ("GET", [id]) => Some(MappingOperation::Get((*id).to_owned())),
            ("PUT", [id]) => Some(MappingOperation::Update((*id).to_owned())),
            ("DELETE", [id]) => Some(MappingOperation::Delete((*id).to_owned())),
            _ => None,
        }
    }

    /// Returns the status of a successful response.
    pub fn status(&self) -> StatusCode {
        match self {
            MappingOperation::List | MappingOperation::Get(_) => StatusCode::OK,
            _ => StatusCode::ACCEPTED,
        }
    }

    pub async fn execute(self, service: &Service, request: &LambdaRequest) -> Result<Value> {
        let mappings = EventSourceMappings::of(service);
        let principal = &request.principal;
        match self {
            MappingOperation::Create => {
                if kafka_mapping::is_named(request)? {
                    return kafka_mapping::create(service, request).await;
                }
                create(&mappings, request).await
            }
            MappingOperation::List => {
                let mut items = list(&mappings, request).await?;
                if request.query("EventSourceArn").is_none() {
                    items.extend(kafka_mapping::list(service, request).await?);
                }
                page(request, "EventSourceMappings", items)
            }
            MappingOperation::Get(id) => match kafka_mapping::find(service, request, &id).await? {
                Some(status) => Ok(kafka_mapping::get(&status)),
                None => Ok(shape(&mappings.get(principal, &id).await.map_err(missing)?, None)),
            },
            MappingOperation::Update(id) => {
                match kafka_mapping::find(service, request, &id).await? {
                    Some(status) => kafka_mapping::update(service, request, status.trigger).await,
                    None => update(&mappings, request, &id).await,
                }
            }
            MappingOperation::Delete(id) => {
                if let Some(status) = kafka_mapping::find(service, request, &id).await? {
                    return kafka_mapping::delete(service, request, &status.trigger).await;
                }
                let deleted = mappings.delete(principal, &id).await.map_err(missing)?;
                Ok(shape(&deleted, Some("Deleting")))
            }
        }
    }
}

/// The body of `CreateEventSourceMapping` and `UpdateEventSourceMapping`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MappingRequest {
    event_source_arn: Option<String>,
    function_name: Option<String>,
    enabled: Option<bool>,
    batch_size: Option<u32>,
    maximum_batching_window_in_seconds: Option<u32>,
    filter_criteria: Option<FilterCriteria>,
    function_response_types: Option<Vec<String>>,
    scaling_config: Option<ScalingConfig>,
    bisect_batch_on_function_error: Option<bool>,
    #[serde(flatten)]
    others: serde_json::Map<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct FilterCriteria {
    filters: Vec<Filter>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Filter {
    pattern: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ScalingConfig {
    maximum_concurrency: Option<u32>,
}

impl MappingRequest {
    /// Rejects settings that have no effect for queues.
    fn check(&self) -> Result<()> {
        let set = self.others.iter().find(|(_, value)| !value.is_null());
        if let Some((name, _)) = set {
            let message = format!("{name} is not supported for queues.");
            return Err(LambdaError::invalid(message));
        }
        let types = self.function_response_types.iter().flatten();
        match types.into_iter().find(|kind| *kind != REPORTS_FAILURES) {
            Some(kind) => Err(LambdaError::invalid(format!("{kind} is not a response type."))),
            None => Ok(()),
        }
    }

    fn function(&self) -> Result<Option<String>> {
        let name = self.function_name.as_deref().filter(|name| !name.is_empty());
        Ok(name.map(FunctionName::parse).transpose()?.map(|name| name.called()))
    }

    /// Applies the settings in the request to the settings of a mapping.
    fn apply(self, settings: &mut MappingSettings, function: Option<String>) {
        if let Some(function) = function {
            settings.function = function;
        }
        if let Some(is_enabled) = self.enabled {
            settings.is_enabled = is_enabled;
        }
        if let Some(batch) = self.batch_size {
            settings.batch = batch;
        }
        if let Some(window) = self.maximum_batching_window_in_seconds {
            settings.window = window;
        }
        if let Some(criteria) = self.filter_criteria {
            settings.filters = criteria.filters.into_iter().map(|one| one.pattern).collect();
        }
        if let Some(types) = self.function_response_types {
            settings.reports_failures = !types.is_empty();
        }
        if let Some(bisects) = self.bisect_batch_on_function_error {
            settings.bisects = bisects;
        }
        if let Some(scaling) = self.scaling_config {
            settings.concurrency = scaling.maximum_concurrency;
        }
    }
}

async fn create(mappings: &EventSourceMappings, request: &LambdaRequest) -> Result<Value> {
    let read: MappingRequest = request.parse()?;
    read.check()?;
    let function = read.function()?;
    let function = function.ok_or_else(|| LambdaError::invalid("FunctionName is missing."))?;
    let queue = queue_of(read.event_source_arn.as_deref())?;
    let mut settings = MappingSettings {
        function,
        is_enabled: true,
        batch: BATCH_DEFAULT,
        window: 0,
        filters: Vec::new(),
        reports_failures: false,
        bisects: false,
        concurrency: None,
    };
    read.apply(&mut settings, None);
    let created = mappings.create(&request.principal, &queue, settings).await;
    Ok(shape(&created.map_err(missing)?, None))
}

async fn update(
    mappings: &EventSourceMappings,
    request: &LambdaRequest,
    id: &str,
) -> Result<Value> {
    let read: MappingRequest = request.parse()?;
    read.check()?;
    if read.event_source_arn.is_some() {
        return Err(LambdaError::invalid("EventSourceArn of a mapping cannot be changed."));
    }
    let function = read.function()?;
    let change = |settings: &mut MappingSettings| read.apply(settings, function);
    let updated = mappings.update(&request.principal, id, change).await;
    Ok(shape(&updated.map_err(missing)?, None))
}

async fn list(mappings: &EventSourceMappings, request: &LambdaRequest) -> Result<Vec<Value>> {
    let mut listed = mappings.list(&request.principal).await?;
    if let Some(source) = request.query("EventSourceArn") {
        let queue = queue_of(Some(source))?;
        listed.retain(|one| one.mapping.queue == queue);
    }
    if let Some(function) = request.query("FunctionName") {
        let function = FunctionName::parse(function)?.called();
        listed.retain(|one| one.mapping.settings.function == function);
    }
    Ok(listed.iter().map(|one| shape(one, None)).collect())
}

/// Returns the name of the queue in an ARN.
fn queue_of(arn: Option<&str>) -> Result<String> {
    let arn = arn.ok_or_else(|| LambdaError::invalid("EventSourceArn is missing."))?;
    match arn.split(':').collect::<Vec<_>>().as_slice() {
        ["arn", _, "sqs", _, _, name] => Ok((*name).to_owned()),
        _ => Err(LambdaError::invalid(format!("{arn} is not the ARN of a queue."))),
    }
}

/// Converts an error of an operation on a mapping: a missing queue is an invalid parameter.
fn missing(problem: Problem) -> LambdaError {
    let is_queue = problem.code == headwater_model::ErrorCode::QueueNotFound;
    if is_queue { LambdaError::invalid(problem.message) } else { problem.into() }
}

fn shape(status: &MappingStatus, state: Option<&str>) -> Value {
    let mapping = &status.mapping;
    let settings = &mapping.settings;
    let (name, qualifier) = settings
        .function
        .split_once(':')
        .map_or((settings.function.as_str(), None), |(name, qualifier)| (name, Some(qualifier)));
    let enabled = if settings.is_enabled { "Enabled" } else { "Disabled" };
    let types: &[&str] = if settings.reports_failures { &[REPORTS_FAILURES] } else { &[] };
    let mut shape = json!({
        "UUID": mapping.id,
        "BatchSize": settings.batch,
        "MaximumBatchingWindowInSeconds": settings.window,
        "EventSourceArn": crate::sqs::arn(&mapping.queue),
        "EventSourceMappingArn": format!(
            "arn:aws:lambda:us-east-1:000000000000:event-source-mapping:{}", mapping.id
        ),
        "FunctionArn": arn(name, qualifier),
        "LastModified": mapping.modified.timestamp_millis() as f64 / 1_000.0,
        "LastProcessingResult": status.last_result.as_deref().unwrap_or("No records processed"),
        "State": state.unwrap_or(enabled),
        "StateTransitionReason": "USER_INITIATED",
        "FunctionResponseTypes": types,
        "BisectBatchOnFunctionError": settings.bisects,
    });
    if !settings.filters.is_empty() {
        let filters = settings.filters.iter().map(|pattern| json!({"Pattern": pattern}));
        shape["FilterCriteria"] = json!({"Filters": filters.collect::<Vec<_>>()});
    }
    if let Some(calls) = settings.concurrency {
        shape["ScalingConfig"] = json!({"MaximumConcurrency": calls});
    }
    shape
}
