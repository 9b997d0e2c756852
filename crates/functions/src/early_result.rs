//! Results that are sent before the process of the call has exited.
//!
//! A process needs some milliseconds to exit after it has sent its result, and the usage of the
//! call is known only after the exit. Some callers need only the result to continue, such as a run
//! that starts the next model. Such a caller passes an [`EarlyResultSender`]. The outcome of the
//! call is sent later, and contains the same result.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::FunctionResult;

/// The sender of a call's early result. Clones share the channel.
#[derive(Debug, Clone)]
pub struct EarlyResultSender(Arc<Mutex<Option<oneshot::Sender<FunctionResult>>>>);

impl EarlyResultSender {
    /// Creates a sender, and the receiver of the result. Nothing is sent if the call fails, or if
    /// the exit of the process can still change the result.
    pub fn new() -> (EarlyResultSender, oneshot::Receiver<FunctionResult>) {
        let (sender, result) = oneshot::channel();
        (EarlyResultSender(Arc::new(Mutex::new(Some(sender)))), result)
    }

    pub(crate) fn send(&self, result: &FunctionResult) {
        if let Some(sender) = self.0.lock().take() {
            // Sending fails only if the caller no longer waits for the result.
            let _ = sender.send(result.clone());
        }
    }
}
