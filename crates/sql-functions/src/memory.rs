//! Memory that all statements of an engine hold together.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes held by all statements, with a limit.
#[derive(Debug)]
pub struct TotalMemory {
    limit: usize,
    used: AtomicUsize,
}

impl TotalMemory {
    /// A total of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        TotalMemory { limit, used: AtomicUsize::new(0) }
    }

    /// Adds bytes if they fit; returns whether they do.
    pub fn try_grow(&self, additional: usize) -> bool {
        let fits = |used: usize| used.checked_add(additional).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Adds bytes without a check.
    pub fn grow(&self, additional: usize) {
        self.used.fetch_add(additional, Ordering::Relaxed);
    }

    /// Returns bytes.
    pub fn shrink(&self, by: usize) {
        self.used.fetch_sub(by, Ordering::Relaxed);
    }

    /// The bytes that are held now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}
