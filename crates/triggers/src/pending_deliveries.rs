//! The order in which the deliveries of a queue start.
//!
//! Deliveries with the same order key start in the order of their events, each after the previous
//! one has ended. All other deliveries start as soon as they are due. This module does no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headwater_model::Timestamp;

/// The deliveries that are not running. At most one delivery of each order key is ready.
#[derive(Debug, Default)]
pub(crate) struct PendingDeliveries {
    /// Deliveries that need not wait for an earlier delivery of their order key, by due time.
    ready: BTreeSet<(Timestamp, String)>,
    lanes: BTreeMap<String, KeyQueue>,
}

/// The deliveries of one order key.
#[derive(Debug, Default)]
struct KeyQueue {
    /// The delivery that is ready or running.
    active: Option<String>,
    waiting: BTreeMap<String, Timestamp>,
}

/// The result of [`PendingDeliveries::take`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NextDelivery<T> {
    /// A delivery that is due now.
    Due(T),
    /// No delivery is due before this time has passed.
    NotDue(Duration),
    /// No delivery is ready to start.
    Idle,
}

impl PendingDeliveries {
    /// Adds the delivery of an event.
    pub(crate) fn add(&mut self, event: &str, key: Option<&str>, due: Timestamp) {
        let Some(key) = key else {
            self.ready.insert((due, event.to_owned()));
            return;
        };
        self.lanes.entry(key.to_owned()).or_default().waiting.insert(event.to_owned(), due);
        self.advance(key);
    }

    /// Adds a delivery that is already running.
    pub(crate) fn add_running(&mut self, event: &str, key: Option<&str>) {
        if let Some(key) = key {
            self.lanes.entry(key.to_owned()).or_default().active = Some(event.to_owned());
        }
    }

    /// Removes the first delivery that is due and returns its event.
    pub(crate) fn take(&mut self, now: Timestamp) -> NextDelivery<String> {
        let Some((due, _)) = self.ready.first() else { return NextDelivery::Idle };
        match (*due - now).to_std() {
            Ok(pause) if !pause.is_zero() => NextDelivery::NotDue(pause),
            _ => self
                .ready
                .pop_first()
                .map_or(NextDelivery::Idle, |(_, event)| NextDelivery::Due(event)),
        }
    }

    /// Puts back a delivery that [`PendingDeliveries::take`] returned, with a new due time.
    pub(crate) fn requeue(&mut self, event: &str, key: Option<&str>, due: Timestamp) {
        match key.and_then(|key| self.lanes.get(key)) {
            Some(lane) if lane.active.as_deref() != Some(event) => self.add(event, key, due),
            _ => {
                self.ready.insert((due, event.to_owned()));
            }
        }
    }

    /// Removes a delivery that has ended.
    pub(crate) fn remove(&mut self, event: &str, key: Option<&str>, due: Timestamp) {
        self.ready.remove(&(due, event.to_owned()));
        let Some(key) = key else { return };
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.waiting.remove(event);
        if lane.active.as_deref() == Some(event) {
            lane.active = None;
        }
        self.advance(key);
    }

    /// Changes the time at which a delivery is due. `due` is `[previous time, new time]`.
    pub(crate) fn change_due(&mut self, event: &str, key: Option<&str>, due: [Timestamp; 2]) {
        let [before, after] = due;
        if self.ready.remove(&(before, event.to_owned())) {
            self.ready.insert((after, event.to_owned()));
        } else if let Some(lane) = key.and_then(|key| self.lanes.get_mut(key))
            && let Some(due) = lane.waiting.get_mut(event)
        {
            *due = after;
        }
    }

    /// Makes the next delivery of an order key ready to start.
    fn advance(&mut self, key: &str) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        if lane.active.is_some() {
            return;
        }
        match lane.waiting.pop_first() {
            Some((event, due)) => {
                lane.active = Some(event.clone());
                self.ready.insert((due, event));
            }
            None => {
                self.lanes.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(seconds, 0).expect("a time")
    }

    fn take(order: &mut PendingDeliveries, seconds: i64) -> String {
        match order.take(at(seconds)) {
            NextDelivery::Due(event) => event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_delivery_that_waits_for_its_retry_delays_only_its_key() {
        let mut order = PendingDeliveries::default();
        for (event, key) in [("1", Some("a")), ("2", Some("a")), ("3", Some("b")), ("4", None)] {
            order.add(event, key, at(0));
        }
        assert_eq!(take(&mut order, 0), "1");
        order.requeue("1", Some("a"), at(9));
        assert_eq!(take(&mut order, 0), "3");
        assert_eq!(take(&mut order, 0), "4");
        assert_eq!(order.take(at(0)), NextDelivery::NotDue(Duration::from_secs(9)));
        assert_eq!(take(&mut order, 9), "1");
        assert_eq!(order.take(at(9)), NextDelivery::Idle);
        order.remove("1", Some("a"), at(9));
        assert_eq!(take(&mut order, 9), "2");
        order.remove("2", Some("a"), at(0));
        order.remove("3", Some("b"), at(0));
        assert_eq!(order.take(at(9)), NextDelivery::Idle);
        assert!(order.lanes.is_empty());
    }

    #[test]
    fn a_removed_delivery_frees_its_key_and_a_changed_time_counts() {
        let mut order = PendingDeliveries::default();
        order.add("1", Some("a"), at(50));
        order.add("2", Some("a"), at(60));
        order.change_due("2", Some("a"), [at(60), at(5)]);
        order.remove("1", Some("a"), at(50));
        assert_eq!(take(&mut order, 5), "2");
        order.add_running("3", Some("b"));
        order.add("4", Some("b"), at(0));
        assert_eq!(order.take(at(5)), NextDelivery::Idle);
        order.remove("3", Some("b"), at(0));
        order.change_due("4", Some("b"), [at(0), at(7)]);
        assert_eq!(order.take(at(5)), NextDelivery::NotDue(Duration::from_secs(2)));
    }
}
