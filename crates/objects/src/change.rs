//! Changes of objects, recorded for triggers.
//!
//! A change that matches a [`ChangeFilter`] is recorded in the journal `object_changes`. The entry
//! is appended in the batch that changes the object, so that both are stored atomically and with
//! one sync. The position of an entry in the journal orders all changes of the lake. A reader
//! deletes entries after it has stored what the changes cause.

use bytes::Bytes;
use headwater_model::{ObjectOperation, Requester, Timestamp};
use headwater_store::{JournalAppend, OccurrenceJournal};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use crate::record::{ObjectRecord, decode, encode};
use crate::{ObjectPath, Objects, Result};

const CHANGES: &str = "object_changes";

/// A filter for the changes to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeFilter {
    /// The bucket.
    pub bucket: String,
    /// The prefix of the keys.
    pub prefix: String,
    /// The suffix of the keys.
    pub suffix: String,
    /// Selects operations that create objects.
    pub created: bool,
    /// Selects deletions.
    pub removed: bool,
}

impl ChangeFilter {
    /// Returns true if the filter selects this operation on this object.
    pub fn admits(&self, bucket: &str, key: &str, operation: ObjectOperation) -> bool {
        let is_wanted = if operation.creates() { self.created } else { self.removed };
        // Strip the prefix before the suffix is tested, because both could overlap in a short key.
        let rest = || key.strip_prefix(&*self.prefix);
        is_wanted && self.bucket == bucket && rest().is_some_and(|it| it.ends_with(&*self.suffix))
    }
}

/// A change of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectChange {
    /// The operation.
    pub operation: ObjectOperation,
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// Size in bytes. For a deletion, the size of the deleted object.
    pub size: u64,
    /// The entity tag. For a deletion, the tag of the deleted object.
    pub etag: String,
    /// The time of the change.
    pub time: Timestamp,
    /// The lineage of the change: names of triggers, function queues and event source mappings.
    /// Empty if the cause is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caused_by: Vec<String>,
    /// The client that requested the change, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<Requester>,
    /// The span of the request in the format of the header `traceparent`, if it is traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// The origin of a change.
#[derive(Debug, Clone)]
pub struct ChangeOrigin {
    /// The client that requested the change.
    pub requester: Requester,
    /// The span of the request in the format of the header `traceparent`, if it is traced.
    pub trace: Option<String>,
}

/// A change with its position in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedChange {
    /// The position in the journal, which increases with each change in the lake.
    pub position: u64,
    /// The change; `None` if the record cannot be read.
    pub change: Option<ObjectChange>,
}

/// The operation that changes an object, and the triggers that caused it.
#[derive(Debug, Clone)]
pub(crate) struct OperationWithCause<'a> {
    pub kind: ObjectOperation,
    pub caused_by: &'a [String],
}

impl OperationWithCause<'_> {
    pub(crate) fn new(kind: ObjectOperation) -> Self {
        OperationWithCause { kind, caused_by: &[] }
    }
}

impl Objects {
    /// Replaces the filters. Later changes are recorded only if they match one of the new filters.
    pub fn watch(&self, watches: Vec<ChangeFilter>) {
        *self.0.watches.write() = watches;
    }

    /// Returns a counter that changes with each recorded change.
    pub fn change_counter(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Returns the first `limit` changes after a position, in order.
    pub async fn changes(&self, after: u64, limit: usize) -> Result<Vec<RecordedChange>> {
        let entries = self.change_journal().after(after, limit).await?;
        let recorded = |entry: headwater_store::JournalEntry| {
            let change = decode(&entry.key, &entry.value)
                .inspect_err(|error| tracing::warn!("skipping a change of an object: {error}"));
            RecordedChange { position: entry.position, change: change.ok() }
        };
        Ok(entries.into_iter().map(recorded).collect())
    }

    /// Returns the journal of the recorded changes. Its entries contain [`ObjectChange`] as JSON.
    pub fn change_journal(&self) -> OccurrenceJournal<'_> {
        OccurrenceJournal::new(&*self.0.store, CHANGES)
    }

    /// Returns the journal entry for a change; `None` if no filter matches the change.
    pub(crate) fn change_entry(
        &self,
        path: &ObjectPath,
        info: &ObjectRecord,
        operation: &OperationWithCause<'_>,
    ) -> Result<Option<JournalAppend>> {
        let ObjectPath { bucket, key } = path;
        let admits = |watch: &ChangeFilter| watch.admits(bucket, key, operation.kind);
        if !self.0.watches.read().iter().any(admits) {
            return Ok(None);
        }
        let change = ObjectChange {
            operation: operation.kind,
            bucket: bucket.clone(),
            key: key.clone(),
            size: info.size,
            etag: info.etag.clone(),
            time: self.now(),
            caused_by: operation.caused_by.to_vec(),
            requester: self.1.as_ref().map(|origin| origin.requester.clone()),
            trace: self.1.as_ref().and_then(|origin| origin.trace.clone()),
        };
        let id = Uuid::now_v7().simple().to_string();
        let value: Bytes = encode(&id, &change)?;
        Ok(Some(JournalAppend::put(CHANGES, id, value)))
    }

    /// Notifies the readers of recorded changes.
    pub(crate) fn notify_change(&self) {
        self.0.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_selects_by_bucket_prefix_suffix_and_operation() {
        let watch = ChangeFilter {
            bucket: "landing".to_owned(),
            prefix: "in/a".to_owned(),
            suffix: "a.csv".to_owned(),
            created: true,
            removed: false,
        };
        let put = ObjectOperation::Put;
        assert!(watch.admits("landing", "in/a-a.csv", put));
        assert!(watch.admits("landing", "in/aa.csv", ObjectOperation::Copy));
        assert!(!watch.admits("landing", "in/a.csv", put), "the parts overlap");
        assert!(!watch.admits("other", "in/a-a.csv", put));
        assert!(!watch.admits("landing", "in/b-a.csv", put));
        assert!(!watch.admits("landing", "in/a-b.csv", put));
        assert!(!watch.admits("landing", "in/a-a.csv", ObjectOperation::Delete));
    }
}
