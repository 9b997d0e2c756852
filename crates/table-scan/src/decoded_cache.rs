//! Cache of decoded columns, which SQL queries share.
//!
//! A column is kept from the second read on, because most columns are read once. The cache uses at
//! most half of the memory that statements do not use. If a statement needs this memory,
//! [`DecodedCache::shrink_to`] evicts the least recently used columns. For a new column, only
//! columns are evicted that were not used for a long time. So a scan of a table that is larger than
//! the cache does not evict its own columns before the next scan reads them. Only one scan at a
//! time collects the values of a column while it decodes them; their memory is counted from the
//! start. If a statement needs this memory, the collected values are discarded, because the scan
//! may wait for its client for a long time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use parking_lot::Mutex;

use crate::column_cache::FileKey;
use crate::decoded_column::{BufferMemory, ColumnKey, DecodedColumn};

/// Divisor of the unused memory: the cache uses at most this part of it.
const UNUSED_SHARE: u64 = 2;

/// A column is kept only if it uses at most 1 / `COLUMN_SHARE` of the limit.
const COLUMN_SHARE: u64 = 4;

/// Bytes that scans must have read since the last use of a column before the column can be evicted
/// for another column, as a multiple of the cache's size.
const STALE_AFTER: u64 = 4;

/// Number of reads after which the older half of the remembered reads is forgotten.
const READS_MAX: usize = 1 << 19;

/// Returns the memory that statements do not use, in bytes.
pub type UnusedMemory = Box<dyn Fn() -> u64 + Send + Sync>;

/// Cache of decoded columns. Clones share the cache.
#[derive(Clone)]
pub struct DecodedCache(Arc<DecodedCacheInner>);

struct DecodedCacheInner {
    bytes_max: u64,
    unused: UnusedMemory,
    /// A copy of [`DecodedCacheState::bytes`], which is read without the lock.
    bytes: AtomicU64,
    state: Mutex<DecodedCacheState>,
}

#[derive(Default)]
struct DecodedCacheState {
    columns: HashMap<ColumnKey, CachedColumn>,
    /// The keys of all columns, ordered by the time of their last use.
    order: BTreeMap<u64, ColumnKey>,
    /// The columns whose values a scan collects while it decodes them.
    filling: HashMap<ColumnKey, CollectedChunks>,
    reads: RememberedReads,
    /// Memory of all columns, and of the values that scans collect while they decode them.
    bytes: u64,
    /// Decoded bytes that scans have read. The cache uses this number as the time.
    clock: u64,
}

struct CachedColumn {
    column: Arc<DecodedColumn>,
    last_use: u64,
}

/// The values of a column that a scan has decoded so far.
#[derive(Default)]
struct CollectedChunks {
    chunks: Vec<ArrayRef>,
    /// Memory that is counted for the chunks.
    bytes: u64,
    /// True if a statement needed the memory. The scan then collects no further chunks.
    is_discarded: bool,
}

/// Hashes of reads, in two generations.
#[derive(Default)]
struct RememberedReads {
    new: HashSet<u64>,
    old: HashSet<u64>,
}

impl fmt::Debug for DecodedCache {
    /// Omits the cached values, because the debug output of plans contains the cache.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodedCache").field("bytes_max", &self.0.bytes_max).finish_non_exhaustive()
    }
}

impl DecodedCache {
    /// Creates a cache that uses at most `bytes_max` bytes, and at most half of the unused memory.
    /// 0 disables the cache.
    pub fn new(bytes_max: u64, unused: UnusedMemory) -> Self {
        DecodedCache(Arc::new(DecodedCacheInner {
            bytes_max,
            unused,
            bytes: AtomicU64::new(0),
            state: Mutex::default(),
        }))
    }

    /// Returns false if the cache is disabled.
    pub fn is_enabled(&self) -> bool {
        self.0.bytes_max > 0
    }

    /// Returns the memory of the cache in bytes.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Evicts the least recently used columns until the cache uses at most `bytes` bytes. If this
    /// does not suffice, discards the values that scans collect. Returns the bytes that were
    /// released.
    pub fn shrink_to(&self, bytes: u64) -> u64 {
        if self.bytes() <= bytes {
            return 0;
        }
        let mut state = self.0.state.lock();
        let before = state.bytes;
        let evicted = state.evict(bytes, u64::MAX);
        let discarded = state.discard(bytes);
        let released = before - state.bytes;
        self.0.bytes.store(state.bytes, Ordering::Relaxed);
        drop(state);
        drop((evicted, discarded));
        released
    }

