//! Detection of objects that are created in a bucket of the lake or removed from it.
//!
//! The batch that changes an object also records the change. The source reads the changes in order,
//! and records one event for each change that its trigger selects. The batch of these events also
//! stores the position of the last read change in the journal `trigger_bucket_positions`, under the
//! trigger. A change is deleted after the positions of all triggers have passed it.

use std::time::Duration;

use async_trait::async_trait;
use headwater_model::{
    BucketEvent, BucketTrigger, ChangedObject, EventData, Fault, Problem, Trigger,
};
use headwater_objects::{ChangeFilter, ObjectChange, Objects, is_bucket_name};
use headwater_store::{Append, UniqueKey};
use serde::{Deserialize, Serialize};
use tokio_util::sync::DropGuard;

use crate::Result;
use crate::definition::invalid;
use crate::delivery_log::DeliveryLog;
use crate::event_queue::OPEN_MAX;
use crate::record::{decode, encode, read, read_all};
use crate::source::{DetectedEvents, EventSource, NewEvent, PollResult, SourceContext};

pub(crate) const POSITIONS: &str = "trigger_bucket_positions";

/// Maximum number of changes that are examined in one poll.
const BATCH: usize = 500;

/// Minimum free capacity of the event queue at which changes are examined. With a smaller minimum,
/// a nearly full queue would cause a separate batch for each event.
const CAPACITY_MIN: usize = 100;
/// Pause while the free capacity of the queue is below the minimum.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// Maximum length of the prefix and of the suffix of keys, in bytes.
const KEY_BYTES_MAX: usize = 1_024;

/// The changes that a trigger selects.
#[derive(Debug, Clone)]
pub(crate) struct ObjectFilter {
    watch: ChangeFilter,
    /// True to skip empty objects and objects that represent folders, because they contain nothing
    /// to import.
    skips_empty: bool,
}

/// Returns the changes that triggers select, to be recorded with the objects.
pub fn bucket_watches(triggers: &[Trigger]) -> Vec<ChangeFilter> {
    triggers.iter().filter_map(|trigger| trigger.bucket.as_ref()).map(watch_of).collect()
}

fn watch_of(bucket: &BucketTrigger) -> ChangeFilter {
    ChangeFilter {
        bucket: bucket.name.clone(),
        prefix: bucket.prefix.clone(),
        suffix: bucket.suffix.clone(),
        created: bucket.events.contains(&BucketEvent::Created),
        removed: bucket.events.contains(&BucketEvent::Removed),
    }
}

impl ObjectFilter {
    pub(crate) fn new(trigger: &Trigger, bucket: &BucketTrigger) -> Result<Self> {
        if !is_bucket_name(&bucket.name) {
            let reason = format!("`{}` is not a valid bucket name", bucket.name);
            let hint = "Name a bucket of the lake, such as `bucket = { name = \"landing\" }`.";
            return Err(invalid(trigger, reason, hint));
        }
        if bucket.events.is_empty() {
            let hint = "Write `events = [\"created\"]`, or leave `events` out.";
            return Err(invalid(trigger, "`events` is empty", hint));
        }
        if bucket.prefix.len().max(bucket.suffix.len()) > KEY_BYTES_MAX {
            let reason =
                "`prefix` or `suffix` is longer than 1024 bytes, the maximum length of a key";
            return Err(invalid(trigger, reason, "Shorten the prefix or suffix."));
        }
        if trigger.import.is_some() && bucket.events.contains(&BucketEvent::Removed) {
            let hint = "Remove `removed` from `events`, or call a function instead.";
            return Err(invalid(trigger, "objects that were removed cannot be imported", hint));
        }
        Ok(ObjectFilter { watch: watch_of(bucket), skips_empty: trigger.import.is_some() })
    }

    fn admits(&self, change: &ObjectChange) -> bool {
        let is_skipped = self.skips_empty && (change.size == 0 || change.key.ends_with('/'));
        !is_skipped && self.watch.admits(&change.bucket, &change.key, change.operation)
    }
}

/// The position up to which changes were processed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    bucket: String,
    /// All changes up to this position were recorded as events or skipped.
    position: u64,
    /// Unique id of this definition's steps. The definition's previous versions have other ids.
    id: String,
    /// Number of recorded steps so far. The store rejects a step that is already recorded.
    step: u64,
}

/// The event source for changes of a bucket.
pub(crate) struct BucketSource {
    selection: ObjectFilter,
    /// The stored position; `None` until it has been read.
    position: Option<Position>,
    /// Guard of the task that requests a poll after each change. Dropping it ends the task.
    listener: Option<DropGuard>,
}

