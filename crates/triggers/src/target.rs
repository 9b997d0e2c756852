//! The interface to the targets of triggers.

use std::time::Duration;

use async_trait::async_trait;
use headwater_jobs::{CallBudget, JobContext};
use headwater_model::{Actor, Event, EventData, Problem, Timestamp, Trigger};
use serde_json::Value;

/// Delivers events to the targets of their triggers.
#[async_trait]
pub trait TargetExecutor: Send + Sync {
    /// Delivers an event within a job and returns the job's result. The targets have the rights of
    /// `actor`. Without an `actor`, they have the rights of the identity that deployed or created
    /// the trigger.
    ///
    /// Each commit must contain the id of its part of the event ([`event_part`]), so that it is
    /// created at most once. A problem with the code `already_exists` may contain an id of a part
    /// as `event` in its context. If this is the id of the last part, an earlier attempt delivered
    /// the event. An attempt that fails with `too_busy` or `unavailable` does not count as an
    /// attempt. A function is called again if an attempt was interrupted before its end.
    async fn execute(
        &self,
        trigger: &Trigger,
        event: &Event,
        actor: Option<&Actor>,
        context: JobContext,
    ) -> Result<Value, Problem>;

    /// Checks that the identity of an event still has the rights that it had when the event was
    /// accepted, or when the trigger was deployed. An event that fails the check is not attempted.
    /// The default implementation allows all events.
    async fn authorize(
        &self,
        _trigger: &Trigger,
        _event: &Event,
        _actor: Option<&Actor>,
    ) -> Result<(), Problem> {
        Ok(())
    }

    /// Checks before each poll of a source that the identity of the trigger may read it. A source
    /// that fails the check is not polled. A source of object changes is still polled, but skips
    /// the changes. The default implementation allows all sources.
    fn authorize_source(&self, _trigger: &Trigger) -> Result<(), Problem> {
        Ok(())
    }

    /// Returns the visible part of an occurrence; `None` if the trigger's identity may not see the
    /// occurrence. Occurrences are arrivals of files, changes of tables or objects, merges, and
    /// ends of jobs. The default implementation returns everything.
    fn visible(&self, _trigger: &str, data: EventData) -> Option<EventData> {
        Some(data)
    }

    /// Returns the policy of a function's asynchronous calls and of its calls by triggers. The
    /// default implementation returns the default policy.
    async fn call_policy(&self, _function: &str) -> Result<CallPolicy, Problem> {
        Ok(CallPolicy::default())
    }

    /// Returns the daily budget for a call of a function. Events of the function wait while the
    /// budget is used up, or cannot be read. The default implementation returns no budget.
    fn budget(&self, _function: &str) -> Result<Option<CallBudget>, Problem> {
        Ok(None)
    }

    /// Returns the user whose limits apply to the trigger's jobs. Events of the trigger wait while
    /// the user is over a limit. The default implementation returns `None`: no limits.
    fn user(&self, _trigger: &Trigger) -> Option<String> {
        None
    }

    /// Returns the time before a scheduled time at which [`TargetExecutor::prepare`] is called;
    /// `None`, the default, if the trigger's target needs no preparation.
    fn preparation_time(&self, _trigger: &Trigger) -> Option<Duration> {
        None
    }

    /// Prepares the target of a trigger for a scheduled time, so that the delivery starts sooner.
    /// Dropping the future stops the preparation. The default implementation does nothing.
    async fn prepare(&self, _trigger: &Trigger, _scheduled: Timestamp) {}

    /// Returns the queue for the trigger's jobs ([`headwater_jobs::NewJob::queue`]), if any.
    fn queue(&self, _trigger: &Trigger) -> Option<String> {
        None
    }
}

/// The policy of a function's asynchronous calls. Calls by triggers use only the destinations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallPolicy {
    /// Retries of a failed call; `None` uses the default of triggers.
    pub retries: Option<u32>,
    /// Maximum age of a call; `None` uses the default of triggers.
    pub max_age: Option<Duration>,
    /// Receives a record of each successful call.
    pub on_success: Option<CallDestination>,
    /// Receives a record of each call that failed after its last retry.
    pub on_failure: Option<CallDestination>,
}

/// A destination for the records of ended calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallDestination {
    /// The name of a function, or an address such as `queue://orders`.
    pub target: String,
    /// The identity that set the destination. Records are sent to an address with the rights of
    /// this identity, but a function as a destination runs with the rights of the ended call.
    pub actor: Actor,
}

/// The key in a problem's context whose value states whether another attempt may succeed.
const RETRYABLE: &str = "retryable";

/// Records in a problem whether another attempt may succeed. If it cannot, the event fails at once.
/// If it can, the failed attempt counts, even with the code `unavailable`.
#[must_use]
pub fn with_retryable(mut problem: Problem, is_retryable: bool) -> Problem {
    problem.context.insert(RETRYABLE.to_owned(), is_retryable.into());
    problem
}

/// The key in a problem's context that marks a failed call whose event may be divided.
const DIVISIBLE: &str = "divisible";

/// Records in a problem that some of the event's items may have caused it, and that the failed
/// attempt changed nothing. The event may then be divided.
#[must_use]
pub fn mark_divisible(mut problem: Problem) -> Problem {
    problem.context.insert(DIVISIBLE.to_owned(), true.into());
    problem
}

pub(crate) fn is_divisible(problem: &Problem) -> bool {
    problem.context.contains_key(DIVISIBLE)
}

pub(crate) fn is_retryable(problem: &Problem) -> Option<bool> {
    problem.context.get(RETRYABLE).and_then(Value::as_bool)
}

/// Returns the id for one of the commits that an event causes: `<event>/import`, `<event>/run`.
pub fn event_part(event: &str, part: &str) -> String {
    format!("{event}/{part}")
}
