//! Event source mappings of Apache Kafka topics. A mapping is a trigger without a project, whose
//! name contains the id of the mapping.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::DateTime;
use headwater_model::{
    EventFormat, KafkaMechanism, KafkaStart, KafkaTrigger, Timestamp, Trigger, TriggerStatus,
};
use headwater_service::Service;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::{LambdaError, Result};
use crate::function_name::{FunctionName, arn};
use crate::queue_mapping::REPORTS_FAILURES;
use crate::request::LambdaRequest;

/// Prefix of the names of triggers that are mappings.
const PREFIX: &str = "kafka-";

/// Defaults of AWS: maximum number of records in a call, and time to wait for these records.
const BATCH_DEFAULT: usize = 100;
const WINDOW_DEFAULT: Duration = Duration::from_millis(500);

/// Maximum age of a record if a request sets the age to -1. On AWS, -1 means that there is no
/// limit.
const AGE_MAX: Duration = Duration::from_hours(7 * 24);

/// The key of the broker addresses in the field `Endpoints` of a request.
const SERVERS: &str = "KAFKA_BOOTSTRAP_SERVERS";

/// Prefix of the ARNs of secrets.
const SECRETS: &str = "arn:aws:secretsmanager:us-east-1:000000000000:secret:";

/// The body of `CreateEventSourceMapping` and `UpdateEventSourceMapping`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KafkaRequest {
    function_name: Option<String>,
    enabled: Option<bool>,
    batch_size: Option<usize>,
    maximum_batching_window_in_seconds: Option<u64>,
    function_response_types: Option<Vec<String>>,
    bisect_batch_on_function_error: Option<bool>,
    maximum_retry_attempts: Option<i64>,
    maximum_record_age_in_seconds: Option<i64>,
    self_managed_event_source: Option<SelfManagedSource>,
    topics: Option<Vec<String>>,
    starting_position: Option<String>,
    starting_position_timestamp: Option<f64>,
    source_access_configurations: Option<Vec<SourceAccess>>,
    #[serde(flatten)]
    others: serde_json::Map<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SelfManagedSource {
    endpoints: BTreeMap<String, Vec<String>>,
}

/// A secret for the connection to a cluster.
#[derive(Deserialize)]
struct SourceAccess {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "URI")]
    uri: String,
}

impl KafkaRequest {
    /// Rejects settings that have no effect for Kafka.
    fn check(&self) -> Result<()> {
        if let Some((name, _)) = self.others.iter().find(|(_, value)| !value.is_null()) {
            return Err(LambdaError::invalid(format!("{name} is not supported for Kafka.")));
        }
        if self.enabled == Some(false) {
            let message = "Enabled cannot be false for Kafka. Delete the mapping instead.";
            return Err(LambdaError::invalid(message));
        }
        let mut types = self.function_response_types.iter().flatten();
        match types.find(|kind| *kind != REPORTS_FAILURES) {
            Some(kind) => Err(LambdaError::invalid(format!("{kind} is not a response type."))),
            None => Ok(()),
        }
    }

    fn function(&self) -> Result<Option<String>> {
        let name = self.function_name.as_deref().filter(|name| !name.is_empty());
        Ok(name.map(FunctionName::parse).transpose()?.map(|name| name.called()))
    }

    /// Returns the trigger of a new mapping, with the defaults of AWS.
    fn trigger(&self) -> Result<Trigger> {
        let function = self.function()?;
        let function = function.ok_or_else(|| LambdaError::invalid("FunctionName is missing."))?;
        let source = self.self_managed_event_source.as_ref();
        let servers = source.and_then(|source| source.endpoints.get(SERVERS));
        let servers = servers.filter(|servers| !servers.is_empty()).ok_or_else(|| {
            LambdaError::invalid(format!("SelfManagedEventSource has no Endpoints.{SERVERS}."))
        })?;
        let Some([topic]) = self.topics.as_deref() else {
            return Err(LambdaError::invalid("Topics must contain exactly one topic."));
        };
        let kafka = KafkaTrigger {
            servers: servers.join(","),
            topic: topic.clone(),
            start: self.start()?,
            batch: BATCH_DEFAULT,
            window: WINDOW_DEFAULT,
            tls: false,
            ca: None,
            user: None,
            secret: None,
            mechanism: KafkaMechanism::default(),
            format: EventFormat::Aws,
        };
        Ok(Trigger {
            name: format!("{PREFIX}{}", Uuid::new_v4()),
            kafka: Some(kafka),
            function: Some(function),
            // Process the records of a partition in order, as AWS does. The partition is the
            // subject of an event.
            order_by: Some("subject".to_owned()),
            ..Trigger::default()
        })
    }

