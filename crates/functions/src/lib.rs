//! The function runtime: environments, sandboxes, instances and shared Arrow memory.
//!
//! [`Functions`] is the handle. It builds an [`Environment`] for a set of packages, and runs a
//! user's Python function in it: in a process of its own, made by a small spawner process, inside
//! Linux namespaces, under limits, with its inputs mapped from sealed memory files and its output
//! handed back the same way. What a function prints reaches the caller while it runs.
//!
//! This room knows Arrow and processes; it knows nothing of tables. It reads no environment
//! variable and no home folder, and the process that holds [`Functions`] never forks.

mod arena;
mod calls;
mod environment;
mod environments;
mod error;
mod feed;
mod functions;
mod instance;
mod invocation;
mod listen;
mod memory;
mod netlink;
mod network;
mod options;
mod ownership;
mod preload;
mod prompt;
mod queue;
mod rest;
mod spawner;
mod turns;
mod warm;
mod worker;
mod zygote;

pub use environment::{Environment, EnvironmentEvent, EnvironmentSpec};
pub use error::{Error, Frame, Result};
pub use feed::{Rows, Streamed};
pub use functions::Functions;
pub use invocation::{
    Argument, ArgumentValue, FunctionEvent, Invocation, Limits, Outcome, Returned, Returns, Share,
    Variables,
};
pub use memory::{Room, SharedTable};
pub use network::{Host, Network};
pub use options::{FunctionsOptions, Isolation, SpawnCommand, ZygoteOptions};
pub use ownership::make_folder;
pub use spawner::{answer_promptly, spawner_main, work_steadily};
pub use zygote::ZygoteReport;
