//! What keeps a table small and clean: which files are put together, in what order their rows are
//! written, which delete files concern nothing any more, and what a state of a table leads to.
//!
//! Nothing here changes a row, and nothing is committed: the lake does that, with the operations
//! [`crate::Operation::Compact`], [`crate::Operation::ArrangeManifests`] and
//! [`crate::Operation::ExpireSnapshots`].

mod bins;
mod dangling;
mod keys;
mod manifests;
mod order;
mod reach;

pub(crate) use self::bins::target_file_bytes;
pub use self::bins::{Bin, Packing};
pub(crate) use self::keys::Keys;
pub(crate) use self::order::places;
pub use self::order::{Order, SortColumn};
pub use self::reach::{Extent, FoundFile, Lead, Reached};
