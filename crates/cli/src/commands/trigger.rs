//! `headwater trigger`: lists triggers and their events.

use headwater_model::{DeployedKind, ErrorCode, TriggerEvent, TriggerEventStatus, TriggerStatus};

use crate::api::{Api, segment};
use crate::arguments::{OutputFormat, Trigger, TriggerEvents};
use crate::commands::deployment;
use crate::context::Context;
use crate::error::Result;
use crate::output::{self, Cell, Grid};
use crate::terminal::Tone;

/// Runs `headwater trigger`.
pub async fn trigger(context: &Context, api: &Api, arguments: Trigger) -> Result<()> {
    match arguments {
        Trigger::Ls => {
            list(context, &api.get::<Vec<TriggerStatus>>("/v1/triggers").await?);
            if context.output != OutputFormat::Json {
                deployment::note_differences(context, api, DeployedKind::Trigger).await;
            }
        }
        Trigger::Events(arguments) => events(context, api, arguments).await?,
        Trigger::Replay(arguments) => {
            let path = format!("/v1/trigger-events/{}/replay", segment(&arguments.event));
            let event: TriggerEvent = api.post(path, &serde_json::json!({})).await?;
            if context.output == OutputFormat::Json {
                output::print_json(&event);
            } else {
                context
                    .style
                    .say(format!("event {} of {} is queued again", event.id, event.trigger));
            }
        }
    }
    Ok(())
}

fn list(context: &Context, triggers: &[TriggerStatus]) {
    if context.output == OutputFormat::Json {
        return output::print_json(&triggers);
    }
    let headings =
        ["TRIGGER", "SOURCE", "ACTION", "BRANCH", "NEXT", ">PENDING", ">DONE", ">FAILED"];
    let mut grid = Grid::new(context.answer_style, &headings)
        .hide_first(&["PENDING", "DONE", "FAILED", "NEXT"]);
    for status in triggers {
        let trigger = &status.trigger;
        let when = match (&trigger.files, &trigger.schedule, &trigger.tables) {
            (Some(files), ..) => {
                format!("files in {}/{}", files.folder, files.pattern.as_deref().unwrap_or("*"))
            }
            (None, Some(schedule), _) => {
                format!("{} {}", schedule.cron, schedule.timezone.as_deref().unwrap_or("UTC"))
            }
            (None, None, Some(tables)) => format!("changes of {}", tables.names.join(", ")),
            (None, None, None) => String::new(),
        };
        let import = trigger.import.as_ref().map(|import| format!("import {}", import.table));
        let run = trigger.run.then(|| "run".to_owned());
        let does: Vec<_> = import.into_iter().chain(run).collect();
        grid.row([
            trigger.name.clone(),
            when,
            does.join(", "),
            trigger.branch.clone().unwrap_or_else(|| "main".to_owned()),
            status.next.map_or(String::new(), output::moment),
            output::count(status.pending),
            output::count(status.done),
            output::count(status.failed),
        ]);
    }
    grid.print("no triggers are deployed; declare one as `[[trigger]]` in headwater.toml");
    for status in triggers {
        if let Some(problem) = &status.error {
            let how = match problem.code {
                ErrorCode::TooBusy => "is rate-limited",
                ErrorCode::RefNotFound => "cannot run",
                _ => "cannot observe its source",
            };
            context.style.say(format!("trigger `{}` {how}:", status.trigger.name));
            context.style.print_problem(problem);
        }
    }
}

/// Describes an event: its files, its tables or its scheduled time.
fn describe(event: &TriggerEvent) -> String {
    match (event.files.as_slice(), event.tables.as_slice(), event.scheduled) {
        ([file], ..) => file.rsplit('/').next().unwrap_or(file).to_owned(),
        ([_, ..], ..) => format!("{} files", output::count(event.files.len() as u64)),
        ([], [_, ..], _) => event.tables.join(", "),
        ([], [], Some(time)) => output::moment(time),
        ([], [], None) => String::new(),
    }
}

async fn events(context: &Context, api: &Api, arguments: TriggerEvents) -> Result<()> {
    let mut path = format!("/v1/trigger-events?limit={}", arguments.limit);
    for (name, value) in [("trigger", arguments.trigger), ("status", arguments.status)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", segment(&value)));
        }
    }
    let events: Vec<TriggerEvent> = api.get(path).await?;
    if context.output == OutputFormat::Json {
        output::print_json(&events);
        return Ok(());
    }
    let style = context.answer_style;
    let headings = ["EVENT", "TRIGGER", "STATUS", "RECORDED", "WHAT", ">TRIES", "JOB", "ERROR"];
    let mut grid = Grid::new(style, &headings).hide_first(&["TRIES", "JOB", "RECORDED", "EVENT"]);
    for event in events {
        let (word, tone) = match event.status {
            TriggerEventStatus::Pending => ("pending", Tone::Strong),
            TriggerEventStatus::Running => ("running", Tone::Strong),
            TriggerEventStatus::Done => ("done", Tone::Good),
            TriggerEventStatus::Failed => ("failed", Tone::Bad),
        };
        let what = describe(&event);
        grid.row([
            Cell::from(event.id),
            event.trigger.into(),
            Cell::toned(tone, word),
            output::moment(event.created).into(),
            what.into(),
            event.attempts.to_string().into(),
            event.job.map_or(String::new(), |job| job.to_string()).into(),
            event.error.map_or(String::new(), |problem| problem.message).into(),
        ]);
    }
    grid.print("no events");
    Ok(())
}
