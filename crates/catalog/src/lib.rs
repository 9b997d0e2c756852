//! Git for tables: commits of the whole lake, branches, tags, namespaces, diff and merge.
//!
//! [`Catalog`] is the handle. A commit holds one state of every table as a trie of content-addressed
//! objects, so that a commit writes only the path to what it changed and a branch is one small ref.
//! Every change of a ref is a compare-and-swap in the store, all or nothing, and survives a crash once
//! it was acknowledged. The catalog knows where a table's metadata lies; it opens no file.

mod base;
mod branch;
mod catalog;
mod change;
mod codec;
mod commit;
mod compared;
mod error;
mod heads;
mod log;
mod merge;
mod objects;
mod reach;
mod reference;
mod removed;
mod state;
mod table_history;
mod tag;
mod trie;

pub use base::{Base, MergedBase};
pub use branch::NewBranch;
pub use catalog::Catalog;
pub use change::{CommitRequest, EntryKind, NamespaceChange, TableChange, TableEntry, operation};
pub use compared::Renamed;
pub use error::{Error, Result};
pub use merge::{Checks, Contested, MergeCommit, MergePlan, Stack};
pub use reach::{Reach, ReachedState};
pub use reference::Resolved;
pub use state::State;
pub use table_history::TableState;

/// The scope of unique keys under which the ids of events are kept.
pub const EVENT_SCOPE: &str = "event";