    fn start(&self) -> Result<KafkaStart> {
        match self.starting_position.as_deref() {
            Some("TRIM_HORIZON") => Ok(KafkaStart::All),
            Some("LATEST") => Ok(KafkaStart::New),
            Some("AT_TIMESTAMP") => {
                let seconds = self.starting_position_timestamp;
                let time = seconds
                    .and_then(|seconds| DateTime::from_timestamp_millis((seconds * 1e3) as i64));
                let missing = || LambdaError::invalid("StartingPositionTimestamp is not a time.");
                time.map(KafkaStart::Time).ok_or_else(missing)
            }
            _ => Err(LambdaError::invalid(
                "StartingPosition must be TRIM_HORIZON, LATEST or AT_TIMESTAMP.",
            )),
        }
    }

    /// Applies the settings in the request to a trigger.
    fn apply(&self, trigger: &mut Trigger) -> Result<()> {
        if let Some(function) = self.function()? {
            trigger.function = Some(function);
        }
        if let Some(types) = &self.function_response_types {
            trigger.report_failures = !types.is_empty();
        }
        if let Some(bisects) = self.bisect_batch_on_function_error {
            trigger.bisect = bisects;
        }
        if let Some(attempts) = self.maximum_retry_attempts {
            // -1 cannot be converted: it means that the number of attempts is not limited.
            trigger.retries = u32::try_from(attempts).unwrap_or(u32::MAX);
        }
        if let Some(seconds) = self.maximum_record_age_in_seconds {
            trigger.max_age = u64::try_from(seconds).map_or(AGE_MAX, Duration::from_secs);
        }
        let Some(kafka) = &mut trigger.kafka else { return Ok(()) };
        if let Some(batch) = self.batch_size {
            kafka.batch = batch;
        }
        if let Some(seconds) = self.maximum_batching_window_in_seconds {
            kafka.window = Duration::from_secs(seconds);
        }
        match &self.source_access_configurations {
            Some(access) => apply_access(kafka, access),
            None => Ok(()),
        }
    }
}

/// Sets the secrets for the connections to the cluster. With secrets, the connections use TLS.
fn apply_access(kafka: &mut KafkaTrigger, access: &[SourceAccess]) -> Result<()> {
    (kafka.secret, kafka.ca, kafka.tls) = (None, None, !access.is_empty());
    for SourceAccess { kind, uri } in access {
        let secret = Some(secret_of(uri));
        let mechanism = match kind.as_str() {
            "BASIC_AUTH" => KafkaMechanism::Plain,
            "SASL_SCRAM_256_AUTH" => KafkaMechanism::ScramSha256,
            "SASL_SCRAM_512_AUTH" => KafkaMechanism::ScramSha512,
            "SERVER_ROOT_CA_CERTIFICATE" => {
                kafka.ca = secret;
                continue;
            }
            other => {
                let message = format!(
                    "{other} is not supported in SourceAccessConfigurations. Use BASIC_AUTH, \
                     SASL_SCRAM_256_AUTH, SASL_SCRAM_512_AUTH or SERVER_ROOT_CA_CERTIFICATE."
                );
                return Err(LambdaError::invalid(message));
            }
        };
        (kafka.mechanism, kafka.secret) = (mechanism, secret);
    }
    Ok(())
}

/// Returns the name of the secret in an ARN. Any other text is the name itself.
fn secret_of(uri: &str) -> String {
    match uri.splitn(7, ':').collect::<Vec<_>>().as_slice() {
        ["arn", _, "secretsmanager", _, _, "secret", name] => (*name).to_owned(),
        _ => uri.to_owned(),
    }
}

/// Returns true if a request to create a mapping names a Kafka topic.
pub(crate) fn is_named(request: &LambdaRequest) -> Result<bool> {
    let body: Value = request.parse()?;
    Ok(body.get("SelfManagedEventSource").is_some_and(|source| !source.is_null()))
}

pub(crate) async fn create(service: &Service, request: &LambdaRequest) -> Result<Value> {
    let read: KafkaRequest = request.parse()?;
    read.check()?;
    let mut trigger = read.trigger()?;
    read.apply(&mut trigger)?;
    let created = shape(&trigger, None, "Creating");
    service.triggers().create(&request.principal, trigger, false).await?;
    Ok(created)
}

