//! `headwater function logs`: the output of a function's last calls. After the output of each call,
//! a line reports its duration and memory in the format of AWS Lambda.

use std::collections::HashSet;

use headwater_model::{ErrorCode, FunctionSummary, Job, JobEvent, JobId, Problem, TriggerStatus};
use serde_json::{Value, json};

use crate::api::ApiClient;
use crate::arguments::{FunctionLogs, OutputFormat};
use crate::commands::function_log_output::CallOutputPrinter;
use crate::context::Context;
use crate::error::{self, Result};
use crate::job_events;
use crate::output;

/// Number of recent function calls to search for the calls of one function.
const CALLS_MAX: usize = 2_000;

/// Runs `headwater function logs`.
pub async fn logs(context: &Context, api: &ApiClient, arguments: &FunctionLogs) -> Result<()> {
    if context.output == OutputFormat::Json {
        return logs_json(api, arguments).await;
    }
    let recorded = calls(api, &arguments.name, "").await?;
    if recorded.is_empty() && !arguments.follow {
        let message = format!("no recorded call of function `{}`", arguments.name);
        return Err(Problem::new(ErrorCode::JobNotFound, message)
            .with_hint("List the functions with `headwater function ls`."));
    }
    let known: HashSet<JobId> = recorded.iter().map(|call| call.id).collect();
    let older = recorded.len().saturating_sub(arguments.limit);
    let mut output = CallOutputPrinter::new(context, api, memory(api, &arguments.name).await);
    let mut running = Vec::new();
    for call in recorded.into_iter().skip(older) {
        if arguments.follow && !call.status.is_final() {
            running.push(call);
        } else {
            output.print_recorded(&call).await?;
        }
    }
    if arguments.follow {
        output.follow(&arguments.name, running, known).await?;
    }
    Ok(())
}

/// Returns the recorded calls of a function, oldest first. `filter` has further query parameters.
pub(super) async fn calls(api: &ApiClient, name: &str, filter: &str) -> Result<Vec<Job>> {
    let path = format!("/v1/jobs?kind=function&limit={CALLS_MAX}{filter}");
    let mut calls: Vec<Job> = api.get(path).await?;
    let authors = trigger_authors(api, name).await;
    calls.retain(|call| is_call_of(&call.summary, name) || authors.contains(&call.author));
    calls.reverse();
    Ok(calls)
}

/// Returns the job authors `trigger NAME` of the triggers that call a function; none if the user
/// may not list triggers.
async fn trigger_authors(api: &ApiClient, name: &str) -> Vec<String> {
    let triggers = api.get::<Vec<TriggerStatus>>("/v1/triggers").await.unwrap_or_default();
    let calls = |status: &TriggerStatus| {
        status.trigger.function.as_deref().is_some_and(|called| is_call_of(called, name))
    };
    let author = |status: TriggerStatus| format!("trigger {}", status.trigger.name);
    triggers.into_iter().filter(calls).map(author).collect()
}

/// Returns true if `called`, the function named in a call, is the function `name`. A name without a
/// version or alias matches every version. The URL of a destination never matches.
fn is_call_of(called: &str, name: &str) -> bool {
    let version = called.strip_prefix(name).and_then(|rest| rest.strip_prefix(':'));
    called == name || version.is_some_and(|version| !version.starts_with("//"))
}

/// Returns the current memory limit of a function in bytes; `None` if the function no longer exists
/// or the user may not list functions. `name` can end with a version or alias.
async fn memory(api: &ApiClient, name: &str) -> Option<u64> {
    let name = name.split_once(':').map_or(name, |(name, _)| name);
    let functions = api.get::<Vec<FunctionSummary>>("/v1/functions").await.unwrap_or_default();
    functions.into_iter().find(|one| one.name == name).map(|one| one.memory_bytes)
}

async fn logs_json(api: &ApiClient, arguments: &FunctionLogs) -> Result<()> {
    let mut documents: Vec<Value> = Vec::new();
    let recorded = calls(api, &arguments.name, "").await?;
    let older = recorded.len().saturating_sub(arguments.limit);
    for call in recorded.into_iter().skip(older) {
        let mut lines = job_events::open(api, &call.id.to_string(), false).await?;
        let mut found: Vec<JobEvent> = Vec::new();
        while let Some(line) = lines.next().await? {
            found.push(serde_json::from_slice(&line).map_err(error::unexpected)?);
        }
        documents.push(json!({"job": call, "events": found}));
    }
    output::print_json(&documents);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_all_versions_are_calls_of_a_function() {
        for (called, name, expected) in [
            ("price", "price", true),
            ("price:1", "price", true),
            ("price:live", "price:live", true),
            ("price:1", "price:2", false),
            ("prices", "price", false),
            ("table://log.calls", "table", false),
        ] {
            assert_eq!(is_call_of(called, name), expected, "{called} {name}");
        }
    }
}
