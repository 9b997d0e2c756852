//! Follows a job: prints its events to standard error, with a progress line or the tree of a run
//! after one second. A command whose result is the log prints the events to standard output.
//!
//! Ctrl-C stops the job; a second Ctrl-C detaches from it. If the server stops, the command
//! connects to the next server and continues.

use std::time::Instant;

use headwater_display::run_tree::{RunTree, step_line};
use headwater_model::{
    ErrorCode, Job, JobEvent, JobEventKind, JobStatus, LogStream, PlannedStep, Problem, Timestamp,
};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::api::{self, ApiClient, ApiRequest, segment};
use crate::arguments::OutputFormat;
use crate::connect;
use crate::context::Context;
use crate::error::{self, Result};
use crate::output::{self, Cell};
use crate::progress::{Progress, ProgressLine, TICK};
use crate::terminal::{OutputStyle, Tone};

/// Number of terminal lines that the tree of a run leaves free for other output.
const HEIGHT_LEFT: usize = 5;

/// Maximum number of times that the server may stop while a command follows a job. After that, the
/// command fails.
const RECONNECTS_MAX: u32 = 20;

/// Prints a job's events until it ends; returns the job or its problem. If the server stops,
/// connects again: a queued job continues with the next server.
pub async fn follow(context: &Context, api: &ApiClient, job: &Job) -> Result<Job> {
    follow_with(context, api, job, EventPrinter::new(context.style)).await
}

/// Like [`follow`], but prints with the given printer.
pub async fn follow_with(
    context: &Context,
    api: &ApiClient,
    job: &Job,
    mut printer: EventPrinter,
) -> Result<Job> {
    let id = job.id.to_string();
    let ended = tokio::select! {
        ended = Box::pin(follow_to_end(context, api, &id, &mut printer)) => ended,
        interrupt = tokio::signal::ctrl_c() => {
            interrupt.map_err(error::from_io("listen for Ctrl-C"))?;
            context.style.say("stopping the job; press Ctrl-C again to detach");
            stop(api, &id).await?;
            api.job(&id).await
        }
    };
    printer.clear();
    into_result(ended?)
}

/// Prints the events of a job until it ends. If the server stops, follows the job on the next
/// server.
async fn follow_to_end(
    context: &Context,
    api: &ApiClient,
    id: &str,
    printer: &mut EventPrinter,
) -> Result<Job> {
    let mut newest: Option<ApiClient> = None;
    let mut stops = 0;
    loop {
        let api = newest.as_ref().unwrap_or(api);
        let problem = match events_and_job(api, id, printer).await {
            Ok(job) if job.status.is_final() => return Ok(job),
            // A server that shuts down ends the event streams of jobs that are still queued.
            Ok(_) => Problem::new(ErrorCode::Unavailable, "the server shut down"),
            Err(problem) => problem,
        };
        stops += 1;
        let is_lost = problem.code == ErrorCode::Unavailable;
        if !is_lost || context.in_process || stops > RECONNECTS_MAX {
            return Err(server_ended(problem, id));
        }
        printer.reconnecting(id);
        newest = Some(
            Box::pin(connect::reconnect(context))
                .await
                .map_err(|problem| server_ended(problem, id))?,
        );
    }
}

/// Prints the events of a job until their stream ends, and returns the job.
async fn events_and_job(api: &ApiClient, id: &str, printer: &mut EventPrinter) -> Result<Job> {
    print_events(api, id, true, printer).await?;
    api.job(id).await
}

/// Returns the error for a server that stopped before the job ended and cannot be reached again.
fn server_ended(problem: Problem, id: &str) -> Problem {
    if problem.code != ErrorCode::Unavailable {
        return problem;
    }
    let message = format!("the server stopped before job `{id}` finished");
    let mut lost = Problem::new(ErrorCode::Unavailable, message);
    lost.causes = [vec![problem.message], problem.causes].concat();
    lost.with_hint(format!(
        "Run `headwater job logs {id} --follow` to follow the job. Its changes are applied \
         completely or not at all."
    ))
}

