//! Metrics of the export of spans to an OpenTelemetry collector.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The result of the export of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanExportResult {
    /// The collector received the span.
    Exported,
    /// The queue was full.
    Dropped,
    /// The collector rejected the span or was unavailable.
    Failed,
}

impl SpanExportResult {
    const ALL: [SpanExportResult; 3] =
        [SpanExportResult::Exported, SpanExportResult::Dropped, SpanExportResult::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            SpanExportResult::Exported => "exported",
            SpanExportResult::Dropped => "dropped",
            SpanExportResult::Failed => "failed",
        }
    }
}

/// The number of spans by result. Clones share the metrics.
#[derive(Debug, Clone, Default)]
pub struct SpanExportMetrics(Arc<[AtomicU64; SpanExportResult::ALL.len()]>);

impl SpanExportMetrics {
    /// Counts spans.
    pub fn count(&self, result: SpanExportResult, spans: u64) {
        self.0[result as usize].fetch_add(spans, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> [(&'static str, u64); SpanExportResult::ALL.len()] {
        SpanExportResult::ALL
            .map(|result| (result.as_str(), self.0[result as usize].load(Ordering::Relaxed)))
    }
}
