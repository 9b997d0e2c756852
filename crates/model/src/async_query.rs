//! Asynchronous queries: queries whose result is kept for a while.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{JobStatus, PreviewColumn, Problem, Timestamp};

/// An asynchronous query: its state, and the size of its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AsyncQuery {
    /// The id.
    pub id: String,
    /// The state: `running`, `succeeded`, `failed`, `cancelled`, or `interrupted` if the server
    /// stopped while the query was running.
    pub status: JobStatus,
    /// The first part of the statements' text.
    pub sql: String,
    /// The ref that the statements read and write.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The user that sent the query.
    pub author: String,
    /// The job of the last statement; absent until the server reads the rows of that statement.
    pub job: Option<String>,
    /// The time at which the query was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// The time at which the query ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended: Option<Timestamp>,
    /// The time after which the result is deleted.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires: Option<Timestamp>,
    /// The columns of the result, once they are known.
    pub columns: Vec<PreviewColumn>,
    /// Number of rows of the result; 0 before the end.
    pub rows: u64,
    /// Bytes of the result on disk.
    pub bytes: u64,
    /// The error of a query that did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}
