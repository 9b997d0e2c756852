//! One queue: its record, and its messages.

use std::collections::BTreeMap;

use headwater_model::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::QueueAttributes;
use crate::queue_state::QueueState;

/// A queue as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRecord {
    /// The queue's id, which differs from the ids of deleted queues with the same name.
    pub id: String,
    /// The queue's name.
    pub name: String,
    /// The queue's attributes.
    pub attributes: QueueAttributes,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Time of the queue's creation.
    pub created: Timestamp,
    /// Time of the last change of the attributes.
    pub modified: Timestamp,
}

/// Numbers of messages in a queue, by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Number of messages that can be received.
    pub visible: u64,
    /// Number of messages that were received and are invisible.
    pub in_flight: u64,
    /// Number of messages whose delay has not passed.
    pub delayed: u64,
}

/// A queue in memory: its record, and the states of its messages.
#[derive(Debug)]
pub(crate) struct OpenQueue {
    /// The queue's name and id, which never change.
    pub name: String,
    pub id: String,
    pub info: Mutex<QueueRecord>,
    pub state: Mutex<QueueState>,
    /// A notification for receivers: messages may have become visible.
    pub arrived: Notify,
    /// A lock that is held while messages of a FIFO queue are sent, so that they are stored in
    /// order.
    pub order: tokio::sync::Mutex<()>,
}

impl OpenQueue {
    pub(crate) fn new(info: QueueRecord, state: QueueState) -> Self {
        OpenQueue {
            name: info.name.clone(),
            id: info.id.clone(),
            info: Mutex::new(info),
            state: Mutex::new(state),
            arrived: Notify::new(),
            order: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn attributes(&self) -> QueueAttributes {
        self.info.lock().attributes.clone()
    }
}
