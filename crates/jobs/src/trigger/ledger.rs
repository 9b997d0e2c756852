//! How triggers lie in the store.
//!
//! | journal | key | value |
//! |---|---|---|
//! | `trigger_events` | event id | events that are open or failed, without their files |
//! | `trigger_events_done` | event id | events that were acted on |
//! | `trigger_event_files` | event id | the files of an event |
//! | `trigger_files` | trigger, path | the version of the file that was last taken |
//! | `trigger_marks` | trigger | the last strike of a schedule |
//! | `trigger_positions` | trigger | the last commit that was looked at |
//! | `trigger_counts` | trigger | how many events were acted on |
//!
//! An event is recorded in one batch with what it stands for, and with a unique key for each file's
//! version, strike or step along a branch, so that two processes, or one that does not know whether its
//! batch was applied, never record the same thing twice.

use std::collections::HashMap;
use std::sync::Arc;

use headwater_model::{CommitId, Timestamp, TriggerEvent, TriggerEventStatus};
use headwater_store::{Append, Batch, Entry, KeyRange, Store, Unique};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::commits::Changes;
use super::files::Version;
use crate::Result;
use crate::record::{decode, encode, entry, tombstone};
use crate::report;
use crate::writer::Shared;

pub(crate) const EVENTS: &str = "trigger_events";
pub(crate) const DONE: &str = "trigger_events_done";
const FILES: &str = "trigger_event_files";
const SEEN: &str = "trigger_files";
const MARKS: &str = "trigger_marks";
const POSITIONS: &str = "trigger_positions";
const COUNTS: &str = "trigger_counts";

const PAGE: usize = 1_000;

/// The version of a file that was last taken, and how many were taken before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub version: Version,
    pub generation: u64,
}

/// The last strike of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Strikes up to this moment are recorded, or need not be.
    pub at: Timestamp,
    /// The pattern and zone it belongs to.
    pub schedule: String,
}

/// How far a branch was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub branch: String,
    /// Commits up to this one are recorded, or need not be.
    pub commit: CommitId,
    /// Tells this following of a branch from every other.
    pub id: String,
    /// How many steps there were; each is made once.
    pub step: u64,
}

/// The triggers' part of the store.
#[derive(Clone)]
pub(crate) struct Ledger {
    pub shared: Arc<Shared>,
    pub store: Arc<dyn Store>,
}

impl Ledger {
    fn new_event(&self, trigger: &str, now: Timestamp) -> TriggerEvent {
        TriggerEvent {
            id: self.shared.ids.next().to_string(),
            trigger: trigger.to_owned(),
            status: TriggerEventStatus::Pending,
            created: now,
            due: now,
            files: Vec::new(),
            scheduled: None,
            tables: Vec::new(),
            commit: None,
            led_by: Vec::new(),
            attempts: 0,
            job: None,
            error: None,
        }
    }

    /// Records that files have landed; answers the event, without its files, and what was taken.
    pub(crate) async fn record_files(
        &self,
        trigger: &str,
        files: &[(String, Version)],
        seen: &HashMap<String, Seen>,
        now: Timestamp,
    ) -> Result<(TriggerEvent, Vec<(String, Seen)>)> {
        let event = self.new_event(trigger, now);
        let paths: Vec<&String> = files.iter().map(|(path, _)| path).collect();
        let mut batch = Batch {
            entries: vec![open_entry(&event)?, entry(FILES, event.id.clone(), encode(&paths)?)],
            ..Batch::default()
        };
        let mut taken = Vec::with_capacity(files.len());
        for (path, version) in files {
            let generation = seen.get(path).map_or(0, |seen| seen.generation + 1);
            let now_seen = Seen { version: *version, generation };
            batch.entries.push(entry(SEEN, seen_key(trigger, path), encode(&now_seen)?));
            batch.unique.push(Unique {
                scope: format!("{SEEN}/{trigger}"),
                key: format!("{path}\n{generation}"),
            });
            taken.push((path.clone(), now_seen));
        }
        self.store.apply(batch).await?;
        report::recorded(&event, files.len());
        Ok((event, taken))
    }

