//! Backfills: the values of a parameter for which a project runs, and their outcomes.
//!
//! This crate runs nothing.

mod parameter_values;
mod partition_values;
mod report;
mod retry;

pub use parameter_values::{ParameterValues, check_values};
pub use partition_values::partition_values;
pub use report::{BackfillReport, ValueReport, ValueStatus};
