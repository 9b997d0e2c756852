//! A step's permit, which limits the number of concurrent steps of a run. The step holds the permit
//! until its result is stored.

use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// The permit of a running step. Dropping it lets another step start.
pub(super) struct StepPermit {
    _permit: OwnedSemaphorePermit,
    released: mpsc::UnboundedSender<usize>,
}

impl StepPermit {
    /// Creates the permit of a step. `released` receives the step's index if the steps that read
    /// its output (its children) may start before its report is complete.
    pub fn new(permit: OwnedSemaphorePermit, released: mpsc::UnboundedSender<usize>) -> Self {
        StepPermit { _permit: permit, released }
    }

    /// Allows the children of the step, and another step of the run, to start.
    pub fn release(self, step: usize) {
        // Sending fails only if the run no longer exists.
        let _ = self.released.send(step);
    }
}
