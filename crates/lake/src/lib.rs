//! The lake: combines the catalog's commits with the files of tables.
//!
//! [`Lake`] is the handle. A [`CommitView`] is a read snapshot of one commit. A [`Transaction`]
//! changes any number of tables on a branch atomically, in one commit. [`diff_tables`] compares two
//! states by metadata, and [`Lake::merge`] merges branches. Every protocol writes through this
//! crate, so that a failed write leaves no partial change.

mod commit_view;
mod describe;
mod diff;
mod error;
mod field_ids;
mod historical_state;
mod imported_files;
mod json_rows;
mod lake;
mod lake_telemetry;
mod maintenance;
mod merge;
mod ref_creation;
mod required_checks;
mod table_project;
mod temporary_branch;
mod transaction;
mod warehouse;
mod write;

pub use commit_view::CommitView;
pub use diff::{ColumnMatch, DiffSide, diff_tables};
pub use error::{Error, Result};
pub use imported_files::{
    FileAttributes, IMPORTS_KEY, ImportedFile, ImportedFileMap, ImportedFiles,
};
pub use json_rows::json_rows;
pub use lake::{Lake, LakeOptions};
pub use lake_telemetry::LakeTelemetry;
pub use maintenance::{MAINTENANCE_AUTHOR, Maintenance, MaintenanceProgress, check_maintain};
pub use merge::{
    MergeOptions, MergeRights, ReadPosition, ReadSet, changed_text, conflict_causes,
    conflict_names, conflict_problem, with_rerun_hint,
};
pub use table_project::PROPERTY_PROJECT;
pub use temporary_branch::TemporaryBranch;
pub use transaction::{
    CommittedRestRequests, RestChanges, Transaction, TransactionSlot, ViewChanges, add_entry,
    set_creator,
};
pub use warehouse::WarehouseOptions;
pub use write::{RowsToWrite, check_append, check_values, new_columns, nullable};

pub use headwater_catalog::TableChange;
pub use headwater_table_merge::EqualChanges;
/// Requests of clients of Iceberg's REST catalog.
pub use headwater_table_rest::{NewTable, NewView, TableCommit, ViewCommit};
pub use headwater_tables::BatchStream;
/// Credentials and timeouts of cloud object stores.
pub use headwater_tables::{CloudSettings, StoreTimeouts};
