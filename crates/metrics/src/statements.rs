//! Metrics of SQL statements, by name.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics_by_name::MetricsByName;

/// Metrics of SQL statements. Clones share the metrics.
#[derive(Debug, Clone, Default)]
pub struct StatementMetrics(Arc<MetricsByName<AtomicU64>>);

impl StatementMetrics {
    /// Counts a statement by its name, such as `SELECT` or `CREATE TABLE`.
    pub fn started(&self, name: &str) {
        self.0.get(name).fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Vec<(String, u64)> {
        let all = self.0.all().into_iter();
        all.map(|(name, count)| (name, count.load(Ordering::Relaxed))).collect()
    }
}
