//! Detection of records of a topic.
//!
//! The batch of the events also stores the position of each partition, in the journal
//! `trigger_kafka_positions`. A restarted process continues at these positions, so each record
//! becomes only one event. No consumer group is used, and nothing is stored in the cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use headwater_kafka_client::{Cluster, Position, PositionUpdate, PositionUpdateContent, Record};
use headwater_model::{EventData, KafkaRecord, KafkaTrigger, Timestamp, ToProblem, Trigger};
use headwater_store::JournalAppend;
use tokio::time::Instant;

use super::receiver::KafkaReceiver;
use crate::Result;
use crate::definition::invalid;
use crate::event_queue::OPEN_MAX;
use crate::event_source::{EventSource, NewEvent, PollResult, SourceContext};
use crate::journal_codec::{encode, read};
use crate::message_inbox::{MESSAGES_MAX, MessageInbox};
use crate::postgres_source::check_batch;

pub(crate) const POSITIONS: &str = "trigger_kafka_positions";

/// Pause before the next poll while the event queue is full, and after an error of the store.
const FULL_PAUSE: Duration = Duration::from_millis(100);
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Maximum size of the records of one event, as in AWS Lambda. A larger record is one event.
const EVENT_BYTES_MAX: usize = 6 << 20;
/// Maximum time to wait until a batch is complete, as in AWS Lambda.
const WINDOW_MAX: Duration = Duration::from_mins(5);
/// Maximum length of the name of a topic.
const TOPIC_BYTES_MAX: usize = 249;

/// The records of a topic.
#[derive(Debug, Clone)]
pub(crate) struct WatchedTopic {
    kafka: KafkaTrigger,
    cluster: Cluster,
}

impl WatchedTopic {
    /// Parses a trigger. Error: `invalid_project`.
    pub(crate) fn new(trigger: &Trigger, kafka: &KafkaTrigger) -> Result<Self> {
        let cluster = Cluster::new(kafka)
            .map_err(|setting| invalid(trigger, setting.reason, &setting.hint))?;
        let topic = &kafka.topic;
        let is_name = !topic.is_empty()
            && topic.len() <= TOPIC_BYTES_MAX
            && topic.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        if !is_name {
            let hint = "Write letters, digits, `.`, `_` and `-`, at most 249 of them.";
            return Err(invalid(trigger, format!("`{topic}` is not a valid topic name"), hint));
        }
        if kafka.window > WINDOW_MAX {
            let hint = "Write a time such as `window = \"500ms\"`.";
            return Err(invalid(trigger, "`window` must be at most 5 minutes", hint));
        }
        check_batch(trigger, kafka.batch)?;
        Ok(WatchedTopic { kafka: kafka.clone(), cluster })
    }

    /// Returns the URI of the events' source.
    pub(crate) fn uri(&self) -> String {
        self.cluster.uri()
    }

    /// Returns the events of records of one partition.
    fn events(&self, partition: i32, records: &[&Record]) -> Vec<NewEvent> {
        let mut parts: Vec<Vec<&Record>> = Vec::new();
        let mut bytes: usize = 0;
        for record in records {
            bytes = bytes.saturating_add(record.size());
            match parts.last_mut() {
                Some(part) if part.len() < self.kafka.batch && bytes <= EVENT_BYTES_MAX => {
                    part.push(record);
                }
                _ => {
                    bytes = record.size();
                    parts.push(vec![record]);
                }
            }
        }
        parts.into_iter().map(|part| self.event(partition, &part)).collect()
    }

    fn event(&self, partition: i32, records: &[&Record]) -> NewEvent {
        let topic = self.kafka.topic.clone();
        let records = records.iter().map(|record| record.event_record(&topic, partition));
        let records: Vec<KafkaRecord> = records.collect();
        NewEvent {
            source: self.uri(),
            subject: Some(format!("{topic}-{partition}")),
            time: records.first().map_or(Timestamp::UNIX_EPOCH, |record| record.time),
            data: EventData::KafkaReceived { topic, partition, records },
            caused_by: Vec::new(),
            trace: None,
        }
    }
}

/// The event source for a topic.
pub(crate) struct KafkaSource {
    events: WatchedTopic,
    inbox: Option<MessageInbox<PositionUpdate>>,
    position: Position,
    /// The time at which the first of the received records arrived.
    since: Option<Instant>,
}

