//! What can go wrong with a table, and what to do about it.
//!
//! Errors of the `iceberg` crate, Parquet and object stores never leave this room bare: each
//! becomes a variant that names the column or the file it is about.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::io::ErrorKind;

use arrow::error::ArrowError;
use headwater_model::{ErrorCode, Fault, Problem};

use crate::Trouble;

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a table could not be made, written, read or planned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A type that Iceberg v2 cannot hold.
    #[error("column `{column}` has the type `{data_type}`, which a table cannot hold")]
    UnsupportedType {
        /// The column, with dots for nested fields.
        column: String,
        /// Its Arrow type.
        data_type: String,
    },
    /// Read of a column whose type only other engines read.
    #[error("column `{column}` has the type `{data_type}`, which Headwater does not read")]
    Unread {
        /// The column.
        column: String,
        /// Its type, as Iceberg names it.
        data_type: String,
    },
    /// Write to a table with a column whose type only other engines write.
    #[error("Headwater cannot write the table: column `{column}` has the type `{data_type}`")]
    Unwritten {
        /// The column.
        column: String,
        /// Its type, as Iceberg names it.
        data_type: String,
    },
    /// A text that names no type.
    #[error("`{text}` is not a column type")]
    InvalidType {
        /// The text as given.
        text: String,
    },
    /// A schema that cannot be a table's.
    #[error("column `{column}` cannot be used: {reason}")]
    InvalidColumn {
        /// The column.
        column: String,
        /// The rule it breaks.
        reason: String,
    },
    /// A column as only tables of format version 3 have them.
    #[error("column `{column}` cannot be used: {what} format version 3")]
    NeedsVersion3 {
        /// The column.
        column: String,
        /// What of it does.
        what: &'static str,
    },
    /// A schema without columns.
    #[error("a table needs at least one column")]
    NoColumns,
    /// A column that is to be added and is there.
    #[error("column `{column}` exists already")]
    ColumnExists {
        /// The column.
        column: String,
    },
    /// A column that the table does not have.
    #[error("the table has no column `{column}`")]
    ColumnNotFound {
        /// The column as asked for.
        column: String,
        /// A column with a similar name.
        near: Option<String>,
    },
    /// A partition field that cannot be.
    #[error("the table cannot be partitioned by `{field}`: {reason}")]
    InvalidPartition {
        /// The partition field as given.
        field: String,
        /// The rule it breaks.
        reason: String,
    },
    /// A partition field that the table does not have.
    #[error("the table has no partition field `{field}`")]
    PartitionNotFound {
        /// The partition field as asked for.
        field: String,
        /// A partition field with a similar name.
        near: Option<String>,
    },
    /// Table properties that cannot be set.
    #[error("the properties `{keys}` cannot be set: {reason}")]
    InvalidProperty {
        /// The properties' names.
        keys: String,
        /// The rule that one of them breaks.
        reason: String,
    },
    /// Rows without a column that may not be null.
    #[error("the rows have no column `{column}`, which may not be null")]
    MissingColumn {
        /// The column.
        column: String,
    },
    /// A null where the table takes none.
    #[error("column `{column}` may not be null, and {rows} of the rows have a null there")]
    NullValue {
        /// The column, with dots for nested fields.
        column: String,
        /// How many of the rows in the batch at hand.
        rows: usize,
    },
    /// Rows whose type does not fit the table's.
    #[error("column `{column}` has the type `{found}`, and the table's type is `{expected}`")]
    WrongType {
        /// The column, with dots for nested fields.
        column: String,
        /// The rows' type.
        found: String,
        /// The table's type.
        expected: String,
    },
    /// A value that the table's type cannot hold.
    #[error("column `{column}` has a value that does not fit the table's type `{expected}`")]
    BadValue {
        /// The column, with dots for nested fields.
        column: String,
        /// The table's type.
        expected: String,
        /// Which value, as Arrow says it.
        #[source]
        source: ArrowError,
    },
    /// The stream of rows to write ended with an error of its own.
    #[error("the rows to write could not be produced")]
    Input(#[source] ArrowError),
    /// The table is no longer as it was when the rows were written for it.
    #[error("the table's {what} changed while its new rows were written")]
    TableChanged {
        /// `schema`, `partitioning`, `identity` or `data`.
        what: &'static str,
    },
    /// A snapshot that the table does not have.
    #[error("the table has no snapshot `{snapshot}`")]
    SnapshotNotFound {
        /// The snapshot's id.
        snapshot: i64,
    },
    /// A location outside the warehouse.
    #[error("`{location}` does not lie in the warehouse `{root}`")]
    OutsideWarehouse {
        /// The location.
        location: String,
        /// The warehouse's root.
        root: String,
    },
    /// A table that uses a part of Iceberg that is not read here.
    #[error("`{location}` uses {feature}, which cannot be read yet")]
    Unsupported {
        /// The file.
        location: String,
        /// The part of Iceberg.
        feature: String,
    },
    /// A table of a version of the format that is only read.
    #[error("a table of format version {version} is read, and not changed")]
    OldFormat {
        /// The version.
        version: &'static str,
    },
    /// A file that cannot be read back as what it should be.
    #[error("`{location}` cannot be read: {reason}")]
    Corrupt {
        /// The file.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of the table that is gone.
    #[error("`{location}` is missing")]
    Missing {
        /// The file.
        location: String,
    },
    /// No room is left.
    #[error("no space is left to write `{location}`")]
    DiskFull {
        /// The file.
        location: String,
    },
    /// A location that is none of an object store.
    #[error("`{url}` cannot be a warehouse: {reason}")]
    InvalidWarehouse {
        /// The location as given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The environment says something of a cloud that cannot be.
    #[error("the object store of `{url}` cannot be set up")]
    InvalidCloud {
        /// The warehouse, or the file.
        url: String,
        /// What is wrong.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Another lake's warehouse.
    #[error("`{url}` is the warehouse of another lake")]
    WarehouseTaken {
        /// The warehouse.
        url: String,
    },
    /// An object store that refuses, or does not answer.
    #[error("{}", trouble.describe(location))]
    Cloud {
        /// The file.
        location: String,
        /// What is behind it.
        trouble: Trouble,
        /// What it said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The object store answered with an error.
    #[error("the object store failed on `{location}`")]
    Storage {
        /// The file.
        location: String,
        /// What it said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A change that another engine asks for, and that a table cannot have.
    #[error("the change cannot be made: {reason}")]
    Refused {
        /// The rule it breaks.
        reason: String,
    },
    /// A scan that another engine asks for, and that there cannot be.
    #[error("the scan cannot be planned: {reason}")]
    InvalidScan {
        /// What is wrong with it.
        reason: String,
    },
    /// A view whose query would be known in fewer dialects than before.
    #[error("the view has its query in another dialect of SQL as well, which would be lost")]
    DialectLost,
    /// What another engine takes for granted, and is not so.
    #[error("the table is not as the change requires: {reason}")]
    Unmet {
        /// What is not so.
        reason: String,
    },
    /// A fault of our own.
    #[error("a table could not be {doing}: {reason}")]
    Internal {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        reason: String,
    },
}

impl Error {
    /// An object store's error about a file, told apart by what is behind it.
    pub fn storage(
        location: impl Into<String>,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        let location = location.into();
        if is_disk_full(&source) {
            return Error::DiskFull { location };
        }
        if let Some(trouble) = Trouble::of(&source) {
            return Error::Cloud { location, trouble, source: Box::new(source) };
        }
        if is_missing(&source) {
            return Error::Missing { location };
        }
        Error::Storage { location, source: Box::new(source) }
    }

    /// Whether rows do not fit the columns of a table.
    pub fn is_misfit(&self) -> bool {
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

    /// Whether nobody could tell what is in a file, and somebody may a little later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Error::Cloud { trouble, .. } if trouble.is_passing())
    }

    /// Whether a file of the table is gone.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Missing { .. })
    }

    /// Whether a file is gone, or does not hold what it should, so that trying again changes nothing.
    pub fn is_unreadable(&self) -> bool {
        match self {
            Error::Missing { .. }
            | Error::Corrupt { .. }
            | Error::OutsideWarehouse { .. }
            | Error::Unsupported { .. }
            | Error::Storage { .. } => true,
            Error::Cloud { trouble, .. } => !trouble.is_passing(),
            _ => false,
        }
    }

    /// The file that it is about, where it is about one that could not be read.
    pub(crate) fn location(&self) -> Option<&str> {
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

    /// The error behind what a stream of rows ended with, about a file.
    pub(crate) fn from_arrow(location: &str, error: ArrowError) -> Self {
        match error {
            ArrowError::ExternalError(source) => match source.downcast::<Error>() {
                Ok(error) => *error,
                Err(source) => Error::corrupt(location, source),
            },
            other => Error::corrupt(location, other),
        }
    }

    /// A file that does not hold what it should.
    pub(crate) fn corrupt(location: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Error::Corrupt { location: location.into(), reason: reason.to_string() }
    }

    /// Something that cannot fail, and did.
    pub(crate) fn internal(doing: &'static str, reason: impl std::fmt::Display) -> Self {
        Error::Internal { doing, reason: reason.to_string() }
    }
}

/// Whether an error comes from a disk, or a disk limit, that is full.
pub(crate) fn is_disk_full(error: &(dyn StdError + 'static)) -> bool {
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

fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

impl From<Error> for ArrowError {
    fn from(error: Error) -> Self {
        ArrowError::ExternalError(Box::new(error))
    }
}

/// What lies beneath an error, outermost first, each said once.
fn causes(error: &Error) -> Vec<String> {
    let beneath = chain(error).skip(1).map(ToString::to_string);
    let mut causes: Vec<String> = beneath.collect();
    causes.dedup();
    causes
}

/// The code of what made a stream of rows fail: its own where it has one.
fn input_code(error: &ArrowError) -> ErrorCode {
    if let ArrowError::ExternalError(inner) = error {
        if let Some(problem) = inner.downcast_ref::<Problem>() {
            return problem.code;
        }
        if let Some(error) = inner.downcast_ref::<Error>() {
            return error.code();
        }
    }
    match error {
        ArrowError::CastError(_)
        | ArrowError::ParseError(_)
        | ArrowError::CsvError(_)
        | ArrowError::JsonError(_)
        | ArrowError::ComputeError(_)
        | ArrowError::DivideByZero
        | ArrowError::ArithmeticOverflow(_)
        | ArrowError::InvalidArgumentError(_) => ErrorCode::BadRow,
        _ if is_disk_full(error) => ErrorCode::DiskFull,
        ArrowError::IoError(..) => ErrorCode::Storage,
        _ => ErrorCode::Internal,
    }
}

/// The problem that a stream of rows ended with, where it brings one of its own.
fn input_problem(error: &Error) -> Option<Problem> {
    let Error::Input(ArrowError::ExternalError(inner)) = error else { return None };
    let own = || inner.downcast_ref::<Error>().map(Fault::to_problem);
    inner.downcast_ref::<Problem>().cloned().or_else(own)
}

impl Fault for Error {
    /// Rows that could not be made are reported as whoever made them reports it.
    fn to_problem(&self) -> Problem {
        input_problem(self).unwrap_or_else(|| Problem {
            code: self.code(),
            message: self.to_string(),
            causes: causes(self),
            hint: self.hint(),
            context: self.context(),
        })
    }

    fn context(&self) -> BTreeMap<String, serde_json::Value> {
        match self {
            Error::Unmet { reason } => [("requirement".to_owned(), reason.as_str().into())].into(),
            _ => BTreeMap::new(),
        }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Error::UnsupportedType { .. }
            | Error::InvalidType { .. }
            | Error::InvalidColumn { .. }
            | Error::NeedsVersion3 { .. }
            | Error::NoColumns
            | Error::InvalidProperty { .. }
            | Error::InvalidPartition { .. }
            | Error::PartitionNotFound { .. }
            | Error::SnapshotNotFound { .. }
            | Error::InvalidWarehouse { .. }
            | Error::InvalidCloud { .. }
            | Error::DialectLost
            | Error::InvalidScan { .. }
            | Error::Refused { .. } => ErrorCode::InvalidArgument,
            Error::ColumnExists { .. } | Error::WarehouseTaken { .. } => ErrorCode::AlreadyExists,
            Error::ColumnNotFound { .. } => ErrorCode::ColumnNotFound,
            Error::MissingColumn { .. }
            | Error::NullValue { .. }
            | Error::WrongType { .. }
            | Error::BadValue { .. } => ErrorCode::BadRow,
            Error::Input(source) => input_code(source),
            Error::TableChanged { .. } | Error::Unmet { .. } => ErrorCode::CommitConflict,
            Error::Unsupported { .. }
            | Error::OldFormat { .. }
            | Error::Unread { .. }
            | Error::Unwritten { .. } => ErrorCode::UnsupportedStatement,
            Error::Corrupt { .. } => ErrorCode::Corrupt,
            Error::DiskFull { .. } => ErrorCode::DiskFull,
            Error::Missing { .. } | Error::Storage { .. } | Error::Cloud { .. } => {
                ErrorCode::Storage
            }
            Error::OutsideWarehouse { .. } | Error::Internal { .. } => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::UnsupportedType { .. } => "Cast the column to another type, such as string.",
            Error::InvalidType { .. } => {
                "Use one of boolean, int, long, float, double, decimal(p, s), date, time, \
                 timestamp, timestamptz, timestamp_ns, timestamptz_ns, string, uuid, binary, list<t>, map<k, v>, struct<name: t>."
            }
            Error::ColumnNotFound { near: Some(near), .. }
            | Error::PartitionNotFound { near: Some(near), .. } => {
                return Some(format!("Did you mean `{near}`?"));
            }
            Error::ColumnNotFound { .. } => "Name a column of the table, or add this one first.",
            Error::PartitionNotFound { .. } => {
                "Name a field of the table's partition spec, as `ts_day` or `day(ts)`."
            }
            Error::InvalidPartition { .. } => {
                "Partition by a column of the table, as `column`, `day(column)` or `bucket(16, column)`."
            }
            Error::NeedsVersion3 { .. } => {
                "Make the table with TBLPROPERTIES ('format-version' = '3'), or upgrade it: \
                 ALTER TABLE … SET TBLPROPERTIES ('format-version' = '3')."
            }
            Error::OldFormat { .. } => {
                "Upgrade it: ALTER TABLE … SET TBLPROPERTIES ('format-version' = '2')."
            }
            Error::MissingColumn { .. } => "Give the rows that column.",
            Error::NullValue { .. } => "Fill the nulls, or leave the rows out.",
            Error::WrongType { .. } => "Cast the column to the table's type.",
            Error::BadValue { .. } => "Correct the value, or replace the table with a wider type.",
            Error::TableChanged { .. } => "Try again.",
            Error::DialectLost => {
                "Drop the view and make it anew, or set its property \
                 `replace.drop-dialect.allowed` to `true` first."
            }
            Error::Unread { .. } => "Select the other columns by name.",
            Error::Unwritten { .. } => "Write with the engine that created the column.",
            Error::Unmet { .. } => "Load the table again, and make the change anew.",
            Error::DiskFull { .. } => "Free some space and try again.",
            Error::InvalidWarehouse { .. } => {
                "Name it as `s3://bucket/prefix`, `gs://bucket/prefix` or \
                 `abfss://container@account.dfs.core.windows.net/prefix`; or say `local` for the lake's \
                 own folder."
            }
            Error::InvalidCloud { .. } => {
                "Correct the cloud's variables in the environment, and start the server again."
            }
            Error::WarehouseTaken { .. } => {
                "Choose another prefix: each lake removes what it does not know. If that lake is gone, \
                 remove its `headwater-lake.json` there."
            }
            Error::Cloud { trouble, .. } => trouble.hint(),
            Error::SnapshotNotFound { .. } => {
                "Read the table at a commit, as in `\"TABLE@COMMIT\"`; `headwater log` lists them."
            }
            Error::Missing { .. } => {
                "Read a later commit where this one's files were expired by upkeep; otherwise \
                 restore the file from a backup, or go back to an earlier commit."
            }
            Error::Corrupt { .. } => {
                "Restore the file from a backup, or go back to an earlier commit."
            }
            Error::InvalidColumn { .. }
            | Error::NoColumns
            | Error::InvalidProperty { .. }
            | Error::ColumnExists { .. }
            | Error::Input(_)
            | Error::OutsideWarehouse { .. }
            | Error::Unsupported { .. }
            | Error::InvalidScan { .. }
            | Error::Refused { .. }
            | Error::Storage { .. }
            | Error::Internal { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(kind: ErrorKind) -> object_store::Error {
        let source = Box::new(std::io::Error::from(kind));
        object_store::Error::Generic { store: "LocalFileSystem", source }
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let error = Error::storage("file:///w/a", generic(ErrorKind::StorageFull));
        assert_eq!(error.code(), ErrorCode::DiskFull);
        assert_eq!(error.to_string(), "no space is left to write `file:///w/a`");
        let error = Error::storage("file:///w/a", generic(ErrorKind::PermissionDenied));
        assert_eq!(error.code(), ErrorCode::Storage);
        let error = Error::Input(ArrowError::from(std::io::Error::from(ErrorKind::QuotaExceeded)));
        assert_eq!(error.code(), ErrorCode::DiskFull);
    }

    #[test]
    fn rows_that_could_not_be_made_keep_their_own_code() {
        let problem = Problem::new(ErrorCode::MemoryLimit, "too much");
        let error = Error::Input(ArrowError::ExternalError(Box::new(problem)));
        assert_eq!(error.code(), ErrorCode::MemoryLimit);
        assert_eq!(error.to_problem().message, "too much");
    }
}
