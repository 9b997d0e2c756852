//! The queue of calls: assigns permits to run, memory, and idle instances.
//!
//! Every call has an owner: a run, or a caller. Among calls of one priority, the owner with the
//! fewest running calls is next, and within an owner the function with the fewest. So a run of a
//! thousand models, or a burst of calls, does not delay other owners for long. An owner without a
//! running call may exceed the concurrency limit by one, so that it does not wait for another
//! owner's long call; the kernel then shares the processors. A call that has waited for long is
//! promoted to the next priority.
//!
//! A call takes an idle instance of its function, with the memory of that instance. Otherwise it
//! starts an instance, and needs free memory. So a function never has more instances than
//! concurrent calls, even with many callers. For a short time, other calls may overtake a call for
//! which there is not enough free memory. After that time, memory is reserved for the call, and
//! idle instances are evicted.

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
