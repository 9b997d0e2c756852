//! Errors of table operations. Their codes and hints are in `error_details.rs`.
//!
//! Errors of the `iceberg` crate, Parquet and object stores are converted to variants that contain
//! the affected column or file.

use std::error::Error as StdError;
use std::io::ErrorKind;

use arrow::error::ArrowError;

use crate::storage::FailureCause;

/// A result with the error type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Failure to create, write, read or plan a table.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A column has a type that an Iceberg table cannot store.
    #[error("column `{column}` has the type `{data_type}`, which a table cannot hold")]
    UnsupportedType {
        /// The column; fields of structs are separated by dots.
        column: String,
        /// The Arrow type.
        data_type: String,
    },
    /// A column cannot be read, because its type is supported only by other engines.
    #[error("column `{column}` has the type `{data_type}`, which Headwater does not read")]
    Unread {
        /// Name of the column.
        column: String,
        /// The Iceberg type.
        data_type: String,
    },
    /// A table cannot be written, because the type of a column is supported only by other engines.
    #[error("Headwater cannot write the table: column `{column}` has the type `{data_type}`")]
    Unwritten {
        /// Name of the column.
        column: String,
        /// The Iceberg type.
        data_type: String,
    },
    /// A text is not a column type.
    #[error("`{text}` is not a column type")]
    InvalidType {
        /// The text that could not be parsed.
        text: String,
    },
    /// A table cannot have the column.
    #[error("column `{column}` cannot be used: {reason}")]
    InvalidColumn {
        /// Name of the column.
        column: String,
        /// The rule that the column breaks.
        reason: String,
    },
    /// A feature of the column requires format version 3.
    #[error("column `{column}` cannot be used: {what} format version 3")]
    NeedsVersion3 {
        /// Name of the column.
        column: String,
        /// The required feature, with a verb such as `needs`.
        what: &'static str,
    },
    /// The schema has no columns.
    #[error("a table needs at least one column")]
    NoColumns,
    /// A column that is to be added already exists.
    #[error("column `{column}` already exists")]
    ColumnExists {
        /// Name of the column.
        column: String,
    },
    /// A column does not exist in the table.
    #[error("the table has no column `{column}`")]
    ColumnNotFound {
        /// The column as the request contains it.
        column: String,
        /// A column with a similar name, if there is one.
        near: Option<String>,
    },
    /// A partition field is invalid.
    #[error("the table cannot be partitioned by `{field}`: {reason}")]
    InvalidPartition {
        /// The partition field as the request contains it.
        field: String,
        /// The rule that the partition field breaks.
        reason: String,
    },
    /// The table does not have the partition field.
    #[error("the table has no partition field `{field}`")]
    PartitionNotFound {
        /// The partition field as the request contains it.
        field: String,
        /// A partition field with a similar name, if there is one.
        near: Option<String>,
    },
    /// Table properties cannot be set to the given values.
    #[error("the properties `{keys}` cannot be set: {reason}")]
    InvalidProperty {
        /// The names of the properties.
        keys: String,
        /// The rule that one of the properties violates.
        reason: String,
    },
    /// The rows to write do not contain a required column.
    #[error("the rows lack the required column `{column}`")]
    MissingColumn {
        /// Name of the column.
        column: String,
    },
    /// Rows have a null in a required column.
    #[error("column `{column}` is required, but null in {rows} rows")]
    NullValue {
        /// The column, with dots for nested fields.
        column: String,
        /// Number of rows in the batch that have a null in the column.
        rows: usize,
    },
    /// An input column cannot be cast to the type of the table's column.
    #[error("column `{column}` has type `{found}`, but the table has type `{expected}`")]
    WrongType {
        /// The column, with dots for nested fields.
        column: String,
        /// The type of the input column.
        found: String,
        /// The type of the table's column.
        expected: String,
    },
    /// The type of the table's column cannot represent a value.
    #[error("column `{column}` has {value}, which does not fit the table's type `{expected}`")]
    BadValue {
        /// The column, with dots for nested fields.
        column: String,
        /// The value, if it is known, and its type: ``the value `1.5` of type `double` ``.
        value: String,
        /// The type of the table's column.
        expected: String,
    },
    /// The stream of rows to write returned an error.
    #[error("the rows to write cannot be computed")]
    Input(#[source] ArrowError),
    /// The table's schema, partitioning, identity or data changed while the rows were written.
    #[error("the table's {what} changed while its new rows were written")]
    TableChanged {
        /// The changed part: `schema`, `partitioning`, `identity`, `format version` or `data`.
        what: &'static str,
    },
    /// The table does not have the snapshot.
    #[error("the table has no snapshot `{snapshot}`")]
    SnapshotNotFound {
        /// The snapshot's id.
        snapshot: i64,
    },
    /// A location is outside the warehouse.
    #[error("`{location}` is outside the warehouse `{root}`")]
    OutsideWarehouse {
        /// The location that was given.
        location: String,
        /// The root URL of the warehouse.
        root: String,
    },
    /// A file uses an Iceberg feature that is not supported.
    #[error("`{location}` uses {feature}, which is not supported")]
    Unsupported {
        /// Location of the file.
        location: String,
        /// Name of the unsupported feature.
        feature: String,
    },
    /// Tables of this format version can only be read.
    #[error("tables of format version {version} are read-only")]
    OldFormat {
        /// The format version.
        version: &'static str,
    },
    /// The content of a file is invalid.
    #[error("`{location}` cannot be read: {reason}")]
    Corrupt {
        /// Location of the file.
        location: String,
        /// Reason why the content is invalid.
        reason: String,
    },
    /// A file of a table does not exist.
    #[error("`{location}` is missing")]
    Missing {
        /// Location of the file.
        location: String,
    },
    /// The device has no space left.
    #[error("no space is left to write `{location}`")]
    DiskFull {
        /// Location of the file.
        location: String,
    },
    /// The URL of a warehouse is invalid.
    #[error("`{url}` cannot be a warehouse: {reason}")]
    InvalidWarehouse {
        /// The URL as the user wrote it.
        url: String,
        /// Reason why the URL is invalid.
        reason: String,
    },
    /// The settings of a cloud object store, in environment variables, are invalid.
    #[error("the object store of `{url}` cannot be configured")]
    InvalidCloud {
        /// The URL of the warehouse or the file.
        url: String,
        /// The underlying error.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The warehouse belongs to another lake.
    #[error("`{url}` is the warehouse of another lake")]
    WarehouseTaken {
        /// URL of the warehouse.
        url: String,
    },
    /// A cloud object store rejects requests or does not respond.
    #[error("{}", trouble.describe(location))]
    Cloud {
        /// Location of the file.
        location: String,
        /// The cause of the failure.
        trouble: FailureCause,
        /// The object store's error.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// An object store returned another error.
    #[error("the object store failed on `{location}`")]
    Storage {
        /// Location of the file.
        location: String,
        /// The object store's error.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A change that another engine requests is invalid for the table.
    #[error("the change of the table is rejected: {reason}")]
    Refused {
        /// The rule that the change breaks.
        reason: String,
    },
    /// A scan that another engine requests is invalid.
    #[error("the scan cannot be planned: {reason}")]
    InvalidScan {
        /// Reason why the scan is invalid.
        reason: String,
    },
    /// The new query of a view would drop SQL dialects.
    #[error("replacing the view would drop its query in other SQL dialects")]
    DialectLost,
    /// A requirement of an Iceberg commit is not met.
    #[error("commit requirement failed: {reason}")]
    Unmet {
        /// The unmet requirement, such as a changed snapshot id.
        reason: String,
    },
    /// An internal error.
    #[error("a table could not be {doing}: {reason}")]
    Internal {
        /// The operation that failed, as a past participle such as `encoded`.
        doing: &'static str,
        /// Description of the error.
        reason: String,
    },
}

impl Error {
    /// Converts an object store's error about a file to the matching variant.
    pub fn storage(
        location: impl Into<String>,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        let location = location.into();
        if is_disk_full(&source) {
            return Error::DiskFull { location };
        }
        if let Some(trouble) = FailureCause::of(&source) {
            return Error::Cloud { location, trouble, source: Box::new(source) };
        }
        if is_missing(&source) {
            return Error::Missing { location };
        }
        Error::Storage { location, source: Box::new(source) }
    }

    /// Returns true if the rows to write do not match the table's columns.
    pub fn is_schema_mismatch(&self) -> bool {
        matches!(
            self,
            Error::ColumnNotFound { .. }
                | Error::MissingColumn { .. }
                | Error::NullValue { .. }
                | Error::WrongType { .. }
                | Error::BadValue { .. }
                | Error::TableChanged { .. }
        )
    }

    /// Returns true if the error is transient, so that a retry may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Cloud { trouble, .. } if trouble.is_transient())
    }

    /// Returns true if a file of the table is missing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Missing { .. })
    }

    /// Returns true if a file is missing or invalid. A retry then cannot succeed.
    pub fn is_unreadable(&self) -> bool {
        match self {
            Error::Missing { .. }
            | Error::Corrupt { .. }
            | Error::OutsideWarehouse { .. }
            | Error::Unsupported { .. }
            | Error::Storage { .. } => true,
            Error::Cloud { trouble, .. } => !trouble.is_transient(),
            _ => false,
        }
    }

    /// Returns the location of the unreadable file.
    pub fn location(&self) -> Option<&str> {
        match self {
            Error::Missing { location }
            | Error::Corrupt { location, .. }
            | Error::OutsideWarehouse { location, .. }
            | Error::Unsupported { location, .. }
            | Error::Storage { location, .. }
            | Error::Cloud { location, .. } => Some(location),
            _ => None,
        }
    }

    /// Returns the original error of a stream that reads a file; Arrow wraps this error.
    pub fn from_arrow(location: &str, error: ArrowError) -> Self {
        match error {
            ArrowError::ExternalError(source) => match source.downcast::<Error>() {
                Ok(error) => *error,
                Err(source) => Error::corrupt(location, source),
            },
            other => Error::corrupt(location, other),
        }
    }

    /// Creates an error about a file with invalid content.
    pub fn corrupt(location: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Error::Corrupt { location: location.into(), reason: reason.to_string() }
    }

    /// Creates an internal error.
    pub fn internal(doing: &'static str, reason: impl std::fmt::Display) -> Self {
        Error::Internal { doing, reason: reason.to_string() }
    }
}

/// Returns true if the disk or a disk quota is full.
pub fn is_disk_full(error: &(dyn StdError + 'static)) -> bool {
    chain(error)
        .filter_map(|e| e.downcast_ref::<std::io::Error>())
        .any(|io| matches!(io.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
}

fn is_missing(error: &(dyn StdError + 'static)) -> bool {
    chain(error).any(|e| {
        matches!(e.downcast_ref(), Some(object_store::Error::NotFound { .. }))
            || e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::NotFound)
    })
}

/// Returns an error and the source errors that it wraps, outermost first.
pub(crate) fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

impl From<Error> for ArrowError {
    fn from(error: Error) -> Self {
        ArrowError::ExternalError(Box::new(error))
    }
}