/// Returns a succeeded job, or the problem of a failed one.
fn into_result(job: Job) -> Result<Job> {
    match (job.status, job.error.clone()) {
        (JobStatus::Succeeded, _) => Ok(job),
        (_, Some(problem)) => Err(problem),
        (status, None) => {
            let detail = format!("job {} has the status {status:?}, but no error", job.id);
            Err(error::unexpected(detail))
        }
    }
}

async fn stop(api: &ApiClient, id: &str) -> Result<()> {
    let path = format!("/v1/jobs/{}/stop", segment(id));
    let _: Job = api.post(path, &serde_json::json!({})).await?;
    let mut silent = EventPrinter::silent();
    tokio::select! {
        outcome = print_events(api, id, true, &mut silent) => outcome,
        _ = tokio::signal::ctrl_c() => {
            Err(Problem::new(ErrorCode::Cancelled, "detached from the job"))
        }
    }
}

/// Prints a job's events so far. With `follow`, continues until the job ends.
pub async fn print_events(
    api: &ApiClient,
    id: &str,
    follow: bool,
    printer: &mut EventPrinter,
) -> Result<()> {
    let mut lines = open(api, id, follow).await?;
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

/// Opens the event stream of a job: the events so far, one a line. With `follow`, the stream
/// continues until the job ends.
pub async fn open(api: &ApiClient, id: &str, follow: bool) -> Result<ResponseLines> {
    let path = format!("/v1/jobs/{}/events?follow={follow}", segment(id));
    let response = api.send(ApiRequest::get(path).accept("application/x-ndjson")).await?;
    Ok(ResponseLines::new(response.into_body()))
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
            self.read().await?;
        }
    }

    /// Returns the rest of the body.
    pub async fn rest(mut self) -> Result<Vec<u8>> {
        while !self.ended {
            self.read().await?;
        }
        Ok(self.pending)
    }

    /// Reads the next part of the body.
    async fn read(&mut self) -> Result<()> {
        match self.body.frame().await {
            None => self.ended = true,
            Some(frame) => {
                let frame = frame.map_err(|_| api::truncated_response())?;
                self.pending.extend(frame.data_ref().into_iter().flatten());
            }
        }
        Ok(())
    }
}

/// Prints events as text.
pub struct EventPrinter {
    style: OutputStyle,
    silent: bool,
    line: ProgressLine,
    /// The running steps with their start times.
    steps: Vec<(String, Instant)>,
    progress: Progress,
    /// The steps of a run, if they are shown as a tree.
    tree: Option<RunTree>,
    /// True to print events as JSON lines on standard output.
    json_lines: bool,
    /// The style of standard output, if the events are printed there.
    answer_style: Option<OutputStyle>,
    /// Time of the newest event.
    newest: Option<Timestamp>,
    /// Time of the newest event that was received before the last reconnect. Events up to this time
    /// are not printed again.
    printed: Option<Timestamp>,
}

impl EventPrinter {
    /// Creates a printer to standard error.
    pub fn new(style: OutputStyle) -> Self {
        let progress = Progress { text: "waiting".to_owned(), ..Progress::default() };
        let line = ProgressLine::new(style);
        let steps = Vec::new();
        EventPrinter {
            style,
            silent: false,
            line,
            steps,
            progress,
            tree: None,
            json_lines: false,
            answer_style: None,
            newest: None,
            printed: None,
        }
    }

    /// Creates a printer of JSON lines on standard output if the output format is NDJSON, otherwise
    /// of text on standard error.
    pub fn of(context: &Context) -> Self {
        let json_lines = context.output == OutputFormat::Ndjson;
        let style = if json_lines { OutputStyle::plain() } else { context.style };
        EventPrinter { json_lines, ..EventPrinter::new(style) }
    }

    /// Creates a printer of text on standard output, for commands whose result is the log. The
    /// progress line is on standard error.
    pub fn answer(context: &Context) -> Self {
        EventPrinter {
            answer_style: Some(context.answer_style),
            ..EventPrinter::new(context.style)
        }
    }

