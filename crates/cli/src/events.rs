//! Follows a job: prints its events to standard error, with a progress line after one second.
//!
//! Ctrl-C stops the job; a second Ctrl-C detaches from it.

use std::time::Instant;

use headwater_model::{
    ErrorCode, Job, JobEvent, JobEventKind, JobStatus, LogStream, Problem, StepReport, StepStatus,
};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::api::{Api, ApiRequest, segment};
use crate::error::{self, Result};
use crate::output::{self, Cell};
use crate::progress::{Progress, ProgressLine, TICK};
use crate::terminal::{Style, Tone};

/// Prints a job's events until it ends; returns the job or its problem.
pub async fn follow(api: &Api, style: Style, job: &Job) -> Result<Job> {
    let id = job.id.to_string();
    let mut printer = Printer::new(style);
    let watched = print_events(api, &id, true, &mut printer);
    tokio::select! {
        outcome = watched => outcome.map_err(|problem| cut_off(problem, &id))?,
        interrupt = tokio::signal::ctrl_c() => {
            interrupt.map_err(error::from_io("listen for Ctrl-C"))?;
            style.say("stopping the job; press Ctrl-C again to detach");
            stop(api, &id).await?;
        }
    }
    printer.clear();
    into_result(api.job(&id).await?)
}

/// Returns the error for a server that ended before the job.
fn cut_off(problem: Problem, id: &str) -> Problem {
    if problem.code != ErrorCode::Unavailable {
        return problem;
    }
    Problem::new(ErrorCode::Unavailable, format!("the server stopped before job `{id}` finished"))
        .with_hint(format!(
            "Run `headwater job get {id}` for its status; no change is partly applied."
        ))
}

/// Returns a succeeded job, or the problem of a failed one.
fn into_result(job: Job) -> Result<Job> {
    match (job.status, job.error.clone()) {
        (JobStatus::Succeeded, _) => Ok(job),
        (_, Some(problem)) => Err(problem),
        (status, None) => Err(error::unexpected(format!("job {} ended as {status:?}", job.id))),
    }
}

/// Waits for the end of a job without printing its events.
pub async fn wait(api: &Api, id: &str) -> Result<Job> {
    print_events(api, id, true, &mut Printer::silent()).await?;
    api.job(id).await
}

async fn stop(api: &Api, id: &str) -> Result<()> {
    let path = format!("/v1/jobs/{}/stop", segment(id));
    let _: Job = api.post(path, &serde_json::json!({})).await?;
    let mut silent = Printer::silent();
    tokio::select! {
        outcome = print_events(api, id, true, &mut silent) => outcome,
        _ = tokio::signal::ctrl_c() => {
            Err(Problem::new(ErrorCode::Cancelled, "detached from the job"))
        }
    }
}

/// Prints a job's events so far. With `follow`, continues until the job ends.
pub async fn print_events(api: &Api, id: &str, follow: bool, printer: &mut Printer) -> Result<()> {
    let path = format!("/v1/jobs/{}/events?follow={follow}", segment(id));
    let response = api.send(ApiRequest::get(path).accept("application/x-ndjson")).await?;
    let mut lines = ResponseLines::new(response.into_body());
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            line = lines.next() => {
                let Some(line) = line? else { return Ok(()) };
                printer.print(&serde_json::from_slice(&line).map_err(error::unexpected)?);
            }
            _ = ticks.tick(), if printer.line.is_possible() => printer.tick(),
        }
    }
}

/// The lines of a response body, streamed.
pub struct ResponseLines {
    body: Incoming,
    pending: Vec<u8>,
    ended: bool,
}

impl ResponseLines {
    /// Creates a reader of this body.
    pub fn new(body: Incoming) -> Self {
        ResponseLines { body, pending: Vec::new(), ended: false }
    }

    /// Returns the next line without its line end; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let rest = self.pending.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.pending, rest);
                line.pop();
                return Ok(Some(line));
            }
            if self.ended {
                let line = std::mem::take(&mut self.pending);
                return Ok((!line.is_empty()).then_some(line));
            }
            match self.body.frame().await {
                None => self.ended = true,
                Some(frame) => {
                    let frame = frame.map_err(|_| {
                        Problem::new(ErrorCode::Unavailable, "the server's response was cut off")
                            .with_hint("Run the command again.")
                    })?;
                    self.pending.extend(frame.data_ref().into_iter().flatten());
                }
            }
        }
    }
}

/// Prints events as text.
pub struct Printer {
    style: Style,
    silent: bool,
    line: ProgressLine,
    /// The running steps with their start times.
    steps: Vec<(String, Instant)>,
    progress: Progress,
}

impl Printer {
    /// Creates a printer to standard error.
    pub fn new(style: Style) -> Self {
        let progress = Progress { text: "waiting".to_owned(), ..Progress::default() };
        let line = ProgressLine::new(style);
        Printer { style, silent: false, line, steps: Vec::new(), progress }
    }

    fn silent() -> Self {
        Printer { silent: true, ..Printer::new(Style::plain()) }
    }

    /// Removes the progress line.
    pub fn clear(&mut self) {
        self.line.clear();
    }

