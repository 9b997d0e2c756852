//! Panics of Arrow and DataFusion as errors.

use std::any::Any;

use datafusion::common::DataFusionError;

use crate::error::Error;

/// Panics of Arrow where a column of a batch has more than its offsets can say.
const TOO_LARGE: [&str; 4] =
    ["offset overflow", "capacity overflow", "failed to create layout", "failed to round"];

/// Message of a panic that is no fault of the statement.
pub(crate) const PANICKED: &str = "a part of the statement panicked";

/// A panic as an error. A batch that is too large is an error of the statement, not a fault.
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