#[async_trait]
impl EventSource for BucketSource {
    async fn poll(&mut self, context: &SourceContext) -> Result<PollResult> {
        let Some(objects) = context.options.objects.clone() else {
            return Ok(PollResult::after(context.options.poll_interval));
        };
        if self.listener.is_none() {
            self.listener = context.listen(objects.change_counter());
        }
        let position = self.position(context, &objects).await?;
        let capacity = OPEN_MAX.saturating_sub(context.queue.open_count());
        if capacity < CAPACITY_MIN {
            return Ok(PollResult::after(FULL_PAUSE));
        }
        let changes = objects.changes(position.position, capacity.min(BATCH)).await?;
        let Some(last) = changes.last() else {
            let fault = self.fault(&objects).await;
            return Ok(PollResult { pause: context.options.poll_interval, fault });
        };
        let reached = last.position;
        let admitted = changes.into_iter().filter_map(|recorded| {
            let change = recorded.change.filter(|change| self.selection.admits(change))?;
            // A trigger must not fire for changes that its own events caused.
            let is_own = change.caused_by.contains(&context.trigger);
            (!is_own).then(|| new_event(change, recorded.position))
        });
        let events: Vec<NewEvent> = admitted.collect();
        let next = Position { position: reached, step: position.step + 1, ..position };
        self.record(context, events, next, true).await?;
        forget_consumed(&context.log, &objects).await?;
        Ok(PollResult::after(Duration::ZERO))
    }
}

impl BucketSource {
    pub(crate) fn new(selection: ObjectFilter) -> Self {
        BucketSource { selection, position: None, listener: None }
    }

    /// Reads the position. If the trigger has no position for the bucket yet, returns the position
    /// of the latest change.
    async fn position(&mut self, context: &SourceContext, objects: &Objects) -> Result<Position> {
        if let Some(position) = &self.position {
            return Ok(position.clone());
        }
        context.catch_up().await?;
        let bucket = &self.selection.watch.bucket;
        let stored = read::<Position>(context.store(), POSITIONS, &context.trigger).await?;
        if let Some(stored) = stored.filter(|stored| stored.bucket == *bucket) {
            self.position = Some(stored.clone());
            return Ok(stored);
        }
        let position = objects.change_position().await?;
        let id = context.log.jobs.new_id().to_string();
        let first = Position { bucket: bucket.clone(), position, id, step: 0 };
        self.record(context, Vec::new(), first.clone(), false).await?;
        Ok(first)
    }

    /// Records events and the position. The batch is rejected if another process has recorded the
    /// same step. With `is_durable`, the batch is not synced. If a power failure undoes it, the
    /// changes are read again.
    async fn record(
        &mut self,
        context: &SourceContext,
        events: Vec<NewEvent>,
        position: Position,
        is_durable: bool,
    ) -> Result<()> {
        let step = UniqueKey {
            scope: format!("{POSITIONS}/{}", context.trigger),
            key: format!("{}\n{}", position.id, position.step),
        };
        let entries = vec![Append::put(POSITIONS, &context.trigger, encode(&position)?)];
        context.record(DetectedEvents { events, entries, unique: vec![step], is_durable }).await?;
        self.position = Some(position);
        Ok(())
    }

    /// Returns the problem that the bucket does not exist, if so.
    async fn fault(&self, objects: &Objects) -> Option<Problem> {
        let bucket = &self.selection.watch.bucket;
        let problem = objects.check_bucket(bucket).await.err()?.to_problem();
        Some(problem.with_hint("Create the bucket; the trigger watches it as soon as it exists."))
    }
}

/// Deletes the changes that the positions of all triggers have passed.
pub(crate) async fn forget_consumed(log: &DeliveryLog, objects: &Objects) -> Result<()> {
    let mut until = u64::MAX;
    for entry in read_all(&*log.store, POSITIONS, "").await? {
        let stored: Position = decode(POSITIONS, &entry.key, &entry.value)?;
        until = until.min(stored.position);
    }
    Ok(objects.forget_changes(until).await?)
}

fn new_event(change: ObjectChange, position: u64) -> NewEvent {
    let ObjectChange { operation, bucket, key, size, etag, time, caused_by, requester, trace } =
        change;
    let source = format!("s3://{bucket}");
    let subject = Some(key.clone());
    let uri = format!("s3://{bucket}/{key}");
    let sequencer = format!("{position:018X}");
    let object = ChangedObject { bucket, key, uri, operation, size, etag, sequencer, requester };
    let data = if operation.creates() {
        EventData::ObjectCreated { object }
    } else {
        EventData::ObjectRemoved { object }
    };
    NewEvent { source, subject, time, data, caused_by, trace }
}
