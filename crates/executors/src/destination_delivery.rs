//! Destinations that are not functions: checks the rights, and sends records and results.
//!
//! The identity that set a destination needs the right to it, which is checked when the destination
//! is set, and again before each delivery.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_access::Access;
use headwater_destinations::{
    DestinationAddress, DestinationSender, Payload, SendAttempt, is_address,
};
use headwater_event_values::CALL_EVENT;
use headwater_function_lake::CallIdentity;
use headwater_jobs::JobContext;
use headwater_model::{
    AccessObject, Action, Actor, ErrorCode, Event, EventData, MAIN_BRANCH, Principal, Problem,
    ResultExt, Usage,
};
use headwater_pipelines::{CallDestinations, Callable, Location, Project};
use headwater_secrets::SecretStore;
use headwater_triggers::{ConnectionPolicy, event_part};
use serde_json::Value;

use crate::function_catalog::split_name;
use crate::rights::{
    SecretUse, authorize, check_account, reauthorize, record_secret, table_access,
};
use crate::run_output::check_model_outputs;

/// Returns the servers to which the triggers and destinations of an identity may connect.
pub(crate) fn connection_policy(access: &Access, actor: &Actor) -> ConnectionPolicy {
    let principal = actor.principal();
    match table_access(access, &principal, None) {
        Some(access) if *actor != Actor::Owner => {
            let allows = move |location: &str| {
                access.allows(Action::Read, &AccessObject::location(location))
            };
            ConnectionPolicy::restricted(actor.clone(), Arc::new(allows))
        }
        _ => ConnectionPolicy::default(),
    }
}

/// Checks that a principal may set an address as a destination: that the principal has the rights
/// to the address, that the secret exists, and that connections to the server are allowed. A server
/// whose name cannot be resolved is accepted.
///
/// Errors: `invalid_argument`, `forbidden`, `secret_not_found`.
pub async fn check_destination(
    access: &Access,
    secrets: &SecretStore,
    principal: &Principal,
    address: &str,
) -> Result<DestinationAddress, Problem> {
    let destination = DestinationAddress::parse(address)?;
    for (action, object) in destination.rights() {
        authorize(access, principal, action, &object)?;
    }
    let secret: Vec<String> = destination.secret().map(str::to_owned).into_iter().collect();
    secrets.check(&secret).await.or_problem()?;
    if let Some(server) = destination.server() {
        let policy = connection_policy(access, &Actor::of(principal));
        match policy.resolve(&server).await {
            Err(problem) if problem.code == ErrorCode::Forbidden => return Err(problem),
            _ => {}
        }
    }
    Ok(destination)
}

/// Checks that the identity that set a destination still has the rights to the destination.
pub(crate) fn authorize_destination(
    access: &Access,
    actor: &Actor,
    address: &str,
) -> Result<(), Problem> {
    let principal = actor.principal();
    for (action, object) in DestinationAddress::parse(address)?.rights() {
        reauthorize(access, &principal, action, &object)?;
    }
    check_account(access, &principal)
}

/// The destinations and outputs that the functions of a project declare.
pub(crate) struct ProjectDestinations<'a> {
    pub project: &'a Project,
    /// The names of the functions that are deployed without a project.
    pub functions: &'a [String],
}

impl ProjectDestinations<'_> {
    /// Checks that all destinations and outputs are usable, and that the identity has the required
    /// rights.
    pub async fn check(
        &self,
        access: &Access,
        secrets: &SecretStore,
        actor: &Actor,
    ) -> Result<(), Problem> {
        let principal = actor.principal();
        check_model_outputs(self.project, access, secrets, &principal).await?;
        for callable in self.project.callables.values() {
            let CallDestinations { on_success, on_failure } = &callable.destinations;
            let declared = [("on_success", on_success), ("on_failure", on_failure)];
            for (key, target) in declared {
                let Some(target) = target else { continue };
                let checked = if is_address(target) {
                    check_destination(access, secrets, &principal, target).await.map(drop)
                } else {
                    self.check_function(access, &principal, callable, target)
                };
                checked.map_err(|problem| declared_in(callable, key, problem))?;
            }
            check_outputs(&callable.outputs)
                .map_err(|problem| declared_in(callable, "outputs", problem))?;
            for address in &callable.outputs {
                let checked = check_destination(access, secrets, &principal, address).await;
                checked.map_err(|problem| declared_in(callable, "outputs", problem))?;
            }
        }
        Ok(())
    }

    fn check_function(
        &self,
        access: &Access,
        principal: &Principal,
        callable: &Callable,
        target: &str,
    ) -> Result<(), Problem> {
        let invalid = |message: String, hint: &str| {
            Err(Problem::new(ErrorCode::InvalidProject, message).with_hint(hint))
        };
        if target == callable.name {
            return invalid(
                "the destination is the function itself".to_owned(),
                "Name another destination.",
            );
        }
        if let Some(called) = self.project.callables.get(target) {
            let arguments = BTreeMap::from([(CALL_EVENT.to_owned(), Value::Null)]);
            return called.check(&arguments, None).or_problem();
        }
        let (name, _) = split_name(target);
        if !self.functions.iter().any(|known| known == name) {
            let hint = "Name a function, or write an address such as `queue://orders`.";
            return invalid(format!("there is no function `{target}`"), hint);
        }
        authorize(access, principal, Action::Invoke, &AccessObject::function(name))
    }
}