/// Returns true if a trigger calls a function with records of a topic, and was created as a
/// mapping.
fn is_mapping(trigger: &Trigger) -> bool {
    let id = trigger.name.strip_prefix(PREFIX);
    let has_id = id.is_some_and(|id| Uuid::parse_str(id).is_ok());
    has_id && trigger.kafka.is_some() && trigger.function.is_some()
}

/// Returns the trigger of a mapping that the principal may see.
pub(crate) async fn find(
    service: &Service,
    request: &LambdaRequest,
    id: &str,
) -> Result<Option<TriggerStatus>> {
    let name = format!("{PREFIX}{id}");
    let listed = service.triggers().list(&request.principal).await?;
    Ok(listed.into_iter().find(|one| one.trigger.name == name && is_mapping(&one.trigger)))
}

/// Returns the mappings that the principal may see. If the request names a function, returns only
/// mappings of this function.
pub(crate) async fn list(service: &Service, request: &LambdaRequest) -> Result<Vec<Value>> {
    let function = request.query("FunctionName").map(FunctionName::parse).transpose()?;
    let function = function.map(|name| name.called());
    let mut listed = service.triggers().list(&request.principal).await?;
    listed.retain(|one| {
        is_mapping(&one.trigger) && (function.is_none() || one.trigger.function == function)
    });
    Ok(listed.iter().map(get).collect())
}

/// Returns a mapping in the form of Lambda.
pub(crate) fn get(status: &TriggerStatus) -> Value {
    let result = match &status.error {
        Some(problem) => format!("PROBLEM: {}", problem.message),
        None if status.done + status.failed > 0 => "OK".to_owned(),
        None => "No records processed".to_owned(),
    };
    shape(&status.trigger, Some(result), "Enabled")
}

pub(crate) async fn update(
    service: &Service,
    request: &LambdaRequest,
    mut trigger: Trigger,
) -> Result<Value> {
    let read: KafkaRequest = request.parse()?;
    read.check()?;
    let is_moved = read.self_managed_event_source.is_some() || read.topics.is_some();
    if is_moved || read.starting_position.is_some() {
        let message = "The source of a mapping cannot be changed. Create another mapping.";
        return Err(LambdaError::invalid(message));
    }
    read.apply(&mut trigger)?;
    let updated = shape(&trigger, None, "Updating");
    service.triggers().create(&request.principal, trigger, true).await?;
    Ok(updated)
}

pub(crate) async fn delete(
    service: &Service,
    request: &LambdaRequest,
    trigger: &Trigger,
) -> Result<Value> {
    service.triggers().delete(&request.principal, &trigger.name).await?;
    Ok(shape(trigger, None, "Deleting"))
}

fn shape(trigger: &Trigger, result: Option<String>, state: &str) -> Value {
    let id = trigger.name.strip_prefix(PREFIX).unwrap_or(&trigger.name);
    let function = trigger.function.as_deref().unwrap_or_default();
    let (name, qualifier) =
        function.split_once(':').map_or((function, None), |(name, rest)| (name, Some(rest)));
    let types: &[&str] = if trigger.report_failures { &[REPORTS_FAILURES] } else { &[] };
    let mut shape = json!({
        "UUID": id,
        "EventSourceMappingArn":
            format!("arn:aws:lambda:us-east-1:000000000000:event-source-mapping:{id}"),
        "FunctionArn": arn(name, qualifier),
        "State": state,
        "StateTransitionReason": "USER_INITIATED",
        "FunctionResponseTypes": types,
        "BisectBatchOnFunctionError": trigger.bisect,
        "MaximumRetryAttempts":
            if trigger.retries == u32::MAX { -1 } else { i64::from(trigger.retries) },
        "MaximumRecordAgeInSeconds": trigger.max_age.as_secs(),
    });
    if let Some(result) = result {
        shape["LastProcessingResult"] = result.into();
    }
    let Some(kafka) = &trigger.kafka else { return shape };
    shape["BatchSize"] = kafka.batch.into();
    // The window in whole seconds, as AWS has it.
    shape["MaximumBatchingWindowInSeconds"] = kafka.window.as_secs().into();
    shape["Topics"] = json!([kafka.topic]);
    let servers: Vec<&str> = kafka.servers.split(',').collect();
    shape["SelfManagedEventSource"] = json!({"Endpoints": {SERVERS: servers}});
    shape["SourceAccessConfigurations"] = access_of(kafka).into();
    match kafka.start {
        KafkaStart::All => shape["StartingPosition"] = "TRIM_HORIZON".into(),
        KafkaStart::New => shape["StartingPosition"] = "LATEST".into(),
        KafkaStart::Time(time) => {
            shape["StartingPosition"] = "AT_TIMESTAMP".into();
            shape["StartingPositionTimestamp"] = seconds(time).into();
        }
    }
    shape
}