    /// Records reads of a file's columns. Returns, for each read, true if it was recorded before.
    pub(crate) fn record_reads(&self, file: &FileKey, reads: &[impl Hash]) -> Vec<bool> {
        let mut hashes = Vec::with_capacity(reads.len());
        for read in reads {
            let mut hasher = DefaultHasher::new();
            file.hash(&mut hasher);
            read.hash(&mut hasher);
            hashes.push(hasher.finish());
        }
        let mut state = self.0.state.lock();
        hashes.into_iter().map(|read| state.reads.record(read)).collect()
    }

    /// Returns true if a column with this type is cached. Does not count as a use.
    pub(crate) fn contains(&self, key: &ColumnKey, data_type: &DataType) -> bool {
        let state = self.0.state.lock();
        state.columns.get(key).is_some_and(|cached| cached.column.data_type() == data_type)
    }

    /// Returns a column, if it is cached with this type.
    pub(crate) fn get(&self, key: &ColumnKey, data_type: &DataType) -> Option<Arc<DecodedColumn>> {
        let mut guard = self.0.state.lock();
        let state = &mut *guard;
        let cached = state.columns.get_mut(key)?;
        if cached.column.data_type() != data_type {
            return None;
        }
        state.clock += cached.column.bytes().max(1);
        state.order.remove(&cached.last_use);
        cached.last_use = state.clock;
        state.order.insert(state.clock, key.clone());
        Some(Arc::clone(&cached.column))
    }

    /// Returns a value that collects the chunks of a column while a scan decodes them; `None` if
    /// another scan collects the same column. `bytes` is the estimated memory of the column.
    pub(crate) fn fill(
        &self,
        key: ColumnKey,
        data_type: &DataType,
        bytes: u64,
    ) -> Option<ColumnFill> {
        let mut state = self.0.state.lock();
        // The size in the file can be wrong, and must not make all columns old.
        state.clock = state.clock.saturating_add(bytes.min(self.0.bytes_max));
        if state.filling.contains_key(&key) {
            return None;
        }
        state.filling.insert(key.clone(), CollectedChunks::default());
        drop(state);
        let (cache, data_type) = (self.clone(), data_type.clone());
        Some(ColumnFill { cache, key, data_type, counted: BufferMemory::default() })
    }

    /// Adds a chunk to the collected chunks of a column, and counts its memory. Evicts columns that
    /// were not used for a long time. Returns false, and adds nothing, if the memory is not
    /// sufficient or the chunks were discarded.
    fn collect(&self, key: &ColumnKey, chunk: &ArrayRef, bytes: u64) -> bool {
        let limit = self.0.bytes_max.min((self.0.unused)() / UNUSED_SHARE);
        let Some(left) = limit.checked_sub(bytes) else { return false };
        let mut guard = self.0.state.lock();
        let state = &mut *guard;
        let Some(collected) = state.filling.get(key) else { return false };
        let share = self.0.bytes_max / COLUMN_SHARE;
        if collected.is_discarded || collected.bytes.saturating_add(bytes) > share {
            return false;
        }
        let stale = state.clock.saturating_sub(self.0.bytes_max.saturating_mul(STALE_AFTER));
        let evicted = state.evict(left, stale);
        let fits = state.bytes <= left;
        if let Some(collected) = state.filling.get_mut(key).filter(|_| fits) {
            collected.chunks.push(Arc::clone(chunk));
            collected.bytes += bytes;
            state.bytes += bytes;
        }
        self.0.bytes.store(state.bytes, Ordering::Relaxed);
        drop(guard);
        drop(evicted);
        fits
    }

    /// Removes and returns the collected chunks of a column, whose memory still counts; `None` if
    /// they were discarded.
    fn collected(&self, key: &ColumnKey) -> Option<Vec<ArrayRef>> {
        let mut state = self.0.state.lock();
        let collected = state.filling.get_mut(key).filter(|it| !it.is_discarded)?;
        Some(std::mem::take(&mut collected.chunks))
    }

    /// Keeps a column instead of its collected chunks, unless these were discarded.
    fn keep(&self, key: &ColumnKey, column: DecodedColumn) {
        let mut guard = self.0.state.lock();
        let state = &mut *guard;
        let Some(collected) = state.filling.get_mut(key) else { return };
        if collected.is_discarded || column.bytes() > collected.bytes {
            return;
        }
        state.bytes -= std::mem::take(&mut collected.bytes);
        state.insert(key.clone(), column);
        self.0.bytes.store(state.bytes, Ordering::Relaxed);
    }
}

