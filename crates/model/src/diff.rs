//! What differs between two refs, from table names down to sample rows.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CommitId, TableName};

/// What became of a table between two refs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Only the second ref has it.
    Added,
    /// Only the first ref has it.
    Removed,
    /// Both have it, and not the same.
    Changed,
}

/// The difference between two refs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Diff {
    /// The commit of the first ref.
    #[schema(value_type = String)]
    pub from: CommitId,
    /// The commit of the second ref.
    #[schema(value_type = String)]
    pub to: CommitId,
    /// The tables and views that differ, by name.
    pub tables: Vec<TableDiff>,
}

/// One table, or view, that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TableDiff {
    /// Its name.
    #[schema(value_type = String)]
    pub table: TableName,
    /// Added, removed or changed.
    pub kind: ChangeKind,
    /// Where it is a view: what became of its query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<ViewDiff>,
    /// Columns that differ.
    pub columns: Vec<ColumnDiff>,
    /// Properties that differ, by key.
    #[serde(default)]
    pub properties: Vec<PropertyDiff>,
    /// Data files that only the second ref has.
    pub files_added: u64,
    /// Data files that only the first ref has.
    pub files_removed: u64,
    /// Rows at the first ref; none where the table is not there.
    pub rows_before: Option<u64>,
    /// Rows at the second ref; none where the table is not there.
    pub rows_after: Option<u64>,
    /// Rows that only the first ref has; none where there was too much to compare, or columns differ.
    #[serde(default)]
    pub rows_removed: Option<u64>,
    /// Rows that only the second ref has; none where there was too much to compare, or columns differ.
    #[serde(default)]
    pub rows_added: Option<u64>,
    /// Rows in the added files, an upper bound for rows added.
    pub rows_in_files_added: u64,
    /// Rows in the removed files.
    pub rows_in_files_removed: u64,
    /// A few of the rows that were added, as JSON objects; where rows were not compared, of the added
    /// files.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub sample_added: Vec<serde_json::Value>,
    /// A few of the rows that were removed, as JSON objects; where rows were not compared, of the
    /// removed files.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub sample_removed: Vec<serde_json::Value>,
}

/// One column that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ColumnDiff {
    /// Its name.
    pub column: String,
    /// Its type at the first ref.
    pub before: Option<String>,
    /// Its type at the second ref.
    pub after: Option<String>,
}

/// One property that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PropertyDiff {
    /// Its key.
    pub key: String,
    /// Its value at the first ref.
    pub before: Option<String>,
    /// Its value at the second ref.
    pub after: Option<String>,
}

/// The query of a view at both refs, each in the dialects in which it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ViewDiff {
    /// At the first ref; empty where the view is not there.
    pub before: Vec<crate::ViewQuery>,
    /// At the second ref; empty where the view is not there.
    pub after: Vec<crate::ViewQuery>,
}
