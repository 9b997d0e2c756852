//! Declared outputs of functions: results of calls are written to tables, objects, queues and HTTP
//! servers.
//!
//! Outputs are written after the function has succeeded, and before the call ends. If an output
//! fails, the call fails, and its event is delivered again. Each output has an id that consists of
//! the event and the address, so that another attempt does not write it twice. The outputs use the
//! rights of the identity that deployed the function. These rights are checked again before the
//! first output is written.

use headwater_access::Access;
use headwater_destinations::{DestinationAddress, DestinationSender, Payload, ResultPayload};
use headwater_function_lake::FunctionLakeAccess;
use headwater_functions::FunctionResult;
use headwater_jobs::JobContext;
use headwater_model::{Actor, ErrorCode, Event, ObjectId, Principal, Problem, Timestamp};
use headwater_triggers::{event_part, with_retryable};
use serde_json::Value;

use crate::destination_delivery::{OutgoingPayload, authorize_destination, send};
use crate::function_catalog::ParsedFunction;
use crate::trigger_delivery::commit_appended;

/// The outputs of one call.
#[derive(Debug)]
pub struct CallOutputs {
    addresses: Vec<String>,
    function: String,
    /// The identity whose rights the outputs use.
    actor: Actor,
    /// The id and the time of the event that caused the call; `None` for a synchronous call.
    cause: Option<(String, Timestamp)>,
    caused_by: Vec<String>,
}

/// Writes the result and the appended rows of a call that has succeeded.
pub struct OutputWriter<'a> {
    destinations: &'a DestinationSender,
    access: &'a Access,
    context: &'a JobContext,
}

impl CallOutputs {
    /// Returns the outputs of a synchronous call. Outputs of functions that are not deployed use
    /// the rights of the caller.
    pub fn new(function: &ParsedFunction, caller: &Principal) -> Self {
        CallOutputs {
            addresses: function.callable.outputs.clone(),
            function: function.callable.name.clone(),
            actor: function.deployed_by.clone().unwrap_or_else(|| Actor::of(caller)),
            cause: None,
            caused_by: Vec::new(),
        }
    }

    /// Sets the event that caused the call, and the trigger that received it.
    #[must_use]
    pub(crate) fn caused_by(self, event: &Event, trigger: &str) -> Self {
        let caused_by = event.caused_by.iter().map(String::as_str).chain([trigger]);
        let caused_by = caused_by.map(str::to_owned).collect();
        CallOutputs { cause: Some((event.id.clone(), event.time)), caused_by, ..self }
    }

    /// Sets the triggers and event source mappings that caused the caller of a synchronous call.
    #[must_use]
    pub fn with_lineage(self, caused_by: Vec<String>) -> Self {
        CallOutputs { caused_by, ..self }
    }

    /// Returns true if the function declares no outputs.
    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }
}

impl<'a> OutputWriter<'a> {
    /// Creates the writer of a call with its job.
    pub fn new(
        destinations: &'a DestinationSender,
        access: &'a Access,
        context: &'a JobContext,
    ) -> Self {
        OutputWriter { destinations, access, context }
    }

    /// Writes the result of a call to its outputs, and then commits the rows that the function
    /// appended. A call without a result (`null`) writes no outputs.
    ///
    /// Errors: the error of the call; `forbidden`, and the errors of the outputs.
    pub async fn finish(
        &self,
        outputs: &CallOutputs,
        returned: Result<FunctionResult, Problem>,
        lake: &FunctionLakeAccess,
    ) -> Result<FunctionResult, Problem> {
        let returned = returned?;
        if !is_null(&returned) {
            // Check all rights first, so that no output is written if a right is missing.
            for address in &outputs.addresses {
                authorize_destination(self.access, &outputs.actor, address)
                    .map_err(|problem| failed(address, problem))?;
            }
            for address in &outputs.addresses {
                let written = Box::pin(self.write(outputs, address, &returned)).await;
                written.map_err(|problem| failed(address, problem))?;
            }
        }
        commit_appended(lake, self.context).await?;
        Ok(returned)
    }

