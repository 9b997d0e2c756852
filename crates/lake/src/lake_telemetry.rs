//! The metrics and the traces of a lake.

use headwater_metrics::CommitMetrics;
use headwater_model::JobId;
use headwater_telemetry::{SpanTimer, Telemetry};

use crate::lake::Lake;

/// The metrics and the traces of a lake. [`Lake::telemetry`] returns this type.
#[derive(Clone, Copy)]
pub struct LakeTelemetry<'a>(pub(crate) &'a Lake);

impl<'a> LakeTelemetry<'a> {
    /// Returns the metrics of commits and merges.
    pub fn metrics(self) -> &'a CommitMetrics {
        self.0.metrics()
    }

    /// Returns the number of small appends waiting for a group commit.
    pub fn waiting_appends(self) -> usize {
        self.0.groups().waiting()
    }

    /// Sets the telemetry that receives the traces of commits. Only the first call has an effect.
    pub fn set_telemetry(self, telemetry: Telemetry) {
        self.0.traces().get_or_init(|| telemetry);
    }

    /// Begins the span of an access to the lake by the code that runs a job. Returns `None` if
    /// traces are off.
    pub fn begin_access(self, job: JobId, name: &'static str) -> Option<SpanTimer> {
        let telemetry = self.0.traces().get()?;
        telemetry.begin(telemetry.of_handler(job), name)
    }
}
