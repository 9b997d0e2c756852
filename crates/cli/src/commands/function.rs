//! `headwater function`: lists and calls functions.

use std::collections::BTreeMap;

use headwater_model::{
    AcceptedEvent, BudgetUsage, CallResponseStart, DailyBudget, DeployedKind, ErrorCode,
    FunctionArgument, FunctionSummary, InvokeAsyncRequest, InvokeRequest, Problem,
};
use hyper::Method;
use serde_json::Value;

use crate::api::{self, ApiClient, ApiRequest, segment};
use crate::api_output::{self, fetch};
use crate::arguments::{Function, FunctionInvoke, OutputFormat};
use crate::commands::{
    deployment, function_alias, function_layer, function_logs, function_url, function_watch, run,
    standalone_function,
};
use crate::context::Context;
use crate::error::{self, Result};
use crate::job_events::{EventPrinter, ResponseLines};
use crate::output::{self, Grid};

/// Runs `headwater function`.
pub async fn function(context: &Context, api: &ApiClient, arguments: Function) -> Result<()> {
    match arguments {
        Function::Ls => list(context, api).await,
        Function::Deploy(arguments) => standalone_function::deploy(context, api, *arguments).await,
        Function::Show(arguments) => standalone_function::show(context, api, &arguments).await,
        Function::Versions(arguments) => {
            standalone_function::versions(context, api, &arguments).await
        }
        Function::Rm(arguments) => standalone_function::remove(context, api, &arguments).await,
        Function::Alias(arguments) => function_alias::alias(context, api, arguments).await,
        Function::Url(arguments) => function_url::url(context, api, arguments).await,
        Function::Layer(arguments) => function_layer::layer(context, api, arguments).await,
        Function::Logs(arguments) => function_logs::logs(context, api, &arguments).await,
        Function::Invoke(arguments) if arguments.asynchronous => {
            invoke_async(context, api, &arguments).await
        }
        Function::Invoke(arguments) if arguments.watch => invoke(context, api, &arguments).await,
        Function::Invoke(arguments) => tokio::select! {
            outcome = invoke(context, api, &arguments) => outcome,
            // On Ctrl-C, only return: the server stops the function when the connection closes.
            _ = tokio::signal::ctrl_c() => Err(Problem::new(ErrorCode::Cancelled, "stopped")),
        },
    }
}

async fn list(context: &Context, api: &ApiClient) -> Result<()> {
    let Some(functions) = fetch::<Vec<FunctionSummary>>(context, api, "/v1/functions").await?
    else {
        return Ok(());
    };
    let headings = ["FUNCTION", "ARGUMENTS", ">MEMORY", ">TIMEOUT", "PROCESS", "DEFINED AT"];
    let mut grid = Grid::new(context.answer_style, &headings);
    let with_budget = |one: &FunctionSummary| Some((one.name.clone(), one.budget.clone()?));
    let budgets: Vec<_> = functions.iter().filter_map(with_budget).collect();
    let provisioned: Vec<String> = functions.iter().filter_map(missing_instances).collect();
    for function in functions {
        let argument = |one: &FunctionArgument| {
            if one.required { one.name.clone() } else { format!("[{}]", one.name) }
        };
        let arguments: Vec<_> = function.arguments.iter().map(argument).collect();
        grid.row([
            function.name,
            arguments.join(" "),
            output::bytes(function.memory_bytes),
            output::milliseconds(function.timeout_ms),
            if function.reuse { "kept" } else { "per call" }.to_owned(),
            function.defined_at,
        ]);
    }
    grid.print("no functions are deployed; `@headwater.function()` defines one");
    for (name, usage) in &budgets {
        context.style.say(budget_text(name, usage));
    }
    for missing in &provisioned {
        context.style.say(missing);
    }
    deployment::note_differences(context, api, DeployedKind::Function).await;
    Ok(())
}

/// Returns a line with the reason for missing provisioned instances; `None` if all are started.
fn missing_instances(function: &FunctionSummary) -> Option<String> {
    let state = function.provisioned.as_ref().filter(|state| state.ready < state.requested)?;
    let (name, ready, requested) = (&function.name, state.ready, state.requested);
    let reason = state.problem.as_deref().unwrap_or("the others are starting");
    Some(format!("`{name}` has {ready} of {requested} provisioned instances: {reason}"))
}

