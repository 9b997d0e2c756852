//! Classification of SQLite errors: retry, rejected batch or failure.

use std::sync::Arc;

use crate::Error;

/// SQLite's primary result codes: the lower eight bits of an extended result code.
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CONSTRAINT: i32 = 19;
const NOT_A_DATABASE: i32 = 26;
/// `SQLITE_IOERR_SHMSIZE`: the WAL index could not grow, because the disk is full.
const SHARED_MEMORY_SIZE: i32 = 4874;

/// The class of an error, which determines how it is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorClass {
    /// Another process holds the lock; the operation is retried.
    Busy,
    /// A precondition of the batch does not hold: its row for the table `guard` broke the check
    /// constraint. No other constraint of the schema can be violated.
    Guard,
    /// Any other error. It is returned to the caller.
    Other,
}

pub(super) fn classify(error: &sqlx::Error) -> ErrorClass {
    match code(error).map(|code| code & 0xff) {
        Some(BUSY | LOCKED) => ErrorClass::Busy,
        Some(CONSTRAINT) => ErrorClass::Guard,
        _ => ErrorClass::Other,
    }
}

/// Converts a database error into an error of the store. `what` is the operation, as an infinitive.
pub(super) fn store_error(what: &str, error: sqlx::Error) -> Error {
    let code = code(&error);
    if code == Some(SHARED_MEMORY_SIZE) {
        return Error::DiskFull;
    }
    match code.map(|code| code & 0xff) {
        Some(BUSY | LOCKED) => Error::Busy,
        Some(FULL) => Error::DiskFull,
        Some(CORRUPT | NOT_A_DATABASE) => Error::Corrupt { reason: error.to_string() },
        _ => Error::Storage { what: what.to_owned(), source: Arc::new(error) },
    }
}

/// Returns SQLite's extended result code.
fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}
