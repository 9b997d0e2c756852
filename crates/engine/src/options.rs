//! How an engine and a session are set up.

use std::collections::BTreeMap;
use std::path::PathBuf;

use headwater_lake::View;
use headwater_model::{DEFAULT_NAMESPACE, RefSpec};

/// Options of an [`crate::Engine`].
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Memory that all statements together may hold, in bytes.
    pub memory_bytes: u64,
    /// Memory that one statement may hold before it spills, in bytes, where it says nothing itself.
    pub query_memory_bytes: u64,
    /// Resident memory of the process at which a statement is ended, in bytes; none watches
    /// nothing.
    pub resident_bytes_max: Option<u64>,
    /// The folder to spill to, made when it is first needed; without one nothing is spilled.
    pub spill_dir: PathBuf,
    /// Bytes that may lie in the spill folder at once.
    pub spill_bytes_max: u64,
    /// Threads that compute, and parts a scan is split into.
    pub threads: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            memory_bytes: 8 << 30,
            query_memory_bytes: 4 << 30,
            resident_bytes_max: None,
            spill_dir: PathBuf::new(),
            spill_bytes_max: 64 << 30,
            threads: std::thread::available_parallelism().map_or(2, usize::from),
        }
    }
}

/// Options of a [`crate::Session`].
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The ref to read at and, if it is a branch, to write to.
    pub reference: RefSpec,
    /// Where bare table names lie.
    pub namespace: String,
    /// Who asks; the author of what is committed.
    pub author: String,
    /// Memory a statement may hold before it spills, in bytes; the engine's own figure where none
    /// is given.
    pub memory_bytes: Option<u64>,
    /// Properties of what is committed.
    pub properties: BTreeMap<String, String>,
    /// Properties of every table snapshot that is made.
    pub snapshot_properties: BTreeMap<String, String>,
    /// A state to read at, whatever `reference` has moved to since; `reference` still says where to
    /// write.
    pub view: Option<View>,
}

impl SessionOptions {
    /// The defaults at a ref.
    pub fn at(reference: RefSpec) -> Self {
        SessionOptions { reference, ..SessionOptions::default() }
    }
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            reference: RefSpec::main(),
            namespace: DEFAULT_NAMESPACE.to_owned(),
            author: "anonymous".to_owned(),
            memory_bytes: None,
            properties: BTreeMap::new(),
            snapshot_properties: BTreeMap::new(),
            view: None,
        }
    }
}
