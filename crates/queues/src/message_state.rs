//! The state of one message in memory, without its body. This module does no I/O.

use headwater_model::Timestamp;

use crate::message::{DeliveryState, StoredMessage};

/// The phase of a message, which determines the operations that are possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessagePhase {
    /// The message is being stored.
    Storing,
    /// The message can be received.
    Ready,
    /// The message is in flight or delayed, so it cannot be received before its `visible` time.
    Invisible,
    /// The message is deleted as soon as the deletion is on disk.
    Deleting,
}

/// The state of a message in memory, without the body.
#[derive(Debug, Clone)]
pub(crate) struct MessageState {
    /// The group, in FIFO queues.
    pub group: Option<String>,
    pub sent: Timestamp,
    /// Size of the body and attributes, in bytes.
    pub bytes: usize,
    pub delivery: DeliveryState,
    pub phase: MessagePhase,
}

impl MessageState {
    /// Creates the state of a message that is being stored. If `is_fifo` is true, the message
    /// blocks the other messages of its group while it is in flight or being deleted.
    pub(crate) fn new(message: &StoredMessage, is_fifo: bool) -> Self {
        let delivery = DeliveryState { visible: message.visible, ..DeliveryState::default() };
        let group = message.group.clone().filter(|_| is_fifo);
        let (sent, bytes) = (message.sent, message.bytes());
        MessageState { group, sent, bytes, delivery, phase: MessagePhase::Storing }
    }

    /// Returns the group of a message that is in flight or being deleted: no other message of the
    /// group can be received.
    pub(crate) fn blocked_group(&self) -> Option<&String> {
        let is_in_flight = self.phase == MessagePhase::Invisible && self.delivery.receipt.is_some();
        self.group.as_ref().filter(|_| is_in_flight || self.phase == MessagePhase::Deleting)
    }
}
