//! The memory limit that all statements of an engine share.
//!
//! A cache can use the memory that statements do not use. It must release this memory as soon as a
//! statement needs it.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Makes a cache use at most this many bytes. Returns the bytes that the cache released.
pub type ShrinkCache = Box<dyn Fn(u64) -> u64 + Send + Sync>;

/// The sum of the bytes that all statements have reserved, with its limit.
pub struct TotalMemory {
    limit: usize,
    used: AtomicUsize,
    cache: OnceLock<ShrinkCache>,
}

impl fmt::Debug for TotalMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.used();
        f.debug_struct("TotalMemory")
            .field("limit", &self.limit)
            .field("used", &used)
            .finish_non_exhaustive()
    }
}

impl TotalMemory {
    /// Creates a total with a limit in bytes.
    pub fn new(limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        TotalMemory { limit, used: AtomicUsize::new(0), cache: OnceLock::new() }
    }

    /// Sets the function that shrinks the cache which uses the unused memory. Only the first call
    /// has an effect.
    pub fn set_cache(&self, shrink: ShrinkCache) {
        self.cache.get_or_init(|| shrink);
    }

    /// Reserves bytes. Returns false, and reserves nothing, if the total would exceed the limit.
    /// The memory of the cache does not count; the cache is shrunk if necessary.
    pub fn try_grow(&self, additional: usize) -> bool {
        let fits = |used: usize| used.checked_add(additional).filter(|sum| *sum <= self.limit);
        let fits = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if fits {
            self.shrink_cache();
        }
        fits
    }

    /// Reserves bytes even if the total exceeds the limit.
    pub fn grow(&self, additional: usize) {
        self.used.fetch_add(additional, Ordering::Relaxed);
        self.shrink_cache();
    }

    /// Releases reserved bytes.
    pub fn shrink(&self, by: usize) {
        self.used.fetch_sub(by, Ordering::Relaxed);
    }

    /// Returns the reserved bytes.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns the bytes that no statement has reserved.
    pub fn unused(&self) -> u64 {
        self.limit.saturating_sub(self.used()) as u64
    }

    /// Releases all memory of the cache. Returns the bytes that the cache released.
    pub fn clear_cache(&self) -> u64 {
        self.cache.get().map_or(0, |shrink| shrink(0))
    }

    fn shrink_cache(&self) {
        if let Some(shrink) = self.cache.get() {
            shrink(self.unused());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn a_cache_gives_way_to_statements() {
        let total = TotalMemory::new(100);
        let cached = Arc::new(AtomicU64::new(60));
        let shrunk = Arc::clone(&cached);
        total.set_cache(Box::new(move |bytes| {
            let before = shrunk.fetch_min(bytes, Ordering::Relaxed);
            before.saturating_sub(bytes)
        }));
        assert!(total.try_grow(40));
        assert_eq!(cached.load(Ordering::Relaxed), 60);
        assert!(total.try_grow(50));
        assert_eq!((cached.load(Ordering::Relaxed), total.unused()), (10, 10));
        assert!(!total.try_grow(20));
        assert_eq!(cached.load(Ordering::Relaxed), 10);
        total.shrink(90);
        assert_eq!((total.clear_cache(), total.clear_cache()), (10, 0));
    }
}
