//! The messages of one queue in memory, without their bodies. This module does no I/O.
//!
//! The state in memory decides which message is received. A message is added to the state before it
//! is stored, and removed after its deletion is stored. So at any time, only one operation changes
//! the stored entries of a message.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use headwater_model::Timestamp;

use crate::message::DeliveryState;
use crate::message_selection::{PurgedMessages, ReceiveCriteria, SelectedMessages};
use crate::message_state::{MessagePhase, MessageState};
use crate::queue::QueueCounts;

/// Time within which a message with the same deduplication id is not added again.
const DEDUPLICATION: chrono::TimeDelta = chrono::TimeDelta::minutes(5);

/// A message that was sent with a deduplication id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeduplicationEntry {
    pub sequence: u64,
    /// Id of the message.
    pub message: String,
    pub sent: Timestamp,
}

/// The messages of a queue.
#[derive(Debug, Default)]
pub(crate) struct QueueState {
    /// True after the queue was deleted.
    pub is_deleted: bool,
    /// Messages by sequence number, which is the order in which they were sent.
    slots: BTreeMap<u64, MessageState>,
    ready: BTreeSet<u64>,
    invisible: BTreeSet<(Timestamp, u64)>,
    /// For each blocked group, the number of messages that block it.
    blocked: HashMap<String, usize>,
    /// Sequence numbers of deleted messages whose entries are still in the journals.
    gone: BTreeSet<u64>,
    last: u64,
    /// For FIFO queues: the latest time at which a sent message becomes visible.
    delayed_until: Option<Timestamp>,
    deduplicated: HashMap<String, DeduplicationEntry>,
    deduplication_order: BTreeMap<u64, String>,
}