impl DecodedCacheState {
    /// Evicts the least recently used columns until at most `bytes` bytes are used. Keeps columns
    /// that were used after `before`. Returns the columns; their memory should be freed without the
    /// lock.
    fn evict(&mut self, bytes: u64, before: u64) -> Vec<Arc<DecodedColumn>> {
        let mut evicted = Vec::new();
        while self.bytes > bytes {
            let Some(oldest) = self.order.first_entry().filter(|entry| *entry.key() <= before)
            else {
                break;
            };
            let key = oldest.remove();
            evicted.extend(self.remove(&key));
        }
        evicted
    }

    /// Discards the values that scans collect until at most `bytes` bytes are used. Returns the
    /// chunks; their memory should be freed without the lock.
    fn discard(&mut self, bytes: u64) -> Vec<Vec<ArrayRef>> {
        let mut discarded = Vec::new();
        for collected in self.filling.values_mut().filter(|it| it.bytes > 0) {
            if self.bytes <= bytes {
                break;
            }
            self.bytes -= std::mem::take(&mut collected.bytes);
            collected.is_discarded = true;
            discarded.push(std::mem::take(&mut collected.chunks));
        }
        discarded
    }

    /// Removes a column from the map and from the count of bytes, but not from the order.
    fn remove(&mut self, key: &ColumnKey) -> Option<Arc<DecodedColumn>> {
        let removed = self.columns.remove(key)?;
        self.bytes -= removed.column.bytes();
        Some(removed.column)
    }

    fn insert(&mut self, key: ColumnKey, column: DecodedColumn) {
        if let Some(replaced) = self.columns.get(&key) {
            self.order.remove(&replaced.last_use);
            self.remove(&key);
        }
        self.clock += 1;
        self.bytes += column.bytes();
        self.order.insert(self.clock, key.clone());
        let cached = CachedColumn { column: Arc::new(column), last_use: self.clock };
        self.columns.insert(key, cached);
    }
}

impl RememberedReads {
    /// Records a read. Returns true if it was recorded before.
    fn record(&mut self, read: u64) -> bool {
        let known = self.new.contains(&read) || self.old.contains(&read);
        if self.new.len() >= READS_MAX / 2 {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(read);
        known
    }
}

/// Collects the chunks of a column that a scan is decoding. Dropping the value discards them.
pub(crate) struct ColumnFill {
    cache: DecodedCache,
    key: ColumnKey,
    data_type: DataType,
    counted: BufferMemory,
}

impl ColumnFill {
    /// Adds the next chunk. Returns false if the column does not fit into the cache, or if its
    /// chunks were discarded; the value must then be dropped.
    pub(crate) fn push(&mut self, chunk: &ArrayRef) -> bool {
        let bytes = self.counted.add(chunk);
        self.cache.collect(&self.key, chunk, bytes)
    }

    /// Keeps the column. All of its chunks were added.
    pub(crate) fn finish(self) {
        let Some(chunks) = self.cache.collected(&self.key) else { return };
        self.cache.keep(&self.key, DecodedColumn::new(self.data_type.clone(), chunks));
    }
}

impl Drop for ColumnFill {
    fn drop(&mut self) {
        let mut state = self.cache.0.state.lock();
        let collected = state.filling.remove(&self.key);
        state.bytes -= collected.as_ref().map_or(0, |it| it.bytes);
        self.cache.0.bytes.store(state.bytes, Ordering::Relaxed);
        drop(state);
        drop(collected);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, Int64Array};
    use object_store::path::Path;

    use super::*;

    const ROWS: usize = 1_000;
    const LIMIT: u64 = 100_000;

    fn cache(unused: u64) -> (DecodedCache, Arc<AtomicU64>) {
        let unused = Arc::new(AtomicU64::new(unused));
        let memory = Arc::clone(&unused);
        (DecodedCache::new(LIMIT, Box::new(move || memory.load(Ordering::Relaxed))), unused)
    }

    fn key(column: usize) -> ColumnKey {
        let file = Arc::new(FileKey { path: Path::from("a"), bytes: 1 });
        ColumnKey { file, row_group: 0, column }
    }

    /// Fills a column with one chunk of about 8 kB. Returns true if it is cached.
    fn keep(cache: &DecodedCache, column: usize) -> bool {
        let chunk: ArrayRef = Arc::new((0..ROWS as i64).collect::<Int64Array>());
        let mut fill = cache.fill(key(column), &DataType::Int64, 8_000).unwrap();
        if fill.push(&chunk) {
            fill.finish();
        }
        cache.contains(&key(column), &DataType::Int64)
    }

