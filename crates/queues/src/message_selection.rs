//! The selection of messages to receive.

use headwater_model::Timestamp;

/// Criteria for the messages to receive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReceiveCriteria {
    pub limit: usize,
    /// Maximum total size of the selected messages, in bytes. At least one message is selected.
    pub bytes_max: usize,
    /// End of the visibility timeout of the received messages.
    pub until: Timestamp,
    /// Messages that were sent before this time are deleted.
    pub expired: Timestamp,
    /// Maximum number of deliveries, after which a message is moved to the dead-letter queue.
    pub receive_count_max: Option<u32>,
}

/// The messages that one call selects, to be received, moved or deleted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SelectedMessages {
    pub received: Vec<u64>,
    /// Messages that were received too often; they are in the phase `Deleting`.
    pub dead: Vec<u64>,
    /// Messages that are too old; they are in the phase `Deleting`.
    pub expired: Vec<u64>,
}

/// The messages that a purge deletes. They are in the phase `Deleting`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PurgedMessages {
    pub sequences: Vec<u64>,
    /// Ranges of sequence numbers that contain all earlier messages, but no message that is being
    /// stored. Both ends are inclusive.
    pub ranges: Vec<[u64; 2]>,
}
