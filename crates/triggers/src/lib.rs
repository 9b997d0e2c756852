//! Triggers: arriving files, scheduled times and table changes become events, and each event is
//! delivered to the targets of its trigger by a job.
//!
//! - An event is stored in one batch with the position of its source, before it is delivered.
//! - Events of one trigger are delivered in order, one at a time. Triggers do not wait for each
//!   other.
//! - A failed delivery is retried with back-off. After the last retry the event is kept as failed.

mod commits;
mod definition;
mod delivery;
mod delivery_log;
mod error;
mod event_queue;
mod file_listing;
mod file_source;
mod file_watcher;
mod options;
mod rate_limit;
mod record;
mod report;
mod schedule;
mod schedule_source;
mod source;
mod table_source;
mod target;
mod triggers;
mod worker;

pub use commits::{Commits, TableCommit};
pub use definition::check_trigger;
pub use error::{Error, Result};
pub use options::{TriggerEventFilter, TriggersOptions};
pub use target::{TargetExecutor, event_part};
pub use triggers::Triggers;
