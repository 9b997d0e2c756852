//! What was read before and cannot change: tables, manifests and file lists, by location.
//!
//! Every file of Iceberg's is immutable, so nothing here is ever stale. Each part has a bound in bytes.

use std::sync::Arc;

use iceberg::spec::ManifestFile;
use moka::sync::Cache;

use crate::Table;
use crate::manifest::Decoded;
use crate::plan::DataFile;

/// The manifests and data files of one snapshot.
#[derive(Debug)]
pub(crate) struct SnapshotFiles {
    /// As the manifest list names them.
    pub(crate) manifests: Vec<ManifestFile>,
    /// Oldest first.
    pub(crate) files: Arc<[Arc<DataFile>]>,
}

/// The three caches.
#[derive(Debug)]
pub(crate) struct Caches {
    pub(crate) tables: Cache<String, Table>,
    pub(crate) manifests: Cache<String, Arc<Decoded>>,
    pub(crate) snapshots: Cache<String, Arc<SnapshotFiles>>,
}

/// What an entry takes beside its content, in bytes.
const ENTRY_BYTES: usize = 256;

impl Caches {
    /// Caches that hold `bytes` together.
    pub(crate) fn new(bytes: u64) -> Self {
        let manifests = Cache::builder()
            .max_capacity(bytes / 2)
            .weigher(|_: &String, decoded: &Arc<Decoded>| decoded.weight);
        let snapshots = Cache::builder()
            .max_capacity(bytes / 4)
            .weigher(|_: &String, files: &Arc<SnapshotFiles>| weight_of(files));
        let tables = Cache::builder()
            .max_capacity(bytes / 4)
            .weigher(|_: &String, table: &Table| table.weight());
        Caches {
            tables: tables.build(),
            manifests: manifests.build(),
            snapshots: snapshots.build(),
        }
    }
}

fn weight_of(snapshot: &SnapshotFiles) -> u32 {
    let bytes = ENTRY_BYTES * (1 + snapshot.manifests.len() + 2 * snapshot.files.len());
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
