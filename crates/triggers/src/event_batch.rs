//! Events that clients send in batches for a function.
//!
//! A batch is stored in a few large entries, in one batch of the store with the ids of its events.
//! So accepting an event costs no entry of its own, and a batch costs one sync. The events wait in
//! these entries; [`BatchSource`](crate::batch_source) turns them into deliveries when the queue of
//! the function has capacity.
//!
//! | journal | key | value |
//! |---|---|---|
//! | `trigger_batches` | queue, id of the first event, number of events | events that wait |
//! | `trigger_batch_ids` | queue, id of the first event | time, and the ids of the events |

use std::sync::atomic::{AtomicUsize, Ordering};

use headwater_model::{
    AcceptedEvent, Actor, CloudEvent, ErrorCode, Event, EventData, JobId, ObjectId, Problem,
    SpecVersion, Timestamp, TriggerEvent, TriggerEventStatus,
};
use headwater_store::{Append, Batch, Error as StoreError, KeyRange};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::calls::check_key;
use crate::delivery_log::{Delivery, DeliveryLog};
use crate::recent_ids::{IdHash, RecentIds};
use crate::record::{decode, encode, read_all};
use crate::source::SourceContext;
use crate::{Error, Result, Triggers};

pub(crate) const BATCHES: &str = "trigger_batches";
const IDS: &str = "trigger_batch_ids";

/// Maximum number of events of one function that wait, or are pending or running.
const EVENTS_MAX: usize = 1_000_000;

/// Maximum number and size of the events in one entry.
const ENTRY_EVENTS_MAX: usize = 500;
const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Number of entries that are read at once when the lake is opened.
const PAGE: usize = 16;

/// Length of a time and of an id in the journal of ids, in bytes.
const TIME_BYTES: usize = 8;
const ID_BYTES: usize = 32;

/// Events for a function.
#[derive(Debug, Clone)]
pub struct NewEvents {
    /// The common part of the events.
    pub call: EventCall,
    /// The events, in order.
    pub events: Vec<CloudEvent>,
}

/// The call that each event of a batch causes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventCall {
    /// Name of the function to call.
    pub function: String,
    /// Its argument, which receives the event.
    pub argument: String,
    /// The user that sent the events, whose limits apply; `None` for the owner. Different users may
    /// use the same ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The author of the calls' commits and jobs.
    pub author: String,
    /// The identity that sent the events, with whose rights the function runs.
    pub actor: Actor,
}

/// An event that waits.
#[derive(Debug, Serialize, Deserialize)]
struct WaitingEvent {
    id: JobId,
    /// The order key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    event: Box<RawValue>,
}

/// The form in which an entry is written.
#[derive(Serialize)]
struct NewEntry<'a> {
    call: &'a EventCall,
    time: Timestamp,
    events: &'a [WaitingEvent],
}

/// An entry with events that wait.
#[derive(Debug, Deserialize)]
pub(crate) struct WaitingEntry {
    call: EventCall,
    time: Timestamp,
    events: Vec<WaitingEvent>,
}

impl WaitingEntry {
    /// Returns the deliveries of the events. The delivery of an event that cannot be parsed is
    /// failed.
    pub(crate) fn deliveries(&self, queue: &str) -> Vec<(Event, Delivery)> {
        self.events.iter().map(|waiting| self.delivery(queue, waiting)).collect()
    }

    /// Returns the delivery of one event; `None` if the entry does not contain it.
    pub(crate) fn find(&self, queue: &str, id: JobId) -> Option<(Event, Delivery)> {
        let found = self.events.iter().find(|waiting| waiting.id == id);
        found.map(|waiting| self.delivery(queue, waiting))
    }

    fn delivery(&self, queue: &str, waiting: &WaitingEvent) -> (Event, Delivery) {
        let EventCall { function, argument, user, author, actor } = self.call.clone();
        let text = waiting.event.get();
        let (value, status, error) = match CloudEvent::parse_value(text) {
            Ok(value) => (value, TriggerEventStatus::Pending, None),
            // Keep the text, so that no data is lost.
            Err(error) => {
                let message = format!("event `{}` cannot be parsed: {error}", waiting.id);
                let problem = Problem::new(ErrorCode::InvalidArgument, message);
                (Value::from(text), TriggerEventStatus::Failed, Some(problem))
            }
        };
        let arguments = [(argument, value)].into();
        let event = Event {
            specversion: SpecVersion::default(),
            id: waiting.id.to_string(),
            source: queue.to_owned(),
            subject: None,
            time: self.time,
            data: EventData::FunctionInvoked { function, arguments },
            caused_by: Vec::new(),
        };
        let delivery = Delivery {
            status,
            error,
            key: waiting.key.clone(),
            author: Some(author),
            user,
            actor: Some(actor),
            ..Delivery::new(event.id.clone(), queue, self.time)
        };
        (event, delivery)
    }
}

