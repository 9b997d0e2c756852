//! Metrics of function calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use headwater_model::ErrorCode;

use crate::duration_histogram::DurationHistogram;
use crate::metrics_by_name::MetricsByName;

/// The outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOutcome {
    /// The function returned a result.
    Succeeded,
    /// The function raised an error, or its result or its process failed.
    Failed,
    /// The function exceeded its time limit.
    TimedOut,
    /// The function exceeded its memory limit.
    OutOfMemory,
    /// The call was cancelled, or its caller disconnected.
    Cancelled,
    /// The queue of calls was full, or the server was shutting down.
    Rejected,
}

impl CallOutcome {
    /// Returns the outcome of a call. `error` is the code of its error; `None` if the call
    /// succeeded.
    pub fn of(error: Option<ErrorCode>) -> Self {
        match error {
            None => CallOutcome::Succeeded,
            Some(ErrorCode::TimeLimit) => CallOutcome::TimedOut,
            Some(ErrorCode::MemoryLimit) => CallOutcome::OutOfMemory,
            Some(ErrorCode::Cancelled) => CallOutcome::Cancelled,
            Some(ErrorCode::TooBusy | ErrorCode::Unavailable) => CallOutcome::Rejected,
            Some(_) => CallOutcome::Failed,
        }
    }

    pub(crate) const ALL: [CallOutcome; 6] = [
        CallOutcome::Succeeded,
        CallOutcome::Failed,
        CallOutcome::TimedOut,
        CallOutcome::OutOfMemory,
        CallOutcome::Cancelled,
        CallOutcome::Rejected,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            CallOutcome::Succeeded => "succeeded",
            CallOutcome::Failed => "failed",
            CallOutcome::TimedOut => "timed_out",
            CallOutcome::OutOfMemory => "out_of_memory",
            CallOutcome::Cancelled => "cancelled",
            CallOutcome::Rejected => "rejected",
        }
    }
}

/// The start of the instance of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceStartKind {
    /// A cold start: this call imported the packages.
    Cold,
    /// A clone of a zygote that had already imported the packages.
    Zygote,
    /// An idle instance that had already executed another call.
    Reused,
}

impl InstanceStartKind {
    pub(crate) const ALL: [InstanceStartKind; 3] =
        [InstanceStartKind::Cold, InstanceStartKind::Zygote, InstanceStartKind::Reused];

    /// Returns the name in metrics and traces.
    pub const fn as_str(self) -> &'static str {
        match self {
            InstanceStartKind::Cold => "cold",
            InstanceStartKind::Zygote => "zygote",
            InstanceStartKind::Reused => "reused",
        }
    }
}

/// The end of a call that had a permit to run.
#[derive(Debug, Clone, Copy)]
pub struct CallEnd {
    /// The outcome of the call.
    pub outcome: CallOutcome,
    /// The start of the instance; `None` if no instance started.
    pub start: Option<InstanceStartKind>,
    /// The time until the zygote of the instance was ready; zero for a reused instance.
    pub start_time: Duration,
}

/// Metrics of the calls of all functions. Clones share the metrics.
#[derive(Debug, Clone, Default)]
pub struct CallMetrics(Arc<MetricsByName<FunctionCounts>>);

/// Metrics of the calls of one function.
#[derive(Debug, Default)]
pub(crate) struct FunctionCounts {
    pub(crate) outcomes: [AtomicU64; CallOutcome::ALL.len()],
    pub(crate) starts: [AtomicU64; InstanceStartKind::ALL.len()],
    pub(crate) waiting: AtomicU64,
    pub(crate) running: AtomicU64,
    pub(crate) queue: DurationHistogram,
    pub(crate) start: DurationHistogram,
    pub(crate) run: DurationHistogram,
}

/// Counts a call as waiting or running, and measures both times. If the guard is dropped before the
/// call's end, the call counts as cancelled.
#[derive(Debug)]
pub struct CallMetricsGuard {
    counts: Arc<FunctionCounts>,
    since: Instant,
    runs: bool,
    outcome: CallOutcome,
}

impl CallMetrics {
    /// Counts a call as waiting.
    pub fn begin(&self, function: &str) -> CallMetricsGuard {
        let counts = self.0.get(function);
        counts.waiting.fetch_add(1, Ordering::Relaxed);
        CallMetricsGuard {
            counts,
            since: Instant::now(),
            runs: false,
            outcome: CallOutcome::Cancelled,
        }
    }

    pub(crate) fn functions(&self) -> Vec<(String, Arc<FunctionCounts>)> {
        self.0.all()
    }
}

impl CallMetricsGuard {
    /// Counts the call as running, after it has received its permit.
    pub fn run(&mut self) {
        self.counts.queue.observe(self.since.elapsed());
        self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
        self.counts.running.fetch_add(1, Ordering::Relaxed);
        (self.since, self.runs) = (Instant::now(), true);
    }

    /// Records the end of a call that ran.
    pub fn end(mut self, end: CallEnd) {
        if let Some(start) = end.start {
            self.counts.starts[start as usize].fetch_add(1, Ordering::Relaxed);
            self.counts.start.observe(end.start_time);
            self.counts.run.observe(self.since.elapsed().saturating_sub(end.start_time));
        }
        self.outcome = end.outcome;
    }

    /// Records the end of a call that received no permit to run.
    pub fn end_unstarted(mut self, outcome: CallOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for CallMetricsGuard {
    fn drop(&mut self) {
        let gauge = if self.runs { &self.counts.running } else { &self.counts.waiting };
        gauge.fetch_sub(1, Ordering::Relaxed);
        self.counts.outcomes[self.outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_and_starts_are_in_the_order_of_their_numbers() {
        let outcomes = CallOutcome::ALL.map(|outcome| outcome as usize);
        assert_eq!(outcomes, [0, 1, 2, 3, 4, 5]);
        assert_eq!(InstanceStartKind::ALL.map(|start| start as usize), [0, 1, 2]);
    }

    #[test]
    fn a_dropped_call_is_cancelled_and_no_longer_runs() {
        let calls = CallMetrics::default();
        let waiting = calls.begin("f");
        let mut running = calls.begin("f");
        running.run();
        let (_, counts) = calls.functions().remove(0);
        let gauges = || [&counts.waiting, &counts.running].map(|it| it.load(Ordering::Relaxed));
        assert_eq!(gauges(), [1, 1]);
        drop(waiting);
        running.end(CallEnd {
            outcome: CallOutcome::Succeeded,
            start: Some(InstanceStartKind::Cold),
            start_time: Duration::ZERO,
        });
        assert_eq!(gauges(), [0, 0]);
        let outcome =
            |outcome: CallOutcome| counts.outcomes[outcome as usize].load(Ordering::Relaxed);
        assert_eq!((outcome(CallOutcome::Cancelled), outcome(CallOutcome::Succeeded)), (1, 1));
        assert_eq!(counts.starts[InstanceStartKind::Cold as usize].load(Ordering::Relaxed), 1);
    }
}
