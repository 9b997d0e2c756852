//! Three-way merge of two states of a table by content.
//!
//! Metadata, files and, where both sides changed the same files, rows are merged separately.
//! [`merge`] computes the result and writes nothing; [`TableMerge::commit`] commits it to our side.
//! Incompatible changes are reported as [`Clash`]es with the affected files and rows.
//!
//! This crate moves no ref and knows no branches: `lake` merges the tables of two commits with it.

mod clash;
mod columns;
mod commit;
mod common;
mod files;
mod history;
mod lost;
mod merge;
mod paired;
mod record;
mod rows;
mod shape;

pub use clash::{Cause, Clash, Side};
pub use commit::MadeMerge;
pub use merge::{Merged, MergedRows, TableMerge, merge, only_arranged};
pub use paired::ChangedRow;
pub use rows::RowBudget;
