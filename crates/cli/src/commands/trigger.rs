//! `headwater trigger`: lists, creates and deletes triggers.

use headwater_model::{
    DeployedKind, ErrorCode, MAIN_BRANCH, Problem, TriggerStatus, did_you_mean, nearest,
};
use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::api::{ApiClient, ApiRequest, collect, segment};
use crate::arguments::{OutputFormat, Trigger, TriggerCreate};
use crate::commands::branch::removed_if_exists;
use crate::commands::deployment;
use crate::context::Context;
use crate::error::{self, Result};
use crate::output::{self, Grid};
use crate::terminal::Tone;

/// Runs `headwater trigger`.
pub async fn trigger(context: &Context, api: &ApiClient, arguments: Trigger) -> Result<()> {
    match arguments {
        Trigger::Ls => {
            list(context, &api.get::<Vec<TriggerStatus>>("/v1/triggers").await?);
            if context.output != OutputFormat::Json {
                deployment::note_differences(context, api, DeployedKind::Trigger).await;
            }
        }
        Trigger::Get { trigger } => {
            let triggers = api.get::<Vec<TriggerStatus>>("/v1/triggers").await?;
            show(context, find(&triggers, &trigger)?);
        }
        Trigger::Create(arguments) => create(context, api, *arguments).await?,
        Trigger::Rm(arguments) => {
            let name = &arguments.name;
            let deletion = api.delete(format!("/v1/triggers/{}", segment(name))).await;
            let missing = arguments.if_exists.then_some(ErrorCode::TriggerNotFound);
            removed_if_exists(context, "trigger", name, missing, deletion)?;
        }
    }
    Ok(())
}

/// Creates a trigger.
async fn create(context: &Context, api: &ApiClient, arguments: TriggerCreate) -> Result<()> {
    let (name, replaces) = (arguments.name.clone(), arguments.replace);
    let trigger = definition(arguments)?;
    let request = if replaces {
        ApiRequest::get(format!("/v1/triggers/{}", segment(&name))).method(Method::PUT)
    } else {
        ApiRequest::get("/v1/triggers").method(Method::POST)
    };
    let response = api.send(request.json(&trigger)?).await?;
    let verb = if response.status() == StatusCode::CREATED { "created" } else { "replaced" };
    let created: headwater_model::Trigger =
        serde_json::from_slice(&collect(response).await?).map_err(error::unexpected)?;
    if context.output == OutputFormat::Json {
        output::print_json(&created);
        return Ok(());
    }
    let mark = context.style.paint(Tone::Good, "✓");
    context.style.say(format!("{mark} {verb} trigger {name}: {}", created.source()));
    Ok(())
}

/// Returns the trigger that the arguments describe.
fn definition(arguments: TriggerCreate) -> Result<headwater_model::Trigger> {
    let mut keys = Map::new();
    for setting in &arguments.settings {
        let parsed: Map<String, Value> = toml::from_str(setting).map_err(|error| {
            error::invalid(format!("`--set {setting}` is not TOML: {}", error.message()))
                .with_hint("Write `--set 'KEY = VALUE'`, as in `headwater.toml`.")
        })?;
        for (key, value) in parsed {
            insert(&mut keys, &key, value)?;
        }
    }
    let bucket = arguments.bucket.map(|name| {
        let (prefix, suffix) = (arguments.prefix, arguments.suffix);
        json!({
            "name": name,
            "prefix": prefix.unwrap_or_default(),
            "suffix": suffix.unwrap_or_default(),
        })
    });
    let given = [
        ("name", Some(json!(arguments.name))),
        ("bucket", bucket),
        ("schedule", arguments.schedule.map(Value::from)),
        ("queue", arguments.queue.map(Value::from)),
        ("function", arguments.function.map(Value::from)),
        ("run", arguments.run.then_some(Value::Bool(true))),
        ("import", arguments.import.map(|table| json!({"table": table}))),
    ];
    for (key, value) in given {
        if let Some(value) = value {
            insert(&mut keys, key, value)?;
        }
    }
    serde_json::from_value(Value::Object(keys)).map_err(|error| {
        error::invalid(format!("the trigger is invalid: {error}"))
            .with_hint("See the keys of `[[trigger]]` in docs/triggers.md.")
    })
}