    async fn write(
        &self,
        outputs: &CallOutputs,
        address: &str,
        value: &FunctionResult,
    ) -> Result<(), Problem> {
        let (event, time) = match &outputs.cause {
            Some((event, time)) => (event.clone(), *time),
            None => (self.context.id().to_string(), chrono::Utc::now()),
        };
        let id = output_id(&event, address);
        let call = ResultPayload { value, event: &event, function: &outputs.function, time };
        let outgoing = OutgoingPayload {
            address,
            id: &id,
            payload: Payload::Result(call),
            actor: &outputs.actor,
            commit: id.clone(),
            caused_by: outputs.caused_by.clone(),
        };
        send(self.destinations, self.access, outgoing, self.context).await.map(drop)
    }
}

/// Returns the id of an output. The id does not depend on the order of the function's outputs,
/// because a new version with another order may be deployed between two attempts.
pub(crate) fn output_id(event: &str, address: &str) -> String {
    let hash = ObjectId::of(address.as_bytes()).to_string();
    event_part(event, &format!("output/{}", &hash[..16]))
}

fn is_null(result: &FunctionResult) -> bool {
    matches!(result, FunctionResult::Json(text) if text.trim_ascii() == b"null")
}

/// Adds the address to the problem of an output. Marks the problem as retryable, because the
/// function may return another result. The failed attempt counts towards the event's retries,
/// except for `too_busy` and `interrupted`.
///
/// Only the server of a URL is shown, because the path of a webhook often contains a token.
pub(crate) fn failed(address: &str, problem: Problem) -> Problem {
    let server = DestinationAddress::parse(address).ok().and_then(|output| output.server());
    let shown = server.map_or_else(|| address.to_owned(), |server| server.to_string());
    let message = format!("output `{shown}`: {}", problem.message);
    let problem = Problem { message, ..problem };
    match problem.code {
        ErrorCode::TooBusy | ErrorCode::Interrupted => problem,
        _ => with_retryable(problem, true),
    }
}

/// Maximum size of a function result that is stored with its job, in bytes.
const RESULT_BYTES_MAX: usize = 64 << 10;

/// Returns the function result that is stored with its job.
pub(crate) fn kept(returned: FunctionResult, context: &JobContext) -> Result<Value, Problem> {
    let text = match returned {
        FunctionResult::Bool(value) => return Ok(Value::Bool(value)),
        FunctionResult::Table(_) => {
            context.log_system(
                "the function returned a table, which is not stored: only JSON results are stored",
            );
            return Ok(Value::Null);
        }
        FunctionResult::Json(text) => text,
    };
    if text.len() > RESULT_BYTES_MAX {
        let size = text.len();
        context.log_system(format!(
            "the returned value is not stored: {size} bytes exceed the limit of {RESULT_BYTES_MAX}"
        ));
        return Ok(Value::Null);
    }
    serde_json::from_slice(&text).map_err(|error| {
        let message = format!("the function's result is not valid JSON: {error}");
        Problem::new(ErrorCode::FunctionFailed, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_has_its_own_id_for_each_event() {
        let id = output_id("e1", "table://a");
        assert_eq!(id, output_id("e1", "table://a"));
        assert!(id.starts_with("e1/output/") && id.len() == 26, "{id}");
        assert_ne!(id, output_id("e1", "table://b"));
        assert_ne!(id, output_id("e2", "table://a"));
    }

    #[test]
    fn a_call_without_a_result_is_recognized() {
        let json = |text: &'static str| FunctionResult::Json(text.as_bytes().into());
        assert!(is_null(&json("null")) && is_null(&json(" null\n")));
        assert!(!is_null(&json("[]")) && !is_null(&FunctionResult::Bool(false)));
    }

    #[test]
    fn a_failed_output_is_attempted_again() {
        let problem = Problem::new(ErrorCode::InvalidArgument, "no");
        let problem = failed("table://a", with_retryable(problem, false));
        assert_eq!(problem.message, "output `table://a`: no");
        assert_eq!(problem.context["retryable"], true);
        let url = failed("https://h/hook/s3cr3t?a", Problem::new(ErrorCode::Unavailable, "no"));
        assert_eq!(url.message, "output `https://h:443`: no");
        let busy = failed("table://a", Problem::new(ErrorCode::TooBusy, "full"));
        assert!(busy.context.is_empty());
    }
}
