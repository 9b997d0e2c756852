//! Writing rows into a table.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CommitId, TableName};

/// The effect of written rows on an existing table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// Adds the rows. Columns are matched by name; new columns are added, missing columns are null.
    #[default]
    Append,
    /// Replaces the table's rows and columns.
    Replace,
}

/// The result of writing rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WriteReport {
    /// The table.
    #[schema(value_type = String)]
    pub table: TableName,
    /// The branch.
    pub branch: String,
    /// True if the table was created.
    pub created_table: bool,
    /// The commit; null if there was nothing to write.
    #[schema(value_type = Option<String>)]
    pub commit: Option<CommitId>,
    /// Number of rows written.
    pub rows: u64,
    /// Columns added to the table.
    pub columns_added: Vec<String>,
    /// Bytes of the data files written.
    pub bytes_written: u64,
}
