//! The events of one trigger, as this process has them.
//!
//! What is open is in memory and in the store; memory counts. A book outlives changes of its
//! trigger's definition, and is there for triggers that are no longer defined, whose events wait.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use headwater_model::{TriggerEvent, TriggerEventStatus};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::pace::Pace;

/// How many events of one trigger may be open. Beyond it files and strikes wait to be recorded.
pub(crate) const OPEN_MAX: usize = 1_000;

/// How many events that ended are remembered. Acting needs the store, so few can end while it
/// fails.
const ENDED: usize = 100;

/// The events of one trigger.
#[derive(Debug, Default)]
pub(crate) struct Book {
    events: Mutex<Events>,
    done: AtomicU64,
    /// The schedule has not been looked at since the process began.
    fresh: AtomicBool,
    /// Held while an event is acted on.
    pub acting: tokio::sync::Mutex<Throttle>,
    /// Something may be due.
    pub due: Notify,
    /// There may be room for more events.
    pub room: Notify,
    /// How often it fired lately without a cause that is known.
    pub pace: Mutex<Pace>,
}

/// How often in a row an event could not be tried because something was busy.
#[derive(Debug, Default)]
pub(crate) struct Throttle(pub u32);

#[derive(Debug, Default)]
struct Events {
    open: BTreeMap<String, TriggerEvent>,
    failed: BTreeSet<String>,
    /// The last events that ended here; the store may not know of it yet.
    ended: VecDeque<String>,
}

impl Book {
    pub(crate) fn new(done: u64) -> Self {
        Book { done: AtomicU64::new(done), fresh: AtomicBool::new(true), ..Book::default() }
    }

    /// Takes note of an event that is new, or known to the store and not to this process.
    pub(crate) fn enter(&self, event: TriggerEvent) {
        let mut events = self.events.lock();
        let known = events.open.contains_key(&event.id)
            || events.failed.contains(&event.id)
            || events.ended.contains(&event.id);
        if known {
            return;
        }
        if event.status == TriggerEventStatus::Failed {
            events.failed.insert(event.id);
        } else {
            events.open.insert(event.id.clone(), event);
        }
        drop(events);
        self.due.notify_one();
    }

    /// Takes note of how an event stands now.
    pub(crate) fn update(&self, event: TriggerEvent) {
        let mut events = self.events.lock();
        let full = events.open.len() >= OPEN_MAX;
        if matches!(event.status, TriggerEventStatus::Done | TriggerEventStatus::Failed) {
            events.ended.push_back(event.id.clone());
            if events.ended.len() > ENDED {
                events.ended.pop_front();
            }
        }
        match event.status {
            TriggerEventStatus::Pending | TriggerEventStatus::Running => {
                events.open.insert(event.id.clone(), event);
            }
            TriggerEventStatus::Done => {
                events.open.remove(&event.id);
                self.done.fetch_add(1, Ordering::Relaxed);
            }
            TriggerEventStatus::Failed => {
                events.open.remove(&event.id);
                events.failed.insert(event.id);
            }
        }
        let room = full && events.open.len() < OPEN_MAX;
        drop(events);
        self.due.notify_one();
        if room {
            self.room.notify_one();
        }
    }

    /// The event that comes next: the oldest.
    pub(crate) fn next(&self) -> Option<TriggerEvent> {
        self.events.lock().open.values().next().cloned()
    }

    pub(crate) fn open(&self, id: &str) -> Option<TriggerEvent> {
        self.events.lock().open.get(id).cloned()
    }

    /// Makes a pending event due now; answers it where there is one.
    pub(crate) fn hasten(&self, id: &str, now: headwater_model::Timestamp) -> Option<TriggerEvent> {
        let mut events = self.events.lock();
        let event = events.open.get_mut(id)?;
        if event.status == TriggerEventStatus::Pending {
            event.due = event.due.min(now);
        }
        let event = event.clone();
        drop(events);
        self.due.notify_one();
        Some(event)
    }

    /// Takes an event from the failed ones; false where somebody else did.
    pub(crate) fn take_failed(&self, id: &str) -> bool {
        self.events.lock().failed.remove(id)
    }

    pub(crate) fn open_count(&self) -> usize {
        self.events.lock().open.len()
    }

    pub(crate) fn failed_count(&self) -> usize {
        self.events.lock().failed.len()
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Whether the schedule has not been looked at since the process began.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh.load(Ordering::Relaxed)
    }

    pub(crate) fn set_looked_at(&self) {
        self.fresh.store(false, Ordering::Relaxed);
    }
}
