//! Objects of buckets in other object stores, such as S3, which are listed periodically.
//!
//! A pass lists all keys of the bucket in order, over several polls. A poll continues the pass, and
//! lists at most `PAGES_MAX` pages, so that the cost of a poll does not grow with the bucket. The
//! journal `trigger_remote_objects` stores the last recorded version of each object. One batch
//! stores this entry and the event, so that each version is one event, even after a crash.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use headwater_model::{
    BucketEvent, BucketTrigger, ChangedObject, ErrorCode, EventData, ObjectOperation, Problem,
    Timestamp, Trigger,
};
use headwater_store::{JournalAppend, KeyRange, UniqueKey};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::bucket_source::check_keys;
use crate::definition::invalid;
use crate::event_queue::OPEN_MAX;
use crate::event_source::{DetectedEvents, EventSource, NewEvent, PollResult, SourceContext};
use crate::journal_codec::{decode, encode};

const TAKEN: &str = "trigger_remote_objects";

/// Schemes of URLs. `s3a` is rejected: it names the same objects as `s3`, but needs other grants.
const SCHEMES: [&str; 5] = ["s3", "gs", "az", "abfs", "abfss"];

/// Number of objects of a page, as in S3, and maximum number of pages of a poll.
const PAGE: usize = 1_000;
const PAGES_MAX: usize = 10;

/// Maximum number of events that are recorded in one batch.
const BATCH: usize = 100;

/// Minimum pause between two polls of a bucket.
const POLL_MIN: Duration = Duration::from_secs(1);

/// The buckets of other object stores.
#[async_trait]
pub trait RemoteBuckets: Send + Sync {
    /// Returns at most `page.limit` objects, ordered by key, from the folder of `page.prefix`,
    /// whose keys follow `page.after`. Keys may lack the prefix; the caller must skip these
    /// objects. `bucket` is a URL such as `s3://partner`.
    async fn list(&self, bucket: &str, page: &PageRequest) -> Result<Vec<RemoteObject>, Problem>;
}

/// A request for one page of the objects of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// The prefix of the wanted keys. Its folder is the part up to the last `/`.
    pub prefix: String,
    /// Only keys after this key are listed; `None` for the first page.
    pub after: Option<String>,
    /// Maximum number of objects.
    pub limit: usize,
}

/// An object of another object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteObject {
    /// The key.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// The entity tag without quotes, or another text that differs for each version.
    pub etag: String,
    /// Time of the last change.
    pub modified: Timestamp,
}

/// The objects that a trigger selects.
#[derive(Debug, Clone)]
pub(crate) struct WatchedBucket {
    /// The URL of the bucket, and its name without the scheme.
    bucket: String,
    name: String,
    /// The location that the trigger's deployer must have the right to read.
    location: String,
    prefix: String,
    suffix: String,
    poll: Duration,
    /// True to skip empty objects, because they contain nothing to import.
    skips_empty: bool,
}

/// The last recorded version of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LastVersion {
    etag: String,
    /// Number of versions of the object that were recorded before.
    generation: u64,
}

impl WatchedBucket {
    pub(crate) fn new(trigger: &Trigger, bucket: &BucketTrigger) -> Result<Self> {
        let (scheme, name) = bucket.name.split_once("://").unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        if !SCHEMES.contains(&scheme) || name.is_empty() || !name.chars().all(is_plain) {
            let reason = format!("`{}` is not the URL of a bucket", bucket.name);
            let hint = "Write a URL such as `s3://partner`, and the path of the keys as `prefix`.";
            return Err(invalid(trigger, reason, hint));
        }
        if bucket.events != [BucketEvent::Created] {
            let reason = "a bucket of another object store has only the event `created`";
            return Err(invalid(trigger, reason, "Leave `events` out."));
        }
        if bucket.poll < POLL_MIN {
            let reason = "`poll` is shorter than one second";
            return Err(invalid(trigger, reason, "Write a time such as `poll = \"1m\"`."));
        }
        check_keys(trigger, bucket)?;
        Ok(WatchedBucket {
            bucket: bucket.name.clone(),
            name: name.to_owned(),
            location: bucket.location(),
            prefix: bucket.prefix.clone(),
            suffix: bucket.suffix.clone(),
            poll: bucket.poll,
            skips_empty: trigger.import.is_some(),
        })
    }

    fn admits(&self, object: &RemoteObject) -> bool {
        let is_skipped = object.key.ends_with('/') || (self.skips_empty && object.size == 0);
        !is_skipped && object.key.starts_with(&self.prefix) && object.key.ends_with(&self.suffix)
    }

    fn event(&self, object: RemoteObject, generation: u64) -> NewEvent {
        let RemoteObject { key, size, etag, modified } = object;
        let changed = ChangedObject {
            bucket: self.name.clone(),
            uri: format!("{}/{key}", self.bucket),
            key: key.clone(),
            operation: ObjectOperation::Put,
            size,
            etag,
            sequencer: format!("{generation:018X}"),
            requester: None,
        };
        NewEvent {
            source: self.bucket.clone(),
            subject: Some(key),
            time: modified,
            data: EventData::ObjectCreated { object: changed },
            caused_by: Vec::new(),
            trace: None,
        }
    }