/// The events of one queue that wait, and the ids of those that were accepted recently.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    waiting: AtomicUsize,
    ids: Mutex<RecentIds>,
    /// Notified when a batch was stored or rejected.
    ended: Notify,
    /// True if the ids in memory include all that are stored.
    is_loaded: tokio::sync::Mutex<bool>,
}

impl Intake {
    /// Returns the number of events that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn add_waiting(&self, count: usize) {
        self.waiting.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn remove_waiting(&self, count: usize) {
        let subtract = |waiting: usize| Some(waiting.saturating_sub(count));
        let _ = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, subtract);
    }

    async fn load(&self, context: &SourceContext) -> Result<()> {
        let mut is_loaded = self.is_loaded.lock().await;
        if !*is_loaded {
            let prefix = prefix(&context.trigger);
            for entry in read_all(context.store(), IDS, &prefix).await? {
                let (time, ids) = decode_ids(&entry.value).ok_or_else(|| Error::Corrupt {
                    journal: IDS.to_owned(),
                    key: entry.key.clone(),
                    reason: "it has a wrong length".to_owned(),
                })?;
                self.ids.lock().add(entry.key, time, ids);
            }
            *is_loaded = true;
        }
        Ok(())
    }

    /// Reserves ids, after all earlier batches with one of them were stored or rejected.
    async fn reserve(&self, hashes: &[IdHash], events: &[JobId]) -> Vec<Option<JobId>> {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // Notifications from now on are not missed.
            ended.as_mut().enable();
            if let Some(earlier) = self.ids.lock().reserve(hashes, events) {
                return earlier;
            }
            ended.await;
        }
    }
}

impl Triggers {
    /// Accepts events for a function, all or none. They are durable on return.
    ///
    /// An event with the source and id of an event that the same user sent for the same function
    /// within 10 minutes is not added. The response then contains the earlier event. Errors:
    /// `too_busy` if too many events of the function wait; `invalid_argument` for an invalid order
    /// key.
    pub async fn accept_events(&self, new: NewEvents) -> Result<Vec<AcceptedEvent>> {
        for event in &new.events {
            event.partition_key.as_deref().map_or(Ok(()), check_key)?;
        }
        let worker = self.call_worker(&new.call.function).await?;
        // If the client leaves, the reservation of the ids must end.
        let accepted = tokio::spawn(async move { accept(&worker.context, new).await });
        accepted.await.unwrap_or(Err(Error::Store(StoreError::Closed)))
    }
}

