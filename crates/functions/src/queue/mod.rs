//! The queue of calls: it gives calls permits to run, memory, and idle instances.
//!
//! Every call has an owner: a run or a caller. Among calls of one priority, a call of the owner
//! with the fewest running calls is next. Among the functions of this owner, the function with the
//! fewest running calls is next. So a run of a thousand models, or a burst of calls, does not delay
//! other owners for long. An owner without a running call may exceed the limit of concurrent calls
//! by one, so that it does not wait for another owner's long call. The kernel then divides the
//! processors among the calls. After a long wait, a call is promoted to the next priority.
//!
//! A call uses an idle instance of its function if there is one, together with the memory of that
//! instance. Otherwise the call starts an instance, for which it needs free memory. So a function
//! never has more instances than it had concurrent calls, even if it has many callers. Other calls
//! may overtake a call that waits for memory, but only for a short time. After that time, memory is
//! reserved for the call, and idle instances are evicted.
//!
//! An instance can also start in advance of an expected call, with memory that is free. Such an
//! instance holds no permit, and a call that must wait cancels its start. Provisioned instances
//! start in the same way, but no call cancels their start.

mod admission;
mod idle_instances;
mod order;
mod permits;
mod provisioned;
mod reservation;
mod state;
mod stats;
#[cfg(test)]
mod tests;

pub(crate) use admission::{CallRequest, Queue};
pub(crate) use idle_instances::InstanceKey;
pub(crate) use permits::Permit;
pub(crate) use reservation::{Reservation, ReservationResult};
pub(crate) use stats::QueueStats;
