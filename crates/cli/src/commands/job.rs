//! `headwater job`: lists, shows, follows and stops jobs.

use headwater_backfill::{BackfillReport, ValueStatus};
use headwater_display::cell::clean;
use headwater_display::run_tree::step_line;
use headwater_model::{
    Job as JobRow, JobEvent, JobEventKind, JobKind, JobStatus, RunRequest, Usage,
};

use crate::api::{ApiClient, segment};
use crate::api_output::{self, fetch};
use crate::arguments::{Job, JobLogs, JobLs, JobRerun, OutputFormat};
use crate::commands::run;
use crate::context::Context;
use crate::error::{self, Result};
use crate::job_events::{self, EventPrinter};
use crate::output::{self, Cell, Grid};
use crate::terminal::Tone;

/// Runs `headwater job`.
pub async fn job(context: &Context, api: &ApiClient, arguments: Job) -> Result<()> {
    match arguments {
        Job::Ls(arguments) => list(context, api, arguments).await,
        Job::Get(arguments) => {
            let job = api.job(&arguments.id).await?;
            show(context, &job);
            match job.kind {
                _ if context.output == OutputFormat::Json => {}
                JobKind::Run => show_steps(context, api, &job).await?,
                JobKind::Backfill => show_values(context, &job),
                _ => {}
            }
            Ok(())
        }
        Job::Logs(arguments) => logs(context, api, &arguments).await,
        Job::Retry(arguments) => {
            let request = RunRequest { retry: Some(arguments.id), ..RunRequest::default() };
            run::send(context, api, &request, arguments.detach).await
        }
        Job::Rerun(arguments) => rerun(context, api, &arguments).await,
        Job::Stop(arguments) => {
            let path = format!("/v1/jobs/{}/stop", segment(&arguments.id));
            // Read the status first, to report if the job had ended before this command.
            let before = api.job(&arguments.id).await?.status;
            stopped(context, before, &api.post(path, &serde_json::json!({})).await?);
            Ok(())
        }
    }
}

/// Repeats a run on a new branch, which starts at the commit from which that run started.
async fn rerun(context: &Context, api: &ApiClient, arguments: &JobRerun) -> Result<()> {
    let mut path = format!("/v1/jobs/{}/rerun?exact=true", segment(&arguments.id));
    if let Some(branch) = &arguments.branch {
        path.push_str(&format!("&branch={}", segment(branch)));
    }
    let job: JobRow = api.post(path, &serde_json::json!({})).await?;
    if arguments.detach {
        run::started(context, &job);
        return Ok(());
    }
    run::follow(context, api, &RunRequest::default(), &job).await
}

/// Prints the result of stopping a job.
fn stopped(context: &Context, before: JobStatus, job: &JobRow) {
    let what = format!("{} {}", label(&job.kind), job.id);
    api_output::print(
        context,
        job,
        match (before.is_final(), job.status) {
            (true, status) => format!("{what} had already ended: {}", label(&status)),
            (false, JobStatus::Cancelled) => format!("stopped {what}"),
            (false, status) if status.is_final() => {
                format!("{what} ended before it was stopped: {}", label(&status))
            }
            (false, _) => {
                format!("stopping {what}; see `headwater job get {}`", job.id.short())
            }
        },
    );
}

async fn list(context: &Context, api: &ApiClient, arguments: JobLs) -> Result<()> {
    let mut path = format!("/v1/jobs?limit={}", arguments.limit);
    for (name, value) in [("kind", arguments.kind), ("status", arguments.status)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", segment(&value)));
        }
    }
    let Some(jobs) = fetch::<Vec<JobRow>>(context, api, path).await? else { return Ok(()) };
    let style = context.answer_style;
    let headings =
        ["JOB", "KIND", "STATUS", "STARTED", ">WAITED", "START", ">WALL", ">CPU", "WHAT"];
    let mut grid = Grid::new(style, &headings).hide_first(&["CPU", "START", "WAITED", "WALL"]);
    let now = chrono::Utc::now();
    for job in jobs {
        grid.row([
            Cell::from(job.id.short()),
            label(&job.kind).into(),
            status(job.status),
            output::recent(job.started.unwrap_or(job.created), now).into(),
            output::milliseconds(job.usage.waited_ms()).into(),
            output::starts(&job.usage).into(),
            output::milliseconds(job.usage.wall_ms).into(),
            output::milliseconds(job.usage.cpu_us.div_ceil(1000)).into(),
            describe(&job).into(),
        ]);
    }
    grid.print("no jobs");
    Ok(())
}

fn status(status: JobStatus) -> Cell {
    let tone = match status {
        JobStatus::Succeeded => Tone::Good,
        JobStatus::Failed => Tone::Bad,
        JobStatus::Cancelled | JobStatus::Interrupted => Tone::Warn,
        JobStatus::Queued | JobStatus::Running => Tone::Strong,
    };
    Cell::toned(tone, label(&status))
}