#[async_trait]
impl EventSource for KafkaSource {
    async fn poll(&mut self, context: &SourceContext) -> Result<PollResult> {
        self.open(context).await?;
        let Some(inbox) = &mut self.inbox else { return Ok(PollResult::after(FULL_PAUSE)) };
        let capacity = OPEN_MAX.saturating_sub(context.queue.open_count());
        if capacity == 0 {
            return Ok(PollResult::after(FULL_PAUSE));
        }
        let batch = self.events.kafka.batch;
        let taken = inbox.take(capacity.saturating_mul(batch));
        let now = context.now();
        if taken.is_empty() {
            let fault = inbox.fault().or_else(|| self.position.lost_records_problem(now));
            return Ok(PollResult { pause: context.options.poll_interval, fault });
        }
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        let rest = self.events.kafka.window.saturating_sub(waited);
        if !rest.is_zero() && !is_complete(taken, batch) {
            let fault = inbox.fault().or_else(|| self.position.lost_records_problem(now));
            return Ok(PollResult { pause: rest, fault });
        }
        let mut reached = self.position.clone();
        let mut records: BTreeMap<i32, Vec<&Record>> = BTreeMap::new();
        for received in taken {
            let is_new = reached.advance(received, now);
            if let (true, PositionUpdateContent::Record { record, .. }) =
                (is_new, &received.content)
            {
                records.entry(received.partition).or_default().push(record);
            }
        }
        let events = records.iter().flat_map(|(one, records)| self.events.events(*one, records));
        let (events, entry) = (events.collect(), encode(&reached)?);
        let entries = vec![JournalAppend::put(POSITIONS, &context.trigger, entry)];
        if let Err(error) = inbox.record(context, events, entries).await {
            return Ok(PollResult { pause: STORE_PAUSE, fault: Some(error.to_problem()) });
        }
        self.position = reached;
        self.since = None;
        let fault = inbox.fault().or_else(|| self.position.lost_records_problem(now));
        Ok(PollResult { pause: Duration::ZERO, fault })
    }
}

impl KafkaSource {
    pub(crate) fn new(events: WatchedTopic) -> Self {
        KafkaSource { events, inbox: None, position: Position::default(), since: None }
    }

    /// Reads the stored position, starts the receiver, and waits for its first attempt to connect.
    async fn open(&mut self, context: &SourceContext) -> Result<()> {
        if self.inbox.is_some() {
            return Ok(());
        }
        context.catch_up().await?;
        let stored = read::<Position>(context.store(), POSITIONS, &context.trigger).await?;
        self.position = stored.unwrap_or_default();
        let receiver = KafkaReceiver {
            topic: self.events.kafka.topic.clone(),
            start: self.events.kafka.start,
            secrets: context.options.secrets.clone(),
            policy: context.policy.clone(),
            round: context.options.poll_interval,
            ..KafkaReceiver::new(self.events.cluster.clone(), self.position.clone())
        };
        let inbox = MessageInbox::open(context, receiver);
        inbox.attempted().await;
        self.inbox = Some(inbox);
        Ok(())
    }
}

/// Returns true if waiting for more records has no use: there is no record, a full batch, or a
/// limit is reached.
fn is_complete(received: &[PositionUpdate], batch: usize) -> bool {
    let mut counts: BTreeMap<i32, usize> = BTreeMap::new();
    let mut bytes: usize = 0;
    for one in received {
        let PositionUpdateContent::Record { record, .. } = &one.content else { continue };
        bytes = bytes.saturating_add(record.size());
        *counts.entry(one.partition).or_default() += 1;
    }
    let is_full = counts.values().any(|count| *count >= batch);
    counts.is_empty() || is_full || bytes >= EVENT_BYTES_MAX || received.len() >= MESSAGES_MAX
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;

    fn events(kafka: Value) -> Result<WatchedTopic> {
        let trigger = json!({"name": "t", "function": "f", "kafka": kafka});
        let trigger: Trigger = serde_json::from_value(trigger).expect("a trigger");
        WatchedTopic::new(&trigger, trigger.kafka.as_ref().expect("a source"))
    }

    #[test]
    fn invalid_kafka_settings_are_errors() {
        let long = "t".repeat(250);
        for (kafka, expected) in [
            (json!({"servers": "", "topic": "t"}), "`` in `servers` is not a host"),
            (json!({"servers": "a:1,kafka://b", "topic": "t"}), "`kafka://b` in `servers`"),
            (json!({"servers": "a", "topic": "a/b"}), "`a/b` is not a valid topic name"),
            (json!({"servers": "a", "topic": long}), "not a valid topic name"),
            (json!({"servers": "a", "topic": "t", "user": "u"}), "`secret` is not"),
            (json!({"servers": "a", "topic": "t", "ca": "S"}), "`tls` is not"),
            (json!({"servers": "a", "topic": "t", "batch": 101}), "between 1 and 100, not 101"),
            (json!({"servers": "a", "topic": "t", "window": "301s"}), "at most 5 minutes"),
        ] {
            let error = events(kafka).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    fn record(value: Vec<u8>) -> Record {
        Record {
            offset: 3,
            timestamp: 1_500,
            is_log_append_time: true,
            key: Some(Bytes::from_static(b"\xff")),
            value: Some(Bytes::from(value)),
            headers: Vec::new(),
        }
    }

    #[test]
    fn events_are_limited_by_records_and_bytes() {
        let source = events(json!({"servers": "a", "topic": "t", "batch": 3})).expect("a source");
        let counts = |sizes: &[usize]| -> Vec<usize> {
            let records: Vec<Record> = sizes.iter().map(|size| record(vec![b'x'; *size])).collect();
            let records: Vec<&Record> = records.iter().collect();
            let count = |event: NewEvent| match event.data {
                EventData::KafkaReceived { records, .. } => records.len(),
                data => panic!("{data:?}"),
            };
            source.events(0, &records).into_iter().map(count).collect()
        };
        assert_eq!(counts(&[1; 7]), [3, 3, 1]);
        assert_eq!(counts(&[1, 7 << 20, 1, 1]), [1, 1, 2]);
        assert_eq!(counts(&[4 << 20, 1 << 20, 4 << 20]), [2, 1]);
    }
}
