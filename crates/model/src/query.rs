//! The request to execute SQL statements.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::RefSpec;

/// Request to execute SQL statements. The response streams the rows of the last statement in the
/// format selected by `Accept`: `application/vnd.apache.arrow.stream`, `application/json` (an array
/// of objects), `application/x-ndjson`, `text/csv` or `application/vnd.apache.parquet`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct QueryRequest {
    /// One or more statements, separated by semicolons.
    pub sql: String,
    /// The ref to read, and to write if it is a branch; `main` by default.
    #[serde(default, rename = "ref")]
    #[schema(value_type = Option<String>)]
    pub reference: Option<RefSpec>,
    /// Values of the `$name` parameters: text, numbers, true, false or null.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// The namespace of unqualified table names; `public` by default.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Maximum number of rows; all by default.
    #[serde(default)]
    pub limit: Option<u64>,
    /// Memory limit of a statement, in bytes; beyond it the statement spills to disk.
    #[serde(default)]
    pub memory_bytes_max: Option<u64>,
    /// Maximum number of bytes that a query may read from table files; a query that reads more soon
    /// ends with `quota_exceeded`.
    #[serde(default)]
    pub max_bytes: Option<u64>,
    /// Maximum time of a statement in milliseconds; a longer statement ends with `time_limit`.
    #[serde(default)]
    pub max_ms: Option<u64>,
    /// The author of the job and of its commits.
    #[serde(default)]
    pub author: Option<String>,
}
