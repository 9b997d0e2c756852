//! The ids of recently accepted events, by which repeated events are detected. This module does no
//! I/O.
//!
//! An id is reserved before its event is stored. Until the event is durable, other requests with
//! this id wait: a repeated event must not be acknowledged before the first event with the id is
//! durable.

use std::collections::{BTreeMap, HashMap, HashSet};

use headwater_model::{JobId, Timestamp};

/// Time for which an id is kept.
const WINDOW: chrono::TimeDelta = chrono::TimeDelta::minutes(10);

/// Time by which the removal of ids from the store is delayed, so that many ids are removed
/// together.
const DELAY: chrono::TimeDelta = chrono::TimeDelta::minutes(1);

/// Hash of the user, source and id of an event.
pub type IdHash = u128;

/// The ids of the events that one queue accepted recently.
#[derive(Debug, Default)]
pub struct RecentIds {
    /// The accepted event of each id.
    events: HashMap<IdHash, JobId>,
    /// Ids of events that are being stored.
    reserved: HashSet<IdHash>,
    /// The stored batches, by the keys of their journal entries. Newer batches have greater keys.
    batches: BTreeMap<String, IdBatch>,
    /// The batches that are removed from memory, but not yet from the store.
    removed: Option<RemovedBatches>,
}

#[derive(Debug)]
struct RemovedBatches {
    /// Time of the oldest of these batches.
    oldest: Timestamp,
    /// Key of the newest of these batches.
    last: String,
}

#[derive(Debug)]
struct IdBatch {
    time: Timestamp,
    ids: Vec<(IdHash, JobId)>,
}

impl RecentIds {
    /// Reserves the ids of events for a batch. Returns, for each event, the earlier event with the
    /// same id; `None` for a new event. If an event with one of the ids is being stored, reserves
    /// nothing, and returns `None` instead of the list.
    pub fn reserve(&mut self, hashes: &[IdHash], events: &[JobId]) -> Option<Vec<Option<JobId>>> {
        if !self.reserved.is_empty() && hashes.iter().any(|hash| self.reserved.contains(hash)) {
            return None;
        }
        let mut earlier = Vec::with_capacity(hashes.len());
        for (hash, event) in hashes.iter().zip(events) {
            let known = self.events.get(hash).copied();
            if known.is_none() {
                self.events.insert(*hash, *event);
                self.reserved.insert(*hash);
            }
            earlier.push(known);
        }
        Some(earlier)
    }

    /// Releases the reservation of a batch that was not stored.
    pub fn release(&mut self, hashes: &[IdHash]) {
        for hash in hashes {
            if self.reserved.remove(hash) {
                self.events.remove(hash);
            }
        }
    }

    /// Records that a batch is durable.
    pub fn publish(&mut self, key: String, time: Timestamp, hashes: Vec<IdHash>) {
        let mut ids = Vec::with_capacity(hashes.len());
        for hash in hashes {
            self.reserved.remove(&hash);
            ids.extend(self.events.get(&hash).map(|event| (hash, *event)));
        }
        self.batches.insert(key, IdBatch { time, ids });
    }

    /// Adds the ids of a stored batch. If several batches contain an id, the event in the newest
    /// batch counts.
    pub fn add(&mut self, key: String, time: Timestamp, ids: Vec<(IdHash, JobId)>) {
        if !self.batches.contains_key(&key) {
            for (hash, event) in &ids {
                self.reserved.remove(hash);
                let newest = self.events.entry(*hash).or_insert(*event);
                *newest = (*newest).max(*event);
            }
            self.batches.insert(key, IdBatch { time, ids });
        }
    }

    /// Removes the ids of old events. Returns the key of the last batch to remove from the store.
    pub fn expire(&mut self, now: Timestamp) -> Option<String> {
        while let Some(batch) = self.batches.first_entry()
            && batch.get().time + WINDOW <= now
        {
            let (last, IdBatch { time, ids }) = batch.remove_entry();
            for (hash, event) in ids {
                // Keep the id if a later batch contains it, too: it then belongs to another event.
                if self.events.get(&hash) == Some(&event) {
                    self.events.remove(&hash);
                }
            }
            let oldest = self.removed.take().map_or(time, |removed| removed.oldest);
            self.removed = Some(RemovedBatches { oldest, last });
        }
        let removed = self.removed.take_if(|removed| removed.oldest + WINDOW + DELAY <= now);
        removed.map(|removed| removed.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + chrono::TimeDelta::seconds(seconds)
    }

    #[test]
    fn an_id_is_one_event_until_it_expires() {
        let mut ids = RecentIds::default();
        let events: Vec<JobId> = (0..3).map(|_| JobId::generate()).collect();
        let known = ids.reserve(&[1, 2, 1], &events).expect("reserved");
        assert_eq!(known, [None, None, Some(events[0])], "also within one batch");
        assert_eq!(ids.reserve(&[3, 2], &events), None, "it is being stored");
        ids.publish("a".into(), at(0), vec![1, 2]);
        assert_eq!(ids.reserve(&[2], &events), Some(vec![Some(events[1])]));

        let other = ids.reserve(&[3], &events[2..]).expect("reserved");
        assert_eq!(other, [None]);
        ids.release(&[3]);
        assert_eq!(ids.reserve(&[3], &events), Some(vec![None]), "it was not stored");
        ids.publish("b".into(), at(300), vec![3]);

        assert_eq!(ids.expire(at(599)), None);
        assert_eq!(ids.reserve(&[2], &events), Some(vec![Some(events[1])]));
        assert_eq!(ids.expire(at(600)), None, "it is removed from the store later");
        assert_eq!(ids.reserve(&[1, 3], &events), Some(vec![None, Some(events[0])]));
        assert_eq!(ids.expire(at(660)), Some("a".to_owned()));
        assert_eq!(ids.expire(at(899)), None);
        assert_eq!(ids.expire(at(960)), Some("b".to_owned()));
    }

    #[test]
    fn the_ids_of_the_store_are_added_once() {
        let mut ids = RecentIds::default();
        let (first, second) = (JobId::generate(), JobId::generate());
        ids.add("a".into(), at(0), vec![(1, first)]);
        ids.add("a".into(), at(0), vec![(1, second)]);
        assert_eq!(ids.reserve(&[1], &[second]), Some(vec![Some(first)]));
        assert_eq!(ids.expire(at(700)), Some("a".to_owned()));
        assert_eq!(ids.reserve(&[1], &[second]), Some(vec![None]));
    }

    #[test]
    fn an_id_that_was_used_again_is_one_event_after_a_restart() {
        let mut ids = RecentIds::default();
        let (first, second) = (JobId::generate(), JobId::generate());
        ids.add("b".into(), at(610), vec![(1, second)]);
        ids.add("a".into(), at(0), vec![(1, first)]);
        assert_eq!(ids.expire(at(630)), None, "it is removed from the store later");
        let third = JobId::generate();
        assert_eq!(ids.reserve(&[1], &[third]), Some(vec![Some(second)]));
        ids.expire(at(1210));
        assert_eq!(ids.reserve(&[1], &[third]), Some(vec![None]));
    }
}
