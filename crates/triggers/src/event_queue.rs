//! The queue of one trigger's events.
//!
//! Pending and running deliveries are in memory and in the store. Decisions use the state in
//! memory, which may be newer than the stored state. The queue continues to exist when the
//! trigger's definition changes or the trigger is removed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use headwater_event_values::RateLimit;
use headwater_metrics::EventCounts;
use headwater_model::{Problem, Timestamp, TriggerEventStatus};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::delivery_log::Delivery;
use crate::pending_deliveries::{NextDelivery, PendingDeliveries};
use crate::waiting_events::CallQueue;

/// Maximum number of pending and running deliveries of one trigger. When this number is reached,
/// the source stops recording events.
pub(crate) const OPEN_MAX: usize = 1_000;

/// Maximum number of remembered deliveries that ended recently, and whose end may not be stored
/// yet. A small number is sufficient, because no delivery can end while the store fails.
const ENDED_MAX: usize = 100;

/// Pause after the result of an attempt could not be recorded.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Minimum pause between polls while a user with waiting events has reached a limit.
const BLOCKED_PAUSE_MIN: Duration = Duration::from_millis(20);

/// The deliveries of one trigger.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    deliveries: Mutex<Deliveries>,
    done: AtomicU64,
    /// True if the source of a schedule has not been polled since the process started.
    fresh: AtomicBool,
    /// Notified when a delivery may have become due.
    pub due: Notify,
    /// Notified when there may be capacity for additional events.
    pub capacity: Notify,
    /// Rate limit for events whose cause is unknown.
    pub rate_limit: Mutex<RateLimit>,
    /// Events that clients sent for the function, and that wait until the queue has capacity.
    pub intake: CallQueue,
    /// True if the store may contain a delivery that is not in the queue.
    uncertain: AtomicBool,
    /// The metrics of the trigger.
    pub counts: Arc<EventCounts>,
}

/// Concurrency and order of deliveries.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Concurrency {
    /// One delivery at a time, in the order of the events.
    #[default]
    Serial,
    /// At most this number of deliveries at a time. The order is preserved only among events with
    /// the same order key.
    AtMost(usize),
}

#[derive(Debug, Default)]
struct Deliveries {
    concurrency: Concurrency,
    open: BTreeMap<String, Delivery>,
    /// Number of open deliveries of each user.
    open_of: HashMap<String, usize>,
    /// Users whose limit is reached, with the time at which their next deliveries are due.
    blocked: BTreeMap<String, Timestamp>,
    order: PendingDeliveries,
    /// Events whose deliveries are running.
    running: BTreeSet<String>,
    /// Events whose trigger was removed while their deliveries were running.
    abandoned: BTreeSet<String>,
    failed: BTreeSet<String>,
    /// The events whose deliveries ended most recently. The store may still contain these
    /// deliveries as open, so they must not be added again.
    ended: VecDeque<String>,
    /// Number of consecutive throttled attempts.
    throttled: u32,
    /// Time before which no delivery starts, if attempts were throttled.
    resume: Option<Timestamp>,
    /// The problem of an exhausted budget or limit, for which all deliveries wait.
    exhausted: Option<Problem>,
}

/// A delivery that was taken from its queue. It is put back on drop, unless it has ended.
#[derive(Debug)]
pub(crate) struct TakenDelivery {
    pub delivery: Delivery,
    queue: Arc<EventQueue>,
    /// Earliest time of the next attempt if this attempt ends without a result.
    retry: Timestamp,
}

impl Drop for TakenDelivery {
    fn drop(&mut self) {
        self.queue.requeue(&self.delivery.event, self.retry);
    }
}

impl EventQueue {
    pub(crate) fn new(done: u64, counts: Arc<EventCounts>) -> Self {
        EventQueue {
            counts,
            done: AtomicU64::new(done),
            fresh: AtomicBool::new(true),
            ..EventQueue::default()
        }
    }

    /// Changes the concurrency of the queue.
    pub(crate) fn configure(&self, concurrency: Concurrency) {
        let mut deliveries = self.deliveries.lock();
        if deliveries.concurrency == concurrency {
            return;
        }
        deliveries.concurrency = concurrency;
        deliveries.rebuild_order();
        drop(deliveries);
        self.due.notify_one();
    }

    /// Adds a delivery, unless the queue already contains it or the delivery has ended.
    pub(crate) fn push(&self, delivery: Delivery) {
        self.deliveries.lock().push(delivery);
        self.due.notify_one();
    }

