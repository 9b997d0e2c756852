//! Changes of objects in a bucket of the lake: objects that are created or removed.
//!
//! The bucket records a change in the batch that changes the object. Each change that a trigger
//! selects is one event of its [source](crate::occurrence_source).

use headwater_model::{
    BucketEvent, BucketTrigger, ChangedObject, ErrorCode, EventData, Problem, ToProblem, Trigger,
};
use headwater_objects::{ChangeFilter, ObjectChange, Objects, is_bucket_name};
use headwater_store::JournalEntry;

use crate::Result;
use crate::definition::invalid;
use crate::event_source::NewEvent;
use crate::occurrence_source::readable;

pub(crate) const POSITIONS: &str = "trigger_bucket_positions";

/// Maximum length of a prefix or suffix of keys, in bytes.
const KEY_BYTES_MAX: usize = 1_024;

/// The changes that a trigger selects.
#[derive(Debug, Clone)]
pub(crate) struct ObjectFilter {
    watch: ChangeFilter,
    /// True to skip empty objects, such as objects that represent folders: they contain no rows.
    skips_empty: bool,
}

/// Returns a filter for each bucket trigger. The buckets record only changes that a filter selects.
pub fn bucket_filters(triggers: &[Trigger]) -> Vec<ChangeFilter> {
    let buckets = triggers.iter().filter_map(|trigger| trigger.bucket.as_ref());
    buckets.filter(|bucket| !bucket.is_remote()).map(filter_of).collect()
}

fn filter_of(bucket: &BucketTrigger) -> ChangeFilter {
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
        if bucket.poll != BucketTrigger::POLL {
            let reason = "`poll` is only for buckets of other object stores";
            let hint = "Leave `poll` out: changes of the lake's buckets are never polled.";
            return Err(invalid(trigger, reason, hint));
        }
        check_keys(trigger, bucket)?;
        if trigger.import.is_some() && bucket.events.contains(&BucketEvent::Removed) {
            let hint = "Remove `removed` from `events`, or call a function instead.";
            return Err(invalid(trigger, "objects that were removed cannot be imported", hint));
        }
        Ok(ObjectFilter { watch: filter_of(bucket), skips_empty: trigger.import.is_some() })
    }

    fn admits(&self, change: &ObjectChange) -> bool {
        let is_skipped = self.skips_empty && (change.size == 0 || change.key.ends_with('/'));
        !is_skipped && self.watch.admits(&change.bucket, &change.key, change.operation)
    }

    pub(crate) fn bucket(&self) -> &str {
        &self.watch.bucket
    }

    /// Returns the event of a recorded change; `None` if this filter does not select the change.
    pub(crate) fn event(&self, entry: &JournalEntry) -> Option<NewEvent> {
        let change = readable::<ObjectChange>("object_changes", entry)?;
        self.admits(&change).then(|| new_event(change, entry.position))
    }

    /// Returns a problem if the trigger's bucket does not exist.
    pub(crate) async fn fault(&self, objects: &Objects) -> Option<Problem> {
        let problem = objects.check_bucket(self.bucket()).await.err()?.to_problem();
        let hint = "Create the bucket; the trigger watches it as soon as it exists.";
        let is_missing = problem.code == ErrorCode::BucketNotFound;
        Some(if is_missing { problem.with_hint(hint) } else { problem })
    }
}

/// Checks the prefix and the suffix of keys in a trigger's definition.
pub(crate) fn check_keys(trigger: &Trigger, bucket: &BucketTrigger) -> Result<()> {
    if bucket.prefix.len().max(bucket.suffix.len()) > KEY_BYTES_MAX {
        let reason = "`prefix` or `suffix` is longer than 1024 bytes, the maximum length of a key";
        return Err(invalid(trigger, reason, "Shorten the prefix or suffix."));
    }
    Ok(())
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
