//! Metrics of jobs that have ended, by kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headwater_model::{JobKind, JobStatus, Usage};

use crate::duration_histogram::DurationHistogram;

/// The final statuses of a job, in the order in which they are counted.
pub(crate) const STATUSES: [JobStatus; 4] = JobStatus::FINAL;

/// Metrics of all jobs that have ended. Clones share the metrics.
#[derive(Debug, Clone, Default)]
pub struct JobMetrics(Arc<[KindCounts; JobKind::ALL.len()]>);

/// Metrics of the jobs of one kind.
#[derive(Debug, Default)]
pub(crate) struct KindCounts {
    pub(crate) ended: [AtomicU64; STATUSES.len()],
    pub(crate) elapsed: DurationHistogram,
    pub(crate) cpu_us: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    pub(crate) rows_read: AtomicU64,
    pub(crate) rows_written: AtomicU64,
}

impl JobMetrics {
    /// Counts a job that has ended.
    pub fn ended(&self, kind: JobKind, status: JobStatus, usage: &Usage) {
        let counts = &self.0[kind as usize];
        if let Some(index) = STATUSES.iter().position(|known| *known == status) {
            counts.ended[index].fetch_add(1, Ordering::Relaxed);
        }
        counts.elapsed.observe(Duration::from_millis(usage.wall_ms));
        counts.cpu_us.fetch_add(usage.cpu_us, Ordering::Relaxed);
        counts.bytes_read.fetch_add(usage.bytes_read, Ordering::Relaxed);
        counts.bytes_written.fetch_add(usage.bytes_written, Ordering::Relaxed);
        counts.rows_read.fetch_add(usage.rows_read, Ordering::Relaxed);
        counts.rows_written.fetch_add(usage.rows_written, Ordering::Relaxed);
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = (JobKind, &KindCounts)> {
        JobKind::ALL.into_iter().map(|kind| (kind, &self.0[kind as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_in_the_order_of_their_numbers() {
        for (index, kind) in JobKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index, "{kind:?}");
        }
    }
}
