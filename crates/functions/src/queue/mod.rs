//! The queue of calls: assigns permits to run, memory, and idle instances.
//!
//! Every call has an owner: a run or a caller. Among calls of one priority, the owner with the
//! fewest running calls is next, and within an owner the function with the fewest. So a run of a
//! thousand models, or a burst of calls, does not delay other owners for long. An owner without a
//! running call may exceed the concurrency limit by one, so it does not wait for another owner's
//! long call. The kernel then shares the processors. After a long wait, a call is promoted to the
//! next priority.
//!
//! A call uses an idle instance of its function, with the memory of that instance. Otherwise it
//! starts an instance, and needs free memory. So a function never has more instances than
//! concurrent calls, even with many callers. Other calls may overtake a call that lacks memory, but
//! only for a short time. After that time, memory is reserved for the call, and idle instances are
//! evicted.

mod admission;
mod idle;
mod order;
mod permits;
mod state;
mod stats;
#[cfg(test)]
mod tests;

pub(crate) use admission::{CallRequest, Queue};
pub(crate) use idle::InstanceKey;
pub(crate) use permits::Permit;
pub(crate) use stats::QueueStats;
