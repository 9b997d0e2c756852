//! The queue of one trigger's events.
//!
//! Pending and running deliveries are in memory and in the store; memory is authoritative. A queue
//! outlives changes of its trigger's definition, and the removal of the trigger.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use headwater_model::{Timestamp, TriggerEventStatus};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::delivery_log::Delivery;
use crate::rate_limit::RateLimit;

/// Limit of pending and running deliveries of one trigger. Sources wait while it is reached.
pub(crate) const OPEN_MAX: usize = 1_000;

/// Ended deliveries that are remembered. A delivery ends only if the store works, so few can end
/// before the store knows.
const ENDED_MAX: usize = 100;

/// The deliveries of one trigger, ordered by event.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    deliveries: Mutex<Deliveries>,
    done: AtomicU64,
    /// The schedule was not polled since the process started.
    fresh: AtomicBool,
    /// Held during a delivery.
    pub delivering: tokio::sync::Mutex<Throttle>,
    /// A delivery may be due.
    pub due: Notify,
    /// There may be capacity for more events.
    pub capacity: Notify,
    /// Limits events of unknown cause.
    pub rate_limit: Mutex<RateLimit>,
}

/// Number of consecutive attempts that were throttled.
#[derive(Debug, Default)]
pub(crate) struct Throttle(pub u32);

#[derive(Debug, Default)]
struct Deliveries {
    open: BTreeMap<String, Delivery>,
    failed: BTreeSet<String>,
    /// The last ones that ended; the store may not know yet.
    ended: VecDeque<String>,
}

impl EventQueue {
    pub(crate) fn new(done: u64) -> Self {
        EventQueue {
            done: AtomicU64::new(done),
            fresh: AtomicBool::new(true),
            ..EventQueue::default()
        }
    }

    /// Adds a delivery, unless it is known.
    pub(crate) fn push(&self, delivery: Delivery) {
        let mut deliveries = self.deliveries.lock();
        let is_known = deliveries.open.contains_key(&delivery.event)
            || deliveries.failed.contains(&delivery.event)
            || deliveries.ended.contains(&delivery.event);
        if is_known {
            return;
        }
        if delivery.status == TriggerEventStatus::Failed {
            deliveries.failed.insert(delivery.event);
        } else {
            deliveries.open.insert(delivery.event.clone(), delivery);
        }
        drop(deliveries);
        self.due.notify_one();
    }

    /// Replaces a delivery by its new state.
    pub(crate) fn update(&self, delivery: Delivery) {
        let mut deliveries = self.deliveries.lock();
        let was_full = deliveries.open.len() >= OPEN_MAX;
        if matches!(delivery.status, TriggerEventStatus::Done | TriggerEventStatus::Failed) {
            deliveries.ended.push_back(delivery.event.clone());
            if deliveries.ended.len() > ENDED_MAX {
                deliveries.ended.pop_front();
            }
        }
        match delivery.status {
            TriggerEventStatus::Pending | TriggerEventStatus::Running => {
                deliveries.open.insert(delivery.event.clone(), delivery);
            }
            TriggerEventStatus::Done => {
                deliveries.open.remove(&delivery.event);
                self.done.fetch_add(1, Ordering::Relaxed);
            }
            TriggerEventStatus::Failed => {
                deliveries.open.remove(&delivery.event);
                deliveries.failed.insert(delivery.event);
            }
        }
        let has_capacity = was_full && deliveries.open.len() < OPEN_MAX;
        drop(deliveries);
        self.due.notify_one();
        if has_capacity {
            self.capacity.notify_one();
        }
    }

    /// Returns the oldest delivery that is pending or running.
    pub(crate) fn next(&self) -> Option<Delivery> {
        self.deliveries.lock().open.values().next().cloned()
    }

    /// Returns the delivery of an event if it is pending or running.
    pub(crate) fn open(&self, event: &str) -> Option<Delivery> {
        self.deliveries.lock().open.get(event).cloned()
    }

    /// Makes a pending delivery due now. Returns none if it is neither pending nor running.
    pub(crate) fn expedite(&self, event: &str, now: Timestamp) -> Option<Delivery> {
        let mut deliveries = self.deliveries.lock();
        let delivery = deliveries.open.get_mut(event)?;
        if delivery.status == TriggerEventStatus::Pending {
            delivery.due = delivery.due.min(now);
        }
        let delivery = delivery.clone();
        drop(deliveries);
        self.due.notify_one();
        Some(delivery)
    }

    /// Removes a failed delivery. Returns false if another caller did.
    pub(crate) fn take_failed(&self, event: &str) -> bool {
        self.deliveries.lock().failed.remove(event)
    }

    pub(crate) fn open_count(&self) -> usize {
        self.deliveries.lock().open.len()
    }

    pub(crate) fn failed_count(&self) -> usize {
        self.deliveries.lock().failed.len()
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Returns true if the schedule was not polled since the process started.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh.load(Ordering::Relaxed)
    }

    pub(crate) fn clear_fresh(&self) {
        self.fresh.store(false, Ordering::Relaxed);
    }
}
