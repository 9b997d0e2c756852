//! Threads for work that computes, apart from those that answer requests.
//!
//! A piece of work has a runtime to itself while it is under way. So it holds up nothing else, and
//! the processor time of those threads is what the work took, whatever runs beside it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use headwater_model::{ErrorCode, Problem};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// How long a thread without work is kept.
const THREAD_KEEP: Duration = Duration::from_secs(2);

/// The runtimes that are free; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct MeteredRuntime {
    workers: Arc<Mutex<Vec<Worker>>>,
    background: bool,
}

impl MeteredRuntime {
    /// One whose threads let all others go first.
    pub fn background() -> Self {
        MeteredRuntime { background: true, ..MeteredRuntime::default() }
    }

    /// Does the work, and answers what it gave and the processor time it took, in microseconds.
    /// Dropping the future stops the work.
    ///
    /// Error: `internal` where the work panicked, or the system gives no threads.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<(T, u64), Problem> {
        let free = self.workers.lock().pop();
        let worker = free.map_or_else(|| Worker::new(self.background), Ok)?;
        let before = worker.clock.nanoseconds();
        let mut task = Stopping(worker.runtime()?.spawn(work));
        let given = (&mut task.0).await.map_err(|error| {
            let message = format!("work ended before it was done: {error}");
            Problem::new(ErrorCode::Internal, message)
        })?;
        let taken = worker.clock.nanoseconds().saturating_sub(before);
        self.workers.lock().push(worker);
        Ok((given, taken / 1_000))
    }
}

/// Work that stops when nobody waits for it any more.
struct Stopping<T>(JoinHandle<T>);

impl<T> Drop for Stopping<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A runtime and the clock of its threads.
#[derive(Debug)]
struct Worker {
    runtime: Option<Runtime>,
    clock: Arc<CpuClock>,
}

impl Worker {
    fn new(background: bool) -> Result<Self, Problem> {
        let clock = Arc::new(CpuClock::default());
        let (starts, stops) = (clock.clone(), clock.clone());
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_keep_alive(THREAD_KEEP)
            .thread_name("headwater-work")
            .on_thread_start(move || {
                starts.thread_starts();
                headwater_functions::work_steadily();
                if background {
                    give_way();
                }
            })
            .on_thread_stop(move || stops.thread_stops())
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| {
            Problem::new(ErrorCode::Internal, format!("no thread can be started: {error}"))
        })?;
        Ok(Worker { runtime: Some(runtime), clock })
    }

    fn runtime(&self) -> Result<&Runtime, Problem> {
        let gone = || Problem::new(ErrorCode::Internal, "the threads are gone");
        self.runtime.as_ref().ok_or_else(gone)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for its threads is not allowed here.
            runtime.shutdown_background();
        }
    }
}

/// Has this thread run when no other wants to; a system that does not do so runs it as any other.
fn give_way() {
    #[cfg(target_os = "linux")]
    {
        // Nothing depends on it.
        let _ = rustix::process::nice(10);
    }
}

/// Adds up the processor time of some threads, as the kernel accounts for it.
#[derive(Debug, Default)]
struct CpuClock(Mutex<Threads>);

#[derive(Debug, Default)]
struct Threads {
    ended_nanoseconds: u64,
    /// Where the kernel tells the time of each living thread.
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

/// The first of the three numbers: nanoseconds on a processor; 0 where the kernel does not tell.
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
    async fn the_time_of_every_thread_counts_and_only_that() {
        let runtime = MeteredRuntime::default();
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
    async fn a_panic_is_an_error_of_the_work_alone() {
        let runtime = MeteredRuntime::default();
        let work = async { "none".parse::<u8>().expect("a number") };
        let problem = runtime.run(work).await.expect_err("a problem");
        assert_eq!(problem.code, ErrorCode::Internal);
        assert!(runtime.run(async {}).await.is_ok());
    }
}