fn seconds(time: Timestamp) -> f64 {
    time.timestamp_millis() as f64 / 1e3
}

fn access_of(kafka: &KafkaTrigger) -> Vec<Value> {
    let kind = match kafka.mechanism {
        KafkaMechanism::Plain => "BASIC_AUTH",
        KafkaMechanism::ScramSha256 => "SASL_SCRAM_256_AUTH",
        KafkaMechanism::ScramSha512 => "SASL_SCRAM_512_AUTH",
    };
    let login = kafka.secret.iter().map(|secret| (kind, secret));
    let ca = kafka.ca.iter().map(|secret| ("SERVER_ROOT_CA_CERTIFICATE", secret));
    let entries = login.chain(ca);
    let uri = |secret: &String| format!("{SECRETS}{secret}");
    entries.map(|(kind, secret)| json!({"Type": kind, "URI": uri(secret)})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &Value) -> Result<Trigger> {
        let request: KafkaRequest = serde_json::from_value(body.clone()).expect("a request");
        request.check()?;
        let mut trigger = request.trigger()?;
        request.apply(&mut trigger)?;
        Ok(trigger)
    }

    fn body() -> Value {
        json!({
            "FunctionName": "keep",
            "SelfManagedEventSource": {"Endpoints": {SERVERS: ["a:9092", "b:9092"]}},
            "Topics": ["orders"],
            "StartingPosition": "TRIM_HORIZON",
        })
    }

    #[test]
    fn a_mapping_is_a_trigger_with_the_settings_of_aws() {
        let mut body = body();
        body["BatchSize"] = json!(7);
        body["FunctionResponseTypes"] = json!([REPORTS_FAILURES]);
        body["BisectBatchOnFunctionError"] = json!(true);
        body["MaximumRetryAttempts"] = json!(-1);
        body["MaximumRecordAgeInSeconds"] = json!(60);
        let secret = format!("{SECRETS}LOGIN");
        body["SourceAccessConfigurations"] = json!([
            {"Type": "SASL_SCRAM_512_AUTH", "URI": secret},
            {"Type": "SERVER_ROOT_CA_CERTIFICATE", "URI": "CA"},
        ]);
        let trigger = read(&body).expect("a trigger");
        let kafka = trigger.kafka.as_ref().expect("a topic");
        assert_eq!((kafka.servers.as_str(), kafka.batch), ("a:9092,b:9092", 7));
        assert_eq!((kafka.secret.as_deref(), kafka.ca.as_deref()), (Some("LOGIN"), Some("CA")));
        assert!(kafka.tls && trigger.report_failures && trigger.bisect);
        assert_eq!((trigger.retries, trigger.max_age), (u32::MAX, Duration::from_mins(1)));
        let shape = shape(&trigger, None, "Enabled");
        for key in ["BatchSize", "Topics", "StartingPosition", "MaximumRetryAttempts"] {
            assert_eq!(shape[key], body[key], "{key}");
        }
        assert_eq!(shape["SelfManagedEventSource"], body["SelfManagedEventSource"]);
        assert_eq!(shape["SourceAccessConfigurations"][0]["URI"], json!(secret));
    }

    #[test]
    fn settings_without_effect_are_rejected() {
        let kafka = [
            ("Topics", json!(["a", "b"]), "exactly one topic"),
            ("StartingPosition", json!(null), "StartingPosition must be"),
            ("StartingPosition", json!("AT_TIMESTAMP"), "not a time"),
            ("Enabled", json!(false), "Delete the mapping"),
            ("FilterCriteria", json!({"Filters": []}), "FilterCriteria is not supported"),
            ("FunctionResponseTypes", json!(["Other"]), "not a response type"),
            ("SelfManagedEventSource", json!({}), "has no Endpoints"),
            ("SourceAccessConfigurations", json!([{"Type": "OAUTH", "URI": "x"}]), "OAUTH"),
        ];
        for (key, value, expected) in kafka {
            let mut body = body();
            body[key] = value;
            let error = read(&body).expect_err(expected);
            assert!(error.message.contains(expected), "{}", error.message);
        }
    }
}
