//! Options: limits on running and queued jobs, rates and retention.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_model::{JobKind, RateCard};
use headwater_telemetry::Telemetry;

/// The options of [`crate::Jobs`].
#[derive(Debug, Clone)]
pub struct JobsOptions {
    /// Limits by kind. [`KindLimits::of`] applies to the other kinds.
    pub limits: BTreeMap<JobKind, KindLimits>,
    /// The rate card, until [`crate::Jobs::set_rate_card`] replaces it.
    pub rate_card: RateCard,
    /// Number of query records that are kept. Older records are aggregated by day. 10,000 by
    /// default.
    pub queries_kept: usize,
    /// Maximum bytes of log text of one job. Further lines are omitted. 32 MiB by default.
    pub log_bytes_max: usize,
    /// Time after the cancellation of a job after which its work is dropped. 10 s by default.
    pub stop_grace: Duration,
    /// The traces of jobs; off by default.
    pub telemetry: Telemetry,
}

impl Default for JobsOptions {
    fn default() -> Self {
        JobsOptions {
            limits: BTreeMap::new(),
            rate_card: RateCard::default(),
            queries_kept: 10_000,
            log_bytes_max: 32 << 20,
            stop_grace: Duration::from_secs(10),
            telemetry: Telemetry::default(),
        }
    }
}

/// The limits of one kind of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindLimits {
    /// Maximum number of running jobs; at least 1.
    pub concurrency: usize,
    /// Maximum number of queued jobs. Further jobs are rejected with `too_busy`.
    pub queue: usize,
}

impl KindLimits {
    /// Returns the default limits of a kind. Many queries may run, because they share the engine's
    /// memory; imports and runs are few and large.
    pub const fn of(kind: JobKind) -> Self {
        match kind {
            JobKind::Query => KindLimits { concurrency: 32, queue: 1_000 },
            JobKind::Diff => KindLimits { concurrency: 8, queue: 1_000 },
            // These jobs are recorded only after their end, so they are never queued.
            JobKind::Queue => KindLimits { concurrency: 1, queue: 0 },
            JobKind::Merge | JobKind::CherryPick | JobKind::Revert | JobKind::Commit => {
                KindLimits { concurrency: 64, queue: 1_000 }
            }
            // `headwater serve --runs` sets another limit for runs.
            JobKind::Import | JobKind::Run => KindLimits { concurrency: 2, queue: 1_000 },
            // A backfill only waits for runs, to which the limit of runs applies.
            JobKind::Trigger | JobKind::Backfill => KindLimits { concurrency: 4, queue: 1_000 },
            JobKind::Maintenance => KindLimits { concurrency: 1, queue: 1_000 },
            // Calls do not wait in this queue, because the function runtime has its own fair queue.
            // Only the number of calls per caller is limited.
            JobKind::Function => KindLimits { concurrency: 20_000, queue: 0 },
        }
    }
}

impl JobsOptions {
    /// Returns the limits of a kind.
    pub fn limits(&self, kind: JobKind) -> KindLimits {
        self.limits.get(&kind).copied().unwrap_or(KindLimits::of(kind))
    }
}
