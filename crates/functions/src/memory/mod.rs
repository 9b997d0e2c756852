//! Arrow data in memory files: written once, sealed, and mapped by every process that reads it.
//!
//! [`MemoryFile`] is the file, [`SharedTable`] the Arrow IPC file inside it. A sealed file can
//! change no more, whoever holds it; so its mapping is plain immutable memory. What another process
//! wrote is untrusted all the same: it is checked before a single array is built over it.
//!
//! What functions return lies in files of [`Pages`] where the host allows that, and may refer to the
//! files of their inputs: [`Pieces`] says which bytes of a table lie where.
//!
//! Rows that a function reads as they come lie in a few [`Chunk`]s, which only the server writes to, and
//! again and again.
//!
//! A [`Room`] bounds what tables take in memory. What goes beyond lies in files on disk without a
//! name, which functions map like any other, and which the server reads piece by piece.

mod allowance;
mod chunk;
mod disk;
mod file;
mod gather;
mod growing;
mod ipc;
mod lease;
mod mapping;
mod pages;
mod parts;
mod pieces;
mod room;
mod shape;
mod stream;
mod table;

pub(crate) use chunk::Chunk;
pub(crate) use file::MemoryFile;
pub(crate) use gather::{Gathered, bytes_of, suits};
pub(crate) use pages::{Made, Pages};
pub(crate) use parts::Parts;
pub(crate) use pieces::{Extent, GivenFile};
pub use room::Room;
pub(crate) use room::Taken;
pub use table::SharedTable;
pub(crate) use table::aside;
