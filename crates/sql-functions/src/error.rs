//! Errors of functions, operators and casts.

use std::collections::BTreeMap;

use headwater_model::{ErrorCode, ToProblem};
use headwater_sql::{Error as SqlError, Position};

/// The cause of a failed function or operator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments are invalid, whatever rows the query reads.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// A function's result exceeds the limit of one value, or of all results of a statement.
    #[error(
        "`{function}` needs {} {scope}, but the limit is {}",
        format_bytes(*size),
        format_bytes(*limit)
    )]
    FunctionMemory {
        /// Name of the function or operator.
        function: String,
        /// The requested size, in bytes.
        size: u64,
        /// The part of the results that the limit applies to: `in one value`, `in one batch`, or
        /// `in all batches`.
        scope: &'static str,
        /// The exceeded limit, in bytes.
        limit: u64,
    },
    /// A batch exceeds the capacity of a column format, such as 32-bit offsets.
    #[error("{message}")]
    BatchTooLarge {
        /// Message of the Arrow error.
        message: String,
    },
}

impl Error {
    /// Returns the position of the error in the text, if it is known.
    pub fn position(&self) -> Option<Position> {
        match self {
            Error::Sql(error) => error.position(),
            Error::FunctionMemory { .. } | Error::BatchTooLarge { .. } => None,
        }
    }
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::Sql(error) => error.code(),
            Error::FunctionMemory { .. } | Error::BatchTooLarge { .. } => ErrorCode::MemoryLimit,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Sql(error) => error.hint(),
            Error::FunctionMemory { .. } => {
                Some("Use shorter values or fewer rows, or raise the memory limit.".to_owned())
            }
            Error::BatchTooLarge { .. } => Some("Use shorter values or fewer rows.".to_owned()),
        }
    }

    fn context(&self) -> BTreeMap<String, serde_json::Value> {
        match self {
            Error::Sql(error) => error.context(),
            Error::FunctionMemory { .. } | Error::BatchTooLarge { .. } => BTreeMap::new(),
        }
    }
}

/// Writes a number of bytes with a binary unit, such as `1.5 MiB`.
pub fn format_bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, size)| count >= *size) {
        Some((unit, size)) if count.is_multiple_of(*size) => format!("{} {unit}", count / size),
        Some((unit, size)) => format!("{:.1} {unit}", count as f64 / *size as f64),
        None => format!("{count} bytes"),
    }
}
