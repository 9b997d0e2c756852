//! Requests for backfills.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::RunRequest;

/// Request for a backfill: one run of a project for each value of a parameter, several at once.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct BackfillRequest {
    /// The settings of every run: files, branch, other parameters, selection and `strict`. A run of
    /// a backfill cannot merge a ref or retry a run, and cannot be a preview, a dry run or a test.
    pub run: RunRequest,
    /// The parameter that has a different value in each run.
    pub parameter: String,
    /// The values, in order and without duplicates; at most 10,000.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// The table, `name` or `namespace.name`, whose partitions are used instead of `values`. The
    /// table must be partitioned by one column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions_of: Option<String>,
    /// Maximum number of runs at once, from 1 to 64; 4 by default.
    #[schema(minimum = 1, maximum = 64)]
    pub jobs: Option<u32>,
    /// Number of times that the run of a value is repeated after a failure, at most 20; 2 by
    /// default.
    #[schema(maximum = 20)]
    pub retries: Option<u32>,
}
