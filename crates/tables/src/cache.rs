//! What was read before and cannot change: tables, manifest lists, manifests and file lists, by
//! location.
//!
//! Every file of Iceberg's is immutable, so nothing here is ever stale. What a commit writes is put
//! here at once, so that the next commit and the next plan read nothing. Each part has a bound in
//! bytes.

use std::sync::Arc;

use iceberg::spec::ManifestFile;
use moka::sync::Cache;

use crate::deletes::{Fingerprint, Keys, Named};
use crate::facts::{BYTES_OF_FILE, Facts};
use crate::manifest::Decoded;
use crate::{DataFile, Positions, SqlView, Table};

/// The manifests of a snapshot, as its manifest list names them.
pub(crate) type Manifests = Arc<[ManifestFile]>;

/// The data files of a snapshot, oldest first.
pub(crate) type Files = Arc<[Arc<DataFile>]>;

/// The caches; those about snapshots are keyed by the manifest list's location.
#[derive(Debug)]
pub(crate) struct Caches {
    pub(crate) tables: Cache<String, Table>,
    pub(crate) views: Cache<String, SqlView>,
    pub(crate) lists: Cache<String, Manifests>,
    pub(crate) manifests: Cache<String, Arc<Decoded>>,
    /// The id of the first row of manifests that have one, which is part of the key that they are kept under.
    pub(crate) numbered: Cache<String, u64>,
    pub(crate) files: Cache<String, (Files, Arc<Facts>)>,
    /// Rows that are gone, by data file and by its delete files.
    pub(crate) deleted: Cache<(String, Fingerprint), Arc<Positions>>,
    /// What position deletes of a partition name.
    pub(crate) named: Cache<Fingerprint, Arc<Named>>,
    /// The keys of equality deletes.
    pub(crate) keys: Cache<Fingerprint, Arc<Keys>>,
}

/// How many manifests with ids of rows are known.
const NUMBERED_MAX: u64 = 100_000;

/// What an entry takes beside its content, in bytes.
const ENTRY_BYTES: usize = 256;

/// What a manifest's row in a list takes, in bytes, roughly.
const ROW_BYTES: usize = 512;

/// What a data file takes in a list of those that manifests hold anyway, in bytes.
const POINTER_BYTES: usize = 16;

impl Caches {
    /// Caches that hold about `bytes` together.
    pub(crate) fn new(bytes: u64) -> Self {
        let eighth = bytes / 8;
        let tables = Cache::builder()
            .max_capacity(eighth * 2)
            .weigher(|_: &String, table: &Table| table.weight());
        let lists = Cache::builder()
            .max_capacity(eighth)
            .weigher(|_: &String, list: &Manifests| weight(ROW_BYTES * list.len()));
        let manifests = Cache::builder()
            .max_capacity(eighth * 3)
            .weigher(|_: &String, decoded: &Arc<Decoded>| decoded.weight);
        let files = Cache::builder().max_capacity(eighth).weigher(
            |_: &String, (files, _): &(Files, Arc<Facts>)| {
                let own = files.iter().filter(|file| file.has_deletes()).count();
                weight((POINTER_BYTES + BYTES_OF_FILE) * files.len() + ROW_BYTES * own)
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
            .weigher(|_: &Fingerprint, named: &Arc<Named>| weight(named.bytes()));
        let keys = Cache::builder()
            .max_capacity(eighth / 4)
            .weigher(|_: &Fingerprint, keys: &Arc<Keys>| weight(keys.bytes()));
        Caches {
            tables: tables.build(),
            views: views.build(),
            lists: lists.build(),
            manifests: manifests.build(),
            numbered: Cache::builder().max_capacity(NUMBERED_MAX).build(),
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
