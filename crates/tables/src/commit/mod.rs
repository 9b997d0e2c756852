//! Commits: the transition from one table state to the next.
//!
//! All metadata files of a commit (manifests, manifest list, metadata file) are encoded in memory,
//! then written and fsynced together. A failed commit deletes the metadata files that it wrote. The
//! caller must delete the data files.

pub(crate) mod alter;
mod column_editor;
mod conflict_checks;
pub(crate) mod create_and_evolve;
mod durable_write;
pub(crate) mod manifests;
mod metadata;
mod new_snapshot;
mod null_checks;
mod operation_commit;
pub(crate) mod partition_and_sort_order;
mod snapshot_update;
mod summary;

pub(crate) use self::durable_write::{PendingFiles, store_as};
pub use self::metadata::{commit_metadata, edited_metadata, metadata_builder};
pub(crate) use self::operation_commit::commit;
pub use self::snapshot_update::SnapshotUpdate;
pub use self::summary::CommitKind;
