//! Converts panics of Arrow and DataFusion to errors.

use std::any::Any;

use datafusion::common::DataFusionError;

use crate::error::Error;

/// Messages of Arrow's panics if a column is larger than its 32-bit offsets can address.
const TOO_LARGE: [&str; 4] =
    ["offset overflow", "capacity overflow", "failed to create layout", "failed to round"];

/// Error message for a panic that is a bug.
pub(crate) const PANICKED: &str = "the execution of the statement panicked";

/// Converts a panic to an error. A batch that is too large is an error in the statement, not a bug.
pub fn panic_error(panic: &(dyn Any + Send)) -> DataFusionError {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("");
    let lower = text.to_lowercase();
    if TOO_LARGE.iter().any(|known| lower.contains(known)) {
        let message = "one batch of rows has more than 2 GiB in a column".to_owned();
        return DataFusionError::External(Box::new(Error::BatchTooLarge { message }));
    }
    DataFusionError::Internal(PANICKED.to_owned())
}
