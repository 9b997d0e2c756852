//! One queue: its record, and its messages.

use std::collections::BTreeMap;

use headwater_model::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::QueueAttributes;
use crate::state::State;

/// A queue as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueInfo {
    /// Distinguishes the queue from deleted ones with the same name.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its attributes.
    pub attributes: QueueAttributes,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Time of its creation.
    pub created: Timestamp,
    /// Time of the last change of its attributes.
    pub modified: Timestamp,
}

/// Numbers of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Messages that can be received.
    pub visible: u64,
    /// Messages that were received and are invisible.
    pub in_flight: u64,
    /// Messages whose delay has not passed.
    pub delayed: u64,
}

/// An open queue.
#[derive(Debug)]
pub(crate) struct OpenQueue {
    /// Its name and id, which never change.
    pub name: String,
    pub id: String,
    pub info: Mutex<QueueInfo>,
    pub state: Mutex<State>,
    /// Notified when messages may have become visible.
    pub arrived: Notify,
    /// Held while messages of a FIFO queue are sent, so that they are stored in order.
    pub order: tokio::sync::Mutex<()>,
}

impl OpenQueue {
    pub(crate) fn new(info: QueueInfo, state: State) -> Self {
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
