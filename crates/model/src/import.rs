//! Asking to bring files into a table, the plan to look at first, and the report afterwards.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CommitId, PartitionField, RefSpec, TableName};

/// Asks to bring files into a table, making the table where it is not there.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ImportRequest {
    /// The table, `name` or `namespace.name`.
    pub table: String,
    /// Files, folders and globs, absolute, on the server's machine.
    pub sources: Vec<String>,
    /// The branch to commit to; `main` where nothing is said.
    #[serde(rename = "ref")]
    #[schema(value_type = Option<String>)]
    pub reference: Option<RefSpec>,
    /// The files' format; told by their names where nothing is said.
    pub format: Option<FileFormat>,
    /// CSV only: the delimiter; found from the files where nothing is said.
    pub delimiter: Option<char>,
    /// CSV only: whether the first row names the columns; yes where nothing is said.
    pub header: Option<bool>,
    /// Text files only: the encoding's WHATWG label; UTF-8, or what a byte order mark says, where nothing is.
    pub encoding: Option<String>,
    /// Text that means null, besides the empty field; CSV only.
    pub nulls: Vec<String>,
    /// CSV only: how dates are written, such as `DD.MM.YYYY`; `YYYY-MM-DD` where nothing is said.
    pub date_format: Option<String>,
    /// CSV only: numbers have a comma before their fraction, and points between thousands.
    pub decimal_comma: bool,
    /// Types by column, as Iceberg writes them; they override inference.
    pub types: BTreeMap<String, String>,
    /// Partition fields, for a new table.
    pub partition: Vec<PartitionField>,
    /// What to do with a row that cannot be read.
    pub on_error: OnError,
    /// Import files that were imported before once more.
    pub again: bool,
    /// Infer and check, and change nothing.
    pub dry_run: bool,
    /// Who asks.
    pub author: Option<String>,
    /// The trigger event that asks; the same event never commits twice.
    pub event: Option<String>,
}

/// The formats that can be imported; CSV and JSON may be compressed by gzip or zstd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// Comma-separated values, RFC 4180 and its relatives.
    Csv,
    /// One JSON object a line, or a JSON array of objects.
    Ndjson,
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC, a file or a stream.
    Arrow,
}

/// What to do with a row that cannot be read as the table's types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// End the import with the first bad row's file, line, column and value; nothing is written.
    #[default]
    Stop,
    /// Put the row and the reason into `<table>__rejected` and go on.
    Reject,
}

/// What an import would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ImportPlan {
    /// The table.
    #[schema(value_type = String)]
    pub table: TableName,
    /// Whether the table would be made.
    pub creates_table: bool,
    /// The files that would be read, in order.
    pub files: Vec<ImportFile>,
    /// The files that were imported before and would be skipped.
    pub skipped: Vec<String>,
    /// Every column the table would have.
    pub columns: Vec<ImportColumn>,
}

/// A file to import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportFile {
    /// Its absolute path.
    pub path: String,
    /// Its size on disk.
    pub bytes: u64,
    /// Its format.
    pub format: FileFormat,
}

/// A column of an import plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportColumn {
    /// Its name.
    pub name: String,
    /// Its type, as Iceberg writes it.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Whether the table has it already.
    pub exists: bool,
    /// Why this type: `declared`, `table`, `inferred`, or the value that ruled a narrower one out.
    pub reason: String,
    /// What to do where the type is probably not the one that was meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ImportReport {
    /// The table.
    #[schema(value_type = String)]
    pub table: TableName,
    /// Whether the table was made.
    pub created_table: bool,
    /// The commit; none where every file was skipped.
    #[schema(value_type = Option<String>)]
    pub commit: Option<CommitId>,
    /// Files read.
    pub files: u64,
    /// Files skipped because they were imported before.
    pub files_skipped: u64,
    /// Rows written to the table.
    pub rows: u64,
    /// Rows written to `<table>__rejected`.
    pub rows_rejected: u64,
    /// Columns that the table gained.
    pub columns_added: Vec<String>,
    /// New columns that became text although most of their values are numbers, dates or the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns_as_text: Vec<ImportColumn>,
    /// Bytes read from the files.
    pub bytes_read: u64,
    /// Bytes of the data files written.
    pub bytes_written: u64,
    /// The most memory that rows took on their way into the table, in bytes, about.
    #[serde(default)]
    pub memory_bytes_peak: u64,
}
