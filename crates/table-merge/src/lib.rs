//! Three-way merge of two states of a table by content.
//!
//! Metadata and files are merged separately. If both sides changed the same files, the rows in
//! these files are merged. [`merge`] computes the result and writes nothing; [`TableMerge::commit`]
//! commits it to our side. Incompatible changes are reported as [`Conflict`]es with the affected
//! files and rows.
//!
//! This crate does not access refs or branches. The crate `lake` uses it to merge the tables of two
//! commits.

mod changed_rows;
mod columns;
mod commit;
mod conflict;
mod files;
mod group_decision;
mod included_changes;
mod key_conflicts;
mod lost_updates;
mod merge;
mod merge_inputs;
mod metadata;
mod multiset_merge;
mod row_lineage;
mod shared_changes;
mod side_history;
mod snapshot_effect;
mod summary;

pub use changed_rows::ChangedRow;
pub use commit::CommittedMerge;
pub use conflict::{Cause, Conflict, MergeSide};
pub use merge::{MergeCounts, TableMerge, TableMergeResult, merge};
pub use merge_inputs::{EqualChanges, MergeInputs};
pub use multiset_merge::RowBudget;
pub use side_history::only_compacted;
