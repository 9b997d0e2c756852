//! Python environments, and the calls of functions that use them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{JobId, Priority, Timestamp};

/// A Python version with packages, shared by all functions with the same requirements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentSummary {
    /// The environment's id: a hash of the Python version and the requirements.
    pub id: String,
    /// The Python version.
    pub python: String,
    /// The requirements.
    pub requirements: Vec<String>,
    /// The installed packages: version by package name.
    pub packages: BTreeMap<String, String>,
    /// Size of the environment's files in bytes.
    pub bytes: u64,
    /// Size in bytes of the files that the environment shares with no other environment.
    pub bytes_own: u64,
    /// The time of the environment's last use.
    #[schema(value_type = String, format = DateTime)]
    pub used: Timestamp,
    /// True if a call is using the environment.
    pub busy: bool,
}

/// A zygote: the process with an environment's imported packages, from which calls are cloned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ZygoteSummary {
    /// The zygote's private memory in bytes.
    pub memory_bytes: u64,
    /// The duration of the zygote's imports in milliseconds.
    pub imported_ms: u64,
    /// Packages that could not be imported in advance, with the reason. Each call imports these
    /// packages itself.
    pub skipped: BTreeMap<String, String>,
    /// The reason why the zygote does not exist, if it could not be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A running or queued call of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionCall {
    /// The label of the call: the name of the model or function.
    pub label: String,
    /// The environment of the call.
    pub environment: String,
    /// The memory limit of the call in bytes.
    pub memory_bytes: u64,
    /// The owner of the call: a run or a caller. Owners share the queue fairly.
    pub owner: String,
    /// The job of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub job: Option<JobId>,
    /// The priority of the call.
    pub priority: Priority,
    /// The time at which the call started to run or to wait.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// The reason why the call is waiting; absent if it is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

/// An idle process that waits for a call of its function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WarmInstanceSummary {
    /// The name of the function.
    pub label: String,
    /// The memory limit of the process in bytes.
    pub memory_bytes: u64,
    /// The time since which the process is idle.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// The time at which the process ends if no call uses it.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// The reason why the process was started or is kept.
    pub reason: String,
}

/// Details of an environment, and the running and queued calls of all environments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentDetails {
    /// The environment.
    pub environment: EnvironmentSummary,
    /// The environment's zygote; absent if the environment has not been used for some time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zygote: Option<ZygoteSummary>,
    /// The idle processes of the environment.
    #[serde(default)]
    pub instances: Vec<WarmInstanceSummary>,
    /// The reason why functions cannot write results to huge pages; absent if they can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub huge_pages_unavailable: Option<String>,
    /// Running calls, and queued calls in the order of arrival.
    pub calls: Vec<FunctionCall>,
}

/// Request to remove environments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PruneEnvironments {
    /// Minimum time since the last use of an environment, in seconds; 0 selects all environments.
    pub unused_seconds: u64,
    /// Return the result without removing anything.
    pub dry_run: bool,
}

/// The result of removing environments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrunedEnvironments {
    /// The removed environments.
    pub removed: Vec<EnvironmentSummary>,
    /// Environments that were selected but kept, because calls are using them.
    pub busy: Vec<String>,
    /// Bytes that the removal freed.
    pub bytes: u64,
}

/// An environment whose packages were resolved again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RebuiltEnvironment {
    /// The environment.
    pub environment: EnvironmentSummary,
    /// The changed packages.
    pub changed: BTreeMap<String, PackageChange>,
}

/// The version of a package before and after packages were resolved again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PackageChange {
    /// The version before; absent if the package is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The version after; absent if the package was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}
