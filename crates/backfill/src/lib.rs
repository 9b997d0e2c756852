//! Backfills: the values of a parameter for which a project runs, and their outcomes.
//!
//! This crate runs nothing.

mod parameter_values;
mod partitions;
mod report;
mod retry;

pub use parameter_values::{ParameterValues, check_values};
pub use partitions::partition_values;
pub use report::{BackfillReport, ValueReport, ValueStatus};
