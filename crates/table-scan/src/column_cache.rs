//! Cache of the columns that scans read from data files.
//!
//! A cached value is a range of a data file: a column chunk of a row group or, after pruning, some
//! pages of the chunk. The bytes are compressed, as in the file, so a column takes less memory than
//! its decoded values. Data files are immutable, so a cached range is never stale. Deleted rows,
//! renamed columns, row filters and masks are applied to the decoded rows, above the cache. A range
//! that is being read is not read again: other scans wait for it. The memory has a limit; the least
//! recently used range is evicted first. If a range is too large for the cache, each scan reads it
//! separately, and does not wait for another scan.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::runtime::SpawnedTask;
use futures::future::BoxFuture;
use object_store::path::Path;
use parking_lot::Mutex;
use parquet::errors::{ParquetError, Result};
use tokio::sync::watch;

/// Estimated memory of an entry in addition to its bytes.
const ENTRY_BYTES: u64 = 256;

/// A range is cached only if it uses at most 1 / `RANGE_SHARE` of the memory. A larger range could
/// evict all other ranges.
const RANGE_SHARE: u64 = 4;

/// Identity of a data file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FileKey {
    /// Location in the object store.
    pub path: Path,
    /// Size of the file.
    pub bytes: u64,
}

/// A read of ranges of a file.
pub(crate) type ReadFuture = BoxFuture<'static, Result<Vec<Bytes>>>;

/// The result of a read.
#[derive(Debug)]
pub(crate) struct CachedRead {
    /// The bytes of each range.
    pub ranges: Vec<Bytes>,
    /// Number of bytes that this call read from the file.
    pub bytes_read: u64,
    /// Number of bytes that were cached, or that another scan was reading.
    pub bytes_cached: u64,
}

/// Cache of ranges of data files. Clones share the cache.
#[derive(Clone)]
pub(crate) struct ColumnCache(Arc<ColumnCacheInner>);

impl fmt::Debug for ColumnCache {
    /// Omits the cached bytes, because the debug output of plans contains the cache.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ColumnCache").field("bytes_max", &self.0.bytes_max).finish_non_exhaustive()
    }
}

struct ColumnCacheInner {
    bytes_max: u64,
    state: Mutex<ColumnCacheState>,
}

#[derive(Default)]
struct ColumnCacheState {
    /// The cached ranges of each file, by the position of their first byte.
    files: HashMap<Arc<FileKey>, BTreeMap<u64, CachedRange>>,
    /// The starts of all cached ranges, ordered by the time of their last use.
    order: BTreeMap<u64, RangeStart>,
    /// The ranges that a task is reading. The channel of a range closes when its read ends.
    reading: HashMap<RangeKey, watch::Receiver<()>>,
    /// Memory of all cached ranges.
    bytes: u64,
    /// Number of uses so far. The cache uses this number as the time of a use.
    uses: u64,
}

struct CachedRange {
    bytes: Bytes,
    last_use: u64,
}

struct RangeStart {
    file: Arc<FileKey>,
    start: u64,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct RangeKey {
    file: Arc<FileKey>,
    range: Range<u64>,
}

/// Ranges that one task reads. Dropping the claim wakes the scans that wait for these ranges,
/// whether the read succeeded, failed or was cancelled.
struct ReadClaim {
    cache: ColumnCache,
    keys: Vec<RangeKey>,
    _sender: watch::Sender<()>,
}

/// The result of looking up the ranges of a request.
struct CacheLookup {
    /// The ranges that the caller must read.
    claim: ReadClaim,
    /// Positions of the claimed ranges in the request.
    claimed: Vec<usize>,
    /// The ranges that other tasks are reading.
    others: Vec<watch::Receiver<()>>,
}

impl ColumnCache {
    /// Creates a cache that uses at most `bytes_max` bytes of memory.
    pub fn new(bytes_max: u64) -> Self {
        ColumnCache(Arc::new(ColumnCacheInner { bytes_max, state: Mutex::default() }))
    }

