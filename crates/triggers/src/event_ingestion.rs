//! Events that clients send in batches for a function.
//!
//! One batch of the store writes all events as a few large entries, together with their ids. A
//! request therefore needs one sync, and events need no separate entries. The events wait in these
//! entries; [`WaitingEventSource`](crate::waiting_event_source) turns them into deliveries when the
//! queue of the function has capacity.
//!
//! | journal | key | value |
//! |---|---|---|
//! | `trigger_batches` | queue, id of the first event, number of events | events that wait |
//! | `trigger_batch_ids` | queue, id of the first event | time, and the ids of the events |

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_event_values::IdHash;
use headwater_model::{
    AcceptedEvent, Actor, CloudEvent, ErrorCode, Event, EventData, JobId, ObjectId, Problem,
    SpecVersion, Timestamp,
};
use headwater_store::{JournalAppend, JournalEntry, WriteBatch};
use headwater_telemetry::with_current;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::async_calls::{check_key, target_of};
use crate::delivery_log::Delivery;
use crate::event_operations::to_end;
use crate::event_source::SourceContext;
use crate::journal_codec::encode;
use crate::target::with_retryable;
use crate::waiting_events::ListedEntry;
use crate::{Error, Result, Triggers};

pub(crate) const BATCHES: &str = "trigger_batches";
pub(crate) const IDS: &str = "trigger_batch_ids";

/// Maximum number of events of one user that wait for one function.
pub(crate) const EVENTS_MAX: usize = 1_000_000;

/// Maximum number of events in one entry of `trigger_batches`, and their total size in bytes.
const ENTRY_EVENTS_MAX: usize = 500;
const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Layout of a value in `trigger_batch_ids`: length in bytes of the time, and of each pair of id
/// hash and event id.
const TIME_BYTES: usize = 8;
const ID_BYTES: usize = 32;

/// Events for a function.
#[derive(Debug, Clone)]
pub struct EventBatch {
    /// The call that each event causes.
    pub call: EventCall,
    /// The events, in order.
    pub events: Vec<CloudEvent>,
}

/// The call that each event of a batch causes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventCall {
    /// Name of the function to call.
    pub function: String,
    /// The argument that receives the event; `None` if the event's data contains all arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argument: Option<String>,
    /// The user that sent the events, whose limits apply; `None` for the lake's owner. Different
    /// users may use the same ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The author of the calls' commits and jobs.
    pub author: String,
    /// The identity that sent the events, with whose rights the function runs.
    pub actor: Actor,
}

/// An event of a batch whose call has not started.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WaitingEvent {
    pub id: JobId,
    /// The order key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub event: Box<RawValue>,
}

/// An entry of the journal `trigger_batches`, as it is written.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct NewEntry<'a> {
    pub call: &'a EventCall,
    pub time: Timestamp,
    pub events: &'a [WaitingEvent],
}

impl NewEntry<'_> {
    /// Returns the journal entry of the events; `None` if there are none.
    pub(crate) fn append(&self, queue: &str) -> Result<Option<JournalAppend>> {
        let Some(first) = self.events.first() else { return Ok(None) };
        let key = entry_key(queue, first.id, self.events.len());
        Ok(Some(JournalAppend::put(BATCHES, key, encode(self)?)))
    }

    /// Returns the entry as it is listed in memory.
    pub(crate) fn listed(&self) -> ListedEntry {
        ListedEntry { events: self.events.len(), user: self.call.user.as_deref().map(Arc::from) }
    }
}

/// An entry of the journal `trigger_batches`, as it is read.
#[derive(Debug, Deserialize)]
pub(crate) struct WaitingEntry {
    pub call: EventCall,
    pub time: Timestamp,
    pub events: Vec<WaitingEvent>,
}

