//! Backfills: request.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::RunRequest;

/// Request for a backfill: runs of a project for each value of a parameter, several at once.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct BackfillRequest {
    /// The run of each value: files, branch, other parameters, selection and `strict`. It cannot
    /// merge a ref, retry a run, be a preview, a dry run or a test.
    pub run: RunRequest,
    /// The parameter that has another value in each run.
    pub parameter: String,
    /// The values, in order and without duplicates; at most 10,000.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// The table, `name` or `namespace.name`, whose partitions are the values, instead of `values`.
    /// It must be partitioned by one column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions_of: Option<String>,
    /// Maximum number of runs at once, from 1 to 64; 4 by default.
    #[schema(minimum = 1, maximum = 64)]
    pub jobs: Option<u32>,
    /// Number of times that a failed run of a value is repeated, at most 20; 2 by default.
    #[schema(maximum = 20)]
    pub retries: Option<u32>,
}
