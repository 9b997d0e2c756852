//! The arena's library, which zygotes have preloaded where a server has it switched on.
//!
//! With it an instance has its large allocations in a file of the server's own, so that what it returns
//! lies there already when it is handed over. It is off in every process that does not switch it on.

use std::path::Path;

use crate::preload::Preload;
use crate::{Environment, Result};

const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/arena.so"));

/// Environments with these packages do without: what they allocate gets slower by it.
const WITHOUT: [&str; 1] = ["duckdb"];

/// The library in a folder of the server's.
#[derive(Debug, Clone)]
pub(crate) struct Arena(Preload);

impl Arena {
    /// Writes the library where it is not there yet.
    pub(crate) fn install(folder: &Path) -> Result<Arena> {
        Preload::install(folder, "arena", LIBRARY).map(Arena)
    }

    /// Whether functions of an environment may have it.
    pub(crate) fn suits(environment: &Environment) -> bool {
        let is_without = |package: &String| WITHOUT.contains(&package.as_str());
        !environment.requested.iter().any(is_without)
    }

    /// What a process that has it loads first.
    pub(crate) fn library(&self) -> Preload {
        self.0.clone()
    }

    /// A variable of a process that has it.
    pub(crate) fn variable() -> (String, String) {
        // Arrow's other allocators keep what they were given before the arena was there.
        ("ARROW_DEFAULT_MEMORY_POOL".to_owned(), "system".to_owned())
    }
}
