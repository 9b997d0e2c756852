//! Imports of files into a table: request, plan and report.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CommitId, PartitionField, RefSpec, TableName};

/// Request to import files into a table, which is created if missing.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ImportRequest {
    /// The table, `name` or `namespace.name`.
    pub table: String,
    /// Absolute paths of files, folders and globs on the server's machine, or URLs.
    pub sources: Vec<String>,
    /// The branch to commit to; `main` by default.
    #[serde(rename = "ref")]
    #[schema(value_type = Option<String>)]
    pub reference: Option<RefSpec>,
    /// The format; by default detected from the file names.
    pub format: Option<FileFormat>,
    /// CSV only: the delimiter; detected by default.
    pub delimiter: Option<char>,
    /// CSV only: true if the first row contains the column names; true by default.
    pub header: Option<bool>,
    /// Text files only: the encoding's WHATWG label; by default the encoding of the byte order
    /// mark, or UTF-8.
    pub encoding: Option<String>,
    /// CSV only: field values that mean null, in addition to the empty field.
    pub nulls: Vec<String>,
    /// CSV only: the format of dates, such as `DD.MM.YYYY`; `YYYY-MM-DD` by default.
    pub date_format: Option<String>,
    /// CSV only: true if numbers have a decimal comma, and points as thousands separators.
    pub decimal_comma: bool,
    /// Types by column, in Iceberg's notation; they override inference.
    pub types: BTreeMap<String, String>,
    /// Partition fields of a new table.
    pub partition: Vec<PartitionField>,
    /// The handling of rows that cannot be read.
    pub on_error: OnError,
    /// Import files even if they were imported before.
    pub again: bool,
    /// Infer types and validate rows, but write nothing.
    pub dry_run: bool,
    /// The author of the commit.
    pub author: Option<String>,
    /// The trigger event that caused the import; an event is committed at most once.
    pub event: Option<String>,
}

/// A file format. CSV and JSON may be compressed with gzip or zstd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// Comma-separated values: RFC 4180 and its variants.
    Csv,
    /// JSON lines, or a JSON array of objects.
    Ndjson,
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC, a file or a stream.
    Arrow,
}

/// The handling of rows that do not match the table's types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Stop at the first bad row, report its file, line, column and value, and write no rows at
    /// all.
    #[default]
    Stop,
    /// Write the row and the reason to `<table>__rejected`, and continue.
    Reject,
}

/// The plan of an import.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ImportPlan {
    /// The table.
    #[schema(value_type = String)]
    pub table: TableName,
    /// True if the import would create the table.
    pub creates_table: bool,
    /// The files that would be read, in order.
    pub files: Vec<ImportFile>,
    /// The files that would be skipped because they were imported before.
    pub skipped: Vec<String>,
    /// All columns of the table after the import.
    pub columns: Vec<ImportColumn>,
}

/// A file to import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportFile {
    /// The file's absolute path.
    pub path: String,
    /// The file's size on disk, in bytes.
    pub bytes: u64,
    /// The file's format.
    pub format: FileFormat,
}

/// A column of an import plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportColumn {
    /// The column's name.
    pub name: String,
    /// The column's type, in Iceberg's notation.
    #[serde(rename = "type")]
    pub data_type: String,
    /// True if the table already has the column.
    pub exists: bool,
    /// The reason for this type: `declared`, `table`, `inferred`, or a value that does not fit a
    /// narrower type.
    pub reason: String,
    /// A suggestion if the inferred type is probably not the intended type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// For a new column whose name is probably misspelt: the column of the table with a similar
    /// name, which no imported file has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similar_to: Option<String>,
}

/// The result of an import.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ImportReport {
    /// The table.
    #[schema(value_type = String)]
    pub table: TableName,
    /// True if the table was created.
    pub created_table: bool,
    /// The commit; null if all files were skipped.
    #[schema(value_type = Option<String>)]
    pub commit: Option<CommitId>,
    /// Number of files read.
    pub files: u64,
    /// Number of files skipped because they were imported before.
    pub files_skipped: u64,
    /// Number of rows written to the table.
    pub rows: u64,
    /// Number of rows written to `<table>__rejected`.
    pub rows_rejected: u64,
    /// Columns that were added to the table.
    pub columns_added: Vec<String>,
    /// New columns of type text, although most of their values are numbers, dates or similar.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns_as_text: Vec<ImportColumn>,
    /// Columns that were added to the table, although their names are probably misspelt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns_misspelt: Vec<ImportColumn>,
    /// Bytes read from the files.
    pub bytes_read: u64,
    /// Bytes of the data files written.
    pub bytes_written: u64,
    /// Approximate peak memory of the import's rows, in bytes.
    #[serde(default)]
    pub memory_bytes_peak: u64,
}
