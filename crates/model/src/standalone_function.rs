//! Functions that are deployed without a project: their settings, versions and aliases.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::{ObjectId, ProjectFiles, ProvisionedInstances, Timestamp};

/// The settings of a function. Each version of the function has its own settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct FunctionSettings {
    /// The runtime: `python3.11`, `nodejs20`, `provided` and so on.
    pub runtime: String,
    /// The function that the runtime calls, such as `app.handler`.
    pub handler: Option<String>,
    /// A description.
    pub description: String,
    /// The memory limit in bytes.
    pub memory_bytes: Option<u64>,
    /// The time limit in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// The names of secrets. Each is passed as an environment variable of the same name.
    pub secrets: Vec<String>,
    /// The hosts that the function may connect to, for example `api.example.com:443`; `*` allows
    /// every host.
    pub network: Vec<String>,
    /// Programs of the system that the function needs, such as `curl`.
    pub system: Vec<String>,
}

/// The settings of a deployment. A setting that is null is unchanged, and has its default in a new
/// function. The other values replace the setting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct FunctionSettingsUpdate {
    /// The runtime: `python3.11`, `nodejs20`, `provided` and so on. A new function needs one.
    pub runtime: Option<String>,
    /// The function that the runtime calls, such as `app.handler`.
    pub handler: Option<String>,
    /// A description.
    pub description: Option<String>,
    /// The memory limit in bytes.
    pub memory_bytes: Option<u64>,
    /// The time limit in milliseconds.
    pub timeout_ms: Option<u64>,
    /// All environment variables.
    pub env: Option<BTreeMap<String, String>>,
    /// The names of all secrets. Each is passed as an environment variable of the same name.
    pub secrets: Option<Vec<String>>,
    /// All hosts that the function may connect to, for example `api.example.com:443`; `*` allows
    /// every host.
    pub network: Option<Vec<String>>,
    /// All programs of the system that the function needs, such as `curl`.
    pub system: Option<Vec<String>>,
}

/// A setting that a deployment can reset to its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FunctionSetting {
    /// The handler.
    Handler,
    /// The description.
    Description,
    /// The memory limit.
    Memory,
    /// The time limit.
    Timeout,
    /// The environment variables.
    Env,
    /// The secrets.
    Secrets,
    /// The hosts that the function may connect to.
    Network,
    /// The programs of the system.
    System,
    /// The layers.
    Layers,
    /// The maximum number of concurrent calls.
    ReservedConcurrency,
}

impl FunctionSettings {
    /// Resets a setting to its default. Does nothing for the layers and the reserved concurrency,
    /// which are not fields of the settings.
    pub fn reset(&mut self, setting: FunctionSetting) {
        match setting {
            FunctionSetting::Handler => self.handler = None,
            FunctionSetting::Description => self.description.clear(),
            FunctionSetting::Memory => self.memory_bytes = None,
            FunctionSetting::Timeout => self.timeout_ms = None,
            FunctionSetting::Env => self.env.clear(),
            FunctionSetting::Secrets => self.secrets.clear(),
            FunctionSetting::Network => self.network.clear(),
            FunctionSetting::System => self.system.clear(),
            FunctionSetting::Layers | FunctionSetting::ReservedConcurrency => {}
        }
    }

    /// Replaces the settings that an update contains.
    pub fn update(&mut self, update: FunctionSettingsUpdate) {
        fn replace<T>(old: &mut T, new: Option<T>) {
            if let Some(new) = new {
                *old = new;
            }
        }
        replace(&mut self.runtime, update.runtime);
        replace(&mut self.description, update.description);
        replace(&mut self.env, update.env);
        replace(&mut self.secrets, update.secrets);
        replace(&mut self.network, update.network);
        replace(&mut self.system, update.system);
        self.handler = update.handler.or_else(|| self.handler.take());
        self.memory_bytes = update.memory_bytes.or(self.memory_bytes);
        self.timeout_ms = update.timeout_ms.or(self.timeout_ms);
    }
}

/// Request to deploy a function without a project. Creates the function, or a new version of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct DeployFunction {
    /// The settings.
    #[serde(flatten)]
    pub settings: FunctionSettingsUpdate,
    /// Settings to reset to their defaults, before the other settings are applied.
    pub reset: Vec<FunctionSetting>,
    /// The files by path, separated by `/`.
    pub files: ProjectFiles,
    /// The files as a ZIP archive in Base64, instead of `files`.
    pub archive: Option<String>,
    /// The path of an uploaded ZIP archive on the server's machine, instead of `files`. The archive
    /// is deleted after the deployment. After an error, it can be deployed again.
    pub upload: Option<String>,
    /// The maximum number of concurrent calls. If null, the limit is unchanged.
    pub reserved_concurrency: Option<u32>,
    /// The number of provisioned instances for calls that name no version. These instances are
    /// started before calls arrive, and kept. 0 removes the setting. If null, the number is
    /// unchanged.
    pub provisioned_concurrency: Option<u32>,
    /// Versions of layers whose files the function uses, such as `deps:3`, in order. If null, the
    /// layers are unchanged.
    pub layers: Option<Vec<String>>,
    /// The author; the header `x-headwater-author` by default.
    pub author: Option<String>,
}