    /// Returns ranges of a file. The ranges that are neither cached nor being read are read by one
    /// call of `read`.
    pub async fn read(
        &self,
        file: &Arc<FileKey>,
        ranges: &[Range<u64>],
        read: impl Fn(Vec<Range<u64>>) -> ReadFuture,
    ) -> Result<CachedRead> {
        let mut found: Vec<Option<Bytes>> = vec![None; ranges.len()];
        let mut bytes_read = 0;
        loop {
            let CacheLookup { claim, claimed, others } = self.look_up(file, ranges, &mut found);
            if !claimed.is_empty() {
                let wanted = claimed.iter().map(|index| ranges[*index].clone()).collect();
                let reading = read(wanted);
                // Read in a separate task. Other scans wait for these ranges, and would wait too
                // long if the caller of this method were not polled for some time. Dropping the
                // task cancels the read.
                let task = SpawnedTask::spawn(async move {
                    let new = reading.await?;
                    claim.insert(new)
                });
                let new = match task.join_unwind().await {
                    Ok(new) => new?,
                    Err(error) => return Err(ParquetError::External(Box::new(error))),
                };
                for (index, bytes) in claimed.into_iter().zip(new) {
                    bytes_read += bytes.len() as u64;
                    found[index] = Some(bytes);
                }
            }
            for mut other in others {
                // An error means that the channel was closed: the read has ended.
                let _ = other.changed().await;
            }
            if found.iter().all(Option::is_some) {
                break;
            }
        }
        let ranges: Vec<Bytes> = found.into_iter().flatten().collect();
        let total: u64 = ranges.iter().map(|bytes| bytes.len() as u64).sum();
        Ok(CachedRead { ranges, bytes_read, bytes_cached: total.saturating_sub(bytes_read) })
    }

    /// Finds the cached ranges, and claims the ranges that no task is reading. A range that is too
    /// large to be cached is always claimed: waiting for another scan would not save the read.
    fn look_up(
        &self,
        file: &Arc<FileKey>,
        ranges: &[Range<u64>],
        found: &mut [Option<Bytes>],
    ) -> CacheLookup {
        let (sender, receiver) = watch::channel(());
        let (mut keys, mut claimed, mut others) = (Vec::new(), Vec::new(), Vec::new());
        let mut state = self.0.state.lock();
        for (index, range) in ranges.iter().enumerate() {
            if found[index].is_some() {
                continue;
            }
            found[index] = state.get(file, range);
            if found[index].is_some() {
                continue;
            }
            let key = RangeKey { file: Arc::clone(file), range: range.clone() };
            if self.0.fits(key.bytes()) {
                match state.reading.entry(key.clone()) {
                    Entry::Occupied(other) => {
                        others.push(other.get().clone());
                        continue;
                    }
                    Entry::Vacant(vacant) => {
                        vacant.insert(receiver.clone());
                    }
                }
            }
            keys.push(key);
            claimed.push(index);
        }
        drop(state);
        CacheLookup {
            claim: ReadClaim { cache: self.clone(), keys, _sender: sender },
            claimed,
            others,
        }
    }
}

impl ReadClaim {
    /// Caches the bytes of the claimed ranges, and returns them.
    ///
    /// Fails if the number of bytes differs from the length of a range.
    fn insert(self, read: Vec<Bytes>) -> Result<Vec<Bytes>> {
        let inner = &self.cache.0;
        let lengths = read.iter().map(|bytes| bytes.len() as u64);
        if !lengths.eq(self.keys.iter().map(RangeKey::bytes)) {
            let message = "the object store returned ranges of another length";
            return Err(ParquetError::General(message.to_owned()));
        }
        let mut kept = Vec::with_capacity(read.len());
        for bytes in read {
            // Copy the bytes. They may be part of a larger read, and a cached slice would keep the
            // whole read in memory.
            let fits = inner.fits(bytes.len() as u64);
            kept.push(if fits { Bytes::copy_from_slice(&bytes) } else { bytes });
        }
        let mut state = inner.state.lock();
        for (key, bytes) in self.keys.iter().zip(&kept) {
            if inner.fits(key.bytes()) {
                state.insert(key, bytes.clone(), inner.bytes_max);
            }
        }
        drop(state);
        Ok(kept)
    }
}

impl ColumnCacheInner {
    /// Returns true if a range with this many bytes is small enough to be cached.
    fn fits(&self, bytes: u64) -> bool {
        memory(bytes) <= self.bytes_max / RANGE_SHARE
    }
}

impl RangeKey {
    /// Returns the number of bytes of the range.
    fn bytes(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }
}

impl Drop for ReadClaim {
    fn drop(&mut self) {
        let mut state = self.cache.0.state.lock();
        for key in &self.keys {
            state.reading.remove(key);
        }
    }
}

impl ColumnCacheState {
    /// Returns a range, if one cached range contains it.
    fn get(&mut self, file: &Arc<FileKey>, range: &Range<u64>) -> Option<Bytes> {
        let ranges = self.files.get_mut(file)?;
        let (start, cached) = ranges.range_mut(..=range.start).next_back()?;
        let (from, to) = ((range.start - start) as usize, (range.end - start) as usize);
        if to > cached.bytes.len() {
            return None;
        }
        let used = RangeStart { file: Arc::clone(file), start: *start };
        self.order.remove(&cached.last_use);
        self.uses += 1;
        cached.last_use = self.uses;
        self.order.insert(self.uses, used);
        Some(cached.bytes.slice(from..to))
    }

