//! Detection of messages of a NATS JetStream stream.
//!
//! A message is acknowledged after its event is durable. The server redelivers a message that was
//! not acknowledged. To detect it, the batch with the events also stores the sequence numbers of
//! the recorded messages, in the journal `trigger_nats_positions`. Each message becomes only one
//! event, even if the process or the server ends before the acknowledgement arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::HeaderMap;
use async_trait::async_trait;
use chrono::DateTime;
use futures::future::join_all;
use headwater_event_values::message_payload;
use headwater_model::{EventData, NatsMessage, NatsTrigger, Timestamp, ToProblem, Trigger};
use headwater_store::JournalAppend;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::Result;
use crate::definition::invalid;
use crate::event_queue::OPEN_MAX;
use crate::event_source::{EventSource, NewEvent, PollResult, SourceContext};
use crate::journal_codec::{encode, read};
use crate::message_inbox::MessageInbox;
use crate::nats_receiver::{NatsReceiver, ReceivedMessage};
use crate::postgres_source::check_batch;

pub(crate) const POSITIONS: &str = "trigger_nats_positions";

/// Pause before the next poll while the event queue is full, and after an error of the store.
const FULL_PAUSE: Duration = Duration::from_millis(100);
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// The messages of a stream.
#[derive(Debug, Clone)]
pub(crate) struct WatchedStream {
    nats: NatsTrigger,
    consumer: String,
    source: String,
}

impl WatchedStream {
    /// Parses a trigger. Error: `invalid_project`.
    pub(crate) fn new(trigger: &Trigger, nats: &NatsTrigger) -> Result<Self> {
        for server in nats.url.split(',') {
            check_server(trigger, server.trim())?;
        }
        let consumer =
            nats.consumer.clone().unwrap_or_else(|| format!("headwater-{}", trigger.name));
        let is_name =
            |name: &str| !name.is_empty() && !name.contains(['.', '*', '>', '/', '\\', ' ']);
        for (key, name) in [("stream", &nats.stream), ("consumer", &consumer)] {
            if !is_name(name) || name.contains(char::is_control) {
                let reason = format!("`{name}` is not a valid {key} name");
                let hint =
                    format!("Give `{key}` a name without spaces, `.`, `*`, `>` and slashes.");
                return Err(invalid(trigger, reason, &hint));
            }
        }
        if let Some(subject) = &nats.subject {
            let is_subject = !subject.contains(char::is_whitespace)
                && subject.split('.').all(|token| !token.is_empty());
            if !is_subject {
                let reason = format!("`{subject}` is not a valid subject");
                return Err(invalid(trigger, reason, "Write a subject such as `orders.*`."));
            }
        }
        if nats.user.is_some() && nats.secret.is_none() {
            let hint = "Store the password with `headwater secret set NAME` and add \
                        `secret = \"NAME\"`.";
            return Err(invalid(trigger, "`user` is set, but `secret` is not", hint));
        }
        check_batch(trigger, nats.batch)?;
        let server = nats.url.split(',').next().unwrap_or_default().trim().trim_end_matches('/');
        let source = format!("{server}/{}", nats.stream);
        Ok(WatchedStream { nats: nats.clone(), consumer, source })
    }

    /// Returns the URI of the events' source.
    pub(crate) fn uri(&self) -> &str {
        &self.source
    }
}

fn check_server(trigger: &Trigger, server: &str) -> Result<()> {
    let example = "Write a URL such as `nats://nats.example.com:4222`.";
    let url = Url::parse(server).map_err(|error| {
        invalid(trigger, format!("`url` is `{server}`, which is not a URL: {error}"), example)
    })?;
    if !url.username().is_empty() || url.password().is_some() {
        let hint = "Remove the credentials from the URL; use `user` and `secret`.";
        return Err(invalid(trigger, "`url` contains credentials", hint));
    }
    if !matches!(url.scheme(), "nats" | "tls") || url.host_str().is_none_or(str::is_empty) {
        let reason = format!("`url` is `{server}`, but must have the scheme `nats` and a host");
        return Err(invalid(trigger, reason, example));
    }
    Ok(())
}

/// The recorded messages of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    /// Name and creation time of the stream. If the trigger now reads another stream, the source
    /// ignores this position.
    stream: String,
    /// Every message up to this sequence number was recorded, or is not for this consumer.
    floor: u64,
    /// Sequence numbers of recorded messages above `floor`.
    recorded: BTreeSet<u64>,
}

impl Position {
    /// Adds a message. Returns false if it was recorded before.
    fn add(&mut self, stream: &str, floor: u64, sequence: u64) -> bool {
        if self.stream != stream {
            *self = Position { stream: stream.to_owned(), ..Position::default() };
        }
        if floor > self.floor {
            self.floor = floor;
            self.recorded = self.recorded.split_off(&(floor + 1));
        }
        sequence > self.floor && self.recorded.insert(sequence)
    }
}

/// The event source for a stream.
pub(crate) struct NatsSource {
    events: WatchedStream,
    inbox: Option<MessageInbox<ReceivedMessage>>,
    /// The stored position; `None` until it has been read.
    position: Option<Position>,
}

