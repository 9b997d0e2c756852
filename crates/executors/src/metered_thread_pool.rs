//! Threads for computations, separate from the threads that answer requests.
//!
//! Each work item runs on a Tokio runtime of its own, so that it does not block other work. Its
//! usage is the CPU time of the threads of this runtime.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use headwater_model::{ErrorCode, Problem};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Maximum number of idle runtimes that are kept for reuse.
const IDLE_MAX: usize = 4;

/// Time after which an idle blocking thread ends.
const THREAD_KEEP: Duration = Duration::from_secs(2);

/// A pool of threads that measures the CPU time of each work item; cheap to clone. It keeps idle
/// Tokio runtimes for reuse.
#[derive(Debug, Clone, Default)]
pub struct MeteredThreadPool {
    workers: Arc<Mutex<Vec<MeteredRuntime>>>,
    background: bool,
}

impl MeteredThreadPool {
    /// Creates a pool whose threads run at a lower priority.
    pub fn background() -> Self {
        MeteredThreadPool { background: true, ..MeteredThreadPool::default() }
    }

    /// Runs the work. Returns its result and its CPU time in microseconds. Dropping the future
    /// stops the work.
    ///
    /// Errors: `internal` if the work panics or no thread can be started.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<(T, u64), Problem> {
        let free = self.workers.lock().pop();
        let worker = free.map_or_else(|| MeteredRuntime::new(self.background), Ok)?;
        let before = worker.clock.nanoseconds();
        let mut task = AbortOnDrop(worker.runtime()?.spawn(work));
        let result = (&mut task.0).await.map_err(|error| {
            let message = format!("the job stopped before it finished: {error}");
            Problem::new(ErrorCode::Internal, message)
        })?;
        let cpu = worker.clock.nanoseconds().saturating_sub(before);
        let mut idle = self.workers.lock();
        if idle.len() < IDLE_MAX {
            idle.push(worker);
        }
        drop(idle);
        Ok((result, cpu / 1_000))
    }
}

/// Work that is aborted when its caller stops waiting.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A runtime, and the clock that measures the CPU time of its threads.
#[derive(Debug)]
struct MeteredRuntime {
    runtime: Option<Runtime>,
    clock: Arc<CpuClock>,
}

impl MeteredRuntime {
    fn new(background: bool) -> Result<Self, Problem> {
        let clock = Arc::new(CpuClock::default());
        let (starts, stops) = (clock.clone(), clock.clone());
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_keep_alive(THREAD_KEEP)
            .thread_name("headwater-work")
            .on_thread_start(move || {
                starts.thread_starts();
                headwater_functions::set_default_time_slice();
                if background {
                    lower_priority();
                }
            })
            .on_thread_stop(move || stops.thread_stops())
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| {
            Problem::new(ErrorCode::Internal, format!("no thread can be started: {error}"))
        })?;
        Ok(MeteredRuntime { runtime: Some(runtime), clock })
    }

    fn runtime(&self) -> Result<&Runtime, Problem> {
        let gone = || Problem::new(ErrorCode::Internal, "the worker threads have stopped");
        self.runtime.as_ref().ok_or_else(gone)
    }
}

impl Drop for MeteredRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Do not wait for the threads to end, because the caller is async code, which must not
            // block.
            runtime.shutdown_background();
        }
    }
}

/// Lowers the scheduling priority of this thread. Has no effect if the system rejects it.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    {
        // An error is ignored, because the priority is only an optimisation.
        let _ = rustix::process::nice(10);
    }
}

/// The CPU time of a set of threads, as measured by the kernel.
#[derive(Debug, Default)]
struct CpuClock(Mutex<RuntimeThreads>);

/// The CPU time of the ended threads, and the living threads.
#[derive(Debug, Default)]
struct RuntimeThreads {
    ended_nanoseconds: u64,
    /// The `schedstat` file of each living thread.
    living: Vec<PathBuf>,
}

impl CpuClock {
    fn thread_starts(&self) {
        if let Some(path) = own_path() {
            self.0.lock().living.push(path);
        }
    }

    fn thread_stops(&self) {
        let Some(path) = own_path() else { return };
        let mut threads = self.0.lock();
        threads.ended_nanoseconds += read_nanoseconds(&path);
        threads.living.retain(|living| *living != path);
    }

    fn nanoseconds(&self) -> u64 {
        let threads = self.0.lock();
        let living: u64 = threads.living.iter().map(read_nanoseconds).sum();
        threads.ended_nanoseconds + living
    }
}

fn own_path() -> Option<PathBuf> {
    let own = std::fs::read_link("/proc/thread-self").ok()?;
    Some(PathBuf::from("/proc").join(own).join("schedstat"))
}

/// Returns the first number in a `schedstat` file: the time on a CPU in nanoseconds; 0 if the file
/// is missing.
fn read_nanoseconds(path: &PathBuf) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compute() {
        let sum = (0..5_000_000_u64).fold(0, |sum, number| sum ^ std::hint::black_box(number));
        std::hint::black_box(sum);
    }

    #[tokio::test]
    async fn the_clock_counts_all_threads_of_the_work_and_no_others() {
        let runtime = MeteredThreadPool::default();
        let idle = tokio::time::sleep(Duration::from_millis(20));
        let ((), idle_us) = runtime.run(idle).await.expect("an answer");
        let one = async { compute() };
        let ((), one_us) = runtime.run(one).await.expect("an answer");
        let many = async {
            let others = [(); 15].map(|()| tokio::task::spawn_blocking(compute));
            compute();
            futures::future::join_all(others).await;
            7
        };
        let (given, many_us) = runtime.run(many).await.expect("an answer");
        assert_eq!(given, 7);
        assert!(idle_us < one_us && one_us * 2 < many_us, "{idle_us} {one_us} {many_us}");
        assert_eq!(runtime.workers.lock().len(), 1);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_its_work_only() {
        let runtime = MeteredThreadPool::default();
        let work = async { "none".parse::<u8>().expect("a number") };
        let problem = runtime.run(work).await.expect_err("a problem");
        assert_eq!(problem.code, ErrorCode::Internal);
        assert!(runtime.run(async {}).await.is_ok());
    }
}
