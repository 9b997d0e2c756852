//! The details of errors of table operations that clients receive: codes, hints, causes.

use std::collections::BTreeMap;

use arrow::error::ArrowError;
use headwater_model::{ErrorCode, Problem, ToProblem};

use crate::Error;
use crate::error::{chain, is_disk_full};

/// Returns the messages of the source errors, outermost first, without consecutive duplicates.
fn causes(error: &Error) -> Vec<String> {
    let messages = chain(error).skip(1).map(ToString::to_string);
    let mut causes: Vec<String> = messages.collect();
    causes.dedup();
    causes
}

/// Returns the error code for an error of the stream of rows to write. If the error wraps a
/// problem, the code is the code of the problem.
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

/// Returns the problem that an error of the input rows wraps; `None` for other errors.
fn input_problem(error: &Error) -> Option<Problem> {
    let Error::Input(ArrowError::ExternalError(inner)) = error else { return None };
    let own = || inner.downcast_ref::<Error>().map(ToProblem::to_problem);
    inner.downcast_ref::<Problem>().cloned().or_else(own)
}

impl ToProblem for Error {
    /// Returns the problem of the stream of rows unchanged if the error wraps one.
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
            Error::ColumnNotFound { .. } => "Name a column of the table, or add the column first.",
            Error::PartitionNotFound { .. } => {
                "Name a field of the table's partition spec, as `ts_day` or `day(ts)`."
            }
            Error::InvalidPartition { .. } => {
                "Partition by a column of the table, as `column`, `day(column)` or `bucket(16, column)`."
            }
            Error::NeedsVersion3 { .. } => {
                "Create the table with TBLPROPERTIES ('format-version' = '3'), or upgrade the \
                 table: ALTER TABLE … SET TBLPROPERTIES ('format-version' = '3')."
            }
            Error::OldFormat { .. } => {
                "Upgrade the table: ALTER TABLE … SET TBLPROPERTIES ('format-version' = '2')."
            }
            Error::MissingColumn { .. } => "Add the column to the rows.",
            Error::NullValue { .. } => "Replace the nulls, or leave these rows out.",
            Error::WrongType { .. } => "Cast the column to the table's type.",
            Error::BadValue { .. } => "Correct the value, or change the column to a wider type.",
            Error::TableChanged { .. } => "Retry the statement.",
            Error::DialectLost => {
                "First set the view's property `replace.drop-dialect.allowed` to `true`, or drop \
                 the view."
            }
            Error::Unread { .. } => "Select the other columns by name.",
            Error::Unwritten { .. } => "Write with the engine that created the column.",
            Error::Unmet { .. } => "Reload the table and retry the commit.",
            Error::DiskFull { .. } => "Free some space and try again.",
            Error::InvalidWarehouse { .. } => {
                "Use `s3://bucket/prefix`, `gs://bucket/prefix` or \
                 `abfss://container@account.dfs.core.windows.net/prefix`; or `local` for the lake's \
                 own folder."
            }
            Error::InvalidCloud { .. } => {
                "Correct the cloud's environment variables and restart the server."
            }
            Error::WarehouseTaken { .. } => {
                "Choose another prefix: each lake deletes unknown files in its warehouse. If the \
                 other lake no longer exists, delete the file `headwater-lake.json` in the \
                 warehouse."
            }
            Error::Cloud { trouble, .. } => trouble.hint(),
            Error::SnapshotNotFound { .. } => {
                "Read the table at a commit, as in `\"TABLE@COMMIT\"`: see `headwater log`."
            }
            Error::Missing { .. } => {
                "If maintenance expired the commit's files, read a later commit. Otherwise \
                 restore the file from a backup or revert to an earlier commit."
            }
            Error::Corrupt { .. } => {
                "Restore the file from a backup or revert to an earlier commit."
            }
            Error::OutsideWarehouse { .. } => "Mount a moved lake at its original path.",
            Error::InvalidColumn { .. }
            | Error::NoColumns
            | Error::InvalidProperty { .. }
            | Error::ColumnExists { .. }
            | Error::Input(_)
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
    use std::io::ErrorKind;

    use super::*;

    fn generic(kind: ErrorKind) -> object_store::Error {
        let source = Box::new(std::io::Error::from(kind));
        object_store::Error::Generic { store: "LocalFileSystem", source }
    }

    #[test]
    fn a_full_disk_has_its_own_error_code() {
        let error = Error::storage("file:///w/a", generic(ErrorKind::StorageFull));
        assert_eq!(error.code(), ErrorCode::DiskFull);
        assert_eq!(error.to_string(), "no space is left to write `file:///w/a`");
        let error = Error::storage("file:///w/a", generic(ErrorKind::PermissionDenied));
        assert_eq!(error.code(), ErrorCode::Storage);
        let error = Error::Input(ArrowError::from(std::io::Error::from(ErrorKind::QuotaExceeded)));
        assert_eq!(error.code(), ErrorCode::DiskFull);
    }

    #[test]
    fn an_input_error_keeps_its_own_code() {
        let problem = Problem::new(ErrorCode::MemoryLimit, "too much");
        let error = Error::Input(ArrowError::ExternalError(Box::new(problem)));
        assert_eq!(error.code(), ErrorCode::MemoryLimit);
        assert_eq!(error.to_problem().message, "too much");
    }
}