#[async_trait]
impl EventSource for NatsSource {
    async fn poll(&mut self, context: &SourceContext) -> Result<PollResult> {
        self.open(context).await?;
        let (Some(inbox), Some(position)) = (&mut self.inbox, &mut self.position) else {
            return Ok(PollResult::after(FULL_PAUSE));
        };
        let capacity = OPEN_MAX.saturating_sub(context.queue.open_count());
        if capacity == 0 {
            return Ok(PollResult::after(FULL_PAUSE));
        }
        let taken = inbox.take(capacity.saturating_mul(self.events.nats.batch));
        if taken.is_empty() {
            return Ok(PollResult { pause: context.options.poll_interval, fault: inbox.fault() });
        }
        let mut reached = position.clone();
        let new = taken.iter().filter_map(|received| {
            let message = message(received, context.now());
            let is_new = reached.add(&received.stream, received.floor, message.sequence);
            is_new.then_some(message)
        });
        let new: Vec<NatsMessage> = new.collect();
        let events = new.chunks(self.events.nats.batch).map(|batch| self.events.event(batch));
        let entry = JournalAppend::put(POSITIONS, &context.trigger, encode(&reached)?);
        let recorded = match inbox.record(context, events.collect(), vec![entry]).await {
            Ok(recorded) => recorded,
            Err(error) => {
                let fault = Some(error.to_problem());
                return Ok(PollResult { pause: STORE_PAUSE, fault });
            }
        };
        *position = reached;
        // If an acknowledgement is lost, the server redelivers the message, and the source finds
        // the message's stored number.
        join_all(recorded.iter().map(|received| received.message.ack())).await;
        Ok(PollResult { pause: Duration::ZERO, fault: inbox.fault() })
    }
}

impl NatsSource {
    pub(crate) fn new(events: WatchedStream) -> Self {
        NatsSource { events, inbox: None, position: None }
    }

    /// Reads the position, connects, and waits for the first connection.
    async fn open(&mut self, context: &SourceContext) -> Result<()> {
        if self.inbox.is_some() {
            return Ok(());
        }
        context.catch_up().await?;
        let stored = read::<Position>(context.store(), POSITIONS, &context.trigger).await?;
        self.position = Some(stored.unwrap_or_default());
        let receiver = NatsReceiver {
            nats: self.events.nats.clone(),
            consumer: self.events.consumer.clone(),
            secrets: context.options.secrets.clone(),
            policy: context.policy.clone(),
        };
        let inbox = MessageInbox::open(context, receiver);
        inbox.attempted().await;
        self.inbox = Some(inbox);
        Ok(())
    }
}

impl WatchedStream {
    fn event(&self, messages: &[NatsMessage]) -> NewEvent {
        let first = &messages[0];
        NewEvent {
            source: self.source.clone(),
            subject: (messages.len() == 1).then(|| first.subject.clone()),
            time: first.time,
            data: EventData::NatsReceived {
                stream: self.nats.stream.clone(),
                messages: messages.to_vec(),
            },
            caused_by: Vec::new(),
            trace: None,
        }
    }
}

fn message(received: &ReceivedMessage, now: Timestamp) -> NatsMessage {
    let message = &received.message;
    let info = message.info().ok();
    let nanoseconds = info.as_ref().map(|info| info.published.unix_timestamp_nanos());
    let time = nanoseconds.and_then(|nanoseconds| i64::try_from(nanoseconds).ok());
    let (payload, is_base64) = message_payload::of_bytes(&message.payload);
    NatsMessage {
        subject: message.subject.to_string(),
        sequence: info.map_or(0, |info| info.stream_sequence),
        time: time.map_or(now, DateTime::from_timestamp_nanos),
        headers: message.headers.as_ref().map(headers).unwrap_or_default(),
        payload,
        is_base64,
    }
}

fn headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let last = headers.iter().filter_map(|(name, values)| {
        let value = values.last()?;
        Some((name.to_string(), value.as_str().to_owned()))
    });
    last.collect()
}

#[cfg(test)]
mod tests {
    use headwater_model::Trigger;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_message_is_new_once_until_its_stream_is_created_again() {
        let mut position = Position::default();
        assert!(position.add("s/1", 0, 3));
        assert!(!position.add("s/1", 0, 3));
        // An older message that was delivered again.
        assert!(position.add("s/1", 0, 2));
        assert!(position.add("s/1", 2, 5));
        assert_eq!((position.floor, position.recorded.len()), (2, 2));
        for sequence in [1, 2, 3, 5] {
            assert!(!position.add("s/1", 2, sequence), "{sequence}");
        }
        // The floor never moves back.
        assert!(!position.add("s/1", 0, 1));
        assert!(position.add("s/2", 0, 1));
        assert_eq!(position.recorded, BTreeSet::from([1]));
    }

    #[test]
    fn invalid_nats_settings_are_errors() {
        let check = |nats: Value, expected: &str| {
            let trigger = json!({"name": "t", "function": "f", "nats": nats});
            let trigger: Trigger = serde_json::from_value(trigger).expect("a trigger");
            let nats = trigger.nats.as_ref().expect("a source");
            let error = WatchedStream::new(&trigger, nats).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
        };
        let url = "nats://h";
        check(json!({"url": "h", "stream": "s"}), "not a URL");
        check(json!({"url": "http://h", "stream": "s"}), "must have the scheme `nats`");
        check(json!({"url": "nats://a,nats://u:p@h", "stream": "s"}), "contains credentials");
        check(json!({"url": url, "stream": "a.b"}), "not a valid stream name");
        check(json!({"url": url, "stream": "s", "consumer": ""}), "not a valid consumer name");
        check(json!({"url": url, "stream": "s", "subject": "a..b"}), "not a valid subject");
        check(json!({"url": url, "stream": "s", "user": "u"}), "`secret` is not");
        check(json!({"url": url, "stream": "s", "batch": 0}), "between 1 and 100, not 0");
    }
}
