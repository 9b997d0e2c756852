//! Which data files are put together: small ones of one partition, up to the size that files are to
//! have, and those that lost so many rows that reading past them costs more than writing the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{DataFile, Result, Table, Tables};

/// What is worth to be written anew.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Packing {
    /// Files of less than this share of the size that files are to have are small.
    pub small_share: f64,
    /// How many small files a partition has at least before they are put together.
    pub files_min: usize,
    /// The share of rows that are gone from which on a file is written anew.
    pub deleted_share: f64,
    /// The number of delete files about a file from which on it is written anew.
    pub delete_files: usize,
    /// Whether every file with rows that are gone is written anew.
    pub folds_all: bool,
    /// Files that were added after are left alone: somebody may be changing rows who has not seen them.
    pub before: Option<headwater_model::Timestamp>,
    /// Whether a file is left alone that is much larger than all that would be put to it, so that
    /// a row is written anew only as often as its file doubles.
    pub thrifty: bool,
}

impl Default for Packing {
    fn default() -> Self {
        Packing {
            small_share: 0.75,
            files_min: 2,
            deleted_share: 0.1,
            delete_files: 5,
            folds_all: false,
            before: None,
            thrifty: false,
        }
    }
}

/// Data files of one partition that are written anew together.
#[derive(Debug, Clone)]
pub struct Bin {
    /// The files, oldest first.
    pub files: Vec<Arc<DataFile>>,
}

impl Bin {
    /// Bytes of the files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// A file, and whether it lost so much that it is written anew even alone.
type Candidate = (Arc<DataFile>, bool);

impl Tables {
    /// The size that data files of a table are to have, in bytes.
    pub fn target_file_bytes(&self, table: &Table) -> u64 {
        target_file_bytes(table).unwrap_or(self.options().target_file_bytes)
    }

    /// The files of a table's current snapshot that are worth to be put together.
    pub async fn bins(&self, table: &Table, packing: &Packing) -> Result<Vec<Bin>> {
        // Rows of which something is not read are not written again.
        if table.foreign_column().is_some() {
            return Ok(Vec::new());
        }
        let plan = self.plan(table, None).await?;
        let target = self.target_file_bytes(table);
        let small = (target as f64 * packing.small_share) as u64;
        let metadata = table.metadata();
        let is_new = |file: &DataFile| {
            let added = file.entry.snapshot_id.and_then(|id| metadata.snapshot_by_id(id));
            let before = packing.before.map(|before| before.timestamp_millis());
            added.zip(before).is_some_and(|(added, before)| added.timestamp_ms() > before)
        };
        let files: Vec<Arc<DataFile>> =
            plan.files().iter().filter(|file| !is_new(file)).cloned().collect();
        let gone = self.deleted_of_all(files.clone()).await?;
        let mut partitions: BTreeMap<(i32, &str), Vec<Candidate>> = BTreeMap::new();
        for (file, gone) in files.iter().zip(gone) {
            let gone = gone.map_or(0, |gone| gone.before(file.rows));
            let thin = file.has_deletes()
                && (packing.folds_all
                    || gone as f64 >= file.rows as f64 * packing.deleted_share
                    || file.delete_files() >= packing.delete_files);
            if thin || file.bytes < small {
                let partition = partitions.entry((file.spec_id, &file.partition)).or_default();
                partition.push((file.clone(), thin));
            }
        }
        let packed = partitions.into_values().flat_map(|files| pack(files, target, packing));
        Ok(packed.collect())
    }

    /// All files of a table's current snapshot, those of each partition together.
    pub async fn whole_partitions(&self, table: &Table) -> Result<Vec<Bin>> {
        let plan = self.plan(table, None).await?;
        let mut partitions: BTreeMap<(i32, &str), Vec<Arc<DataFile>>> = BTreeMap::new();
        for file in plan.files().iter() {
            partitions.entry((file.spec_id, &file.partition)).or_default().push(file.clone());
        }
        Ok(partitions.into_values().map(|files| Bin { files }).collect())
    }
}

/// The size that a table's property asks for.
pub(crate) fn target_file_bytes(table: &Table) -> Option<u64> {
    let property = table.metadata().properties().get("write.target-file-size-bytes");
    property.and_then(|bytes| bytes.parse().ok()).filter(|bytes| *bytes > 0)
}

/// Packs the files of a partition, oldest first, into bins of about the target size.
fn pack(files: Vec<Candidate>, target: u64, packing: &Packing) -> Vec<Bin> {
    let small = files.iter().filter(|(_, thin)| !thin).count();
    let mut bins = Vec::new();
    let (mut bin, mut bytes): (Vec<Candidate>, u64) = (Vec::new(), 0);
    for candidate in files {
        if !candidate.1 && small < packing.files_min {
            continue;
        }
        bytes += candidate.0.bytes;
        bin.push(candidate);
        if bytes >= target {
            bins.push(std::mem::take(&mut bin));
            bytes = 0;
        }
    }
    bins.push(bin);
    bins.into_iter().filter_map(|bin| worthwhile(bin, packing)).collect()
}

/// The file that is much larger than all others of a bin, and lost few rows; none where none is.
fn too_large(bin: &[Candidate]) -> Option<usize> {
    let all: u64 = bin.iter().map(|(file, _)| file.bytes).sum();
    let largest = bin.iter().enumerate().max_by_key(|(_, (file, _))| file.bytes);
    let (at, (file, thin)) = largest?;
    (!thin && file.bytes > 2 * (all - file.bytes)).then_some(at)
}

/// The files of a bin that are worth to be written anew together; none where there are none.
fn worthwhile(mut bin: Vec<Candidate>, packing: &Packing) -> Option<Bin> {
    let mut large = if packing.thrifty { too_large(&bin) } else { None };
    while let Some(at) = large {
        bin.remove(at);
        large = too_large(&bin);
    }
    let worth = bin.len() > 1 || bin.iter().any(|(_, thin)| *thin);
    worth.then(|| Bin { files: bin.into_iter().map(|(file, _)| file).collect() })
}
