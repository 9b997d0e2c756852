//! Environments, and the calls of functions that run and wait.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{JobId, Priority, Timestamp};

/// A Python with packages, shared by every function that asks for the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentSummary {
    /// Its name: a hash over what was asked for.
    pub id: String,
    /// The Python version.
    pub python: String,
    /// What was asked for.
    pub requirements: Vec<String>,
    /// Version by package, of everything installed.
    pub packages: BTreeMap<String, String>,
    /// Bytes of its files.
    pub bytes: u64,
    /// Those that nothing else shares, so that removing it would free them.
    pub bytes_own: u64,
    /// When a function last asked for it.
    #[schema(value_type = String, format = DateTime)]
    pub used: Timestamp,
    /// Whether a function uses it now.
    pub busy: bool,
}

/// The process that holds an environment's packages imported for calls to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ZygoteSummary {
    /// Memory it holds for itself, in bytes.
    pub memory_bytes: u64,
    /// What its imports took, in milliseconds.
    pub imported_ms: u64,
    /// Packages that every call imports by itself, and why.
    pub skipped: BTreeMap<String, String>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A call of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionCall {
    /// What people call it: the model's name.
    pub label: String,
    /// Its environment.
    pub environment: String,
    /// The memory it may hold, in bytes.
    pub memory_bytes: u64,
    /// For whom it is made: a run or a caller. Owners have turns one after the other.
    pub owner: String,
    /// The job that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub job: Option<JobId>,
    /// What goes before the owners' turns.
    pub priority: Priority,
    /// Since when it runs or waits.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Why it waits; none where it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

/// What there is to say of an environment, and of the calls of every environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentExplained {
    /// The environment.
    pub environment: EnvironmentSummary,
    /// Its zygote; none where nobody has called for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zygote: Option<ZygoteSummary>,
    /// Why functions write the tables that they return to small pages of memory; none where they write them
    /// to huge ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub small_pages: Option<String>,
    /// Calls that run, and calls that wait for their turn, in the order in which they came.
    pub calls: Vec<FunctionCall>,
}

/// Which environments to remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PruneEnvironments {
    /// Those that no function has asked for in so many seconds; all where it is 0.
    pub unused_seconds: u64,
    /// Only says what would be removed.
    pub dry_run: bool,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrunedEnvironments {
    /// The environments.
    pub removed: Vec<EnvironmentSummary>,
    /// Those that stay though nobody has asked for them, because a function uses them now.
    pub busy: Vec<String>,
    /// Bytes that were freed.
    pub bytes: u64,
}

/// An environment whose packages were chosen anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RebuiltEnvironment {
    /// The environment as it is now.
    pub environment: EnvironmentSummary,
    /// What changed, by package.
    pub changed: BTreeMap<String, PackageChange>,
}

/// A package before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PackageChange {
    /// The version before; none where it is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The version now; none where it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}
