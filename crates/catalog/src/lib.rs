//! Git for tables: commits of the whole lake, branches, tags, namespaces, diff and merge.
//!
//! [`Catalog`] is the handle. A commit holds one state of every table as a trie of content-addressed
//! objects, so that a commit writes only the path to what it changed and a branch is one small ref.
//! Every change of a ref is a compare-and-swap in the store, all or nothing, and survives a crash once
//! it was acknowledged. The catalog knows where a table's metadata lies; it opens no file.

mod catalog;
mod change;
mod error;

pub use catalog::{Catalog, NewBranch, Resolved, State};
pub use change::{CommitRequest, NamespaceChange, TableChange, TableEntry, operation};
pub use error::{Error, Result};

/// The scope of unique keys under which the ids of events are kept.
pub const EVENT_SCOPE: &str = "event";
