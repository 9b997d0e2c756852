//! The export of spans: a bounded queue, and a thread that sends its spans to a collector.

use std::time::Duration;

use headwater_metrics::{SpanExportMetrics, SpanExportResult};
use opentelemetry_sdk::trace::SpanData;
use tokio::sync::{mpsc, oneshot};

use crate::collector_client::CollectorClient;
use crate::{Error, Result, TelemetryOptions};

/// Maximum number of queued spans. Further spans are dropped.
const QUEUE_MAX: usize = 8_192;

/// Maximum number of spans in one request.
const BATCH_MAX: usize = 512;

/// Time for which a batch is collected.
const GATHER: Duration = Duration::from_millis(200);

/// The queue of spans to export.
#[derive(Debug)]
pub(crate) struct ExportQueue(mpsc::Sender<ExportMessage>);

#[derive(Debug)]
enum ExportMessage {
    Span(Box<SpanData>),
    /// Exports all earlier spans, then replies.
    Flush(oneshot::Sender<()>),
}

impl ExportQueue {
    /// Queues a span. If the queue is full, drops and counts the span.
    pub(crate) fn push(&self, span: SpanData, metrics: &SpanExportMetrics) {
        if self.0.try_send(ExportMessage::Span(Box::new(span))).is_err() {
            metrics.count(SpanExportResult::Dropped, 1);
        }
    }

    /// Waits until the queued spans are exported, for at most the given time.
    pub(crate) async fn flush(&self, timeout: Duration) {
        let (reply, done) = oneshot::channel();
        let flush = async {
            if self.0.send(ExportMessage::Flush(reply)).await.is_ok() {
                // An error of the channel means that the thread has ended.
                let _ = done.await;
            }
        };
        if tokio::time::timeout(timeout, flush).await.is_err() {
            tracing::warn!(
                "the last spans were not exported: the collector is slow or unavailable"
            );
        }
    }
}

/// Starts the thread of the export. The thread ends when the queue is dropped.
pub(crate) fn start(options: &TelemetryOptions, metrics: SpanExportMetrics) -> Result<ExportQueue> {
    let collector = CollectorClient::new(options)?;
    let (sender, queue) = mpsc::channel(QUEUE_MAX);
    let failed = |error: std::io::Error| Error::Exporter { reason: error.to_string() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed)?;
    // Use a separate thread: the encoding of many spans needs processor time, and the threads of
    // requests must not wait for the encoding.
    let work = move || runtime.block_on(export_all(collector, queue, metrics));
    let thread = std::thread::Builder::new().name("headwater-traces".to_owned());
    thread.spawn(work).map_err(failed)?;
    Ok(ExportQueue(sender))
}

/// Exports spans in batches until the queue is closed.
async fn export_all(
    collector: CollectorClient,
    mut queue: mpsc::Receiver<ExportMessage>,
    metrics: SpanExportMetrics,
) {
    let mut is_failing = false;
    while let Some(first) = queue.recv().await {
        let (mut batch, mut waiting) = (Vec::new(), Vec::new());
        collect(first, &mut batch, &mut waiting);
        let full = tokio::time::sleep(GATHER);
        tokio::pin!(full);
        while batch.len() < BATCH_MAX && waiting.is_empty() {
            tokio::select! {
                next = queue.recv() => match next {
                    Some(next) => collect(next, &mut batch, &mut waiting),
                    None => break,
                },
                () = &mut full => break,
            }
        }
        let count = batch.len() as u64;
        if count > 0 {
            let result = collector.export(batch).await;
            let rejected = *result.as_ref().unwrap_or(&count);
            metrics.count(SpanExportResult::Failed, rejected.min(count));
            metrics.count(SpanExportResult::Exported, count.saturating_sub(rejected));
            match &result {
                // Log one line for a series of failures.
                Err(reason) if !is_failing => {
                    tracing::warn!("spans cannot be exported: {reason}");
                }
                Ok(_) if is_failing => tracing::info!("spans are exported again"),
                _ => {}
            }
            is_failing = result.is_err();
        }
        for reply in waiting {
            // An error means that the caller of the flush no longer waits.
            let _ = reply.send(());
        }
    }
}

fn collect(
    message: ExportMessage,
    batch: &mut Vec<SpanData>,
    waiting: &mut Vec<oneshot::Sender<()>>,
) {
    match message {
        ExportMessage::Span(span) => batch.push(*span),
        ExportMessage::Flush(reply) => waiting.push(reply),
    }
}
