//! Pausing of idle instances: a process that gets no other call within some milliseconds is paused.
//!
//! Pausing and resuming an instance take two requests to the spawner. Calls in quick succession
//! avoid both requests, because the instance is not paused between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::queue::Queue;
use crate::warm_instance::IdleInstance;

/// Idle time before an instance is paused. Within this time, no code of the function runs, unless
/// the function left a process behind.
const PAUSE_AFTER: Duration = Duration::from_millis(5);

/// The task that pauses idle instances, which runs as long as any instance is left to pause.
#[derive(Debug, Default)]
pub(crate) struct IdlePause {
    is_running: Arc<AtomicBool>,
}

impl IdlePause {
    /// Starts the task unless it is running. The caller holds the lock of the queue.
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