    /// Caches a range, and evicts other ranges if the memory exceeds the limit.
    fn insert(&mut self, key: &RangeKey, bytes: Bytes, bytes_max: u64) {
        let RangeKey { file, range } = key;
        if self.get(file, range).is_some() {
            return; // Another scan cached the whole column in the meantime.
        }
        for start in self.starts_within(file, range) {
            self.remove(file, start);
        }
        self.uses += 1;
        self.bytes += memory(bytes.len() as u64);
        let used = RangeStart { file: Arc::clone(file), start: range.start };
        self.order.insert(self.uses, used);
        let cached = CachedRange { bytes, last_use: self.uses };
        self.files.entry(Arc::clone(file)).or_default().insert(range.start, cached);
        while self.bytes > bytes_max {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.remove(&oldest.file, oldest.start);
        }
    }

    /// Returns the starts of the cached ranges that the new range `range` replaces: the ranges
    /// inside it, and a range with the same start.
    fn starts_within(&self, file: &Arc<FileKey>, range: &Range<u64>) -> Vec<u64> {
        let Some(ranges) = self.files.get(file) else { return Vec::new() };
        let replaced =
            ranges.range(range.start..range.end.max(range.start)).filter(|(start, cached)| {
                **start == range.start || **start + cached.bytes.len() as u64 <= range.end
            });
        replaced.map(|(start, _)| *start).collect()
    }

