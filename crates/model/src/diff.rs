//! Differences between two refs, from tables to sample rows.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CommitId, TableName};

/// The kind of change of a table or row between two refs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The table or row exists only at the second ref.
    Added,
    /// The table or row exists only at the first ref.
    Removed,
    /// The table or row exists at both refs and differs.
    Changed,
    /// The table or row is the same at both refs.
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

/// A table or view that differs between the refs. The first side is its state at the first ref, the
/// second side its state at the second ref.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TableDiff {
    /// The name of the table or view.
    #[schema(value_type = String)]
    pub table: TableName,
    /// Added, removed, changed, or the same.
    pub kind: ChangeKind,
    /// For a view: the change of its query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<ViewDiff>,
    /// Columns that differ.
    pub columns: Vec<ColumnDiff>,
    /// Changed parts of the layout: `partition`, `sort-order`, `identifier`, `format-version`.
    #[serde(default)]
    pub layout: Vec<PropertyDiff>,
    /// Properties that differ, by key.
    #[serde(default)]
    pub properties: Vec<PropertyDiff>,
    /// The number of data files that exist only on the second side, or that have other deleted rows
    /// there.
    pub files_added: u64,
    /// The number of data files that exist only on the first side, or that have other deleted rows
    /// there.
    pub files_removed: u64,
    /// Bytes of the files counted in `files_added`.
    #[serde(default)]
    pub bytes_added: u64,
    /// Bytes of the files counted in `files_removed`.
    #[serde(default)]
    pub bytes_removed: u64,
    /// Number of rows on the first side; null if the table does not exist there.
    pub rows_before: Option<u64>,
    /// Number of rows on the second side; null if the table does not exist there.
    pub rows_after: Option<u64>,
    /// Number of rows only on the first side; null if rows were not compared.
    #[serde(default)]
    pub rows_removed: Option<u64>,
    /// Number of rows only on the second side; null if rows were not compared.
    #[serde(default)]
    pub rows_added: Option<u64>,
    /// Number of keys whose rows differ between the sides; null if rows were not compared or have
    /// no key. Without a key, a changed row counts as one removed and one added row.
    #[serde(default)]
    pub rows_changed: Option<u64>,
    /// Number of rows in the files counted in `files_added`: an upper bound for the number of added
    /// rows.
    pub rows_in_files_added: u64,
    /// Number of rows in the files counted in `files_removed`: an upper bound for the number of
    /// removed rows.
    pub rows_in_files_removed: u64,
    /// The comparison of rows, with some of the rows that differ.
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
    /// The snapshot of the table on the first side; null if it has none.
    pub from_snapshot: Option<i64>,
    /// The snapshot of the table on the second side; null if it has none.
    pub to_snapshot: Option<i64>,
    /// The differences.
    #[serde(flatten)]
    pub diff: TableDiff,
}

/// The condition under which the rows of changed tables are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CompareRows {
    /// Rows are compared only if metadata is sufficient, or few bytes must be read.
    #[default]
    Auto,
    /// Rows are always compared.
    Always,
    /// Rows are compared only if metadata is sufficient: no data file is read.
    Never,
}

/// The method by which rows were compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ComparisonMethod {
    /// Only metadata was read, because files were only added or only removed.
    Metadata,
    /// The rows of the files that differ were compared.
    Compared,
    /// Rows were not compared, for the reason in `reason`.
    NotCompared,
}

/// The comparison of rows, with some of the rows that differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RowsDiff {
    /// The method of the comparison.
    pub how: ComparisonMethod,
    /// The reason why rows were not compared or are not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The columns that identify rows; empty if complete rows are compared.
    pub key: Vec<String>,
    /// Number of changed rows in which a column differs, by column.
    #[serde(default)]
    pub changed_columns: Vec<ChangedColumn>,
    /// Number of keys with more than one differing row on one side. Those rows count as removed and
    /// added.
    #[serde(default)]
    pub duplicate_keys: u64,
    /// Number of rows with a null in their key. They count as removed and added.
    #[serde(default)]
    pub null_keys: u64,
    /// Columns that exist on one side only, or whose values cannot be compared. The comparison
    /// ignores them.
    #[serde(default)]
    pub not_compared: Vec<String>,
    /// A page of the rows that differ, ordered by key.
    pub rows: Vec<RowDiff>,
    /// The `page_token` of the next page. Absent on the last page, or if the result is not
    /// paginated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// A column whose value differs in changed rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangedColumn {
    /// The column's name.
    pub column: String,
    /// Number of changed rows in which the column differs.
    pub rows: u64,
}

/// One row that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RowDiff {
    /// Added, removed or changed.
    pub kind: ChangeKind,
    /// The row on the first side, as a JSON object; absent if the row was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub before: Option<serde_json::Value>,
    /// The row on the second side, as a JSON object; absent if the row was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub after: Option<serde_json::Value>,
    /// The columns in which a changed row differs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// Number of identical added or removed rows for which this entry stands.
    pub times: u64,
}

/// Statistics of a column that differ between the sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatisticsDiff {
    /// The column's name.
    pub column: String,
    /// Statistics on the first side.
    pub before: Option<ColumnStatistics>,
    /// Statistics on the second side.
    pub after: Option<ColumnStatistics>,
}

/// Statistics of a column's values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ColumnStatistics {
    /// Number of nulls.
    pub nulls: Option<u64>,
    /// The smallest value.
    #[schema(value_type = Option<Object>)]
    pub min: Option<serde_json::Value>,
    /// The largest value.
    #[schema(value_type = Option<Object>)]
    pub max: Option<serde_json::Value>,
    /// Approximate number of distinct values. Set only if the column's data was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct: Option<u64>,
    /// True if the statistics are exact. Otherwise `min` and `max` are bounds of all values, and
    /// `nulls` is a lower bound.
    pub exact: bool,
}

/// A column that differs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ColumnDiff {
    /// The column's name; the name of a nested field is `address.city`.
    pub column: String,
    /// The column's name on the first side, if it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed_from: Option<String>,
    /// The column's type on the first side.
    pub before: Option<String>,
    /// The column's type on the second side.
    pub after: Option<String>,
    /// Other changes: `nullable`, `comment`, `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<PropertyDiff>,
}

/// A property that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PropertyDiff {
    /// The property's key.
    pub key: String,
    /// The property's value at the first ref.
    pub before: Option<String>,
    /// The property's value at the second ref.
    pub after: Option<String>,
}

/// The query of a view at both refs, in each of its dialects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ViewDiff {
    /// The query at the first ref; empty if the view is missing there.
    pub before: Vec<crate::ViewQuery>,
    /// The query at the second ref; empty if the view is missing there.
    pub after: Vec<crate::ViewQuery>,
}
