//! Arrow data in memory files: written once, sealed, and mapped by every process that reads it.
//!
//! [`MemoryFile`] is the file, [`SharedTable`] the Arrow IPC file inside it. A sealed file can
//! change no more, whoever holds it; so its mapping is plain immutable memory. What another process
//! wrote is untrusted all the same: it is checked before a single array is built over it.

mod file;
mod mapping;
mod table;

pub(crate) use file::MemoryFile;
pub use table::SharedTable;
