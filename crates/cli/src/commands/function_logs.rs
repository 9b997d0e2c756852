//! `headwater function logs`: the output of a function's last calls. After the output of each call,
//! a line reports its duration and memory in the format of AWS Lambda.

use std::collections::HashSet;
use std::time::Duration;

use headwater_model::{ErrorCode, FunctionSummary, Job, JobEvent, JobId, Problem, TriggerStatus};
use serde_json::{Value, json};

use crate::api::{Api, ApiRequest, segment};
use crate::arguments::{FunctionLogs, OutputFormat};
use crate::commands::function_report;
use crate::context::Context;
use crate::error::{self, Result};
use crate::events::{self, Printer, ResponseLines};
use crate::output;
use crate::terminal::Tone;

/// Number of recent function calls to search for the calls of one function.
const CALLS_MAX: usize = 2_000;

/// Polling interval of `--follow`.
const INTERVAL: Duration = Duration::from_secs(1);

/// Runs `headwater function logs`.
pub async fn logs(context: &Context, api: &Api, arguments: &FunctionLogs) -> Result<()> {
    if context.output == OutputFormat::Json {
        return logs_json(api, arguments).await;
    }
    let mut calls = all_calls(api, &arguments.name).await?;
    if calls.is_empty() && !arguments.follow {
        let message = format!("no recorded call of function `{}`", arguments.name);
        return Err(Problem::new(ErrorCode::JobNotFound, message)
            .with_hint("List the functions with `headwater function ls`."));
    }
    let options =
        PrintOptions { follow: arguments.follow, memory: memory(api, &arguments.name).await };
    let older = calls.len().saturating_sub(arguments.limit);
    let mut printed: HashSet<JobId> = calls.drain(..older).map(|call| call.id).collect();
    loop {
        for call in &calls {
            if printed.insert(call.id) {
                print(context, api, call, &options).await?;
            }
        }
        if !arguments.follow {
            return Ok(());
        }
        tokio::time::sleep(INTERVAL).await;
        calls = all_calls(api, &arguments.name).await?;
        // Forget the ids of calls that the server no longer returns, so that the list does not grow
        // forever.
        printed.retain(|id| calls.iter().any(|call| call.id == *id));
    }
}

/// Returns the recorded calls of a function, oldest first.
async fn all_calls(api: &Api, name: &str) -> Result<Vec<Job>> {
    let path = format!("/v1/jobs?kind=function&limit={CALLS_MAX}");
    let mut calls: Vec<Job> = api.get(path).await?;
    let authors = trigger_authors(api, name).await;
    calls.retain(|call| is_call_of(&call.summary, name) || authors.contains(&call.author));
    calls.reverse();
    Ok(calls)
}

/// Returns the authors of calls by the triggers of a function. A user that may not list triggers
/// sees only calls by name.
async fn trigger_authors(api: &Api, name: &str) -> Vec<String> {
    let triggers = api.get::<Vec<TriggerStatus>>("/v1/triggers").await.unwrap_or_default();
    let calls = |status: &TriggerStatus| {
        status.trigger.function.as_deref().is_some_and(|called| is_call_of(called, name))
    };
    let author = |status: TriggerStatus| format!("trigger {}", status.trigger.name);
    triggers.into_iter().filter(calls).map(author).collect()
}

/// Returns true if a call of `called` is a call of the function `name`. A name without a version or
/// alias includes the calls of all versions. The address of a destination is not a function.
fn is_call_of(called: &str, name: &str) -> bool {
    let version = called.strip_prefix(name).and_then(|rest| rest.strip_prefix(':'));
    called == name || version.is_some_and(|version| !version.starts_with("//"))
}

/// Returns the current memory limit of a function in bytes; `None` if the function no longer exists
/// or the user may not list functions.
async fn memory(api: &Api, name: &str) -> Option<u64> {
    let functions = api.get::<Vec<FunctionSummary>>("/v1/functions").await.unwrap_or_default();
    functions.into_iter().find(|one| one.name == name).map(|one| one.memory_bytes)
}

/// The options for printing calls.
struct PrintOptions {
    /// True to wait for the output of running calls.
    follow: bool,
    /// The memory limit of the function, if it is known.
    memory: Option<u64>,
}

/// Prints a call: its time and id, its output, its error, and its report once it has ended.
async fn print(context: &Context, api: &Api, call: &Job, options: &PrintOptions) -> Result<()> {
    let style = context.answer_style;
    let heading = format!("{} {}", output::format_time(call.created), call.id);
    output::line(style.paint(Tone::Faint, heading));
    let id = call.id.to_string();
    let mut printer = Printer::answer(context);
    events::print_events(api, &id, options.follow, &mut printer).await?;
    printer.clear();
    let job = api.job(&id).await?;
    if let Some(problem) = &job.error {
        output::problem(style, problem);
    }
    if job.status.is_final() {
        output::line(style.paint(Tone::Faint, function_report::line(&job, options.memory)));
    }
    Ok(())
}

async fn logs_json(api: &Api, arguments: &FunctionLogs) -> Result<()> {
    let mut documents: Vec<Value> = Vec::new();
    let calls = all_calls(api, &arguments.name).await?;
    let older = calls.len().saturating_sub(arguments.limit);
    for call in calls.into_iter().skip(older) {
        let path = format!("/v1/jobs/{}/events?follow=false", segment(&call.id.to_string()));
        let request = ApiRequest::get(path).accept("application/x-ndjson");
        let mut lines = ResponseLines::new(api.send(request).await?.into_body());
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
