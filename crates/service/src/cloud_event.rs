//! Events that clients send for a function.

use headwater_executors::limits;
use headwater_model::{AcceptedEvent, Actor, CloudEvent, ErrorCode, Principal, Problem, ResultExt};
use headwater_triggers::{EventBatch, EventCall};

use crate::invocation::Invocations;

impl Invocations {
    /// Accepts events, each of which calls the function once. All events are accepted or none.
    /// Accepted events are durable on return.
    ///
    /// Errors: `function_not_found`; `invalid_argument` if the function does not take exactly one
    /// argument; `too_busy` if too many events of the function are waiting.
    pub async fn accept_events(
        &self,
        principal: &Principal,
        name: &str,
        events: Vec<CloudEvent>,
    ) -> Result<Vec<AcceptedEvent>, Problem> {
        let resolved = self.find(principal, name).await?;
        let argument = resolved.event_argument()?.to_owned();
        let called = resolved.called();
        let needed = called.callable.limits(&called.project.defaults).memory_bytes;
        limits(&self.0.access, principal).check_memory(name, needed)?;
        let Some(triggers) = &self.0.triggers else { return Err(disabled()) };
        let function = if resolved.version().is_some() { name } else { &called.callable.name };
        let user = principal.user_name().map(str::to_owned);
        if let Some(user) = &user {
            self.0.jobs.check_quota(user).await.or_problem()?;
        }
        let call = EventCall {
            function: function.to_owned(),
            argument: Some(argument),
            user,
            author: principal.author().to_owned(),
            actor: Actor::of(principal).without_token(),
        };
        triggers.accept_events(EventBatch { call, events }).await.or_problem()
    }
}

/// Returns the error for a server on which triggers are disabled.
pub(crate) fn disabled() -> Problem {
    let message = "triggers and asynchronous calls are disabled on this server";
    Problem::new(ErrorCode::Unavailable, message)
}