    fn remove(&mut self, file: &Arc<FileKey>, start: u64) {
        let Some(ranges) = self.files.get_mut(file) else { return };
        if let Some(removed) = ranges.remove(&start) {
            self.bytes -= memory(removed.bytes.len() as u64);
            self.order.remove(&removed.last_use);
        }
        if ranges.is_empty() {
            self.files.remove(file);
        }
    }
}

/// Returns the memory of a cached range.
fn memory(bytes: u64) -> u64 {
    bytes.saturating_add(ENTRY_BYTES)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures::FutureExt;

    use super::*;

    /// A test file in which each byte is its own position, and the ranges that were read from it.
    #[derive(Clone)]
    struct CountedFile {
        key: Arc<FileKey>,
        reads: Arc<Mutex<Vec<Range<u64>>>>,
        fails: Arc<AtomicBool>,
    }

    impl CountedFile {
        fn new(path: &str) -> Self {
            let key = Arc::new(FileKey { path: Path::from(path), bytes: 200 });
            CountedFile { key, reads: Arc::default(), fails: Arc::default() }
        }

        async fn read(&self, cache: &ColumnCache, ranges: &[Range<u64>]) -> Result<CachedRead> {
            let file = self.clone();
            let read = move |wanted: Vec<Range<u64>>| file.clone().content(wanted).boxed();
            let found = cache.read(&self.key, ranges, read).await?;
            for (range, bytes) in ranges.iter().zip(&found.ranges) {
                assert!(range.clone().map(|position| position as u8).eq(bytes.iter().copied()));
            }
            Ok(found)
        }

        async fn content(self, wanted: Vec<Range<u64>>) -> Result<Vec<Bytes>> {
            self.reads.lock().extend(wanted.iter().cloned());
            tokio::task::yield_now().await;
            if self.fails.swap(false, Ordering::Relaxed) {
                return Err(ParquetError::General("unreachable store".to_owned()));
            }
            let bytes = |range: Range<u64>| -> Vec<u8> { range.map(|at| at as u8).collect() };
            Ok(wanted.into_iter().map(|range| Bytes::from(bytes(range))).collect())
        }

        /// Returns the ranges that were read since the last call.
        fn reads(&self) -> Vec<Range<u64>> {
            self.reads.lock().drain(..).collect()
        }
    }

    fn only(range: Range<u64>) -> [Range<u64>; 1] {
        [range]
    }

    #[tokio::test]
    async fn only_ranges_that_are_not_cached_are_read() {
        let (cache, file) = (ColumnCache::new(1 << 20), CountedFile::new("a"));
        let first = file.read(&cache, &[0..50, 50..80]).await.unwrap();
        assert_eq!((first.bytes_read, first.bytes_cached), (80, 0));
        assert_eq!(file.reads(), [0..50, 50..80]);
        let second = file.read(&cache, &[0..50, 80..100, 50..80]).await.unwrap();
        assert_eq!((second.bytes_read, second.bytes_cached), (20, 80));
        assert_eq!(file.reads(), only(80..100));
        // Pages of a cached column are not read again.
        file.read(&cache, &[10..20, 60..80]).await.unwrap();
        assert!(file.reads().is_empty());
        let other = CountedFile::new("b");
        other.read(&cache, &only(0..50)).await.unwrap();
        assert_eq!(other.reads(), only(0..50));
    }

    #[tokio::test]
    async fn a_whole_column_replaces_its_pages() {
        let (cache, file) = (ColumnCache::new(1 << 20), CountedFile::new("a"));
        file.read(&cache, &[0..10, 40..50]).await.unwrap();
        file.read(&cache, &only(0..100)).await.unwrap();
        assert_eq!(file.reads(), [0..10, 40..50, 0..100]);
        file.read(&cache, &only(45..60)).await.unwrap();
        assert!(file.reads().is_empty());
        assert_eq!(cache.0.state.lock().bytes, 100 + ENTRY_BYTES);
    }

    #[tokio::test]
    async fn concurrent_scans_read_a_range_once() {
        let (cache, file) = (ColumnCache::new(1 << 20), CountedFile::new("a"));
        let ranges = [0..50, 50..100];
        let (one, other) =
            tokio::join!(file.read(&cache, &ranges), file.read(&cache, &ranges[1..]));
        assert_eq!((one.unwrap().bytes_read, other.unwrap().bytes_read), (100, 0));
        assert_eq!(file.reads(), [0..50, 50..100]);
        assert!(cache.0.state.lock().reading.is_empty());
    }

    #[tokio::test]
    async fn a_failed_read_is_repeated_by_the_scan_that_waits_for_it() {
        let (cache, file) = (ColumnCache::new(1 << 20), CountedFile::new("a"));
        file.fails.store(true, Ordering::Relaxed);
        let range = only(0..50);
        let (one, other) = tokio::join!(file.read(&cache, &range), file.read(&cache, &range));
        assert!(one.is_err());
        assert_eq!(other.unwrap().bytes_read, 50);
    }

    #[tokio::test]
    async fn a_cancelled_read_is_repeated_by_the_scan_that_waits_for_it() {
        let (cache, file) = (ColumnCache::new(1 << 20), CountedFile::new("a"));
        let range = only(0..50);
        let mut first = Box::pin(file.read(&cache, &range));
        assert!(first.as_mut().now_or_never().is_none());
        let mut other = Box::pin(file.read(&cache, &range));
        assert!(other.as_mut().now_or_never().is_none());
        drop(first);
        assert_eq!(other.await.unwrap().bytes_read, 50);
        assert!(cache.0.state.lock().reading.is_empty());
    }

    #[tokio::test]
    async fn the_least_recently_used_range_is_evicted() {
        let limit = 4 * (50 + ENTRY_BYTES);
        let (cache, file) = (ColumnCache::new(limit), CountedFile::new("a"));
        file.read(&cache, &[0..50, 50..100, 100..150, 150..200]).await.unwrap();
        file.read(&cache, &only(0..50)).await.unwrap();
        let other = CountedFile::new("b");
        other.read(&cache, &only(0..50)).await.unwrap();
        assert!(cache.0.state.lock().bytes <= limit);
        file.reads();
        file.read(&cache, &[0..50, 50..100]).await.unwrap();
        assert_eq!(file.reads(), only(50..100));
        // A range that is too large for the cache is read each time, and no scan waits for it.
        let whole = only(0..200);
        let (one, other) = tokio::join!(file.read(&cache, &whole), file.read(&cache, &whole));
        assert_eq!((one.unwrap().bytes_read, other.unwrap().bytes_read), (200, 200));
        assert_eq!(file.reads(), [0..200, 0..200]);
    }
}
