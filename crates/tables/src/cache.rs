//! Caches of immutable files: tables, manifest lists, manifests and file lists, by location.
//!
//! Iceberg's files never change, so entries never become stale. A commit adds the files that it
//! wrote, so that the next commit and the next plan read nothing. Each cache has a limit in bytes.

use std::sync::Arc;

use iceberg::spec::ManifestFile;
use moka::sync::Cache;

use crate::cached_manifest::CachedManifest;
use crate::deletes::{DeletedKeys, Fingerprint, PositionsByFile};
use crate::file_stat_cache::{BYTES_PER_FILE_MAX, FileStatCache};
use crate::{DataFile, Positions, SqlView, Table};

/// The manifests of a snapshot, in the order of the manifest list.
pub(crate) type SnapshotManifests = Arc<[ManifestFile]>;

/// The data files of a snapshot, oldest first.
pub(crate) type SnapshotFiles = Arc<[Arc<DataFile>]>;

/// The caches. Entries of a snapshot have the location of its manifest list as key.
#[derive(Debug)]
pub(crate) struct Caches {
    pub(crate) tables: Cache<String, Table>,
    pub(crate) views: Cache<String, SqlView>,
    pub(crate) lists: Cache<String, SnapshotManifests>,
    pub(crate) manifests: Cache<String, Arc<CachedManifest>>,
    /// First row ids of manifests, by location: a part of the keys in the manifest cache.
    pub(crate) first_row_ids: Cache<String, u64>,
    pub(crate) files: Cache<String, (SnapshotFiles, Arc<FileStatCache>)>,
    /// Deleted rows of a data file, by its location and the fingerprint of its delete files.
    pub(crate) deleted: Cache<(String, Fingerprint), Arc<Positions>>,
    /// Deleted positions by data file, for each list of a partition's position delete files.
    pub(crate) named: Cache<Fingerprint, Arc<PositionsByFile>>,
    /// Keys of deleted rows, by the fingerprint of equality delete files.
    pub(crate) keys: Cache<Fingerprint, Arc<DeletedKeys>>,
}

/// Maximum number of manifests whose first row ids are cached.
const FIRST_ROW_IDS_MAX: u64 = 100_000;

/// Estimated memory of a cache entry in addition to its value, in bytes.
const ENTRY_BYTES: usize = 256;

/// Approximate size of an entry in a manifest list, in bytes.
const ROW_BYTES: usize = 512;

/// Size of the pointers by which a cached file list refers to one data file, in bytes.
const POINTER_BYTES: usize = 16;

impl Caches {
    /// Creates the caches, with a total capacity of about `bytes` bytes.
    pub(crate) fn new(bytes: u64) -> Self {
        let eighth = bytes / 8;
        let tables = Cache::builder()
            .max_capacity(eighth * 2)
            .weigher(|_: &String, table: &Table| table.weight());
        let lists = Cache::builder()
            .max_capacity(eighth)
            .weigher(|_: &String, list: &SnapshotManifests| weight(ROW_BYTES * list.len()));
        let manifests = Cache::builder()
            .max_capacity(eighth * 3)
            .weigher(|_: &String, decoded: &Arc<CachedManifest>| decoded.weight);
        let files = Cache::builder().max_capacity(eighth).weigher(
            |_: &String, (files, _): &(SnapshotFiles, Arc<FileStatCache>)| {
                let own = files.iter().filter(|file| file.has_deletes()).count();
                weight((POINTER_BYTES + BYTES_PER_FILE_MAX) * files.len() + ROW_BYTES * own)
            },
        );
        let views = Cache::builder()
            .max_capacity(eighth / 4)
            .weigher(|_: &String, view: &SqlView| weight(view.bytes()));
        let deleted = Cache::builder().max_capacity(eighth / 2).weigher(
            |key: &(String, Fingerprint), positions: &Arc<Positions>| {
                weight(key.0.len() + positions.bytes())
            },
        );
        let named = Cache::builder()
            .max_capacity(eighth / 4)
            .weigher(|_: &Fingerprint, named: &Arc<PositionsByFile>| weight(named.bytes()));
        let keys = Cache::builder()
            .max_capacity(eighth / 4)
            .weigher(|_: &Fingerprint, keys: &Arc<DeletedKeys>| weight(keys.bytes()));
        Caches {
            tables: tables.build(),
            views: views.build(),
            lists: lists.build(),
            manifests: manifests.build(),
            first_row_ids: Cache::builder().max_capacity(FIRST_ROW_IDS_MAX).build(),
            files: files.build(),
            deleted: deleted.build(),
            named: named.build(),
            keys: keys.build(),
        }
    }
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(ENTRY_BYTES + bytes).unwrap_or(u32::MAX)
}
