//! Triggers that are created without a project, in the store.
//!
//! | journal | key | value |
//! |---|---|---|
//! | `created_triggers` | name | the [`StandaloneTrigger`] |
//!
//! The removal of a trigger first sets `removed` in the trigger's record, then deletes the events
//! of the trigger, and then the record. The next start of the server completes an interrupted
//! removal.

use std::sync::Arc;

use headwater_model::{Actor, BucketNotification, Timestamp, Trigger};
use headwater_store::{JournalAppend, KeyRange, Store, WriteBatch};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

const JOURNAL: &str = "created_triggers";

/// A trigger that is created without a project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StandaloneTrigger {
    /// The trigger.
    pub trigger: Trigger,
    /// The author of the trigger.
    pub author: String,
    /// The identity whose rights the trigger has.
    pub actor: Actor,
    /// Time at which the trigger was created or last replaced.
    pub created: Timestamp,
    /// True while the events of a removed trigger are being deleted.
    #[serde(default)]
    pub removed: bool,
    /// The bucket notification, if an S3 client created the trigger by configuring one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification: Option<BucketNotification>,
}

impl StandaloneTrigger {
    /// Returns true if a trigger has the same definition, regardless of the place of the
    /// definition.
    pub fn is_same(&self, trigger: &Trigger) -> bool {
        let defined_at = self.trigger.defined_at.clone();
        self.trigger == Trigger { defined_at, ..trigger.clone() }
    }
}

/// The triggers of a lake that are created without a project.
#[derive(Clone)]
pub struct StandaloneTriggerStore {
    store: Arc<dyn Store>,
}

impl std::fmt::Debug for StandaloneTriggerStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StandaloneTriggerStore").finish_non_exhaustive()
    }
}

impl StandaloneTriggerStore {
    /// Opens the triggers in a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        StandaloneTriggerStore { store }
    }

    /// Returns the triggers by name, including those that are being removed. A record that cannot
    /// be read is skipped with a warning.
    pub async fn list(&self) -> Result<Vec<StandaloneTrigger>> {
        let mut found = Vec::new();
        for entry in self.store.scan(JOURNAL, &KeyRange::default()).await? {
            match serde_json::from_slice::<StandaloneTrigger>(&entry.value) {
                Ok(mut created) => {
                    created.trigger.defined_at = format!("created by {}", created.author);
                    found.push(created);
                }
                Err(error) => {
                    tracing::warn!(%error, "the standalone trigger `{}` cannot be read", entry.key);
                }
            }
        }
        Ok(found)
    }

    /// Stores the records of triggers in one batch, which is stored completely or not at all.
    pub async fn put(&self, triggers: &[StandaloneTrigger]) -> Result<()> {
        let mut entries = Vec::with_capacity(triggers.len());
        for created in triggers {
            let value = serde_json::to_vec(created)
                .map_err(|error| Error::NotEncoded { reason: error.to_string() })?;
            entries.push(JournalAppend::put(JOURNAL, &created.trigger.name, value.into()));
        }
        self.apply(entries).await
    }

    /// Deletes the record of a trigger.
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.apply(vec![JournalAppend::tombstone(JOURNAL, name)]).await
    }

    async fn apply(&self, entries: Vec<JournalAppend>) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        self.store.apply(WriteBatch { entries, ..WriteBatch::default() }).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use headwater_store::MemoryStore;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn created_triggers_are_read_back_with_their_author() {
        let triggers = StandaloneTriggerStore::new(Arc::new(MemoryStore::new()));
        let trigger = json!({"name": "a", "schedule": "rate(5 minutes)", "function": "f"});
        let created = StandaloneTrigger {
            trigger: serde_json::from_value(trigger).expect("a trigger"),
            author: "ada".to_owned(),
            actor: Actor::Owner,
            created: "2026-03-01T00:00:00Z".parse().expect("a time"),
            removed: false,
            notification: None,
        };
        triggers.put(std::slice::from_ref(&created)).await.expect("stored");
        let listed = triggers.list().await.expect("a list");
        assert_eq!(listed[0].trigger.defined_at, "created by ada");
        assert!(listed[0].is_same(&created.trigger));
        triggers.delete("a").await.expect("deleted");
        assert!(triggers.list().await.expect("a list").is_empty());
    }
}
