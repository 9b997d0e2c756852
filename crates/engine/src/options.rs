//! Options of engines and sessions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use headwater_lake::CommitView;
use headwater_model::{DEFAULT_NAMESPACE, RateCard, RefSpec};

use crate::SessionRights;

/// Options of an [`crate::Engine`].
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Memory limit of all statements together, in bytes; default 8 GiB.
    pub memory_bytes: u64,
    /// Default memory limit of one statement before it spills, in bytes; default 4 GiB.
    pub query_memory_bytes: u64,
    /// Memory limit of the cache of scanned columns, in bytes; default 128 MiB.
    pub column_cache_bytes: u64,
    /// Memory limit of the cache of decoded columns, in bytes; default 1 GiB, 0 disables the cache.
    /// The cache uses at most half of the memory that statements do not use.
    pub decoded_cache_bytes: u64,
    /// Resident memory of the process, in bytes, above which a statement is cancelled; `None`
    /// disables the check.
    pub resident_bytes_max: Option<u64>,
    /// Folder for spill files, created when first needed; an empty path disables spilling.
    pub spill_dir: PathBuf,
    /// Maximum bytes in the spill folder; default 64 GiB.
    pub spill_bytes_max: u64,
    /// Number of compute threads and scan partitions; default one per CPU.
    pub threads: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            memory_bytes: 8 << 30,
            query_memory_bytes: 4 << 30,
            column_cache_bytes: 128 << 20,
            decoded_cache_bytes: 1 << 30,
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
    /// Ref to read and, if it is a branch, to write.
    pub reference: RefSpec,
    /// Namespace of unqualified table names.
    pub namespace: String,
    /// Principal that runs the statements; author of the commits.
    pub author: String,
    /// Memory limit of one statement before it spills, in bytes; `None` uses the engine's default.
    pub memory_bytes: Option<u64>,
    /// Properties of the commits.
    pub properties: BTreeMap<String, String>,
    /// Properties of every new table snapshot.
    pub snapshot_properties: BTreeMap<String, String>,
    /// Pinned catalog state to read, even if `reference` has moved since; writes still go to
    /// `reference`.
    pub view: Option<CommitView>,
    /// Prices of the resources, for EXPLAIN COST.
    pub rates: RateCard,
    /// Access decisions for the statements; `None` allows everything.
    pub access: Option<Arc<dyn SessionRights>>,
    /// True if statements may call functions in Python. Must be false if a running function waits
    /// for the result: it holds memory, for which the called function could wait forever.
    pub calls_functions: bool,
    /// True if scans use the cache of scanned columns. False for ad-hoc queries, because they would
    /// evict columns that models read.
    pub caches_columns: bool,
}

impl SessionOptions {
    /// Returns the default options at a ref.
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
            rates: RateCard::default(),
            access: None,
            calls_functions: true,
            caches_columns: false,
        }
    }
}