impl QueueState {
    /// Returns the state of a deleted queue.
    pub(crate) fn deleted() -> Self {
        QueueState { is_deleted: true, ..QueueState::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns the sequence number of a new message. Numbers ascend with time, also across restarts
    /// of the process.
    pub(crate) fn next_sequence(&mut self, now: Timestamp) -> u64 {
        let now = u64::try_from(now.timestamp_micros()).unwrap_or_default();
        self.last = now.max(self.last + 1);
        self.last
    }

    /// Returns the time at which a new message of a FIFO queue becomes visible: `visible`, but not
    /// before any message that was sent earlier.
    pub(crate) fn after_delayed(&mut self, visible: Timestamp) -> Timestamp {
        let visible = self.delayed_until.map_or(visible, |until| until.max(visible));
        self.delayed_until = Some(visible);
        visible
    }

    /// Adds a message.
    pub(crate) fn add(&mut self, sequence: u64, slot: MessageState) {
        self.last = self.last.max(sequence);
        self.slots.insert(sequence, MessageState { phase: MessagePhase::Storing, ..slot.clone() });
        self.change(sequence, |added| added.phase = slot.phase);
    }

    /// Makes stored messages visible after their delay.
    pub(crate) fn publish(&mut self, sequences: impl IntoIterator<Item = u64>) {
        for sequence in sequences {
            self.change(sequence, |slot| slot.phase = MessagePhase::Invisible);
        }
    }

    /// Removes a message.
    pub(crate) fn remove(&mut self, sequence: u64) {
        self.remove_from_sets(sequence);
        self.slots.remove(&sequence);
        self.gone.insert(sequence);
    }

    /// Starts the deletion of all messages, except those that are being stored.
    pub(crate) fn begin_purge(&mut self, now: Timestamp) -> PurgedMessages {
        // Earlier messages have smaller numbers, and later messages have greater numbers.
        let last = self.next_sequence(now);
        let (mut purged, mut first) = (PurgedMessages::default(), 0);
        let phases = self.slots.iter().map(|(sequence, slot)| (*sequence, slot.phase));
        for (sequence, phase) in phases.collect::<Vec<_>>() {
            match phase {
                MessagePhase::Storing => {
                    purged.ranges.extend(sequence.checked_sub(1).map(|end| [first, end]));
                    first = sequence + 1;
                }
                MessagePhase::Ready | MessagePhase::Invisible => {
                    purged.sequences.push(sequence);
                    self.change(sequence, |slot| slot.phase = MessagePhase::Deleting);
                }
                MessagePhase::Deleting => {} // Its own deletion removes it from memory.
            }
        }
        purged.ranges.push([first, last]);
        purged.ranges.retain(|[first, last]| first <= last);
        purged
    }

    /// Restores a message in the phase `Deleting` after an error: its deletion may not be stored.
    pub(crate) fn restore(&mut self, sequence: u64) {
        if self.slots.get(&sequence).is_some_and(|slot| slot.phase == MessagePhase::Deleting) {
            self.change(sequence, |slot| slot.phase = MessagePhase::Invisible);
        }
    }

    /// Returns the total bytes of the first `limit` messages from `first` to `last`, both
    /// inclusive.
    pub(crate) fn bytes_between(&self, [first, last]: [u64; 2], limit: usize) -> usize {
        self.slots.range(first..=last).take(limit).map(|(_, slot)| slot.bytes).sum()
    }

    pub(crate) fn delivery(&self, sequence: u64) -> Option<&DeliveryState> {
        self.slots.get(&sequence).map(|slot| &slot.delivery)
    }

    /// Selects visible messages and makes them invisible. Messages of a group are selected in
    /// order, and only if no message of the group is in flight.
    pub(crate) fn pick(&mut self, now: Timestamp, pick: ReceiveCriteria) -> SelectedMessages {
        self.update_visible(now);
        let mut picked = SelectedMessages::default();
        let mut bytes = 0;
        for &sequence in &self.ready {
            if picked.received.len() >= pick.limit {
                break;
            }
            let Some(slot) = self.slots.get(&sequence) else { continue };
            if slot.group.as_ref().is_some_and(|group| self.blocked.contains_key(group)) {
                continue;
            }
            if slot.sent < pick.expired {
                picked.expired.push(sequence);
                continue;
            }
            if bytes > 0 && bytes + slot.bytes > pick.bytes_max {
                break;
            }
            bytes += slot.bytes;
            if pick.receive_count_max.is_some_and(|max| slot.delivery.received >= max) {
                picked.dead.push(sequence);
            } else {
                picked.received.push(sequence);
            }
        }
        for &sequence in &picked.received {
            self.change(sequence, |slot| {
                let received = slot.delivery.received + 1;
                let first_received = slot.delivery.first_received.or(Some(now));
                let receipt = Some(uuid::Uuid::new_v4().to_string());
                slot.delivery =
                    DeliveryState { received, first_received, visible: pick.until, receipt };
                slot.phase = MessagePhase::Invisible;
            });
        }
        for &sequence in picked.dead.iter().chain(&picked.expired) {
            self.change(sequence, |slot| slot.phase = MessagePhase::Deleting);
        }
        picked
    }

    /// Makes selected messages visible again, and does not count their reception.
    pub(crate) fn undo_reception(&mut self, sequences: &[u64], now: Timestamp) {
        for &sequence in sequences {
            self.change(sequence, |slot| {
                // A purge may be deleting the message.
                if slot.phase == MessagePhase::Invisible {
                    let received = slot.delivery.received.saturating_sub(1);
                    let first_received = slot.delivery.first_received.filter(|_| received > 0);
                    slot.delivery =
                        DeliveryState { received, first_received, visible: now, receipt: None };
                }
            });
        }
    }

    /// Starts the deletion of a delivered message. Returns false if the message was deleted, or was
    /// delivered again with another receipt.
    pub(crate) fn begin_deletion(&mut self, sequence: u64, receipt: &str) -> bool {
        let slot = self.slots.get(&sequence);
        let slot =
            slot.filter(|slot| matches!(slot.phase, MessagePhase::Ready | MessagePhase::Invisible));
        let is_current = slot.is_some_and(|slot| slot.delivery.receipt.as_deref() == Some(receipt));
        if is_current {
            self.change(sequence, |slot| slot.phase = MessagePhase::Deleting);
        }
        is_current
    }

    /// Changes the delivery record of a message in flight. Returns the new record; `None` if the
    /// receipt does not belong to the current delivery, or the message is not in flight.
    pub(crate) fn change_delivery(
        &mut self,
        sequence: u64,
        receipt: &str,
        now: Timestamp,
        change: impl FnOnce(&mut DeliveryState),
    ) -> Option<DeliveryState> {
        let slot = self.slots.get(&sequence)?;
        let is_current = slot.delivery.receipt.as_deref() == Some(receipt);
        let is_in_flight = slot.phase == MessagePhase::Invisible && slot.delivery.visible > now;
        if !is_current || !is_in_flight {
            return None;
        }
        self.change(sequence, |slot| change(&mut slot.delivery));
        self.delivery(sequence).cloned()
    }

    /// Returns true if a message can be received.
    pub(crate) fn has_visible(&mut self, now: Timestamp) -> bool {
        self.update_visible(now);
        self.ready.iter().any(|sequence| {
            let group = self.slots.get(sequence).and_then(|slot| slot.group.as_ref());
            group.is_none_or(|group| !self.blocked.contains_key(group))
        })
    }

    /// Returns the earliest time at which a message becomes visible.
    pub(crate) fn next_visible(&self) -> Option<Timestamp> {
        self.invisible.first().map(|(visible, _)| *visible)
    }

    /// Starts the deletion of messages that were sent before a time.
    pub(crate) fn expire(&mut self, before: Timestamp) -> Vec<u64> {
        let old = self.slots.iter().take_while(|(_, slot)| slot.sent < before);
        let old = old.filter(|(_, slot)| {
            matches!(slot.phase, MessagePhase::Ready | MessagePhase::Invisible)
        });
        let old: Vec<u64> = old.map(|(sequence, _)| *sequence).collect();
        for &sequence in &old {
            self.change(sequence, |slot| slot.phase = MessagePhase::Deleting);
        }
        old
    }

    pub(crate) fn counts(&mut self, now: Timestamp) -> QueueCounts {
        self.update_visible(now);
        let has_receipt = |(_, sequence): &&(Timestamp, u64)| {
            self.delivery(*sequence).is_some_and(|delivery| delivery.receipt.is_some())
        };
        let in_flight = self.invisible.iter().filter(has_receipt).count();
        QueueCounts {
            visible: self.ready.len() as u64,
            in_flight: in_flight as u64,
            delayed: (self.invisible.len() - in_flight) as u64,
        }
    }

    /// Returns the number of deleted messages whose entries are still in the journals.
    pub(crate) fn deleted_count(&self) -> usize {
        self.gone.len()
    }

    /// Returns ranges of sequence numbers that contain all deleted messages and no other message.
    /// Both ends are inclusive. Later calls do not return these numbers again.
    pub(crate) fn take_deleted_ranges(&mut self) -> Vec<[u64; 2]> {
        let mut ranges: Vec<[u64; 2]> = Vec::new();
        for sequence in std::mem::take(&mut self.gone) {
            match ranges.last_mut() {
                Some(range) if self.slots.range(range[1]..sequence).next().is_none() => {
                    range[1] = sequence;
                }
                _ => ranges.push([sequence, sequence]),
            }
        }
        ranges
    }

    /// Returns the message that was sent with a deduplication id in the last 5 minutes.
    pub(crate) fn deduplicated(&self, id: &str, now: Timestamp) -> Option<&DeduplicationEntry> {
        self.deduplicated.get(id).filter(|sent| sent.sent + DEDUPLICATION >= now)
    }

    pub(crate) fn deduplicate(&mut self, id: String, sent: DeduplicationEntry) {
        self.last = self.last.max(sent.sequence);
        self.deduplication_order.insert(sent.sequence, id.clone());
        self.deduplicated.insert(id, sent);
    }

    /// Removes the deduplication ids of messages whose storing failed.
    pub(crate) fn forget(&mut self, sequences: &HashSet<u64>) {
        self.deduplicated.retain(|_, sent| !sequences.contains(&sent.sequence));
        self.deduplication_order.retain(|sequence, _| !sequences.contains(sequence));
    }

    pub(crate) fn deduplication_count(&self) -> usize {
        self.deduplication_order.len()
    }

    /// Removes deduplication ids that are too old. Returns the sequence number below which all ids
    /// were removed.
    pub(crate) fn forget_old(&mut self, now: Timestamp) -> u64 {
        let before = (now - DEDUPLICATION).timestamp_micros();
        let before = u64::try_from(before).unwrap_or_default();
        let kept = self.deduplication_order.split_off(&before);
        let old = std::mem::replace(&mut self.deduplication_order, kept);
        self.deduplicated.retain(|_, sent| !old.contains_key(&sent.sequence));
        before
    }

    fn update_visible(&mut self, now: Timestamp) {
        while let Some(&(visible, sequence)) = self.invisible.first()
            && visible <= now
        {
            self.change(sequence, |slot| slot.phase = MessagePhase::Ready);
        }
    }

    fn change(&mut self, sequence: u64, change: impl FnOnce(&mut MessageState)) {
        self.remove_from_sets(sequence);
        let Some(slot) = self.slots.get_mut(&sequence) else { return };
        change(slot);
        match slot.phase {
            MessagePhase::Ready => {
                self.ready.insert(sequence);
            }
            MessagePhase::Invisible => {
                self.invisible.insert((slot.delivery.visible, sequence));
            }
            MessagePhase::Storing | MessagePhase::Deleting => {}
        }
        if let Some(group) = slot.blocked_group() {
            *self.blocked.entry(group.clone()).or_default() += 1;
        }
    }

    /// Removes a message from the sets of ready and invisible messages, and from the count of its
    /// group.
    fn remove_from_sets(&mut self, sequence: u64) {
        let Some(slot) = self.slots.get(&sequence) else { return };
        self.ready.remove(&sequence);
        self.invisible.remove(&(slot.delivery.visible, sequence));
        let Some(group) = slot.blocked_group() else { return };
        if let Some(count) = self.blocked.get_mut(group) {
            *count -= 1;
            if *count == 0 {
                self.blocked.remove(group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + chrono::TimeDelta::seconds(seconds)
    }

    fn state(groups: &[Option<&str>]) -> QueueState {
        let mut state = QueueState::default();
        for (sequence, group) in groups.iter().enumerate() {
            let group = group.map(str::to_owned);
            let delivery = DeliveryState { visible: at(0), ..DeliveryState::default() };
            let (sent, bytes, phase) = (at(0), 10, MessagePhase::Ready);
            let slot = MessageState { group, sent, bytes, delivery, phase };
            state.add(sequence as u64, slot);
        }
        state
    }

    fn options(now: i64, limit: usize) -> ReceiveCriteria {
        let (until, expired) = (at(now + 10), at(-1));
        let bytes_max = usize::MAX;
        ReceiveCriteria { limit, bytes_max, until, expired, receive_count_max: Some(2) }
    }

    fn pick(state: &mut QueueState, now: i64, limit: usize) -> Vec<u64> {
        state.pick(at(now), options(now, limit)).received
    }

    #[test]
    fn a_received_message_is_invisible_until_its_timeout_and_then_dead() {
        let mut state = state(&[None, None]);
        assert_eq!(pick(&mut state, 0, 1), [0]);
        assert_eq!(pick(&mut state, 0, 9), [1]);
        assert_eq!(pick(&mut state, 5, 9), [] as [u64; 0]);
        assert_eq!(state.next_visible(), Some(at(10)));
        assert_eq!(state.counts(at(5)).in_flight, 2);
        assert_eq!(pick(&mut state, 10, 9), [0, 1]);
        let picked = state.pick(at(30), options(30, 9));
        assert_eq!((picked.dead, picked.received), (vec![0, 1], vec![]));
        assert_eq!(pick(&mut state, 50, 9), [] as [u64; 0]);
        state.restore(0);
        assert_eq!(state.pick(at(50), options(50, 9)).dead, [0]);
    }

    #[test]
    fn the_bytes_of_the_selected_messages_are_limited() {
        let mut state = state(&[None; 4]);
        let options = |now, bytes_max| ReceiveCriteria { bytes_max, ..options(now, 9) };
        assert_eq!(state.pick(at(0), options(0, 25)).received, [0, 1]);
        assert_eq!(state.delivery(2).map(|one| one.received), Some(0));
        assert_eq!(state.pick(at(0), options(0, 5)).received, [2], "at least one message");
        assert_eq!(pick(&mut state, 10, 3), [0, 1, 2]);
        let picked = state.pick(at(20), options(20, 15));
        assert_eq!((picked.dead, picked.received), (vec![0], vec![]));
        assert_eq!(state.bytes_between([1, 3], 2), 20);
    }

    #[test]
    fn messages_of_a_group_wait_for_each_other() {
        let mut state = state(&[Some("x"), Some("x"), Some("y"), Some("x")]);
        assert_eq!(pick(&mut state, 0, 1), [0]);
        assert_eq!(pick(&mut state, 1, 9), [2]);
        let receipt = state.delivery(0).and_then(|one| one.receipt.clone()).expect("a receipt");
        assert!(!state.begin_deletion(0, "other"));
        assert!(state.begin_deletion(0, &receipt));
        assert_eq!(pick(&mut state, 2, 9), [] as [u64; 0], "the deletion is not stored yet");
        state.remove(0);
        assert!(!state.begin_deletion(0, &receipt));
        assert_eq!(pick(&mut state, 2, 9), [1, 3]);
        // After the visibility timeout, the messages are received again, in the same order.
        assert_eq!(pick(&mut state, 20, 1), [1]);
    }

    #[test]
    fn a_delivery_is_changed_only_while_it_is_in_flight() {
        let mut state = state(&[None]);
        assert_eq!(pick(&mut state, 0, 1), [0]);
        let receipt = state.delivery(0).and_then(|one| one.receipt.clone()).expect("a receipt");
        let change = |state: &mut QueueState, now, receipt: &str| {
            let changed = state.change_delivery(0, receipt, at(now), |it| it.visible = at(now));
            changed.is_some()
        };
        assert!(!change(&mut state, 5, "other"));
        assert!(!change(&mut state, 10, &receipt));
        assert!(change(&mut state, 5, &receipt));
        assert_eq!(pick(&mut state, 5, 1), [0]);
        assert!(!change(&mut state, 6, &receipt), "the message was received again");
    }

    #[test]
    fn ranges_of_deleted_messages_contain_no_other_one() {
        let mut state = state(&[None; 6]);
        for sequence in [0, 1, 3, 4] {
            state.remove(sequence);
        }
        assert_eq!(state.take_deleted_ranges(), [[0, 1], [3, 4]]);
        state.remove(2);
        assert_eq!(state.take_deleted_ranges(), [[2, 2]]);
        assert_eq!(state.take_deleted_ranges(), [] as [[u64; 2]; 0]);
    }

    #[test]
    fn old_messages_and_ids_are_removed() {
        let mut state = state(&[None]);
        let picked = state.pick(at(0), ReceiveCriteria { expired: at(1), ..options(0, 9) });
        assert_eq!((picked.expired, picked.received), (vec![0], vec![]));
        let sequence = state.next_sequence(at(1));
        let sent = DeduplicationEntry { sequence, message: "m".into(), sent: at(1) };
        state.deduplicate("k".into(), sent);
        state.forget_old(at(301));
        assert!(state.deduplicated("k", at(301)).is_some());
        assert!(state.deduplicated("k", at(302)).is_none());
        state.forget_old(at(302));
        assert_eq!(state.deduplication_count(), 0);
    }

    #[test]
    fn sequence_numbers_ascend_if_the_clock_does_not() {
        let mut state = QueueState::default();
        let first = state.next_sequence(at(5));
        assert_eq!(first, 5_000_000);
        assert_eq!(state.next_sequence(at(3)), first + 1);
    }
}
