//! The output of a function's calls, for `headwater function logs`.
//!
//! With `--follow`, each running call has its own event stream, so that a long call does not delay
//! the output of other calls. The server reports a new call at once. A heading precedes the output
//! of a call, and is repeated when the output continues after that of another call.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use chrono::{SecondsFormat, TimeDelta};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use headwater_model::{Job, JobEvent, JobEventKind, JobId, Timestamp};

use crate::api::{ApiClient, segment};
use crate::commands::{call_report, function_logs};
use crate::context::Context;
use crate::error::{self, Result};
use crate::job_events::{self, EventPrinter, ResponseLines};
use crate::output;
use crate::terminal::Tone;

/// Maximum number of calls whose events are streamed at a time. Further calls are printed later.
const STREAMS_MAX: usize = 64;

/// Time in milliseconds for which the server waits for a new call in one request.
const WAIT_MS: u64 = 30_000;

/// Pause after a request that returned no call, because a server that shuts down responds without
/// waiting.
const PAUSE: Duration = Duration::from_millis(100);

/// Calls that start at about the same time may be recorded out of order. So each list of new calls
/// begins this long before the newest known call, and can include known calls.
const OVERLAP: TimeDelta = TimeDelta::seconds(5);

/// Printer of the output of a function's calls.
pub(super) struct CallOutputPrinter<'a> {
    context: &'a Context,
    api: &'a ApiClient,
    printer: EventPrinter,
    /// The memory limit of the function, if it is known.
    memory: Option<u64>,
    /// The call whose heading was printed last.
    last: Option<JobId>,
}

impl<'a> CallOutputPrinter<'a> {
    /// Creates a printer for a function with this memory limit.
    pub(super) fn new(context: &'a Context, api: &'a ApiClient, memory: Option<u64>) -> Self {
        CallOutputPrinter {
            context,
            api,
            printer: EventPrinter::answer(context),
            memory,
            last: None,
        }
    }

    /// Prints a call and its output so far.
    pub(super) async fn print_recorded(&mut self, call: &Job) -> Result<()> {
        self.print_heading(call);
        job_events::print_events(self.api, &call.id.to_string(), false, &mut self.printer).await?;
        self.printer.clear();
        self.print_end(call).await
    }

    /// Prints the calls of a function until Ctrl-C: first these running calls, then later calls.
    /// `known` has the ids of the calls that were printed before or are in `running`.
    pub(super) async fn follow(
        &mut self,
        name: &str,
        running: Vec<Job>,
        mut known: HashSet<JobId>,
    ) -> Result<()> {
        let api = self.api;
        let mut waiting = VecDeque::from(running);
        let mut streams = FuturesUnordered::new();
        let mut search = Box::pin(new_calls(api, name, None));
        loop {
            while streams.len() < STREAMS_MAX
                && let Some(call) = waiting.pop_front()
            {
                let lines = job_events::open(api, &call.id.to_string(), true).await?;
                streams.push(next_event(CallStream { call, lines }));
            }
            tokio::select! {
                found = &mut search => {
                    let NewCalls { newest, calls } = found?;
                    let ids: HashSet<JobId> = calls.iter().map(|call| call.id).collect();
                    waiting.extend(calls.into_iter().filter(|call| known.insert(call.id)));
                    // Forget old ids, which later lists do not contain, so that the set does not
                    // grow forever.
                    known.retain(|id| ids.contains(id));
                    search = Box::pin(new_calls(api, name, Some(newest)));
                }
                Some((stream, event)) = streams.next(), if !streams.is_empty() => {
                    match event? {
                        Some(event) => {
                            self.print_event(&stream.call, &event);
                            streams.push(next_event(stream));
                        }
                        None => self.print_end(&stream.call).await?,
                    }
                }
            }
        }
    }

    /// Prints the time and id of a call, unless the last printed output belongs to the same call.
    fn print_heading(&mut self, call: &Job) {
        if self.last.replace(call.id) != Some(call.id) {
            let heading = format!("{} {}", output::format_time(call.created), call.id);
            output::line(self.context.answer_style.paint(Tone::Faint, heading));
        }
    }

    fn print_event(&mut self, call: &Job, event: &JobEvent) {
        // These events print no line, so they need no heading.
        let is_silent =
            matches!(event.event, JobEventKind::Environment { .. } | JobEventKind::Progress { .. });
        if !is_silent {
            self.print_heading(call);
        }
        self.printer.print(event);
    }

    /// Prints the error of a call and its one-line report, if the call has ended.
    async fn print_end(&mut self, call: &Job) -> Result<()> {
        let job = self.api.job(&call.id.to_string()).await?;
        let style = self.context.answer_style;
        if job.error.is_some() || job.status.is_final() {
            self.print_heading(call);
        }
        if let Some(problem) = &job.error {
            output::problem(style, problem);
        }
        if job.status.is_final() {
            output::line(style.paint(Tone::Faint, call_report::line(&job, self.memory)));
        }
        Ok(())
    }
}

/// The event stream of a call.
struct CallStream {
    call: Job,
    lines: ResponseLines,
}

/// Returns the next event of a stream, with the stream; `None` after the last event.
async fn next_event(mut stream: CallStream) -> (CallStream, Result<Option<JobEvent>>) {
    let event = match stream.lines.next().await {
        Ok(Some(line)) => serde_json::from_slice(&line).map(Some).map_err(error::unexpected),
        Ok(None) => Ok(None),
        Err(problem) => Err(problem),
    };
    (stream, event)
}

/// The calls of a function that a list returned.
struct NewCalls {
    /// The time at which the newest call of any function was recorded.
    newest: Timestamp,
    /// The calls of one function, oldest first. They can include known calls.
    calls: Vec<Job>,
}

/// Waits until a function call is recorded after `newest`.
async fn new_calls(api: &ApiClient, name: &str, newest: Option<Timestamp>) -> Result<NewCalls> {
    let mut path = format!("/v1/jobs?kind=function&limit=1&wait_ms={WAIT_MS}");
    if let Some(newest) = newest {
        // `since` includes its time, so search from the next nanosecond.
        path.push_str(&since(newest + TimeDelta::nanoseconds(1)));
    }
    let found: Job = loop {
        if let Some(found) = api.get::<Vec<Job>>(path.as_str()).await?.pop() {
            break found;
        }
        tokio::time::sleep(PAUSE).await;
    };
    let from = newest.unwrap_or(found.created) - OVERLAP;
    let calls = function_logs::calls(api, name, &since(from)).await?;
    Ok(NewCalls { newest: found.created, calls })
}

/// Returns the query parameter for jobs recorded at or after a time.
fn since(time: Timestamp) -> String {
    format!("&since={}", segment(&time.to_rfc3339_opts(SecondsFormat::Nanos, true)))
}
