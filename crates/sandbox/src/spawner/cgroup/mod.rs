//! Control groups: limits and measurements of a process including its descendants.
//!
//! If the controllers are in version 2, one group per process is sufficient. On hybrid hosts,
//! version 1 groups enforce the limits, and version 2 groups kill and measure processes. Without
//! delegation, an ordinary user cannot create groups; then [`Cgroups::memory`] returns false.

mod files;
mod group;
mod hierarchies;

pub(super) use files::remove_tree;
pub(crate) use group::ProcessCgroups;
pub(super) use group::{CpuWeight, GroupUsage};
pub(crate) use hierarchies::Cgroups;
pub(super) use hierarchies::PREFIX;
