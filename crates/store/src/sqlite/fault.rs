//! SQLite's answers, as the store's errors.

use std::sync::Arc;

use crate::Error;

/// Primary result codes of SQLite; the upper bits of a code tell more.
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CONSTRAINT: i32 = 19;
const NOT_A_DATABASE: i32 = 26;
/// The shared index could not grow, for which there is no other reason than a full disk.
const SHARED_MEMORY_SIZE: i32 = 4874;

/// What an answer means to the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Another process holds the lock; it may be tried again.
    Busy,
    /// A guard, and nothing else in the schema, refused.
    Guard,
    /// Anything else.
    Other,
}

pub(super) fn kind(error: &sqlx::Error) -> Kind {
    match code(error).map(|code| code & 0xff) {
        Some(BUSY | LOCKED) => Kind::Busy,
        Some(CONSTRAINT) => Kind::Guard,
        _ => Kind::Other,
    }
}

/// The store's error for an answer to an attempt to `what`.
pub(super) fn error(what: &str, error: sqlx::Error) -> Error {
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

/// SQLite's extended result code.
fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}
