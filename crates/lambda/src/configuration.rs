//! `FunctionConfiguration`: the settings of a version in the format of AWS, and requests that
//! change the settings.

use std::collections::BTreeMap;

use headwater_model::{FunctionSettings, Timestamp};
use headwater_service::{LAYERS, StoredVersion};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{LambdaError, Result};
use crate::function_name::arn;
use crate::layer;

/// Limits and defaults: memory in MiB, timeouts in seconds.
const MEMORY_DEFAULT: u64 = 128;
const MEMORY_MAX: u64 = 32_768;
const TIMEOUT_DEFAULT: u64 = 3;
const TIMEOUT_MAX: u64 = 86_400;

/// Settings that clients can store and read, but that have no effect.
const KEPT: [&str; 5] =
    ["Role", "Architectures", "EphemeralStorage", "TracingConfig", "LoggingConfig"];

/// Settings of AWS that this server does not support. A value that is not empty is rejected.
const REJECTED: [&str; 9] = [
    "DeadLetterConfig",
    "VpcConfig",
    "FileSystemConfigs",
    "KMSKeyArn",
    "ImageConfig",
    "SnapStart",
    "DurableConfig",
    "TenancyConfig",
    "CodeSigningConfigArn",
];

/// Settings in a request.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ConfigurationRequest {
    runtime: Option<String>,
    handler: Option<String>,
    description: Option<String>,
    timeout: Option<u64>,
    memory_size: Option<u64>,
    environment: Option<Environment>,
    package_type: Option<String>,
    pub layers: Option<Vec<String>>,
    #[serde(rename = "RevisionId")]
    pub revision: Option<String>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Environment {
    #[serde(default)]
    variables: BTreeMap<String, String>,
}

impl ConfigurationRequest {
    /// Returns the settings after the changes of the request. Absent settings keep their values.
    pub fn apply(
        &self,
        mut settings: FunctionSettings,
        mut attributes: BTreeMap<String, Value>,
    ) -> Result<(FunctionSettings, BTreeMap<String, Value>)> {
        let is_set = |name: &&&str| self.others.get(**name).is_some_and(|value| !is_empty(value));
        if let Some(name) = REJECTED.iter().find(is_set) {
            return Err(LambdaError::invalid(format!("{name} is not supported.")));
        }
        if self.package_type.as_deref().is_some_and(|kind| kind != "Zip") {
            return Err(LambdaError::invalid("Only the PackageType Zip is supported."));
        }
        if let Some(runtime) = &self.runtime {
            settings.runtime.clone_from(runtime);
        }
        if let Some(handler) = &self.handler {
            settings.handler = Some(handler.clone());
        }
        if let Some(description) = &self.description {
            settings.description.clone_from(description);
        }
        if let Some(environment) = &self.environment {
            settings.env.clone_from(&environment.variables);
        }
        if let Some(seconds) = self.timeout {
            settings.timeout_ms = Some(within("Timeout", seconds, 1, TIMEOUT_MAX)? * 1_000);
        }
        if let Some(megabytes) = self.memory_size {
            let size = within("MemorySize", megabytes, MEMORY_DEFAULT, MEMORY_MAX)?;
            settings.memory_bytes = Some(size << 20);
        }
        for name in KEPT {
            if let Some(value) = self.others.get(name) {
                attributes.insert(name.to_owned(), value.clone());
            }
        }
        Ok((settings, attributes))
    }
}

/// Returns true if a value has no content. Some clients send empty values for all settings that
/// they do not use.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty() || text == "None",
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        _ => false,
    }
}

fn within(name: &str, value: u64, from: u64, to: u64) -> Result<u64> {
    if (from..=to).contains(&value) {
        return Ok(value);
    }
    Err(LambdaError::invalid(format!("{name} {value} is not between {from} and {to}.")))
}

/// Returns the default settings of a new function.
pub(crate) fn defaults() -> FunctionSettings {
    FunctionSettings {
        memory_bytes: Some(MEMORY_DEFAULT << 20),
        timeout_ms: Some(TIMEOUT_DEFAULT * 1_000),
        ..FunctionSettings::default()
    }
}

/// Returns the configuration of a version in the format of AWS. `qualifier`, if given, becomes part
/// of the ARN.
pub(crate) fn configuration(name: &str, version: &StoredVersion, qualifier: Option<&str>) -> Value {
    let settings = &version.settings;
    let seconds = settings.timeout_ms.map_or(3_600, |milliseconds| milliseconds.div_ceil(1_000));
    let mut configuration = json!({
        "FunctionName": name,
        "FunctionArn": arn(name, qualifier),
        "Runtime": settings.runtime,
        "Role": "arn:aws:iam::000000000000:role/headwater",
        "Handler": settings.handler.clone().unwrap_or_default(),
        "CodeSize": version.code.bytes,
        "CodeSha256": version.code.sha256,
        "Description": settings.description,
        "Timeout": seconds,
        "MemorySize": settings.memory_bytes.map_or(4_096, |bytes| bytes >> 20),
        "LastModified": lambda_time(version.modified),
        "Version": version.qualifier(),
        "RevisionId": version.revision(),
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": 1024},
        "TracingConfig": {"Mode": "PassThrough"},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": format!("/aws/lambda/{name}")},
    });
    if !settings.env.is_empty() {
        configuration["Environment"] = json!({"Variables": settings.env});
    }
    for (key, value) in &version.attributes {
        let value = if key == LAYERS { layer::layers_json(value) } else { value.clone() };
        configuration[key] = value;
    }
    configuration
}

/// Formats a time in Lambda's format.
pub(crate) fn lambda_time(time: Timestamp) -> String {
    time.format("%Y-%m-%dT%H:%M:%S%.3f+0000").to_string()
}
