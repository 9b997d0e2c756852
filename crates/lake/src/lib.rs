//! The lake: the one crate in which the catalog's commits and the tables' files meet.
//!
//! [`Lake`] is the handle. A [`View`] is one commit, to read from. A [`Transaction`] changes any
//! number of tables on a branch in one commit, or none. [`diff_tables`] compares two states by
//! metadata, [`Lake::merge`] merges branches. Every protocol writes through this crate, so that
//! no partial change stays behind.

mod adopt;
mod columns;
mod describe;
mod diff;
mod error;
mod imported_files;
mod lake;
mod merge;
mod project;
mod required;
mod sample;
mod transaction;
mod upkeep;
mod view;
mod warehouse;
mod write;

pub use diff::{DiffSide, SameColumn, diff_tables};
pub use error::{Error, Result};
pub use imported_files::{FileStamp, IMPORTS_KEY, Imported, ImportedFile, ImportedFiles};
pub use lake::{Lake, LakeOptions};
pub use merge::{MergeOptions, conflict_problem, with_rerun_hint};
pub use project::PROPERTY_PROJECT;
pub use sample::json_rows;
pub use transaction::Transaction;
pub use upkeep::{UPKEEP_AUTHOR, UpkeepProgress, check_maintain};
pub use view::View;
pub use warehouse::WarehouseOptions;
pub use write::{WriteRows, new_columns, nullable};

/// Rows on their way into a table or out of one.
pub use headwater_catalog::TableChange;
pub use headwater_tables::BatchStream;
/// How the clouds' object stores are reached, and for how long.
pub use headwater_tables::{CloudSettings, Patience};
/// What other engines ask for, through Iceberg's REST catalog.
pub use headwater_tables::{NewTable, NewView, TableCommit, ViewCommit};
