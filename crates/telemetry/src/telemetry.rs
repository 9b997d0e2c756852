//! The handle of traces.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use headwater_metrics::SpanExportMetrics;
use headwater_model::JobId;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use opentelemetry_sdk::trace::SpanData;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::job_trace::JobTrace;
use crate::span::NewSpan;
use crate::span_export::{self, ExportQueue};
use crate::{Result, SpanKind, SpanTimer, TelemetryOptions, TraceContext};

/// Maximum number of unfinished events with links to requests. Above this number, the links of the
/// oldest events are removed.
const CAUSES_MAX: u64 = 10_000;

/// The handle of traces. Clones share the export. The default is off: it creates no spans.
#[derive(Debug, Clone, Default)]
pub struct Telemetry(Option<Arc<TelemetryInner>>);

#[derive(Debug)]
struct TelemetryInner {
    queue: ExportQueue,
    metrics: SpanExportMetrics,
    jobs: Mutex<HashMap<JobId, JobTrace>>,
    /// The spans that caused unfinished events, by the id of the event.
    causes: Cache<Uuid, TraceContext>,
}

impl Telemetry {
    /// Starts the export to a collector.
    ///
    /// Errors: `invalid_argument` if the endpoint is not an HTTP URL; `internal`.
    pub fn start(options: &TelemetryOptions) -> Result<Self> {
        let metrics = SpanExportMetrics::default();
        let queue = span_export::start(options, metrics.clone())?;
        let causes = Cache::builder().max_capacity(CAUSES_MAX);
        let causes = causes.eviction_policy(EvictionPolicy::lru()).build();
        Ok(Telemetry(Some(Arc::new(TelemetryInner {
            queue,
            metrics,
            jobs: Mutex::default(),
            causes,
        }))))
    }

    /// Returns true if spans are created.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the number of spans by result of their export; `None` if traces are off.
    pub fn metrics(&self) -> Option<SpanExportMetrics> {
        self.0.as_ref().map(|inner| inner.metrics.clone())
    }

    /// Begins a span as the child of another span. Returns `None` if traces are off, if `parent` is
    /// `None`, or if the trace is not recorded.
    pub fn begin(
        &self,
        parent: Option<TraceContext>,
        name: impl Into<Cow<'static, str>>,
    ) -> Option<SpanTimer> {
        let parent = parent.filter(|_| self.is_on())?;
        let context = parent.new_child();
        self.timer(context, Some(parent), name.into(), SpanKind::Internal)
    }

    /// Begins the span of a request. `parent` is the span of the client, if the request contains
    /// one. Without `parent`, the span is the first span of a new trace. Returns `None` if traces
    /// are off or the client does not record the trace.
    pub fn begin_request(
        &self,
        parent: Option<TraceContext>,
        name: impl Into<Cow<'static, str>>,
    ) -> Option<SpanTimer> {
        self.0.as_ref()?;
        let context = parent.map_or_else(TraceContext::new_root, TraceContext::new_child);
        self.timer(context, parent, name.into(), SpanKind::Server)
    }

    /// Begins a span with a given context.
    pub(crate) fn timer(
        &self,
        context: TraceContext,
        parent: Option<TraceContext>,
        name: Cow<'static, str>,
        kind: SpanKind,
    ) -> Option<SpanTimer> {
        if !self.is_on() || !context.is_sampled {
            return None;
        }
        let (start, attributes) = (SystemTime::now(), Vec::new());
        let span = NewSpan { context, parent, name, kind, start, attributes, link: None };
        Some(SpanTimer::new(self.clone(), span))
    }

    /// Calls `f` with the map of the traces of running jobs. Returns `None` if traces are off.
    pub(crate) fn with_jobs<T>(
        &self,
        work: impl FnOnce(&mut HashMap<JobId, JobTrace>) -> T,
    ) -> Option<T> {
        self.0.as_ref().map(|inner| work(&mut inner.jobs.lock()))
    }

    /// Returns the causes of unfinished events; `None` if traces are off.
    pub(crate) fn causes(&self) -> Option<&Cache<Uuid, TraceContext>> {
        self.0.as_ref().map(|inner| &inner.causes)
    }

    /// Queues a span for the export. If the queue is full, the span is dropped.
    pub(crate) fn export(&self, span: SpanData) {
        if let Some(inner) = &self.0 {
            inner.queue.push(span, &inner.metrics);
        }
    }

    /// Waits until the queued spans are exported, for at most the given time.
    pub async fn flush(&self, timeout: Duration) {
        if let Some(inner) = &self.0 {
            inner.queue.flush(timeout).await;
        }
    }
}
