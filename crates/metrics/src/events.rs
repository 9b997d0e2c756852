//! Metrics of events and their deliveries, by trigger.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use headwater_model::TriggerEventStatus;

use crate::metrics_by_name::MetricsByName;

/// Metrics of the events of all triggers. Clones share the metrics.
#[derive(Debug, Clone, Default)]
pub struct EventMetrics(Arc<MetricsByName<EventCounts>>);

/// Metrics of the events of one trigger, or of the asynchronous calls of one function.
#[derive(Debug, Default)]
pub struct EventCounts {
    pub(crate) accepted: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) throttled: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl EventMetrics {
    /// Returns the metrics of a trigger.
    pub fn of(&self, trigger: &str) -> Arc<EventCounts> {
        self.0.get(trigger)
    }

    pub(crate) fn triggers(&self) -> Vec<(String, Arc<EventCounts>)> {
        self.0.all()
    }

    /// Sums the values of triggers with the same label; triggers beyond the limit share the label
    /// `other`.
    pub(crate) fn by_label(&self, values: &[(String, u64)]) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for (trigger, value) in values {
            *sums.entry(self.0.label(trigger).to_owned()).or_default() += value;
        }
        sums
    }
}

impl EventCounts {
    /// Counts new events, which were accepted and stored.
    pub fn accepted(&self, events: usize) {
        self.accepted.fetch_add(events as u64, Ordering::Relaxed);
    }

    /// Counts an attempt to deliver an event. `status` is the status of the event afterwards.
    pub fn attempted(&self, status: TriggerEventStatus, is_throttled: bool) {
        let counter = match status {
            TriggerEventStatus::Done => &self.delivered,
            TriggerEventStatus::Failed => &self.failed,
            _ if is_throttled => &self.throttled,
            _ => &self.retried,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
