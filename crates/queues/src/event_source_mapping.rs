//! Event source mappings: the functions that are called with the messages of queues. This module
//! only stores the mappings.

use std::sync::Arc;

use headwater_model::{Actor, Clock, Timestamp};
use headwater_store::{JournalAppend, Store, WriteBatch};
use serde::{Deserialize, Serialize};

use crate::journal::{decode, encode, scan};
use crate::{Error, Result};

const MAPPINGS: &str = "queue_mappings";

/// An event source mapping as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSourceMapping {
    /// The mapping's id.
    pub id: String,
    /// Name of the queue.
    pub queue: String,
    /// The settings.
    #[serde(flatten)]
    pub settings: MappingSettings,
    /// The identity that last changed the mapping. Calls of the function have the rights of this
    /// identity.
    pub actor: Actor,
    /// Time of the last change.
    pub modified: Timestamp,
}

/// Settings of an event source mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingSettings {
    /// Name of the function; a version or alias may follow after `:`.
    pub function: String,
    /// False pauses the mapping: its function is not called.
    pub is_enabled: bool,
    /// Maximum number of messages in a call.
    pub batch: u32,
    /// Time to wait for further messages of a batch, in seconds.
    pub window: u32,
    /// Patterns in EventBridge's language; messages that match no pattern are deleted. Without
    /// patterns, every message is selected.
    #[serde(default)]
    pub filters: Vec<String>,
    /// True if the function returns the ids of failed messages, so that the others are deleted.
    #[serde(default)]
    pub reports_failures: bool,
    /// True if a batch whose call failed is retried in two parts.
    #[serde(default)]
    pub bisects: bool,
    /// Maximum number of concurrent calls; 5 by default.
    #[serde(default)]
    pub concurrency: Option<u32>,
}

/// The event source mappings of a lake. Cheap to clone.
#[derive(Clone)]
pub struct EventSourceMappings {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl EventSourceMappings {
    /// Opens the mappings in a store.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        EventSourceMappings { store, clock }
    }

    /// Returns all mappings, oldest first.
    pub async fn list(&self) -> Result<Vec<EventSourceMapping>> {
        let entries = scan(&self.store, MAPPINGS).await?;
        entries.iter().map(|entry| decode(MAPPINGS, entry)).collect()
    }

    /// Returns the mapping with this id.
    pub async fn get(&self, id: &str) -> Result<EventSourceMapping> {
        let entry = self.store.latest(MAPPINGS, id).await?;
        let entry = entry.ok_or_else(|| Error::MappingNotFound { id: id.to_owned() })?;
        decode(MAPPINGS, &entry)
    }

    /// Creates a mapping, which is durable on return.
    pub async fn create(
        &self,
        queue: &str,
        settings: MappingSettings,
        actor: Actor,
    ) -> Result<EventSourceMapping> {
        let (id, queue) = (uuid::Uuid::now_v7().to_string(), queue.to_owned());
        let mapping = EventSourceMapping { id, queue, settings, actor, modified: self.clock.now() };
        self.put(mapping).await
    }

    /// Replaces the settings of a mapping. The new settings are durable on return.
    pub async fn update(
        &self,
        id: &str,
        settings: MappingSettings,
        actor: Actor,
    ) -> Result<EventSourceMapping> {
        let mapping = self.get(id).await?;
        self.put(EventSourceMapping { settings, actor, modified: self.clock.now(), ..mapping })
            .await
    }

    /// Deletes a mapping.
    pub async fn delete(&self, id: &str) -> Result<()> {
        let entries = vec![JournalAppend::tombstone(MAPPINGS, id)];
        self.store.apply(WriteBatch { entries, ..WriteBatch::default() }).await?;
        Ok(())
    }

    async fn put(&self, mapping: EventSourceMapping) -> Result<EventSourceMapping> {
        let entries = vec![JournalAppend::put(MAPPINGS, &mapping.id, encode(&mapping))];
        self.store.apply(WriteBatch { entries, ..WriteBatch::default() }).await?;
        Ok(mapping)
    }
}
