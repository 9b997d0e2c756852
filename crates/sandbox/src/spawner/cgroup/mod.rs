//! Control groups: limits and measurements of a process including its descendants.
//!
//! If the controllers are in version 2, one group per process is sufficient. On hybrid hosts,
//! version 1 groups enforce the limits, and version 2 groups kill and measure processes. Without
//! delegation, an ordinary user cannot create groups; then [`CgroupHierarchies::memory`] returns
//! false.

mod control_files;
mod hierarchies;
mod process_cgroups;

pub(super) use control_files::remove_tree;
pub(crate) use hierarchies::CgroupHierarchies;
pub(super) use hierarchies::PREFIX;
pub(crate) use process_cgroups::ProcessCgroups;
pub(super) use process_cgroups::{CpuWeight, GroupUsage};