    /// Reports that the server has stopped. The next server sends all events of the job again,
    /// except the newest if they were lost. Sequence numbers can therefore differ, so events are
    /// compared by time.
    fn reconnecting(&mut self, id: &str) {
        self.printed = self.newest;
        self.steps.clear();
        if !self.silent {
            self.clear();
            self.say(&format!("the server stopped; connecting again to follow job {id}"));
        }
    }

    fn silent() -> Self {
        EventPrinter { silent: true, ..EventPrinter::new(OutputStyle::plain()) }
    }

    /// Removes the progress line. Leaves the tree of a run in its last state.
    pub fn clear(&mut self) {
        self.line.clear();
        if let Some(tree) = self.tree.take() {
            for line in tree.lines(self.text_style(), Instant::now()) {
                self.write(&line);
            }
        }
    }

    /// Shows the steps of a run as a tree, if the tree fits on the terminal.
    fn planned(&mut self, steps: &[PlannedStep]) {
        let height = self.style.height().unwrap_or(0).saturating_sub(HEIGHT_LEFT);
        if self.line.is_possible() && !steps.is_empty() && steps.len() <= height {
            self.tree = Some(RunTree::new(steps));
        }
    }

    /// Draws the progress line.
    fn tick(&mut self) {
        if let Some(tree) = &self.tree {
            self.line.draw_lines(&tree.lines(self.style, Instant::now()));
            return;
        }
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
        let is_printed = self.printed.is_some_and(|printed| event.time <= printed);
        if self.silent || is_printed {
            return;
        }
        self.newest = self.newest.max(Some(event.time));
        if self.json_lines {
            if let Ok(line) = serde_json::to_string(event) {
                output::line(line);
            }
            return;
        }
        match &event.event {
            // Do not print the end of a backfill's value: a log line already contains its outcome.
            JobEventKind::Started
            | JobEventKind::Environment { .. }
            | JobEventKind::ValueEnded { .. } => {}
            JobEventKind::Planned { steps } => self.planned(steps),
            JobEventKind::StepStarted { step } => {
                let now = Instant::now();
                self.steps.push((step.clone(), now));
                if let Some(tree) = &mut self.tree {
                    tree.start(step, now);
                }
            }
            JobEventKind::Progress { stage, done, total, unit } => {
                self.progress(stage, *done, *total, unit);
            }
            JobEventKind::Log { stream, model, file, line, text } => {
                let origin = origin(model.as_deref(), file.as_deref(), *line);
                self.say(&self.log_line(*stream, &origin, text));
            }
            JobEventKind::StepEnded { report } => {
                self.steps.retain(|(step, _)| *step != report.step);
                if !self.tree.as_mut().is_some_and(|tree| tree.end(report)) {
                    self.say(&step_line(self.text_style(), report));
                }
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
        self.line.above(|| self.write(text));
    }

    /// Writes a line to the stream on which the events are printed.
    fn write(&self, line: &str) {
        match self.answer_style {
            Some(_) => output::line(line),
            None => self.style.say(line),
        }
    }

    /// Returns the style of the stream on which the events are printed.
    fn text_style(&self) -> OutputStyle {
        self.answer_style.unwrap_or(self.style)
    }

    fn log_line(&self, stream: LogStream, origin: &str, text: &str) -> String {
        let style = self.text_style();
        if stream == LogStream::System {
            let origin = if origin.is_empty() { String::new() } else { format!("{origin} ") };
            let line = Cell::from("  ").then(Cell::toned(Tone::Faint, format!("· {origin}")));
            return line.then(text).paint(style, style.width().unwrap_or(usize::MAX)).0;
        }
        let mark = match stream {
            LogStream::Stderr => style.paint(Tone::Warn, "│"),
            LogStream::Stdout | LogStream::System => style.paint(Tone::Faint, "│"),
        };
        if origin.is_empty() {
            return format!("  {mark} {text}");
        }
        format!("  {mark} {} {text}", style.paint(Tone::Faint, origin))
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
