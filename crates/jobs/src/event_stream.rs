//! The event stream of a job, while it is running and afterwards.
//!
//! Followers of an active job are notified and read from memory. The store is read only for events
//! that are no longer in memory. Each follower receives each event once, in order, and the stream
//! ends after `Ended`.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use headwater_model::{JobEvent, JobId, JobKind};
use headwater_store::KeyRange;
use tokio::sync::watch;

use crate::active_job::{ActiveJob, VisibleEventsEnd};
use crate::event_buffer::EventsAfter;
use crate::outcome::plain_events;
use crate::record::{decode_events, event_key, events_journal};
use crate::writer::JobsState;
use crate::{Error, Jobs, Result};

/// The events of a job, in order.
pub type EventStream = BoxStream<'static, Result<JobEvent>>;

/// Number of journal entries that are read at a time. An entry has up to a thousand events.
const PAGE: usize = 16;

impl Jobs {
    /// Returns the existing events after a sequence number; 0 returns all.
    pub async fn events(&self, id: JobId, after: u64) -> Result<Vec<JobEvent>> {
        let mut follower = self.follower(id, after).await?;
        let mut events = Vec::new();
        while follower.fill().await? {
            events.extend(follower.ready.drain(..));
        }
        Ok(events)
    }

    /// Returns a stream of the events after a sequence number, until the end of the job.
    pub async fn follow(&self, id: JobId, after: u64) -> Result<EventStream> {
        let follower = self.follower(id, after).await?;
        let stream = futures::stream::unfold(Some(follower), |follower| async {
            let mut follower = follower?;
            match follower.next().await {
                Ok(event) => event.map(|event| (Ok(event), Some(follower))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(stream.boxed())
    }

    async fn follower(&self, id: JobId, after: u64) -> Result<EventFollower> {
        let shared = self.inner.shared.clone();
        let source = if let Some(live) = self.live(id) {
            JobEventLocation::Live { seen: live.watch(), live }
        } else {
            let record = shared.stored(id).await?;
            let missing = || Error::JobNotFound { id: id.to_string(), near: None };
            let job = record.ok_or_else(missing)?.job;
            JobEventLocation::Stored { kind: job.kind, plain: plain_events(&job) }
        };
        Ok(EventFollower { shared, id, source, after, ready: VecDeque::new() })
    }
}

/// The location from which the events of a job are read: memory or the store.
enum JobEventLocation {
    Live { live: Arc<ActiveJob>, seen: watch::Receiver<VisibleEventsEnd> },
    Stored { kind: JobKind, plain: Vec<JobEvent> },
}

/// A reader of a job's events, which waits for new events.
struct EventFollower {
    shared: Arc<JobsState>,
    id: JobId,
    source: JobEventLocation,
    /// The sequence number of the last buffered event.
    after: u64,
    ready: VecDeque<JobEvent>,
}

impl EventFollower {
    async fn next(&mut self) -> Result<Option<JobEvent>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if self.fill().await? {
                continue;
            }
            let JobEventLocation::Live { seen, .. } = &mut self.source else { return Ok(None) };
            let ended = seen.borrow_and_update().ended;
            // Read again after the subscription, to find events that were added between the first
            // read and the subscription.
            if self.fill().await? {
                continue;
            }
            let JobEventLocation::Live { seen, .. } = &mut self.source else { return Ok(None) };
            if ended || seen.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Buffers the available events. Returns true if any were available.
    async fn fill(&mut self) -> Result<bool> {
        let found = match &self.source {
            JobEventLocation::Live { live, .. } => match live.events_after(self.after).0 {
                EventsAfter::Events(events) => events,
                EventsAfter::Stored(until) => {
                    let kind = live.kind;
                    self.shared.stored_events(self.id, kind, self.after, until).await?
                }
            },
            JobEventLocation::Stored { kind, plain } => {
                let stored =
                    self.shared.stored_events(self.id, *kind, self.after, u64::MAX - 2).await?;
                if stored.is_empty() && self.after < plain.len() as u64 {
                    // If the job has no stored events, derive its start and end events from its
                    // record.
                    let none = self.shared.last_stored_event(self.id, *kind).await?.is_none();
                    let rest = plain.iter().filter(|event| none && event.sequence > self.after);
                    rest.cloned().collect()
                } else {
                    stored
                }
            }
        };
        if let Some(last) = found.last() {
            self.after = last.sequence;
        }
        self.ready.extend(found);
        Ok(!self.ready.is_empty())
    }
}

impl JobsState {
    /// Returns stored events with sequence numbers above `after`, up to and including `until`.
    /// Returns at least one event if there are any.
    async fn stored_events(
        &self,
        id: JobId,
        kind: JobKind,
        after: u64,
        until: u64,
    ) -> Result<Vec<JobEvent>> {
        let journal = events_journal(kind);
        let prefix = format!("{id}/");
        // The entry that contains the next event may begin with an earlier event. So read from the
        // last entry that begins at or before the next event.
        let holds = KeyRange {
            prefix: prefix.clone(),
            until: Some(event_key(id, after + 2)),
            reverse: true,
            limit: 1,
            ..KeyRange::default()
        };
        let from = self.store.scan(journal, &holds).await?.pop().map(|entry| entry.key);
        let range = KeyRange { prefix, from, limit: PAGE, ..KeyRange::default() };
        let mut events = Vec::new();
        for entry in self.store.scan(journal, &range).await? {
            events.extend(decode_events(journal, &entry.key, &entry.value)?);
        }
        events.retain(|event| event.sequence > after && event.sequence <= until);
        Ok(events)
    }

    /// Returns the last stored event of a job.
    pub(crate) async fn last_stored_event(
        &self,
        id: JobId,
        kind: JobKind,
    ) -> Result<Option<JobEvent>> {
        let journal = events_journal(kind);
        let range =
            KeyRange { prefix: format!("{id}/"), reverse: true, limit: 1, ..KeyRange::default() };
        let Some(entry) = self.store.scan(journal, &range).await?.pop() else { return Ok(None) };
        Ok(decode_events(journal, &entry.key, &entry.value)?.pop())
    }
}
