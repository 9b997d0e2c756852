//! Traces in OpenTelemetry's format: spans of requests, events, jobs, calls and commits, and their
//! export.
//!
//! [`Telemetry`] is the handle. By default it is off, and creates no spans. The id of a trace is
//! the id of its event or job, so no other context is stored. A component finds the parent of a
//! span by the id of the job or, without a job, in the scope of the current task. A separate thread
//! exports the spans. If its queue is full, spans are dropped and counted, so that work never waits
//! for the export.

mod call_trace;
mod collector_client;
mod current_trace;
mod error;
mod job_trace;
mod options;
mod span;
mod span_export;
mod telemetry;
mod trace_context;

pub use call_trace::CallTrace;
pub use current_trace::{current, in_scope, with_current};
pub use error::{Error, Result};
pub use opentelemetry::Value;
pub use options::TelemetryOptions;
pub use span::{SpanKind, SpanTimer};
pub use telemetry::Telemetry;
pub use trace_context::TraceContext;