    /// Returns true if a delivery is open or has failed, or has ended recently.
    pub(crate) fn knows(&self, event: &str) -> bool {
        self.deliveries.lock().knows(event)
    }

    /// Takes the next due delivery.
    pub(crate) fn take(self: &Arc<Self>, now: Timestamp) -> NextDelivery<TakenDelivery> {
        let mut deliveries = self.deliveries.lock();
        if deliveries.running.len() >= deliveries.running_max() {
            return NextDelivery::Idle;
        }
        if let Some(resume) = deliveries.resume
            && let Ok(pause) = (resume - now).to_std()
            && !pause.is_zero()
        {
            return NextDelivery::NotDue(pause);
        }
        let event = match deliveries.order.take(now) {
            NextDelivery::Due(event) => event,
            NextDelivery::NotDue(pause) => return NextDelivery::NotDue(pause),
            NextDelivery::Idle => return NextDelivery::Idle,
        };
        let Some(delivery) = deliveries.open.get(&event).cloned() else {
            return NextDelivery::Idle;
        };
        deliveries.running.insert(event);
        NextDelivery::Due(TakenDelivery { delivery, queue: self.clone(), retry: now + STORE_PAUSE })
    }

    /// Puts back a delivery whose attempt ended without a result.
    fn requeue(&self, event: &str, retry: Timestamp) {
        let mut deliveries = self.deliveries.lock();
        if deliveries.running.remove(event) {
            let due = deliveries.open.get_mut(event).map(|delivery| {
                delivery.status = TriggerEventStatus::Pending;
                delivery.due = delivery.due.max(retry);
                delivery.due
            });
            let key = deliveries.key_of(event);
            if let Some(due) = due {
                deliveries.order.requeue(event, key.as_deref(), due);
            }
        }
        drop(deliveries);
        self.due.notify_one();
    }

    /// Replaces a delivery in the queue by its new version.
    pub(crate) fn update(&self, delivery: Delivery) {
        let mut deliveries = self.deliveries.lock();
        let was_full = !deliveries.has_capacity();
        match delivery.status {
            TriggerEventStatus::Running => {
                // The job has started, so its user and its function are within the limits again.
                deliveries.exhausted = None;
                if let Some(user) = &delivery.user {
                    deliveries.blocked.remove(user);
                }
                deliveries.insert(delivery);
            }
            TriggerEventStatus::Pending => deliveries.set_pending(delivery),
            TriggerEventStatus::Done => {
                deliveries.end(&delivery);
                self.done.fetch_add(1, Ordering::Relaxed);
            }
            TriggerEventStatus::Failed => {
                deliveries.end(&delivery);
                deliveries.failed.insert(delivery.event);
            }
        }
        let has_capacity = was_full && deliveries.has_capacity();
        drop(deliveries);
        self.due.notify_one();
        if has_capacity {
            self.capacity.notify_one();
        }
    }

