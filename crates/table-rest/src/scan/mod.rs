//! Plans scans for other engines, as Iceberg's REST specification defines: finds the data files
//! with rows that may match a filter, their delete files, and their residual filters.

mod content;
mod filter;
mod literal;
mod pages;
mod residual;

pub use self::filter::{Condition, Filter, Predicate};
pub use self::pages::{Scan, ScanPage, ScanRequest};
