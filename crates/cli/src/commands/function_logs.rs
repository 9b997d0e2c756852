//! `headwater function logs`: the output of a function's last calls.

use std::time::Duration;

use headwater_model::{ErrorCode, Job, JobEvent, Problem};
use serde_json::{Value, json};

use crate::api::{Api, ApiRequest, segment};
use crate::arguments::{FunctionLogs, OutputFormat};
use crate::context::Context;
use crate::error::{self, Result};
use crate::events::{self, Printer, ResponseLines};
use crate::output;
use crate::terminal::Tone;

/// Number of function calls that are searched for those of one function.
const CALLS_MAX: usize = 2_000;

/// Interval at which `--follow` looks for more calls.
const INTERVAL: Duration = Duration::from_secs(1);

/// Runs `headwater function logs`.
pub async fn logs(context: &Context, api: &Api, arguments: &FunctionLogs) -> Result<()> {
    if context.output == OutputFormat::Json {
        return logs_json(api, arguments).await;
    }
    let mut calls = last_calls(api, arguments).await?;
    if calls.is_empty() && !arguments.follow {
        let message = format!("no recorded call of function `{}`", arguments.name);
        return Err(Problem::new(ErrorCode::JobNotFound, message)
            .with_hint("List the functions with `headwater function ls`."));
    }
    let mut printed = Vec::new();
    loop {
        for call in &calls {
            if !printed.contains(&call.id) {
                print(context, api, call, arguments.follow).await?;
                printed.push(call.id);
            }
        }
        if !arguments.follow {
            return Ok(());
        }
        tokio::time::sleep(INTERVAL).await;
        calls = last_calls(api, arguments).await?;
        // Calls that are not among the last ones any more are not returned again.
        printed.retain(|id| calls.iter().any(|call| call.id == *id));
    }
}

/// Returns the last calls of a function, oldest first.
async fn last_calls(api: &Api, arguments: &FunctionLogs) -> Result<Vec<Job>> {
    let path = format!("/v1/jobs?kind=function&limit={CALLS_MAX}");
    let mut calls: Vec<Job> = api.get(path).await?;
    calls.retain(|call| call.summary == arguments.name);
    calls.truncate(arguments.limit);
    calls.reverse();
    Ok(calls)
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
    for call in last_calls(api, arguments).await? {
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