/// Adds a key of a trigger.
///
/// Errors: `invalid_argument` if the key was already added.
fn insert(keys: &mut Map<String, Value>, key: &str, value: Value) -> Result<()> {
    if keys.insert(key.to_owned(), value).is_none() {
        return Ok(());
    }
    let message = format!("`{key}` is given twice");
    Err(error::invalid(message).with_hint("Write each key once, as an option or in one `--set`."))
}

fn list(context: &Context, triggers: &[TriggerStatus]) {
    if context.output == OutputFormat::Json {
        return output::print_json(&triggers);
    }
    let headings = [
        "TRIGGER",
        "SOURCE",
        "TARGET",
        "BRANCH",
        "NEXT",
        ">PENDING",
        ">DONE",
        ">FAILED",
        "DEFINED AT",
    ];
    let mut grid = Grid::new(context.answer_style, &headings).hide_first(&[
        "DEFINED AT",
        "PENDING",
        "DONE",
        "FAILED",
        "NEXT",
    ]);
    for status in triggers {
        let trigger = &status.trigger;
        grid.row([
            trigger.name.clone(),
            trigger.source(),
            targets(trigger),
            branch(trigger),
            status.next.map_or(String::new(), output::format_time),
            output::count(status.pending),
            output::count(status.done),
            output::count(status.failed),
            status.defined_at.clone(),
        ]);
    }
    grid.print(
        "no triggers; create one with `headwater trigger create`, or declare it in headwater.toml \
         as `[[trigger]]`",
    );
    for status in triggers {
        print_error(context, status);
    }
}

fn print_error(context: &Context, status: &TriggerStatus) {
    if let Some(problem) = &status.error {
        let how = match problem.code {
            ErrorCode::TooBusy => "is rate-limited",
            ErrorCode::RefNotFound => "cannot run",
            _ => "cannot observe the source of its events",
        };
        context.style.say(format!("trigger `{}` {how}:", status.trigger.name));
        context.style.print_problem(problem);
    }
}

fn find<'a>(triggers: &'a [TriggerStatus], name: &str) -> Result<&'a TriggerStatus> {
    let found = triggers.iter().find(|status| status.trigger.name == name);
    found.ok_or_else(|| {
        let names = triggers.iter().map(|status| status.trigger.name.as_str());
        let list = "List the triggers with `headwater trigger ls`.";
        let hint = did_you_mean(nearest(name, names).as_deref(), list);
        let message = format!("there is no trigger `{name}`");
        Problem::new(ErrorCode::TriggerNotFound, message).with_hint(hint)
    })
}

fn show(context: &Context, status: &TriggerStatus) {
    if context.output == OutputFormat::Json {
        return output::print_json(status);
    }
    let (style, trigger) = (context.answer_style, &status.trigger);
    output::line(style.paint(Tone::Strong, &trigger.name));
    let values = [
        ("defined", status.defined_at.clone()),
        ("source", trigger.source()),
        ("target", targets(trigger)),
        ("branch", branch(trigger)),
        ("retries", trigger.retries.to_string()),
        ("next", status.next.map_or_else(|| "-".to_owned(), output::format_time)),
        ("pending", output::count(status.pending)),
        ("done", output::count(status.done)),
        ("failed", output::count(status.failed)),
    ];
    let values = values.map(|(name, value)| (name.to_owned(), value));
    for (name, value) in values.into_iter().chain(settings(trigger)) {
        output::line(format!("  {} {value}", style.paint(Tone::Faint, format!("{name:<11}"))));
    }
    print_error(context, status);
}

/// Returns the keys of a trigger with their values. Omits keys without a value, and keys that are
/// printed in rows of their own.
fn settings(trigger: &headwater_model::Trigger) -> Vec<(String, String)> {
    const ROWS: [&str; 5] = ["branch", "function", "name", "retries", "run"];
    let Ok(Value::Object(keys)) = serde_json::to_value(trigger) else { return Vec::new() };
    let is_set = |value: &Value| match value {
        Value::Null => false,
        Value::Object(keys) => !keys.is_empty(),
        _ => true,
    };
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let set =
        keys.into_iter().filter(|(key, value)| !ROWS.contains(&key.as_str()) && is_set(value));
    set.map(|(key, value)| (key, text(value))).collect()
}

fn targets(trigger: &headwater_model::Trigger) -> String {
    let targets: Vec<String> = trigger.targets().iter().map(ToString::to_string).collect();
    targets.join(", ")
}

fn branch(trigger: &headwater_model::Trigger) -> String {
    trigger.branch.clone().unwrap_or_else(|| MAIN_BRANCH.to_owned())
}
