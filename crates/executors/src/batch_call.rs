//! Calls of functions with events that have several items. A function can report single items as
//! failed. If an earlier attempt at the event has committed such a report, the attempt uses this
//! report instead of a call.
//!
//! The rows that a call appends are committed together with the report of failed items. If the
//! process then ends before the end of the delivery is stored, the next attempt uses the report and
//! does not call the function again. A second call could report other items, so items could be lost
//! or committed twice.

use headwater_event_values::{failed_items, item_ids};
use headwater_function_lake::FunctionLakeAccess;
use headwater_functions::FunctionResult;
use headwater_lake::Lake;
use headwater_model::{ErrorCode, Event, Problem, ResultExt, Trigger};
use headwater_triggers::{BATCH_RESULTS, mark_divisible};
use serde_json::json;

/// A call with an event that can be divided into its items.
pub(crate) struct BatchCall<'a> {
    trigger: &'a Trigger,
    event: &'a Event,
    ids: Vec<String>,
}

impl<'a> BatchCall<'a> {
    /// Returns the call; `None` if the trigger always delivers its events as a whole.
    pub(crate) fn new(trigger: &'a Trigger, event: &'a Event) -> Option<Self> {
        let ids = if trigger.divides() { item_ids(trigger, event) } else { Vec::new() };
        (!ids.is_empty()).then_some(BatchCall { trigger, event, ids })
    }

    /// Returns the failed items' positions that an earlier attempt committed together with its
    /// rows.
    pub(crate) async fn committed(&self, lake: &Lake) -> Result<Option<Vec<usize>>, Problem> {
        let id = &self.event.id;
        let stored = lake.store().latest(BATCH_RESULTS, id).await.or_problem()?;
        let Some(stored) = stored else { return Ok(None) };
        serde_json::from_slice(&stored.value).map(Some).map_err(|error| {
            let message = format!("the stored result of event `{id}` is invalid: {error}");
            let hint = "Send the items of the event again, and remove the event with \
                        `headwater event rm`.";
            Problem::new(ErrorCode::Internal, message).with_hint(hint)
        })
    }

    /// Returns the result of a call, and the positions of the items that it reports as failed. The
    /// positions are committed together with the rows of the call.
    ///
    /// Errors: the error of the call; `function_failed` if the report is invalid.
    pub(crate) fn check(
        &self,
        returned: Result<FunctionResult, Problem>,
        lake: &FunctionLakeAccess,
    ) -> Result<(FunctionResult, Vec<usize>), Problem> {
        let returned = returned.map_err(|problem| self.failed(problem))?;
        let failed = match &returned {
            FunctionResult::Json(text) if self.trigger.report_failures => {
                failed_items(text, &self.ids).map_err(|problem| self.failed(problem))?
            }
            FunctionResult::Json(_) | FunctionResult::Bool(_) | FunctionResult::Table(_) => {
                Vec::new()
            }
        };
        lake.commit_with(BATCH_RESULTS, &self.event.id, json!(failed).to_string().into());
        Ok((returned, failed))
    }

    /// Marks a problem that a single item may have caused, so that the event can be divided. Called
    /// only if the call has committed nothing.
    fn failed(&self, problem: Problem) -> Problem {
        let is_independent = matches!(
            problem.code,
            ErrorCode::FunctionNotFound
                | ErrorCode::DeploymentNotFound
                | ErrorCode::Forbidden
                | ErrorCode::QuotaExceeded
                | ErrorCode::Cancelled
        );
        if self.trigger.bisect && !is_independent { mark_divisible(problem) } else { problem }
    }
}

#[cfg(test)]
mod tests {
    use headwater_model::Timestamp;

    use super::*;

    #[test]
    fn only_errors_of_the_function_divide_an_event() {
        let event = json!({"id": "e", "source": "postgres://h/d", "time": Timestamp::UNIX_EPOCH,
            "type": "headwater.postgres.notified", "data": {"channel": "c", "payloads": [1, 2]}});
        let event: Event = serde_json::from_value(event).expect("an event");
        let trigger = |settings: serde_json::Value| {
            let mut trigger = json!({"name": "t", "function": "f",
                "postgres": {"url": "postgres://h/d", "channel": "c"}});
            let fields = settings.as_object().expect("settings").clone();
            trigger.as_object_mut().expect("a trigger").extend(fields);
            serde_json::from_value::<Trigger>(trigger).expect("a trigger")
        };
        assert!(BatchCall::new(&trigger(json!({})), &event).is_none());
        let divides = |settings: serde_json::Value, code: ErrorCode| {
            let trigger = trigger(settings);
            let call = BatchCall::new(&trigger, &event).expect("a call with items");
            !call.failed(Problem::new(code, "no")).context.is_empty()
        };
        assert!(divides(json!({"bisect": true}), ErrorCode::FunctionFailed));
        assert!(divides(json!({"bisect": true}), ErrorCode::TimeLimit));
        assert!(!divides(json!({"bisect": true}), ErrorCode::FunctionNotFound));
        assert!(!divides(json!({"report_failures": true}), ErrorCode::FunctionFailed));
    }
}