async fn accept(context: &SourceContext, new: NewEvents) -> Result<Vec<AcceptedEvent>> {
    let (queue, intake) = (&context.queue, &context.queue.intake);
    let NewEvents { call, events } = new;
    let pending = intake.waiting() + queue.open_count();
    if pending + events.len() > EVENTS_MAX {
        return Err(Error::QueueFull { function: call.function, pending });
    }
    intake.load(context).await?;
    let user = call.user.as_deref().unwrap_or_default();
    let hashes: Vec<IdHash> = events.iter().map(|event| hash(user, event)).collect();
    let ids = context.options.jobs.new_ids(events.len());
    let earlier = intake.reserve(&hashes, &ids).await;
    let accepted = ids.iter().zip(&earlier).map(|(id, earlier)| AcceptedEvent {
        event: earlier.unwrap_or(*id).to_string(),
        duplicate: earlier.is_some(),
    });
    let accepted: Vec<AcceptedEvent> = accepted.collect();
    let is_new = |index: &usize| earlier[*index].is_none();
    let fresh: Vec<(IdHash, JobId)> =
        (0..ids.len()).filter(is_new).map(|index| (hashes[index], ids[index])).collect();
    let Some((_, first)) = fresh.first() else { return Ok(accepted) };
    let (now, count) = (context.now(), fresh.len());
    let key = format!("{}{first}", prefix(&context.trigger));
    let waiting = events.into_iter().zip(ids.iter().zip(&earlier));
    let waiting = waiting.filter(|(_, (_, earlier))| earlier.is_none());
    let waiting = waiting.map(|(event, (id, _))| WaitingEvent {
        id: *id,
        key: event.partition_key,
        event: event.json,
    });
    let waiting: Vec<WaitingEvent> = waiting.collect();
    let hashes: Vec<IdHash> = fresh.iter().map(|(hash, _)| *hash).collect();
    let stored = match entries(&context.trigger, &call, now, &waiting) {
        Ok(mut entries) => {
            entries.push(Append::put(IDS, &key, encode_ids(now, &fresh).into()));
            context.store().apply(Batch { entries, ..Batch::default() }).await.map_err(Error::from)
        }
        Err(error) => Err(error),
    };
    if stored.is_ok() {
        intake.add_waiting(count);
        intake.ids.lock().publish(key, now, hashes);
    } else {
        // The batch may have been applied despite the error.
        intake.ids.lock().release(&hashes);
        *intake.is_loaded.lock().await = false;
    }
    intake.ended.notify_waiters();
    context.wake.notify_one();
    stored?;
    let expired = intake.ids.lock().expire(now);
    if let Some(last) = expired {
        let range = KeyRange::with_prefix(prefix(&context.trigger)).until(format!("{last}\0"));
        context.store().trim(IDS, &range).await?;
    }
    Ok(accepted)
}

/// Returns the entries for the events of a batch.
fn entries(
    queue: &str,
    call: &EventCall,
    time: Timestamp,
    waiting: &[WaitingEvent],
) -> Result<Vec<Append>> {
    let mut entries = Vec::new();
    let mut rest = waiting;
    while !rest.is_empty() {
        let mut bytes = 0;
        let count = rest.iter().take(ENTRY_EVENTS_MAX).take_while(|waiting| {
            bytes += waiting.event.get().len();
            bytes <= ENTRY_BYTES_MAX
        });
        let (events, left) = rest.split_at(count.count().max(1));
        let key = format!("{}{}/{}", prefix(queue), events[0].id, events.len());
        entries.push(Append::put(BATCHES, key, encode(&NewEntry { call, time, events })?));
        rest = left;
    }
    Ok(entries)
}

/// Returns the prefix of the keys of a queue.
pub(crate) fn prefix(queue: &str) -> String {
    format!("{queue}\n")
}

/// Returns the queue and the number of events in the key of an entry.
fn parse_key(key: &str) -> Option<(&str, usize)> {
    let (queue, rest) = key.split_once('\n')?;
    let (_, count) = rest.split_once('/')?;
    Some((queue, count.parse().ok()?))
}

fn hash(user: &str, event: &CloudEvent) -> IdHash {
    let text = [user, &event.source, &event.id];
    let mut bytes = Vec::with_capacity(text.iter().map(|part| part.len() + 8).sum());
    for part in text {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part.as_bytes());
    }
    let digest = ObjectId::of(&bytes);
    digest.as_bytes().iter().take(16).fold(0, |hash, byte| hash << 8 | u128::from(*byte))
}

