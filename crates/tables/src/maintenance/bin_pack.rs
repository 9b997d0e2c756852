//! Selects data files to compact: small files of one partition, up to the target size, and files
//! with many deleted rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{DataFile, Result, Table, Tables};

/// Thresholds for compaction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BinPackOptions {
    /// A file is small if its size is below this fraction of the target size.
    pub small_share: f64,
    /// Minimum number of small files in a partition. If there are fewer, they are not compacted.
    pub files_min: usize,
    /// A file is rewritten if at least this fraction of its rows is deleted.
    pub deleted_share: f64,
    /// Minimum number of delete files that must apply to a data file for it to be rewritten.
    pub delete_files: usize,
    /// True to rewrite every data file to which delete files apply, regardless of their number.
    pub folds_all: bool,
    /// Files added after this time are skipped: changes that started earlier do not know them.
    pub before: Option<headwater_model::Timestamp>,
    /// True to skip a file that is much larger than all other files of its bin together. Each row
    /// is then rewritten only O(log n) times, n being the final size of its file.
    pub skip_large: bool,
}

impl Default for BinPackOptions {
    fn default() -> Self {
        BinPackOptions {
            small_share: 0.75,
            files_min: 2,
            deleted_share: 0.1,
            delete_files: 5,
            folds_all: false,
            before: None,
            skip_large: false,
        }
    }
}

/// Data files of one partition to rewrite together.
#[derive(Debug, Clone)]
pub struct Bin {
    /// The files, oldest first.
    pub files: Vec<Arc<DataFile>>,
}

impl Bin {
    /// Returns the total size of the files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// A candidate, and true if its deletes are a sufficient reason to rewrite it.
type RewriteCandidate = (Arc<DataFile>, bool);

/// Selects the files that maintenance rewrites. See [`Tables::maintenance`].
#[derive(Debug, Clone, Copy)]
pub struct MaintenancePlanner<'a> {
    pub(crate) tables: &'a Tables,
}

impl MaintenancePlanner<'_> {
    /// Returns the target size of a table's data files, in bytes.
    pub fn target_file_bytes(self, table: &Table) -> u64 {
        target_file_bytes(table).unwrap_or(self.tables.options().target_file_bytes)
    }

    /// Returns the files of a table's current snapshot that should be compacted.
    pub async fn bins(self, table: &Table, options: &BinPackOptions) -> Result<Vec<Bin>> {
        // If a column cannot be read, the files cannot be rewritten.
        if table.foreign_column().is_some() {
            return Ok(Vec::new());
        }
        let plan = self.tables.plan(table, None).await?;
        let target = self.target_file_bytes(table);
        let small = (target as f64 * options.small_share) as u64;
        let metadata = table.metadata();
        let is_new = |file: &DataFile| {
            let added = file.entry.snapshot_id.and_then(|id| metadata.snapshot_by_id(id));
            let before = options.before.map(|before| before.timestamp_millis());
            added.zip(before).is_some_and(|(added, before)| added.timestamp_ms() > before)
        };
        let files: Vec<Arc<DataFile>> =
            plan.files().iter().filter(|file| !is_new(file)).cloned().collect();
        let deleted = self.tables.deletes().deleted_of_all(files.clone()).await?;
        let mut partitions: BTreeMap<(i32, &str), Vec<RewriteCandidate>> = BTreeMap::new();
        for (file, deleted) in files.iter().zip(deleted) {
            let deleted = deleted.map_or(0, |deleted| deleted.before(file.rows));
            let needs_rewrite = file.has_deletes()
                && (options.folds_all
                    || deleted as f64 >= file.rows as f64 * options.deleted_share
                    || file.delete_files() >= options.delete_files);
            if needs_rewrite || file.bytes < small {
                let partition = partitions.entry((file.spec_id, &file.partition)).or_default();
                partition.push((file.clone(), needs_rewrite));
            }
        }
        let packed = partitions.into_values().flat_map(|files| pack(files, target, options));
        Ok(packed.collect())
    }

    /// Returns all files of a table's current snapshot, by partition.
    pub async fn whole_partitions(self, table: &Table) -> Result<Vec<Bin>> {
        let plan = self.tables.plan(table, None).await?;
        let mut partitions: BTreeMap<(i32, &str), Vec<Arc<DataFile>>> = BTreeMap::new();
        for file in plan.files().iter() {
            partitions.entry((file.spec_id, &file.partition)).or_default().push(file.clone());
        }
        Ok(partitions.into_values().map(|files| Bin { files }).collect())
    }
}

/// Returns the target size of data files, in bytes, if the table's properties set one.
pub(crate) fn target_file_bytes(table: &Table) -> Option<u64> {
    let property = table.metadata().properties().get("write.target-file-size-bytes");
    property.and_then(|bytes| bytes.parse().ok()).filter(|bytes| *bytes > 0)
}

/// Packs the files of a partition, oldest first, into bins of about the target size.
fn pack(files: Vec<RewriteCandidate>, target: u64, options: &BinPackOptions) -> Vec<Bin> {
    let small = files.iter().filter(|(_, needs_rewrite)| !needs_rewrite).count();
    let mut bins = Vec::new();
    let (mut bin, mut bytes): (Vec<RewriteCandidate>, u64) = (Vec::new(), 0);
    for candidate in files {
        if !candidate.1 && small < options.files_min {
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
    bins.into_iter().filter_map(|bin| select_files(bin, options)).collect()
}

/// Returns the index of a file that is much larger than the other files of the bin and has few
/// deleted rows; `None` if there is no such file.
fn too_large(bin: &[RewriteCandidate]) -> Option<usize> {
    let all: u64 = bin.iter().map(|(file, _)| file.bytes).sum();
    let largest = bin.iter().enumerate().max_by_key(|(_, (file, _))| file.bytes);
    let (at, (file, needs_rewrite)) = largest?;
    (!needs_rewrite && file.bytes > 2 * (all - file.bytes)).then_some(at)
}

/// Returns the files of a bin that should be rewritten; `None` if a rewrite does not pay off.
fn select_files(mut bin: Vec<RewriteCandidate>, options: &BinPackOptions) -> Option<Bin> {
    let mut large = if options.skip_large { too_large(&bin) } else { None };
    while let Some(at) = large {
        bin.remove(at);
        large = too_large(&bin);
    }
    let is_worthwhile = bin.len() > 1 || bin.iter().any(|(_, needs_rewrite)| *needs_rewrite);
    is_worthwhile.then(|| Bin { files: bin.into_iter().map(|(file, _)| file).collect() })
}
