//! Calls of functions: they enter the queue, execute in an instance, and return an outcome.

use std::time::{Duration, Instant};

use headwater_metrics::{CallEnd, CallMetricsGuard, CallOutcome, InstanceStartKind};
use headwater_model::{JobId, LogStream, ToProblem, Usage};
use headwater_telemetry::CallTrace;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::call_execution::CallExecution;
use crate::error::size;
use crate::functions::Functions;
use crate::queue::{CallRequest, Permit};
use crate::warm_instance::IdleInstance;
use crate::{Error, FunctionEvent, FunctionResult, Invocation, InvocationOutcome, Limits, Result};

/// A call that has a permit.
struct RunningCall {
    permit: Permit<IdleInstance>,
    metrics: CallMetricsGuard,
    trace: Option<CallTrace>,
}

impl Functions {
    /// Runs a function once and waits for its outcome. Uses an idle instance if the invocation
    /// allows it, otherwise a new instance. Lines that the function prints are sent to `sink` while
    /// it runs. If the sink is full, the function waits; if the sink is closed, lines are
    /// discarded. Dropping the future kills the process.
    pub async fn invoke(
        &self,
        mut invocation: Invocation,
        sink: mpsc::Sender<FunctionEvent>,
        cancelled: CancellationToken,
    ) -> InvocationOutcome {
        self.limit_memory(&mut invocation, &sink).await;
        let call = self.0.calls.add(&invocation);
        let (queued, bytes_in) = (Instant::now(), invocation.bytes());
        self.record_arrival(&invocation, queued);
        let mut metrics = self.0.metrics.begin(&invocation.label);
        let mut trace = self.0.telemetry.begin_call(invocation.share.job, &invocation.label);
        let permit = self.permit(call.number(), &invocation, &cancelled).await;
        let queue_ms = millis(queued);
        let outcome = match permit {
            Ok(permit) => {
                call.runs();
                metrics.run();
                let job = invocation.share.job;
                invocation.client.trace = self.0.telemetry.run_call(trace.as_mut(), job);
                self.execute(RunningCall { permit, metrics, trace }, &invocation, &sink, &cancelled)
                    .await
            }
            Err(error) => {
                metrics.end_unstarted(CallOutcome::of(Some(error.code())));
                if let Some(trace) = trace {
                    trace.end_unstarted(code_name(&error));
                }
                InvocationOutcome { returned: Err(error), usage: Usage::default() }
            }
        };
        let InvocationOutcome { returned, mut usage } = outcome;
        usage.queue_ms += queue_ms;
        if usage.calls > 0 {
            usage.bytes_in += bytes_in;
            usage.bytes_out = returned.as_ref().map_or(0, FunctionResult::bytes);
            self.0.cpu_boost.record(&invocation.share.owner, usage.cpu_us, Instant::now());
        }
        InvocationOutcome { returned, usage }
    }

    /// Ends the idle instances that were kept for the calls of an SQL statement, see
    /// [`ReuseScope::SameStatement`](crate::ReuseScope::SameStatement). Running calls are not
    /// affected.
    pub fn end_instances(&self, statement: JobId) {
        let keys = self.0.instance_keys.take(statement);
        if !keys.is_empty() {
            self.0.queue.end_idle_with(&keys);
        }
    }

    /// Reduces the memory limit of a call to the memory that all functions may use together, if the
    /// limit is higher.
    async fn limit_memory(&self, invocation: &mut Invocation, sink: &mpsc::Sender<FunctionEvent>) {
        let most = self.0.queue.memory_bytes();
        if invocation.limits.memory_bytes <= most {
            return;
        }
        let asked = std::mem::replace(&mut invocation.limits.memory_bytes, most);
        // Report the reduction only if the limit was set for this function, not for the default
        // limit.
        if asked != Limits::default().memory_bytes {
            let (asked, has) = (size(asked), size(most));
            let text = format!(
                "the function requests {asked} of memory, but gets {has}, the limit of all \
                 functions together"
            );
            log_system_line(sink, text).await;
        }
    }

    /// Waits for the permit of a call.
    async fn permit(
        &self,
        number: u64,
        invocation: &Invocation,
        cancelled: &CancellationToken,
    ) -> Result<Permit<IdleInstance>> {
        let label = || invocation.label.clone();
        let request = CallRequest {
            number,
            share: &invocation.share,
            label: &invocation.label,
            memory_bytes: invocation.limits.memory_bytes,
            instance_key: self.0.instance_keys.of(invocation),
        };
        tokio::select! {
            permit = self.0.queue.acquire(request) => permit,
            () = cancelled.cancelled() => Err(Error::Cancelled { label: label() }),
            () = invocation.begins_until.cancelled() => Err(Error::Stopping { label: label() }),
        }
    }

    /// Executes a call that has a permit. If the instance is reusable, keeps it for other calls.
    async fn execute(
        &self,
        call: RunningCall,
        invocation: &Invocation,
        sink: &mpsc::Sender<FunctionEvent>,
        cancelled: &CancellationToken,
    ) -> InvocationOutcome {
        let RunningCall { mut permit, metrics, trace } = call;
        let warm = permit.instance.take().and_then(IdleInstance::into_warm);
        let (warm, cpu_us) = warm.map_or((None, 0), |(warm, cpu_us)| (Some(warm), cpu_us));
        let mut execution = CallExecution {
            functions: self,
            permit: &permit,
            sink,
            cancelled,
            until: Instant::now() + invocation.limits.timeout,
            outside: Usage { cpu_us, ..Usage::default() },
            start_time: Duration::ZERO,
            start: None,
        };
        // Box this large future, so that the futures of all callers stay small.
        let ended = Box::pin(execution.run(invocation, warm)).await;
        let CallExecution { outside, start, start_time, .. } = execution;
        let error = match &ended {
            Ok((outcome, _)) => outcome.returned.as_ref().err(),
            Err(error) => Some(error),
        };
        let outcome = CallOutcome::of(error.map(ToProblem::code));
        metrics.end(CallEnd { outcome, start, start_time });
        if let Some(trace) = trace {
            trace.end(start.map(InstanceStartKind::as_str), start_time, error.map(code_name));
        }
        match ended {
            Ok((mut outcome, warm)) => {
                if let Some(warm) = warm {
                    let keep_alive = self.keep_alive(invocation, Instant::now());
                    let idle = IdleInstance::new(warm, invocation, keep_alive);
                    let pause = || self.0.idle_pause.schedule(&self.0.queue);
                    permit.keep(idle, |_| pause());
                }
                outcome.usage.add(&outside);
                outcome
            }
            Err(error) => InvocationOutcome { returned: Err(error), usage: outside },
        }
    }
}

/// Returns the code of an error, for traces. The error's message is not used, because it may
/// contain secrets, which are removed only later.
fn code_name(error: &Error) -> String {
    error.code().as_str().to_owned()
}

/// Returns the elapsed time since an instant in milliseconds.
pub(crate) fn millis(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}

/// Adds a line of Headwater itself to the output of a function.
pub(crate) async fn log_system_line(sink: &mpsc::Sender<FunctionEvent>, text: String) {
    let (stream, file, line) = (LogStream::System, None, None);
    // Ignore an error: the receiver of the output has disconnected.
    let _ = sink.send(FunctionEvent::Line { stream, file, line, text }).await;
}
