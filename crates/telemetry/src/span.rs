//! A span that has begun.

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::trace::{Link, SpanId, SpanKind as OtelKind, Status};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::{Telemetry, TraceContext};

/// The name of the instrumentation in exported spans.
const INSTRUMENTATION: &str = "headwater";

/// The kind of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// A request of a client.
    Server,
    /// An event, which another component stored.
    Consumer,
    /// Work within the server.
    Internal,
}

impl SpanKind {
    fn otel(self) -> OtelKind {
        match self {
            SpanKind::Server => OtelKind::Server,
            SpanKind::Consumer => OtelKind::Consumer,
            SpanKind::Internal => OtelKind::Internal,
        }
    }
}

/// A span that has begun. It is exported when its end is recorded. A drop before that ends the span
/// with the error `cancelled`.
#[derive(Debug)]
pub struct SpanTimer {
    telemetry: Telemetry,
    pub(crate) span: Option<NewSpan>,
}

/// The content of a span.
#[derive(Debug)]
pub(crate) struct NewSpan {
    pub(crate) context: TraceContext,
    pub(crate) parent: Option<TraceContext>,
    pub(crate) name: Cow<'static, str>,
    pub(crate) kind: SpanKind,
    pub(crate) start: SystemTime,
    pub(crate) attributes: Vec<KeyValue>,
    /// A span of another trace that caused this span.
    pub(crate) link: Option<TraceContext>,
}

impl SpanTimer {
    pub(crate) fn new(telemetry: Telemetry, span: NewSpan) -> Self {
        SpanTimer { telemetry, span: Some(span) }
    }

    /// Returns the context of the span, for its children.
    pub fn context(&self) -> Option<TraceContext> {
        self.span.as_ref().map(|span| span.context)
    }

    /// Sets an attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.span {
            span.attributes.push(KeyValue::new(key, value));
        }
    }

    /// Links the span to a span of another trace that caused it.
    pub(crate) fn link(&mut self, cause: TraceContext) {
        if let Some(span) = &mut self.span {
            span.link = Some(cause);
        }
    }

    /// Sets the start time.
    pub fn starts_at(&mut self, start: SystemTime) {
        if let Some(span) = &mut self.span {
            span.start = start;
        }
    }

    /// Ends the span now. `error` is the code of the error if the work failed; messages may contain
    /// values of rows.
    pub fn end(mut self, error: Option<String>) {
        self.finish(error, SystemTime::now());
    }

    /// Ends the span at a time.
    pub(crate) fn end_at(mut self, error: Option<String>, end: SystemTime) {
        self.finish(error, end);
    }

    pub(crate) fn finish(&mut self, error: Option<String>, end: SystemTime) {
        if let Some(span) = self.span.take() {
            self.telemetry.export(span.into_exported(error, end));
        }
    }
}

impl Drop for SpanTimer {
    fn drop(&mut self) {
        self.finish(Some("cancelled".to_owned()), SystemTime::now());
    }
}

impl NewSpan {
    fn into_exported(self, error: Option<String>, end: SystemTime) -> SpanData {
        let parent = self.parent.map(|parent| SpanId::from_bytes(parent.span.to_be_bytes()));
        let mut links = SpanLinks::default();
        links.links.extend(self.link.map(|cause| Link::with_context(cause.otel())));
        SpanData {
            span_context: self.context.otel(),
            parent_span_id: parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: self.parent.is_some_and(|parent| parent.is_remote),
            span_kind: self.kind.otel(),
            name: self.name,
            start_time: self.start,
            end_time: end.max(self.start),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: error.map_or(Status::Unset, Status::error),
            instrumentation_scope: InstrumentationScope::builder(INSTRUMENTATION)
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }
}
