//! A runtime with a limit on concurrent calls.
//!
//! Each call blocks a thread of the engine. Without a limit, calls that wait in the queue of the
//! function runtime could block all threads, and other statements could not run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use headwater_model::{ErrorCode, Problem, Usage};

use crate::{CallResult, CallingStatement, FunctionCall, FunctionDefinition, PythonRuntime};

/// A runtime that rejects calls above a limit.
#[derive(Debug)]
pub struct ConcurrencyLimitedRuntime {
    runtime: Arc<dyn PythonRuntime>,
    calls_max: usize,
    running: AtomicUsize,
}

/// A running call, which is counted until it is dropped.
struct RunningCall<'a>(&'a AtomicUsize);

impl Drop for RunningCall<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ConcurrencyLimitedRuntime {
    /// Creates a runtime that executes at most `calls_max` calls at the same time.
    pub fn new(runtime: Arc<dyn PythonRuntime>, calls_max: usize) -> Self {
        ConcurrencyLimitedRuntime { runtime, calls_max, running: AtomicUsize::new(0) }
    }

    fn begin(&self) -> Result<RunningCall<'_>, Problem> {
        let next = |running: usize| (running < self.calls_max).then_some(running + 1);
        if self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok() {
            return Ok(RunningCall(&self.running));
        }
        let most = self.calls_max;
        let message = format!(
            "too many calls of Python functions: {most} are queued or running (limit {most})"
        );
        Err(Problem::new(ErrorCode::TooBusy, message).with_hint("Retry the statement later."))
    }
}

#[async_trait]
impl PythonRuntime for ConcurrencyLimitedRuntime {
    async fn check(&self, function: &FunctionDefinition) -> Result<(), Problem> {
        self.runtime.check(function).await
    }

    async fn call(&self, call: FunctionCall) -> CallResult {
        match self.begin() {
            Ok(_running) => self.runtime.call(call).await,
            Err(problem) => CallResult { values: Err(problem), usage: Usage::default() },
        }
    }

    fn end(&self, owner: &CallingStatement) {
        self.runtime.end(owner);
    }
}