/// Returns a line with the budget of a function and its usage today.
fn budget_text(name: &str, usage: &BudgetUsage) -> String {
    let DailyBudget { calls_per_day, billed_ms_per_day, money_per_day } = usage.budget;
    let time = output::milliseconds;
    let parts = [
        calls_per_day.map(|limit| format!("{} of {limit} calls", usage.calls)),
        billed_ms_per_day.map(|limit| format!("{} of {}", time(usage.billed_ms), time(limit))),
        money_per_day.map(|limit| format!("{:.6} of {limit} {}", usage.money, usage.currency)),
    ];
    let used = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let ends = usage.day_ends.format("%Y-%m-%dT%H:%M:%SZ");
    let state = if usage.is_exhausted { format!("; no calls until {ends}") } else { String::new() };
    format!("budget of `{name}` today: {used}{state}")
}

/// Calls a function asynchronously.
async fn invoke_async(
    context: &Context,
    api: &ApiClient,
    arguments: &FunctionInvoke,
) -> Result<()> {
    let request = InvokeAsyncRequest {
        arguments: given(arguments)?,
        key: arguments.key.clone(),
        order_key: arguments.order_key.clone(),
        author: None,
    };
    let path = format!("/v1/functions/{}/invoke-async", segment(&arguments.name));
    let accepted: AcceptedEvent = api.post(path, &request).await?;
    if api_output::is_printed(context, &accepted) {
        return Ok(());
    }
    output::line(&accepted.event);
    if accepted.duplicate {
        context
            .style
            .say("an earlier call had the same idempotency key; the function is not called again");
    }
    Ok(())
}

async fn invoke(context: &Context, api: &ApiClient, arguments: &FunctionInvoke) -> Result<()> {
    let files = arguments.working_folder.then(|| deployment::working_files(context)).transpose()?;
    let request = InvokeRequest { arguments: given(arguments)?, files, author: None };
    if arguments.watch {
        return function_watch::watch(context, api, arguments, request).await;
    }
    call(context, api, &arguments.name, &request).await?.1
}

/// Calls a function, and prints its output and result. Returns the id of the call's job, and the
/// error of a failed call.
pub async fn call(
    context: &Context,
    api: &ApiClient,
    name: &str,
    request: &InvokeRequest,
) -> Result<(Option<String>, Result<()>)> {
    let accept = match context.output {
        OutputFormat::Table | OutputFormat::Json => "application/json",
        OutputFormat::Ndjson => "application/x-ndjson",
        OutputFormat::Csv => "text/csv",
    };
    let path = format!("/v1/functions/{}/invoke?events=true", segment(name));
    let call = ApiRequest::get(path).method(Method::POST).accept(accept).json(request)?;
    let (job, answer) = api.send_as_job(call).await?;
    let returned = match answer {
        Ok(answer) => {
            let lines = ResponseLines::new(answer.into_body());
            print_events(lines, &mut EventPrinter::new(context.style)).await
        }
        Err(problem) => Err(problem),
    };
    Ok((job, returned.and_then(|result| print_result(context, &result))))
}

/// Prints the events of a call while the function runs. Returns the body of the call's response, or
/// its problem.
async fn print_events(mut lines: ResponseLines, printer: &mut EventPrinter) -> Result<Vec<u8>> {
    let lost = |problem: Problem| api::lost_response(problem.message);
    while let Some(line) = lines.next().await.map_err(lost)? {
        let Ok(start) = serde_json::from_slice::<CallResponseStart>(&line) else {
            printer.print(&serde_json::from_slice(&line).map_err(error::unexpected)?);
            continue;
        };
        let body = lines.rest().await.map_err(lost)?;
        let is_success = (200..300).contains(&start.response);
        return if is_success { Ok(body) } else { Err(api::problem_of(start.response, &body)) };
    }
    Err(lost(api::truncated_response()))
}

fn print_result(context: &Context, answer: &[u8]) -> Result<()> {
    match context.output {
        OutputFormat::Table | OutputFormat::Json => {
            let value: Value = serde_json::from_slice(answer).map_err(error::unexpected)?;
            output::print_json(&value);
        }
        OutputFormat::Ndjson | OutputFormat::Csv => output::write(answer),
    }
    Ok(())
}

/// Parses the arguments with which the function is called. A value that is not valid JSON is text.
fn given(arguments: &FunctionInvoke) -> Result<BTreeMap<String, Value>> {
    if let Some(text) = &arguments.arguments {
        return serde_json::from_str(text).map_err(|error| {
            error::invalid(format!("`--arguments` is not a JSON object: {error}"))
                .with_hint("Write `--arguments '{\"NAME\": VALUE}'`.")
        });
    }
    let typed = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
    let pairs = run::pairs(&arguments.given, "arg")?;
    Ok(pairs.into_iter().map(|(name, text)| (name, typed(text))).collect())
}
