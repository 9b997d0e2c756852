//! Backfills: the values of a parameter for which a project runs, and their outcomes.
//!
//! This crate runs nothing.

mod partitions;
mod report;
mod retry;
mod values;

pub use partitions::partition_values;
pub use report::{BackfillReport, ValueReport, ValueStatus};
pub use values::{ParameterValues, check_values};
