//! Tables and views through Iceberg's REST catalog: creation, commits, registration and scan
//! planning. Requests use the types of its specification; the `iceberg` crate's builder creates the
//! next metadata.
//!
//! [`NewTable`] creates a table, [`TableCommit`] changes one: it consists of requirements and
//! updates. The files of a commit were written by a client. So each must be in the warehouse and
//! readable, and is made durable before the commit is accepted. This crate updates no ref.

mod apply;
mod create;
mod files;
mod limits;
mod new_files;
mod register;
mod rest_tables;
mod scan;
mod schema_input;
mod table_checks;
mod table_commit;
mod view;

pub use create::NewTable;
pub use headwater_tables::{Error, Result, ScanPlan};
pub use limits::CommitLimits;
pub use rest_tables::RestTables;
pub use scan::{Condition, Filter, Predicate, Scan, ScanPage, ScanRequest};
pub use table_commit::TableCommit;
pub use view::{NewView, ViewCommit};