/// Maximum number of outputs of a function.
const OUTPUTS_MAX: usize = 10;

/// Checks that the addresses of the outputs of a function or model are different.
pub(crate) fn check_outputs(outputs: &[String]) -> Result<(), Problem> {
    let invalid = |message: String, hint: &str| {
        Err(Problem::new(ErrorCode::InvalidProject, message).with_hint(hint))
    };
    if outputs.len() > OUTPUTS_MAX {
        let message = format!("{} outputs are declared (limit {OUTPUTS_MAX})", outputs.len());
        return invalid(message, "Declare fewer outputs.");
    }
    for (at, address) in outputs.iter().enumerate() {
        if !is_address(address) {
            let hint = "Write an address such as `table://shop.orders`.";
            return invalid(format!("`{address}` is not an address"), hint);
        }
        // `table://a` and `table://public.a` are the same table, so they are not different outputs.
        let parsed = DestinationAddress::parse(address).ok();
        let is_same = |other: &String| {
            other == address || parsed.is_some() && DestinationAddress::parse(other).ok() == parsed
        };
        if outputs[..at].iter().any(is_same) {
            return invalid(format!("`{address}` is declared twice"), "Keep one of them.");
        }
    }
    Ok(())
}

/// Adds the declaring function to the problem of a destination.
fn declared_in(callable: &Callable, key: &str, problem: Problem) -> Problem {
    declared(&callable.at, &format!("`{key}` of function `{}`", callable.name), problem)
}

/// Adds the declaration to the problem of a destination.
pub(crate) fn declared(at: &Location, what: &str, problem: Problem) -> Problem {
    let message = format!("{at}: {what}: {}", problem.message);
    let code = match problem.code {
        ErrorCode::InvalidArgument => ErrorCode::InvalidProject,
        code => code,
    };
    Problem { code, message, ..problem }
}

/// A record to send, and the identity that set the destination.
pub(crate) struct RecordDelivery<'a> {
    pub address: &'a str,
    pub event: &'a Event,
    /// The name of the queue that holds the event.
    pub queue: &'a str,
    pub actor: &'a Actor,
}

/// Sends the record of an event to its destination, within a job.
pub(crate) async fn deliver(
    destinations: &DestinationSender,
    access: &Access,
    delivery: RecordDelivery<'_>,
    context: &JobContext,
) -> Result<Value, Problem> {
    let RecordDelivery { address, event, queue, actor } = delivery;
    let caused_by = event.caused_by.iter().map(String::as_str).chain([queue]);
    let outgoing = OutgoingPayload {
        address,
        id: &event.id,
        payload: Payload::Record(record_of(event)),
        actor,
        commit: event_part(&event.id, "destination"),
        caused_by: caused_by.map(str::to_owned).collect(),
    };
    send(destinations, access, outgoing, context).await
}

/// A record or a result to send, and the identity with whose rights it is sent.
pub(crate) struct OutgoingPayload<'a> {
    pub address: &'a str,
    /// The id of the content. It is the same for each attempt, so that the receiver can detect
    /// duplicates.
    pub id: &'a str,
    pub payload: Payload<'a>,
    pub actor: &'a Actor,
    /// The id that a commit of rows contains, so that another attempt does not commit them again.
    pub commit: String,
    /// The lineage of the content: names of triggers, function queues and event source mappings.
    pub caused_by: Vec<String>,
}

/// Sends a record or a result to its destination, within a job.
pub(crate) async fn send(
    destinations: &DestinationSender,
    access: &Access,
    outgoing: OutgoingPayload<'_>,
    context: &JobContext,
) -> Result<Value, Problem> {
    let OutgoingPayload { address, id, payload, actor, commit, caused_by } = outgoing;
    let destination = DestinationAddress::parse(address)?;
    let principal = actor.principal();
    if let Some(secret) = destination.secret() {
        let by = SecretUse { reason: format!("destination {address}"), job: context.id() };
        record_secret(access, &principal, secret, &by);
    }
    let scope = CallIdentity {
        access: table_access(access, &principal, Some(context.id())),
        author: context.author().to_owned(),
        job: context.id(),
        branch: MAIN_BRANCH.to_owned(),
        event: Some(commit),
        caused_by,
    };
    let sending = SendAttempt {
        id,
        payload,
        sender: principal.user_name().unwrap_or("owner"),
        policy: connection_policy(access, actor),
        scope,
    };
    let sent = destinations.send(&destination, sending).await?;
    if sent.appended.is_repeated {
        context.log_system("the rows were already committed by an earlier attempt");
    }
    let (rows_written, bytes_written) = (sent.appended.rows, sent.appended.bytes);
    context.add_usage(&Usage { rows_written, bytes_written, ..Usage::default() });
    Ok(sent.result)
}

fn record_of(event: &Event) -> &Value {
    match &event.data {
        EventData::FunctionInvoked { arguments, .. } => {
            arguments.get(CALL_EVENT).unwrap_or(&Value::Null)
        }
        _ => &Value::Null,
    }
}