    /// Records strikes, in order, and that they are the last.
    pub(crate) async fn record_strikes(
        &self,
        trigger: &str,
        strikes: &[Timestamp],
        mark: &Mark,
        now: Timestamp,
    ) -> Result<Vec<TriggerEvent>> {
        let mut events = Vec::with_capacity(strikes.len());
        let mut batch = Batch::default();
        for strike in strikes {
            let event = TriggerEvent { scheduled: Some(*strike), ..self.new_event(trigger, now) };
            batch.entries.push(open_entry(&event)?);
            batch.unique.push(Unique {
                scope: format!("{MARKS}/{trigger}"),
                key: format!("{}\n{}", mark.schedule, strike.to_rfc3339()),
            });
            events.push(event);
        }
        batch.entries.push(entry(MARKS, trigger.to_owned(), encode(mark)?));
        self.store.apply(batch).await?;
        for event in &events {
            report::recorded(event, 0);
        }
        Ok(events)
    }

    /// Records that tables have changed, where they have, and how far the branch was looked at.
    pub(crate) async fn record_commits(
        &self,
        trigger: &str,
        changes: Option<Changes>,
        position: &Position,
        now: Timestamp,
    ) -> Result<Option<TriggerEvent>> {
        let event = changes.map(|changes| TriggerEvent {
            tables: changes.tables.into_iter().collect(),
            commit: Some(changes.commit),
            led_by: changes.led_by.into_iter().collect(),
            ..self.new_event(trigger, now)
        });
        // Whoever followed the branch up to the same step, and is late, records nothing.
        let step = Unique {
            scope: format!("{POSITIONS}/{trigger}"),
            key: format!("{}\n{}", position.id, position.step),
        };
        let mut batch = Batch {
            entries: vec![entry(POSITIONS, trigger.to_owned(), encode(position)?)],
            unique: vec![step],
            ..Batch::default()
        };
        if let Some(event) = &event {
            batch.entries.push(open_entry(event)?);
        }
        self.store.apply(batch).await?;
        if let Some(event) = &event {
            report::recorded(event, 0);
        }
        Ok(event)
    }

    /// How far a branch was looked at.
    pub(crate) async fn position(&self, trigger: &str) -> Result<Option<Position>> {
        self.value(POSITIONS, trigger).await
    }

    /// The files that were taken, by path.
    pub(crate) async fn seen(&self, trigger: &str) -> Result<HashMap<String, Seen>> {
        let prefix = seen_key(trigger, "");
        let entries = self.all(SEEN, &prefix).await?;
        let seen = |entry: Entry| {
            let path = entry.key[prefix.len()..].to_owned();
            Ok((path, decode(SEEN, &entry.key, &entry.value)?))
        };
        entries.into_iter().map(seen).collect()
    }

    /// The last strike of a schedule.
    pub(crate) async fn mark(&self, trigger: &str) -> Result<Option<Mark>> {
        self.value(MARKS, trigger).await
    }

    /// Forgets the marks of schedules that are not among these, and how far branches were looked at for
    /// triggers that are not among those: one that comes back later has missed nothing in between.
    pub(crate) async fn keep_marks(&self, schedules: &[&str], followers: &[&str]) -> Result<()> {
        let mut entries: Vec<Append> = Vec::new();
        for (journal, kept) in [(MARKS, schedules), (POSITIONS, followers)] {
            let marks = self.all(journal, "").await?.into_iter();
            let gone = marks.filter(|mark| !kept.contains(&mark.key.as_str()));
            entries.extend(gone.map(|mark| tombstone(journal, mark.key)));
        }
        if !entries.is_empty() {
            self.store.apply(Batch { entries, ..Batch::default() }).await?;
        }
        Ok(())
    }

    /// Every event that is open or failed, oldest first, without its files.
    pub(crate) async fn unfinished(&self) -> Result<Vec<TriggerEvent>> {
        let entries = self.all(EVENTS, "").await?;
        let mut events = Vec::with_capacity(entries.len());
        for entry in entries {
            match decode(EVENTS, &entry.key, &entry.value) {
                Ok(event) => events.push(event),
                Err(error) => tracing::warn!(%error, "a trigger event is left out"),
            }
        }
        Ok(events)
    }

    /// The files of an event.
    pub(crate) async fn files(&self, event: &str) -> Result<Vec<String>> {
        Ok(self.value(FILES, event).await?.unwrap_or_default())
    }

