//! The narrow store: all durable state that is not a table's files.
//!
//! State is one of three things: an immutable object named by the hash of its bytes, a ref (a name that
//! holds a small value, changed by compare-and-swap), or an entry of a journal (appended, read from a
//! position, newest by key). One [`Store::apply`] changes any number of them, all or nothing, and is
//! durable when it returns.
//!
//! [`SqliteStore`] keeps them in one file that several processes may use at once; [`MemoryStore`] keeps
//! them for a test. Both pass one conformance suite, and it asks for nothing PostgreSQL could not do.

mod batch;
mod error;
mod memory;
mod range;
mod sqlite;
mod store;

pub use batch::{Append, Applied, Batch, Expected, RefChange, Unique};
pub use error::{Error, Result};
pub use memory::MemoryStore;
pub use range::{Entry, KeyRange};
pub use sqlite::{SqliteOptions, SqliteStore};
pub use store::Store;
