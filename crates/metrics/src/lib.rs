//! Metrics of a server: counters that the components update, and their text form for Prometheus.
//!
//! Each component owns its metrics, for example [`CallMetrics`], and updates them with atomic
//! additions. A scrape clones their handles into an [`Exposition`], which encodes the metrics.
//! Names from users, such as the names of functions, are labels. Their number is limited: after
//! [`NAMES_MAX`] names, further names are counted as `other`.

mod calls;
mod commits;
mod duration_histogram;
mod events;
mod exposition;
mod jobs;
mod metric_families;
mod metric_names;
mod metrics_by_name;
mod process;
mod requests;
mod span_exports;
mod statements;

pub use calls::{CallEnd, CallMetrics, CallMetricsGuard, CallOutcome, InstanceStartKind};
pub use commits::{CommitMetrics, MergeResult};
pub use events::{EventCounts, EventMetrics};
pub use exposition::{Exposition, InstanceCounts, MetricsFormat, UnfinishedJobs};
pub use jobs::JobMetrics;
pub use metrics_by_name::NAMES_MAX;
pub use requests::{RequestMetrics, method_label};
pub use span_exports::{SpanExportMetrics, SpanExportResult};
pub use statements::StatementMetrics;