    /// Replaces a delivery by the deliveries of its event's parts, before all later deliveries with
    /// the same order key. If the event's trigger was removed, the parts are abandoned, too.
    pub(crate) fn divide(&self, divided: &Delivery, parts: Vec<Delivery>) {
        let mut deliveries = self.deliveries.lock();
        if deliveries.abandoned.remove(&divided.event) {
            deliveries.abandoned.extend(parts.iter().map(|part| part.event.clone()));
        }
        // Add the parts first, because the end of the divided delivery starts the next delivery.
        for part in parts {
            deliveries.push(part);
        }
        deliveries.end(divided);
        if divided.status == TriggerEventStatus::Done {
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        drop(deliveries);
        self.due.notify_one();
        self.capacity.notify_one();
    }

    /// Returns the delivery of an event if it is pending or running. If it waits for an exhausted
    /// limit, returns it with the limit's error and end.
    pub(crate) fn open(&self, event: &str) -> Option<Delivery> {
        let deliveries = self.deliveries.lock();
        let mut delivery = deliveries.open.get(event).cloned()?;
        let waits = delivery.status == TriggerEventStatus::Pending;
        if let Some(exhausted) = deliveries.exhausted.as_ref().filter(|_| waits) {
            delivery.error = Some(exhausted.clone());
            delivery.due =
                deliveries.resume.map_or(delivery.due, |resume| resume.max(delivery.due));
        }
        Some(delivery)
    }

    /// Makes a pending delivery due now. Returns `None` if it is neither pending nor running.
    pub(crate) fn expedite(&self, event: &str, now: Timestamp) -> Option<Delivery> {
        let mut deliveries = self.deliveries.lock();
        let key = deliveries.key_of(event);
        let Deliveries { open, order, .. } = &mut *deliveries;
        let delivery = open.get_mut(event)?;
        if delivery.status == TriggerEventStatus::Pending && delivery.due > now {
            order.change_due(event, key.as_deref(), [delivery.due, now]);
            delivery.due = now;
        }
        let delivery = delivery.clone();
        drop(deliveries);
        self.due.notify_one();
        Some(delivery)
    }

    /// Removes a failed delivery. Returns false if another caller has already removed it.
    pub(crate) fn take_failed(&self, event: &str) -> bool {
        self.deliveries.lock().failed.remove(event)
    }

    /// Marks the running deliveries as abandoned, because their trigger was removed.
    pub(crate) fn abandon_running(&self) {
        let mut deliveries = self.deliveries.lock();
        let running = deliveries.running.clone();
        deliveries.abandoned = running;
    }

    /// Returns true if the delivery's trigger was removed during the attempt. Clears this mark.
    pub(crate) fn take_abandoned(&self, event: &str) -> bool {
        self.deliveries.lock().abandoned.remove(event)
    }

    /// Adds a delivery again that the caller has removed.
    pub(crate) fn restore(&self, delivery: Delivery) {
        self.deliveries.lock().ended.retain(|event| *event != delivery.event);
        self.push(delivery);
    }

    /// Removes a pending delivery that is not running. Returns `None` if there is no such delivery.
    pub(crate) fn take_pending(&self, event: &str) -> Option<Delivery> {
        let mut deliveries = self.deliveries.lock();
        if deliveries.running.contains(event) {
            return None;
        }
        let delivery = deliveries.open.get(event).cloned()?;
        deliveries.end(&delivery);
        drop(deliveries);
        self.due.notify_one();
        self.capacity.notify_one();
        Some(delivery)
    }

    /// Returns the number of consecutive throttled attempts.
    pub(crate) fn throttled(&self) -> u32 {
        self.deliveries.lock().throttled
    }

    /// Postpones a delivery whose user has reached a limit. Until the delivery is due, deliveries
    /// of this user take no capacity from the deliveries of other users.
    pub(crate) fn block(&self, delivery: Delivery) {
        let blocked = delivery.user.clone().map(|user| (user, delivery.due));
        self.deliveries.lock().blocked.extend(blocked);
        self.update(delivery);
        self.capacity.notify_one();
    }

    /// Returns true if a user has reached a limit.
    pub(crate) fn is_blocked(&self, user: Option<&str>) -> bool {
        user.is_some_and(|user| self.deliveries.lock().blocked.contains_key(user))
    }

    /// Returns true if the queue has capacity for more deliveries. Deliveries of users that have
    /// reached a limit do not count.
    pub(crate) fn has_capacity(&self, now: Timestamp) -> bool {
        let mut deliveries = self.deliveries.lock();
        deliveries.blocked.retain(|_, until| *until > now);
        deliveries.has_capacity()
    }

    /// Returns the time until the first blocked user is no longer blocked.
    pub(crate) fn next_unblocked(&self, now: Timestamp) -> Option<Duration> {
        let first = self.deliveries.lock().blocked.values().min().copied()?;
        // Never 0, because a source that returns a pause of 0 is polled again at once.
        Some((first - now).to_std().unwrap_or_default().max(BLOCKED_PAUSE_MIN))
    }

    /// Records that an attempt was throttled: no delivery starts before `resume`.
    pub(crate) fn throttle(&self, resume: Timestamp, now: Timestamp) {
        let mut deliveries = self.deliveries.lock();
        // Attempts that are throttled at the same time count only once.
        if deliveries.resume.is_none_or(|before| before <= now) {
            deliveries.throttled = deliveries.throttled.saturating_add(1);
            deliveries.resume = Some(resume);
        }
    }

    /// Records that the function's budget is used up, or that the trigger's deployer has reached a
    /// limit. No delivery starts before `resume`.
    pub(crate) fn exhaust(&self, exhausted: Problem, resume: Timestamp, now: Timestamp) {
        self.deliveries.lock().exhausted = Some(exhausted);
        self.throttle(resume, now);
    }

    /// Records that an attempt was not throttled.
    pub(crate) fn end_throttling(&self) {
        let mut deliveries = self.deliveries.lock();
        (deliveries.throttled, deliveries.resume) = (0, None);
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

    /// Returns true if the source of a schedule has not been polled since the process started.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh.load(Ordering::Relaxed)
    }

    pub(crate) fn clear_fresh(&self) {
        self.fresh.store(false, Ordering::Relaxed);
    }

    /// Records that the store may contain a delivery that is not in the queue.
    pub(crate) fn set_uncertain(&self) {
        self.uncertain.store(true, Ordering::Relaxed);
    }

    /// Returns true if [`EventQueue::set_uncertain`] was called since the last call of this method.
    pub(crate) fn take_uncertain(&self) -> bool {
        self.uncertain.swap(false, Ordering::Relaxed)
    }
}

impl Deliveries {
    fn running_max(&self) -> usize {
        match self.concurrency {
            Concurrency::Serial => 1,
            Concurrency::AtMost(count) => count,
        }
    }

