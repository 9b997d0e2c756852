//! Plans scans for other engines, as Iceberg's REST specification defines. A plan contains the data
//! files with possibly matching rows, their delete files, and their residual filters.

mod content_files;
mod filter;
mod literal;
mod pages;
mod residual;

pub use self::filter::{Condition, Filter, PredicateOperator};
pub use self::pages::{Scan, ScanPage, ScanRequest};
