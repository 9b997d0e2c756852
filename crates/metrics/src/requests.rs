//! Metrics of HTTP requests, by route.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use crate::duration_histogram::DurationHistogram;
use crate::metrics_by_name::{MetricsByName, OTHER};

/// The methods with their own label.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

/// Returns the label of a method; `None` for an unknown method. Clients can send any method, so the
/// number of labels would be unlimited.
pub fn method_label(method: &str) -> Option<&'static str> {
    METHODS.into_iter().find(|known| *known == method)
}

/// Metrics of all HTTP requests. Clones share the metrics.
#[derive(Debug, Clone, Default)]
pub struct RequestMetrics(Arc<MetricsByName<RouteCounts>>);

/// Metrics of the requests of one route.
#[derive(Debug, Default)]
pub(crate) struct RouteCounts {
    responses: RwLock<BTreeMap<ResponseLabels, AtomicU64>>,
    /// The time until the head of the response.
    pub(crate) elapsed: DurationHistogram,
}

/// The labels of a response, without the route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ResponseLabels {
    pub(crate) method: &'static str,
    pub(crate) status: u16,
}

impl RequestMetrics {
    /// Counts a request. `route` is the pattern of the path, not the path itself. `elapsed` is the
    /// time until the head of the response.
    pub fn answered(&self, route: &str, method: &str, status: u16, elapsed: Duration) {
        let counts = self.0.get(route);
        let method = method_label(method).unwrap_or(OTHER);
        let key = ResponseLabels { method, status };
        counts.elapsed.observe(elapsed);
        if let Some(count) = counts.responses.read().get(&key) {
            count.fetch_add(1, Ordering::Relaxed);
            return;
        }
        counts.responses.write().entry(key).or_default().fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn routes(&self) -> Vec<(String, Arc<RouteCounts>)> {
        self.0.all()
    }
}

impl RouteCounts {
    pub(crate) fn responses(&self) -> Vec<(ResponseLabels, u64)> {
        let responses = self.responses.read();
        responses.iter().map(|(key, count)| (*key, count.load(Ordering::Relaxed))).collect()
    }
}
