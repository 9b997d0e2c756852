//! Callable functions of a project.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{BudgetUsage, ProjectFiles};

/// A callable function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FunctionSummary {
    /// The function's name.
    pub name: String,
    /// The file and line of the function's definition.
    pub defined_at: String,
    /// The function's arguments, in order.
    pub arguments: Vec<FunctionArgument>,
    /// True if one process may execute several calls, one after the other.
    pub reuse: bool,
    /// The function's memory limit in bytes.
    pub memory_bytes: u64,
    /// The function's time limit in milliseconds.
    pub timeout_ms: u64,
    /// The function's priority in the queue of calls.
    #[serde(default)]
    pub priority: Priority,
    /// The names of the secrets that the function receives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// The function's daily budget and its usage today; null for a function without a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetUsage>,
    /// The provisioned instances; null for a function without provisioned concurrency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioned: Option<ProvisionedInstances>,
}

/// The state of the provisioned instances of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProvisionedInstances {
    /// Number of requested instances.
    pub requested: u64,
    /// Number of started instances, idle or executing a call.
    pub ready: u64,
    /// The reason for missing instances, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl ProvisionedInstances {
    /// Adds up the states of several versions or aliases of a function; `None` if there are none.
    pub fn sum(all: impl IntoIterator<Item = ProvisionedInstances>) -> Option<Self> {
        all.into_iter().reduce(|sum, one| ProvisionedInstances {
            requested: sum.requested + one.requested,
            ready: sum.ready + one.ready,
            problem: sum.problem.or(one.problem),
        })
    }
}

/// The priority of a call or run in the queue.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// The call or run starts after calls and runs of all other priorities.
    Low,
    /// The default.
    #[default]
    Normal,
    /// The call or run starts before calls and runs of all other priorities.
    High,
}

impl Priority {
    /// All priorities, the lowest first.
    pub const ALL: [Priority; 3] = [Priority::Low, Priority::Normal, Priority::High];

    /// Returns the text form: `low`, `normal` or `high`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Priority::Low => "low",
            Priority::Normal => "normal",
            Priority::High => "high",
        }
    }

    /// Parses the text form; `None` if there is no such priority.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// An argument of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionArgument {
    /// The argument's name.
    pub name: String,
    /// True if each call must provide a value for the argument.
    pub required: bool,
}

/// Request to call a function asynchronously.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InvokeAsyncRequest {
    /// Argument values by name.
    #[serde(default)]
    pub arguments: BTreeMap<String, Value>,
    /// Idempotency key, at most 200 characters: repeated requests with the same key cause one
    /// event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Order key, at most 200 characters: events of the function with the same order key are
    /// delivered one at a time, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_key: Option<String>,
    /// The author; the header `x-headwater-author` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
}

/// An accepted asynchronous call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcceptedEvent {
    /// Id of the event, which is durably stored.
    pub event: String,
    /// True if an earlier request with the same key caused the event.
    pub duplicate: bool,
}

/// The line between the events of a call and its response, if a client requests both in one body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallResponseStart {
    /// The HTTP status of the response.
    pub response: u16,
    /// The media type of the response.
    pub content_type: String,
}

/// Request to call a function.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InvokeRequest {
    /// Argument values by name.
    #[serde(default)]
    pub arguments: BTreeMap<String, Value>,
    /// The files of the project that defines the function, by path. If absent, the deployed project
    /// is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<ProjectFiles>,
    /// The author; the header `x-headwater-author` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
}
