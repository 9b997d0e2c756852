//! Asking for one SQL statement.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::RefSpec;

/// Asks for one SQL statement. The answer is a stream of record batches, in the form that `Accept` names:
/// `application/vnd.apache.arrow.stream`, `application/json` (an array of objects),
/// `application/x-ndjson` or `text/csv`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct QueryRequest {
    /// The statement.
    pub sql: String,
    /// The ref to read at, and, if it is a branch, to write to; `main` where nothing is said.
    #[serde(default, rename = "ref")]
    #[schema(value_type = Option<String>)]
    pub reference: Option<RefSpec>,
    /// Values of the statement's `$name` parameters: text, numbers, true, false or null.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Where bare table names lie; `public` where nothing is said.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The most rows to answer; all where nothing is said.
    #[serde(default)]
    pub limit: Option<u64>,
    /// The memory the statement may hold before it spills, in bytes.
    #[serde(default)]
    pub memory_bytes_max: Option<u64>,
    /// Who asks.
    #[serde(default)]
    pub author: Option<String>,
}
