//! Jobs: an id, a status, an event stream and a usage record for all work.
//!
//! [`Jobs`] is a durable queue. The queue executes no work itself. Other crates register an
//! [`Executor`] for a kind of job, or execute the work themselves and record it as a job
//! ([`Jobs::record`], [`Jobs::begin`]).
//!
//! Only one process at a time may open the jobs of a lake; the server's lock ensures this.

mod active_job;
mod admission;
mod commit_decision;
mod detach_on_drop;
mod error;
mod event_buffer;
mod event_stream;
mod executor;
mod function_budget;
mod id_lookup;
mod job_ends;
mod job_guard;
mod job_id_generator;
mod job_logging;
mod job_queues;
mod jobs;
mod list;
mod message_queue_meter;
mod monitor;
mod options;
mod outcome;
mod record;
mod recovery;
mod retention;
mod run_loop;
mod statement_limits;
mod usage_summary;
mod user_quota;
mod writer;

pub use active_job::StopReason;
pub use commit_decision::CommitDecision;
pub use detach_on_drop::DetachOnDrop;
pub use error::{Error, Result};
pub use event_stream::EventStream;
pub use executor::{Executor, JobContext, NewJob};
pub use function_budget::CallBudget;
pub use job_ends::JobEnds;
pub use job_guard::JobGuard;
pub use jobs::Jobs;
pub use list::JobFilter;
pub use message_queue_meter::MessageQueueMeter;
pub use monitor::JobMonitor;
pub use options::{JobsOptions, KindLimits};
pub use statement_limits::StatementLimits;
pub use usage_summary::{UsageGroup, UsageGrouping};
pub use user_quota::{DailyUsage, LimitLookup, UserUsage};
