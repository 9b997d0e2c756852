//! The arena's library, which zygotes have preloaded: where it lies, so that a sandbox can show it.
//!
//! With it an instance has its large allocations in a file of the server's own, so that what it returns
//! lies there already when it is handed over. It is off in every process that does not switch it on.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{Environment, Error, Result};

const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/arena.so"));

/// Where a sandbox shows it.
pub(crate) const SHOWN: &str = "/headwater-arena.so";

/// Environments with these packages do without: what they allocate gets slower by it.
const WITHOUT: [&str; 1] = ["duckdb"];

/// The library in a folder of the server's.
#[derive(Debug, Clone)]
pub(crate) struct Arena(PathBuf);

impl Arena {
    /// Writes the library where it is not there yet.
    pub(crate) fn install(folder: &Path) -> Result<Arena> {
        let digest = hex::encode(Sha256::digest(LIBRARY));
        let path = folder.join(format!("arena-{}.so", &digest[..16]));
        if !std::fs::read(&path).is_ok_and(|found| found == LIBRARY) {
            let failed = || Error::io("write the arena's library");
            std::fs::create_dir_all(folder).map_err(failed())?;
            let aside = folder.join(format!("arena-{}", uuid::Uuid::new_v4().simple()));
            std::fs::write(&aside, LIBRARY).map_err(failed())?;
            std::fs::rename(&aside, &path).map_err(failed())?;
        }
        Ok(Arena(path))
    }

    /// Whether functions of an environment may have it.
    pub(crate) fn suits(environment: &Environment) -> bool {
        let is_without = |package: &String| WITHOUT.contains(&package.as_str());
        !environment.requested.iter().any(is_without)
    }

    /// What a sandbox shows, and where.
    pub(crate) fn shown(&self) -> (PathBuf, PathBuf) {
        (self.0.clone(), PathBuf::from(SHOWN))
    }

    /// The variables of a process that has it preloaded.
    pub(crate) fn variables() -> [(String, String); 2] {
        // Arrow's other allocators keep what they were given before the arena was there.
        [("LD_PRELOAD", SHOWN), ("ARROW_DEFAULT_MEMORY_POOL", "system")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    }
}
