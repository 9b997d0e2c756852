//! The metadata store: all durable state except the files of tables.
//!
//! State consists of objects, refs and journals. An object is immutable and identified by its hash.
//! A ref is a name with a small value, changed by compare-and-swap. A journal is an append-only
//! log. Reads of a journal return the entries after a position, or the newest entry of a key.
//! [`Store::apply`] changes any number of objects, refs and journals atomically, and the change is
//! durable when it returns.
//!
//! [`SqliteStore`] keeps the state in one file, which several processes can use concurrently.
//! [`MemoryStore`] is for tests. Both pass the same conformance suite, which a PostgreSQL backend
//! could use as well. Tests change some calls to a store with a [`StoreWrapper`].

mod batch;
mod error;
mod key_range;
mod memory_store;
mod occurrence_journal;
mod reverse_scan;
mod sqlite;
mod store;
mod store_wrapper;

pub use batch::{BatchResult, JournalAppend, RefChange, RefPrecondition, UniqueKey, WriteBatch};
pub use error::{Error, Result};
pub use key_range::{JournalEntry, KeyRange};
pub use memory_store::MemoryStore;
pub use occurrence_journal::OccurrenceJournal;
pub use reverse_scan::ReverseScan;
pub use sqlite::{SqliteOptions, SqliteStore};
pub use store::Store;
pub use store_wrapper::StoreWrapper;
