//! The spans of one function call: the call, its time in the queue, the start of its instance, and
//! the handler.

use std::time::{Duration, SystemTime};

use headwater_model::JobId;

use crate::{SpanTimer, Telemetry, TraceContext};

/// A call for which spans are created.
#[derive(Debug)]
pub struct CallTrace {
    telemetry: Telemetry,
    job: JobId,
    call: SpanTimer,
    queue: Option<SpanTimer>,
    handler: Option<SpanTimer>,
    /// The context of the handler's span, after the handler has begun.
    position: Option<TraceContext>,
    began: SystemTime,
}

impl Telemetry {
    /// Begins the spans of a function call, as children of the span of the job that makes the call.
    /// Returns `None` if traces are off.
    pub fn begin_call(&self, job: Option<JobId>, function: &str) -> Option<CallTrace> {
        let job = job.filter(|_| self.is_on())?;
        let mut call = self.begin(self.of_job(job), format!("call {function}"))?;
        call.set("faas.name", function.to_owned());
        call.set("faas.invocation_id", job.to_string());
        let queue = self.begin(call.context(), "queue");
        let (telemetry, began) = (self.clone(), SystemTime::now());
        let (handler, position) = (None, None);
        Some(CallTrace { telemetry, job, call, queue, handler, position, began })
    }

    /// Ends the queue span of a call. Returns the span of the handler, which is the parent of the
    /// spans that the handler creates and of its accesses to the lake. If the trace is not
    /// recorded, returns the context of the job, so that the handler does not record spans either.
    /// Returns `None` if traces are off.
    pub fn run_call(
        &self,
        call: Option<&mut CallTrace>,
        job: Option<JobId>,
    ) -> Option<TraceContext> {
        match call {
            Some(call) => call.run(),
            None => self.of_job(job?),
        }
    }
}

impl CallTrace {
    fn run(&mut self) -> Option<TraceContext> {
        if let Some(queue) = self.queue.take() {
            queue.end(None);
        }
        self.began = SystemTime::now();
        self.handler = self.telemetry.begin(self.call.context(), "handler");
        self.position = self.handler.as_ref().and_then(SpanTimer::context);
        if let Some(position) = self.position {
            self.telemetry.add_handler(self.job, position);
        }
        self.position
    }

    /// Ends the call. `start` is the kind of the instance's start, such as `cold`; `None` if no
    /// instance started.
    pub fn end(mut self, start: Option<&'static str>, time: Duration, error: Option<String>) {
        let handler_began = self.began + time;
        if let Some(start) = start {
            self.call.set("headwater.start", start);
            self.call.set("faas.coldstart", start == "cold");
            if !time.is_zero()
                && let Some(mut span) = self.telemetry.begin(self.call.context(), "start")
            {
                span.starts_at(self.began);
                span.end_at(None, handler_began);
            }
        }
        if let Some(mut handler) = self.handler.take() {
            handler.starts_at(handler_began);
            handler.end(error.clone());
        }
        self.finish(error);
    }

    /// Ends a call that never left the queue, because it received no permit to run.
    pub fn end_unstarted(mut self, error: String) {
        if let Some(queue) = self.queue.take() {
            queue.end(Some(error.clone()));
        }
        self.finish(Some(error));
    }

    fn finish(&mut self, error: Option<String>) {
        self.call.finish(error, SystemTime::now());
    }
}

impl Drop for CallTrace {
    fn drop(&mut self) {
        if let Some(position) = self.position {
            self.telemetry.remove_handler(self.job, position);
        }
    }
}