/// A version of a function that is deployed without a project. A version never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionVersion {
    /// The version number, from 1. Null for the latest state of the function, which has no number
    /// until it is published as a version.
    pub version: Option<u64>,
    /// The settings of the version.
    #[serde(flatten)]
    pub settings: FunctionSettings,
    /// The hash of the version's files: the same files have the same hash.
    #[schema(value_type = String)]
    pub code: ObjectId,
    /// The size of the version's files in bytes.
    pub code_bytes: u64,
    /// The time of the version's last change.
    #[schema(value_type = String, format = DateTime)]
    pub modified: Timestamp,
    /// The author of the version's last change.
    pub author: String,
}

/// A name for a version of a function, optionally with a weighted second version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FunctionAlias {
    /// The version; null for the latest state.
    pub version: Option<u64>,
    /// A description.
    #[serde(default)]
    pub description: String,
    /// Shares of calls routed to other versions, from 0 to 1, by version.
    #[serde(default)]
    pub weights: BTreeMap<u64, f64>,
}

/// A change of an alias. Absent fields are not changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UpdateFunctionAlias {
    /// The version; null for the latest state.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub version: Option<Option<u64>>,
    /// A description.
    pub description: Option<String>,
    /// Shares of calls routed to other versions, from 0 to 1, by version. Replaces all shares.
    pub weights: Option<BTreeMap<u64, f64>>,
}

impl UpdateFunctionAlias {
    /// Applies the change to an alias.
    pub fn apply(self, alias: &mut FunctionAlias) {
        if let Some(version) = self.version {
            alias.version = version;
        }
        if let Some(description) = self.description {
            alias.description = description;
        }
        if let Some(weights) = self.weights {
            alias.weights = weights;
        }
    }
}

/// Deserializes a field that is present. A field with the value null becomes `Some(None)`; an
/// absent field becomes `None`.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The authentication of requests to the URL of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FunctionUrlAuth {
    /// No authentication: every client that reaches the HTTP address may call the function.
    None,
    /// A signature with an access key of a user that may call the function.
    Iam,
}

/// Request to create or change the URL of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetFunctionUrl {
    /// The authentication of requests. If null, the setting is unchanged; a new URL needs it.
    #[serde(default)]
    pub auth: Option<FunctionUrlAuth>,
    /// True to return responses while the function writes them. If null, the setting is unchanged;
    /// false by default.
    #[serde(default)]
    pub stream: Option<bool>,
    /// True to require that the URL exists, false to require that it does not exist. If null, the
    /// request creates or changes the URL.
    #[serde(default)]
    pub exists: Option<bool>,
}

/// The URL of a function or of its alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionUrlConfig {
    /// The path of the URL at the server's HTTP address.
    pub path: String,
    /// The authentication of requests.
    pub auth: FunctionUrlAuth,
    /// True if responses are returned while the function writes them.
    pub stream: bool,
    /// The time of the URL's creation.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// The time of the URL's last change.
    #[schema(value_type = String, format = DateTime)]
    pub modified: Timestamp,
}

/// A function that is deployed without a project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StandaloneFunction {
    /// The function's name.
    pub name: String,
    /// The function's latest state, used by calls that name no version.
    #[serde(flatten)]
    pub latest: FunctionVersion,
    /// The paths of the files of the latest state.
    pub files: Vec<String>,
    /// The versions of layers that the latest state uses, in order.
    #[serde(default)]
    pub layers: Vec<String>,
    /// The numbers of the published versions.
    pub versions: Vec<u64>,
    /// The function's aliases, by name.
    pub aliases: BTreeMap<String, FunctionAlias>,
    /// The maximum number of concurrent calls of the function. If null, the function has no limit
    /// of its own.
    pub concurrency: Option<u32>,
    /// The number of provisioned instances, which are started before calls arrive and kept, by
    /// version or alias.
    #[serde(default)]
    pub provisioned_concurrency: BTreeMap<String, u32>,
    /// The state of the provisioned instances, by version or alias.
    #[serde(default)]
    pub provisioned: BTreeMap<String, ProvisionedInstances>,
    /// The triggers and event source mappings that call the function, as far as the user may see
    /// them.
    #[serde(default)]
    pub callers: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_keeps_settings_that_it_does_not_contain() {
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let old = FunctionSettings {
            runtime: "python3.11".to_owned(),
            handler: Some("app.handler".to_owned()),
            memory_bytes: Some(1 << 28),
            env,
            network: vec!["*".to_owned()],
            ..FunctionSettings::default()
        };
        let mut settings = old.clone();
        settings.update(FunctionSettingsUpdate::default());
        assert_eq!(settings, old);
        let update = FunctionSettingsUpdate {
            timeout_ms: Some(5),
            network: Some(Vec::new()),
            ..FunctionSettingsUpdate::default()
        };
        settings.update(update);
        let expected = FunctionSettings { timeout_ms: Some(5), network: Vec::new(), ..old };
        assert_eq!(settings, expected);
        for setting in [FunctionSetting::Memory, FunctionSetting::Env, FunctionSetting::Layers] {
            settings.reset(setting);
        }
        assert_eq!((settings.memory_bytes, settings.env.len()), (None, 0));
        assert_eq!(settings.timeout_ms, Some(5));
    }

    #[test]
    fn a_request_names_the_settings_to_reset() {
        let text = r#"{"handler": "app.other", "reset": ["env", "reserved_concurrency"]}"#;
        let request: DeployFunction = serde_json::from_str(text).expect("a request");
        assert_eq!(request.settings.handler.as_deref(), Some("app.other"));
        assert_eq!((request.settings.runtime, request.settings.env), (None, None));
        let expected = [FunctionSetting::Env, FunctionSetting::ReservedConcurrency];
        assert_eq!(request.reset, expected);
    }
}
