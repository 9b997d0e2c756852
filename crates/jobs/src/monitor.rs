//! The metrics, the traces and the recorded ends of jobs.

use std::collections::BTreeMap;

use headwater_metrics::{JobMetrics, UnfinishedJobs};
use headwater_model::JobStatus;
use headwater_telemetry::Telemetry;

use crate::JobEnds;
use crate::writer::JobsState;

/// The metrics, the traces and the recorded ends of jobs, from [`crate::Jobs::monitor`].
#[derive(Clone, Copy)]
pub struct JobMonitor<'a>(pub(crate) &'a JobsState);

impl<'a> JobMonitor<'a> {
    /// Returns the traces of the jobs.
    pub fn telemetry(self) -> &'a Telemetry {
        &self.0.options.telemetry
    }

    /// Returns the ends of jobs that are recorded for triggers.
    pub fn ends(self) -> JobEnds<'a> {
        JobEnds(self.0)
    }

    /// Returns the metrics of the jobs that have ended.
    pub fn metrics(self) -> &'a JobMetrics {
        &self.0.metrics
    }

    /// Returns the number of queued and running jobs.
    pub fn running(self) -> usize {
        self.0.unfinished()
    }

    /// Returns the number of queued and running jobs by kind.
    pub fn unfinished(self) -> Vec<UnfinishedJobs> {
        let mut counts = BTreeMap::new();
        for live in self.0.live.lock().values() {
            let status = live.status();
            if !live.is_over() {
                *counts.entry((live.kind, status == JobStatus::Running)).or_insert(0) += 1;
            }
        }
        let status = |runs| if runs { JobStatus::Running } else { JobStatus::Queued };
        let counts = counts.into_iter();
        counts
            .map(|((kind, runs), jobs)| UnfinishedJobs { kind, status: status(runs), jobs })
            .collect()
    }
}
