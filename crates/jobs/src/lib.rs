//! Jobs: one id, one life cycle, one event stream and one usage record for everything that runs.
//!
//! [`Jobs`] is a durable queue. It executes nothing itself: other crates register an [`Executor`]
//! for each kind, or execute the work and record it ([`Jobs::record`], [`Jobs::begin`]).
//!
//! One process at a time opens the jobs of a lake; the server's lock ensures it.

mod drive;
mod error;
mod event_log;
mod executor;
mod follow;
mod guard;
mod ids;
mod jobs;
mod lane;
mod list;
mod live;
mod lookup;
mod open;
mod options;
mod outcome;
mod queue;
mod quota;
mod record;
mod report;
mod retention;
mod usage;
mod writer;

pub use error::{Error, Result};
pub use executor::{Executor, JobContext, NewJob};
pub use follow::EventStream;
pub use guard::JobGuard;
pub use jobs::Jobs;
pub use list::JobFilter;
pub use live::StopReason;
pub use options::{JobsOptions, KindLimits};
pub use quota::{DaySum, LimitsOf, UserUsage};
pub use usage::UsageGroup;
