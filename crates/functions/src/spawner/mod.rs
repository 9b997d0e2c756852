//! The spawner: a small single-threaded process beside the server that makes every other process.
//!
//! The server, which is large and full of threads, never forks. It asks the spawner over a socket,
//! passing file descriptors; the spawner clones a child into new namespaces and a cgroup, and
//! reports what became of it. When the server's end of the socket closes, however that comes about,
//! the spawner kills what it started, removes the cgroups and ends.
//!
//! [`client`] is the server's side; everything else runs in the spawner or in its children.

mod cgroup;
mod channel;
mod child;
mod children;
mod client;
mod clone;
mod coming;
pub(crate) mod identity;
mod landlock;
mod ledger;
mod memory;
pub(crate) mod mounts;
mod network;
mod plan;
mod root;
mod seccomp;
mod serve;
mod start;
mod system;
mod watch;

pub(crate) use channel::{Channel, Received};
pub(crate) use client::{Running, Spawner};
pub(crate) use plan::{Copied, Ended, Exit, Plan, Sandbox, Signal, Taken, Work};
pub use serve::{answer_promptly, spawner_main, work_steadily};
pub(crate) use system::come_first;
pub(crate) use watch::watch;
