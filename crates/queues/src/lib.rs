//! Message queues with the semantics of SQS: durable messages, visibility timeouts, delays, dead
//! letters, and order by message group.
//!
//! - A message is synced to disk before it is acknowledged. Messages that are sent concurrently
//!   share one sync.
//! - A message is delivered at least once. A received message is invisible until its timeout. Then
//!   the message is visible again, unless the consumer has deleted it.
//! - A message whose deletion was acknowledged is never delivered again.
//! - This crate implements no protocol and checks no permissions.

mod attributes;
mod call_batch;
mod delete;
mod error;
mod event_record;
mod event_source_mapping;
mod journal;
mod message;
mod message_filter;
mod message_selection;
mod message_state;
mod queue;
mod queue_state;
mod queues;
mod receive;
mod send;
mod taken_messages;

pub use attributes::{QueueAttributes, RedrivePolicy, is_queue_name};
pub use call_batch::{batch_bytes, failed_message_ids, ordered_group, split_processed};
pub use error::{Error, Result};
pub use event_source_mapping::{EventSourceMapping, EventSourceMappings, MappingSettings};
pub use message::{
    MessageAttribute, NewMessage, ReceivedMessage, SentMessage, StoredMessage, attributes_md5,
};
pub use message_filter::{MessageFilter, parse_filters};
pub use queue::{QueueCounts, QueueRecord};
pub use queues::Queues;
pub use receive::ReceiveOptions;
pub use taken_messages::TakenMessages;
