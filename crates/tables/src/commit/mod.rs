//! Commits: the transition from one table state to the next.
//!
//! All metadata files of a commit (manifests, manifest list, metadata file) are encoded in memory,
//! then written and fsynced together. A failed commit deletes the metadata files that it wrote. The
//! caller must delete the data files.

pub(crate) mod alter;
mod change;
mod checks;
mod columns;
pub(crate) mod evolve;
pub(crate) mod manifests;
mod metadata;
mod null_checks;
mod operation;
pub(crate) mod partition_and_sort_order;
mod snapshot;
mod store;
mod summary;

pub use self::change::RowChange;
pub use self::metadata::{commit_metadata, edited_metadata, metadata_builder};
pub(crate) use self::operation::commit;
pub(crate) use self::store::{PendingFiles, store_as};
pub use self::summary::CommitKind;
