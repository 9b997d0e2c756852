//! Version control of tables, as git does for files: commits of the whole lake, branches, tags,
//! namespaces, diff and merge.
//!
//! [`Catalog`] is the handle. A commit stores the state of all tables as a trie of
//! content-addressed objects. A new commit writes only the nodes on the path to the changed tables,
//! and a branch is one small ref. Refs change atomically by compare-and-swap in the store, and an
//! acknowledged change survives a crash. The catalog stores the location of each table's metadata
//! file, but opens no file.

mod branch;
mod catalog;
mod change;
mod codec;
mod commit;
mod commit_contents;
mod commit_log;
mod deleted_refs;
mod error;
mod head_cache;
mod merge;
mod merge_base;
mod merge_record;
mod object_cache;
mod reachability;
mod ref_resolution;
mod required_checks;
mod table_history;
mod tag;
mod three_way_diff;
mod trie;

pub use branch::NewBranch;
pub use catalog::Catalog;
pub use change::{CommitRequest, EntryKind, NamespaceChange, TableChange, TableEntry, operation};
pub use commit_contents::CommitContents;
pub use deleted_refs::DeletedRefs;
pub use error::{Error, Result};
pub use merge::{CommitSequence, DivergedTable, MergeCommit, MergePlan, MergeSource, Merges};
pub use merge_base::{AmbiguousBase, BaseValue};
pub use reachability::{ReachableState, ReachableStates};
pub use ref_resolution::{RefResolution, is_commit_in};
pub use required_checks::RequiredCheckStatus;
pub use table_history::TableState;
pub use tag::Tags;
pub use three_way_diff::RenamedTable;

/// The scope of the unique keys that record committed event ids.
pub const EVENT_SCOPE: &str = "event";