    /// Draws the progress line.
    fn tick(&mut self) {
        let mut progress = self.progress.clone();
        if let Some((_, since)) = self.steps.first() {
            let names: Vec<&str> = self.steps.iter().map(|(name, _)| name.as_str()).collect();
            progress.text = names.join(", ");
            progress.since = Some(*since);
        }
        self.line.draw(&progress);
    }

    /// Prints one event.
    pub fn print(&mut self, event: &JobEvent) {
        if self.silent {
            return;
        }
        match &event.event {
            JobEventKind::Started | JobEventKind::Planned { .. } => {}
            JobEventKind::StepStarted { step } => self.steps.push((step.clone(), Instant::now())),
            JobEventKind::Progress { stage, done, total, unit } => {
                self.progress(stage, *done, *total, unit);
            }
            JobEventKind::Log { stream, model, file, line, text } => {
                let origin = origin(model.as_deref(), file.as_deref(), *line);
                self.say(&self.log_line(*stream, &origin, text));
            }
            JobEventKind::StepEnded { report } => {
                self.steps.retain(|(step, _)| *step != report.step);
                self.say(&self.step_line(report));
            }
            JobEventKind::Ended { status, .. } => {
                self.clear();
                if *status == JobStatus::Cancelled {
                    self.say("stopped");
                }
            }
        }
    }

    fn say(&self, text: &str) {
        self.line.above(|| self.style.say(text));
    }

    fn log_line(&self, stream: LogStream, origin: &str, text: &str) -> String {
        if stream == LogStream::System {
            let origin = if origin.is_empty() { String::new() } else { format!("{origin} ") };
            let line = Cell::from("  ").then(Cell::toned(Tone::Faint, format!("· {origin}")));
            return line.then(text).paint(self.style, self.style.width().unwrap_or(usize::MAX)).0;
        }
        let mark = match stream {
            LogStream::Stderr => self.style.paint(Tone::Warn, "│"),
            LogStream::Stdout | LogStream::System => self.style.paint(Tone::Faint, "│"),
        };
        if origin.is_empty() {
            return format!("  {mark} {text}");
        }
        format!("  {mark} {} {text}", self.style.paint(Tone::Faint, origin))
    }

    fn step_line(&self, report: &StepReport) -> String {
        let (sign, tone, word) = match report.status {
            StepStatus::Succeeded => ("✓", Tone::Good, ""),
            StepStatus::Unchanged => ("=", Tone::Faint, "unchanged"),
            StepStatus::Failed => ("✗", Tone::Bad, "failed"),
            StepStatus::Warned => ("!", Tone::Warn, "false (warning)"),
            StepStatus::Skipped => ("-", Tone::Faint, "skipped"),
        };
        let mut line = Cell::toned(tone, sign).then(format!(" {:<32}  ", report.step));
        line = line.then(Cell::toned(Tone::Faint, format!("{:<12}", report.kind)));
        if word.is_empty() {
            line = line.then(format!("{:>9}", output::milliseconds(report.usage.wall_ms)));
            if let Some(rows) = report.rows {
                line = line.then(format!("  {:>14}", output::plural(rows, "row")));
            }
            if let Some(rows) = report.quarantined.filter(|rows| *rows > 0) {
                line = line.then(Cell::toned(Tone::Warn, format!("  {rows} in quarantine")));
            }
        } else {
            line = line.then(Cell::toned(tone, word));
        }
        let width = self.style.width().unwrap_or(usize::MAX);
        let usage = &report.usage;
        let waits = [
            ("queue", usage.queue_ms),
            ("packages", usage.environment_ms),
            ("start", usage.start_ms),
        ];
        for (name, time) in waits.into_iter().filter(|(_, time)| *time >= 100) {
            let waited = format!("  {name} {}", output::milliseconds(time));
            let longer = line.clone().then(Cell::toned(Tone::Faint, waited));
            // Omit times that do not fit; `headwater job get` shows them.
            if longer.width() <= width {
                line = longer;
            }
        }
        line.paint(self.style, width).0.trim_end().to_owned()
    }

    fn progress(&mut self, stage: &str, done: u64, total: Option<u64>, unit: &str) {
        let of = |amount: String| total.map_or(String::new(), |_| format!(" of {amount}"));
        let all = total.unwrap_or_default();
        let amount = if unit == "bytes" {
            format!("{}{}", output::bytes(done), of(output::bytes(all)))
        } else {
            format!("{}{} {unit}", output::count(done), of(output::count(all)))
        };
        self.progress.text = format!("{stage}  {amount}");
        self.progress.amount = total.filter(|total| *total > 0).map(|total| (done, total));
    }
}

fn origin(model: Option<&str>, file: Option<&str>, line: Option<u32>) -> String {
    let place = match (file, line) {
        (Some(file), Some(line)) => format!("{file}:{line}"),
        (Some(file), None) => file.to_owned(),
        _ => String::new(),
    };
    match (model, place.is_empty()) {
        (Some(model), false) => format!("{model} ({place})"),
        (Some(model), true) => model.to_owned(),
        (None, _) => place,
    }
}
