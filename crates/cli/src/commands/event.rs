//! `headwater event`: lists, sends, shows, replays and removes events.

use headwater_model::{TriggerEvent, TriggerEventStatus};
use hyper::Method;

use crate::api::{ApiClient, segment};
use crate::api_output::{self, fetch};
use crate::arguments::{Event as Arguments, EventId, EventLs, OutputFormat};
use crate::commands::event_send;
use crate::context::Context;
use crate::error::Result;
use crate::output::{self, Cell, Grid};
use crate::terminal::Tone;

/// Runs `headwater event`.
pub async fn event(context: &Context, api: &ApiClient, arguments: Arguments) -> Result<()> {
    match arguments {
        Arguments::Ls(arguments) => list(context, api, arguments).await?,
        Arguments::Send(arguments) => event_send::send(context, api, &arguments).await?,
        Arguments::Show(arguments) => show(context, &api.get(path(&arguments)).await?),
        Arguments::Replay(arguments) => {
            let path = format!("{}/replay", path(&arguments));
            let event: TriggerEvent = api.post(path, &serde_json::json!({})).await?;
            report(context, &event, "is queued again");
        }
        Arguments::Rm(arguments) => {
            let body = serde_json::json!({});
            let event: TriggerEvent = api.call(Method::DELETE, path(&arguments), &body).await?;
            report(context, &event, "is removed");
        }
    }
    Ok(())
}

fn path(arguments: &EventId) -> String {
    format!("/v1/trigger-events/{}", segment(&arguments.event))
}

fn report(context: &Context, event: &TriggerEvent, outcome: &str) {
    let text = format!("event {} of {} {outcome}", event.event.id, event.trigger);
    api_output::print(context, event, text);
}

fn show(context: &Context, event: &TriggerEvent) {
    if context.output == OutputFormat::Json {
        return output::print_json(event);
    }
    let style = context.answer_style;
    output::line(style.paint(Tone::Strong, &event.event.id));
    let (status, tone) = status_cell(event.status);
    for (name, value) in [
        ("trigger", event.trigger.clone()),
        ("what", event.event.data.subjects()),
        ("status", style.paint(tone, status)),
        ("recorded", output::format_time(event.created)),
        ("tries", event.attempts.to_string()),
        ("due", next_attempt_text(event, chrono::Utc::now())),
        ("job", event.job.map_or_else(|| "-".to_owned(), |job| job.to_string())),
        ("author", event.author.clone().unwrap_or_else(|| "-".to_owned())),
    ] {
        output::line(format!("  {} {value}", style.paint(Tone::Faint, format!("{name:<8}"))));
    }
    let data = serde_json::to_string_pretty(&event.event.data).unwrap_or_default();
    output::line(data);
    if let Some(problem) = &event.error {
        context.style.print_problem(problem);
    }
}

/// Returns the time of the next attempt. For a pending event, also the time until then.
fn next_attempt_text(event: &TriggerEvent, now: chrono::DateTime<chrono::Utc>) -> String {
    let due = output::format_time(event.due);
    if event.status != TriggerEventStatus::Pending {
        return due;
    }
    match (event.due - now).to_std() {
        Ok(left) => format!("{due}, in {}", output::elapsed(left)),
        Err(_) => format!("{due}, now"),
    }
}

/// Returns the text and the color of a status.
fn status_cell(status: TriggerEventStatus) -> (&'static str, Tone) {
    match status {
        TriggerEventStatus::Pending => ("pending", Tone::Strong),
        TriggerEventStatus::Running => ("running", Tone::Strong),
        TriggerEventStatus::Done => ("done", Tone::Good),
        TriggerEventStatus::Failed => ("failed", Tone::Bad),
    }
}

async fn list(context: &Context, api: &ApiClient, arguments: EventLs) -> Result<()> {
    let mut path = format!("/v1/trigger-events?limit={}", arguments.limit);
    for (name, value) in [("trigger", arguments.trigger), ("status", arguments.status)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", segment(&value)));
        }
    }
    let Some(events) = fetch::<Vec<TriggerEvent>>(context, api, path).await? else { return Ok(()) };
    let style = context.answer_style;
    let headings = ["EVENT", "TRIGGER", "STATUS", "RECORDED", "WHAT", ">TRIES", "JOB", "ERROR"];
    let mut grid = Grid::new(style, &headings).hide_first(&["TRIES", "JOB", "RECORDED", "EVENT"]);
    for event in events {
        let (word, tone) = status_cell(event.status);
        let what = event.event.data.subjects();
        grid.row([
            Cell::from(event.event.id),
            event.trigger.into(),
            Cell::toned(tone, word),
            output::format_time(event.created).into(),
            what.into(),
            event.attempts.to_string().into(),
            event.job.map_or(String::new(), |job| job.to_string()).into(),
            event.error.map_or(String::new(), |problem| problem.message).into(),
        ]);
    }
    grid.print("no events");
    Ok(())
}
