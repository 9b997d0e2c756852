//! Enforces the limit on the server's resident memory.
//!
//! Reservations in memory pools do not cover every allocation. A [`ResidentMemoryMonitor`]
//! therefore compares the resident memory of the process with the limit every few milliseconds. If
//! the resident memory exceeds the limit, the cache of decoded columns is cleared. If this does not
//! suffice, the statement with the largest memory reservation is cancelled. Of several statements
//! with the same reservation, the newest is cancelled. The thread sleeps while no statement runs.
//! Mapped files and shared memory are not counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::{StatementMemoryPool, TotalMemory};

/// Interval between checks while statements run.
const INTERVAL: Duration = Duration::from_millis(5);

/// Time without statements after which the thread goes to sleep.
const LINGER: Duration = Duration::from_secs(1);

/// Time for a cancelled statement or the cleared cache to release its memory before the next
/// statement is cancelled.
const GRACE: Duration = Duration::from_millis(250);

const PAGE_BYTES: u64 = 4096;

/// Cancels statements when resident memory exceeds a limit.
#[derive(Debug)]
pub struct ResidentMemoryMonitor(Arc<ResidentMemoryMonitorInner>);

#[derive(Debug)]
struct ResidentMemoryMonitorInner {
    limit: u64,
    /// Bytes that statements may always use in addition to the resident memory that the process had
    /// before the first statement. If the sum of both exceeds `limit`, the sum is the effective
    /// limit.
    growth: u64,
    /// The memory of all statements, with the cache that uses the rest of it.
    total: Arc<TotalMemory>,
    state: Mutex<MonitoredStatements>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct MonitoredStatements {
    statements: BTreeMap<u64, MonitoredStatement>,
    next: u64,
    asleep: bool,
    closed: bool,
}

#[derive(Debug)]
struct MonitoredStatement {
    pool: Arc<StatementMemoryPool>,
    running: CancellationHandles,
    ended: Arc<AtomicBool>,
}

/// Handles that cancel a running statement.
#[derive(Debug)]
pub struct CancellationHandles {
    /// The task that executes the plan.
    pub task: AbortHandle,
    /// The token that cancels calls of functions in Python. Aborting the task does not end such a
    /// call.
    pub calls: CancellationToken,
}

/// Registration of a statement; dropping it ends the monitoring.
#[derive(Debug)]
pub struct MonitoringGuard {
    shared: Arc<ResidentMemoryMonitorInner>,
    id: u64,
    ended: Arc<AtomicBool>,
}

impl ResidentMemoryMonitor {
    /// Starts the thread that monitors the resident memory.
    pub fn start(limit: u64, growth: u64, total: Arc<TotalMemory>) -> std::io::Result<Self> {
        let (state, wake) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(ResidentMemoryMonitorInner { limit, growth, total, state, wake });
        let watched = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("headwater-memory".to_owned());
        thread.spawn(move || watched.run())?;
        Ok(ResidentMemoryMonitor(shared))
    }

    /// Registers a statement.
    pub fn watch(
        &self,
        pool: Arc<StatementMemoryPool>,
        running: CancellationHandles,
    ) -> MonitoringGuard {
        let ended = Arc::new(AtomicBool::new(false));
        let mut state = self.0.state.lock();
        let id = state.next;
        state.next += 1;
        state
            .statements
            .insert(id, MonitoredStatement { pool, running, ended: Arc::clone(&ended) });
        if state.asleep {
            self.0.wake.notify_one();
        }
        MonitoringGuard { shared: Arc::clone(&self.0), id, ended }
    }
}

impl Drop for ResidentMemoryMonitor {
    fn drop(&mut self) {
        self.0.state.lock().closed = true;
        self.0.wake.notify_one();
    }
}

impl MonitoringGuard {
    /// Returns the limit if the statement was cancelled because of it.
    pub fn limit_reached(&self) -> Option<u64> {
        self.ended.load(Ordering::Relaxed).then_some(self.shared.limit)
    }
}

impl Drop for MonitoringGuard {
    fn drop(&mut self) {
        self.shared.state.lock().statements.remove(&self.id);
    }
}

impl ResidentMemoryMonitorInner {
    fn run(&self) {
        while let Some(limit) = self.begin() {
            self.watch_until_idle(limit);
        }
    }

    /// Waits until a statement runs. Returns the effective limit in bytes; `None` at shutdown.
    fn begin(&self) -> Option<u64> {
        let mut state = self.state.lock();
        while state.statements.is_empty() && !state.closed {
            state.asleep = true;
            self.wake.wait(&mut state);
            state.asleep = false;
        }
        let before = resident_bytes().unwrap_or(0);
        (!state.closed).then(|| self.limit.max(before.saturating_add(self.growth)))
    }

    fn watch_until_idle(&self, limit: u64) {
        let (mut idle_since, mut ended_at) = (Instant::now(), None::<Instant>);
        loop {
            let mut state = self.state.lock();
            self.wake.wait_for(&mut state, INTERVAL);
            if state.closed || state.statements.is_empty() && idle_since.elapsed() > LINGER {
                return;
            }
            if state.statements.is_empty() {
                continue;
            }
            idle_since = Instant::now();
            let in_grace = ended_at.is_some_and(|at| at.elapsed() < GRACE);
            let excess = resident_bytes().map_or(0, |resident| resident.saturating_sub(limit));
            if !in_grace && excess > 0 {
                // Statements start and end during this time: a large cache is not freed at once.
                drop(state);
                if self.total.clear_cache() < excess {
                    self.state.lock().end_one();
                }
                ended_at = Some(Instant::now());
            }
        }
    }
}

impl MonitoredStatements {
    /// Cancels the statement with the largest memory reservation.
    fn end_one(&mut self) {
        let running = self.statements.iter().filter(|(_, it)| !it.ended.load(Ordering::Relaxed));
        let Some((id, entry)) = running.max_by_key(|(id, it)| (it.pool.bytes_in_use(), **id))
        else {
            return;
        };
        tracing::warn!(
            statement = id,
            held = entry.pool.bytes_in_use(),
            "memory limit: statement stopped"
        );
        entry.ended.store(true, Ordering::Relaxed);
        entry.pool.functions().stop();
        entry.running.task.abort();
        entry.running.calls.cancel();
    }
}

/// Returns the resident memory of this process without shared pages, in bytes.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = text.split(' ').skip(1).map(|field| field.trim().parse::<u64>().ok());
    let (resident, shared) = (pages.next()??, pages.next()??);
    Some(resident.saturating_sub(shared) * PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FunctionMemory, TotalMemory};

    #[tokio::test]
    async fn a_stopped_statement_ends_its_task_and_its_calls() {
        let total = Arc::new(TotalMemory::new(100));
        let functions = Arc::new(FunctionMemory::new(100, Arc::clone(&total)));
        let pool = Arc::new(StatementMemoryPool::new(100, total, functions));
        let task = tokio::spawn(std::future::pending::<()>());
        let calls = CancellationToken::new();
        let running = CancellationHandles { task: task.abort_handle(), calls: calls.clone() };
        let entry = MonitoredStatement { pool, running, ended: Arc::default() };
        let mut state = MonitoredStatements {
            statements: [(0, entry)].into(),
            ..MonitoredStatements::default()
        };
        state.end_one();
        assert!(calls.is_cancelled());
        assert!(task.await.expect_err("the task is aborted").is_cancelled());
    }
}
