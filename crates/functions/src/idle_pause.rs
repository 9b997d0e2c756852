//! Pausing of idle instances: an instance that gets no other call within some milliseconds is
//! paused.
//!
//! Pausing and resuming an instance takes two requests to the spawner. Calls in quick succession
//! need neither, because the instance is not paused between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::queue::Queue;
use crate::warm_instance::IdleInstance;

/// Idle time after which an instance is paused. Before that, the process only waits for its next
/// call, so no user code runs, except in processes that the function has left behind.
const PAUSE_AFTER: Duration = Duration::from_millis(5);

/// The task that pauses idle instances. It runs only while there are idle instances that are not
/// paused.
#[derive(Debug, Default)]
pub(crate) struct IdlePauseTask {
    is_running: Arc<AtomicBool>,
}

impl IdlePauseTask {
    /// Starts the task if it is not running. The caller must hold the lock of the queue.
    pub(crate) fn schedule(&self, queue: &Arc<Queue<IdleInstance>>) {
        if self.is_running.swap(true, Ordering::AcqRel) {
            return;
        }
        let (is_running, queue) = (self.is_running.clone(), Arc::downgrade(queue));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(PAUSE_AFTER).await;
                let Some(queue) = queue.upgrade() else { return };
                let is_left = queue.pause_idle(PAUSE_AFTER, &is_running);
                if !is_left {
                    return;
                }
            }
        });
    }
}
