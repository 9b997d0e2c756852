//! The messages of one queue in memory, without their bodies. This module does no I/O.

use std::collections::{BTreeMap, HashMap, HashSet};

use headwater_model::Timestamp;

use crate::message::StoredMessage;
use crate::queue::QueueCounts;

/// Time within which a message with the same deduplication id is not added again.
pub(crate) const DEDUPLICATION: chrono::TimeDelta = chrono::TimeDelta::minutes(5);

/// What is known of a message without reading it.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub group: Option<String>,
    pub sent: Timestamp,
    /// Time from which it is visible.
    pub visible: Timestamp,
    pub received: u32,
    /// The last reception.
    pub receipt: Option<String>,
}

impl Slot {
    pub(crate) fn of(message: &StoredMessage) -> Self {
        Slot {
            group: message.group.clone(),
            sent: message.sent,
            visible: message.visible,
            received: message.received,
            receipt: message.receipt.clone(),
        }
    }

    fn is_in_flight(&self, now: Timestamp) -> bool {
        self.receipt.is_some() && self.visible > now
    }
}

/// The messages of a queue.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// By id, which is the order in which they were sent.
    pub messages: BTreeMap<String, Slot>,
    /// The message and the time of each deduplication id.
    pub deduplication: HashMap<String, (String, Timestamp)>,
}

/// Which messages to receive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pick {
    pub limit: usize,
    /// Time until which the messages are invisible.
    pub until: Timestamp,
    /// Receptions after which a message is a dead letter.
    pub receive_count_max: Option<u32>,
}

/// Messages that were selected.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Picked {
    pub received: Vec<String>,
    /// Messages that were received too often.
    pub dead: Vec<String>,
}

impl State {
    /// Selects visible messages and makes them invisible. Messages of a group are selected in
    /// order, and only if none of the group is in flight.
    pub(crate) fn pick(&mut self, now: Timestamp, pick: Pick) -> Picked {
        let in_flight = self.messages.values().filter(|slot| slot.is_in_flight(now));
        let mut blocked: HashSet<String> =
            in_flight.filter_map(|slot| slot.group.clone()).collect();
        let mut picked = Picked::default();
        for (id, slot) in &mut self.messages {
            if picked.received.len() >= pick.limit {
                break;
            }
            if slot.group.as_ref().is_some_and(|group| blocked.contains(group)) {
                continue;
            }
            if slot.visible > now {
                // Later messages of the group must wait for this one.
                blocked.extend(slot.group.clone());
                continue;
            }
            if pick.receive_count_max.is_some_and(|max| slot.received >= max) {
                picked.dead.push(id.clone());
            } else {
                slot.received += 1;
                slot.receipt = Some(uuid::Uuid::new_v4().to_string());
                picked.received.push(id.clone());
            }
            slot.visible = pick.until;
        }
        picked
    }

    /// Returns the earliest time at which a message becomes visible.
    pub(crate) fn next_visible(&self, now: Timestamp) -> Option<Timestamp> {
        self.messages.values().map(|slot| slot.visible).filter(|visible| *visible > now).min()
    }

    /// Removes messages that were sent before a time, and returns their ids.
    pub(crate) fn expire(&mut self, before: Timestamp) -> Vec<String> {
        // Ids are in the order of sending.
        let expired = self.messages.iter().take_while(|(_, slot)| slot.sent < before);
        let expired: Vec<String> = expired.map(|(id, _)| id.clone()).collect();
        for id in &expired {
            self.messages.remove(id);
        }
        expired
    }

    /// Removes deduplication ids that are too old, and returns them.
    pub(crate) fn forget_ids(&mut self, now: Timestamp) -> Vec<String> {
        let is_old = |(_, sent): &(String, Timestamp)| *sent + DEDUPLICATION < now;
        let old = self.deduplication.iter().filter(|(_, entry)| is_old(entry));
        let old: Vec<String> = old.map(|(id, _)| id.clone()).collect();
        for id in &old {
            self.deduplication.remove(id);
        }
        old
    }

    pub(crate) fn counts(&self, now: Timestamp) -> QueueCounts {
        let mut counts = QueueCounts::default();
        for slot in self.messages.values() {
            if slot.visible <= now {
                counts.visible += 1;
            } else if slot.receipt.is_some() {
                counts.in_flight += 1;
            } else {
                counts.delayed += 1;
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + chrono::TimeDelta::seconds(seconds)
    }

    fn state(slots: &[(&str, Option<&str>)]) -> State {
        let mut state = State::default();
        for (id, group) in slots {
            let group = group.map(str::to_owned);
            let slot = Slot { group, sent: at(0), visible: at(0), received: 0, receipt: None };
            state.messages.insert((*id).to_owned(), slot);
        }
        state
    }

    fn pick(state: &mut State, now: i64, limit: usize) -> Vec<String> {
        let pick = Pick { limit, until: at(now + 10), receive_count_max: Some(2) };
        state.pick(at(now), pick).received
    }

    #[test]
    fn a_received_message_is_invisible_until_its_timeout_and_then_dead() {
        let mut state = state(&[("a", None), ("b", None)]);
        assert_eq!(pick(&mut state, 0, 1), ["a"]);
        assert_eq!(pick(&mut state, 0, 9), ["b"]);
        assert_eq!(pick(&mut state, 5, 9), [] as [&str; 0]);
        assert_eq!(state.next_visible(at(5)), Some(at(10)));
        assert_eq!(state.counts(at(5)).in_flight, 2);
        assert_eq!(pick(&mut state, 10, 9), ["a", "b"]);
        let last = Pick { limit: 9, until: at(40), receive_count_max: Some(2) };
        let picked = state.pick(at(30), last);
        assert_eq!(picked.dead, ["a", "b"]);
        assert_eq!(picked.received, [] as [&str; 0]);
    }

    #[test]
    fn messages_of_a_group_wait_for_each_other() {
        let groups = [("a", Some("x")), ("b", Some("x")), ("c", Some("y")), ("d", Some("x"))];
        let mut state = state(&groups);
        assert_eq!(pick(&mut state, 0, 1), ["a"]);
        assert_eq!(pick(&mut state, 1, 9), ["c"]);
        state.messages.remove("a");
        assert_eq!(pick(&mut state, 2, 9), ["b", "d"]);
        // After the timeout, the order is the same.
        assert_eq!(pick(&mut state, 20, 1), ["b"]);
    }

    #[test]
    fn old_messages_and_ids_are_removed() {
        let mut state = state(&[("a", None), ("b", None)]);
        state.messages.get_mut("b").expect("a slot").sent = at(50);
        assert_eq!(state.expire(at(40)), ["a"]);
        state.deduplication.insert("k".into(), ("a".into(), at(0)));
        assert_eq!(state.forget_ids(at(300)), [] as [&str; 0]);
        assert_eq!(state.forget_ids(at(301)), ["k"]);
    }
}
