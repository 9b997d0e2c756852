//! How many jobs run and wait at once, what they cost, and how much of them is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_model::{JobKind, RateCard};

/// How [`crate::Jobs`] works.
#[derive(Debug, Clone)]
pub struct JobsOptions {
    /// Bounds by kind; a kind that is not named has [`KindLimits::of`].
    pub limits: BTreeMap<JobKind, KindLimits>,
    /// What usage costs, until [`crate::Jobs::set_rate_card`] says otherwise.
    pub rate_card: RateCard,
    /// How many records of queries are kept; older ones live on as sums by day. 10,000 by default.
    pub queries_kept: usize,
    /// How many bytes of log text are kept of one job; then a remark says that lines are left out.
    /// 32 MiB by default.
    pub log_bytes_max: usize,
    /// How long a job that was asked to stop may take before it is dropped. 10 s by default.
    pub stop_grace: Duration,
}

impl Default for JobsOptions {
    fn default() -> Self {
        JobsOptions {
            limits: BTreeMap::new(),
            rate_card: RateCard::default(),
            queries_kept: 10_000,
            log_bytes_max: 32 << 20,
            stop_grace: Duration::from_secs(10),
        }
    }
}

/// The bounds of one kind of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindLimits {
    /// How many run at once; at least 1.
    pub concurrency: usize,
    /// How many may wait; one more is refused with `too_busy`.
    pub queue: usize,
}

impl KindLimits {
    /// The default of a kind: queries share the engine's memory, so many may run; imports and runs
    /// are few and large.
    pub const fn of(kind: JobKind) -> Self {
        match kind {
            JobKind::Query => KindLimits { concurrency: 32, queue: 1_000 },
            JobKind::Diff => KindLimits { concurrency: 8, queue: 1_000 },
            JobKind::Merge | JobKind::CherryPick | JobKind::Revert | JobKind::Commit => {
                KindLimits { concurrency: 64, queue: 1_000 }
            }
            JobKind::Import | JobKind::Run => KindLimits { concurrency: 2, queue: 1_000 },
            JobKind::Trigger => KindLimits { concurrency: 4, queue: 1_000 },
            JobKind::Maintenance => KindLimits { concurrency: 1, queue: 1_000 },
            // The runtime has places and a queue of its own, in which owners have turns one after
            // the other; here no call waits, and each caller has a limit.
            JobKind::Function => KindLimits { concurrency: 20_000, queue: 0 },
        }
    }
}

impl JobsOptions {
    /// The bounds of a kind.
    pub fn limits(&self, kind: JobKind) -> KindLimits {
        self.limits.get(&kind).copied().unwrap_or(KindLimits::of(kind))
    }
}
