//! Triggers: arriving files, changed objects, scheduled times, table changes, merges, ends of jobs,
//! and messages of queues, PostgreSQL, NATS and Kafka become events. A job delivers each event to
//! the targets of its trigger.
//!
//! - An event is stored before it is delivered, in one batch of the store with the position of its
//!   source.
//! - Imports and runs process the events of a trigger one at a time, in order. Functions process
//!   several events concurrently; the order is preserved only among events with the same order key.
//! - A failed delivery is retried with back-off. After the last retry, the event is kept as failed.
//! - An event with several items can be divided, so that only its failed items are retried.

mod async_calls;
mod back_off;
mod branch_commits;
mod bucket_source;
mod call_destination;
mod definition;
mod delivery;
mod delivery_log;
mod delivery_outcome;
mod error;
mod event_filter;
mod event_ingestion;
mod event_logging;
mod event_operations;
mod event_queue;
mod event_source;
mod event_split;
mod file_listing;
mod file_source;
mod file_watcher;
mod journal_codec;
mod kafka;
mod message_inbox;
mod nats_receiver;
mod nats_source;
mod occurrence_source;
mod options;
mod pending_deliveries;
mod postgres_listener;
mod postgres_outbox;
mod postgres_server;
mod postgres_source;
mod queue_source;
mod remote_bucket_source;
mod schedule_source;
mod table_source;
mod target;
mod target_preparation;
mod trigger_worker;
mod triggers;
mod waiting_event_source;
mod waiting_events;

pub use async_calls::NewCall;
pub use branch_commits::{BranchCommit, CommitSource};
pub use bucket_source::bucket_filters;
pub use definition::check_trigger;
pub use error::{Error, Result};
pub use event_ingestion::{EventBatch, EventCall};
pub use event_split::{BATCH_RESULTS, FAILED_ITEMS};
pub use headwater_event_values::function_argument;
pub use headwater_sandbox::{ConnectionPolicy, LocationCheck, ServerAddress};
pub use options::{TriggerEventFilter, TriggersOptions};
pub use remote_bucket_source::{PageRequest, RemoteBuckets, RemoteObject};
pub use schedule_source::check_upcoming;
pub use target::{
    CallDestination, CallPolicy, TargetExecutor, event_part, mark_divisible, with_retryable,
};
pub use triggers::Triggers;
