//! The traces of events and jobs.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headwater_model::{Job, JobId, JobStatus, Timestamp};
use uuid::Uuid;

use crate::trace_context::span_of;
use crate::{SpanKind, Telemetry, TraceContext, current};

/// Minimum time in the queue for which a span is exported.
const QUEUE_MIN: Duration = Duration::from_millis(1);

/// The trace of a running job.
#[derive(Debug, Clone)]
pub(crate) struct JobTrace {
    context: TraceContext,
    parent: Option<TraceContext>,
    /// The spans of the running handlers. A run can call several functions at the same time.
    handlers: Vec<TraceContext>,
}

impl Telemetry {
    /// Records that a job exists. Its span is a child of the event that caused the job, or of the
    /// request in whose scope the job was created. Without an event and a request, the span is the
    /// first span of a trace.
    pub fn begin_job(&self, job: JobId, event: Option<&str>) {
        self.with_jobs(|jobs| {
            let event = event.and_then(|id| Uuid::from_str(id).ok());
            let parent = event.map(TraceContext::of_id).or_else(current);
            let context = match parent {
                Some(parent) => TraceContext { span: span_of(job.0), is_remote: false, ..parent },
                None => TraceContext::of_id(job.0),
            };
            jobs.insert(job, JobTrace { context, parent, handlers: Vec::new() });
        });
    }

    /// Returns the parent of the spans for a handler's accesses to the lake: the job's handler if
    /// exactly one runs, otherwise the job. Returns `None` if traces are off.
    pub fn of_handler(&self, job: JobId) -> Option<TraceContext> {
        self.with_jobs(|jobs| {
            let trace = jobs.get(&job)?;
            Some(match trace.handlers.as_slice() {
                [handler] => *handler,
                _ => trace.context,
            })
        })
        .flatten()
    }

    /// Returns the span of a job; `None` if traces are off.
    pub fn of_job(&self, job: JobId) -> Option<TraceContext> {
        self.with_jobs(|jobs| jobs.get(&job).map(|trace| trace.context)).flatten()
    }

    /// Records that a handler of a job has started.
    pub(crate) fn add_handler(&self, job: JobId, handler: TraceContext) {
        self.with_jobs(|jobs| {
            if let Some(trace) = jobs.get_mut(&job) {
                trace.handlers.push(handler);
            }
        });
    }

    /// Records that a handler of a job has ended.
    pub(crate) fn remove_handler(&self, job: JobId, handler: TraceContext) {
        self.with_jobs(|jobs| {
            if let Some(trace) = jobs.get_mut(&job) {
                trace.handlers.retain(|other| *other != handler);
            }
        });
    }

    /// Records that the current request caused an event: the span of the event will have a link to
    /// the span of the request.
    pub fn link_event(&self, event: JobId) {
        self.link_event_to(event, current());
    }

    /// Records the cause of an event like [`Self::link_event`]. `cause` is the stored context of
    /// the request.
    pub fn link_event_to(&self, event: JobId, cause: Option<TraceContext>) {
        if let Some(cause) = cause.filter(|cause| cause.is_sampled)
            && let Some(causes) = self.causes()
        {
            causes.insert(event.0, cause);
        }
    }

    /// Exports the span of a job that has ended, and the span of its time in the queue.
    pub fn end_job(&self, job: &Job) {
        let Some(trace) = self.with_jobs(|jobs| jobs.remove(&job.id)).flatten() else { return };
        let JobTrace { context, parent, .. } = trace;
        let (created, started) = (time(job.created), job.started.map(time));
        let ended = job.ended.map_or_else(SystemTime::now, time);
        let waited = started.and_then(|started| started.duration_since(created).ok());
        if waited.is_some_and(|waited| waited >= QUEUE_MIN)
            && let Some(started) = started
            && let Some(mut span) = self.begin(Some(context), "queue")
        {
            span.starts_at(created);
            span.end_at(None, started);
        }
        let name = format!("job {}", job.kind.as_str());
        let Some(mut span) = self.timer(context, parent, name.into(), SpanKind::Internal) else {
            return;
        };
        span.starts_at(created);
        span.set("headwater.job.id", job.id.to_string());
        span.set("headwater.job.kind", job.kind.as_str());
        span.set("enduser.id", job.author.clone());
        if let Some(reference) = &job.reference {
            span.set("headwater.branch", reference.clone());
        }
        if let Some(event) = &job.event {
            span.set("headwater.event.id", event.clone());
        }
        if job.usage.calls > 0 {
            span.set("faas.coldstart", job.usage.cold_starts > 0);
        }
        let has_failed = job.status != JobStatus::Succeeded;
        let error = job.error.as_ref().filter(|_| has_failed);
        if let Some(problem) = error {
            span.set("error.type", problem.code.to_string());
        }
        // Omit messages, because they may contain values of rows.
        span.end_at(error.map(|problem| problem.code.to_string()), ended);
    }

