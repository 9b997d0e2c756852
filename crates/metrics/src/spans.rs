//! Metrics of the export of traces.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The result of the export of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanResult {
    /// The collector received the span.
    Exported,
    /// The queue was full.
    Dropped,
    /// The collector rejected the span or was unavailable.
    Failed,
}

impl SpanResult {
    const ALL: [SpanResult; 3] = [SpanResult::Exported, SpanResult::Dropped, SpanResult::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            SpanResult::Exported => "exported",
            SpanResult::Dropped => "dropped",
            SpanResult::Failed => "failed",
        }
    }
}

/// The number of spans by result. Clones share the metrics.
#[derive(Debug, Clone, Default)]
pub struct SpanMetrics(Arc<[AtomicU64; SpanResult::ALL.len()]>);

impl SpanMetrics {
    /// Counts spans.
    pub fn count(&self, result: SpanResult, spans: u64) {
        self.0[result as usize].fetch_add(spans, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> [(&'static str, u64); SpanResult::ALL.len()] {
        SpanResult::ALL
            .map(|result| (result.as_str(), self.0[result as usize].load(Ordering::Relaxed)))
    }
}
