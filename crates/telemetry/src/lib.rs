//! Traces in OpenTelemetry's format: spans of requests, events, jobs, calls and commits, and their
//! export.
//!
//! [`Telemetry`] is the handle, and is off by default. Then it creates no spans. An event or job
//! determines the id of its trace, so a trace needs no other context: a component finds the parent
//! of its span by the id of the job, and the parent of other spans in the scope of the task. A
//! separate thread exports the spans. If its queue is full, spans are dropped and counted, so that
//! work never waits for the export.

mod call;
mod collector;
mod context;
mod error;
mod export;
mod options;
mod scope;
mod span;
mod telemetry;
mod work;

pub use call::CallTrace;
pub use context::TraceContext;
pub use error::{Error, Result};
pub use opentelemetry::Value;
pub use options::TelemetryOptions;
pub use scope::{current, in_scope, with_current};
pub use span::{SpanKind, SpanTimer};
pub use telemetry::Telemetry;