    #[test]
    fn a_read_is_known_from_the_second_time_on() {
        let (cache, _) = cache(u64::MAX);
        let file = FileKey { path: Path::from("a"), bytes: 1 };
        assert_eq!(cache.record_reads(&file, &["x", "y"]), [false, false]);
        assert_eq!(cache.record_reads(&file, &["y", "z"]), [true, false]);
        let other = FileKey { path: Path::from("b"), bytes: 1 };
        assert_eq!(cache.record_reads(&other, &["y"]), [false]);
    }

    #[test]
    fn a_column_is_returned_only_with_its_type() {
        let (cache, _) = cache(u64::MAX);
        assert!(keep(&cache, 0));
        assert_eq!(
            cache.get(&key(0), &DataType::Int64).unwrap().slice(0, ROWS).unwrap().len(),
            ROWS
        );
        assert!(cache.get(&key(0), &DataType::Int32).is_none());
        assert!(cache.get(&key(1), &DataType::Int64).is_none());
    }

    #[test]
    fn only_one_scan_collects_a_column_and_dropping_it_releases_the_memory() {
        let (cache, _) = cache(u64::MAX);
        let mut first = cache.fill(key(0), &DataType::Int64, 1).unwrap();
        assert!(cache.fill(key(0), &DataType::Int64, 1).is_none());
        let chunk: ArrayRef = Arc::new(Int64Array::from(vec![1; ROWS]));
        assert!(first.push(&chunk) && cache.bytes() > 8_000);
        drop(first);
        assert_eq!(cache.bytes(), 0);
        assert!(cache.fill(key(0), &DataType::Int64, 1).is_some());
    }

    #[test]
    fn a_wrong_size_in_a_file_evicts_no_column() {
        let (cache, _) = cache(u64::MAX);
        assert!(keep(&cache, 0));
        for column in 1..4 {
            assert!(cache.fill(key(column), &DataType::Int64, u64::MAX).is_some());
        }
        assert!(keep(&cache, 1) && cache.contains(&key(0), &DataType::Int64));
        assert!(cache.shrink_to(0) > 16_000);
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn a_statement_gets_the_memory_of_values_that_a_scan_collects() {
        let (cache, _) = cache(u64::MAX);
        let chunk: ArrayRef = Arc::new(Int64Array::from(vec![1; ROWS]));
        let mut waiting = cache.fill(key(0), &DataType::Int64, 1).unwrap();
        assert!(waiting.push(&chunk));
        assert!(cache.shrink_to(1_000) > 8_000);
        assert_eq!((cache.bytes(), Arc::strong_count(&chunk)), (0, 1));
        // The scan continues, and keeps nothing.
        assert!(!waiting.push(&chunk));
        waiting.finish();
        assert!(!cache.contains(&key(0), &DataType::Int64));
        assert_eq!((cache.bytes(), Arc::strong_count(&chunk)), (0, 1));
        assert!(keep(&cache, 0));
    }

    #[test]
    fn the_cache_uses_at_most_half_of_the_unused_memory() {
        let (cache, unused) = cache(40_000);
        let kept = (0..10).filter(|column| keep(&cache, *column)).count();
        assert_eq!(kept, 2);
        unused.store(u64::MAX, Ordering::Relaxed);
        assert!((0..100).filter(|column| keep(&cache, *column)).count() > 2);
        assert!(cache.bytes() <= LIMIT);
        // A statement needs the memory.
        assert!(cache.shrink_to(10_000) > 0 && cache.bytes() <= 10_000);
        assert_eq!(cache.shrink_to(10_000), 0);
        assert!(cache.shrink_to(0) > 8_000);
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn a_scan_that_is_larger_than_the_cache_keeps_its_first_columns() {
        let (cache, _) = cache(u64::MAX);
        let mut kept: Vec<usize> = (0..20).filter(|column| keep(&cache, *column)).collect();
        assert!(kept.len() > 5 && kept.len() < 20);
        for _ in 0..10 {
            let found = |column: &usize| {
                cache.get(&key(*column), &DataType::Int64).is_some() || keep(&cache, *column)
            };
            assert_eq!((0..20).filter(found).collect::<Vec<_>>(), kept);
        }
        // Columns that are no longer used are evicted.
        kept.clear();
        for _ in 0..10 {
            kept = (100..110)
                .filter(|column| {
                    cache.get(&key(*column), &DataType::Int64).is_some() || keep(&cache, *column)
                })
                .collect();
        }
        assert_eq!(kept.len(), 10);
    }
}
