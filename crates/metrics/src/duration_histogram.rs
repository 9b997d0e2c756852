//! A histogram of durations.
//!
//! The histogram of `prometheus-client` takes a lock for each observation. This histogram only
//! updates two atomic counters, because each function call observes several durations.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in seconds.
const BOUNDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

const BUCKETS: usize = BOUNDS.len() + 1;

/// The number of observed durations by bucket, and their sum.
#[derive(Debug, Default)]
pub(crate) struct DurationHistogram {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

/// The state of a histogram at one time.
#[derive(Debug, PartialEq)]
pub(crate) struct HistogramCounts {
    /// The sum in seconds.
    pub(crate) sum: f64,
    pub(crate) count: u64,
    /// Upper bound and number of observations of each bucket; the last bound is infinite.
    pub(crate) buckets: Vec<(f64, u64)>,
}

impl DurationHistogram {
    /// Adds an observation.
    pub(crate) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let index = BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[index].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> HistogramCounts {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        HistogramCounts { sum, count, buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_includes_its_upper_bound() {
        let durations = DurationHistogram::default();
        for micros in [1_000, 1_001, 2_500, 700_000_000] {
            durations.observe(Duration::from_micros(micros));
        }
        let counts = durations.counts();
        assert_eq!(counts.count, 4);
        let filled: Vec<_> = counts.buckets.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [&(0.001, 1), &(0.0025, 2), &(f64::INFINITY, 1)]);
        assert!((counts.sum - 700.004_501).abs() < 1e-9, "{}", counts.sum);
    }
}
