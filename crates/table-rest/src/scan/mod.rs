//! Scan planning for other engines, as defined by Iceberg's REST specification: the data files that
//! match a filter, their delete files, and their residual filters.

mod content;
mod filter;
mod literal;
mod pages;
mod residual;

pub use self::filter::{Condition, Filter, Predicate};
pub use self::pages::{Scan, ScanPage, ScanRequest};
