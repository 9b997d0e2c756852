//! `headwater function logs`: the output of a function's last calls.

use std::collections::HashSet;
use std::time::Duration;

use headwater_model::{ErrorCode, Job, JobEvent, JobId, Problem, TriggerStatus};
use serde_json::{Value, json};

use crate::api::{Api, ApiRequest, segment};
use crate::arguments::{FunctionLogs, OutputFormat};
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
    let older = calls.len().saturating_sub(arguments.limit);
    let mut printed: HashSet<JobId> = calls.drain(..older).map(|call| call.id).collect();
    loop {
        for call in &calls {
            if printed.insert(call.id) {
                print(context, api, call, arguments.follow).await?;
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
    calls.retain(|call| call.summary == name || authors.contains(&call.author));
    calls.reverse();
    Ok(calls)
}

/// Returns the authors of calls by the triggers of a function. A user that may not list triggers
/// sees only calls by name.
async fn trigger_authors(api: &Api, name: &str) -> Vec<String> {
    let triggers = api.get::<Vec<TriggerStatus>>("/v1/triggers").await.unwrap_or_default();
    let calls = |status: &TriggerStatus| status.trigger.function.as_deref() == Some(name);
    let author = |status: TriggerStatus| format!("trigger {}", status.trigger.name);
    triggers.into_iter().filter(calls).map(author).collect()
}

/// Prints a call: its time, id and status, its output, and its error.
async fn print(context: &Context, api: &Api, call: &Job, follow: bool) -> Result<()> {
    let style = context.style;
    let heading = format!("{} {}", output::moment(call.created), call.id);
    style.say(style.paint(Tone::Faint, heading));
    let id = call.id.to_string();
    let mut printer = Printer::new(style);
    events::print_events(api, &id, follow, &mut printer).await?;
    printer.clear();
    if let Some(problem) = &api.job(&id).await?.error {
        style.print_problem(problem);
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