    /// Returns true if there is capacity for more deliveries; those of blocked users do not count.
    fn has_capacity(&self) -> bool {
        let of_user = |user: &String| self.open_of.get(user).copied().unwrap_or_default();
        let blocked: usize = self.blocked.keys().map(of_user).sum();
        self.open.len().saturating_sub(blocked) < OPEN_MAX
    }

    /// Returns the order key of an event. Keys of different users are independent.
    fn key_of(&self, event: &str) -> Option<String> {
        match self.concurrency {
            Concurrency::Serial => Some(String::new()),
            Concurrency::AtMost(_) => {
                let delivery = self.open.get(event)?;
                let user = delivery.user.as_deref().unwrap_or_default();
                delivery.key.as_ref().map(|key| format!("{user}\n{key}"))
            }
        }
    }

    fn insert(&mut self, delivery: Delivery) {
        let user = delivery.user.clone();
        if self.open.insert(delivery.event.clone(), delivery).is_none()
            && let Some(user) = user
        {
            *self.open_of.entry(user).or_default() += 1;
        }
    }

    fn remove(&mut self, event: &str) -> Option<Delivery> {
        let removed = self.open.remove(event)?;
        if let Some(user) = &removed.user
            && let Some(count) = self.open_of.get_mut(user)
        {
            *count -= 1;
            if *count == 0 {
                self.open_of.remove(user);
            }
        }
        Some(removed)
    }

    fn knows(&self, event: &str) -> bool {
        let is_open = self.open.contains_key(event) || self.failed.contains(event);
        is_open || self.ended.iter().any(|one| one == event)
    }

    fn push(&mut self, delivery: Delivery) {
        if self.knows(&delivery.event) || delivery.status == TriggerEventStatus::Done {
            return;
        }
        if delivery.status == TriggerEventStatus::Failed {
            self.failed.insert(delivery.event);
        } else {
            self.add(delivery);
        }
    }

    fn add(&mut self, delivery: Delivery) {
        let (event, due) = (delivery.event.clone(), delivery.due);
        self.insert(delivery);
        let key = self.key_of(&event);
        self.order.add(&event, key.as_deref(), due);
    }

    fn set_pending(&mut self, delivery: Delivery) {
        if !self.running.remove(&delivery.event) {
            self.add(delivery);
            return;
        }
        let (event, due) = (delivery.event.clone(), delivery.due);
        self.insert(delivery);
        let key = self.key_of(&event);
        self.order.requeue(&event, key.as_deref(), due);
    }

    fn end(&mut self, delivery: &Delivery) {
        let event = &delivery.event;
        let key = self.key_of(event);
        let due = self.remove(event).map_or(delivery.due, |stored| stored.due);
        self.running.remove(event);
        self.order.remove(event, key.as_deref(), due);
        self.ended.push_back(event.clone());
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_front();
        }
    }

    fn rebuild_order(&mut self) {
        self.order = PendingDeliveries::default();
        let entries: Vec<_> = self.open.values().map(|one| (one.event.clone(), one.due)).collect();
        let is_running = |event: &String| self.running.contains(event);
        let (running, pending): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|(event, _)| is_running(event));
        for (event, _) in running {
            let key = self.key_of(&event);
            self.order.add_running(&event, key.as_deref());
        }
        for (event, due) in pending {
            let key = self.key_of(&event);
            self.order.add(&event, key.as_deref(), due);
        }
    }
}