fn encode_ids(time: Timestamp, ids: &[(IdHash, JobId)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(TIME_BYTES + ids.len() * ID_BYTES);
    bytes.extend(time.timestamp_micros().to_be_bytes());
    for (hash, id) in ids {
        bytes.extend(hash.to_be_bytes());
        bytes.extend(id.0.as_bytes());
    }
    bytes
}

fn decode_ids(bytes: &[u8]) -> Option<(Timestamp, Vec<(IdHash, JobId)>)> {
    let (time, rest) = bytes.split_first_chunk::<TIME_BYTES>()?;
    let time = Timestamp::from_timestamp_micros(i64::from_be_bytes(*time))?;
    let mut ids = Vec::with_capacity(rest.len() / ID_BYTES);
    for pair in rest.chunks(ID_BYTES) {
        let (hash, id) = pair.split_first_chunk::<16>()?;
        let id = Uuid::from_slice(id).ok()?;
        ids.push((IdHash::from_be_bytes(*hash), JobId(id)));
    }
    Some((time, ids))
}

impl DeliveryLog {
    /// Returns the number of events that wait, by queue.
    pub(crate) async fn waiting(&self) -> Result<Vec<(String, usize)>> {
        let mut waiting = Vec::new();
        let mut from = None;
        loop {
            let range = KeyRange { from, limit: PAGE, ..KeyRange::default() };
            let page = self.store.scan(BATCHES, &range).await?;
            let of_key = |key: &str| parse_key(key).map(|(queue, count)| (queue.to_owned(), count));
            waiting.extend(page.iter().filter_map(|entry| of_key(&entry.key)));
            let Some(last) = page.last() else { return Ok(waiting) };
            from = Some(format!("{}\0", last.key));
        }
    }

    /// Returns the smallest id of the events that wait in all queues.
    pub(crate) async fn oldest_waiting(&self) -> Result<Option<String>> {
        let mut oldest: Option<String> = None;
        let mut from = None;
        loop {
            let range = KeyRange { from, limit: 1, ..KeyRange::default() };
            let Some(entry) = self.store.scan(BATCHES, &range).await?.pop() else {
                return Ok(oldest);
            };
            let (queue, rest) = entry.key.split_once('\n').unwrap_or((entry.key.as_str(), ""));
            let id = rest.split('/').next().unwrap_or_default();
            if oldest.as_deref().is_none_or(|oldest| id < oldest) {
                oldest = Some(id.to_owned());
            }
            // The first key of a queue has its smallest id. Continue after the prefix of the queue.
            from = Some(format!("{queue}\u{b}"));
        }
    }

    /// Returns an event that waits in one of these queues.
    pub(crate) async fn waiting_event(
        &self,
        queues: &[String],
        id: &str,
    ) -> Result<Option<TriggerEvent>> {
        let Ok(id) = id.parse::<JobId>() else { return Ok(None) };
        for queue in queues {
            // The ids of an entry are adjacent, so only the last entry up to the id can contain it.
            let range = KeyRange::with_prefix(prefix(queue)).reverse().limit(1);
            let range = range.until(format!("{}{id}0", prefix(queue)));
            let Some(entry) = self.store.scan(BATCHES, &range).await?.pop() else { continue };
            let waiting: WaitingEntry = decode(BATCHES, &entry.key, &entry.value)?;
            let Some((event, delivery)) = waiting.find(queue, id) else { continue };
            let Delivery { trigger, status, created, due, attempts, job, error, author, .. } =
                delivery;
            let event =
                TriggerEvent { event, trigger, status, created, due, attempts, job, error, author };
            return Ok(Some(event));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_of_ids_is_read_back() {
        let time = Timestamp::from_timestamp_micros(1_767_225_600_000_001).expect("a time");
        let ids = vec![(7, JobId::generate()), (u128::MAX, JobId::generate())];
        assert_eq!(decode_ids(&encode_ids(time, &ids)), Some((time, ids.clone())));
        assert_eq!(decode_ids(&encode_ids(time, &ids)[..30]), None);
        assert_eq!(decode_ids(&[0; 3]), None);
    }

    #[test]
    fn entries_are_bounded_by_number_and_size() {
        let call = EventCall {
            function: "f".into(),
            argument: "event".into(),
            user: None,
            author: "ada".into(),
            actor: Actor::Owner,
        };
        let event = |size: usize| WaitingEvent {
            id: JobId::generate(),
            key: None,
            event: serde_json::value::to_raw_value(&"x".repeat(size)).expect("JSON"),
        };
        let counts = |sizes: Vec<usize>| {
            let waiting: Vec<WaitingEvent> = sizes.into_iter().map(event).collect();
            let entries = entries("/functions/f", &call, Timestamp::UNIX_EPOCH, &waiting);
            let entries = entries.expect("entries");
            let counts = entries.iter().filter_map(|entry| parse_key(&entry.key));
            counts.map(|(queue, count)| (queue.to_owned(), count)).collect::<Vec<_>>()
        };
        let of = |count: usize| ("/functions/f".to_owned(), count);
        assert_eq!(counts(vec![10; 1_001]), [of(500), of(500), of(1)]);
        assert_eq!(counts(vec![600_000, 600_000, 2_000_000, 1]), [of(1), of(1), of(1), of(1)]);
    }
}
