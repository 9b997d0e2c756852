//! Metrics of commits and merges.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The result of a merge, cherry-pick or revert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeResult {
    /// The changes were committed.
    Merged,
    /// The target already contained the changes.
    UpToDate,
    /// Both sides changed the same content.
    Conflict,
    /// The merge ended with an error.
    Failed,
}

impl MergeResult {
    pub(crate) const ALL: [MergeResult; 4] =
        [MergeResult::Merged, MergeResult::UpToDate, MergeResult::Conflict, MergeResult::Failed];

    /// Returns the name in metrics and traces.
    pub const fn as_str(self) -> &'static str {
        match self {
            MergeResult::Merged => "merged",
            MergeResult::UpToDate => "up_to_date",
            MergeResult::Conflict => "conflict",
            MergeResult::Failed => "failed",
        }
    }
}

/// Metrics of the commits and merges of a lake. Clones share the metrics.
#[derive(Debug, Clone, Default)]
pub struct CommitMetrics(Arc<CommitCounts>);

#[derive(Debug, Default)]
struct CommitCounts {
    commits: AtomicU64,
    retries: AtomicU64,
    conflicts: AtomicU64,
    merges: [AtomicU64; MergeResult::ALL.len()],
}

impl CommitMetrics {
    /// Counts a commit.
    pub fn committed(&self) {
        self.0.commits.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an attempt that is repeated, because another commit changed the same table.
    pub fn retried(&self) {
        self.0.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a commit that failed for its caller, because another commit changed the same table.
    pub fn conflicted(&self) {
        self.0.conflicts.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a merge.
    pub fn merged(&self, result: MergeResult) {
        self.0.merges[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn commits(&self) -> u64 {
        self.0.commits.load(Ordering::Relaxed)
    }

    pub(crate) fn retries(&self) -> u64 {
        self.0.retries.load(Ordering::Relaxed)
    }

    pub(crate) fn conflicts(&self) -> u64 {
        self.0.conflicts.load(Ordering::Relaxed)
    }

    pub(crate) fn merges(&self) -> [(&'static str, u64); MergeResult::ALL.len()] {
        MergeResult::ALL
            .map(|result| (result.as_str(), self.0.merges[result as usize].load(Ordering::Relaxed)))
    }
}