    /// An event that is open, failed or done, without its files.
    pub(crate) async fn event(&self, id: &str) -> Result<Option<TriggerEvent>> {
        match self.value(EVENTS, id).await? {
            Some(event) => Ok(Some(event)),
            None => self.value(DONE, id).await,
        }
    }

    /// How many events of a trigger were acted on.
    pub(crate) async fn done(&self, trigger: &str) -> Result<u64> {
        Ok(self.value(COUNTS, trigger).await?.unwrap_or_default())
    }

    /// Stores how events stand.
    pub(crate) async fn store_events(&self, events: &[TriggerEvent]) -> Result<()> {
        let entries: Vec<Append> = events.iter().map(open_entry).collect::<Result<_>>()?;
        if !entries.is_empty() {
            self.store.apply(Batch { entries, ..Batch::default() }).await?;
        }
        Ok(())
    }

    /// Trims events that were acted on, all but the newest, and what is left of moved entries.
    pub(crate) async fn trim(&self, done_kept: usize) -> Result<()> {
        // Events recorded while this goes on have later ids than this one.
        let fence = self.shared.ids.next().to_string();
        let mut done = crate::list::Backwards::new(DONE, None, None);
        let mut oldest = None;
        for _ in 0..done_kept {
            if done.head(&*self.store).await?.is_none() {
                break;
            }
            oldest = done.pop().map(|entry| entry.key);
        }
        let Some(until) = oldest.filter(|oldest| *oldest < fence) else { return Ok(()) };
        let range = KeyRange { until: Some(until.clone()), ..KeyRange::default() };
        self.store.trim(DONE, &range).await?;
        let kept = self.all(EVENTS, "").await?;
        let kept: Vec<String> = kept.into_iter().map(|entry| entry.key).collect();
        for range in gaps(&kept, &until) {
            self.store.trim(EVENTS, &range).await?;
            self.store.trim(FILES, &range).await?;
        }
        Ok(())
    }

    async fn value<T: DeserializeOwned>(&self, journal: &str, key: &str) -> Result<Option<T>> {
        let Some(entry) = self.store.latest(journal, key).await? else { return Ok(None) };
        decode(journal, key, &entry.value).map(Some)
    }

    async fn all(&self, journal: &str, prefix: &str) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut from = None;
        loop {
            let range = KeyRange {
                prefix: prefix.to_owned(),
                from: from.take(),
                limit: PAGE,
                ..KeyRange::default()
            };
            let page = self.store.scan(journal, &range).await?;
            let full = page.len() == PAGE;
            entries.extend(page);
            if !full {
                return Ok(entries);
            }
            from = entries.last().map(|last| format!("{}\0", last.key));
        }
    }
}

/// The entry of an event that is open or failed. Its files are kept elsewhere, and once.
pub(crate) fn open_entry(event: &TriggerEvent) -> Result<Append> {
    Ok(entry(EVENTS, event.id.clone(), encode(&without_files(event))?))
}

/// The entries by which an event that was acted on moves to the others of that kind.
pub(crate) fn done_entries(event: &TriggerEvent, done: u64) -> Result<Vec<Append>> {
    Ok(vec![
        tombstone(EVENTS, event.id.clone()),
        entry(DONE, event.id.clone(), encode(&without_files(event))?),
        entry(COUNTS, event.trigger.clone(), encode(&done)?),
    ])
}

pub(crate) fn without_files(event: &TriggerEvent) -> TriggerEvent {
    TriggerEvent {
        id: event.id.clone(),
        trigger: event.trigger.clone(),
        files: Vec::new(),
        tables: event.tables.clone(),
        led_by: event.led_by.clone(),
        error: event.error.clone(),
        ..*event
    }
}

fn seen_key(trigger: &str, path: &str) -> String {
    format!("{trigger}\n{path}")
}

/// The ranges of keys below `until` that hold none of these keys.
fn gaps(kept: &[String], until: &str) -> Vec<KeyRange> {
    let mut gaps = Vec::new();
    let mut from: Option<String> = None;
    let below = kept.iter().filter(|key| key.as_str() < until);
    for key in below.map(String::as_str).chain([until]) {
        let range =
            KeyRange { from: from.take(), until: Some(key.to_owned()), ..KeyRange::default() };
        gaps.push(range);
        from = Some(format!("{key}\0"));
    }
    gaps
}