    /// Exports the span of an event that was delivered or has failed, with the code of its error.
    /// The span starts at the time in the event's id.
    pub fn end_event(&self, event: &str, trigger: &str, error: Option<&str>) {
        let Some(causes) = self.causes() else { return };
        let Ok(id) = Uuid::from_str(event) else { return };
        let cause = causes.remove(&id);
        let (context, name) = (TraceContext::of_id(id), format!("event {trigger}"));
        let Some(mut span) = self.timer(context, None, name.into(), SpanKind::Consumer) else {
            return;
        };
        if let Some(created) = id.get_timestamp() {
            let (seconds, nanos) = created.to_unix();
            span.starts_at(UNIX_EPOCH + Duration::new(seconds, nanos));
        }
        if let Some(cause) = cause {
            span.link(cause);
        }
        span.set("headwater.event.id", event.to_owned());
        span.set("headwater.trigger", trigger.to_owned());
        span.end(error.map(str::to_owned));
    }
}

fn time(time: Timestamp) -> SystemTime {
    time.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TelemetryOptions, in_scope};

    /// Returns telemetry whose collector is unreachable.
    fn telemetry() -> Telemetry {
        let endpoint = "http://127.0.0.1:9".to_owned();
        let options = TelemetryOptions { endpoint, ..TelemetryOptions::default() };
        Telemetry::start(&options).expect("an export")
    }

    #[test]
    fn accesses_belong_to_the_handler_only_while_it_runs_alone() {
        let (telemetry, job) = (telemetry(), JobId::generate());
        telemetry.begin_job(job, None);
        let own = telemetry.of_job(job).expect("a span");
        assert_eq!(telemetry.of_handler(job), Some(own));
        let begin = |name: &str| {
            let mut call = telemetry.begin_call(Some(job), name);
            let handler = telemetry.run_call(call.as_mut(), Some(job)).expect("a handler");
            (call.expect("a call"), handler)
        };
        let (first, of_first) = begin("first");
        assert_eq!(telemetry.of_handler(job), Some(of_first));
        let (second, of_second) = begin("second");
        assert_eq!(telemetry.of_handler(job), Some(own), "two handlers run");
        first.end(Some("zygote"), Duration::ZERO, None);
        assert_eq!(telemetry.of_handler(job), Some(of_second));
        drop(second);
        assert_eq!(telemetry.of_handler(job), Some(own));
        assert_eq!(telemetry.of_job(job), Some(own));
    }

    #[tokio::test]
    async fn a_job_of_an_unrecorded_request_has_no_span() {
        let (telemetry, job) = (telemetry(), JobId::generate());
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        let parent = TraceContext::parse(header).expect("a context");
        assert!(telemetry.begin_request(Some(parent), "GET /").is_none());
        in_scope(Some(parent), async { telemetry.begin_job(job, None) }).await;
        let context = telemetry.of_job(job).expect("a context");
        assert_eq!((context.trace, context.is_sampled), (parent.trace, false));
        assert!(telemetry.begin(Some(context), "commit").is_none());
        // Although the trace is not recorded, the handler gets its context. From the flag in the
        // context, the handler knows that it must not record its spans either.
        let mut call = telemetry.begin_call(Some(job), "f");
        assert!(call.is_none());
        assert_eq!(telemetry.run_call(call.as_mut(), Some(job)), Some(context));
    }

    #[tokio::test]
    async fn an_event_is_linked_to_its_request_once() {
        let (telemetry, event) = (telemetry(), JobId::generate());
        let request = TraceContext::new_root();
        in_scope(Some(request), async { telemetry.link_event(event) }).await;
        let causes = telemetry.causes().expect("traces are on");
        assert_eq!(causes.get(&event.0), Some(request));
        telemetry.end_event(&event.to_string(), "landing", None);
        assert_eq!(causes.get(&event.0), None);
        telemetry.link_event(event);
        assert_eq!(causes.get(&event.0), None, "there is no request");
        Telemetry::default().link_event_to(event, Some(request));
    }
}
