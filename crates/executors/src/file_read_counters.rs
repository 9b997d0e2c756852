//! The usage of the files that a statement reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use headwater_ingest::ByteCounter;
use headwater_model::Usage;

/// Counters of the bytes and rows that a statement has read from files so far. Clones share the
/// counters.
#[derive(Debug, Clone, Default)]
pub struct FileReadCounters {
    /// Number of bytes read.
    pub read: ByteCounter,
    /// Number of rows read.
    pub rows: Arc<AtomicU64>,
}

impl FileReadCounters {
    /// Adds the bytes and rows of the files to the usage of a statement.
    pub fn add_to(&self, usage: Usage) -> Usage {
        Usage {
            bytes_read: usage.bytes_read + self.read.get(),
            rows_read: usage.rows_read + self.rows.load(Ordering::Relaxed),
            ..usage
        }
    }
}
