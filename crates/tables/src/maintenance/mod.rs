//! Maintenance of tables: files to compact, sorted rewrites, delete files without data files, and
//! the files reachable from a table's state.
//!
//! This module changes no rows and commits nothing. The lake crate commits the changes with the
//! operations [`crate::TableOperation::Compact`], [`crate::TableOperation::ArrangeManifests`] and
//! [`crate::TableOperation::ExpireSnapshots`].

mod bin_pack;
mod dangling_deletes;
mod manifest_count;
mod reachability;
mod sort_keys;
mod sorted_read;

pub(crate) use self::bin_pack::target_file_bytes;
pub use self::bin_pack::{Bin, BinPackOptions, MaintenancePlanner};
pub use self::reachability::{
    ReachableFiles, SnapshotSet, StateReport, WarehouseFile, WarehouseFiles,
};
pub(crate) use self::sort_keys::SortKeyEncoder;
pub(crate) use self::sorted_read::sorted_positions;
pub use self::sorted_read::{RowOrder, SortColumn};
