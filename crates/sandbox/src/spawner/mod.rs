//! The spawner: a small single-threaded process next to the server that creates every other
//! process.
//!
//! The server is large and has many threads, so it never forks. The server sends requests and file
//! descriptors to the spawner over a socket. The spawner clones a child into new namespaces and a
//! control group, and reports its exit. After the server's end of the socket closes, the spawner
//! kills its children, removes the control groups and exits.
//!
//! This module runs only in the spawner and its children, except [`cgroup`] and
//! [`cgroup_registry`], which the server also uses.

pub(crate) mod cgroup;
pub(crate) mod cgroup_registry;
mod clone_sandbox;
mod landlock;
mod main_loop;
mod managed_process;
mod memory_sampling;
mod mounts;
mod pending_clone;
mod process_setup;
mod process_start;
mod requests;
mod root_filesystem;
mod sandbox_sockets;
mod seccomp;
mod system_calls;
mod time_slice;

pub use main_loop::spawner_main;
pub use mounts::tmpfs;
pub use time_slice::{set_default_time_slice, set_short_time_slice};
