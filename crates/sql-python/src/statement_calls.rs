//! The function calls of one statement: their usage, and their cancellation.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use headwater_model::{JobId, Usage};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::PythonRuntime;

/// Time to wait for cancelled calls to return their usage.
const USAGE_WAIT: Duration = Duration::from_secs(2);

/// The identity and limits of a statement that calls functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallingStatement {
    /// The principal that runs the statement.
    pub author: String,
    /// The job of the statement, if it has one.
    pub job: Option<JobId>,
    /// The id of the statement's instances. Only calls with the same id share instances. The id is
    /// unique for each statement, because several statements may belong to one job.
    pub instances: JobId,
    /// The principal's limit on the memory of an instance, in bytes.
    pub memory_bytes_max: Option<u64>,
}

/// The running calls of a statement, and the usage of all its calls.
#[derive(Debug)]
pub struct StatementCalls {
    owner: Arc<CallingStatement>,
    usage: Mutex<Usage>,
    running: Mutex<CancellationToken>,
    /// Number of running calls.
    active: watch::Sender<usize>,
    /// The runtime of the functions in the statement; empty if the statement calls no function.
    runtime: OnceLock<Arc<dyn PythonRuntime>>,
}

impl StatementCalls {
    /// Creates the record of a statement that has made no calls.
    pub fn new(owner: CallingStatement) -> Self {
        StatementCalls {
            owner: Arc::new(owner),
            usage: Mutex::default(),
            running: Mutex::new(CancellationToken::new()),
            active: watch::channel(0).0,
            runtime: OnceLock::new(),
        }
    }

    /// Returns the owner of the statement.
    pub fn owner(&self) -> &Arc<CallingStatement> {
        &self.owner
    }

    /// Adds a function to the statement. All functions have the same runtime.
    pub(crate) fn register(&self, runtime: &Arc<dyn PythonRuntime>) {
        self.runtime.get_or_init(|| Arc::clone(runtime));
    }

    /// Returns true if the statement, or a view that it reads, calls a function.
    pub fn has_functions(&self) -> bool {
        self.runtime.get().is_some()
    }

    /// Begins the execution of one plan of the statement. A statement may execute several plans.
    pub fn begin(self: &Arc<Self>) -> PlanCallsGuard {
        let token = CancellationToken::new();
        *self.running.lock() = token.clone();
        PlanCallsGuard { calls: Arc::clone(self), token }
    }

    /// Returns the token that is cancelled at the end of the plan that runs now.
    pub(crate) fn token(&self) -> CancellationToken {
        self.running.lock().clone()
    }

    /// Counts a call as running until the returned value is dropped.
    pub(crate) fn begin_call(&self) -> ActiveCall<'_> {
        self.active.send_modify(|active| *active += 1);
        ActiveCall(&self.active)
    }

    /// Returns true if a call runs.
    pub fn is_active(&self) -> bool {
        *self.active.borrow() > 0
    }

    /// Waits until no call runs, so that the usage of cancelled calls is complete; at most 2
    /// seconds.
    pub async fn ended(&self) {
        let mut active = self.active.subscribe();
        let ended = async {
            while *active.borrow_and_update() > 0 {
                if active.changed().await.is_err() {
                    break;
                }
            }
        };
        // If a cancelled call does not end in time, its usage is lost.
        let _ = tokio::time::timeout(USAGE_WAIT, ended).await;
    }

    /// Adds the usage of a call, without its elapsed time, which is part of the statement's elapsed
    /// time.
    pub(crate) fn add(&self, usage: &Usage) {
        self.usage.lock().add(&Usage { wall_ms: 0, ..*usage });
    }

    /// Returns the usage of all calls so far.
    pub fn usage(&self) -> Usage {
        *self.usage.lock()
    }
}

impl Drop for StatementCalls {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.get() {
            runtime.end(&self.owner);
        }
    }
}

/// A call that runs.
#[derive(Debug)]
pub(crate) struct ActiveCall<'a>(&'a watch::Sender<usize>);

impl Drop for ActiveCall<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|active| *active -= 1);
    }
}

/// The calls of a running plan. Dropping this value cancels the calls and ends the instances of the
/// statement.
#[derive(Debug)]
pub struct PlanCallsGuard {
    calls: Arc<StatementCalls>,
    token: CancellationToken,
}

impl PlanCallsGuard {
    /// Returns the token that cancels the calls of the plan.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}

impl Drop for PlanCallsGuard {
    fn drop(&mut self) {
        self.token.cancel();
        if let Some(runtime) = self.calls.runtime.get() {
            runtime.end(&self.calls.owner);
        }
    }
}
