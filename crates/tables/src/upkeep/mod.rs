//! Maintenance of tables: selection of files to compact, sorted rewrites, obsolete delete files,
//! and the files reachable from a table's state.
//!
//! Nothing here changes rows or commits. The lake crate commits with the operations
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
pub(crate) use self::order::sorted_positions;
pub use self::order::{Order, SortColumn};
pub use self::reach::{Extent, FoundFile, Lead, Reached};
