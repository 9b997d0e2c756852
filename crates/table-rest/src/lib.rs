//! Tables and views through Iceberg's REST catalog: creation, commits, registration and scan
//! planning. Requests have the types of Iceberg's specification. The metadata builder of the
//! `iceberg` crate creates the next metadata of a table.
//!
//! A [`NewTable`] creates a table. A [`TableCommit`] changes a table; it consists of requirements
//! and updates. The client has already written the files of a commit. Each file must be in the
//! warehouse and readable, and is made durable before the commit is accepted. This crate does not
//! update refs.

mod apply_updates;
mod commit_constraints;
mod create_table;
mod file_checks;
mod register;
mod rest_tables;
mod scan;
mod schema_input;
mod snapshot_checks;
mod table_checks;
mod table_commit;
mod view;

pub use commit_constraints::CommitConstraints;
pub use create_table::NewTable;
pub use headwater_tables::{Error, Result, ScanPlan};
pub use rest_tables::RestTables;
pub use scan::{Condition, Filter, PredicateOperator, Scan, ScanPage, ScanRequest};
pub use table_commit::TableCommit;
pub use view::{NewView, ViewCommit};
