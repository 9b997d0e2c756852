//! Detection of notifications and outbox rows of a PostgreSQL database.

use std::time::Duration;

use async_trait::async_trait;
use headwater_event_values::message_payload;
use headwater_model::{EventData, PostgresTrigger, ToProblem, Trigger};

use crate::Result;
use crate::definition::invalid;
use crate::event_queue::OPEN_MAX;
use crate::event_source::{EventSource, NewEvent, PollResult, SourceContext};
use crate::message_inbox::MessageInbox;
use crate::postgres_listener::ChannelListener;
use crate::postgres_outbox::{OutboxReader, OutboxTable, ReadOutcome};
use crate::postgres_server::PostgresServer;

/// Pause before the next poll while the event queue is full, and after an error of the store.
const FULL_PAUSE: Duration = Duration::from_millis(100);
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Maximum length of the name of a channel or column, in bytes. PostgreSQL truncates longer names.
const NAME_BYTES_MAX: usize = 63;

/// The largest batch of one event.
const BATCH_MAX: usize = 100;

/// A channel or table of a database.
#[derive(Debug, Clone)]
pub(crate) struct WatchedDatabase {
    server: PostgresServer,
    channel: Option<String>,
    outbox: Option<OutboxTable>,
    interval: Duration,
    batch: usize,
}

impl WatchedDatabase {
    /// Parses a trigger. Error: `invalid_project`.
    pub(crate) fn new(trigger: &Trigger, postgres: &PostgresTrigger) -> Result<Self> {
        let server = PostgresServer::new(trigger, postgres)?;
        let PostgresTrigger { channel, outbox, key, interval, batch, .. } = postgres.clone();
        if channel.is_none() && outbox.is_none() {
            let hint = "Add `channel = \"…\"` or `outbox = \"…\"`.";
            return Err(invalid(trigger, "`channel` or `outbox` is missing", hint));
        }
        let parts = outbox.iter().flat_map(|outbox| outbox.split('.'));
        for name in channel.iter().map(String::as_str).chain(parts).chain([key.as_str()]) {
            if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
                let hint = "Write the name as PostgreSQL stores it, with at most 63 bytes.";
                let reason = format!("`{name}` is not a valid name of a channel, table or column");
                return Err(invalid(trigger, reason, hint));
            }
        }
        check_batch(trigger, batch)?;
        let table = |name| OutboxTable { server: server.clone(), name, key, batch };
        let outbox = outbox.map(table);
        Ok(WatchedDatabase { server, channel, outbox, interval, batch })
    }
}

/// Checks the maximum number of messages in one event. If it is greater than 1, also checks that
/// the parameters do not use `{payload}`.
pub(crate) fn check_batch(trigger: &Trigger, batch: usize) -> Result<()> {
    if !(1..=BATCH_MAX).contains(&batch) {
        let reason = format!("`batch` must be between 1 and {BATCH_MAX}, not {batch}");
        return Err(invalid(trigger, reason, "Write a number such as `batch = 100`."));
    }
    let is_single = |text: &String| text.contains("{payload}") || text.contains("{payload.");
    if batch > 1 && trigger.parameters.values().any(is_single) {
        let reason =
            "`parameters` use `{payload}`, but with `batch` an event may have several payloads";
        return Err(invalid(trigger, reason, "Use `{payloads}`, or remove `batch`."));
    }
    Ok(())
}

/// The event source for a PostgreSQL database.
pub(crate) struct PostgresSource {
    events: WatchedDatabase,
    inbox: Option<MessageInbox<String>>,
    outbox: Option<OutboxReader>,
}

#[async_trait]
impl EventSource for PostgresSource {
    async fn poll(&mut self, context: &SourceContext) -> Result<PollResult> {
        self.listen(context).await?;
        let capacity = OPEN_MAX.saturating_sub(context.queue.open_count());
        if capacity == 0 {
            return Ok(PollResult::after(FULL_PAUSE));
        }
        match &mut self.outbox {
            Some(outbox) => {
                outbox.open(context).await?;
                // In outbox mode, a notification only causes this poll, so discard its content.
                if let Some(inbox) = &mut self.inbox {
                    inbox.discard();
                }
                self.read(context, capacity).await
            }
            None => self.take(context, capacity).await,
        }
    }
}

impl PostgresSource {
    pub(crate) fn new(events: WatchedDatabase) -> Self {
        let outbox = events.outbox.clone().map(OutboxReader::new);
        PostgresSource { events, inbox: None, outbox }
    }

    /// Starts to listen, and waits for the first connection.
    async fn listen(&mut self, context: &SourceContext) -> Result<()> {
        let (Some(channel), None) = (&self.events.channel, &self.inbox) else { return Ok(()) };
        context.catch_up().await?;
        let listener = ChannelListener {
            server: self.events.server.clone(),
            channel: channel.clone(),
            secrets: context.options.secrets.clone(),
            policy: context.policy.clone(),
        };
        let inbox = MessageInbox::open(context, listener);
        inbox.attempted().await;
        self.inbox = Some(inbox);
        Ok(())
    }

    /// Records the rows of the outbox.
    async fn read(&mut self, context: &SourceContext, capacity: usize) -> Result<PollResult> {
        let Some(outbox) = &mut self.outbox else { return Ok(PollResult::after(FULL_PAUSE)) };
        let fault = self.inbox.as_ref().and_then(MessageInbox::fault);
        Ok(match outbox.read(context, capacity).await? {
            ReadOutcome::Rows(0) => PollResult { pause: self.events.interval, fault },
            ReadOutcome::Rows(_) => PollResult { pause: Duration::ZERO, fault },
            ReadOutcome::Failed(problem, pause) => PollResult { pause, fault: Some(problem) },
        })
    }

    /// Records the notifications that were received.
    async fn take(&mut self, context: &SourceContext, capacity: usize) -> Result<PollResult> {
        let Some(inbox) = &mut self.inbox else { return Ok(PollResult::after(FULL_PAUSE)) };
        let taken = inbox.take(capacity.saturating_mul(self.events.batch));
        if taken.is_empty() {
            return Ok(PollResult { pause: context.options.poll_interval, fault: inbox.fault() });
        }
        let channel = self.events.channel.clone().unwrap_or_default();
        let (source, time) = (self.events.server.uri(), context.now());
        let event = |payloads: &[String]| NewEvent {
            source: source.clone(),
            subject: Some(channel.clone()),
            time,
            data: EventData::PostgresNotified {
                channel: channel.clone(),
                payloads: payloads.iter().map(|text| message_payload::of_text(text)).collect(),
            },
            caused_by: Vec::new(),
            trace: None,
        };
        let events = taken.chunks(self.events.batch).map(event).collect();
        // The server does not send notifications again, so keep them after an error.
        Ok(match inbox.record(context, events, Vec::new()).await {
            Ok(_) => PollResult { pause: Duration::ZERO, fault: inbox.fault() },
            Err(error) => PollResult { pause: STORE_PAUSE, fault: Some(error.to_problem()) },
        })
    }
}
