//! Control groups: limits and measurements of a process and its descendants.
//!
//! With the controllers in version 2, one group does everything. On hybrid hosts version 1 limits,
//! and version 2 kills and measures. Without delegation an ordinary user can create none, which
//! [`Cgroups::memory`] reports.

mod files;
mod group;
mod hierarchies;

pub(super) use files::remove_tree;
pub(crate) use group::Group;
pub(super) use group::{Measured, Weight};
pub(crate) use hierarchies::Cgroups;
pub(super) use hierarchies::PREFIX;
