//! Measures the start of a call's runtime, such as Node.
//!
//! As in AWS Lambda, the time limit of a call does not include the start of its runtime. Only the
//! first start within a call counts, and only up to [`START_MAX`], because user code can also send
//! the messages that report a start.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Maximum time by which the start of a runtime extends the deadline of a call. AWS Lambda has the
/// same maximum.
pub(crate) const START_MAX: Duration = Duration::from_secs(10);

/// The progress of the runtime's start.
#[derive(Debug, Clone, Copy)]
enum RuntimeStart {
    /// The call has no runtime, or the runtime has not been started yet.
    None,
    /// The start of the runtime began at this time.
    Running(Instant),
    /// The runtime has started. The start took this time.
    Ended(Duration),
}

/// The clock of one call, which measures the start of the call's runtime. Clones share the state.
#[derive(Debug, Clone)]
pub(crate) struct RuntimeStartClock(watch::Sender<RuntimeStart>);

impl RuntimeStartClock {
    /// Creates the clock of a call. If `starts_runtime` is false, [`RuntimeStartClock::begin`] and
    /// [`RuntimeStartClock::end`] have no effect.
    pub(crate) fn new(starts_runtime: bool) -> Self {
        let start =
            if starts_runtime { RuntimeStart::None } else { RuntimeStart::Ended(Duration::ZERO) };
        RuntimeStartClock(watch::Sender::new(start))
    }

    /// Records that the runtime begins to start.
    pub(crate) fn begin(&self) {
        self.0.send_if_modified(|start| {
            let is_first = matches!(start, RuntimeStart::None);
            if is_first {
                *start = RuntimeStart::Running(Instant::now());
            }
            is_first
        });
    }

    /// Records that the runtime has started.
    pub(crate) fn end(&self) {
        self.0.send_if_modified(|start| {
            let RuntimeStart::Running(since) = *start else { return false };
            *start = RuntimeStart::Ended(since.elapsed().min(START_MAX));
            true
        });
    }

    /// Returns true if the runtime is starting.
    pub(crate) fn is_starting(&self) -> bool {
        matches!(*self.0.borrow(), RuntimeStart::Running(_))
    }

    /// Returns the time that the start of the runtime has taken so far, in milliseconds.
    pub(crate) fn milliseconds(&self) -> u64 {
        let took = match *self.0.borrow() {
            RuntimeStart::None => Duration::ZERO,
            RuntimeStart::Running(since) => since.elapsed().min(START_MAX),
            RuntimeStart::Ended(took) => took,
        };
        u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
    }

    /// Sleeps until a deadline, which is extended by the time that the start of the runtime takes.
    pub(crate) async fn sleep_until(&self, deadline: Instant) {
        let mut changes = self.0.subscribe();
        loop {
            let extension = match *changes.borrow_and_update() {
                RuntimeStart::None => Duration::ZERO,
                RuntimeStart::Running(_) => START_MAX,
                RuntimeStart::Ended(took) => took,
            };
            tokio::select! {
                () = tokio::time::sleep_until((deadline + extension).into()) => return,
                Ok(()) = changes.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_start_extends_the_deadline_by_its_time() {
        let clock = RuntimeStartClock::new(true);
        let began = Instant::now();
        clock.begin();
        let deadline = began + Duration::from_millis(50);
        let sleeping = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(deadline).await }
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!sleeping.is_finished() && clock.is_starting(), "the runtime is starting");
        clock.end();
        assert!(!clock.is_starting() && clock.milliseconds() >= 200, "{clock:?}");
        sleeping.await.expect("the task ends");
        assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
        // A second start of the runtime must not extend the deadline.
        clock.begin();
        let before = Instant::now();
        clock.sleep_until(deadline).await;
        assert!(before.elapsed() < START_MAX);
    }

    #[tokio::test]
    async fn a_call_without_a_runtime_is_not_extended() {
        let clock = RuntimeStartClock::new(false);
        clock.begin();
        let before = Instant::now();
        clock.sleep_until(before + Duration::from_millis(10)).await;
        assert!(before.elapsed() < START_MAX);
        assert!(!clock.is_starting() && clock.milliseconds() == 0, "{clock:?}");
    }
}
