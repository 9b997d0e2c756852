//! The memory limit that all statements of an engine share.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The sum of the bytes that all statements have reserved, with its limit.
#[derive(Debug)]
pub struct TotalMemory {
    limit: usize,
    used: AtomicUsize,
}

impl TotalMemory {
    /// Creates a total with a limit in bytes.
    pub fn new(limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        TotalMemory { limit, used: AtomicUsize::new(0) }
    }

    /// Reserves bytes. Returns false, and reserves nothing, if the total would exceed the limit.
    pub fn try_grow(&self, additional: usize) -> bool {
        let fits = |used: usize| used.checked_add(additional).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Reserves bytes even if the total exceeds the limit.
    pub fn grow(&self, additional: usize) {
        self.used.fetch_add(additional, Ordering::Relaxed);
    }

    /// Releases reserved bytes.
    pub fn shrink(&self, by: usize) {
        self.used.fetch_sub(by, Ordering::Relaxed);
    }

    /// Returns the reserved bytes.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}