    /// Returns the problem that prevents the trigger from watching the bucket, if any.
    async fn fault(&self, context: &SourceContext) -> Option<Problem> {
        let location = &self.location;
        if !context.policy.allows_location(location) {
            let message = format!("the user of the trigger may not read `{location}`");
            let hint = format!("Grant `read on location:{location}`.");
            return Some(Problem::new(ErrorCode::Forbidden, message).with_hint(hint));
        }
        let name = &self.name;
        let objects = context.options.objects.as_ref()?;
        if !self.bucket.starts_with("s3://") || objects.check_bucket(name).await.is_err() {
            return None;
        }
        let message = format!("`{}` refers to the lake's own bucket `{name}`", self.bucket);
        Some(
            Problem::new(ErrorCode::InvalidArgument, message)
                .with_hint("Delete or rename the lake's bucket."),
        )
    }
}

/// The event source for objects in a bucket of another object store.
pub(crate) struct RemoteBucketSource {
    objects: WatchedBucket,
    /// The last key that the current pass has listed.
    after: Option<String>,
    is_caught_up: bool,
    /// The earliest time of the next listing. Polls before this time list nothing.
    due: Option<Instant>,
    fault: Option<Problem>,
}

impl RemoteBucketSource {
    pub(crate) fn new(objects: WatchedBucket) -> Self {
        RemoteBucketSource { objects, after: None, is_caught_up: false, due: None, fault: None }
    }

    /// Returns the recorded versions of the objects of a page, by key.
    async fn taken(
        &self,
        context: &SourceContext,
        page: &[RemoteObject],
    ) -> Result<HashMap<String, LastVersion>> {
        // Search the first and last key, because pages are not strictly ordered: a folder's key can
        // lack the final `/`.
        let keys = || page.iter().map(|object| object.key.as_str());
        let (Some(first), Some(last)) = (keys().min(), keys().max()) else {
            return Ok(HashMap::new());
        };
        let prefix = self.version_key(context, "");
        let range = KeyRange {
            from: Some(self.version_key(context, first)),
            until: Some(format!("{}\0", self.version_key(context, last))),
            prefix: prefix.clone(),
            ..KeyRange::default()
        };
        let mut taken = HashMap::new();
        for entry in context.store().scan(TAKEN, &range).await? {
            let key = entry.key[prefix.len()..].to_owned();
            taken.insert(key, decode(TAKEN, &entry.key, &entry.value)?);
        }
        Ok(taken)
    }

    /// Returns the key of an object's entry in the journal.
    fn version_key(&self, context: &SourceContext, key: &str) -> String {
        format!("{}\n{}\n{key}", context.trigger, self.objects.bucket)
    }

    /// Continues the pass over the bucket. Returns false if too many events are pending.
    async fn list(&mut self, context: &SourceContext) -> Result<bool> {
        let Some(buckets) = context.options.remote.clone() else { return Ok(true) };
        for _ in 0..PAGES_MAX {
            let (prefix, after) = (self.objects.prefix.clone(), self.after.clone());
            let page = PageRequest { prefix, after, limit: PAGE };
            let listed = match buckets.list(&self.objects.bucket, &page).await {
                Ok(listed) => listed,
                Err(problem) => {
                    self.fault = Some(problem);
                    return Ok(true);
                }
            };
            let last = listed.iter().map(|object| object.key.clone()).max();
            let is_end = listed.len() < PAGE;
            if !self.record(context, listed).await? {
                return Ok(false);
            }
            self.after = last.filter(|_| !is_end);
            if is_end {
                break;
            }
        }
        Ok(true)
    }

    /// Records an event for each new version of the objects of a page. Returns false if too many
    /// events are pending; the page is then listed again.
    async fn record(&self, context: &SourceContext, page: Vec<RemoteObject>) -> Result<bool> {
        let taken = self.taken(context, &page).await?;
        // A page can contain an object and a folder with the same key. Only the first is an event.
        let mut keys = HashSet::new();
        let is_new = |object: &RemoteObject| {
            let last = taken.get(&object.key);
            keys.insert(object.key.clone())
                && self.objects.admits(object)
                && last.is_none_or(|last| last.etag != object.etag)
        };
        let new: Vec<RemoteObject> = page.into_iter().filter(is_new).collect();
        for objects in new.chunks(BATCH) {
            if context.queue.open_count() >= OPEN_MAX {
                return Ok(false);
            }
            let mut detected = DetectedEvents::default();
            for object in objects {
                let generation = taken.get(&object.key).map_or(0, |last| last.generation + 1);
                let version = LastVersion { etag: object.etag.clone(), generation };
                let key = self.version_key(context, &object.key);
                detected.unique.push(UniqueKey {
                    scope: TAKEN.to_owned(),
                    key: format!("{key}\n{generation}\n{}", object.etag),
                });
                detected.entries.push(JournalAppend::put(TAKEN, key, encode(&version)?));
                detected.events.push(self.objects.event(object.clone(), generation));
            }
            context.record(detected).await?;
        }
        Ok(true)
    }
}

#[async_trait]
impl EventSource for RemoteBucketSource {
    async fn poll(&mut self, context: &SourceContext) -> Result<PollResult> {
        if !self.is_caught_up {
            context.catch_up().await?;
            self.is_caught_up = true;
        }
        let now = Instant::now();
        let due = self.due.filter(|due| *due > now && !context.options.manual);
        if let Some(due) = due {
            return Ok(PollResult { pause: due - now, fault: self.fault.clone() });
        }
        self.due = Some(now + self.objects.poll);
        self.fault = self.objects.fault(context).await;
        if self.fault.is_none() && !self.list(context).await? {
            self.due = None;
            return Ok(PollResult::after(context.options.poll_interval));
        }
        Ok(PollResult { pause: self.objects.poll, fault: self.fault.clone() })
    }
}
