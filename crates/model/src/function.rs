//! Functions of a project that can be called by their names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A function that can be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionSummary {
    /// Its name.
    pub name: String,
    /// The file and the line that define it.
    pub defined_at: String,
    /// What it takes, in order.
    pub arguments: Vec<FunctionArgument>,
    /// Whether its process may run another call of it.
    pub reuse: bool,
    /// The most memory it may hold, in bytes.
    pub memory_bytes: u64,
    /// The longest it may take, in milliseconds.
    pub timeout_ms: u64,
    /// How much it matters where more calls wait than can run.
    #[serde(default)]
    pub priority: Priority,
}

/// How much a call or a run matters where more wait than can run.
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
    /// After the others.
    Low,
    /// As most.
    #[default]
    Normal,
    /// Before the others.
    High,
}

impl Priority {
    /// Every one, the least first.
    pub const ALL: [Priority; 3] = [Priority::Low, Priority::Normal, Priority::High];

    /// `low`, `normal` or `high`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Priority::Low => "low",
            Priority::Normal => "normal",
            Priority::High => "high",
        }
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// An argument of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionArgument {
    /// Its name.
    pub name: String,
    /// Whether each call has to give it.
    pub required: bool,
}

/// A call of a function.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InvokeRequest {
    /// What it is given, by name.
    #[serde(default)]
    pub arguments: BTreeMap<String, Value>,
    /// The files of a project by path, for a call of a function as these files define it; the
    /// deployed version by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<BTreeMap<String, String>>,
    /// Who calls; the header `x-headwater-author` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
}
