//! What differs between two refs, from table names down to sample rows.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CommitId, TableName};

/// What became of a table, or a row, between two refs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Only the second ref has it.
    Added,
    /// Only the first ref has it.
    Removed,
    /// Both have it, and not the same.
    Changed,
    /// Both have the same.
    Same,
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
    /// Added, removed, changed, or the same.
    pub kind: ChangeKind,
    /// Where it is a view: what became of its query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<ViewDiff>,
    /// Columns that differ.
    pub columns: Vec<ColumnDiff>,
    /// What differs in how rows are laid out: `partition`, `sort-order`, `identifier`,
    /// `format-version`.
    #[serde(default)]
    pub layout: Vec<PropertyDiff>,
    /// Properties that differ, by key.
    #[serde(default)]
    pub properties: Vec<PropertyDiff>,
    /// Data files that only the second side has, or has with other rows gone.
    pub files_added: u64,
    /// Data files that only the first side has, or has with other rows gone.
    pub files_removed: u64,
    /// Bytes of the added files.
    #[serde(default)]
    pub bytes_added: u64,
    /// Bytes of the removed files.
    #[serde(default)]
    pub bytes_removed: u64,
    /// Rows of the first side; none where the table is not there.
    pub rows_before: Option<u64>,
    /// Rows of the second side; none where the table is not there.
    pub rows_after: Option<u64>,
    /// Rows that only the first side has; none where rows were not compared.
    #[serde(default)]
    pub rows_removed: Option<u64>,
    /// Rows that only the second side has; none where rows were not compared.
    #[serde(default)]
    pub rows_added: Option<u64>,
    /// Rows of one key that are other on the second side; none where rows were not compared, or have no
    /// key: a row that changed counts as removed and as added then.
    #[serde(default)]
    pub rows_changed: Option<u64>,
    /// Rows in the added files, an upper bound for rows added.
    pub rows_in_files_added: u64,
    /// Rows in the removed files.
    pub rows_in_files_removed: u64,
    /// How rows were compared, and some of those that differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<RowsDiff>,
    /// Statistics of columns that differ.
    #[serde(default)]
    pub statistics: Vec<StatisticsDiff>,
}

/// The difference between two states of one table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TableComparison {
    /// The commit of the first ref.
    #[schema(value_type = String)]
    pub from: CommitId,
    /// The commit of the second ref.
    #[schema(value_type = String)]
    pub to: CommitId,
    /// The snapshot of the table on the first side; none where it has none yet.
    pub from_snapshot: Option<i64>,
    /// The snapshot of the table on the second side; none where it has none yet.
    pub to_snapshot: Option<i64>,
    /// What differs.
    #[serde(flatten)]
    pub diff: TableDiff,
}

/// Whether rows are to be compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CompareRows {
    /// Where metadata is enough, or little has to be read.
    #[default]
    Auto,
    /// Whatever has to be read.
    Always,
    /// Only as far as metadata is enough: no data file is read.
    Never,
}

/// How it is known which rows differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowsKnown {
    /// From metadata alone: files only came, or only went.
    Metadata,
    /// The rows of the files that differ were compared.
    Compared,
    /// They were not compared, for the reason that is given.
    NotCompared,
}

/// How rows were compared, and some of those that differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RowsDiff {
    /// How it is known which rows differ.
    pub how: RowsKnown,
    /// Why rows were not compared, or are not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The columns that tell rows apart; empty where rows are compared as wholes.
    pub key: Vec<String>,
    /// In how many of the changed rows a column is other, by column.
    #[serde(default)]
    pub changed_columns: Vec<ChangedColumn>,
    /// Keys that several of the rows that differ on one side have: those rows count as removed and
    /// added.
    #[serde(default)]
    pub duplicate_keys: u64,
    /// Rows with a null in their key: they count as removed and added.
    #[serde(default)]
    pub null_keys: u64,
    /// Columns that are on one side only, or whose values on both sides cannot be compared: they make no
    /// row differ.
    #[serde(default)]
    pub not_compared: Vec<String>,
    /// A page of the rows that differ, in the order of their keys.
    pub rows: Vec<RowDiff>,
    /// The `page_token` of the next page; none where this is the last, or where pages are not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// A column of rows that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangedColumn {
    /// Its name.
    pub column: String,
    /// In how many of the changed rows it is other.
    pub rows: u64,
}

/// One row that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RowDiff {
    /// Added, removed or changed.
    pub kind: ChangeKind,
    /// The row on the first side, as a JSON object; none where it was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub before: Option<serde_json::Value>,
    /// The row on the second side, as a JSON object; none where it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub after: Option<serde_json::Value>,
    /// The columns in which a changed row differs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// How many such rows were added or removed.
    pub times: u64,
}

/// Statistics of one column, where they differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatisticsDiff {
    /// The column's name.
    pub column: String,
    /// On the first side.
    pub before: Option<ColumnStatistics>,
    /// On the second side.
    pub after: Option<ColumnStatistics>,
}

/// What is known of the values of a column.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ColumnStatistics {
    /// Nulls.
    pub nulls: Option<u64>,
    /// The smallest value.
    #[schema(value_type = Option<Object>)]
    pub min: Option<serde_json::Value>,
    /// The largest value.
    #[schema(value_type = Option<Object>)]
    pub max: Option<serde_json::Value>,
    /// About how many values there are that differ; only where the column was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct: Option<u64>,
    /// Whether the figures are exact; where not, `min` and `max` are bounds that no value exceeds, and
    /// `nulls` is at least what there are.
    pub exact: bool,
}

/// One column that differs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ColumnDiff {
    /// Its name; a field within a column as `address.city`.
    pub column: String,
    /// Its name on the first side, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed_from: Option<String>,
    /// Its type on the first side.
    pub before: Option<String>,
    /// Its type on the second side.
    pub after: Option<String>,
    /// What else differs: `nullable`, `comment`, `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<PropertyDiff>,
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