/// Returns the JSON text of a value, such as an enum's name, without quotes.
fn label(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// Returns a job's summary, with the reasons why the job waits.
fn describe(job: &JobRow) -> String {
    let mut what = first_line(&job.summary);
    if !job.waits_for.is_empty() {
        what = format!("{what} ({})", job.waits_for.join(", "));
    }
    what
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn show(context: &Context, job: &JobRow) {
    if context.output == OutputFormat::Json {
        return output::print_json(job);
    }
    let style = context.answer_style;
    let kind = label(&job.kind);
    output::line(format!("{} {kind} {}", style.paint(Tone::Strong, job.id), job.summary));
    let moment = |time: Option<_>| time.map_or("-".to_owned(), output::format_time);
    for (name, value) in [
        ("status", status(job.status).paint(style, usize::MAX).0),
        ("author", job.author.clone()),
        ("ref", job.reference.clone().unwrap_or_else(|| "-".into())),
        ("created", output::format_time(job.created)),
        ("started", moment(job.started)),
        ("ended", moment(job.ended)),
        ("usage", output::usage(&job.usage)),
        ("waited", output::waits(&job.usage)),
        ("functions", functions(&job.usage)),
    ] {
        if !value.is_empty() {
            output::line(format!("  {} {value}", style.paint(Tone::Faint, format!("{name:<10}"))));
        }
    }
    for waits in &job.waits_for {
        output::line(format!("  {waits}"));
    }
    if let Some(problem) = &job.error {
        context.style.print_problem(problem);
    }
}

/// Prints each ended step of a run, with all reasons why the step ran.
async fn show_steps(context: &Context, api: &ApiClient, job: &JobRow) -> Result<()> {
    let path = format!("/v1/jobs/{}/events?follow=false", segment(&job.id.to_string()));
    let response =
        api.send(crate::api::ApiRequest::get(path).accept("application/x-ndjson")).await?;
    let style = context.answer_style;
    let mut lines = job_events::ResponseLines::new(response.into_body());
    while let Some(line) = lines.next().await? {
        let event: JobEvent = serde_json::from_slice(&line).map_err(error::unexpected)?;
        let JobEventKind::StepEnded { mut report } = event.event else { continue };
        let reasons = std::mem::take(&mut report.reasons);
        output::line(step_line(style, &report));
        // The line of a step whose table was reused already names the other branch, so print no
        // reasons.
        for reason in reasons.iter().filter(|_| report.reuses.is_none()) {
            output::line(style.paint(Tone::Faint, format!("    {}", clean(reason))));
        }
    }
    Ok(())
}

/// Prints the outcome of each value of a backfill.
fn show_values(context: &Context, job: &JobRow) {
    let Ok(report) = serde_json::from_value::<BackfillReport>(job.result.clone()) else { return };
    let style = context.answer_style;
    for value in &report.values {
        let outcome = match value.status {
            ValueStatus::Waiting if job.status.is_final() => "did not run".to_owned(),
            _ => clean(&value.outcome()),
        };
        let tone = match value.status {
            ValueStatus::Merged | ValueStatus::Unchanged => Tone::Good,
            ValueStatus::Failed => Tone::Bad,
            ValueStatus::Waiting => Tone::Faint,
        };
        let name = clean(&format!("{}={}", report.parameter, value.value));
        output::line(format!("  {name} {}", style.paint(tone, outcome)));
    }
}

/// Formats the numbers of a job's function calls and starts; empty if there were no calls.
fn functions(usage: &Usage) -> String {
    let ran = match usage.calls {
        0 => return String::new(),
        1 => output::starts(usage),
        calls => format!("{calls} calls, {}", output::starts(usage)),
    };
    match usage.retries {
        0 => ran,
        retries => format!("{ran}, {retries} retried with more memory"),
    }
}

/// Prints the events of a job, and its error, to standard output.
async fn logs(context: &Context, api: &ApiClient, arguments: &JobLogs) -> Result<()> {
    if context.output == OutputFormat::Json {
        return logs_json(api, arguments).await;
    }
    let mut printer = EventPrinter::answer(context);
    let id = api.job(&arguments.id).await?.id.to_string();
    job_events::print_events(api, &id, arguments.follow, &mut printer).await?;
    printer.clear();
    let job = api.job(&id).await?;
    if let Some(problem) = &job.error {
        output::problem(context.answer_style, problem);
    }
    Ok(())
}

async fn logs_json(api: &ApiClient, arguments: &JobLogs) -> Result<()> {
    let path = format!("/v1/jobs/{}/events?follow={}", segment(&arguments.id), arguments.follow);
    let response =
        api.send(crate::api::ApiRequest::get(path).accept("application/x-ndjson")).await?;
    let mut lines = job_events::ResponseLines::new(response.into_body());
    let mut collected: Vec<serde_json::Value> = Vec::new();
    while let Some(line) = lines.next().await? {
        collected.push(serde_json::from_slice(&line).map_err(error::unexpected)?);
    }
    output::print_json(&collected);
    Ok(())
}