impl WaitingEntry {
    /// Returns the deliveries of the events. The delivery of an event that cannot be parsed has a
    /// rejection.
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
        let parsed = match argument {
            Some(name) => {
                CloudEvent::parse_value(text).map(|value| BTreeMap::from([(name, value)]))
            }
            None => serde_json::from_str(text),
        };
        let (arguments, error) = match parsed {
            Ok(arguments) => (arguments, None),
            // Keep the event's text as the argument, so that no data is lost.
            Err(error) => {
                let what = format!("event `{}` for function `{function}`", waiting.id);
                let message = format!("{what} cannot be parsed: {error}");
                let problem = unreadable(ErrorCode::InvalidArgument, message);
                let name = self.call.argument.clone().unwrap_or_else(|| "event".to_owned());
                let kept = BTreeMap::from([(name, Value::from(text))]);
                (kept, Some(problem))
            }
        };
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

/// Returns the deliveries of the events in a stored entry, which begins with the event `first`. If
/// the entry cannot be read, returns one delivery with a rejection. Its event contains the text of
/// the entry, so that no data is lost, and has no rights, because its sender is not known.
pub(crate) fn stored_deliveries(
    context: &SourceContext,
    stored: &JournalEntry,
    first: JobId,
) -> Vec<(Event, Delivery)> {
    let (queue, now) = (&context.trigger, context.now());
    let error = match serde_json::from_slice::<WaitingEntry>(&stored.value) {
        Ok(waiting) => return waiting.deliveries(queue),
        Err(error) => error,
    };
    let function = target_of(queue).unwrap_or_default();
    let message = format!("the stored events for function `{function}` cannot be read: {error}");
    let error = Some(unreadable(ErrorCode::Corrupt, message));
    let new = Delivery::new(first.to_string(), queue, now);
    let delivery = Delivery { error, actor: Some(Actor::Anonymous), ..new };
    let text = String::from_utf8_lossy(&stored.value).into_owned();
    vec![(delivery.unreadable_event(function, text.into()), delivery)]
}

/// Returns the rejection of an event whose content is unusable.
pub(crate) fn unreadable(code: ErrorCode, message: String) -> Problem {
    let hint = "Send a correct event again, and remove this event with `headwater event rm`.";
    with_retryable(Problem::new(code, message).with_hint(hint), false)
}

impl Triggers {
    /// Accepts all or none of the events for a function. Accepted events are durable on return.
    ///
    /// An event is a duplicate if the user has sent the function an event with the same source and
    /// id in the last 10 minutes. A duplicate is not added; the response contains the earlier event
    /// in its place. Errors: `too_busy` if too many events of the function wait; `invalid_argument`
    /// for an invalid order key.
    pub async fn accept_events(&self, new: EventBatch) -> Result<Vec<AcceptedEvent>> {
        for event in &new.events {
            event.partition_key.as_deref().map_or(Ok(()), check_key)?;
        }
        let worker = self.call_worker(&new.call.function).await?;
        // As a task, so that the reserved ids are released even if the client disconnects.
        to_end(with_current(async move { accept(&worker.context, new).await })).await
    }
}

async fn accept(context: &SourceContext, new: EventBatch) -> Result<Vec<AcceptedEvent>> {
    let intake = &context.queue.intake;
    let EventBatch { call, events } = new;
    let pending = intake.waiting_of(call.user.as_deref());
    if pending + events.len() > EVENTS_MAX {
        return Err(Error::QueueFull { function: call.function, pending });
    }
    intake.load(context).await?;
    intake.expire(context).await?;
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
    let now = context.now();
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
    let new = NewEntry { call: &call, time: now, events: &waiting };
    let stored = match store(context, new, &key, encode_ids(now, &fresh)).await {
        Ok(listed) => {
            for (_, id) in &fresh {
                context.options.jobs.monitor().telemetry().link_event(*id);
            }
            intake.list(listed);
            context.queue.counts.accepted(fresh.len());
            intake.publish_ids(key, now, hashes);
            Ok(accepted)
        }
        Err(error) => {
            intake.release_ids(&hashes).await;
            Err(error)
        }
    };
    context.wake.notify_one();
    stored
}

/// Stores the events of a batch and their ids. Returns the entries as they are listed in memory.
async fn store(
    context: &SourceContext,
    new: NewEntry<'_>,
    id_key: &str,
    ids: Vec<u8>,
) -> Result<Vec<(JobId, ListedEntry)>> {
    let parts = parts(&new);
    let queue = &context.trigger;
    let entries = parts.iter().filter_map(|part| part.append(queue).transpose());
    let mut entries = entries.collect::<Result<Vec<JournalAppend>>>()?;
    entries.push(JournalAppend::put(IDS, id_key, ids.into()));
    context.store().apply(WriteBatch { entries, ..WriteBatch::default() }).await?;
    let listed = parts.iter().filter_map(|part| Some((part.events.first()?.id, part.listed())));
    Ok(listed.collect())
}

/// Divides the events of a batch into entries.
fn parts<'a>(new: &NewEntry<'a>) -> Vec<NewEntry<'a>> {
    let mut parts = Vec::new();
    let mut rest = new.events;
    while !rest.is_empty() {
        let mut bytes = 0;
        let count = rest.iter().take(ENTRY_EVENTS_MAX).take_while(|waiting| {
            bytes += waiting.event.get().len();
            bytes <= ENTRY_BYTES_MAX
        });
        let (events, left) = rest.split_at(count.count().max(1));
        parts.push(NewEntry { events, ..*new });
        rest = left;
    }
    parts
}

/// Returns the prefix of the keys of a queue.
pub(crate) fn prefix(queue: &str) -> String {
    format!("{queue}\n")
}

/// Returns the key of an entry, from the id of its first event and the number of its events.
pub(crate) fn entry_key(queue: &str, first: JobId, events: usize) -> String {
    format!("{}{first}/{events}", prefix(queue))
}

/// Returns the queue, the id of the first event and the number of events in the key of an entry.
pub(crate) fn parse_key(key: &str) -> Option<(&str, JobId, usize)> {
    let (queue, rest) = key.split_once('\n')?;
    let (first, count) = rest.split_once('/')?;
    Some((queue, first.parse().ok()?, count.parse().ok()?))
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

pub(crate) fn decode_ids(bytes: &[u8]) -> Option<(Timestamp, Vec<(IdHash, JobId)>)> {
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
            argument: Some("event".into()),
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
            let events: Vec<WaitingEvent> = sizes.into_iter().map(event).collect();
            let new = NewEntry { call: &call, time: Timestamp::UNIX_EPOCH, events: &events };
            let entries = parts(&new).into_iter().filter_map(|part| {
                let entry = part.append("/functions/f").expect("an entry")?;
                let (queue, first, count) = parse_key(&entry.key)?;
                assert_eq!((queue, first), ("/functions/f", part.events[0].id));
                Some(count)
            });
            entries.collect::<Vec<_>>()
        };
        assert_eq!(counts(vec![10; 1_001]), [500, 500, 1]);
        assert_eq!(counts(vec![600_000, 600_000, 2_000_000, 1]), [1, 1, 1, 1]);
    }
}
